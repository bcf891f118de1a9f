//! What one decision writes, atomically: rows, postings, events, audit entry and spent nonce.
//!
//! A change of an order is computed from the order before and after, here and nowhere else, so a
//! change without its event, posting, audit entry or version cannot be built (N1, N4, M1, L2, K4).

mod audit_text;

use crate::domain::amount::Amount;
use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::audit::AuditEntry;
use crate::domain::event::{Event, EventType};
use crate::domain::evidence::EvidenceSource;
use crate::domain::identifiers::{
    FreshNonce, InstitutionId, PayOrderNo, ReceiverId, StaffId, Timestamp,
};
use crate::domain::institutions::{AccountKey, InstitutionEndpoint};
use crate::domain::journal::JournalEntry;
use crate::domain::order::{Order, OrderState};
use crate::domain::refund::{Refund, RefundOrigin, RefundState};
use crate::domain::statement::{DifferenceKind, Movement, StatementDifference};

/// What caused a change. Only requests have nonces.
#[derive(Debug, PartialEq, Eq)]
pub enum ChangeCause {
    /// A merchant's signed request.
    Request(FreshNonce),
    /// The payer, on our payment page.
    Page,
    /// Time: expiry, a schedule, recovery after a crash.
    Clock,
    /// Evidence from an institution.
    Evidence(InstitutionId, EvidenceSource),
    /// Whoever runs the gateway; the audit entry names them.
    Staff,
    /// A signed staff decision, and the other person who decided the same before.
    Decision(StaffId, Option<StaffId>),
}

impl ChangeCause {
    fn actor(&self, order: &Order) -> String {
        match self {
            Self::Request(nonce) => format!("merchant:{}:{}", order.terms.merchant, nonce.key),
            Self::Page => "payer".into(),
            Self::Clock => "clock".into(),
            Self::Evidence(institution, _) => format!("institution:{institution}"),
            Self::Staff => "staff".into(),
            Self::Decision(staff, None) => format!("staff:{staff}"),
            Self::Decision(staff, Some(other)) => format!("staff:{other},{staff}"),
        }
    }
}

/// One decision, committed atomically.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    at: Timestamp,
    cause: ChangeCause,
    rows: Option<ChangeRows>,
    configured: Option<ConfigurationChange>,
}

/// A configuration change (L5, F2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationChange {
    /// The version that takes effect, if any.
    pub version: Option<u64>,
    /// Each institution's endpoint under it.
    pub endpoints: Vec<(InstitutionId, InstitutionEndpoint)>,
    /// The number of each account at its institution under it.
    pub accounts: Vec<(AccountKey, ReceiverId)>,
    /// What the audit log says of it.
    pub audit_entry: AuditEntry,
}

/// What a change writes in addition to the nonce.
#[derive(Debug, PartialEq, Eq)]
pub struct ChangeRows {
    /// The version the decision is based on; `None` for a new order. The optimistic lock of K4.
    pub before: Option<u64>,
    /// The order after the change.
    pub order: Order,
    /// When the order next needs attention (A6).
    pub due: Option<Timestamp>,
    /// Its journal entries.
    pub entries: Vec<JournalEntry>,
    /// Its events.
    pub events: Vec<Event>,
    /// Its audit entry.
    pub audit_entry: AuditEntry,
    /// Reconciliation breaks to open, and at which institution: refunds that succeeded after they
    /// had failed (R9).
    pub breaks: Vec<(InstitutionId, StatementDifference)>,
    attempts: Vec<usize>,
    refunds: Vec<usize>,
    new_refund: Option<usize>,
}

impl ChangeRows {
    /// New or changed attempts.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts
            .iter()
            .filter_map(|at| self.order.attempts.get(*at))
    }

    /// The refund that this change reserves for a merchant.
    pub fn reserved(&self) -> Option<&Refund> {
        let new = self.new_refund.and_then(|at| self.order.refunds.get(at));
        new.filter(|refund| refund.request().is_some())
    }

    /// New or changed refunds.
    pub fn refunds(&self) -> impl Iterator<Item = &Refund> {
        self.refunds
            .iter()
            .filter_map(|at| self.order.refunds.get(*at))
    }
}

impl Change {
    /// Spends the nonce only: for a repeat, or a refusal for reasons of state (Q5).
    pub fn spend(nonce: FreshNonce, at: Timestamp) -> Self {
        Self {
            at,
            cause: ChangeCause::Request(nonce),
            rows: None,
            configured: None,
        }
    }

    /// A configuration took effect or was rejected, or the gateway stops (L5). Changes no order.
    pub fn configured(configured: ConfigurationChange, at: Timestamp) -> Self {
        Self {
            at,
            cause: ChangeCause::Staff,
            rows: None,
            configured: Some(configured),
        }
    }

    /// The difference between two states of one order. The only place that sets a version.
    pub(in crate::domain) fn between(
        before: Option<&Order>,
        mut after: Order,
        cause: ChangeCause,
        at: Timestamp,
    ) -> Self {
        after.version = before.map_or(0, |order| order.version).saturating_add(1);
        after.begin_schedules(before, at);
        let attempts = changed(before.map(|o| o.attempts.as_slice()), &after.attempts);
        let refunds = changed(before.map(|o| o.refunds.as_slice()), &after.refunds);
        let were = before.map_or(0, |order| order.refunds.len());
        let new_refund = refunds.iter().copied().find(|at| *at >= were);
        let rows = ChangeRows {
            before: before.map(|order| order.version),
            due: after.due(),
            entries: entries(before, &after, &attempts, &refunds),
            events: events(before, &after, &refunds),
            breaks: breaks(before, &after, &refunds),
            audit_entry: AuditEntry {
                actor: cause.actor(&after),
                action: audit_text::action(before, &after).into(),
                object: after.no.as_str().into(),
                version: after.version,
                result: audit_text::result(&after, &refunds),
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
            ChangeCause::Request(nonce) => Some(nonce),
            ChangeCause::Page
            | ChangeCause::Clock
            | ChangeCause::Evidence(..)
            | ChangeCause::Staff
            | ChangeCause::Decision(..) => None,
        }
    }

    /// What it writes in addition to the nonce.
    pub fn rows(&self) -> Option<&ChangeRows> {
        self.rows.as_ref()
    }

    /// The configuration change, if it is one.
    pub fn configuration(&self) -> Option<&ConfigurationChange> {
        self.configured.as_ref()
    }

    /// The order after the change, to answer with once it is durable (O5).
    pub fn order(&self) -> Option<&Order> {
        self.rows.as_ref().map(|rows| &rows.order)
    }

    /// Returns the cause, so that it can be decided again on a newer state.
    pub fn into_cause(self) -> ChangeCause {
        self.cause
    }

    /// The order after the change, for the caller that committed it.
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

/// The journal entries of a change: posted when an attempt becomes PAID, and when a refund is
/// reserved or ends (docs/requirements.md, Invariants, M1 and M2).
fn entries(
    before: Option<&Order>,
    after: &Order,
    attempts: &[usize],
    refunds: &[usize],
) -> Vec<JournalEntry> {
    let mut entries = Vec::new();
    for at in attempts {
        let Some(attempt) = after.attempts.get(*at) else {
            continue;
        };
        let known = before.and_then(|order| order.attempts.get(*at));
        let was = known.map(|attempt| attempt.state);
        if attempt.is_returned() && !known.is_some_and(Attempt::is_returned) {
            entries.extend(JournalEntry::returned(
                &attempt.institution,
                &attempt.id,
                attempt.amount,
            ));
        }
        if attempt.state != AttemptState::Paid || was == Some(AttemptState::Paid) {
            continue;
        }
        entries.push(if after.paying_attempt_id.as_ref() == Some(&attempt.id) {
            JournalEntry::paid(&attempt.institution, &after.no, attempt.amount)
        } else {
            JournalEntry::excess(&attempt.institution, &attempt.id, attempt.amount)
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

/// Journal entries of one refund's transition.
fn moved(
    was: Option<&Refund>,
    refund: &Refund,
    order: &PayOrderNo,
    by: &Attempt,
) -> Vec<JournalEntry> {
    let covered = was.map_or(0, |was| {
        was.over_refunded_minor
            .saturating_sub(refund.over_refunded_minor)
    });
    let was = was.map(|one| one.state);
    let amount = refund.amount;
    let part = |minor| Amount::from_minor(minor, amount.currency()).ok();
    let lost = || {
        part(refund.over_refunded_minor)
            .map(|excess| JournalEntry::lost(&by.institution, order, excess))
    };
    let is_new = was.is_none_or(|state| state != refund.state);
    match (&refund.why, was, refund.state) {
        _ if !is_new => {
            let covered = part(covered).map(|covered| JournalEntry::covered(order, covered));
            covered.into_iter().collect()
        }
        (RefundOrigin::Asked(_), None, _) => vec![JournalEntry::reserved(order, amount)],
        (RefundOrigin::Asked(_), Some(RefundState::Failed), RefundState::Succeeded) => {
            let fits = part(refund.counted_minor());
            let fits = fits.map(|fits| JournalEntry::refunded_late(&by.institution, order, fits));
            fits.into_iter().chain(lost()).collect()
        }
        (RefundOrigin::Asked(_), _, RefundState::Succeeded) => {
            vec![JournalEntry::refunded(&by.institution, order, amount)]
        }
        (RefundOrigin::Asked(_), _, RefundState::Failed) => {
            vec![JournalEntry::released(order, amount)]
        }
        (RefundOrigin::Excess(_), _, RefundState::Succeeded) if refund.over_refunded_minor > 0 => {
            lost().into_iter().collect()
        }
        (RefundOrigin::Excess(_), _, RefundState::Succeeded) => {
            vec![JournalEntry::excess_refunded(
                &by.institution,
                &by.id,
                amount,
            )]
        }
        (RefundOrigin::Asked(_) | RefundOrigin::Excess(_), _, _) => Vec::new(),
    }
}

/// The events of a change: the reported transitions of an order and of its refunds (N1, N4).
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

/// R9: whoever was notified that a refund had failed may have returned the money another way; an
/// over-refund is a loss.
fn breaks(
    before: Option<&Order>,
    after: &Order,
    refunds: &[usize],
) -> Vec<(InstitutionId, StatementDifference)> {
    let unwanted = |at: &usize| {
        let was = before?.refunds.get(*at)?.state;
        let refund = after.refunds.get(*at)?;
        let is_back = was != RefundState::Succeeded && refund.state == RefundState::Succeeded;
        let is_unwanted = was == RefundState::Failed || refund.over_refunded_minor > 0;
        (is_back && is_unwanted).then_some((was, refund))
    };
    let open_break = |(was, refund): (RefundState, &Refund)| {
        let institution = after.attempt_of(refund)?.institution.clone();
        let (amount, code) = (refund.amount, refund.amount.currency().code());
        let excess = Amount::from_minor(refund.over_refunded_minor, amount.currency());
        let beyond = excess.map_or_else(|_| "0".into(), |excess| excess.to_string());
        let found =
            format!("SUCCEEDED {amount} {code}, exceeding the refundable amount by {beyond}");
        let difference = StatementDifference {
            kind: DifferenceKind::LateRefund,
            movement: Movement::Refund,
            number: refund.no.as_str().into(),
            expected: was.name().into(),
            found: found.into(),
        };
        Some((institution, difference))
    };
    let unwanted = refunds.iter().filter_map(unwanted);
    unwanted.filter_map(open_break).collect()
}
