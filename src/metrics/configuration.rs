//! Metrics of the configuration: which is in force, since when, and when its keys expire.

use std::time::Duration;

use prometheus::{Gauge, IntCounterVec, IntGauge, IntGaugeVec};

use super::MetricRegistration;

/// Metrics of reloads and keys. Every label is a fixed name except version and digest, of which
/// only those in force are exported.
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
                "Free space on the store's disk; below [store] reserve_mb no new orders are taken.",
            )?,
            clock_offset: page.moment(
                "clock_offset_seconds",
                "How far the machine's clock was set since the start: its reading less its \
                 reading then and the elapsed time.",
            )?,
            info: page.gauges(
                "configuration_info",
                "Always 1; the version of the configuration in force (F2), and its file's SHA-256.",
                &["version", "digest"],
            )?,
            reloads: page.counters(
                "config_reloads_total",
                "Reloads of the configuration, by result: accepted or refused (without effect).",
                &["result"],
            )?,
            last_success: page.gauge(
                "config_last_success_timestamp_seconds",
                "When the configuration in force was activated, by a start or a reload.",
            )?,
            key_expiry: page.gauges(
                "key_expiry_timestamp_seconds",
                "When the first key or certificate of a class expires without a successor: \
                 platform, towards_institution, merchant, institution, staff, server_certificate, \
                 client_certificate, authority.",
                &["class"],
            )?,
            unusable: page.gauges(
                "credentials_unusable",
                "Keys, secrets and certificates that the configuration in force names and that \
                 cannot be used, by owner: merchant, institution, staff, gateway.",
                &["party"],
            )?,
        })
    }

    /// Creates its series at 0.
    pub(super) fn begin(&self) {
        for result in ["accepted", "refused"] {
            self.reloads.with_label_values(&[result]);
        }
    }

    /// A new configuration is in force; the previous one is no longer exported.
    pub fn in_force(&self, version: u64, digest: &str, now_s: i64) {
        self.info.reset();
        let labels = [&*version.to_string(), digest];
        self.info.with_label_values(&labels).set(1);
        self.last_success.set(now_s);
    }

    /// Free bytes on the store's disk.
    pub fn room(&self, free_bytes: u64) {
        self.store_free_bytes
            .set(i64::try_from(free_bytes).unwrap_or(i64::MAX));
    }

    /// The offset of the machine's clock since the start.
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

    /// A reload was refused; the configuration in force stays.
    pub fn refused(&self) {
        self.reloads.with_label_values(&["refused"]).inc();
    }

    /// How many keys and certificates of this party kind cannot be used.
    pub fn unusable(&self, party: &'static str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.unusable.with_label_values(&[party]).set(count);
    }

    /// When the first of a class expires without a successor; `None` if none expires.
    pub fn key_expiry(&self, class: &'static str, until_s: Option<i64>) {
        match until_s {
            Some(until_s) => self.key_expiry.with_label_values(&[class]).set(until_s),
            None => {
                // It was not exported before, which is the same.
                let _ = self.key_expiry.remove_label_values(&[class]);
            }
        }
    }
}
