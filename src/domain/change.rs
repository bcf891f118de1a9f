//! What one decision writes: rows, postings, events, audit record and spent nonce, whole or not
//! at all.
//!
//! A change of an order is computed from the order before and the order after, here and nowhere else, so one
//! without its event, posting, audit record or version cannot be built (N1, N4, M1, L2, K4).

mod recorded;

use crate::domain::amount::Amount;
use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::audit::Deed;
use crate::domain::event::{Event, EventType};
use crate::domain::evidence::Means;
use crate::domain::identifiers::{FreshNonce, InstitutionId, OperatorId, PayOrderNo, Timestamp};
use crate::domain::institutions::Endpoint;
use crate::domain::journal::Entry;
use crate::domain::order::{Order, OrderState};
use crate::domain::refund::{Refund, RefundState, Why};
use crate::domain::statement::{Difference, DifferenceKind, Movement};

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
    /// An operator's verdict, and the other operator who found the same before.
    Verdict(OperatorId, Option<OperatorId>),
}

impl Cause {
    fn actor(&self, order: &Order) -> String {
        match self {
            Self::Request(nonce) => format!("merchant:{}:{}", order.terms.merchant, nonce.key),
            Self::Page => "payer".into(),
            Self::Clock => "clock".into(),
            Self::Evidence(institution, _) => format!("institution:{institution}"),
            Self::Operator => "operator".into(),
            Self::Verdict(operator, None) => format!("operator:{operator}"),
            Self::Verdict(operator, Some(other)) => format!("operators:{other},{operator}"),
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
    /// Where each institution is asked under it.
    pub endpoints: Vec<(InstitutionId, Endpoint)>,
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
    /// What people must look at, and at which institution: refunds that went through after they had
    /// failed (R9).
    pub incidents: Vec<(InstitutionId, Difference)>,
    attempts: Vec<usize>,
    refunds: Vec<usize>,
    new_refund: Option<usize>,
}

impl Rows {
    /// Attempts that are new or other than before.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts
            .iter()
            .filter_map(|at| self.order.attempts.get(*at))
    }

    /// The refund that a merchant asked for with this change.
    pub fn reserved(&self) -> Option<&Refund> {
        let new = self.new_refund.and_then(|at| self.order.refunds.get(at));
        new.filter(|refund| refund.wish().is_some())
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
        after.begin_schedules(before, at);
        let attempts = changed(before.map(|o| o.attempts.as_slice()), &after.attempts);
        let refunds = changed(before.map(|o| o.refunds.as_slice()), &after.refunds);
        let were = before.map_or(0, |order| order.refunds.len());
        let new_refund = refunds.iter().copied().find(|at| *at >= were);
        let rows = Rows {
            before: before.map(|order| order.version),
            due: after.due(),
            entries: entries(before, &after, (&attempts, &refunds)),
            events: events(before, &after, &refunds),
            incidents: incidents(before, &after, &refunds),
            deed: Deed {
                actor: cause.actor(&after),
                action: recorded::action(before, &after).into(),
                object: after.no.as_str().into(),
                result: recorded::result(&after, &refunds),
            },
            order: after,
            attempts,
            refunds,
            new_refund,
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
            Cause::Page
            | Cause::Clock
            | Cause::Evidence(..)
            | Cause::Operator
            | Cause::Verdict(..) => None,
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

/// Section 6 of the invariants: money moves in the books when an attempt becomes PAID, and when a
/// refund is reserved or ends.
fn entries(
    before: Option<&Order>,
    after: &Order,
    (attempts, refunds): (&[usize], &[usize]),
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for at in attempts {
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
    for at in refunds {
        let Some(refund) = after.refunds.get(*at) else {
            continue;
        };
        let was = before.and_then(|order| order.refunds.get(*at));
        if let Some(attempt) = after.attempt_of(refund) {
            entries.extend(moved(was, refund, &after.no, attempt));
        }
    }
    entries
}

/// What one refund's move posts.
fn moved(was: Option<&Refund>, refund: &Refund, order: &PayOrderNo, by: &Attempt) -> Vec<Entry> {
    let covered = was.map_or(0, |was| {
        was.excess_minor.saturating_sub(refund.excess_minor)
    });
    let was = was.map(|one| one.state);
    let amount = refund.amount;
    let part = |minor| Amount::from_minor(minor, amount.currency()).ok();
    let lost =
        || part(refund.excess_minor).map(|excess| Entry::lost(&by.institution, order, excess));
    let is_new = was.is_none_or(|state| state != refund.state);
    match (&refund.why, was, refund.state) {
        _ if !is_new => {
            let covered = part(covered).map(|covered| Entry::covered(order, covered));
            covered.into_iter().collect()
        }
        (Why::Asked(_), None, _) => vec![Entry::reserved(order, amount)],
        (Why::Asked(_), Some(RefundState::Failed), RefundState::Succeeded) => {
            let fits = part(refund.counted_minor());
            let fits = fits.map(|fits| Entry::refunded_late(&by.institution, order, fits));
            fits.into_iter().chain(lost()).collect()
        }
        (Why::Asked(_), _, RefundState::Succeeded) => {
            vec![Entry::refunded(&by.institution, order, amount)]
        }
        (Why::Asked(_), _, RefundState::Failed) => vec![Entry::released(order, amount)],
        (Why::Surplus(_), _, RefundState::Succeeded) if refund.excess_minor > 0 => {
            lost().into_iter().collect()
        }
        (Why::Surplus(_), _, RefundState::Succeeded) => {
            vec![Entry::surplus_refunded(&by.institution, &by.id, amount)]
        }
        (Why::Asked(_) | Why::Surplus(_), _, _) => Vec::new(),
    }
}

/// Section 7: the reported transitions of an order and of its refunds.
fn events(before: Option<&Order>, after: &Order, refunds: &[usize]) -> Vec<Event> {
    let mut events = match after.state {
        state if before.map(|order| order.state) == Some(state) => Vec::new(),
        OrderState::Open => Vec::new(),
        OrderState::Paid => vec![Event::of(EventType::OrderPaid, after)],
        OrderState::Closed => vec![Event::of(EventType::OrderClosed, after)],
    };
    for at in refunds {
        let was = before
            .and_then(|order| order.refunds.get(*at))
            .map(|one| one.state);
        let ended = after.refunds.get(*at).filter(|one| one.state.is_over());
        let ended = ended.filter(|one| was != Some(one.state));
        events.extend(ended.map(|refund| Event::of_refund(after, refund)));
    }
    events
}

/// R9: whoever was told that a refund had failed may have given the money back another way; and what
/// went back twice is lost.
fn incidents(
    before: Option<&Order>,
    after: &Order,
    refunds: &[usize],
) -> Vec<(InstitutionId, Difference)> {
    let unwanted = |at: &usize| {
        let was = before?.refunds.get(*at)?.state;
        let refund = after.refunds.get(*at)?;
        let is_back = was != RefundState::Succeeded && refund.state == RefundState::Succeeded;
        let is_unwanted = was == RefundState::Failed || refund.excess_minor > 0;
        (is_back && is_unwanted).then_some((was, refund))
    };
    let incident = |(was, refund): (RefundState, &Refund)| {
        let institution = after.attempt_of(refund)?.institution.clone();
        let (amount, code) = (refund.amount, refund.amount.currency().code());
        let excess = Amount::from_minor(refund.excess_minor, amount.currency());
        let beyond = excess.map_or_else(|_| "0".into(), |excess| excess.to_string());
        let found = format!("SUCCEEDED {amount} {code}, of it beyond what was left {beyond}");
        let difference = Difference {
            kind: DifferenceKind::LateRefund,
            movement: Movement::Refund,
            number: refund.no.as_str().into(),
            expected: was.name().into(),
            found: found.into(),
        };
        Some((institution, difference))
    };
    let unwanted = refunds.iter().filter_map(unwanted);
    unwanted.filter_map(incident).collect()
}
