//! Every metric, with its name, unit and labels on one page, documented in `docs/metrics.md`.
//!
//! Labels are bounded: interfaces, names of our own enums, configured institutions. Never an order
//! number, never personal data (D1).

mod configuration;
mod edge;
mod institutions;
mod panics;
mod polling;
mod process;
mod store;

use std::time::Duration;

use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use configuration::ConfigurationMetrics;
pub use edge::{ConnectionGuard, EdgeMetrics};
pub use institutions::InstitutionMetrics;
pub use panics::count_panics;
pub use polling::PollingMetrics;
use process::ProcessMetrics;
pub use store::StoreMetrics;

/// From a tenth of a millisecond to ten seconds: commits at the low end, slow institutions at the
/// high end.
const SECONDS: [f64; 14] = [
    0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0,
];
/// Around the three seconds in which a merchant must be notified, and up to the first retries.
const NOTIFICATION_SECONDS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 5.0, 10.0, 60.0, 600.0,
];

/// The class of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerClass {
    /// An authenticated merchant.
    Merchant,
    /// An institution's callback.
    Institution,
    /// A payer's browser.
    Payer,
    /// Any other caller.
    Unknown,
}

impl CallerClass {
    fn word(self) -> &'static str {
        match self {
            Self::Merchant => "merchant",
            Self::Institution => "institution",
            Self::Payer => "payer",
            Self::Unknown => "unknown",
        }
    }
}

/// All metrics of one gateway; not global, so that several gateways can run in one process.
pub struct Metrics {
    /// Connections, rate limits and load shedding.
    pub front: EdgeMetrics,
    /// Calls, callbacks and circuit breakers.
    pub institutions: InstitutionMetrics,
    /// Commits, caches and pending work.
    pub memory: StoreMetrics,
    /// Background polling.
    pub polling: PollingMetrics,
    process: ProcessMetrics,
    registry: Registry,
    system: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    requests_in_flight: IntGauge,
    refusals: IntCounterVec,
    notifications: IntCounterVec,
    result_to_merchant_seconds: Histogram,
    /// The configuration in force.
    pub configuration: ConfigurationMetrics,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// Two metrics have the same name: a bug in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("paymux".to_owned()), None)?;
        let system = Registry::new();
        let page = MetricRegistration(&registry);
        let built = page.gauges(
            "build_info",
            "Always 1; the version of the program, and whether it is optimised (release) or \
             not (debug).",
            &["version", "profile"],
        )?;
        let profile = if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        };
        built
            .with_label_values(&[env!("CARGO_PKG_VERSION"), profile])
            .set(1);
        let metrics = Self {
            front: EdgeMetrics::new(&page)?,
            institutions: InstitutionMetrics::new(&page)?,
            memory: StoreMetrics::new(&page)?,
            polling: PollingMetrics::new(&page)?,
            process: ProcessMetrics::new(&page, &system)?,
            requests: page.counters(
                "requests_total",
                "Requests answered, by interface, class of caller and result.",
                &["interface", "caller_class", "result"],
            )?,
            request_seconds: page.histograms(
                "request_duration_seconds",
                "From the complete request to its response, by interface, class of caller and \
                 whether it was answered or refused.",
                &["interface", "caller_class", "outcome"],
            )?,
            requests_in_flight: page.gauge("requests_in_flight", "Requests in progress.")?,
            refusals: page.counters("refusals_total", "Refusals, by public code.", &["code"])?,
            notifications: page.counters(
                "notifications_total",
                "Attempts to notify merchants, by result.",
                &["result"],
            )?,
            result_to_merchant_seconds: page.histogram(
                "result_to_merchant_seconds",
                "From a durable result to the merchant's acknowledgement (N8).",
                &NOTIFICATION_SECONDS,
            )?,
            configuration: ConfigurationMetrics::new(&page)?,
            registry,
            system,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// Creates the series on which alerts are defined, at 0: `increase` does not see the first
    /// event of a series that appears with it.
    fn begin(&self) {
        for code in ["outcome_unknown", "unavailable"] {
            self.refusals.with_label_values(&[code]);
        }
        self.notifications.with_label_values(&["dead"]);
        self.front.begin();
        self.configuration.begin();
    }

    /// A request was answered or refused; `result` is a fixed name, never caller input.
    pub fn request(
        &self,
        labels: RequestLabels,
        refused: bool,
        result: &'static str,
        took: Duration,
    ) {
        let (interface, caller) = (labels.interface, labels.caller.word());
        let outcome = if refused { "refused" } else { "answered" };
        self.requests
            .with_label_values(&[interface, caller, result])
            .inc();
        self.request_seconds
            .with_label_values(&[interface, caller, outcome])
            .observe(took.as_secs_f64());
    }

    /// A request was refused with this public code.
    pub fn refusal(&self, code: &'static str) {
        self.refusals.with_label_values(&[code]).inc();
    }

    /// Counts a request as in progress until the returned value is dropped.
    pub fn in_flight(&self) -> InFlightGuard {
        InFlightGuard::up(&self.requests_in_flight)
    }

    /// An attempt to notify a merchant ended.
    pub fn notification(&self, result: &'static str) {
        self.notifications.with_label_values(&[result]).inc();
    }

    /// A merchant acknowledged a result this long after the result was durable (N8).
    pub fn result_to_merchant(&self, took: Duration) {
        self.result_to_merchant_seconds.observe(took.as_secs_f64());
    }

    /// The page `/metrics` shows, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.process.look();
        let mut families = self.registry.gather();
        families.extend(self.system.gather());
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_default()
    }
}

/// Labels of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLabels {
    /// The interface: a fixed name, never caller input.
    pub interface: &'static str,
    /// The class of caller, as far as authenticated.
    pub caller: CallerClass,
}

/// Work in progress; decrements its gauge on drop.
#[derive(Debug)]
pub struct InFlightGuard(IntGauge);

impl InFlightGuard {
    fn up(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Creates and registers metrics.
struct MetricRegistration<'a>(&'a Registry);

impl MetricRegistration<'_> {
    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        let made = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    /// Like [`Self::counters`], without labels.
    fn count(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let made = IntCounter::new(name, help)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    /// Like [`Self::counters`], with fractional seconds.
    fn sums(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<CounterVec, prometheus::Error> {
        let made = CounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    /// A counter of fractional seconds.
    fn counter(&self, name: &str, help: &str) -> Result<Counter, prometheus::Error> {
        let made = Counter::new(name, help)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    /// Like [`Self::gauge`], with fractional seconds.
    fn moment(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        let made = Gauge::new(name, help)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    /// Like [`Self::gauges`], with fractional seconds.
    fn moments(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        let made = GaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let made = IntGauge::new(name, help)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let made = HistogramVec::new(opts, labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let made = Histogram::with_opts(opts)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A series with an alert exists before its first event, at 0.
    #[test]
    fn counters_with_alarms_start_at_zero() {
        let metrics = Metrics::new().unwrap();
        metrics.institutions.enrolled("meadow");
        let page = metrics.render();
        for line in [
            r#"paymux_callbacks_total{institution="meadow",status="QUARANTINED"} 0"#,
            r#"paymux_institution_calls_total{call="refund",institution="meadow",outcome="our_shortage"} 0"#,
            r#"paymux_connections_refused_total{cause="shortage"} 0"#,
            r#"paymux_config_reloads_total{result="refused"} 0"#,
            r#"paymux_refusals_total{code="outcome_unknown"} 0"#,
            r#"paymux_notifications_total{result="dead"} 0"#,
        ] {
            assert!(page.contains(line), "{line} is not in {page}");
        }
    }

    /// Each metric is recorded and rendered with its labels.
    #[test]
    fn what_is_recorded_is_shown() {
        let metrics = Metrics::new().unwrap();
        let harbour = "harbour";
        let soon = Duration::from_millis(3);
        let labels = RequestLabels {
            interface: "place_order",
            caller: CallerClass::Merchant,
        };
        metrics.request(labels, false, "accepted", soon);
        metrics.request(labels, true, "nonce_spent", soon);
        metrics.refusal("nonce_spent");
        metrics
            .institutions
            .call(harbour, "create", "accepted", soon);
        metrics.institutions.breaker(harbour, "closed", 1);
        metrics.institutions.breaker(harbour, "open", 2);
        metrics.institutions.callback(harbour, "new");
        metrics.notification("success");
        metrics.result_to_merchant(soon);
        let memory = &metrics.memory;
        memory.work_lag("notify", Duration::from_millis(500));
        memory.commit(12, soon);
        memory.dead(4);
        memory.awaiting_manual_review(2, 3);
        memory.exchange_log_entries_dropped(5);
        memory.exchange_log_removed([("age", 0), ("size", 2)], 77);
        memory.nonces("reads", 2, 5, 4);
        memory.nonces("reads", 3, 5, 4);
        metrics.configuration.in_force(1, "a", 6);
        metrics.configuration.in_force(2, "b", 7);
        metrics.configuration.accepted();
        metrics.configuration.refused();
        metrics.configuration.key_expiry("merchant", Some(8));
        metrics.configuration.key_expiry("platform", None);
        let counted = metrics.in_flight();
        let page = metrics.render();
        for line in [
            r#"paymux_requests_total{caller_class="merchant",interface="place_order",result="accepted"} 1"#,
            r#"paymux_refusals_total{code="nonce_spent"} 1"#,
            r#"paymux_institution_calls_total{call="create",institution="harbour",outcome="accepted"} 1"#,
            r#"paymux_institution_breaker{institution="harbour",state="closed"} 0"#,
            r#"paymux_institution_breaker{institution="harbour",state="open"} 1"#,
            r#"paymux_institution_breaker_openings_total{institution="harbour"} 2"#,
            r#"paymux_callbacks_total{institution="harbour",status="new"} 1"#,
            r#"paymux_notifications_total{result="success"} 1"#,
            r#"paymux_work_lag_seconds{work="notify"} 0.5"#,
            r#"paymux_nonce_cache_lookups_total{cache="reads",result="hit"} 3"#,
            r#"paymux_nonce_cache_entries{cache="reads"} 4"#,
            r#"paymux_request_duration_seconds_count{caller_class="merchant",interface="place_order",outcome="refused"} 1"#,
            r#"paymux_configuration_info{digest="b",version="2"} 1"#,
            r#"paymux_config_reloads_total{result="accepted"} 1"#,
            r#"paymux_config_reloads_total{result="refused"} 1"#,
            "paymux_config_last_success_timestamp_seconds 7",
            r#"paymux_key_expiry_timestamp_seconds{class="merchant"} 8"#,
            "paymux_store_commit_changes_sum 12",
            "paymux_events_dead 4",
            "paymux_refunds_manual 2",
            "paymux_reconciliation_breaks_open 3",
            "paymux_exchange_log_entries_dropped_total 5",
            r#"paymux_exchange_log_blocks_removed_total{reason="size"} 2"#,
            "paymux_exchange_log_bytes 77",
            "paymux_result_to_merchant_seconds_count 1",
            "paymux_requests_in_flight 1",
            "paymux_build_info{",
            "process_resident_memory_bytes ",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        assert!(!page.contains(r#"digest="a""#) && !page.contains("class=\"platform"));
        drop(counted);
        assert!(metrics.render().contains("paymux_requests_in_flight 0"));
    }
}
