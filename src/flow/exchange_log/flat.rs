//! Masks messages that are no JSON: forms, queries, `name=value` and flat XML. Written as one JSON
//! object: the values under shown names, and of everything else only the names (D1).

use std::borrow::Cow;

use super::masking::{cut, is_shown, json, member, names_not_shown, object_in};
use crate::domain::institutions::ShownFields;

/// Maximum number of fields; of a message with more only the size is shown.
const FIELDS_MAX: usize = 256;

/// A value with one of these may hold other fields, so it is shown only if it is a JSON object.
const STRUCTURE: [char; 6] = ['{', '}', '<', '>', '&', '='];

/// A name and its value; `None` stands for a value that cannot be read.
type FlatField<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// Writes a masked form or query.
pub(super) fn form(out: &mut Vec<u8>, bytes: &[u8], shown: ShownFields) -> Option<()> {
    std::str::from_utf8(bytes).ok()?;
    // A text that is no form has its content where names stand.
    let mut pieces = bytes.split(|byte| *byte == b'&');
    let is_form = pieces.all(|piece| piece.is_empty() || piece.contains(&b'='));
    is_form.then_some(())?;
    let fields = form_urlencoded::parse(bytes).take(FIELDS_MAX.saturating_add(1));
    let fields = fields.map(|(name, value)| (name, Some(value)));
    write(out, &fields.collect::<Vec<_>>(), shown)
}

/// Writes masked `name=value` fields, joined by `&`; what stands in braces belongs to its value.
pub(super) fn key_value(out: &mut Vec<u8>, bytes: &[u8], shown: ShownFields) -> Option<()> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut fields: Vec<FlatField<'_>> = Vec::new();
    let (mut from, mut depth) = (0_usize, 0_usize);
    let ends = text.bytes().map(Some).chain([None]).enumerate();
    for (at, byte) in ends {
        match byte {
            Some(b'{') => depth = depth.saturating_add(1),
            Some(b'}') => depth = depth.saturating_sub(1),
            Some(b'&') if depth > 0 => (),
            Some(b'&') | None => {
                let (name, value) = text.get(from..at)?.split_once('=')?;
                fields.push((name.into(), Some(value.into())));
                from = at.saturating_add(1);
            }
            Some(_) => (),
        }
    }
    (depth == 0).then_some(())?;
    write(out, &fields, shown)
}

/// Writes the masked elements of one root element. Refuses what a payment message never has: a
/// document type, attributes, and entities beyond the five predefined ones.
pub(super) fn xml(out: &mut Vec<u8>, bytes: &[u8], shown: ShownFields) -> Option<()> {
    let mut rest = std::str::from_utf8(bytes).ok()?.trim();
    if let Some(declared) = rest.strip_prefix("<?xml") {
        rest = declared.split_once("?>")?.1.trim_start();
    }
    let (root, inner) = opened(rest)?;
    let mut inner = inner.trim_end().strip_suffix(&format!("</{root}>"))?;
    let mut fields: Vec<FlatField<'_>> = Vec::new();
    loop {
        inner = inner.trim_start();
        if inner.is_empty() || fields.len() > FIELDS_MAX {
            break;
        }
        let (name, value) = opened(inner)?;
        let (value, after) = value.split_once(&format!("</{name}>"))?;
        fields.push((name.into(), element_text(value)));
        inner = after;
    }
    write(out, &fields, shown)
}

/// The name of the element that a text begins with, and what follows its tag.
fn opened(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (!name.is_empty() && name.bytes().all(is_name)).then_some((name, rest))
}

/// The text of an element without elements in it.
fn element_text(value: &str) -> Option<Cow<'_, str>> {
    if let Some(data) = value.trim().strip_prefix("<![CDATA[") {
        let data = data.strip_suffix("]]>")?;
        return (!data.contains("]]>")).then_some(data.into());
    }
    if value.contains('<') {
        return None;
    }
    let mut parts = value.split('&');
    let mut text = String::from(parts.next()?);
    for part in parts {
        let (entity, after) = part.split_once(';')?;
        text.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => return None,
        });
        text.push_str(after);
    }
    Some(text.into())
}

fn write(out: &mut Vec<u8>, fields: &[FlatField<'_>], shown: ShownFields) -> Option<()> {
    if fields.is_empty() || fields.len() > FIELDS_MAX {
        return None;
    }
    let mut hidden = Vec::new();
    let mut mark = b'{';
    for (name, value) in fields {
        let Some(value) = value.as_deref().filter(|_| is_shown(shown, name)) else {
            hidden.push(name.clone());
            continue;
        };
        member(out, &mut mark, name);
        let from = out.len();
        if !value.contains(STRUCTURE) {
            json(out, &cut(value));
        } else if object_in(out, value, shown).is_none() {
            out.truncate(from);
            json(out, &format!("{} bytes that are not shown", value.len()));
        }
    }
    names_not_shown(out, &mut mark, &hidden);
    Some(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NAMES: &[&str] = &["out_trade_no", "total_fee", "biz_content", "respCode"];

    type FlatWriter = fn(&mut Vec<u8>, &[u8], ShownFields) -> Option<()>;

    fn shown(write: FlatWriter, bytes: &str) -> Option<Value> {
        let mut out = Vec::new();
        write(&mut out, bytes.as_bytes(), ShownFields::Listed(NAMES))?;
        Some(serde_json::from_slice(&out).unwrap())
    }

    /// D1: of a form only listed values are shown, in JSON within it as well.
    #[test]
    fn a_form_is_shown_by_its_listed_names() {
        let form_text = "out_trade_no=A1&buyer=Zhang+San&biz_content=%7B%22out_trade_no%22%3A%22A%26\
                         1%22%2C%22subject%22%3A%22tea%22%7D&sign=abc";
        let expected = json!({
            "out_trade_no": "A1",
            "biz_content": { "out_trade_no": "A&1", "notShown": ["subject"] },
            "notShown": ["buyer", "sign"],
        });
        assert_eq!(shown(form, form_text), Some(expected));
    }

    /// D1: a text that is no form, and a value where a name belongs, are not shown.
    #[test]
    fn what_is_no_form_is_not_shown() {
        for text in [
            "13812345678 Zhang San not found",
            "total_fee=1&Zhang",
            "Zhang",
        ] {
            assert_eq!(shown(form, text), None, "{text}");
        }
        let strange = "total_fee=1&13812345678=1&Zhang+San=2&a138123=3&buyer_id=4";
        let expected = json!({ "total_fee": "1", "notShown": ["…", "…", "…", "buyer_id"] });
        assert_eq!(shown(form, strange), Some(expected));
    }

    /// D1: braces belong to their value, and what is in them is not shown.
    #[test]
    fn braces_belong_to_their_value() {
        let text = "respCode=00&reserved={respCode=99&cardNo=6222}&biz_content={a=SECRET}&x=a=b";
        let expected = json!({
            "respCode": "00",
            "biz_content": "10 bytes that are not shown",
            "notShown": ["reserved", "x"],
        });
        assert_eq!(shown(key_value, text), Some(expected));
        assert_eq!(shown(key_value, "no field at all"), None);
    }

    /// D1: elements are shown by their names; entities beyond the predefined ones, attributes, document
    /// types and nested elements are not read.
    #[test]
    fn elements_are_shown_by_their_names() {
        let text = "<xml>\n<out_trade_no><![CDATA[A'1]]></out_trade_no>\
                    <total_fee>1&quot;2</total_fee><openid>o1</openid>\
                    <respCode><a>SECRET</a></respCode></xml>";
        let expected = json!({
            "out_trade_no": "A'1",
            "total_fee": "1\"2",
            "notShown": ["openid", "respCode"],
        });
        assert_eq!(shown(xml, text), Some(expected));
        for bad in [
            "<!DOCTYPE x [<!ENTITY a \"SECRET\">]><xml><total_fee>&a;</total_fee></xml>",
            "<xml a=\"1\"><total_fee>1</total_fee></xml>",
            "<xml><total_fee>1</xml>",
            "<xml></other>",
            "",
        ] {
            assert_eq!(shown(xml, bad), None, "{bad}");
        }
        let entity = shown(xml, "<xml><total_fee>&a;</total_fee></xml>");
        assert_eq!(entity, Some(json!({ "notShown": ["total_fee"] })));
    }

    /// D1: whatever comes, truncated or mutated, no unlisted value is shown.
    #[test]
    fn no_unlisted_value_is_shown_whatever_comes() {
        let came = "a={b=SECRET&c=SECRET}&total_fee=1&<x><y>SECRET</y></x>&d=SECRET%7B&e=SECRET";
        let mut seed = 88_172_645_463_325_252_u64;
        let mut draw = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % u64::try_from(below).unwrap()).unwrap()
        };
        for _ in 0..20_000 {
            let mut bytes = came.as_bytes().to_vec();
            for _ in 0..draw(4) {
                let at = draw(bytes.len().max(1));
                match draw(3) {
                    0 => bytes[at] = b"\"\\{}[]<>&=%;!/ "[draw(15)],
                    1 if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            for write in [form, key_value, xml] {
                let mut out = Vec::new();
                if write(&mut out, &bytes, ShownFields::Listed(&["total_fee"])).is_some() {
                    let line: Value = serde_json::from_slice(&out).unwrap();
                    let fee = line["total_fee"].as_str().unwrap_or_default();
                    assert!(!fee.contains("SECRET"), "{line}");
                }
            }
        }
    }
}
