//! Money on its way back (section 5 of the invariants): what one finding does to one refund. What
//! a refund means for its order's books is `order/refunding.rs`.

use std::time::Duration;

use crate::domain::amount::Amount;
use crate::domain::attempt::{Contradiction, Epoch, Transition, again};
use crate::domain::evidence::{Evidence, EvidenceSource, Finding, Reason, Receipt};
use crate::domain::identifiers::{
    AttemptId, OperatorId, RefundOrderNo, RefundRequestNo, Timestamp,
};
use crate::domain::schedule::Schedule;

/// How long surplus money waits after an institution could not be reached.
const UNREACHED_WAIT: Duration = Duration::from_mins(1);

/// Where a refund stands (section 5 of the invariants).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefundState {
    /// Written down, and perhaps on its way.
    Reserved,
    /// The institution has it.
    Processing,
    /// Sent, and nobody knows.
    Unknown,
    /// People must decide.
    Manual,
    /// The money went back.
    Succeeded,
    /// Definitely did not happen; capacity is free again.
    Failed,
}

impl RefundState {
    /// Every state, for stores that read names back.
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

    /// Whether it holds capacity (R1).
    pub fn is_reserved(self) -> bool {
        match self {
            Self::Reserved | Self::Processing | Self::Unknown | Self::Manual | Self::Succeeded => {
                true
            }
            Self::Failed => false,
        }
    }

    /// Whether it has come to its end.
    pub fn is_over(self) -> bool {
        match self {
            Self::Reserved | Self::Processing | Self::Unknown | Self::Manual => false,
            Self::Succeeded | Self::Failed => true,
        }
    }
}

/// Why money came twice (A8). Any other cause would be a defect of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExcessCause {
    /// The institution took money after it had confirmed a close.
    AfterClose,
    /// The institution took money after it had refused.
    AfterRefusal,
    /// Another attempt of the order settled it while this one, still live, was being closed.
    Overlap,
}

impl ExcessCause {
    /// Every cause, for stores that read names back.
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

/// Why money goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundOrigin {
    /// The merchant asked for it (A3.4).
    Asked(RefundDetails),
    /// It came beside the payment that settled the order (A4).
    Excess(ExcessCause),
}

/// What the merchant said when it asked for a refund; the same number with another sum is a
/// conflict (R6).
#[derive(Clone, PartialEq, Eq)]
pub struct RefundDetails {
    /// Its number, or one made here (R7).
    pub number: RefundRequestNo,
    /// In its words, for people.
    pub reason: Option<Box<str>>,
    /// Where events of this refund go, if not to the enrolled address.
    pub notice_url: Option<Box<str>>,
}

/// What a merchant writes about a return may be personal, so it is not printed.
impl std::fmt::Debug for RefundDetails {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wish({})", self.number)
    }
}

/// Whether a call may have left, and when (E1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendStatus {
    /// No byte has left; it is sent from then on.
    Waits(Timestamp),
    /// A call may have left, the last time then.
    Left(Timestamp),
}

/// What an operator found on the institution's own statement about a refund that is left to people
/// (section 5). A second operator must find the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundDecision {
    /// Who.
    pub operator: OperatorId,
    /// Whether the money went back.
    pub succeeded: bool,
    /// SHA-256 of the statement.
    pub statement: [u8; 32],
    /// The institution's own number of the refund, where the operator read one there.
    pub institution_no: Option<Box<str>>,
    /// When the money went back, where the operator read that there.
    pub moved_at: Option<Timestamp>,
}

impl RefundDecision {
    /// Whether another operator found the very same.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let Self {
            operator: _,
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

/// Why an operator's verdict moves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecisionIneffective {
    /// There is no such refund.
    #[error("there is no such refund")]
    Unknown,
    /// It is not left to people.
    #[error("only a refund in the state MANUAL is decided by people; this one is not")]
    NotManual,
    /// The same operator said the same before.
    #[error("this operator has said so already; a second, other operator must find the same")]
    SameStaff,
}

/// One refund: along the attempt that brought the money, and no other way (R5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// What the institution will know it by (K2).
    pub no: RefundOrderNo,
    /// The attempt whose money goes back.
    pub attempt: AttemptId,
    /// How much.
    pub amount: Amount,
    /// Where it stands.
    pub state: RefundState,
    /// Why the money goes back.
    pub why: RefundOrigin,
    /// When it was reserved.
    pub created: Timestamp,
    /// Whether it was sent.
    pub sending: SendStatus,
    /// When it is next asked about, or sent.
    pub schedule: Schedule,
    /// The process that last sent it (S1).
    pub epoch: Epoch,
    /// The institution has named it as one that it has: it did arrive, and never ends by "not found"
    /// (V5).
    pub named: bool,
    /// What the institution said of the money that went back.
    pub receipt: Option<Receipt>,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// Succeeded after it had failed (V4).
    pub late_success: bool,
    /// What of it went back beyond what there was to give back (R9). Unit: minor units.
    pub over_refunded_minor: i64,
    /// What a first operator found, where people must decide.
    pub decision: Option<RefundDecision>,
}

impl Refund {
    /// The merchant's wish, unless it is surplus money.
    pub fn request(&self) -> Option<&RefundDetails> {
        match &self.why {
            RefundOrigin::Asked(request) => Some(request),
            RefundOrigin::Excess(_) => None,
        }
    }

    /// The number that merchants know it by: their own, one made in its place (R7), or, of surplus
    /// money that nobody asked back, ours.
    pub fn merchant_no(&self) -> &str {
        self.request()
            .map_or(self.no.as_str(), |request| request.number.as_str())
    }

    /// Why the money is surplus, if it is.
    pub fn excess(&self) -> Option<ExcessCause> {
        match &self.why {
            RefundOrigin::Asked(_) => None,
            RefundOrigin::Excess(cause) => Some(*cause),
        }
    }

    /// What of it is counted against what was paid (R1). Unit: minor units.
    pub fn counted_minor(&self) -> i64 {
        self.amount.minor().saturating_sub(self.over_refunded_minor)
    }

    /// The refund as this evidence names it, where that is news and still matters (V5).
    pub fn newly_seen(&self, evidence: &Evidence) -> Option<Self> {
        (evidence.proves_arrival && !self.named && !self.state.is_over()).then(|| Self {
            named: true,
            ..self.clone()
        })
    }

    /// The move that a finding justifies, by the table of section 5. "Not found" comes here only where
    /// it was asked late enough ([`Evidence::is_not_found_conclusive`]).
    pub fn apply(&self, finding: &Finding, by: EvidenceSource, now: Timestamp) -> Transition<Self> {
        match finding {
            // That a question was not sent says nothing about the call before it.
            Finding::NotSent if by != EvidenceSource::Refund => Transition::Unchanged,
            Finding::NotSent => self.not_sent(now),
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
            // A word of payments: it says nothing about money on its way back.
            Finding::Closed => Transition::Unchanged,
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

    /// E1 ends only what was never sent before. Surplus money is not given up for that: it waits.
    fn not_sent(&self, now: Timestamp) -> Transition<Self> {
        match (self.state, &self.why) {
            (RefundState::Reserved, RefundOrigin::Asked(_)) => {
                self.fail(Reason::from_code("NOT_REACHED"))
            }
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

    /// That it is not known proves that it never arrived once nothing can be on its way (A5); not
    /// where the institution once named it (V5), nor where people decide.
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
