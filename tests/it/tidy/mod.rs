//! The rules of the layout and of the style sheet that a program can check, held as data. Every
//! check is also run on bad input, because a check that cannot fail proves nothing.

use std::collections::BTreeMap;
use std::process::Command;

use tree::{SourceFile, code};

mod endpoints;
mod files;
mod imports;
mod mutants;
mod printing;
pub(crate) mod tree;
mod words;

/// A file of `src/` over the first limit gives a reason here. Over the second, and in tests and
/// benches over the second alone, a file is split along an idea.
const LINES_MAX: usize = 400;
const LINES_MAX_EXCUSED: usize = 600;
/// The trade's names are longer than those before them, and wrap.
const WRAPPED: &str = "split with the work on the store, the endpoints and accounts";
#[rustfmt::skip]
const EXCUSED: &[(&str, &str)] = &[
    ("src/config/named.rs", WRAPPED),
    ("src/config/section.rs", WRAPPED),
    ("src/flow/admit_request.rs", WRAPPED),
    ("src/institution/standard.rs", WRAPPED),
    ("src/outbound.rs", WRAPPED),
    ("src/run.rs", WRAPPED),
    ("src/sandbox/institution/orders.rs", WRAPPED),
    ("src/store/sqlite.rs", WRAPPED),
];

const FILES_IN_FOLDER_MAX: usize = 15;
const DOCUMENT_LINES_MAX: usize = 150;
const SHORT_DOCUMENTS: &[&str] = &["ARCHITECTURE.md", "CHANGELOG.md"];

const NAMELESS_MODULES: &[&str] = &[
    "base", "common", "core", "helper", "helpers", "misc", "prelude", "shared", "util", "utils",
];
const NAMELESS_SUFFIXES: &[&str] = &[
    "Context",
    "Engine",
    "Factory",
    "Handler",
    "Helper",
    "Manager",
    "Processor",
    "Service",
    "Wrapper",
];

/// In every file, tests included. Concatenated, so that a search for them does not find this page.
const NEVER: &[(&str, &str)] = &[
    (concat!("todo", "!"), "is unfinished"),
    (concat!("unimplemented", "!"), "is unfinished"),
    (concat!("#[ig", "nore"), "switches a test off"),
    ("fn test_", "names nothing: name the promise"),
];
/// In tests: they wait for events, not for time.
const NEVER_IN_TESTS: &[(&str, &str)] = &[
    (concat!("thread::", "sleep"), "sleeps in a test"),
    (concat!("time::", "sleep"), "sleeps in a test"),
];
const PURE: &[&str] = &["crypto", "domain", "institution", "signature"];
/// Pure code that gets its randomness as an argument, because it comes through `World`.
const DRAWS_NOTHING: &[&str] = &["domain", "institution"];

fn ours() -> Vec<SourceFile> {
    tree::sources(&["src", "tests", "benches"])
}

/// `src/store/sqlite.rs` is `store`, `src/edge.rs` is `edge`.
fn module(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    inside
        .split('/')
        .next()
        .map(|first| first.trim_end_matches(".rs"))
}

fn is_name(message: char) -> bool {
    message.is_alphanumeric() || message == '_'
}

/// Whole occurrences of `needle` in `code`: the text before, and the text after.
fn occurrences<'a>(code: &'a str, needle: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    code.match_indices(needle)
        .map(move |(at, _)| (&code[..at], &code[at + needle.len()..]))
        .filter(move |(before, after)| {
            !(needle.starts_with(is_name) && before.ends_with(is_name)
                || needle.ends_with(is_name) && after.starts_with(is_name))
        })
}

fn size_faults(file: &SourceFile) -> Vec<String> {
    let lines = file.production().lines().count();
    let excused =
        !file.path.starts_with("src/") || EXCUSED.iter().any(|(path, _)| *path == file.path);
    let bound = if excused {
        LINES_MAX_EXCUSED
    } else {
        LINES_MAX
    };
    if lines > bound {
        return vec![format!("{}: {lines} lines, {bound} allowed", file.path)];
    }
    Vec::new()
}

fn folder_faults(files: &[SourceFile]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (folder, _) in files.iter().filter_map(|file| file.path.rsplit_once('/')) {
        *counts.entry(folder).or_default() += 1;
    }
    counts
        .into_iter()
        .filter(|(folder, count)| *folder != "src/institution" && *count > FILES_IN_FOLDER_MAX)
        .map(|(folder, count)| format!("{folder}: {count} files, {FILES_IN_FOLDER_MAX} allowed"))
        .collect()
}

fn word_faults(file: &SourceFile) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |text: String| faults.push(format!("{}: {text}", file.path));
    if !file.text.starts_with("//!") && !file.text.starts_with("#![doc = include_str!(") {
        fault("does not open with what it is for (//!)".to_owned());
    }
    for unfinished in [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ] {
        if occurrences(&file.text, unfinished).next().is_some() {
            fault(format!("{unfinished} is unfinished"));
        }
    }
    let all = code(&file.text);
    let tests = if file.path.starts_with("src/") {
        code(file.tests())
    } else {
        all.clone()
    };
    for (code, words) in [(&all, NEVER), (&tests, NEVER_IN_TESTS)] {
        for (word, why) in words {
            // `fn test_` is the start of a name, so only its own start has to stand alone.
            if code
                .match_indices(word)
                .any(|(at, _)| !code[..at].ends_with(is_name))
            {
                fault(format!("{word} {why}"));
            }
        }
    }
    if module(&file.path).is_some_and(|name| PURE.contains(&name))
        && occurrences(&code(file.production()), "async")
            .next()
            .is_some()
    {
        fault("async in a pure module: the waiting belongs in a flow".to_owned());
    }
    if module(&file.path).is_some_and(|name| DRAWS_NOTHING.contains(&name))
        && occurrences(&code(file.production()), "random::fill")
            .next()
            .is_some()
    {
        fault("draws random numbers: it gets them as an argument".to_owned());
    }
    let mut last = "";
    for word in all
        .split(|message| !is_name(message))
        .filter(|word| !word.is_empty())
    {
        let names_type = ["struct", "enum", "trait", "type"].contains(&last);
        if names_type
            && NAMELESS_SUFFIXES
                .iter()
                .any(|suffix| word.ends_with(suffix))
        {
            fault(format!("{word} does not name a thing"));
        }
        if last == "mod" && NAMELESS_MODULES.contains(&word) {
            fault(format!("a module called {word} names no idea"));
        }
        last = word;
    }
    faults
}

/// An adapter that `mod.rs` does not list would never be compiled, nor checked by the contract.
/// What all dialects share, beside `mod.rs`, is no dialect.
const SHARED_BY_DIALECTS: [&str; 5] = ["call", "kind", "settings", "statement", "step"];

fn adapter_faults(files: &[SourceFile]) -> Vec<String> {
    let Some(list) = files
        .iter()
        .find(|file| file.path == "src/institution/mod.rs")
    else {
        return Vec::new();
    };
    let list_code = code(&list.text);
    let mut faults = Vec::new();
    for file in files {
        let Some(inside) = file.path.strip_prefix("src/institution/") else {
            continue;
        };
        let name = inside.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        if name == "mod" || name.contains('/') || SHARED_BY_DIALECTS.contains(&name) {
            continue;
        }
        for line in [format!("mod {name};"), format!("{name}::KIND")] {
            if occurrences(&list_code, &line).next().is_none() {
                faults.push(format!("{}: institution/mod.rs lacks `{line}`", file.path));
            }
        }
    }
    faults
}

fn document_faults(documents: &[SourceFile]) -> Vec<String> {
    documents
        .iter()
        .map(|document| (document, document.text.lines().count()))
        .filter(|(_, lines)| *lines > DOCUMENT_LINES_MAX)
        .map(|(document, lines)| {
            format!(
                "{}: {lines} lines, {DOCUMENT_LINES_MAX} allowed",
                document.path
            )
        })
        .collect()
}

fn key_faults(files: &[SourceFile]) -> Vec<String> {
    // Read as bytes of a line's start: a page may mention keys, a key file opens with this.
    let opens = |line: &str| line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY-----");
    files
        .iter()
        .filter(|file| file.text.lines().any(opens))
        .map(|file| format!("{}: holds a private key", file.path))
        .collect()
}

/// What is in the repository; from an archive without one, everything that was unpacked.
fn committed() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(tree::root())
        .output();
    match listed {
        Ok(listed) if listed.status.success() => String::from_utf8(listed.stdout)
            .expect("file names are UTF-8")
            .split_terminator('\0')
            .filter(|path| tree::root().join(path).is_file())
            .map(str::to_owned)
            .collect(),
        _ => {
            let mut files = tree::files("");
            files.retain(|path| !path.starts_with("target/") && !path.starts_with("var/"));
            files
        }
    }
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn files_and_folders_keep_their_size() {
    let ours = ours();
    none(
        &ours
            .iter()
            .flat_map(size_faults)
            .chain(folder_faults(&ours))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn what_grew_too_large_is_found() {
    let lines = "x\n".repeat(LINES_MAX);
    none(&size_faults(&SourceFile::new("src/a.rs", &lines)));
    let tested = format!("{lines}#[cfg(test)]\nmod tests {{\n}}\n");
    none(&size_faults(&SourceFile::new("src/a.rs", &tested)));
    assert_eq!(
        size_faults(&SourceFile::new("src/a.rs", &format!("{lines}x\n"))).len(),
        1
    );

    let folder = |name: &str, count: usize| -> Vec<SourceFile> {
        (0..count)
            .map(|n| SourceFile::new(&format!("src/{name}/f{n}.rs"), ""))
            .collect()
    };
    none(&folder_faults(&folder("flow", FILES_IN_FOLDER_MAX)));
    none(&folder_faults(&folder(
        "institution",
        FILES_IN_FOLDER_MAX + 1,
    )));
    assert_eq!(
        folder_faults(&folder("flow", FILES_IN_FOLDER_MAX + 1)).len(),
        1
    );
}

#[test]
fn forbidden_words_do_not_appear() {
    none(&ours().iter().flat_map(word_faults).collect::<Vec<_>>());
}

#[test]
fn a_forbidden_word_is_found() {
    for (path, text) in [
        ("src/a.rs", "struct OrderManager;".to_owned()),
        ("src/a.rs", "pub enum Context { A }".to_owned()),
        ("src/a.rs", "mod utils;".to_owned()),
        ("src/a.rs", format!("fn a() {{ {}(); }}", NEVER[0].0)),
        ("src/a.rs", format!("// {}: later", concat!("TO", "DO"))),
        ("src/domain/a.rs", "pub async fn a() {}".to_owned()),
        ("src/institution/a.rs", "let a = async { 1 };".to_owned()),
        ("src/crypto/a.rs", "async fn a() {}".to_owned()),
        (
            "src/institution/a.rs",
            "fn a() { crypto::random::fill(x); }".to_owned(),
        ),
        (
            "src/a.rs",
            format!(
                "#[cfg(test)]\nmod tests {{ fn a() {{ {}(x) }} }}",
                NEVER_IN_TESTS[0].0
            ),
        ),
        (
            "tests/it/a.rs",
            format!("fn a() {{ tokio::{}(x).await }}", NEVER_IN_TESTS[1].0),
        ),
        (
            "tests/it/a.rs",
            format!("#[test]\n{}]\nfn a() {{}}", NEVER[2].0),
        ),
        ("tests/it/a.rs", "#[test]\nfn test_order() {}".to_owned()),
    ] {
        let file = SourceFile::new(path, &format!("//! What it is for.\n{text}\n"));
        assert_eq!(word_faults(&file).len(), 1, "{path}: {text}");
    }
    assert_eq!(
        word_faults(&SourceFile::new("src/a.rs", "use x;\n")).len(),
        1
    );
    none(&word_faults(&SourceFile::new(
        "src/workers.rs",
        "//! A.\nasync fn a(to: TypedContextual) {}\n",
    )));
}

#[test]
fn every_adapter_is_listed() {
    none(&adapter_faults(&tree::sources(&["src"])));
}

#[test]
fn an_adapter_that_is_not_listed_is_found() {
    let list = "mod harbour_bank;\nconst KINDS: &[Kind] = &[harbour_bank::KIND];";
    let with = |name: &str| {
        let adapter = SourceFile::new(&format!("src/institution/{name}"), "");
        adapter_faults(&[SourceFile::new("src/institution/mod.rs", list), adapter])
    };
    none(&with("harbour_bank.rs"));
    none(&with("harbour_bank/fields.rs"));
    assert_eq!(with("lake_bank.rs").len(), 2);
    assert_eq!(with("bank.rs").len(), 2);
}

#[test]
fn documents_stay_short() {
    let written = SHORT_DOCUMENTS
        .iter()
        .filter(|path| tree::root().join(path).exists());
    let documents: Vec<SourceFile> = written
        .map(|path| SourceFile::new(path, &tree::read(path)))
        .collect();
    none(&document_faults(&documents));
}

#[test]
fn a_document_that_grew_too_long_is_found() {
    let lines = "x\n".repeat(DOCUMENT_LINES_MAX);
    none(&document_faults(&[SourceFile::new("CHANGELOG.md", &lines)]));
    assert_eq!(
        document_faults(&[SourceFile::new("CHANGELOG.md", &format!("{lines}x"))]).len(),
        1
    );
}

#[test]
fn no_private_key_is_committed() {
    let files: Vec<SourceFile> = committed()
        .iter()
        .map(|path| SourceFile::new(path, &tree::read(path)))
        .collect();
    assert!(
        files.iter().any(|file| file.path == "Cargo.toml"),
        "the list of files is empty"
    );
    none(&key_faults(&files));
}

#[test]
fn a_private_key_is_found() {
    for kind in ["", "RSA ", "EC ", "ENCRYPTED "] {
        let key = format!("-----BEGIN {kind}PRIVATE KEY-----\nAAAA\n");
        assert_eq!(
            key_faults(&[SourceFile::new("certs/a.pem", &key)]).len(),
            1,
            "{kind}"
        );
    }
    none(&key_faults(&[SourceFile::new(
        "certs/a.pem",
        "-----BEGIN CERTIFICATE-----\n",
    )]));
}
