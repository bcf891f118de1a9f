//! A simulated party's refusal of a request: `application/problem+json` (G-12).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

/// One refusal.
#[derive(Debug)]
pub(super) struct SandboxRefusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) detail: String,
    pub(super) field: Option<String>,
    pub(super) reason: Option<&'static str>,
}

impl SandboxRefusal {
    pub(super) fn of(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            field: None,
            reason: None,
        }
    }

    /// Names the faulty field.
    pub(super) fn at(mut self, field: &str) -> Self {
        self.field = Some(field.to_owned());
        self
    }

    /// Adds the reason within the code.
    pub(super) fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Derives a refusal from serde's error text, which names the field in backticks.
    pub(super) fn unreadable(fault: &serde_json::Error) -> Self {
        let detail = fault.to_string();
        let code = [
            ("missing field", "field_missing"),
            ("unknown field", "field_unknown"),
            ("duplicate field", "field_duplicate"),
        ]
        .into_iter()
        .find_map(|(head, code)| detail.starts_with(head).then_some(code));
        let field = code
            .and_then(|_| detail.split('`').nth(1))
            .map(str::to_owned);
        Self {
            status: 400,
            code: code.unwrap_or("body_unreadable"),
            detail,
            field,
            reason: None,
        }
    }

    pub(super) fn into_response(self) -> Response<Bytes> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": self.status,
            "detail": self.detail,
            "result": "REFUSED",
            "code": self.code,
        });
        if let (Some(field), Some(members)) = (self.field, body.as_object_mut()) {
            members.insert("field".to_owned(), field.into());
        }
        if let (Some(reason), Some(members)) = (self.reason, body.as_object_mut()) {
            members.insert("reason".to_owned(), reason.into());
        }
        written(status, "application/problem+json", body.to_string())
    }
}

/// A JSON response.
pub(super) fn answered(body: &Value) -> Response<Bytes> {
    written(StatusCode::OK, "application/json", body.to_string())
}

/// A response of any kind; never cached.
pub(super) fn written(
    status: StatusCode,
    media_type: &'static str,
    body: String,
) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
