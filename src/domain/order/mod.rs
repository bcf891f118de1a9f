//! An order, whole: its terms, its attempts, its surplus; and which moves are legal.
//!
//! Decisions about money are in `deciding.rs`: made on the whole order, they come out as one
//! `Change`.

mod dating;
mod deciding;
mod polling;
mod refund_progress;
mod refunding;

use std::sync::Arc;
use std::time::Duration;

pub use polling::{CallbackDelivery, PollLane, PollTarget, Urgency};
pub use refund_progress::EXCESS_FAILURES_MAX;
pub use refunding::{REFUNDS_MAX, REFUNDS_REQUESTED_MAX, RefundRequest, RefundView};

use crate::domain::amount::Amount;
use crate::domain::attempt::{Attempt, Contradiction, Epoch, Stamp};
use crate::domain::change::Change;
use crate::domain::evidence::{EvidenceSubject, Receipt};
use crate::domain::identifiers::{
    AccountId, AttemptId, CalendarDay, InstitutionId, MerchantId, MerchantOrderNo, PageToken,
    PayOrderNo, ReceiverId, Timestamp,
};
use crate::domain::institutions::{BusinessType, Mode, TransactionType};
use crate::domain::personal::MobileNo;
use crate::domain::refund::Refund;

/// Attempts of one order at most: it is loaded whole, so it is bounded.
pub const ATTEMPTS_MAX: usize = 20;

/// How long an attempt may stand as INTENT in a living process before it counts as in doubt:
/// longer than any create call lasts.
pub const INTENT_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether what left then is in doubt. What is dated ahead left under a clock that was ahead, nobody
/// knows when (T2): asking about it too early asks once too often.
fn is_overdue(left: Timestamp, now: Timestamp) -> bool {
    now < left || now.since(left) >= INTENT_TIMEOUT
}

/// Where an order stands (section 3 of the invariants).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderState {
    /// May still be paid.
    Open,
    /// One attempt settled it. Never left.
    Paid,
    /// Ended without payment. Never left.
    Closed,
}

impl OrderState {
    /// Every state, for stores that read names back.
    pub const ALL: [Self; 3] = [Self::Open, Self::Paid, Self::Closed];

    /// The name on the wire and in the database (`orderStatus`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Paid => "PAID",
            Self::Closed => "CLOSED",
        }
    }
}

/// Why an order is being ended: a stored fact, from which on nothing is started on it (O4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Its time ran out.
    Expired,
    /// The merchant closed it.
    Merchant,
}

impl CloseReason {
    /// Every ending, for stores that read names back.
    pub const ALL: [Self; 2] = [Self::Expired, Self::Merchant];

    /// The name in the database and the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "EXPIRED",
            Self::Merchant => "MERCHANT",
        }
    }
}

/// What the merchant asked for; never changes (section 1 of the invariants). Two requests with
/// one number are the same if these are equal (Q7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTerms {
    /// Whose order.
    pub merchant: MerchantId,
    /// The merchant's number.
    pub merchant_order_no: MerchantOrderNo,
    /// The name payers see.
    pub merchant_name: Box<str>,
    /// The merchant's date.
    pub order_date: CalendarDay,
    /// How much, in which currency.
    pub amount: Amount,
    /// One mode, or a choice.
    pub business_type: BusinessType,
    /// What kind of payment.
    pub transaction_type: TransactionType,
    /// `bankReturnUrl`: where `ORDER_PAID` goes.
    pub return_url: Box<str>,
    /// The payer's number.
    pub mobile: MobileNo,
    /// 产品编号.
    pub goods_no: Option<Box<str>>,
    /// 产品名称.
    pub goods_name: Option<Box<str>>,
    /// 产品描述.
    pub goods_description: Option<Box<str>>,
    /// Opaque, returned as it came.
    pub attach: Option<Box<str>>,
    /// 1 to 1440.
    pub expire_minutes: u16,
    /// The institution named when placing, and the mode in it.
    pub named: Option<(InstitutionId, Option<Mode>)>,
}

/// One request to be paid, with everything that became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Our number.
    pub no: PayOrderNo,
    /// What was asked.
    pub terms: Arc<OrderTerms>,
    /// Opens the payer's page.
    pub page_secret: [u8; 16],
    /// Where `ORDER_CLOSED` goes, as enrolled when the order was placed.
    pub notice_url: Option<Box<str>>,
    /// When it was placed.
    pub created: Timestamp,
    /// When it starts to be ended.
    pub expires: Timestamp,
    /// Where it stands.
    pub state: OrderState,
    /// Whether and why it is being ended.
    pub ending: Option<CloseReason>,
    /// Grows by one with every change (K4).
    pub version: u64,
    /// The attempt that paid it (O1).
    pub paying_attempt_id: Option<AttemptId>,
    /// Every try, in order.
    pub attempts: Vec<Attempt>,
    /// What went back, is on its way back, or was to go back.
    pub refunds: Vec<Refund>,
}

/// What a new order is made of.
#[derive(Debug)]
pub struct NewOrder {
    /// Minted.
    pub no: PayOrderNo,
    /// Drawn.
    pub page_secret: [u8; 16],
    /// What was asked.
    pub terms: OrderTerms,
    /// The merchant's enrolled `notice_url`.
    pub notice_url: Option<Box<str>>,
}

/// What a new attempt is made of.
#[derive(Debug, Clone)]
pub struct NewAttempt {
    /// Minted.
    pub id: AttemptId,
    /// Through whom.
    pub institution: InstitutionId,
    /// Our account there.
    pub account: AccountId,
    /// Who receives the money there.
    pub receiver: ReceiverId,
    /// How the payer pays.
    pub mode: Mode,
    /// For the creating call.
    pub stamp: Stamp,
    /// The configuration in force (F2).
    pub configuration: u64,
    /// This process.
    pub epoch: Epoch,
}

/// What a piece of evidence means for an order.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    /// It moves something.
    Commit(Box<Change>),
    /// Nothing new (C5).
    Repeat,
    /// Contradicts an end: ask the institution first (V4).
    ConfirmByQuery,
    /// Cannot be true: put aside, alarm (V3).
    Quarantine(Contradiction),
}

impl Order {
    /// Whether something may be started on it (O4).
    pub fn accepts_attempts(&self, now: Timestamp) -> bool {
        self.state == OrderState::Open && self.ending.is_none() && now < self.expires
    }

    /// The attempt through which money may still move; at most one while the order is open (A2).
    pub fn live_attempt(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.state.is_live())
    }

    /// The attempt that paid it (O1).
    pub fn paying_attempt(&self) -> Option<&Attempt> {
        let paying_attempt_id = self.paying_attempt_id.as_ref()?;
        self.attempts
            .iter()
            .find(|attempt| attempt.id == *paying_attempt_id)
    }

    /// What the institution said of the payment.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.paying_attempt()?.receipt.as_ref()
    }

    /// The attempt an answer speaks of: the settling one, else the latest.
    pub fn reported_attempt(&self) -> Option<&Attempt> {
        self.paying_attempt().or(self.attempts.last())
    }

    /// Whether this of it could still be ended by "not found" (V5).
    pub fn may_end_as_not_found(&self, about: &EvidenceSubject) -> bool {
        match about {
            EvidenceSubject::Attempt(id) => {
                let mut all = self.attempts.iter();
                all.any(|one| one.id == *id && one.state.is_live() && !one.named)
            }
            EvidenceSubject::Refund(no) => self
                .refund(no)
                .is_some_and(|one| !one.state.is_over() && !one.named),
        }
    }

    /// The token of its page.
    pub fn page_token(&self) -> PageToken {
        PageToken::new(self.no.clone(), self.page_secret)
    }

    /// When an order that is not being ended yet expires.
    pub fn expiry_due(&self) -> Option<Timestamp> {
        (self.state == OrderState::Open && self.ending.is_none()).then_some(self.expires)
    }
}
