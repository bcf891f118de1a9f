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

/// Words that were given up, as parts of names. A word that is also plain English for something else, such as
/// a letter of the alphabet or the leaf of a certificate chain, is not here.
const OLD_WORDS: &str = "
    adopt adopted chase chased deed deeds depart departed departure departures doubt doubts errand errands fate
    fates frail guest guests handover heard hears incident incidents knock knocks leftover leftovers lived lives
    manner manners noted owed owes patience pulse rank ranks ringing sheds sight sights stranger strangers surplus
    told town trail trails trial verdict verdicts weigh weighed weighs weight wish wished wishes withheld
";

const RENAMED: &str = "src/config/section/renamed.rs";

/// The parts of a name: `LateRefund` and `late_refund` have the same two.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter.is_uppercase() {
            parts.push(String::new());
        }
        if letter != '_' {
            parts
                .last_mut()
                .expect("starts with one")
                .extend(letter.to_lowercase());
        }
    }
    parts
}

fn old_words(path: &str, text: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut found: Vec<String> = text
        .split(|letter: char| !is_part(letter))
        .filter(|name| {
            let parts = parts(name);
            OLD_WORDS
                .split_whitespace()
                .any(|word| parts.iter().any(|part| part == word))
        })
        .map(|name| format!("{path}: {name}"))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Texts in quotation marks that are one word: keys of the configuration, names and labels of metrics.
fn quoted_names(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let quoted = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    let names = quoted.filter(|text| !text.contains([' ', '{']));
    names.collect::<Vec<_>>().join(" ")
}

/// Names of sections and keys in a configuration.
fn settings(text: &str) -> String {
    let names = text
        .lines()
        .filter_map(|line| line.split(['=', '#']).next());
    names.collect::<Vec<_>>().join(" ")
}

/// No name in the code, no file, no key of the configuration and no metric has a word that was given up.
/// Commands and their options are variants and fields, so they are names in the code.
#[test]
fn no_name_has_an_old_word() {
    let mut found = Vec::new();
    // The names that `paymux check` says the new one of stand in one file, and nowhere else.
    let files = ours().into_iter();
    for file in files.filter(|file| file.path != RENAMED) {
        found.extend(old_words(&file.path, &code(&file.text)));
        found.extend(old_words(&file.path, &file.path));
        if file.path.starts_with("src/config") || file.path.starts_with("src/metrics") {
            found.extend(old_words(&file.path, &quoted_names(file.production())));
        }
    }
    let configuration = settings(&super::tree::read("routes.toml"));
    found.extend(old_words("routes.toml", &configuration));
    none(&found);
}

#[test]
fn an_old_word_is_found_in_every_case() {
    let text = code("let fate_of = 1;\nstruct LateFate;\n// fate\nlet fated = \"fate\";\n");
    assert_eq!(old_words("src/a.rs", &text).len(), 2);
    let quoted = quoted_names("read(\"fate_ms\", \"a fate\") // \"x\"");
    assert_eq!(quoted, "fate_ms x");
    assert_eq!(
        settings("[limits]\nfate_ms = 1 # told"),
        "[limits] fate_ms "
    );
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

/// Lines of the main path at most, apart from comments, imports and blank lines.
const MAIN_PATH_LINES_MAX: usize = 900;

fn lines_of_code(file: &SourceFile) -> usize {
    let mut is_import = false;
    let code = code(file.production());
    let lines = code.lines().filter(|line| {
        let bare = line.trim_start();
        let begins = [
            "use ",
            "mod ",
            "pub use ",
            "pub(in crate::flow) use ",
            "pub(in crate::flow) mod ",
        ];
        is_import |= begins.iter().any(|begin| bare.starts_with(begin));
        let counts = !is_import && !bare.is_empty();
        is_import &= !bare.ends_with(';');
        counts
    });
    lines.count()
}

/// A newcomer reads the main path in ten minutes: seven files that the document names.
#[test]
fn the_main_path_is_short() {
    let document = super::tree::read("ARCHITECTURE.md");
    let after = document
        .split("The main path is seven files")
        .nth(1)
        .expect("it is named");
    let named = after.split('.').next().expect("a sentence");
    let files: Vec<&str> = named
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| *name != "flow/")
        .collect();
    assert_eq!(files.len(), 7, "{files:?}");
    let lines = files.iter().map(|name| {
        let path = format!("src/flow/{name}.rs");
        lines_of_code(&SourceFile::new(&path, &super::tree::read(&path)))
    });
    let lines: usize = lines.sum();
    assert!(
        lines <= MAIN_PATH_LINES_MAX,
        "{lines} lines, {MAIN_PATH_LINES_MAX} allowed"
    );
}

#[test]
fn a_missing_step_is_found() {
    let document = "`open` in `a.rs` makes it; `close` in\n`a.rs` ends it.";
    let missing = missing_steps(document, |_| "pub fn open(order: Order) {}".to_owned());
    assert_eq!(missing.len(), 1, "{missing:?}");
}
