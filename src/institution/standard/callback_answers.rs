//! Answers to A3.3 callbacks in the `standard` dialect, before they are signed: only what may succeed
//! later is answered 503.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::institution::Acknowledgement;

/// How long an institution waits before it sends a message again. Unit: seconds.
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

/// The answer, with the request id of the log.
pub(super) fn answer(heard: Acknowledgement, request_id: &str) -> Response<Bytes> {
    let (status, code, detail) = match heard {
        Acknowledgement::Recorded => return recorded(),
        Acknowledgement::TryAgain => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "nothing was recorded, send the notification again",
        ),
        Acknowledgement::UnknownReference => (
            StatusCode::NOT_FOUND,
            "order_unknown",
            "no payment or refund of that number was ever asked for through this gateway",
        ),
        Acknowledgement::Quarantined => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "notice_contradicts",
            "sum, currency, account, receiver or numbers are not those of the payment or refund that \
             is named; it was kept for people to look at, sending it again changes nothing",
        ),
        Acknowledgement::Unreadable => (
            StatusCode::BAD_REQUEST,
            "body_unreadable",
            "expected one JSON object with the fields of a notification",
        ),
        Acknowledgement::Unverified => (
            StatusCode::UNAUTHORIZED,
            "signature_unusable",
            "expected a notification signed just now by an enrolled key",
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
    // Text and numbers only: writing them cannot fail.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let problem = HeaderValue::from_static("application/problem+json");
    headers.insert(CONTENT_TYPE, problem);
    if heard == Acknowledgement::TryAgain {
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
