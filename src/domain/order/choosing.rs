//! The choice of an institution whose attempt begins later, when the payer goes on from our page.

use crate::domain::change::{Change, ChangeCause};
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::order::Order;
use crate::domain::refusal::Refusal;

impl Order {
    /// Stores the choice of an institution. Nothing is sent, and no attempt begins.
    ///
    /// # Errors
    /// The order is not open, is ending or has expired (O4); it has a live attempt (A2). The cause is
    /// returned with the refusal, so that its nonce can still be spent (Q5).
    pub fn choose(
        &self,
        institution: InstitutionId,
        cause: ChangeCause,
        now: Timestamp,
    ) -> Result<Change, (Refusal, ChangeCause)> {
        if !self.accepts_attempts(now) {
            return Err((Refusal::OrderClosed, cause));
        }
        if self.live_attempt().is_some() {
            return Err((Refusal::Contended, cause));
        }
        let mut after = self.clone();
        after.chosen = Some(institution);
        Ok(Change::between(Some(self), after, cause, now))
    }

    /// The institution that the payer is to go on with from our page: chosen, or named when the order
    /// was placed, and no attempt has begun since.
    pub fn awaited_institution(&self) -> Option<&InstitutionId> {
        if self.live_attempt().is_some() {
            return None;
        }
        let named = self
            .terms
            .named
            .as_ref()
            .map(|(institution, _)| institution);
        let named = named.filter(|_| self.attempts.is_empty());
        self.chosen.as_ref().or(named)
    }
}
