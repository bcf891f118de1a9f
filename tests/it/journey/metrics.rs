//! The metrics against `docs/metrics.md` and `docs/alerts.yml`: the same names, kinds and labels in
//! the code, in the document and on the page of a running gateway; alarms name nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use http::{Method, Request};
use paymux::command::demo::environment::DemoEnvironment;
use serde_json::{Value, json};

use super::operations;
use crate::openapi::python;
use crate::tidy::tree;

/// A metric's kind and labels.
type MetricDefinitions = BTreeMap<String, (String, BTreeSet<String>)>;

/// Constructors of `metrics.rs`, and Prometheus' name of each kind.
const CONSTRUCTORS: [(&str, &str); 9] = [
    ("count", "counter"),
    ("sums", "counter"),
    ("counters", "counter"),
    ("counter", "counter"),
    ("gauges", "gauge"),
    ("gauge", "gauge"),
    ("moments", "gauge"),
    ("moment", "gauge"),
    ("histograms", "histogram"),
];

/// Suffixes of names that give the unit or what is counted.
const UNITS: [&str; 4] = ["_seconds", "_bytes", "_changes", "_info"];

/// Metrics that a journey does not move, and why not.
const QUIET: [(&str, &str); 29] = [
    ("paymux_institution_callbacks_missing", "callbacks arrive"),
    (
        "paymux_polled_orders_total",
        "a notified result need not be queried",
    ),
    (
        "paymux_polling_cpu_seconds_total",
        "a notified result need not be queried",
    ),
    ("paymux_panics_total", "there is none"),
    ("paymux_wal_checkpointed_bytes", "it is done once a second"),
    ("paymux_wal_restarts_total", "the log is short"),
    ("paymux_log_lines_dropped_total", "every line is written"),
    ("paymux_credentials_unusable", "every key counts"),
    ("paymux_clock_offset_seconds", "the clock is not set"),
    (
        "paymux_exchange_log_bytes",
        "a block is written some time later",
    ),
    (
        "paymux_exchange_log_entries_dropped_total",
        "the queue is never full",
    ),
    (
        "paymux_exchange_log_blocks_removed_total",
        "none is old, and there is free space",
    ),
    ("paymux_reconciliation_breaks_open", "nothing differs"),
    ("paymux_refunds_manual", "institutions answer"),
    ("paymux_events_dead", "every merchant acknowledges"),
    ("paymux_config_reloads_total", "there is no reload"),
    (
        "paymux_connections_refused_total",
        "no connection limit is reached",
    ),
    ("paymux_connections_cut_total", "no peer is slow"),
    (
        "paymux_proxy_headers_refused_total",
        "there is no trusted proxy",
    ),
    ("paymux_handshakes_in_progress", "they are ended"),
    ("paymux_load_shed_total", "nothing is rejected"),
    ("paymux_limited_total", "no limit is exceeded"),
    (
        "paymux_institution_permits_waiting",
        "a permit is there at once",
    ),
    ("paymux_institution_calls_in_flight", "they are ended"),
    (
        "paymux_institution_breaker_openings_total",
        "no institution fails",
    ),
    (
        "paymux_work_lag_seconds",
        "work is started as soon as it is due",
    ),
    (
        "paymux_work_in_hand",
        "it is complete when the page is read",
    ),
    ("paymux_runtime_queue_tasks", "every task has a thread"),
    (
        "paymux_connections",
        "a journey's connections may be closed",
    ),
];

/// The metrics that the code registers.
fn registered() -> MetricDefinitions {
    let mut kinds = MetricDefinitions::new();
    let files = tree::sources(&["src"]);
    let pages = files
        .iter()
        .filter(|file| file.path.starts_with("src/metrics"));
    for file in pages {
        let code = file.production();
        let made = CONSTRUCTORS.into_iter().chain([("histogram", "histogram")]);
        for (constructor, kind) in made {
            for (owner, prefix) in [("page", "paymux_"), ("system", "")] {
                let call = format!("{owner}.{constructor}(");
                for (_, after) in code
                    .match_indices(&call)
                    .map(|(at, _)| code.split_at(at + call.len()))
                {
                    let (arguments, _) = after.split_once(")?").unwrap();
                    let words: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
                    let labels = arguments
                        .rsplit_once("&[")
                        .map(|(_, labels)| labels.split('"').skip(1).step_by(2));
                    let labels = labels.into_iter().flatten().map(str::to_owned);
                    let name = format!("{prefix}{}", words[0]);
                    let kind = (kind.to_owned(), labels.collect());
                    assert_eq!(
                        kinds.insert(name.clone(), kind),
                        None,
                        "{name} is registered twice"
                    );
                }
            }
        }
    }
    kinds
}

fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The metrics in the document.
fn documented() -> MetricDefinitions {
    let text = tree::read("docs/metrics.md");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, what] = cells.as_slice() else {
            return None;
        };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        assert!(!what.is_empty(), "{name} has no description");
        Some((name.to_owned(), ((*kind).to_owned(), quoted(labels))))
    });
    rows.collect()
}

/// R-6.3.1-4a: every metric is documented with its kind and labels, and no other is.
#[test]
fn the_document_and_the_code_have_the_same_metrics() {
    let (code, document) = (registered(), documented());
    assert!(code.len() > 25, "they were not found: {code:?}");
    assert_eq!(
        document, code,
        "docs/metrics.md on the left, src/metrics on the right"
    );
}

/// R-6.3.1-4a: names give the quantity in base units, by Prometheus' conventions.
#[test]
fn names_have_kind_and_unit() {
    for (name, (kind, _)) in registered() {
        assert_eq!(
            kind == "counter",
            name.ends_with("_total"),
            "{name}: {kind}"
        );
        let bare = name.strip_suffix("_total").unwrap_or(&name);
        if kind == "histogram" {
            let unit = UNITS.iter().any(|unit| bare.ends_with(unit));
            assert!(unit, "{name} names no unit");
        }
        for other in [
            "_ms", "_us", "_ns", "_minutes", "_kb", "_percent", "_count", "_sum", "_bucket",
        ] {
            assert!(!bare.ends_with(other), "{name} ends in {other}");
        }
    }
}

/// Runs a program of `tests/metrics` and parses what it prints.
fn parsed(program: &str, input: &str) -> Value {
    let mut command: Command = python("python");
    command.arg(tree::root().join("tests/metrics").join(program));
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let fault = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {fault}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// R-6.3.1-4a: suggested alarms can be parsed by Prometheus, and name metrics and labels that
/// exist.
#[test]
fn alarms_name_only_what_exists() {
    let known = registered();
    let alarms = parsed("alarms.py", "");
    for alarm in alarms.as_array().unwrap() {
        let [alarm, named, labels] = alarm.as_array().unwrap().as_slice() else {
            panic!("{alarm}");
        };
        let named = named.as_str().unwrap();
        // Prometheus' own.
        if named == "up" {
            continue;
        }
        let part = ["_bucket", "_count", "_sum"]
            .into_iter()
            .find_map(|end| named.strip_suffix(end))
            .filter(|base| {
                known
                    .get(*base)
                    .is_some_and(|(kind, _)| kind == "histogram")
            });
        let (kind, has) = known
            .get(part.unwrap_or(named))
            .unwrap_or_else(|| panic!("{alarm}: there is no {named}"));
        assert!(part.is_some() || kind != "histogram", "{alarm}: {named}");
        for label in labels.as_array().unwrap() {
            let label = label.as_str().unwrap();
            let given = label == "job" || (label == "le" && part.is_some());
            assert!(
                given || has.contains(label),
                "{alarm}: {named} has no label {label}"
            );
        }
    }
    let alarms = tree::read("docs/alerts.yml").matches("- alert:").count();
    assert!(alarms > 8, "{alarms}");
}

/// An order that is selected, paid, called back and notified; a refusal; a repeated nonce; a page.
async fn exercise_metrics(stage: &DemoEnvironment) {
    let shop = &stage.tea;
    let order = shop.order("T1", "AGGREGATED", "12.30", "13800001234");
    assert_eq!(shop.place(&order).await.unwrap().status, 200);
    let choice = json!({ "institutionId": "redpay", "mode": "WEBVIEW" });
    let chosen = shop.ask("/v1/orders/select", "T1", choice).await.unwrap();
    stage.payer.pay(chosen.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let naming = json!({ "merchantId": "M1001", "merchantOrderNo": "T1" }).to_string();
    let request = shop.client.signed("/v1/orders/query", &naming).unwrap();
    assert_eq!(shop.client.send(request.clone()).await.unwrap().status, 200);
    let again = shop.client.send(request).await.unwrap();
    assert_eq!(again.text("code"), "nonce_spent");
    let placing = shop
        .order("T2", "WEBVIEW", "12.30", "13800001234")
        .to_string();
    let placing = shop.client.signed("/v1/orders", &placing).unwrap();
    let placed = shop.client.send(placing.clone()).await.unwrap();
    let again = shop.client.send(placing).await.unwrap();
    assert_eq!(again.text("code"), "nonce_spent");
    stage.payer.open(placed.text("payUrl")).await.unwrap();
    let unsigned = Request::builder()
        .method(Method::POST)
        .uri(format!("{}/v1/orders", stage.origin()))
        .header("content-type", "application/json")
        .body("{}".into())
        .unwrap();
    assert_eq!(shop.client.send(unsigned).await.unwrap().status, 401);
}

/// R-6.3.1-4a, F2: every metric is recorded: a journey moves it, or the list says why not. The page
/// can be parsed by Prometheus, with the documented labels.
#[tokio::test(flavor = "multi_thread")]
async fn a_journey_moves_every_metric() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let open = stage.open().await.unwrap();
    exercise_metrics(&stage).await;
    // The first read makes the caches apply pending work.
    operations(&stage, "/metrics").await;
    let page = operations(&stage, "/metrics").await;
    open.close().await.unwrap();

    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    let shown = parsed("page.py", body);
    let known = registered();
    for (name, (kind, labels)) in &known {
        let quiet = QUIET.iter().any(|(quiet, _)| quiet == name);
        let Some(family) = shown.get(name) else {
            assert!(quiet, "{name} is not shown after a journey");
            continue;
        };
        assert_eq!(family["kind"], **kind, "{name}");
        let has: BTreeSet<String> = serde_json::from_value(family["labels"].clone()).unwrap();
        assert_eq!(has, *labels, "{name}");
        assert!(quiet || family["moved"] == true, "{name} did not move");
    }
    for name in shown.as_object().unwrap().keys() {
        assert!(
            known.contains_key(name),
            "{name} is shown and registered nowhere"
        );
    }
    for (name, _) in QUIET {
        assert!(
            known.contains_key(name),
            "{name} is explained and does not exist"
        );
    }
    for line in [
        "paymux_requests_total{caller_class=\"merchant\",interface=\"A3.1\",result=\"ACCEPTED\"} 2",
        "paymux_requests_total{caller_class=\"unknown\",interface=\"A3.1\",result=\"signature_unusable\"} 1",
        "paymux_requests_total{caller_class=\"institution\",interface=\"X-11\",result=\"GENUINE\"} 1",
        "paymux_requests_total{caller_class=\"payer\",interface=\"page\",result=\"SHOWN\"} 3",
        "paymux_nonce_cache_lookups_total{cache=\"reads\",result=\"hit\"} 1",
        "paymux_nonce_cache_lookups_total{cache=\"effects\",result=\"hit\"} 1",
        "paymux_result_to_merchant_seconds_count 1",
        "paymux_notifications_total{result=\"delivered\"} 1",
    ] {
        assert!(body.contains(line), "{line} is not in {body}");
    }
}
