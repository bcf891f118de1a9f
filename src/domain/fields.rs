//! Strict reader for request bodies: a single JSON object of plain fields (Q10).
//!
//! Numbers are kept as text; nothing is rounded or guessed. Does not interpret values and never
//! prints them.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::identifiers::Malformed;
use crate::domain::refusal::Refusal;

/// The largest body accepted. Unit: bytes (Q1; the default limit of the API).
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Maximum number of names in one object: four times as many as the longest table has.
pub const NAMES_MAX: usize = 64;

/// Maximum nesting depth of a value, counting the object itself.
pub const DEPTH_MAX: usize = 8;

/// The longest name. Unit: bytes.
const NAME_BYTES_MAX: usize = 64;

/// The longest number accepted. Unit: characters.
const NUMBER_CHARS_MAX: usize = 32;

/// Why a body is not a single object of plain fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsFault {
    /// Over [`BODY_BYTES_MAX`].
    #[error("too large")]
    TooLarge,
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Not JSON, truncated, with trailing data, or with an unpaired surrogate in a string.
    #[error("not JSON")]
    NotJson,
    /// JSON, but not an object.
    #[error("not an object")]
    NotAnObject,
    /// A value is nested deeper than [`DEPTH_MAX`].
    #[error("nested too deeply")]
    TooDeep,
    /// More names than [`NAMES_MAX`].
    #[error("too many fields")]
    TooMany,
    /// A name is too long or contains control characters.
    #[error("a field name is too long or contains control characters")]
    BadName,
    /// Duplicate name, however it is escaped.
    #[error("duplicate field")]
    Twice(Box<str>),
}

/// The refusal that a merchant receives.
impl From<FieldsFault> for Refusal {
    fn from(fault: FieldsFault) -> Self {
        match fault {
            FieldsFault::TooLarge => Self::BodyTooLarge {
                bytes_max: BODY_BYTES_MAX,
            },
            FieldsFault::NotUtf8 => Self::BodyUnreadable("it is not UTF-8"),
            FieldsFault::NotJson => Self::BodyUnreadable("it is not JSON"),
            FieldsFault::NotAnObject => Self::BodyUnreadable("it is not an object"),
            FieldsFault::TooDeep => Self::BodyUnreadable("it is nested too deeply"),
            FieldsFault::TooMany => Self::BodyUnreadable("it has too many fields"),
            FieldsFault::BadName => {
                Self::BodyUnreadable("a field name is too long or contains control characters")
            }
            FieldsFault::Twice(name) => Self::FieldTwice(name),
        }
    }
}

enum Value<'a> {
    Text(Cow<'a, str>),
    Number(&'a str),
    Flag(bool),
    Nested,
    Null,
}

struct Field<'a> {
    name: Cow<'a, str>,
    value: Value<'a>,
    raw: &'a str,
}

/// The fields of one JSON object, in their original order. `null` counts as absent.
pub struct Fields<'a>(Vec<Field<'a>>);

impl<'a> Fields<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// [`FieldsFault`], which never quotes a value.
    pub fn parse(body: &'a [u8]) -> Result<Self, FieldsFault> {
        if body.len() > BODY_BYTES_MAX {
            return Err(FieldsFault::TooLarge);
        }
        let text = std::str::from_utf8(body).map_err(|_| FieldsFault::NotUtf8)?;
        // Values are kept as raw text and parsed again only if they contain escapes: nearly all
        // values are plain, so they are scanned only once.
        let members: JsonMembers<'_> = serde_json::from_str(text).map_err(|fault| {
            if depth(text) > DEPTH_MAX {
                FieldsFault::TooDeep
            } else if fault.is_data() {
                FieldsFault::NotAnObject
            } else {
                FieldsFault::NotJson
            }
        })?;
        let members = members.0;
        if members.iter().any(|(_, raw)| is_too_deep(raw.get())) {
            return Err(FieldsFault::TooDeep);
        }
        if members.len() > NAMES_MAX {
            return Err(FieldsFault::TooMany);
        }
        let mut fields: Vec<Field<'a>> = Vec::with_capacity(members.len());
        for (name, raw) in members {
            if name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
                return Err(FieldsFault::BadName);
            }
            // With so few names, comparing them is cheaper than a hash table.
            if fields.iter().any(|known| known.name == name) {
                return Err(FieldsFault::Twice(name.as_ref().into()));
            }
            let raw = raw.get();
            let value = value(raw)?;
            fields.push(Field { name, value, raw });
        }
        Ok(Self(fields))
    }

    /// All names in the object, including those with `null`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|field| field.name.as_ref())
    }

    /// A string without control characters.
    pub fn text(&self, name: &str) -> Option<Result<&str, Malformed>> {
        Some(match &self.present(name)?.value {
            Value::Text(text) => plain(text),
            Value::Number(_) | Value::Flag(_) | Value::Nested | Value::Null => Err(Malformed {
                expected: "a string",
            }),
        })
    }

    /// A string without control characters, or a number exactly as written.
    pub fn scalar(&self, name: &str) -> Option<Result<&str, Malformed>> {
        Some(match &self.present(name)?.value {
            Value::Text(text) => plain(text),
            Value::Number(digits) if digits.len() <= NUMBER_CHARS_MAX => Ok(digits),
            Value::Number(_) => Err(Malformed {
                expected: "a number of at most 32 characters",
            }),
            Value::Flag(_) | Value::Nested | Value::Null => Err(Malformed {
                expected: "a string or a number",
            }),
        })
    }

    /// `true` or `false`, not as a string.
    pub fn flag(&self, name: &str) -> Option<Result<bool, Malformed>> {
        Some(match &self.present(name)?.value {
            Value::Flag(flag) => Ok(*flag),
            Value::Text(_) | Value::Number(_) | Value::Nested | Value::Null => Err(Malformed {
                expected: "true or false",
            }),
        })
    }

    /// The JSON text of a value as received. Of a nested value only syntax and depth are checked.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        self.present(name).map(|field| field.raw)
    }

    fn present(&self, name: &str) -> Option<&Field<'a>> {
        self.0
            .iter()
            .find(|field| field.name == name)
            .filter(|field| !matches!(field.value, Value::Null))
    }
}

/// Names only: values may be personal (D1).
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// A single value that is a string without control characters, or a number exactly as written: like
/// [`Fields::scalar`], for values nested elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(from)?.get();
        match value(raw).map_err(D::Error::custom)? {
            Value::Text(text) if plain(&text).is_ok() => Ok(Self(text)),
            Value::Number(digits) if digits.len() <= NUMBER_CHARS_MAX => Ok(Self(digits.into())),
            Value::Text(_) | Value::Number(_) | Value::Flag(_) | Value::Nested | Value::Null => {
                Err(D::Error::custom("expected a string or a number"))
            }
        }
    }
}

fn plain(text: &str) -> Result<&str, Malformed> {
    if text.contains(char::is_control) {
        Err(Malformed {
            expected: "text without control characters",
        })
    } else {
        Ok(text)
    }
}

fn value(raw: &str) -> Result<Value<'_>, FieldsFault> {
    Ok(match raw.as_bytes().first() {
        Some(b'"') => Value::Text(text(raw)?),
        Some(b'{' | b'[') => Value::Nested,
        Some(b't') => Value::Flag(true),
        Some(b'f') => Value::Flag(false),
        Some(b'n') => Value::Null,
        Some(_) | None => Value::Number(raw),
    })
}

/// Decodes a string. Without escapes it is the text between the quotes: control characters were
/// already ruled out when the body was parsed.
fn text(raw: &str) -> Result<Cow<'_, str>, FieldsFault> {
    let within = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    match within {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        Some(_) | None => {
            let Text(text) = serde_json::from_str(raw).map_err(|_| FieldsFault::NotJson)?;
            Ok(text)
        }
    }
}

/// Whether a member, inside the object, exceeds the maximum depth.
fn is_too_deep(raw: &str) -> bool {
    raw.starts_with(['{', '[']) && depth(raw) >= DEPTH_MAX
}

/// Nesting depth of brackets. Exact for JSON; for anything else the parser decides.
fn depth(text: &str) -> usize {
    let (mut now, mut deepest) = (0usize, 0usize);
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                now = now.saturating_add(1);
                deepest = deepest.max(now);
            }
            b'}' | b']' if !quoted => now = now.saturating_sub(1),
            _ => (),
        }
    }
    deepest
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members as written; a map type would hide duplicate names.
struct JsonMembers<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for JsonMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct JsonMembersVisitor;
        impl<'de> Visitor<'de> for JsonMembersVisitor {
            type Value = JsonMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), raw)) = map.next_entry()? {
                    members.push((name, raw));
                }
                Ok(JsonMembers(members))
            }
        }
        from.deserialize_map(JsonMembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(body: impl AsRef<[u8]>) -> FieldsFault {
        Fields::parse(body.as_ref()).unwrap_err()
    }

    /// M4, G-1: a number is kept as written, a string is decoded.
    #[test]
    fn values_come_out_exactly() {
        let body = r#" {"a":"x\u00e9\n","s":"12","n":0012e,"z":1} "#;
        assert_eq!(fault(body), FieldsFault::NotJson);
        let body = r#" {"a":"x\u00e9","c":"a\u0000","n":12.30,"big":1e400,"t":true,"o":{"k":[1]},"z":null} "#;
        let fields = Fields::parse(body.as_bytes()).unwrap();
        assert_eq!(fields.text("a"), Some(Ok("xé")));
        assert_eq!(fields.scalar("a"), Some(Ok("xé")));
        assert_eq!(fields.scalar("n"), Some(Ok("12.30")));
        assert_eq!(fields.scalar("big"), Some(Ok("1e400")));
        assert_eq!(fields.flag("t"), Some(Ok(true)));
        assert_eq!(fields.raw("o"), Some(r#"{"k":[1]}"#));
        assert!(fields.text("n").unwrap().is_err());
        assert!(fields.scalar("o").unwrap().is_err());
        assert!(fields.flag("a").unwrap().is_err());
        assert!(fields.text("c").unwrap().is_err(), "a control character");
        assert_eq!(fields.text("z"), None, "null counts as absent");
        assert_eq!(fields.text("none"), None);
        assert_eq!(fields.names().count(), 7);
        assert!(Fields::parse(b"{}").unwrap().names().next().is_none());
    }

    /// M4: nested scalars follow the same rules: a number as written, and nothing else as a number.
    #[test]
    fn a_nested_scalar_is_text_or_number() {
        let read = |raw: &str| {
            let read = serde_json::from_str::<[Scalar<'_>; 1]>(raw);
            read.map(|[Scalar(text)]| text.into_owned()).ok()
        };
        for raw in ["[12.300]", "[\"12.300\"]", "[ \"12.\\u003300\" ]"] {
            assert_eq!(read(raw).as_deref(), Some("12.300"), "{raw}");
        }
        let long = format!("[{}]", "9".repeat(33));
        for raw in [
            "[null]",
            "[true]",
            "[[1]]",
            "[{}]",
            "[\"1\\n\"]",
            long.as_str(),
        ] {
            assert_eq!(read(raw), None, "{raw}");
        }
    }

    /// Q10: bounded numbers.
    #[test]
    fn a_number_of_a_thousand_digits_is_no_number() {
        let body = format!(r#"{{"n":{}}}"#, "9".repeat(1_000));
        let fields = Fields::parse(body.as_bytes()).unwrap();
        assert!(fields.scalar("n").unwrap().is_err());
    }

    /// Q10: one name, one value, however the name is escaped.
    #[test]
    fn a_field_name_occurs_once() {
        let twice = FieldsFault::Twice("a".into());
        assert_eq!(fault(r#"{"a":1,"a":1}"#), twice);
        assert_eq!(fault(r#"{"a":1,"\u0061":2}"#), twice);
        assert_eq!(fault(r#"{"a":null,"b":1,"a":"x"}"#), twice);
    }

    /// Q10: anything other than a single JSON object is refused, with the reason.
    #[test]
    fn anything_but_one_object_is_refused() {
        for body in [
            "",
            " ",
            "{",
            "{\"a\":1",
            "{\"a\":1}x",
            "{\"a\":1}{}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":NaN}",
            "{\"a\":+1}",
            "{\"a\":1,}",
            "{'a':1}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\0\"}",
            "\u{feff}{}",
            "{\"a\":\"\\ud800\"}",
            "{\"\\ud800\":1}",
            "{\"a\":\"\\udc00\\ud800\"}",
            "{\"a\":\"\\x\"}",
            "{}\0",
            "{\"a\":tru}",
            "{\"a\":[1}",
        ] {
            assert_eq!(fault(body), FieldsFault::NotJson, "{body:?}");
        }
        for body in ["[]", "[{}]", "\"x\"", "1", "null", "true"] {
            assert_eq!(fault(body), FieldsFault::NotAnObject, "{body:?}");
        }
        assert_eq!(fault(b"{\"a\":\"\xff\"}"), FieldsFault::NotUtf8);
        assert_eq!(fault(b"{\"a\":\"\xed\xa0\x80\"}"), FieldsFault::NotUtf8);
    }

    /// Q10: depth, number of names and size are limited before anything is built from them.
    #[test]
    fn oversized_bodies_are_refused() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for nested in [10_000, DEPTH_MAX] {
                let body = format!("{{\"a\":{}1{}}}", open.repeat(nested), close.repeat(nested));
                assert_eq!(fault(body), FieldsFault::TooDeep);
            }
        }
        assert_eq!(fault("[".repeat(60_000)), FieldsFault::TooDeep);
        let shallow = "{\"a\":[[[[[[[1]]]]]]]}";
        assert!(Fields::parse(shallow.as_bytes()).is_ok());
        assert!(Fields::parse(br#"{"a":"[[[[[[[[[[[[\"[[[["}"#).is_ok());

        let names = |count: usize| {
            let members: Vec<_> = (0..count).map(|n| format!("\"n{n}\":1")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(Fields::parse(names(NAMES_MAX).as_bytes()).is_ok());
        assert_eq!(fault(names(NAMES_MAX + 1)), FieldsFault::TooMany);
        assert_eq!(fault(" ".repeat(BODY_BYTES_MAX + 1)), FieldsFault::TooLarge);
        let long = format!("{{\"{}\":1}}", "n".repeat(65));
        assert_eq!(fault(long), FieldsFault::BadName);
        assert_eq!(fault(r#"{"a\u0007":1}"#), FieldsFault::BadName);
    }

    /// Q10: escaped and plain strings have the same value; plain ones are not copied.
    #[test]
    fn escapes_are_decoded_and_plain_text_is_unchanged() {
        let body = r#"{"plain":"茶 100 g","escaped":"\u8336 100 g","slash":"a\\b","quote":"a\"b","empty":""}"#;
        let fields = Fields::parse(body.as_bytes()).unwrap();
        assert_eq!(fields.text("plain"), Some(Ok("茶 100 g")));
        assert_eq!(fields.text("escaped"), Some(Ok("茶 100 g")));
        assert_eq!(fields.text("slash"), Some(Ok("a\\b")));
        assert_eq!(fields.text("quote"), Some(Ok("a\"b")));
        assert_eq!(fields.text("empty"), Some(Ok("")));
        let within = body.as_bytes().as_ptr_range();
        let plain = fields.text("plain").unwrap().unwrap();
        assert!(within.contains(&plain.as_ptr()), "it was copied");
    }

    /// Q10: a body truncated at any point is refused.
    #[test]
    fn a_truncated_body_is_refused() {
        let body = r#"{"a":"x\u00e9","n":12.30,"o":{"k":[1,"]"]},"t":true}"#;
        for end in 0..body.len() {
            assert_eq!(fault(&body[..end]), FieldsFault::NotJson, "{end}");
        }
    }

    /// D1: values do not reach a log through `Debug` of fields.
    #[test]
    fn fields_show_their_names_only() {
        let fields = Fields::parse(br#"{"mobileNo":"13812345678"}"#).unwrap();
        assert_eq!(format!("{fields:?}"), r#"["mobileNo"]"#);
    }
}
