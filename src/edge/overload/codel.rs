//! `CoDel` (Nichols & Jacobson 2012) for requests: when the wait has been over its target for a whole
//! interval, one request is rejected, and the next after an interval divided by the square root of how
//! many were, until one waits less than the target. That handles a slight excess. Callers do not slow
//! down as TCP does: while it lasts, a request that would wait twice the target is not even read.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A wait over its target for so long is a standing queue; a shorter one may be a burst.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// The state of one priority.
#[derive(Default)]
pub(super) struct Codel(Mutex<State>);

#[derive(Default)]
struct State {
    last_seen: Option<Instant>,
    over_since: Option<Instant>,
    /// When the next is rejected, while the queue stands.
    next: Option<Instant>,
    count: u32,
}

impl Codel {
    /// Whether a request that waited so long is rejected.
    pub(super) fn rejects(&self, waited: Duration, target: Duration, now: Instant) -> bool {
        let mut state = self.state();
        let seen = state.last_seen.replace(now);
        let is_stale = seen.is_none_or(|seen| now.saturating_duration_since(seen) >= INTERVAL);
        if waited < target || is_stale {
            (state.over_since, state.next) = (None, None);
        }
        if waited < target {
            return false;
        }
        let since = *state.over_since.get_or_insert(now);
        if now.saturating_duration_since(since) < INTERVAL {
            return false;
        }
        let due = match state.next {
            Some(next) if now < next => return false,
            Some(next) => {
                state.count = state.count.saturating_add(1);
                next
            }
            None => {
                state.count = 1;
                now
            }
        };
        state.next = due.checked_add(step(state.count));
        true
    }

    /// Whether a request that would have to wait so long is rejected before it is read.
    pub(super) fn is_flooded(&self, waits: Duration, target: Duration, now: Instant) -> bool {
        let mut state = self.state();
        let is_seen = |seen: Instant| now.saturating_duration_since(seen) < INTERVAL;
        let is_persistent = state.next.is_some() && state.last_seen.is_some_and(is_seen);
        let is_flooded = is_persistent && waits >= target.saturating_mul(2);
        if is_flooded {
            state.last_seen = Some(now);
        }
        is_flooded
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The interval divided by the square root of a number, to a thousandth.
fn step(count: u32) -> Duration {
    let root = u64::from(count).saturating_mul(1_000_000).isqrt();
    let root = u32::try_from(root).unwrap_or(u32::MAX);
    let step = INTERVAL.saturating_mul(1_000).checked_div(root);
    step.unwrap_or(INTERVAL)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const TARGET: Duration = Duration::from_millis(20);
    const OVER: Duration = Duration::from_millis(30);

    /// When requests are rejected that wait so long, one a millisecond, for so many of them.
    fn rejected(codel: &Codel, began: Instant, ms: Range<u64>, waited: Duration) -> Vec<u64> {
        let rejects = |ms: &u64| {
            let now = began.checked_add(Duration::from_millis(*ms)).unwrap();
            codel.rejects(waited, TARGET, now)
        };
        ms.filter(rejects).collect()
    }

    /// A burst is served; in a standing queue requests are rejected ever more often, by the square root,
    /// until the first that waits less.
    #[test]
    fn a_standing_wait_is_met_ever_more_often() {
        let (codel, began) = (Codel::default(), Instant::now());
        let times = rejected(&codel, began, 0..500, OVER);
        assert_eq!(times, [100, 200, 271, 329, 379, 424, 465]);
        assert!(rejected(&codel, began, 500..501, TARGET / 2).is_empty());
        assert_eq!(rejected(&codel, began, 501..602, OVER), [601]);
    }

    /// Callers do not slow down: while the queue stands, a request that would wait twice the target is
    /// rejected before it is read.
    #[test]
    fn a_flood_is_rejected_as_it_comes() {
        let (codel, began) = (Codel::default(), Instant::now());
        assert!(!codel.is_flooded(OVER * 2, TARGET, began));
        assert_eq!(rejected(&codel, began, 0..150, OVER * 2), [100]);
        let last = began.checked_add(Duration::from_millis(150)).unwrap();
        assert!(codel.is_flooded(OVER * 2, TARGET, last));
        assert!(!codel.is_flooded(OVER, TARGET, last));
        let later = last.checked_add(INTERVAL).unwrap();
        assert!(!codel.is_flooded(OVER * 2, TARGET, later));
    }

    /// A wait of long ago does not count.
    #[test]
    fn a_long_silence_is_no_standing_wait() {
        let (codel, began) = (Codel::default(), Instant::now());
        assert!(rejected(&codel, began, 0..1, OVER).is_empty());
        assert!(rejected(&codel, began, 5_000..5_001, OVER).is_empty());
    }
}
