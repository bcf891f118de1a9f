//! What the store and the memories in front of it count.

use std::time::Duration;

use prometheus::{Counter, GaugeVec, Histogram, IntCounterVec, IntGauge, IntGaugeVec};

use super::{InFlightGuard, MetricRegistration, SECONDS};

/// Changes in one commit.
const BATCH: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Metrics of what is written, remembered and still to be done. Labels are words of the program.
pub struct StoreMetrics {
    store_commit_changes: Histogram,
    store_commit_seconds: Histogram,
    nonce_cache_lookups: IntCounterVec,
    nonce_cache_entries: IntGaugeVec,
    work_lag_seconds: GaugeVec,
    work_in_progress: IntGaugeVec,
    events_dead_lettered: IntGauge,
    refunds_manual: IntGauge,
    breaks_open: IntGauge,
    exchange_log_bytes: IntGauge,
    exchange_log_blocks_removed: IntCounterVec,
    exchange_log_entries_dropped: Counter,
    wal_size_bytes: IntGauge,
    wal_checkpointed_bytes: IntGauge,
    wal_restarts: Counter,
}

impl StoreMetrics {
    pub(super) fn new(page: &MetricRegistration<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
store_commit_changes: page.histogram(
"store_commit_changes",
"Changes written by one commit.",
&BATCH,
)?,
store_commit_seconds: page.histogram(
"store_commit_duration_seconds",
"One commit: the transaction of a batch, synchronised.",
&SECONDS,
)?,
nonce_cache_lookups: page.counters(
"nonce_cache_lookups_total",
"Looks for a nonce in memory, by cache (effects, reads) and result: hit (it was \
                 spent before) or miss.",
&["cache", "result"],
)?,
nonce_cache_entries: page.gauges(
"nonce_cache_entries",
"Nonces remembered in memory, about.",
&["cache"],
)?,
work_lag_seconds: page.moments(
"work_lag_seconds",
"How long the oldest work that is due and not taken up has been due; 0 without.",
&["work"],
)?,
work_in_progress: page.gauges(
"work_in_hand",
"Work taken up by this process and not ended.",
&["work"],
)?,
events_dead_lettered: page.gauge(
"events_dead",
"Notifications that were given up and not sent again.",
)?,
refunds_manual: page.gauge(
"refunds_manual",
"Refunds that no institution answers for, and only two operators can end.",
)?,
exchange_log_bytes: page.gauge("exchange_log_bytes", "The exchange log on disk, about.")?,
exchange_log_blocks_removed: page.counters(
"exchange_log_blocks_removed_total",
"Blocks of the exchange log that were removed, by reason: age or size.",
&["reason"],
)?,
exchange_log_entries_dropped: page.counter(
"exchange_log_entries_dropped_total",
"Entries of the exchange log, for `paymux explain`, that found no room or could not be \
                 written.",
)?,
breaks_open: page.gauge("reconciliation_breaks_open", "Breaks that nobody ended yet.")?,
wal_size_bytes: page.gauge(
"wal_size_bytes",
"The store's write-ahead log since it last began anew.",
)?,
wal_checkpointed_bytes: page.gauge(
"wal_checkpointed_bytes",
"Of the write-ahead log, what stands in the store's file as well.",
)?,
wal_restarts: page.counter(
"wal_restarts_total",
"Times that the write-ahead log began anew.",
)?,
})
    }

    /// The store committed this many changes at once.
    pub fn commit(&self, changes: u32, took: Duration) {
        self.store_commit_changes.observe(f64::from(changes));
        self.store_commit_seconds.observe(took.as_secs_f64());
    }

    /// How often a nonce was found in this memory since the start, how often not, and how many it
    /// holds.
    pub fn nonces(&self, cache: &'static str, hits: u64, misses: u64, entries: u64) {
        for (result, total) in [("hit", hits), ("miss", misses)] {
            let counter = self.nonce_cache_lookups.with_label_values(&[cache, result]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        self.nonce_cache_entries
            .with_label_values(&[cache])
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// The oldest work of this kind has been due for so long.
    pub fn work_lag(&self, work: &'static str, lag: Duration) {
        self.work_lag_seconds
            .with_label_values(&[work])
            .set(lag.as_secs_f64());
    }

    /// So many events are given up (N2).
    pub fn dead(&self, count: u64) {
        self.events_dead_lettered
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many refunds are left to people, and so many incidents are open (section 5, M7, R9).
    pub fn awaiting_manual_review(&self, refunds: u64, breaks: u64) {
        let shown = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.refunds_manual.set(shown(refunds));
        self.breaks_open.set(shown(breaks));
    }

    /// The write-ahead log is so long, so much of it stands in the file too, and so often it began
    /// anew since the start.
    pub fn log(&self, bytes: u64, checkpointed_bytes: u64, restarts: u32) {
        let shown = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.wal_size_bytes.set(shown(bytes));
        self.wal_checkpointed_bytes.set(shown(checkpointed_bytes));
        self.wal_restarts.reset();
        self.wal_restarts.inc_by(f64::from(restarts));
    }

    /// So many entries of the exchange log were dropped.
    pub fn exchange_log_entries_dropped(&self, count: u32) {
        self.exchange_log_entries_dropped.inc_by(f64::from(count));
    }

    /// So many blocks of the exchange log were removed, each for its reason, and so many bytes are left.
    pub fn exchange_log_removed(&self, counts: [(&'static str, u64); 2], bytes: u64) {
        for (reason, count) in counts {
            let counter = &self.exchange_log_blocks_removed;
            counter.with_label_values(&[reason]).inc_by(count);
        }
        self.exchange_log_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts work as taken up until the returned value is dropped.
    pub fn work_in_progress(&self, work: &'static str) -> InFlightGuard {
        InFlightGuard::up(&self.work_in_progress.with_label_values(&[work]))
    }
}
