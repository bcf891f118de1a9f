//! Audit chains of several processes: how each begins and ends, and that whatever is removed from
//! one, moved between two, or written anew, is found and named with chain and record.

use paymux::domain::audit::{AuditEntry, ChainLink};
use paymux::domain::change::{Change, ConfigurationChange};
use paymux::domain::identifiers::Timestamp;
use paymux::store::{Committed, Store};
use rusqlite::{Connection, params};

use super::super::Stores;
use super::super::builders::{at, done, paid, private, terms};
use super::super::embedded::EmbeddedStores;
use super::super::refunds::{refunded, reserve};
use super::{look, spoil};

/// Three processes: the first pays two orders and stops; the second reserves a refund of the first
/// order and dies; the third moves that refund and stops.
async fn three_processes() -> EmbeddedStores {
    let before = EmbeddedStores::new();
    let store = before.open();
    let order = paid(&store, 1, "harbour", terms(1)).await;
    paid(&store, 2, "harbour", terms(2)).await;
    drop(store);
    let store = before.open();
    let order = done(&store, reserve(&store, &order, 1, "B1", 500)).await;
    let stores = copied_alive(&before);
    drop(store);
    let store = stores.open();
    done(&store, refunded(&order, 500)).await;
    drop(store);
    stores
}

/// The file as a process that dies now leaves it.
fn copied_alive(stores: &EmbeddedStores) -> EmbeddedStores {
    let copy = EmbeddedStores::new();
    for ending in ["", "-wal"] {
        let path = |of: &EmbeddedStores| format!("{}{ending}", of.file().display());
        private(path(&copy).as_ref(), &std::fs::read(path(stores)).unwrap());
    }
    copy
}

/// Records something that is not about an order.
async fn record(store: &Store, s: i64) {
    let audit_entry = AuditEntry {
        actor: "local".into(),
        action: "configuration.reload".into(),
        object: "configuration".into(),
        version: 0,
        result: "accepted".into(),
    };
    let configured = ConfigurationChange {
        version: None,
        endpoints: Vec::new(),
        accounts: Vec::new(),
        audit_entry,
    };
    let change = Change::configured(configured, at(s));
    assert_eq!(store.changes.commit(&change).await, Ok(Committed::Done));
}

/// Every record: chain, number and action.
fn records(stores: &EmbeddedStores) -> Vec<String> {
    let sql = "SELECT chain_id || ' ' || seq || ' ' || action FROM audit ORDER BY chain_id, seq";
    let file = stores.look();
    let mut statement = file.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// L1, S1: each process has a chain of its own, from `chain.open` to `chain.close`; the next one
/// closes that of a dead process before it writes, and names its last record.
#[tokio::test]
async fn each_process_has_a_chain_that_is_opened_and_closed() {
    let stores = three_processes().await;
    let expected = [
        "1.1.0 1 chain.open",
        "1.1.0 2 order.place",
        "1.1.0 3 order.paid",
        "1.1.0 4 order.place",
        "1.1.0 5 order.paid",
        "1.1.0 6 audit.heads",
        "1.1.0 7 chain.close",
        "1.2.0 1 chain.open",
        "1.2.0 2 audit.heads",
        "1.2.0 3 refund.reserve",
        "1.2.0 4 chain.close",
        "1.3.0 1 chain.open",
        "1.3.0 2 audit.heads",
        "1.3.0 3 refund.move",
        "1.3.0 4 audit.heads",
        "1.3.0 5 chain.close",
    ];
    assert_eq!(records(&stores), expected);
    let text = |sql| {
        let row = stores.look().query_row(sql, [], |row| row.get(0));
        row.unwrap()
    };
    let by: String = text("SELECT result FROM audit WHERE chain_id = '1.2.0' AND seq = 4");
    assert_eq!(by, "by=1.3.0");
    let heads: String = text("SELECT result FROM audit WHERE chain_id = '1.3.0' AND seq = 2");
    assert!(
        heads.starts_with("opened=3 1.2.0=4 1.3.0=1 sha256="),
        "{heads}"
    );
    let (report, breaches) = look(&stores);
    assert_eq!(breaches, []);
    assert_eq!((report.chains, report.records), (3, 16));
    let heads: Vec<_> = report
        .heads
        .iter()
        .map(|(name, seq, _)| (&**name, *seq))
        .collect();
    assert_eq!(heads, [("1.3.0", 5)], "the others are named by it");
}

/// L1: a process that records nothing has no chain, and the one before it stays the last.
#[tokio::test]
async fn a_process_that_records_nothing_has_no_chain() {
    let stores = EmbeddedStores::new();
    drop(stores.open());
    record(&stores.open(), 1).await;
    drop(stores.open());
    record(&stores.open(), 2).await;
    let (report, breaches) = look(&stores);
    assert_eq!((report.chains, breaches), (2, vec![]));
    assert_eq!(records(&stores)[4], "1.4.0 1 chain.open");
}

/// L1: while there are records, the heads of chains are recorded once a minute, also after a clock
/// was set back.
#[tokio::test]
async fn heads_are_recorded_once_a_minute() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    for s in [0, 30, 59, 60, 90, 119, 300, 301, 10, 20] {
        record(&store, s).await;
    }
    let sql = "SELECT GROUP_CONCAT(at - ?1) FROM (SELECT at FROM audit WHERE action = 'audit.heads'
        ORDER BY seq)";
    let start = at(0).ms();
    let heads: String = stores
        .look()
        .query_row(sql, [start], |row| row.get(0))
        .unwrap();
    assert_eq!(heads, "60000,300000,10000");
    drop(store);
    let (_, breaches) = look(&stores);
    assert_eq!(breaches, []);
}

/// Writes this chain's hashes anew, as somebody would who knows how, numbered from 1.
fn forge(file: &Connection, chain: &str) {
    let read = "SELECT seq, at, actor, action, object, version, result FROM audit
        WHERE chain_id = ?1 ORDER BY seq";
    let mut statement = file.prepare(read).unwrap();
    let rows = statement.query_map([chain], |row| {
        let audit_entry = AuditEntry {
            actor: row.get(2)?,
            action: row.get::<_, String>(3)?.into(),
            object: row.get(4)?,
            version: row.get::<_, i64>(5)?.try_into().unwrap(),
            result: row.get(6)?,
        };
        Ok((row.get::<_, i64>(0)?, row.get(1)?, audit_entry))
    });
    let rows: Vec<(i64, i64, AuditEntry)> = rows.unwrap().map(Result::unwrap).collect();
    let write = "UPDATE audit SET seq = ?3, prev = ?4, hash = ?5 WHERE chain_id = ?1 AND seq = ?2";
    let mut link = ChainLink::START;
    for (seq, moment, audit_entry) in rows {
        let prev = link.hash;
        link = link.follow(chain, &audit_entry, Timestamp::from_ms(moment));
        let now = i64::try_from(link.seq).unwrap();
        file.execute(write, params![chain, seq, now, prev, link.hash])
            .unwrap();
    }
}

/// What is done to the file, the chains then forged to be whole in themselves, and each breach that
/// must be found: rule, and part of its text.
type Damage = (
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

const DAMAGES: &[Damage] = &[
    // A record.
    ("DELETE FROM audit WHERE chain_id = '1.1.0' AND seq = 3", &[],
        &[("L1", "1.1.0 4: expected record 3"), ("L2", "after version 1 in chain 1.1.0 record 2"),
          ("L2", "version 3 in chain 1.2.0 record 3")]),
    ("DELETE FROM audit WHERE chain_id = '1.1.0' AND seq = 3", &["1.1.0"],
        &[("L1", "1.1.0 7: expected this record, which audit.heads in 1.2.0 2 names"),
          ("L1", "1.1.0 5: expected records 1.1.0 5 with digest")]),
    ("DELETE FROM audit WHERE chain_id = '1.1.0' AND seq = 1", &["1.1.0"],
        &[("L1", "1.1.0 1: expected chain.open as the first record")]),
    // A tail: of a chain that was named; of the newest one, which is found only where an order
    // misses a record.
    ("DELETE FROM audit WHERE chain_id = '1.2.0' AND seq = 4", &[],
        &[("L1", "1.2.0 4: expected this record, which audit.heads in 1.3.0 2 names"),
          ("L1", "1.2.0 3: expected chain.close"), ("L1", "1.2.0 3: expected its last record named")]),
    ("DELETE FROM audit WHERE chain_id = '1.3.0' AND seq = 5", &[], &[]),
    ("DELETE FROM audit WHERE chain_id = '1.3.0' AND seq >= 3", &[],
        &[("L2", "versions 1 to 4, its present one; found the last is version 3 in chain 1.2.0")]),
    // A chain whole.
    ("DELETE FROM audit WHERE chain_id = '1.1.0'", &[],
        &[("L1", "1.1.0: expected the records of this chain"), ("L1", "1.1.0 7: expected this record"),
          ("L2", "an audit record of version 1, after none before it; found version 3")]),
    ("DELETE FROM audit WHERE chain_id = '1.1.0'; UPDATE nodes SET lanes = 0 WHERE epoch = 1", &[],
        &[("L1", "audit: expected 3 audit chains, as 1.3.0 2 says; found 2"),
          ("L1", "1.1.0 7: expected this record")]),
    ("DELETE FROM audit WHERE chain_id = '1.3.0'", &[],
        &[("L1", "1.3.0: expected the records of this chain"), ("L2", "versions 1 to 4")]),
    ("DELETE FROM audit WHERE chain_id = '1.3.0'; UPDATE nodes SET lanes = 0 WHERE epoch = 3", &[],
        &[("L2", "versions 1 to 4, its present one; found the last is version 3 in chain 1.2.0")]),
    // Records of two chains, exchanged.
    ("UPDATE audit SET chain_id = 'x' WHERE chain_id = '1.2.0' AND seq = 3;
      UPDATE audit SET chain_id = '1.2.0' WHERE chain_id = '1.3.0' AND seq = 3;
      UPDATE audit SET chain_id = '1.3.0' WHERE chain_id = 'x'", &[],
        &[("L1", "1.2.0 3: expected previous hash"), ("L1", "1.2.0 3: expected content"),
          ("L1", "1.3.0 3: expected previous hash"), ("L1", "1.3.0 3: expected content")]),
    ("UPDATE audit SET chain_id = 'x' WHERE chain_id = '1.2.0' AND seq = 3;
      UPDATE audit SET chain_id = '1.2.0' WHERE chain_id = '1.3.0' AND seq = 3;
      UPDATE audit SET chain_id = '1.3.0' WHERE chain_id = 'x'", &["1.2.0", "1.3.0"],
        &[("L1", "1.3.0 2: expected records 1.2.0 4, 1.3.0 1 with digest"),
          ("L1", "they were written anew")]),
    // A version: changed, left out, given twice, taken away.
    ("UPDATE audit SET version = 2 WHERE chain_id = '1.2.0' AND seq = 3", &[],
        &[("L1", "1.2.0 3: expected content"), ("L2", "found version 2 in chain 1.2.0 record 3")]),
    ("UPDATE audit SET version = 5 WHERE chain_id = '1.3.0' AND seq = 3", &["1.3.0"],
        &[("L2", "version 4, after version 3 in chain 1.2.0 record 3; found version 5 in chain 1.3.0 record 3")]),
    ("UPDATE audit SET version = 3 WHERE chain_id = '1.3.0' AND seq = 3", &["1.3.0"],
        &[("L2", "found version 3 in chain 1.3.0 record 3"), ("L2", "versions 1 to 4")]),
    ("UPDATE audit SET version = 0 WHERE chain_id = '1.3.0' AND seq = 3", &["1.3.0"],
        &[("L2", "found version 0 in chain 1.3.0 record 3")]),
    // What does not belong there.
    ("INSERT INTO audit SELECT '1.1.0', 8, at, actor, action, object, result, prev, hash, version
        FROM audit WHERE chain_id = '1.2.0' AND seq = 2", &["1.1.0"],
        &[("L1", "1.1.0 8: expected no record after chain.close"),
          ("L1", "1.1.0 8: expected its last record named")]),
    ("INSERT INTO audit SELECT '1.9.0', seq, at, actor, action, object, result, prev, hash, version
        FROM audit WHERE chain_id = '1.1.0' AND action NOT LIKE 'order.%'", &["1.9.0"],
        &[("L1", "1.9.0 3: expected only chains that nodes opened")]),
    ("UPDATE audit SET result = 'opened=3 sha256=00' WHERE chain_id = '1.3.0' AND seq = 2", &["1.3.0"],
        &[("L1", "1.3.0 2: expected a list of heads")]),
];

/// L1, L2, K4: a record, a tail or a chain that was removed, records exchanged between chains, and
/// a changed version are found, with chain and record, however carefully it was done.
#[tokio::test]
async fn each_damage_to_chains_is_named_with_its_place() {
    let mut missed = Vec::new();
    for (damage, forged, expected) in DAMAGES {
        let stores = three_processes().await;
        let file = stores.look();
        spoil(&file, damage);
        for chain in *forged {
            forge(&file, chain);
        }
        drop(file);
        let (_, breaches) = look(&stores);
        if expected.is_empty() && !breaches.is_empty() {
            missed.push(format!("{damage}: expected nothing, found {breaches:#?}"));
        }
        for (rule, part) in *expected {
            let is_found = breaches.iter().any(|breach| {
                let text = format!(
                    "{}: expected {}; found {}",
                    breach.object, breach.expected, breach.found
                );
                breach.rule == *rule && text.contains(part)
            });
            if !is_found {
                missed.push(format!(
                    "{damage}, forging {forged:?}: no {rule} {part:?} in {breaches:#?}"
                ));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}
