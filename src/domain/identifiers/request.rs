//! A merchant's refund number, or the generated one used if the merchant gives none.

use std::fmt;
use std::sync::Arc;

use crate::domain::identifiers::{Malformed, PayOrderNo, is_name};

/// The merchant's refund number (`merchantRefundNo`), or a generated one if the merchant gave none
/// (R7); unique per merchant (R6).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefundRequestNo(Arc<str>);

impl RefundRequestNo {
    /// Prefix of generated numbers, not allowed in merchants' numbers.
    const RESERVED: &'static str = "AUTO-";

    /// The longest generated number: two numbers, an amount and a count. Unit: bytes.
    const LENGTH_MAX: usize = 80;

    /// Parses a merchant's own number.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let expected = "1 to 32 of A-Z a-z 0-9 _ -, not starting with AUTO-";
        if is_name(text, 32) && !text.starts_with(Self::RESERVED) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed { expected })
        }
    }

    /// Parses a stored or issued number, of either kind.
    pub fn read(text: &str) -> Result<Self, Malformed> {
        let is_generated = text.starts_with(Self::RESERVED)
            && text.len() <= Self::LENGTH_MAX
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
        if is_generated {
            Ok(Self(text.into()))
        } else {
            Self::parse(text)
        }
    }

    /// Generates the number of a refund requested without one (R7).
    pub fn automatic(order: &PayOrderNo, amount: &str, failed: usize) -> Self {
        Self(format!("{}{order}-{amount}-{failed}", Self::RESERVED).into())
    }

    /// Whether it was generated.
    pub fn is_automatic(&self) -> bool {
        self.0.starts_with(Self::RESERVED)
    }

    /// The number on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RefundRequestNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RefundRequestNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
