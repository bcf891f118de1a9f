//! Dead-lettered notifications, as staff and merchants find them.

use std::process::Command;

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};
use paymux::config;
use paymux::run::control;
use rusqlite::Connection;
use serde_json::json;

use super::{open, operations, order, placed};

/// Runs `paymux events`; whether it succeeded, and what it printed.
async fn events(stage: &DemoEnvironment, args: &'static [&'static str]) -> (bool, String) {
    let config = stage.config.clone();
    let asking = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paymux"));
        command.arg("events").args(args).arg("--config").arg(config);
        command.output().unwrap()
    });
    let output = asking.await.unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(printed).unwrap())
}

/// Waits until an event meets the condition.
async fn until(store: &Connection, condition: &str) {
    let sql = format!("SELECT COUNT(*) FROM events WHERE {condition}");
    let count = || {
        store
            .query_row(&sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let waiting = async {
        while count() == 0 {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(WAIT_MAX, waiting).await;
    assert!(waited.is_ok(), "no event met {condition}");
}

/// The audit entries of resends: who requested them, and how many events.
fn records(store: &Connection) -> Vec<String> {
    let sql = "SELECT actor || ' ' || object || ' ' || result FROM audit
        WHERE action = 'events.resend' ORDER BY seq";
    let mut records = store.prepare(sql).unwrap();
    let records = records.query_map([], |row| row.get(0)).unwrap();
    records.map(Result::unwrap).collect()
}

/// Seven days later, as far as the store knows: the acknowledgement of the event was lost.
async fn dead_lettered(stage: &DemoEnvironment) -> Connection {
    let socket = control::socket(&config::store_url(&stage.config).unwrap());
    let file = socket
        .to_str()
        .unwrap()
        .trim_end_matches(".control")
        .to_owned();
    let store = Connection::open(file).unwrap();
    store.busy_timeout(WAIT_MAX).unwrap();
    until(&store, "state = 'DELIVERED'").await;
    let forgotten = "UPDATE events SET state = 'DEAD', delivered_at = NULL, tries = 19";
    assert_eq!(store.execute(forgotten, []).unwrap(), 1);
    store
}

/// N2, N3, L5: dead-lettered events are counted, listed and sent again by staff, under the same id
/// and with the same bytes; who requested it is recorded. The merchant can also fetch them.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_lettered_event_is_sent_again() {
    let (stage, open) = open().await;
    let shop = &stage.tea;
    placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
    let closed = shop.ask("/v1/orders/close", "T1", json!({})).await.unwrap();
    assert_eq!(closed.status, 200);
    let first = shop
        .wait_for_notification("ORDER_CLOSED", "T1")
        .await
        .unwrap();
    assert_eq!(
        events(&stage, &["dead"]).await,
        (true, "dead-lettered events: 0\n".to_owned())
    );

    let store = dead_lettered(&stage).await;

    assert!(
        operations(&stage, "/metrics")
            .await
            .contains("paymux_events_dead 1\n")
    );
    let (done, listed) = events(&stage, &["dead", "--merchant", "M1001"]).await;
    let line = format!("{} ORDER_CLOSED merchant=M1001 sequence=1 ", first.event_id);
    assert!(
        done && listed.starts_with(&line) && listed.ends_with("dead-lettered events: 1\n"),
        "{listed}"
    );
    assert_eq!(
        events(&stage, &["dead", "--merchant", "M2002"]).await.1,
        "dead-lettered events: 0\n"
    );
    let (done, printed) = events(&stage, &["resend"]).await;
    assert!(!done && printed.contains("--all"), "{printed}");
    let (_, printed) = events(&stage, &["resend", "--merchant", "M2002"]).await;
    assert_eq!(printed, "resent: 0\n");
    assert_eq!(
        events(&stage, &["resend", "--all"]).await,
        (true, "resent: 1\n".to_owned())
    );

    until(&store, "state = 'DELIVERED' AND tries = 1").await;
    let again = shop
        .wait_for_notification("ORDER_CLOSED", "T1")
        .await
        .unwrap();
    assert_eq!(
        (&again.event_id, &again.body),
        (&first.event_id, &first.body)
    );
    assert!(
        operations(&stage, "/metrics")
            .await
            .contains("paymux_events_dead 0\n")
    );
    let fetch = json!({ "merchantId": "M1001" });
    let fetched = shop.client.post("/v1/events", &fetch).await.unwrap();
    assert_eq!(
        fetched.json["events"],
        json!([{ "sequence": 1, "event": first.fields }])
    );

    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    assert_eq!(
        records(&store),
        [
            format!("local:uid={uid} events of M2002 resent=0"),
            format!("local:uid={uid} events resent=1"),
        ]
    );
    open.close().await.unwrap();
}
