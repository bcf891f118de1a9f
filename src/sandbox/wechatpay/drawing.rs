//! The numbers the platform draws.

use crate::crypto::random;

const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

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

    #[test]
    fn numbers_are_drawn() {
        assert_eq!(draw_digits(28).len(), 28);
        assert_ne!(draw_letters(32), draw_letters(32));
    }
}
