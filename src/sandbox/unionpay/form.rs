//! Messages of UnionPay's interface as text: the forms of requests and notifications, the raw
//! `k=v` text of answers, and the text that is signed. Reads forms strictly: what the document
//! does not allow is refused, not repaired.

use form_urlencoded::{Serializer, parse};

/// The field that the signed text leaves out.
const SIGNATURE: &str = "signature";

/// Why a body is not a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnionPayFormFault {
    /// A pair without `=`, an empty pair, or a second `=` that is not encoded.
    Pair,
    /// A name with other characters than letters and digits.
    Name,
    /// A byte that has to be encoded, or `%` without two hexadecimal digits.
    Encoding,
    /// Not UTF-8.
    Text,
    /// A field without a value: it has to be left out.
    Empty,
    /// A value that begins or ends with a blank: it has to be trimmed before signing.
    Blank,
    /// A field that occurs twice.
    Twice,
}

/// The fields of a message, in their order; none is empty, none occurs twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct UnionPayFields(Vec<(String, String)>);

impl UnionPayFields {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let field = self.0.iter().find(|(known, _)| known == name)?;
        Some(&field.1)
    }

    /// The value, or empty text.
    pub(super) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Sets a field; an empty value leaves it out.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        self.0.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.0.push((name.to_owned(), value));
        }
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The same fields without these.
    pub(super) fn without(&self, names: &[&str]) -> Self {
        let kept = |field: &&(String, String)| !names.contains(&field.0.as_str());
        Self(self.0.iter().filter(kept).cloned().collect())
    }

    /// The same fields in the order of their names, for comparison.
    pub(super) fn sorted(&self) -> Self {
        let mut fields = self.clone();
        fields.0.sort();
        fields
    }

    /// The text that is signed: every field but the signature, in ASCII order, not encoded.
    pub(super) fn sign_text(&self) -> String {
        let fields = self.without(&[SIGNATURE]).sorted();
        joined(fields.pairs())
    }

    /// The text of an answer: not encoded, in this order.
    pub(super) fn raw_text(&self) -> String {
        joined(self.pairs())
    }

    /// The body of a form.
    pub(super) fn form_text(&self) -> String {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(self.pairs());
        form.finish()
    }

    /// Reads the body of a form.
    pub(super) fn parse(body: &[u8]) -> Result<Self, UnionPayFormFault> {
        for pair in body.split(|byte| *byte == b'&') {
            check_pair(pair)?;
        }
        let mut fields = Self::default();
        for (name, value) in parse(body) {
            check_value(&value)?;
            if fields.get(&name).is_some() {
                return Err(UnionPayFormFault::Twice);
            }
            fields.set(&name, value);
        }
        Ok(fields)
    }
}

fn joined<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// The decoder repairs what it cannot decode, so this comes first.
fn check_pair(pair: &[u8]) -> Result<(), UnionPayFormFault> {
    let mut parts = pair.split(|byte| *byte == b'=');
    let (Some(name), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(UnionPayFormFault::Pair);
    };
    if name.is_empty() || !name.iter().all(u8::is_ascii_alphanumeric) {
        return Err(UnionPayFormFault::Name);
    }
    let mut rest = value;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            (b'+' | b'-' | b'.' | b'_' | b'*' | b'~', _) => after,
            (byte, _) if byte.is_ascii_alphanumeric() => after,
            _ => return Err(UnionPayFormFault::Encoding),
        };
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), UnionPayFormFault> {
    // What is not UTF-8 was decoded to this character.
    if value.contains(char::REPLACEMENT_CHARACTER) {
        return Err(UnionPayFormFault::Text);
    }
    if value.is_empty() {
        return Err(UnionPayFormFault::Empty);
    }
    if value.trim() != value {
        return Err(UnionPayFormFault::Blank);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A form is decoded once: `+` is a blank, `%2B` a plus sign.
    #[test]
    fn a_form_is_decoded_once() {
        let fields = UnionPayFields::parse(b"a=x+y%2Bz%26&b=%E6%88%90%2541").unwrap();
        assert_eq!(fields.get("a"), Some("x y+z&"));
        assert_eq!(fields.get("b"), Some("成%41"));
        assert_eq!(fields.form_text(), "a=x+y%2Bz%26&b=%E6%88%90%2541");
        assert_eq!(fields.raw_text(), "a=x y+z&&b=成%41");
    }

    /// What a form must not hold is refused.
    #[test]
    fn malformed_forms_are_refused() {
        for (body, fault) in [
            ("", UnionPayFormFault::Pair),
            ("a", UnionPayFormFault::Pair),
            ("a=1&", UnionPayFormFault::Pair),
            ("a=1=2", UnionPayFormFault::Pair),
            ("=1", UnionPayFormFault::Name),
            ("a-b=1", UnionPayFormFault::Name),
            ("a%62=1", UnionPayFormFault::Name),
            ("a=%4", UnionPayFormFault::Encoding),
            ("a=%zz", UnionPayFormFault::Encoding),
            ("a=x y", UnionPayFormFault::Encoding),
            ("a=成", UnionPayFormFault::Encoding),
            ("a={b}", UnionPayFormFault::Encoding),
            ("a=%ff", UnionPayFormFault::Text),
            ("a=%b3%c9", UnionPayFormFault::Text),
            ("a=", UnionPayFormFault::Empty),
            ("a=+1", UnionPayFormFault::Blank),
            ("a=1%0A", UnionPayFormFault::Blank),
            ("a=1&b=2&a=1", UnionPayFormFault::Twice),
        ] {
            assert_eq!(UnionPayFields::parse(body.as_bytes()), Err(fault), "{body}");
        }
    }

    /// The signed text does not depend on the order of the fields, and leaves the signature out.
    #[test]
    fn the_signed_text_is_sorted() {
        let one = UnionPayFields::parse(b"b=2&signature=x&B=1&a=3").unwrap();
        let other = UnionPayFields::parse(b"a=3&B=1&b=2").unwrap();
        assert_eq!(one.sign_text(), "B=1&a=3&b=2");
        assert_eq!(one.sign_text(), other.sign_text());
    }
}
