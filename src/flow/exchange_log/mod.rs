//! The stored form of an entry: request and reply, masked, and what their signatures cover.

pub mod block;
mod flat;
mod masking;
mod scanning;

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::fields::Fields;
use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::{
    AttemptId, InstitutionId, MerchantId, MerchantOrderNo, PayOrderNo, RefundOrderNo,
    RefundRequestNo,
};
use crate::domain::institutions::MessageFormat;
use crate::signature::{
    CONTENT_DIGEST, Question, SIGNATURE, SIGNATURE_INPUT, request_base, response_base,
};
use crate::world::exchange_log::{Body, ExchangeEntry, FIELDS, HeaderFields};

/// Writes an entry as one line of JSON: `at` (ms), `tookMs`, `with`, `what`, `result`, `unproven`,
/// `paying`, and for `asked` and `answered` the first line without a query, the masked query of a call
/// to an institution, the masked body and the
/// header fields that signatures cover, except those that would reveal masked values.
pub fn write(out: &mut Vec<u8>, entry: &ExchangeEntry) {
    let took = u64::try_from(entry.took.as_millis()).unwrap_or(u64::MAX);
    member(out, b"{\"at\":", &entry.at.ms());
    member(out, b",\"tookMs\":", &took);
    member(out, b",\"with\":", &entry.with);
    member(out, b",\"what\":", &entry.what);
    member(out, b",\"result\":", &entry.result);
    if entry.is_unproven {
        member(out, b",\"unproven\":", &true);
    }
    if entry.is_paying {
        member(out, b",\"paying\":", &true);
    }
    let line = format!(
        "{} {}",
        entry.request.method,
        without_query(&entry.request.target)
    );
    member(out, b",\"asked\":{\"line\":", &line);
    // Of a merchant's or payer's own request the query is nothing we asked for.
    if let Some((_, query)) = entry.request.target.split_once('?')
        && entry.format != MessageFormat::INTERFACE
    {
        out.extend(b",\"query\":");
        masking::query(out, query, entry.format);
    }
    message(out, &entry.request.head, &entry.request.body, entry.format);
    if let Some(answer) = &entry.reply {
        member(out, b",\"answered\":{\"line\":", answer.status.as_str());
        message(out, &answer.head, &answer.body, entry.format);
    }
    out.push(b'}');
}

fn member<T: Serialize + ?Sized>(out: &mut Vec<u8>, name: &[u8], value: &T) {
    out.extend(name);
    masking::json(out, value);
}

/// Removes the query, which may contain personal values.
fn without_query(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}

fn message(out: &mut Vec<u8>, head: &HeaderFields, body: &Body, format: MessageFormat) {
    out.extend(b",\"body\":");
    match body {
        Body::Kept(bytes) => masking::body(out, bytes, format),
        Body::TooLong(bytes) => masking::too_long(out, *bytes),
    }
    for (name, value) in head.fields() {
        // A field that is not text cannot be part of a signature base.
        if let Ok(value) = value.to_str() {
            out.extend(b",\"");
            out.extend(name.as_str().as_bytes());
            member(out, b"\":", value);
        }
    }
    out.push(b'}');
}

/// Reads a line of [`write()`] for display: the signature bases of both sides, if any, replace the
/// fields they are computed from; digests and signatures in them are masked. `None` if it is not
/// such a line.
pub fn read(line: &str) -> Option<Value> {
    let mut entry: Value = serde_json::from_str(line).ok()?;
    let asked = entry.get_mut("asked")?.as_object_mut()?;
    let fields = taken(asked);
    let first = asked.get("line").and_then(Value::as_str)?;
    let first = without_query(first).to_owned();
    let (method, target) = first.split_once(' ')?;
    asked.insert("line".to_owned(), first.as_str().into());
    let request = Request::builder().method(method).uri(target);
    let request = request.body(Bytes::new()).ok().map(|mut request| {
        *request.headers_mut() = fields;
        request
    });
    let base = request
        .as_ref()
        .map(|request| request_base(request, target));
    let base = base.flatten().map(|base| hidden(&base));
    asked.insert("signatureBase".to_owned(), base.into());
    if let Some(answered) = entry.get_mut("answered").and_then(Value::as_object_mut) {
        let mut response = Response::new(Bytes::new());
        *response.headers_mut() = taken(answered);
        let status = answered.get("line").and_then(Value::as_str)?.as_bytes();
        *response.status_mut() = StatusCode::from_bytes(status).ok()?;
        let question = request.and_then(|request| Question::of(&request, target));
        let base = response_base(&response, question.as_ref()).map(|base| hidden(&base));
        answered.insert("signatureBase".to_owned(), base.into());
    }
    Some(entry)
}

/// Takes the header fields out of a message. Digest and signature are replaced by empty ones,
/// whatever an earlier release stored.
fn taken(message: &mut Map<String, Value>) -> HeaderMap {
    let fields = FIELDS.into_iter().filter_map(|name| {
        let value = message.remove(name.as_str())?;
        Some((name, HeaderValue::from_str(value.as_str()?).ok()?))
    });
    let mut fields: HeaderMap = fields.collect();
    for name in [CONTENT_DIGEST, SIGNATURE] {
        message.remove(name.as_str());
        let input = fields.get(SIGNATURE_INPUT);
        let empty = input.and_then(|input| empty(&name, input.to_str().ok()?));
        fields.extend(empty.map(|value| (name, value)));
    }
    fields
}

/// An empty value for a field, with the label from the signature's input.
fn empty(name: &HeaderName, input: &str) -> Option<HeaderValue> {
    if *name == CONTENT_DIGEST {
        return Some(HeaderValue::from_static("sha-256=::"));
    }
    let (label, _) = input.split_once('=')?;
    HeaderValue::from_str(&format!("{}=::", label.trim())).ok()
}

/// Masks digests and signatures in a signature base.
fn hidden(base: &str) -> String {
    let mut shown = String::with_capacity(base.len());
    for (at, line) in base.lines().enumerate() {
        if at > 0 {
            shown.push('\n');
        }
        let is_hidden = ["\"content-digest\"", "\"signature\""]
            .iter()
            .any(|name| line.starts_with(name));
        // A component's name ends at the first colon and space.
        let written = match line.split_once(": ") {
            Some((name, _)) if is_hidden => write!(shown, "{name}: ***"),
            Some(_) | None => write!(shown, "{line}"),
        };
        // Writing to a `String` cannot fail.
        let _ = written;
    }
    shown
}

/// The order that a merchant's request names, if any.
pub fn named(fields: &Fields<'_>) -> Option<OrderKey> {
    let text = |name| fields.text(name)?.ok();
    let merchant = MerchantId::parse(text("merchantId")?).ok()?;
    let order = text("payOrderNo").and_then(|no| PayOrderNo::parse(no).ok());
    if let Some(order) = order {
        return Some(OrderKey::PayOrderNo(merchant, order));
    }
    let order = text("merchantOrderNo").and_then(|no| MerchantOrderNo::parse(no).ok());
    if let Some(order) = order {
        return Some(OrderKey::MerchantOrderNo(merchant, order));
    }
    let refund = text("refundOrderNo").and_then(|no| RefundOrderNo::parse(no).ok());
    if let Some(refund) = refund {
        return Some(OrderKey::RefundOrderNo(merchant, refund));
    }
    let refund = RefundRequestNo::parse(text("merchantRefundNo")?).ok()?;
    Some(OrderKey::MerchantRefundNo(merchant, refund))
}

/// The payment or refund whose number occurs in an unauthenticated message.
pub(in crate::flow) fn mentioned(institution: &InstitutionId, body: &[u8]) -> Option<OrderKey> {
    let fields = Fields::parse(body).ok()?;
    fields.names().find_map(|name| {
        let text = fields.text(name)?.ok()?;
        if let Ok(attempt) = AttemptId::parse(text) {
            return Some(OrderKey::Attempt(institution.clone(), attempt));
        }
        let refund = RefundOrderNo::parse(text).ok()?;
        Some(OrderKey::Refund(institution.clone(), refund))
    })
}
