//! How each merchant's address lately fared, and what it may hold because of that (N7). Who answers
//! at once holds more and more, up to a bound; who fails waits in a lane of its own, one event at a
//! time, and comes out of it with the first event it hears.
//!
//! Kept in memory: a restart forgets it, and learns it again from one event of each address.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::domain::identifiers::Timestamp;

/// Events of one destination on their way at once, while nothing is known of it, or nothing good.
pub(super) const SHARE_FIRST: u32 = 1;

/// The same, once it has answered at once that often: twice as many as it has connections, so that
/// the next is leased while one is settled.
pub(super) const SHARE_MAX: u32 = 32;

/// An answer that takes longer is late: what waits for it gives its hand back.
pub(super) const PROMPT: Duration = Duration::from_secs(1);

/// Failures in a row, answered at once, that count as much as one that came late.
const FAILURES_MAX: u32 = 3;

/// How long a destination that fails rests after each failure, times the failures in a row. Never
/// longer than the published waits of a single event.
const REST: Duration = Duration::from_secs(1);
/// The longest rest: who comes back is found out so soon.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Destinations remembered at most; about 150 bytes each. Past that those that do well are
/// forgotten, and then nothing new is remembered.
const ADDRESSES_MAX: usize = 10_000;

/// Where an event waits for a hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryLane {
    /// Destinations nothing bad is known of.
    Prompt,
    /// Destinations that failed lately.
    Failing,
}

/// How one destination fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DestinationHealth {
    share: u32,
    failures: u32,
    /// Since when it has been failing, last of all; it rests from then on.
    failing: Option<Timestamp>,
}

impl DestinationHealth {
    const NEW: Self = Self {
        share: SHARE_FIRST,
        failures: 0,
        failing: None,
    };

    fn rests(&self, now: Timestamp) -> bool {
        let rest = REST.saturating_mul(self.failures).min(BACKOFF_MAX);
        // A clock that was set back makes no rest of hours (T2).
        self.failing
            .is_some_and(|since| since <= now && now < since.plus(rest))
    }
}

/// What is known of every destination.
#[derive(Debug, Default)]
pub(super) struct DestinationLanes {
    known: Mutex<HashMap<Box<str>, DestinationHealth>>,
    /// Rung when the failing lane has something to look at.
    pub(super) wake_up: Notify,
}

impl DestinationLanes {
    fn known(&self) -> MutexGuard<'_, HashMap<Box<str>, DestinationHealth>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events of a destination this lane may have on their way.
    pub(super) fn share(&self, lane: DeliveryLane, origin: &str, now: Timestamp) -> u32 {
        let known = self.known();
        let standing = known.get(origin).copied().unwrap_or(DestinationHealth::NEW);
        match (lane, standing.failing) {
            (DeliveryLane::Prompt, None) => standing.share,
            (DeliveryLane::Failing, Some(_)) if !standing.rests(now) => SHARE_FIRST,
            (DeliveryLane::Prompt, Some(_)) | (DeliveryLane::Failing, _) => 0,
        }
    }

    /// An answer is late; whatever it will say, nothing more is sent there meanwhile.
    pub(super) fn mark_late(&self, origin: &str) {
        let before = self.known().get(origin).copied();
        let share = SHARE_FIRST;
        let standing = before.unwrap_or(DestinationHealth::NEW);
        self.remember(origin, DestinationHealth { share, ..standing });
    }

    /// An event was heard or not. Says whether the destination changed its lane.
    pub(super) fn ended(&self, origin: &str, heard: bool, late: bool, now: Timestamp) -> bool {
        let before = self
            .known()
            .get(origin)
            .copied()
            .unwrap_or(DestinationHealth::NEW);
        let after = if heard {
            let grown = before.share.saturating_add(1).min(SHARE_MAX);
            DestinationHealth {
                share: if late { SHARE_FIRST } else { grown },
                ..DestinationHealth::NEW
            }
        } else {
            let failures = before.failures.saturating_add(1);
            let fails = late || failures >= FAILURES_MAX || before.failing.is_some();
            DestinationHealth {
                share: (before.share / 2).max(SHARE_FIRST),
                failures,
                failing: fails.then_some(now),
            }
        };
        self.remember(origin, after);
        before.failing.is_some() != after.failing.is_some()
    }

    fn remember(&self, origin: &str, standing: DestinationHealth) {
        let mut known = self.known();
        if let Some(known) = known.get_mut(origin) {
            *known = standing;
            return;
        }
        if known.len() >= ADDRESSES_MAX {
            known.retain(|_, one| one.failing.is_some());
        }
        if known.len() < ADDRESSES_MAX {
            known.insert(origin.into(), standing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEA: &str = "https://tea.example";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_s(seconds)
    }

    /// N7: who answers at once gets more on its way, one by one and up to a bound; one late answer
    /// takes all of it back.
    #[test]
    fn a_share_grows_with_prompt_answers_alone() {
        let lanes = DestinationLanes::default();
        assert_eq!(lanes.share(DeliveryLane::Prompt, TEA, at(0)), SHARE_FIRST);
        for _ in 0..5 {
            assert!(!lanes.ended(TEA, true, false, at(0)));
        }
        assert_eq!(
            lanes.share(DeliveryLane::Prompt, TEA, at(0)),
            SHARE_FIRST + 5
        );
        for _ in 0..1_000 {
            lanes.ended(TEA, true, false, at(0));
        }
        assert_eq!(lanes.share(DeliveryLane::Prompt, TEA, at(0)), SHARE_MAX);
        lanes.mark_late(TEA);
        assert_eq!(lanes.share(DeliveryLane::Prompt, TEA, at(0)), SHARE_FIRST);
        assert!(!lanes.ended(TEA, true, true, at(0)));
        assert_eq!(lanes.share(DeliveryLane::Prompt, TEA, at(0)), SHARE_FIRST);
        assert_eq!(lanes.share(DeliveryLane::Failing, TEA, at(0)), 0);
    }

    /// N7: who fails late, or again and again, is in the failing lane alone, with one event at a
    /// time and rests in between, until it hears one.
    #[test]
    fn failing_destinations_wait_in_a_lane_of_their_own() {
        for (fails, late) in [(1, true), (FAILURES_MAX, false)] {
            let lanes = DestinationLanes::default();
            for failure in 1..=fails {
                assert_eq!(lanes.ended(TEA, false, late, at(0)), failure == fails);
            }
            assert_eq!(lanes.share(DeliveryLane::Prompt, TEA, at(0)), 0);
            assert_eq!(
                lanes.share(DeliveryLane::Failing, TEA, at(0)),
                0,
                "it rests"
            );
            let rested = at(i64::from(fails));
            assert_eq!(lanes.share(DeliveryLane::Failing, TEA, rested), SHARE_FIRST);
            assert_eq!(
                lanes.share(DeliveryLane::Failing, TEA, at(-9)),
                SHARE_FIRST,
                "T2"
            );
            for _ in 0..1_000 {
                assert!(!lanes.ended(TEA, false, true, at(0)));
            }
            assert_eq!(lanes.share(DeliveryLane::Failing, TEA, at(29)), 0);
            assert_eq!(lanes.share(DeliveryLane::Failing, TEA, at(30)), SHARE_FIRST);
            assert!(lanes.ended(TEA, true, false, at(31)));
            assert_eq!(
                lanes.share(DeliveryLane::Prompt, TEA, at(31)),
                SHARE_FIRST + 1
            );
            assert_eq!(lanes.share(DeliveryLane::Failing, TEA, at(99)), 0);
        }
    }

    /// N7: what is remembered is bounded; those that fail are the last to be forgotten.
    #[test]
    fn only_so_many_destinations_are_remembered() {
        let lanes = DestinationLanes::default();
        lanes.ended(TEA, false, true, at(0));
        for n in 0..ADDRESSES_MAX {
            lanes.ended(&format!("https://shop{n}.example"), true, false, at(0));
        }
        assert!(lanes.known().len() <= ADDRESSES_MAX);
        assert_eq!(lanes.share(DeliveryLane::Prompt, TEA, at(0)), 0);
    }
}
