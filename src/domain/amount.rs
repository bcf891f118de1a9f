//! Sums of money: whole minor units of one currency, exact or refused (M4).
//!
//! There is no floating point here, no rounding, and no arithmetic that can overflow unseen.

use std::fmt;

use crate::domain::identifiers::Malformed;

/// The largest sum of one order, in minor units: 9,999,999,999.99 yuan, the widest field of the
/// institutions' formats.
pub const MINOR_UNITS_MAX: i64 = 999_999_999_999;

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
    /// Reads decimal text exactly: `12.30`, `12.3` and `12` are one sum; `1e3`, `0.001`, `-1`,
    /// `NaN`, `00.10` and `.5` are refused.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, AmountFault> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(AmountFault::Unreadable),
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || leading_zero || !digits(whole) || !digits(fraction) {
            return Err(AmountFault::Unreadable);
        }
        let decimals = usize::from(currency.decimals);
        if fraction.len() > decimals {
            return Err(AmountFault::TooPrecise);
        }
        // Longer texts cannot be in range, and shorter ones cannot overflow.
        if whole.len() > 12 {
            return Err(AmountFault::OutOfRange);
        }
        let text = format!("{whole}{fraction:0<decimals$}");
        let minor = text.parse().map_err(|_| AmountFault::OutOfRange)?;
        Self::from_minor(minor, currency)
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
        let decimals = usize::from(self.currency.decimals);
        let width = decimals.saturating_add(1);
        let digits = format!("{:0width$}", self.minor);
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(decimals));
        if fraction.is_empty() {
            f.write_str(whole)
        } else {
            write!(f, "{whole}.{fraction}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M4: exactly the texts that mean one sum are accepted.
    #[test]
    fn sums_are_exact_or_refused() {
        for (text, minor) in [("12.30", 1230), ("12.3", 1230), ("12", 1200), ("0.01", 1)] {
            assert_eq!(
                Amount::parse(text, CNY).map(Amount::minor),
                Ok(minor),
                "{text}"
            );
        }
        for bad in [
            "", "1e3", "-1", "+1", "NaN", "00.10", "01", ".5", "1.", "1.2.3", "１", " 1",
        ] {
            assert_eq!(
                Amount::parse(bad, CNY),
                Err(AmountFault::Unreadable),
                "{bad:?}"
            );
        }
        assert_eq!(Amount::parse("0.001", CNY), Err(AmountFault::TooPrecise));
        for bad in ["0", "0.00", "10000000000.00", "99999999999999999999999999"] {
            assert_eq!(
                Amount::parse(bad, CNY),
                Err(AmountFault::OutOfRange),
                "{bad}"
            );
        }
    }

    /// M4: printing and parsing are inverse, whatever the number of decimals.
    #[test]
    fn what_is_printed_reads_back() {
        let yen = Currency::parse("JPY").unwrap();
        for currency in [CNY, yen] {
            for minor in [1, 9, 10, 99, 100, 101, 123_456, MINOR_UNITS_MAX] {
                let sum = Amount::from_minor(minor, currency).unwrap();
                assert_eq!(Amount::parse(&sum.to_string(), currency), Ok(sum));
            }
        }
        assert_eq!(Amount::from_minor(1, CNY).unwrap().to_string(), "0.01");
        assert_eq!(Amount::from_minor(100, yen).unwrap().to_string(), "100");
    }
}
