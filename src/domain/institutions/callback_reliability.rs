//! Callback reliability of an institution: for how many of its recent payments a callback arrived
//! in time.
//!
//! Only affects how often pending payments are polled. Reads no clock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::identifiers::{AttemptId, Timestamp};
use crate::domain::order::CallbackDelivery;

/// Number of recent payments considered.
const PAYMENTS_MAX: usize = 200;
/// Below this number of payments no judgement is made.
const PAYMENTS_MIN: usize = 50;
/// Minimum share of payments with a timely callback. Unit: percent.
const NOTIFIED_PERCENT: usize = 95;
/// A callback later than this after the payment counts as missing.
const NOTIFIED_WITHIN: Duration = Duration::from_secs(30);
/// Observation time of a process before it judges: the first payments it sees are those pending at
/// its start.
const WATCHED_FOR: Duration = Duration::from_mins(15);

/// One institution's recent payments, as seen by this process.
#[derive(Debug, Default)]
pub struct CallbackReliability {
    since: Option<Timestamp>,
    last: VecDeque<ObservedPayment>,
}

#[derive(Debug)]
struct ObservedPayment {
    attempt: AttemptId,
    paid_at: Timestamp,
    is_notified: bool,
}

impl CallbackReliability {
    /// A payment was found by a query.
    pub fn found(&mut self, attempt: &AttemptId, paid_at: Timestamp, now: Timestamp) {
        self.push(attempt, paid_at.min(now), now);
    }

    /// A callback reported a payment: a new one, or one already known.
    pub fn reported(
        &mut self,
        attempt: &AttemptId,
        paid_at: Timestamp,
        is_first: bool,
        now: Timestamp,
    ) {
        // A repeat for a payment that is no longer recorded is ignored.
        if is_first && !self.last.iter().any(|one| one.attempt == *attempt) {
            self.push(attempt, paid_at.min(now), now);
        }
        let mut known = self.last.iter_mut().rev();
        if let Some(known) = known.find(|one| one.attempt == *attempt) {
            known.is_notified |= now.since(known.paid_at) <= NOTIFIED_WITHIN;
        }
    }

    fn push(&mut self, attempt: &AttemptId, paid_at: Timestamp, now: Timestamp) {
        let since = *self.since.get_or_insert(now);
        // Paid before this process started: its callback may have gone to another process.
        if paid_at < since && now.since(paid_at) > NOTIFIED_WITHIN {
            return;
        }
        if self.last.len() >= PAYMENTS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(ObservedPayment {
            attempt: attempt.clone(),
            paid_at,
            is_notified: false,
        });
    }

    /// Whether its callbacks go missing. Payments whose callback may still arrive are not counted.
    pub fn callbacks(&self, now: Timestamp) -> CallbackDelivery {
        if self
            .since
            .is_none_or(|since| now.since(since) < WATCHED_FOR)
        {
            return CallbackDelivery::Arriving;
        }
        let may_still_arrive = |one: &&ObservedPayment| now.since(one.paid_at) <= NOTIFIED_WITHIN;
        let notified = self.last.iter().filter(|one| one.is_notified).count();
        let waiting = self.last.iter().filter(|one| !one.is_notified);
        let waiting = waiting.filter(may_still_arrive).count();
        let judged = self.last.len().saturating_sub(waiting);
        let is_enough = judged >= PAYMENTS_MIN;
        if is_enough && notified.saturating_mul(100) < judged.saturating_mul(NOTIFIED_PERCENT) {
            CallbackDelivery::Missing
        } else {
            CallbackDelivery::Arriving
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_s(seconds)
    }

    fn attempt(n: usize) -> AttemptId {
        let mut draw = [0; 10];
        draw[..8].copy_from_slice(&n.to_be_bytes());
        AttemptId::mint(at(0), draw)
    }

    /// This many payments, one second apart from second 1,000, each with a callback except every
    /// `lost`-th.
    fn after(payments: usize, lost: usize) -> (CallbackReliability, Timestamp) {
        let mut observed = CallbackReliability::default();
        observed.reported(&attempt(usize::MAX), at(0), true, at(0));
        for n in 0..payments {
            let paid = at(i64::try_from(n).unwrap().saturating_add(1_000));
            if n.is_multiple_of(lost) {
                observed.found(&attempt(n), paid, paid.plus(Duration::from_mins(1)));
            } else {
                observed.reported(&attempt(n), paid, true, paid.plus(Duration::from_secs(1)));
            }
        }
        (observed, at(100_000))
    }

    /// One callback in twenty may be lost, but no more, of the last two hundred payments.
    #[test]
    fn missing_callbacks_are_detected() {
        for (payments, lost, callbacks) in [
            (200, 25, CallbackDelivery::Arriving),
            (200, 15, CallbackDelivery::Missing),
            (48, 2, CallbackDelivery::Arriving),
            (60, 2, CallbackDelivery::Missing),
        ] {
            let (observed, now) = after(payments, lost);
            assert_eq!(
                observed.callbacks(now),
                callbacks,
                "{payments} payments, one in {lost} lost"
            );
        }
        let (mut observed, now) = after(200, 2);
        for n in 1_000..1_200 {
            observed.reported(&attempt(n), now, true, now);
        }
        assert_eq!(
            observed.callbacks(now),
            CallbackDelivery::Arriving,
            "recovered"
        );
        assert!(observed.last.len() <= PAYMENTS_MAX);
    }

    /// A process that has just started makes no judgement.
    #[test]
    fn no_institution_is_judged_in_the_first_fifteen_minutes() {
        let mut observed = CallbackReliability::default();
        for n in 0..200 {
            observed.found(&attempt(n), at(60), at(60));
        }
        assert_eq!(observed.callbacks(at(60 + 899)), CallbackDelivery::Arriving);
        assert_eq!(observed.callbacks(at(60 + 900)), CallbackDelivery::Missing);
    }

    /// Payments made before this process started do not count, nor do repeats of forgotten ones.
    #[test]
    fn neither_orphaned_payments_nor_repeats_count_against_an_institution() {
        let mut observed = CallbackReliability::default();
        for n in 0..100 {
            observed.found(&attempt(n), at(0), at(3_600));
        }
        for n in 100..300 {
            observed.reported(&attempt(n), at(4_000), true, at(4_001));
        }
        for n in 300..400 {
            observed.reported(&attempt(n), at(3_900), false, at(7_000));
        }
        assert_eq!(observed.callbacks(at(9_000)), CallbackDelivery::Arriving);
        assert_eq!(observed.last.len(), PAYMENTS_MAX);
    }

    /// A query that is faster than the callback does not count against the callback.
    #[test]
    fn a_callback_after_our_own_query_counts_as_notified() {
        let mut observed = CallbackReliability::default();
        for n in 0..100 {
            observed.found(&attempt(n), at(2_000), at(2_001));
        }
        assert_eq!(
            observed.callbacks(at(2_010)),
            CallbackDelivery::Arriving,
            "they may still arrive"
        );
        for n in 0..100 {
            observed.reported(&attempt(n), at(2_000), true, at(2_003));
        }
        assert_eq!(observed.callbacks(at(9_000)), CallbackDelivery::Arriving);
        for n in 100..200 {
            observed.reported(&attempt(n), at(2_002), true, at(2_033));
        }
        assert_eq!(
            observed.callbacks(at(9_000)),
            CallbackDelivery::Missing,
            "late callbacks count as missing"
        );
    }
}
