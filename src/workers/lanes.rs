//! Delivery health of each merchant's address, and its share of the worker slots (N7). The share of
//! one that replies promptly grows up to a bound; one that fails goes to a separate lane, one event
//! at a time, until it acknowledges an event.
//!
//! In memory only: after a restart it is learned again from one event per address.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::domain::identifiers::Timestamp;
use crate::store::outbox::DeliveryShares;

/// Events in flight to one destination at first, after a late reply, and while it is failing.
pub(super) const SHARE_FIRST: u32 = 1;

/// The maximum, reached after as many prompt replies: twice its connections, so that the next event
/// is leased while another one is being completed.
pub(super) const SHARE_MAX: u32 = 32;

/// A reply that takes longer is late: its delivery frees its worker slot.
pub(super) const PROMPT: Duration = Duration::from_secs(1);

/// Consecutive prompt failures that count as much as one late failure.
const FAILURES_MAX: u32 = 3;

/// Backoff of a failing destination, multiplied by its consecutive failures. Never longer than the
/// published retry waits of a single event.
const REST: Duration = Duration::from_secs(1);
/// The longest backoff; a recovery is noticed within it.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Maximum number of destinations in memory, about 150 bytes each. Beyond that, healthy ones are
/// dropped first, and then no new ones are added.
const ADDRESSES_MAX: usize = 10_000;

/// The lane in which an event waits for a worker slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryLane {
    /// Destinations without recent failures.
    Prompt,
    /// Destinations that failed recently.
    Failing,
}

/// The health of one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DestinationHealth {
    share: u32,
    failures: u32,
    /// Its last failure, if it is failing; the backoff starts there.
    failing: Option<Timestamp>,
}

impl DestinationHealth {
    const NEW: Self = Self {
        share: SHARE_FIRST,
        failures: 0,
        failing: None,
    };

    fn share_in(&self, lane: DeliveryLane, now: Timestamp) -> u32 {
        match (lane, self.failing) {
            (DeliveryLane::Prompt, None) => self.share,
            (DeliveryLane::Failing, Some(_)) if !self.rests(now) => SHARE_FIRST,
            (DeliveryLane::Prompt, Some(_)) | (DeliveryLane::Failing, _) => 0,
        }
    }

    fn rests(&self, now: Timestamp) -> bool {
        let rest = REST.saturating_mul(self.failures).min(BACKOFF_MAX);
        // A clock that was set back must not extend the backoff (T2).
        self.failing
            .is_some_and(|since| since <= now && now < since.plus(rest))
    }
}

/// The health of all destinations.
#[derive(Debug, Default)]
pub(super) struct DestinationLanes {
    known: Mutex<HashMap<Arc<str>, DestinationHealth>>,
    /// Wakes the failing lane.
    pub(super) wake_up: Notify,
}

impl DestinationLanes {
    fn known(&self) -> MutexGuard<'_, HashMap<Arc<str>, DestinationHealth>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events to each destination may be in flight in this lane.
    pub(super) fn shares(&self, lane: DeliveryLane, now: Timestamp) -> DeliveryShares {
        let others = DestinationHealth::NEW.share_in(lane, now);
        let known = self.known();
        let shares = known
            .iter()
            .map(|(origin, health)| (origin, health.share_in(lane, now)));
        // What an unknown destination has too need not be listed.
        let differing = shares.filter(|(_, share)| *share != others);
        DeliveryShares {
            destinations: differing
                .map(|(origin, share)| (Arc::clone(origin), share))
                .collect(),
            others,
        }
    }

    /// A reply is late: whatever its result, no further event is sent there until it ends.
    pub(super) fn mark_late(&self, origin: &str) {
        let before = self.known().get(origin).copied();
        let share = SHARE_FIRST;
        let health = before.unwrap_or(DestinationHealth::NEW);
        self.update(origin, DestinationHealth { share, ..health });
    }

    /// Records whether an event was acknowledged. Returns whether the destination changed its lane.
    pub(super) fn ended(
        &self,
        origin: &str,
        is_acknowledged: bool,
        late: bool,
        now: Timestamp,
    ) -> bool {
        let before = self
            .known()
            .get(origin)
            .copied()
            .unwrap_or(DestinationHealth::NEW);
        let after = if is_acknowledged {
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
        self.update(origin, after);
        before.failing.is_some() != after.failing.is_some()
    }

    fn update(&self, origin: &str, health: DestinationHealth) {
        let mut known = self.known();
        if let Some(known) = known.get_mut(origin) {
            *known = health;
            return;
        }
        if known.len() >= ADDRESSES_MAX {
            known.retain(|_, one| one.failing.is_some());
        }
        if known.len() < ADDRESSES_MAX {
            known.insert(origin.into(), health);
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

    /// The share of [`TEA`].
    fn share(lanes: &DestinationLanes, lane: DeliveryLane, now: Timestamp) -> u32 {
        lanes.shares(lane, now).of(TEA)
    }

    /// N7: each prompt reply raises the share by one, up to a bound; one late reply resets it.
    #[test]
    fn a_share_grows_with_prompt_answers_alone() {
        let lanes = DestinationLanes::default();
        assert_eq!(share(&lanes, DeliveryLane::Prompt, at(0)), SHARE_FIRST);
        for _ in 0..5 {
            assert!(!lanes.ended(TEA, true, false, at(0)));
        }
        assert_eq!(share(&lanes, DeliveryLane::Prompt, at(0)), SHARE_FIRST + 5);
        for _ in 0..1_000 {
            lanes.ended(TEA, true, false, at(0));
        }
        assert_eq!(share(&lanes, DeliveryLane::Prompt, at(0)), SHARE_MAX);
        lanes.mark_late(TEA);
        assert_eq!(share(&lanes, DeliveryLane::Prompt, at(0)), SHARE_FIRST);
        assert!(!lanes.ended(TEA, true, true, at(0)));
        assert_eq!(share(&lanes, DeliveryLane::Prompt, at(0)), SHARE_FIRST);
        assert_eq!(share(&lanes, DeliveryLane::Failing, at(0)), 0);
    }

    /// N7: a destination that fails late, or repeatedly, is only in the failing lane, with one
    /// event at a time and backoff in between, until it acknowledges one.
    #[test]
    fn failing_destinations_wait_in_a_lane_of_their_own() {
        for (fails, late) in [(1, true), (FAILURES_MAX, false)] {
            let lanes = DestinationLanes::default();
            for failure in 1..=fails {
                assert_eq!(lanes.ended(TEA, false, late, at(0)), failure == fails);
            }
            assert_eq!(share(&lanes, DeliveryLane::Prompt, at(0)), 0);
            assert_eq!(
                share(&lanes, DeliveryLane::Failing, at(0)),
                0,
                "it backs off"
            );
            let rested = at(i64::from(fails));
            assert_eq!(share(&lanes, DeliveryLane::Failing, rested), SHARE_FIRST);
            assert_eq!(
                share(&lanes, DeliveryLane::Failing, at(-9)),
                SHARE_FIRST,
                "T2"
            );
            for _ in 0..1_000 {
                assert!(!lanes.ended(TEA, false, true, at(0)));
            }
            assert_eq!(share(&lanes, DeliveryLane::Failing, at(29)), 0);
            assert_eq!(share(&lanes, DeliveryLane::Failing, at(30)), SHARE_FIRST);
            assert!(lanes.ended(TEA, true, false, at(31)));
            assert_eq!(share(&lanes, DeliveryLane::Prompt, at(31)), SHARE_FIRST + 1);
            assert_eq!(share(&lanes, DeliveryLane::Failing, at(99)), 0);
        }
    }

    /// N7: the number of destinations is bounded; failing ones are dropped last.
    #[test]
    fn only_so_many_destinations_are_remembered() {
        let lanes = DestinationLanes::default();
        lanes.ended(TEA, false, true, at(0));
        for n in 0..ADDRESSES_MAX {
            lanes.ended(&format!("https://shop{n}.example"), true, false, at(0));
        }
        assert!(lanes.known().len() <= ADDRESSES_MAX);
        assert_eq!(share(&lanes, DeliveryLane::Prompt, at(0)), 0);
    }
}
