//! How many requests of a kind may be in flight: additive increase, multiplicative decrease (Chiu & Jain
//! 1989). While ready tasks wait longer for the processor than their target, the window shrinks in that
//! proportion, down to a few; otherwise it grows again, up to its maximum. A request admitted is work that
//! follows as well (a selection, a callback, a notification): with fewer orders in flight each takes
//! longer to be answered as that work grows, so no more come in than can be finished.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::bound::{Bound, Taken};

/// A wait over its target for so long is a standing queue; a shorter one may be a burst.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// So many may be in flight however long tasks wait: they do not cause it.
const FEWEST: u32 = 32;
/// A tick without a wait adds one for so many.
const GROWTH_ONE_IN: u32 = 16;

/// The requests of a kind that may be in flight.
pub(super) struct Window {
    bound: Arc<Bound>,
    /// Since when tasks wait longer than they should.
    over_since: Mutex<Option<Instant>>,
}

/// What a window is regulated by.
#[derive(Clone, Copy)]
pub(super) struct WindowLimits {
    /// How long ready tasks may wait for the processor.
    pub(super) target: Duration,
    /// Requests in flight at most.
    pub(super) max: u32,
}

impl Window {
    pub(super) fn new(max: u32) -> Self {
        Self {
            bound: Bound::new(max),
            over_since: Mutex::new(None),
        }
    }

    /// Opens it up to a new maximum, at once.
    pub(super) fn open(&self, max: u32) {
        self.bound.resize(max);
    }

    pub(super) fn size(&self) -> u32 {
        self.bound.size()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bound.free() == 0
    }

    pub(super) fn take_now(&self) -> Option<Taken> {
        self.bound.take_now(1)
    }

    pub(super) async fn take(&self) -> Taken {
        self.bound.take(1).await
    }

    /// Ready tasks waited so long for the processor.
    pub(super) fn regulate(&self, waited: Duration, limits: WindowLimits, now: Instant) {
        let size = self.size();
        let mut over_since = self.over_since();
        if waited < limits.target {
            *over_since = None;
            let step = size.checked_div(GROWTH_ONE_IN).unwrap_or(0).max(1);
            self.resize(size, size.saturating_add(step).min(limits.max));
            return;
        }
        let since = *over_since.get_or_insert(now);
        let may_be_burst = size >= limits.max;
        if may_be_burst && now.saturating_duration_since(since) < INTERVAL {
            return;
        }
        let used = size.min(self.bound.taken());
        let least = used.div_ceil(2).max(FEWEST).min(limits.max);
        self.resize(size, portion(used, limits.target, waited).max(least));
    }

    fn resize(&self, size: u32, next: u32) {
        if next != size {
            self.bound.resize(next);
        }
    }

    fn over_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.over_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// As many as wait no longer than the target, if so many wait so long.
fn portion(many: u32, target: Duration, waited: Duration) -> u32 {
    let part = u128::from(many)
        .saturating_mul(target.as_micros())
        .checked_div(waited.as_micros());
    part.and_then(|part| u32::try_from(part).ok())
        .unwrap_or(many)
}
