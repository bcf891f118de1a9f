//! What is counted of each institution: our calls, its callbacks, and its breaker.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};

use super::MetricRegistration;

/// The words of the domain's `BreakerState`.
const BREAKER_STATES: [&str; 3] = ["closed", "half_open", "open"];

/// Metrics by institution; only of those that are configured.
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
                "Calls to institutions, by whether they were answered.",
                &["institution", "call", "outcome"],
            )?,
            call_seconds: page.histograms(
                "institution_call_duration_seconds",
                "From a call to its reply, or to giving up on it.",
                &["institution", "call"],
            )?,
            callbacks: page.counters(
                "callbacks_total",
                "Callbacks received, by what became of them.",
                &["institution", "verdict"],
            )?,
            breakers: page.gauges(
                "institution_breaker",
                "1 for the state an institution's breaker is in: closed, half_open or open.",
                &["institution", "state"],
            )?,
            breaker_openings: page.counters(
                "institution_breaker_openings_total",
                "How often an institution was withheld from new orders because it failed.",
                &["institution"],
            )?,
            callbacks_missing: page.gauges(
                "institution_callbacks_missing",
                "1 while fewer than 95 of 100 of an institution's last payments were told of by its \
                 callback within 30 s; payments that wait there are asked about more often.",
                &["institution"],
            )?,
        })
    }

    /// An institution is enrolled: what an alarm waits for stands at 0 from now on.
    pub fn enrolled(&self, institution: &str) {
        for status in ["FORGED", "QUARANTINED"] {
            self.callbacks.with_label_values(&[institution, status]);
        }
        for call in ["create", "query", "close", "refund", "refund_query"] {
            let labels = [institution, call, "our_shortage"];
            self.calls.with_label_values(&labels);
        }
    }

    /// A call to an institution ended; `outcome` is what is known of its reply.
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

    /// A callback was judged. Only for configured institutions: the path is the caller's.
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

    /// An institution's breaker is in this state, and opened so often since the start.
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
