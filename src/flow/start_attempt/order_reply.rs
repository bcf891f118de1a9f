//! The reply to placing an order or selecting an institution.

use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::evidence::{PaymentAction, Reason};
use crate::domain::identifiers::Timestamp;
use crate::domain::order::{Order, OrderState};

/// The current order, and the outcome for the caller.
#[derive(Debug)]
pub struct OrderReply {
    /// The order, committed (O5).
    pub order: Order,
    /// `result` in the reply.
    pub outcome: OrderOutcome,
    /// A payment action made for this reply: never stored, and instead of the stored one.
    pub made: Option<PaymentAction>,
}

/// The `result` of a reply (`docs/openapi.yaml`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderOutcome {
    /// Accepted.
    Accepted,
    /// Already paid; nothing was started (R-6.1.1-2).
    AlreadyPaid,
    /// The institution was called and its reply is not known yet: 202.
    Pending,
    /// The order is closed.
    Closed,
    /// The institution refused definitively; the order stays open.
    Refused(Reason),
}

impl OrderOutcome {
    /// Its value on the wire (`result`).
    pub fn word(&self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::AlreadyPaid => "ALREADY_PAID",
            Self::Pending => "PENDING",
            Self::Closed => "CLOSED",
            Self::Refused(_) => "REFUSED",
        }
    }
}

impl OrderReply {
    /// An order with its outcome.
    pub fn of(order: Order, outcome: OrderOutcome) -> Self {
        Self {
            order,
            outcome,
            made: None,
        }
    }

    /// An order whose payer can pay with this payment action.
    pub(in crate::flow) fn payable(order: Order, made: PaymentAction) -> Self {
        Self {
            made: Some(made),
            ..Self::of(order, OrderOutcome::Accepted)
        }
    }

    /// What the payer needs to pay, of an order that may still be paid and of no other: otherwise
    /// our own reply would cause a second payment.
    pub fn payment_action(&self) -> Option<&PaymentAction> {
        let order = &self.order;
        if order.state != OrderState::Open || order.ending.is_some() {
            return None;
        }
        let attempt = order.live_attempt()?;
        let stored = attempt.payment_action.as_ref();
        (attempt.state == AttemptState::Accepted)
            .then(|| self.made.as_ref().or(stored))
            .flatten()
    }

    /// An order for which no institution had to be called.
    pub(in crate::flow) fn accepted(order: Order) -> Self {
        Self::of(order, OrderOutcome::Accepted)
    }

    /// An order whose institution's answer is not known yet.
    pub(in crate::flow) fn pending(order: Order) -> Self {
        Self::of(order, OrderOutcome::Pending)
    }

    /// A paid order.
    pub(in crate::flow) fn paid(order: Order) -> Self {
        Self::of(order, OrderOutcome::AlreadyPaid)
    }

    /// The current state of an order: its latest attempt decides the outcome.
    pub(in crate::flow) fn current(order: Order, now: Timestamp) -> Self {
        let outcome = match order.state {
            OrderState::Paid => OrderOutcome::AlreadyPaid,
            OrderState::Closed => OrderOutcome::Closed,
            OrderState::Open => match order.attempts.last() {
                None => OrderOutcome::Accepted,
                Some(attempt) if attempt.state.is_live() && order.ending.is_some() => {
                    OrderOutcome::Pending
                }
                Some(attempt) => attempt_outcome(attempt, now),
            },
        };
        Self::of(order, outcome)
    }
}

fn attempt_outcome(attempt: &Attempt, now: Timestamp) -> OrderOutcome {
    match attempt.state {
        AttemptState::Accepted if is_usable(attempt, now) => OrderOutcome::Accepted,
        AttemptState::Paid => OrderOutcome::AlreadyPaid,
        AttemptState::Failed => OrderOutcome::Refused(
            attempt
                .reason
                .clone()
                .unwrap_or_else(|| Reason::from_code("REFUSED")),
        ),
        AttemptState::Intent
        | AttemptState::Unknown
        | AttemptState::Accepted
        | AttemptState::Closing => OrderOutcome::Pending,
        // The payer may choose again.
        AttemptState::Closed => OrderOutcome::Accepted,
    }
}

/// Whether the stored payment action can still be used.
pub(in crate::flow) fn is_usable(attempt: &Attempt, now: Timestamp) -> bool {
    attempt
        .payment_action
        .as_ref()
        .is_some_and(|payment_action| payment_action.expires.is_none_or(|expires| now < expires))
}
