//! What a selection requires of an order: an answer, a new attempt, the same create again, or first a
//! close. Decided from the stored order alone, each time it was read.

use std::time::Duration;

use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::identifiers::{AttemptId, Timestamp};
use crate::domain::institutions::CreateSend;
use crate::domain::order::{NewAttempt, Order, OrderState};
use crate::domain::personal::payer_context::PayerDetails;
use crate::flow::FlowScope;
use crate::flow::judge::Choice;
use crate::flow::start_attempt::{is_usable, new_attempt};

/// How long after a repeated create the next repeat may follow.
const REPEAT_CREATE_AFTER: Duration = Duration::from_secs(5);

/// The next step that a selection requires.
pub(super) enum SelectionStep {
    /// Reply with the stored state.
    Answer,
    /// Start a new attempt.
    Start(Box<NewAttempt>),
    /// Repeat the create of the same attempt: the institution returns the same payment action (A3).
    CreateAgain(AttemptId),
    /// The live attempt must be closed first (A2).
    CloseFirst,
    /// The merchant has no contract with the institution.
    NotContracted,
}

impl SelectionStep {
    /// Whether the step calls the institution, so that a permit must be acquired first.
    pub(super) fn calls(&self) -> bool {
        match self {
            Self::Start(_) | Self::CreateAgain(_) => true,
            Self::Answer | Self::CloseFirst | Self::NotContracted => false,
        }
    }
}

/// What a selection requires of the order as it is (A2, A3).
pub(super) fn next_step(
    scope: FlowScope<'_>,
    order: &Order,
    choice: &Choice,
    payer: &PayerDetails,
) -> SelectionStep {
    if order.state != OrderState::Open {
        return SelectionStep::Answer;
    }
    let now = scope.world.clock.now();
    let Some(live) = order.live_attempt() else {
        return match new_attempt(scope, &order.terms.merchant, choice, payer) {
            Some(attempt) => SelectionStep::Start(Box::new(attempt)),
            None => SelectionStep::NotContracted,
        };
    };
    let same = live.institution == choice.institution && live.mode == choice.mode;
    let adapter = scope.snapshot.adapters.get(&live.institution);
    let create = adapter.map(|adapter| adapter.facts().product(&live.product).create);
    let repeatable = create == Some(CreateSend::Repeatable);
    match live.state {
        AttemptState::Accepted if same && is_usable(live, now) => SelectionStep::Answer,
        AttemptState::Accepted if same && !order.accepts_attempts(now) => SelectionStep::Answer,
        // Nobody can pay it any more: a new code is a new attempt.
        AttemptState::Accepted if same && now >= live.pay_by => SelectionStep::CloseFirst,
        // Its payment action is made for each answer.
        AttemptState::Accepted if same && create == Some(CreateSend::Nothing) => {
            SelectionStep::Answer
        }
        AttemptState::Accepted if same && was_repeated_lately(live, now) => SelectionStep::Answer,
        AttemptState::Accepted if same && repeatable => SelectionStep::CreateAgain(live.id.clone()),
        AttemptState::Intent | AttemptState::Unknown | AttemptState::Closing if same => {
            SelectionStep::Answer
        }
        AttemptState::Intent
        | AttemptState::Unknown
        | AttemptState::Accepted
        | AttemptState::Closing
        | AttemptState::Paid
        | AttemptState::Failed
        | AttemptState::Closed => SelectionStep::CloseFirst,
    }
}

/// Whether its create was repeated within [`REPEAT_CREATE_AFTER`]: each repeat calls the
/// institution, so a payer who keeps retrying must not overload it.
fn was_repeated_lately(live: &Attempt, now: Timestamp) -> bool {
    let is_recent = now >= live.sent_at && now.since(live.sent_at) < REPEAT_CREATE_AFTER;
    live.sent_at > live.stamp.now && is_recent
}
