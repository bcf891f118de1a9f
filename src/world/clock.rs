//! A smoothed view of the machine's clock.
//!
//! Between two readings it advances by the time that passed. A small offset of the wall clock is
//! corrected by at most an eighth of that time, so that it never looks like elapsed time (T1, T2).
//! A step is followed as soon as the clock has been stable for some seconds: requests signed with a
//! correct clock must not be rejected for hours, and a clock that was wrong for a moment must not
//! be believed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::Clock;
use crate::domain::identifiers::{Timestamp, Uptime};

/// An offset above this is a step, not drift. Unit: milliseconds.
const SET_BEYOND_MS: i64 = 2_000;

/// How long a stepped clock must stay stable before it is followed. Unit: milliseconds.
const BELIEVED_AFTER_MS: i64 = 10_000;

/// How long after following a step ahead nothing is deleted by age; the same after the machine's
/// boot, when its time service may not have synchronised yet. Unit: milliseconds.
const SETTLED_AFTER_MS: i64 = 3_600_000;

/// The machine's clock.
pub struct SystemClock {
    /// The machine's uptime at the start.
    started: Uptime,
    /// The wall clock's reading then.
    started_ms: i64,
    reading: Mutex<ClockReading>,
}

/// The wall clock compared with elapsed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockCheck {
    /// By how much the clock was set since the start: its reading less its reading then and the
    /// elapsed time. Unit: milliseconds.
    pub offset_ms: i64,
    /// By how much it was set and followed since the last check; ahead is positive. Unit:
    /// milliseconds.
    pub followed_ms: i64,
}

#[derive(Default)]
struct ClockReading {
    elapsed_ms: i64,
    shown_ms: i64,
    /// The offset of a stepped clock, and since when it has been stable.
    set: Option<(i64, i64)>,
    followed_ms: i64,
    /// Not settled until this much time since the start.
    unsettled_ms: i64,
}

impl SystemClock {
    /// Reads the wall clock once and advances from there.
    pub fn start() -> Self {
        let (started_ms, started) = (wall_ms(), uptime());
        let ran_ms = i64::try_from(started.since(Uptime::from_ms(0)).as_millis());
        let reading = ClockReading {
            shown_ms: started_ms,
            unsettled_ms: SETTLED_AFTER_MS.saturating_sub(ran_ms.unwrap_or(i64::MAX)),
            ..ClockReading::default()
        };
        Self {
            started,
            started_ms,
            reading: Mutex::new(reading),
        }
    }

    /// The wall clock's offset, and the steps followed since the last check.
    pub fn look(&self) -> ClockCheck {
        let (mut reading, wall_ms) = self.read();
        let expected_ms = self.started_ms.saturating_add(reading.elapsed_ms);
        ClockCheck {
            offset_ms: wall_ms.saturating_sub(expected_ms),
            followed_ms: std::mem::take(&mut reading.followed_ms),
        }
    }

    /// Stored timestamps contradict this clock: nothing is deleted by age for an hour.
    pub fn unresolved(&self) {
        self.read().0.unsettle();
    }

    fn read(&self) -> (MutexGuard<'_, ClockReading>, i64) {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed_ms = uptime().since(self.started).as_millis();
        let elapsed_ms = i64::try_from(elapsed_ms).unwrap_or(i64::MAX);
        let wall_ms = wall_ms();
        reading.advance(elapsed_ms, wall_ms);
        (reading, wall_ms)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock of `World`")]
fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The elapsed time: it is never set, and counts while the process or the machine is suspended, so
/// that a sleep is not mistaken for a clock step.
fn uptime() -> Uptime {
    let reading = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (
        u64::try_from(reading.tv_sec).unwrap_or(0),
        u64::try_from(reading.tv_nsec).unwrap_or(0),
    );
    let ms = nanos.checked_div(1_000_000).unwrap_or(0);
    Uptime::from_ms(seconds.saturating_mul(1_000).saturating_add(ms))
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.read().0.shown_ms)
    }

    fn uptime(&self) -> Uptime {
        uptime()
    }

    fn is_settled(&self) -> bool {
        self.read().0.is_settled()
    }
}

impl ClockReading {
    fn unsettle(&mut self) {
        self.unsettled_ms = self.elapsed_ms.saturating_add(SETTLED_AFTER_MS);
    }

    fn is_settled(&self) -> bool {
        self.elapsed_ms >= self.unsettled_ms
    }

    /// Advances the elapsed time to `elapsed_ms` and compares the wall clock with it.
    fn advance(&mut self, elapsed_ms: i64, wall_ms: i64) {
        let from_ms = self.elapsed_ms;
        self.elapsed_ms = elapsed_ms.max(from_ms);
        let passed_ms = self.elapsed_ms.saturating_sub(from_ms);
        let expected_ms = self.shown_ms.saturating_add(passed_ms);
        let off_ms = wall_ms.saturating_sub(expected_ms);
        if off_ms.saturating_abs() <= SET_BEYOND_MS {
            self.set = None;
            // An eighth of the total time, not of each interval's: the correction does not depend
            // on how often the clock is read.
            let eighth = |ms: i64| ms.checked_div(8).unwrap_or(0);
            let bend = eighth(self.elapsed_ms).saturating_sub(eighth(from_ms));
            let step = off_ms.clamp(bend.saturating_neg(), bend);
            self.shown_ms = expected_ms.saturating_add(step).max(self.shown_ms);
            return;
        }
        self.shown_ms = expected_ms;
        let stays =
            |set: &(i64, i64)| off_ms.saturating_sub(set.0).saturating_abs() <= SET_BEYOND_MS;
        match self.set.filter(stays) {
            None => self.set = Some((off_ms, self.elapsed_ms)),
            Some((_, since_ms))
                if self.elapsed_ms.saturating_sub(since_ms) >= BELIEVED_AFTER_MS =>
            {
                self.shown_ms = wall_ms;
                self.followed_ms = self.followed_ms.saturating_add(off_ms);
                self.set = None;
                if off_ms > 0 {
                    self.unsettle();
                }
            }
            Some(_) => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn at(shown_ms: i64) -> ClockReading {
        ClockReading {
            shown_ms,
            ..ClockReading::default()
        }
    }

    /// T1, T2: a small offset is corrected slowly, and never backwards.
    #[test]
    fn a_clock_that_is_a_little_off_is_followed_slowly() {
        let mut clock = at(1_000);
        clock.advance(80, 1_080);
        assert_eq!(clock.shown_ms, 1_080);
        clock.advance(160, 3_100);
        assert_eq!(clock.shown_ms, 1_170);
        clock.advance(240, 300);
        assert_eq!(clock.shown_ms, 1_240);
        clock.advance(240, 0);
        assert_eq!(clock.shown_ms, 1_240, "no time passed");
        let mut often = at(0);
        for ms in 1..=8_000 {
            often.advance(ms, ms + 1_500);
        }
        assert_eq!(often.shown_ms, 9_000, "read every millisecond");
    }

    /// T2, H2: a step, however large and in either direction, is followed within a quarter of a
    /// minute; a momentary error is not.
    #[test]
    fn a_clock_that_was_set_is_followed_once_it_is_stable() {
        for by_ms in [DAY_MS, -DAY_MS, 400 * DAY_MS, -3_600_000, 2_500] {
            let mut clock = at(DAY_MS);
            for second in 1..=9 {
                clock.advance(second * 1_000, DAY_MS + second * 1_000 + by_ms);
                assert_eq!(clock.shown_ms, DAY_MS + second * 1_000, "not believed yet");
            }
            for second in 10..=15 {
                clock.advance(second * 1_000, DAY_MS + second * 1_000 + by_ms);
            }
            assert_eq!(clock.shown_ms, DAY_MS + 15_000 + by_ms);
            assert_eq!(clock.followed_ms, by_ms, "once");
        }
        let mut clock = at(DAY_MS);
        for second in 1..=100 {
            let by_ms = if second % 9 == 0 { 0 } else { DAY_MS };
            clock.advance(second * 1_000, DAY_MS + second * 1_000 + by_ms);
        }
        assert_eq!((clock.shown_ms, clock.followed_ms), (DAY_MS + 100_000, 0));
    }

    /// Q6, T2: for an hour after a step ahead was followed the clock is not settled, even if it was
    /// corrected meanwhile; after a step back it is.
    #[test]
    fn a_clock_that_was_followed_ahead_is_settled_an_hour_later() {
        let mut clock = at(DAY_MS);
        assert!(clock.is_settled());
        let mut go = |from: i64, until: i64, by_ms: i64| {
            for second in from..until {
                clock.advance(second * 1_000, DAY_MS + second * 1_000 + by_ms);
            }
            (clock.followed_ms, clock.is_settled())
        };
        assert_eq!(go(1, 20, -DAY_MS), (-DAY_MS, true));
        assert_eq!(go(20, 40, DAY_MS), (DAY_MS, false));
        assert_eq!(go(40, 60, 0), (0, false), "corrected");
        assert!(!go(60, 3_600, 0).1);
        assert!(go(3_600, 3_700, 0).1);
    }
}
