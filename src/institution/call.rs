//! Calls about one payment or refund: one family, whose outcomes are all evidence.

use crate::domain::attempt::Attempt;
use crate::domain::evidence::{EvidenceSource, EvidenceSubject};
use crate::domain::order::OrderTerms;
use crate::domain::refund::Refund;
use crate::institution::step::Effect;

/// A call to an institution. Borrows from a committed order: nothing else can be sent (A1).
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// Create this payment; the reply has the payment action.
    Create(&'a Attempt, &'a OrderTerms),
    /// Query the payment's state.
    Query(&'a Attempt, &'a OrderTerms),
    /// Close the payment.
    Close(&'a Attempt, &'a OrderTerms),
    /// Refund this amount of the payment.
    Refund(&'a Refund, &'a Attempt, &'a OrderTerms),
    /// Query the refund's state.
    RefundQuery(&'a Refund, &'a Attempt, &'a OrderTerms),
}

impl Call<'_> {
    /// The attempt it is about, or whose payment is refunded (R5).
    pub fn attempt(&self) -> &Attempt {
        match self {
            Self::Create(attempt, _)
            | Self::Query(attempt, _)
            | Self::Close(attempt, _)
            | Self::Refund(_, attempt, _)
            | Self::RefundQuery(_, attempt, _) => attempt,
        }
    }

    /// The refund it is about, if any.
    pub fn refund(&self) -> Option<&Refund> {
        match self {
            Self::Refund(refund, ..) | Self::RefundQuery(refund, ..) => Some(refund),
            Self::Create(..) | Self::Query(..) | Self::Close(..) => None,
        }
    }

    /// Its subject: our number of the attempt or refund, which the institution knows (K2).
    pub fn about(&self) -> EvidenceSubject {
        match self.refund() {
            Some(refund) => EvidenceSubject::Refund(refund.no.clone()),
            None => EvidenceSubject::Attempt(self.attempt().id.clone()),
        }
    }

    /// Whether it may move money, so that its send must be tracked; the others only query or close.
    pub fn is_send(&self) -> bool {
        match self {
            Self::Create(..) | Self::Refund(..) => true,
            Self::Query(..) | Self::Close(..) | Self::RefundQuery(..) => false,
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
        match self {
            Self::Create(..) => EvidenceSource::Create,
            Self::Query(..) | Self::RefundQuery(..) => EvidenceSource::Query,
            Self::Close(..) => EvidenceSource::Close,
            Self::Refund(..) => EvidenceSource::Refund,
        }
    }

    /// The terms of its order.
    pub fn terms(&self) -> &OrderTerms {
        match self {
            Self::Create(_, terms)
            | Self::Query(_, terms)
            | Self::Close(_, terms)
            | Self::Refund(_, _, terms)
            | Self::RefundQuery(_, _, terms) => terms,
        }
    }

    /// A stable label for metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Create(..) => "create",
            Self::Query(..) => "query",
            Self::Close(..) => "close",
            Self::Refund(..) => "refund",
            Self::RefundQuery(..) => "refund_query",
        }
    }
}

/// A call that owns its data, so that it can move to another thread.
pub struct OwnedCall {
    attempt: Attempt,
    terms: OrderTerms,
    refund: Option<Refund>,
    borrow: for<'a> fn(&'a Self) -> Option<Call<'a>>,
}

impl OwnedCall {
    /// Copies what the call borrows.
    pub fn of(call: &Call<'_>) -> Self {
        Self {
            attempt: call.attempt().clone(),
            terms: call.terms().clone(),
            refund: call.refund().cloned(),
            borrow: match call {
                Call::Create(..) => |own| Some(Call::Create(&own.attempt, &own.terms)),
                Call::Query(..) => |own| Some(Call::Query(&own.attempt, &own.terms)),
                Call::Close(..) => |own| Some(Call::Close(&own.attempt, &own.terms)),
                Call::Refund(..) => |own| {
                    let refund = own.refund.as_ref()?;
                    Some(Call::Refund(refund, &own.attempt, &own.terms))
                },
                Call::RefundQuery(..) => |own| {
                    let refund = own.refund.as_ref()?;
                    Some(Call::RefundQuery(refund, &own.attempt, &own.terms))
                },
            },
        }
    }

    /// The call; always there, because it was built from one.
    pub fn call(&self) -> Option<Call<'_>> {
        (self.borrow)(self)
    }
}
