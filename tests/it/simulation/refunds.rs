//! Refunds in a simulation run: merchants request them, institutions process them, and their
//! invariants after every step (R1 to R9, A4, M1 to M3).

use std::collections::BTreeMap;

use paymux::domain::identifiers::{InstitutionId, RefundOrderNo};
use paymux::domain::journal::{JournalAccount, JournalEntry};
use paymux::domain::order::{Order, OrderState};
use paymux::domain::refund::{Refund, RefundState, SendStatus};
use paymux::world::OutboundParty;
use serde_json::Value;

use super::checks::{InvariantResult, hold};
use super::run::SimulationRun;
use crate::world::fake_refunds::FakeRefundState;
use crate::world::memory::{DurableState, RecordedTransition};
use crate::world::network::Parties;

/// The table of section 5, and the fields of a refund that never change.
pub(super) fn transition(step: &RecordedTransition) -> InvariantResult {
    let (Some(before), after) = (&step.before, &step.after) else {
        return Ok(());
    };
    let no = &after.no;
    hold!(
        after.refunds.len() >= before.refunds.len(),
        "K1: a refund of {no} disappeared"
    );
    hold!(
        after.refunded_minor() >= before.refunded_minor(),
        "R2: {no} has {} refunded and had {}",
        after.refunded_minor(),
        before.refunded_minor()
    );
    for (was, is) in before.refunds.iter().zip(&after.refunds) {
        let is_same = was.no == is.no
            && was.attempt == is.attempt
            && was.amount == is.amount
            && was.why == is.why
            && was.created == is.created;
        hold!(is_same, "section 1: a refund of {no} changed its identity");
        let legal = was.state == is.state || may_become(was, is);
        hold!(
            legal,
            "section 5: {} went from {} to {}",
            is.no,
            was.state.name(),
            is.state.name()
        );
    }
    for new in after.refunds.iter().skip(before.refunds.len()) {
        hold!(
            new.state == RefundState::Reserved,
            "R4: {} begins {}",
            new.no,
            new.state.name()
        );
        hold!(
            new.request().is_none() || before.state == OrderState::Paid,
            "R8: {} of an order that is {}",
            new.no,
            before.state.name()
        );
    }
    Ok(())
}

fn may_become(was: &Refund, is: &Refund) -> bool {
    use RefundState::{Failed, Manual, Processing, Reserved, Succeeded, Unknown};
    match was.state {
        Reserved => matches!(is.state, Processing | Succeeded | Failed | Unknown),
        Processing => matches!(is.state, Succeeded | Failed | Unknown),
        Unknown => matches!(is.state, Processing | Succeeded | Failed | Manual),
        Manual => matches!(is.state, Succeeded | Failed),
        Failed => is.state == Succeeded && is.late_success,
        Succeeded => false,
    }
}

/// R1, R5, A4, Z3: the invariants of an order's refunds at any time.
pub(super) fn order_alone(order: &Order) -> InvariantResult {
    let (no, paid) = (
        &order.no,
        order.paying_attempt().map_or(0, |one| one.amount.minor()),
    );
    let (held, done) = (order.reserved_minor(), order.refunded_minor());
    hold!(
        0 <= done && done <= held && held <= paid,
        "R1: {no} has {done} of {held} of {paid} refunded"
    );
    for refund in &order.refunds {
        let settles = order.paying_attempt_id.as_ref() == Some(&refund.attempt);
        hold!(
            settles == refund.request().is_some(),
            "R5, R8: {} goes with {}",
            refund.no,
            refund.attempt
        );
    }
    for attempt in &order.attempts {
        let theirs = order
            .refunds
            .iter()
            .filter(|one| one.attempt == attempt.id && one.excess().is_some());
        let back = theirs
            .clone()
            .filter(|one| one.state == RefundState::Succeeded && one.over_refunded_minor == 0);
        hold!(
            back.count() <= 1,
            "A4, R9: the excess payment of {} was refunded twice, and no loss is booked",
            attempt.id
        );
        let on_its_way = theirs
            .filter(|one| one.state.is_reserved() && one.state != RefundState::Succeeded)
            .count();
        hold!(
            on_its_way <= 1,
            "A4: {} is being refunded {on_its_way} times",
            attempt.id
        );
    }
    Ok(())
}

/// The gateway's refunds compared with the institutions' ledgers.
pub(super) fn refunds_match_institutions(order: &Order, parties: &Parties) -> InvariantResult {
    for refund in &order.refunds {
        let through = &order.attempt_of(refund).unwrap().institution;
        let theirs = parties.institutions[through]
            .returns
            .get(refund.no.as_str());
        let their_state = theirs.map(|one| one.standing);
        match refund.state {
            RefundState::Succeeded => {
                hold!(
                    their_state == Some(FakeRefundState::Succeeded),
                    "E3: {} was refunded here and is {their_state:?} there",
                    refund.no
                );
                hold!(
                    theirs.is_some_and(|one| one.minor == refund.amount.minor()),
                    "E3: another amount was refunded for {}",
                    refund.no
                );
            }
            RefundState::Failed => {
                let ended = theirs.is_none_or(|one| one.said_refused);
                hold!(
                    ended,
                    "R3: {} failed here and is {their_state:?} there",
                    refund.no
                );
                hold!(
                    theirs.is_some() || !is_on_its_way(refund, through, parties),
                    "R3: {} failed here and is still in flight there",
                    refund.no
                );
            }
            RefundState::Reserved
            | RefundState::Processing
            | RefundState::Unknown
            | RefundState::Manual => (),
        }
    }
    Ok(())
}

fn is_on_its_way(refund: &Refund, through: &InstitutionId, parties: &Parties) -> bool {
    let waiting = parties.waiting.iter().filter(|one| !one.has_arrived());
    let waiting = waiting.map(|one| (&one.party, &one.request));
    let late = parties
        .late
        .iter()
        .map(|(_, party, request)| (party, request));
    waiting.chain(late).any(|(party, request)| {
        let fields: Value = serde_json::from_slice(request.body()).unwrap();
        *party == OutboundParty::Institution(through.clone())
            && fields["call"] == "refund"
            && fields["refund"] == refund.no.as_str()
    })
}

/// R4: a refund call was made, so it must be durable that one may have been sent.
pub(super) fn call_was_reserved(
    id: &InstitutionId,
    no: &str,
    durable: &DurableState,
) -> InvariantResult {
    let no = RefundOrderNo::parse(no).unwrap();
    let known = durable
        .orders
        .values()
        .find_map(|row| row.order.refund(&no));
    let left = known.is_some_and(|one| matches!(one.sending, SendStatus::Left(_)));
    hold!(left, "R4: {id} was called for {no}, which is not durable");
    Ok(())
}

/// An account's balance: debits and credits, by its side (section 6).
pub(crate) fn balances(entries: &[JournalEntry]) -> BTreeMap<JournalAccount, i64> {
    let mut balances = BTreeMap::new();
    for entry in entries {
        let minor = entry.amount.minor();
        *balances.entry(entry.debit.clone()).or_default() += signed(&entry.debit, minor);
        *balances.entry(entry.credit.clone()).or_default() += signed(&entry.credit, -minor);
    }
    balances.retain(|_, balance| *balance != 0);
    balances
}

fn signed(account: &JournalAccount, debited: i64) -> i64 {
    match account {
        JournalAccount::InstitutionReceivable(_) | JournalAccount::OverRefundLoss(_) => debited,
        JournalAccount::MerchantPayable(_)
        | JournalAccount::RefundReserved(_)
        | JournalAccount::ExcessPayable(_) => -debited,
    }
}

/// The postings that the refunds of an order require (section 6, M3, R9).
pub(super) fn book(order: &Order, mut book: impl FnMut(JournalAccount, i64)) {
    let held = order.reserved_minor();
    let back = order.refunded_minor();
    book(JournalAccount::MerchantPayable(order.no.clone()), -held);
    book(
        JournalAccount::RefundReserved(order.no.clone()),
        held - back,
    );
    for refund in order
        .refunds
        .iter()
        .filter(|one| one.state == RefundState::Succeeded)
    {
        let through = order.attempt_of(refund).unwrap();
        book(
            JournalAccount::InstitutionReceivable(through.institution.clone()),
            -refund.amount.minor(),
        );
        if refund.over_refunded_minor > 0 {
            book(
                JournalAccount::OverRefundLoss(order.no.clone()),
                refund.over_refunded_minor,
            );
        }
        if refund.excess().is_some() && refund.over_refunded_minor == 0 {
            book(
                JournalAccount::ExcessPayable(through.id.clone()),
                -refund.amount.minor(),
            );
        }
    }
}

/// At the end, without faults: Z1, A4, and every refund at an institution is known here.
pub(super) fn end(durable: &DurableState, parties: &Parties) -> InvariantResult {
    for row in durable.orders.values() {
        for refund in &row.order.refunds {
            hold!(
                refund.state.is_over() || refund.state == RefundState::Manual,
                "Z1: {} is {} for ever",
                refund.no,
                refund.state.name()
            );
        }
    }
    for (id, books) in &parties.institutions {
        for (no, theirs) in &books.returns {
            let no = RefundOrderNo::parse(no).unwrap();
            let known = durable
                .orders
                .values()
                .find_map(|row| row.order.refund(&no));
            let state = known.map(|one| one.state);
            if theirs.standing == FakeRefundState::Succeeded {
                hold!(
                    state == Some(RefundState::Succeeded),
                    "{no} was refunded at {id} and is {state:?} here"
                );
            }
            hold!(
                theirs.acknowledged || theirs.standing == FakeRefundState::Working,
                "C4: {id} never got an acknowledgement that the end of {no} was recorded"
            );
        }
    }
    Ok(())
}

impl SimulationRun {
    /// A merchant requests a refund: partial or full, with a number or without.
    pub(super) fn request_refund(&mut self) {
        let Some(order) = self.some_order() else {
            return;
        };
        let mut body = self.refunding(order);
        // Often all of it: a failed one that succeeds late then exceeds the rest (R9).
        let sums = ["0.01", "6.15", "12.30", "12.30", "12.30", "500"];
        body["refundAmount"] = (*self.dice.pick(&sums)).into();
        if self.dice.one_in(2) {
            let number = format!("B{}", self.dice.below(4));
            body["merchantRefundNo"] = number.into();
        }
        self.send_new(order, "/v1/refunds", &body);
    }

    pub(super) fn query_refund(&mut self) {
        let Some(order) = self.some_order() else {
            return;
        };
        let mut body = self.naming(order);
        body.as_object_mut().unwrap().remove("merchantOrderNo");
        body["merchantRefundNo"] = format!("B{}", self.dice.below(4)).into();
        self.send_new(order, "/v1/refunds/query", &body);
    }

    /// An institution ends a refund that it is processing, either way.
    pub(super) fn refund_ends(&mut self) {
        let truth = self.clock.truth();
        let network = std::sync::Arc::clone(&self.network);
        let mut parties = network.parties();
        let open: Vec<_> = parties
            .institutions
            .iter()
            .flat_map(|(id, books)| {
                books
                    .pending_refunds()
                    .into_iter()
                    .map(|no| (id.clone(), no))
            })
            .collect();
        if open.is_empty() {
            return;
        }
        let (id, no) = self.dice.pick(&open).clone();
        let fails = self.dice.one_in(2);
        self.log(|| format!("{id} ends {no}, failing: {fails}"));
        let books = parties.institutions.get_mut(&id).unwrap();
        books.end_refund(&no, fails, truth);
    }

    /// An institution calls back about a refund that has ended.
    pub(super) fn refund_callback_arrives(&mut self) {
        let network = std::sync::Arc::clone(&self.network);
        let mut parties = network.parties();
        let due: Vec<_> = parties
            .institutions
            .iter()
            .flat_map(|(id, books)| {
                books
                    .unacknowledged_refunds()
                    .into_iter()
                    .map(|no| (id.clone(), no))
            })
            .collect();
        if due.is_empty() {
            return;
        }
        let (id, no) = self.dice.pick(&due).clone();
        let callback = parties
            .institutions
            .get_mut(&id)
            .unwrap()
            .refund_callback(&no);
        drop(parties);
        self.log(|| format!("{id} calls back about {no}"));
        self.call(id, no, callback);
    }
}
