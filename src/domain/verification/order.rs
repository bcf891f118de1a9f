//! Checks of one order: states, amounts, events and audit records (sections 3 to 7 and 10).

use crate::domain::amount::Amount;
use crate::domain::attempt::AttemptState;
use crate::domain::audit::FIRST_CHAIN;
use crate::domain::event::EventType;
use crate::domain::identifiers::{AttemptId, EventId};
use crate::domain::order::OrderState;
use crate::domain::refund::RefundState;
use crate::domain::verification::money::{entries, paid_minor, refunded_minor, reserved_minor};
use crate::domain::verification::{AttemptRow, Breach, BreachSink, StoredOrder};

fn sum(of: Amount) -> String {
    format!("{of} {}", of.currency().code())
}

impl StoredOrder {
    /// Reports every breach.
    pub fn verify(&self, report: &mut BreachSink<'_>) {
        self.check_payment(report);
        self.check_attempts(report);
        self.check_excess(report);
        self.check_refunds(report);
        self.check_schedules(report);
        self.check_events(report);
        self.check_audit(report);
        entries(self, report);
    }

    fn breach(&self, rule: &'static str, expected: &str, found: impl Into<String>) -> Breach {
        Breach::of(rule, self.order.no.as_str(), expected, found)
    }

    fn is_paying(&self, attempt: &AttemptRow) -> bool {
        self.order.paying_attempt_id.as_ref() == Some(&attempt.id)
    }

    /// O1, O2: paid by exactly one of its own attempts, with the requested amount.
    fn check_payment(&self, report: &mut BreachSink<'_>) {
        let state = self.order.state;
        if (state == OrderState::Paid) != self.order.paying_attempt_id.is_some() {
            let paying_attempt_id = self.order.paying_attempt_id.as_ref();
            let paying_attempt_id = paying_attempt_id.map_or("no attempt", AttemptId::as_str);
            let found = format!("{}, paid by {paying_attempt_id}", state.name());
            report(self.breach("O1", "a paying attempt if and only if it is PAID", found));
        }
        let Some(paying_attempt_id) = &self.order.paying_attempt_id else {
            return;
        };
        let Some(attempt) = self.attempts.iter().find(|one| self.is_paying(one)) else {
            let found = format!("{paying_attempt_id}, which does not exist");
            report(self.breach("O1", "its paying attempt among its attempts", found));
            return;
        };
        if attempt.state != AttemptState::Paid {
            let found = format!("{paying_attempt_id} is {}", attempt.state.name());
            report(self.breach("O1", "its paying attempt PAID", found));
        }
        if attempt.receipt != Some(self.order.amount) {
            let expected = format!(
                "{paying_attempt_id} confirmed with {}",
                sum(self.order.amount)
            );
            let found = attempt.receipt.map_or("nothing".to_owned(), sum);
            report(self.breach("O2", &expected, found));
        }
    }

    /// A2, O3, K2: numbered without gaps, with the order's amount, at most one live, none once it
    /// is closed.
    fn check_attempts(&self, report: &mut BreachSink<'_>) {
        for (at, attempt) in (1..).zip(&self.attempts) {
            if attempt.seq != at {
                let found = format!("{} is number {}", attempt.id, attempt.seq);
                report(self.breach("K2", &format!("attempt number {at}"), found));
                break;
            }
        }
        let others = self
            .attempts
            .iter()
            .filter(|one| one.amount != self.order.amount);
        for attempt in others {
            let found = format!("{} of {}", attempt.id, sum(attempt.amount));
            let expected = format!("attempts of {}", sum(self.order.amount));
            report(self.breach("O2", &expected, found));
        }
        let live = self
            .attempts
            .iter()
            .filter(|one| one.state.is_live())
            .count();
        if live > 1 {
            let found = format!("{live} live attempts");
            report(self.breach("A2", "at most one live attempt", found));
        }
        if live > 0 && self.order.state == OrderState::Closed {
            report(self.breach("O3", "no live attempt once it is CLOSED", "one"));
        }
    }

    /// A4, A7: payments by other attempts than the paying one are refunded, one refund at a time.
    fn check_excess(&self, report: &mut BreachSink<'_>) {
        let paid = |one: &&AttemptRow| one.state == AttemptState::Paid && !self.is_paying(one);
        for attempt in self.attempts.iter().filter(paid) {
            let going = self.refunds.iter().filter(|one| {
                one.is_excess && one.attempt == attempt.id && one.state.is_reserved()
            });
            if going.clone().count() == 0 {
                let expected = format!("a refund of the excess payment of {}", attempt.id);
                report(self.breach("A4", &expected, "none that has not failed"));
            }
            let on_its_way = going
                .clone()
                .filter(|one| one.state != RefundState::Succeeded)
                .count();
            if on_its_way > 1 {
                let expected =
                    format!("one pending refund of the excess payment of {}", attempt.id);
                report(self.breach("A4", &expected, format!("{on_its_way}")));
            }
            let unbooked = going
                .filter(|one| one.state == RefundState::Succeeded && one.over_refunded_minor == 0);
            if unbooked.count() > 1 {
                let expected = format!("one refund of the excess payment of {}", attempt.id);
                report(self.breach("A7", &expected, "several, not booked as loss"));
            }
        }
    }

    /// R1, R5, R8, R9: never more than was paid, and through the attempt that was paid.
    fn check_refunds(&self, report: &mut BreachSink<'_>) {
        for (at, refund) in (1..).zip(&self.refunds) {
            if refund.seq != at {
                let found = format!("{} is number {}", refund.no, refund.seq);
                report(self.breach("K2", &format!("refund number {at}"), found));
                break;
            }
        }
        for refund in &self.refunds {
            let along = self.attempts.iter().find(|one| one.id == refund.attempt);
            let along = along.filter(|one| one.state == AttemptState::Paid);
            if along.is_none_or(|one| self.is_paying(one) == refund.is_excess) {
                let expected = if refund.is_excess {
                    "refunds of excess payments through a paid attempt that is not the paying one"
                } else {
                    "refunds through the paying attempt"
                };
                report(self.breach(
                    "R5",
                    expected,
                    format!("{} through {}", refund.no, refund.attempt),
                ));
            }
            if along.is_some_and(|one| one.amount.currency() != refund.amount.currency()) {
                let found = format!("{} of {}", refund.no, sum(refund.amount));
                report(self.breach("R5", "refunds in the currency of the payment", found));
            }
            if along.is_some_and(|one| refund.is_excess && one.amount != refund.amount) {
                let found = format!("{} of {}", refund.no, sum(refund.amount));
                report(self.breach("A4", "excess payments refunded in full", found));
            }
            if refund.state == RefundState::Succeeded && !refund.has_receipt {
                let expected = "a receipt with amount and time of the refund";
                report(self.breach("M7", expected, format!("none for {}", refund.no)));
            }
            if refund.over_refunded_minor > 0 && !refund.is_late && !refund.is_excess {
                let found = format!("{} with {}", refund.no, refund.over_refunded_minor);
                report(self.breach(
                    "R9",
                    "an over-refund only where a refund succeeded late",
                    found,
                ));
            }
        }
        let (paid, reserved, refunded) =
            (paid_minor(self), reserved_minor(self), refunded_minor(self));
        if !(0 <= refunded && refunded <= reserved && reserved <= paid) {
            let found = format!("refunded {refunded}, reserved {reserved}, paid {paid}");
            report(self.breach("R1", "0 <= refunded <= reserved <= paid", found));
        }
        if self.order.reserved_minor != reserved {
            let expected = format!("reserved = {reserved}, as its refunds sum up to");
            report(self.breach("R1", &expected, format!("{}", self.order.reserved_minor)));
        }
    }

    /// A6, Z3: whatever is not final has a scheduled check.
    fn check_schedules(&self, report: &mut BreachSink<'_>) {
        let is_open = self.order.state == OrderState::Open
            || self.attempts.iter().any(|one| one.state.is_live())
            || self.refunds.iter().any(|one| !one.state.is_over());
        if is_open && !self.order.is_due {
            report(self.breach("A6", "a scheduled check", "none"));
        }
        for event in self.events.iter().filter(|one| !one.is_rightly_due) {
            let expected = "a scheduled delivery if and only if the event is undelivered";
            report(self.breach("Z3", expected, format!("not so for {}", event.id)));
        }
    }

    /// N1, N4: one event for every reported transition, and no others.
    fn check_events(&self, report: &mut BreachSink<'_>) {
        let mut expected = match self.order.state {
            OrderState::Open => vec![],
            OrderState::Paid => vec![EventType::OrderPaid.name()],
            OrderState::Closed => vec![EventType::OrderClosed.name()],
        };
        for refund in &self.refunds {
            let failed = refund.is_late || refund.state == RefundState::Failed;
            expected.extend(failed.then_some(EventType::RefundFailed.name()));
            let back = refund.state == RefundState::Succeeded;
            expected.extend(back.then_some(EventType::RefundSucceeded.name()));
        }
        let mut found: Vec<_> = self.events.iter().map(|one| one.kind.name()).collect();
        expected.sort_unstable();
        found.sort_unstable();
        if expected != found {
            let expected = format!("events [{}]", expected.join(", "));
            report(self.breach("N1", &expected, format!("[{}]", found.join(", "))));
        }
        for event in &self.events {
            let id = EventId::of(&self.order.no, event.kind.letter(), event.version);
            let is_ours = event.order == self.order.no.as_str()
                && event.merchant == self.order.merchant
                && id.as_str() == event.id;
            if !is_ours || event.version > self.order.version {
                let found = format!(
                    "{}: {} of {} for {} at version {}",
                    event.id,
                    event.kind.name(),
                    event.order,
                    event.merchant,
                    event.version
                );
                report(self.breach("N4", "an event that matches the order", found));
            }
        }
    }

    /// L2, K4: the audit records of all chains have the versions from 1 to the order's, each once,
    /// and the last one has the stored states.
    fn check_audit(&self, report: &mut BreachSink<'_>) {
        let (mut version, mut place) = (0_u64, "none before it".to_owned());
        for one in &self.recorded {
            let next = version.saturating_add(1);
            let is_unnumbered = one.version == 0 && one.chain == FIRST_CHAIN;
            let stated = if is_unnumbered { next } else { one.version };
            if stated != next {
                let expected = format!("an audit record of version {next}, after {place}");
                let found = format!("version {stated} in chain {} record {}", one.chain, one.seq);
                report(self.breach("L2", &expected, found));
            }
            version = stated;
            place = format!(
                "version {version} in chain {} record {}",
                one.chain, one.seq
            );
        }
        if version != self.order.version {
            let expected = format!(
                "audit records of versions 1 to {}, its present one",
                self.order.version
            );
            let found = if self.recorded.is_empty() {
                "no record".to_owned()
            } else {
                format!("the last is {place}")
            };
            report(self.breach("L2", &expected, found));
        }
        let Some(recorded) = self.recorded.last() else {
            return;
        };
        let mut stored = self.order.state.name().to_owned();
        for attempt in &self.attempts {
            stored.push(' ');
            stored.push_str(attempt.institution.as_str());
            stored.push('=');
            stored.push_str(attempt.state.name());
        }
        let moved = recorded.result.strip_prefix(stored.as_str());
        let moved = moved.filter(|rest| rest.is_empty() || rest.starts_with(' '));
        let agrees = moved.is_some_and(|rest| {
            rest.split_whitespace()
                .all(|word| match word.split_once('=') {
                    Some(("found" | "statement" | "number" | "moved", _)) => true,
                    Some((no, state)) => self
                        .refunds
                        .iter()
                        .any(|one| one.no.as_str() == no && one.state.name() == state),
                    None => false,
                })
        });
        if !agrees {
            let expected = format!(
                "the states of the last audit record, chain {} record {}: {}",
                recorded.chain, recorded.seq, recorded.result
            );
            for refund in &self.refunds {
                stored.push(' ');
                stored.push_str(refund.no.as_str());
                stored.push('=');
                stored.push_str(refund.state.name());
            }
            report(self.breach("L2", &expected, stored));
        }
    }
}
