//! Calls about one payment or refund: one family, whose outcomes are all evidence.

use crate::domain::attempt::Attempt;
use crate::domain::evidence::{EvidenceSource, EvidenceSubject};
use crate::domain::order::OrderTerms;
use crate::domain::refund::Refund;
use crate::institution::settings::SettingValues;
use crate::institution::step::Effect;

/// A call to an institution. Borrows from a committed order: nothing else can be sent (A1).
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// What it asks for.
    pub operation: Operation<'a>,
    /// The attempt it is about, or whose payment is refunded (R5).
    pub attempt: &'a Attempt,
    /// The terms of its order.
    pub terms: &'a OrderTerms,
    /// What the contract says of the sub-merchant who receives the money of this attempt
    /// (`sub_settings` of the kind). `None` for a direct account, and once the contract names
    /// another receiver.
    pub sub_merchant: Option<&'a SettingValues>,
}

/// What a call asks an institution for.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// Create this payment; the reply has the payment action.
    Create,
    /// Query the payment's state.
    Query,
    /// Close the payment.
    Close,
    /// Refund this amount of the payment.
    Refund(&'a Refund),
    /// Query the refund's state.
    RefundQuery(&'a Refund),
}

impl<'a> Call<'a> {
    /// A call without a sub-merchant.
    pub fn new(operation: Operation<'a>, attempt: &'a Attempt, terms: &'a OrderTerms) -> Self {
        Self {
            operation,
            attempt,
            terms,
            sub_merchant: None,
        }
    }

    /// The refund it is about, if any.
    pub fn refund(&self) -> Option<&'a Refund> {
        match self.operation {
            Operation::Refund(refund) | Operation::RefundQuery(refund) => Some(refund),
            Operation::Create | Operation::Query | Operation::Close => None,
        }
    }

    /// Its subject: our number of the attempt or refund, which the institution knows (K2).
    pub fn about(&self) -> EvidenceSubject {
        match self.refund() {
            Some(refund) => EvidenceSubject::Refund(refund.no.clone()),
            None => EvidenceSubject::Attempt(self.attempt.id.clone()),
        }
    }

    /// Whether it may move money, so that its send must be tracked; the others only query or close.
    pub fn is_send(&self) -> bool {
        match self.operation {
            Operation::Create | Operation::Refund(_) => true,
            Operation::Query | Operation::Close | Operation::RefundQuery(_) => false,
        }
    }

    /// The effect of its request, if the call is a single step.
    pub fn effect(&self) -> Effect {
        if self.is_send() {
            Effect::MayMoveMoney
        } else {
            Effect::None
        }
    }

    /// The source of evidence that its reply is.
    pub fn means(&self) -> EvidenceSource {
        match self.operation {
            Operation::Create => EvidenceSource::Create,
            Operation::Query | Operation::RefundQuery(_) => EvidenceSource::Query,
            Operation::Close => EvidenceSource::Close,
            Operation::Refund(_) => EvidenceSource::Refund,
        }
    }

    /// A stable label for metrics and logs.
    pub fn word(&self) -> &'static str {
        match self.operation {
            Operation::Create => "create",
            Operation::Query => "query",
            Operation::Close => "close",
            Operation::Refund(_) => "refund",
            Operation::RefundQuery(_) => "refund_query",
        }
    }
}

/// A call that owns its data, so that it can move to another thread.
pub struct OwnedCall {
    attempt: Attempt,
    terms: OrderTerms,
    refund: Option<Refund>,
    sub_merchant: Option<SettingValues>,
    operation: for<'a> fn(&'a Self) -> Option<Operation<'a>>,
}

impl OwnedCall {
    /// Copies what the call borrows.
    pub fn of(call: &Call<'_>) -> Self {
        Self {
            attempt: call.attempt.clone(),
            terms: call.terms.clone(),
            refund: call.refund().cloned(),
            sub_merchant: call.sub_merchant.cloned(),
            operation: match call.operation {
                Operation::Create => |_| Some(Operation::Create),
                Operation::Query => |_| Some(Operation::Query),
                Operation::Close => |_| Some(Operation::Close),
                Operation::Refund(_) => |own| own.refund.as_ref().map(Operation::Refund),
                Operation::RefundQuery(_) => |own| own.refund.as_ref().map(Operation::RefundQuery),
            },
        }
    }

    /// The call; always there, because it was built from one.
    pub fn call(&self) -> Option<Call<'_>> {
        Some(Call {
            operation: (self.operation)(self)?,
            attempt: &self.attempt,
            terms: &self.terms,
            sub_merchant: self.sub_merchant.as_ref(),
        })
    }
}
