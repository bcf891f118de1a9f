//! Admission: authentication, rate, time window and nonce, in the order of Q1, after the checks of
//! size and syntax.
//!
//! Only this file creates `Admitted`, so holding one is the proof. Its nonce is spent by the change
//! that the request causes, or with the refusal that it gets, here or later (Q5).

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

/// How far a request's times may differ from ours. Unit: seconds. Source: `docs/openapi.yaml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureWindow {
    /// Maximum age of `created`.
    pub created_past_s: i64,
    /// How far `created` may lie in the future.
    pub created_ahead_s: i64,
    /// Maximum time from `created` to `expires`.
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

/// The purpose of a request, as far as admission needs it (R-4-3, R-6.3.2-4b).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestPurpose {
    /// Starts something new; suspended merchants may not.
    Start,
    /// Continues or ends existing work.
    Continue,
    /// Reads only: its nonce is spent in memory (Q5).
    Read,
}

/// Proof that a merchant sent this request recently and, as far as this process knows, for the
/// first time. Neither `Clone` nor `Copy`: one admission, one effect. A flow that holds it can end
/// only with [`SpentNonce`] or [`Refused`], and gets either only for the nonce in it.
#[must_use = "its nonce is not spent yet"]
#[derive(Debug)]
pub struct Admitted {
    merchant: MerchantId,
    nonce: FreshNonce,
    label: Box<str>,
    at: Timestamp,
}

impl Admitted {
    /// The merchant that sent the request.
    pub fn merchant(&self) -> &MerchantId {
        &self.merchant
    }

    /// The label of the verified signature, to which the reply is bound.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The key that signed it.
    pub fn key(&self) -> &KeyId {
        &self.nonce.key
    }

    /// The cause, with the nonce that the resulting change must spend.
    pub fn into_cause(self) -> ChangeCause {
        ChangeCause::Request(self.nonce)
    }

    /// Returns the parsed request, or spends the nonce with the refusal that parsing gave.
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
                Err(refuse(store, refusal, self.into_cause(), at).await)
            }
        }
    }

    /// Spends the nonce of a read-only request, in memory (Q5).
    ///
    /// # Errors
    /// It is already spent.
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

/// The policy of admission: rate limits, and the time window of signatures.
pub struct AdmissionPolicy {
    /// Rate limits, by caller before the signature is verified and by merchant after it.
    pub limits: Arc<CallerLimits>,
    /// Time window of signatures.
    pub window: SignatureWindow,
    /// How often a caller whose signature does not match is shown the signature base we computed.
    pub explained: ExplanationLimits,
}

/// The caller as seen from its connection, and the purpose of its request.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionRequest {
    /// The remote address of the connection.
    pub address: IpAddr,
    /// The client certificate; the handshake proved possession of its key.
    pub certificate: Option<ShownCertificate>,
    /// What the request is for.
    pub purpose: RequestPurpose,
}

/// Applies the rate limit of a caller before anything is read or looked up (Q1). A certificate that
/// is not enrolled costs nothing to make, so its bearer is counted by address.
///
/// # Errors
/// The rate limit is exceeded; nothing was recorded.
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

/// Checks key, signature, time, certificate and rate, in the order of Q1, after the checks of size
/// and syntax. A refusal after authentication spends the nonce just as success would, so that a
/// later configuration change does not make the refused request valid (Q5).
///
/// # Errors
/// The first check that fails. `proven` is set if the caller was authenticated by then, so that the
/// refusal can be signed.
pub async fn admit_request(
    admission: &AdmissionPolicy,
    snapshot: &ConfigurationSnapshot,
    spending: NonceSpending<'_>,
    request: &Request<Bytes>,
    caller: &AdmissionRequest,
    now: Timestamp,
) -> Result<Admitted, NotAdmitted> {
    let proof =
        prove(admission, snapshot, request, caller, now).map_err(NotAdmitted::unauthenticated)?;
    let forgotten = &*spending.store.replay_floor.forgotten();
    // A replay must not use up the merchant's rate limit.
    let checked = check_caller(admission, &proof, caller, AdmissionTimes { now, forgotten })
        .and_then(|()| spending.is_new(caller.purpose, &proof))
        .and_then(|()| count(admission, &proof, caller.purpose));
    let SignedCaller {
        merchant,
        label,
        key,
        nonce,
        ..
    } = proof;
    let refusal = match (checked, nonce) {
        (Ok(()), Ok(nonce)) => {
            return Ok(Admitted {
                merchant: merchant.id.clone(),
                nonce,
                label,
                at: now,
            });
        }
        // There is no nonce to spend, or nonces of its time are no longer remembered, so that it is
        // refused whatever the clock says (Q6).
        (Ok(()), Err(refusal)) | (Err(refusal), Err(_)) => refusal,
        (Err(refusal), Ok(nonce)) if forgotten.contains(nonce.created) => refusal,
        (Err(refusal), Ok(nonce)) => spending.refuse(caller.purpose, refusal, nonce, now).await,
    };
    Err(NotAdmitted {
        refusal,
        proven: Some(ProvenCaller { label, key }),
    })
}

/// Where nonces are spent.
#[derive(Clone, Copy)]
pub struct NonceSpending<'a> {
    /// For requests that can change something: durably, with the change.
    pub store: &'a Store,
    /// For read-only requests.
    pub reads: &'a ReadNonces,
}

impl NonceSpending<'_> {
    /// Checks the nonce against memory; the durable check follows when it is spent.
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
                refuse(self.store, refusal, ChangeCause::Request(nonce), now).await
            }
            RequestPurpose::Read => match spend_in_memory(self.reads, &nonce, now) {
                Ok(spent) => spent.refuse(refusal),
                Err(other) => other,
            },
        };
        refused.into_refusal()
    }
}

/// Checks key, time and certificate of an authenticated caller.
fn check_caller(
    admission: &AdmissionPolicy,
    proof: &SignedCaller<'_>,
    caller: &AdmissionRequest,
    times: AdmissionTimes<'_>,
) -> Result<(), Refusal> {
    let merchant = proof.merchant;
    proof.counts.clone()?;
    is_recent(proof, &admission.window, times)?;
    let shown = caller.certificate.as_ref();
    check_certificate(merchant, shown, proof.algorithm, times.now)
}

/// Checks rate and admission state of an authenticated merchant.
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

/// The time of admission, and the times whose nonces are forgotten.
#[derive(Debug, Clone, Copy)]
struct AdmissionTimes<'a> {
    now: Timestamp,
    /// Requests created in these times are refused, whatever the clock says (Q6).
    forgotten: &'a Forgotten,
}

/// A refusal, and whether it may be signed because the caller was authenticated by then.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAdmitted {
    /// The refusal to reply with.
    pub refusal: Refusal,
    /// The verified signature, if any.
    pub proven: Option<ProvenCaller>,
}

/// The signature that authenticated the caller.
#[derive(Debug, PartialEq, Eq)]
pub struct ProvenCaller {
    /// The label of the signature, to which the reply is bound.
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

/// Checks the time window and the replay floor (Q5, Q6).
fn is_recent(
    proof: &SignedCaller<'_>,
    window: &SignatureWindow,
    times: AdmissionTimes<'_>,
) -> Result<(), Refusal> {
    let (created_s, now_s) = (proof.created_s, times.now.seconds());
    if created_s > now_s.saturating_add(window.created_ahead_s) {
        return Err(Refusal::OutsideWindow(
            "created lies in the future; check the clock of the signer",
        ));
    }
    if created_s < now_s.saturating_sub(window.created_past_s) {
        return Err(Refusal::OutsideWindow(
            "created is too long ago; sign each request anew",
        ));
    }
    if times.forgotten.contains(Timestamp::from_s(created_s)) {
        return Err(Refusal::OutsideWindow(
            "created lies in a time whose nonces this gateway no longer remembers; sign anew",
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

/// Q4: certificate and key belong to the same merchant. Checked for each request, because enrolment
/// and validity may have changed since the handshake. A shared secret alone is not enough proof
/// (R-6.3.1-1b): it always needs a certificate too, whatever the merchant's setting.
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
