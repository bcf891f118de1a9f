//! Which code may open a file by its name. Closing any descriptor of the store's file drops the
//! locks of all, so code in a serving gateway opens files only through `files.rs`, which checks
//! first.

use super::tree::{SourceFile, code};
use super::{none, occurrences, ours};

/// Functions that open a file.
const OPENS: [&str; 8] = [
    "File::open",
    "File::create",
    "File::options",
    "OpenOptions",
    "fs::read",
    "fs::read_to_string",
    "fs::write",
    "fs::copy",
];

/// The one place, code that runs in a process of its own, and what the system shows as files.
const MAY: [&str; 5] = [
    "src/files.rs",
    "src/files/",
    "src/command/",
    "src/sandbox/",
    "src/metrics/process.rs",
];

fn faults(file: &SourceFile) -> Vec<String> {
    if !file.path.starts_with("src/") || MAY.iter().any(|may| file.path.starts_with(may)) {
        return Vec::new();
    }
    let code = code(file.production());
    let opens = OPENS
        .iter()
        .filter(|opens| occurrences(&code, opens).next().is_some());
    opens
        .map(|opens| format!("{}: {opens} is for files.rs alone", file.path))
        .collect()
}

/// S1: nothing that runs beside `SQLite` opens a file except through the one place that knows the
/// store's.
#[test]
fn files_are_opened_in_one_place() {
    none(&ours().iter().flat_map(faults).collect::<Vec<_>>());
    let bad = SourceFile {
        path: "src/store/sqlite/file.rs".to_owned(),
        text: "//! A store.\nfn look(path: &Path) { std::fs::read(path); File::open(path); }\n"
            .to_owned(),
    };
    assert_eq!(faults(&bad).len(), 2);
}
