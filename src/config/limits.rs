//! `[limits]`: each value has a default and bounds.

use std::time::Duration;

use crate::config::reading::ConfigReader;
use crate::config::section::{BoundsReason, Section};
use crate::flow::admit_request::SignatureWindow;

/// Default maximum of concurrent connections, if enough files can be open.
pub const CONNECTIONS_MAX: u32 = 8_192;

/// The limits of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Maximum size of a request's body. Unit: bytes.
    pub body_bytes_max: usize,
    /// Maximum number of lines of a request's head.
    pub header_lines_max: usize,
    /// Maximum size of a request's head. Unit: bytes.
    pub header_bytes_max: usize,
    /// Timeout of a TLS handshake, from the connection on.
    pub handshake: Duration,
    /// Timeout of receiving a request's head.
    pub head: Duration,
    /// Timeout of receiving its body, from the head on.
    pub body: Duration,
    /// Minimum rate of a body, after the first two seconds. Unit: bytes per second.
    pub body_bytes_per_second_min: u32,
    /// Timeout of sending an answer.
    pub write: Duration,
    /// How long a connection may stay idle.
    pub idle: Duration,
    /// How far a signature's times may differ from our clock.
    pub window: SignatureWindow,
    /// Maximum of concurrent requests; beyond it, 503 at once.
    pub in_flight_max: u32,
    /// With this many in flight new orders are rejected; half of the maximum by default.
    pub in_flight_orders_max: u32,
    /// With this many in flight payers' choices are rejected as well; three quarters by default.
    pub in_flight_selections_max: u32,
    /// How long a request may wait for a permit and for the processor before new orders are rejected.
    pub delay: Duration,
    /// The minimum delay of a rejected caller's next request of that priority.
    pub rejection_pause: Duration,
    /// How many such requests are read per second; the others wait longer.
    pub rejections_per_second_max: u32,
    /// How long a complete request may wait before it is processed.
    pub start: Duration,
    /// Maximum of concurrent connections. By default [`CONNECTIONS_MAX`], or as many as the process's
    /// limit of open files allows.
    pub connections_max: Option<u32>,
    /// Maximum of concurrent connections of one address; of IPv6 from one /64, twice as many from a /56,
    /// four times from a /48.
    pub connections_per_address_max: u32,
    /// Maximum of TLS handshakes that compete for the processor at once.
    pub handshakes_max: u32,
    /// The same from one address or IPv6 /64.
    pub handshakes_per_address_max: u32,
    /// The same for all addresses together under overload.
    pub handshakes_under_load_max: u32,
    /// Maximum of requests on one connection.
    pub requests_per_connection_max: u32,
    /// Maximum of pipelined requests in a row.
    pub pipelined_max: u32,
    /// Rate limit by client certificate or address, before the signature is verified.
    pub requests_per_second_per_caller: u32,
    /// Rate limit by merchant, after that.
    pub requests_per_second_per_merchant: u32,
    /// How often one caller is shown the signature base we computed, per second.
    pub signature_bases_per_second_per_caller: u32,
    /// The same for all callers together.
    pub signature_bases_per_second: u32,
    /// How long a create waits for its permit at an institution.
    pub permit_wait: Duration,
    /// Creates waiting for permits at all institutions together: by default and at most half of
    /// [`Self::in_flight_orders_max`].
    pub permits_waiting_in_all_max: u32,
    /// Of them, at one institution: by default and at most half.
    pub permits_waiting_max: u32,
    /// Of those, of one merchant; half by default.
    pub permits_waiting_per_merchant_max: u32,
    /// Share of an institution's declared rate that background queries may use while payments start there.
    /// Unit: percent.
    pub background_rate_percent: u32,
    /// Share of the processors that they may use. Unit: percent.
    pub background_cpu_percent: u32,
    /// How long an institution must stay in the file after its last payment ended: a late payment may still
    /// arrive, and a payment may be refunded (F2). Unit: days.
    pub removal_guard_days: u32,
    /// How long the exchange log is kept for `paymux explain`; 0 disables it. Unit: days.
    pub exchange_log_days: u32,
    /// Maximum disk space of the exchange log; its oldest blocks are removed first. Unit: bytes.
    pub exchange_log_bytes_max: u64,
}

pub(super) fn limits(r: &mut ConfigReader<'_>, mut s: Section<'_>) -> GatewayLimits {
    let mut numbers = LimitReader { r, s: &mut s };
    let in_flight_max = numbers.count("in_flight_max", 1_024, 1..=100_000);
    let all = u64::from(in_flight_max);
    let part = |of: u64| all.saturating_mul(of).div_ceil(4);
    let in_flight_selections_max = numbers.count("in_flight_choices_max", part(3), 1..=all);
    // Never more than choices: the load-shedding priority is not configurable (R-6.4-1c).
    let least = u64::from(in_flight_selections_max);
    let orders = part(2).min(least);
    let orders_max = numbers.count("in_flight_orders_max", orders, 1..=least);
    let [in_all, at_one, of_merchant] = waiting(&mut numbers, u64::from(orders_max));
    let per_address = numbers.count("connections_per_address_max", 256, 1..=1_000_000);
    let rejections = numbers.count("rejections_per_second_max", 5_000, 10..=1_000_000);
    let on_one = numbers.count("requests_per_connection_max", 100_000, 1..=1_000_000_000);
    let limits = GatewayLimits {
        in_flight_max,
        in_flight_selections_max,
        in_flight_orders_max: orders_max,
        body_bytes_max: numbers.size("body_bytes_max", 65_536, 4_096..=1_048_576),
        header_lines_max: numbers.size("header_lines_max", 64, 16..=256),
        header_bytes_max: numbers.size("header_bytes_max", 16_384, 4_096..=65_536),
        handshake: numbers.ms("handshake_ms", 5_000, 100..=60_000),
        head: numbers.ms("head_ms", 5_000, 100..=60_000),
        body: numbers.ms("body_ms", 10_000, 100..=120_000),
        body_bytes_per_second_min: numbers.count("body_bytes_per_second_min", 1_024, 1..=65_536),
        write: numbers.ms("write_ms", 10_000, 100..=120_000),
        idle: numbers.ms("idle_ms", 60_000, 1_000..=3_600_000),
        window: window(&mut numbers),
        delay: numbers.ms("delay_ms", 20, 5..=10_000),
        rejection_pause: numbers.ms("rejection_pause_ms", 15, 0..=1_000),
        rejections_per_second_max: rejections,
        start: numbers.ms("start_ms", 1_000, 50..=10_000),
        connections_max: numbers.count_if_given("connections_max", 1..=1_000_000),
        connections_per_address_max: per_address,
        handshakes_max: numbers.count("handshakes_max", 32, 1..=100_000),
        handshakes_per_address_max: numbers.count("handshakes_per_address_max", 8, 1..=100_000),
        handshakes_under_load_max: numbers.count("handshakes_under_load_max", 8, 1..=100_000),
        requests_per_connection_max: on_one,
        pipelined_max: numbers.count("pipelined_max", 32, 0..=10_000),
        requests_per_second_per_caller: numbers.count(
            "requests_per_second_per_caller",
            500,
            1..=1_000_000,
        ),
        requests_per_second_per_merchant: numbers.count(
            "requests_per_second_per_merchant",
            500,
            1..=1_000_000,
        ),
        signature_bases_per_second_per_caller: numbers.count(
            "signature_bases_per_second_per_caller",
            1,
            1..=1_000,
        ),
        signature_bases_per_second: numbers.count("signature_bases_per_second", 20, 1..=10_000),
        permit_wait: numbers.ms("permit_wait_ms", 2_000, 0..=10_000),
        permits_waiting_in_all_max: in_all,
        permits_waiting_max: at_one,
        permits_waiting_per_merchant_max: of_merchant,
        background_rate_percent: numbers.count("background_rate_percent", 25, 1..=90),
        background_cpu_percent: numbers.count("background_cpu_percent", 10, 1..=90),
        removal_guard_days: numbers.count("removal_guard_days", 365, 1..=3_650),
        exchange_log_days: numbers.count("exchange_log_days", 30, 0..=365),
        exchange_log_bytes_max: numbers.bytes(LOG_BYTES_MAX, 4 << 30, (16 << 20)..=(1 << 40)),
    };
    s.end(r);
    limits
}

const LOG_BYTES_MAX: &str = "exchange_log_bytes_max";

fn window(numbers: &mut LimitReader<'_, '_, '_>) -> SignatureWindow {
    SignatureWindow {
        created_past_s: numbers.seconds("created_past_s", 300, 30..=3_600),
        created_ahead_s: numbers.seconds("created_ahead_s", 30, 0..=300),
        expires_max_s: numbers.seconds("expires_max_s", 300, 30..=3_600),
    }
}

/// How many creates may wait for permits: in all, at one institution, of one merchant there. Each waits
/// as a request in flight, so those at one silent institution must not be most of the requests in
/// flight, nor most of those that wait.
fn waiting(numbers: &mut LimitReader<'_, '_, '_>, orders_max: u64) -> [u32; 3] {
    let half = |of: u64| of.checked_div(2).unwrap_or(0);
    let most = half(orders_max);
    let in_all = numbers.share(
        "permits_waiting_in_all_max",
        most,
        most,
        "half of in_flight_orders_max",
        "in_flight_orders_max",
    );
    let most = half(in_all);
    let at_one = numbers.share(
        "permits_waiting_max",
        most,
        most,
        "half of permits_waiting_in_all_max",
        "permits_waiting_in_all_max",
    );
    let of_merchant = numbers.share(
        "permits_waiting_per_merchant_max",
        half(at_one),
        at_one,
        "permits_waiting_max",
        "permits_waiting_max",
    );
    [in_all, at_one, of_merchant].map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// Whole numbers of one table, in the types they are used in. A number out of bounds has been reported
/// already, so nothing is truncated here.
struct LimitReader<'s, 'r, 'd> {
    r: &'s mut ConfigReader<'r>,
    s: &'s mut Section<'d>,
}

type NumberRange = std::ops::RangeInclusive<u64>;

impl LimitReader<'_, '_, '_> {
    fn count(&mut self, name: &'static str, default: u64, bounds: NumberRange) -> u32 {
        let number = self.s.number(self.r, name, default, bounds);
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    fn count_if_given(&mut self, name: &'static str, bounds: NumberRange) -> Option<u32> {
        self.s.knows(&[name]);
        let is_said = self.s.has(name);
        is_said.then(|| self.count(name, *bounds.start(), bounds))
    }

    fn bytes(&mut self, name: &'static str, default: u64, bounds: NumberRange) -> u64 {
        self.s.number(self.r, name, default, bounds)
    }

    fn size(&mut self, name: &'static str, default: u64, bounds: NumberRange) -> usize {
        let number = self.s.number(self.r, name, default, bounds);
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    /// A number bounded by another, which may be raised instead.
    fn share(
        &mut self,
        name: &'static str,
        default: u64,
        most: u64,
        in_words: &str,
        other: &str,
    ) -> u64 {
        let advice =
            format!("write {most} or less, or raise {other}; without the line it is {default}");
        let why = format!(", {in_words}");
        let reason = BoundsReason {
            why: &why,
            advice: Some(&advice),
        };
        self.s.number_for(self.r, name, default, 0..=most, reason)
    }

    fn seconds(&mut self, name: &'static str, default: u64, bounds: NumberRange) -> i64 {
        let number = self.s.number(self.r, name, default, bounds);
        i64::try_from(number).unwrap_or(i64::MAX)
    }

    fn ms(&mut self, name: &'static str, default: u64, bounds: NumberRange) -> Duration {
        Duration::from_millis(self.s.number(self.r, name, default, bounds))
    }
}
