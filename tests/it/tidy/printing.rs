//! Everything that is printed goes through `src/terminal.rs`, which escapes terminal control
//! characters.

use super::tree::{SourceFile, code};
use super::{none, occurrences, ours};

/// Every way to standard output or standard error.
const PRINTS: [&str; 7] = [
    "stdout()",
    "stderr()",
    "println!",
    "print!",
    "eprintln!",
    "eprint!",
    "dbg!",
];

fn printing_faults(file: &SourceFile) -> Vec<String> {
    let is_ours = file.path.starts_with("src/") && file.path != "src/terminal.rs";
    // The log's output: its lines are escaped by the same code.
    if !is_ours || file.path == "src/log.rs" {
        return Vec::new();
    }
    let code = code(file.production()).replace("terminal::std", "terminal::");
    let found = PRINTS
        .into_iter()
        .filter(|word| occurrences(&code, word).next().is_some());
    found
        .map(|word| format!("{}: {word} beside terminal::stdout()", file.path))
        .collect()
}

/// Nothing is printed except by the one writer.
#[test]
fn everything_is_printed_by_one_writer() {
    none(&ours().iter().flat_map(printing_faults).collect::<Vec<_>>());
}

#[test]
fn printing_beside_it_is_found() {
    for text in [
        "fn f() { println!(\"{x}\"); }",
        "let mut out = std::io::stdout().lock();",
        "io::stderr().write_all(b)",
    ] {
        let file = SourceFile::new("src/command/a.rs", text);
        assert_eq!(printing_faults(&file).len(), 1, "{text}");
    }
    none(&printing_faults(&SourceFile::new(
        "src/command/a.rs",
        "let out = terminal::stdout();\nwriteln!(out)",
    )));
}
