//! `docs/clients.md` shows the programs as they are: what is read is what is run.

use crate::tidy::tree;

pub(super) const PAGE: &str = "docs/clients.md";
const REWRITE: &str = "UPDATE_CLIENTS=1 cargo test clients";

/// The page with every block that names a file filled from that file.
fn filled(page: &str) -> String {
    let mut lines = page.lines();
    let mut filled = String::new();
    let mut named = None;
    while let Some(line) = lines.next() {
        filled.push_str(line);
        filled.push('\n');
        if let Some(file) = named.take() {
            assert!(
                line.starts_with("```"),
                "a block follows the name of {file}"
            );
            filled.push_str(&tree::read(file));
            // The present text of the block.
            lines
                .by_ref()
                .take_while(|line| *line != "```")
                .for_each(drop);
            filled.push_str("```\n");
        }
        named = line
            .strip_prefix("<!-- docs/clients/")
            .and_then(|_| line.strip_prefix("<!-- ")?.strip_suffix(" -->"));
    }
    filled
}

/// Q2: the document and the tested programs cannot differ.
#[test]
fn the_document_shows_the_programs_that_are_run() {
    let page = tree::read(PAGE);
    let filled = filled(&page);
    if std::env::var_os("UPDATE_CLIENTS").is_some() {
        std::fs::write(tree::root().join(PAGE), filled).unwrap();
        return;
    }
    assert!(page == filled, "{PAGE} shows other programs; {REWRITE}");
    for file in tree::files("docs/clients") {
        let shown = page.contains(&format!("<!-- {file} -->"));
        assert!(
            shown || file.ends_with("package-lock.json"),
            "{file} is not shown"
        );
    }
}

/// The documented versions are the tested ones.
#[test]
fn the_documented_versions_are_the_tested_ones() {
    let tested = tree::read("tests/python/requirements.txt");
    let documented = tree::read("docs/clients/python/requirements.txt");
    for version in documented.lines().filter(|line| !line.starts_with('#')) {
        assert!(tested.lines().any(|line| line == version), "{version}");
    }
}

#[test]
fn a_block_is_filled_whole() {
    let page = "a\n<!-- docs/clients/node/package.json -->\n```json\nold\n```\nb\n";
    let text = tree::read("docs/clients/node/package.json");
    let expected = format!("a\n<!-- docs/clients/node/package.json -->\n```json\n{text}```\nb\n");
    assert_eq!(filled(page), expected);
    assert_eq!(filled(&expected), expected);
}
