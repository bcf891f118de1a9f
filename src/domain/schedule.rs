//! Retry and polling schedules. They only compute times; none of them ends anything (V2).

use std::time::Duration;

use crate::domain::identifiers::Timestamp;

/// Waits before each further delivery of a notification, in seconds, counted from the end
/// of the previous attempt (`docs/openapi.yaml`, A3.3).
const NOTICE_WAITS_S: [u64; 18] = [
    1, 2, 5, 15, 30, 60, 180, 600, 1_200, 1_800, 1_800, 3_600, 10_800, 10_800, 10_800, 21_600,
    21_600, 86_400,
];

/// Daily waits that follow these: as many as fit into 7 days altogether.
const NOTICE_DAYS: usize = 5;

/// Waits between polls of an unresolved object, while the payer is probably on the page.
const UNRESOLVED_WAITS_MS: [u64; 6] = [500, 1_000, 2_000, 4_000, 8_000, 15_000];

/// Once the payer has probably left: half a minute at first, then slower, up to half an hour.
const UNRESOLVED_WAITS_LATER_S: [u64; 6] = [30, 60, 120, 300, 600, 1_800];

/// Number of polls more frequent than hourly.
const UNRESOLVED_QUICK_POLLS: u32 = 12;

/// Number of hourly polls that completes the schedule: after two days an attempt that is still
/// unresolved is flagged for manual review and polled daily (Z1).
const UNRESOLVED_HOURLY_MAX: u32 = 48;

/// Waits while a payment is pending: 20 and 60 s after acceptance, then every 60 s.
const PAYER_WAITS_S: [u64; 3] = [20, 40, 60];

/// The same where callbacks are missing: 3, 5, 10, 20, 30 s after acceptance, then up to every 30
/// s.
const CALLBACKS_MISSING_WAITS_S: [u64; 6] = [3, 2, 5, 10, 10, 30];

/// Maximum jitter added to a wait, as a share of it. Unit: permille.
const SPREAD_PERMILLE: u32 = 200;

/// A refund unknown to the institution is sent again at this many of its first polls, within ten
/// minutes of the first (R4). After that we only wait until nothing can be in transit any more.
pub const REPEATS_MAX: u32 = 10;

/// Polling frequency of an object in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollFrequency {
    /// Outcome unknown: quickly, then slower.
    Unresolved,
    /// Waiting for the payer, and callbacks arrive: rarely.
    Payer,
    /// The same at an institution whose callbacks are missing.
    CallbacksMissing,
    /// In manual review: daily.
    ManualReview,
}

impl PollFrequency {
    /// The wait before the next poll, after this many polls.
    pub fn wait(self, polls: u32) -> Duration {
        match self {
            Self::Unresolved => unresolved_wait(polls),
            Self::Payer => of_table(&PAYER_WAITS_S, polls),
            Self::CallbacksMissing => of_table(&CALLBACKS_MISSING_WAITS_S, polls),
            Self::ManualReview => Duration::from_hours(24),
        }
    }
}

/// The entry for this many polls; the last entry for all further ones.
fn of_table(waits_s: &[u64], polls: u32) -> Duration {
    let at = usize::try_from(polls).unwrap_or(usize::MAX);
    let wait = waits_s.get(at).or(waits_s.last());
    Duration::from_secs(wait.copied().unwrap_or(60))
}

/// Position of an attempt or refund in its polling schedule: durable, and unchanged by every change
/// that leaves its state as it is (A6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Number of polls sent since it entered its state.
    pub asked: u32,
    /// When the next one is due.
    pub next: Timestamp,
}

impl Schedule {
    /// No polls yet; the first is due at this time.
    pub fn from(next: Timestamp) -> Self {
        Self { asked: 0, next }
    }

    /// Schedules the first poll at this frequency, for the object with this id.
    pub fn begin(pace: PollFrequency, id: &str, now: Timestamp) -> Self {
        Self::from(now.plus(spread(pace.wait(0), id, 0)))
    }

    /// After one more poll.
    #[must_use]
    pub fn asked(self, pace: PollFrequency, id: &str, now: Timestamp) -> Self {
        let asked = self.asked.saturating_add(1);
        Self {
            asked,
            next: now.plus(spread(pace.wait(asked), id, asked)),
        }
    }

    /// The poll was answered without a final result: it does not count towards manual review.
    #[must_use]
    pub fn answered(self) -> Self {
        Self {
            asked: self.asked.min(UNRESOLVED_QUICK_POLLS),
            ..self
        }
    }

    /// The next poll is due now; the number of polls stays.
    #[must_use]
    pub fn brought_forward(self, now: Timestamp) -> Self {
        Self {
            next: self.next.min(now),
            ..self
        }
    }

    /// Postpones the next poll without counting one: nothing was sent.
    #[must_use]
    pub fn put_off(self, until: Timestamp) -> Self {
        Self {
            next: self.next.max(until),
            ..self
        }
    }
}

/// Adds up to a fifth to a wait, so that objects created together are not polled together. The
/// jitter is derived from the random id and the number of polls. Daily waits are not changed.
fn spread(wait: Duration, id: &str, polls: u32) -> Duration {
    if wait >= Duration::from_hours(24) {
        return wait;
    }
    let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    let hash = id.bytes().chain(polls.to_be_bytes());
    let hash = hash.fold(2_166_136_261, mix);
    let permille = hash.checked_rem(SPREAD_PERMILLE.saturating_add(1));
    let more = wait
        .saturating_mul(permille.unwrap_or(0))
        .checked_div(1_000);
    wait.saturating_add(more.unwrap_or_default())
}

/// The wait before the next delivery, after this many attempts; `None` when the schedule is
/// exhausted. Counts attempts instead of reading a clock: a clock that is briefly ahead ends
/// nothing (T2).
pub fn notice_wait(attempts: u32) -> Option<Duration> {
    let at = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let daily = NOTICE_WAITS_S.len()..NOTICE_WAITS_S.len().saturating_add(NOTICE_DAYS);
    let wait = NOTICE_WAITS_S.get(at).copied();
    let wait = wait.or_else(|| daily.contains(&at).then_some(86_400));
    wait.map(Duration::from_secs)
}

/// The wait before the next poll of an unresolved object, after this many polls.
fn unresolved_wait(polls: u32) -> Duration {
    let at = usize::try_from(polls).unwrap_or(usize::MAX);
    let later = at.saturating_sub(UNRESOLVED_WAITS_MS.len());
    match (
        UNRESOLVED_WAITS_MS.get(at),
        UNRESOLVED_WAITS_LATER_S.get(later),
    ) {
        (Some(ms), _) => Duration::from_millis(*ms),
        (None, Some(s)) => Duration::from_secs(*s),
        (None, None) if !awaits_manual_review(polls) => Duration::from_hours(1),
        (None, None) => Duration::from_hours(24),
    }
}

/// Waits before the refund of an excess payment is sent again after a definite failure, in seconds.
const EXCESS_WAITS_S: [u64; 4] = [60, 600, 3_600, 21_600];

/// The wait before the refund of an excess payment is sent again, after this many failures (A4).
pub fn excess_wait(failed: usize) -> Duration {
    let wait = EXCESS_WAITS_S.get(failed.saturating_sub(1)).copied();
    Duration::from_secs(wait.unwrap_or(86_400))
}

/// Whether the schedule is exhausted, so that manual review is needed (Z1).
pub fn awaits_manual_review(polls: u32) -> bool {
    polls > UNRESOLVED_HOURLY_MAX.saturating_add(UNRESOLVED_QUICK_POLLS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-19: the published delivery schedule, then daily, up to seven days.
    #[test]
    fn notices_follow_the_published_schedule() {
        let mut age = Duration::ZERO;
        let mut waits = Vec::new();
        while let Some(wait) = notice_wait(u32::try_from(waits.len()).unwrap() + 1) {
            age += wait;
            waits.push(wait.as_secs());
        }
        assert_eq!(waits[..18], NOTICE_WAITS_S);
        assert!(waits[17..].iter().all(|wait| *wait == 86_400));
        let day = Duration::from_hours(24);
        assert!(age <= 7 * day && age + day > 7 * day);
    }

    /// A6: unresolved attempts are polled at once, then slower, without end.
    #[test]
    fn unresolved_attempts_are_polled_without_end() {
        let waits: Vec<_> = (0..6)
            .map(|polls| unresolved_wait(polls).as_millis())
            .collect();
        assert_eq!(waits[..4], [500, 1_000, 2_000, 4_000]);
        assert!((0..200).map(unresolved_wait).is_sorted());
        assert_eq!(unresolved_wait(u32::MAX).as_secs(), 86_400);
        assert!(awaits_manual_review(u32::MAX) && !awaits_manual_review(10));
    }

    /// When the first polls of an object are due after it entered its state, without jitter.
    fn due_s(pace: PollFrequency, many: u32) -> Vec<u64> {
        let mut due = 0;
        let due = (0..many).map(|polls| {
            due = pace.wait(polls).as_secs().saturating_add(due);
            due
        });
        due.collect()
    }

    /// A6: a pending payment is polled rarely, but soon where callbacks are missing.
    #[test]
    fn a_waiting_payment_is_polled_by_its_own_schedule() {
        assert_eq!(due_s(PollFrequency::Payer, 5), [20, 60, 120, 180, 240]);
        assert_eq!(
            due_s(PollFrequency::CallbacksMissing, 8),
            [3, 5, 10, 20, 30, 60, 90, 120]
        );
        assert_eq!(PollFrequency::Payer.wait(u32::MAX).as_secs(), 60);
        assert_eq!(PollFrequency::ManualReview.wait(0).as_secs(), 86_400);
    }

    /// A6: no poll is early, none is more than a fifth late, and those of many objects created
    /// together are spread.
    #[test]
    fn polls_of_objects_that_began_together_are_spread() {
        let now = Timestamp::from_s(0);
        let mut waits: Vec<i64> = (0..1_000)
            .map(|n| {
                Schedule::begin(PollFrequency::Payer, &format!("A{n:019}"), now)
                    .next
                    .ms()
            })
            .collect();
        waits.sort_unstable();
        assert!(waits[0] >= 20_000 && waits[999] <= 24_000);
        let in_a_second = |from: i64| {
            waits
                .iter()
                .filter(|one| (from..from + 1_000).contains(*one))
                .count()
        };
        for from in [20_000, 21_000, 22_000, 23_000] {
            assert!(
                (150..350).contains(&in_a_second(from)),
                "{}",
                in_a_second(from)
            );
        }
    }

    /// A postponed poll is not counted, and postponing never makes it earlier.
    #[test]
    fn a_postponed_poll_is_not_counted() {
        let schedule = Schedule {
            asked: 3,
            next: Timestamp::from_s(10),
        };
        assert_eq!(
            schedule.put_off(Timestamp::from_s(12)).next,
            Timestamp::from_s(12)
        );
        assert_eq!(schedule.put_off(Timestamp::from_s(2)), schedule);
        assert_eq!(schedule.put_off(Timestamp::from_s(12)).asked, 3);
    }
}
