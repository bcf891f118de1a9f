//! What one decision writes: rows, postings, events, audit record and spent nonce, whole or not
//! at all.
//!
//! A change of an order is computed from the order before and the order after, here and nowhere else, so one
//! without its event, posting, audit record or version cannot be built (N1, N4, M1, L2, K4).

use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::audit::Deed;
use crate::domain::event::{Event, EventType};
use crate::domain::evidence::Means;
use crate::domain::identifiers::{FreshNonce, InstitutionId, Timestamp};
use crate::domain::journal::Entry;
use crate::domain::order::{Order, OrderState};
use crate::domain::refund::Refund;

/// Who wanted it. Only requests have nonces.
#[derive(Debug, PartialEq, Eq)]
pub enum Cause {
    /// A merchant's signed request.
    Request(FreshNonce),
    /// The payer, on our page.
    Page,
    /// Time: expiry, a schedule, a start after a crash.
    Clock,
    /// An institution's word.
    Evidence(InstitutionId, Means),
    /// Whoever runs the gateway; the record says who.
    Operator,
}

impl Cause {
    fn actor(&self, order: &Order) -> String {
        match self {
            Self::Request(nonce) => format!("merchant:{}:{}", order.terms.merchant, nonce.key),
            Self::Page => "payer".into(),
            Self::Clock => "clock".into(),
            Self::Evidence(institution, _) => format!("institution:{institution}"),
            Self::Operator => "operator".into(),
        }
    }
}

/// One decision, to be committed whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    at: Timestamp,
    cause: Cause,
    rows: Option<Rows>,
    configured: Option<Configured>,
}

/// What became of the configuration (L5, F2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// The version that comes into force; `None` where nothing does.
    pub version: Option<u64>,
    /// What the audit log says of it.
    pub deed: Deed,
}

/// What a change writes beside the nonce.
#[derive(Debug, PartialEq, Eq)]
pub struct Rows {
    /// The version the decision was made on; `None` for a new order. The guard of K4.
    pub before: Option<u64>,
    /// The order as it will be.
    pub order: Order,
    /// When the order next needs attention without being asked (A6).
    pub due: Option<Timestamp>,
    /// What it means in money.
    pub entries: Vec<Entry>,
    /// What it owes to whom.
    pub events: Vec<Event>,
    /// What the audit log says of it.
    pub deed: Deed,
    attempts: Vec<usize>,
    refunds: Vec<usize>,
}

impl Rows {
    /// Attempts that are new or other than before.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts
            .iter()
            .filter_map(|at| self.order.attempts.get(*at))
    }

    /// Refunds that are new or other than before.
    pub fn refunds(&self) -> impl Iterator<Item = &Refund> {
        self.refunds
            .iter()
            .filter_map(|at| self.order.refunds.get(*at))
    }
}

impl Change {
    /// Nothing but the nonce: a repeat, or a refusal for reasons of state (Q5).
    pub fn spend(nonce: FreshNonce, at: Timestamp) -> Self {
        Self {
            at,
            cause: Cause::Request(nonce),
            rows: None,
            configured: None,
        }
    }

    /// A configuration came into force or was refused, or the gateway stops (L5). Moves no order.
    pub fn configured(configured: Configured, at: Timestamp) -> Self {
        Self {
            at,
            cause: Cause::Operator,
            rows: None,
            configured: Some(configured),
        }
    }

    /// The difference between two states of one order. The only place that sets a version.
    pub(in crate::domain) fn between(
        before: Option<&Order>,
        mut after: Order,
        cause: Cause,
        at: Timestamp,
    ) -> Self {
        after.version = before.map_or(0, |order| order.version).saturating_add(1);
        let attempts = changed(before.map(|o| o.attempts.as_slice()), &after.attempts);
        let refunds = changed(before.map(|o| o.refunds.as_slice()), &after.refunds);
        let rows = Rows {
            before: before.map(|order| order.version),
            due: after.due(at),
            entries: entries(before, &after, &attempts),
            events: events(before, &after),
            deed: Deed {
                actor: cause.actor(&after),
                action: action(before, &after).into(),
                object: after.no.as_str().into(),
                result: result(&after),
            },
            order: after,
            attempts,
            refunds,
        };
        Self {
            at,
            cause,
            rows: Some(rows),
            configured: None,
        }
    }

    /// When it was decided.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// The nonce it spends (Q5).
    pub fn nonce(&self) -> Option<&FreshNonce> {
        match &self.cause {
            Cause::Request(nonce) => Some(nonce),
            Cause::Page | Cause::Clock | Cause::Evidence(..) | Cause::Operator => None,
        }
    }

    /// What it writes beside the nonce.
    pub fn rows(&self) -> Option<&Rows> {
        self.rows.as_ref()
    }

    /// What became of the configuration, if it is about that.
    pub fn configuration(&self) -> Option<&Configured> {
        self.configured.as_ref()
    }

    /// The order as it will be, to answer with once it is durable (O5).
    pub fn order(&self) -> Option<&Order> {
        self.rows.as_ref().map(|rows| &rows.order)
    }

    /// Gives back who wanted it, so that it can be decided again on a newer state.
    pub fn into_cause(self) -> Cause {
        self.cause
    }

    /// The order as it became, for the caller that committed it.
    pub fn into_order(self) -> Option<Order> {
        self.rows.map(|rows| rows.order)
    }
}

fn changed<T: PartialEq>(before: Option<&[T]>, after: &[T]) -> Vec<usize> {
    let before = before.unwrap_or_default();
    after
        .iter()
        .enumerate()
        .filter(|(at, row)| before.get(*at) != Some(row))
        .map(|(at, _)| at)
        .collect()
}

/// Section 6 of the invariants: money moves in the books when an attempt becomes PAID.
fn entries(before: Option<&Order>, after: &Order, changed: &[usize]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for at in changed {
        let Some(attempt) = after.attempts.get(*at) else {
            continue;
        };
        let was = before
            .and_then(|order| order.attempts.get(*at))
            .map(|attempt| attempt.state);
        if attempt.state != AttemptState::Paid || was == Some(AttemptState::Paid) {
            continue;
        }
        entries.push(if after.settling.as_ref() == Some(&attempt.id) {
            Entry::paid(&attempt.institution, &after.no, attempt.amount)
        } else {
            Entry::surplus(&attempt.institution, &attempt.id, attempt.amount)
        });
    }
    entries
}

/// Section 7: the reported transitions of an order.
fn events(before: Option<&Order>, after: &Order) -> Vec<Event> {
    if before.map(|order| order.state) == Some(after.state) {
        return Vec::new();
    }
    match after.state {
        OrderState::Open => Vec::new(),
        OrderState::Paid => vec![Event::of(EventType::OrderPaid, after)],
        OrderState::Closed => vec![Event::of(EventType::OrderClosed, after)],
    }
}

fn action(before: Option<&Order>, after: &Order) -> &'static str {
    let Some(before) = before else {
        return "order.place";
    };
    if before.state != after.state {
        return match after.state {
            OrderState::Paid => "order.paid",
            OrderState::Closed | OrderState::Open => "order.closed",
        };
    }
    if before.refunds.len() != after.refunds.len() {
        return "surplus.booked";
    }
    if before.attempts.len() != after.attempts.len() {
        return "attempt.start";
    }
    if before.ending == after.ending {
        "attempt.move"
    } else {
        "order.ending"
    }
}

/// The states after the deed: order, then each attempt.
fn result(after: &Order) -> String {
    let mut text = String::from(after.state.name());
    for attempt in &after.attempts {
        text.push(' ');
        text.push_str(attempt.institution.as_str());
        text.push('=');
        text.push_str(attempt.state.name());
    }
    text
}
