//! Refunds requested by a merchant, decided on the whole order: repeated requests and the
//! refundable amount (R1, R6, R7).

use crate::domain::amount::Amount;
use crate::domain::attempt::{Attempt, Epoch};
use crate::domain::change::{Change, ChangeCause};
use crate::domain::identifiers::{RefundOrderNo, RefundRequestNo, Timestamp};
use crate::domain::institutions::{RefundLack, RefundRules};
use crate::domain::order::{Order, OrderState};
use crate::domain::refund::{Refund, RefundDetails, RefundOrigin, RefundState, SendStatus};
use crate::domain::refusal::Refusal;
use crate::domain::schedule::Schedule;

/// Maximum number of refunds of one order that reserve part of the payment. Failed ones do not
/// count.
pub const REFUNDS_MAX: usize = 50;

/// Maximum number of refunds that a merchant may request for one order, including failed ones: an
/// order is loaded whole, so its size is bounded.
pub const REFUNDS_REQUESTED_MAX: usize = 500;

/// Refund status of an order (O6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundView {
    /// Nothing was refunded.
    None,
    /// Part of it was refunded.
    Partial,
    /// All of it was refunded.
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

/// A merchant's refund request (A3.4).
#[derive(Debug, Clone)]
pub struct RefundRequest {
    /// Our number, used if the request is new.
    pub no: RefundOrderNo,
    /// The merchant's number, if given.
    pub number: Option<RefundRequestNo>,
    /// The amount.
    pub amount: Amount,
    /// The merchant's reason, free text.
    pub reason: Option<Box<str>>,
    /// Destination of its events.
    pub notice_url: Option<Box<str>>,
    /// This process.
    pub epoch: Epoch,
}

impl Order {
    /// Refunds requested by the merchant; refunds of excess payments are counted separately (R1).
    fn requested_refunds(&self) -> impl Iterator<Item = &Refund> {
        self.refunds
            .iter()
            .filter(|refund| refund.request().is_some())
    }

    /// The reserved or refunded part of the payment (R1). Unit: minor units.
    pub fn reserved_minor(&self) -> i64 {
        let reserved = self
            .requested_refunds()
            .filter(|one| one.state.is_reserved());
        reserved.fold(0, |sum, one| sum.saturating_add(one.counted_minor()))
    }

    /// The refunded part of the payment (R2). Unit: minor units.
    pub fn refunded_minor(&self) -> i64 {
        let refunded = self
            .requested_refunds()
            .filter(|one| one.state == RefundState::Succeeded);
        refunded.fold(0, |sum, one| sum.saturating_add(one.counted_minor()))
    }

    /// Refund status, derived (O6).
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

    /// The attempt being refunded (R5).
    pub fn attempt_of(&self, refund: &Refund) -> Option<&Attempt> {
        self.attempts.iter().find(|one| one.id == refund.attempt)
    }

    /// The refund that a request repeats: one with the same number (R6) or, for a request without a
    /// number, one with the same amount that has not definitely failed (R7).
    ///
    /// # Errors
    /// The number was used for a different amount.
    pub fn find_repeated_request(
        &self,
        request: &RefundRequest,
    ) -> Result<Option<&Refund>, Refusal> {
        let Some(number) = &request.number else {
            let mut same = self
                .requested_refunds()
                .filter(|one| one.amount == request.amount);
            return Ok(same.find(|one| one.state.is_reserved()));
        };
        let is_same = |one: &&Refund| {
            one.request()
                .is_some_and(|request| request.number == *number)
        };
        match self.requested_refunds().find(is_same) {
            Some(known) if known.amount != request.amount => Err(Refusal::RefundConflict),
            known => Ok(known),
        }
    }

    /// Reserves a new refund: durable before any byte is sent (R4).
    ///
    /// # Errors
    /// The order is not paid (R8), the refund window is over, the institution does not support such
    /// refunds (R-6.1.5-2), or the amount exceeds the refundable amount (R1). The cause is returned
    /// with the refusal.
    pub fn reserve_refund(
        &self,
        request: RefundRequest,
        rules: &RefundRules,
        cause: ChangeCause,
        now: Timestamp,
    ) -> Result<Change, (Refusal, ChangeCause)> {
        let attempt = match self.may_refund(&request, rules, now) {
            Ok(attempt) => attempt.id.clone(),
            Err(refusal) => return Err((refusal, cause)),
        };
        let sum = request.amount.to_string();
        let failed = self
            .requested_refunds()
            .filter(|one| one.amount == request.amount && !one.state.is_reserved());
        let number = request
            .number
            .unwrap_or_else(|| RefundRequestNo::automatic(&self.no, &sum, failed.count()));
        let mut after = self.clone();
        after.refunds.push(Refund {
            no: request.no,
            attempt,
            amount: request.amount,
            state: RefundState::Reserved,
            why: RefundOrigin::Asked(RefundDetails {
                number,
                reason: request.reason,
                notice_url: request.notice_url,
            }),
            created: now,
            sending: SendStatus::Left(now),
            schedule: Schedule::from(now),
            epoch: request.epoch,
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
        request: &RefundRequest,
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
        let has_reserved = self.reserved_minor() > 0;
        let lack = match request.amount == attempt.amount {
            _ if has_reserved && !rules.kinds.repeated => Some(RefundLack::Repeated),
            true if !rules.kinds.full => Some(RefundLack::Full),
            false if !rules.kinds.partial => Some(RefundLack::Partial),
            true | false => None,
        };
        let refundable = attempt.amount.minor().saturating_sub(self.reserved_minor());
        // An over-refund is booked separately: the loss is not the merchant's (R1).
        let has_loss = self
            .requested_refunds()
            .any(|one| one.over_refunded_minor > 0);
        if request.amount.currency() != attempt.amount.currency()
            || request.amount.minor() > refundable
            || has_loss
        {
            let refundable = Amount::from_minor(refundable, attempt.amount.currency()).ok();
            return Err(Refusal::RefundExceedsRemaining {
                rest: refundable.filter(|_| !has_loss),
            });
        }
        if let Some(lack) = lack {
            return Err(Refusal::RefundNotSupported(lack));
        }
        let reserved = self
            .requested_refunds()
            .filter(|one| one.state.is_reserved());
        if reserved.count() >= REFUNDS_MAX
            || self.requested_refunds().count() >= REFUNDS_REQUESTED_MAX
        {
            return Err(Refusal::RefundsExhausted);
        }
        Ok(attempt)
    }
}
