//! A payment attempt: one try to have an order paid through one institution.
//!
//! Legal transitions are decided here, from the attempt's state and one finding
//! (docs/requirements.md, Invariants, E1 to V5). Their effect on the order is decided in `order`.

mod contradiction;

use crate::domain::amount::Amount;
use crate::domain::evidence::{Evidence, EvidenceSource, Finding, PaymentAction, Reason, Receipt};
use crate::domain::identifiers::{AccountId, AttemptId, InstitutionId, ReceiverId, Timestamp};
use crate::domain::institutions::{Facts, Mode};
use crate::domain::schedule::Schedule;

pub use contradiction::Contradiction;

/// State of an attempt (docs/requirements.md, Invariants, E1 to V5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptState {
    /// Durable; the call may have been sent.
    Intent,
    /// Sent; the outcome is unknown.
    Unknown,
    /// The institution has it and waits for the payer.
    Accepted,
    /// We have sent a close, or are about to.
    Closing,
    /// The money moved. Terminal.
    Paid,
    /// Confirmed refused by the institution, not sent, or never arrived; a late success is still
    /// possible (V4).
    Failed,
    /// Confirmed closed by the institution; a late success is still possible (V4).
    Closed,
}

impl AttemptState {
    /// Every state; stores parse names with it.
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

    /// The name merchants see (`attemptStatus`); an uncertain state is reported as `PENDING`.
    pub fn public_name(self) -> &'static str {
        match self {
            Self::Intent | Self::Unknown | Self::Closing => "PENDING",
            Self::Accepted | Self::Paid | Self::Failed | Self::Closed => self.name(),
        }
    }

    /// Whether its outcome is still open. A late success is possible even after FAILED or CLOSED
    /// (V4).
    pub fn is_live(self) -> bool {
        match self {
            Self::Intent | Self::Unknown | Self::Accepted | Self::Closing => true,
            Self::Paid | Self::Failed | Self::Closed => false,
        }
    }
}

/// Identifies the process that wrote an attempt: orphaned calls of a dead process have an unknown
/// outcome (S1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

/// Inputs that an adapter needs for signing and must not generate. The stamp of the create call is
/// stored: later calls may have to quote it, and a repeated create must be identical (A3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Time of the call.
    pub now: Timestamp,
    /// Random, generated for the call.
    pub nonce: [u8; 10],
}

/// One payment attempt at one institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Our number for it at the institution (K2).
    pub id: AttemptId,
    /// Its sequence number among the order's attempts, from 1.
    pub seq: u32,
    /// The institution.
    pub institution: InstitutionId,
    /// Our account at the institution, whose keys sign our calls and verify its messages. Never
    /// changes (C2, R5).
    pub account: AccountId,
    /// Who receives the money there, by the institution's number. Never changes (C2, R5).
    pub receiver: ReceiverId,
    /// How the payer pays.
    pub mode: Mode,
    /// Requested amount, equal to the order's.
    pub amount: Amount,
    /// Its state.
    pub state: AttemptState,
    /// Stamp of the create call.
    pub stamp: Stamp,
    /// When a create was last decided to be sent; dates the call.
    pub sent_at: Timestamp,
    /// Schedule of its next query.
    pub schedule: Schedule,
    /// Configuration version it was created under (F2).
    pub configuration: u64,
    /// The process that wrote it (S1).
    pub epoch: Epoch,
    /// The institution has confirmed that it exists: it did arrive, and "not found" never ends it
    /// (V5).
    pub named: bool,
    /// What the payer needs to pay, once the institution has returned it.
    pub payment_action: Option<PaymentAction>,
    /// The institution's confirmation of the payment.
    pub receipt: Option<Receipt>,
    /// Why it was refused.
    pub reason: Option<Reason>,
    /// Paid after it had been refused or closed (V4).
    pub late_success: bool,
}

/// Effect of one finding on one attempt or refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition<T> {
    /// It changes to this.
    To(Box<T>),
    /// No change.
    Unchanged,
    /// The finding contradicts a final state and must be confirmed by a query first (V4).
    ConfirmByQuery,
    /// The finding cannot be true (V3).
    Impossible(Contradiction),
}

/// Effect of a success reported for something that has already succeeded: no change, or evidence
/// that money moved a second time under the same number, which needs manual review.
pub(in crate::domain) fn again<T>(known: Option<&Receipt>, reported: &Receipt) -> Transition<T> {
    let known = known.and_then(|known| known.institution_no.as_ref());
    match (known, &reported.institution_no) {
        (Some(known), Some(reported)) if known != reported => {
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
    /// The contradiction.
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
        let accounts = evidence.accounts.as_ref();
        accounts.is_none_or(|accounts| accounts.contains(&self.account))
    }

    fn is_of_receiver(&self, evidence: &Evidence) -> bool {
        let receiver = evidence.receiver.as_ref();
        receiver.is_none_or(|receiver| *receiver == self.receiver)
    }

    /// The attempt marked as known to the institution, if this evidence is the first to show it and
    /// the attempt is still live (V5).
    pub fn newly_seen(&self, evidence: &Evidence) -> Option<Self> {
        (evidence.proves_arrival && !self.named && self.state.is_live()).then(|| Self {
            named: true,
            ..self.clone()
        })
    }

    /// The transition that a finding justifies (E1 to E5, V1 to V5). `NotFound` is passed
    /// only when the query was late enough ([`Evidence::is_not_found_conclusive`]).
    pub fn apply(&self, finding: &Finding, by: EvidenceSource, facts: &Facts) -> Transition<Self> {
        match finding {
            // An unsent query proves nothing about the earlier create.
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

    /// E1 ends only an attempt that was never sent before: in any later state an earlier send may
    /// have arrived.
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

    /// A closing attempt becomes ACCEPTED again only when the institution refuses the close; a late
    /// reply to the create, or a query, does not count as a refusal.
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
            // Only a create replaces a payment action. A query may fill in a missing one; if it
            // could replace one, an institution that timestamps each reply would change the attempt
            // with every query.
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
            // Without proof that it was sent, it cannot have been closed: wait for the reply to the
            // create or for the next query.
            AttemptState::Intent | AttemptState::Failed | AttemptState::Closed => {
                Transition::Unchanged
            }
        }
    }

    /// A5: "not found" ends an attempt only when no sent request can still be in transit and, at an
    /// institution with a close call, only in reply to a close. An institution that remembers a
    /// close of an unseen number answers "closed" instead.
    fn not_found(&self, by: EvidenceSource, facts: &Facts) -> Transition<Self> {
        let conclusive = match by {
            EvidenceSource::Close => facts.can_close && !facts.remembers_close,
            EvidenceSource::Query => !facts.can_close,
            EvidenceSource::Create | EvidenceSource::Refund | EvidenceSource::Callback => false,
        };
        match self.state {
            // It was known before, so it did arrive: "not found" now proves nothing (V5).
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
