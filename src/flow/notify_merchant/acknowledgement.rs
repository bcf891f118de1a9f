//! Whether a merchant's answer ends a delivery (R-A3.3-2): read as kindly as is safe, and told why
//! where it does not.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use serde_json::error::Category;

use crate::world::SendError;

/// Letters of another word than SUCCESS that are repeated to the operator.
const OTHER_SHOWN_MAX: usize = 32;

/// Why an answer does not end delivery. Quotes nothing that may be personal.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unacknowledged {
    #[error("it could not be made and signed")]
    NotSent,
    #[error("its signing key had no turn free; it is tried again soon and counts as no try")]
    NoKeyPermit,
    #[error("{0}")]
    NoAnswer(SendError),
    #[error("expected status 2xx, found {0}; a redirect is not followed")]
    Status(StatusCode),
    #[error(
        "expected {{\"noticeResult\":\"SUCCESS\"}}, found content-encoding, which was not asked for"
    )]
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
    /// Whether no byte left, and not because of the merchant (H1). Kept back because this merchant
    /// has as many connections as it may is not that: it is slow.
    pub(super) fn is_our_shortage(&self) -> bool {
        matches!(
            self,
            Self::NoKeyPermit | Self::NoAnswer(SendError::LocalShortage(_))
        )
    }
}

/// Only HTTP 2xx, whole, with `noticeResult: SUCCESS`, ends delivery (R-A3.3-2). A byte order mark
/// and white space around it mean nothing (RFC 8259, 8.1).
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
            unreadable("no UTF-8")
        }
    })?;
    // White space may stand on both sides of the mark.
    let is_nothing = |message: char| message.is_whitespace() || message == '\u{feff}';
    let text = text.trim_matches(is_nothing);
    if text.is_empty() {
        return Err(Unacknowledged::Empty);
    }
    let notice: MerchantAcknowledgement = serde_json::from_str(text).map_err(|fault| {
        unreadable(match fault.classify() {
            Category::Data => "no noticeResult in it, or not once and as text",
            Category::Eof => "it ends in the middle",
            Category::Io | Category::Syntax => "no JSON",
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

    fn said(status: u16, body: &[u8]) -> String {
        let answer = Response::builder().status(status);
        let answer = answer.body(Bytes::copy_from_slice(body)).unwrap();
        match is_acknowledged(&Ok(answer)) {
            Ok(()) => "heard".to_owned(),
            Err(reason) => reason.to_string(),
        }
    }

    /// R-A3.3-2: what servers in the field put around the word does not hide it, and nothing else
    /// is taken for it; each reason says what was expected and what was found.
    #[test]
    fn text_around_success_does_not_hide_it() {
        for body in [
            "{\"noticeResult\":\"SUCCESS\"}",
            "\u{feff}{\"noticeResult\":\"SUCCESS\"}",
            "\r\n\u{feff} {\"noticeResult\" : \"SUCCESS\", \"time\": 1}\n\n",
            "\u{3000}{\"noticeResult\":\"SUCCESS\"}\u{a0}",
        ] {
            assert_eq!(said(200, body.as_bytes()), "heard", "{body:?}");
        }
        for (status, body, reason) in [
            (200, "", "an empty body"),
            (200, "\u{feff}\n", "an empty body"),
            (200, "SUCCESS", "no JSON"),
            (200, "{\"noticeResult\":\"SUCCESS\"", "ends in the middle"),
            (200, "{\"noticeResult\":\"SUCCESS\"}{}", "no JSON"),
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
            let told = said(status, body.as_bytes());
            assert!(told.contains(reason), "{body:?}: {told}");
        }
        assert!(said(200, b"\x1f\x8b").contains("no UTF-8"));
    }
}
