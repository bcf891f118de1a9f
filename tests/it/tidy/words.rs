//! Names: one type name for one type in the whole tree, and walkthroughs that name existing
//! functions.

use std::collections::BTreeMap;

use super::tree::{SourceFile, code};
use super::{none, ours};

/// Type names with their places, except the associated types of trait implementations.
fn types(files: &[SourceFile]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        for line in code(&file.text).lines() {
            let bare = line.trim_start();
            let mut words = bare
                .split_whitespace()
                .skip_while(|word| word.starts_with("pub") || *word == "in" || word.ends_with(')'));
            let (Some(kind), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            let is_type = matches!(kind, "struct" | "enum" | "trait" | "union")
                || kind == "type" && bare.len() == line.len();
            let name: String = name
                .chars()
                .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                .collect();
            if is_type && name.starts_with(char::is_uppercase) {
                found.entry(name).or_default().push(file.path.clone());
            }
        }
    }
    found
}

fn shared_names(files: &[SourceFile]) -> Vec<String> {
    let shared = types(files)
        .into_iter()
        .filter(|(_, places)| places.len() > 1);
    shared
        .map(|(name, places)| format!("{name} names {}: {}", places.len(), places.join(", ")))
        .collect()
}

/// One name for one type: a reader need not look which of several is meant.
#[test]
fn every_type_has_a_name_of_its_own() {
    none(&shared_names(&ours()));
}

#[test]
fn a_type_name_that_is_taken_is_found() {
    let one = SourceFile::new("src/a.rs", "pub(in crate::flow) struct Asked;\n");
    let other = SourceFile::new("tests/it/b.rs", "    enum Asked {}\n");
    let associated = SourceFile::new("src/c.rs", "impl A for B {\n    type Asked = u8;\n}\n");
    assert_eq!(shared_names(&[one, other, associated]).len(), 1);
}

/// Steps of a walkthrough, `function` in `file`, that do not exist.
fn missing_steps(document: &str, read: impl Fn(&str) -> String) -> Vec<String> {
    let steps = document.split("` in\n`").collect::<Vec<_>>().join("` in `");
    let parts: Vec<&str> = steps.split("` in `").collect();
    let named = parts.windows(2).filter_map(|pair| {
        let function = pair[0].rsplit('`').next()?;
        let file = pair[1].split('`').next()?;
        let is_source = std::path::Path::new(file)
            .extension()
            .is_some_and(|end| end == "rs");
        is_source.then_some((function, file))
    });
    named
        .filter(|(function, file)| {
            let text = read(file);
            let found = |end: &str| text.contains(&format!("fn {function}{end}"));
            !found("(") && !found("<")
        })
        .map(|(function, file)| format!("ARCHITECTURE.md: src/{file} has no function {function}"))
        .collect()
}

/// A walkthrough names functions that exist, in the files that it names.
#[test]
fn every_step_of_a_walkthrough_exists() {
    let document = super::tree::read("ARCHITECTURE.md");
    assert!(document.matches("` in").count() >= 15, "the walkthroughs");
    none(&missing_steps(&document, |file| {
        super::tree::read(&format!("src/{file}"))
    }));
}

#[test]
fn a_missing_step_is_found() {
    let document = "`open` in `a.rs` makes it; `close` in\n`a.rs` ends it.";
    let missing = missing_steps(document, |_| "pub fn open(order: Order) {}".to_owned());
    assert_eq!(missing.len(), 1, "{missing:?}");
}
