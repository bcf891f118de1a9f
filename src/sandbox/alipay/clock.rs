//! The gateway's own clock, which a test or a demonstration can start at another moment, run
//! faster, and move forward: all deadlines, windows and repetitions follow it.

use std::time::Duration;

use time::format_description::BorrowedFormatItem;
use time::macros::{format_description, offset};
use time::{OffsetDateTime, PrimitiveDateTime};
use tokio::sync::watch;

use crate::sandbox::clock::{now_ms, wait};

/// One day. Unit: milliseconds.
pub(super) const DAY_MS: i64 = 86_400_000;

const SECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
const MILLISECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]");
const COMPACT: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day][hour][minute][second]");
/// Text of [`SECONDS`]. Unit: bytes.
const SECONDS_BYTES: usize = 19;

/// How the gateway's clock runs.
#[derive(Debug, Clone, Copy)]
pub struct AlipayTime {
    /// Where it starts; `None` for the present. Unit: Unix milliseconds.
    pub start_ms: Option<i64>,
    /// How many times faster than real time it runs; with 0 it moves only when it is moved.
    pub speed: u32,
}

impl Default for AlipayTime {
    fn default() -> Self {
        Self {
            start_ms: None,
            speed: 1,
        }
    }
}

/// The running clock.
pub(super) struct AlipayClock {
    real_start_ms: i64,
    start_ms: i64,
    speed: i64,
    advanced_ms: watch::Sender<i64>,
}

impl AlipayClock {
    pub(super) fn start(time: AlipayTime) -> Self {
        let real_start_ms = now_ms();
        Self {
            real_start_ms,
            start_ms: time.start_ms.unwrap_or(real_start_ms),
            speed: time.speed.into(),
            advanced_ms: watch::Sender::new(0),
        }
    }

    /// Now. Unit: Unix milliseconds.
    pub(super) fn now_ms(&self) -> i64 {
        let real = now_ms().saturating_sub(self.real_start_ms);
        self.start_ms
            .saturating_add(real.saturating_mul(self.speed))
            .saturating_add(*self.advanced_ms.borrow())
    }

    /// Moves it forward.
    pub(super) fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.advanced_ms
            .send_modify(|advanced| *advanced = advanced.saturating_add(by));
    }

    /// Waits until a moment of this clock.
    pub(super) async fn wait_until(&self, moment_ms: i64) {
        let mut advanced = self.advanced_ms.subscribe();
        loop {
            advanced.mark_unchanged();
            let left = moment_ms.saturating_sub(self.now_ms());
            if left <= 0 {
                return;
            }
            let Some(real) = left.checked_div(self.speed) else {
                // Stands still: only a move ends the wait. The sender is in `self`.
                let _ = advanced.changed().await;
                continue;
            };
            let real = Duration::from_millis(u64::try_from(real).unwrap_or(0).saturating_add(1));
            tokio::select! {
                () = wait(real) => (),
                _ = advanced.changed() => (),
            }
        }
    }
}

fn in_shanghai(moment_ms: i64) -> OffsetDateTime {
    let nanos = i128::from(moment_ms).saturating_mul(1_000_000);
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .to_offset(offset!(+8))
}

/// `yyyy-MM-dd HH:mm:ss` in UTC+8.
pub(super) fn local(moment_ms: i64) -> String {
    in_shanghai(moment_ms).format(SECONDS).unwrap_or_default()
}

/// The same with milliseconds.
pub(super) fn local_millis(moment_ms: i64) -> String {
    in_shanghai(moment_ms)
        .format(MILLISECONDS)
        .unwrap_or_default()
}

/// `yyyyMMddHHmmss` in UTC+8.
pub(super) fn compact(moment_ms: i64) -> String {
    in_shanghai(moment_ms).format(COMPACT).unwrap_or_default()
}

/// The moment of `yyyy-MM-dd HH:mm:ss` in UTC+8. Unit: Unix milliseconds.
pub(super) fn parse_local(text: &str) -> Option<i64> {
    if text.len() != SECONDS_BYTES || !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let moment = PrimitiveDateTime::parse(text, SECONDS).ok()?;
    let seconds = moment.assume_offset(offset!(+8)).unix_timestamp();
    seconds.checked_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments on the wire are in UTC+8, without a zone.
    #[test]
    fn moments_are_written_and_read_in_shanghai_time() {
        let moment = parse_local("2026-01-01 08:00:00").unwrap();
        assert_eq!(moment, 1_767_225_600_000);
        assert_eq!(local(moment), "2026-01-01 08:00:00");
        assert_eq!(local_millis(moment + 123), "2026-01-01 08:00:00.123");
        assert_eq!(compact(moment), "20260101080000");
        for wrong in [
            "2026-01-01T08:00:00",
            "2026-1-1 8:00:00",
            "2026-02-30 08:00:00",
            "+026-01-01 08:00:00",
            "",
        ] {
            assert_eq!(parse_local(wrong), None, "{wrong}");
        }
    }

    /// A standing clock moves only when it is moved.
    #[tokio::test]
    async fn a_wait_ends_when_the_clock_is_moved() {
        let clock = AlipayClock::start(AlipayTime {
            start_ms: Some(1_000),
            speed: 0,
        });
        clock.advance(Duration::from_mins(4));
        assert_eq!(clock.now_ms(), 241_000);
        clock.wait_until(241_000).await;
        let moving = async { clock.advance(Duration::from_secs(1)) };
        tokio::join!(clock.wait_until(242_000), moving);
    }
}
