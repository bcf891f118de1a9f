//! A manual clock. The true time and the time the clock shows are separate: the shown time drifts
//! and jumps as a machine's clock does; the uptime is always true.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use paymux::domain::identifiers::{Timestamp, Uptime};
use paymux::world::Clock;

/// Noon in Shanghai on some day. Unit: milliseconds.
pub(crate) const START_MS: i64 = 1_790_308_800_000;

pub(crate) struct ManualClock {
    truth: AtomicI64,
    off: AtomicI64,
    doubted: AtomicBool,
}

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self {
            truth: AtomicI64::new(START_MS),
            off: AtomicI64::new(0),
            doubted: AtomicBool::new(false),
        }
    }

    /// The true time, by which institutions, payers and messages in flight act. Unit: milliseconds.
    pub(crate) fn truth(&self) -> i64 {
        self.truth.load(Ordering::SeqCst)
    }

    /// Lets the shown time drift by this much: tests use at most an eighth of the time passed.
    pub(crate) fn bend(&self, ms: i64) {
        self.off.fetch_add(ms, Ordering::SeqCst);
    }

    /// Advances the time.
    pub(crate) fn pass(&self, ms: i64) {
        self.truth.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the offset of the gateway's clock; 0 is correct.
    pub(crate) fn set_off(&self, ms: i64) {
        self.off.store(ms, Ordering::SeqCst);
    }

    /// Marks the clock as possibly ahead, or as trusted again.
    pub(crate) fn unresolved(&self, doubted: bool) {
        self.doubted.store(doubted, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.truth() + self.off.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_ms(u64::try_from(self.truth() - START_MS).unwrap())
    }

    fn is_settled(&self) -> bool {
        !self.doubted.load(Ordering::SeqCst)
    }
}
