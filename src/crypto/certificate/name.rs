//! Distinguished names as text (RFC 2253).

use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Keys of attributes in text (RFC 2253, section 2.3).
const KEYS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];

/// The name in the reverse of its encoded order, parts separated by commas without blanks; `None`
/// if a part has another key, or is no text.
pub(super) fn most_specific_first(name: &X509Name<'_>) -> Option<String> {
    let parts: Option<Vec<String>> = name
        .iter_rdn()
        .map(|relative| {
            let attributes: Option<Vec<String>> = relative.iter().map(attribute).collect();
            Some(attributes?.join("+"))
        })
        .collect();
    let mut parts = parts?;
    parts.reverse();
    Some(parts.join(","))
}

/// The only common name, if it is text.
pub(super) fn common_name(name: &X509Name<'_>) -> Option<String> {
    let mut all = name.iter_common_name();
    let only = all.next()?;
    if all.next().is_some() {
        return None;
    }
    text(only.attr_value())
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let identifier = attribute.attr_type().to_id_string();
    let (_, key) = KEYS.iter().find(|(known, _)| *known == identifier)?;
    Some(format!("{key}={}", escaped(&text(attribute.attr_value())?)))
}

fn text(value: &Any<'_>) -> Option<String> {
    if value.tag() == Tag::BmpString {
        let (pairs, []) = value.data.as_chunks::<2>() else {
            return None;
        };
        let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        return String::from_utf16(&units).ok();
    }
    let is_text = [
        Tag::Utf8String,
        Tag::PrintableString,
        Tag::Ia5String,
        Tag::NumericString,
        Tag::T61String,
    ]
    .contains(&value.tag());
    if !is_text {
        return None;
    }
    String::from_utf8(value.data.to_vec()).ok()
}

/// RFC 2253, section 2.4.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (at, character) in value.chars().enumerate() {
        let special = match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => at == 0,
            ' ' => at == 0 || at == last,
            _ => false,
        };
        if special {
            text.push('\\');
        }
        text.push(character);
    }
    text
}
