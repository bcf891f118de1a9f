//! Responses: status, body and the headers that every one of them has; once.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// A response with a body, which nobody on the way may cache (R-6.5-1b).
pub(super) fn with_body(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    no_store(headers);
    response
}

/// A response whose body is JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    json_as("application/json", status, body)
}

/// A response whose body is JSON of this media type.
pub(super) fn json_as(
    media_type: &'static str,
    status: StatusCode,
    body: &impl Serialize,
) -> Response<Bytes> {
    // Our own bodies hold text, numbers and lists of them: writing them cannot fail.
    with_body(
        status,
        media_type,
        serde_json::to_vec(body).unwrap_or_default(),
    )
}

/// R-6.5-1b: no response is stored by anybody on the way.
pub(super) fn no_store(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
}
