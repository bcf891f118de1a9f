//! Sets the identifiers that tests quote against `docs/requirements.md` and holds
//! `docs/conformance.md` to the result. Never decides what a demand means: the page does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use crate::tidy::tree::{self, Source};

const REQUIREMENTS: &str = "docs/requirements.md";
const CONFORMANCE: &str = "docs/conformance.md";
const REWRITE: &str = "UPDATE_CONFORMANCE=1 cargo test conformance";

/// The standard defines so many; a row lost in an edit would otherwise go unseen.
const DEMANDS: usize = 255;

/// First letters of invariants. Other capitals with a digit are words, not identifiers.
const FAMILIES: &str = "ACDEFKLMNOQRSTVZ";

/// Lists of scenarios run on each store and each adapter: there every function is a test.
const CONTRACTS: &[&str] = &["tests/it/store.rs", "tests/it/institutions.rs"];

#[derive(Debug, PartialEq)]
enum Status {
    FirstStage,
    Built,
    Planned(String),
    NotOurs,
}

struct Demand {
    id: String,
    text: String,
    status: Status,
    why: String,
}

struct Page {
    demands: Vec<Demand>,
    promises: Vec<(String, String)>,
}

/// Identifier to the tests that quote it.
type Shown = BTreeMap<String, BTreeSet<String>>;

/// Rows of the tables under one second-level heading, their heads left out.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let under = page
        .split("\n## ")
        .find_map(|part| part.strip_prefix(heading))
        .unwrap_or("");
    let lines: Vec<&str> = under.lines().collect();
    lines
        .windows(2)
        .filter(|pair| pair[0].starts_with("| ") && !pair[1].starts_with("|--"))
        .map(|pair| pair[0])
        .chain(lines.last().copied().filter(|line| line.starts_with("| ")))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// Reads the page of requirements; what is wrong with it comes back instead.
fn read_page(text: &str) -> Result<Page, Vec<String>> {
    let areas: BTreeSet<&str> = rows(text, "Areas").iter().map(|row| row[0]).collect();
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    let mut demands = Vec::new();
    for row in rows(text, "Demands") {
        let [id, text, _owed_by, status, why] = row[..] else {
            faults.push(format!("not five cells: {row:?}"));
            continue;
        };
        let status = match (status, status.strip_prefix("planned: ")) {
            ("first stage", _) => Status::FirstStage,
            ("built", _) => Status::Built,
            ("not ours", _) => Status::NotOurs,
            (_, Some(area)) if areas.contains(area) => Status::Planned(area.to_owned()),
            _ => {
                faults.push(format!("{id}: no such status or area: {status}"));
                continue;
            }
        };
        if !seen.insert(id) {
            faults.push(format!("{id} is listed twice"));
        }
        let (id, text, why) = (id.to_owned(), text.to_owned(), why.to_owned());
        demands.push(Demand {
            id,
            text,
            status,
            why,
        });
    }
    let mut promises = Vec::new();
    for row in rows(text, "Invariants") {
        let [id, promise] = row[..] else {
            faults.push(format!("not two cells: {row:?}"));
            continue;
        };
        if !seen.insert(id) {
            faults.push(format!("{id} is listed twice"));
        }
        promises.push((id.to_owned(), promise.to_owned()));
    }
    if faults.is_empty() {
        Ok(Page { demands, promises })
    } else {
        Err(faults)
    }
}

/// Identifiers in a line of prose: `R-6.3.1-2a`, and `C5` but not the `A3` of interface A3.1.
fn identifiers(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || "-._/".contains(letter)))
        .map(|word| word.trim_end_matches(['.', '-', '/']))
        .filter(|word| is_requirement(word) || is_invariant(word))
        .map(str::to_owned)
        .collect()
}

fn is_requirement(word: &str) -> bool {
    word.strip_prefix("R-")
        .is_some_and(|rest| rest.contains(|letter: char| letter.is_ascii_digit()))
}

fn is_invariant(word: &str) -> bool {
    let number = word
        .strip_prefix(|first| FAMILIES.contains(first))
        .unwrap_or("");
    (1..=2).contains(&number.len()) && number.chars().all(|digit| digit.is_ascii_digit())
}

/// Which tests quote what. A test is a `#[test]` or `#[tokio::test]` function, and in the contracts
/// any function. Only the first paragraph of its doc counts.
fn shown(files: &[Source]) -> Shown {
    let mut shown = Shown::new();
    for file in files {
        let scenarios = CONTRACTS.contains(&file.path.as_str());
        let (mut doc, mut is_test, mut in_attribute) = (Vec::new(), false, false);
        for line in file.text.lines().map(str::trim) {
            if let Some(prose) = line.strip_prefix("///") {
                doc.push(prose.trim());
            } else if in_attribute || line.starts_with("#[") {
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                in_attribute = !line.ends_with(']');
            } else if !line.starts_with("//") {
                if let Some(name) = function(line).filter(|_| is_test || scenarios) {
                    let test = format!("{}::{name}", module(&file.path));
                    let first: Vec<&str> = doc
                        .iter()
                        .copied()
                        .take_while(|prose: &&str| !prose.is_empty())
                        .collect();
                    for id in identifiers(&first.join(" ")) {
                        shown.entry(id).or_default().insert(test.clone());
                    }
                }
                (doc, is_test) = (Vec::new(), false);
            }
        }
    }
    shown
}

/// The name of the function that a line begins to define.
fn function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let words = ["pub", "pub(crate)", "pub(super)", "async", "const"];
    let begins = before.split_whitespace().all(|word| words.contains(&word));
    begins.then(|| after.split(['(', '<']).next().unwrap_or(after))
}

/// `tests/it/order.rs` is `it::order`, `src/domain/order.rs` is `domain::order`.
fn module(path: &str) -> String {
    let inside = path.trim_start_matches("tests/").trim_start_matches("src/");
    inside
        .trim_end_matches(".rs")
        .trim_end_matches("/mod")
        .replace('/', "::")
}

/// What tests quote and the page does not list, and what the page calls built and no test shows.
fn faults(page: &Page, shown: &Shown) -> Vec<String> {
    let listed: BTreeSet<&str> = (page.demands.iter().map(|demand| demand.id.as_str()))
        .chain(page.promises.iter().map(|(id, _)| id.as_str()))
        .collect();
    let unlisted = shown
        .iter()
        .filter(|(id, _)| !listed.contains(id.as_str()))
        .map(|(id, tests)| format!("{id} is quoted by {} but not listed", names(tests)));
    let unshown = page
        .demands
        .iter()
        .filter(|demand| demand.status == Status::Built && !shown.contains_key(&demand.id))
        .map(|demand| format!("{} is called built, and no test shows it", demand.id));
    unlisted.chain(unshown).collect()
}

fn names(tests: &BTreeSet<String>) -> String {
    tests
        .iter()
        .map(|test| format!("`{test}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The word that is counted, and what the page says.
fn state(demand: &Demand, tests: Option<&BTreeSet<String>>) -> (&'static str, String) {
    let also =
        |word: &str| tests.map_or(String::new(), |tests| format!("; {word} {}", names(tests)));
    match (&demand.status, tests) {
        (Status::Built | Status::FirstStage, Some(tests)) => {
            ("met", format!("met — by {}", names(tests)))
        }
        (Status::Built | Status::FirstStage, None) => {
            ("planned", "planned — first stage".to_owned())
        }
        (Status::Planned(area), _) => ("planned", format!("planned — {area}{}", also("begun:"))),
        (Status::NotOurs, _) => (
            "not ours",
            format!("not ours — {}{}", demand.why, also("see")),
        ),
    }
}

fn render(page: &Page, shown: &Shown) -> String {
    let mut table = String::new();
    let mut counts = BTreeMap::from([("met", 0), ("planned", 0), ("not ours", 0)]);
    for demand in &page.demands {
        let (word, state) = state(demand, shown.get(&demand.id));
        *counts.entry(word).or_default() += 1;
        writeln!(table, "| {} | {} | {state} |", demand.id, demand.text).unwrap();
    }
    let mut promises = String::new();
    let mut kept = 0;
    for (id, promise) in &page.promises {
        let tests = shown.get(id).map_or("none yet".to_owned(), names);
        kept += usize::from(shown.contains_key(id));
        writeln!(promises, "| {id} | {promise} | {tests} |").unwrap();
    }
    format!(
        "# Conformance\n\n\
         Computed from `requirements.md` and from the identifiers that tests quote; never edited.\n\
         To write it anew: `{REWRITE}`. A test's name is its module's path: `it::` under `tests/`,\n\
         the others under `src/`.\n\n\
         | Demands of the standard | {} |\n|---|---|\n\
         | met, shown by tests | {} |\n| planned | {} |\n| not ours | {} |\n\n\
         ## Demands\n\n| Id | Demand | State |\n|---|---|---|\n{table}\n\
         ## Invariants\n\n{kept} of {} are quoted by tests.\n\n\
         | Id | Promise | Tests |\n|---|---|---|\n{promises}",
        page.demands.len(),
        counts["met"],
        counts["planned"],
        counts["not ours"],
        page.promises.len(),
    )
}

#[test]
fn conformance_page_is_current() {
    let page = read_page(&tree::read(REQUIREMENTS))
        .unwrap_or_else(|faults| panic!("{REQUIREMENTS}:\n{}", faults.join("\n")));
    assert_eq!(page.demands.len(), DEMANDS, "rows of {REQUIREMENTS}");
    let shown = shown(&tree::sources(&["src", "tests"]));
    let faults = faults(&page, &shown);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));

    let computed = render(&page, &shown);
    #[expect(clippy::disallowed_methods, reason = "asked by a person at a terminal")]
    let rewrite = std::env::var("UPDATE_CONFORMANCE").is_ok();
    if rewrite {
        fs::write(tree::root().join(CONFORMANCE), &computed).unwrap();
    }
    let committed = fs::read_to_string(tree::root().join(CONFORMANCE)).unwrap_or_default();
    let stale = computed
        .lines()
        .find(|line| !committed.lines().any(|old| old == *line));
    assert!(
        committed == computed,
        "{CONFORMANCE} is stale; run `{REWRITE}`. First difference: {}",
        stale.unwrap_or("lines were removed")
    );
}

/// R-2-1
#[test]
fn every_normative_reference_is_listed_with_what_was_taken() {
    let page = tree::read(REQUIREMENTS);
    let references = rows(&page, "References");
    assert_eq!(references.len(), 7);
    assert!(
        references
            .iter()
            .all(|row| row.len() == 3 && !row[2].is_empty()),
        "{references:?}"
    );
}

const SAMPLE: &str = "# Requirements\n\n## Areas\n\n| Area | Brings |\n|---|---|\n| refunds | A3.4 |\n\n\
    ## Demands\n\n### One\n\n| Id | Demand | Owed by | Status | Why |\n|---|---|---|---|---|\n\
    | R-1-1 | a | all | first stage | x |\n| R-1-2 | b | all | planned: refunds | y |\n\n### Two\n\n\
    | Id | Demand | Owed by | Status | Why |\n|---|---|---|---|---|\n\
    | R-6.4-1b | c | all | not ours | z |\n\n## Invariants\n\n| Id | Promise |\n|---|---|\n| C5 | d |\n";

fn sample(from: &str, to: &str) -> Result<Page, Vec<String>> {
    assert!(SAMPLE.contains(from));
    read_page(&SAMPLE.replace(from, to))
}

fn quoting(text: &str) -> Shown {
    shown(&[Source::new("src/a/b.rs", text)])
}

#[test]
fn identifiers_are_told_from_other_words() {
    let found =
        identifiers("R-6.4-1b, C5 (N8): in A3.1 and X-2, unlike `Q10`/v1, A4. SHA-256 R-… K1");
    let expected = ["A4", "C5", "K1", "N8", "Q10", "R-6.4-1b"];
    assert_eq!(
        found.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn only_tests_show_anything() {
    let doc = "/// C5 repeats\n///\n/// unlike C6\n";
    let test = quoting(&format!(
        "{doc}#[tokio::test(flavor = \"x\")]\n#[expect(\n    a,\n)]\nasync fn same() {{}}"
    ));
    assert_eq!(
        test,
        Shown::from([("C5".to_owned(), BTreeSet::from(["a::b::same".to_owned()]))])
    );
    assert!(quoting(&format!("{doc}pub fn same() {{}}")).is_empty());
    assert!(quoting(&format!("{doc}const A: u8 = 1;\n#[test]\nfn other() {{}}")).is_empty());

    let plain = format!("{doc}pub(crate) fn same(a: A) {{}}");
    assert_eq!(shown(&[Source::new("tests/it/store.rs", &plain)]).len(), 1);
    assert!(shown(&[Source::new("tests/it/world.rs", &plain)]).is_empty());
}

#[test]
fn an_identifier_nobody_lists_is_found() {
    let page = sample("C5", "C5").unwrap();
    assert!(faults(&page, &quoting("/// C5 R-1-1\n#[test]\nfn a() {}")).is_empty());
    assert_eq!(
        faults(&page, &quoting("/// C9\n#[test]\nfn a() {}")).len(),
        1
    );
    assert_eq!(
        faults(&page, &quoting("/// R-1-9\n#[test]\nfn a() {}")).len(),
        1
    );
}

#[test]
fn built_without_a_test_is_found() {
    let page = sample("first stage", "built").unwrap();
    assert_eq!(faults(&page, &Shown::new()).len(), 1);
    assert!(faults(&page, &quoting("/// R-1-1\n#[test]\nfn a() {}")).is_empty());
}

#[test]
fn a_page_that_contradicts_itself_is_found() {
    for (from, to) in [
        ("planned: refunds", "planned: someday"),
        ("first stage", "done"),
        ("R-1-2", "R-1-1"),
        ("| all | not ours", "| not ours"),
        ("C5 | d", "C5 | d | e"),
    ] {
        assert_eq!(
            sample(from, to).err().map(|faults| faults.len()),
            Some(1),
            "{to}"
        );
    }
}

#[test]
fn the_page_says_what_each_demand_stands_on() {
    let page = sample("C5", "C5").unwrap();
    let bare = render(&page, &Shown::new());
    assert!(
        bare.contains("| R-1-1 | a | planned — first stage |"),
        "{bare}"
    );
    assert!(bare.contains("| C5 | d | none yet |"), "{bare}");
    assert!(
        bare.contains("| met, shown by tests | 0 |\n| planned | 2 |\n| not ours | 1 |"),
        "{bare}"
    );

    let quoted = quoting("/// R-1-1 R-1-2 R-6.4-1b C5\n#[test]\nfn t() {}");
    let page = render(&page, &quoted);
    assert!(
        page.contains("| R-1-1 | a | met — by `a::b::t` |"),
        "{page}"
    );
    assert!(
        page.contains("| R-1-2 | b | planned — refunds; begun: `a::b::t` |"),
        "{page}"
    );
    assert!(
        page.contains("| R-6.4-1b | c | not ours — z; see `a::b::t` |"),
        "{page}"
    );
    assert!(page.contains("| C5 | d | `a::b::t` |"), "{page}");
}
