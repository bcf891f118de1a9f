//! Times whose spent nonces have been forgotten (Q6): it is no longer known what was spent then, so
//! a request created at such a time is refused, whatever the clock says.
//!
//! A few spans instead of one replay floor: if a clock was ahead for a while, only the seconds in
//! which something was spent under it are refused, not all the time until it is right.

use std::time::Duration;

use crate::domain::identifiers::Timestamp;

/// Maximum number of spans. Beyond it, the two spans with the smallest gap are merged, gap
/// included: a time far from all spans is never refused, however many there are.
pub const SPANS_MAX: usize = 16;

/// Times this close to each other are merged into one span.
const JOINED_WITHIN: Duration = Duration::from_mins(1);

/// From one time to another, both included.
pub type ForgottenSpan = (Timestamp, Timestamp);

/// All times whose nonces have been forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten(Vec<ForgottenSpan>);

impl Forgotten {
    /// From these spans, in any order.
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

    /// Everything up to a time.
    pub fn until(moment: Timestamp) -> Self {
        Self(vec![(Timestamp::from_ms(i64::MIN), moment)])
    }

    /// Adds these times.
    #[must_use]
    pub fn and(&self, created: impl IntoIterator<Item = Timestamp>) -> Self {
        let more = created.into_iter().map(|moment| (moment, moment));
        Self::of(self.0.iter().copied().chain(more))
    }

    /// Whether the nonce of a request created at this time may have been forgotten.
    pub fn contains(&self, created: Timestamp) -> bool {
        let mut latest_first = self.0.iter().rev();
        latest_first.any(|(first, last)| (*first..=*last).contains(&created))
    }

    /// The spans, earliest first.
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

    /// Q6, H2: forgotten times stay refused, however many spans there were; future times refuse
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

    /// Q6, H2, T2: with one request every two minutes while the clock is a day ahead for 40
    /// minutes, those times are refused later, and no time of the day before them.
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
