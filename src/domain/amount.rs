//! Amounts: whole minor units of one currency, parsed exactly or refused (M4); fees and rates keep
//! every decimal place.
//!
//! The only module that uses the decimal library. No floating point, no rounding, and no arithmetic
//! that can overflow unnoticed.

pub mod fee_terms;

use std::fmt;

use rust_decimal::Decimal;

use crate::domain::identifiers::Malformed;

/// The largest amount of one order, in minor units: 9,999,999,999.99 yuan, the widest field of the
/// institutions' formats.
pub const MINOR_UNITS_MAX: i64 = 999_999_999_999;

/// Digits that a decimal always holds, trailing zeros not counted.
const DIGITS_MAX: usize = 28;

/// A currency by its ISO 4217 code, with the number of decimals of its minor unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: &'static str,
    decimals: u8,
}

/// Renminbi: the default when a request names no currency (G-2, M6).
pub const CNY: Currency = Currency {
    code: "CNY",
    decimals: 2,
};

/// Settlement currencies of the institutions.
const CURRENCIES: [Currency; 8] = [
    CNY,
    Currency {
        code: "EUR",
        decimals: 2,
    },
    Currency {
        code: "GBP",
        decimals: 2,
    },
    Currency {
        code: "HKD",
        decimals: 2,
    },
    Currency {
        code: "JPY",
        decimals: 0,
    },
    Currency {
        code: "MOP",
        decimals: 2,
    },
    Currency {
        code: "SGD",
        decimals: 2,
    },
    Currency {
        code: "USD",
        decimals: 2,
    },
];

impl Currency {
    /// Parses an ISO 4217 code.
    pub fn parse(code: &str) -> Result<Self, Malformed> {
        CURRENCIES
            .into_iter()
            .find(|known| known.code() == code)
            .ok_or(Malformed {
                expected: "one of CNY EUR GBP HKD JPY MOP SGD USD",
            })
    }

    /// The three-letter code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Digits after the point.
    pub fn decimals(&self) -> u8 {
        self.decimals
    }

    /// Parses decimal text as whole minor units. Unlike an [`Amount`], a total may be zero, and
    /// larger than one order's limit.
    ///
    /// # Errors
    /// Those of [`Amount::parse`]; out of range means that 64 bits cannot hold it.
    pub fn minor_units(&self, text: &str) -> Result<i64, AmountFault> {
        let value = read(text)?;
        let short = u32::from(self.decimals)
            .checked_sub(value.scale())
            .ok_or(AmountFault::TooPrecise)?;
        let minor = 10_i128
            .checked_pow(short)
            .and_then(|unit| value.mantissa().checked_mul(unit));
        minor
            .and_then(|minor| i64::try_from(minor).ok())
            .ok_or(AmountFault::OutOfRange)
    }

    /// Decimal text with all of the currency's places: `12.30`, `0.00`; the inverse of
    /// [`Currency::minor_units`].
    pub fn decimal_text(&self, minor: i64) -> String {
        Decimal::new(minor, u32::from(self.decimals)).to_string()
    }
}

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountFault {
    /// Not digits with at most one point between them, or a leading zero.
    #[error(
        "expected digits with at most one decimal point, without sign, exponent or leading zeros"
    )]
    Unreadable,
    /// More decimals than the currency has.
    #[error("more decimal places than the currency allows")]
    TooPrecise,
    /// Zero, or above [`MINOR_UNITS_MAX`].
    #[error("outside the payable range of one minor unit to 9999999999.99")]
    OutOfRange,
}

/// A positive amount in whole minor units of its currency (M4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amount {
    minor: i64,
    currency: Currency,
}

impl Amount {
    /// Parses decimal text exactly: `12.30`, `12.3`, `12.300` and `12` are equal; `1e3`, `0.001`,
    /// `-1`, `NaN`, `00.10` and `.5` are refused.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, AmountFault> {
        Self::from_minor(currency.minor_units(text)?, currency)
    }

    /// An amount in minor units, if it is in the payable range.
    pub fn from_minor(minor: i64, currency: Currency) -> Result<Self, AmountFault> {
        if (1..=MINOR_UNITS_MAX).contains(&minor) {
            Ok(Self { minor, currency })
        } else {
            Err(AmountFault::OutOfRange)
        }
    }

    /// Whole minor units.
    pub fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    pub fn currency(self) -> Currency {
        self.currency
    }
}

/// Decimal text with all of the currency's places: `12.30`; the inverse of [`Amount::parse`].
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.currency.decimal_text(self.minor))
    }
}

/// An institution's fee for a payment, in the currency's main unit: zero or more, with every
/// decimal place as received. Never part of an amount that moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fee {
    value: Decimal,
    currency: Currency,
}

impl Fee {
    /// Parses decimal text exactly: `0.0125`, `0.04`, `0`.
    ///
    /// # Errors
    /// It is not decimal text ([`AmountFault::Unreadable`]), or has more than 28 digits.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, AmountFault> {
        let value = read(text)?;
        Ok(Self { value, currency })
    }
}

/// Decimal text with at least the currency's places, and as many more as needed: `0.0125`, `0.10`;
/// the inverse of [`Fee::parse`].
impl fmt::Display for Fee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut padded = self.value;
        // Only appends zeros; appends none if they would not fit.
        padded.rescale(padded.scale().max(u32::from(self.currency.decimals)));
        write!(f, "{padded}")
    }
}

/// Parses decimal text exactly and drops trailing zeros. The library would also accept signs,
/// exponents, underscores, leading zeros and a bare point, so these are refused first.
fn read(text: &str) -> Result<Decimal, AmountFault> {
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return Err(AmountFault::Unreadable),
        Some(parts) => parts,
        None => (text, ""),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if whole.is_empty() || leading_zero || !digits(whole) || !digits(fraction) {
        return Err(AmountFault::Unreadable);
    }
    if whole.len() > DIGITS_MAX {
        return Err(AmountFault::OutOfRange);
    }
    let places = fraction.trim_end_matches('0').len();
    if whole.len().saturating_add(places) > DIGITS_MAX {
        return Err(AmountFault::TooPrecise);
    }
    let zeros = fraction.len().saturating_sub(places);
    let plain = text.get(..text.len().saturating_sub(zeros)).unwrap_or(text);
    Decimal::from_str_exact(plain.trim_end_matches('.')).map_err(|_| AmountFault::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yen() -> Currency {
        Currency::parse("JPY").unwrap()
    }

    /// M4: exactly the texts that denote an amount are accepted; trailing zeros change nothing.
    #[test]
    fn sums_are_exact_or_refused() {
        let long = format!("12.3{}", "0".repeat(1_000));
        for (text, minor) in [
            ("12.30", 1230),
            ("12.3", 1230),
            ("12.300", 1230),
            (long.as_str(), 1230),
            ("12", 1200),
            ("12.000", 1200),
            ("120", 12_000),
            ("0.01", 1),
            ("9999999999.99", MINOR_UNITS_MAX),
        ] {
            let read = Amount::parse(text, CNY).map(Amount::minor);
            assert_eq!(read, Ok(minor), "{text}");
        }
        assert_eq!(Amount::parse("12.0", yen()).map(Amount::minor), Ok(12));
        for bad in [
            "", "1e3", "1E3", "-1", "+1", "NaN", "Infinity", "00.10", "00", "01", ".5", ".", "1.",
            "1.2.3", "1..2", "1_000", "1._5", "1.5_", "1,000", "１", " 1", "1 ", "1\n", "0x1",
            "-0", "1.-5", "1.+5", "¥1", "1.5e1",
        ] {
            for read in [
                Amount::parse(bad, CNY).map(|_| ()),
                Fee::parse(bad, CNY).map(|_| ()),
                CNY.minor_units(bad).map(|_| ()),
            ] {
                assert_eq!(read, Err(AmountFault::Unreadable), "{bad:?}");
            }
        }
        let places = format!("0.{}1", "0".repeat(1_000));
        for bad in ["0.001", "12.301", "0.0010", places.as_str()] {
            let read = Amount::parse(bad, CNY);
            assert_eq!(read, Err(AmountFault::TooPrecise), "{bad}");
        }
        assert_eq!(Amount::parse("0.1", yen()), Err(AmountFault::TooPrecise));
        let nines = "9".repeat(1_000);
        for bad in [
            "0",
            "0.00",
            "0.000",
            "10000000000.00",
            "99999999999999999999999999",
            // One more than the library's 96 bits can hold.
            "79228162514264337593543950336",
            nines.as_str(),
        ] {
            let read = Amount::parse(bad, CNY);
            assert_eq!(read, Err(AmountFault::OutOfRange), "{bad}");
        }
    }

    /// Reference parser for texts of at most four decimal places. Unit: ten-thousandths.
    fn meaning(text: &str) -> Option<i64> {
        let digits = text.replacen('.', "", 1);
        let places = text
            .split_once('.')
            .map_or(0, |(_, fraction)| fraction.len());
        let bare = text.is_empty() || text.starts_with('.') || text.ends_with('.');
        let leading = text.starts_with('0') && text != "0" && !text.starts_with("0.");
        let is_sum = !bare && !leading && digits.chars().all(|c| c.is_ascii_digit());
        let zeros = "0".repeat(4_usize.saturating_sub(places));
        is_sum.then(|| format!("{digits}{zeros}").parse().unwrap())
    }

    /// M4: every short text that denotes an amount is parsed to its value and printed back; every
    /// other one is refused.
    #[test]
    fn every_short_text_is_parsed_exactly_or_refused() {
        const ALPHABET: [char; 9] = ['0', '1', '9', '.', '-', '+', 'e', '_', ' '];
        let mut texts = vec![String::new()];
        let mut read = 0;
        for _ in 0..6 {
            let longer = |text: &String| ALPHABET.map(|c| format!("{text}{c}"));
            texts = texts.iter().flat_map(longer).collect();
            for text in &texts {
                let value = meaning(text);
                let fee = Fee::parse(text, CNY);
                assert_eq!(fee.is_ok(), value.is_some(), "{text:?}");
                let sum = Amount::parse(text, CNY);
                let Some(value) = value else {
                    assert_eq!(sum, Err(AmountFault::Unreadable), "{text:?}");
                    continue;
                };
                read += 1;
                let expected = match value {
                    0 => Err(AmountFault::OutOfRange),
                    _ if value % 100 == 0 => Ok(value / 100),
                    _ => Err(AmountFault::TooPrecise),
                };
                assert_eq!(sum.map(Amount::minor), expected, "{text:?}");
                let printed = fee.unwrap().to_string();
                assert_eq!(Fee::parse(&printed, CNY), fee, "{text:?}");
                assert_eq!(meaning(&printed), Some(value), "{text:?}");
            }
        }
        assert!(read > 1_000, "{read}");
    }

    /// M4: printing and parsing are inverse for any number of decimals.
    #[test]
    fn printing_and_parsing_amounts_are_inverse() {
        for currency in [CNY, yen()] {
            for minor in [1, 9, 10, 99, 100, 101, 123_456, MINOR_UNITS_MAX] {
                let sum = Amount::from_minor(minor, currency).unwrap();
                assert_eq!(Amount::parse(&sum.to_string(), currency), Ok(sum));
            }
            for minor in [0, 1, 100, MINOR_UNITS_MAX, i64::MAX] {
                let text = currency.decimal_text(minor);
                assert_eq!(currency.minor_units(&text), Ok(minor), "{text}");
            }
        }
        assert_eq!(Amount::from_minor(1, CNY).unwrap().to_string(), "0.01");
        assert_eq!(Amount::from_minor(100, yen()).unwrap().to_string(), "100");
        assert_eq!(CNY.decimal_text(0), "0.00");
        assert_eq!(
            CNY.minor_units("92233720368547758.08"),
            Err(AmountFault::OutOfRange)
        );
    }

    /// M4: a fee keeps every decimal place it was parsed with, and at least the currency's.
    #[test]
    fn a_fee_keeps_every_decimal_place() {
        for (text, expected) in [
            ("0.0125", "0.0125"),
            ("0.04", "0.04"),
            ("0.1", "0.10"),
            ("0.1000", "0.10"),
            ("0", "0.00"),
            ("3", "3.00"),
            ("0.046740000000000004", "0.046740000000000004"),
            (
                "9999999999999999999999999999",
                "9999999999999999999999999999",
            ),
            (
                "0.000000000000000000000000001",
                "0.000000000000000000000000001",
            ),
        ] {
            let fee = Fee::parse(text, CNY).unwrap();
            let printed = fee.to_string();
            assert_eq!(Fee::parse(&printed, CNY), Ok(fee), "{text}");
            assert!(printed.starts_with(expected), "{text}: {printed}");
        }
        assert_eq!(Fee::parse("0.5", yen()).unwrap().to_string(), "0.5");
        for bad in ["-0.0125", "0.0125e0", "1.2345678901234567890123456789"] {
            assert!(Fee::parse(bad, CNY).is_err(), "{bad}");
        }
    }
}
