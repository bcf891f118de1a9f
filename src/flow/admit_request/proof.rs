//! Verifies a request's signature: the target URI that it must cover, its key and its nonce.

use std::time::Duration;

use bytes::Bytes;
use http::Request;

use crate::domain::identifiers::{FreshNonce, KeyId, MerchantId, Timestamp};
use crate::domain::merchant::Merchant;
use crate::domain::refusal::Refusal;
use crate::flow::admit_request::{AdmissionPolicy, AdmissionRequest};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::signature::{self, Algorithm, Proven, SignatureFault};

/// A nonce is remembered this long after the signature's `expires` (Q5).
const NONCE_KEPT_AFTER_EXPIRY: Duration = Duration::from_mins(1);

/// The caller that signed, and the parameters of the signature.
pub(super) struct SignedCaller<'a> {
    pub(super) merchant: &'a Merchant,
    pub(super) label: Box<str>,
    pub(super) key: Box<str>,
    pub(super) algorithm: Algorithm,
    pub(super) created_s: i64,
    pub(super) expires_s: Option<i64>,
    /// Whether the key is valid at this moment.
    pub(super) counts: Result<(), Refusal>,
    /// The nonce to spend, or why it is malformed.
    pub(super) nonce: Result<FreshNonce, Refusal>,
}

/// Authenticates the caller by its signature.
pub(super) fn prove<'a>(
    admission: &AdmissionPolicy,
    snapshot: &'a ConfigurationSnapshot,
    request: &Request<Bytes>,
    caller: &AdmissionRequest,
    now: Timestamp,
) -> Result<SignedCaller<'a>, Refusal> {
    let target = target_uri(snapshot, request)?;
    let (proven, counts) =
        signature::verify_whenever(request, &target, &snapshot.keys, now.seconds())
            .map_err(|fault| explained(admission, snapshot, caller, refusal(fault)))?;
    let merchant = MerchantId::parse(&proven.owner)
        .ok()
        .and_then(|id| snapshot.routing.merchants.get(&id))
        .ok_or(Refusal::KeyUnknown)?;
    Ok(SignedCaller {
        merchant,
        label: proven.label.as_str().into(),
        key: proven.key_id.as_str().into(),
        algorithm: proven.algorithm,
        created_s: proven.created_s,
        expires_s: proven.expires_s,
        counts: counts.map_err(refusal),
        nonce: nonce_of(&proven),
    })
}

/// The target URI as it must have been signed: our origin and the request's path and query.
///
/// # Errors
/// The request names another authority, or none (421).
fn target_uri(
    snapshot: &ConfigurationSnapshot,
    request: &Request<Bytes>,
) -> Result<String, Refusal> {
    let origin = snapshot.platform.origin.as_str();
    let ours = origin.strip_prefix("https://").unwrap_or(origin);
    let mut hosts = request.headers().get_all(http::header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let named = request.uri().authority().map(http::uri::Authority::as_str);
    let agrees = |name: Option<&str>| {
        name.is_some_and(|name| {
            name.eq_ignore_ascii_case(ours)
                || name
                    .strip_suffix(":443")
                    .is_some_and(|bare| bare.eq_ignore_ascii_case(ours))
        })
    };
    if hosts.next().is_some() || !agrees(host) || (named.is_some() && !agrees(named)) {
        return Err(Refusal::AuthorityWrong {
            expected: origin.into(),
        });
    }
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    Ok(format!("{origin}{path}"))
}

/// Omits the signature base from a refusal when the caller's limit for it is used up. Only a
/// message that names an existing key gets this far, and a base contains only parts of the message.
fn explained(
    admission: &AdmissionPolicy,
    snapshot: &ConfigurationSnapshot,
    caller: &AdmissionRequest,
    refusal: Refusal,
) -> Refusal {
    let Refusal::SignatureMismatch { base } = refusal else {
        return refusal;
    };
    let digest = caller.certificate.map(|shown| shown.digest);
    let enrolled = digest.filter(|digest| snapshot.knows_certificate(digest));
    let base = base.filter(|_| admission.explained.allow(caller.address, enrolled.as_ref()));
    Refusal::SignatureMismatch { base }
}

fn refusal(fault: SignatureFault) -> Refusal {
    match fault {
        SignatureFault::KeyUnknown { .. } => Refusal::KeyUnknown,
        SignatureFault::KeyNotYetValid { .. } | SignatureFault::KeyExpired { .. } => {
            Refusal::KeyExpired
        }
        SignatureFault::DigestMismatch { .. } => Refusal::DigestMismatch,
        SignatureFault::SignatureMismatch { base } => Refusal::SignatureMismatch {
            base: Some(base.into()),
        },
        SignatureFault::Unsigned
        | SignatureFault::Malformed(_)
        | SignatureFault::CoversTooLittle { .. }
        | SignatureFault::ParameterMissing(_)
        | SignatureFault::UnsupportedComponent(_)
        | SignatureFault::ComponentAbsent(_)
        | SignatureFault::TooManySignatures
        | SignatureFault::AlgorithmMismatch { .. }
        | SignatureFault::NotSigned => Refusal::SignatureUnusable(fault.to_string().into()),
    }
}

/// Parses the nonce of a signature (Q5).
fn nonce_of(proven: &Proven) -> Result<FreshNonce, Refusal> {
    let plain = |nonce: &&str| {
        (16..=64).contains(&nonce.len())
            && nonce
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let nonce = proven.nonce.as_deref().filter(plain);
    let value = nonce.ok_or(Refusal::NonceMalformed)?;
    let until = Timestamp::from_s(proven.expires_s.unwrap_or(proven.created_s));
    Ok(FreshNonce {
        key: KeyId::parse(&proven.key_id).map_err(|_| Refusal::KeyUnknown)?,
        value: value.into(),
        created: Timestamp::from_s(proven.created_s),
        keep_until: until.plus(NONCE_KEPT_AFTER_EXPIRY),
    })
}
