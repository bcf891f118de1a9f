//! SHA-1, the digest of WeChat Pay's bill files, and the numbers the platform draws. The digest
//! proves nothing against an attacker and is used for nothing else; it goes away once
//! `crate::crypto` offers it.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::crypto::random;

const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// SHA-1 of bytes, in lower-case hex, as `hash_value` of a bill has it.
pub(super) fn sha1_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(40);
    for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Random decimal digits.
pub(super) fn draw_digits(length: usize) -> String {
    draw_from(DIGITS, length)
}

/// Random lower-case hex digits.
pub(super) fn draw_hex(length: usize) -> String {
    draw_from(HEX, length)
}

/// Random letters and digits.
pub(super) fn draw_letters(length: usize) -> String {
    draw_from(LETTERS, length)
}

fn draw_from(alphabet: &[u8], length: usize) -> String {
    let mut drawn = vec![0; length];
    #[expect(clippy::expect_used, reason = "nothing here works without randomness")]
    random::fill(&mut drawn).expect("the system's random generator works");
    let letters = drawn.into_iter().filter_map(|byte| {
        let at = usize::from(byte).checked_rem(alphabet.len())?;
        alphabet.get(at).copied()
    });
    letters.map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4, the standard's example.
    #[test]
    fn the_digest_of_a_bill_is_sha_1() {
        assert_eq!(sha1_hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(draw_digits(28).len(), 28);
        assert_ne!(draw_letters(32), draw_letters(32));
    }
}
