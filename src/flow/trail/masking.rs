//! What of a message may be read by whoever explains an order (D1, D5): names that are known to hold
//! nothing personal and nothing that lets its reader pay. Everything else is named, not shown.
//!
//! What is shown is written as it is read: nobody needs it as a tree.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::fields::Fields;
use crate::domain::merchant::origin;
use crate::domain::personal::{code_or_masked, masked};

/// Values under these names are shown as they came. In order, so that one is soon found.
const SHOWN: &[&str] = &[
    "attempt",
    "attemptStatus",
    "available",
    "businessType",
    "capabilities",
    "closeTime",
    "currency",
    "default",
    "eventId",
    "eventTime",
    "eventType",
    "expected",
    "expireTime",
    "explainInstitutions",
    "fee",
    "field",
    "found",
    "institutionId",
    "institutionOrderNo",
    "institutionRefundNo",
    "institutions",
    "interface",
    "merchantId",
    "merchantOrderNo",
    "merchantRefundNo",
    "mode",
    "modes",
    "noticeResult",
    "order",
    "orderAmount",
    "orderDate",
    "orderRefundStatus",
    "orderStatus",
    "payOrderNo",
    "payTime",
    "paymentDate",
    "paymentTime",
    "refundAmount",
    "refundCause",
    "refundOrderNo",
    "refundStatus",
    "refundTime",
    "refundedAmount",
    "refunds",
    "result",
    "retryAfter",
    "sequence",
    "status",
    "traceId",
    "transactionType",
    "type",
    "version",
];

/// Shown with its middle masked.
const MOBILE: &str = "mobileNo";

/// Addresses, of which the origin is shown: what stands behind it may be about a person.
const ADDRESSES: [&str; 2] = ["bankReturnUrl", "noticeUrl"];

/// Shown where it is a code, as it should be, and masked where somebody wrote something else there.
const CODES: [&str; 4] = ["code", "institutionResult", "reason", "reasonCode"];

/// The longest text that is shown. Unit: characters.
const TEXT_CHARS_MAX: usize = 128;
/// Of a list so many are shown.
const ITEMS_MAX: usize = 8;
/// Nested deeper than that nothing is shown.
const DEPTH_MAX: u32 = 4;

/// The longest number that is shown. Unit: characters.
const NUMBER_CHARS_MAX: usize = 32;

/// Writes a body with nothing in it that must not be read.
pub(super) fn body(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        out.extend(b"null");
        return;
    }
    let from = out.len();
    if object(out, bytes, 1).is_none() {
        out.truncate(from);
        too_long(out, bytes.len());
    }
}

/// Writes that there was a body, and not what it said.
pub(super) fn too_long(out: &mut Vec<u8>, bytes: usize) {
    json(out, &format!("{bytes} bytes that are not shown"));
}

/// Writes anything as JSON has it: memory takes whatever is written.
pub(super) fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let _ = serde_json::to_writer(out, value);
}

/// Nothing if it is no object.
fn object(out: &mut Vec<u8>, bytes: &[u8], depth: u32) -> Option<()> {
    let fields = Fields::parse(bytes).ok()?;
    let mut hidden = Vec::new();
    let mut mark = b'{';
    for name in fields.names() {
        let Some(raw) = fields.raw(name) else {
            continue;
        };
        let part = fields.text(name).and_then(Result::ok);
        let part = part.and_then(|text| shown_part(name, text));
        if part.is_none() && SHOWN.binary_search(&name).is_err() {
            hidden.push(cut(name));
            continue;
        }
        out.push(std::mem::replace(&mut mark, b','));
        json(out, name);
        out.push(b':');
        match part {
            Some(part) => json(out, &cut(&part)),
            None => value(out, raw, depth)?,
        }
    }
    if !hidden.is_empty() {
        out.push(std::mem::replace(&mut mark, b','));
        out.extend(b"\"notShown\":");
        json(out, &hidden);
    }
    if mark == b'{' {
        out.push(mark);
    }
    out.push(b'}');
    Some(())
}

/// Of a text that is not shown whole, what is.
fn shown_part<'a>(name: &str, text: &'a str) -> Option<Cow<'a, str>> {
    if name == MOBILE {
        return Some(masked(text, 3, 4).into());
    }
    if ADDRESSES.contains(&name) {
        return Some(origin(text)?.into());
    }
    CODES.contains(&name).then(|| code_or_masked(text))
}

fn value(out: &mut Vec<u8>, raw: &str, depth: u32) -> Option<()> {
    match raw.as_bytes().first()? {
        b'{' | b'[' if depth >= DEPTH_MAX => json(out, "…"),
        b'{' => object(out, raw.as_bytes(), depth.saturating_add(1))?,
        b'[' => list(out, raw, depth.saturating_add(1))?,
        // What is escaped may be no text at all: half a surrogate pair.
        b'"' if raw.len() <= TEXT_CHARS_MAX && !raw.contains('\\') => out.extend(raw.as_bytes()),
        b'"' => json(out, &cut(&serde_json::from_str::<String>(raw).ok()?)),
        _ if raw.len() <= NUMBER_CHARS_MAX => out.extend(raw.as_bytes()),
        _ => json(out, "…"),
    }
    Some(())
}

fn list(out: &mut Vec<u8>, raw: &str, depth: u32) -> Option<()> {
    let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
    let mut mark = b'[';
    for item in items.iter().take(ITEMS_MAX) {
        out.push(std::mem::replace(&mut mark, b','));
        value(out, item.get(), depth)?;
    }
    let more = items.len().saturating_sub(ITEMS_MAX);
    if more > 0 {
        out.push(b',');
        json(out, &format!("and {more} more"));
    }
    if mark == b'[' {
        out.push(mark);
    }
    out.push(b']');
    Some(())
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((at, _)) => Cow::Owned(format!("{}…", text.get(..at).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(bytes: &[u8]) -> Value {
        let mut out = Vec::new();
        body(&mut out, bytes);
        serde_json::from_slice(&out).unwrap()
    }

    /// D1, D5: what is not known to be harmless is named and not shown, at every depth; a number is
    /// masked.
    #[test]
    fn only_what_is_known_to_be_harmless_is_shown() {
        let came = json!({
            "merchantId": "M1",
            "mobileNo": "13812345678",
            "payUrl": "https://bank.example/pay/secret",
            "goodsName": "white tea",
            "orderAmount": 12.30,
            "cardNo": "6222020000000000",
            "attach": null,
            "refunds": [{ "refundStatus": "SUCCEEDED", "refundReason": "cold tea" }],
        });
        let came = shown(came.to_string().as_bytes());
        let expected = json!({
            "merchantId": "M1",
            "mobileNo": "138****5678",
            "orderAmount": 12.30,
            "refunds": [{ "refundStatus": "SUCCEEDED", "notShown": ["refundReason"] }],
            "notShown": ["cardNo", "goodsName", "payUrl"],
        });
        assert_eq!(came, expected);
        for other in [
            "",
            "[1]",
            "\"13812345678\"",
            "institutionId=a&mobileNo=13812345678",
        ] {
            let text = shown(other.as_bytes()).to_string();
            assert!(!text.contains("1381"), "{text}");
        }
    }

    /// D1, D5, R-6.5-1c: of an address the origin is shown, of an institution's own words a code; what
    /// else somebody wrote there is masked.
    #[test]
    fn addresses_and_free_words_are_shown_in_part() {
        let came = json!({
            "bankReturnUrl": "https://shop.example:8443/paid?phone=13812345678",
            "noticeUrl": "no address 13812345678",
            "reason": "call 13812345678",
            "refunds": [{ "reason": "NO_FUNDS", "reasonCode": "13812345678" }],
            "title": "Zhang San, 13812345678",
        });
        let expected = json!({
            "bankReturnUrl": "https://shop.example:8443",
            "reason": "****************",
            "refunds": [{ "reason": "NO_FUNDS", "reasonCode": "***********" }],
            "notShown": ["noticeUrl", "title"],
        });
        assert_eq!(shown(came.to_string().as_bytes()), expected);
    }

    /// Where a name is looked up by halves, one out of order would never be found.
    #[test]
    fn the_names_stand_in_order() {
        assert!(SHOWN.is_sorted());
    }

    /// What was sent comes back as it was sent, a number digit by digit; half a character spoils no line.
    #[test]
    fn a_value_is_shown_as_it_came() {
        let long = "茶".repeat(TEXT_CHARS_MAX);
        let came =
            format!(r#"{{"order":"é\n\"","fee":12.30,"found":"{long}","modes":[null,true]}}"#);
        let mut out = Vec::new();
        body(&mut out, came.as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), came);
        let half = br#"{"modes":["\ud800"]}"#;
        assert_eq!(shown(half), "20 bytes that are not shown");
    }

    /// Whoever sends long lists, long texts and deep nests gets little of a trail.
    #[test]
    fn what_is_shown_is_bounded() {
        let deep = json!({ "order": { "order": { "order": { "order": { "found": "x" } } } } });
        let long = json!({ "found": "x".repeat(10_000), "institutions": vec!["a"; 1_000] });
        let number = format!(
            r#"{{ "found": {}, "order": [[], {{}}] }}"#,
            "9".repeat(1_000)
        );
        for came in [deep.to_string(), long.to_string(), number] {
            let shown = shown(came.as_bytes()).to_string();
            assert!(shown.len() < 300, "{shown}");
        }
    }
}
