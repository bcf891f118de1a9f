//! Parameters of a request, from query and body together, and of a notification: strict percent
//! encoding, no name twice, and the text that a signature covers.

use std::collections::BTreeMap;

use form_urlencoded::byte_serialize;

/// Parameters by name, decoded once.
#[derive(Debug, Default, Clone)]
pub(super) struct AlipayParameters(BTreeMap<String, String>);

/// What is wrong with a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FormFault {
    /// A pair without `=`, an empty name, or a character that had to be percent-encoded.
    Malformed,
    /// A name that came before, in query or body.
    Duplicate(String),
}

impl AlipayParameters {
    /// Parses query and body as one form.
    pub(super) fn merged(query: &str, body: &[u8]) -> Result<Self, FormFault> {
        let body = std::str::from_utf8(body).map_err(|_| FormFault::Malformed)?;
        let mut found = Self::default();
        for pair in [query, body].into_iter().filter(|part| !part.is_empty()) {
            for pair in pair.split('&') {
                let (name, value) = pair.split_once('=').ok_or(FormFault::Malformed)?;
                let name = decode(name).ok_or(FormFault::Malformed)?;
                let value = decode(value).ok_or(FormFault::Malformed)?;
                if name.is_empty() {
                    return Err(FormFault::Malformed);
                }
                if found.0.contains_key(&name) {
                    return Err(FormFault::Duplicate(name));
                }
                found.0.insert(name, value);
            }
        }
        Ok(found)
    }

    /// From names and values as they are.
    pub(super) fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let pairs = pairs.into_iter();
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    /// A value that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name)?;
        (!value.is_empty()).then_some(value)
    }

    /// Adds or replaces one.
    pub(super) fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// The text that a signature covers: sorted by name, values raw, without empty ones and
    /// without these names.
    pub(super) fn signed_text(&self, without: &[&str]) -> String {
        let covered = self
            .0
            .iter()
            .filter(|(name, value)| !value.is_empty() && !without.contains(&name.as_str()));
        let pairs: Vec<String> = covered
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("&")
    }

    /// As a form or query, percent-encoded, with `+` for blanks.
    pub(super) fn encoded(&self) -> String {
        let quoted = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let pairs: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| format!("{}={}", quoted(name), quoted(value)))
            .collect();
        pairs.join("&")
    }
}

/// Decodes `+` and `%XX`; `None` for anything that had to be encoded and is not, and for what is
/// not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return String::from_utf8(bytes).ok(),
            [b'+', rest @ ..] => {
                bytes.push(b' ');
                rest
            }
            [b'%', high, low, rest @ ..] => {
                let digits = [*high, *low];
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest
            }
            // What browsers and libraries leave as it is.
            [plain, rest @ ..]
                if plain.is_ascii_alphanumeric() || b"-_.~*!'(),:/?@$;".contains(plain) =>
            {
                bytes.push(*plain);
                rest
            }
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Query and body are one form in which no name comes twice.
    #[test]
    fn query_and_body_are_merged_and_nothing_comes_twice() {
        let form = AlipayParameters::merged("charset=utf-8", b"a=1+2%2B&b=").unwrap();
        assert_eq!(form.get("a"), Some("1 2+"));
        assert_eq!(form.get("b"), None);
        assert_eq!(form.signed_text(&["sign"]), "a=1 2+&charset=utf-8");
        let twice = AlipayParameters::merged("a=1", b"a=1").unwrap_err();
        assert_eq!(twice, FormFault::Duplicate("a".to_owned()));
        for wrong in [
            "a", "=1", "a=%2", "a=%zz", "a={}", "a=\"", "a=%ff", "a= b", "a=1&&b=2",
        ] {
            assert!(
                AlipayParameters::merged("", wrong.as_bytes()).is_err(),
                "{wrong}"
            );
        }
        assert!(AlipayParameters::merged("", "a=元".as_bytes()).is_err());
    }

    /// A value is decoded once.
    #[test]
    fn an_encoded_value_comes_back_as_it_was() {
        let of = AlipayParameters::of([("p", "chatbot%3D1 & 元".to_owned())]);
        let encoded = of.encoded();
        let back = AlipayParameters::merged("", encoded.as_bytes()).unwrap();
        assert_eq!(back.get("p"), Some("chatbot%3D1 & 元"));
    }
}
