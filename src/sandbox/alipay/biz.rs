//! `biz_content`: one JSON object in which no name comes twice, read by the fields that the called
//! method lists. Values are text where the sheet says text; an empty text is no value.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use crate::sandbox::alipay::answer::AlipayRefusal;

/// Largest amount. Unit: fen.
const FEN_MAX: i64 = 10_000_000_000;
/// Digits before the point at most, leading zeros excluded.
const YUAN_DIGITS_MAX: usize = 9;

/// The fields of a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BizContent {
    fields: Vec<(String, Value)>,
    /// The `sub_code` of a wrong field.
    fault: &'static str,
}

/// An object whose names are all different.
struct StrictObject(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for StrictObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;
        impl<'de> Visitor<'de> for FieldVisitor {
            type Value = StrictObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StrictObject, A::Error> {
                let mut fields: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("a name comes twice"));
                    }
                    fields.push((name, value));
                }
                Ok(StrictObject(fields))
            }
        }
        deserializer.deserialize_map(FieldVisitor)
    }
}

impl BizContent {
    /// Parses the text; wrong fields are refused with this `sub_code`.
    pub(super) fn parse(text: &str, fault: &'static str) -> Result<Self, AlipayRefusal> {
        let parsed: Result<StrictObject, _> = serde_json::from_str(text);
        let StrictObject(fields) = parsed.map_err(|_| {
            AlipayRefusal::invalid("isv.invalid-biz-content", "biz_content 不是 JSON 对象")
        })?;
        Ok(Self { fields, fault })
    }

    /// Refuses a field.
    pub(super) fn wrong(&self, name: &str) -> AlipayRefusal {
        AlipayRefusal::business(self.fault, &format!("参数有误 {name}"))
    }

    /// Refuses fields that the method does not list.
    pub(super) fn only(&self, lists: &[&[&str]]) -> Result<(), AlipayRefusal> {
        let listed = |name: &str| lists.iter().any(|list| list.contains(&name));
        let unknown = self.fields.iter().find(|(name, _)| !listed(name));
        unknown.map_or(Ok(()), |(name, _)| Err(self.wrong(name)))
    }

    /// Any value.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    /// A text of at most so many characters.
    pub(super) fn text(&self, name: &str, max: usize) -> Result<Option<&str>, AlipayRefusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() && text.chars().count() <= max => {
                Ok(Some(text))
            }
            Some(_) => Err(self.wrong(name)),
        }
    }

    /// A text that must be there.
    pub(super) fn required(&self, name: &str, max: usize) -> Result<&str, AlipayRefusal> {
        self.text(name, max)?.ok_or_else(|| self.wrong(name))
    }

    /// One of the merchant's numbers: letters, digits and `_`, at most 64.
    pub(super) fn number(&self, name: &str) -> Result<Option<&str>, AlipayRefusal> {
        let Some(number) = self.text(name, 64)? else {
            return Ok(None);
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if number.bytes().all(plain) {
            Ok(Some(number))
        } else {
            Err(self.wrong(name))
        }
    }

    /// An amount in yuan with at most two decimals. Unit of the result: fen.
    pub(super) fn amount(&self, name: &str) -> Result<i64, AlipayRefusal> {
        let text = self.required(name, 12)?;
        let fen = fen(text).filter(|fen| (1..=FEN_MAX).contains(fen));
        fen.ok_or_else(|| self.wrong(name))
    }
}

/// Parses yuan as decimal text. Unit of the result: fen.
pub(super) fn fen(text: &str) -> Option<i64> {
    let (yuan, cents) = match text.split_once('.') {
        None => (text, "00".to_owned()),
        Some((_, "")) => return None,
        Some((yuan, cents)) => (yuan, format!("{cents:0<2}")),
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let plain = yuan == "0" || !yuan.starts_with('0');
    if !digits(yuan) || !plain || yuan.len() > YUAN_DIGITS_MAX {
        return None;
    }
    if !digits(&cents) || cents.len() != 2 {
        return None;
    }
    let yuan: i64 = yuan.parse().ok()?;
    yuan.checked_mul(100)?.checked_add(cents.parse().ok()?)
}

/// Yuan with two decimals, as amounts are sent.
pub(super) fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let fen = fen.unsigned_abs();
    format!("{sign}{}.{:02}", fen / 100, fen % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Amounts are converted as text; anything but plain decimal text is refused.
    #[test]
    fn amounts_are_plain_decimal_text() {
        for (text, expected) in [
            ("10.01", 1_001),
            ("10", 1_000),
            ("10.0", 1_000),
            ("0.01", 1),
        ] {
            assert_eq!(fen(text), Some(expected), "{text}");
        }
        for wrong in [
            "", ".", "1.", ".5", "1.001", "+1", "-1", "1e3", "01", "1,0", " 1", "１",
        ] {
            assert_eq!(fen(wrong), None, "{wrong}");
        }
        assert_eq!(
            (yuan(1_001), yuan(-301)),
            ("10.01".to_owned(), "-3.01".to_owned())
        );
    }

    /// A name that comes twice is refused, and so is what is not listed.
    #[test]
    fn unlisted_and_repeated_fields_are_refused() {
        let parse = |text| BizContent::parse(text, "ACQ.INVALID_PARAMETER");
        let biz = parse(r#"{"a":"1","b":""}"#).unwrap();
        assert!(biz.only(&[&["a"], &["b"]]).is_ok());
        assert!(biz.only(&[&["a"]]).is_err());
        assert_eq!(biz.text("a", 1).unwrap(), Some("1"));
        assert!(biz.text("b", 1).is_err());
        assert!(parse(r#"{"a":"1","a":"1"}"#).is_err());
        assert!(parse("[]").is_err());
        assert!(parse("{}{}").is_err());
    }
}
