//! What of a message may be read by whoever explains an order (D1, D5): names that are known to hold
//! nothing personal and nothing that lets its reader pay. Everything else is named, not shown.

use serde_json::{Map, Value};

use crate::domain::personal::masked;

/// Values under these names are shown as they came.
const SHOWN: &[&str] = &[
    "attempt",
    "attemptStatus",
    "available",
    "bankReturnUrl",
    "businessType",
    "capabilities",
    "closeTime",
    "code",
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
    "institutionResult",
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
    "reason",
    "reasonCode",
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
    "title",
    "traceId",
    "transactionType",
    "type",
    "version",
];

/// Shown with its middle masked.
const MOBILE: &str = "mobileNo";

/// The longest text that is shown. Unit: characters.
const TEXT_CHARS_MAX: usize = 128;
/// Of a list so many are shown.
const ITEMS_MAX: usize = 8;
/// Nested deeper than that nothing is shown.
const DEPTH_MAX: u32 = 4;

/// A body with nothing in it that must not be read.
pub(super) fn body(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => object(&fields, 1),
        Ok(_) | Err(_) => Value::String(format!("{} bytes that are not shown", bytes.len())),
    }
}

fn object(fields: &Map<String, Value>, depth: u32) -> Value {
    let (mut shown, mut hidden) = (Map::new(), Vec::new());
    for (name, value) in fields {
        match value {
            Value::Null => (),
            Value::String(text) if name == MOBILE => {
                shown.insert(name.clone(), Value::String(masked(text, 3, 4)));
            }
            value if SHOWN.contains(&name.as_str()) => {
                shown.insert(name.clone(), nested(value, depth));
            }
            Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => hidden.push(Value::String(cut(name))),
        }
    }
    if !hidden.is_empty() {
        shown.insert("notShown".to_owned(), Value::Array(hidden));
    }
    Value::Object(shown)
}

fn nested(value: &Value, depth: u32) -> Value {
    match value {
        Value::Object(_) | Value::Array(_) if depth >= DEPTH_MAX => Value::String("…".to_owned()),
        Value::Object(fields) => object(fields, depth.saturating_add(1)),
        Value::Array(items) => {
            let some = items.iter().take(ITEMS_MAX);
            let mut shown: Vec<Value> = some
                .map(|item| nested(item, depth.saturating_add(1)))
                .collect();
            let more = items.len().saturating_sub(ITEMS_MAX);
            if more > 0 {
                shown.push(Value::String(format!("and {more} more")));
            }
            Value::Array(shown)
        }
        Value::String(text) => Value::String(cut(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn cut(text: &str) -> String {
    let mut letters = text.chars();
    let mut shown: String = letters.by_ref().take(TEXT_CHARS_MAX).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        let shown = body(came.to_string().as_bytes());
        let expected = json!({
            "merchantId": "M1",
            "mobileNo": "138****5678",
            "orderAmount": 12.30,
            "refunds": [{ "refundStatus": "SUCCEEDED", "notShown": ["refundReason"] }],
            "notShown": ["cardNo", "goodsName", "payUrl"],
        });
        assert_eq!(shown, expected);
        for other in [
            "",
            "[1]",
            "\"13812345678\"",
            "institutionId=a&mobileNo=13812345678",
        ] {
            let text = body(other.as_bytes()).to_string();
            assert!(!text.contains("1381"), "{text}");
        }
    }

    /// Whoever sends long lists, long texts and deep nests gets little of a trail.
    #[test]
    fn what_is_shown_is_bounded() {
        let deep = json!({ "order": { "order": { "order": { "order": { "code": "x" } } } } });
        let long = json!({ "code": "x".repeat(10_000), "institutions": vec!["a"; 1_000] });
        for came in [deep, long] {
            let shown = body(came.to_string().as_bytes()).to_string();
            assert!(shown.len() < 300, "{shown}");
        }
    }
}
