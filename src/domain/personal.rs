//! Personal data: values can be masked or explicitly exposed, never printed (D1, D5).

pub mod payer_context;
pub mod secret_text;
mod shown_fields;

use std::borrow::Cow;
use std::fmt;

use crate::domain::identifiers::Malformed;

pub use shown_fields::INTERFACE_FIELDS_SHOWN;

/// The mask character (D5, R-6.3.2-3b).
pub const MASK: char = '*';

/// The payer's mobile number (`mobileNo`, 手机号): eleven digits, first a 1.
#[derive(Clone, PartialEq, Eq)]
pub struct MobileNo(Box<str>);

impl MobileNo {
    /// Parses eleven digits.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let fits =
            text.len() == 11 && text.starts_with('1') && text.bytes().all(|b| b.is_ascii_digit());
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(Malformed {
                expected: "a mobile number of 11 digits",
            })
        }
    }

    /// The digits, for the merchant that sent them, the institution that needs them, and sealing.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `138****5678`, for everyone else.
    pub fn masked(&self) -> String {
        masked(&self.0, 3, 4)
    }
}

/// Keeps the first and last characters and replaces the rest by [`MASK`]: the only masking
/// function.
pub fn masked(text: &str, first: usize, last: usize) -> String {
    let length = text.chars().count();
    let tail = length.saturating_sub(last);
    text.chars()
        .enumerate()
        .map(|(at, c)| if at < first || at >= tail { c } else { MASK })
        .collect()
}

/// The longest code that is shown. Unit: bytes.
const CODE_BYTES_MAX: usize = 64;

/// Longest run of digits in a code: verification codes and personal numbers are longer.
const CODE_DIGITS_MAX: usize = 5;

/// An institution's error code as it is if it looks like one: of one case, without a long number.
/// Otherwise every character is masked, because it may be personal data (D1).
pub fn code_or_masked(text: &str) -> Cow<'_, str> {
    let of_one_case = |is_letter: fn(&u8) -> bool| {
        let all = text.as_bytes().iter();
        all.into_iter()
            .all(|byte| is_letter(byte) || byte.is_ascii_digit() || b"_-.:".contains(byte))
    };
    let is_code = text.len() <= CODE_BYTES_MAX
        && (of_one_case(u8::is_ascii_uppercase) || of_one_case(u8::is_ascii_lowercase))
        && text
            .split(|c: char| !c.is_ascii_digit())
            .all(|digits| digits.len() <= CODE_DIGITS_MAX);
    if is_code {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(masked(text, 0, 0))
    }
}

impl fmt::Debug for MobileNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D1, D5: a code is shown; any other text from an institution is masked.
    #[test]
    fn only_codes_from_an_institution_are_shown_unmasked() {
        for code in ["NO_FUNDS", "refund_over_rest", "ACQ.TRADE-2", "40004", ""] {
            assert_eq!(code_or_masked(code), code);
        }
        for words in [
            "13812345678",
            "ZhangSan",
            "no funds",
            "余额不足",
            "CODE123456",
            &"A".repeat(65),
        ] {
            let shown = code_or_masked(words);
            assert!(shown.chars().all(|c| c == MASK), "{shown}");
        }
    }

    /// D1, D5, R-6.3.2-3b: a mobile number formats itself masked, with one mask character.
    #[test]
    fn a_mobile_number_cannot_be_printed() {
        let mobile = MobileNo::parse("13812345678").unwrap();
        assert_eq!(mobile.masked(), "138****5678");
        assert_eq!(format!("{mobile:?}"), "138****5678");
        for bad in ["1381234567", "23812345678", "138-1234567", "138123456789"] {
            assert!(MobileNo::parse(bad).is_err(), "{bad}");
        }
    }
}
