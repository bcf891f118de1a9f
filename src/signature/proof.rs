//! Verifies the signature of a message against known keys (Q2, Q3). Checks neither freshness nor
//! the nonce, and trusts nothing in a message before its signature.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

use crate::signature::covered::Part;
use crate::signature::digest;
use crate::signature::fault::{SignatureFault, shown};
use crate::signature::field::{self, Input};
use crate::signature::key::Algorithm;
use crate::signature::key_ring::{EnrolledKey, KeyRing};
use crate::signature::message::{Message, MessageHead};
use crate::signature::{Question, REQUEST_PARTS, SIGNATURE, SIGNATURE_INPUT, signatures};

/// A message with a verified signature, and its signature parameters.
///
/// Freshness is not proven: check `created_s`, `expires_s` and `nonce`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The key.
    pub key_id: String,
    /// The enrolled owner of the key.
    pub owner: String,
    /// The key's algorithm; a shared secret proves less than a private key.
    pub algorithm: Algorithm,
    /// The label of the signature.
    pub label: String,
    /// Creation time by the signer's clock. Unit: Unix seconds.
    pub created_s: i64,
    /// Expiry time set by the signer. Unit: Unix seconds.
    pub expires_s: Option<i64>,
    /// The nonce as sent, any text.
    pub nonce: Option<String>,
}

/// Verifies who signed a request (Q2, Q3).
///
/// Requires raw body and fields, unmodified, and the absolute `target_uri` that the caller must
/// have used.
///
/// # Errors
/// [`SignatureFault`]; nothing in the message may then be trusted.
pub fn verify_request(
    request: &Request<Bytes>,
    target_uri: &str,
    keys: &KeyRing,
    now_s: i64,
) -> Result<Proven, SignatureFault> {
    let (proven, validity) = verify_whenever(request, target_uri, keys, now_s)?;
    validity.map(|()| proven)
}

/// The same, with the key's validity as a separate result: a signer with an invalid key is still
/// identified, so that it can be refused permanently.
///
/// # Errors
/// As [`verify_request`], except for the key's validity.
pub fn verify_whenever(
    request: &Request<Bytes>,
    target_uri: &str,
    keys: &KeyRing,
    now_s: i64,
) -> Result<(Proven, Result<(), SignatureFault>), SignatureFault> {
    let head = MessageHead::Request {
        method: request.method(),
        target_uri,
    };
    let message = Message {
        head,
        headers: request.headers(),
        question: None,
    };
    prove_whenever(&message, &REQUEST_PARTS, request.body(), keys, now_s)
}

/// The ids of the keys that a message says it is signed with. Proves nothing.
pub fn key_ids_named(headers: &HeaderMap) -> Vec<String> {
    let field = field::value(headers, &SIGNATURE_INPUT).ok().flatten();
    let inputs = field.as_deref().map(field::inputs);
    let inputs = inputs.and_then(Result::ok).unwrap_or_default();
    let ids = inputs.into_iter().filter_map(|input| input.key_id);
    ids.map(Cow::into_owned).collect()
}

/// Proves who signed an answer, and that it answers this question and no other.
///
/// # Errors
/// As [`verify_request`].
pub fn verify_response(
    response: &Response<Bytes>,
    question: &Question,
    keys: &KeyRing,
    now_s: i64,
) -> Result<Proven, SignatureFault> {
    let head = MessageHead::Answer {
        status: response.status(),
    };
    let message = Message {
        head,
        headers: response.headers(),
        question: Some(question),
    };
    prove(
        &message,
        &question.answer_parts(),
        response.body(),
        keys,
        now_s,
    )
}

pub(super) fn prove(
    message: &Message<'_>,
    required: &[Part<'_>],
    body: &[u8],
    keys: &KeyRing,
    now_s: i64,
) -> Result<Proven, SignatureFault> {
    let (proven, validity) = prove_whenever(message, required, body, keys, now_s)?;
    validity.map(|()| proven)
}

/// Order matters: cheap checks first, then the signature; only the key's validity is checked after
/// it.
fn prove_whenever(
    message: &Message<'_>,
    required: &[Part<'_>],
    body: &[u8],
    keys: &KeyRing,
    now_s: i64,
) -> Result<(Proven, Result<(), SignatureFault>), SignatureFault> {
    let input_field = field::value(message.headers, &SIGNATURE_INPUT)?;
    let signature_field = field::value(message.headers, &SIGNATURE)?;
    let (input_field, signature_field) = match (input_field, signature_field) {
        (Some(input), Some(signature)) => (input, signature),
        (None, None) => return Err(SignatureFault::Unsigned),
        (Some(_), None) | (None, Some(_)) => {
            return Err(SignatureFault::Malformed(
                "Signature-Input and Signature go together",
            ));
        }
    };
    let (input, enrolled) = find_known(field::inputs(&input_field)?, keys)?;
    let signature = signatures(&signature_field)?
        .into_iter()
        .find_map(|(label, bytes)| (label == input.label).then_some(bytes))
        .ok_or(SignatureFault::Malformed(
            "Signature lacks a label of Signature-Input",
        ))?;
    if let Some(fault) = input.fault {
        return Err(SignatureFault::Malformed(fault));
    }
    let created_s = input
        .created_s
        .ok_or(SignatureFault::ParameterMissing("created"))?;
    check_algorithm(&input, enrolled)?;
    input.covered.require(required)?;
    let base = input.covered.base(message)?;
    digest::check(message.headers, body)?;
    if !enrolled.key.verifies(base.as_bytes(), &signature) {
        return Err(SignatureFault::SignatureMismatch { base });
    }
    let validity = check_validity(enrolled, created_s, now_s);
    let proven = Proven {
        key_id: enrolled.id.clone(),
        owner: enrolled.owner.clone(),
        algorithm: enrolled.key.algorithm(),
        label: input.label.to_owned(),
        created_s,
        expires_s: input.expires_s,
        nonce: input.nonce.map(Cow::into_owned),
    };
    Ok((proven, validity))
}

/// The signature that names a known key; signatures with unknown keys are ignored.
fn find_known<'f, 'k>(
    inputs: Vec<Input<'f>>,
    keys: &'k KeyRing,
) -> Result<(Input<'f>, &'k EnrolledKey), SignatureFault> {
    let mut known = None;
    let mut unknown = None;
    for input in inputs {
        let named = input.key_id.as_deref().unwrap_or_default();
        match (keys.key(named), &known) {
            (Some(key), None) => known = Some((input, key)),
            (Some(_), Some(_)) => return Err(SignatureFault::TooManySignatures),
            (None, _) => unknown = unknown.or_else(|| Some(shown(named))),
        }
    }
    known.ok_or_else(|| SignatureFault::KeyUnknown {
        named: unknown.unwrap_or_default(),
    })
}

fn check_algorithm(input: &Input<'_>, enrolled: &EnrolledKey) -> Result<(), SignatureFault> {
    let expected = enrolled.key.algorithm();
    match input.algorithm.as_deref() {
        Some(named) if named != expected.name() => Err(SignatureFault::AlgorithmMismatch {
            named: shown(named),
            expected,
        }),
        Some(_) | None => Ok(()),
    }
}

/// A message created before the key was valid stays invalid afterwards.
fn check_validity(
    enrolled: &EnrolledKey,
    created_s: i64,
    now_s: i64,
) -> Result<(), SignatureFault> {
    let key_id = || enrolled.id.clone();
    let (not_before_s, not_after_s) = (enrolled.not_before_s, enrolled.not_after_s);
    if now_s.min(created_s) < not_before_s {
        return Err(SignatureFault::KeyNotYetValid {
            key_id: key_id(),
            not_before_s,
        });
    }
    if now_s > not_after_s {
        return Err(SignatureFault::KeyExpired {
            key_id: key_id(),
            not_after_s,
        });
    }
    Ok(())
}
