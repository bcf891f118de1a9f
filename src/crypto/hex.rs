//! Hexadecimal text of bytes, two digits each: what institutions sign, compare and print.

use std::fmt::Write as _;

/// Lower-case digits.
#[must_use]
pub fn lower(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Upper-case digits.
#[must_use]
pub fn upper(bytes: &[u8]) -> String {
    lower(bytes).to_ascii_uppercase()
}
