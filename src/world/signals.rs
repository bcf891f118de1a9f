//! Signs that money may have moved: the payer is back, or somebody reads the order's state. They
//! make an order be polled sooner than its schedule says, and prove nothing.
//!
//! In memory only: a lost signal costs one slow step of the schedule.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::domain::identifiers::{InstitutionId, PayOrderNo, Timestamp};

/// The minimum time between an order's last poll and one caused by a signal.
pub const POLL_GAP_MIN: Duration = Duration::from_secs(3);

/// The most polls of one order in a minute, whatever is signalled.
const POLLS_PER_MINUTE_MAX: usize = 10;
const MINUTE: Duration = Duration::from_mins(1);

/// After a payer's return the institution may not know yet, so it is polled again after these.
const AFTER_RETURN: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// The most orders remembered, about 300 bytes each. Above it signals are dropped.
const ADDRESSES_MAX: usize = 100_000;

/// The most orders remembered only because they were polled, so that signals always have space.
const POLLED_KNOWN_MAX: usize = 50_000;

/// How often idle orders are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// A sign about an order that waits for its payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The payer has returned to our page.
    Returned,
    /// Somebody reads the order's state: the page, the SDK, the merchant.
    Looked,
    /// It was accepted by an institution whose callbacks go missing.
    Accepted,
}

/// The signals of all orders.
#[derive(Debug, Default)]
pub struct PaymentSignals {
    state: Mutex<SignalState>,
    /// Notified when something became due.
    pub rung: Notify,
}

#[derive(Debug, Default)]
struct SignalState {
    orders: HashMap<PayOrderNo, SignalledOrder>,
    /// By institution, so that one without capacity blocks no other; no queue is empty.
    due: BTreeMap<InstitutionId, BTreeSet<(Timestamp, PayOrderNo)>>,
    forgotten_at: Option<Timestamp>,
}

#[derive(Debug)]
struct SignalledOrder {
    institution: InstitutionId,
    /// When it is to be polled; each is also in the queue of all.
    due: BTreeSet<Timestamp>,
    /// When it was polled, in the last minute.
    asked: VecDeque<Timestamp>,
}

impl SignalledOrder {
    fn new(institution: &InstitutionId) -> Self {
        Self {
            institution: institution.clone(),
            due: BTreeSet::new(),
            asked: VecDeque::new(),
        }
    }

    /// Forgets polls older than a minute, and due times that a clock that was ahead has postponed.
    fn forget(&mut self, now: Timestamp) {
        let ahead = now.plus(MINUTE);
        self.due.retain(|at| *at <= ahead);
        let lately = |polled: &Timestamp| *polled <= ahead && now.since(*polled) < MINUTE;
        self.asked.retain(lately);
    }
}

impl PaymentSignals {
    fn state(&self) -> MutexGuard<'_, SignalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a sign about an order that waits for its payer at this institution.
    pub fn raise(
        &self,
        order: &PayOrderNo,
        institution: &InstitutionId,
        signal: Signal,
        now: Timestamp,
    ) {
        let mut state = self.state();
        state.forget(now);
        if state.orders.len() >= ADDRESSES_MAX && !state.orders.contains_key(order) {
            return;
        }
        let known = state.known(order, institution, now);
        let last = known.asked.back();
        let first = match signal {
            Signal::Accepted => now.plus(POLL_GAP_MIN),
            Signal::Returned | Signal::Looked => {
                last.map_or(now, |last| last.plus(POLL_GAP_MIN).max(now))
            }
        };
        let mut polls = Vec::new();
        // A poll due by then covers this one too.
        if known.due.range(now..=first).next().is_none() {
            polls.push(first);
        }
        if signal == Signal::Returned {
            known.due.retain(|at| *at <= first);
            polls.extend(AFTER_RETURN.map(|after| now.plus(after)));
        }
        known.due.extend(polls.iter().copied());
        let due = polls.into_iter().map(|at| (at, order.clone()));
        state
            .due
            .entry(institution.clone())
            .or_default()
            .extend(due);
        drop(state);
        self.rung.notify_one();
    }

    /// Takes up to `count` orders that are due: one of each institution in turn, and of none more
    /// than its share.
    pub fn due(
        &self,
        now: Timestamp,
        count: usize,
        share: impl Fn(&InstitutionId) -> usize,
    ) -> Vec<(PayOrderNo, InstitutionId)> {
        let mut state = self.state();
        let waiting = state.due.iter().filter(|(_, queue)| is_due(queue, now));
        let waiting = waiting.map(|(institution, _)| (institution.clone(), share(institution)));
        let mut capacities: Vec<_> = waiting.filter(|(_, capacity)| *capacity > 0).collect();
        let mut taken = Vec::new();
        while !capacities.is_empty() {
            capacities.retain_mut(|(institution, capacity)| {
                let next = (taken.len() < count).then(|| state.next_of(institution, now));
                let Some(order) = next.flatten() else {
                    return false;
                };
                taken.push((order, institution.clone()));
                *capacity = capacity.saturating_sub(1);
                *capacity > 0
            });
        }
        taken
    }

    /// An order was polled, for whatever reason.
    pub fn asked(&self, order: &PayOrderNo, institution: &InstitutionId, now: Timestamp) {
        let mut state = self.state();
        state.forget(now);
        if state.orders.len() >= POLLED_KNOWN_MAX && !state.orders.contains_key(order) {
            return;
        }
        state.known(order, institution, now).asked.push_back(now);
    }

    /// An order no longer waits for its payer: drops the polls that signals asked for.
    pub fn forget(&self, order: &PayOrderNo) {
        let mut state = self.state();
        if let Some(known) = state.orders.remove(order) {
            state.take_out(order, &known);
        }
    }

    /// What was taken could not be polled; it is due again at `until`.
    pub fn put_off(&self, order: &PayOrderNo, until: Timestamp) {
        let mut state = self.state();
        let SignalState { orders, due, .. } = &mut *state;
        if let Some(known) = orders.get_mut(order) {
            known.due.insert(until);
            let queue = due.entry(known.institution.clone()).or_default();
            queue.insert((until, order.clone()));
        }
    }

    /// When the next poll is due.
    pub fn next(&self) -> Option<Timestamp> {
        let state = self.state();
        let firsts = state.due.values().filter_map(BTreeSet::first);
        firsts.map(|(at, _)| *at).min()
    }
}

fn is_due(queue: &BTreeSet<(Timestamp, PayOrderNo)>, now: Timestamp) -> bool {
    queue.first().is_some_and(|(at, _)| *at <= now)
}

impl SignalState {
    /// The next due order of one institution.
    fn next_of(&mut self, institution: &InstitutionId, now: Timestamp) -> Option<PayOrderNo> {
        let queue = self.due.get_mut(institution)?;
        let mut found = None;
        while found.is_none() && is_due(queue, now) {
            let (at, order) = queue.pop_first()?;
            let Some(known) = self.orders.get_mut(&order) else {
                continue;
            };
            let is_due_then = known.due.remove(&at);
            known.forget(now);
            found = (is_due_then && known.asked.len() < POLLS_PER_MINUTE_MAX).then_some(order);
        }
        if queue.is_empty() {
            self.due.remove(institution);
        }
        found
    }

    /// The entry of an order whose payer is at this institution; the payer may have changed it.
    fn known(
        &mut self,
        order: &PayOrderNo,
        institution: &InstitutionId,
        now: Timestamp,
    ) -> &mut SignalledOrder {
        if let Some(known) = self.orders.remove(order) {
            let known = if known.institution == *institution {
                known
            } else {
                self.take_out(order, &known);
                SignalledOrder {
                    asked: known.asked,
                    ..SignalledOrder::new(institution)
                }
            };
            self.orders.insert(order.clone(), known);
        }
        let known = self.orders.entry(order.clone());
        let known = known.or_insert_with(|| SignalledOrder::new(institution));
        known.forget(now);
        known
    }

    /// Removes all its due times.
    fn take_out(&mut self, order: &PayOrderNo, known: &SignalledOrder) {
        if let Some(queue) = self.due.get_mut(&known.institution) {
            for at in &known.due {
                queue.remove(&(*at, order.clone()));
            }
            if queue.is_empty() {
                self.due.remove(&known.institution);
            }
        }
    }

    /// Forgets orders without due polls that were not polled for a minute.
    fn forget(&mut self, now: Timestamp) {
        let last = *self.forgotten_at.get_or_insert(now);
        if now.since(last) < FORGET_EVERY && last <= now {
            return;
        }
        self.forgotten_at = Some(now);
        self.orders.retain(|_, known| {
            known.forget(now);
            let lately = known.asked.back().is_some_and(|at| now.since(*at) < MINUTE);
            lately || !known.due.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms.saturating_add(1_000_000))
    }

    fn order(n: u8) -> PayOrderNo {
        PayOrderNo::mint(at(0), [n; 10])
    }

    fn bank() -> InstitutionId {
        InstitutionId::parse("bank").unwrap()
    }

    /// Raises signals and polls whenever something is due, for a minute; returns when it polled.
    fn polled(signals: &PaymentSignals, raised: &[(i64, Signal)]) -> Vec<i64> {
        let mut polls = Vec::new();
        for ms in (0..60_000).step_by(100) {
            for (_, signal) in raised.iter().filter(|(when, _)| *when == ms) {
                signals.raise(&order(1), &bank(), *signal, at(ms));
            }
            for (no, institution) in signals.due(at(ms), 10, |_| 10) {
                signals.asked(&no, &institution, at(ms));
                polls.push(ms);
            }
        }
        polls
    }

    /// A returning payer has the order polled at once, and again after 2, 5 and 10 s.
    #[test]
    fn a_returning_payer_has_the_order_polled_at_once_and_again() {
        let signals = PaymentSignals::default();
        let when = polled(&signals, &[(1_000, Signal::Returned)]);
        assert_eq!(when, [1_000, 3_000, 6_000, 11_000]);
    }

    /// A read has the order polled at once, unless it was polled within the last three seconds:
    /// then once those have passed, and once for any number of reads.
    #[test]
    fn repeated_reads_poll_once_in_three_seconds() {
        let looks: Vec<_> = (0..8).map(|n| (n * 500, Signal::Looked)).collect();
        assert_eq!(
            polled(&PaymentSignals::default(), &looks),
            [0, 3_000, 6_000]
        );
        let accepted = [(0, Signal::Accepted)];
        assert_eq!(polled(&PaymentSignals::default(), &accepted), [3_000]);
    }

    /// A paid order is not polled any more, and blocks no other.
    #[test]
    fn an_order_that_moved_is_forgotten() {
        let signals = PaymentSignals::default();
        for n in 1..=2 {
            signals.raise(&order(n), &bank(), Signal::Returned, at(0));
        }
        assert_eq!(signals.due(at(0), 10, |_| 10).len(), 2);
        signals.forget(&order(1));
        let all = signals.due(at(60_000), 10, |_| 10);
        assert!(all.iter().all(|(no, _)| *no == order(2)), "{all:?}");
        assert_eq!((all.len(), signals.next()), (3, None));
    }

    /// N10: an institution without capacity blocks no other, and none gets more than its share.
    #[test]
    fn an_institution_without_capacity_delays_no_other() {
        let (signals, other) = (
            PaymentSignals::default(),
            InstitutionId::parse("other").unwrap(),
        );
        for n in 0..50 {
            signals.raise(&order(n), &bank(), Signal::Looked, at(0));
        }
        for n in 50..60 {
            signals.raise(&order(n), &other, Signal::Looked, at(1));
        }
        let of_other = |id: &InstitutionId| if *id == other { 4 } else { 0 };
        let taken = signals.due(at(1), 10, of_other);
        assert_eq!(taken.len(), 4);
        assert!(taken.iter().all(|(_, id)| *id == other), "{taken:?}");
        assert_eq!(signals.due(at(1), 100, |_| 100).len(), 56);
        assert_eq!(signals.next(), None);
    }

    /// No order is polled more than ten times in a minute, whatever is signalled.
    #[test]
    fn an_order_is_polled_at_most_ten_times_a_minute() {
        let returns: Vec<_> = (0..590).map(|n| (n * 100, Signal::Returned)).collect();
        assert_eq!(
            polled(&PaymentSignals::default(), &returns).len(),
            POLLS_PER_MINUTE_MAX
        );
    }

    /// After a payer changed the institution, the order is polled there.
    #[test]
    fn a_signal_follows_the_payer_to_another_institution() {
        let (signals, other) = (
            PaymentSignals::default(),
            InstitutionId::parse("other").unwrap(),
        );
        signals.asked(&order(1), &bank(), at(0));
        signals.raise(&order(1), &other, Signal::Looked, at(10_000));
        assert_eq!(signals.due(at(10_000), 10, |_| 10), [(order(1), other)]);
    }

    /// H2: what was remembered under a clock that was ahead delays no signal once it is corrected.
    #[test]
    fn a_clock_that_was_ahead_delays_no_signal() {
        let signals = PaymentSignals::default();
        let ahead = polled(&signals, &[(0, Signal::Returned)]);
        assert_eq!(ahead.len(), 4);
        signals.raise(&order(1), &bank(), Signal::Returned, at(60_000));
        let hour_ago = at(-3_600_000);
        signals.raise(&order(1), &bank(), Signal::Looked, hour_ago);
        assert_eq!(signals.due(hour_ago, 10, |_| 10).len(), 1);
    }

    /// Scheduled polls leave space for signals of new orders.
    #[test]
    fn scheduled_polls_leave_capacity_for_signals() {
        let signals = PaymentSignals::default();
        let many = |n: u32| {
            let mut draw = [0; 10];
            draw[..4].copy_from_slice(&n.to_be_bytes());
            PayOrderNo::mint(at(0), draw)
        };
        for n in 0..110_000 {
            signals.asked(&many(n), &bank(), at(0));
        }
        signals.raise(&many(200_000), &bank(), Signal::Looked, at(0));
        assert_eq!(signals.due(at(0), 10, |_| 10).len(), 1);
    }

    /// What is remembered is bounded and forgotten.
    #[test]
    fn an_order_that_nobody_looks_at_is_forgotten() {
        let signals = PaymentSignals::default();
        polled(&signals, &[(0, Signal::Returned)]);
        assert_eq!(signals.next(), None);
        signals.raise(&order(2), &bank(), Signal::Looked, at(120_000));
        assert_eq!(signals.state().orders.len(), 1);
        assert_eq!(signals.next(), Some(at(120_000)));
        signals.due(at(120_000), 1, |_| 1);
        signals.put_off(&order(2), at(120_500));
        assert_eq!(signals.next(), Some(at(120_500)));
    }
}
