//! Writes the exchange log: entries enter a bounded queue, are masked into a block, and written
//! block by block. Payments never wait for it; when the queue is full, the entry is dropped and
//! counted.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Lock, mpsc, watch};

use crate::domain::identifiers::{Timestamp, Uptime};
use crate::flow::exchange_log::block::OpenBlock;
use crate::metrics::Metrics;
use crate::store::exchange_log::{
    BLOCKS_REMOVED_AT_ONCE, Block, Dropped, ExchangeLog, Removed, count_dropped,
};
use crate::world::Clock;
use crate::world::exchange_log::{ExchangeEntry, Recorder};

/// Maximum number of queued entries.
pub const WAITING_MAX: usize = 8_192;

/// Queue capacity reserved for callbacks that paid an order.
const WAITING_PAYING: usize = WAITING_MAX / 2;

/// Burst limit for entries of unauthenticated senders, because anybody can send them. Unit: bytes.
pub const UNPROVEN_BYTES_MAX: usize = 64 * 1024;

/// Refill rate of that limit. Unit: bytes per second.
const UNPROVEN_BYTES_PER_SECOND: u64 = 2 * 1024;

/// How often the queue is drained and the block checked. Under load that is a few hundred entries,
/// which take one or two milliseconds of CPU time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often old blocks are removed while none are written.
const REMOVE_EVERY: Duration = Duration::from_mins(1);

const DAY_MS: i64 = 86_400_000;

/// The kind under which entries of a block that could not be written are counted.
const UNWRITTEN: &str = "unwritten";

/// Queues entries for the worker.
pub struct ExchangeLogWriter {
    entries: mpsc::Sender<ExchangeEntry>,
    waiting: Lock<mpsc::Receiver<ExchangeEntry>>,
    unproven_bytes_left: AtomicUsize,
    dropped: Mutex<Dropped>,
    days: AtomicU32,
    bytes_max: AtomicU64,
    metrics: Arc<Metrics>,
}

/// The state of the worker between two drains.
struct Worker<'a> {
    log: &'a dyn ExchangeLog,
    clock: &'a dyn Clock,
    open: OpenBlock,
    /// When it last drained the queue, and last removed blocks.
    looked: Uptime,
    removed: Uptime,
    /// There may be more blocks to remove.
    is_behind: bool,
}

impl ExchangeLogWriter {
    /// A writer whose entries are kept for `days` (0 turns it off) and within `bytes_max`.
    pub fn new(days: u32, bytes_max: u64, metrics: Arc<Metrics>) -> Self {
        let (entries, waiting) = mpsc::channel(WAITING_MAX);
        Self {
            entries,
            waiting: Lock::new(waiting),
            unproven_bytes_left: AtomicUsize::new(UNPROVEN_BYTES_MAX),
            dropped: Mutex::default(),
            days: AtomicU32::new(days),
            bytes_max: AtomicU64::new(bytes_max),
            metrics,
        }
    }

    /// Writes entries until `stop`; then writes all queued entries and the open block.
    pub async fn write(
        &self,
        log: &dyn ExchangeLog,
        clock: &dyn Clock,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut waiting = self.waiting.lock().await;
        let now = clock.uptime();
        let mut worker = Worker {
            log,
            clock,
            open: OpenBlock::default(),
            looked: now,
            removed: now,
            is_behind: true,
        };
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_over = tokio::select! {
                _ = ticks.tick() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            let now = clock.uptime();
            self.refill(now.since(worker.looked));
            worker.looked = now;
            // Only as many as are queued now: more may arrive while this runs.
            for _ in 0..waiting.len() {
                let Ok(entry) = waiting.try_recv() else {
                    break;
                };
                match worker.open.append(&entry, now) {
                    Ok(Some(full)) => self.write_block(&mut worker, full).await,
                    Ok(None) => (),
                    Err(kind) => self.drop_one(&kind),
                }
            }
            if (is_over || worker.open.is_due(now))
                && let Some(block) = worker.open.close()
            {
                self.write_block(&mut worker, block).await;
            }
            if is_over {
                return;
            }
            self.remove(&mut worker, now).await;
        }
    }

    async fn write_block(&self, worker: &mut Worker<'_>, mut block: Block) {
        block.dropped = std::mem::take(&mut *self.dropped());
        worker.is_behind = true;
        let Err(fault) = worker.log.append(&block).await else {
            return;
        };
        let count = u32::try_from(block.orders.len()).unwrap_or(u32::MAX);
        tracing::warn!(%fault, count, "entries of the exchange log are lost");
        self.metrics.memory.exchange_log_entries_dropped(count);
        let mut dropped = self.dropped();
        count_dropped(&mut dropped, UNWRITTEN, u64::from(count));
        for (kind, count) in &block.dropped {
            count_dropped(&mut dropped, kind, *count);
        }
    }

    /// Removes some of the oldest blocks if they exceed the age or size limit.
    async fn remove(&self, worker: &mut Worker<'_>, now: Uptime) {
        if !worker.is_behind && now.since(worker.removed) < REMOVE_EVERY {
            return;
        }
        worker.removed = now;
        let days = i64::from(self.days.load(Ordering::Relaxed));
        let kept_ms = days.saturating_mul(DAY_MS);
        let before = worker.clock.now().ms().saturating_sub(kept_ms);
        // None by age while the clock may be ahead: removal cannot be undone when the clock is
        // corrected.
        let is_settled = worker.clock.is_settled();
        let before = is_settled.then(|| Timestamp::from_ms(before));
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        match worker.log.remove_oldest(before, bytes_max).await {
            Ok(removed) => {
                let Removed {
                    by_age,
                    by_size,
                    bytes,
                } = removed;
                let counts = [("age", by_age), ("size", by_size)];
                self.metrics.memory.exchange_log_removed(counts, bytes);
                let count = by_age.saturating_add(by_size);
                worker.is_behind = count >= u64::from(BLOCKS_REMOVED_AT_ONCE);
            }
            Err(fault) => {
                tracing::warn!(%fault, "old blocks of the exchange log could not be removed");
                worker.is_behind = false;
            }
        }
    }

    fn drop_one(&self, kind: &str) {
        self.metrics.memory.exchange_log_entries_dropped(1);
        count_dropped(&mut self.dropped(), kind, 1);
    }

    fn dropped(&self) -> std::sync::MutexGuard<'_, Dropped> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refills the limit for entries of unauthenticated senders.
    fn refill(&self, passed: Duration) {
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let more = passed_ms.saturating_mul(UNPROVEN_BYTES_PER_SECOND) / 1_000;
        let more = usize::try_from(more).unwrap_or(usize::MAX);
        let left = &self.unproven_bytes_left;
        let refilled = |left: usize| Some(left.saturating_add(more).min(UNPROVEN_BYTES_MAX));
        let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refilled);
    }

    fn has_capacity_for(&self, entry: &ExchangeEntry) -> bool {
        if entry.is_paying {
            return true;
        }
        if self.entries.capacity() <= WAITING_PAYING {
            return false;
        }
        let bytes = entry.bytes();
        let left = &self.unproven_bytes_left;
        let taken = |left: usize| left.checked_sub(bytes);
        !entry.is_unproven
            || left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
                .is_ok()
    }
}

impl Recorder for ExchangeLogWriter {
    fn is_on(&self) -> bool {
        self.days.load(Ordering::Relaxed) > 0
    }

    fn append(&self, entry: ExchangeEntry) {
        if !self.is_on() {
            return;
        }
        let has_capacity = self.has_capacity_for(&entry);
        let Some(Ok(permit)) = has_capacity.then(|| self.entries.try_reserve()) else {
            return self.drop_one(entry.kind());
        };
        permit.send(entry);
    }

    fn keep_within(&self, days: u32, bytes_max: u64) {
        self.days.store(days, Ordering::Relaxed);
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }
}
