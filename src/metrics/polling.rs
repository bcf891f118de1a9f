//! Metrics of background polling.

use std::time::Duration;

use prometheus::{CounterVec, IntCounterVec};

use super::MetricRegistration;

/// Metrics by urgency: a fixed name.
pub struct PollingMetrics {
    questions: IntCounterVec,
    cpu_seconds: CounterVec,
}

impl PollingMetrics {
    pub(super) fn new(page: &MetricRegistration<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            questions: page.counters(
                "polled_orders_total",
                "Orders polled in the background, by urgency: unresolved (an unknown outcome), \
                 signal (the payer is back or the order is read), refund, payer (waits for its \
                 payer).",
                &["urgency"],
            )?,
            cpu_seconds: page.sums(
                "polling_cpu_seconds_total",
                "Processor time of that polling, with an estimate for the store and connections.",
                &["urgency"],
            )?,
        })
    }

    /// An order was polled at this processor cost.
    pub fn asked(&self, urgency: &'static str, cost: Duration) {
        self.questions.with_label_values(&[urgency]).inc();
        self.cpu_seconds
            .with_label_values(&[urgency])
            .inc_by(cost.as_secs_f64());
    }
}
