//! Notifications: an envelope that is signed, with a resource in it that is encrypted for one account.
//! And how each is answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use crate::crypto::aead::NONCE_BYTES;
use crate::domain::amount::Currency;
use crate::domain::evidence::{
    Ambiguity, Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment,
};
use crate::domain::fields::Fields;
use crate::domain::identifiers::{AttemptId, InstitutionId, RefundOrderNo};
use crate::institution::wechatpay::accounts::WechatAccount;
use crate::institution::wechatpay::payments::{needed, nested, optional, total};
use crate::institution::wechatpay::{payments, refunds};
use crate::institution::{Acknowledgement, Unverified};

/// The only cipher of the RSA scheme.
const CIPHER: &str = "AEAD_AES_256_GCM";

/// A verified notification, decrypted.
pub(super) struct Notification {
    event: String,
    plain: Vec<u8>,
    pub(super) about: EvidenceSubject,
}

impl Notification {
    /// Opens a notification whose signature was verified.
    ///
    /// # Errors
    /// It cannot be read, or was not encrypted with the key of this account; or it names no payment
    /// and no refund.
    pub(super) fn open(body: &[u8], account: &WechatAccount) -> Result<Self, Unverified> {
        let unreadable = |_| Unverified::Unreadable("unreadable");
        let envelope = Fields::parse(body).map_err(|_| Unverified::Unreadable("unreadable"))?;
        let event = needed(&envelope, "event_type").map_err(unreadable)?;
        let resource = nested(&envelope, "resource").map_err(unreadable)?;
        if needed(&resource, "algorithm").map_err(unreadable)? != CIPHER {
            return Err(Unverified::Unreadable("algorithm"));
        }
        let plain = opened(&resource, account).ok_or(Unverified::Unreadable("decryption"))?;
        let about = {
            let fields = Fields::parse(&plain).map_err(|_| Unverified::Unreadable("unreadable"))?;
            let kind = needed(&resource, "original_type").map_err(unreadable)?;
            subject(kind, event, &fields)?
        };
        Ok(Self {
            event: event.to_owned(),
            plain,
            about,
        })
    }

    /// What it proves. Without readable parties and sum it could be about anything.
    pub(super) fn evidence(
        self,
        institution: &InstitutionId,
        account: &WechatAccount,
        absent: Currency,
    ) -> Evidence {
        let mut evidence = Evidence {
            institution: institution.clone(),
            accounts: Some(vec![account.id.clone()]),
            receiver: None,
            about: self.about.clone(),
            by: EvidenceSource::Callback,
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: true,
            finding: Finding::Ambiguous(Ambiguity::Unreadable),
        };
        // It was read before.
        let Ok(fields) = Fields::parse(&self.plain) else {
            return evidence;
        };
        let read = match &self.about {
            EvidenceSubject::Attempt(_) => self.paid(&fields, account, absent, &mut evidence),
            EvidenceSubject::Refund(_) => self.refunded(&fields, account, absent, &mut evidence),
        };
        evidence.finding = read.unwrap_or_else(Finding::Ambiguous);
        evidence
    }

    fn paid(
        &self,
        fields: &Fields<'_>,
        account: &WechatAccount,
        absent: Currency,
        evidence: &mut Evidence,
    ) -> Result<Finding, Ambiguity> {
        let named = payments::parties(fields, account)?;
        let sum = total(fields, absent)?;
        evidence.receiver = Some(named.receiver);
        evidence.sum = Some(sum);
        if !named.are_of_account {
            evidence.accounts = Some(Vec::new());
        }
        payments::noticed(fields, &self.event, sum)
    }

    fn refunded(
        &self,
        fields: &Fields<'_>,
        account: &WechatAccount,
        absent: Currency,
        evidence: &mut Evidence,
    ) -> Result<Finding, Ambiguity> {
        let named = refunds::parties(fields, account)?;
        let sum = refunds::sum(fields, absent)?;
        evidence.along = refunds::along(fields, absent)?;
        evidence.sum = Some(sum);
        if !named.are_of_account {
            evidence.accounts = Some(Vec::new());
        }
        let found = refunds::noticed(fields, &self.event, sum)?;
        // A message that nobody asked for must say who receives: else it is a reason to ask.
        let Some(receiver) = named.receiver else {
            return Ok(Finding::Hint);
        };
        evidence.receiver = Some(receiver);
        Ok(found)
    }
}

/// The plain text of a resource, which must be authentic for this account.
pub(super) fn opened(resource: &Fields<'_>, account: &WechatAccount) -> Option<Vec<u8>> {
    let text = |name| optional(resource, name).ok();
    let nonce: [u8; NONCE_BYTES] = text("nonce")??.as_bytes().try_into().ok()?;
    let associated = text("associated_data")?.unwrap_or_default();
    let sealed = STANDARD.decode(text("ciphertext")??).ok()?;
    let key = account.opening.as_ref()?;
    key.open(nonce, associated.as_bytes(), &sealed)
}

fn subject(kind: &str, event: &str, fields: &Fields<'_>) -> Result<EvidenceSubject, Unverified> {
    let named = |name| needed(fields, name);
    match (kind, event.split('.').next()) {
        ("transaction", Some("TRANSACTION")) => {
            let no = named("out_trade_no").map(AttemptId::parse);
            match no {
                Ok(Ok(no)) => Ok(EvidenceSubject::Attempt(no)),
                Ok(Err(_)) | Err(_) => Err(Unverified::NamesNothing("names_no_attempt")),
            }
        }
        ("refund", Some("REFUND")) => {
            let no = named("out_refund_no").map(RefundOrderNo::parse);
            match no {
                Ok(Ok(no)) => Ok(EvidenceSubject::Refund(no)),
                Ok(Err(_)) | Err(_) => Err(Unverified::NamesNothing("names_no_refund")),
            }
        }
        _ => Err(Unverified::NamesNothing("event")),
    }
}

/// The answer to a notification. What no repeat can make true is acknowledged: it would come for a
/// day (V3).
pub(super) fn answer(acknowledged: Acknowledgement) -> Response<Bytes> {
    let status = match acknowledged {
        Acknowledgement::Recorded | Acknowledgement::Quarantined => return Response::default(),
        Acknowledgement::Unverified => StatusCode::UNAUTHORIZED,
        Acknowledgement::TryAgain
        | Acknowledgement::UnknownReference
        | Acknowledgement::Unreadable => StatusCode::SERVICE_UNAVAILABLE,
    };
    let failed = r#"{"code":"FAIL","message":"失败"}"#;
    let mut answer = Response::new(Bytes::from_static(failed.as_bytes()));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}
