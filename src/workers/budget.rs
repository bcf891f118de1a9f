//! What questions that nobody waits for may take of the processors: a share of them, counted at what
//! such questions were seen to cost, and less of it while requests wait. What is in doubt is always asked
//! about (Z1), and counted.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::order::Urgency;

/// What a question is taken to cost before one was seen. Unit: microseconds.
const COST_FIRST_US: i64 = 500;
/// What it costs beside its own task: two writes of the store's thread and its part of a connection,
/// as measured by `make bench`. Unit: microseconds.
const OVERHEAD_US: i64 = 150;
/// How much of what was seen before counts beside a new measurement.
const SMOOTHING: i64 = 63;
/// The most that one question is taken to have cost: a process that stood still did not work.
/// Unit: microseconds.
const COST_MAX_US: i64 = 20_000;
/// What was not used is kept for so long, and what was used beyond is owed for no longer.
const CARRY_OVER_US: i64 = 1_000_000;

/// What is spent, and on what conditions (`[limits]` of `routes.toml`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Of the processors. Unit: percent.
    pub cpu_percent: u32,
    /// The delay from which on requests are refused.
    pub delay_max: Duration,
}

/// What there is to spend.
#[derive(Debug)]
pub(super) struct PollBudget {
    cores: i64,
    account: Mutex<CpuBalance>,
}

#[derive(Debug, Clone, Copy)]
struct CpuBalance {
    filled_at: Instant,
    left_us: i64,
    /// Half of the most that can be left.
    half_us: i64,
    cost_us: i64,
}

impl PollBudget {
    /// For so many processors.
    pub(super) fn new(cores: usize, now: Instant) -> Self {
        Self {
            cores: i64::try_from(cores).unwrap_or(1),
            account: Mutex::new(CpuBalance {
                filled_at: now,
                left_us: 0,
                half_us: 0,
                cost_us: COST_FIRST_US,
            }),
        }
    }

    fn account(&self) -> MutexGuard<'_, CpuBalance> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many questions of an urgency may begin now, while what is ready waits so long for its turn.
    pub(super) fn allows(
        &self,
        urgency: Urgency,
        settings: BudgetSettings,
        (delay, now): (Duration, Instant),
    ) -> u32 {
        let quarter = settings.delay_max.checked_div(4).unwrap_or_default();
        let is_paused = match urgency {
            Urgency::Unresolved => return u32::MAX,
            Urgency::Signal | Urgency::Refund => delay > settings.delay_max,
            Urgency::Payer => delay > quarter,
        };
        if is_paused {
            return 0;
        }
        let mut account = self.account();
        let passed = now.saturating_duration_since(account.filled_at);
        let passed = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
        let percent = i64::from(settings.cpu_percent).saturating_mul(self.cores);
        let share = |us: i64| us.saturating_mul(percent).checked_div(100).unwrap_or(0);
        let most = share(CARRY_OVER_US);
        let left = account
            .left_us
            .saturating_add(share(passed.min(CARRY_OVER_US)));
        account.left_us = left.clamp(most.saturating_neg(), most);
        account.filled_at = now;
        let fits = account.left_us.checked_div(account.cost_us.max(1));
        // Whatever a question costs, one is asked when something is left.
        let fits = fits.unwrap_or(0).max(i64::from(account.left_us > 0));
        account.half_us = most.checked_div(2).unwrap_or(0);
        u32::try_from(fits).unwrap_or(0)
    }

    /// A question begins; it is paid for in advance, so that no more begin than there is for.
    pub(super) fn begin(&self, urgency: Option<Urgency>) -> CpuCharge {
        let mut account = self.account();
        let cost_us = account.cost_us;
        let us = account.charge(urgency, cost_us);
        CpuCharge { urgency, us }
    }

    /// It ended, having taken so much of a processor in its own task; what it cost in all.
    pub(super) fn end(&self, paid: CpuCharge, busy: Duration) -> Duration {
        let busy = i64::try_from(busy.as_micros()).unwrap_or(i64::MAX);
        let cost = busy.min(COST_MAX_US).saturating_add(OVERHEAD_US);
        let mut account = self.account();
        account.left_us = account.left_us.saturating_add(paid.us);
        account.charge(paid.urgency, cost);
        let all = account
            .cost_us
            .saturating_mul(SMOOTHING)
            .saturating_add(cost);
        let parts = SMOOTHING.saturating_add(1);
        account.cost_us = all.checked_div(parts).unwrap_or(cost);
        Duration::from_micros(u64::try_from(cost).unwrap_or(0))
    }
}

/// What a question that began was charged.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuCharge {
    urgency: Option<Urgency>,
    us: i64,
}

impl CpuBalance {
    /// Takes what something costs, and says how much that was. Doubt is asked about whatever is left, so
    /// it never takes the second half: that is the others'.
    fn charge(&mut self, urgency: Option<Urgency>, cost_us: i64) -> i64 {
        let taken = match urgency {
            None | Some(Urgency::Unresolved) => {
                let beyond = self.left_us.saturating_sub(self.half_us).max(0);
                cost_us.min(beyond)
            }
            Some(Urgency::Signal | Urgency::Refund | Urgency::Payer) => cost_us,
        };
        self.left_us = self.left_us.saturating_sub(taken);
        taken
    }
}

/// A piece of work, and how long it held a processor: the time of its polls, never of its waiting.
pub(super) struct MeteredFuture<F> {
    work: Pin<Box<F>>,
    busy: Duration,
}

impl<F> MeteredFuture<F> {
    pub(super) fn new(work: F) -> Self {
        Self {
            work: Box::pin(work),
            busy: Duration::ZERO,
        }
    }
}

impl<F: Future> Future for MeteredFuture<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, waker: &mut Context<'_>) -> Poll<Self::Output> {
        let began = Instant::now();
        let polled = self.work.as_mut().poll(waker);
        self.busy = self.busy.saturating_add(began.elapsed());
        polled.map(|done| (done, self.busy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BudgetSettings = BudgetSettings {
        cpu_percent: 10,
        delay_max: Duration::from_millis(20),
    };
    const CALM: Duration = Duration::ZERO;

    /// Questions begun in a second of steps, each taking so much of a processor.
    fn begun(budget: &PollBudget, urgency: Urgency, from: Instant, busy: Duration) -> u32 {
        let mut begun = 0_u32;
        for ms in (0..1_000).step_by(50) {
            let now = from.checked_add(Duration::from_millis(ms)).unwrap();
            for _ in 0..budget.allows(urgency, SETTINGS, (CALM, now)).min(1_000) {
                let paid = budget.begin(Some(urgency));
                budget.end(paid, busy);
                begun = begun.saturating_add(1);
            }
        }
        begun
    }

    /// Background questions take their share of the processors, at what they were seen to cost.
    #[test]
    fn background_polls_take_their_share_of_the_processors() {
        for (cores, busy_us, expected) in
            [(1, 350, 180..=220), (1, 850, 90..=110), (2, 350, 360..=440)]
        {
            let start = Instant::now();
            let budget = PollBudget::new(cores, start);
            let busy = Duration::from_micros(busy_us);
            let second = |n: u64| start + Duration::from_secs(n);
            for n in 0..4 {
                begun(&budget, Urgency::Payer, second(n), busy);
            }
            let settled = begun(&budget, Urgency::Payer, second(4), busy);
            assert!(
                expected.contains(&settled),
                "{settled} with {cores} cores at {busy_us} us"
            );
        }
    }

    /// Z1: what is in doubt is asked about whatever was spent, and counted; half is left to the others,
    /// however much is in doubt.
    #[test]
    fn unresolved_polls_are_never_delayed_and_starve_no_other() {
        let (busy, start) = (Duration::from_micros(350), Instant::now());
        let budget = PollBudget::new(1, start);
        let second = |n: u64| start + Duration::from_secs(n);
        let mut others = 0;
        for n in 0..10 {
            others = 0;
            for ms in (0..1_000).step_by(50) {
                let now = second(n) + Duration::from_millis(ms);
                assert!(budget.allows(Urgency::Unresolved, SETTINGS, (CALM, now)) > 0);
                for _ in 0..100 {
                    let paid = budget.begin(Some(Urgency::Unresolved));
                    budget.end(paid, busy);
                }
                let allowed = budget.allows(Urgency::Payer, SETTINGS, (CALM, now));
                for _ in 0..allowed {
                    let paid = budget.begin(Some(Urgency::Payer));
                    budget.end(paid, busy);
                    others += 1;
                }
            }
        }
        assert!((100..=220).contains(&others), "{others} in a second");
        let now = second(11);
        let calm = budget.allows(Urgency::Payer, SETTINGS, (CALM, now));
        for _ in 0..100 {
            let paid = budget.begin(Some(Urgency::Unresolved));
            budget.end(paid, busy);
        }
        let beside = budget.allows(Urgency::Payer, SETTINGS, (CALM, now));
        assert!(beside < calm, "doubt counts: {beside} of {calm}");
    }

    /// Time in which the process stood still is no work: it ends no background.
    #[test]
    fn a_stall_of_a_minute_does_not_stop_background_polls() {
        let start = Instant::now();
        let budget = PollBudget::new(1, start);
        for percent in [10, 1] {
            let settings = BudgetSettings {
                cpu_percent: percent,
                ..SETTINGS
            };
            let paid = budget.begin(Some(Urgency::Payer));
            budget.end(paid, Duration::from_mins(1));
            let later = start + Duration::from_secs(10);
            assert!(budget.allows(Urgency::Payer, settings, (CALM, later)) > 0);
        }
    }

    /// While requests wait, payments that wait are not asked about, and then nothing but doubt is.
    #[test]
    fn background_polls_yield_to_requests() {
        let start = Instant::now();
        let budget = PollBudget::new(1, start);
        let now = start + Duration::from_secs(1);
        let allowed = |ms| {
            let delay = Duration::from_millis(ms);
            let allows = |one| budget.allows(one, SETTINGS, (delay, now)) > 0;
            Urgency::ALL.map(allows)
        };
        assert_eq!(allowed(5), [true, true, true, true]);
        assert_eq!(allowed(6), [true, true, true, false]);
        assert_eq!(allowed(20), [true, true, true, false]);
        assert_eq!(allowed(21), [true, false, false, false]);
    }
}
