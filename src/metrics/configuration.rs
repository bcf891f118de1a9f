//! What is counted about the configuration in force: which, since when, and until when its keys
//! count.

use std::time::Duration;

use prometheus::{Gauge, IntCounterVec, IntGauge, IntGaugeVec};

use super::MetricRegistration;

/// Metrics of reloads and keys. Every label is a word of the program, but version and digest, of
/// which only those in force are shown.
pub struct ConfigurationMetrics {
    info: IntGaugeVec,
    reloads: IntCounterVec,
    last_success: IntGauge,
    key_expiry: IntGaugeVec,
    unusable: IntGaugeVec,
    store_free_bytes: IntGauge,
    clock_offset: Gauge,
}

impl ConfigurationMetrics {
    pub(super) fn new(page: &MetricRegistration<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            store_free_bytes: page.gauge(
                "store_free_bytes",
                "Free space on the store's disk; below [store] reserve_mb no order is begun.",
            )?,
            clock_offset: page.moment(
                "clock_offset_seconds",
                "By how much the machine's clock was set since the start: what it shows, less what \
                 it showed then and the time since.",
            )?,
            info: page.gauges(
                "configuration_info",
                "Always 1; the version of the configuration in force (F2), SHA-256 of its text.",
                &["version", "digest"],
            )?,
            reloads: page.counters(
                "config_reloads_total",
                "Reloads of the configuration, by result: accepted, or refused and without effect.",
                &["result"],
            )?,
            last_success: page.gauge(
                "config_last_success_timestamp_seconds",
                "When the configuration in force came into force, by a start or a reload.",
            )?,
            key_expiry: page.gauges(
                "key_expiry_timestamp_seconds",
                "When the first of a class is left without a key or certificate that counts: \
                 platform, towards_institution, merchant, institution, operator, server_certificate, \
                 client_certificate, authority.",
                &["class"],
            )?,
            unusable: page.gauges(
                "credentials_unusable",
                "Keys, secrets and certificates that the configuration in force names and that \
                 cannot be used, by whose they are: merchant, institution, operator, gateway.",
                &["party"],
            )?,
        })
    }

    /// As [`super::Metrics`] begins.
    pub(super) fn begin(&self) {
        for result in ["accepted", "refused"] {
            self.reloads.with_label_values(&[result]);
        }
    }

    /// Another configuration is in force; the one before is no longer shown.
    pub fn in_force(&self, version: u64, digest: &str, now_s: i64) {
        self.info.reset();
        let labels = [&*version.to_string(), digest];
        self.info.with_label_values(&labels).set(1);
        self.last_success.set(now_s);
    }

    /// So much is free on the store's disk.
    pub fn room(&self, free_bytes: u64) {
        self.store_free_bytes
            .set(i64::try_from(free_bytes).unwrap_or(i64::MAX));
    }

    /// The machine's clock is so far off what it showed at the start and the time since.
    #[expect(clippy::float_arithmetic, reason = "a metric in seconds")]
    pub fn clock_offset(&self, offset_ms: i64) {
        let (whole, rest) = (offset_ms.div_euclid(1_000), offset_ms.rem_euclid(1_000));
        let whole = i32::try_from(whole).unwrap_or(if whole > 0 { i32::MAX } else { i32::MIN });
        let rest = Duration::from_millis(u64::try_from(rest).unwrap_or(0));
        self.clock_offset.set(f64::from(whole) + rest.as_secs_f64());
    }

    /// A reload was accepted.
    pub fn accepted(&self) {
        self.reloads.with_label_values(&["accepted"]).inc();
    }

    /// A reload was refused; the one in force stays.
    pub fn refused(&self) {
        self.reloads.with_label_values(&["refused"]).inc();
    }

    /// So many keys and certificates of this kind of party are named and cannot be used.
    pub fn unusable(&self, party: &'static str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.unusable.with_label_values(&[party]).set(count);
    }

    /// Until when everybody of a class has a key that counts; nothing if none of it ends.
    pub fn key_expiry(&self, class: &'static str, until_s: Option<i64>) {
        match until_s {
            Some(until_s) => self.key_expiry.with_label_values(&[class]).set(until_s),
            None => {
                // None was shown: the same thing.
                let _ = self.key_expiry.remove_label_values(&[class]);
            }
        }
    }
}
