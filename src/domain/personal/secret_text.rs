//! Secrets of payers that merchants must not collect, found where people write by hand (R-6.1.4-1):
//! numbers of payment cards, and codes and passwords that their own names introduce.
//!
//! Finds what looks like one beyond reasonable doubt; never says which, nor where it stands.

/// Digits of a card's number.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 15..=19;

/// Digits of a code or of a payment password.
const CODE_DIGITS: std::ops::RangeInclusive<usize> = 3..=8;

/// Between the name of a code and its first digit so many other characters at most.
const APART_MAX: usize = 3;

/// What introduces a code, in small letters.
const NAMES: [&str; 4] = ["cvv", "cvc", "支付密码", "验证码"];

/// Whether a text holds a card's number or a named code (R-6.1.4-1).
pub fn holds_secret(text: &str) -> bool {
    let messages: Vec<char> = text.chars().map(folded).collect();
    holds_card(&messages) || holds_code(&messages)
}

/// Full width becomes plain, large letters small, and every kind of blank or dash one of its kind.
fn folded(message: char) -> char {
    let plain = match message {
        '\u{ff01}'..='\u{ff5e}' => {
            let code = u32::from(message).saturating_sub(0xfee0);
            char::from_u32(code).unwrap_or(message)
        }
        other => other,
    };
    match plain {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => '-',
        blank if blank.is_whitespace() => ' ',
        other => other.to_ascii_lowercase(),
    }
}

fn holds_card(messages: &[char]) -> bool {
    let is_between = |message: char| message == ' ' || message == '-';
    let mut digits: Vec<u32> = Vec::new();
    let (mut before, mut last) = (None, None);
    // One more round ends the last run.
    for message in messages.iter().copied().map(Some).chain([None]) {
        if let Some(digit) = message.and_then(|message| message.to_digit(10)) {
            if digits.is_empty() {
                before = last;
            }
            digits.push(digit);
        } else if !message.is_some_and(is_between) || digits.is_empty() {
            // A number that is part of a longer name stands for something else.
            let behind = last.filter(char::is_ascii_digit).and(message);
            let is_lone = ![before, behind].into_iter().flatten().any(is_of_a_name);
            if is_lone && is_card(&digits) {
                return true;
            }
            digits.clear();
        }
        last = message;
    }
    false
}

fn is_of_a_name(message: char) -> bool {
    message.is_ascii_alphanumeric() || message == '_'
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
        let applied = match (is_doubled, *digit) {
            (true, digit @ 5..) => digit.saturating_mul(2).saturating_sub(9),
            (true, digit) => digit.saturating_mul(2),
            (false, digit) => digit,
        };
        sum.saturating_add(applied)
    });
    sum.is_multiple_of(10)
}

fn holds_code(messages: &[char]) -> bool {
    NAMES.iter().any(|name| {
        let name: Vec<char> = name.chars().collect();
        messages
            .windows(name.len())
            .zip(1_usize..)
            .filter(|(window, _)| *window == name)
            .any(|(_, nth)| {
                let end = nth.saturating_sub(1).saturating_add(name.len());
                messages.get(end..).is_some_and(begins_with_code)
            })
    })
}

/// Whether a run of so many digits begins within the first few characters.
fn begins_with_code(messages: &[char]) -> bool {
    let begins = |at: &usize| {
        let before = at.checked_sub(1).and_then(|at| messages.get(at));
        !before.is_some_and(char::is_ascii_digit)
    };
    let length = |at: usize| {
        let behind = messages.iter().skip(at);
        behind
            .take_while(|message| message.is_ascii_digit())
            .count()
    };
    let mut places = (0..=APART_MAX).filter(begins);
    places.any(|at| CODE_DIGITS.contains(&length(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-6.1.4-1: numbers of cards of every network that is named, however they are written.
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

    /// R-6.1.4-1: what only looks like one is none: other numbers, longer and shorter ones, parts of
    /// names.
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
                !holds_card(&text.chars().map(folded).collect::<Vec<_>>()),
                "{text}"
            );
        }
    }

    /// R-6.1.4-1: a code beside its name, in each language and width; a name alone, or beside fewer
    /// or more digits, is none.
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
