//! Health of one institution: its recent calls, and a circuit breaker over them.
//!
//! Blocks new attempts only, those of existing orders included. Queries, closes, callbacks and
//! refunds are never blocked here (F2). Reads no clock; setting the clock never makes a pause
//! longer.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::identifiers::Timestamp;

/// Maximum number of recorded calls, however many fall in a window.
const CALLS_REMEMBERED_MAX: usize = 64;

/// Maximum number of recorded create durations; their median decides.
const DURATIONS_MAX: usize = 15;

/// Below this number of durations, slowness is not judged.
const DURATIONS_MIN: usize = 3;

/// What makes an institution unhealthy or slow (`[health]` of `routes.toml`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthSettings {
    /// Calls older than this no longer count.
    pub window: Duration,
    /// Minimum number of creates in a window before their failure rate is evaluated.
    pub calls_min: usize,
    /// Failure rate at which the breaker opens. Unit: percent.
    pub failures_percent: usize,
    /// This many consecutive calls that could not be sent open the breaker at once.
    pub not_sent_in_a_row: u32,
    /// How long the breaker stays open the first time; doubles with each further opening.
    pub open: Duration,
    /// Upper limit of that time.
    pub open_max: Duration,
    /// Maximum number of concurrent probes when half-open.
    pub probes: u32,
    /// Median create duration from which an institution is slow.
    pub slow: Duration,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            window: Duration::from_mins(1),
            calls_min: 8,
            failures_percent: 50,
            not_sent_in_a_row: 3,
            open: Duration::from_secs(5),
            open_max: Duration::from_mins(2),
            probes: 1,
            slow: Duration::from_secs(2),
        }
    }
}

/// An institution's health for new attempts; better is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Answers quickly.
    Healthy,
    /// Answers slowly: last in the list, but available.
    Slow,
    /// Failed recently; a probe permit is available.
    HalfOpen,
    /// Failed recently; nothing new is sent now.
    Open,
}

/// Purpose of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPurpose {
    /// Starts a payment: the only kind of call that shows that paying works.
    Create,
    /// Queries or closes an existing payment, or sends or queries a refund.
    Query,
}

/// How a call ended, as far as it concerns the institution's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// An intelligible answer; a refusal is one.
    Answered,
    /// Timeout, server error, or unusable answer.
    Failed,
    /// Nothing was sent: no connection.
    Unreachable,
}

/// State of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// New attempts are allowed.
    Closed,
    /// A few are allowed, as probes.
    HalfOpen,
    /// None is allowed.
    Open,
}

impl BreakerState {
    /// Stable name for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// The period between two state changes that a call or probe belongs to: results from an earlier
/// period are ignored in a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerWindow(u64);

/// A call in progress.
#[derive(Debug, Clone, Copy)]
pub struct BegunCall {
    window: BreakerWindow,
    at_ms: u64,
}

/// Whether a new order may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerDecision {
    /// Normally.
    Allowed,
    /// As a probe; to be returned with [`CircuitBreaker::leave`].
    Probe(BreakerWindow),
    /// Not now.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreakerPhase {
    Closed,
    Open { until_ms: u64 },
    HalfOpen { probes_out: u32 },
}

/// One institution's recent history, in this process.
#[derive(Debug)]
pub struct CircuitBreaker {
    clock: MonotonicTime,
    /// Creates only.
    calls: VecDeque<(u64, CallEnd)>,
    durations: VecDeque<(u64, u64)>,
    not_sent_in_a_row: u32,
    state: BreakerPhase,
    window: u64,
    /// Opened because nothing could be sent: any answer then closes it.
    was_unreachable: bool,
    openings_in_a_row: u32,
    openings: u64,
    closed_at_ms: u64,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            clock: MonotonicTime::default(),
            calls: VecDeque::with_capacity(CALLS_REMEMBERED_MAX),
            durations: VecDeque::with_capacity(DURATIONS_MAX),
            not_sent_in_a_row: 0,
            state: BreakerPhase::Closed,
            window: 0,
            was_unreachable: false,
            openings_in_a_row: 0,
            openings: 0,
            closed_at_ms: 0,
        }
    }
}

impl CircuitBreaker {
    /// Health for new orders now. Takes no probe permit.
    pub fn standing(&mut self, settings: &HealthSettings, now: Timestamp) -> Health {
        let now_ms = self.advance(now);
        match self.state {
            BreakerPhase::Closed if self.is_slow(settings, now_ms) => Health::Slow,
            BreakerPhase::Closed => Health::Healthy,
            BreakerPhase::HalfOpen { probes_out } if probes_out < settings.probes => {
                Health::HalfOpen
            }
            BreakerPhase::HalfOpen { .. } | BreakerPhase::Open { .. } => Health::Open,
        }
    }

    /// Admits or refuses a new order. When half-open, only a limited number of probes is admitted.
    pub fn enter(&mut self, settings: &HealthSettings, now: Timestamp) -> BreakerDecision {
        self.advance(now);
        match &mut self.state {
            BreakerPhase::Closed => BreakerDecision::Allowed,
            BreakerPhase::HalfOpen { probes_out } if *probes_out < settings.probes => {
                *probes_out = probes_out.saturating_add(1);
                BreakerDecision::Probe(BreakerWindow(self.window))
            }
            BreakerPhase::HalfOpen { .. } | BreakerPhase::Open { .. } => BreakerDecision::Refused,
        }
    }

    /// Returns a probe permit, whatever the outcome.
    pub fn leave(&mut self, BreakerWindow(window): BreakerWindow) {
        if let BreakerPhase::HalfOpen { probes_out } = &mut self.state
            && window == self.window
        {
            *probes_out = probes_out.saturating_sub(1);
        }
    }

    /// Records the start of a call.
    pub fn begin(&mut self, now: Timestamp) -> BegunCall {
        BegunCall {
            at_ms: self.advance(now),
            window: BreakerWindow(self.window),
        }
    }

    /// Records the end of a call.
    pub fn end(
        &mut self,
        settings: &HealthSettings,
        begun: BegunCall,
        purpose: CallPurpose,
        end: CallEnd,
        now: Timestamp,
    ) {
        let now_ms = self.advance(now);
        // It started before the last state change, which was decided without it.
        if begun.window != BreakerWindow(self.window) {
            return;
        }
        let took_ms = now_ms.saturating_sub(begun.at_ms);
        match (self.state, purpose, end) {
            (BreakerPhase::Closed, ..) => self.record(settings, purpose, end, took_ms, now_ms),
            (
                BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. },
                CallPurpose::Create,
                CallEnd::Answered,
            ) => {
                self.close(now_ms);
                push(&mut self.durations, DURATIONS_MAX, (now_ms, took_ms));
            }
            // Only a create shows that payments work; any answer shows that the institution is
            // reachable.
            (
                BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. },
                CallPurpose::Query,
                CallEnd::Answered,
            ) => {
                if self.was_unreachable {
                    self.close(now_ms);
                }
            }
            (BreakerPhase::HalfOpen { .. }, CallPurpose::Create, CallEnd::Failed)
            | (BreakerPhase::HalfOpen { .. }, _, CallEnd::Unreachable) => {
                self.was_unreachable = end == CallEnd::Unreachable;
                self.open(settings, now_ms);
            }
            (BreakerPhase::HalfOpen { .. }, CallPurpose::Query, CallEnd::Failed)
            | (BreakerPhase::Open { .. }, _, CallEnd::Failed | CallEnd::Unreachable) => (),
        }
    }

    /// State of the breaker.
    pub fn breaker(&mut self, now: Timestamp) -> BreakerState {
        self.advance(now);
        match self.state {
            BreakerPhase::Closed => BreakerState::Closed,
            BreakerPhase::HalfOpen { .. } => BreakerState::HalfOpen,
            BreakerPhase::Open { .. } => BreakerState::Open,
        }
    }

    /// Total number of openings.
    pub fn openings(&self) -> u64 {
        self.openings
    }

    fn record(
        &mut self,
        settings: &HealthSettings,
        purpose: CallPurpose,
        end: CallEnd,
        took_ms: u64,
        now_ms: u64,
    ) {
        if purpose == CallPurpose::Create && end != CallEnd::Unreachable {
            push(&mut self.durations, DURATIONS_MAX, (now_ms, took_ms));
        }
        self.not_sent_in_a_row = match end {
            CallEnd::Unreachable => self.not_sent_in_a_row.saturating_add(1),
            CallEnd::Answered | CallEnd::Failed => 0,
        };
        // Queries may succeed while creates fail, and would hide it.
        let is_create = purpose == CallPurpose::Create;
        if is_create {
            push(&mut self.calls, CALLS_REMEMBERED_MAX, (now_ms, end));
        }
        let oldest_ms = now_ms.saturating_sub(ms(settings.window));
        while self.calls.front().is_some_and(|(at, _)| *at < oldest_ms) {
            self.calls.pop_front();
        }
        if end == CallEnd::Answered {
            return;
        }
        let ended = |expected: CallEnd| self.calls.iter().filter(move |(_, end)| *end == expected);
        let unreachable = ended(CallEnd::Unreachable).count();
        let failures = ended(CallEnd::Failed).count().saturating_add(unreachable);
        let calls = self.calls.len();
        let is_often = is_create
            && calls >= settings.calls_min
            && failures.saturating_mul(100) >= calls.saturating_mul(settings.failures_percent);
        let is_cut_off = self.not_sent_in_a_row >= settings.not_sent_in_a_row;
        if is_often || is_cut_off {
            self.was_unreachable = failures == unreachable || is_cut_off;
            let quiet_ms = now_ms.saturating_sub(self.closed_at_ms);
            if quiet_ms >= ms(settings.open_max) {
                self.openings_in_a_row = 0;
            }
            self.open(settings, now_ms);
        }
    }

    fn open(&mut self, settings: &HealthSettings, now_ms: u64) {
        let doubled = 1_u64
            .checked_shl(self.openings_in_a_row)
            .unwrap_or(u64::MAX);
        let pause_ms = ms(settings.open)
            .saturating_mul(doubled)
            .min(ms(settings.open_max));
        self.openings_in_a_row = self.openings_in_a_row.saturating_add(1);
        self.openings = self.openings.saturating_add(1);
        self.change(BreakerPhase::Open {
            until_ms: now_ms.saturating_add(pause_ms),
        });
    }

    fn close(&mut self, now_ms: u64) {
        self.closed_at_ms = now_ms;
        self.change(BreakerPhase::Closed);
    }

    fn change(&mut self, state: BreakerPhase) {
        self.state = state;
        self.window = self.window.saturating_add(1);
        self.calls.clear();
        self.durations.clear();
        self.not_sent_in_a_row = 0;
    }

    /// Reads the time, and moves to half-open when the open time is over.
    fn advance(&mut self, now: Timestamp) -> u64 {
        let now_ms = self.clock.read(now);
        if let BreakerPhase::Open { until_ms } = self.state
            && now_ms >= until_ms
        {
            self.change(BreakerPhase::HalfOpen { probes_out: 0 });
        }
        now_ms
    }

    /// The median of the recent creates is slow. A single slow answer does not count.
    fn is_slow(&self, settings: &HealthSettings, now_ms: u64) -> bool {
        let oldest_ms = now_ms.saturating_sub(ms(settings.window));
        let recent = || self.durations.iter().filter(|(at, _)| *at >= oldest_ms);
        let all = recent().count();
        let slow = recent().filter(|(_, took)| *took >= ms(settings.slow));
        all >= DURATIONS_MIN && slow.count().saturating_mul(2) > all
    }
}

/// Monotonic time from wall-clock readings. A clock set back adds no time for one reading; one set
/// ahead may end a pause early, and a probe then decides.
#[derive(Debug, Default)]
struct MonotonicTime {
    last_ms: Option<i64>,
    passed_ms: u64,
}

impl MonotonicTime {
    fn read(&mut self, now: Timestamp) -> u64 {
        let last_ms = self.last_ms.replace(now.ms()).unwrap_or(now.ms());
        let step_ms = u64::try_from(now.ms().saturating_sub(last_ms)).unwrap_or(0);
        self.passed_ms = self.passed_ms.saturating_add(step_ms);
        self.passed_ms
    }
}

fn push<T>(ring: &mut VecDeque<T>, most: usize, entry: T) {
    if ring.len() >= most {
        ring.pop_front();
    }
    ring.push_back(entry);
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
