//! Plausibility of the time of payment reported by an institution.

use std::time::Duration;

use crate::domain::evidence::{Evidence, EvidenceSubject, Finding, Receipt, Reversal};
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;

/// How far a reported time may lie before the event it follows, or after the time of receipt:
/// clocks differ, and so do time zones.
const DATED_OFF_MAX: Duration = Duration::from_hours(24);

impl Order {
    /// The same evidence dated by its time of receipt, where the reported time is implausible:
    /// before the order or payment existed, or far ahead. Refund windows start at this time and
    /// statements are compared by it; that the money moved is accepted anyway.
    pub fn dated_as_received(&self, evidence: &Evidence, now: Timestamp) -> Option<Evidence> {
        let (Finding::Succeeded(receipt) | Finding::Reversed(Reversal::Returned(receipt))) =
            &evidence.finding
        else {
            return None;
        };
        let reported = receipt.paid_at;
        let too_early = self.follows(&evidence.about).since(reported) > DATED_OFF_MAX;
        let too_late = reported.since(now) > DATED_OFF_MAX;
        let dated = || Receipt {
            paid_at: now,
            ..receipt.clone()
        };
        let is_payment = matches!(evidence.finding, Finding::Succeeded(_));
        (too_early || too_late).then(|| Evidence {
            finding: if is_payment {
                Finding::Succeeded(dated())
            } else {
                Finding::Reversed(Reversal::Returned(dated()))
            },
            ..evidence.clone()
        })
    }

    /// The time of the preceding event: for a payment its order, for a refund its payment.
    fn follows(&self, about: &EvidenceSubject) -> Timestamp {
        let payment = match about {
            EvidenceSubject::Attempt(_) => None,
            EvidenceSubject::Refund(no) => self.refund(no).and_then(|one| self.attempt_of(one)),
        };
        let receipt = payment.and_then(|payment| payment.receipt.as_ref());
        receipt.map_or(self.created, |receipt| receipt.paid_at)
    }
}
