//! The exchange log: searched by order, sealed to its rows, chained, bounded by age and size;
//! written in blocks without blocking any caller.

mod removal;

use std::sync::Arc;
use std::time::Duration;

use paymux::domain::identifiers::{OrderKey, PayOrderNo, Timestamp, Uptime};
use paymux::domain::institutions::MessageFormat;
use paymux::domain::order::Order;
use paymux::domain::verification::Breach;
use paymux::flow::exchange_log::block::{OPEN_MAX, OpenBlock};
use paymux::metrics::Metrics;
use paymux::seal::Seal;
use paymux::store::Store;
use paymux::store::exchange_log::{
    BLOCK_BYTES_MAX, BLOCKS_REMOVED_AT_ONCE, Block, Dropped, ENTRIES_READ_MAX, ExchangeLog,
    Exchanges, Removed, UNPROVEN_READ_MAX,
};
use paymux::workers::exchange_log::{ExchangeLogWriter, UNPROVEN_BYTES_MAX, WAITING_MAX};
use paymux::world::Clock;
use paymux::world::exchange_log::{ExchangeEntry, Recorder};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::builders::{at, done, draw, institution, merchant, paid, terms};
use super::embedded::EmbeddedStores;
use super::explained::explained;
use super::verify_store::verified;
use crate::world::clock::ManualClock;
use crate::world::exchange_log::{MemoryLog, entry};

const NO_BOUND: u64 = u64::MAX;

/// A store, and its handle for the exchange log writer.
fn open(stores: &EmbeddedStores) -> (Arc<Store>, Arc<dyn ExchangeLog>) {
    let opened = stores.open_for_all();
    (Arc::new(opened.store), opened.exchange_log)
}

/// The key under which a merchant knows an order.
fn ours(order: &Order) -> OrderKey {
    OrderKey::PayOrderNo(order.terms.merchant.clone(), order.no.clone())
}

/// The key of an unrelated order.
fn somebodys(n: u32) -> OrderKey {
    OrderKey::PayOrderNo(merchant("M1"), PayOrderNo::mint(at(1), draw(1_000 + n)))
}

fn block_of(entries: impl IntoIterator<Item = ExchangeEntry>) -> Block {
    let mut open = OpenBlock::default();
    for entry in entries {
        assert_eq!(open.append(&entry, Uptime::from_ms(0)), Ok(None));
    }
    open.close().unwrap()
}

/// Writes a block with one entry about this key, at `n` seconds after the scenario's start.
async fn append(log: &dyn ExchangeLog, about: OrderKey, n: u32) {
    let block = block_of([entry(about, at(i64::from(n)), n, 64)]);
    log.append(&block).await.unwrap();
}

fn reported(stores: &EmbeddedStores, seal: Seal, order: &Order) -> Exchanges {
    let read = explained(stores, seal, order.no.as_str());
    read.unwrap().unwrap().exchanges
}

/// The numbers of the entries found.
fn numbers(found: &Exchanges) -> Vec<u64> {
    found.lines.iter().map(|line| number(line)).collect()
}

fn number(line: &str) -> u64 {
    let entry: serde_json::Value = serde_json::from_str(line).unwrap();
    entry["asked"]["body"]["fee"].as_u64().unwrap()
}

fn breaches(stores: &EmbeddedStores) -> Vec<Breach> {
    verified(&stores.file()).unwrap().1
}

/// L4: an order's entries are found in each block that has some, and no other order's.
#[tokio::test]
async fn an_order_is_found_across_several_blocks() {
    let stores = EmbeddedStores::new();
    let (store, log) = open(&stores);
    let order = paid(&store, 1, "harbour", terms(1)).await;
    for n in 1..=5 {
        let entries = (0..20).map(|k| {
            let about = if k == n || k == 10 {
                ours(&order)
            } else {
                somebodys(k)
            };
            entry(about, at(i64::from(n)), n * 100 + k, 64)
        });
        log.append(&block_of(entries)).await.unwrap();
        append(&*log, somebodys(7), n).await;
    }
    let found = reported(&stores, EmbeddedStores::seal(), &order);
    let expected = [101, 110, 202, 210, 303, 310, 404, 410, 505, 510];
    assert_eq!(numbers(&found), expected);
    assert_eq!((found.left_out, found.unreadable), (0, 0));
}

/// L4, D2: an entry is sealed to its row's content, and unreadable without the key.
#[tokio::test]
async fn an_entry_is_read_back_by_whoever_has_the_key() {
    let stores = EmbeddedStores::new();
    let (store, log) = open(&stores);
    let order = paid(&store, 1, "harbour", terms(1)).await;
    append(&*log, ours(&order), 1).await;
    append(&*log, ours(&order), 2).await;
    assert_eq!(
        numbers(&reported(&stores, EmbeddedStores::seal(), &order)),
        [1, 2]
    );
    let file = stores.look();
    let sql = "SELECT CAST(sealed || orders AS BLOB) FROM exchange_log LIMIT 1";
    let raw: Vec<u8> = file.query_row(sql, [], |row| row.get(0)).unwrap();
    for plain in ["asked", "pay.example", order.no.as_str()] {
        let is_there = raw
            .windows(plain.len())
            .any(|part| part == plain.as_bytes());
        assert!(!is_there, "{plain} is stored as it is");
    }
    let other = Seal::new("2027", [("2027".to_owned(), [9; 32])].into(), [2; 32]).unwrap();
    assert!(explained(&stores, other, order.no.as_str()).is_err());
    let second = paid(&store, 2, "harbour", terms(2)).await;
    append(&*log, ours(&second), 3).await;
    let moved = "UPDATE exchange_log SET orders = (SELECT orders FROM exchange_log WHERE block = 3)
        WHERE block = 1";
    assert_eq!(file.execute(moved, []).unwrap(), 1);
    let found = reported(&stores, EmbeddedStores::seal(), &second);
    assert_eq!((numbers(&found), found.unreadable), (vec![3], 1));
    assert_eq!(
        numbers(&reported(&stores, EmbeddedStores::seal(), &order)),
        [2]
    );
}

/// K3, C2: an entry is found under each key that its sender may use for the order, and under no
/// other order's.
#[tokio::test]
async fn an_entry_is_found_under_its_orders_names_alone() {
    let stores = EmbeddedStores::new();
    let (store, log) = open(&stores);
    let order = paid(&store, 1, "harbour", terms(1)).await;
    let change = super::refunds::reserve(&store, &order, 1, "B1", 500);
    let order = done(&store, change).await;
    let (attempt, refund) = (order.attempts[0].id.clone(), order.refunds[0].no.clone());
    let theirs = order.terms.merchant_order_no.clone();
    let request = order.refunds[0].request().unwrap().number.clone();
    let page = paymux::domain::identifiers::PageToken::new(order.no.clone(), [0; 16]);
    let names = [
        ours(&order),
        OrderKey::MerchantOrderNo(merchant("M1"), theirs.clone()),
        OrderKey::Attempt(institution("harbour"), attempt.clone()),
        OrderKey::Refund(institution("harbour"), refund.clone()),
        OrderKey::RefundOrderNo(merchant("M1"), refund.clone()),
        OrderKey::MerchantRefundNo(merchant("M1"), request.clone()),
        OrderKey::Page(page),
    ];
    let others = [
        OrderKey::PayOrderNo(merchant("M2"), order.no.clone()),
        OrderKey::MerchantOrderNo(merchant("M2"), theirs),
        OrderKey::Attempt(institution("island"), attempt),
        OrderKey::Refund(institution("island"), refund.clone()),
        OrderKey::RefundOrderNo(merchant("M2"), refund),
        OrderKey::MerchantRefundNo(merchant("M2"), request),
        somebodys(9),
    ];
    let all = (1..).zip(names).chain((101..).zip(others));
    let entries = all.map(|(n, name)| entry(name, at(1), n, 64));
    log.append(&block_of(entries)).await.unwrap();
    let found = reported(&stores, EmbeddedStores::seal(), &order);
    assert_eq!(numbers(&found), [1, 2, 3, 4, 5, 6, 7]);
}

/// L4: of very many entries about one order the callbacks that paid are always returned, whatever
/// came before, and the number of entries left out is reported; unauthenticated senders take no
/// other entry's place.
#[tokio::test]
async fn the_callback_that_paid_is_always_shown() {
    let stores = EmbeddedStores::new();
    let (store, log) = open(&stores);
    let order = paid(&store, 1, "harbour", terms(1)).await;
    let many = u32::try_from(ENTRIES_READ_MAX).unwrap() + 5;
    let unproven = u32::try_from(UNPROVEN_READ_MAX).unwrap() + 7;
    let mut open = OpenBlock::default();
    for n in 0..=unproven + many {
        let entry = ExchangeEntry {
            is_unproven: n < unproven,
            is_paying: n == unproven + many,
            format: MessageFormat::INTERFACE,
            ..entry(ours(&order), at(1), n, 16)
        };
        if let Some(full) = open.append(&entry, Uptime::from_ms(0)).unwrap() {
            log.append(&full).await.unwrap();
        }
    }
    log.append(&open.close().unwrap()).await.unwrap();
    let found = reported(&stores, EmbeddedStores::seal(), &order);
    let last = found.lines.last().unwrap();
    assert!(last.contains("\"paying\":true"), "{last}");
    assert_eq!(found.lines.len(), ENTRIES_READ_MAX + 1);
    let count = u64::from(unproven + many + 1);
    assert_eq!(
        found.left_out + u64::try_from(found.lines.len()).unwrap(),
        count
    );
    let is_unproven = |line: &&String| line.contains("\"unproven\":true");
    assert_eq!(
        found.lines.iter().filter(is_unproven).count(),
        UNPROVEN_READ_MAX
    );
}

/// Dropped entries are reported, by kind, to whoever explains an order of that time.
#[tokio::test]
async fn what_was_dropped_is_shown() {
    let stores = EmbeddedStores::new();
    let (store, log) = open(&stores);
    let order = paid(&store, 1, "harbour", terms(1)).await;
    let dropped = |n| Dropped::from([("query".to_owned(), n)]);
    for (seconds, count) in [(-3_600, 1), (1, 2), (2, 3), (800_000, 4)] {
        let mut block = block_of([entry(somebodys(1), at(seconds), 1, 16)]);
        block.dropped = dropped(count);
        log.append(&block).await.unwrap();
    }
    assert_eq!(
        reported(&stores, EmbeddedStores::seal(), &order).dropped,
        dropped(5)
    );
}

/// L1: a block that was removed between two others or changed in any part is detected; removal from
/// the front is not an error.
#[tokio::test]
async fn a_changed_or_removed_block_is_found() {
    for (damage, is_found) in [
        ("SELECT 1", false),
        ("DELETE FROM exchange_log WHERE block <= 2", false),
        ("DELETE FROM exchange_log WHERE block = 3", true),
        (
            "UPDATE exchange_log SET sealed = zeroblob(9) WHERE block = 3",
            true,
        ),
        (
            "UPDATE exchange_log SET orders = zeroblob(8) WHERE block = 3",
            true,
        ),
        (
            "UPDATE exchange_log SET dropped = '{\"query\":1}' WHERE block = 3",
            true,
        ),
        (
            "UPDATE exchange_log SET first_at = first_at + 1 WHERE block = 1",
            true,
        ),
        (
            "UPDATE exchange_log SET last_at = last_at + 1 WHERE block = 5",
            true,
        ),
        (
            "UPDATE exchange_log SET hash = zeroblob(32) WHERE block = 5",
            true,
        ),
        (
            "UPDATE exchange_log SET prev = zeroblob(32) WHERE block = 2",
            true,
        ),
    ] {
        let stores = EmbeddedStores::new();
        let (store, log) = open(&stores);
        let order = paid(&store, 1, "harbour", terms(1)).await;
        for n in 1..=5 {
            append(&*log, ours(&order), n).await;
        }
        drop((store, log));
        stores.look().execute_batch(damage).unwrap();
        let found = breaches(&stores);
        let named = found
            .iter()
            .all(|breach| breach.rule == "L1" && breach.object.starts_with("exchange_log "));
        assert!(named, "{damage}: {found:#?}");
        assert_eq!(!found.is_empty(), is_found, "{damage}: {found:#?}");
    }
}

/// Blocks that are too old are removed, a few at a time, from the front and nothing else; the chain
/// still verifies.
#[tokio::test]
async fn old_blocks_are_removed() {
    let stores = EmbeddedStores::new();
    let (store, log) = open(&stores);
    let order = paid(&store, 1, "harbour", terms(1)).await;
    for n in 1..=20 {
        append(&*log, ours(&order), n).await;
    }
    let removed = log.remove_oldest(Some(at(1)), NO_BOUND).await.unwrap();
    assert_eq!((removed.by_age, removed.by_size), (0, 0));
    let at_once = u64::from(BLOCKS_REMOVED_AT_ONCE);
    for expected in [at_once, 14 - at_once, 0] {
        let removed = log.remove_oldest(Some(at(15)), NO_BOUND).await.unwrap();
        assert_eq!((removed.by_age, removed.by_size), (expected, 0));
    }
    let none = log.remove_oldest(None, NO_BOUND).await.unwrap();
    assert_eq!(none.by_age, 0, "no clock to trust");
    let found = reported(&stores, EmbeddedStores::seal(), &order);
    assert_eq!(numbers(&found), [15, 16, 17, 18, 19, 20]);
    append(&*log, ours(&order), 21).await;
    drop((store, log));
    assert_eq!(breaches(&stores), []);
}

/// The size on disk is bounded: the oldest blocks are removed first, and the remaining size is
/// known.
#[tokio::test]
async fn where_there_is_no_room_the_oldest_are_removed() {
    let stores = EmbeddedStores::new();
    let (store, log) = open(&stores);
    let order = paid(&store, 1, "harbour", terms(1)).await;
    for n in 1..=12 {
        let block = block_of([entry(ours(&order), at(i64::from(n)), n, 2_000)]);
        log.append(&block).await.unwrap();
    }
    let all = log.remove_oldest(None, NO_BOUND).await.unwrap();
    let one = all.bytes / 12;
    assert!((1_000..2_500).contains(&one), "{one} bytes a block");
    let bound = one * 5 + one / 2;
    let at_once = u64::from(BLOCKS_REMOVED_AT_ONCE);
    let removed = log.remove_oldest(None, bound).await.unwrap();
    assert_eq!((removed.by_size, removed.by_age), (7.min(at_once), 0));
    let removed = log.remove_oldest(None, bound).await.unwrap();
    assert_eq!(removed.by_size, 0);
    assert!(removed.bytes <= bound && removed.bytes >= one * 4);
    let found = reported(&stores, EmbeddedStores::seal(), &order);
    assert_eq!(numbers(&found), [8, 9, 10, 11, 12]);
    drop(store);
}

/// A worker on a manual clock.
struct Working {
    writer: Arc<ExchangeLogWriter>,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    over: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Working {
    fn on(log: Arc<dyn ExchangeLog>) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let writer = ExchangeLogWriter::new(30, NO_BOUND, Arc::clone(&metrics));
        let (writer, clock) = (Arc::new(writer), Arc::new(ManualClock::new()));
        let (over, stop) = watch::channel(false);
        let task = tokio::spawn({
            let (writer, clock) = (Arc::clone(&writer), Arc::clone(&clock));
            async move { writer.write(&*log, &*clock, stop).await }
        });
        Self {
            writer,
            clock,
            metrics,
            over,
            task,
        }
    }

    fn append(&self, n: u32, noise: usize) {
        let entry = entry(somebodys(1), self.clock.now(), n, noise);
        self.writer.append(entry);
    }

    fn dropped(&self) -> u32 {
        let page = self.metrics.render();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("paymux_exchange_log_entries_dropped_total "));
        line.unwrap().parse().unwrap()
    }

    async fn stop(self) {
        self.over.send_replace(true);
        self.task.await.unwrap();
    }
}

/// Long enough for the worker, which checks twenty times a second.
async fn a_while() {
    let nothing = std::future::pending::<()>();
    let _ = tokio::time::timeout(Duration::from_millis(300), nothing).await;
}

/// Waits until `count` blocks are written, and returns the numbers of the entries in each.
async fn written(log: &MemoryLog, count: usize) -> Vec<Vec<u64>> {
    let writing = async {
        while log.blocks().len() < count {
            a_while().await;
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(30), writing).await;
    assert!(came.is_ok(), "{count} blocks never come");
    let blocks = log.blocks();
    let numbers = |block: &Block| {
        let lines = std::str::from_utf8(&block.lines).unwrap().lines();
        lines.map(number).collect()
    };
    blocks.iter().map(numbers).collect()
}

/// A block is written when it is old enough, and not before; later entries are in the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_closed_when_it_is_old_enough() {
    let log = Arc::new(MemoryLog::default());
    let working = Working::on(log.clone());
    let open_ms = i64::try_from(OPEN_MAX.as_millis()).unwrap();
    working.append(1, 16);
    a_while().await;
    working.clock.pass(open_ms - 1);
    working.append(2, 16);
    a_while().await;
    assert_eq!(log.blocks(), []);
    working.clock.pass(1);
    assert_eq!(written(&log, 1).await, [[1, 2]]);
    working.append(3, 16);
    a_while().await;
    working.clock.pass(open_ms);
    assert_eq!(written(&log, 2).await, [vec![1, 2], vec![3]]);
    working.stop().await;
}

/// A block is written when it is long enough, however young it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_closed_when_it_is_long_enough() {
    let log = Arc::new(MemoryLog::default());
    let working = Working::on(log.clone());
    let enough = u32::try_from(BLOCK_BYTES_MAX / 2_000).unwrap() + 1;
    for n in 0..enough {
        working.append(n, 2_000);
    }
    let blocks = written(&log, 1).await;
    assert_eq!(blocks.len(), 1, "the next is open");
    let length = log.blocks()[0].lines.len();
    assert!((BLOCK_BYTES_MAX - 4_000..=BLOCK_BYTES_MAX).contains(&length));
    working.stop().await;
    let all: Vec<u64> = written(&log, 2).await.concat();
    assert_eq!(all, (0..u64::from(enough)).collect::<Vec<_>>());
}

/// A stop writes the open block; a crash loses only that.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_the_open_block_alone() {
    for (is_crash, kept) in [(false, vec![vec![1], vec![2]]), (true, vec![vec![1]])] {
        let log = Arc::new(MemoryLog::default());
        let working = Working::on(log.clone());
        working.append(1, 16);
        a_while().await;
        working.clock.pass(1_000);
        written(&log, 1).await;
        working.append(2, 16);
        a_while().await;
        if is_crash {
            working.task.abort();
            assert!(working.task.await.unwrap_err().is_cancelled());
        } else {
            working.stop().await;
        }
        assert_eq!(written(&log, kept.len()).await, kept);
    }
}

/// When the queue is full, an entry is dropped and counted without waiting; a callback that paid is
/// still accepted, and the drop count is shown when an order is explained.
#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_is_dropped_and_counted() {
    let log = Arc::new(MemoryLog::default());
    let metrics = Arc::new(Metrics::new().unwrap());
    let writer = ExchangeLogWriter::new(30, NO_BOUND, Arc::clone(&metrics));
    let clock = ManualClock::new();
    let many = u32::try_from(WAITING_MAX).unwrap();
    for n in 0..many {
        writer.append(entry(somebodys(1), clock.now(), n, 16));
    }
    let paying = ExchangeEntry {
        is_paying: true,
        format: MessageFormat::INTERFACE,
        what: "callback".to_owned(),
        ..entry(somebodys(1), clock.now(), many, 16)
    };
    writer.append(paying);
    let (over, stop) = watch::channel(true);
    writer.write(&*log, &clock, stop).await;
    drop(over);
    let found = written(&log, 1).await.concat();
    assert_eq!(found.last(), Some(&u64::from(many)));
    let dropped = u64::from(many) + 1 - u64::try_from(found.len()).unwrap();
    assert_eq!(dropped, u64::from(many) / 2);
    let reported = log.blocks()[0].dropped.clone();
    assert_eq!(reported, Dropped::from([("query".to_owned(), dropped)]));
    let line = format!("paymux_exchange_log_entries_dropped_total {dropped}\n");
    assert!(metrics.render().contains(&line), "{}", metrics.render());
}

/// Entries of unauthenticated senders take little space, and none from others.
#[tokio::test(flavor = "multi_thread")]
async fn unproven_senders_take_little_room() {
    let log = Arc::new(MemoryLog::default());
    let working = Working::on(log.clone());
    let many = 1_000;
    for n in 0..many {
        let entry = entry(somebodys(1), working.clock.now(), n, 200);
        working.writer.append(ExchangeEntry {
            is_unproven: true,
            ..entry
        });
    }
    working.append(many, 16);
    let dropped = working.dropped();
    working.stop().await;
    let found = written(&log, 1).await.concat();
    assert_eq!(found.last(), Some(&u64::from(many)));
    assert_eq!(found.len(), usize::try_from(many + 1 - dropped).unwrap());
    let bytes: usize = log.blocks().iter().map(|block| block.lines.len()).sum();
    assert!(bytes < UNPROVEN_BYTES_MAX + 1_000, "{bytes} bytes");
}

/// Entries of a block that could not be written are counted, and reported in the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_cannot_be_written_is_counted() {
    let log = Arc::new(MemoryLog::default());
    let working = Working::on(log.clone());
    log.break_down(true);
    working.append(1, 16);
    working.append(2, 16);
    a_while().await;
    working.clock.pass(1_000);
    while working.dropped() < 2 {
        a_while().await;
    }
    log.break_down(false);
    working.append(3, 16);
    working.stop().await;
    assert_eq!(written(&log, 1).await, [[3]]);
    let reported = log.blocks()[0].dropped.clone();
    assert_eq!(reported, Dropped::from([("unwritten".to_owned(), 2)]));
}
