//! Guarantees of the embedded store only: its file, its key and its single process.

mod counted;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use paymux::domain::attempt::Epoch;
use paymux::domain::audit::{AuditEntry, ChainLink};
use paymux::domain::change::{Change, ChangeCause};
use paymux::domain::evidence::{Ambiguity, EvidenceSource, Finding};
use paymux::domain::identifiers::{InstitutionId, Timestamp};
use paymux::domain::order::{CloseReason, Order};
use paymux::seal::Seal;
use paymux::store::ledger::ReconciliationLedger;
use paymux::store::nonce_cache::NonceCache;
use paymux::store::notifying::{NotifyingChanges, WorkerSignals};
use paymux::store::{
    ArchiveOutcome, Committed, Dependents, InboxMessage, InboxStatus, LeaseKind, OnCommit, OnFatal,
    OpenError, OpenedStore, OrderKey, Store, StoreError, open, open_for_all,
};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::JoinSet;

use counted::CountingChanges;

use super::Stores;
use super::builders::{
    MOBILE, accepted, apply, at, done, institution, lease, nonce, opening, paid, place, private,
    request, start, succeeded, terms,
};
use super::older::sealed_order;

/// A temporary folder for one database.
pub(crate) struct EmbeddedStores {
    folder: TempDir,
}

impl EmbeddedStores {
    pub(crate) fn new() -> Self {
        TempDir::new().map(|folder| Self { folder }).unwrap()
    }

    /// The seal it is opened with.
    pub(super) fn seal() -> Seal {
        Seal::new("2027", [("2027".to_owned(), [1; 32])].into(), [2; 32]).unwrap()
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("paymux.db")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("paymux.db-wal")
    }

    pub(super) fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.log()).unwrap().len()
    }

    /// A direct connection to the file, as an auditor would use.
    pub(super) fn look(&self) -> Connection {
        if !self.file().exists() {
            private(&self.file(), &[]);
        }
        Connection::open(self.file()).unwrap()
    }
}

impl Stores for EmbeddedStores {
    fn open(&self) -> Arc<Store> {
        open_with(&self.file(), 1, 2).unwrap()
    }
}

impl EmbeddedStores {
    /// The store with the handles for every user.
    pub(super) fn open_for_all(&self) -> OpenedStore {
        let on_fatal: OnFatal = Box::new(|why| panic!("{why}"));
        let on_commit: OnCommit = Box::new(|_, _| ());
        let seal = Arc::new(Self::seal());
        open_for_all(&self.file(), seal, on_fatal, on_commit, Duration::ZERO).unwrap()
    }

    /// The store, and its handle for reconciliation.
    pub(super) fn open_both(&self) -> (Arc<Store>, Arc<dyn ReconciliationLedger>) {
        let opened = self.open_for_all();
        (Arc::new(opened.store), opened.ledger)
    }
}

pub(super) fn open_with(path: &Path, key: u8, digest_key: u8) -> Result<Arc<Store>, OpenError> {
    let keys = BTreeMap::from([("2027".to_owned(), [key; 32])]);
    let seal = Seal::new("2027", keys, [digest_key; 32]).unwrap();
    let fatal = Box::new(|why: &str| panic!("{why}"));
    open(path, Arc::new(seal), fatal, Box::new(|_, _| ()))
}

fn count(file: &Connection, table: &str) -> u32 {
    let sql = format!("SELECT COUNT(*) FROM {table}");
    file.query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// Under load transactions start no more often than configured, however fast the disk is: jobs
/// arriving meanwhile are written together. The first does not wait.
#[tokio::test]
async fn what_comes_while_the_writer_rests_is_written_together() {
    let stores = EmbeddedStores::new();
    let (reported, received) = std::sync::mpsc::channel();
    let fatal = Box::new(|why: &str| panic!("{why}"));
    let on_commit = Box::new(move |changes, _| reported.send(changes).unwrap_or_default());
    let (seal, rest) = (Arc::new(EmbeddedStores::seal()), Duration::from_secs(1));
    let opened = open_for_all(&stores.file(), seal, fatal, on_commit, rest);
    let store = Arc::new(opened.unwrap().store);
    let placing = |n: u32| {
        let nonce = request(&format!("together-{n:08}"));
        Order::open(opening(n, terms(n)), None, nonce, at(30))
    };
    assert_eq!(store.changes.commit(&placing(1)).await, Ok(Committed::Done));
    let mut together = JoinSet::new();
    for n in 2..10 {
        let (store, placing) = (Arc::clone(&store), placing(n));
        together.spawn(async move { store.changes.commit(&placing).await });
    }
    let all = together.join_all().await;
    assert!(all.iter().all(|one| *one == Ok(Committed::Done)), "{all:?}");
    drop(store);
    assert_eq!(received.iter().collect::<Vec<_>>(), [1, 8]);
}

/// N1, L2, M1: rows, event, posting and audit record of a change are stored together, and nothing
/// of a change that failed.
#[tokio::test]
async fn a_change_is_written_whole() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    let order = paid(&store, 1, "harbour", terms(1)).await;
    let stale = order.clone();
    let file = stores.look();
    let tables = [
        "orders", "attempts", "events", "journal", "audit", "nonces", "payers",
    ];
    let counts: Vec<u32> = tables.iter().map(|table| count(&file, table)).collect();
    assert_eq!(counts, [1, 1, 1, 1, 2, 1, 1]);
    let again = Order::open(opening(2, terms(1)), None, request("again-....."), at(30));
    assert_eq!(store.changes.commit(&again).await, Ok(Committed::KeyTaken));
    let unchanged: Vec<u32> = tables.iter().map(|table| count(&file, table)).collect();
    assert_eq!(unchanged, counts);
    assert_eq!(stale.version, 2);
}

/// M2: the balances of all accounts of a currency sum to zero, and the merchants' accounts to what
/// was paid; a merchant's events are numbered consecutively.
#[tokio::test]
async fn the_books_balance() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    for n in 1..=3 {
        paid(&store, n, "harbour", terms(n)).await;
    }
    let file = stores.look();
    let sql = "SELECT SUM(minor), SUM(CASE WHEN account GLOB 'MERCH:*' THEN -minor END) FROM (
        SELECT debit AS account, minor FROM journal
        UNION ALL SELECT credit, -minor FROM journal) GROUP BY TRUE";
    let (balance, merchants): (i64, i64) = file
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!((balance, merchants), (0, 3 * 1230));
    let sequences: String = file
        .query_row("SELECT GROUP_CONCAT(sequence) FROM events", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(sequences, "1,2,3");
}

/// L1: recomputing the chain from the records gives every hash, across a restart.
#[tokio::test]
async fn the_audit_log_verifies() {
    let stores = EmbeddedStores::new();
    paid(&stores.open(), 1, "harbour", terms(1)).await;
    let store = stores.open();
    paid(&store, 2, "harbour", terms(2)).await;
    let file = stores.look();
    let mut statement = file
        .prepare(
            "SELECT seq, at, actor, action, object, result, prev, hash FROM audit ORDER BY seq",
        )
        .unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut link = ChainLink::START;
    while let Some(row) = rows.next().unwrap() {
        let audit_entry = AuditEntry {
            actor: row.get(2).unwrap(),
            action: row.get::<_, String>(3).unwrap().into(),
            object: row.get(4).unwrap(),
            result: row.get(5).unwrap(),
        };
        assert_eq!(row.get::<_, [u8; 32]>(6).unwrap(), link.hash);
        link = link.follow(
            "main",
            &audit_entry,
            Timestamp::from_ms(row.get(1).unwrap()),
        );
        assert_eq!(
            row.get::<_, i64>(0).unwrap(),
            i64::try_from(link.seq).unwrap()
        );
        assert_eq!(row.get::<_, [u8; 32]>(7).unwrap(), link.hash);
    }
    assert_eq!(link.seq, 4);
}

/// S1, L1: an altered last audit record aborts start-up.
#[tokio::test]
async fn an_altered_tail_stops_the_start() {
    let stores = EmbeddedStores::new();
    paid(&stores.open(), 1, "harbour", terms(1)).await;
    let altered = "UPDATE audit SET result = 'OPEN' WHERE seq = 2";
    assert_eq!(stores.look().execute(altered, []).unwrap(), 1);
    assert!(matches!(
        open_with(&stores.file(), 1, 2),
        Err(OpenError::Audit)
    ));
}

/// Q8: a change that the database rejects fails alone, even if others share its transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_change_fails_alone() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    let mut all = JoinSet::new();
    for n in 0..200 {
        let store = store.clone();
        // Number 150 reuses the attempt number of the previous one.
        let attempt = if n == 150 { 149 } else { n };
        let first = Some(start(attempt, "harbour", store.epoch));
        all.spawn(async move { (n, store.changes.commit(&place(n, first)).await) });
    }
    let mut refused = Vec::new();
    for (n, outcome) in all.join_all().await {
        match outcome {
            Ok(committed) => assert_eq!(committed, Committed::Done),
            Err(error) => refused.push((n, error)),
        }
    }
    assert_eq!(refused.len(), 1);
    assert!(matches!(refused[0], (149 | 150, StoreError::Corrupt(_))));
    let file = stores.look();
    for table in ["orders", "attempts", "audit", "nonces"] {
        assert_eq!(count(&file, table), 199, "{table}");
    }
    let last: u32 = file
        .query_row("SELECT MAX(seq) FROM audit", [], |row| row.get(0))
        .unwrap();
    assert_eq!(last, 199);
}

/// A2, O1, Z3: the database also rejects what the domain never decides.
#[tokio::test]
async fn the_file_is_a_second_line() {
    let stores = EmbeddedStores::new();
    paid(&stores.open(), 1, "harbour", terms(1)).await;
    done(
        &stores.open(),
        place(2, Some(start(2, "harbour", Epoch(1)))),
    )
    .await;
    let file = stores.look();
    for bad in [
        "UPDATE orders SET state = 'OPEN', due_at = 1 WHERE state = 'PAID'",
        "UPDATE orders SET paying_attempt = NULL WHERE state = 'PAID'",
        "UPDATE orders SET due_at = NULL WHERE state = 'OPEN'",
        "UPDATE orders SET version = 0",
        "UPDATE orders SET minor = 0",
        "UPDATE attempts SET receipt_minor = minor + 1 WHERE state = 'PAID'",
        "UPDATE attempts SET state = 'PAID' WHERE state = 'INTENT'",
        "UPDATE events SET due_at = NULL",
        "UPDATE orders SET reserved_minor = minor + 1 WHERE state = 'PAID'",
        "UPDATE orders SET reserved_minor = 1 WHERE state = 'OPEN'",
        "UPDATE journal SET minor = -minor",
        "INSERT INTO attempts SELECT pay_order_no, 2, 'A', institution_id, account_id, mode, minor,
            currency, state, stamp_at, stamp_nonce, sent_at, configuration, epoch, NULL, NULL, NULL,
            NULL, NULL, NULL, NULL, 0 FROM attempts WHERE state = 'INTENT'",
    ] {
        assert!(file.execute(bad, []).is_err(), "{bad}");
    }
}

/// D1, D2: neither the file nor its log contains readable personal data.
#[tokio::test]
async fn personal_data_are_nowhere_in_the_clear() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    let first = Some(start(1, "harbour", store.epoch));
    let order = done(&store, place(1, first)).await;
    done(
        &store,
        apply(&order, 1, accepted(), EvidenceSource::Create, 2),
    )
    .await;
    paid(&store, 2, "harbour", terms(2)).await;
    let raw = format!("mobile={MOBILE}").into_bytes();
    let message = InboxMessage {
        institution: institution("harbour"),
        status: InboxStatus::Genuine,
        raw,
        at: at(3),
    };
    assert_eq!(
        store.archive.archive(&message).await,
        Ok(ArchiveOutcome::New)
    );
    let mut bytes = std::fs::read(stores.file()).unwrap();
    bytes.extend(std::fs::read(stores.log()).unwrap());
    let holds = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(holds(order.no.as_str()), "the search finds what is there");
    for personal in [
        MOBILE,
        "茶馆",
        "乌龙茶",
        "table=4",
        "token=secret",
        "0909090909090909",
        "shop.example/notice",
        "shop.example:8443/events",
    ] {
        assert!(!holds(personal), "{personal}");
    }
}

/// D3: a store with data does not open with another key, and the data stay unchanged.
#[tokio::test]
async fn a_wrong_key_opens_nothing() {
    let stores = EmbeddedStores::new();
    let order = done(&stores.open(), place(1, None)).await;
    for (key, digest_key) in [(9, 2), (1, 9)] {
        let wrong = open_with(&stores.file(), key, digest_key);
        assert!(matches!(wrong, Err(OpenError::WrongKey(_))));
    }
    let key = OrderKey::PayOrderNo(order.terms.merchant.clone(), order.no.clone());
    assert_eq!(stores.open().orders.order(&key).await, Ok(Some(order)));
}

/// D2: a previous key still opens what it sealed.
#[tokio::test]
async fn keys_can_be_changed() {
    let stores = EmbeddedStores::new();
    let order = done(&stores.open(), place(1, None)).await;
    let keys = BTreeMap::from([("2027".to_owned(), [1; 32]), ("2028".to_owned(), [5; 32])]);
    let seal = Seal::new("2028", keys, [2; 32]).unwrap();
    let fatal = Box::new(|why: &str| panic!("{why}"));
    let store = open(&stores.file(), Arc::new(seal), fatal, Box::new(|_, _| ())).unwrap();
    let key = OrderKey::PayOrderNo(order.terms.merchant.clone(), order.no.clone());
    assert_eq!(store.orders.order(&key).await, Ok(Some(order)));
}

/// S1: one process per file; after it exits the next may open it.
#[tokio::test]
async fn a_second_opener_is_refused() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    let second = open_with(&stores.file(), 1, 2);
    assert!(matches!(second, Err(OpenError::InUse(_))));
    drop(store);
    assert!(open_with(&stores.file(), 1, 2).is_ok());
}

/// Section 5: a file of the first schema is migrated; its excess refunds, which were never sent,
/// wait to be sent.
#[tokio::test]
async fn a_file_of_the_first_schema_is_brought_on() {
    let stores = EmbeddedStores::new();
    let before = stores.look();
    before
        .execute_batch(include_str!(
            "../../../src/store/schema/sqlite/0001_orders.sql"
        ))
        .unwrap();
    before.execute_batch("PRAGMA user_version = 1;").unwrap();
    let order = "INSERT INTO orders VALUES ('P', 'M1', 'T1', '20270115', 1230, 'CNY', 'AGGREGATED',
            'PASSWORD_PAY', 'https://shop.example/', NULL, 15, NULL, NULL, x'00', ?1, 1, 2,
            'CLOSED', 'MERCHANT', 4, NULL, NULL, 0, 0)";
    before.execute(order, [sealed_order("P")]).unwrap();
    before.execute_batch(
"INSERT INTO attempts VALUES ('P', 1, 'A', 'harbour', 'ACC-1', 'WEBVIEW', 1230, 'CNY', 'PAID',
            1, x'00', 1, 1, 1, NULL, 1230, 'CNY', 'H-1', 2, NULL, NULL, 1);
         INSERT INTO refunds VALUES ('R', 'P', 1, 'A', 1230, 'CNY', 'RESERVED', 'AFTER_CLOSE', 3);",
).unwrap();
    drop(before);
    drop(stores.open());
    let (waits, cause): (i64, String) = stores
        .look()
        .query_row("SELECT waits_until, cause FROM refunds", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((waits, cause.as_str()), (3, "AFTER_CLOSE"));
    let due: i64 = stores
        .look()
        .query_row("SELECT due_at FROM orders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(due, 0);
}

/// F2, S1: a file of the first schema is migrated to this one, and its ended objects count for
/// their institution's removal guard from when they were sent or paid.
#[tokio::test]
async fn a_file_of_the_first_schema_is_brought_up() {
    const FIRST: &str = include_str!("../../../src/store/schema/sqlite/0001_orders.sql");
    let stores = EmbeddedStores::new();
    let file = stores.look();
    file.execute_batch(FIRST).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
    let order = "INSERT INTO orders VALUES ('P1', 'M1', 'T1', '20260101', 5, 'CNY', 'A', 'B', 'C',
            NULL, 5, NULL, NULL, x'00', ?1, 1, 2, 'PAID', NULL, 1, 'A2', NULL, 0, 0)";
    file.execute(order, [sealed_order("P1")]).unwrap();
    file.execute_batch(
        "INSERT INTO attempts VALUES
            ('P1', 1, 'A1', 'harbour', 'X', 'WEBVIEW', 5, 'CNY', 'CLOSED', 1, x'00', 10, 1, 1, NULL,
             NULL, NULL, NULL, NULL, NULL, NULL, 0),
            ('P1', 2, 'A2', 'island', 'X', 'WEBVIEW', 5, 'CNY', 'PAID', 1, x'00', 10, 1, 1, NULL,
             5, 'CNY', 'N', 20, NULL, NULL, 0),
            ('P1', 3, 'A3', 'harbour', 'X', 'WEBVIEW', 5, 'CNY', 'UNKNOWN', 1, x'00', 9, 1, 1, NULL,
             NULL, NULL, NULL, NULL, NULL, NULL, 0);",
    )
    .unwrap();
    let store = stores.open();
    let held = async |since| {
        let held = store
            .configuration
            .dependents(Timestamp::from_ms(since))
            .await
            .unwrap()
            .held;
        let words =
            |(id, held): (InstitutionId, Dependents)| (id.to_string(), held.unfinished, held.ended);
        held.into_iter().map(words).collect::<Vec<_>>()
    };
    let (harbour, island) = ("harbour".to_owned(), "island".to_owned());
    assert_eq!(
        held(10).await,
        [(harbour.clone(), 1, 1), (island.clone(), 0, 1)]
    );
    assert_eq!(held(20).await, [(harbour.clone(), 1, 0), (island, 0, 1)]);
    assert_eq!(held(21).await, [(harbour, 1, 0)]);
}

/// S1: a modified schema, or one of a later release, is rejected.
#[tokio::test]
async fn a_foreign_schema_is_refused() {
    for change in ["DROP INDEX attempts_live", "PRAGMA user_version = 99"] {
        let stores = EmbeddedStores::new();
        drop(stores.open());
        stores.look().execute_batch(change).unwrap();
        let opened = open_with(&stores.file(), 1, 2);
        assert!(matches!(opened, Err(OpenError::Schema(_))), "{change}");
    }
}

/// S1: wherever a power failure truncated the log, the rest opens and is consistent.
#[tokio::test]
async fn a_torn_log_opens() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    let order = done(&store, place(1, None)).await;
    let log_before = std::fs::metadata(stores.log()).unwrap().len();
    let closing = order
        .end(CloseReason::Merchant, ChangeCause::Clock, at(3))
        .unwrap();
    let closed = done(&store, closing).await;
    let log_after = std::fs::metadata(stores.log()).unwrap().len();
    assert!(log_before < log_after);
    for (torn, expected) in [
        (log_after, &closed),
        (log_after - 1, &order),
        (log_before + 5_000, &order),
    ] {
        let copy = EmbeddedStores::new();
        std::fs::copy(stores.file(), copy.file()).unwrap();
        let mut log = std::fs::read(stores.log()).unwrap();
        log.truncate(usize::try_from(torn).unwrap());
        private(&copy.log(), &log);
        let key = OrderKey::PayOrderNo(order.terms.merchant.clone(), order.no.clone());
        let read = copy.open().orders.order(&key).await.unwrap();
        assert_eq!(read.as_ref(), Some(expected), "{torn}");
    }
}

/// A check for work that finds none writes nothing, so it costs no synchronisation.
#[tokio::test]
async fn an_idle_look_writes_nothing() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    done(&store, place(1, None)).await;
    let before = std::fs::read(stores.log()).unwrap();
    for work in [
        LeaseKind::Orders,
        LeaseKind::Events,
        LeaseKind::OrphanedCalls,
    ] {
        assert_eq!(lease(&store, work, at(2), 10).await, Ok(vec![]));
    }
    assert_eq!(std::fs::read(stores.log()).unwrap(), before);
}

/// N8: a commit with work due soon notifies the workers, and one without does not.
#[tokio::test]
async fn a_commit_with_due_work_notifies_the_workers() {
    let stores = EmbeddedStores::new();
    let worker_signals = Arc::new(WorkerSignals::default());
    let store = Store::clone(&stores.open());
    let store = NotifyingChanges::in_front_of(store, worker_signals.clone());
    let spend = Change::spend(nonce("only-the-nonce-..."), at(1));
    assert_eq!(store.changes.commit(&spend).await, Ok(Committed::Done));
    assert!(!was_notified(&worker_signals.orders) && !was_notified(&worker_signals.events));
    // An intent counts as unresolved after 15 s, and an order expires later: nothing to check now.
    let order = done(&store, place(1, Some(start(1, "harbour", store.epoch)))).await;
    assert!(!was_notified(&worker_signals.orders) && !was_notified(&worker_signals.events));
    // An unresolved attempt is queried after half a second, one waiting for its payer in 20 s.
    let silence = Finding::Ambiguous(Ambiguity::NoAnswer);
    let order = done(&store, apply(&order, 1, silence, EvidenceSource::Create, 2)).await;
    assert!(was_notified(&worker_signals.orders) && !was_notified(&worker_signals.events));
    let order = done(
        &store,
        apply(&order, 1, accepted(), EvidenceSource::Query, 2),
    )
    .await;
    assert!(!was_notified(&worker_signals.orders) && !was_notified(&worker_signals.events));
    let change = apply(&order, 1, succeeded(), EvidenceSource::Callback, 20);
    assert_eq!(store.changes.commit(&change).await, Ok(Committed::Done));
    assert!(was_notified(&worker_signals.events));
    assert_eq!(store.changes.commit(&change).await, Ok(Committed::Stale));
    assert!(!was_notified(&worker_signals.events));
}

/// Whether a signal was sent since the last check.
fn was_notified(wake_up: &tokio::sync::Notify) -> bool {
    let mut waiting = std::pin::pin!(wake_up.notified());
    waiting.as_mut().enable()
}

/// Q5: a cached spent nonce is rejected without another query to the store.
#[tokio::test]
async fn a_known_replay_is_not_asked_about() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    let counted = Arc::new(CountingChanges {
        changes: Arc::clone(&store.changes),
        commits: AtomicU32::new(0),
    });
    let store = NonceCache::in_front_of(Store {
        changes: counted.clone(),
        ..Store::clone(&store)
    });
    for expected in [
        Committed::Done,
        Committed::NonceSpent,
        Committed::NonceSpent,
    ] {
        let spend = Change::spend(nonce("only-the-nonce-..."), at(2));
        assert_eq!(store.changes.commit(&spend).await, Ok(expected));
    }
    assert_eq!(counted.commits.load(Ordering::Relaxed), 1);
}
