//! What is counted about the configuration in force: which, since when, and until when its keys
//! count.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use super::Page;

/// Metrics of reloads and keys. Every label is a word of the program, but version and digest, of
/// which only those in force are shown.
pub struct Configuration {
    info: IntGaugeVec,
    reloads: IntCounterVec,
    last_success: IntGauge,
    key_expiry: IntGaugeVec,
    store_free_bytes: IntGauge,
}

impl Configuration {
    pub(super) fn new(page: &Page<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            store_free_bytes: page.gauge(
                "store_free_bytes",
                "Free space on the store's disk; below [store] reserve_mb no order is begun.",
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
                 platform, merchant, institution, server_certificate, client_certificate, authority.",
                &["class"],
            )?,
        })
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

    /// A reload was accepted.
    pub fn accepted(&self) {
        self.reloads.with_label_values(&["accepted"]).inc();
    }

    /// A reload was refused; the one in force stays.
    pub fn refused(&self) {
        self.reloads.with_label_values(&["refused"]).inc();
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
