//! The document of this interface, as it is in the repository: what a program answers
//! and what it says of itself are of one release.

use bytes::Bytes;
use http::{HeaderValue, Response, header};

use crate::api::ApiResponse;

/// The whole of it.
const DOCUMENT: &str = include_str!("../../docs/openapi.yaml");

/// How long it may be kept: it changes with a release and holds nothing of anybody.
const DOCUMENT_CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// Answers the document: public, so not signed.
pub(super) fn answer() -> ApiResponse {
    let mut response = Response::new(Bytes::from_static(DOCUMENT.as_bytes()));
    let yaml = HeaderValue::from_static("application/yaml");
    let nosniff = HeaderValue::from_static("nosniff");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, yaml);
    headers.insert(header::CACHE_CONTROL, DOCUMENT_CACHE_CONTROL);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    ApiResponse {
        response,
        interface: "openapi",
        result: "SHOWN",
    }
}
