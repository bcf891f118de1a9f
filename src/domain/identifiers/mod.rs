//! Identifiers and timestamps.
//!
//! Every type here can only be built by parsing or generating, so an existing value is well-formed.
//! Nothing here reads a clock or generates randomness: both are passed in.

pub mod forgotten;
mod ip_network;
mod order_key;
mod request;
mod timestamp;

use std::fmt;
use std::sync::Arc;

pub use ip_network::IpNetwork;
pub use order_key::OrderKey;
pub use request::RefundRequestNo;
pub use timestamp::{CalendarDay, Timestamp, Uptime};

use crate::crypto::compare::constant_time_eq;

/// Crockford base 32: without I, L, O and U, so that no number is misread.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A value that does not have the required format.
///
/// The text says what was expected; it never quotes the value, which may be personal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct Malformed {
    /// The expected format, human-readable.
    pub expected: &'static str,
}

fn is_name(text: &str, length_max: usize) -> bool {
    (1..=length_max).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $length_max:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses the name, or says what was expected (Q10).
            pub fn parse(text: &str) -> Result<Self, Malformed> {
                if is_name(text, $length_max) {
                    Ok(Self(text.into()))
                } else {
                    Err(Malformed { expected: $expected })
                }
            }

            /// The name on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A configured merchant (`merchantId`, 商户编号).
    MerchantId, 32, "1 to 32 of A-Z a-z 0-9 _ -"
);
name!(
    /// The merchant's order number (`merchantOrderNo`, 商户订单号), unique per merchant.
    MerchantOrderNo, 32, "1 to 32 of A-Z a-z 0-9 _ -"
);
name!(
    /// A configured payment institution.
    InstitutionId, 32, "1 to 32 of A-Z a-z 0-9 _ -"
);
name!(
    /// Our account at an institution, by our own name for it (`[[account]]`): evidence of one
    /// account never moves an attempt of another (C2).
    AccountId, 64, "1 to 64 of A-Z a-z 0-9 _ -"
);
name!(
    /// A product of an institution (H5, JSAPI): the way an attempt is paid. Never changes.
    ProductId, 32, "1 to 32 of A-Z a-z 0-9 _ -"
);
name!(
    /// What an institution calls the party that receives the money: evidence that names one receiver
    /// never moves an attempt of another (C2).
    ReceiverId, 64, "1 to 64 of A-Z a-z 0-9 _ -"
);
name!(
    /// A person who runs the gateway, as enrolled.
    StaffId, 32, "1 to 32 of A-Z a-z 0-9 _ -"
);
name!(
    /// Id of a signing key (`keyid`).
    KeyId, 64, "1 to 64 of A-Z a-z 0-9 _ -"
);

impl ProductId {
    /// The id that a dialect declares; a test checks that every declared one can be parsed.
    pub(in crate::domain) fn of_declared(id: &'static str) -> Self {
        Self(id.into())
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident, $letter:literal, $expected:literal) => {
        $(#[$doc])*
        ///
        /// Format: one letter for the kind, then the time and 80 random bits in base 32: 27 letters
        /// and digits, ascending with time, accepted by every institution we know.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Generates a new number from a time and random bytes.
            pub fn mint(now: Timestamp, random: [u8; 10]) -> Self {
                Self(minted($letter, now, random).into())
            }

            /// Parses one of our numbers.
            pub fn parse(text: &str) -> Result<Self, Malformed> {
                let fits = text.len() == 27
                    && text.starts_with($letter)
                    && text.bytes().all(|b| b.is_ascii_alphanumeric());
                if fits { Ok(Self(text.into())) } else { Err(Malformed { expected: $expected }) }
            }

            /// The number on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

number!(
    /// Our order number (`payOrderNo`, 支付订单号).
    PayOrderNo, 'P', "a payOrderNo issued by this gateway"
);
number!(
    /// Our number for an attempt at its institution; the idempotency key (K2).
    AttemptId, 'A', "an attempt number issued by this gateway"
);
number!(
    /// Our number for a refund at its institution; the idempotency key (K2).
    RefundOrderNo, 'R', "a refundOrderNo issued by this gateway"
);

impl RefundOrderNo {
    /// The number of the refund of an attempt's excess payment, after this many failed ones. It is
    /// derived from the attempt, so that the same excess payment cannot get two. The first 32
    /// differ.
    pub fn of_excess(attempt: &AttemptId, failed: usize) -> Self {
        let (head, last) = attempt.as_str().split_at(26);
        let mut symbols = ALPHABET.iter().cycle();
        let _ = symbols.position(|symbol| last.as_bytes() == [*symbol]);
        let next = match failed {
            0 => last.as_bytes().first(),
            failed => symbols.nth(failed.saturating_sub(1)),
        };
        let last = next.copied().map_or('0', char::from);
        Self(format!("R{}{last}", head.get(1..).unwrap_or_default()).into())
    }
}

fn minted(letter: char, now: Timestamp, random: [u8; 10]) -> String {
    let moment = u128::try_from(now.ms().max(0)).unwrap_or(0) & 0xffff_ffff_ffff;
    let bits = random
        .iter()
        .fold(0u128, |sum, byte| (sum << 8) | u128::from(*byte));
    let bits = (moment << 80) | bits;
    let mut text = String::with_capacity(27);
    text.push(letter);
    for place in (0u32..26).rev() {
        let digit = usize::try_from((bits >> place.saturating_mul(5)) & 31).unwrap_or(0);
        text.push(ALPHABET.get(digit).copied().map_or('0', char::from));
    }
    text
}

/// Id of an event: the same on every delivery (N3), and unique per transition (N4).
///
/// Format: `E`, the 26 symbols of the order number, a letter for the type, the order version in
/// base 32 (four symbols). It is derived from what it reports, so the same transition cannot get
/// two.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EventId(Arc<str>);

impl EventId {
    /// The id of the event that this order version causes.
    pub fn of(order: &PayOrderNo, letter: char, version: u64) -> Self {
        let mut text = String::with_capacity(32);
        text.push('E');
        text.push_str(order.as_str().get(1..).unwrap_or_default());
        text.push(letter);
        for place in (0u32..4).rev() {
            let digit = usize::try_from((version >> place.saturating_mul(5)) & 31).unwrap_or(0);
            text.push(ALPHABET.get(digit).copied().map_or('0', char::from));
        }
        Self(text.into())
    }

    /// Parses a stored id.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() == 32 && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed {
                expected: "an eventId issued by this gateway",
            })
        }
    }

    /// The id on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Grants access to the payment page of one order and nothing else: its holder may view it and
/// choose.
///
/// Format in a URL: `payOrderNo`, a dot, 32 hexadecimal digits of a random secret. The secret is
/// stored sealed with the order and compared in constant time.
#[derive(Clone, PartialEq, Eq)]
pub struct PageToken {
    order: PayOrderNo,
    secret: [u8; 16],
}

impl PageToken {
    /// The token of an order with this secret.
    pub fn new(order: PayOrderNo, secret: [u8; 16]) -> Self {
        Self { order, secret }
    }

    /// Parses a token from a page URL.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let wrong = Malformed {
            expected: "the complete URL of a payment page",
        };
        let (order, secret) = text.split_once('.').ok_or_else(|| wrong.clone())?;
        let order = PayOrderNo::parse(order).map_err(|_| wrong.clone())?;
        let secret = unhex(secret).ok_or(wrong)?;
        Ok(Self { order, secret })
    }

    /// The order it belongs to.
    pub fn order(&self) -> &PayOrderNo {
        &self.order
    }

    /// Whether it grants access to the page of an order with this secret. Constant time.
    pub fn opens(&self, secret: &[u8; 16]) -> bool {
        constant_time_eq(&self.secret, secret)
    }

    /// The text for a URL. Not `Display`, so that it is not logged by accident.
    pub fn expose(&self) -> String {
        format!("{}.{}", self.order, hex(&self.secret))
    }
}

impl fmt::Debug for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageToken({}.…)", self.order)
    }
}

/// Lower-case hexadecimal text of bytes.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(
        String::with_capacity(bytes.len().saturating_mul(2)),
        |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        },
    )
}

/// Parses hexadecimal text of exactly the right length.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N.checked_mul(2)? || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0u8; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let from = at.checked_mul(2)?;
        *byte = u8::from_str_radix(text.get(from..from.checked_add(2)?)?, 16).ok()?;
    }
    Some(bytes)
}

/// Parses hexadecimal text of any length.
pub fn unhex_any(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| unhex::<1>(str::from_utf8(pair).ok()?).map(|[byte]| byte);
    digits.map(byte).collect()
}

/// A nonce received under a valid signature and not seen before by this process.
///
/// Spending it is part of the change that the request causes (Q5), so it is neither `Clone` nor
/// `Copy`: one admission, one effect.
#[derive(Debug, PartialEq, Eq)]
pub struct FreshNonce {
    /// The key it was signed with.
    pub key: KeyId,
    /// 16 to 64 characters of base64url.
    pub value: Box<str>,
    /// Signature creation time, compared with the forgotten times (Q6).
    pub created: Timestamp,
    /// Until when it must be stored.
    pub keep_until: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-11: generated numbers consist of letters and digits, at most 32, and sort by time.
    #[test]
    fn minted_numbers_are_plain_and_ascend() {
        let early = PayOrderNo::mint(Timestamp::from_ms(1_000), [0xff; 10]);
        let late = PayOrderNo::mint(Timestamp::from_ms(1_001), [0; 10]);
        assert!(early < late);
        assert_eq!(early.as_str().len(), 27);
        assert_eq!(PayOrderNo::parse(late.as_str()), Ok(late.clone()));
        assert!(
            AttemptId::parse(late.as_str()).is_err(),
            "a number of another kind"
        );
        let event = EventId::of(&late, 'P', 33);
        assert_eq!(event.as_str().len(), 32);
        assert!(event.as_str().ends_with("P0011"));
        assert_ne!(event, EventId::of(&late, 'P', 34));
    }

    /// Q10: identifiers are `[A-Za-z0-9_-]`, bounded.
    #[test]
    fn names_hold_only_their_alphabet() {
        assert!(MerchantOrderNo::parse("a-Z_9").is_ok());
        for bad in [
            "",
            "a b",
            "a/b",
            "é",
            "a\n",
            "123456789012345678901234567890123",
        ] {
            assert!(MerchantOrderNo::parse(bad).is_err(), "{bad:?}");
        }
    }

    /// K3: a page token is valid only with the secret of its order.
    #[test]
    fn a_page_token_survives_its_address() {
        let order = PayOrderNo::mint(Timestamp::from_ms(5), [7; 10]);
        let token = PageToken::new(order, [9; 16]);
        let read = PageToken::parse(&token.expose()).unwrap();
        assert!(read.opens(&[9; 16]));
        assert!(!read.opens(&[8; 16]));
        assert!(PageToken::parse("P123.zz").is_err());
        assert!(!format!("{token:?}").contains("0909"));
    }
}
