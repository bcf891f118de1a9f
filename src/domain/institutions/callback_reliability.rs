//! Whether an institution tells us of payments: of its last ones, how many came to us by its callback.
//!
//! Decides how quickly payments that wait are asked about, and nothing else. Reads no clock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::identifiers::{AttemptId, Timestamp};
use crate::domain::order::CallbackDelivery;

/// Payments remembered; older ones say nothing any more.
const PAYMENTS_MAX: usize = 200;
/// Fewer say nothing.
const PAYMENTS_MIN: usize = 50;
/// From this share of payments told on, callbacks can be waited for. Unit: percent.
const NOTIFIED_PERCENT: usize = 95;
/// A callback that comes later than this after the payment was not there when it was needed.
const NOTIFIED_WITHIN: Duration = Duration::from_secs(30);
/// So long a process only watches: what it sees first are the leftovers of its start.
const WATCHED_FOR: Duration = Duration::from_mins(15);

/// One institution's recent payments, as this process came to know of them.
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
    /// A payment became known by asking.
    pub fn found(&mut self, attempt: &AttemptId, paid_at: Timestamp, now: Timestamp) {
        self.push(attempt, paid_at.min(now), now);
    }

    /// A callback told of a payment: the first word of it, or one more of a payment that was known.
    pub fn told(
        &mut self,
        attempt: &AttemptId,
        (paid_at, is_first): (Timestamp, bool),
        now: Timestamp,
    ) {
        // A repeat of what is no longer remembered says nothing.
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
        // Paid while this process did not yet listen: whoever was told of it then was not we.
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

    /// Whether its callbacks go missing. A payment whose callback may still come says nothing yet.
    pub fn callbacks(&self, now: Timestamp) -> CallbackDelivery {
        if self
            .since
            .is_none_or(|since| now.since(since) < WATCHED_FOR)
        {
            return CallbackDelivery::Arriving;
        }
        let may_still_be = |one: &&ObservedPayment| now.since(one.paid_at) <= NOTIFIED_WITHIN;
        let told = self.last.iter().filter(|one| one.is_notified).count();
        let waiting = self.last.iter().filter(|one| !one.is_notified);
        let waiting = waiting.filter(may_still_be).count();
        let judged = self.last.len().saturating_sub(waiting);
        let is_enough = judged >= PAYMENTS_MIN;
        if is_enough && told.saturating_mul(100) < judged.saturating_mul(NOTIFIED_PERCENT) {
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

    /// So many payments a second apart from second 1,000 on, each told of unless it is one in `lost`.
    fn after(payments: usize, lost: usize) -> (CallbackReliability, Timestamp) {
        let mut telling = CallbackReliability::default();
        telling.told(&attempt(usize::MAX), (at(0), true), at(0));
        for n in 0..payments {
            let paid = at(i64::try_from(n).unwrap().saturating_add(1_000));
            if n.is_multiple_of(lost) {
                telling.found(&attempt(n), paid, paid.plus(Duration::from_mins(1)));
            } else {
                telling.told(&attempt(n), (paid, true), paid.plus(Duration::from_secs(1)));
            }
        }
        (telling, at(100_000))
    }

    /// One callback in twenty may be lost; more may not, of the last two hundred payments.
    #[test]
    fn missing_callbacks_are_detected() {
        for (payments, lost, callbacks) in [
            (200, 25, CallbackDelivery::Arriving),
            (200, 15, CallbackDelivery::Missing),
            (48, 2, CallbackDelivery::Arriving),
            (60, 2, CallbackDelivery::Missing),
        ] {
            let (telling, now) = after(payments, lost);
            assert_eq!(
                telling.callbacks(now),
                callbacks,
                "{payments} payments, one in {lost} lost"
            );
        }
        let (mut telling, now) = after(200, 2);
        for n in 1_000..1_200 {
            telling.told(&attempt(n), (now, true), now);
        }
        assert_eq!(
            telling.callbacks(now),
            CallbackDelivery::Arriving,
            "it came back"
        );
        assert!(telling.last.len() <= PAYMENTS_MAX);
    }

    /// Whoever has just begun to watch says nothing against anybody.
    #[test]
    fn no_institution_is_judged_in_the_first_fifteen_minutes() {
        let mut telling = CallbackReliability::default();
        for n in 0..200 {
            telling.found(&attempt(n), at(60), at(60));
        }
        assert_eq!(telling.callbacks(at(60 + 899)), CallbackDelivery::Arriving);
        assert_eq!(telling.callbacks(at(60 + 900)), CallbackDelivery::Missing);
    }

    /// What was paid while nobody listened here says nothing, nor does a repeat of what is forgotten.
    #[test]
    fn neither_orphaned_payments_nor_repeats_count_against_an_institution() {
        let mut telling = CallbackReliability::default();
        for n in 0..100 {
            telling.found(&attempt(n), at(0), at(3_600));
        }
        for n in 100..300 {
            telling.told(&attempt(n), (at(4_000), true), at(4_001));
        }
        for n in 300..400 {
            telling.told(&attempt(n), (at(3_900), false), at(7_000));
        }
        assert_eq!(telling.callbacks(at(9_000)), CallbackDelivery::Arriving);
        assert_eq!(telling.last.len(), PAYMENTS_MAX);
    }

    /// Asking that was faster than the callback is no fault of the callback.
    #[test]
    fn a_callback_after_our_own_query_counts_as_notified() {
        let mut telling = CallbackReliability::default();
        for n in 0..100 {
            telling.found(&attempt(n), at(2_000), at(2_001));
        }
        assert_eq!(
            telling.callbacks(at(2_010)),
            CallbackDelivery::Arriving,
            "they may still come"
        );
        for n in 0..100 {
            telling.told(&attempt(n), (at(2_000), true), at(2_003));
        }
        assert_eq!(telling.callbacks(at(9_000)), CallbackDelivery::Arriving);
        for n in 100..200 {
            telling.told(&attempt(n), (at(2_002), true), at(2_033));
        }
        assert_eq!(
            telling.callbacks(at(9_000)),
            CallbackDelivery::Missing,
            "too late is not told"
        );
    }
}
