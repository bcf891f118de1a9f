//! An order: its terms, attempts and refunds, and its legal transitions.
//!
//! Transitions are decided in `deciding`, on the whole order, and returned as one `Change`.

mod choosing;
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
use crate::domain::institutions::{BusinessType, Facts, Mode, Product, TransactionType};
use crate::domain::personal::MobileNo;
use crate::domain::personal::payer_context::PayerDetails;
use crate::domain::refund::Refund;

/// Maximum number of attempts of one order: it is loaded whole, so its size is bounded.
pub const ATTEMPTS_MAX: usize = 20;

/// How long an attempt may stay INTENT in a live process before it is unresolved: longer than any
/// create call lasts.
pub const INTENT_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether a call sent at `left` is unresolved. A time in the future was taken from a clock that
/// was ahead, so the true time is unknown (T2); the only cost of polling too early is one extra
/// query.
fn is_overdue(left: Timestamp, now: Timestamp) -> bool {
    now < left || now.since(left) >= INTENT_TIMEOUT
}

/// State of an order (docs/requirements.md, Invariants, O1 to O6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderState {
    /// May still be paid.
    Open,
    /// One attempt paid it. Terminal.
    Paid,
    /// Ended without payment. Terminal.
    Closed,
}

impl OrderState {
    /// Every state; stores parse names with it.
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

/// Why an order is ending: once stored, no new attempt may be started (O4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// It expired.
    Expired,
    /// The merchant closed it.
    Merchant,
}

impl CloseReason {
    /// Every reason; stores parse names with it.
    pub const ALL: [Self; 2] = [Self::Expired, Self::Merchant];

    /// The name in the database and the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "EXPIRED",
            Self::Merchant => "MERCHANT",
        }
    }
}

/// The merchant's request; immutable. Two requests with the same
/// number are the same if these are equal (Q7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTerms {
    /// The merchant.
    pub merchant: MerchantId,
    /// The merchant's number.
    pub merchant_order_no: MerchantOrderNo,
    /// The name payers see.
    pub merchant_name: Box<str>,
    /// The merchant's date.
    pub order_date: CalendarDay,
    /// Amount and currency.
    pub amount: Amount,
    /// One mode, or a choice of institutions.
    pub business_type: BusinessType,
    /// Transaction type.
    pub transaction_type: TransactionType,
    /// `bankReturnUrl`: destination of `ORDER_PAID`.
    pub return_url: Box<str>,
    /// The payer's number.
    pub mobile: MobileNo,
    /// 产品编号.
    pub goods_no: Option<Box<str>>,
    /// 产品名称.
    pub goods_name: Option<Box<str>>,
    /// 产品描述.
    pub goods_description: Option<Box<str>>,
    /// Opaque, returned unchanged.
    pub attach: Option<Box<str>>,
    /// 1 to 1440.
    pub expire_minutes: u16,
    /// The institution named in the order, and the mode.
    pub named: Option<(InstitutionId, Option<Mode>)>,
}

impl OrderTerms {
    /// When an order of these terms expires that is placed now.
    pub fn expires(&self, now: Timestamp) -> Timestamp {
        let minutes = u64::from(self.expire_minutes);
        now.plus(Duration::from_secs(minutes.saturating_mul(60)))
    }
}

/// One order, with all its attempts and refunds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Our number.
    pub no: PayOrderNo,
    /// The terms requested.
    pub terms: Arc<OrderTerms>,
    /// Secret of the payment page.
    pub page_secret: [u8; 16],
    /// Destination of `ORDER_CLOSED`, as configured when the order was created.
    pub notice_url: Option<Box<str>>,
    /// When it was created.
    pub created: Timestamp,
    /// When it expires and begins to end.
    pub expires: Timestamp,
    /// Its state.
    pub state: OrderState,
    /// Whether and why it is ending.
    pub ending: Option<CloseReason>,
    /// Grows by one with every change (K4).
    pub version: u64,
    /// The attempt that paid it (O1).
    pub paying_attempt_id: Option<AttemptId>,
    /// The institution that was chosen for the payer, while its attempt waits for the payer to go on
    /// from our page: its product has to be told what only the payer's browser shows.
    pub chosen: Option<InstitutionId>,
    /// All attempts, in order.
    pub attempts: Vec<Attempt>,
    /// All refunds: succeeded, pending or failed.
    pub refunds: Vec<Refund>,
}

/// Input of a new order.
#[derive(Debug)]
pub struct NewOrder {
    /// Generated.
    pub no: PayOrderNo,
    /// Random.
    pub page_secret: [u8; 16],
    /// The terms requested.
    pub terms: OrderTerms,
    /// The merchant's configured `notice_url`.
    pub notice_url: Option<Box<str>>,
}

/// Input of a new attempt.
#[derive(Debug, Clone)]
pub struct NewAttempt {
    /// Generated.
    pub id: AttemptId,
    /// The institution.
    pub institution: InstitutionId,
    /// Our account there.
    pub account: AccountId,
    /// Who receives the money there.
    pub receiver: ReceiverId,
    /// How the payer pays.
    pub mode: Mode,
    /// What it is paid with.
    pub product: Product,
    /// What is known of the payer; the attempt keeps what its product wants.
    pub payer: PayerDetails,
    /// For the create call.
    pub stamp: Stamp,
    /// The current configuration version (F2).
    pub configuration: u64,
    /// This process.
    pub epoch: Epoch,
}

/// Effect of evidence on an order.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changes something.
    Commit(Box<Change>),
    /// No change (C5).
    Repeat,
    /// It contradicts a final state: query the institution first (V4).
    ConfirmByQuery,
    /// It cannot be true: not applied; alarm (V3).
    Quarantine(Contradiction),
}

impl Order {
    /// Whether a new attempt may be started (O4).
    pub fn accepts_attempts(&self, now: Timestamp) -> bool {
        self.state == OrderState::Open && self.ending.is_none() && now < self.expires
    }

    /// The attempt through which money can still move; at most one while the order is open (A2).
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

    /// The institution's confirmation of the payment.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.paying_attempt()?.receipt.as_ref()
    }

    /// The attempt reported in replies: the paying one, otherwise the latest.
    pub fn reported_attempt(&self) -> Option<&Attempt> {
        self.paying_attempt().or(self.attempts.last())
    }

    /// Whether "not found" could still end this object (V5).
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

    /// Whether "not found" about this object is conclusive, in reply to a query sent at `asked`, when
    /// nothing had been sent for it for `quiet` (A5, V5).
    pub fn is_not_found_conclusive(
        &self,
        about: &EvidenceSubject,
        quiet: Option<Duration>,
        asked: Timestamp,
        facts: &Facts,
    ) -> bool {
        match about {
            EvidenceSubject::Attempt(id) => {
                let known = self.attempts.iter().find(|one| one.id == *id);
                known.is_some_and(|one| one.is_not_found_conclusive(quiet, asked, facts))
            }
            EvidenceSubject::Refund(_) => quiet.is_some_and(|it| it >= facts.refund_visibility),
        }
    }

    /// The token of its payment page.
    pub fn page_token(&self) -> PageToken {
        PageToken::new(self.no.clone(), self.page_secret)
    }

    /// When the order expires, unless it is already ending.
    pub fn expiry_due(&self) -> Option<Timestamp> {
        (self.state == OrderState::Open && self.ending.is_none()).then_some(self.expires)
    }
}
