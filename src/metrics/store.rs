//! Metrics of the store and the caches in front of it.

use std::time::Duration;

use prometheus::{Counter, GaugeVec, Histogram, IntCounterVec, IntGauge, IntGaugeVec};

use super::{InFlightGuard, MetricRegistration, SECONDS};

/// Changes in one commit.
const BATCH: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Metrics of commits, caches and pending work. Labels are fixed names.
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
                "Lookups in a nonce cache, by cache (effects, reads) and result: hit (the nonce \
                 is spent) or miss.",
                &["cache", "result"],
            )?,
            nonce_cache_entries: page.gauges(
                "nonce_cache_entries",
                "Nonces in the cache, approximately.",
                &["cache"],
            )?,
            work_lag_seconds: page.moments(
                "work_lag_seconds",
                "How long the oldest due work without a lease has been due; 0 if there is none.",
                &["work"],
            )?,
            work_in_progress: page.gauges(
                "work_in_hand",
                "Work leased by this process and not completed.",
                &["work"],
            )?,
            events_dead_lettered: page.gauge(
                "events_dead",
                "Dead-lettered notifications that were not resent.",
            )?,
            refunds_manual: page.gauge(
                "refunds_manual",
                "Refunds in manual review, which only two signed decisions end.",
            )?,
            exchange_log_bytes: page.gauge(
                "exchange_log_bytes",
                "Size of the exchange log on disk, approximately.",
            )?,
            exchange_log_blocks_removed: page.counters(
                "exchange_log_blocks_removed_total",
                "Blocks removed from the exchange log, by reason: age or size.",
                &["reason"],
            )?,
            exchange_log_entries_dropped: page.counter(
                "exchange_log_entries_dropped_total",
                "Entries of the exchange log, for `paymux explain`, dropped because the queue was \
                 full or they could not be written.",
            )?,
            breaks_open: page.gauge("reconciliation_breaks_open", "Open reconciliation breaks.")?,
            wal_size_bytes: page.gauge(
                "wal_size_bytes",
                "Size of the store's write-ahead log since its last restart.",
            )?,
            wal_checkpointed_bytes: page.gauge(
                "wal_checkpointed_bytes",
                "The part of the write-ahead log that is checkpointed into the store's file.",
            )?,
            wal_restarts: page.counter("wal_restarts_total", "Restarts of the write-ahead log.")?,
        })
    }

    /// The store committed this many changes at once.
    pub fn commit(&self, changes: u32, took: Duration) {
        self.store_commit_changes.observe(f64::from(changes));
        self.store_commit_seconds.observe(took.as_secs_f64());
    }

    /// The hits and misses of this nonce cache since the start, and its size.
    pub fn nonces(&self, cache: &'static str, hits: u64, misses: u64, entries: u64) {
        for (result, total) in [("hit", hits), ("miss", misses)] {
            let counter = self.nonce_cache_lookups.with_label_values(&[cache, result]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        self.nonce_cache_entries
            .with_label_values(&[cache])
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// How long the oldest due work of this kind has been due.
    pub fn work_lag(&self, work: &'static str, lag: Duration) {
        self.work_lag_seconds
            .with_label_values(&[work])
            .set(lag.as_secs_f64());
    }

    /// How many events are dead-lettered (N2).
    pub fn dead(&self, count: u64) {
        self.events_dead_lettered
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many refunds are in manual review and how many breaks are open (M7, R9).
    pub fn awaiting_manual_review(&self, refunds: u64, breaks: u64) {
        let shown = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.refunds_manual.set(shown(refunds));
        self.breaks_open.set(shown(breaks));
    }

    /// The length of the write-ahead log, the checkpointed part of it, and its restarts since the
    /// start.
    pub fn log(&self, bytes: u64, checkpointed_bytes: u64, restarts: u32) {
        let shown = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.wal_size_bytes.set(shown(bytes));
        self.wal_checkpointed_bytes.set(shown(checkpointed_bytes));
        self.wal_restarts.reset();
        self.wal_restarts.inc_by(f64::from(restarts));
    }

    /// This many entries of the exchange log were dropped.
    pub fn exchange_log_entries_dropped(&self, count: u32) {
        self.exchange_log_entries_dropped.inc_by(f64::from(count));
    }

    /// Blocks removed from the exchange log by reason, and the bytes that remain.
    pub fn exchange_log_removed(&self, counts: [(&'static str, u64); 2], bytes: u64) {
        for (reason, count) in counts {
            let counter = &self.exchange_log_blocks_removed;
            counter.with_label_values(&[reason]).inc_by(count);
        }
        self.exchange_log_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts work as leased until the returned value is dropped.
    pub fn work_in_progress(&self, work: &'static str) -> InFlightGuard {
        InFlightGuard::up(&self.work_in_progress.with_label_values(&[work]))
    }
}
