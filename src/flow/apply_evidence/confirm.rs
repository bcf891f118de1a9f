//! Confirmation by a query: evidence that contradicts a final state counts only if the institution
//! says the same when it is asked (V4).

use crate::domain::evidence::{Evidence, EvidenceSource, EvidenceSubject, Finding, Reversal};
use crate::domain::order::Order;
use crate::flow::FlowScope;
use crate::flow::call_institution::{QUERY_TIMEOUTS, call_institution};
use crate::institution::{Institution, Operation};

/// Whether the answer proves that money moved.
pub(super) fn says_money_moved(answer: &Evidence) -> bool {
    matches!(
        answer.finding,
        Finding::Succeeded(_) | Finding::Reversed(Reversal::Returned(_))
    )
}

/// Queries the institution to confirm evidence that contradicts a final state (V4). Only the reply
/// to our own query counts, so evidence that came from a query needs no second one.
pub(super) async fn confirm(
    scope: FlowScope<'_>,
    adapter: &dyn Institution,
    order: &Order,
    evidence: &Evidence,
) -> Option<Evidence> {
    if evidence.by == EvidenceSource::Query {
        return None;
    }
    let call = match &evidence.about {
        EvidenceSubject::Attempt(id) => {
            let attempt = order.attempts.iter().find(|attempt| attempt.id == *id)?;
            scope.snapshot.call(Operation::Query, attempt, &order.terms)
        }
        EvidenceSubject::Refund(no) => {
            let refund = order.refund(no)?;
            scope.snapshot.call(
                Operation::RefundQuery(refund),
                order.attempt_of(refund)?,
                &order.terms,
            )
        }
    };
    Some(call_institution(scope.world, adapter, &call, QUERY_TIMEOUTS).await)
}
