//! Messages: names and values, as the forms of requests and notifications, as the raw text of answers,
//! which is not escaped, and as the text that is signed.
//!
//! What could be read in two ways is not read at all: a signature covers the joined text, and would
//! be valid of either reading.

/// The field that the signed text leaves out.
pub(super) const SIGNATURE: &str = "signature";

/// The longest message. Unit: bytes.
const BYTES_MAX: usize = 64 * 1024;

/// The most fields: three times as many as any message has.
const FIELDS_MAX: usize = 96;

/// A message. No name occurs twice; values are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct UnionPayMessage {
    fields: Vec<(String, String)>,
    /// Names that were received without a value.
    empty: Vec<String>,
}

impl UnionPayMessage {
    /// Adds a field of ours, trimmed; a blank one is left out, as the signed text leaves it out.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let value = value.trim();
        if !value.is_empty() {
            self.fields.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let (_, value) = fields.find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Names and values, in order.
    pub(super) fn into_fields(self) -> Vec<(String, String)> {
        self.fields
    }

    /// The text that is signed: all fields but the signature, in the order of their names.
    pub(super) fn signed_text(&self) -> String {
        let fields = self.fields.iter();
        joined(fields.map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The same with what came without a value, if anything did: the description does not say which
    /// of the two is signed then.
    pub(super) fn signed_text_with_empty(&self) -> Option<String> {
        if self.empty.is_empty() {
            return None;
        }
        let fields = self.fields.iter();
        let fields = fields.map(|(name, value)| (name.as_str(), value.as_str()));
        let empty = self.empty.iter().map(|name| (name.as_str(), ""));
        Some(joined(fields.chain(empty)))
    }

    /// The body of a form: each value escaped, after it was signed.
    pub(super) fn form(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.fields {
            if !text.is_empty() {
                text.push('&');
            }
            text.push_str(name);
            text.push('=');
            escape(value, &mut text);
        }
        text
    }

    /// Reads a form; each value is unescaped exactly once. `None` if it has another reading: a name
    /// for the second time, an incomplete escape, no UTF-8, or a value that its joined text would
    /// split.
    pub(super) fn from_form(body: &[u8]) -> Option<Self> {
        if body.len() > BYTES_MAX {
            return None;
        }
        let mut read = Self::default();
        for pair in body.split(|byte| *byte == b'&') {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = pair.split_at_checked(at)?;
            let value = unescaped(value.get(1..)?)?;
            if values(&value)?.len() > 1 {
                return None;
            }
            read.receive(std::str::from_utf8(name).ok()?, &value)?;
        }
        Some(read)
    }

    /// Reads the raw text of an answer; nothing is unescaped. `None` as above.
    pub(super) fn from_raw(body: &[u8]) -> Option<Self> {
        if body.len() > BYTES_MAX {
            return None;
        }
        let text = std::str::from_utf8(body).ok()?;
        let inside = text.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
        let mut read = Self::default();
        for pair in values(inside.unwrap_or(text))? {
            let (name, value) = pair.split_once('=')?;
            read.receive(name, value)?;
        }
        Some(read)
    }

    fn receive(&mut self, name: &str, value: &str) -> Option<()> {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_known = self.get(name).is_some() || self.empty.iter().any(|known| known == name);
        let count = self.fields.len().saturating_add(self.empty.len());
        if !is_name || is_known || count >= FIELDS_MAX {
            return None;
        }
        if value.is_empty() {
            self.empty.push(name.to_owned());
        } else {
            self.fields.push((name.to_owned(), value.to_owned()));
        }
        Some(())
    }
}

fn joined<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut fields: Vec<_> = fields.filter(|(name, _)| *name != SIGNATURE).collect();
    fields.sort_unstable();
    let pairs = fields.iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join("&")
}

/// Splits a text at each `&` that stands in no braces and in no brackets. The first closing one ends
/// them; `None` if they are not closed.
fn values(text: &str) -> Option<Vec<&str>> {
    let (mut in_braces, mut in_brackets) = (false, false);
    let is_separator = |letter: char| {
        match letter {
            '{' => in_braces = true,
            '}' => in_braces = false,
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            _ => (),
        }
        letter == '&' && !in_braces && !in_brackets
    };
    let all = text.split(is_separator).collect();
    (!in_braces && !in_brackets).then_some(all)
}

fn escape(value: &str, text: &mut String) {
    for byte in value.bytes() {
        match byte {
            b' ' => text.push('+'),
            b'*' | b'-' | b'.' | b'_' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            _ => {
                text.push('%');
                text.push_str(&crate::crypto::hex::upper(&[byte]));
            }
        }
    }
}

fn unescaped(value: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    loop {
        rest = match rest {
            [] => return String::from_utf8(bytes).ok(),
            [b'+', after @ ..] => {
                bytes.push(b' ');
                after
            }
            [b'%', high, low, after @ ..] => {
                bytes.push(digit(*high)? << 4 | digit(*low)?);
                after
            }
            [b'%', ..] => return None,
            [byte, after @ ..] => {
                bytes.push(*byte);
                after
            }
        };
    }
}

fn digit(byte: u8) -> Option<u8> {
    u8::try_from(char::from(byte).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Option<UnionPayMessage> {
        UnionPayMessage::from_raw(text.as_bytes())
    }

    fn form(text: &str) -> Option<UnionPayMessage> {
        UnionPayMessage::from_form(text.as_bytes())
    }

    /// C1: an answer is split by hand: nothing is unescaped, and what stands in braces or brackets
    /// belongs to its value.
    #[test]
    fn a_raw_answer_is_split_but_not_unescaped() {
        let read = raw("a=x=y+%41&b={c=1&d=[e]}&f=[g&h]&i=成功[0000000]").unwrap();
        assert_eq!(read.get("a"), Some("x=y+%41"));
        assert_eq!(read.get("b"), Some("{c=1&d=[e]}"));
        assert_eq!(read.get("f"), Some("[g&h]"));
        assert_eq!(read.get("i"), Some("成功[0000000]"));
        assert!(raw("{a=1&b={c=2}}") == raw("a=1&b={c=2}"));
        for bad in [
            "", "a", "a=1&", "=1", "a-b=1", "a=1&a=2", "a=1&a=", "a={b", "a=[b&c=1",
        ] {
            assert!(raw(bad).is_none(), "{bad}");
        }
        assert!(UnionPayMessage::from_raw(b"a=\xb3\xc9").is_none());
        assert!(raw(&format!("a={}", "x".repeat(BYTES_MAX))).is_none());
        let many: Vec<String> = (0..=FIELDS_MAX).map(|n| format!("a{n}=1")).collect();
        assert!(raw(&many.join("&")).is_none());
    }

    /// C1: a form is unescaped exactly once, and what its signed text would split is refused.
    #[test]
    fn a_form_is_unescaped_once_or_refused() {
        let read = form("a=x+y%2Bz%2541&b=%E6%88%90%7Bc%3D1%26d%3D2%7D").unwrap();
        assert_eq!(read.get("a"), Some("x y+z%41"));
        assert_eq!(read.get("b"), Some("成{c=1&d=2}"));
        assert!(form(&read.form()) == Some(read));
        for bad in [
            "",
            "a",
            "a=1&",
            "a=%4",
            "a=%zz",
            "a=%+1",
            "a=%ff",
            "a=%b3%c9",
            "a%62=1",
            "a=1&a=1",
            "a=1%26b%3D2",
            "a=%5Bb",
            "a=1&b=2&b=",
        ] {
            assert!(form(bad).is_none(), "{bad}");
        }
    }

    /// The signed text is sorted by name and leaves out the signature and what has no value.
    #[test]
    fn the_signed_text_is_sorted_and_has_no_blanks() {
        let message = UnionPayMessage::default().with("b", " 2 ").with("a", " ");
        let message = message.with("signature", "x").with("B", "1");
        assert_eq!(message.signed_text(), "B=1&b=2");
        assert_eq!(message.signed_text_with_empty(), None);
        let received = raw("b=2&a=&B=1&signature=x").unwrap();
        assert_eq!(received.signed_text(), "B=1&b=2");
        let with_empty = received.signed_text_with_empty();
        assert_eq!(with_empty.as_deref(), Some("B=1&a=&b=2"));
    }
}
