//! A strict reader for forms: each value is unescaped exactly once, and what could be read in two
//! ways is refused. A signature covers the unescaped values.

use std::collections::BTreeMap;

/// The longest form. Unit: bytes.
const BYTES_MAX: usize = 64 * 1024;

/// The most fields: four times as many as any message has.
const FIELDS_MAX: usize = 128;

/// Why a body is not a form that has one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecodingFault {
    /// Too long, or too many fields.
    TooLarge,
    /// A field without `=`, or without a name.
    Malformed,
    /// A `%` without two hexadecimal digits, or a byte that must be escaped.
    BadEscape,
    /// Not UTF-8 once unescaped.
    NotUtf8,
    /// A name for the second time.
    Twice,
}

/// The fields of a form, sorted by name.
#[derive(Default)]
pub(super) struct DecodedForm(BTreeMap<String, String>);

impl DecodedForm {
    /// Reads a body. Fields without a value are left out.
    ///
    /// # Errors
    /// [`DecodingFault`], which never quotes a value.
    pub(super) fn parse(body: &[u8]) -> Result<Self, DecodingFault> {
        if body.len() > BYTES_MAX {
            return Err(DecodingFault::TooLarge);
        }
        let mut fields = BTreeMap::new();
        for (count, pair) in body.split(|byte| *byte == b'&').enumerate() {
            if count >= FIELDS_MAX {
                return Err(DecodingFault::TooLarge);
            }
            let at = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = at
                .and_then(|at| pair.split_at_checked(at))
                .ok_or(DecodingFault::Malformed)?;
            let name = unescaped(name)?;
            let value = unescaped(value.get(1..).unwrap_or_default())?;
            if name.is_empty() {
                return Err(DecodingFault::Malformed);
            }
            if fields.insert(name, value).is_some() {
                return Err(DecodingFault::Twice);
            }
        }
        fields.retain(|_, value| !value.is_empty());
        Ok(Self(fields))
    }

    /// The value of a field; never empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values, but for these names.
    pub(super) fn without<'f>(
        &'f self,
        names: &'f [&str],
    ) -> impl Iterator<Item = (&'f str, &'f str)> {
        let pairs = self.0.iter();
        pairs
            .filter(|(name, _)| !names.contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn unescaped(text: &[u8]) -> Result<String, DecodingFault> {
    let digit = |byte: Option<&u8>| {
        let digit = char::from(*byte?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = digit(rest.next()).ok_or(DecodingFault::BadEscape)?;
                let low = digit(rest.next()).ok_or(DecodingFault::BadEscape)?;
                high << 4 | low
            }
            // A space, a control character or a byte beyond ASCII is always escaped.
            plain if plain.is_ascii_graphic() => *plain,
            _ => return Err(DecodingFault::BadEscape),
        });
    }
    String::from_utf8(bytes).map_err(|_| DecodingFault::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(body: &str) -> Result<Option<String>, DecodingFault> {
        DecodedForm::parse(body.as_bytes()).map(|form| form.get("a").map(ToOwned::to_owned))
    }

    /// C1: each value is unescaped once: `+` is a blank, `%2B` a plus, and an escaped escape stays
    /// one.
    #[test]
    fn a_value_is_unescaped_exactly_once() {
        for (body, expected) in [
            ("a=b+c", "b c"),
            ("a=b%20c", "b c"),
            ("a=b%2Bc", "b+c"),
            ("a=b%2bc", "b+c"),
            ("a=s%253D1%2526t", "s%3D1%26t"),
            ("a=b=c", "b=c"),
            ("a=*~", "*~"),
            ("a=%E6%B6%88", "消"),
        ] {
            assert_eq!(value(body), Ok(Some(expected.to_owned())), "{body}");
        }
        assert_eq!(value("a=&b=1"), Ok(None), "without a value it is absent");
    }

    /// C1: what has two readings, or none, is refused.
    #[test]
    fn a_form_of_two_readings_is_refused() {
        for (body, fault) in [
            ("", DecodingFault::Malformed),
            ("a", DecodingFault::Malformed),
            ("=b", DecodingFault::Malformed),
            ("a=b&", DecodingFault::Malformed),
            ("a=b&&c=d", DecodingFault::Malformed),
            ("a=b&a=b", DecodingFault::Twice),
            ("a=b&%61=c", DecodingFault::Twice),
            ("a=&a=b", DecodingFault::Twice),
            ("a=%", DecodingFault::BadEscape),
            ("a=%2", DecodingFault::BadEscape),
            ("a=%2G", DecodingFault::BadEscape),
            ("a=%+1", DecodingFault::BadEscape),
            ("a=b c", DecodingFault::BadEscape),
            ("a=消", DecodingFault::BadEscape),
            ("a=%CF%FB", DecodingFault::NotUtf8),
        ] {
            assert_eq!(value(body), Err(fault), "{body}");
        }
        let many = vec!["a=b"; FIELDS_MAX + 1].join("&");
        assert!(value(&many).is_err());
        let long = format!("a={}", "b".repeat(BYTES_MAX));
        assert_eq!(value(&long), Err(DecodingFault::TooLarge));
    }
}
