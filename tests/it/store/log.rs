//! The write-ahead log: how long it gets, and how much of it an order takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use paymux::store::{Kept, Message, OrderKey, Verdict};
use tokio::task::JoinSet;

use super::builders::{at, done, institution, place};
use super::embedded::Embedded;

/// What the log may take at any load. Unit: bytes.
const LOG_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Messages of this size, so many writers and so many of each: 200 MB of log.
const MESSAGE_BYTES: usize = 60_000;
const WRITERS: u32 = 16;
const MESSAGES: u32 = 200;

/// Readers that never pause.
const READERS: usize = 3;

/// S1: under a load that never pauses, with readers that are always there, the log begins anew and
/// stays below its bound; nobody who reads meanwhile is refused or sees less than was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_begins_anew_under_load() {
    let stores = Embedded::new();
    let (store, ledger) = stores.open_both();
    let order = done(&*store, place(1, None)).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (store, is_over, order) = (store.clone(), Arc::clone(&is_over), order.clone());
        readers.spawn(async move {
            let key = OrderKey::Ours(order.terms.merchant.clone(), order.no.clone());
            let mut reads = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(store.order(&key).await, Ok(Some(order.clone())));
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
                let message = Message {
                    institution: institution("harbour"),
                    verdict: Verdict::Genuine,
                    raw,
                    at: at(1),
                };
                assert_eq!(store.keep(&message).await, Ok(Kept::New));
                longest = longest.max(ledger.log_size().bytes);
            }
            longest
        });
    }
    let longest = writers.join_all().await.into_iter().max().unwrap();
    is_over.store(true, Ordering::Relaxed);
    let reads = readers.join_all().await;
    let (size, file) = (ledger.log_size(), stores.log_bytes());
    assert!(size.begun_anew > 0, "{size:?}");
    assert!(
        longest <= LOG_BYTES_MAX && file <= LOG_BYTES_MAX,
        "{longest}, {file}"
    );
    assert!(reads.iter().all(|reads| *reads > 0));
}
