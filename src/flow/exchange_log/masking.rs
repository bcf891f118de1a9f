//! Masks messages for display (D1, D5): only values under listed names are shown, which hold
//! nothing personal and nothing usable to pay. Of everything else only the name is shown.
//!
//! Written while scanning, without building a tree.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::Serialize;

use super::flat;
use super::scanning::{Quoted, Scanner};
use crate::domain::institutions::{BodyFormat, MessageFormat, ShownFields};
use crate::domain::merchant::origin;
use crate::domain::personal::{INTERFACE_FIELDS_SHOWN, code_or_masked, masked};

/// What may be shown, by length, so that an unlisted name is compared with few of them.
static SHOWN_BY_LENGTH: LazyLock<Vec<Vec<&str>>> = LazyLock::new(|| {
    let longest = INTERFACE_FIELDS_SHOWN.iter().map(|name| name.len()).max();
    let lengths = 0..=longest.unwrap_or_default();
    let of_length = |length| {
        INTERFACE_FIELDS_SHOWN
            .iter()
            .copied()
            .filter(move |name| name.len() == length)
    };
    lengths.map(|length| of_length(length).collect()).collect()
});

/// Values shown in part: a mobile number without its middle; an address by its origin, because its
/// path may be personal; a code only if it has the form of one.
const PARTLY_SHOWN: [&str; 7] = [
    "bankReturnUrl",
    "code",
    "institutionResult",
    MOBILE,
    "noticeUrl",
    "reason",
    "reasonCode",
];
const MOBILE: &str = "mobileNo";
const ADDRESSES: [&str; 2] = ["bankReturnUrl", "noticeUrl"];

/// The longest text that is shown. Unit: characters.
const TEXT_CHARS_MAX: usize = 128;
/// Maximum number of list items shown.
const ITEMS_MAX: usize = 8;
/// Maximum depth of nesting shown.
const DEPTH_MAX: u32 = 4;

/// The longest name whose value is not shown. Unit: characters.
const NAME_CHARS_MAX: usize = 64;
/// The most digits in a row in such a name: more may be a telephone number.
const NAME_DIGITS_MAX: usize = 5;

/// The longest number that is shown. Unit: characters.
const NUMBER_CHARS_MAX: usize = 32;

/// Whether the value under this name is shown.
pub(super) fn is_shown(shown: ShownFields, name: &str) -> bool {
    match shown {
        ShownFields::OfInterface => is_shown_of_interface(name),
        ShownFields::Listed(names) => names.contains(&name),
    }
}

/// Writes a masked body. Objects and elements are recognised by their first character, because a
/// dialect may mix formats; everything else has the format that it declares.
pub(super) fn body(out: &mut Vec<u8>, bytes: &[u8], format: MessageFormat) {
    if bytes.is_empty() {
        out.extend(b"null");
        return;
    }
    let (from, shown) = (out.len(), format.shown);
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let whole = match (first, format.body) {
        (Some(b'{'), _) | (_, BodyFormat::Json) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| object_in(out, text, shown)),
        (Some(b'<'), _) | (_, BodyFormat::Xml) => flat::xml(out, bytes, shown),
        (_, BodyFormat::Form) => flat::form(out, bytes, shown),
        (_, BodyFormat::KeyValue) => flat::key_value(out, bytes, shown),
    };
    if whole.is_none() {
        out.truncate(from);
        too_long(out, bytes.len());
    }
}

/// Writes the size of a body instead of its content.
pub(super) fn too_long(out: &mut Vec<u8>, bytes: usize) {
    json(out, &format!("{bytes} bytes that are not shown"));
}

/// Writes a value as JSON; writing to memory cannot fail.
pub(super) fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let _ = serde_json::to_writer(out, value);
}

/// Writes a masked query; secrets travel in queries as in bodies.
pub(super) fn query(out: &mut Vec<u8>, text: &str, format: MessageFormat) {
    let from = out.len();
    if flat::form(out, text.as_bytes(), format.shown).is_none() {
        out.truncate(from);
        too_long(out, text.len());
    }
}

/// Writes a text that is one masked object; `None` if it is not one.
pub(super) fn object_in(out: &mut Vec<u8>, text: &str, shown: ShownFields) -> Option<()> {
    let mut came = Scanner::new(text);
    object(out, &mut came, shown, 1)?;
    came.peek().is_none().then_some(())
}

/// Writes a masked object; `None` if it is not one.
fn object(out: &mut Vec<u8>, came: &mut Scanner<'_>, shown: ShownFields, depth: u32) -> Option<()> {
    came.take(b'{').then_some(())?;
    let mut hidden = Vec::new();
    let mut mark = b'{';
    let mut is_first = true;
    while !came.take(b'}') {
        (std::mem::take(&mut is_first) || came.take(b',')).then_some(())?;
        let from = came.position();
        let name = came.quoted()?.text()?;
        came.take(b':').then_some(())?;
        // `null` is treated as absent.
        if came.peek()? == b'n' {
            came.scalar()?;
            continue;
        }
        if is_shown(shown, &name) {
            if came.peek()? == b'"' {
                let text = came.quoted()?;
                text_member(out, &mut mark, &name, text, came.since(from))?;
            } else {
                member(out, &mut mark, &name);
                value(out, came, shown, depth)?;
            }
            continue;
        }
        let text = if PARTLY_SHOWN.contains(&&*name) && came.peek()? == b'"' {
            Some(came.quoted()?.text()?)
        } else {
            came.pass()?;
            None
        };
        let Some(part) = text.as_deref().and_then(|text| shown_part(&name, text)) else {
            hidden.push(name);
            continue;
        };
        member(out, &mut mark, &name);
        json(out, &cut(&part));
    }
    names_not_shown(out, &mut mark, &hidden);
    Some(())
}

/// Ends an object with the names whose values are not shown. What does not look like a name is not
/// shown either: a message that is not what it should be has values in its place.
pub(super) fn names_not_shown(out: &mut Vec<u8>, mark: &mut u8, hidden: &[Cow<'_, str>]) {
    if !hidden.is_empty() {
        member(out, mark, "notShown");
        let mut mark = b'[';
        for name in hidden {
            out.push(std::mem::replace(&mut mark, b','));
            json(
                out,
                if looks_like_name(name) {
                    &**name
                } else {
                    "…"
                },
            );
        }
        out.push(b']');
    }
    if *mark == b'{' {
        out.push(*mark);
    }
    out.push(b'}');
}

/// Whether this can be the name of a field: letters, digits, `_`, `.`, `-`, and no long number.
fn looks_like_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let has_number = || {
        let mut runs = name.split(|letter: char| !letter.is_ascii_digit());
        runs.any(|run| run.len() > NAME_DIGITS_MAX)
    };
    name.len() <= NAME_CHARS_MAX && name.bytes().all(is_part) && !has_number()
}

fn is_shown_of_interface(name: &str) -> bool {
    let last = name.as_bytes().last();
    let alike = SHOWN_BY_LENGTH.get(name.len()).into_iter().flatten();
    // The last byte first: it distinguishes most names of equal length cheaply.
    alike
        .filter(|shown| shown.as_bytes().last() == last)
        .any(|shown| *shown == name)
}

/// Writes a listed name, which needs no escaping.
pub(super) fn member(out: &mut Vec<u8>, mark: &mut u8, name: &str) {
    out.push(std::mem::replace(mark, b','));
    out.push(b'"');
    out.extend(name.as_bytes());
    out.extend(b"\":");
}

/// The part of a text that may be shown.
fn shown_part<'a>(name: &str, text: &'a str) -> Option<Cow<'a, str>> {
    if text.contains(char::is_control) {
        return None;
    }
    if name == MOBILE {
        return Some(masked(text, 3, 4).into());
    }
    if ADDRESSES.contains(&name) {
        return Some(origin(text)?.into());
    }
    Some(code_or_masked(text))
}

fn value(out: &mut Vec<u8>, came: &mut Scanner<'_>, shown: ShownFields, depth: u32) -> Option<()> {
    match came.peek()? {
        b'{' | b'[' if depth >= DEPTH_MAX => {
            came.pass()?;
            json(out, "…");
        }
        b'{' => object(out, came, shown, depth.saturating_add(1))?,
        b'[' => list(out, came, shown, depth.saturating_add(1))?,
        b'"' => string(out, came.quoted()?)?,
        _ => match came.scalar()? {
            short if short.len() <= NUMBER_CHARS_MAX => out.extend(short.as_bytes()),
            _ => json(out, "…"),
        },
    }
    Some(())
}

/// Writes a name with its text, copied in one piece if nothing is escaped and no space lies
/// between.
fn text_member(
    out: &mut Vec<u8>,
    mark: &mut u8,
    name: &str,
    text: Quoted<'_>,
    source: &str,
) -> Option<()> {
    const QUOTES_AND_COLON: usize = 5;
    let plain = text.plain().filter(|text| text.len() <= TEXT_CHARS_MAX);
    let bytes = plain.map(|text| name.len().saturating_add(text.len()));
    if bytes.map(|bytes| bytes.saturating_add(QUOTES_AND_COLON)) == Some(source.len()) {
        out.push(std::mem::replace(mark, b','));
        out.extend(source.as_bytes());
        return Some(());
    }
    member(out, mark, name);
    string(out, text)
}

fn string(out: &mut Vec<u8>, quoted: Quoted<'_>) -> Option<()> {
    match quoted.plain().filter(|text| text.len() <= TEXT_CHARS_MAX) {
        Some(text) => {
            out.push(b'"');
            out.extend(text.as_bytes());
            out.push(b'"');
        }
        // An escape may be invalid: half a surrogate pair.
        None => json(out, &cut(&quoted.text()?)),
    }
    Some(())
}

fn list(out: &mut Vec<u8>, came: &mut Scanner<'_>, shown: ShownFields, depth: u32) -> Option<()> {
    came.take(b'[').then_some(())?;
    let mut count = 0_usize;
    out.push(b'[');
    while !came.take(b']') {
        (count == 0 || came.take(b',')).then_some(())?;
        if count >= ITEMS_MAX {
            came.pass()?;
        } else {
            if count > 0 {
                out.push(b',');
            }
            value(out, came, shown, depth)?;
        }
        count = count.saturating_add(1);
    }
    let more = count.saturating_sub(ITEMS_MAX);
    if more > 0 {
        out.push(b',');
        json(out, &format!("and {more} more"));
    }
    out.push(b']');
    Some(())
}

pub(super) fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((at, _)) => Cow::Owned(format!("{}…", text.get(..at).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(bytes: &[u8]) -> Value {
        let mut out = Vec::new();
        body(&mut out, bytes, MessageFormat::INTERFACE);
        serde_json::from_slice(&out).unwrap()
    }

    /// D1, D5: of values not listed as harmless only the name is shown, at every depth; a mobile
    /// number is masked.
    #[test]
    fn only_what_is_known_to_be_harmless_is_shown() {
        let came = json!({
            "merchantId": "M1",
            "mobileNo": "13812345678",
            "payUrl": "https://bank.example/pay/secret",
            "goodsName": "white tea",
            "orderAmount": 12.30,
            "cardNo": "6222020000000000",
            "attach": null,
            "refunds": [{ "refundStatus": "SUCCEEDED", "refundReason": "cold tea" }],
        });
        let came = shown(came.to_string().as_bytes());
        let expected = json!({
            "merchantId": "M1",
            "mobileNo": "138****5678",
            "orderAmount": 12.30,
            "refunds": [{ "refundStatus": "SUCCEEDED", "notShown": ["refundReason"] }],
            "notShown": ["cardNo", "goodsName", "payUrl"],
        });
        assert_eq!(came, expected);
        for other in [
            "",
            "[1]",
            "\"13812345678\"",
            "institutionId=a&mobileNo=13812345678",
        ] {
            let text = shown(other.as_bytes()).to_string();
            assert!(!text.contains("1381"), "{text}");
        }
    }

    /// D1, D5, R-6.5-1c: an address is shown by its origin, an institution's reason only if it is a
    /// code; any other text is masked.
    #[test]
    fn addresses_and_free_words_are_shown_in_part() {
        let came = json!({
            "bankReturnUrl": "https://shop.example:8443/paid?phone=13812345678",
            "noticeUrl": "no address 13812345678",
            "reason": "call 13812345678",
            "refunds": [{ "reason": "NO_FUNDS", "reasonCode": "13812345678" }],
            "title": "Zhang San, 13812345678",
        });
        let expected = json!({
            "bankReturnUrl": "https://shop.example:8443",
            "reason": "****************",
            "refunds": [{ "reason": "NO_FUNDS", "reasonCode": "***********" }],
            "notShown": ["noticeUrl", "title"],
        });
        assert_eq!(shown(came.to_string().as_bytes()), expected);
    }

    /// Shown values are unchanged, numbers digit by digit; half a surrogate pair does not break a
    /// line.
    #[test]
    fn a_value_is_shown_as_it_came() {
        let long = "茶".repeat(TEXT_CHARS_MAX);
        let came =
            format!(r#"{{"order":"é\n\"","fee":12.30,"found":"{long}","modes":[null,true]}}"#);
        let mut out = Vec::new();
        body(&mut out, came.as_bytes(), MessageFormat::INTERFACE);
        assert_eq!(String::from_utf8(out).unwrap(), came);
        let half = br#"{"modes":["\ud800"]}"#;
        assert_eq!(shown(half), "20 bytes that are not shown");
        // Out of a number's range: its reader could not read the line.
        let beyond = br#"{"fee":1e999}"#;
        assert_eq!(shown(beyond), "13 bytes that are not shown");
    }

    /// D1: for any input, truncated or mutated, the output is one line of JSON, and values under
    /// unlisted names are not in it.
    #[test]
    fn whatever_comes_one_line_of_json_is_written() {
        let came = r#" {"found" : [ {"cardNo":"SECRET"}, "a\\\"b", -1.5e3, {"x":[{"SECRET":{}}]} ],
            "card\u004eo": {"order":"SECRET","y":["SECRET",{"order":"SECRET"}]}, "order":{"z":"SECRET"} } "#;
        let shown = shown(came.as_bytes());
        assert_eq!(shown["found"][1], "a\\\"b");
        assert!(!shown.to_string().contains(r#":"SECRET"#), "{shown}");
        let mut seed = 88_172_645_463_325_252_u64;
        let mut draw = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % u64::try_from(below).unwrap()).unwrap()
        };
        for _ in 0..20_000 {
            let mut bytes = came.as_bytes().to_vec();
            for _ in 0..draw(4) {
                let at = draw(bytes.len().max(1));
                match draw(3) {
                    0 => bytes[at] = b"\"\\{}[],:0e-\n "[draw(13)],
                    1 if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let mut out = Vec::new();
            body(&mut out, &bytes, MessageFormat::INTERFACE);
            let line = String::from_utf8(out).unwrap();
            assert!(!line.contains('\n'), "{line}");
            let is_json = serde_json::from_str::<Value>(&line);
            assert!(
                is_json.is_ok(),
                "{line} of {}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }

    /// Long lists, long texts and deep nesting give bounded output.
    #[test]
    fn what_is_shown_is_bounded() {
        let deep = json!({ "order": { "order": { "order": { "order": { "found": "x" } } } } });
        let long = json!({ "found": "x".repeat(10_000), "institutions": vec!["a"; 1_000] });
        let number = format!(
            r#"{{ "found": {}, "order": [[], {{}}] }}"#,
            "9".repeat(1_000)
        );
        for came in [deep.to_string(), long.to_string(), number] {
            let shown = shown(came.as_bytes()).to_string();
            assert!(shown.len() < 300, "{shown}");
        }
    }
}
