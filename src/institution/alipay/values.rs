//! The forms of values on the wire: yuan as decimal text, and moments in Asia/Shanghai without a
//! zone.

use crate::domain::amount::{Amount, CNY};
use crate::domain::evidence::Ambiguity;
use crate::domain::fields::Fields;
use crate::domain::identifiers::Timestamp;

/// Decimal places of yuan.
const PLACES: usize = 2;

/// The largest amount of one payment. Unit: fen.
pub(super) const FEN_MAX: i64 = 10_000_000_000;

/// An amount in yuan: plain decimal text of at most two places (M4, M5).
pub(super) fn yuan(text: &str) -> Result<Amount, Ambiguity> {
    let places = text.split_once('.').map_or(0, |(_, places)| places.len());
    if places > PLACES {
        return Err(Ambiguity::Unreadable);
    }
    Amount::parse(text, CNY).map_err(|_| Ambiguity::Unreadable)
}

/// Whether a text is an amount of nothing: `0.00`.
pub(super) fn is_nothing(text: &str) -> bool {
    CNY.minor_units(text) == Ok(0)
}

/// `yyyy-MM-dd HH:mm:ss`.
pub(super) fn local_time(at: Timestamp) -> String {
    let text = at.rfc3339();
    text.chars().take(19).collect::<String>().replace('T', " ")
}

/// A moment with or without fractions of a second; [`Timestamp::UNREADABLE`] if it cannot be read,
/// for a movement counts even then.
pub(super) fn moment(text: Option<&str>) -> Timestamp {
    let read = text.and_then(|text| {
        let (date, time) = text.split_once(' ')?;
        let moment = Timestamp::parse_rfc3339(&format!("{date}T{time}+08:00")).ok()?;
        Some(Timestamp::from_s(moment.seconds()))
    });
    read.unwrap_or(Timestamp::UNREADABLE)
}

/// A field that must be there, as text.
pub(super) fn needed<'f>(fields: &'f Fields<'_>, name: &str) -> Result<&'f str, Ambiguity> {
    optional(fields, name)?.ok_or(Ambiguity::Unreadable)
}

/// A field that may be missing; an empty text counts as missing.
pub(super) fn optional<'f>(
    fields: &'f Fields<'_>,
    name: &str,
) -> Result<Option<&'f str>, Ambiguity> {
    let text = fields
        .text(name)
        .transpose()
        .map_err(|_| Ambiguity::Unreadable)?;
    Ok(text.filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M4, M5: yuan are read exactly, with at most two places, and never from another form.
    #[test]
    fn yuan_are_read_exactly_or_not_at_all() {
        for (text, fen) in [
            ("10", 1_000),
            ("10.0", 1_000),
            ("10.01", 1_001),
            ("0.01", 1),
        ] {
            assert_eq!(yuan(text).map(Amount::minor), Ok(fen), "{text}");
        }
        for bad in [
            "", "0.00", "10.010", "10.001", "1e1", "+1.00", "-1.00", "01.00", ".10", "10.",
            "10,01", " 10.01", "10.01 ", "１０",
        ] {
            assert_eq!(yuan(bad), Err(Ambiguity::Unreadable), "{bad}");
        }
        assert!(is_nothing("0.00") && is_nothing("0") && !is_nothing("0.01") && !is_nothing("x"));
    }

    /// Times are of UTC+8, to the second; printing and reading are inverse.
    #[test]
    fn moments_are_of_shanghai() {
        let at = Timestamp::from_s(1_767_225_600);
        assert_eq!(local_time(at), "2026-01-01 08:00:00");
        assert_eq!(moment(Some("2026-01-01 08:00:00")), at);
        assert_eq!(moment(Some("2026-01-01 08:00:00.123")), at);
        for bad in [
            None,
            Some(""),
            Some("2026-01-01"),
            Some("2026-02-30 08:00:00"),
        ] {
            assert_eq!(moment(bad), Timestamp::UNREADABLE);
        }
    }
}
