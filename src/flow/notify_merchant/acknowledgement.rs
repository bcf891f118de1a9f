//! Whether a merchant's reply acknowledges a delivery (R-A3.3-2): parsed as leniently as is safe,
//! with a reason where it does not.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use serde_json::error::Category;

use crate::world::SendError;

/// Longest `noticeResult` other than SUCCESS that is quoted in the reason.
const OTHER_SHOWN_MAX: usize = 32;

/// Why a reply does not acknowledge a delivery. Quotes nothing that may be personal.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unacknowledged {
    #[error("it could not be built and signed")]
    NotSent,
    #[error("no permit of its signing key was free; it is retried soon and not counted as a try")]
    NoKeyPermit,
    #[error("{0}")]
    NoAnswer(SendError),
    #[error("expected status 2xx, found {0}; a redirect is not followed")]
    Status(StatusCode),
    #[error("expected {{\"noticeResult\":\"SUCCESS\"}}, found an unrequested content-encoding")]
    Encoded,
    #[error("expected {{\"noticeResult\":\"SUCCESS\"}}, found an empty body")]
    Empty,
    #[error(
        "expected {{\"noticeResult\":\"SUCCESS\"}}, found {bytes} bytes that are not it: {why}"
    )]
    Unreadable { bytes: usize, why: &'static str },
    #[error("expected noticeResult SUCCESS, found {0}")]
    Other(String),
}

impl Unacknowledged {
    /// Whether nothing was sent for a reason other than the merchant (H1). Throttling because this
    /// merchant uses all its connections does not count: then the merchant is slow.
    pub(super) fn is_our_shortage(&self) -> bool {
        matches!(
            self,
            Self::NoKeyPermit | Self::NoAnswer(SendError::LocalShortage(_))
        )
    }
}

/// Only a complete HTTP 2xx with `noticeResult: SUCCESS` acknowledges (R-A3.3-2). A byte order mark
/// and surrounding white space are ignored (RFC 8259, 8.1).
pub(super) fn is_acknowledged(
    answer: &Result<Response<Bytes>, SendError>,
) -> Result<(), Unacknowledged> {
    #[derive(serde::Deserialize)]
    struct MerchantAcknowledgement {
        #[serde(rename = "noticeResult")]
        result: String,
    }
    let answer = answer
        .as_ref()
        .map_err(|it| Unacknowledged::NoAnswer(it.clone()))?;
    if !answer.status().is_success() {
        return Err(Unacknowledged::Status(answer.status()));
    }
    let body = answer.body();
    let unreadable = |why| Unacknowledged::Unreadable {
        bytes: body.len(),
        why,
    };
    let text = std::str::from_utf8(body).map_err(|_| {
        if answer.headers().contains_key(header::CONTENT_ENCODING) {
            Unacknowledged::Encoded
        } else {
            unreadable("not UTF-8")
        }
    })?;
    // White space may occur on both sides of the mark.
    let is_nothing = |message: char| message.is_whitespace() || message == '\u{feff}';
    let text = text.trim_matches(is_nothing);
    if text.is_empty() {
        return Err(Unacknowledged::Empty);
    }
    let notice: MerchantAcknowledgement = serde_json::from_str(text).map_err(|fault| {
        unreadable(match fault.classify() {
            Category::Data => "no noticeResult, or not exactly one string",
            Category::Eof => "truncated JSON",
            Category::Io | Category::Syntax => "not JSON",
        })
    })?;
    let word = |message: char| message.is_ascii_alphanumeric() || message == '_';
    match &*notice.result {
        "SUCCESS" => Ok(()),
        other if other.len() <= OTHER_SHOWN_MAX && other.chars().all(word) => {
            Err(Unacknowledged::Other(other.to_owned()))
        }
        _ => Err(Unacknowledged::Other("something else".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason_of(status: u16, body: &[u8]) -> String {
        let answer = Response::builder().status(status);
        let answer = answer.body(Bytes::copy_from_slice(body)).unwrap();
        match is_acknowledged(&Ok(answer)) {
            Ok(()) => "acknowledged".to_owned(),
            Err(reason) => reason.to_string(),
        }
    }

    /// R-A3.3-2: what real servers put around the value does not hide it, and nothing else is
    /// accepted as it; each reason says what was expected and what was found.
    #[test]
    fn text_around_success_does_not_hide_it() {
        for body in [
            "{\"noticeResult\":\"SUCCESS\"}",
            "\u{feff}{\"noticeResult\":\"SUCCESS\"}",
            "\r\n\u{feff} {\"noticeResult\" : \"SUCCESS\", \"time\": 1}\n\n",
            "\u{3000}{\"noticeResult\":\"SUCCESS\"}\u{a0}",
        ] {
            assert_eq!(reason_of(200, body.as_bytes()), "acknowledged", "{body:?}");
        }
        for (status, body, reason) in [
            (200, "", "an empty body"),
            (200, "\u{feff}\n", "an empty body"),
            (200, "SUCCESS", "not JSON"),
            (200, "{\"noticeResult\":\"SUCCESS\"", "truncated JSON"),
            (200, "{\"noticeResult\":\"SUCCESS\"}{}", "not JSON"),
            (200, "{\"result\":\"SUCCESS\"}", "no noticeResult"),
            (200, "{\"noticeResult\":\"success\"}", "found success"),
            (
                200,
                "{\"noticeResult\":\"138 0000\"}",
                "found something else",
            ),
            (
                302,
                "{\"noticeResult\":\"SUCCESS\"}",
                "found 302 Found; a redirect",
            ),
            (500, "{\"noticeResult\":\"SUCCESS\"}", "found 500"),
        ] {
            let found = reason_of(status, body.as_bytes());
            assert!(found.contains(reason), "{body:?}: {found}");
        }
        assert!(reason_of(200, b"\x1f\x8b").contains("not UTF-8"));
    }
}
