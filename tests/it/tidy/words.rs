//! Names: one type name for one type in the whole tree, and none of the words that were given up.

use std::collections::BTreeMap;

use super::tree::{Source, code};
use super::{none, ours};

/// Names of types with where they stand; those that a trait's implementation names are its own.
fn types(files: &[Source]) -> BTreeMap<String, Vec<String>> {
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

fn shared_names(files: &[Source]) -> Vec<String> {
    let shared = types(files)
        .into_iter()
        .filter(|(_, places)| places.len() > 1);
    shared
        .map(|(name, places)| format!("{name} names {}: {}", places.len(), places.join(", ")))
        .collect()
}

/// One name for one type: whoever reads it need not look which of several is meant.
#[test]
fn every_type_has_a_name_of_its_own() {
    none(&shared_names(&ours()));
}

#[test]
fn a_type_name_that_is_taken_is_found() {
    let one = Source::new("src/a.rs", "pub(in crate::flow) struct Asked;\n");
    let other = Source::new("tests/it/b.rs", "    enum Asked {}\n");
    let associated = Source::new("src/c.rs", "impl A for B {\n    type Asked = u8;\n}\n");
    assert_eq!(shared_names(&[one, other, associated]).len(), 1);
}
