//! Load shedding (R-6.4-1c). Requests in flight are bounded: the lowest priority may use the fewest
//! permits, the highest may use all, and unauthenticated callers have half of those of new orders. Past
//! that a few wait, briefly. `CoDel` (`overload/codel.rs`) keeps that wait, and the wait for the
//! processor, from becoming a standing queue: it rejects unauthenticated callers first where they are
//! the majority, then new orders, then selections, and nothing else.

mod codel;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Bounds;
use crate::api::priority::Priority;
use crate::limits::bound::{Bound, Taken};
use codel::{Codel, INTERVAL};

/// The interval of the timer whose lateness is the wait for the processor.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// With no more requests in flight than these, none is rejected for waiting: they do not cause it.
const CROWD_MIN: u32 = 32;
/// So many of a priority may wait for a permit: one for so many that it has.
const WAITING_ONE_IN: u32 = 8;
/// The longest pause of a rejected connection, however many were rejected.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is known of a caller before a signature was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// Its connection has proven something, or has an enrolled certificate, or comes from an address where
    /// a party lately authenticated.
    Proven,
    /// Anybody.
    Unauthenticated,
}

/// Why a request was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// As many requests are in flight as its priority may use, and as many wait as may.
    InFlight,
    /// The wait for a permit or for the processor is a standing queue.
    Delay,
    /// Too many unauthenticated requests.
    Unauthenticated,
}

impl Cause {
    /// The word in the metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Delay => "delay",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

/// Whether there is overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressure {
    /// No request waits too long.
    Normal,
    /// A request was rejected for waiting within the last interval.
    Overload,
}

/// One listener's load.
pub(super) struct Overload {
    /// By priority, lowest first: each may use its own and those before it.
    permits: [Arc<Bound>; 4],
    waiting: [Arc<Bound>; 4],
    unauthenticated: Arc<Bound>,
    /// How late the last tick was served, and when. Unit: microseconds, since the beginning.
    delay_us: AtomicU64,
    ticked_us: AtomicU64,
    /// Requests since the last tick, and those of them that are not authenticated.
    came: [AtomicU32; 2],
    is_unauthenticated_crowd: AtomicBool,
    codel: [Codel; 3],
    began: Instant,
    /// When `CoDel` rejected last, and when the next rejected connection is read at the earliest. Unit:
    /// microseconds since the beginning.
    rejected_us: AtomicU64,
    read_again_us: AtomicU64,
    /// Rejected since they were last logged, by priority.
    rejected: [AtomicU64; 4],
}

/// A request's permit; released when it has been answered.
pub(super) struct InFlight {
    _taken: [Option<Taken>; 2],
}

/// A request that waited, or would wait.
struct RequestWait {
    priority: Priority,
    caller: Caller,
    /// How long, up to `now`.
    waited: Duration,
    now: Instant,
}

impl Overload {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            permits: own(bounds).map(Bound::new),
            waiting: up_to(bounds).map(waiting).map(Bound::new),
            unauthenticated: Bound::new(unauthenticated(bounds)),
            delay_us: AtomicU64::new(0),
            ticked_us: AtomicU64::new(0),
            came: Default::default(),
            is_unauthenticated_crowd: AtomicBool::new(false),
            codel: Default::default(),
            began: Instant::now(),
            rejected_us: AtomicU64::new(0),
            read_again_us: AtomicU64::new(0),
            rejected: Default::default(),
        }
    }

    /// Replaces the bounds, at once. Requests in flight stay counted.
    pub(super) fn resize(&self, next: &Bounds) {
        let all = self.permits.iter().zip(own(next));
        let few = self.waiting.iter().zip(up_to(next).map(waiting));
        all.chain(few).for_each(|(bound, size)| bound.resize(size));
        self.unauthenticated.resize(unauthenticated(next));
    }

    /// Whether a request is read at all: by its first line, and by what is known of its caller.
    pub(super) fn check(
        &self,
        priority: Priority,
        caller: Caller,
        bounds: &Bounds,
    ) -> Result<(), Cause> {
        self.count(caller);
        if caller == Caller::Unauthenticated && self.unauthenticated.free() == 0 {
            return Err(self.reject(priority, Cause::Unauthenticated));
        }
        let none_free = self.usable(priority).all(|bound| bound.free() == 0);
        if none_free && of(&self.waiting, priority).is_none_or(|bound| bound.free() == 0) {
            return Err(self.reject(priority, Cause::InFlight));
        }
        let now = Instant::now();
        let waits = RequestWait {
            priority,
            caller,
            waited: self.left(now),
            now,
        };
        self.judge(&waits, bounds, Codel::is_flooded)
    }

    /// A permit for a request that was read whole; acquired earlier, slow senders could hold them all.
    pub(super) async fn enter(
        &self,
        priority: Priority,
        caller: Caller,
        bounds: &Bounds,
    ) -> Result<InFlight, Cause> {
        let reject = |cause| self.reject(priority, cause);
        let own = match caller {
            Caller::Proven => None,
            Caller::Unauthenticated => {
                let own = self.unauthenticated.take_now(1);
                Some(own.ok_or_else(|| reject(Cause::Unauthenticated))?)
            }
        };
        let began = Instant::now();
        let free = self.usable(priority).find_map(|bound| bound.take_now(1));
        let taken = if let Some(taken) = free {
            taken
        } else {
            let queue = of(&self.waiting, priority).and_then(|queue| queue.take_now(1));
            let _waits = queue.ok_or_else(|| reject(Cause::InFlight))?;
            let taken = timeout(INTERVAL, self.next(priority)).await;
            taken.map_err(|_| reject(Cause::Delay))?
        };
        let now = Instant::now();
        let waited = now
            .saturating_duration_since(began)
            .saturating_add(self.delay());
        let waits = RequestWait {
            priority,
            caller,
            waited,
            now,
        };
        self.judge(&waits, bounds, Codel::rejects)?;
        Ok(InFlight {
            _taken: [own, Some(taken)],
        })
    }

    /// The next permit that a request of this priority may use.
    async fn next(&self, priority: Priority) -> Taken {
        let [none, orders, selections, others] = &self.permits;
        tokio::select! {
            taken = none.take(1) => taken,
            taken = orders.take(1), if priority >= Priority::NewOrder => taken,
            taken = selections.take(1), if priority >= Priority::Selection => taken,
            taken = others.take(1), if priority >= Priority::Other => taken,
        }
    }

    fn usable(&self, priority: Priority) -> impl Iterator<Item = &Arc<Bound>> {
        let usable = self.permits.iter().zip(Priority::ALL);
        usable
            .filter(move |(_, of)| *of <= priority)
            .map(|(bound, _)| bound)
    }

    /// What `CoDel` decides about a request that waited, or would wait, so long.
    fn judge(
        &self,
        waits: &RequestWait,
        bounds: &Bounds,
        says: fn(&Codel, Duration, Duration, Instant) -> bool,
    ) -> Result<(), Cause> {
        let RequestWait {
            priority,
            caller,
            waited,
            now,
        } = *waits;
        if self.requests_open() <= CROWD_MIN {
            return Ok(());
        }
        let target = bounds.delay_max;
        let [of_unauthenticated, of_orders, of_selections] = &self.codel;
        let is_first = caller == Caller::Unauthenticated
            && self.is_unauthenticated_crowd.load(Ordering::Relaxed);
        if is_first && says(of_unauthenticated, waited, quarter(target), now) {
            return Err(self.reject_by_codel(priority, now, Cause::Unauthenticated));
        }
        let is_rejected = match priority {
            Priority::Unrouted => self.is_over(now),
            Priority::NewOrder => says(of_orders, waited, target, now),
            Priority::Selection => says(of_selections, waited, target.saturating_mul(4), now),
            Priority::Other => false,
        };
        if is_rejected {
            return Err(self.reject_by_codel(priority, now, Cause::Delay));
        }
        Ok(())
    }

    fn reject_by_codel(&self, priority: Priority, now: Instant, cause: Cause) -> Cause {
        // Unrouted requests are rejected for as long as others are: they must not prolong that.
        if priority != Priority::Unrouted {
            self.rejected_us.store(self.us(now), Ordering::Relaxed);
        }
        self.reject(priority, cause)
    }

    fn reject(&self, priority: Priority, cause: Cause) -> Cause {
        if let Some(count) = of(&self.rejected, priority) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        cause
    }

    /// Whether `CoDel` rejected a request within the last interval: then fewer handshakes run.
    pub(super) fn pressure(&self) -> Pressure {
        if self.is_over(Instant::now()) {
            Pressure::Overload
        } else {
            Pressure::Normal
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let rejected_us = self.rejected_us.load(Ordering::Relaxed);
        let since_us = self.us(now).saturating_sub(rejected_us);
        rejected_us > 0 && since_us < micros(INTERVAL)
    }

    fn count(&self, caller: Caller) {
        let [all, of_unauthenticated] = &self.came;
        all.fetch_add(1, Ordering::Relaxed);
        let one = u32::from(caller == Caller::Unauthenticated);
        of_unauthenticated.fetch_add(one, Ordering::Relaxed);
    }

    /// A tick was served this late, which is how long a ready task waits for the processor.
    pub(super) fn tick(&self, late_by: Duration, now: Instant) {
        self.delay_us.store(micros(late_by), Ordering::Relaxed);
        self.ticked_us.store(self.us(now), Ordering::Relaxed);
        let came = |count: &AtomicU32| count.swap(0, Ordering::Relaxed);
        let [all, of_unauthenticated] = self.came.each_ref().map(came);
        let is_crowd = of_unauthenticated > all.saturating_sub(of_unauthenticated);
        self.is_unauthenticated_crowd
            .store(is_crowd, Ordering::Relaxed);
    }

    /// How long a rejected connection is not read. All together they are read only so often in a second:
    /// rejecting one costs little, but enough of them at once cost everything. The backlog is never more
    /// than the longest pause, so that it ends soon after the flood (Z4).
    pub(super) fn pause(&self, bounds: &Bounds) -> Duration {
        let now_us = self.us(Instant::now());
        let step_us = 1_000_000_u64.checked_div(u64::from(bounds.rejections_per_second_max));
        let latest_us = now_us.saturating_add(micros(PAUSE_MAX));
        let next = |before: u64| {
            let next = before.max(now_us).saturating_add(step_us.unwrap_or(1));
            Some(next.min(latest_us))
        };
        let before_us = self
            .read_again_us
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let before_us = before_us.unwrap_or(now_us);
        let least = bounds.rejection_pause;
        Duration::from_micros(before_us.saturating_sub(now_us)).clamp(least, least.max(PAUSE_MAX))
    }

    /// How many of each priority were rejected since the last call.
    pub(super) fn rejected_lately(&self) -> [u64; 4] {
        let rejected = self.rejected.each_ref();
        rejected.map(|count| count.swap(0, Ordering::Relaxed))
    }

    /// Requests in flight.
    pub(super) fn requests_open(&self) -> u32 {
        self.permits.iter().map(|bound| bound.taken()).sum()
    }

    /// Returns when no request is in flight.
    pub(super) async fn drain(&self) {
        for bound in &self.permits {
            bound.all_back().await;
        }
    }

    fn delay(&self) -> Duration {
        Duration::from_micros(self.delay_us.load(Ordering::Relaxed))
    }

    /// What is left of that delay: tasks that were ready at the tick have been run meanwhile. So no more
    /// requests are rejected than necessary, and the processor does not become idle.
    fn left(&self, now: Instant) -> Duration {
        let ticked_us = self.ticked_us.load(Ordering::Relaxed);
        let since_us = self.us(now).saturating_sub(ticked_us);
        self.delay().saturating_sub(Duration::from_micros(since_us))
    }

    fn us(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.began))
    }
}

fn quarter(span: Duration) -> Duration {
    span.checked_div(4).unwrap_or(span)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// What is counted for a priority.
fn of<T>(counts: &[T; 4], priority: Priority) -> Option<&T> {
    let place = Priority::ALL.iter().position(|it| *it == priority);
    place.and_then(|place| counts.get(place))
}

/// How many may be in flight with one more of each priority.
fn up_to(bounds: &Bounds) -> [u32; 4] {
    [
        unauthenticated(bounds),
        bounds.in_flight_orders_max,
        bounds.in_flight_selections_max,
        bounds.in_flight_max,
    ]
    .map(|max| max.min(bounds.in_flight_max))
}

/// The permits of each priority that those before it may not use.
fn own(bounds: &Bounds) -> [u32; 4] {
    let mut before = 0;
    up_to(bounds).map(|up_to| {
        let own = up_to.saturating_sub(before);
        before = before.max(up_to);
        own
    })
}

fn waiting(max: u32) -> u32 {
    max.checked_div(WAITING_ONE_IN).unwrap_or(0)
}

/// Half of what new orders may fill.
fn unauthenticated(bounds: &Bounds) -> u32 {
    bounds.in_flight_orders_max.div_ceil(2)
}

#[cfg(test)]
mod tests;
