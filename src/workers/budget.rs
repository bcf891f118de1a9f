//! The CPU budget of background polls: a share of the processors, charged at the measured cost of a
//! poll, and less while requests wait. Unresolved payments are always polled (Z1), and charged.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::order::Urgency;

/// Assumed cost of a poll before one was measured. Unit: microseconds.
const COST_FIRST_US: i64 = 500;
/// Cost of a poll outside its own task: two writes of the store's thread and its part of a
/// connection, as measured by `make bench`. Unit: microseconds.
const OVERHEAD_US: i64 = 150;
/// Weight of earlier measurements relative to a new one.
const SMOOTHING: i64 = 63;
/// Maximum cost charged for one poll, because a suspended process does no work. Unit: microseconds.
const COST_MAX_US: i64 = 20_000;
/// How much unused budget, or debt, is carried over, as time at the full share. Unit: microseconds.
const CARRY_OVER_US: i64 = 1_000_000;

/// The settings of the budget (`[limits]` of `routes.toml`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Share of the processors. Unit: percent.
    pub cpu_percent: u32,
    /// The scheduling delay from which requests are rejected.
    pub delay_max: Duration,
}

/// The current budget.
#[derive(Debug)]
pub(super) struct PollBudget {
    cores: i64,
    account: Mutex<CpuBalance>,
}

#[derive(Debug, Clone, Copy)]
struct CpuBalance {
    filled_at: Instant,
    left_us: i64,
    /// Half of the maximum balance.
    half_us: i64,
    cost_us: i64,
}

impl PollBudget {
    /// A budget for `cores` processors.
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

    /// How many polls of an urgency may begin now, given the current scheduling delay.
    pub(super) fn allows(
        &self,
        urgency: Urgency,
        settings: BudgetSettings,
        delay: Duration,
        now: Instant,
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
        // Whatever a poll costs, one may begin while the balance is positive.
        let fits = fits.unwrap_or(0).max(i64::from(account.left_us > 0));
        account.half_us = most.checked_div(2).unwrap_or(0);
        u32::try_from(fits).unwrap_or(0)
    }

    /// Begins a poll, charged in advance so that concurrent polls stay within the budget.
    pub(super) fn begin(&self, urgency: Option<Urgency>) -> CpuCharge {
        let mut account = self.account();
        let cost_us = account.cost_us;
        let us = account.charge(urgency, cost_us);
        CpuCharge { urgency, us }
    }

    /// Ends a poll that used `busy` CPU time in its own task; returns its total cost.
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

/// The amount charged when a poll began.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuCharge {
    urgency: Option<Urgency>,
    us: i64,
}

impl CpuBalance {
    /// Charges a cost and returns the amount charged. Unresolved polls run whatever the balance, so
    /// they are charged only while it is above half: the other half is reserved for other polls.
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

/// A future and its CPU time: the time spent inside `poll`, not the time spent waiting.
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

    /// Polls begun within one second, each taking `busy` CPU time.
    fn begun(budget: &PollBudget, urgency: Urgency, from: Instant, busy: Duration) -> u32 {
        let mut begun = 0_u32;
        for ms in (0..1_000).step_by(50) {
            let now = from.checked_add(Duration::from_millis(ms)).unwrap();
            for _ in 0..budget.allows(urgency, SETTINGS, CALM, now).min(1_000) {
                let paid = budget.begin(Some(urgency));
                budget.end(paid, busy);
                begun = begun.saturating_add(1);
            }
        }
        begun
    }

    /// Background polls take their share of the processors, at their measured cost.
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

    /// Z1: unresolved payments are polled whatever the balance, and charged; half is left to other
    /// polls, however many are unresolved.
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
                assert!(budget.allows(Urgency::Unresolved, SETTINGS, CALM, now) > 0);
                for _ in 0..100 {
                    let paid = budget.begin(Some(Urgency::Unresolved));
                    budget.end(paid, busy);
                }
                let allowed = budget.allows(Urgency::Payer, SETTINGS, CALM, now);
                for _ in 0..allowed {
                    let paid = budget.begin(Some(Urgency::Payer));
                    budget.end(paid, busy);
                    others += 1;
                }
            }
        }
        assert!((100..=220).contains(&others), "{others} in a second");
        let now = second(11);
        let calm = budget.allows(Urgency::Payer, SETTINGS, CALM, now);
        for _ in 0..100 {
            let paid = budget.begin(Some(Urgency::Unresolved));
            budget.end(paid, busy);
        }
        let beside = budget.allows(Urgency::Payer, SETTINGS, CALM, now);
        assert!(
            beside < calm,
            "unresolved polls are charged: {beside} of {calm}"
        );
    }

    /// Time in which the process was suspended is not charged as work and does not stop polling.
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
            assert!(budget.allows(Urgency::Payer, settings, CALM, later) > 0);
        }
    }

    /// While requests wait, first pending payments are no longer polled, and then only unresolved
    /// ones.
    #[test]
    fn background_polls_yield_to_requests() {
        let start = Instant::now();
        let budget = PollBudget::new(1, start);
        let now = start + Duration::from_secs(1);
        let allowed = |ms| {
            let delay = Duration::from_millis(ms);
            let allows = |one| budget.allows(one, SETTINGS, delay, now) > 0;
            Urgency::ALL.map(allows)
        };
        assert_eq!(allowed(5), [true, true, true, true]);
        assert_eq!(allowed(6), [true, true, true, false]);
        assert_eq!(allowed(20), [true, true, true, false]);
        assert_eq!(allowed(21), [true, false, false, false]);
    }
}
