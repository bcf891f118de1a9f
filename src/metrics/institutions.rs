//! Metrics per institution: our calls, its callbacks, and its circuit breaker.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};

use super::MetricRegistration;

/// The names of the domain's `BreakerState`.
const BREAKER_STATES: [&str; 3] = ["closed", "half_open", "open"];

/// Metrics by institution; configured ones only.
pub struct InstitutionMetrics {
    calls: IntCounterVec,
    call_seconds: HistogramVec,
    callbacks: IntCounterVec,
    breakers: IntGaugeVec,
    breaker_openings: IntCounterVec,
    callbacks_missing: IntGaugeVec,
}

impl InstitutionMetrics {
    pub(super) fn new(page: &MetricRegistration<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            calls: page.counters(
                "institution_calls_total",
                "Calls to institutions, by outcome.",
                &["institution", "call", "outcome"],
            )?,
            call_seconds: page.histograms(
                "institution_call_duration_seconds",
                "Duration of a call, until its reply or failure.",
                &["institution", "call"],
            )?,
            callbacks: page.counters(
                "callbacks_total",
                "Callbacks received, by inbox status.",
                &["institution", "status"],
            )?,
            breakers: page.gauges(
                "institution_breaker",
                "1 for the state of an institution's circuit breaker: closed, half_open or open.",
                &["institution", "state"],
            )?,
            breaker_openings: page.counters(
                "institution_breaker_openings_total",
                "How often an institution's circuit breaker opened.",
                &["institution"],
            )?,
            callbacks_missing: page.gauges(
                "institution_callbacks_missing",
                "1 while callbacks within 30 s reported fewer than 95 of an institution's last 100 \
                 payments; payments pending there are polled more often.",
                &["institution"],
            )?,
        })
    }

    /// An institution is enrolled: creates the series on which alerts are defined, at 0.
    pub fn enrolled(&self, institution: &str) {
        for status in ["FORGED", "QUARANTINED"] {
            self.callbacks.with_label_values(&[institution, status]);
        }
        for call in ["create", "query", "close", "refund", "refund_query"] {
            let labels = [institution, call, "our_shortage"];
            self.calls.with_label_values(&labels);
        }
    }

    /// A call to an institution ended with this outcome.
    pub fn call(
        &self,
        institution: &str,
        call: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        self.calls
            .with_label_values(&[institution, call, outcome])
            .inc();
        self.call_seconds
            .with_label_values(&[institution, call])
            .observe(took.as_secs_f64());
    }

    /// The inbox status of a callback. Only for configured institutions: the path is caller input.
    pub fn callback(&self, institution: &str, status: &'static str) {
        self.callbacks
            .with_label_values(&[institution, status])
            .inc();
    }

    /// Whether an institution's callbacks go missing: 1 or 0.
    pub fn callbacks_missing(&self, institution: &str, missing: i64) {
        self.callbacks_missing
            .with_label_values(&[institution])
            .set(missing);
    }

    /// The state of an institution's circuit breaker, and how often it opened since the start.
    pub fn breaker(&self, institution: &str, state: &'static str, openings: u64) {
        for known in BREAKER_STATES {
            self.breakers
                .with_label_values(&[institution, known])
                .set(i64::from(known == state));
        }
        let counter = self.breaker_openings.with_label_values(&[institution]);
        counter.inc_by(openings.saturating_sub(counter.get()));
    }
}
