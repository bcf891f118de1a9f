//! The numbers of merchants' events: from 1, without a gap, none twice (K1, N1).

use crate::domain::verification::{Breach, BreachSink};

/// Walks along the events of all merchants, merchant by merchant, by number.
#[derive(Debug, Default)]
pub struct EventNumberCheck {
    of: Option<(String, u64)>,
}

impl EventNumberCheck {
    /// The next event.
    pub fn follow(&mut self, merchant: &str, number: u64, event: &str, hear: &mut BreachSink<'_>) {
        let last = match &self.of {
            Some((before, last)) if before == merchant => *last,
            Some(_) | None => 0,
        };
        let next = last.saturating_add(1);
        if number != next {
            let fault = if number <= last {
                "a number that was given before"
            } else {
                "the numbers between are missing"
            };
            hear(Breach::of(
                "K1",
                format!("{merchant} event {event}"),
                format!("number {next}"),
                format!("number {number}: {fault}"),
            ));
        }
        self.of = Some((merchant.to_owned(), number));
    }

    /// What was counted must be what was given.
    pub fn counted(merchant: &str, last_given: u64, highest: u64, hear: &mut BreachSink<'_>) {
        if last_given != highest {
            hear(Breach::of(
                "K1",
                merchant,
                format!("events up to number {last_given}, the last that was given"),
                format!("events up to number {highest}"),
            ));
        }
    }
}
