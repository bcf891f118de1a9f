//! HTTP Message Signatures (RFC 9421) with `Content-Digest` (RFC 9530), over raw bytes, signing and
//! verifying: what is covered, and by which key (Q2, Q3). Reads no clock and no body field; whether
//! a message is recent and its nonce new is checked by the caller.

mod covered;
mod digest;
mod ecdsa;
mod ed25519;
mod fault;
mod field;
mod hmac;
mod key;
mod key_ring;
mod message;
mod proof;
mod rsa;
mod signature_base;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use sfv::{Integer, KeyRef, StringRef, key_ref};

use crate::signature::covered::{Covered, Part, push_parameter};
pub use crate::signature::digest::CONTENT_DIGEST;
pub use crate::signature::fault::{KeyFault, SignatureFault};
pub use crate::signature::key::{Algorithm, SigningKey, VerifyingKey};
pub use crate::signature::key_ring::{EnrolledKey, KeyRing};
use crate::signature::message::{Message, MessageHead};
pub use crate::signature::proof::{
    Proven, key_ids_named, verify_request, verify_response, verify_whenever,
};
pub use crate::signature::signature_base::{request_base, response_base};

/// The label of our own signatures; any label is accepted.
pub const LABEL: &str = "sig1";

/// The field that says what signatures cover (RFC 9421, section 4.1).
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// The field with the signatures themselves (RFC 9421, section 4.2).
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");

const CREATED: &KeyRef = key_ref("created");
const EXPIRES: &KeyRef = key_ref("expires");
const NONCE: &KeyRef = key_ref("nonce");
const KEY_ID: &KeyRef = key_ref("keyid");

const SIGNATURE_FAULT: &str = "Signature is not a dictionary of byte sequences without parameters";

/// Components that a request signature must cover (Q2): `@target-uri` is scheme, authority, path
/// and query.
const REQUEST_PARTS: [Part<'static>; 4] = [
    Part::own("@method"),
    Part::own("@target-uri"),
    Part::own("content-digest"),
    Part::own("content-type"),
];

/// Components that a response signature must cover.
const ANSWER_PARTS: [Part<'static>; 3] = [
    Part::own("@status"),
    Part::own("content-digest"),
    Part::own("content-type"),
];

/// Signature parameters of a request, set by the signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covering<'a> {
    /// Creation time. Unit: Unix seconds.
    pub created_s: i64,
    /// Expiry time. Unit: Unix seconds.
    pub expires_s: Option<i64>,
    /// Nonce: printable ASCII.
    pub nonce: Option<&'a str>,
}

/// The parts of a request that its response is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    method: Method,
    target_uri: String,
    content_digest: String,
    label: String,
    /// The signature as written in the field, colons included.
    signature: String,
}

impl Question {
    /// What a response to this request is bound to; `None` if the request is unsigned or its
    /// signature unreadable.
    ///
    /// Uses the first of several signatures: it is the sender's own, others are added by
    /// intermediaries.
    pub fn of(request: &Request<Bytes>, target_uri: &str) -> Option<Self> {
        Self::find(request, target_uri, None)
    }

    /// The same for a given label: that of the verified signature, which need not be the first.
    pub fn under(request: &Request<Bytes>, target_uri: &str, label: &str) -> Option<Self> {
        Self::find(request, target_uri, Some(label))
    }

    fn find(
        request: &Request<Bytes>,
        target_uri: &str,
        required_label: Option<&str>,
    ) -> Option<Self> {
        let content_digest = field::value(request.headers(), &CONTENT_DIGEST)
            .ok()??
            .into_owned();
        let field = field::value(request.headers(), &SIGNATURE).ok()??;
        let (label, bytes) = signatures(&field).ok()?.into_iter().find(|(label, _)| {
            required_label.is_none_or(|required_label| required_label == &**label)
        })?;
        Some(Self {
            method: request.method().clone(),
            target_uri: target_uri.to_owned(),
            content_digest,
            label: label.to_owned(),
            signature: byte_sequence(&bytes),
        })
    }

    fn answer_parts(&self) -> [Part<'_>; 7] {
        let [status, digest, media_type] = ANSWER_PARTS;
        [
            status,
            digest,
            media_type,
            Part::of_request("@method"),
            Part::of_request("@target-uri"),
            Part::of_request("content-digest"),
            Part::request_signature(&self.label),
        ]
    }
}

/// Signs a request: sets `Content-Digest`, `Signature-Input` and `Signature`, replacing existing
/// ones.
///
/// Requires the body as it will be sent, `Content-Type`, and an absolute `target_uri`, because a
/// request contains only its path. Returns the signature base.
///
/// # Errors
/// [`SignatureFault::ComponentAbsent`] without `Content-Type`; [`SignatureFault::Malformed`] for a
/// nonce, time or target that cannot be written; [`SignatureFault::NotSigned`].
pub fn sign_request(
    request: &mut Request<Bytes>,
    target_uri: &str,
    key: &SigningKey,
    with: &Covering<'_>,
) -> Result<String, SignatureFault> {
    let digest = digest::of(request.body());
    request
        .headers_mut()
        .insert(CONTENT_DIGEST, printable(digest)?);
    let covered = covering(&REQUEST_PARTS, key, with)?;
    let head = MessageHead::Request {
        method: request.method(),
        target_uri,
    };
    let message = Message {
        head,
        headers: request.headers(),
        question: None,
    };
    let base = covered.base(&message)?;
    attach(&covered.written, &base, key, request.headers_mut())?;
    Ok(base)
}

/// Signs a response, bound to its request if there is one: sets the same fields as
/// [`sign_request`].
///
/// # Errors
/// As [`sign_request`].
pub fn sign_response(
    response: &mut Response<Bytes>,
    question: Option<&Question>,
    key: &SigningKey,
    created_s: i64,
) -> Result<String, SignatureFault> {
    let digest = digest::of(response.body());
    response
        .headers_mut()
        .insert(CONTENT_DIGEST, printable(digest)?);
    let with = Covering {
        created_s,
        expires_s: None,
        nonce: None,
    };
    let covered = match question {
        Some(question) => covering(&question.answer_parts(), key, &with)?,
        None => covering(&ANSWER_PARTS, key, &with)?,
    };
    let head = MessageHead::Answer {
        status: response.status(),
    };
    let message = Message {
        head,
        headers: response.headers(),
        question,
    };
    let base = covered.base(&message)?;
    attach(&covered.written, &base, key, response.headers_mut())?;
    Ok(base)
}

fn covering<'a>(
    parts: &[Part<'a>],
    key: &SigningKey,
    with: &Covering<'_>,
) -> Result<Covered<'a>, SignatureFault> {
    let moment = |seconds: i64| {
        Integer::try_from(seconds)
            .map_err(|_| SignatureFault::Malformed("a time has more than fifteen digits"))
    };
    let text = |text| {
        StringRef::from_str(text)
            .map_err(|_| SignatureFault::Malformed("a nonce is not printable ASCII"))
    };
    let mut covered = Covered::of(parts);
    push_parameter(&mut covered.written, CREATED, moment(with.created_s)?);
    if let Some(expires_s) = with.expires_s {
        push_parameter(&mut covered.written, EXPIRES, moment(expires_s)?);
    }
    if let Some(nonce) = with.nonce {
        push_parameter(&mut covered.written, NONCE, text(nonce)?);
    }
    push_parameter(&mut covered.written, KEY_ID, text(key.id())?);
    Ok(covered)
}

fn attach(
    input: &str,
    base: &str,
    key: &SigningKey,
    headers: &mut HeaderMap,
) -> Result<(), SignatureFault> {
    let signature = key.sign(base.as_bytes()).ok_or(SignatureFault::NotSigned)?;
    headers.insert(SIGNATURE_INPUT, printable(format!("{LABEL}={input}"))?);
    headers.insert(
        SIGNATURE,
        printable(format!("{LABEL}={}", byte_sequence(&signature)))?,
    );
    Ok(())
}

/// The members of `Signature`, in order.
fn signatures(field: &str) -> Result<Vec<(&str, Vec<u8>)>, SignatureFault> {
    let read = field::byte_sequences(field, SIGNATURE_FAULT)?;
    if read.has_parameters {
        return Err(SignatureFault::Malformed(SIGNATURE_FAULT));
    }
    Ok(read.members)
}

fn byte_sequence(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(96);
    text.push(':');
    STANDARD.encode_string(bytes, &mut text);
    text.push(':');
    text
}

fn printable(value: String) -> Result<HeaderValue, SignatureFault> {
    HeaderValue::try_from(value)
        .map_err(|_| SignatureFault::Malformed("a field to be written is not printable ASCII"))
}
