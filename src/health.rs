//! How every institution lately fared, as this process saw it: one pulse each, behind a short lock.
//!
//! Kept by the institution's id, so that another configuration changes the measures and forgets
//! nothing. Judges new orders only (F2), and never holds a lock while anybody waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::domain::identifiers::{AttemptId, InstitutionId, Timestamp};
use crate::domain::institutions::{
    BegunCall, BreakerDecision, BreakerWindow, CallEnd, CallPurpose, CallbackReliability,
    CircuitBreaker, Health, HealthSettings,
};
use crate::domain::order::CallbackDelivery;

type SharedBreaker = Arc<Mutex<CircuitBreaker>>;

/// The pulses of all institutions that were called.
#[derive(Debug, Default)]
pub struct HealthTracker {
    settings: RwLock<HealthSettings>,
    /// Grows with the institutions that are configured, never with what a caller names.
    breakers: RwLock<HashMap<InstitutionId, SharedBreaker>>,
    /// Of those that payments came of, whether they told us.
    callback_reliability: Mutex<HashMap<InstitutionId, CallbackReliability>>,
    /// Of those that answered, how many calls.
    answers: Mutex<HashMap<InstitutionId, u64>>,
}

/// A new order's leave to go to an institution. One on trial takes a place that is free again when
/// this is dropped, whatever became of the order.
#[derive(Debug, Default)]
#[must_use = "dropping it gives the place of an order on trial back"]
pub struct ProbePermit(Option<(SharedBreaker, BreakerWindow)>);

impl Drop for ProbePermit {
    fn drop(&mut self) {
        if let Some((breaker, stretch)) = self.0.take() {
            locked(&breaker).leave(stretch);
        }
    }
}

impl HealthTracker {
    /// Nothing seen yet.
    pub fn new(settings: HealthSettings) -> Self {
        Self {
            settings: RwLock::new(settings),
            breakers: RwLock::default(),
            callback_reliability: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    /// Other measures from now on; what was seen stays seen.
    pub fn apply_settings(&self, settings: HealthSettings) {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// What a new order may expect of an institution. Asking uses no trial up.
    pub fn standing(&self, institution: &InstitutionId, now: Timestamp) -> Health {
        match self.known(institution) {
            Some(breaker) => locked(&breaker).standing(&self.settings(), now),
            None => Health::Healthy,
        }
    }

    /// Lets a new order go to an institution; `None` while nothing new is sent there.
    pub fn enter(&self, institution: &InstitutionId, now: Timestamp) -> Option<ProbePermit> {
        let Some(breaker) = self.known(institution) else {
            return Some(ProbePermit::default());
        };
        let entry = locked(&breaker).enter(&self.settings(), now);
        match entry {
            BreakerDecision::Allowed => Some(ProbePermit::default()),
            BreakerDecision::Probe(stretch) => Some(ProbePermit(Some((breaker, stretch)))),
            BreakerDecision::Refused => None,
        }
    }

    /// A call to a configured institution begins.
    pub fn begin(&self, institution: &InstitutionId, now: Timestamp) -> BegunCall {
        locked(&self.breaker(institution)).begin(now)
    }

    /// It ended.
    pub fn end(
        &self,
        institution: &InstitutionId,
        begun: BegunCall,
        how: (CallPurpose, CallEnd),
        now: Timestamp,
    ) {
        let settings = self.settings();
        if how.1 == CallEnd::Answered {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            let count = answers.entry(institution.clone()).or_default();
            *count = count.wrapping_add(1);
        }
        let breaker = self.breaker(institution);
        let mut breaker = locked(&breaker);
        let before = breaker.breaker(now);
        breaker.end(&settings, begun, how, now);
        let after = breaker.breaker(now);
        drop(breaker);
        if before != after {
            tracing::warn!(institution.id = %institution, from = before.word(), to = after.word(),
                "how new orders may go to the institution has changed");
        }
    }

    /// Shows each institution that was called, the word of its breaker's state, how often it opened
    /// since this process started, and whether its callbacks go missing.
    pub fn show(
        &self,
        now: Timestamp,
        mut to: impl FnMut(&str, &'static str, u64, CallbackDelivery),
    ) {
        let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
        for (id, breaker) in breakers.iter() {
            let callbacks = self.callbacks(id, now);
            let mut breaker = locked(breaker);
            to(
                id.as_str(),
                breaker.breaker(now).word(),
                breaker.openings(),
                callbacks,
            );
        }
    }

    /// A payment became known by asking.
    pub fn found(
        &self,
        institution: &InstitutionId,
        (attempt, paid_at): (&AttemptId, Timestamp),
        now: Timestamp,
    ) {
        self.telling(institution, now, |telling| {
            telling.found(attempt, paid_at, now);
        });
    }

    /// A callback told of a payment; whether it was the first that anybody said of it.
    pub fn told(
        &self,
        institution: &InstitutionId,
        (attempt, paid_at): (&AttemptId, Timestamp),
        (now, is_first): (Timestamp, bool),
    ) {
        self.telling(institution, now, |telling| {
            telling.told(attempt, (paid_at, is_first), now);
        });
    }

    fn telling(
        &self,
        institution: &InstitutionId,
        now: Timestamp,
        learn: impl FnOnce(&mut CallbackReliability),
    ) {
        let mut callback_reliability = self
            .callback_reliability
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let telling = callback_reliability.entry(institution.clone()).or_default();
        let before = telling.callbacks(now);
        learn(telling);
        let after = telling.callbacks(now);
        drop(callback_reliability);
        match (before, after) {
            (CallbackDelivery::Arriving, CallbackDelivery::Missing) => {
                tracing::error!(institution.id = %institution,
                    "callbacks of the institution go missing; its payments are asked about more often");
            }
            (CallbackDelivery::Missing, CallbackDelivery::Arriving) => {
                tracing::warn!(institution.id = %institution, "callbacks of the institution come again");
            }
            (CallbackDelivery::Arriving, CallbackDelivery::Arriving)
            | (CallbackDelivery::Missing, CallbackDelivery::Missing) => (),
        }
    }

    /// Whether an institution's callbacks go missing.
    pub fn callbacks(&self, institution: &InstitutionId, now: Timestamp) -> CallbackDelivery {
        let callback_reliability = self
            .callback_reliability
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let telling = callback_reliability.get(institution);
        telling.map_or(CallbackDelivery::Arriving, |telling| telling.callbacks(now))
    }

    /// How many calls an institution has answered since this process started.
    pub fn answers(&self, institution: &InstitutionId) -> u64 {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(institution).copied().unwrap_or_default()
    }

    fn settings(&self) -> HealthSettings {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, institution: &InstitutionId) -> Option<SharedBreaker> {
        let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
        breakers.get(institution).cloned()
    }

    fn breaker(&self, institution: &InstitutionId) -> SharedBreaker {
        if let Some(breaker) = self.known(institution) {
            return breaker;
        }
        let mut breakers = self
            .breakers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(breakers.entry(institution.clone()).or_default())
    }
}

fn locked(breaker: &Mutex<CircuitBreaker>) -> MutexGuard<'_, CircuitBreaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}
