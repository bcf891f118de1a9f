//! Who is it, how often, is it recent, is it new? The checks of Q1 behind size and syntax, top to
//! bottom.
//!
//! `Admitted` is made here and nowhere else, and holding one is the proof. Its nonce is spent by
//! the change that the request causes, not here (Q5).

mod read_nonces;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;

use crate::domain::change::{Cause, Change};
use crate::domain::identifiers::{FreshNonce, KeyId, MerchantId, Timestamp};
use crate::domain::merchant::{Admission, ClientCertificate, Merchant, ShownCertificate};
use crate::domain::refusal::Refusal;
pub use crate::flow::admit_request::read_nonces::ReadNonces;
use crate::flow::register::Register;
use crate::limits::{Explained, Limits, Wait};
use crate::signature::{self, Algorithm, Proven, SignatureFault};
use crate::store::{Committed, Store};

/// A nonce is remembered this long after the signature's `expires` (Q5).
const NONCE_KEPT_AFTER: Duration = Duration::from_mins(1);

/// How far a request's times may lie from ours. Unit: seconds. Source: `interface.md`, Details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// `created` at most so long ago.
    pub created_past_s: i64,
    /// `created` at most so far ahead.
    pub created_ahead_s: i64,
    /// `expires` at most so long after `created`.
    pub expires_max_s: i64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            created_past_s: 300,
            created_ahead_s: 30,
            expires_max_s: 300,
        }
    }
}

/// What a request wants, as far as admission cares (R-4-3, R-6.3.2-4b).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Starts something new; suspended merchants may not.
    Start,
    /// Continues or ends what is there.
    Continue,
}

/// Proof that a merchant asked this, recently and, as far as this process knows, for the first
/// time. Neither `Clone` nor `Copy`: one admission, one effect.
#[derive(Debug)]
pub struct Admitted {
    merchant: MerchantId,
    nonce: FreshNonce,
    label: Box<str>,
    at: Timestamp,
}

impl Admitted {
    /// Who asks.
    pub fn merchant(&self) -> &MerchantId {
        &self.merchant
    }

    /// The label of the signature that proved it: what the answer is bound to.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What the change it causes must spend.
    pub fn into_cause(self) -> Cause {
        Cause::Request(self.nonce)
    }

    /// Spends the nonce of a request that reads only, in memory (Q5).
    ///
    /// # Errors
    /// It was spent before.
    pub fn into_reader(self, reads: &ReadNonces) -> Result<MerchantId, Refusal> {
        if reads.spend(&self.nonce, self.at) {
            Ok(self.merchant)
        } else {
            Err(Refusal::NonceSpent)
        }
    }
}

/// What every request passes: how often one may knock, and how far its times may lie from ours.
pub struct Gate {
    /// Rates, by caller before the signature and by merchant after it.
    pub limits: Arc<Limits>,
    /// Time window of signatures.
    pub window: Window,
    /// How often somebody whose signature does not fit is shown what we computed.
    pub explained: Explained,
}

/// Who knocks, as far as the connection tells, and what for.
#[derive(Debug, Clone, Copy)]
pub struct Knock {
    /// Where the connection comes from.
    pub address: IpAddr,
    /// The client certificate, whose handshake proved its key.
    pub certificate: Option<ShownCertificate>,
    /// What the request wants.
    pub purpose: Purpose,
}

/// Counts whoever knocks, whatever for, before anything is read or looked up (Q1). A certificate
/// that is nobody's costs nothing to make: its bearer counts by address.
///
/// # Errors
/// Too often; nothing was recorded.
pub fn knock(
    gate: &Gate,
    register: &Register,
    address: IpAddr,
    certificate: Option<ShownCertificate>,
) -> Result<(), Refusal> {
    let digest = certificate.map(|shown| shown.digest);
    let enrolled = digest.filter(|digest| register.knows_certificate(digest));
    let counted = gate.limits.knock(address, enrolled.as_ref());
    counted.map_err(|Wait(wait)| Refusal::TooOften { wait })
}

/// Judges key, signature, time, certificate and rate of a request whose size and syntax are known
/// good, in the order of Q1.
///
/// # Errors
/// The first check that fails. `proven` says whether the caller was known by then, so that the
/// refusal can be signed.
pub fn admit_request(
    gate: &Gate,
    register: &Register,
    request: &Request<Bytes>,
    knock: &Knock,
    times: Times,
) -> Result<Admitted, Refused> {
    let target = target_uri(register, request).map_err(Refused::stranger)?;
    let proven =
        signature::verify_request(request, &target, &register.keys, times.now.seconds())
            .map_err(|fault| Refused::stranger(explained(gate, register, knock, refusal(fault))))?;
    let merchant = MerchantId::parse(&proven.owner)
        .ok()
        .and_then(|id| register.directory.merchants.get(&id))
        .ok_or(Refused::stranger(Refusal::KeyUnknown))?;
    let label: Box<str> = proven.label.as_str().into();
    let known = |refusal| Refused {
        refusal,
        proven: Some(label.clone()),
    };
    let nonce = fresh_nonce(&proven, &gate.window, times).map_err(known)?;
    let shown = knock.certificate.as_ref();
    check_certificate(merchant, shown, proven.algorithm, times.now).map_err(known)?;
    gate.limits
        .admit(&merchant.id)
        .map_err(|Wait(wait)| known(Refusal::TooOften { wait }))?;
    let admitted = match (merchant.admission, knock.purpose) {
        (Admission::Admitted, _) | (Admission::Suspended, Purpose::Continue) => true,
        (Admission::Applied, _) | (Admission::Suspended, Purpose::Start) => false,
    };
    if !admitted {
        return Err(known(Refusal::MerchantNotAdmitted));
    }
    Ok(Admitted {
        merchant: merchant.id.clone(),
        nonce,
        label,
        at: times.now,
    })
}

/// The moment of the judgement and the durable replay floor.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Now.
    pub now: Timestamp,
    /// Requests created at or before it are refused, whatever the clock says (Q6).
    pub floor: Timestamp,
}

/// A refusal, and whether it may be signed because the caller had been proven by then.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is answered.
    pub refusal: Refusal,
    /// The label of the signature, if it was good.
    pub proven: Option<Box<str>>,
}

impl Refused {
    fn stranger(refusal: Refusal) -> Self {
        Self {
            refusal,
            proven: None,
        }
    }
}

/// The target URI as it must have been signed: our origin and the request's path and query.
///
/// # Errors
/// The request names another authority, or none (421).
fn target_uri(register: &Register, request: &Request<Bytes>) -> Result<String, Refusal> {
    let origin = register.platform.origin.as_str();
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

/// Leaves the signature base out of a refusal where the caller was shown enough of them lately. Only
/// a message that names an existing key gets this far, and a base holds nothing but its own parts.
fn explained(gate: &Gate, register: &Register, knock: &Knock, refusal: Refusal) -> Refusal {
    let Refusal::SignatureMismatch { base } = refusal else {
        return refusal;
    };
    let digest = knock.certificate.map(|shown| shown.digest);
    let enrolled = digest.filter(|digest| register.knows_certificate(digest));
    let base = base.filter(|_| gate.explained.once_more(knock.address, enrolled.as_ref()));
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

/// Time window, replay floor, shape of the nonce (Q5, Q6).
fn fresh_nonce(proven: &Proven, window: &Window, times: Times) -> Result<FreshNonce, Refusal> {
    let created = Timestamp::from_s(proven.created_s);
    let now_s = times.now.seconds();
    if proven.created_s > now_s.saturating_add(window.created_ahead_s) {
        return Err(Refusal::OutsideWindow(
            "created lies in the future; set the clock that signs",
        ));
    }
    if proven.created_s < now_s.saturating_sub(window.created_past_s) {
        return Err(Refusal::OutsideWindow(
            "created is too long ago; sign each request anew",
        ));
    }
    if created <= times.floor {
        return Err(Refusal::OutsideWindow(
            "created is before what this gateway still remembers",
        ));
    }
    let Some(expires_s) = proven.expires_s else {
        return Err(Refusal::OutsideWindow(
            "the signature needs the parameter expires",
        ));
    };
    if expires_s > proven.created_s.saturating_add(window.expires_max_s) {
        return Err(Refusal::OutsideWindow("expires is too long after created"));
    }
    if expires_s < now_s || expires_s < proven.created_s {
        return Err(Refusal::OutsideWindow(
            "the signature has expired; sign each request anew",
        ));
    }
    let plain = |nonce: &&str| {
        (16..=64).contains(&nonce.len())
            && nonce
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let value = proven
        .nonce
        .as_deref()
        .filter(plain)
        .ok_or(Refusal::NonceMalformed)?;
    Ok(FreshNonce {
        key: KeyId::parse(&proven.key_id).map_err(|_| Refusal::KeyUnknown)?,
        value: value.into(),
        created,
        keep_until: Timestamp::from_s(expires_s).plus(NONCE_KEPT_AFTER),
    })
}

/// Q4: certificate and key belong to the same merchant. Asked of each request, because what was
/// enrolled and in force at the handshake need not be so any more. A shared secret proves too little
/// by itself (R-6.3.1-1b): beside it a certificate is needed, whatever the merchant's connections
/// else show.
fn check_certificate(
    merchant: &Merchant,
    shown: Option<&ShownCertificate>,
    algorithm: Algorithm,
    now: Timestamp,
) -> Result<(), Refusal> {
    let wanted = if algorithm.is_shared() {
        ClientCertificate::Required
    } else {
        merchant.client_certificate
    };
    match (wanted, shown) {
        (ClientCertificate::Off, _) | (ClientCertificate::Optional, None) => Ok(()),
        (ClientCertificate::Required, None) if algorithm.is_shared() => Err(Refusal::SecretAlone),
        (ClientCertificate::Required, None) => Err(Refusal::CertificateMissing),
        (ClientCertificate::Required | ClientCertificate::Optional, Some(shown)) => {
            if !merchant.certificates.contains(&shown.digest) {
                Err(Refusal::CertificateForeign)
            } else if shown.is_in_force(now) {
                Ok(())
            } else {
                Err(Refusal::CertificateExpired)
            }
        }
    }
}

/// Spends the nonce of a request whose effect is an answer or a refusal only (Q5), and gives back
/// what is to be answered: the refusal, unless the nonce itself turns out to be spent.
pub async fn refuse(store: &dyn Store, refused: (Refusal, Cause), now: Timestamp) -> Refusal {
    let (refusal, cause) = refused;
    let spends_none = matches!(
        refusal,
        Refusal::TooOften { .. }
            | Refusal::Unavailable
            | Refusal::OutcomeUnknown
            | Refusal::NonceSpent
    );
    if spends_none {
        return refusal;
    }
    match spend(store, cause, now).await {
        Ok(()) => refusal,
        Err(other) => other,
    }
}

/// Spends the nonce of a request that changed nothing else (Q5).
pub async fn spend(store: &dyn Store, cause: Cause, now: Timestamp) -> Result<(), Refusal> {
    let Cause::Request(nonce) = cause else {
        return Ok(());
    };
    match store.commit(&Change::spend(nonce, now)).await? {
        Committed::Done => Ok(()),
        Committed::NonceSpent => Err(Refusal::NonceSpent),
        Committed::Stale | Committed::KeyTaken => Err(Refusal::Contended),
    }
}
