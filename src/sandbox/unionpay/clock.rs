//! UnionPay's time: Beijing time in messages, settlement days from 23:00 to 23:00. Can be held at a
//! moment, so that messages with recorded times are current.

use std::sync::{Mutex, PoisonError};

use time::format_description::BorrowedFormatItem;
use time::macros::{format_description, offset};
use time::{Date, PrimitiveDateTime};

use crate::sandbox::clock;

const MOMENT: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day][hour][minute][second]");
const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]");
/// A settlement day ends this much before midnight. Unit: seconds.
const SETTLEMENT_LEAD_S: i64 = 3_600;

/// The time in force.
#[derive(Default)]
pub(super) struct UnionPayClock {
    held_s: Mutex<Option<i64>>,
}

impl UnionPayClock {
    /// Unit: Unix seconds.
    pub(super) fn now_s(&self) -> i64 {
        let held = *self.held_s.lock().unwrap_or_else(PoisonError::into_inner);
        held.unwrap_or_else(clock::now_s)
    }

    /// Stands still at a moment; `None` follows the real time again.
    pub(super) fn hold(&self, at_s: Option<i64>) {
        *self.held_s.lock().unwrap_or_else(PoisonError::into_inner) = at_s;
    }
}

/// `YYYYMMDDhhmmss` in Beijing time.
pub(super) fn beijing(moment_s: i64) -> String {
    let (day, time) = clock::shanghai(moment_s);
    day + &time
}

/// Parses `YYYYMMDDhhmmss`. Unit: Unix seconds.
pub(super) fn parse_beijing(text: &str) -> Option<i64> {
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let moment = PrimitiveDateTime::parse(text, MOMENT).ok()?;
    Some(moment.assume_offset(offset!(+8)).unix_timestamp())
}

/// The settlement day, `YYYYMMDD`: from 23:00 on, the next one.
pub(super) fn settlement_day(moment_s: i64) -> String {
    clock::shanghai(moment_s.saturating_add(SETTLEMENT_LEAD_S)).0
}

/// The settlement day `MMDD` that ended last before `now_s`, as `YYYYMMDD`; `None` if there is no
/// such day, or the one of this year or the year before has not ended.
pub(super) fn ended_settlement_day(month_day: &str, now_s: i64) -> Option<String> {
    let today = settlement_day(now_s);
    let year: i32 = today.get(..4)?.parse().ok()?;
    [year, year.checked_sub(1)?]
        .into_iter()
        .map(|year| format!("{year:04}{month_day}"))
        .find(|day| Date::parse(day, DAY).is_ok() && *day < today)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settlement day changes at 23:00 Beijing time.
    #[test]
    fn a_settlement_day_begins_at_eleven_in_the_evening() {
        let at = |text| settlement_day(parse_beijing(text).unwrap());
        assert_eq!(at("20260101225959"), "20260101");
        assert_eq!(at("20260101230000"), "20260102");
        assert_eq!(at("20261231230000"), "20270101");
    }

    /// Moments survive their text, and malformed ones are none.
    #[test]
    fn moments_are_read_strictly() {
        let moment_s = parse_beijing("20260101080000").unwrap();
        assert_eq!(moment_s, 1_767_225_600);
        assert_eq!(beijing(moment_s), "20260101080000");
        for bad in [
            "2026010108000",
            "20261301080000",
            "20260101240000",
            "2026010108000x",
        ] {
            assert_eq!(parse_beijing(bad), None, "{bad}");
        }
    }

    /// A file's day has no year: the last such day that has ended is meant.
    #[test]
    fn a_day_without_a_year_is_the_last_that_ended() {
        let now_s = parse_beijing("20260102090000").unwrap();
        let day = |month_day| ended_settlement_day(month_day, now_s);
        assert_eq!(day("0101").as_deref(), Some("20260101"));
        assert_eq!(day("1231").as_deref(), Some("20251231"));
        assert_eq!(day("0102").as_deref(), Some("20250102"));
        assert_eq!(day("0230"), None);
    }
}
