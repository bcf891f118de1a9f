//! When money moved, as far as an institution's word for it can be believed.

use std::time::Duration;

use crate::domain::evidence::{Evidence, EvidenceSubject, Finding, Receipt};
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;

/// How far before what it follows from, and how far ahead of the moment it is heard, a movement may be
/// dated: clocks differ, and so do days.
const DATED_OFF_MAX: Duration = Duration::from_hours(24);

impl Order {
    /// The same news dated by the moment it was heard, where money cannot have moved when the news says
    /// it did: before there was an order or a payment, or far ahead. Refund windows begin there, and
    /// statements are compared by it; that the money moved is believed all the same.
    pub fn dated_as_received(&self, evidence: &Evidence, now: Timestamp) -> Option<Evidence> {
        let Finding::Succeeded(receipt) = &evidence.finding else {
            return None;
        };
        let said = receipt.paid_at;
        let too_early = self.follows(&evidence.about).since(said) > DATED_OFF_MAX;
        let too_late = said.since(now) > DATED_OFF_MAX;
        (too_early || too_late).then(|| Evidence {
            finding: Finding::Succeeded(Receipt {
                paid_at: now,
                ..receipt.clone()
            }),
            ..evidence.clone()
        })
    }

    /// The moment that a movement of money follows: a payment its order, a refund its payment.
    fn follows(&self, about: &EvidenceSubject) -> Timestamp {
        let payment = match about {
            EvidenceSubject::Attempt(_) => None,
            EvidenceSubject::Refund(no) => self.refund(no).and_then(|one| self.attempt_of(one)),
        };
        let receipt = payment.and_then(|payment| payment.receipt.as_ref());
        receipt.map_or(self.created, |receipt| receipt.paid_at)
    }
}
