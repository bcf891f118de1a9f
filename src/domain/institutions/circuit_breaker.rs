//! How one institution lately fared: its recent calls, and a breaker over them.
//!
//! Judges new orders only. Whatever is owed to an order that was begun, queries, closes, callbacks
//! and refunds, never asks here (F2). Reads no clock; a clock that is set makes no pause longer.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::identifiers::Timestamp;

/// Calls remembered at most, however many a window sees.
const CALLS_REMEMBERED_MAX: usize = 64;

/// Durations of creates remembered at most; the middle one of them is what counts.
const DURATIONS_MAX: usize = 15;

/// Fewer say nothing about how quick an institution is.
const DURATIONS_MIN: usize = 3;

/// What makes an institution unhealthy or slow (`[health]` of `routes.toml`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthSettings {
    /// Calls older than this count no more.
    pub window: Duration,
    /// So many creates of a window must be there before their failures are a share of anything.
    pub calls_min: usize,
    /// From this share of failures on, nothing new is sent. Unit: percent.
    pub failures_percent: usize,
    /// So many calls in a row that never left open the breaker at once.
    pub not_sent_in_a_row: u32,
    /// How long nothing new is sent after the first opening; twice as long after each further one.
    pub open: Duration,
    /// And never longer than this.
    pub open_max: Duration,
    /// New orders on trial at the same time once the pause is over.
    pub probes: u32,
    /// From this duration of the middle create on, an institution is slow.
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

/// What a new order may expect of an institution; better ones are less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Answers, and quickly.
    Healthy,
    /// Answers, and takes its time: last in the list, and open all the same.
    Slow,
    /// Failed lately; one of the few new orders on trial may go there now.
    HalfOpen,
    /// Failed lately, and nothing new is sent now.
    Open,
}

/// Whom a call was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPurpose {
    /// A payer who wants to pay: the only kind that shows that paying works.
    Create,
    /// A question about, or the close of, what was begun.
    Query,
}

/// How a call ended, as far as it says something about the institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// It answered and can be understood; a refusal is an answer.
    Answered,
    /// Silence, a server's fault, or an answer nobody can use.
    Failed,
    /// Nothing could be sent: no connection.
    Unreachable,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// New orders go through.
    Closed,
    /// A few go through, on trial.
    HalfOpen,
    /// None does.
    Open,
}

impl BreakerState {
    /// A stable word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// Which stretch between two changes of state a call or a probe belongs to: news of an earlier
/// stretch decides nothing in a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerWindow(u64);

/// A call that began.
#[derive(Debug, Clone, Copy)]
pub struct BegunCall {
    stretch: BreakerWindow,
    at_ms: u64,
}

/// Whether a new order may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerDecision {
    /// As to any other.
    Allowed,
    /// As one of the few on trial; to be given back with [`CircuitBreaker::leave`].
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

/// One institution's recent past, in this process.
#[derive(Debug)]
pub struct CircuitBreaker {
    clock: MonotonicTime,
    /// Creates only.
    calls: VecDeque<(u64, CallEnd)>,
    durations: VecDeque<(u64, u64)>,
    not_sent_in_a_row: u32,
    state: BreakerPhase,
    stretch: u64,
    /// It was opened because nothing could be sent: then any answer shows that this is over.
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
            stretch: 0,
            was_unreachable: false,
            openings_in_a_row: 0,
            openings: 0,
            closed_at_ms: 0,
        }
    }
}

impl CircuitBreaker {
    /// What a new order may expect now. Asking uses nothing up.
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

    /// Lets a new order in, or not. Of those on trial, only so many at the same time.
    pub fn enter(&mut self, settings: &HealthSettings, now: Timestamp) -> BreakerDecision {
        self.advance(now);
        match &mut self.state {
            BreakerPhase::Closed => BreakerDecision::Allowed,
            BreakerPhase::HalfOpen { probes_out } if *probes_out < settings.probes => {
                *probes_out = probes_out.saturating_add(1);
                BreakerDecision::Probe(BreakerWindow(self.stretch))
            }
            BreakerPhase::HalfOpen { .. } | BreakerPhase::Open { .. } => BreakerDecision::Refused,
        }
    }

    /// Gives the place of an order on trial back, whatever became of it.
    pub fn leave(&mut self, BreakerWindow(stretch): BreakerWindow) {
        if let BreakerPhase::HalfOpen { probes_out } = &mut self.state
            && stretch == self.stretch
        {
            *probes_out = probes_out.saturating_sub(1);
        }
    }

    /// A call begins.
    pub fn begin(&mut self, now: Timestamp) -> BegunCall {
        BegunCall {
            at_ms: self.advance(now),
            stretch: BreakerWindow(self.stretch),
        }
    }

    /// A call ended.
    pub fn end(
        &mut self,
        settings: &HealthSettings,
        begun: BegunCall,
        (purpose, end): (CallPurpose, CallEnd),
        now: Timestamp,
    ) {
        let now_ms = self.advance(now);
        // It was under way while everything changed: what it says has been decided without it.
        if begun.stretch != BreakerWindow(self.stretch) {
            return;
        }
        let took_ms = now_ms.saturating_sub(begun.at_ms);
        match (self.state, purpose, end) {
            (BreakerPhase::Closed, ..) => self.record(settings, (purpose, end), took_ms, now_ms),
            (
                BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. },
                CallPurpose::Create,
                CallEnd::Answered,
            ) => {
                self.close(now_ms);
                push(&mut self.durations, DURATIONS_MAX, (now_ms, took_ms));
            }
            // Whether payers are served only a payer's own call shows; that there is somebody at
            // all any answer does.
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

    /// Where the breaker stands.
    pub fn breaker(&mut self, now: Timestamp) -> BreakerState {
        self.advance(now);
        match self.state {
            BreakerPhase::Closed => BreakerState::Closed,
            BreakerPhase::HalfOpen { .. } => BreakerState::HalfOpen,
            BreakerPhase::Open { .. } => BreakerState::Open,
        }
    }

    /// How often it opened in all.
    pub fn openings(&self) -> u64 {
        self.openings
    }

    fn record(
        &mut self,
        settings: &HealthSettings,
        (purpose, end): (CallPurpose, CallEnd),
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
        // Questions are answered while no payer is served: they would hide it.
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
        let ended = |wanted: CallEnd| self.calls.iter().filter(move |(_, end)| *end == wanted);
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
        self.stretch = self.stretch.saturating_add(1);
        self.calls.clear();
        self.durations.clear();
        self.not_sent_in_a_row = 0;
    }

    /// Reads the time, and ends a pause that is over.
    fn advance(&mut self, now: Timestamp) -> u64 {
        let now_ms = self.clock.read(now);
        if let BreakerPhase::Open { until_ms } = self.state
            && now_ms >= until_ms
        {
            self.change(BreakerPhase::HalfOpen { probes_out: 0 });
        }
        now_ms
    }

    /// The middle one of the last creates took long. One slow answer among quick ones is chance.
    fn is_slow(&self, settings: &HealthSettings, now_ms: u64) -> bool {
        let oldest_ms = now_ms.saturating_sub(ms(settings.window));
        let recent = || self.durations.iter().filter(|(at, _)| *at >= oldest_ms);
        let all = recent().count();
        let slow = recent().filter(|(_, took)| *took >= ms(settings.slow));
        all >= DURATIONS_MIN && slow.count().saturating_mul(2) > all
    }
}

/// The time that passed while it was looked at. A clock set back stands still for one reading and
/// goes on from there; one set ahead ends a pause early, and a probe finds out.
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
