//! The write-ahead log: how long it grows, and how much of it an order takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use paymux::domain::order::Order;
use paymux::store::{ArchiveOutcome, Committed, InboxMessage, InboxStatus, OrderKey};
use tokio::task::JoinSet;

use super::builders::{at, done, institution, opening, place, request, terms};
use super::embedded::EmbeddedStores;

/// Maximum size of the log under any load. Unit: bytes.
const LOG_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// The message size; with the numbers of writers and messages each, 200 MB of log.
const MESSAGE_BYTES: usize = 60_000;
const WRITERS: u32 = 16;
const MESSAGES: u32 = 200;

/// Number of readers, which never pause.
const READERS: usize = 3;

/// S1: under continuous load, with readers always present, the log restarts and stays below its
/// limit; no reader fails or sees fewer rows than before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_begins_anew_under_load() {
    let stores = EmbeddedStores::new();
    let (store, ledger) = stores.open_both();
    let order = done(&store, place(1, None)).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (store, is_over, order) = (store.clone(), Arc::clone(&is_over), order.clone());
        readers.spawn(async move {
            let key = OrderKey::PayOrderNo(order.terms.merchant.clone(), order.no.clone());
            let mut reads = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(store.orders.order(&key).await, Ok(Some(order.clone())));
                reads += 1;
                tokio::task::yield_now().await;
            }
            reads
        });
    }
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, ledger) = (store.clone(), ledger.clone());
        writers.spawn(async move {
            let mut longest = 0;
            for n in 0..MESSAGES {
                let mut raw = vec![0; MESSAGE_BYTES];
                raw[..8].copy_from_slice(&(u64::from(writer) << 32 | u64::from(n)).to_be_bytes());
                let message = InboxMessage {
                    institution: institution("harbour"),
                    status: InboxStatus::Genuine,
                    raw,
                    at: at(1),
                };
                assert_eq!(
                    store.archive.archive(&message).await,
                    Ok(ArchiveOutcome::New)
                );
                longest = longest.max(ledger.wal_size().bytes);
            }
            longest
        });
    }
    let longest = writers.join_all().await.into_iter().max().unwrap();
    is_over.store(true, Ordering::Relaxed);
    let reads = readers.join_all().await;
    let (size, file) = (ledger.wal_size(), stores.log_bytes());
    assert!(size.restarts > 0, "{size:?}");
    assert!(
        longest <= LOG_BYTES_MAX && file <= LOG_BYTES_MAX,
        "{longest}, {file}"
    );
    assert!(reads.iter().all(|reads| *reads > 0));
}

/// Maximum log size per order where dozens share a commit. Unit: bytes.
const ORDER_BYTES_MAX: u64 = 4_096;

/// Number of concurrent buyers; then orders per buyer.
const BUYERS: u32 = 64;
const ORDERS: u32 = 100;

/// S1, Q5: placing an order writes a few pages at the ends of tables, and no separate page for
/// random values.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_order_takes_little_of_the_log() {
    let stores = EmbeddedStores::new();
    let (store, ledger) = stores.open_both();
    let mut buyers = JoinSet::new();
    let numbers = Arc::new(AtomicU32::new(0));
    for _ in 0..BUYERS {
        let (store, numbers) = (store.clone(), Arc::clone(&numbers));
        buyers.spawn(async move {
            for _ in 0..ORDERS {
                // Merchants number orders sequentially.
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                // As far from its neighbours as a random value.
                let drawn = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let cause = request(&format!("{drawn:016x}-drawn"));
                let change = Order::open(opening(number, terms(number)), None, cause, at(1));
                assert_eq!(store.changes.commit(&change).await, Ok(Committed::Done));
            }
        });
    }
    buyers.join_all().await;
    let each = ledger.wal_size().bytes / u64::from(BUYERS * ORDERS);
    assert!(each <= ORDER_BYTES_MAX, "{each} bytes each");
}
