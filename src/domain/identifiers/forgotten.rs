//! Of which moments the spent nonces are forgotten (Q6): nobody knows any more what was spent then,
//! so a request that says it was made then is refused, whatever the clock says.
//!
//! A few spans instead of one floor: a clock that was ahead for a while shuts out the seconds in
//! which something was spent under it, and not all the time until it is right.

use std::time::Duration;

use crate::domain::identifiers::Timestamp;

/// Spans that are kept. Past that the two with the least time between them become one, with that time:
/// a moment far from all of them is never shut out, however many there are.
pub const SPANS_MAX: usize = 16;

/// Moments so close to each other are one span.
const JOINED_WITHIN: Duration = Duration::from_mins(1);

/// From one moment to another, both included.
pub type ForgottenSpan = (Timestamp, Timestamp);

/// Every moment of which something was forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten(Vec<ForgottenSpan>);

impl Forgotten {
    /// All of these, in any order.
    pub fn of(spans: impl IntoIterator<Item = ForgottenSpan>) -> Self {
        let mut sorted: Vec<ForgottenSpan> = spans.into_iter().collect();
        sorted.sort_unstable();
        let mut joined: Vec<ForgottenSpan> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match joined.last_mut() {
                Some(before) if first <= before.1.plus(JOINED_WITHIN) => {
                    before.1 = before.1.max(last);
                }
                Some(_) | None => joined.push((first, last)),
            }
        }
        while joined.len() > SPANS_MAX {
            let pairs = joined.iter().zip(joined.iter().skip(1)).enumerate();
            let nearest = pairs.min_by_key(|(_, (before, after))| after.0.since(before.1));
            let Some((at, _)) = nearest else { break };
            let (first, _) = joined.remove(at);
            if let Some(next) = joined.get_mut(at) {
                next.0 = first;
            }
        }
        Self(joined)
    }

    /// Everything up to a moment.
    pub fn until(moment: Timestamp) -> Self {
        Self(vec![(Timestamp::from_ms(i64::MIN), moment)])
    }

    /// With these moments as well.
    #[must_use]
    pub fn and(&self, created: impl IntoIterator<Item = Timestamp>) -> Self {
        let more = created.into_iter().map(|moment| (moment, moment));
        Self::of(self.0.iter().copied().chain(more))
    }

    /// Whether a request made at this moment may have been forgotten.
    pub fn contains(&self, created: Timestamp) -> bool {
        let mut latest_first = self.0.iter().rev();
        latest_first.any(|(first, last)| (*first..=*last).contains(&created))
    }

    /// The spans, the earliest first.
    pub fn spans(&self) -> &[ForgottenSpan] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_s(s)
    }

    /// Q6, H2: what was forgotten stays shut out, however many spans there were; seconds ahead shut out
    /// those seconds only.
    #[test]
    fn requests_of_forgotten_times_stay_refused_and_few_others() {
        let day = 86_400;
        let mut forgotten = Forgotten::default().and([at(10 * day), at(10 * day + 5)]);
        for hour in 0..100 {
            forgotten = forgotten.and([at(hour * 3_600), at(hour * 3_600 + 30)]);
        }
        assert_eq!(forgotten.spans().len(), SPANS_MAX);
        for hour in 0..100 {
            assert!(forgotten.contains(at(hour * 3_600 + 30)), "{hour}");
        }
        assert!(forgotten.contains(at(10 * day + 3)));
        for open in [99 * 3_600 + 31, 9 * day, 10 * day - 1, 10 * day + 6, -1] {
            assert!(!forgotten.contains(at(open)), "{open}");
        }
        assert!(
            Forgotten::until(at(5)).contains(at(5)) && !Forgotten::until(at(5)).contains(at(6))
        );
    }

    /// Q6, H2, T2: one request every two minutes while the clock is a day ahead for 40 minutes: those
    /// moments are shut out later, and none of the day before them.
    #[test]
    fn many_future_times_refuse_no_time_between_them() {
        let (noon, day) = (20_000 * 86_400, 86_400);
        let mut forgotten = Forgotten::default();
        for second in 0..600 {
            forgotten = forgotten.and([at(noon - 600 + second)]);
        }
        for minute in (0..40).step_by(2) {
            forgotten = forgotten.and([at(noon + day + minute * 60)]);
        }
        assert!(forgotten.spans().len() <= SPANS_MAX);
        for minute in (0..40).step_by(2) {
            assert!(forgotten.contains(at(noon + day + minute * 60)), "{minute}");
        }
        for hour in 0..24 {
            assert!(!forgotten.contains(at(noon + hour * 3_600)), "{hour}");
        }
    }
}
