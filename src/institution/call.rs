//! What we ask an institution about one payment or refund; one family of calls, all of whose outcomes
//! are evidence.

use crate::domain::attempt::Attempt;
use crate::domain::evidence::{EvidenceSource, EvidenceSubject};
use crate::domain::order::OrderTerms;
use crate::domain::refund::Refund;
use crate::institution::step::Effect;

/// What we ask an institution. Borrows from a committed order: nothing else can be sent (A1).
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// Take this payment and say how the payer pays.
    Create(&'a Attempt, &'a OrderTerms),
    /// Where does it stand?
    Query(&'a Attempt, &'a OrderTerms),
    /// End it.
    Close(&'a Attempt, &'a OrderTerms),
    /// Send this money back the way it came.
    Refund(&'a Refund, &'a Attempt, &'a OrderTerms),
    /// Where does the refund stand?
    RefundQuery(&'a Refund, &'a Attempt, &'a OrderTerms),
}

impl Call<'_> {
    /// The attempt it is about, or along which the money goes back (R5).
    pub fn attempt(&self) -> &Attempt {
        match self {
            Self::Create(attempt, _)
            | Self::Query(attempt, _)
            | Self::Close(attempt, _)
            | Self::Refund(_, attempt, _)
            | Self::RefundQuery(_, attempt, _) => attempt,
        }
    }

    /// The refund it is about, if it is about one.
    pub fn refund(&self) -> Option<&Refund> {
        match self {
            Self::Refund(refund, ..) | Self::RefundQuery(refund, ..) => Some(refund),
            Self::Create(..) | Self::Query(..) | Self::Close(..) => None,
        }
    }

    /// What the institution knows it by (K2).
    pub fn about(&self) -> EvidenceSubject {
        match self.refund() {
            Some(refund) => EvidenceSubject::Refund(refund.no.clone()),
            None => EvidenceSubject::Attempt(self.attempt().id.clone()),
        }
    }

    /// Whether it may move money, so that it must be known when it has left; the others only ask.
    pub fn is_send(&self) -> bool {
        match self {
            Self::Create(..) | Self::Refund(..) => true,
            Self::Query(..) | Self::Close(..) | Self::RefundQuery(..) => false,
        }
    }

    /// What its request may do where it is made in one step.
    pub fn effect(&self) -> Effect {
        if self.is_send() {
            Effect::MayMoveMoney
        } else {
            Effect::None
        }
    }

    /// How we come to hear its reply.
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

    /// A stable word for metrics and logs.
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

/// A call with everything it is about, for a thread of its own.
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

    /// The call again; always there, for it was made of one.
    pub fn call(&self) -> Option<Call<'_>> {
        (self.borrow)(self)
    }
}
