//! Time and randomness of the simulated parties. They stand for other machines, so they do not use
//! the gateway's `World`; the gateway does not use this module.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use time::format_description::BorrowedFormatItem;
use time::macros::{format_description, offset};
use time::{OffsetDateTime, UtcDateTime};

use crate::crypto::random;

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]");
const TIME: &[BorrowedFormatItem<'_>] = format_description!("[hour][minute][second]");
const RFC_3339: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const RFC_3339_SHANGHAI: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]+08:00");

/// Now. Unit: Unix seconds.
#[expect(
    clippy::disallowed_methods,
    reason = "a simulated party has its own clock, as real ones do"
)]
pub(super) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// Now. Unit: Unix milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "a simulated party has its own clock, as real ones do"
)]
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// Sleeps.
#[expect(
    clippy::disallowed_methods,
    reason = "a simulated institution waits, as real ones do"
)]
pub(super) async fn wait(how_long: Duration) {
    tokio::time::sleep(how_long).await;
}

/// `yyyyMMdd` and `HHmmss` in Shanghai time, the formats of A3.2 and A3.3.
pub(super) fn shanghai(moment_s: i64) -> (String, String) {
    let moment = in_shanghai(moment_s);
    (
        moment.format(DATE).unwrap_or_default(),
        moment.format(TIME).unwrap_or_default(),
    )
}

fn in_shanghai(moment_s: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(moment_s)
        .ok()
        .and_then(|moment| moment.checked_to_offset(offset!(+8)))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH.to_offset(offset!(+8)))
}

/// Formats a `refundTime`.
pub(super) fn rfc_3339_shanghai(moment_s: i64) -> String {
    in_shanghai(moment_s)
        .format(RFC_3339_SHANGHAI)
        .unwrap_or_default()
}

/// Formats an `expireTime`.
pub(super) fn rfc_3339(moment_s: i64) -> String {
    UtcDateTime::from_unix_timestamp(moment_s)
        .unwrap_or(UtcDateTime::UNIX_EPOCH)
        .format(RFC_3339)
        .unwrap_or_default()
}

/// An unguessable token: 24 random bytes, base64url.
pub(super) fn draw_token() -> String {
    URL_SAFE_NO_PAD.encode(draw::<24>())
}

/// A number as institutions assign them: a letter and 20 random digits.
pub(super) fn draw_number(prefix: char) -> String {
    let digits = draw::<20>().map(|byte| char::from(b'0'.saturating_add(byte % 10)));
    std::iter::once(prefix).chain(digits).collect()
}

fn draw<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::expect_used, reason = "nothing here works without randomness")]
    random::fill(&mut bytes).expect("the system's random generator works");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-11
    #[test]
    fn times_are_written_in_shanghai_time() {
        assert_eq!(
            shanghai(1_767_225_599),
            ("20260101".to_owned(), "075959".to_owned())
        );
        assert_eq!(rfc_3339(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(
            rfc_3339_shanghai(1_767_225_599),
            "2026-01-01T07:59:59+08:00"
        );
    }

    /// R-5.1.1-0a
    #[test]
    fn tokens_and_numbers_do_not_repeat() {
        assert_ne!(draw_token(), draw_token());
        assert_ne!(draw_number('H'), draw_number('H'));
        assert_eq!(draw_number('H').len(), 21);
    }
}
