//! Replies to A3.3 callbacks in the `standard` dialect, before they are signed: 503 only where a
//! retry may succeed.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::institution::Acknowledgement;

/// `Retry-After` of a 503: when an institution should send the message again. Unit: seconds.
const AGAIN_AFTER_S: u64 = 5;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallbackProblem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
    result: &'static str,
    code: &'static str,
    request_id: &'a str,
}

/// The reply, with the request id of the log.
pub(super) fn answer(acknowledged: Acknowledgement, request_id: &str) -> Response<Bytes> {
    let (status, code, detail) = match acknowledged {
        Acknowledgement::Recorded => return recorded(),
        Acknowledgement::TryAgain => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "nothing was recorded, send the notification again",
        ),
        Acknowledgement::UnknownReference => (
            StatusCode::NOT_FOUND,
            "order_unknown",
            "this gateway has no payment or refund with that number",
        ),
        Acknowledgement::Quarantined => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "notice_contradicts",
            "amount, currency, account, receiver or numbers do not match the payment or refund; \
             archived for manual review, sending it again changes nothing",
        ),
        Acknowledgement::Unreadable => (
            StatusCode::BAD_REQUEST,
            "body_unreadable",
            "expected one JSON object with the fields of a notification",
        ),
        Acknowledgement::Unverified => (
            StatusCode::UNAUTHORIZED,
            "signature_unusable",
            "expected a notification signed recently by an enrolled key",
        ),
    };
    let body = CallbackProblem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Refused"),
        status: status.as_u16(),
        detail,
        result: "REFUSED",
        code,
        request_id,
    };
    // Only text and numbers: serializing them cannot fail.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let problem = HeaderValue::from_static("application/problem+json");
    headers.insert(CONTENT_TYPE, problem);
    if acknowledged == Acknowledgement::TryAgain {
        headers.insert(RETRY_AFTER, HeaderValue::from(AGAIN_AFTER_S));
    }
    answer
}

fn recorded() -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from_static(br#"{"noticeResult":"SUCCESS"}"#));
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}
