//! Audit log text of an order change (L4): the action, and the states after it.

use crate::domain::identifiers::hex;
use crate::domain::order::{Order, OrderState};
use crate::domain::refund::RefundDecision;

/// Name of the action.
pub(super) fn action(before: Option<&Order>, after: &Order) -> &'static str {
    let Some(before) = before else {
        return "order.place";
    };
    if before.state != after.state {
        return match after.state {
            OrderState::Paid => "order.paid",
            OrderState::Closed | OrderState::Open => "order.closed",
        };
    }
    let states = |order: &Order| {
        order
            .refunds
            .iter()
            .map(|one| one.state)
            .collect::<Vec<_>>()
    };
    let (were, are) = (states(before), states(after));
    if !are.starts_with(&were) {
        return "refund.move";
    }
    match after.refunds.get(were.len()) {
        Some(refund) if refund.excess().is_some() => return "excess.booked",
        Some(_) => return "refund.reserve",
        None if decisions(before) != decisions(after) => return "refund.decide",
        None if named(before) != named(after) => return "refund.named",
        None if before.refunds != after.refunds => return "refund.send",
        None => (),
    }
    if before.attempts.len() != after.attempts.len() {
        return "attempt.start";
    }
    if before.ending != after.ending {
        "order.ending"
    } else if before.chosen != after.chosen {
        "order.choose"
    } else {
        "attempt.move"
    }
}

fn decisions(order: &Order) -> Vec<Option<&RefundDecision>> {
    order
        .refunds
        .iter()
        .map(|one| one.decision.as_ref())
        .collect()
}

fn named(order: &Order) -> Vec<bool> {
    order.refunds.iter().map(|one| one.named).collect()
}

/// The states after the change: order, each attempt, an institution whose attempt is awaited, then the
/// changed refunds.
pub(super) fn result(after: &Order, refunds: &[usize]) -> String {
    let mut text = String::from(after.state.name());
    for attempt in &after.attempts {
        text.push(' ');
        text.push_str(attempt.institution.as_str());
        text.push('=');
        text.push_str(attempt.state.name());
    }
    if let Some(chosen) = &after.chosen {
        text.push(' ');
        text.push_str(chosen.as_str());
        text.push_str("=CHOSEN");
    }
    for refund in refunds.iter().filter_map(|at| after.refunds.get(*at)) {
        text.push(' ');
        text.push_str(refund.no.as_str());
        text.push('=');
        text.push_str(refund.state.name());
        if let Some(decision) = &refund.decision {
            let found = if decision.succeeded {
                "succeeded"
            } else {
                "failed"
            };
            text.push_str(" found=");
            text.push_str(found);
            text.push_str(" statement=");
            text.push_str(&hex(&decision.statement));
            if let Some(no) = &decision.institution_no {
                text.push_str(" number=");
                text.push_str(no);
            }
            if let Some(at) = decision.moved_at {
                text.push_str(" moved=");
                text.push_str(&at.rfc3339());
            }
        }
    }
    text
}
