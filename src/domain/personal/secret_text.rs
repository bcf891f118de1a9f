//! Payers' secrets that merchants must not collect, detected in free text (R-6.1.4-1): payment card
//! numbers, and codes and passwords introduced by their names.
//!
//! Detects clear cases only; never reports which secret it found, nor where.

/// Length of a card number, in digits.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 15..=19;

/// Length of a code or payment password, in digits.
const CODE_DIGITS: std::ops::RangeInclusive<usize> = 3..=8;

/// Maximum number of other characters between the name of a code and its first digit.
const APART_MAX: usize = 3;

/// Names that introduce a code, in lower case.
const NAMES: [&str; 4] = ["cvv", "cvc", "支付密码", "验证码"];

/// Whether a text contains a card number or a named code (R-6.1.4-1).
pub fn holds_secret(text: &str) -> bool {
    let chars: Vec<char> = text.chars().map(normalized).collect();
    contains_card(&chars) || contains_code(&chars)
}

/// Maps full width to ASCII, upper case to lower case, and all blanks and dashes to one each.
fn normalized(c: char) -> char {
    let plain = match c {
        '\u{ff01}'..='\u{ff5e}' => {
            let code = u32::from(c).saturating_sub(0xfee0);
            char::from_u32(code).unwrap_or(c)
        }
        other => other,
    };
    match plain {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => '-',
        blank if blank.is_whitespace() => ' ',
        other => other.to_ascii_lowercase(),
    }
}

fn contains_card(chars: &[char]) -> bool {
    let is_between = |c: char| c == ' ' || c == '-';
    let mut digits: Vec<u32> = Vec::new();
    let (mut before, mut last) = (None, None);
    // One more round ends the last run.
    for c in chars.iter().copied().map(Some).chain([None]) {
        if let Some(digit) = c.and_then(|c| c.to_digit(10)) {
            if digits.is_empty() {
                before = last;
            }
            digits.push(digit);
        } else if !c.is_some_and(is_between) || digits.is_empty() {
            // Digits that are part of a longer identifier are not a card number.
            let behind = last.filter(char::is_ascii_digit).and(c);
            let is_separate = ![before, behind]
                .into_iter()
                .flatten()
                .any(is_identifier_char);
            if is_separate && is_card(&digits) {
                return true;
            }
            digits.clear();
        }
        last = c;
    }
    false
}

fn is_identifier_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_card(digits: &[u32]) -> bool {
    let first = |count: usize| {
        let some = digits.iter().take(count);
        some.fold(0_u32, |number, digit| {
            number.saturating_mul(10).saturating_add(*digit)
        })
    };
    let is_issued = matches!(first(1), 4)
        || matches!(first(2), 34 | 37 | 51..=55 | 62)
        || matches!(first(4), 2_221..=2_720);
    CARD_DIGITS.contains(&digits.len()) && is_issued && passes_luhn(digits)
}

/// ISO/IEC 7812-1, annex B.
fn passes_luhn(digits: &[u32]) -> bool {
    let from_the_end = digits.iter().rev().zip([false, true].into_iter().cycle());
    let sum = from_the_end.fold(0_u32, |sum, (digit, is_doubled)| {
        let value = match (is_doubled, *digit) {
            (true, digit @ 5..) => digit.saturating_mul(2).saturating_sub(9),
            (true, digit) => digit.saturating_mul(2),
            (false, digit) => digit,
        };
        sum.saturating_add(value)
    });
    sum.is_multiple_of(10)
}

fn contains_code(chars: &[char]) -> bool {
    NAMES.iter().any(|name| {
        let name: Vec<char> = name.chars().collect();
        chars
            .windows(name.len())
            .zip(1_usize..)
            .filter(|(window, _)| *window == name)
            .any(|(_, nth)| {
                let end = nth.saturating_sub(1).saturating_add(name.len());
                chars.get(end..).is_some_and(begins_with_code)
            })
    })
}

/// Whether a run of digits of code length starts within the first few characters.
fn begins_with_code(chars: &[char]) -> bool {
    let begins = |at: &usize| {
        let before = at.checked_sub(1).and_then(|at| chars.get(at));
        !before.is_some_and(char::is_ascii_digit)
    };
    let length = |at: usize| {
        let behind = chars.iter().skip(at);
        behind.take_while(|c| c.is_ascii_digit()).count()
    };
    let mut places = (0..=APART_MAX).filter(begins);
    places.any(|at| CODE_DIGITS.contains(&length(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-6.1.4-1: card numbers of every listed network are found, in any spelling.
    #[test]
    fn a_card_number_is_found_however_it_is_written() {
        for text in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4111　1111–1111 1111",
            "４１１１１１１１１１１１１１１１",
            "卡号4111111111111111，请保密",
            "pay by 5105105105105100.",
            "2221000000000009",
            "2720999999999996",
            "378282246310005",
            "340000000000009",
            "6200000000000000000",
            "6222021234567890128",
            "1 box, card: 4111111111111111",
        ] {
            assert!(holds_secret(text), "{text}");
        }
    }

    /// R-6.1.4-1: similar numbers do not count: other, longer or shorter ones, parts of
    /// identifiers.
    #[test]
    fn other_numbers_are_no_card() {
        for text in [
            "4111111111111112",
            "41111111111111",
            "41111111111111111111111111",
            "5605105105105105",
            "2220000000000000",
            "1234567890123452",
            "price 4111111111111111_2",
            "SN4111111111111111",
            "4111111111111111x",
            "13812345678",
            "6921168509256",
            "",
            "龙井 250 g",
        ] {
            assert!(
                !contains_card(&text.chars().map(normalized).collect::<Vec<_>>()),
                "{text}"
            );
        }
    }

    /// R-6.1.4-1: a code next to its name, in each language and width, is found; a name alone, or
    /// next to fewer or more digits, is not.
    #[test]
    fn a_code_is_found_beside_its_name() {
        for text in [
            "CVV 123",
            "cvc:1234",
            "cvv2: 123",
            "ＣＶＶ：１２３",
            "支付密码123456",
            "支付密码是：12345678",
            "验证码 0042",
            "the Cvv is123",
        ] {
            assert!(holds_secret(text), "{text}");
        }
        for text in [
            "cvv",
            "cvv 12",
            "cvv 123456789",
            "cvv.... 123",
            "验证码",
            "支付密码找回服务 2026",
            "密码 123456",
            "验证码短信包 1000 条",
        ] {
            assert!(!holds_secret(text), "{text}");
        }
    }
}
