//! Event numbers of merchants: from 1, without gaps or duplicates (K1, N1).

use crate::domain::verification::{Breach, BreachSink};

/// Follows the events of all merchants, by merchant and number.
#[derive(Debug, Default)]
pub struct EventNumberCheck {
    of: Option<(String, u64)>,
}

impl EventNumberCheck {
    /// Checks the next event.
    pub fn follow(
        &mut self,
        merchant: &str,
        number: u64,
        event: &str,
        report: &mut BreachSink<'_>,
    ) {
        let last = match &self.of {
            Some((before, last)) if before == merchant => *last,
            Some(_) | None => 0,
        };
        let next = last.saturating_add(1);
        if number != next {
            let fault = if number <= last {
                "used before"
            } else {
                "those between are missing"
            };
            report(Breach::of(
                "K1",
                format!("{merchant} event {event}"),
                format!("number {next}"),
                format!("number {number}: {fault}"),
            ));
        }
        self.of = Some((merchant.to_owned(), number));
    }

    /// Checks that the stored counter equals the highest number used.
    pub fn counted(merchant: &str, last_given: u64, highest: u64, report: &mut BreachSink<'_>) {
        if last_given != highest {
            report(Breach::of(
                "K1",
                merchant,
                format!("events up to number {last_given}, the last one assigned"),
                format!("events up to number {highest}"),
            ));
        }
    }
}
