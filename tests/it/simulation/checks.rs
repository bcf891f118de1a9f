//! Invariants after every step (section 14), checked against the gateway's store and against the
//! ledgers of institutions and merchants.

use std::collections::{BTreeMap, BTreeSet};

use paymux::domain::attempt::{Attempt, AttemptState};
use paymux::domain::event::EventType;
use paymux::domain::identifiers::{AttemptId, EventId, InstitutionId, PayOrderNo};
use paymux::domain::journal::JournalAccount;
use paymux::domain::order::{Order, OrderState};
use paymux::domain::refund::{ExcessCause, RefundState};
use paymux::world::OutboundParty;
use serde_json::Value;

use super::refunds;
use crate::world::fake_institution::{FakePayment, FakePaymentState};
use crate::world::memory::{DurableState, MemoryEventState, RecordedTransition};
use crate::world::network::Parties;

/// A violated invariant.
pub(crate) type InvariantResult = Result<(), String>;

/// Returns an error with the violated invariant unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+));
        }
    };
}
pub(crate) use hold;

/// State from earlier checks.
#[derive(Default)]
pub(crate) struct InvariantChecks {
    steps: usize,
    calls: BTreeMap<InstitutionId, usize>,
    sent: usize,
    unsent: usize,
    sent_times: BTreeMap<String, i32>,
    delivered: BTreeSet<EventId>,
    events: BTreeMap<EventId, Vec<u8>>,
}

impl InvariantChecks {
    /// Checks after every step.
    pub(crate) fn check(
        &mut self,
        durable: &DurableState,
        parties: &Parties,
        truth: i64,
    ) -> InvariantResult {
        if let Some(fault) = durable.faults.first() {
            return Err(fault.clone());
        }
        for step in &durable.history[self.steps..] {
            transition(step)?;
            refunds::transition(step)?;
        }
        self.steps = durable.history.len();
        for row in durable.orders.values() {
            order_alone(&row.order)?;
            refunds::order_alone(&row.order)?;
            refunds::refunds_match_institutions(&row.order, parties)?;
            attempts_match_institutions(&row.order, parties, truth)?;
            let settled = row.order.live_attempt().is_none()
                && row
                    .order
                    .refunds
                    .iter()
                    .all(|refund| refund.state.is_over());
            hold!(
                row.due.is_some() || settled,
                "A6: {} has live work and no due time",
                row.order.no
            );
            events_of(&row.order, durable)?;
        }
        money(durable)?;
        self.calls_were_intended(durable, parties)?;
        self.calls_are_repeated_where_allowed(parties)?;
        self.events_stand(durable)?;
        notices(durable, parties)
    }

    /// A1: no call was made for an attempt that is not durable.
    fn calls_were_intended(
        &mut self,
        durable: &DurableState,
        parties: &Parties,
    ) -> InvariantResult {
        for (id, books) in &parties.institutions {
            let seen = self.calls.entry(id.clone()).or_default();
            for (call, attempt) in &books.calls[*seen..] {
                if call.starts_with("refund") {
                    refunds::call_was_reserved(id, attempt, durable)?;
                    continue;
                }
                let attempt = AttemptId::parse(attempt).unwrap();
                hold!(
                    durable.knows_attempt(id, &attempt),
                    "A1: {id} was called ({call}) for {attempt}, which is not durable"
                );
            }
            *seen = books.calls.len();
        }
        Ok(())
    }

    /// A3, R4: a create or a refund is sent again only if the institution allows it, or if the
    /// first was never sent (E1): an excess payment's refund then waits a minute and is sent.
    fn calls_are_repeated_where_allowed(&mut self, parties: &Parties) -> InvariantResult {
        for request in &parties.unsent[self.unsent..] {
            let fields: Value = serde_json::from_slice(request.body()).unwrap_or_default();
            if fields["call"] == "refund" {
                *self
                    .sent_times
                    .entry(fields["refund"].to_string())
                    .or_default() -= 1;
            }
        }
        self.unsent = parties.unsent.len();
        for (party, request) in &parties.sent[self.sent..] {
            let OutboundParty::Institution(id) = party else {
                continue;
            };
            let fields: Value = serde_json::from_slice(request.body()).unwrap();
            let ability = parties.institutions[id].ability;
            let (about, may_repeat) = match fields["call"].as_str() {
                Some("create") => (&fields["id"], ability.repeatable_create),
                Some("refund") => (&fields["refund"], ability.repeatable_refund),
                _ => continue,
            };
            let times = self.sent_times.entry(about.to_string()).or_default();
            *times += 1;
            hold!(
                *times <= 1 || may_repeat,
                "A3, R4: {id} was sent {} of {about} again",
                fields["call"]
            );
        }
        self.sent = parties.sent.len();
        Ok(())
    }

    /// N2, N9: a delivered event stays delivered, and no event's body changes or disappears.
    fn events_stand(&mut self, durable: &DurableState) -> InvariantResult {
        for (id, row) in &durable.events {
            let body = self
                .events
                .entry(id.clone())
                .or_insert_with(|| row.event.body.clone());
            hold!(*body == row.event.body, "N9: the body of {id:?} changed");
            if row.outcome == MemoryEventState::Delivered {
                self.delivered.insert(id.clone());
            } else {
                let left = self.delivered.contains(id);
                hold!(
                    !left,
                    "N6: {id:?} was delivered and is {:?} now",
                    row.outcome
                );
            }
        }
        for id in self.events.keys() {
            hold!(durable.events.contains_key(id), "N2: {id:?} is gone");
        }
        Ok(())
    }
}

/// K4 and the table of section 4: versions grow by one, final states stay, terms never change.
fn transition(step: &RecordedTransition) -> InvariantResult {
    let after = &step.after;
    let Some(before) = &step.before else {
        hold!(
            after.version == 1,
            "K4: {} begins at {}",
            after.no,
            after.version
        );
        return Ok(());
    };
    let no = &after.no;
    hold!(
        after.version == before.version + 1,
        "K4: {no} went from {} to {}",
        before.version,
        after.version
    );
    hold!(
        after.terms == before.terms && after.created == before.created,
        "section 1: the terms of {no} changed"
    );
    hold!(
        before.state == OrderState::Open || before.state == after.state,
        "O5: {no} left {}",
        before.state.name()
    );
    hold!(
        before.paying_attempt_id.is_none() || before.paying_attempt_id == after.paying_attempt_id,
        "O1: the paying attempt of {no} changed"
    );
    hold!(
        before.ending.is_none() || before.ending == after.ending,
        "O4: {no} lost its ending"
    );
    hold!(
        after.attempts.len() >= before.attempts.len(),
        "K1: an attempt of {no} disappeared"
    );
    let started = after.attempts.len() > before.attempts.len();
    let is_live = before.attempts.iter().any(|one| one.state.is_live());
    let last = after.attempts.last();
    let in_time = last.is_none_or(|one| one.stamp.now < after.expires);
    hold!(
        !started
            || (before.state == OrderState::Open && before.ending.is_none() && in_time && !is_live),
        "O4, A2: an attempt was started on {no}"
    );
    for (was, is) in before.attempts.iter().zip(&after.attempts) {
        let is_same = was.id == is.id
            && was.institution == is.institution
            && was.account == is.account
            && was.receiver == is.receiver
            && was.amount == is.amount
            && was.configuration == is.configuration;
        hold!(
            is_same,
            "section 1: an attempt of {no} changed its identity"
        );
        let legal = was.state == is.state || may_become(was.state, is.state);
        hold!(
            legal,
            "section 4: {} went from {} to {}",
            is.id,
            was.state.name(),
            is.state.name()
        );
    }
    Ok(())
}

fn may_become(from: AttemptState, to: AttemptState) -> bool {
    use AttemptState::{Accepted, Closed, Closing, Failed, Intent, Paid, Unknown};
    match from {
        Intent => matches!(to, Accepted | Paid | Failed | Unknown),
        Unknown => matches!(to, Accepted | Paid | Failed | Closed | Closing),
        Accepted => matches!(to, Paid | Failed | Closed | Closing),
        Closing => matches!(to, Closed | Paid | Failed | Accepted),
        Failed | Closed => to == Paid,
        Paid => false,
    }
}

/// O1 to O3, A2, A4, A7: an order's invariants at any time.
fn order_alone(order: &Order) -> InvariantResult {
    let no = &order.no;
    let paid = |one: &&Attempt| one.state == AttemptState::Paid;
    let settled = order.paying_attempt().filter(paid);
    hold!(
        (order.state == OrderState::Paid) == order.paying_attempt_id.is_some(),
        "O1: {no} is {} with {:?}",
        order.state.name(),
        order.paying_attempt_id
    );
    hold!(
        order.paying_attempt_id.is_none() || settled.is_some(),
        "O1: the paying attempt of {no} is not PAID"
    );
    if let Some(receipt) = order.receipt() {
        hold!(
            receipt.amount == order.terms.amount,
            "O2: {no} was paid with another amount"
        );
    }
    let live = order
        .attempts
        .iter()
        .filter(|one| one.state.is_live())
        .count();
    hold!(
        order.state != OrderState::Closed || live == 0,
        "O3: {no} is closed and live"
    );
    hold!(live <= 1, "A2: {no} has {live} live attempts");
    for attempt in order.attempts.iter().filter(paid) {
        let settles = order.paying_attempt_id.as_ref() == Some(&attempt.id);
        let back: Vec<_> = order
            .refunds
            .iter()
            .filter(|refund| refund.attempt == attempt.id && refund.state.is_reserved())
            .filter(|refund| refund.excess().is_some())
            .collect();
        // A failed one may succeed beside the next (R9).
        let late = back.iter().any(|refund| refund.late_success);
        hold!(
            back.len() == usize::from(!settles) || (!settles && late),
            "A4, A7: {} of {no} has {} refunds",
            attempt.id,
            back.len()
        );
        for refund in back {
            hold!(
                refund.amount == attempt.amount,
                "A4: not all of {} is refunded",
                attempt.id
            );
        }
    }
    Ok(())
}

/// The gateway's state compared with the institutions' ledgers.
fn attempts_match_institutions(order: &Order, parties: &Parties, truth: i64) -> InvariantResult {
    let mut open = 0;
    for attempt in &order.attempts {
        let books = &parties.institutions[&attempt.institution];
        let payment = books.payments.get(attempt.id.as_str());
        let id = &attempt.id;
        match attempt.state {
            AttemptState::Paid => {
                let Some(theirs) = payment.filter(|one| one.standing == FakePaymentState::Paid)
                else {
                    return Err(format!("E3: {id} is PAID here and nothing was paid there"));
                };
                hold!(
                    theirs.minor == attempt.amount.minor(),
                    "O2: {id} was paid with {}",
                    theirs.minor
                );
                hold!(
                    theirs.receiver == attempt.receiver.as_str(),
                    "C2: {id} was paid to {}",
                    theirs.receiver
                );
            }
            AttemptState::Failed | AttemptState::Closed => {
                let ended = payment.is_none_or(has_reported_its_end) || is_expired(payment, truth);
                hold!(
                    ended,
                    "V1: {id} is {} here and open or paid there",
                    attempt.state.name()
                );
                let may_arrive = payment.is_none() && is_on_its_way(attempt, parties);
                hold!(
                    !may_arrive,
                    "A5: {id} is {} here and still in flight there",
                    attempt.state.name()
                );
            }
            AttemptState::Intent
            | AttemptState::Unknown
            | AttemptState::Accepted
            | AttemptState::Closing => (),
        }
        let can_be_paid = payment.is_some_and(|one| match one.standing {
            FakePaymentState::Waiting => !is_expired(Some(one), truth),
            FakePaymentState::Paid => !has_reported_its_end(one),
            FakePaymentState::Closed | FakePaymentState::Refused => false,
        });
        open += usize::from(can_be_paid);
    }
    hold!(
        open <= 1,
        "A8: {open} payments of {} can be made or were",
        order.no
    );
    excess_has_its_cause(order, parties)
}

/// A8: every excess payment has the cause that is recorded.
fn excess_has_its_cause(order: &Order, parties: &Parties) -> InvariantResult {
    for refund in &order.refunds {
        let Some(cause) = refund.excess() else {
            continue;
        };
        let attempt = order
            .attempts
            .iter()
            .find(|one| one.id == refund.attempt)
            .unwrap();
        let books =
            |one: &Attempt| &parties.institutions[&one.institution].payments[one.id.as_str()];
        let theirs = books(attempt);
        // Or a late success of another attempt paid the order while this one was live.
        let late = order.paying_attempt().filter(|one| one.late_success);
        let so = match cause {
            ExcessCause::AfterClose => {
                theirs.said_closed || late.is_some_and(|one| books(one).said_closed)
            }
            ExcessCause::AfterRefusal => {
                theirs.said_refused || late.is_some_and(|one| books(one).said_refused)
            }
            ExcessCause::Overlap => late.is_some(),
        };
        hold!(
            so,
            "A8: {} is recorded as an excess payment because of {}, which is wrong",
            attempt.id,
            cause.name()
        );
    }
    Ok(())
}

fn has_reported_its_end(payment: &FakePayment) -> bool {
    payment.said_closed || payment.said_refused
}

fn is_expired(payment: Option<&FakePayment>, truth: i64) -> bool {
    payment.is_some_and(|one| {
        matches!(
            one.standing,
            FakePaymentState::Waiting | FakePaymentState::Closed
        ) && one.is_over(truth)
    })
}

/// Whether a create of this attempt may still reach its institution.
fn is_on_its_way(attempt: &Attempt, parties: &Parties) -> bool {
    let books = &parties.institutions[&attempt.institution];
    if books.will_refuse(attempt.id.as_str()) {
        return false;
    }
    let waiting = parties.waiting.iter().filter(|one| !one.has_arrived());
    let mut requests = waiting
        .map(|one| &one.request)
        .chain(parties.late.iter().map(|(_, _, request)| request));
    requests.any(|request| {
        let fields: Value = serde_json::from_slice(request.body()).unwrap();
        fields["call"] == "create" && fields["id"] == attempt.id.as_str()
    })
}

/// N1, N4: an event for every reported transition, and no other.
fn events_of(order: &Order, durable: &DurableState) -> InvariantResult {
    let theirs = durable
        .events
        .values()
        .filter(|row| row.event.order == order.no);
    let mut kinds: Vec<&str> = theirs.map(|row| row.event.kind.name()).collect();
    let mut expected = match order.state {
        OrderState::Open => vec![],
        OrderState::Paid => vec![EventType::OrderPaid.name()],
        OrderState::Closed => vec![EventType::OrderClosed.name()],
    };
    for refund in &order.refunds {
        let failed = refund.late_success || refund.state == RefundState::Failed;
        expected.extend(failed.then_some(EventType::RefundFailed.name()));
        let back = refund.state == RefundState::Succeeded;
        expected.extend(back.then_some(EventType::RefundSucceeded.name()));
    }
    kinds.sort_unstable();
    expected.sort_unstable();
    hold!(
        kinds == expected,
        "N1, N4: {} is {} and has {kinds:?}",
        order.no,
        order.state.name()
    );
    Ok(())
}

/// M1 to M3: the postings follow exactly from the orders.
fn money(durable: &DurableState) -> InvariantResult {
    let posted = refunds::balances(&durable.entries);
    let mut expected: BTreeMap<JournalAccount, i64> = BTreeMap::new();
    let mut book = |account: JournalAccount, minor: i64| {
        *expected.entry(account).or_default() += minor;
    };
    for row in durable.orders.values() {
        let order = &row.order;
        for attempt in order
            .attempts
            .iter()
            .filter(|one| one.state == AttemptState::Paid)
        {
            let settles = order.paying_attempt_id.as_ref() == Some(&attempt.id);
            let minor = attempt.amount.minor();
            book(
                JournalAccount::InstitutionReceivable(attempt.institution.clone()),
                minor,
            );
            book(
                if settles {
                    JournalAccount::MerchantPayable(order.no.clone())
                } else {
                    JournalAccount::ExcessPayable(attempt.id.clone())
                },
                minor,
            );
        }
        refunds::book(order, &mut book);
    }
    expected.retain(|_, balance| *balance != 0);
    let mut open_balances = posted
        .iter()
        .filter(|(account, _)| !matches!(account, JournalAccount::InstitutionReceivable(_)));
    hold!(
        open_balances.all(|(_, balance)| *balance > 0),
        "M3: {posted:?}"
    );
    hold!(
        posted == expected,
        "M2, M3: posted {posted:?}, expected {expected:?}"
    );
    Ok(())
}

/// N1, N3, N9: merchants received what was committed, once for each version.
fn notices(durable: &DurableState, parties: &Parties) -> InvariantResult {
    for inbox in parties.merchants.values() {
        if let Some(fault) = inbox.faults.first() {
            return Err(fault.clone());
        }
        let mut versions: BTreeMap<(String, u64), &str> = BTreeMap::new();
        for (id, notice) in &inbox.notices {
            let event = EventId::parse(id).unwrap();
            let Some(row) = durable.events.get(&event) else {
                return Err(format!("N1: {id} was delivered and is not durable"));
            };
            hold!(
                row.event.body == notice.raw,
                "N3: {id} was delivered with other content"
            );
            let body = notice.json();
            let no = body["payOrderNo"].as_str().unwrap().to_owned();
            let version = body["version"].as_u64().unwrap();
            let twice = versions.insert((no.clone(), version), id);
            hold!(
                twice.is_none(),
                "N4: {no} has two events at version {version}"
            );
            let order = &durable.orders[&PayOrderNo::parse(&no).unwrap()].order;
            hold!(
                body["orderStatus"] == order.state.name(),
                "O5: {no} was notified in another state"
            );
        }
    }
    Ok(())
}

/// At the end, without faults: Z1 to Z3, A8 and acknowledgements.
pub(crate) fn end(durable: &DurableState, parties: &Parties) -> InvariantResult {
    refunds::end(durable, parties)?;
    for row in durable.orders.values() {
        let order = &row.order;
        if awaits_manual_review(order, parties) {
            continue;
        }
        hold!(
            order.live_attempt().is_none(),
            "Z1: {:?} is live for ever",
            order.live_attempt()
        );
        let (no, is_open) = (&order.no, order.state == OrderState::Open);
        hold!(!is_open, "Z3: {no} neither paid nor expired");
    }
    for row in durable.events.values() {
        let is_due = row.event.destination.is_some() && row.outcome == MemoryEventState::Pending;
        hold!(!is_due, "Z2: {:?} was never delivered", row.event);
        let (id, is_dead) = (row.event.id.as_str(), row.outcome == MemoryEventState::Dead);
        let mut notices = parties
            .merchants
            .values()
            .filter_map(|one| one.notices.get(id));
        let is_ended = is_dead || notices.any(|one| one.acknowledged);
        hold!(is_ended, "Z2: nobody acknowledged {:?}", row.event);
    }
    for (id, books) in &parties.institutions {
        for (attempt, payment) in &books.payments {
            if payment.standing != FakePaymentState::Paid || payment.is_short {
                continue;
            }
            let attempt = AttemptId::parse(attempt).unwrap();
            let order = durable.order_of(id, &attempt);
            let here = order.and_then(|order| order.attempts.iter().find(|one| one.id == attempt));
            let known = here.is_some_and(|one| one.state == AttemptState::Paid);
            hold!(known, "money at {id} for {attempt} that we do not know");
            hold!(
                payment.acknowledged,
                "C4: {id} never got an acknowledgement that {attempt} was recorded"
            );
        }
    }
    Ok(())
}

/// An institution that took another amount than requested: nothing here may settle it (V3).
fn awaits_manual_review(order: &Order, parties: &Parties) -> bool {
    order.attempts.iter().any(|attempt| {
        let books = &parties.institutions[&attempt.institution];
        let payment = books.payments.get(attempt.id.as_str());
        payment.is_some_and(|one| one.is_short)
    })
}
