//! The signature base of a signed message, for diagnosing why two sides disagree. Verifies nothing.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

use crate::signature::field;
use crate::signature::message::{Message, MessageHead};
use crate::signature::{Question, SIGNATURE_INPUT};

/// The signature base of the first signature of a request; `None` if there is none, or it is
/// unreadable.
pub fn request_base(request: &Request<Bytes>, target_uri: &str) -> Option<String> {
    let head = MessageHead::Request {
        method: request.method(),
        target_uri,
    };
    base(request.headers(), head, None)
}

/// The same for a response, which may be bound to its request.
pub fn response_base(response: &Response<Bytes>, question: Option<&Question>) -> Option<String> {
    let head = MessageHead::Answer {
        status: response.status(),
    };
    base(response.headers(), head, question)
}

fn base(headers: &HeaderMap, head: MessageHead<'_>, question: Option<&Question>) -> Option<String> {
    let field = field::value(headers, &SIGNATURE_INPUT).ok()??;
    let inputs = field::inputs(&field).ok()?;
    let message = Message {
        head,
        headers,
        question,
    };
    inputs.first()?.covered.base(&message).ok()
}
