//! The platform's clock: it may begin at another moment and be put forward, and what the platform
//! waits for can be sped up without changing the moments it writes.

use std::num::NonZeroU32;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::{format_description, offset};
use tokio::sync::watch;

use crate::sandbox::clock::{now_ms, rfc_3339_shanghai, wait};

const BILL_MOMENT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const COMPACT: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day][hour][minute][second]");

/// How many milliseconds a second has.
const SECOND_MS: i64 = 1_000;

/// The clock.
pub(super) struct PlatformClock {
    /// Added to the machine's clock. Unit: milliseconds.
    offset_ms: i64,
    /// How many times faster waits pass.
    faster: i64,
    /// Added since the start. Unit: seconds.
    advanced_s: watch::Sender<i64>,
}

/// A moment from which a wait counts.
pub(super) struct ClockMark {
    real_ms: i64,
    advanced_s: i64,
}

impl PlatformClock {
    pub(super) fn new(starts_s: Option<i64>, faster: NonZeroU32) -> Self {
        let offset_ms = starts_s.map_or(0, |start| {
            start.saturating_mul(SECOND_MS).saturating_sub(now_ms())
        });
        Self {
            offset_ms,
            faster: i64::from(faster.get()),
            advanced_s: watch::Sender::new(0),
        }
    }

    /// Unit: Unix seconds.
    pub(super) fn now_s(&self) -> i64 {
        let ms = now_ms().saturating_add(self.offset_ms);
        (ms / SECOND_MS).saturating_add(*self.advanced_s.borrow())
    }

    /// Puts the clock forward; a wait ends early if its end is passed.
    pub(super) fn advance(&self, seconds: u32) {
        self.advanced_s
            .send_modify(|sum| *sum = sum.saturating_add(i64::from(seconds)));
    }

    pub(super) fn mark(&self) -> ClockMark {
        ClockMark {
            real_ms: now_ms(),
            advanced_s: *self.advanced_s.borrow(),
        }
    }

    /// Waits until this many seconds have passed since the mark.
    pub(super) async fn wait_since(&self, mark: &ClockMark, seconds: i64) {
        let mut advanced = self.advanced_s.subscribe();
        loop {
            let left = self.left(mark, seconds);
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = wait(left) => (),
                _ = advanced.changed() => (),
            }
        }
    }

    fn left(&self, mark: &ClockMark, seconds: i64) -> Duration {
        let advanced_s = (*self.advanced_s.borrow()).saturating_sub(mark.advanced_s);
        let passed_ms = now_ms()
            .saturating_sub(mark.real_ms)
            .saturating_mul(self.faster);
        let left_ms = seconds
            .saturating_sub(advanced_s)
            .saturating_mul(SECOND_MS)
            .saturating_sub(passed_ms);
        let real_ms = left_ms
            .saturating_add(self.faster.saturating_sub(1))
            .checked_div(self.faster);
        Duration::from_millis(real_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0))
    }

    /// A wait sped up like the others. Unit: seconds.
    pub(super) fn scaled_s(&self, seconds: i64) -> i64 {
        seconds.checked_div(self.faster).unwrap_or(seconds)
    }
}

fn in_shanghai(moment_s: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(moment_s)
        .ok()
        .and_then(|moment| moment.checked_to_offset(offset!(+8)))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// `2026-01-01 08:01:12`, as in a bill.
pub(super) fn bill_moment(moment_s: i64) -> String {
    in_shanghai(moment_s)
        .format(BILL_MOMENT)
        .unwrap_or_default()
}

/// `2026-01-01`, the day in Shanghai.
pub(super) fn day(moment_s: i64) -> String {
    in_shanghai(moment_s).format(DAY).unwrap_or_default()
}

/// The hour of the day in Shanghai.
pub(super) fn hour(moment_s: i64) -> u8 {
    in_shanghai(moment_s).hour()
}

/// `2026-01-01T08:01:12+08:00`.
pub(super) fn rfc_3339(moment_s: i64) -> String {
    rfc_3339_shanghai(moment_s)
}

/// `20260101080112`, the beginning of a `prepay_id`.
pub(super) fn compact(moment_s: i64) -> String {
    in_shanghai(moment_s).format(COMPACT).unwrap_or_default()
}

/// Whether this is a day of the calendar, `yyyy-MM-dd`.
pub(super) fn is_day(text: &str) -> bool {
    text.len() == 10 && time::Date::parse(text, DAY).is_ok()
}

/// Reads an RFC 3339 moment with offset. Unit: Unix seconds.
pub(super) fn read_moment(text: &str) -> Option<i64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    (moment.nanosecond() == 0).then(|| moment.unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 2 of the protocol: times are RFC 3339 with offset.
    #[test]
    fn moments_are_read_and_written_in_shanghai_time() {
        assert_eq!(
            read_moment("2026-01-01T08:03:00+08:00"),
            Some(1_767_225_780)
        );
        for text in ["2026-01-01T08:03:00", "2026-01-01", "20260101080300", ""] {
            assert_eq!(read_moment(text), None, "{text}");
        }
        assert_eq!(bill_moment(1_767_225_672), "2026-01-01 08:01:12");
        assert_eq!(compact(1_767_225_672), "20260101080112");
        assert!(is_day("2026-01-01") && !is_day("2026-02-30") && !is_day("20260101"));
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_clock_is_put_forward() {
        let clock = PlatformClock::new(Some(1_767_225_600), NonZeroU32::MIN);
        let mark = clock.mark();
        clock.advance(86_400);
        clock.wait_since(&mark, 86_400).await;
        assert_eq!(day(clock.now_s()), "2026-01-02");
    }
}
