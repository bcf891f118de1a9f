//! Confirmation by a query: evidence that contradicts a final state counts only if the institution
//! says the same when it is asked (V4).

use crate::domain::evidence::{Evidence, EvidenceSource, EvidenceSubject, Finding, Reversal};
use crate::domain::order::Order;
use crate::flow::FlowScope;
use crate::flow::call_institution::{QUERY_TIMEOUTS, call_institution};
use crate::institution::{Call, Institution, Operation};

/// What the institution says when it is asked.
pub(super) enum Confirmation {
    /// Money moved; this is the evidence.
    MoneyMoved(Box<Evidence>),
    /// It says otherwise.
    Denied,
    /// It did not say.
    Unanswered,
}

impl Confirmation {
    fn of(answer: Evidence) -> Self {
        match &answer.finding {
            Finding::Succeeded(_) | Finding::Reversed(Reversal::Returned(_)) => {
                Self::MoneyMoved(Box::new(answer))
            }
            Finding::Refused(_)
            | Finding::Accepted(_)
            | Finding::Closed
            | Finding::Reversed(Reversal::Unpaid)
            | Finding::NotFound => Self::Denied,
            Finding::NotSent | Finding::NotExecuted(_) | Finding::Hint | Finding::Ambiguous(_) => {
                Self::Unanswered
            }
        }
    }
}

/// Queries the institution to confirm evidence that contradicts a final state (V4). Only the reply
/// to our own query counts, so evidence that came from a query needs no second one.
pub(super) async fn confirm(
    scope: FlowScope<'_>,
    adapter: &dyn Institution,
    order: &Order,
    evidence: &Evidence,
) -> Confirmation {
    if evidence.by == EvidenceSource::Query {
        return Confirmation::Denied;
    }
    let Some(call) = query(scope, order, &evidence.about) else {
        return Confirmation::Unanswered;
    };
    let answer = call_institution(scope.world, adapter, &call, QUERY_TIMEOUTS).await;
    Confirmation::of(answer)
}

/// The query about an object of the order.
fn query<'a>(scope: FlowScope<'a>, order: &'a Order, about: &EvidenceSubject) -> Option<Call<'a>> {
    match about {
        EvidenceSubject::Attempt(id) => {
            let attempt = order.attempts.iter().find(|attempt| attempt.id == *id)?;
            Some(scope.snapshot.call(Operation::Query, attempt, &order.terms))
        }
        EvidenceSubject::Refund(no) => {
            let refund = order.refund(no)?;
            let attempt = order.attempt_of(refund)?;
            let operation = Operation::RefundQuery(refund);
            Some(scope.snapshot.call(operation, attempt, &order.terms))
        }
    }
}
