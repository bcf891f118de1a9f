//! Compares the identifiers that tests quote with `docs/requirements.md`, and `docs/conformance.md`
//! with the result. What a requirement means is decided by the page, not here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use crate::tidy::tree::{self, SourceFile};

const REQUIREMENTS: &str = "docs/requirements.md";
const CONFORMANCE: &str = "docs/conformance.md";
const REWRITE: &str = "UPDATE_CONFORMANCE=1 cargo test conformance";

/// The number of requirements in the standard; catches a row lost in an edit.
const DEMANDS: usize = 255;

/// First letters of invariants. Another capital with a digit is not an identifier.
const FAMILIES: &str = "ACDEFHKLMNOQRSTVZ";

/// Scenarios run on each store and each adapter: there every function is a test.
const CONTRACTS: &[&str] = &["tests/it/store.rs", "tests/it/institutions.rs"];

/// Tests that do not exercise the running product: sandbox institutions, documents, single parts.
const APART: [&str; 6] = [
    "it::sandbox",
    "it::conformance",
    "it::tidy",
    "it::world",
    "it::store",
    "it::institutions",
];

#[derive(Debug, PartialEq)]
enum Status {
    Met,
    Partly(String),
    Planned(String),
    NotOurs,
}

struct Demand {
    id: String,
    text: String,
    status: Status,
    why: String,
}

struct ConformancePage {
    demands: Vec<Demand>,
    promises: Vec<(String, String)>,
    /// Promises that are not implemented, and the area of each.
    not_built: BTreeMap<String, String>,
}

/// The tests that quote each identifier.
type TestsByIdentifier = BTreeMap<String, BTreeSet<String>>;

/// Rows of the tables under one second-level heading, without the table headers.
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

/// Parses the page of requirements; returns its faults if there are any.
fn read_page(text: &str) -> Result<ConformancePage, Vec<String>> {
    let areas: BTreeSet<&str> = rows(text, "Areas").iter().map(|row| row[0]).collect();
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    let mut demands = Vec::new();
    for row in rows(text, "Demands") {
        let [id, text, _missing_of, status, why] = row[..] else {
            faults.push(format!("not five cells: {row:?}"));
            continue;
        };
        let area = |word: &str| {
            let area = status.strip_prefix(word)?.strip_prefix(": ")?;
            areas.contains(area).then(|| area.to_owned())
        };
        let status = match (status, area("planned"), area("partly")) {
            ("met", ..) => Status::Met,
            ("not ours", ..) => Status::NotOurs,
            (_, Some(area), _) => Status::Planned(area),
            (_, _, Some(area)) => Status::Partly(area),
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
    let mut not_built = BTreeMap::new();
    for row in rows(text, "Promises not built") {
        match row[..] {
            [id, area] if seen.contains(id) && areas.contains(area) => {
                not_built.insert(id.to_owned(), area.to_owned());
            }
            _ => faults.push(format!("no promise, or no area: {row:?}")),
        }
    }
    if faults.is_empty() {
        Ok(ConformancePage {
            demands,
            promises,
            not_built,
        })
    } else {
        Err(faults)
    }
}

/// Identifiers in a line of prose: `R-6.3.1-2a` and `C5`, but not the `A3` of interface A3.1.
fn identifiers(text: &str) -> BTreeSet<String> {
    text.split(|message: char| !(message.is_ascii_alphanumeric() || "-._/".contains(message)))
        .map(|word| word.trim_end_matches(['.', '-', '/']))
        .filter(|word| is_requirement(word) || is_invariant(word))
        .map(str::to_owned)
        .collect()
}

fn is_requirement(word: &str) -> bool {
    word.strip_prefix("R-")
        .is_some_and(|rest| rest.contains(|message: char| message.is_ascii_digit()))
}

fn is_invariant(word: &str) -> bool {
    let number = word
        .strip_prefix(|first| FAMILIES.contains(first))
        .unwrap_or("");
    (1..=2).contains(&number.len()) && number.chars().all(|digit| digit.is_ascii_digit())
}

/// Maps identifiers to the tests that quote them. A test is a `#[test]` or `#[tokio::test]`
/// function, and in the contracts any function. Only the first paragraph of its doc comment counts.
fn shown(files: &[SourceFile]) -> TestsByIdentifier {
    let mut shown = TestsByIdentifier::new();
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

/// The name of the function defined on this line.
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

/// Whether a test exercises the running product.
fn is_of_the_product(test: &str) -> bool {
    let is_in = |part: &str| test == part || test.starts_with(&format!("{part}::"));
    test.starts_with("it::") && !APART.iter().any(|part| is_in(part))
}

/// Identifiers that tests quote and the page does not list; requirements that the page calls met,
/// also partly, without a test of the running product; promises that are not implemented and quoted
/// all the same.
fn faults(page: &ConformancePage, shown: &TestsByIdentifier) -> Vec<String> {
    let listed: BTreeSet<&str> = (page.demands.iter().map(|demand| demand.id.as_str()))
        .chain(page.promises.iter().map(|(id, _)| id.as_str()))
        .collect();
    let unlisted = shown
        .iter()
        .filter(|(id, _)| !listed.contains(id.as_str()))
        .map(|(id, tests)| format!("{id} is quoted by {} but not listed", names(tests)));
    let is_shown = |id: &str| {
        let tests = shown.get(id);
        tests.is_some_and(|tests| tests.iter().any(|test| is_of_the_product(test)))
    };
    let unshown = page
        .demands
        .iter()
        .filter(|demand| matches!(demand.status, Status::Met | Status::Partly(_)))
        .filter(|demand| !is_shown(&demand.id))
        .map(|demand| {
            let id = &demand.id;
            format!("{id} is called met or partly met, and no test of the running product shows it")
        });
    let early = page
        .not_built
        .keys()
        .filter_map(|id| Some((id, shown.get(id)?)))
        .map(|(id, tests)| format!("{id} is not built, and {} quote it", names(tests)));
    unlisted.chain(unshown).chain(early).collect()
}

fn names(tests: &BTreeSet<String>) -> String {
    tests
        .iter()
        .map(|test| format!("`{test}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The status that is counted, and the page's text.
fn state(demand: &Demand, tests: Option<&BTreeSet<String>>) -> (&'static str, String) {
    let by = tests.map_or_else(|| "nothing".to_owned(), names);
    let also =
        |word: &str| tests.map_or(String::new(), |tests| format!("; {word} {}", names(tests)));
    let why = &demand.why;
    match &demand.status {
        Status::Met => ("met", format!("met — by {by}")),
        Status::Partly(area) => (
            "partly",
            format!("partly — {why} ({area}); what is met, by {by}"),
        ),
        Status::Planned(area) => ("planned", format!("planned — {area}{}", also("begun:"))),
        Status::NotOurs => ("not ours", format!("not ours — {why}{}", also("see"))),
    }
}

fn render(page: &ConformancePage, shown: &TestsByIdentifier) -> String {
    let mut table = String::new();
    let mut counts = BTreeMap::from([("met", 0), ("partly", 0), ("planned", 0), ("not ours", 0)]);
    for demand in &page.demands {
        let (word, state) = state(demand, shown.get(&demand.id));
        *counts.entry(word).or_default() += 1;
        writeln!(table, "| {} | {} | {state} |", demand.id, demand.text).unwrap();
    }
    let mut promises = String::new();
    let mut quoted_count = 0;
    for (id, promise) in &page.promises {
        let tests = match page.not_built.get(id) {
            Some(area) => format!("planned — {area}"),
            None => shown.get(id).map_or("none yet".to_owned(), names),
        };
        quoted_count += usize::from(shown.contains_key(id));
        writeln!(promises, "| {id} | {promise} | {tests} |").unwrap();
    }
    format!(
        "# Conformance\n\n\
         Computed from `requirements.md` and from the identifiers that tests quote; never edited.\n\
         To write it anew: `{REWRITE}`. A test's name is its module's path: `it::` under `tests/`,\n\
         the others under `src/`.\n\n\
         | Demands of the standard | {} |\n|---|---|\n\
         | met, shown by tests of the running product | {} |\n| partly | {} |\n| planned | {} |\n\
         | not ours | {} |\n\n\
         ## Demands\n\n| Id | Demand | State |\n|---|---|---|\n{table}\n\
         ## Invariants\n\n{quoted_count} of {} are quoted by tests.\n\n\
         | Id | Promise | Tests |\n|---|---|---|\n{promises}",
        page.demands.len(),
        counts["met"],
        counts["partly"],
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
    #[expect(
        clippy::disallowed_methods,
        reason = "set by a developer at a terminal"
    )]
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
    | R-1-1 | a | all | met | x |\n| R-1-2 | b | all | planned: refunds | y |\n\n### Two\n\n\
    | Id | Demand | Owed by | Status | Why |\n|---|---|---|---|---|\n\
    | R-6.4-1b | c | all | not ours | z |\n\n## Invariants\n\n| Id | Promise |\n|---|---|\n| C5 | d |\n\
    | C6 | e |\n\n## Promises not built\n\n| Id | Comes with |\n|---|---|\n| C6 | refunds |\n";

fn sample(from: &str, to: &str) -> Result<ConformancePage, Vec<String>> {
    assert!(SAMPLE.contains(from));
    read_page(&SAMPLE.replace(from, to))
}

fn quoting(text: &str) -> TestsByIdentifier {
    shown(&[SourceFile::new("tests/it/b.rs", text)])
}

#[test]
fn identifiers_are_distinguished_from_other_words() {
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
        TestsByIdentifier::from([("C5".to_owned(), BTreeSet::from(["it::b::same".to_owned()]))])
    );
    assert!(quoting(&format!("{doc}pub fn same() {{}}")).is_empty());
    assert!(quoting(&format!("{doc}const A: u8 = 1;\n#[test]\nfn other() {{}}")).is_empty());

    let plain = format!("{doc}pub(crate) fn same(a: A) {{}}");
    assert_eq!(
        shown(&[SourceFile::new("tests/it/store.rs", &plain)]).len(),
        1
    );
    assert!(shown(&[SourceFile::new("tests/it/world.rs", &plain)]).is_empty());
}

#[test]
fn an_unlisted_identifier_is_found() {
    let page = sample("C5", "C5").unwrap();
    assert!(faults(&page, &quoting("/// C5 R-1-1\n#[test]\nfn a() {}")).is_empty());
    assert_eq!(
        faults(&page, &quoting("/// C9 R-1-1\n#[test]\nfn a() {}")).len(),
        1
    );
    assert_eq!(
        faults(&page, &quoting("/// R-1-9 R-1-1\n#[test]\nfn a() {}")).len(),
        1
    );
}

#[test]
fn a_requirement_called_met_without_a_test_is_found() {
    for status in ["met", "partly: refunds"] {
        let page = sample("| met |", &format!("| {status} |")).unwrap();
        assert_eq!(
            faults(&page, &TestsByIdentifier::new()).len(),
            1,
            "{status}"
        );
        let test = "/// R-1-1\n#[test]\nfn a() {}";
        assert!(faults(&page, &quoting(test)).is_empty(), "{status}");
        for apart in ["src/a/b.rs", "tests/it/sandbox/x.rs", "tests/it/store.rs"] {
            let unit = shown(&[SourceFile::new(apart, test)]);
            assert_eq!(faults(&page, &unit).len(), 1, "{apart} is not the product");
        }
    }
}

#[test]
fn a_promise_that_is_not_implemented_is_not_quoted() {
    let page = sample("| met |", "| not ours |").unwrap();
    assert_eq!(
        faults(&page, &quoting("/// C6\n#[test]\nfn a() {}")).len(),
        1
    );
}

#[test]
fn a_page_that_contradicts_itself_is_found() {
    for (from, to) in [
        ("planned: refunds", "planned: someday"),
        ("planned: refunds", "partly"),
        ("| met |", "| done |"),
        ("C6 | refunds", "C7 | refunds"),
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
fn the_page_lists_the_tests_of_each_demand() {
    let page = sample("C5", "C5").unwrap();
    let quoted = quoting("/// R-1-1 R-1-2 R-6.4-1b C5\n#[test]\nfn t() {}");
    let text = render(&page, &quoted);
    for line in [
        "| R-1-1 | a | met — by `it::b::t` |",
        "| R-1-2 | b | planned — refunds; begun: `it::b::t` |",
        "| R-6.4-1b | c | not ours — z; see `it::b::t` |",
        "| C5 | d | `it::b::t` |",
        "| C6 | e | planned — refunds |",
        "of the running product | 1 |\n| partly | 0 |\n| planned | 1 |\n| not ours | 1 |",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let page = sample("| met | x", "| partly: refunds | half").unwrap();
    let text = render(&page, &quoted);
    let partly = "| R-1-1 | a | partly — half (refunds); what is met, by `it::b::t` |";
    assert!(text.contains(partly), "{text}");
    let bare = render(&page, &TestsByIdentifier::new());
    assert!(bare.contains("| C5 | d | none yet |"), "{bare}");
}
