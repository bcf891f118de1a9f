//! Files of earlier releases: their plain text is sealed once, and none of it stays readable; and
//! what an earlier process left unfinished.

use paymux::domain::audit::{AuditEntry, ChainLink};
use paymux::domain::identifiers::{AttemptId, EventId, PayOrderNo, RefundOrderNo, Timestamp};
use paymux::domain::verification::Breach;
use paymux::seal::SealBinding;
use paymux::store::{LeaseKind, LeasedWork, OrderKey, Store};
use rusqlite::{Connection, params};
use serde_json::json;

use super::Stores;
use super::builders::{
    MOBILE, at, done, draw, lease, merchant, paid, place, private, start, terms,
};
use super::embedded::EmbeddedStores;
use super::explained::explained;
use super::refunds::reserve;
use super::verify_store::verified;

const BEFORE: [&str; 6] = [
    include_str!("../../../src/store/schema/sqlite/0001_orders.sql"),
    include_str!("../../../src/store/schema/sqlite/0002_refunds.sql"),
    include_str!("../../../src/store/schema/sqlite/0003_reach.sql"),
    include_str!("../../../src/store/schema/sqlite/0004_dead_events.sql"),
    include_str!("../../../src/store/schema/sqlite/0005_incidents.sql"),
    include_str!("../../../src/store/schema/sqlite/0006_trails.sql"),
];

/// Personal data in the plain columns of that release.
const PLAIN: [&str; 4] = ["13987650002", "13987650003", "13987650004", "13987650005"];

/// An order's sealed fields in the format of an earlier release.
pub(super) fn sealed_order(no: &str) -> Vec<u8> {
    let private = json!({ "mobile": MOBILE, "merchant_name": "茶馆", "goods_no": null,
        "goods_name": null, "goods_description": null, "attach": null,
        "page_secret": "09".repeat(16) });
    let (table, column) = ("orders", "sealed");
    let place = SealBinding {
        table,
        row: no,
        column,
    };
    let sealed = EmbeddedStores::seal().seal(place, private.to_string().as_bytes());
    sealed.unwrap().into_bytes()
}

fn written(file: &Connection, no: &PayOrderNo) {
    let (attempt, refund) = (
        AttemptId::mint(at(1), draw(1)),
        RefundOrderNo::mint(at(1), draw(1)),
    );
    for sql in BEFORE {
        file.execute_batch(sql).unwrap();
    }
    file.pragma_update(None, "user_version", 6).unwrap();
    file.execute(
        "INSERT INTO orders VALUES (?1, 'M1', 'T1', '20270115', 1230, 'CNY', 'AGGREGATED',
            'PASSWORD_PAY', 'https://shop.example/paid?phone=13987650002',
            'https://shop.example/events?phone=13987650003', 15, NULL, NULL, x'00', ?2, 1, 2,
            'OPEN', NULL, 1, NULL, 5, 0, 0, 0)",
        params![no.as_str(), sealed_order(no.as_str())],
    )
    .unwrap();
    file.execute(
        "INSERT INTO attempts VALUES (?1, 1, ?2, 'harbour', 'ACC-1', 'WEBVIEW', 1230, 'CNY',
            'FAILED', 1, zeroblob(10), 1, 1, 1, NULL, NULL, NULL, NULL, NULL, NULL,
            'call-13987650004', 0, 1)",
        params![no.as_str(), attempt.as_str()],
    )
    .unwrap();
    file.execute(
        "INSERT INTO refunds (refund_order_no, pay_order_no, seq, attempt_id, minor, currency, state,
            merchant_id, request_no, notice_url, created, waits_until, epoch, reason, late_success,
            excess_minor)
         VALUES (?1, ?2, 1, ?3, 100, 'CNY', 'FAILED', 'M1', 'B1',
            'https://shop.example/refunds?phone=13987650005', 1, 1, 1, 'NO_FUNDS', 0, 0)",
        params![refund.as_str(), no.as_str(), attempt.as_str()],
    )
    .unwrap();
    let event = EventId::of(no, 'C', 2);
    let event = event.as_str();
    let (table, row, column) = ("events", event, "sealed");
    let body = EmbeddedStores::seal().seal(SealBinding { table, row, column }, b"{}");
    file.execute(
        "INSERT INTO events VALUES (?1, 'M1', 1, 'ORDER_CLOSED', ?2, 2,
            'https://shop.example/events?phone=13987650003', 'https://shop.example', ?3, 1,
            'PENDING', 1, NULL, 0, 0)",
        params![event, no.as_str(), body.unwrap().as_bytes()],
    )
    .unwrap();
}

/// D1, D2, R-6.5-1c: URLs and institutions' reasons that an earlier release stored in plain text
/// are sealed at the first start, read back unchanged, and no longer in the file or its log.
#[tokio::test]
async fn what_was_legible_is_sealed_once() {
    let stores = EmbeddedStores::new();
    let no = PayOrderNo::mint(at(1), draw(1));
    let file = stores.look();
    written(&file, &no);
    drop(file);
    let store = stores.open();
    let key = OrderKey::PayOrderNo(merchant("M1"), no.clone());
    let order = store.orders.order(&key).await.unwrap().unwrap();
    let shop = "https://shop.example";
    assert_eq!(
        &*order.terms.return_url,
        format!("{shop}/paid?phone=13987650002")
    );
    let notice_url = order.notice_url.as_deref().unwrap();
    assert_eq!(notice_url, format!("{shop}/events?phone=13987650003"));
    let reason = order.attempts[0].reason.as_ref().unwrap();
    assert_eq!(reason.as_str(), "call-13987650004");
    let refund = &order.refunds[0];
    assert_eq!(refund.reason.as_ref().unwrap().as_str(), "NO_FUNDS");
    let own = refund.request().unwrap().notice_url.as_deref().unwrap();
    assert_eq!(own, format!("{shop}/refunds?phone=13987650005"));
    let leases = lease(&store, LeaseKind::Events, at(1), 10).await.unwrap();
    let LeasedWork::Event(event, _) = &leases[0].of else {
        panic!("no event");
    };
    assert_eq!(event.destination.as_deref(), Some(notice_url));
    drop(store);
    for beside in ["", "-wal"] {
        let mut path = stores.file().into_os_string();
        path.push(beside);
        let bytes = std::fs::read(path).unwrap_or_default();
        for plain in PLAIN {
            let is_there = bytes
                .windows(plain.len())
                .any(|part| part == plain.as_bytes());
            assert!(!is_there, "{plain} is legible in the file{beside}");
        }
    }
    assert_eq!(stores.open().orders.order(&key).await.unwrap(), Some(order));
}

/// A6, R4: queries that an earlier release made still count, so that an upgrade does not resend
/// anything sooner.
#[tokio::test]
async fn an_upgrade_sends_no_refund_faster() {
    let stores = EmbeddedStores::new();
    let no = PayOrderNo::mint(at(1), draw(1));
    let file = stores.look();
    written(&file, &no);
    file.execute_batch("UPDATE refunds SET state = 'UNKNOWN'; UPDATE orders SET tries = 7")
        .unwrap();
    drop(file);
    let store = stores.open();
    let key = OrderKey::PayOrderNo(merchant("M1"), no.clone());
    let order = store.orders.order(&key).await.unwrap().unwrap();
    assert_eq!(order.refunds[0].schedule.asked, 7);
    assert_eq!(order.attempts[0].schedule.asked, 0, "it is over");
}

/// M4: fees that an earlier release stored in minor units read back as the same decimals.
#[tokio::test]
async fn an_upgrade_keeps_fees() {
    for (minor, currency, fee) in [
        (0, "CNY", "0.00"),
        (5, "CNY", "0.05"),
        (1_234, "USD", "12.34"),
        (1_230, "CNY", "12.30"),
        (7, "JPY", "7"),
    ] {
        let stores = EmbeddedStores::new();
        let no = PayOrderNo::mint(at(1), draw(1));
        let file = stores.look();
        written(&file, &no);
        file.execute(
            "UPDATE attempts SET currency = ?2, receipt_minor = 1230, receipt_currency = ?2,
                paid_at = 1, fee_minor = ?1",
            params![minor, currency],
        )
        .unwrap();
        drop(file);
        let key = OrderKey::PayOrderNo(merchant("M1"), no);
        let order = stores.open().orders.order(&key).await.unwrap().unwrap();
        let receipt = order.attempts[0].receipt.as_ref().unwrap();
        assert_eq!(receipt.fee.unwrap().to_string(), fee, "{minor} {currency}");
    }
}

/// An intent of a process that is gone.
async fn left_behind() -> EmbeddedStores {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    let first = Some(start(1, "harbour", store.epoch));
    done(&store, place(1, first)).await;
    stores
}

async fn orphaned(store: &Store) -> usize {
    let leases = lease(store, LeaseKind::OrphanedCalls, at(31), 10).await;
    leases.unwrap().len()
}

/// S1: a live node's calls are not recovered; once it has expired, another node recovers them.
#[tokio::test]
async fn only_what_an_expired_node_left_is_taken_over() {
    let stores = left_behind().await;
    let store = stores.open();
    for (state, found) in [("LIVE", 0), ("EXPIRED", 1)] {
        let sql = "UPDATE nodes SET state = ?1 WHERE epoch < ?2";
        let changed = stores.look().execute(sql, (state, store.epoch.0));
        assert_eq!(changed, Ok(1));
        assert_eq!(orphaned(&store).await, found, "{state}");
    }
}

/// S1: processes of releases without registered nodes count as gone, and their calls are recovered.
#[tokio::test]
async fn what_was_left_before_nodes_were_registered_is_taken_over() {
    let stores = left_behind().await;
    let before = "DROP TABLE nodes; DROP TABLE accounts; DROP INDEX attempts_ended;
        CREATE INDEX attempts_ended ON attempts (institution_id, ended_at)
            WHERE ended_at IS NOT NULL;
        ALTER TABLE attempts DROP COLUMN receiver_id; PRAGMA user_version = 16;";
    let file = stores.look();
    one_chain(&file);
    file.execute_batch(before).unwrap();
    drop(file);
    let store = stores.open();
    assert_eq!(orphaned(&store).await, 1);
    // R5: an account keeps the number that its attempts were begun with.
    let guard = store.configuration.dependents(at(0)).await.unwrap();
    let numbers: Vec<_> = guard.receivers.iter().collect();
    assert_eq!(numbers.len(), 1);
    assert_eq!(numbers[0].0.1.as_str(), numbers[0].1.as_str());
}

/// Rewrites the audit log as a release with a single chain wrote it: without records of the chain
/// itself, without versions, and with the hashes of that time.
fn one_chain(file: &Connection) {
    file.execute_batch(
        "DELETE FROM audit WHERE actor = 'store'; UPDATE audit SET chain_id = 'old';
         ALTER TABLE audit DROP COLUMN version; ALTER TABLE nodes DROP COLUMN lanes;
         ALTER TABLE attempts DROP COLUMN product; ALTER TABLE attempts DROP COLUMN pay_by;
         ALTER TABLE attempts DROP COLUMN payer_sealed;
         ALTER TABLE orders DROP COLUMN chosen_institution;
         ALTER TABLE refunds RENAME COLUMN staff TO operator;
         ALTER TABLE journal RENAME COLUMN kind TO happening; PRAGMA user_version = 18;",
    )
    .unwrap();
    let read = "SELECT seq, at, actor, action, object, result FROM audit ORDER BY seq";
    let mut statement = file.prepare(read).unwrap();
    let rows = statement.query_map([], |row| {
        let audit_entry = AuditEntry {
            actor: row.get(2)?,
            action: row.get::<_, String>(3)?.into(),
            object: row.get(4)?,
            version: 0,
            result: row.get(5)?,
        };
        Ok((row.get::<_, i64>(0)?, row.get(1)?, audit_entry))
    });
    let rows: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
    let mut link = ChainLink::START;
    for (seq, moment, audit_entry) in rows {
        let prev = link.hash;
        link = link.follow("main", &audit_entry, Timestamp::from_ms(moment));
        let write = "UPDATE audit SET chain_id = 'main', seq = ?2, prev = ?3, hash = ?4
            WHERE chain_id = 'old' AND seq = ?1";
        let now = i64::try_from(link.seq).unwrap();
        file.execute(write, params![seq, now, prev, link.hash])
            .unwrap();
    }
}

/// L1, L2, K4: the records of a release with a single chain verify after the upgrade as the first
/// chain, which is closed; orders go on in the chains after it and are explained whole; a record
/// removed from it, or its end, is found.
#[tokio::test]
async fn the_single_chain_of_an_earlier_release_is_the_first() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    let order = paid(&store, 1, "harbour", terms(1)).await;
    paid(&store, 2, "harbour", terms(2)).await;
    drop(store);
    one_chain(&stores.look());
    let store = stores.open();
    let change = reserve(&store, &order, 1, "B1", 500);
    done(&store, change).await;
    drop(store);
    let (report, breaches) = verified(&stores.file()).unwrap();
    assert_eq!(breaches, []);
    assert_eq!((report.chains, report.records), (2, 10));
    let named = order.no.as_str();
    let read = explained(&stores, EmbeddedStores::seal(), named).unwrap();
    let entries = read.unwrap().audit_entries;
    let versions: Vec<_> = entries.iter().map(|(_, entry)| entry.version).collect();
    assert_eq!(versions, [0, 0, 3]);
    for (damage, rule, place) in [
        (
            "DELETE FROM audit WHERE chain_id = 'main' AND seq = 2",
            "L1",
            "main 3",
        ),
        (
            "DELETE FROM audit WHERE chain_id = 'main' AND seq = 5",
            "L1",
            "main 5",
        ),
        ("DELETE FROM audit WHERE chain_id = 'main'", "L1", "main 5"),
        ("DELETE FROM audit WHERE chain_id = 'main'", "L1", "audit"),
        ("DELETE FROM audit WHERE chain_id = 'main'", "L2", named),
        (
            "UPDATE audit SET version = 1 WHERE chain_id = 'main' AND seq = 2",
            "L2",
            named,
        ),
    ] {
        let copy = EmbeddedStores::new();
        private(&copy.file(), &std::fs::read(stores.file()).unwrap());
        copy.look().execute_batch(damage).unwrap();
        let (_, breaches) = verified(&copy.file()).unwrap();
        let is_found = |one: &Breach| one.rule == rule && one.object == place;
        assert!(breaches.iter().any(is_found), "{damage}: {breaches:#?}");
    }
}
