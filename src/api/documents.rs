//! The public documents: the platform's keys (R-6.3.1-1c), and the description of this interface as it
//! is in the repository, so that a program and its description are of one release. Neither is signed.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::api::endpoint::{Endpoint, PublicDocument};
use crate::api::response::with_body;
use crate::api::{AnsweredCaller, ApiResponse};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;

/// The description of the interface.
const OPENAPI: &str = include_str!("../../docs/openapi.yaml");

/// How long it may be cached: it changes with a release and holds nothing of anybody.
const OPENAPI_CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// How long the platform's keys may be cached: as long as the document tells merchants to trust
/// them, so that a withdrawn key is soon trusted no more.
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
