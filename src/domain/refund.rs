//! Refunds (docs/requirements.md, Invariants, R1 to R9): effect of one finding on one refund. The
//! effect on the order's books is in `order/refunding.rs` and `order/refund_progress.rs`.

use std::time::Duration;

use crate::domain::amount::Amount;
use crate::domain::attempt::{Contradiction, Epoch, Transition, again};
use crate::domain::evidence::{Evidence, EvidenceSource, Finding, Reason, Receipt};
use crate::domain::identifiers::{AttemptId, RefundOrderNo, RefundRequestNo, StaffId, Timestamp};
use crate::domain::schedule::Schedule;

/// Wait before a refund of an excess payment is sent again after the institution was unreachable.
const UNREACHED_WAIT: Duration = Duration::from_mins(1);

/// State of a refund (docs/requirements.md, Invariants, R1 to R9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefundState {
    /// Durable; the call may have been sent.
    Reserved,
    /// The institution has it.
    Processing,
    /// Sent; the outcome is unknown.
    Unknown,
    /// In manual review.
    Manual,
    /// The money was refunded.
    Succeeded,
    /// Definitely did not happen; its amount is refundable again.
    Failed,
}

impl RefundState {
    /// Every state; stores parse names with it.
    pub const ALL: [Self; 6] = [
        Self::Reserved,
        Self::Processing,
        Self::Unknown,
        Self::Manual,
        Self::Succeeded,
        Self::Failed,
    ];

    /// The name in the database and the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "RESERVED",
            Self::Processing => "PROCESSING",
            Self::Unknown => "UNKNOWN",
            Self::Manual => "MANUAL",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
        }
    }

    /// The name merchants see (`refundStatus`).
    pub fn public_name(self) -> &'static str {
        match self {
            Self::Reserved | Self::Processing | Self::Unknown | Self::Manual => "PROCESSING",
            Self::Succeeded | Self::Failed => self.name(),
        }
    }

    /// Whether its amount counts as reserved (R1).
    pub fn is_reserved(self) -> bool {
        match self {
            Self::Reserved | Self::Processing | Self::Unknown | Self::Manual | Self::Succeeded => {
                true
            }
            Self::Failed => false,
        }
    }

    /// Whether it is final.
    pub fn is_over(self) -> bool {
        match self {
            Self::Reserved | Self::Processing | Self::Unknown | Self::Manual => false,
            Self::Succeeded | Self::Failed => true,
        }
    }
}

/// Cause of an excess payment (A8). Any other cause would be a defect of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExcessCause {
    /// The institution took the money after it had confirmed a close.
    AfterClose,
    /// The institution took the money after it had refused.
    AfterRefusal,
    /// Another attempt paid the order while this one, still live, was being closed.
    Overlap,
}

impl ExcessCause {
    /// Every cause; stores parse names with it.
    pub const ALL: [Self; 3] = [Self::AfterClose, Self::AfterRefusal, Self::Overlap];

    /// The name in the database and the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterClose => "AFTER_CLOSE",
            Self::AfterRefusal => "AFTER_REFUSAL",
            Self::Overlap => "OVERLAP",
        }
    }
}

/// Origin of a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundOrigin {
    /// Requested by the merchant (A3.4).
    Asked(RefundDetails),
    /// Refund of an excess payment (A4).
    Excess(ExcessCause),
}

/// The merchant's refund request; the same number with a different amount is a conflict (R6).
#[derive(Clone, PartialEq, Eq)]
pub struct RefundDetails {
    /// The merchant's number, or a generated one (R7).
    pub number: RefundRequestNo,
    /// The merchant's reason, free text.
    pub reason: Option<Box<str>>,
    /// Destination of this refund's events, if not the configured address.
    pub notice_url: Option<Box<str>>,
}

/// Not derived: the merchant's free text may be personal, so it is not printed.
impl std::fmt::Debug for RefundDetails {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RefundDetails({})", self.number)
    }
}

/// Whether and when a call may have been sent (E1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendStatus {
    /// Nothing was sent; it is sent from this time on.
    Waits(Timestamp),
    /// A call may have been sent, most recently at this time.
    Left(Timestamp),
}

/// A staff decision on a refund in manual review, read from the institution's own statement (L5).
/// A second person must decide the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundDecision {
    /// Who decided.
    pub staff: StaffId,
    /// Whether the money was refunded.
    pub succeeded: bool,
    /// SHA-256 of the statement.
    pub statement: [u8; 32],
    /// The institution's number of the refund, if stated.
    pub institution_no: Option<Box<str>>,
    /// When the money was refunded, if stated.
    pub moved_at: Option<Timestamp>,
}

impl RefundDecision {
    /// Whether another decision has the same content.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let Self {
            staff: _,
            succeeded,
            statement,
            institution_no,
            moved_at,
        } = self;
        *succeeded == other.succeeded
            && *statement == other.statement
            && *institution_no == other.institution_no
            && *moved_at == other.moved_at
    }
}

/// Why a staff decision has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecisionIneffective {
    /// No such refund.
    #[error("no such refund")]
    Unknown,
    /// It is not in manual review.
    #[error("only a refund in the state MANUAL can be decided; this one is not")]
    NotManual,
    /// The same person decided the same before.
    #[error("this person has decided so already; a second person must decide the same")]
    SameStaff,
}

/// One refund, made through the attempt that was paid and no other way (R5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// Our number for it at the institution (K2).
    pub no: RefundOrderNo,
    /// The attempt being refunded.
    pub attempt: AttemptId,
    /// The amount.
    pub amount: Amount,
    /// Its state.
    pub state: RefundState,
    /// Its origin.
    pub why: RefundOrigin,
    /// When it was reserved.
    pub created: Timestamp,
    /// Whether it was sent.
    pub sending: SendStatus,
    /// When it is next polled or sent.
    pub schedule: Schedule,
    /// The process that last sent it (S1).
    pub epoch: Epoch,
    /// The institution has confirmed that it exists: it did arrive, and "not found" never ends it
    /// (V5).
    pub named: bool,
    /// The institution's confirmation of the refund.
    pub receipt: Option<Receipt>,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// Succeeded after it had failed (V4).
    pub late_success: bool,
    /// The part of it beyond the refundable amount (R9). Unit: minor units.
    pub over_refunded_minor: i64,
    /// The last staff decision, in manual review.
    pub decision: Option<RefundDecision>,
}

impl Refund {
    /// The merchant's request; `None` for an excess payment.
    pub fn request(&self) -> Option<&RefundDetails> {
        match &self.why {
            RefundOrigin::Asked(request) => Some(request),
            RefundOrigin::Excess(_) => None,
        }
    }

    /// The number that merchants know it by: their own, a generated one (R7), or, for an excess
    /// payment, ours.
    pub fn merchant_no(&self) -> &str {
        self.request()
            .map_or(self.no.as_str(), |request| request.number.as_str())
    }

    /// Cause of the excess payment, if it refunds one.
    pub fn excess(&self) -> Option<ExcessCause> {
        match &self.why {
            RefundOrigin::Asked(_) => None,
            RefundOrigin::Excess(cause) => Some(*cause),
        }
    }

    /// The part that counts against the payment (R1). Unit: minor units.
    pub fn counted_minor(&self) -> i64 {
        self.amount.minor().saturating_sub(self.over_refunded_minor)
    }

    /// The refund marked as known to the institution, if this evidence is the first to show it and
    /// the refund is not final (V5).
    pub fn newly_seen(&self, evidence: &Evidence) -> Option<Self> {
        (evidence.proves_arrival && !self.named && !self.state.is_over()).then(|| Self {
            named: true,
            ..self.clone()
        })
    }

    /// The transition that a finding justifies (E1 to E5, V1 to V5). `NotFound` is passed
    /// only when the query was late enough ([`Order::is_not_found_conclusive`](crate::domain::order::Order::is_not_found_conclusive)).
    pub fn apply(&self, finding: &Finding, by: EvidenceSource, now: Timestamp) -> Transition<Self> {
        match finding {
            // An unsent query proves nothing about the earlier refund call.
            Finding::NotSent | Finding::NotExecuted(_) if by != EvidenceSource::Refund => {
                Transition::Unchanged
            }
            Finding::NotSent => self.not_begun("NOT_REACHED", now),
            Finding::NotExecuted(why) => self.not_begun(why.word(), now),
            Finding::Refused(reason) => self.refused(reason),
            Finding::Accepted(_) => match self.state {
                RefundState::Reserved | RefundState::Unknown => {
                    self.transition_to(RefundState::Processing)
                }
                RefundState::Processing
                | RefundState::Manual
                | RefundState::Succeeded
                | RefundState::Failed => Transition::Unchanged,
            },
            Finding::Succeeded(receipt) => self.succeeded(receipt, by),
            // They apply to payments only; prove nothing about a refund.
            // A hint only brings the next question forward, which the order does.
            Finding::Closed | Finding::Reversed(_) | Finding::Hint => Transition::Unchanged,
            Finding::NotFound => self.not_found(by),
            Finding::Ambiguous(_) => match (self.state, self.sending) {
                (RefundState::Reserved, SendStatus::Left(_)) => {
                    self.transition_to(RefundState::Unknown)
                }
                _ => Transition::Unchanged,
            },
        }
    }

    fn transition_to(&self, state: RefundState) -> Transition<Self> {
        Transition::To(Box::new(Self {
            state,
            ..self.clone()
        }))
    }

    fn fail(&self, reason: Reason) -> Transition<Self> {
        Transition::To(Box::new(Self {
            state: RefundState::Failed,
            reason: Some(reason),
            ..self.clone()
        }))
    }

    /// E1 ends only a refund that was never sent before. Refunds of excess payments are not failed
    /// by it: they wait.
    fn not_begun(&self, why: &str, now: Timestamp) -> Transition<Self> {
        match (self.state, &self.why) {
            (RefundState::Reserved, RefundOrigin::Asked(_)) => self.fail(Reason::from_code(why)),
            (RefundState::Reserved, RefundOrigin::Excess(_)) => Transition::To(Box::new(Self {
                sending: SendStatus::Waits(now.plus(UNREACHED_WAIT)),
                ..self.clone()
            })),
            _ => Transition::Unchanged,
        }
    }

    fn refused(&self, reason: &Reason) -> Transition<Self> {
        match self.state {
            RefundState::Reserved
            | RefundState::Processing
            | RefundState::Unknown
            | RefundState::Manual => self.fail(reason.clone()),
            RefundState::Succeeded => Transition::Impossible(Contradiction::RefundedAlready),
            RefundState::Failed => Transition::Unchanged,
        }
    }

    fn succeeded(&self, receipt: &Receipt, by: EvidenceSource) -> Transition<Self> {
        if receipt.amount != self.amount {
            return Transition::Impossible(Contradiction::Amount);
        }
        let back = |late_success| {
            Transition::To(Box::new(Self {
                state: RefundState::Succeeded,
                receipt: Some(receipt.clone()),
                late_success,
                ..self.clone()
            }))
        };
        match self.state {
            RefundState::Reserved
            | RefundState::Processing
            | RefundState::Unknown
            | RefundState::Manual => back(false),
            RefundState::Failed if by == EvidenceSource::Query => back(true),
            RefundState::Failed => Transition::ConfirmByQuery,
            RefundState::Succeeded => again(self.receipt.as_ref(), receipt),
        }
    }

    /// Not being found proves that it never arrived, once nothing can be in transit (A5); not if
    /// the institution has confirmed it (V5), nor in manual review.
    fn not_found(&self, by: EvidenceSource) -> Transition<Self> {
        let was_sent = matches!(self.sending, SendStatus::Left(_));
        if self.state == RefundState::Unknown
            && by == EvidenceSource::Query
            && was_sent
            && !self.named
        {
            self.fail(Reason::from_code("NEVER_ARRIVED"))
        } else {
            Transition::Unchanged
        }
    }
}
