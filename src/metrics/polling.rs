//! What is counted of questions that nobody waits for.

use std::time::Duration;

use prometheus::{CounterVec, IntCounterVec};

use super::MetricRegistration;

/// Metrics by urgency: a word of the program.
pub struct PollingMetrics {
    questions: IntCounterVec,
    cpu_seconds: CounterVec,
}

impl PollingMetrics {
    pub(super) fn new(page: &MetricRegistration<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            questions: page.counters(
                "polled_orders_total",
                "Orders looked after without being asked, by urgency: doubt, signal (the payer is \
                 back or somebody looks), refund, payer (waits for its payer).",
                &["urgency"],
            )?,
            cpu_seconds: page.sums(
                "polling_cpu_seconds_total",
                "Processor time that this took, the store and connections at their usual cost.",
                &["urgency"],
            )?,
        })
    }

    /// An order was looked after, and that took so much of a processor.
    pub fn asked(&self, urgency: &'static str, cost: Duration) {
        self.questions.with_label_values(&[urgency]).inc();
        self.cpu_seconds
            .with_label_values(&[urgency])
            .inc_by(cost.as_secs_f64());
    }
}
