//! The public documents: the platform's keys (R-6.3.1-1c), and the interface description, compiled in
//! so that it always matches the running program. Neither is signed.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::api::endpoint::{Endpoint, PublicDocument};
use crate::api::response::with_body;
use crate::api::{AnsweredCaller, ApiResponse};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;

/// The interface description.
const OPENAPI: &str = include_str!("../../docs/openapi.yaml");

/// How long it may be cached: it changes only with a release and contains no personal data.
const OPENAPI_CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// How long the platform's keys may be cached: as long as the document tells merchants to trust
/// them, so that trust in a withdrawn key ends soon.
const KEYS_CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=600");

/// Answers a document.
pub(super) fn answer(
    snapshot: &ConfigurationSnapshot,
    endpoint: &Endpoint,
    document: PublicDocument,
) -> ApiResponse {
    let (media_type, body, caching, result) = match document {
        PublicDocument::Keys => {
            let keys = snapshot.platform.jwks.clone();
            ("application/json", keys, KEYS_CACHE_CONTROL, "ACCEPTED")
        }
        PublicDocument::OpenApi => {
            let text = Bytes::from_static(OPENAPI.as_bytes());
            ("application/yaml", text, OPENAPI_CACHE_CONTROL, "SHOWN")
        }
    };
    let mut response = with_body(StatusCode::OK, media_type, body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, caching);
    ApiResponse {
        response,
        interface: endpoint.interface,
        result,
        caller: AnsweredCaller::Unknown,
    }
}
