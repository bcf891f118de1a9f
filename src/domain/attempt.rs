//! One try to have an order paid through one institution.
//!
//! Which moves are legal is decided here, from the attempt's state and one finding (section 4 of
//! the invariants); what a move means for the order is `order.rs`.

mod contradiction;

use crate::domain::amount::Amount;
use crate::domain::evidence::{Evidence, EvidenceSource, Finding, PaymentAction, Reason, Receipt};
use crate::domain::identifiers::{AccountId, AttemptId, InstitutionId, ReceiverId, Timestamp};
use crate::domain::institutions::{Facts, Mode};
use crate::domain::schedule::Schedule;

pub use contradiction::Contradiction;

/// Where an attempt stands (section 4 of the invariants).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptState {
    /// Durable, and perhaps on its way.
    Intent,
    /// Sent, and nobody knows.
    Unknown,
    /// The institution has it and waits for the payer.
    Accepted,
    /// We asked the institution to end it, or want to.
    Closing,
    /// The money moved. Never left.
    Paid,
    /// Definitely refused, or definitely never sent.
    Failed,
    /// Definitely can no longer be paid.
    Closed,
}

impl AttemptState {
    /// Every state, for stores that read names back.
    pub const ALL: [Self; 7] = [
        Self::Intent,
        Self::Unknown,
        Self::Accepted,
        Self::Closing,
        Self::Paid,
        Self::Failed,
        Self::Closed,
    ];

    /// The name in the database, the audit log and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intent => "INTENT",
            Self::Unknown => "UNKNOWN",
            Self::Accepted => "ACCEPTED",
            Self::Closing => "CLOSING",
            Self::Paid => "PAID",
            Self::Failed => "FAILED",
            Self::Closed => "CLOSED",
        }
    }

    /// The name merchants see (`attemptStatus`): doubt shows as `PENDING`.
    pub fn public_name(self) -> &'static str {
        match self {
            Self::Intent | Self::Unknown | Self::Closing => "PENDING",
            Self::Accepted | Self::Paid | Self::Failed | Self::Closed => self.name(),
        }
    }

    /// Whether money may still move through it.
    pub fn is_live(self) -> bool {
        match self {
            Self::Intent | Self::Unknown | Self::Accepted | Self::Closing => true,
            Self::Paid | Self::Failed | Self::Closed => false,
        }
    }
}

/// Which process wrote an attempt: leftovers of a dead one are in doubt (S1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

/// What a signature needs and an adapter may not invent. That of the creating call is kept:
/// later calls may have to quote it, and a repeated create must be equal (A3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The moment of the call.
    pub now: Timestamp,
    /// Drawn for the call.
    pub nonce: [u8; 10],
}

/// One try through one institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What the institution knows it by (K2).
    pub id: AttemptId,
    /// Its place among the order's attempts, from 1.
    pub seq: u32,
    /// Through whom.
    pub institution: InstitutionId,
    /// What we are there: whose key signs and proves. Never changes (C2, R5).
    pub account: AccountId,
    /// Who receives the money there, by the institution's number. Never changes (C2, R5).
    pub receiver: ReceiverId,
    /// How the payer pays.
    pub mode: Mode,
    /// What is asked; the order's sum.
    pub amount: Amount,
    /// Where it stands.
    pub state: AttemptState,
    /// Stamp of the creating call.
    pub stamp: Stamp,
    /// When a create was last decided to be sent; how the call is dated.
    pub sent_at: Timestamp,
    /// When it is next asked about.
    pub schedule: Schedule,
    /// The configuration it was made under (F2).
    pub configuration: u64,
    /// The process that wrote it (S1).
    pub epoch: Epoch,
    /// The institution has named it as one that it has: it did arrive, and never ends by "not found"
    /// (V5).
    pub named: bool,
    /// What the payer needs, once the institution gave it.
    pub payment_action: Option<PaymentAction>,
    /// What the institution said of the payment.
    pub receipt: Option<Receipt>,
    /// Why it was refused.
    pub reason: Option<Reason>,
    /// Paid after it had been refused or closed (V4).
    pub late_success: bool,
}

/// What one finding does to one attempt or refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition<T> {
    /// It becomes this.
    To(Box<T>),
    /// Nothing new.
    Unchanged,
    /// It contradicts an end and must be asked about first (V4).
    ConfirmByQuery,
    /// It cannot be true of it (V3).
    Impossible(Contradiction),
}

/// What a success says of what has succeeded: the same once more, or that under one number of ours money
/// moved a second time, which people must see.
pub(in crate::domain) fn again<T>(known: Option<&Receipt>, said: &Receipt) -> Transition<T> {
    let known = known.and_then(|known| known.institution_no.as_ref());
    match (known, &said.institution_no) {
        (Some(known), Some(said)) if known != said => {
            Transition::Impossible(Contradiction::SecondMovement)
        }
        (Some(_) | None, Some(_) | None) => Transition::Unchanged,
    }
}

impl Attempt {
    /// Whether the evidence is of the attempt's institution, account and receiver (C2), and of this
    /// payment and this sum, that of the attempt or of a refund (V3).
    ///
    /// # Errors
    /// What contradicts it.
    pub fn admits(&self, evidence: &Evidence, sum: Amount) -> Result<(), Contradiction> {
        if self.institution != evidence.institution {
            return Err(Contradiction::Institution);
        }
        if !self.is_of_account(evidence) {
            return Err(Contradiction::Account);
        }
        if !self.is_of_receiver(evidence) {
            return Err(Contradiction::Receiver);
        }
        if evidence.sum.is_some_and(|named| named != sum) {
            return Err(Contradiction::Amount);
        }
        if !evidence.along.is_of(&self.id, self.amount, sum) {
            return Err(Contradiction::Payment);
        }
        Ok(())
    }

    /// Whether the evidence can only be about this attempt's own payment, whatever it says of it: same
    /// institution, and no other account or receiver (C2).
    pub fn is_named_by(&self, evidence: &Evidence) -> bool {
        self.institution == evidence.institution
            && self.is_of_account(evidence)
            && self.is_of_receiver(evidence)
    }

    fn is_of_account(&self, evidence: &Evidence) -> bool {
        let account = evidence.account.as_ref();
        account.is_none_or(|account| *account == self.account)
    }

    fn is_of_receiver(&self, evidence: &Evidence) -> bool {
        let receiver = evidence.receiver.as_ref();
        receiver.is_none_or(|receiver| *receiver == self.receiver)
    }

    /// The attempt as this evidence names it, where that is news and still matters (V5).
    pub fn newly_seen(&self, evidence: &Evidence) -> Option<Self> {
        (evidence.proves_arrival && !self.named && self.state.is_live()).then(|| Self {
            named: true,
            ..self.clone()
        })
    }

    /// The move that a finding justifies, by the table of section 4. "Not found" comes here only where
    /// it was asked late enough ([`Evidence::is_not_found_conclusive`]).
    pub fn apply(&self, finding: &Finding, by: EvidenceSource, facts: &Facts) -> Transition<Self> {
        match finding {
            // That a question was not sent says nothing about the call before it.
            Finding::NotSent if by != EvidenceSource::Create => Transition::Unchanged,
            Finding::NotSent => self.not_sent(),
            Finding::Refused(reason) => self.refused(reason),
            Finding::Accepted(payment_action) => self.accepted(payment_action.as_ref(), by),
            Finding::Succeeded(receipt) => self.succeeded(receipt, by),
            Finding::Closed => self.closed(),
            Finding::NotFound => self.not_found(by, facts),
            Finding::Ambiguous(_) => match self.state {
                AttemptState::Intent => self.transition_to(AttemptState::Unknown),
                AttemptState::Unknown
                | AttemptState::Accepted
                | AttemptState::Closing
                | AttemptState::Paid
                | AttemptState::Failed
                | AttemptState::Closed => Transition::Unchanged,
            },
        }
    }

    fn transition_to(&self, state: AttemptState) -> Transition<Self> {
        Transition::To(Box::new(Self {
            state,
            ..self.clone()
        }))
    }

    /// E1 ends only what was never sent before: from any later state an earlier send may have
    /// arrived.
    fn not_sent(&self) -> Transition<Self> {
        match self.state {
            AttemptState::Intent => {
                let reason = Some(Reason::from_code("NOT_REACHED"));
                Transition::To(Box::new(Self {
                    state: AttemptState::Failed,
                    reason,
                    ..self.clone()
                }))
            }
            AttemptState::Unknown
            | AttemptState::Accepted
            | AttemptState::Closing
            | AttemptState::Paid
            | AttemptState::Failed
            | AttemptState::Closed => Transition::Unchanged,
        }
    }

    fn refused(&self, reason: &Reason) -> Transition<Self> {
        match self.state {
            AttemptState::Intent
            | AttemptState::Unknown
            | AttemptState::Accepted
            | AttemptState::Closing => {
                let reason = Some(reason.clone());
                Transition::To(Box::new(Self {
                    state: AttemptState::Failed,
                    reason,
                    ..self.clone()
                }))
            }
            AttemptState::Paid => Transition::Impossible(Contradiction::PaidAlready),
            AttemptState::Failed | AttemptState::Closed => Transition::Unchanged,
        }
    }

    /// An attempt that is being closed is taken up again only when the institution refuses the
    /// close; a late reply to the create, or a query, is no such refusal.
    fn accepted(
        &self,
        payment_action: Option<&PaymentAction>,
        by: EvidenceSource,
    ) -> Transition<Self> {
        let taken = || {
            let payment_action = payment_action
                .cloned()
                .or_else(|| self.payment_action.clone());
            Transition::To(Box::new(Self {
                state: AttemptState::Accepted,
                payment_action,
                ..self.clone()
            }))
        };
        match self.state {
            AttemptState::Intent | AttemptState::Unknown => taken(),
            AttemptState::Closing if by == EvidenceSource::Close => taken(),
            // Only a create makes a new hand-over. A query may fill one in; if it could renew one, an
            // institution that dates each answer anew would move the attempt with every question.
            AttemptState::Accepted
                if payment_action.is_some()
                    && payment_action != self.payment_action.as_ref()
                    && (by == EvidenceSource::Create || self.payment_action.is_none()) =>
            {
                taken()
            }
            AttemptState::Accepted
            | AttemptState::Closing
            | AttemptState::Paid
            | AttemptState::Failed
            | AttemptState::Closed => Transition::Unchanged,
        }
    }

    fn succeeded(&self, receipt: &Receipt, by: EvidenceSource) -> Transition<Self> {
        if receipt.amount != self.amount {
            return Transition::Impossible(Contradiction::Amount);
        }
        let paid = |late_success| {
            Transition::To(Box::new(Self {
                state: AttemptState::Paid,
                receipt: Some(receipt.clone()),
                late_success,
                ..self.clone()
            }))
        };
        match self.state {
            AttemptState::Intent
            | AttemptState::Unknown
            | AttemptState::Accepted
            | AttemptState::Closing => paid(false),
            AttemptState::Failed | AttemptState::Closed => match by {
                EvidenceSource::Query => paid(true),
                EvidenceSource::Create
                | EvidenceSource::Close
                | EvidenceSource::Refund
                | EvidenceSource::Callback => Transition::ConfirmByQuery,
            },
            AttemptState::Paid => again(self.receipt.as_ref(), receipt),
        }
    }

    fn closed(&self) -> Transition<Self> {
        match self.state {
            AttemptState::Unknown | AttemptState::Accepted | AttemptState::Closing => {
                self.transition_to(AttemptState::Closed)
            }
            AttemptState::Paid => Transition::Impossible(Contradiction::PaidAlready),
            // What was never known to have left cannot have been closed: the reply to the create
            // is still to come, or the next query tells.
            AttemptState::Intent | AttemptState::Failed | AttemptState::Closed => {
                Transition::Unchanged
            }
        }
    }

    /// A5: "not found" ends an attempt only when nothing sent can still be on its way, and, at an
    /// institution that closes, only in answer to a close. One that remembers a close of what it
    /// has not seen answers that close with "closed" instead.
    fn not_found(&self, by: EvidenceSource, facts: &Facts) -> Transition<Self> {
        let conclusive = match by {
            EvidenceSource::Close => facts.can_close && !facts.remembers_close,
            EvidenceSource::Query => !facts.can_close,
            EvidenceSource::Create | EvidenceSource::Refund | EvidenceSource::Callback => false,
        };
        match self.state {
            // What it once named did arrive: that it does not know it now proves nothing (V5).
            AttemptState::Unknown | AttemptState::Closing if conclusive && !self.named => {
                let reason = Some(Reason::from_code("NEVER_ARRIVED"));
                Transition::To(Box::new(Self {
                    state: AttemptState::Failed,
                    reason,
                    ..self.clone()
                }))
            }
            AttemptState::Intent
            | AttemptState::Unknown
            | AttemptState::Accepted
            | AttemptState::Closing
            | AttemptState::Paid
            | AttemptState::Failed
            | AttemptState::Closed => Transition::Unchanged,
        }
    }
}
