//! What a contract says of an institution's fee: kept to compare bills with. No fee moves money here.

use rust_decimal::Decimal;

use crate::domain::amount::{AmountFault, read};

/// The largest number of decimal places of a rate: a hundredth of a millionth.
const RATE_PLACES_MAX: u32 = 8;

/// The fee agreed for each payment of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeTerms {
    /// The share of the amount.
    pub rate: FeeRate,
    /// Decimal places that the fee is rounded to, in the currency's main unit.
    pub scale: u8,
    /// How it is rounded.
    pub rounding: FeeRounding,
    /// Whether a refund returns the fee of what it refunds.
    pub returned: bool,
}

/// A share of an amount, at least 0 and less than 1: `0.006`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeRate(Decimal);

impl FeeRate {
    /// Parses decimal text exactly.
    ///
    /// # Errors
    /// It is not decimal text, has more than 8 decimal places, or is 1 or more.
    pub fn parse(text: &str) -> Result<Self, AmountFault> {
        let rate = read(text)?;
        if rate.scale() > RATE_PLACES_MAX {
            return Err(AmountFault::TooPrecise);
        }
        if rate >= Decimal::ONE {
            return Err(AmountFault::OutOfRange);
        }
        Ok(Self(rate))
    }
}

/// Decimal text: `0.006`.
impl std::fmt::Display for FeeRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How a fee is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeeRounding {
    /// A half goes up.
    HalfUp,
    /// A half goes to the even neighbour.
    HalfEven,
    /// Every fraction goes up.
    Up,
    /// Every fraction is dropped.
    Down,
}

impl FeeRounding {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::HalfUp, Self::HalfEven, Self::Up, Self::Down];

    /// The word in `routes.toml`.
    pub fn word(self) -> &'static str {
        match self {
            Self::HalfUp => "half_up",
            Self::HalfEven => "half_even",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M4: a rate is exact, and a share.
    #[test]
    fn a_rate_is_an_exact_share() {
        for text in ["0", "0.006", "0.00000001", "0.99999999"] {
            assert_eq!(FeeRate::parse(text).unwrap().to_string(), text);
        }
        for (bad, fault) in [
            ("", AmountFault::Unreadable),
            ("0,006", AmountFault::Unreadable),
            ("-0.006", AmountFault::Unreadable),
            ("6e-3", AmountFault::Unreadable),
            ("0.6%", AmountFault::Unreadable),
            ("0.000000001", AmountFault::TooPrecise),
            ("1", AmountFault::OutOfRange),
            ("6", AmountFault::OutOfRange),
        ] {
            assert_eq!(FeeRate::parse(bad), Err(fault), "{bad}");
        }
    }
}
