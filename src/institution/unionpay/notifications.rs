//! Notifications: signed forms, and how they are acknowledged. The payer's browser brings a form of
//! the same kind back, but to our page, where it only is a reason to ask.

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::domain::evidence::{
    Ambiguity, Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment,
};
use crate::domain::identifiers::{AttemptId, InstitutionId, ReceiverId, RefundOrderNo, Timestamp};
use crate::institution::unionpay::accounts::{UnionPayAccess, UnionPayAccount};
use crate::institution::unionpay::answers::{receipt, sum};
use crate::institution::unionpay::codes::{
    TransactionState, UnionPayFinding, of_payment_notice, of_refund_notice,
};
use crate::institution::unionpay::message::UnionPayMessage;
use crate::institution::{Acknowledgement, Unverified};

/// A notification that UnionPay signed for this account.
pub(super) struct UnionPayNotification {
    message: UnionPayMessage,
    /// The payment or refund that it is about.
    pub(super) about: EvidenceSubject,
}

impl UnionPayNotification {
    /// Verifies and reads a notification.
    ///
    /// # Errors
    /// [`Unverified`]: not signed for this account, or not about anything of ours.
    pub(super) fn read(
        body: &[u8],
        account: &UnionPayAccount,
        now: Timestamp,
    ) -> Result<Self, Unverified> {
        let message = UnionPayMessage::from_form(body).ok_or(Unverified::Unverified("form"))?;
        let trust = account.trust().ok_or(Unverified::Unverified("account"))?;
        trust
            .verify(&message, now)
            .map_err(|why| Unverified::Unverified(why.word()))?;
        let number = message.get("orderId").unwrap_or_default();
        let about = match message.get("txnType") {
            Some("01") => AttemptId::parse(number)
                .map(EvidenceSubject::Attempt)
                .map_err(|_| Unverified::NamesNothing("names_no_attempt")),
            Some("04") => RefundOrderNo::parse(number)
                .map(EvidenceSubject::Refund)
                .map_err(|_| Unverified::NamesNothing("names_no_refund")),
            Some(_) | None => Err(Unverified::NamesNothing("txn_type")),
        };
        Ok(Self {
            about: about?,
            message,
        })
    }

    /// What it proves. Without a receiver and a sum it could be about anything.
    pub(super) fn evidence(
        self,
        institution: &InstitutionId,
        account: &UnionPayAccount,
    ) -> Evidence {
        let is_ours = self.is_of(account);
        let receiver = self.receiver(account);
        let found = match &receiver {
            Some(_) => self.finding(),
            // A message that nobody asked for must say who receives: else it is a reason to ask.
            None => self.finding().map(|_| Finding::Hint),
        };
        Evidence {
            institution: institution.clone(),
            accounts: Some(is_ours.then(|| account.id.clone()).into_iter().collect()),
            receiver,
            about: self.about.clone(),
            by: EvidenceSource::Callback,
            sum: sum(&self.message).ok(),
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: is_ours,
            finding: found.unwrap_or_else(Finding::Ambiguous),
        }
    }

    /// Whether it names this account, and as what we are connected.
    fn is_of(&self, account: &UnionPayAccount) -> bool {
        let access = self.message.get("accessType");
        self.message.get("merId") == Some(account.mer_id.as_str())
            && access.is_none_or(|access| access == account.access.word())
    }

    /// The receiver that it names.
    fn receiver(&self, account: &UnionPayAccount) -> Option<ReceiverId> {
        let name = match account.access {
            UnionPayAccess::Direct => "merId",
            UnionPayAccess::Acquirer | UnionPayAccess::Platform => "subMerId",
        };
        ReceiverId::parse(self.message.get(name)?).ok()
    }

    fn finding(&self) -> UnionPayFinding {
        sum(&self.message)?;
        let code = self.message.get("respCode").ok_or(Ambiguity::Unreadable)?;
        let state = match self.about {
            EvidenceSubject::Attempt(_) => of_payment_notice(code),
            EvidenceSubject::Refund(_) => of_refund_notice(code),
        };
        match state {
            TransactionState::Succeeded => Ok(Finding::Succeeded(receipt(&self.message)?)),
            TransactionState::GivenBack => Ok(Finding::Hint),
            TransactionState::Other(found) => found,
        }
    }
}

/// The answer to a notification: only its status counts. What no repeat can make true is acknowledged
/// (V3).
pub(super) fn answer(acknowledged: Acknowledgement) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = match acknowledged {
        Acknowledgement::Recorded | Acknowledgement::Quarantined => StatusCode::OK,
        Acknowledgement::Unverified => StatusCode::UNAUTHORIZED,
        Acknowledgement::TryAgain
        | Acknowledgement::UnknownReference
        | Acknowledgement::Unreadable => StatusCode::SERVICE_UNAVAILABLE,
    };
    answer
}
