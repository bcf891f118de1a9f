//! Sums of money: whole minor units of one currency, exact or refused (M4); fees and rates, which may
//! have more places, exactly as they were told.
//!
//! The one place that knows the decimal library. There is no floating point here, no rounding, and no
//! arithmetic that can overflow unseen.

use std::fmt;

use rust_decimal::Decimal;

use crate::domain::identifiers::Malformed;

/// The largest sum of one order, in minor units: 9,999,999,999.99 yuan, the widest field of the
/// institutions' formats.
pub const MINOR_UNITS_MAX: i64 = 999_999_999_999;

/// Digits that a decimal holds whatever they are, zeros behind the last other one not counted.
const DIGITS_MAX: usize = 28;

/// A currency by its ISO 4217 code, with the number of decimals of its minor unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: &'static str,
    decimals: u8,
}

/// Renminbi: what a request without a currency means (G-2, M6).
pub const CNY: Currency = Currency {
    code: "CNY",
    decimals: 2,
};

/// The currencies that institutions of this trade settle in.
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
    /// Reads an ISO 4217 code.
    pub fn parse(code: &str) -> Result<Self, Malformed> {
        CURRENCIES
            .into_iter()
            .find(|known| known.code() == code)
            .ok_or(Malformed {
                expected: "one of CNY EUR GBP HKD JPY MOP SGD USD",
            })
    }

    /// The three letters.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Digits after the point.
    pub fn decimals(&self) -> u8 {
        self.decimals
    }

    /// Reads decimal text as whole minor units of any number: unlike an [`Amount`], what many add up to
    /// may be zero, and more than one order can have.
    ///
    /// # Errors
    /// Those of [`Amount::parse`]; out of range is what 64 bits do not hold.
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

/// Why a text is not a sum.
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
    #[error("outside what can be paid: from one minor unit to 9999999999.99")]
    OutOfRange,
}

/// A positive sum in whole minor units of its currency (M4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amount {
    minor: i64,
    currency: Currency,
}

impl Amount {
    /// Reads decimal text exactly: `12.30`, `12.3`, `12.300` and `12` are one sum; `1e3`, `0.001`,
    /// `-1`, `NaN`, `00.10` and `.5` are refused.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, AmountFault> {
        Self::from_minor(currency.minor_units(text)?, currency)
    }

    /// A sum of so many minor units, if it is one that can be paid.
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

/// What an institution keeps for a payment, in the currency's main unit: zero or more, with as many
/// places as it was told. Never part of a sum that moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fee {
    value: Decimal,
    currency: Currency,
}

impl Fee {
    /// Reads decimal text exactly: `0.0125`, `0.04`, `0`.
    ///
    /// # Errors
    /// It is no decimal text ([`AmountFault::Unreadable`]), or has more than 28 digits.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, AmountFault> {
        let value = read(text)?;
        Ok(Self { value, currency })
    }
}

/// Decimal text with the currency's places at least, and as many more as it needs: `0.0125`, `0.10`;
/// the inverse of [`Fee::parse`].
impl fmt::Display for Fee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut padded = self.value;
        // Only ever zeros more, or none where there is no room for them.
        padded.rescale(padded.scale().max(u32::from(self.currency.decimals)));
        write!(f, "{padded}")
    }
}

/// Reads decimal text exactly, without the zeros behind its last place. The library would take signs,
/// exponents, underscores, leading zeros and a bare point as well: none of them reaches it.
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

    /// M4: exactly the texts that mean one sum are accepted; zeros behind its last place change nothing.
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
            // One more than the library holds in 96 bits.
            "79228162514264337593543950336",
            nines.as_str(),
        ] {
            let read = Amount::parse(bad, CNY);
            assert_eq!(read, Err(AmountFault::OutOfRange), "{bad}");
        }
    }

    /// What a text of at most four places means, by rules of its own. Unit: ten-thousandths.
    fn meaning(text: &str) -> Option<i64> {
        let digits = text.replacen('.', "", 1);
        let places = text
            .split_once('.')
            .map_or(0, |(_, fraction)| fraction.len());
        let bare = text.is_empty() || text.starts_with('.') || text.ends_with('.');
        let leading = text.starts_with('0') && text != "0" && !text.starts_with("0.");
        let is_sum = !bare && !leading && digits.chars().all(|message| message.is_ascii_digit());
        let zeros = "0".repeat(4_usize.saturating_sub(places));
        is_sum.then(|| format!("{digits}{zeros}").parse().unwrap())
    }

    /// M4: of all short texts, those that are sums read as what they mean and are told back, and no
    /// other is read.
    #[test]
    fn every_short_text_is_read_as_what_it_means_or_not_at_all() {
        const ALPHABET: [char; 9] = ['0', '1', '9', '.', '-', '+', 'e', '_', ' '];
        let mut texts = vec![String::new()];
        let mut read = 0;
        for _ in 0..6 {
            let longer = |text: &String| ALPHABET.map(|message| format!("{text}{message}"));
            texts = texts.iter().flat_map(longer).collect();
            for text in &texts {
                let told = meaning(text);
                let fee = Fee::parse(text, CNY);
                assert_eq!(fee.is_ok(), told.is_some(), "{text:?}");
                let sum = Amount::parse(text, CNY);
                let Some(told) = told else {
                    assert_eq!(sum, Err(AmountFault::Unreadable), "{text:?}");
                    continue;
                };
                read += 1;
                let expected = match told {
                    0 => Err(AmountFault::OutOfRange),
                    _ if told % 100 == 0 => Ok(told / 100),
                    _ => Err(AmountFault::TooPrecise),
                };
                assert_eq!(sum.map(Amount::minor), expected, "{text:?}");
                let printed = fee.unwrap().to_string();
                assert_eq!(Fee::parse(&printed, CNY), fee, "{text:?}");
                assert_eq!(meaning(&printed), Some(told), "{text:?}");
            }
        }
        assert!(read > 1_000, "{read}");
    }

    /// M4: printing and parsing are inverse, whatever the number of decimals.
    #[test]
    fn what_is_printed_reads_back() {
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

    /// M4: a fee keeps every place that it was told with, and the currency's at least.
    #[test]
    fn a_fee_is_kept_to_its_last_place() {
        for (told, kept) in [
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
            let fee = Fee::parse(told, CNY).unwrap();
            let printed = fee.to_string();
            assert_eq!(Fee::parse(&printed, CNY), Ok(fee), "{told}");
            assert!(printed.starts_with(kept), "{told}: {printed}");
        }
        assert_eq!(Fee::parse("0.5", yen()).unwrap().to_string(), "0.5");
        for bad in ["-0.0125", "0.0125e0", "1.2345678901234567890123456789"] {
            assert!(Fee::parse(bad, CNY).is_err(), "{bad}");
        }
    }
}
