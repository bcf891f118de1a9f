//! Every metric: name, unit and labels on one page.
//!
//! Labels are bounded: interfaces, words of our own enums, configured institutions. Never a number
//! of an order, never anything personal (D1).

mod configuration;
mod front;

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

pub use configuration::Configuration;
pub use front::{Counted, Front};

/// From a tenth of a millisecond to ten seconds: a commit lies at the left, a slow institution
/// at the right.
const SECONDS: [f64; 14] = [
    0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0,
];
/// Changes in one commit.
const BATCH: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The words of the domain's `BreakerState`.
const BREAKER_STATES: [&str; 3] = ["closed", "half_open", "open"];

/// What kind of caller asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerClass {
    /// A merchant that proved itself.
    Merchant,
    /// An institution's callback.
    Institution,
    /// A payer's browser.
    Payer,
    /// Nobody we know.
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

/// All metrics of one gateway; no global, so that several can live in one process.
pub struct Metrics {
    /// Who was let in, who was kept out.
    pub front: Front,
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    requests_in_flight: IntGauge,
    refusals: IntCounterVec,
    institution_calls: IntCounterVec,
    institution_call_seconds: HistogramVec,
    breakers: Breakers,
    callbacks: IntCounterVec,
    notifications: IntCounterVec,
    result_to_notice_seconds: Histogram,
    works_due: IntGaugeVec,
    store_commit_changes: Histogram,
    store_commit_seconds: Histogram,
    /// About the configuration in force.
    pub configuration: Configuration,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// If two of them have one name: a fault of this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("paymux".to_owned()), None)?;
        let page = Page(&registry);
        let built = page.gauges(
            "build_info",
            "Always 1; the version of the program.",
            &["version"],
        )?;
        built.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            front: Front::new(&page)?,
            requests: page.counters(
                "requests_total",
                "Requests answered, by interface, class of caller and result.",
                &["interface", "caller_class", "result"],
            )?,
            request_seconds: page.histograms(
                "request_duration_seconds",
                "From a whole request to its answer.",
                &["interface"],
            )?,
            requests_in_flight: page.gauge(
                "requests_in_flight",
                "Requests handed over and not answered.",
            )?,
            refusals: page.counters("refusals_total", "Refusals, by public code.", &["code"])?,
            institution_calls: page.counters(
                "institution_calls_total",
                "Calls to institutions, by what the reply proved.",
                &["institution", "call", "outcome"],
            )?,
            institution_call_seconds: page.histograms(
                "institution_call_duration_seconds",
                "From a call to its reply, or to giving up on it.",
                &["institution", "call"],
            )?,
            breakers: Breakers::on(&page)?,
            callbacks: page.counters(
                "callbacks_total",
                "Callbacks received, by what became of them.",
                &["institution", "verdict"],
            )?,
            notifications: page.counters(
                "notifications_total",
                "Attempts to tell merchants, by result.",
                &["result"],
            )?,
            result_to_notice_seconds: page.histogram(
                "result_to_notice_seconds",
                "From a durable result to the end of its first notification (N8).",
                &SECONDS,
            )?,
            works_due: page.gauges("work_due", "Leasable work whose time has come.", &["work"])?,
            store_commit_changes: page.histogram(
                "store_commit_changes",
                "Changes written by one commit.",
                &BATCH,
            )?,
            store_commit_seconds: page.histogram(
                "store_commit_duration_seconds",
                "One commit, synchronised.",
                &SECONDS,
            )?,
            configuration: Configuration::new(&page)?,
            registry,
        })
    }

    /// A request was answered. `interface` and `result` are words of the program, never of the
    /// caller.
    pub fn request(
        &self,
        interface: &'static str,
        caller: CallerClass,
        result: &'static str,
        took: Duration,
    ) {
        self.requests
            .with_label_values(&[interface, caller.word(), result])
            .inc();
        self.request_seconds
            .with_label_values(&[interface])
            .observe(took.as_secs_f64());
    }

    /// A request was refused with this public code.
    pub fn refusal(&self, code: &'static str) {
        self.refusals.with_label_values(&[code]).inc();
    }

    /// Counts a request as under way until the returned value is dropped.
    pub fn in_flight(&self) -> InFlight {
        self.requests_in_flight.inc();
        InFlight(self.requests_in_flight.clone())
    }

    /// A call to an institution ended; `outcome` names the finding.
    pub fn institution_call(
        &self,
        institution: &str,
        call: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        self.institution_calls
            .with_label_values(&[institution, call, outcome])
            .inc();
        self.institution_call_seconds
            .with_label_values(&[institution, call])
            .observe(took.as_secs_f64());
    }

    /// An institution's breaker is in this state, and opened so often since the start.
    pub fn breaker(&self, institution: &str, state: &'static str, openings: u64) {
        for known in BREAKER_STATES {
            let gauge = &self.breakers.states;
            gauge
                .with_label_values(&[institution, known])
                .set(i64::from(known == state));
        }
        let counter = self.breakers.openings.with_label_values(&[institution]);
        counter.inc_by(openings.saturating_sub(counter.get()));
    }

    /// A callback was judged. Only for configured institutions: the path is the caller's.
    pub fn callback(&self, institution: &str, verdict: &'static str) {
        self.callbacks
            .with_label_values(&[institution, verdict])
            .inc();
    }

    /// An attempt to tell a merchant ended.
    pub fn notification(&self, result: &'static str) {
        self.notifications.with_label_values(&[result]).inc();
    }

    /// A result's first notification ended this long after the result was durable (N8).
    pub fn result_to_notice(&self, took: Duration) {
        self.result_to_notice_seconds.observe(took.as_secs_f64());
    }

    /// How much work of a kind is due.
    pub fn work_due(&self, work: &'static str, count: u32) {
        self.works_due
            .with_label_values(&[work])
            .set(i64::from(count));
    }

    /// The store committed this many changes at once.
    pub fn commit(&self, changes: u32, took: Duration) {
        self.store_commit_changes.observe(f64::from(changes));
        self.store_commit_seconds.observe(took.as_secs_f64());
    }

    /// The page `/metrics` shows, in Prometheus' text format.
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}

/// One request under way; counts itself out when dropped.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// How new orders may go to each institution.
struct Breakers {
    states: IntGaugeVec,
    openings: IntCounterVec,
}

impl Breakers {
    fn on(page: &Page<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            states: page.gauges(
                "institution_breaker",
                "1 for the state an institution's breaker is in: closed, half_open or open.",
                &["institution", "state"],
            )?,
            openings: page.counters(
                "institution_breaker_openings_total",
                "How often an institution was withheld from new orders because it failed.",
                &["institution"],
            )?,
        })
    }
}

/// Makes and registers in one step.
struct Page<'a>(&'a Registry);

impl Page<'_> {
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

    /// Each metric is one page's business: what is recorded is shown, with its labels.
    #[test]
    fn what_is_recorded_is_shown() {
        let metrics = Metrics::new().unwrap();
        let harbour = "harbour";
        let soon = Duration::from_millis(3);
        metrics.request("place_order", CallerClass::Merchant, "accepted", soon);
        metrics.refusal("nonce_spent");
        metrics.institution_call(harbour, "create", "accepted", soon);
        metrics.breaker(harbour, "closed", 1);
        metrics.breaker(harbour, "open", 2);
        metrics.callback(harbour, "new");
        metrics.notification("success");
        metrics.result_to_notice(soon);
        metrics.work_due("notify", 7);
        metrics.commit(12, soon);
        metrics.configuration.in_force(1, "a", 6);
        metrics.configuration.in_force(2, "b", 7);
        metrics.configuration.accepted();
        metrics.configuration.refused();
        metrics.configuration.key_expiry("merchant", Some(8));
        metrics.configuration.key_expiry("platform", None);
        metrics.configuration.taken_out(1, 0);
        let counted = metrics.in_flight();
        let page = metrics.render();
        for line in [
            r#"paymux_requests_total{caller_class="merchant",interface="place_order",result="accepted"} 1"#,
            r#"paymux_refusals_total{code="nonce_spent"} 1"#,
            r#"paymux_institution_calls_total{call="create",institution="harbour",outcome="accepted"} 1"#,
            r#"paymux_institution_breaker{institution="harbour",state="closed"} 0"#,
            r#"paymux_institution_breaker{institution="harbour",state="open"} 1"#,
            r#"paymux_institution_breaker_openings_total{institution="harbour"} 2"#,
            r#"paymux_callbacks_total{institution="harbour",verdict="new"} 1"#,
            r#"paymux_notifications_total{result="success"} 1"#,
            r#"paymux_work_due{work="notify"} 7"#,
            r#"paymux_configuration_info{digest="b",version="2"} 1"#,
            r#"paymux_config_reloads_total{result="accepted"} 1"#,
            r#"paymux_config_reloads_total{result="refused"} 1"#,
            "paymux_config_last_success_timestamp_seconds 7",
            r#"paymux_key_expiry_timestamp_seconds{class="merchant"} 8"#,
            r#"paymux_institutions_taken_out{state="kept"} 1"#,
            "paymux_store_commit_changes_sum 12",
            "paymux_result_to_notice_seconds_count 1",
            "paymux_requests_in_flight 1",
            "paymux_build_info{",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        assert!(!page.contains(r#"digest="a""#) && !page.contains("class=\"platform"));
        drop(counted);
        assert!(metrics.render().contains("paymux_requests_in_flight 0"));
    }
}
