//! HTTP Message Signatures (RFC 9421) with `Content-Digest` (RFC 9530), over raw bytes, both ways:
//! what is covered, by which key (Q2, Q3). Reads no clock and no field of a body; whether a message is
//! recent, and its nonce new, is for the caller to judge.

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

/// The label of the signatures we make; any other is understood.
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

/// What a request's signature has to cover (Q2): scheme, authority, path and query are `@target-uri`.
const REQUEST_PARTS: [Part<'static>; 4] = [
    Part::own("@method"),
    Part::own("@target-uri"),
    Part::own("content-digest"),
    Part::own("content-type"),
];

/// What an answer's signature has to cover.
const ANSWER_PARTS: [Part<'static>; 3] = [
    Part::own("@status"),
    Part::own("content-digest"),
    Part::own("content-type"),
];

/// What the signer of a request says beside the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covering<'a> {
    /// When it is signed. Unit: Unix seconds.
    pub created_s: i64,
    /// After when it must not be believed. Unit: Unix seconds.
    pub expires_s: Option<i64>,
    /// What makes it new: printable ASCII.
    pub nonce: Option<&'a str>,
}

/// What an answer is bound to: the parts of the request that tell it from every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    method: Method,
    target_uri: String,
    content_digest: String,
    label: String,
    /// The signature as its member of the field reads, colons included.
    signature: String,
}

impl Question {
    /// What an answer to this request is bound to; nothing if the request is not signed, or unreadably.
    ///
    /// Of several signatures the first: it is the sender's own, others are added on the way.
    pub fn of(request: &Request<Bytes>, target_uri: &str) -> Option<Self> {
        Self::find(request, target_uri, None)
    }

    /// The same under a label: the signature that was proven, which need not be the first.
    pub fn under(request: &Request<Bytes>, target_uri: &str, label: &str) -> Option<Self> {
        Self::find(request, target_uri, Some(label))
    }

    fn find(request: &Request<Bytes>, target_uri: &str, wanted: Option<&str>) -> Option<Self> {
        let content_digest = field::value(request.headers(), &CONTENT_DIGEST)
            .ok()??
            .into_owned();
        let field = field::value(request.headers(), &SIGNATURE).ok()??;
        let (label, bytes) = signatures(&field)
            .ok()?
            .into_iter()
            .find(|(label, _)| wanted.is_none_or(|wanted| wanted == &**label))?;
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
            Part::asked("@method"),
            Part::asked("@target-uri"),
            Part::asked("content-digest"),
            Part::asked_signature(&self.label),
        ]
    }
}

/// Signs a request: sets `Content-Digest`, `Signature-Input` and `Signature`, whatever they were.
///
/// Shape: the body as it will be sent, `Content-Type` set; `target_uri` absolute, because a request
/// names only its path. Answers the signature base, for those who want to see it.
///
/// # Errors
/// [`SignatureFault::ComponentAbsent`] without `Content-Type`; [`SignatureFault::Malformed`] for a
/// nonce, moment or target that cannot be written; [`SignatureFault::NotSigned`].
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

/// Signs an answer, bound to its question if there is one: sets the same fields as [`sign_request`].
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
            .map_err(|_| SignatureFault::Malformed("a moment has more than fifteen digits"))
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
