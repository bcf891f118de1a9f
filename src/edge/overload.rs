//! Load shedding (R-6.4-1c). Requests in flight are bounded: the lowest priority may use the fewest
//! permits, the highest may use all, and unauthenticated callers have half of those of new orders. Past
//! that a few wait, briefly. While ready tasks wait too long for the processor, windows
//! (`overload/window.rs`) leave fewer in flight: first of unauthenticated callers where they are the
//! majority, then of new orders, then of selections, and of nothing else.

mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Bounds;
use crate::api::priority::Priority;
use crate::limits::bound::{Bound, Taken};
use window::{INTERVAL, Window, WindowLimits};

/// The interval of the timer whose lateness is the wait for the processor.
pub(super) const TICK: Duration = Duration::from_millis(10);
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
    /// The same of a window that a long wait for the processor has narrowed; or a permit did not come.
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
    /// A request was rejected for a narrowed window within the last interval.
    Overload,
}

/// One listener's load.
pub(super) struct Overload {
    /// By priority, lowest first: each may use its own and those before it.
    permits: [Arc<Bound>; 4],
    waiting: [Arc<Bound>; 4],
    unauthenticated: Window,
    orders: Window,
    selections: Window,
    /// Requests since the last tick, and those of them that are not authenticated.
    came: [AtomicU32; 2],
    began: Instant,
    /// When a narrowed window rejected last, and when the next rejected connection is read at the
    /// earliest. Unit: microseconds since the beginning.
    rejected_us: AtomicU64,
    read_again_us: AtomicU64,
    /// Rejected since they were last logged, by priority.
    rejected: [AtomicU64; 4],
}

/// A request's permits; released when it has been answered.
pub(super) struct InFlight {
    _unauthenticated: Option<Taken>,
    _own: RequestPermits,
}

/// The permit of a window, where the priority has one, and one of those in flight.
type RequestPermits = (Option<Taken>, Taken);

impl Overload {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            permits: own(bounds).map(Bound::new),
            waiting: up_to(bounds).map(waiting).map(Bound::new),
            unauthenticated: Window::new(unauthenticated(bounds)),
            orders: Window::new(bounds.in_flight_orders_max),
            selections: Window::new(bounds.in_flight_selections_max),
            came: Default::default(),
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
        self.unauthenticated.open(unauthenticated(next));
        self.orders.open(next.in_flight_orders_max);
        self.selections.open(next.in_flight_selections_max);
    }

    /// Whether a request is read at all: by its first line, and by what is known of its caller.
    pub(super) fn check(
        &self,
        priority: Priority,
        caller: Caller,
        bounds: &Bounds,
    ) -> Result<(), Cause> {
        self.count(caller);
        if caller == Caller::Unauthenticated && self.unauthenticated.is_full() {
            return Err(self.reject_unauthenticated(priority, bounds));
        }
        // Unrouted requests are rejected for as long as others are: they must not prolong that.
        if priority == Priority::Unrouted && self.is_over(Instant::now()) {
            return Err(self.reject(priority, Cause::Delay));
        }
        let is_window_full = self.window(priority).is_some_and(Window::is_full);
        let is_full = is_window_full || self.usable(priority).all(|bound| bound.free() == 0);
        if is_full && of(&self.waiting, priority).is_none_or(|bound| bound.free() == 0) {
            return Err(self.reject_in_flight(priority, bounds));
        }
        Ok(())
    }

    /// A permit for a request that was read whole; acquired earlier, slow senders could hold them all.
    pub(super) async fn enter(
        &self,
        priority: Priority,
        caller: Caller,
        bounds: &Bounds,
    ) -> Result<InFlight, Cause> {
        let unauthenticated = match caller {
            Caller::Proven => None,
            Caller::Unauthenticated => {
                let taken = self.unauthenticated.take_now();
                Some(taken.ok_or_else(|| self.reject_unauthenticated(priority, bounds))?)
            }
        };
        let own = if let Some(own) = self.take_now(priority) {
            own
        } else {
            let queue = of(&self.waiting, priority).and_then(|queue| queue.take_now(1));
            let _waits = queue.ok_or_else(|| self.reject_in_flight(priority, bounds))?;
            let own = timeout(INTERVAL, self.next(priority)).await;
            own.map_err(|_| self.reject(priority, Cause::Delay))?
        };
        Ok(InFlight {
            _unauthenticated: unauthenticated,
            _own: own,
        })
    }

    fn take_now(&self, priority: Priority) -> Option<RequestPermits> {
        let of_window = match self.window(priority) {
            Some(window) => Some(window.take_now()?),
            None => None,
        };
        let permit = self.usable(priority).find_map(|bound| bound.take_now(1))?;
        Some((of_window, permit))
    }

    /// The next permits that a request of this priority may use.
    async fn next(&self, priority: Priority) -> RequestPermits {
        let of_window = match self.window(priority) {
            Some(window) => Some(window.take().await),
            None => None,
        };
        let [none, orders, selections, others] = &self.permits;
        let permit = tokio::select! {
            taken = none.take(1) => taken,
            taken = orders.take(1), if priority >= Priority::NewOrder => taken,
            taken = selections.take(1), if priority >= Priority::Selection => taken,
            taken = others.take(1), if priority >= Priority::Other => taken,
        };
        (of_window, permit)
    }

    fn window(&self, priority: Priority) -> Option<&Window> {
        match priority {
            Priority::NewOrder => Some(&self.orders),
            Priority::Selection => Some(&self.selections),
            Priority::Unrouted | Priority::Other => None,
        }
    }

    fn usable(&self, priority: Priority) -> impl Iterator<Item = &Arc<Bound>> {
        let usable = self.permits.iter().zip(Priority::ALL);
        usable
            .filter(move |(_, of)| *of <= priority)
            .map(|(bound, _)| bound)
    }

    fn reject_unauthenticated(&self, priority: Priority, bounds: &Bounds) -> Cause {
        if self.unauthenticated.size() < unauthenticated(bounds) {
            self.note_overload();
        }
        self.reject(priority, Cause::Unauthenticated)
    }

    fn reject_in_flight(&self, priority: Priority, bounds: &Bounds) -> Cause {
        let most = match priority {
            Priority::NewOrder => bounds.in_flight_orders_max,
            Priority::Selection => bounds.in_flight_selections_max,
            Priority::Unrouted | Priority::Other => 0,
        };
        let is_narrowed = self.window(priority).is_some_and(|it| it.size() < most);
        if is_narrowed {
            self.note_overload();
            return self.reject(priority, Cause::Delay);
        }
        self.reject(priority, Cause::InFlight)
    }

    fn note_overload(&self) {
        self.rejected_us
            .store(self.us(Instant::now()), Ordering::Relaxed);
    }

    fn reject(&self, priority: Priority, cause: Cause) -> Cause {
        if let Some(count) = of(&self.rejected, priority) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        cause
    }

    /// Whether a narrowed window rejected a request within the last interval: then fewer handshakes run.
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
    pub(super) fn tick(&self, late_by: Duration, bounds: &Bounds, now: Instant) {
        let came = |count: &AtomicU32| count.swap(0, Ordering::Relaxed);
        let [all, of_unauthenticated] = self.came.each_ref().map(came);
        let is_crowd = of_unauthenticated > all.saturating_sub(of_unauthenticated);
        let target = bounds.delay_max;
        let of_crowd = if is_crowd {
            quarter(target)
        } else {
            Duration::MAX
        };
        for (window, target, max) in [
            (&self.unauthenticated, of_crowd, unauthenticated(bounds)),
            (&self.orders, target, bounds.in_flight_orders_max),
            (
                &self.selections,
                target.saturating_mul(4),
                bounds.in_flight_selections_max,
            ),
        ] {
            window.regulate(late_by, WindowLimits { target, max }, now);
        }
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
