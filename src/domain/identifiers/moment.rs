//! Moments and days: milliseconds since the epoch inside, Asia/Shanghai at the border. Reads no
//! clock.

use std::sync::Arc;
use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::macros::{format_description, offset};
use time::{Date, OffsetDateTime, UtcOffset};

use crate::domain::identifiers::Malformed;

/// Time zone of every date in the interface (`product.md`, decisions): Asia/Shanghai, fixed.
const ZONE: UtcOffset = offset!(+8);

/// A moment, as milliseconds since 1970-01-01T00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment so many milliseconds after the epoch.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// The moment so many seconds after the epoch.
    pub const fn from_s(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// Milliseconds since the epoch.
    pub const fn ms(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// That much later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// How long from `earlier` until this moment; nothing if it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    fn local(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.seconds())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
            .to_offset(ZONE)
    }

    /// The day in Asia/Shanghai, `yyyyMMdd` (G-11).
    pub fn date(self) -> String {
        self.local()
            .format(format_description!("[year][month][day]"))
            .unwrap_or_default()
    }

    /// The time of day in Asia/Shanghai, `HHmmss` (G-11).
    pub fn time_of_day(self) -> String {
        self.local()
            .format(format_description!("[hour][minute][second]"))
            .unwrap_or_default()
    }

    /// Minutes since midnight in Asia/Shanghai: what opening hours are compared with.
    pub fn minute_of_day(self) -> u16 {
        let local = self.local();
        u16::from(local.hour())
            .saturating_mul(60)
            .saturating_add(u16::from(local.minute()))
    }

    /// RFC 3339, to the second, in Asia/Shanghai.
    pub fn rfc3339(self) -> String {
        self.local()
            .format(format_description!(
                "[year]-[month]-[day]T[hour]:[minute]:[second]+08:00"
            ))
            .unwrap_or_default()
    }

    /// Reads RFC 3339; what is finer than a millisecond is cut off.
    pub fn parse_rfc3339(text: &str) -> Result<Self, Malformed> {
        let wrong = || Malformed {
            expected: "a moment as RFC 3339 has it",
        };
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
        let ms = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(ms).map(Self).map_err(|_| wrong())
    }

    /// Reads `yyyyMMdd` and `HHmmss` of Asia/Shanghai.
    pub fn parse_local(date: &str, time_of_day: &str) -> Result<Self, Malformed> {
        let wrong = Malformed {
            expected: "yyyyMMdd and HHmmss",
        };
        let date = Date::parse(date, format_description!("[year][month][day]"))
            .map_err(|_| wrong.clone())?;
        let time = time::Time::parse(time_of_day, format_description!("[hour][minute][second]"))
            .map_err(|_| wrong)?;
        Ok(Self::from_s(
            date.with_time(time).assume_offset(ZONE).unix_timestamp(),
        ))
    }
}

/// How long this machine had been running, by a clock that nobody sets and that counts the time in
/// which machine or process stood still. Unit: milliseconds. Compared only within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uptime(u64);

impl Uptime {
    /// So many milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// How long from `earlier` until this moment; nothing if it is not later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A calendar day as merchants write it: `yyyyMMdd`, a day that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarDay(Arc<str>);

impl CalendarDay {
    /// Reads `yyyyMMdd`; 30 February is refused.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let wrong = Malformed {
            expected: "a day as yyyyMMdd",
        };
        if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong);
        }
        Date::parse(text, format_description!("[year][month][day]"))
            .map(|_| Self(text.into()))
            .map_err(|_| wrong)
    }

    /// The eight digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-11: dates are those of Asia/Shanghai and must exist.
    #[test]
    fn days_are_read_in_shanghai() {
        let moment = Timestamp::parse_local("20261122", "003000").unwrap();
        assert_eq!(moment.seconds(), 1_795_278_600);
        assert_eq!(moment.date(), "20261122");
        assert_eq!(moment.time_of_day(), "003000");
        assert_eq!(moment.rfc3339(), "2026-11-22T00:30:00+08:00");
        assert!(CalendarDay::parse("20240229").is_ok());
        for bad in ["20230229", "2023-2-1", "20231301", "2023022", "+2023021"] {
            assert!(CalendarDay::parse(bad).is_err(), "{bad}");
        }
    }
}
