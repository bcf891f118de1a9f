//! What every page of a simulated party needs: text escaped for HTML, and the headers that keep a
//! browser from doing more than showing it.

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response};

/// Text as it stands in HTML, in an attribute too.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A page with the headers of one: this policy, no referrer, no guessed type.
pub(super) fn protected(mut page: Response<Bytes>, policy: &'static str) -> Response<Bytes> {
    let headers = page.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_name_is_escaped() {
        assert_eq!(escaped("<b>\"&'茶"), "&lt;b&gt;&quot;&amp;&#39;茶");
    }
}
