//! Advice about an invalid value. An example is never presented as the correction of a value that was
//! written: users copy corrections literally, and it would mean something else.

use toml::de::DeValue;

use crate::config::faults::nearest;
use crate::config::reading::ExpectedValue;
use crate::config::section::renamed::{moved, renamed};
use crate::config::section::{DayBoundary, describe, seconds};

/// About an unknown name.
pub(super) fn on_unknown(title: &str, typed: &str, known: &[&'static str]) -> String {
    if let Some(place) = moved(title, typed) {
        return format!("it stands in {place} now");
    }
    if let Some(new) = renamed(typed).filter(|new| known.contains(new)) {
        return format!("it is called {new} now");
    }
    nearest(typed, known).map_or_else(
        || "remove it".to_owned(),
        |known| format!("did you mean {known}?"),
    )
}

/// About a value.
pub(super) fn on_value(name: &str, shape: ExpectedValue, found: &DeValue<'_>) -> String {
    match meant(shape, found) {
        SuggestedValue::Exactly(value) => format!("write {name} = {value}"),
        SuggestedValue::Perhaps(word) => format!("did you mean {word}?"),
        SuggestedValue::OneOf => "write one of them".to_owned(),
        SuggestedValue::Unknown => format!("correct it, for example {name} = {}", shape.example),
    }
}

/// About a value where there should be a list.
pub(super) fn on_no_list(name: &str, shape: ExpectedValue, found: &DeValue<'_>) -> String {
    match found {
        DeValue::String(text) if is_short(text) => format!("write {name} = [{text:?}]"),
        DeValue::Integer(number) => format!("write {name} = [\"{number}\"]"),
        DeValue::String(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => on_none("write a list", name, shape),
    }
}

/// About an entry of a list.
pub(super) fn on_entry(name: &str, shape: ExpectedValue, found: &DeValue<'_>) -> String {
    match meant(shape, found) {
        SuggestedValue::Exactly(value) => format!("write {value}"),
        SuggestedValue::Perhaps(word) => format!("did you mean {word}?"),
        SuggestedValue::OneOf => "write one of them".to_owned(),
        SuggestedValue::Unknown => on_none("correct it", name, shape),
    }
}

/// About a list, with the action to take.
pub(super) fn on_none(what: &str, name: &str, shape: ExpectedValue) -> String {
    format!("{what}, for example {name} = [{}]", shape.example)
}

/// About a number, or a value that is not one; without the line the default applies.
pub(super) fn on_number(name: &str, default: u64, found: &DeValue<'_>, fits: bool) -> String {
    match found.as_str() {
        Some(text) if fits => format!("write {name} = {}", text.trim()),
        _ => format!("write one of these, or remove the line, which means {default}"),
    }
}

enum SuggestedValue {
    /// The value that was found, as it has to be written.
    Exactly(String),
    Perhaps(&'static str),
    OneOf,
    Unknown,
}

fn meant(shape: ExpectedValue, found: &DeValue<'_>) -> SuggestedValue {
    let words = words(shape);
    let is_text = shape.example.starts_with('"');
    match found {
        DeValue::String(text) if !words.is_empty() => {
            let same = words.iter().find(|word| word.eq_ignore_ascii_case(text));
            let near = same.copied().or_else(|| nearest(text, &words));
            near.map_or(SuggestedValue::OneOf, SuggestedValue::Perhaps)
        }
        _ if !words.is_empty() => SuggestedValue::OneOf,
        DeValue::String(text) if !is_text && is_bare(text) => {
            SuggestedValue::Exactly(text.to_string())
        }
        DeValue::Integer(_) | DeValue::Float(_) if is_text => {
            SuggestedValue::Exactly(format!("\"{}\"", describe(found)))
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => SuggestedValue::Unknown,
    }
}

/// The allowed values, if the description lists them.
fn words(shape: ExpectedValue) -> Vec<&'static str> {
    let expected = shape.expected;
    let listed = expected
        .strip_prefix("one of ")
        .or_else(|| Some(expected.split_once(", one of ")?.1))
        .or_else(|| expected.strip_suffix(", which alone is served"));
    let words = listed.unwrap_or_default().split([',', ' ']);
    words.filter(|word| !word.is_empty()).collect()
}

/// Whether the text would be valid without its quotes.
fn is_bare(text: &str) -> bool {
    matches!(text, "true" | "false") || seconds(text, DayBoundary::First).is_some()
}

/// Excludes private keys and pasted files.
fn is_short(text: &str) -> bool {
    text.chars().count() <= 60 && !text.contains("PRIVATE KEY")
}
