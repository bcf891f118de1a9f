//! The fuzzer that reads `docs/openapi.yaml`, and how many of its valid requests were accepted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use paymux::command::demo::environment::DemoEnvironment;
use paymux::edge::DrainOutcome;

use super::{DOCUMENT, document, printed, python};
use crate::tidy::tree;

/// Of the fuzzer and of the hooks' random generator: the same requests each time, as far as the
/// replies allow.
const SEED: &str = "20261125";

/// Requests generated for each interface, beside the examples and the limits of every field.
const MADE_UP: &str = "60";

/// The share of valid requests that must be accepted, for each interface. Unit: percent.
const TAKEN_MIN: &str = "tests/openapi/taken.toml";

/// The fuzzer against this environment: the file of its tally, and its command.
fn fuzzer(stage: &DemoEnvironment) -> (PathBuf, Command) {
    let hooks = tree::root().join("tests/openapi");
    let tally = stage.certs().join("tally.json");
    let (_, first) = stage.institutions()[0];
    let origin = stage.origin();
    let mut command = python("schemathesis");
    command
        .current_dir(stage.certs())
        .env("PYTHONPATH", &hooks)
        .env("PAYMUX_ORIGIN", &origin)
        .env("PAYMUX_CERTS", stage.certs())
        .env("PAYMUX_NOTICE_URL", stage.tea.merchant.notice_url())
        .env(
            "PAYMUX_BOOKS_URL",
            format!("{}/control/books", first.origin()),
        )
        .env("PAYMUX_SEED", SEED)
        .env("PAYMUX_TALLY", &tally)
        .arg("--config-file")
        .arg(hooks.join("schemathesis.toml"))
        .arg("run")
        .arg(tree::root().join(DOCUMENT))
        .args(["--url", &origin, "--tls-verify"])
        .arg(stage.certs().join("ca.pem"))
        .args(["--seed", SEED, "--max-examples", MADE_UP]);
    (tally, command)
}

/// How often each reply was given, and to what: `POST /v1/orders well valid 200 ACCEPTED`. For a
/// refund that the request made, its state: `POST /v1/refunds well valid 200 SUCCEEDED`.
struct AnswerCounts(Vec<(String, u64)>);

impl AnswerCounts {
    fn read(file: &Path) -> Self {
        Self(serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())
    }

    /// Counts by interface, way of signing, validity and status.
    fn count(&self, wanted: impl Fn(&str, &str, bool, &str) -> bool) -> u64 {
        let fitting = self.0.iter().filter(|(line, _)| {
            let words: Vec<_> = line.split(' ').collect();
            let interface = words[..2].join(" ");
            wanted(&interface, words[2], words[3] == "valid", words[4])
        });
        fitting.map(|(_, count)| count).sum()
    }

    /// The count of exactly this line.
    fn of(&self, line: &str) -> u64 {
        let found = self.0.iter().find(|(of, _)| of == line);
        found.map_or(0, |(_, count)| *count)
    }

    /// Of the valid requests to an interface, correctly signed where a signature is required: those
    /// that were accepted, and all.
    fn taken(&self, interface: &str) -> (u64, u64) {
        let fair = |of: &str, how: &str, valid: bool| {
            of == interface && valid && ["well", "plain"].contains(&how)
        };
        let taken = self.count(|of, how, valid, status| {
            fair(of, how, valid) && ["200", "202", "303"].contains(&status)
        });
        (taken, self.count(|of, how, valid, _| fair(of, how, valid)))
    }
}

/// G-12, Q1, Q2, Q10, R-6.3.1-1b: whatever a fuzzer generates from the document, correctly signed
/// by a merchant or an institution or wrongly, the replies are as documented: shape, status,
/// headers, signature; invalid or wrongly signed requests are refused, a given share of valid ones
/// is accepted on each interface, and none causes a server error.
#[tokio::test(flavor = "multi_thread")]
async fn a_fuzzer_that_knows_the_document_finds_nothing() {
    // It calls from one address for one merchant, as fast as it can; limits have tests of their
    // own.
    let unlimited = "\n[limits]\nrequests_per_second_per_caller = 100000\n\
                     requests_per_second_per_merchant = 100000\n";
    let stage = DemoEnvironment::set(crate::socket::ports::free(), unlimited)
        .await
        .unwrap();
    let open = stage.open().await.unwrap();
    let (tally, mut command) = fuzzer(&stage);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let output_text = String::from_utf8_lossy(&output.stdout).into_owned() + &printed(&output);
    eprintln!("seed {SEED}");
    assert!(output.status.success(), "seed {SEED}: {output_text}");

    let tally = AnswerCounts::read(&tally);
    let mut floors: BTreeMap<String, u64> = toml::from_str(&tree::read(TAKEN_MIN)).unwrap();
    for (path, methods) in document()["paths"].as_object().unwrap() {
        for method in ["get", "post"] {
            if methods.get(method).is_none() {
                continue;
            }
            let interface = format!("{} {path}", method.to_uppercase());
            let floor = floors.remove(&interface);
            let floor = floor.unwrap_or_else(|| panic!("{interface} has no floor"));
            let (taken, valid) = tally.taken(&interface);
            eprintln!("{interface}: {taken} of {valid} accepted, at least {floor} % expected");
            assert!(
                (taken > 0) == (floor > 0) && taken * 100 >= valid * floor,
                "{interface}: {taken} of {valid} accepted: {:#?}",
                tally.0
            );
        }
    }
    assert_eq!(floors, BTreeMap::new(), "not in the document");
    for (refund, least) in [
        ("200 SUCCEEDED", 12),
        ("200 FAILED", 1),
        ("202 PROCESSING", 1),
    ] {
        let new = tally.of(&format!("POST /v1/refunds well valid {refund}"));
        assert!(
            new >= least,
            "only {new} new refunds were answered {refund}"
        );
    }
    for how in [
        "well",
        "unsigned",
        "changed",
        "garbled",
        "unknown_key",
        "other",
        "stale",
    ] {
        let merchants = ["/v1/orders", "/v1/refunds", "/v1/events"];
        let sides = [
            (&merchants[..], 20),
            (&merchants[1..2], 5),
            (&["/v1/callbacks"], 3),
        ];
        for (side, least) in sides {
            let of_side = |of: &str| side.iter().any(|path| of.contains(path));
            let signed_requests = tally.count(|of, signed, _, _| of_side(of) && signed == how);
            assert!(
                signed_requests >= least,
                "only {signed_requests} to {side:?} were signed {how}: {:#?}",
                tally.0
            );
        }
    }
    assert_eq!(open.close().await.unwrap(), DrainOutcome::Whole);
}
