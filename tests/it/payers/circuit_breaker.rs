//! The circuit breaker over one institution's calls, under a manual clock.

use std::time::Duration;

use paymux::domain::identifiers::Timestamp;
use paymux::domain::institutions::{
    BreakerDecision, BreakerState, CallEnd, CallPurpose, CircuitBreaker, Health, HealthSettings,
};

use CallEnd::{Answered, Failed, Unreachable};
use CallPurpose::{Create, Query};

/// An institution, and the time.
struct BreakerTestbed {
    breaker: CircuitBreaker,
    settings: HealthSettings,
    now_ms: i64,
}

impl BreakerTestbed {
    fn new() -> Self {
        Self {
            breaker: CircuitBreaker::default(),
            settings: HealthSettings::default(),
            now_ms: 1_000_000,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.now_ms)
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
    }

    /// A call of this duration.
    fn call_of(&mut self, ms: i64, purpose: CallPurpose, end: CallEnd) {
        let begun = self.breaker.begin(self.now());
        self.pass(ms);
        let now = self.now();
        self.breaker.end(&self.settings, begun, purpose, end, now);
    }

    fn call(&mut self, purpose: CallPurpose, end: CallEnd) {
        self.call_of(10, purpose, end);
    }

    fn calls(&mut self, count: usize, purpose: CallPurpose, end: CallEnd) {
        for _ in 0..count {
            self.call(purpose, end);
        }
    }

    fn state(&mut self) -> BreakerState {
        self.breaker.breaker(self.now())
    }

    fn health(&mut self) -> Health {
        let now = self.now();
        self.breaker.standing(&self.settings, now)
    }

    fn enter(&mut self) -> BreakerDecision {
        let now = self.now();
        self.breaker.enter(&self.settings, now)
    }

    /// The length of the open interval that has just begun.
    fn pause_ms(&mut self) -> i64 {
        let began = self.now_ms;
        assert_eq!(self.state(), BreakerState::Open);
        while self.state() == BreakerState::Open {
            self.pass(100);
        }
        assert_eq!(self.state(), BreakerState::HalfOpen);
        self.now_ms - began
    }
}

/// A share of failures opens it, once there are enough calls for a share; refusals are replies.
#[test]
fn a_share_of_failures_opens_it() {
    let mut bed = BreakerTestbed::new();
    bed.calls(7, Create, Failed);
    assert_eq!(
        bed.health(),
        Health::Healthy,
        "seven calls are too few for a share"
    );
    bed.call(Create, Failed);
    assert_eq!(bed.health(), Health::Open);
    assert_eq!(bed.breaker.openings(), 1);

    let mut bed = BreakerTestbed::new();
    bed.calls(9, Create, Answered);
    bed.calls(8, Create, Failed);
    assert_eq!(bed.state(), BreakerState::Closed, "8 of 17");
    bed.call(Create, Failed);
    assert_eq!(bed.state(), BreakerState::Open, "9 of 18");
}

/// Each payer's create fails, and the queries that follow are answered: that is not healthy.
#[test]
fn answered_questions_do_not_hide_creates_that_fail() {
    let mut bed = BreakerTestbed::new();
    for _ in 0..7 {
        assert_eq!(bed.health(), Health::Healthy);
        bed.call(Create, Failed);
        bed.calls(5, Query, Answered);
    }
    assert_eq!(bed.state(), BreakerState::Closed, "queries did not open it");
    bed.call(Create, Failed);
    assert_eq!(bed.state(), BreakerState::Open);
}

/// The window is bounded in time and in number.
#[test]
fn calls_outside_the_window_do_not_count() {
    let mut bed = BreakerTestbed::new();
    bed.calls(7, Create, Failed);
    bed.pass(60_000);
    bed.calls(7, Create, Failed);
    assert_eq!(bed.state(), BreakerState::Closed, "a minute apart");
    let mut bed = BreakerTestbed::new();
    bed.calls(1_000, Create, Answered);
    bed.calls(31, Create, Failed);
    assert_eq!(bed.state(), BreakerState::Closed, "31 of the last 64");
    bed.call(Create, Failed);
    assert_eq!(bed.state(), BreakerState::Open, "32 of the last 64");
}

/// Calls that cannot be sent open it at once; a single one does not, nor ones with a reply between.
#[test]
fn calls_that_cannot_be_sent_open_it_at_once() {
    let mut bed = BreakerTestbed::new();
    bed.calls(2, Query, Unreachable);
    bed.call(Query, Answered);
    bed.calls(2, Create, Unreachable);
    assert_eq!(bed.state(), BreakerState::Closed);
    bed.call(Query, Unreachable);
    assert_eq!(bed.state(), BreakerState::Open);
}

/// After the open interval a bounded number of orders are probes at a time; a query takes no probe
/// permit, and a returned permit can be taken again.
#[test]
fn a_bounded_number_of_probes_is_permitted() {
    let mut bed = BreakerTestbed::new();
    bed.settings.probes = 2;
    bed.calls(3, Create, Unreachable);
    assert_eq!(bed.enter(), BreakerDecision::Refused);
    bed.pass(5_000);
    for _ in 0..10 {
        assert_eq!(bed.health(), Health::HalfOpen);
    }
    let BreakerDecision::Probe(first) = bed.enter() else {
        panic!("a permit is free");
    };
    assert!(matches!(bed.enter(), BreakerDecision::Probe(_)));
    assert_eq!(bed.enter(), BreakerDecision::Refused);
    assert_eq!(bed.health(), Health::Open);
    bed.breaker.leave(first);
    assert_eq!(bed.health(), Health::HalfOpen);
    assert!(matches!(bed.enter(), BreakerDecision::Probe(_)));
    assert_eq!(bed.enter(), BreakerDecision::Refused);
    bed.call(Create, Answered);
    assert_eq!(bed.enter(), BreakerDecision::Allowed);
    bed.breaker.leave(first);
    assert_eq!(
        bed.enter(),
        BreakerDecision::Allowed,
        "an old permit has no effect"
    );
}

/// A failed probe renews the open interval, which grows to its maximum; after a long quiet time it
/// starts small again.
#[test]
fn a_failed_probe_renews_a_longer_pause() {
    let mut bed = BreakerTestbed::new();
    bed.calls(8, Create, Failed);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        pauses.push(bed.pause_ms() / 1_000);
        bed.call(Create, Failed);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 120, 120]);
    bed.pause_ms();
    bed.call(Create, Answered);
    bed.calls(8, Create, Failed);
    assert_eq!(bed.pause_ms(), 120_000, "it came back at once");
    bed.call(Create, Answered);
    bed.pass(120_000);
    bed.calls(8, Create, Failed);
    assert_eq!(bed.pause_ms(), 5_000);
}

/// Only a create shows whether payers are served; but where nothing could be sent, any reply closes
/// the breaker, before the open interval ends.
#[test]
fn a_reply_to_a_query_closes_an_unreachable_breaker() {
    let mut bed = BreakerTestbed::new();
    bed.calls(8, Create, Failed);
    bed.calls(20, Query, Answered);
    assert_eq!(bed.state(), BreakerState::Open);
    bed.pause_ms();
    bed.calls(20, Query, Answered);
    bed.calls(20, Query, Failed);
    assert_eq!(bed.state(), BreakerState::HalfOpen);
    bed.call(Query, Unreachable);
    assert_eq!(bed.state(), BreakerState::Open, "not reached");
    bed.call(Query, Answered);
    assert_eq!(bed.state(), BreakerState::Closed, "reached");
}

/// The result of a call from before it opened or closed decides nothing afterwards.
#[test]
fn a_result_from_before_a_transition_decides_nothing() {
    let mut bed = BreakerTestbed::new();
    let before = bed.breaker.begin(bed.now());
    bed.calls(3, Create, Unreachable);
    let (settings, now) = (bed.settings, bed.now());
    bed.breaker.end(&settings, before, Create, Answered, now);
    assert_eq!(bed.state(), BreakerState::Open);
    let late: Vec<_> = (0..10).map(|_| bed.breaker.begin(bed.now())).collect();
    bed.pause_ms();
    let now = bed.now();
    bed.breaker.end(&settings, late[0], Create, Failed, now);
    assert_eq!(bed.state(), BreakerState::HalfOpen);
    bed.call(Create, Answered);
    for begun in late {
        let now = bed.now();
        bed.breaker.end(&settings, begun, Create, Failed, now);
    }
    assert_eq!(bed.health(), Health::Healthy);
}

/// The median of the last creates decides whether an institution is slow: neither one slow reply
/// nor slow queries do, and it is dropped with time.
#[test]
fn the_median_decides_what_is_slow() {
    let mut bed = BreakerTestbed::new();
    bed.calls(2, Create, Answered);
    bed.call_of(9_000, Create, Answered);
    for _ in 0..10 {
        bed.call_of(4_000, Query, Answered);
    }
    assert_eq!(bed.health(), Health::Healthy);
    let mut bed = BreakerTestbed::new();
    for _ in 0..2 {
        bed.call_of(2_000, Create, Answered);
    }
    assert_eq!(
        bed.health(),
        Health::Healthy,
        "two slow creates are too few"
    );
    bed.call_of(2_000, Create, Answered);
    assert_eq!(bed.health(), Health::Slow);
    assert_eq!(bed.enter(), BreakerDecision::Allowed, "slow is open");
    bed.pass(60_001);
    assert_eq!(bed.health(), Health::Healthy);
}

/// T2: a clock set back prolongs no open interval, one set ahead ends one early and no more, and
/// neither opens the breaker.
#[test]
fn a_clock_that_jumps_does_no_harm() {
    let day_ms = 86_400_000;
    let mut bed = BreakerTestbed::new();
    bed.calls(8, Create, Failed);
    assert_eq!(bed.state(), BreakerState::Open);
    bed.pass(-day_ms);
    assert_eq!(bed.pause_ms(), 5_000);
    bed.pass(day_ms);
    assert!(matches!(bed.enter(), BreakerDecision::Probe(_)));
    bed.call_of(-day_ms, Create, Answered);
    assert_eq!(bed.state(), BreakerState::Closed);
    for jump in [day_ms, -day_ms, day_ms] {
        bed.call_of(jump, Create, Answered);
        bed.calls(2, Create, Answered);
    }
    assert_eq!(bed.health(), Health::Healthy);
}

/// Other thresholds apply from the next call on, and the window is preserved.
#[test]
fn new_thresholds_preserve_the_window() {
    let mut bed = BreakerTestbed::new();
    bed.calls(7, Create, Failed);
    bed.settings.calls_min = 4;
    bed.settings.open = Duration::from_secs(1);
    bed.call(Create, Failed);
    assert_eq!(bed.pause_ms(), 1_000);
}
