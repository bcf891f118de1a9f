//! Timestamps and calendar days: milliseconds since the epoch internally, Asia/Shanghai at the API.
//! Reads no clock.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::macros::{datetime, format_description, offset};
use time::{Date, OffsetDateTime, UtcOffset};

use crate::domain::identifiers::Malformed;

/// Time zone of every date in the API: Asia/Shanghai, fixed.
const ZONE: UtcOffset = offset!(+8);

/// A point in time, as milliseconds since 1970-01-01T00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Range of accepted external timestamps. Any later addition to one of them still has a date; a
    /// value outside is an error of its sender.
    const READABLE: Range<Self> = Self::from_s(datetime!(2000-01-01 0:00 UTC).unix_timestamp())
        ..Self::from_s(datetime!(9000-01-01 0:00 UTC).unix_timestamp());

    /// Stands for an unreadable timestamp: long before anything stored, so that evidence with it is
    /// dated by its time of receipt.
    pub const UNREADABLE: Self = Self(0);

    /// From milliseconds since the epoch.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// From seconds since the epoch.
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

    /// Adds a duration.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// Subtracts a duration.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// Time elapsed since `earlier`; zero if that is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    fn local(self) -> OffsetDateTime {
        // In Shanghai the last representable year ends eight hours earlier than in UTC.
        OffsetDateTime::from_unix_timestamp(self.seconds())
            .ok()
            .and_then(|moment| moment.checked_to_offset(ZONE))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH.to_offset(ZONE))
    }

    fn read(self) -> Option<Self> {
        Self::READABLE.contains(&self).then_some(self)
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

    /// Minutes since midnight in Asia/Shanghai, compared with opening hours.
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

    /// Parses RFC 3339, years 2000 to 8999; truncates to milliseconds.
    pub fn parse_rfc3339(text: &str) -> Result<Self, Malformed> {
        let wrong = || Malformed {
            expected: "an RFC 3339 timestamp of the years 2000 to 8999",
        };
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
        let ms = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        let moment = i64::try_from(ms).ok().map(Self);
        moment.and_then(Self::read).ok_or_else(wrong)
    }

    /// Parses `yyyyMMdd` and `HHmmss` in Asia/Shanghai, years 2000 to 8999.
    pub fn parse_local(date: &str, time_of_day: &str) -> Result<Self, Malformed> {
        let wrong = Malformed {
            expected: "yyyyMMdd and HHmmss, of the years 2000 to 8999",
        };
        let date = Date::parse(date, format_description!("[year][month][day]"))
            .map_err(|_| wrong.clone())?;
        let time = time::Time::parse(time_of_day, format_description!("[hour][minute][second]"))
            .map_err(|_| wrong.clone())?;
        let moment = date.with_time(time).assume_offset(ZONE);
        Self::from_s(moment.unix_timestamp()).read().ok_or(wrong)
    }
}

/// Uptime of the machine, by a monotonic clock that includes the time in which machine or process
/// was suspended. Unit: milliseconds. Compared only within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uptime(u64);

impl Uptime {
    /// From milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Time elapsed since `earlier`; zero if that is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A calendar day in the merchants' format: `yyyyMMdd`, an existing day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarDay(Arc<str>);

impl CalendarDay {
    /// Parses `yyyyMMdd`; 30 February is refused.
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
    fn days_are_parsed_in_shanghai() {
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

    /// M7, C3: implausible timestamps are refused, and formatting a stored one never panics.
    #[test]
    fn implausible_timestamps_are_refused() {
        for good in ["2000-01-01T00:00:00Z", "8999-12-31T23:59:59Z"] {
            assert!(Timestamp::parse_rfc3339(good).is_ok(), "{good}");
        }
        for bad in [
            "1999-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            "9000-01-01T00:00:00Z",
            "9999-12-31T16:00:00Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59-08:00",
        ] {
            assert!(Timestamp::parse_rfc3339(bad).is_err(), "{bad}");
        }
        for bad in ["19991231", "99991231"] {
            assert!(Timestamp::parse_local(bad, "235959").is_err(), "{bad}");
        }
        for s in [
            i64::MIN,
            -62_167_219_201,
            253_402_272_000,
            253_402_300_799,
            i64::MAX,
        ] {
            let shown = Timestamp::from_s(s);
            assert_eq!(shown.rfc3339().len(), 25, "{s}");
            assert_eq!((shown.date().len(), shown.time_of_day().len()), (8, 6));
            assert!(shown.minute_of_day() < 1_440);
        }
    }
}
