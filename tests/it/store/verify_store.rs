//! `paymux audit verify` on good and on damaged files: each kind of damage is reported under the
//! rule it breaks.

mod chains;

use std::path::Path;
use std::process::ExitCode;

use paymux::command::audit::{VerifyArgs, verify_store};
use paymux::domain::change::ChangeCause;
use paymux::domain::evidence::{EvidenceSource, Finding, Reason};
use paymux::domain::verification::{Breach, Report};
use paymux::store::{OpenError, StoreUrl, open_to_verify};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::Stores;
use super::builders::{accepted, apply, at, done, paid, place, start, succeeded, terms};
use super::embedded::EmbeddedStores;
use super::refunds::{failed, refunded, reserve};

/// Every kind of row: two paid orders, one of them with a partial, a rejected and a failed refund;
/// an open order; an order paid after it was refused, and paid again.
async fn busy() -> EmbeddedStores {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    paid(&store, 1, "harbour", terms(1)).await;
    let order = paid(&store, 2, "harbour", terms(2)).await;
    let order = done(&store, reserve(&store, &order, 1, "B1", 500)).await;
    let order = done(&store, refunded(&order, 500)).await;
    let order = done(&store, reserve(&store, &order, 2, "B2", 200)).await;
    let order = done(&store, failed(&order)).await;
    done(&store, reserve(&store, &order, 3, "B3", 100)).await;
    let open = done(&store, place(3, Some(start(3, "harbour", store.epoch)))).await;
    done(
        &store,
        apply(&open, 1, accepted(), EvidenceSource::Create, 3),
    )
    .await;
    let twice = done(&store, place(4, Some(start(4, "harbour", store.epoch)))).await;
    let refused = Finding::Refused(Reason::from_code("NO_MONEY"));
    let twice = done(&store, apply(&twice, 1, refused, EvidenceSource::Create, 4)).await;
    let again = start(5, "harbour", store.epoch);
    let again = twice
        .start_attempt(again, ChangeCause::Page, at(5))
        .unwrap();
    let twice = done(&store, again).await;
    let twice = done(
        &store,
        apply(&twice, 2, succeeded(), EvidenceSource::Callback, 6),
    )
    .await;
    done(
        &store,
        apply(&twice, 1, succeeded(), EvidenceSource::Query, 7),
    )
    .await;
    drop(store);
    stores
}

/// All breaches in this file.
pub(crate) fn verified(file: &Path) -> Result<(Report, Vec<Breach>), OpenError> {
    let mut breaches = Vec::new();
    let opened = open_to_verify(&StoreUrl::of_file(file.into()))?;
    let report = opened.verify(&mut |breach| breaches.push(breach))?;
    Ok((report, breaches))
}

fn look(stores: &EmbeddedStores) -> (Report, Vec<Breach>) {
    let (report, breaches) = verified(&stores.file()).unwrap();
    assert_eq!(report.breaches, u64::try_from(breaches.len()).unwrap());
    (report, breaches)
}

/// L1, L2, M1, M2, M3, N1, R1, O1: a store's own data verify, also while the store is writing.
#[tokio::test]
async fn what_the_store_wrote_holds() {
    let stores = busy().await;
    for beside in [None, Some(stores.open())] {
        let (report, breaches) = look(&stores);
        assert_eq!(breaches, []);
        assert_eq!((report.orders, report.attempts, report.refunds), (4, 5, 4));
        assert_eq!((report.entries, report.events), (9, 5));
        let heads: Vec<_> = report
            .heads
            .iter()
            .map(|(name, seq, _)| (&**name, *seq))
            .collect();
        assert_eq!(heads, [("1.1.0", report.records)]);
        let (currency, sums) = report.totals.each().next().unwrap();
        assert_eq!((currency, sums.recv), ("CNY", 4 * 1230 - 500));
        assert_eq!((sums.hold, sums.excess_payable, sums.loss), (100, 1230, 0));
        drop(beside);
    }
}

/// L1, L2, K1, K2, M1, M3, N1, N4, O1, O2, O3, A2, A4, A6, R1, R5, R9, Z3: each kind of damage is
/// reported, however carefully it was done.
#[tokio::test]
async fn each_damage_is_named() {
    let damages: &[(&str, &[&str])] = &[
("UPDATE audit SET result = 'PAID harbour=PAID ' WHERE seq = 3", &["L1"]),
("UPDATE audit SET prev = zeroblob(32) WHERE seq = 4", &["L1"]),
("DELETE FROM audit WHERE seq = 2", &["L1", "L2"]),
("DELETE FROM audit WHERE seq = 5", &["L1", "L2"]),
("DELETE FROM audit", &["L1", "L2"]),
("DELETE FROM journal WHERE entry_id = 1", &["M1", "M3"]),
("DELETE FROM journal WHERE kind = 'REFUND_RESERVED'", &["M1", "M3"]),
("UPDATE journal SET minor = minor + 1 WHERE entry_id = 2", &["M1", "M3"]),
("UPDATE journal SET credit = 'CASH:me' WHERE entry_id = 1", &["M1", "M2", "M3"]),
("INSERT INTO journal SELECT 99, at, kind, pay_order_no, debit, credit, minor, currency
            FROM journal WHERE entry_id = 1", &["M1", "M3"]),
("DROP INDEX events_by_merchant; UPDATE events SET sequence = 1 WHERE sequence = 2", &["FILE", "K1"]),
("DELETE FROM events WHERE sequence = 2", &["K1", "N1"]),
("DELETE FROM events WHERE sequence = 5", &["K1", "N1"]),
("UPDATE sequences SET last = 9", &["K1"]),
("UPDATE events SET version = version + 1 WHERE sequence = 1", &["N4"]),
("UPDATE events SET event_type = 'ORDER_CLOSED' WHERE sequence = 1", &["N1", "N4"]),
("UPDATE orders SET reserved_minor = 0 WHERE reserved_minor > 0", &["R1"]),
("UPDATE refunds SET minor = 1230 WHERE minor = 100;
            UPDATE refunds SET minor = 1230 WHERE minor = 200", &["R1", "M1"]),
("UPDATE refunds SET state = 'SUCCEEDED' WHERE minor = 100", &["M1", "M3", "N1", "L2"]),
("UPDATE refunds SET excess_minor = 5 WHERE minor = 500", &["R9", "R1", "M3"]),
("UPDATE refunds SET attempt_id = (SELECT min(attempt_id) FROM attempts) WHERE cause IS NOT NULL",
&["R5", "A4"]),
("DELETE FROM refunds WHERE cause IS NOT NULL", &["A4"]),
("UPDATE orders SET state = 'CLOSED', paying_attempt = NULL, due_at = NULL WHERE state = 'OPEN'",
&["O3", "N1", "L2"]),
("UPDATE attempts SET state = 'FAILED' WHERE attempt_id IN
            (SELECT paying_attempt FROM orders WHERE reserved_minor > 0)", &["O1", "R1", "M1", "L2"]),
("UPDATE attempts SET minor = 1, receipt_minor = 1 WHERE seq = 1", &["O2", "M1"]),
("DROP INDEX attempts_live; INSERT INTO attempts SELECT pay_order_no, 2,
            substr(attempt_id, 1, 26) || 'Z', institution_id, account_id, mode, minor, currency, state, stamp_at, stamp_nonce, sent_at,
            configuration, epoch, payment_action, receipt_minor, receipt_currency, institution_no, paid_at,
            late_success, ended_at, named, reason_sealed, asked, next_at, fee, receiver_id, product, pay_by, payer_sealed FROM attempts WHERE state = 'ACCEPTED'",
&["FILE", "A2", "L2"]),
("UPDATE orders SET due_at = NULL", &["A6"]),
("UPDATE events SET due_at = NULL", &["Z3"]),
("UPDATE orders SET version = version + 1", &["L2"]),
("DELETE FROM orders WHERE reserved_minor > 0", &["FILE", "K2", "L2"]),
("DELETE FROM attempts WHERE seq = 1 AND late_success", &["FILE", "K2", "R5", "L2"]),
("UPDATE orders SET state = 'LOST' WHERE state = 'OPEN'", &["READ"]),
];
    for (damage, rules) in damages {
        let stores = busy().await;
        let file = stores.look();
        spoil(&file, damage);
        drop(file);
        let (_, breaches) = look(&stores);
        for rule in *rules {
            let named = breaches.iter().any(|breach| breach.rule == *rule);
            assert!(named, "{damage}: expected {rule}, found {breaches:#?}");
        }
    }
}

/// Applies the damage with every constraint disabled, and leaves the schema unchanged.
fn spoil(file: &Connection, damage: &str) {
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)
        .unwrap();
    file.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;")
        .unwrap();
    let index = damage
        .strip_prefix("DROP INDEX ")
        .and_then(|rest| rest.split_once(';'));
    let Some((index, rest)) = index else {
        return file.execute_batch(damage).unwrap();
    };
    // The index stays in the schema, as after editing pages directly.
    let read = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE name = ?1";
    let row = file.query_row(read, [index], |row| {
        let texts: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        Ok((texts, row.get::<_, i64>(3)?, row.get::<_, String>(4)?))
    });
    let ([kind, name, table], root, sql) = row.unwrap();
    file.execute_batch("PRAGMA writable_schema = ON").unwrap();
    file.execute("DELETE FROM sqlite_schema WHERE name = ?1", [index])
        .unwrap();
    file.execute_batch("PRAGMA writable_schema = RESET")
        .unwrap();
    file.execute_batch(rest).unwrap();
    file.execute_batch("PRAGMA writable_schema = ON").unwrap();
    let write = "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql)
        VALUES (?1, ?2, ?3, ?4, ?5)";
    file.execute(write, rusqlite::params![kind, name, table, root, sql])
        .unwrap();
    file.execute_batch("PRAGMA writable_schema = RESET")
        .unwrap();
}

/// L1: a lost page is reported, and the rest is still verified.
#[tokio::test]
async fn a_lost_page_is_named() {
    let stores = busy().await;
    let look_in = stores.look();
    let sql = "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema
        WHERE name = 'journal'";
    let (page, size) = look_in
        .query_row(sql, [], |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?))
        })
        .unwrap();
    let [page, size] = [page, size].map(|number| usize::try_from(number).unwrap());
    look_in
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    drop(look_in);
    let mut bytes = std::fs::read(stores.file()).unwrap();
    bytes[(page - 1) * size..page * size].fill(0);
    std::fs::write(stores.file(), bytes).unwrap();
    let (report, breaches) = look(&stores);
    assert!(
        breaches.iter().any(|breach| breach.rule == "FILE"),
        "{breaches:#?}"
    );
    assert_eq!(report.heads.len(), 1, "the log was read all the same");
}

fn reported(args: &VerifyArgs) -> (ExitCode, String) {
    let mut out = Vec::new();
    let exit = verify_store(&mut out, args).unwrap();
    (exit, String::from_utf8(out).unwrap())
}

/// L1: the command reports a good file and exits with 0; it reports damage and what to do, and
/// exits with another code; with JSON output each line is JSON. It names no payer.
#[tokio::test]
async fn the_command_says_what_holds() {
    let stores = busy().await;
    let mut args = VerifyArgs {
        config: "nowhere".into(),
        file: Some(stores.file()),
        shown: 1,
        json: false,
    };
    let (exit, text) = reported(&args);
    assert_eq!(exit, ExitCode::SUCCESS, "{text}");
    for part in [
        "4 orders",
        "records in 1 chains",
        "head of chain 1.1.0",
        "all checks passed",
    ] {
        assert!(text.contains(part), "{text}");
    }
    stores.look().execute_batch("DELETE FROM journal").unwrap();
    let (exit, text) = reported(&args);
    assert_eq!(exit, ExitCode::from(3), "{text}");
    for part in ["M1   P", "more; --shown", "Do not repair"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains(super::builders::MOBILE), "{text}");
    args.json = true;
    let (_, text) = reported(&args);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["rule"], "M1");
    assert!(lines[1]["breaches"].as_u64().unwrap() > 1);
    args.file = Some(stores.file().with_file_name("missing.db"));
    assert!(verify_store(&mut Vec::new(), &args).is_err());
}
