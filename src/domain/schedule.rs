//! When to try again and when to give up. Times only; nothing here ends anything (V2).

use std::time::Duration;

/// Waits before each further delivery of a notification, in seconds (`interface.md`,
/// Notifications): counted from the end of the attempt before.
const NOTICE_WAITS_S: [u64; 18] = [
    1, 2, 5, 15, 30, 60, 180, 600, 1_200, 1_800, 1_800, 3_600, 10_800, 10_800, 10_800, 21_600,
    21_600, 86_400,
];

/// How long after its birth an event is still delivered: 7 days.
pub const NOTICE_LIFE: Duration = Duration::from_hours(7 * 24);

/// Waits between questions about what is in doubt, while the payer is likely on the page.
const DOUBT_WAITS_MS: [u64; 6] = [500, 1_000, 2_000, 4_000, 8_000, 15_000];

/// Once the payer is probably gone: half a minute at first, then ever slower, to once an hour.
const DOUBT_WAITS_LATER_S: [u64; 6] = [30, 60, 120, 300, 600, 1_800];

/// Questions per hour until the schedule is used up: after two days an attempt that is still in
/// doubt is flagged for people and asked about once a day (section 5 of the invariants).
const DOUBT_HOURLY_MAX: u32 = 48;

/// The wait before the next delivery, after that many attempts; `None` when its life is over.
pub fn notice_wait(attempts: u32, age: Duration) -> Option<Duration> {
    let at = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let wait = NOTICE_WAITS_S.get(at).copied().unwrap_or(86_400);
    let wait = Duration::from_secs(wait);
    // A clock that was set ahead ends nothing before the schedule has been gone through (T2).
    let young = age.saturating_add(wait) <= NOTICE_LIFE;
    (young || at < NOTICE_WAITS_S.len()).then_some(wait)
}

/// The wait before the next question, after that many without an answer that ended it.
pub fn doubt_wait(asked: u32) -> Duration {
    let at = usize::try_from(asked).unwrap_or(usize::MAX);
    let later = at.saturating_sub(DOUBT_WAITS_MS.len());
    match (DOUBT_WAITS_MS.get(at), DOUBT_WAITS_LATER_S.get(later)) {
        (Some(ms), _) => Duration::from_millis(*ms),
        (None, Some(s)) => Duration::from_secs(*s),
        (None, None) if asked <= DOUBT_HOURLY_MAX.saturating_add(12) => Duration::from_hours(1),
        (None, None) => Duration::from_hours(24),
    }
}

/// Waits before surplus money is sent back once more after a definite failure, in seconds.
const SURPLUS_WAITS_S: [u64; 4] = [60, 600, 3_600, 21_600];

/// The wait before surplus money is sent back once more, after so many definite failures (A4).
pub fn surplus_wait(failed: usize) -> Duration {
    let wait = SURPLUS_WAITS_S.get(failed.saturating_sub(1)).copied();
    Duration::from_secs(wait.unwrap_or(86_400))
}

/// Whether the schedule is used up: from here on people should look (Z1).
pub fn is_for_people(asked: u32) -> bool {
    asked > DOUBT_HOURLY_MAX.saturating_add(12)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-19: the published schedule of deliveries, then daily, to seven days.
    #[test]
    fn notices_follow_the_published_schedule() {
        let mut age = Duration::ZERO;
        let mut waits = Vec::new();
        while let Some(wait) = notice_wait(u32::try_from(waits.len()).unwrap() + 1, age) {
            age += wait;
            waits.push(wait.as_secs());
        }
        assert_eq!(waits[..18], NOTICE_WAITS_S);
        assert!(waits[17..].iter().all(|wait| *wait == 86_400));
        assert!(age <= NOTICE_LIFE && age + Duration::from_hours(24) > NOTICE_LIFE);
    }

    /// A6: doubt is asked about at once, then slower, and for ever.
    #[test]
    fn doubt_is_asked_about_for_ever() {
        let waits: Vec<_> = (0..6).map(|asked| doubt_wait(asked).as_millis()).collect();
        assert_eq!(waits[..4], [500, 1_000, 2_000, 4_000]);
        assert!((0..200).map(doubt_wait).is_sorted());
        assert_eq!(doubt_wait(u32::MAX).as_secs(), 86_400);
        assert!(is_for_people(u32::MAX) && !is_for_people(10));
    }
}
