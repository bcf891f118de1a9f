//! The header fields of the payer's pages: what a page may load and run, who may frame it, and what the
//! next page is told of it.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::api::page::{leading_on, markup};
use crate::api::response::no_store;
use crate::crypto::digest::sha256;
use crate::domain::refusal::Refusal;

/// What the institution is told of the page that the payer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageReferrer {
    /// Nothing: our address opens the page.
    Nothing,
    /// Our origin.
    Origin,
}

/// Nothing but our own style, and no framing (R-6.1.1-3a). A form may be redirected to any https page,
/// because the response to a selection leads on to the institution's page and browsers apply
/// `form-action` to redirects as well.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy(""));

/// The same with our two scripts, for pages that lead on by themselves. Older versions of WeChat's bridge
/// speak with their application through frames of its own scheme.
static POLICY_WITH_SCRIPTS: LazyLock<HeaderValue> = LazyLock::new(|| {
    let [onward, bridge] = [leading_on::ONWARD, leading_on::WECHAT_BRIDGE]
        .map(|script| STANDARD.encode(sha256(script.as_bytes())));
    policy(&format!(
        "script-src 'sha256-{onward}' 'sha256-{bridge}'; frame-src weixin:; "
    ))
});

fn policy(scripts: &str) -> HeaderValue {
    let style = STANDARD.encode(sha256(markup::STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; {scripts}form-action 'self' https:; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    // Base64 and plain words: always a header value.
    HeaderValue::from_maybe_shared(policy)
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

/// Protects a page without scripts, and every redirect and refusal. There is no cookie and nothing is
/// allowed to other origins.
pub(super) fn protect(headers: &mut HeaderMap) {
    protect_by(headers, &POLICY, PageReferrer::Nothing);
}

/// Protects a page that leads on by itself.
pub(super) fn protect_scripted(headers: &mut HeaderMap, referrer: PageReferrer) {
    protect_by(headers, &POLICY_WITH_SCRIPTS, referrer);
}

/// Keeps what a page has of its own.
fn protect_by(headers: &mut HeaderMap, policy: &HeaderValue, referrer: PageReferrer) {
    let referrer = match referrer {
        PageReferrer::Nothing => "no-referrer",
        PageReferrer::Origin => "origin",
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy.clone()),
        (header::REFERRER_POLICY, HeaderValue::from_static(referrer)),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        ),
    ] {
        headers.entry(name).or_insert(value);
    }
}

/// 303 (RFC 9110): the next request is a GET, whatever this one was.
pub(super) fn see_other(location: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    no_store(headers);
    response
}

/// Refuses a form that a page of another site posts.
///
/// # Errors
/// [`Refusal::CrossSite`].
pub(super) fn same_site(headers: &HeaderMap) -> Result<(), Refusal> {
    // `Origin` proves nothing: it is `null` on a page that sends no referrer.
    let from = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if from == Some(b"cross-site") {
        return Err(Refusal::CrossSite);
    }
    Ok(())
}
