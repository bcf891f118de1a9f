//! Money that a merchant gives back, decided on the whole order: what was asked before, and what
//! there still is to give (R1, R6, R7).

use crate::domain::amount::Amount;
use crate::domain::attempt::{Attempt, Epoch};
use crate::domain::change::{Change, ChangeCause};
use crate::domain::identifiers::{RefundOrderNo, RefundRequestNo, Timestamp};
use crate::domain::institutions::{RefundLack, RefundRules};
use crate::domain::order::{Order, OrderState};
use crate::domain::refund::{Refund, RefundDetails, RefundOrigin, RefundState, SendStatus};
use crate::domain::refusal::Refusal;
use crate::domain::schedule::Schedule;

/// Refunds of one order that hold some of what was paid. One that definitely failed uses none up.
pub const REFUNDS_MAX: usize = 50;

/// Refunds that a merchant may ask for of one order, those that failed among them: it is loaded whole, so
/// they are bounded.
pub const REFUNDS_REQUESTED_MAX: usize = 500;

/// How much of an order went back (O6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundView {
    /// Nothing.
    None,
    /// Some of it.
    Partial,
    /// All of it.
    Full,
}

impl RefundView {
    /// The name on the wire (`orderRefundStatus`).
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Partial => "PARTIAL",
            Self::Full => "FULL",
        }
    }
}

/// What a merchant asks for (A3.4).
#[derive(Debug, Clone)]
pub struct RefundRequest {
    /// Minted, for the case that it is new.
    pub no: RefundOrderNo,
    /// Its own number, if it gave one.
    pub number: Option<RefundRequestNo>,
    /// How much.
    pub amount: Amount,
    /// In its words.
    pub reason: Option<Box<str>>,
    /// Where events of it go.
    pub notice_url: Option<Box<str>>,
    /// This process.
    pub epoch: Epoch,
}

impl Order {
    /// Refunds that the merchant asked for; surplus is counted apart (R1).
    fn requested_refunds(&self) -> impl Iterator<Item = &Refund> {
        self.refunds
            .iter()
            .filter(|refund| refund.request().is_some())
    }

    /// What is held or went back of what was paid (R1). Unit: minor units.
    pub fn reserved_minor(&self) -> i64 {
        let holding = self
            .requested_refunds()
            .filter(|one| one.state.is_reserved());
        holding.fold(0, |sum, one| sum.saturating_add(one.counted_minor()))
    }

    /// What went back of what was paid (R2). Unit: minor units.
    pub fn refunded_minor(&self) -> i64 {
        let back = self
            .requested_refunds()
            .filter(|one| one.state == RefundState::Succeeded);
        back.fold(0, |sum, one| sum.saturating_add(one.counted_minor()))
    }

    /// How much went back, computed (O6).
    pub fn refund_view(&self) -> RefundView {
        match self.refunded_minor() {
            0 => RefundView::None,
            back if back == self.terms.amount.minor() => RefundView::Full,
            _ => RefundView::Partial,
        }
    }

    /// One of its refunds.
    pub fn refund(&self, no: &RefundOrderNo) -> Option<&Refund> {
        self.refunds.iter().find(|refund| refund.no == *no)
    }

    /// The attempt along which a refund's money goes back (R5).
    pub fn attempt_of(&self, refund: &Refund) -> Option<&Attempt> {
        self.attempts.iter().find(|one| one.id == refund.attempt)
    }

    /// The refund of this order that a request speaks of already: of the same number (R6), or
    /// without one of the same sum, unless that has definitely failed (R7).
    ///
    /// # Errors
    /// The number was used for another sum.
    pub fn find_repeated_request(&self, asked: &RefundRequest) -> Result<Option<&Refund>, Refusal> {
        let Some(number) = &asked.number else {
            let mut same = self
                .requested_refunds()
                .filter(|one| one.amount == asked.amount);
            return Ok(same.find(|one| one.state.is_reserved()));
        };
        let is_same = |one: &&Refund| {
            one.request()
                .is_some_and(|request| request.number == *number)
        };
        match self.requested_refunds().find(is_same) {
            Some(known) if known.amount != asked.amount => Err(Refusal::RefundConflict),
            known => Ok(known),
        }
    }

    /// Reserves a refund that was not asked for before: durable before a byte leaves (R4).
    ///
    /// # Errors
    /// The order is not paid (R8), the window is over, the institution does not make such refunds
    /// (R-6.1.5-2), or it is more than is left (R1). The cause comes back with the refusal.
    pub fn reserve_refund(
        &self,
        asked: RefundRequest,
        rules: &RefundRules,
        cause: ChangeCause,
        now: Timestamp,
    ) -> Result<Change, (Refusal, ChangeCause)> {
        let attempt = match self.may_refund(&asked, rules, now) {
            Ok(attempt) => attempt.id.clone(),
            Err(refusal) => return Err((refusal, cause)),
        };
        let sum = asked.amount.to_string();
        let failed = self
            .requested_refunds()
            .filter(|one| one.amount == asked.amount && !one.state.is_reserved());
        let number = asked
            .number
            .unwrap_or_else(|| RefundRequestNo::automatic(&self.no, &sum, failed.count()));
        let mut after = self.clone();
        after.refunds.push(Refund {
            no: asked.no,
            attempt,
            amount: asked.amount,
            state: RefundState::Reserved,
            why: RefundOrigin::Asked(RefundDetails {
                number,
                reason: asked.reason,
                notice_url: asked.notice_url,
            }),
            created: now,
            sending: SendStatus::Left(now),
            schedule: Schedule::from(now),
            epoch: asked.epoch,
            named: false,
            receipt: None,
            reason: None,
            late_success: false,
            over_refunded_minor: 0,
            decision: None,
        });
        Ok(Change::between(Some(self), after, cause, now))
    }

    fn may_refund(
        &self,
        asked: &RefundRequest,
        rules: &RefundRules,
        now: Timestamp,
    ) -> Result<&Attempt, Refusal> {
        let paying_attempt_id = self.paying_attempt();
        let (OrderState::Paid, Some(attempt)) = (self.state, paying_attempt_id) else {
            return Err(Refusal::OrderUnpaid);
        };
        let paid_at = attempt
            .receipt
            .as_ref()
            .map_or(self.created, |one| one.paid_at);
        if now > paid_at.plus(rules.window) {
            return Err(Refusal::RefundWindowOver);
        }
        let holds_some = self.reserved_minor() > 0;
        let lack = match asked.amount == attempt.amount {
            _ if holds_some && !rules.kinds.repeated => Some(RefundLack::Repeated),
            true if !rules.kinds.full => Some(RefundLack::Full),
            false if !rules.kinds.partial => Some(RefundLack::Partial),
            true | false => None,
        };
        let rest = attempt.amount.minor().saturating_sub(self.reserved_minor());
        // What goes back beside what was paid is counted apart: its loss is not the merchant's (R1).
        let has_loss = self
            .requested_refunds()
            .any(|one| one.over_refunded_minor > 0);
        if asked.amount.currency() != attempt.amount.currency()
            || asked.amount.minor() > rest
            || has_loss
        {
            let rest = Amount::from_minor(rest, attempt.amount.currency()).ok();
            return Err(Refusal::RefundExceedsRemaining {
                rest: rest.filter(|_| !has_loss),
            });
        }
        if let Some(lack) = lack {
            return Err(Refusal::RefundNotSupported(lack));
        }
        let holding = self
            .requested_refunds()
            .filter(|one| one.state.is_reserved());
        if holding.count() >= REFUNDS_MAX
            || self.requested_refunds().count() >= REFUNDS_REQUESTED_MAX
        {
            return Err(Refusal::RefundsExhausted);
        }
        Ok(attempt)
    }
}
