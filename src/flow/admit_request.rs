//! Who is it, how often, is it recent, is it new? The checks of Q1 behind size and syntax, top to
//! bottom.
//!
//! `Admitted` is made here and nowhere else, and holding one is the proof. Its nonce is spent by
//! the change that the request causes, or with the refusal that it gets, here or later (Q5).

mod proof;
mod read_nonces;
pub mod refused_callers;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;

use crate::domain::change::ChangeCause;
use crate::domain::identifiers::forgotten::Forgotten;
use crate::domain::identifiers::{FreshNonce, KeyId, MerchantId, Timestamp};
use crate::domain::merchant::{Admission, ClientCertificate, Merchant, ShownCertificate};
use crate::domain::refusal::Refusal;
use crate::flow::admit_request::proof::{SignedCaller, prove};
pub use crate::flow::admit_request::read_nonces::ReadNonces;
use crate::flow::answer::commit_once::{Refused, SpentNonce, refuse};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::limits::{CallerLimits, ExplanationLimits, Wait};
use crate::signature::Algorithm;
use crate::store::Store;

/// How far a request's times may lie from ours. Unit: seconds. Source: `interface.md`, Details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureWindow {
    /// `created` at most so long ago.
    pub created_past_s: i64,
    /// `created` at most so far ahead.
    pub created_ahead_s: i64,
    /// `expires` at most so long after `created`.
    pub expires_max_s: i64,
}

impl Default for SignatureWindow {
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
pub enum RequestPurpose {
    /// Starts something new; suspended merchants may not.
    Start,
    /// Continues or ends what is there.
    Continue,
    /// Reads only: its nonce is spent in memory (Q5).
    Read,
}

/// Proof that a merchant asked this, recently and, as far as this process knows, for the first
/// time. Neither `Clone` nor `Copy`: one admission, one effect. Whoever holds it can end with [`SpentNonce`]
/// or [`Refused`] only, and gets either only for the nonce in it.
#[must_use = "its nonce is not spent yet"]
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

    /// The key that proved it.
    pub fn key(&self) -> &KeyId {
        &self.nonce.key
    }

    /// What the change it causes must spend.
    pub fn into_cause(self) -> ChangeCause {
        ChangeCause::Request(self.nonce)
    }

    /// Goes on with what was read of the request, or spends the nonce for the refusal that came of it.
    ///
    /// # Errors
    /// That refusal.
    pub async fn with<T>(
        self,
        store: &Store,
        read: Result<T, Refusal>,
    ) -> Result<(Self, T), Refused> {
        match read {
            Ok(read) => Ok((self, read)),
            Err(refusal) => {
                let at = self.at;
                Err(refuse(store, (refusal, self.into_cause()), at).await)
            }
        }
    }

    /// Spends the nonce of a request that reads only, in memory (Q5).
    ///
    /// # Errors
    /// It was spent before.
    pub fn into_reader(self, reads: &ReadNonces) -> Result<(MerchantId, SpentNonce), Refused> {
        let spent = spend_in_memory(reads, &self.nonce, self.at)?;
        Ok((self.merchant, spent))
    }
}

fn spend_in_memory(
    reads: &ReadNonces,
    nonce: &FreshNonce,
    at: Timestamp,
) -> Result<SpentNonce, Refused> {
    let fresh = reads.spend(nonce, at);
    let spent = SpentNonce::in_memory();
    if fresh {
        Ok(spent)
    } else {
        Err(spent.refuse(Refusal::NonceSpent))
    }
}

/// What every request passes: how often one may knock, and how far its times may lie from ours.
pub struct AdmissionPolicy {
    /// Rates, by caller before the signature and by merchant after it.
    pub limits: Arc<CallerLimits>,
    /// Time window of signatures.
    pub window: SignatureWindow,
    /// How often somebody whose signature does not fit is shown what we computed.
    pub explained: ExplanationLimits,
}

/// Who knocks, as far as the connection tells, and what for.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionRequest {
    /// Where the connection comes from.
    pub address: IpAddr,
    /// The client certificate, whose handshake proved its key.
    pub certificate: Option<ShownCertificate>,
    /// What the request wants.
    pub purpose: RequestPurpose,
}

/// Counts whoever knocks, whatever for, before anything is read or looked up (Q1). A certificate
/// that is nobody's costs nothing to make: its bearer counts by address.
///
/// # Errors
/// Too often; nothing was recorded.
pub fn check_rate(
    admission: &AdmissionPolicy,
    snapshot: &ConfigurationSnapshot,
    address: IpAddr,
    certificate: Option<ShownCertificate>,
) -> Result<(), Refusal> {
    let digest = certificate.map(|shown| shown.digest);
    let enrolled = digest.filter(|digest| snapshot.knows_certificate(digest));
    let counted = admission.limits.check_rate(address, enrolled.as_ref());
    counted.map_err(|Wait(wait)| Refusal::TooOften { wait })
}

/// Judges key, signature, time, certificate and rate of a request whose size and syntax are known
/// good, in the order of Q1. Who is refused after the proof has spent the nonce, in the same place
/// as if nothing had been wrong, so that a later change of the enrolment does not make the refused
/// request good (Q5).
///
/// # Errors
/// The first check that fails. `proven` says whether the caller was known by then, so that the
/// refusal can be signed.
pub async fn admit_request(
    admission: &AdmissionPolicy,
    snapshot: &ConfigurationSnapshot,
    spending: NonceSpending<'_>,
    request: &Request<Bytes>,
    check_rate: &AdmissionRequest,
    now: Timestamp,
) -> Result<Admitted, NotAdmitted> {
    let proof = prove(admission, snapshot, request, check_rate, now)
        .map_err(NotAdmitted::unauthenticated)?;
    let forgotten = &*spending.store.replay_floor.forgotten();
    // Who only says again what was said before uses up nobody's allowance.
    let judged = judge(
        admission,
        &proof,
        check_rate,
        AdmissionTimes { now, forgotten },
    )
    .and_then(|()| spending.is_new(check_rate.purpose, &proof))
    .and_then(|()| count(admission, &proof, check_rate.purpose));
    let SignedCaller {
        merchant,
        label,
        key,
        nonce,
        ..
    } = proof;
    let refusal = match (judged, nonce) {
        (Ok(()), Ok(nonce)) => {
            return Ok(Admitted {
                merchant: merchant.id.clone(),
                nonce,
                label,
                at: now,
            });
        }
        // Whatever the clock says, it stays refused: there is nothing to be spent, or what was spent
        // then is forgotten (Q6).
        (Ok(()), Err(refusal)) | (Err(refusal), Err(_)) => refusal,
        (Err(refusal), Ok(nonce)) if forgotten.contains(nonce.created) => refusal,
        (Err(refusal), Ok(nonce)) => {
            spending
                .refuse(check_rate.purpose, refusal, nonce, now)
                .await
        }
    };
    Err(NotAdmitted {
        refusal,
        proven: Some(ProvenCaller { label, key }),
    })
}

/// Where nonces are spent.
#[derive(Clone, Copy)]
pub struct NonceSpending<'a> {
    /// Of requests that can change something: durably, with what they change.
    pub store: &'a Store,
    /// Of requests that read only.
    pub reads: &'a ReadNonces,
}

impl NonceSpending<'_> {
    /// As far as it is remembered here; what is durable decides when it is spent.
    fn is_new(&self, purpose: RequestPurpose, proof: &SignedCaller<'_>) -> Result<(), Refusal> {
        let is_spent = proof.nonce.as_ref().is_ok_and(|nonce| match purpose {
            RequestPurpose::Start | RequestPurpose::Continue => self.store.remembers(nonce),
            RequestPurpose::Read => self.reads.remember(nonce),
        });
        if is_spent {
            Err(Refusal::NonceSpent)
        } else {
            Ok(())
        }
    }

    async fn refuse(
        &self,
        purpose: RequestPurpose,
        refusal: Refusal,
        nonce: FreshNonce,
        now: Timestamp,
    ) -> Refusal {
        let refused = match purpose {
            RequestPurpose::Start | RequestPurpose::Continue => {
                refuse(self.store, (refusal, ChangeCause::Request(nonce)), now).await
            }
            RequestPurpose::Read => match spend_in_memory(self.reads, &nonce, now) {
                Ok(spent) => spent.refuse(refusal),
                Err(other) => other,
            },
        };
        refused.into_refusal()
    }
}

/// Key, time and certificate of somebody who is known.
fn judge(
    admission: &AdmissionPolicy,
    proof: &SignedCaller<'_>,
    check_rate: &AdmissionRequest,
    times: AdmissionTimes<'_>,
) -> Result<(), Refusal> {
    let merchant = proof.merchant;
    proof.counts.clone()?;
    is_recent(proof, &admission.window, times)?;
    let shown = check_rate.certificate.as_ref();
    check_certificate(merchant, shown, proof.algorithm, times.now)
}

/// Rate and standing of somebody who is known.
fn count(
    admission: &AdmissionPolicy,
    proof: &SignedCaller<'_>,
    purpose: RequestPurpose,
) -> Result<(), Refusal> {
    let merchant = proof.merchant;
    admission
        .limits
        .admit(&merchant.id)
        .map_err(|Wait(wait)| Refusal::TooOften { wait })?;
    match (merchant.admission, purpose) {
        (Admission::Admitted, _)
        | (Admission::Suspended, RequestPurpose::Continue | RequestPurpose::Read) => (),
        (Admission::Applied, _) | (Admission::Suspended, RequestPurpose::Start) => {
            return Err(Refusal::MerchantNotAdmitted);
        }
    }
    Ok(())
}

/// The moment of the judgement, and what is forgotten of others.
#[derive(Debug, Clone, Copy)]
struct AdmissionTimes<'a> {
    now: Timestamp,
    /// Requests created then are refused, whatever the clock says (Q6).
    forgotten: &'a Forgotten,
}

/// A refusal, and whether it may be signed because the caller had been proven by then.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAdmitted {
    /// What is answered.
    pub refusal: Refusal,
    /// The signature that was good, if one was.
    pub proven: Option<ProvenCaller>,
}

/// Who was proven by which signature.
#[derive(Debug, PartialEq, Eq)]
pub struct ProvenCaller {
    /// The label of the signature: what the answer is bound to.
    pub label: Box<str>,
    /// The id of the key.
    pub key: Box<str>,
}

impl NotAdmitted {
    fn unauthenticated(refusal: Refusal) -> Self {
        Self {
            refusal,
            proven: None,
        }
    }
}

/// Time window and forgotten moments (Q5, Q6).
fn is_recent(
    proof: &SignedCaller<'_>,
    window: &SignatureWindow,
    times: AdmissionTimes<'_>,
) -> Result<(), Refusal> {
    let (created_s, now_s) = (proof.created_s, times.now.seconds());
    if created_s > now_s.saturating_add(window.created_ahead_s) {
        return Err(Refusal::OutsideWindow(
            "created lies in the future; set the clock that signs",
        ));
    }
    if created_s < now_s.saturating_sub(window.created_past_s) {
        return Err(Refusal::OutsideWindow(
            "created is too long ago; sign each request anew",
        ));
    }
    if times.forgotten.contains(Timestamp::from_s(created_s)) {
        return Err(Refusal::OutsideWindow(
            "created lies in a time of which this gateway has forgotten what was used; sign anew",
        ));
    }
    let Some(expires_s) = proof.expires_s else {
        return Err(Refusal::OutsideWindow(
            "the signature needs the parameter expires",
        ));
    };
    if expires_s > created_s.saturating_add(window.expires_max_s) {
        return Err(Refusal::OutsideWindow(
            "expires is too long after created; [limits] expires_max_s says how long is allowed, 300 s unless changed",
        ));
    }
    if expires_s < now_s || expires_s < created_s {
        return Err(Refusal::OutsideWindow(
            "the signature has expired; sign each request anew",
        ));
    }
    Ok(())
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
