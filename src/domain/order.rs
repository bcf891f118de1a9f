//! An order, whole: its terms, its attempts, its surplus; and which moves are legal.
//!
//! Every decision about money is made here, from the whole order, and comes out as one `Change`.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::amount::Amount;
use crate::domain::attempt::{Attempt, AttemptState, Contradiction, Epoch, Move, Stamp};
use crate::domain::change::{Cause, Change};
use crate::domain::evidence::{Ambiguity, Evidence, Finding, Means, Receipt};
use crate::domain::identifiers::{
    AccountId, AttemptId, CalendarDay, InstitutionId, MerchantId, MerchantOrderNo, PageToken,
    PayOrderNo, RefundOrderNo, Timestamp,
};
use crate::domain::institutions::{BusinessType, Facts, Mode, TransactionType};
use crate::domain::personal::MobileNo;
use crate::domain::refund::{Refund, RefundState, SurplusCause};
use crate::domain::refusal::Refusal;
use crate::domain::schedule;

/// Attempts of one order at most: it is loaded whole, so it is bounded.
pub const ATTEMPTS_MAX: usize = 20;

/// How long an attempt may stand as INTENT in a living process before it counts as in doubt:
/// longer than any create call lasts.
pub const INTENT_PATIENCE: Duration = Duration::from_secs(15);

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
pub enum Ending {
    /// Its time ran out.
    Expired,
    /// The merchant closed it.
    Merchant,
}

impl Ending {
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
pub struct Terms {
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
    pub terms: Arc<Terms>,
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
    pub ending: Option<Ending>,
    /// Grows by one with every change (K4).
    pub version: u64,
    /// The attempt that paid it (O1).
    pub settling: Option<AttemptId>,
    /// Every try, in order.
    pub attempts: Vec<Attempt>,
    /// Surplus on its way back.
    pub refunds: Vec<Refund>,
}

/// What a new order is made of.
#[derive(Debug)]
pub struct Opening {
    /// Minted.
    pub no: PayOrderNo,
    /// Drawn.
    pub page_secret: [u8; 16],
    /// What was asked.
    pub terms: Terms,
    /// The merchant's enrolled `notice_url`.
    pub notice_url: Option<Box<str>>,
}

/// What a new attempt is made of.
#[derive(Debug, Clone)]
pub struct Start {
    /// Minted.
    pub id: AttemptId,
    /// Through whom.
    pub institution: InstitutionId,
    /// The merchant's account there.
    pub account: AccountId,
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
pub enum Weighed {
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
    /// A new order, with its first attempt where the institution is known already: one change.
    pub fn open(opening: Opening, first: Option<Start>, cause: Cause, now: Timestamp) -> Change {
        let minutes = u64::from(opening.terms.expire_minutes);
        let mut order = Self {
            no: opening.no,
            page_secret: opening.page_secret,
            notice_url: opening.notice_url,
            created: now,
            expires: now.plus(Duration::from_secs(minutes.saturating_mul(60))),
            terms: Arc::new(opening.terms),
            state: OrderState::Open,
            ending: None,
            version: 0,
            settling: None,
            attempts: Vec::new(),
            refunds: Vec::new(),
        };
        order
            .attempts
            .extend(first.map(|start| order.intent(start)));
        Change::between(None, order, cause, now)
    }

    /// A try through one institution: the intent, durable before a byte leaves (A1).
    ///
    /// # Errors
    /// The order is not open, is being ended or has expired (O4); it has a live attempt (A2); it
    /// had [`ATTEMPTS_MAX`]. The cause comes back with the refusal, so that its nonce can still
    /// be spent (Q5).
    pub fn start_attempt(
        &self,
        start: Start,
        cause: Cause,
        now: Timestamp,
    ) -> Result<Change, (Refusal, Cause)> {
        if !self.takes_attempts(now) {
            return Err((Refusal::OrderClosed, cause));
        }
        if self.live_attempt().is_some() {
            return Err((Refusal::Contended, cause));
        }
        if self.attempts.len() >= ATTEMPTS_MAX {
            return Err((Refusal::AttemptsExhausted, cause));
        }
        let mut after = self.clone();
        after.attempts.push(self.intent(start));
        Ok(Change::between(Some(self), after, cause, now))
    }

    fn intent(&self, start: Start) -> Attempt {
        Attempt {
            id: start.id,
            seq: u32::try_from(self.attempts.len())
                .unwrap_or(u32::MAX)
                .saturating_add(1),
            institution: start.institution,
            account: start.account,
            mode: start.mode,
            amount: self.terms.amount,
            state: AttemptState::Intent,
            stamp: start.stamp,
            sent_at: start.stamp.now,
            configuration: start.configuration,
            epoch: start.epoch,
            handover: None,
            receipt: None,
            reason: None,
            late_success: false,
        }
    }

    /// Notes that the live attempt's create is about to be sent once more, so that A5 counts
    /// from the last possible send.
    pub fn repeat_create(&self, attempt: &AttemptId, cause: Cause, now: Timestamp) -> Change {
        let mut after = self.clone();
        for known in after
            .attempts
            .iter_mut()
            .filter(|known| known.id == *attempt)
        {
            known.sent_at = now;
            known.handover = None;
        }
        Change::between(Some(self), after, cause, now)
    }

    /// The payer chose another institution: the live attempt is to be closed first (A2).
    pub fn release_attempt(&self, cause: Cause, now: Timestamp) -> Result<Change, Cause> {
        let mut after = self.clone();
        if after.close_live_attempts() {
            Ok(Change::between(Some(self), after, cause, now))
        } else {
            Err(cause)
        }
    }

    /// The merchant gives up, or time does: a durable wish, and the end at once where nothing is
    /// live (O3, O4). Time alone ends nothing that is in doubt (V2).
    pub fn end(&self, why: Ending, cause: Cause, now: Timestamp) -> Result<Change, Cause> {
        if self.state != OrderState::Open {
            return Err(cause);
        }
        let mut after = self.clone();
        after.ending = self.ending.or(Some(why));
        let moved = after.close_live_attempts();
        let ended = after.close_if_idle();
        if moved || ended || after.ending != self.ending {
            Ok(Change::between(Some(self), after, cause, now))
        } else {
            Err(cause)
        }
    }

    /// What time asks of this order: to end it, or to close what is left live on a paid one.
    pub fn pursue(&self, now: Timestamp) -> Option<Change> {
        match self.state {
            OrderState::Open if self.ending.is_some() || now >= self.expires => self
                .end(self.ending.unwrap_or(Ending::Expired), Cause::Clock, now)
                .ok(),
            OrderState::Paid => self.release_attempt(Cause::Clock, now).ok(),
            OrderState::Open | OrderState::Closed => None,
        }
    }

    /// Leftovers of a dead process: what it wrote as intent may have been sent (S1).
    pub fn adopt(&self, epoch: Epoch, now: Timestamp) -> Option<Change> {
        let mut after = self.clone();
        let mut adopted = false;
        for attempt in &mut after.attempts {
            if attempt.state == AttemptState::Intent && attempt.epoch != epoch {
                attempt.state = AttemptState::Unknown;
                adopted = true;
            }
        }
        adopted.then(|| Change::between(Some(self), after, Cause::Clock, now))
    }

    /// An intent nobody came back from in a living process is in doubt as well.
    pub fn doubt_overdue(
        &self,
        attempt: &Attempt,
        facts: &Facts,
        now: Timestamp,
    ) -> Option<Change> {
        let overdue =
            attempt.state == AttemptState::Intent && now.since(attempt.sent_at) >= INTENT_PATIENCE;
        let evidence = Evidence {
            institution: attempt.institution.clone(),
            account: None,
            attempt: attempt.id.clone(),
            by: Means::Create,
            finding: Finding::Ambiguous(Ambiguity::NoAnswer),
        };
        match overdue.then(|| self.weigh(&evidence, facts, now))? {
            Weighed::Commit(change) => Some(*change),
            Weighed::Repeat | Weighed::ConfirmByQuery | Weighed::Quarantine(_) => None,
        }
    }

    /// What evidence means for this order. The only way an attempt moves on (section 2).
    pub fn weigh(&self, evidence: &Evidence, facts: &Facts, now: Timestamp) -> Weighed {
        let Some((at, attempt)) = self
            .attempts
            .iter()
            .enumerate()
            .find(|(_, known)| known.id == evidence.attempt)
        else {
            return Weighed::Quarantine(Contradiction::Institution);
        };
        if attempt.institution != evidence.institution {
            return Weighed::Quarantine(Contradiction::Institution);
        }
        if evidence
            .account
            .as_ref()
            .is_some_and(|account| *account != attempt.account)
        {
            return Weighed::Quarantine(Contradiction::Account);
        }
        match attempt.weigh(&evidence.finding, evidence.by, facts, now) {
            Move::Stay => Weighed::Repeat,
            Move::Confirm => Weighed::ConfirmByQuery,
            Move::Impossible(why) => Weighed::Quarantine(why),
            // What is being ended is not taken up again: the close is asked for once more.
            Move::To(moved)
                if moved.state == AttemptState::Accepted
                    && attempt.state == AttemptState::Closing
                    && (self.ending.is_some() || self.state != OrderState::Open) =>
            {
                Weighed::Repeat
            }
            Move::To(moved) => {
                let after = self.after_move(at, *moved, now);
                let cause = Cause::Evidence(evidence.institution.clone(), evidence.by);
                Weighed::Commit(Box::new(Change::between(Some(self), after, cause, now)))
            }
        }
    }

    fn after_move(&self, at: usize, moved: Attempt, now: Timestamp) -> Self {
        let mut after = self.clone();
        let was = self.attempts.get(at).map(|attempt| attempt.state);
        let (id, amount, state) = (moved.id.clone(), moved.amount, moved.state);
        if let Some(place) = after.attempts.get_mut(at) {
            *place = moved;
        }
        if state == AttemptState::Paid {
            if after.state == OrderState::Open {
                // The election (O1): in this transaction, and never changed.
                after.state = OrderState::Paid;
                after.settling = Some(id);
                after.close_live_attempts();
            } else {
                let cause = match was {
                    Some(AttemptState::Closed) => SurplusCause::AfterClose,
                    Some(AttemptState::Failed) => SurplusCause::AfterRefusal,
                    _ => SurplusCause::Overlap,
                };
                after.refunds.push(Refund {
                    no: RefundOrderNo::of_surplus(&id),
                    attempt: id,
                    amount,
                    state: RefundState::Reserved,
                    cause,
                    created: now,
                });
            }
        }
        after.close_if_idle();
        after
    }

    fn close_live_attempts(&mut self) -> bool {
        let mut moved = false;
        for attempt in &mut self.attempts {
            if matches!(
                attempt.state,
                AttemptState::Unknown | AttemptState::Accepted
            ) {
                attempt.state = AttemptState::Closing;
                moved = true;
            }
        }
        moved
    }

    fn close_if_idle(&mut self) -> bool {
        let idle = self.live_attempt().is_none();
        let ends = self.state == OrderState::Open && self.ending.is_some() && idle;
        if ends {
            self.state = OrderState::Closed;
        }
        ends
    }

    /// Whether something may be started on it (O4).
    pub fn takes_attempts(&self, now: Timestamp) -> bool {
        self.state == OrderState::Open && self.ending.is_none() && now < self.expires
    }

    /// The attempt through which money may still move; at most one while the order is open (A2).
    pub fn live_attempt(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.state.is_live())
    }

    /// The attempt that paid it (O1).
    pub fn settling_attempt(&self) -> Option<&Attempt> {
        let settling = self.settling.as_ref()?;
        self.attempts.iter().find(|attempt| attempt.id == *settling)
    }

    /// What the institution said of the payment.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.settling_attempt()?.receipt.as_ref()
    }

    /// The attempt an answer speaks of: the settling one, else the latest.
    pub fn telling_attempt(&self) -> Option<&Attempt> {
        self.settling_attempt().or(self.attempts.last())
    }

    /// The token of its page.
    pub fn page_token(&self) -> PageToken {
        PageToken::new(self.no.clone(), self.page_secret)
    }

    /// When it next needs attention without being asked (A6): what is live is asked about, what
    /// is open expires. Decided anew at every change; the schedule in between is the lease's.
    pub fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let ask = self
            .attempts
            .iter()
            .filter(|attempt| attempt.state.is_live())
            .map(|attempt| match attempt.state {
                AttemptState::Intent => attempt.sent_at.plus(INTENT_PATIENCE),
                AttemptState::Closing => now,
                AttemptState::Unknown
                | AttemptState::Accepted
                | AttemptState::Paid
                | AttemptState::Failed
                | AttemptState::Closed => now.plus(schedule::doubt_wait(0)),
            });
        ask.chain(self.expiry_due()).min()
    }

    /// When an order that is not being ended yet expires.
    pub fn expiry_due(&self) -> Option<Timestamp> {
        (self.state == OrderState::Open && self.ending.is_none()).then_some(self.expires)
    }
}
