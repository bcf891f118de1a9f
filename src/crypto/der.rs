//! The part of DER (X.690) that the keys of [`rsa`](super::rsa) need. Does not validate keys.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const SEQUENCE: u8 = 0x30;

/// The content of the first DER element, and the rest (X.690, section 8.1).
pub(super) fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match der.strip_prefix(&[tag])? {
        [length @ ..=0x7f, rest @ ..] | [0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x82, high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]).into(), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A minimally encoded positive integer, without the zero byte that may mark it as such.
pub(super) fn positive(number: &[u8]) -> Option<&[u8]> {
    match number {
        [0, rest @ ..] if rest.first()? >= &0x80 => Some(rest),
        [0x01..=0x7f, ..] => Some(number),
        _ => None,
    }
}
