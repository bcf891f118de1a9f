//! One order: its states, its sums, its events and its records (sections 3 to 7 and 10).

use crate::domain::amount::Amount;
use crate::domain::attempt::AttemptState;
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
    /// Says everything of it that does not hold.
    pub fn verify(&self, hear: &mut BreachSink<'_>) {
        self.settled(hear);
        self.attempted(hear);
        self.excess(hear);
        self.refunded(hear);
        self.due(hear);
        self.owed(hear);
        self.recorded(hear);
        entries(self, hear);
    }

    fn breach(&self, rule: &'static str, expected: &str, found: impl Into<String>) -> Breach {
        Breach::of(rule, self.order.no.as_str(), expected, found)
    }

    fn settles(&self, attempt: &AttemptRow) -> bool {
        self.order.paying_attempt_id.as_ref() == Some(&attempt.id)
    }

    /// O1, O2: paid by exactly one attempt of its own, and by the sum that was asked.
    fn settled(&self, hear: &mut BreachSink<'_>) {
        let state = self.order.state;
        if (state == OrderState::Paid) != self.order.paying_attempt_id.is_some() {
            let paying_attempt_id = self.order.paying_attempt_id.as_ref();
            let paying_attempt_id = paying_attempt_id.map_or("no attempt", AttemptId::as_str);
            let found = format!("{}, settled by {paying_attempt_id}", state.name());
            hear(self.breach("O1", "a settling attempt if and only if it is PAID", found));
        }
        let Some(paying_attempt_id) = &self.order.paying_attempt_id else {
            return;
        };
        let Some(attempt) = self.attempts.iter().find(|one| self.settles(one)) else {
            let found = format!("{paying_attempt_id}, which is not there");
            hear(self.breach("O1", "its settling attempt among its attempts", found));
            return;
        };
        if attempt.state != AttemptState::Paid {
            let found = format!("{paying_attempt_id} is {}", attempt.state.name());
            hear(self.breach("O1", "its settling attempt PAID", found));
        }
        if attempt.receipt != Some(self.order.amount) {
            let expected = format!(
                "{paying_attempt_id} confirmed with {}",
                sum(self.order.amount)
            );
            let found = attempt.receipt.map_or("nothing".to_owned(), sum);
            hear(self.breach("O2", &expected, found));
        }
    }

    /// A2, O3, K2: numbered without a gap, of the order's sum, at most one live, none once it is closed.
    fn attempted(&self, hear: &mut BreachSink<'_>) {
        for (at, attempt) in (1..).zip(&self.attempts) {
            if attempt.seq != at {
                let found = format!("{} is number {}", attempt.id, attempt.seq);
                hear(self.breach("K2", &format!("attempt number {at}"), found));
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
            hear(self.breach("O2", &expected, found));
        }
        let live = self
            .attempts
            .iter()
            .filter(|one| one.state.is_live())
            .count();
        if live > 1 {
            let found = format!("{live} live attempts");
            hear(self.breach("A2", "at most one live attempt", found));
        }
        if live > 0 && self.order.state == OrderState::Closed {
            hear(self.breach("O3", "no live attempt once it is CLOSED", "one"));
        }
    }

    /// A4, A7: what is paid beside the settling attempt goes back, along one refund at a time.
    fn excess(&self, hear: &mut BreachSink<'_>) {
        let paid = |one: &&AttemptRow| one.state == AttemptState::Paid && !self.settles(one);
        for attempt in self.attempts.iter().filter(paid) {
            let going = self.refunds.iter().filter(|one| {
                one.is_surplus && one.attempt == attempt.id && one.state.is_reserved()
            });
            if going.clone().count() == 0 {
                let expected = format!("a refund of the surplus of {}", attempt.id);
                hear(self.breach("A4", &expected, "none that has not failed"));
            }
            let on_its_way = going
                .clone()
                .filter(|one| one.state != RefundState::Succeeded)
                .count();
            if on_its_way > 1 {
                let expected = format!("the surplus of {} on its way once", attempt.id);
                hear(self.breach("A4", &expected, format!("{on_its_way} times")));
            }
            let kept = going
                .filter(|one| one.state == RefundState::Succeeded && one.over_refunded_minor == 0);
            if kept.count() > 1 {
                let expected = format!("the surplus of {} back once", attempt.id);
                hear(self.breach("A7", &expected, "more often, and not booked as loss"));
            }
        }
    }

    /// R1, R5, R8, R9: never more than was paid, along the attempt that brought it.
    fn refunded(&self, hear: &mut BreachSink<'_>) {
        for (at, refund) in (1..).zip(&self.refunds) {
            if refund.seq != at {
                let found = format!("{} is number {}", refund.no, refund.seq);
                hear(self.breach("K2", &format!("refund number {at}"), found));
                break;
            }
        }
        for refund in &self.refunds {
            let along = self.attempts.iter().find(|one| one.id == refund.attempt);
            let along = along.filter(|one| one.state == AttemptState::Paid);
            if along.is_none_or(|one| self.settles(one) == refund.is_surplus) {
                let expected = if refund.is_surplus {
                    "surplus back along a paid attempt that did not settle it"
                } else {
                    "money back along the attempt that settled it"
                };
                hear(self.breach(
                    "R5",
                    expected,
                    format!("{} along {}", refund.no, refund.attempt),
                ));
            }
            if along.is_some_and(|one| one.amount.currency() != refund.amount.currency()) {
                let found = format!("{} of {}", refund.no, sum(refund.amount));
                hear(self.breach("R5", "refunds in the currency that was paid", found));
            }
            if along.is_some_and(|one| refund.is_surplus && one.amount != refund.amount) {
                let found = format!("{} of {}", refund.no, sum(refund.amount));
                hear(self.breach("A4", "surplus back whole", found));
            }
            if refund.state == RefundState::Succeeded && !refund.has_receipt {
                let expected = "a receipt of what went back: its sum, and when";
                hear(self.breach("M7", expected, format!("none of {}", refund.no)));
            }
            if refund.over_refunded_minor > 0 && !refund.is_late && !refund.is_surplus {
                let found = format!("{} with {}", refund.no, refund.over_refunded_minor);
                hear(self.breach("R9", "an excess only of what succeeded late", found));
            }
        }
        let (paid, held, done) = (paid_minor(self), reserved_minor(self), refunded_minor(self));
        if !(0 <= done && done <= held && held <= paid) {
            let found = format!("done {done}, held {held}, paid {paid}");
            hear(self.breach("R1", "0 <= done <= held <= paid", found));
        }
        if self.order.reserved_minor != held {
            let expected = format!("held = {held}, as its refunds are");
            hear(self.breach("R1", &expected, format!("{}", self.order.reserved_minor)));
        }
    }

    /// A6, Z3: what has not come to its end is looked at again.
    fn due(&self, hear: &mut BreachSink<'_>) {
        let is_open = self.order.state == OrderState::Open
            || self.attempts.iter().any(|one| one.state.is_live())
            || self.refunds.iter().any(|one| !one.state.is_over());
        if is_open && !self.order.is_due {
            hear(self.breach("A6", "a time when it is looked at again", "none"));
        }
        for event in self.events.iter().filter(|one| !one.is_rightly_due) {
            let expected = "a time for the next delivery if and only if one is owed";
            hear(self.breach("Z3", expected, format!("otherwise for {}", event.id)));
        }
    }

    /// N1, N4: an event for every reported transition, and no other.
    fn owed(&self, hear: &mut BreachSink<'_>) {
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
            hear(self.breach("N1", &expected, format!("[{}]", found.join(", "))));
        }
        for event in &self.events {
            let id = EventId::of(&self.order.no, event.kind.message(), event.version);
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
                hear(self.breach("N4", "events that follow from what they report", found));
            }
        }
    }

    /// L2, K4: a record for each version, and the last says the states that are stored.
    fn recorded(&self, hear: &mut BreachSink<'_>) {
        let count = self.recorded.as_ref().map_or(0, |one| one.count);
        if count != self.order.version {
            let expected = format!("{} audit records, one for each version", self.order.version);
            hear(self.breach("L2", &expected, format!("{count}")));
        }
        let Some(recorded) = &self.recorded else {
            return;
        };
        let mut stored = self.order.state.name().to_owned();
        for attempt in &self.attempts {
            stored.push(' ');
            stored.push_str(attempt.institution.as_str());
            stored.push('=');
            stored.push_str(attempt.state.name());
        }
        let moved = recorded.last.strip_prefix(stored.as_str());
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
                "states as the last audit record has them: {}",
                recorded.last
            );
            for refund in &self.refunds {
                stored.push(' ');
                stored.push_str(refund.no.as_str());
                stored.push('=');
                stored.push_str(refund.state.name());
            }
            hear(self.breach("L2", &expected, stored));
        }
    }
}
