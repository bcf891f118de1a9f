//! A note as it is kept: what both sides said, masked, and what their signatures cover.

mod masking;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};

use crate::domain::fields::Fields;
use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::{
    AttemptId, InstitutionId, MerchantId, MerchantOrderNo, PayOrderNo, RefundOrderNo,
    RefundRequestNo,
};
use crate::signature::{Question, request_base, response_base};
use crate::world::trail::{Answered, Asked, Body, Note};

/// What is kept of a note: one line of JSON with `at` (ms), `tookMs`, `with`, `what`, `verdict`,
/// `stranger` and, of `asked` and `answered`, the first line, the masked body and the signature base.
pub fn written(note: &Note) -> Vec<u8> {
    let request = request(&note.asked);
    let question = request
        .as_ref()
        .and_then(|request| Question::of(request, &note.asked.target));
    let mut line = json!({
        "at": note.at.ms(),
        "tookMs": u64::try_from(note.took.as_millis()).unwrap_or(u64::MAX),
        "with": note.with,
        "what": note.what,
        "verdict": note.verdict,
        "asked": asked(&note.asked, request.as_ref()),
    });
    if let Some(fields) = line.as_object_mut() {
        if note.is_stranger {
            fields.insert("stranger".to_owned(), Value::Bool(true));
        }
        if let Some(answer) = &note.answered {
            fields.insert("answered".to_owned(), answered(answer, question.as_ref()));
        }
    }
    line.to_string().into_bytes()
}

fn asked(asked: &Asked, request: Option<&Request<Bytes>>) -> Value {
    let base = request.and_then(|request| request_base(request, &asked.target));
    json!({
        "line": format!("{} {}", asked.method, asked.target),
        "body": body(&asked.body),
        "signatureBase": base,
    })
}

fn answered(answered: &Answered, question: Option<&Question>) -> Value {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = answered.status;
    *response.headers_mut() = answered.head.fields();
    json!({
        "line": answered.status.as_u16().to_string(),
        "body": body(&answered.body),
        "signatureBase": response_base(&response, question),
    })
}

fn body(body: &Body) -> Value {
    match body {
        Body::Kept(bytes) => masking::body(bytes),
        Body::TooLong(bytes) => Value::String(format!("{bytes} bytes that are not shown")),
    }
}

fn request(asked: &Asked) -> Option<Request<Bytes>> {
    let mut request = Request::builder()
        .method(&asked.method)
        .uri(&asked.target)
        .body(Bytes::new())
        .ok()?;
    *request.headers_mut() = asked.head.fields();
    Some(request)
}

/// The order that a merchant's request names, as far as it does.
pub fn named(fields: &Fields<'_>) -> Option<OrderKey> {
    let text = |name| fields.text(name)?.ok();
    let merchant = MerchantId::parse(text("merchantId")?).ok()?;
    let order = text("payOrderNo").and_then(|no| PayOrderNo::parse(no).ok());
    if let Some(order) = order {
        return Some(OrderKey::Ours(merchant, order));
    }
    let order = text("merchantOrderNo").and_then(|no| MerchantOrderNo::parse(no).ok());
    if let Some(order) = order {
        return Some(OrderKey::Theirs(merchant, order));
    }
    let refund = text("refundOrderNo").and_then(|no| RefundOrderNo::parse(no).ok());
    if let Some(refund) = refund {
        return Some(OrderKey::RefundOurs(merchant, refund));
    }
    let refund = RefundRequestNo::parse(text("merchantRefundNo")?).ok()?;
    Some(OrderKey::RefundTheirs(merchant, refund))
}

/// The payment or refund whose number stands in a message that nobody proved.
pub(in crate::flow) fn mentioned(institution: &InstitutionId, body: &[u8]) -> Option<OrderKey> {
    let fields = Fields::parse(body).ok()?;
    fields.names().find_map(|name| {
        let text = fields.text(name)?.ok()?;
        if let Ok(attempt) = AttemptId::parse(text) {
            return Some(OrderKey::OfAttempt(institution.clone(), attempt));
        }
        let refund = RefundOrderNo::parse(text).ok()?;
        Some(OrderKey::OfRefund(institution.clone(), refund))
    })
}
