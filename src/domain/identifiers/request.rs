//! How a merchant names a refund, and what stands in its place where it does not.

use std::fmt;
use std::sync::Arc;

use crate::domain::identifiers::{Malformed, PayOrderNo, is_name};

/// The merchant's number of a refund (`merchantRefundNo`), or the one that stands in its place
/// where the merchant gave none (R7); unique per merchant (R6).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefundRequestNo(Arc<str>);

impl RefundRequestNo {
    /// What numbers made here begin with, and merchants' never do.
    const RESERVED: &'static str = "AUTO-";

    /// The longest one made here: two numbers, a sum and a count. Unit: bytes.
    const LENGTH_MAX: usize = 80;

    /// Reads a merchant's own number.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let expected = "1 to 32 of A-Z a-z 0-9 _ -, not beginning with AUTO-";
        if is_name(text, 32) && !text.starts_with(Self::RESERVED) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed { expected })
        }
    }

    /// Reads back a number that was stored or given out here, whoever made it.
    pub fn read(text: &str) -> Result<Self, Malformed> {
        let made_here = text.starts_with(Self::RESERVED)
            && text.len() <= Self::LENGTH_MAX
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
        if made_here {
            Ok(Self(text.into()))
        } else {
            Self::parse(text)
        }
    }

    /// The number of a refund that came without one (R7).
    pub fn automatic(order: &PayOrderNo, amount: &str, failed: usize) -> Self {
        Self(format!("{}{order}-{amount}-{failed}", Self::RESERVED).into())
    }

    /// Whether it was made here.
    pub fn is_automatic(&self) -> bool {
        self.0.starts_with(Self::RESERVED)
    }

    /// The number as it stands on the wire.
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
