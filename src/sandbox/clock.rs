//! The pretend parties' own time and chance. They stand for other people's machines, so they do not
//! share the gateway's doors; nothing of the gateway uses this.

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
    reason = "a pretend party has a clock of its own, as real ones do"
)]
pub(super) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// Now. Unit: Unix milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "a pretend party has a clock of its own, as real ones do"
)]
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// Lets time pass.
#[expect(
    clippy::disallowed_methods,
    reason = "a pretend institution waits as real ones do"
)]
pub(super) async fn wait(how_long: Duration) {
    tokio::time::sleep(how_long).await;
}

/// `yyyyMMdd` and `HHmmss` in Shanghai, as A3.2 and A3.3 have them.
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

/// A moment as `refundTime` has it.
pub(super) fn rfc_3339_shanghai(moment_s: i64) -> String {
    in_shanghai(moment_s)
        .format(RFC_3339_SHANGHAI)
        .unwrap_or_default()
}

/// A moment as `expireTime` has it.
pub(super) fn rfc_3339(moment_s: i64) -> String {
    UtcDateTime::from_unix_timestamp(moment_s)
        .unwrap_or(UtcDateTime::UNIX_EPOCH)
        .format(RFC_3339)
        .unwrap_or_default()
}

/// What nobody can guess: 24 random bytes, base64url.
pub(super) fn draw_token() -> String {
    URL_SAFE_NO_PAD.encode(draw::<24>())
}

/// A number such as institutions make: a letter and 20 digits.
pub(super) fn draw_number(message: char) -> String {
    let digits = draw::<20>().map(|byte| char::from(b'0'.saturating_add(byte % 10)));
    std::iter::once(message).chain(digits).collect()
}

fn draw<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::expect_used, reason = "without randomness nothing here works")]
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
