//! A payment attempt: one try to have an order paid through one institution.
//!
//! Legal transitions are decided here, from the attempt's state and one finding
//! (docs/requirements.md, Invariants, E1 to V5). Their effect on the order is decided in `order`.

mod contradiction;
mod transitions;

use std::time::Duration;

use crate::domain::amount::Amount;
use crate::domain::evidence::{Evidence, EvidenceSource, PaymentAction, Reason, Receipt};
use crate::domain::identifiers::{
    AccountId, AttemptId, InstitutionId, ProductId, ReceiverId, Timestamp,
};
use crate::domain::institutions::{Facts, Mode, Visibility};
use crate::domain::personal::payer_context::PayerDetails;
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
    /// What it is paid with. Never changes.
    pub product: ProductId,
    /// By when the payer must have paid, as the institution is told: set with the intent and never
    /// changed, so that a repeated create is identical (A3).
    pub pay_by: Timestamp,
    /// What the product has to be told of the payer, and nothing else: a repeated create takes what
    /// is stored (A3). Destroyed some time after the attempt ended (D4).
    pub payer: PayerDetails,
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
    /// The institution's confirmation of the payment; of an attempt that is not PAID, of money that
    /// it took and gave back (A9).
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

    /// Whether the institution took its money and gave it back before it paid anything (A9).
    pub fn is_returned(&self) -> bool {
        !self.state.is_live() && self.state != AttemptState::Paid && self.receipt.is_some()
    }

    /// The attempt marked as known to the institution, if this evidence is the first to show it and
    /// the attempt is still live (V5).
    ///
    /// That a create was accepted shows it only where "not found" is measured from the send: of a
    /// product with a deadline, an institution may forget what no payer has acted on.
    pub fn newly_seen(&self, evidence: &Evidence, facts: &Facts) -> Option<Self> {
        let shows_it = match facts.product(&self.product).visibility {
            Visibility::AfterSend(_) => evidence.proves_arrival,
            Visibility::AfterDeadline(_) | Visibility::AfterStatement => {
                evidence.proves_arrival && evidence.by != EvidenceSource::Create
            }
        };
        (shows_it && !self.named && self.state.is_live()).then(|| Self {
            named: true,
            ..self.clone()
        })
    }

    /// Whether "not found" is conclusive (A5, V5), in reply to a query sent at `asked`: nothing had
    /// been sent for `quiet` by then, and, of a product with a deadline, nobody could pay any more.
    ///
    /// A deadline has passed when the wall clock says so and this process has waited as long (T2):
    /// a clock that is ahead ends nothing.
    pub fn is_not_found_conclusive(
        &self,
        quiet: Option<Duration>,
        asked: Timestamp,
        facts: &Facts,
    ) -> bool {
        let Some(quiet) = quiet else {
            return false;
        };
        match facts.product(&self.product).visibility {
            Visibility::AfterSend(limit) => quiet >= limit,
            Visibility::AfterDeadline(margin) => {
                let allowed = self.pay_by.since(self.stamp.now).saturating_add(margin);
                asked >= self.pay_by.plus(margin) && quiet >= allowed
            }
            Visibility::AfterStatement => false,
        }
    }
}
