//! Health of every institution, as seen by this process: one circuit breaker each, behind a short
//! lock.
//!
//! Keyed by institution id, so that a new configuration changes the settings and keeps the history.
//! Applies to new orders only (F2), and never holds a lock across an await.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::domain::identifiers::{AttemptId, InstitutionId, Timestamp};
use crate::domain::institutions::{
    BegunCall, BreakerDecision, BreakerWindow, CallEnd, CallPurpose, CallbackReliability,
    CircuitBreaker, Health, HealthSettings,
};
use crate::domain::order::CallbackDelivery;

type SharedBreaker = Arc<Mutex<CircuitBreaker>>;

/// Breakers and callback statistics of all institutions that were called.
#[derive(Debug, Default)]
pub struct HealthTracker {
    settings: RwLock<HealthSettings>,
    /// Bounded by the number of configured institutions, whatever callers name.
    breakers: RwLock<HashMap<InstitutionId, SharedBreaker>>,
    /// Callback statistics of institutions with payments.
    callback_reliability: Mutex<HashMap<InstitutionId, CallbackReliability>>,
    /// Number of answered calls, of institutions that answered.
    answers: Mutex<HashMap<InstitutionId, u64>>,
}

/// Permission for a new order to use an institution. A probe permit is returned when this is
/// dropped, whatever the outcome of the order.
#[derive(Debug, Default)]
#[must_use = "dropping it returns the probe permit"]
pub struct ProbePermit(Option<(SharedBreaker, BreakerWindow)>);

impl Drop for ProbePermit {
    fn drop(&mut self) {
        if let Some((breaker, window)) = self.0.take() {
            locked(&breaker).leave(window);
        }
    }
}

impl HealthTracker {
    /// Without any history.
    pub fn new(settings: HealthSettings) -> Self {
        Self {
            settings: RwLock::new(settings),
            breakers: RwLock::default(),
            callback_reliability: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    /// Replaces the settings and keeps the history.
    pub fn apply_settings(&self, settings: HealthSettings) {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// An institution's health for new attempts. Takes no probe permit.
    pub fn standing(&self, institution: &InstitutionId, now: Timestamp) -> Health {
        match self.known(institution) {
            Some(breaker) => locked(&breaker).standing(&self.settings(), now),
            None => Health::Healthy,
        }
    }

    /// Admits a new attempt at an institution; `None` while no new attempt may be sent to it.
    pub fn enter(&self, institution: &InstitutionId, now: Timestamp) -> Option<ProbePermit> {
        let Some(breaker) = self.known(institution) else {
            return Some(ProbePermit::default());
        };
        let entry = locked(&breaker).enter(&self.settings(), now);
        match entry {
            BreakerDecision::Allowed => Some(ProbePermit::default()),
            BreakerDecision::Probe(window) => Some(ProbePermit(Some((breaker, window)))),
            BreakerDecision::Refused => None,
        }
    }

    /// Records the start of a call to a configured institution.
    pub fn begin(&self, institution: &InstitutionId, now: Timestamp) -> BegunCall {
        locked(&self.breaker(institution)).begin(now)
    }

    /// Records the end of a call.
    pub fn end(
        &self,
        institution: &InstitutionId,
        begun: BegunCall,
        purpose: CallPurpose,
        end: CallEnd,
        now: Timestamp,
    ) {
        let settings = self.settings();
        if end == CallEnd::Answered {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            let count = answers.entry(institution.clone()).or_default();
            *count = count.wrapping_add(1);
        }
        let breaker = self.breaker(institution);
        let mut breaker = locked(&breaker);
        let before = breaker.breaker(now);
        breaker.end(&settings, begun, purpose, end, now);
        let after = breaker.breaker(now);
        drop(breaker);
        if before != after {
            tracing::warn!(institution.id = %institution, from = before.word(), to = after.word(),
                "the circuit breaker of the institution changed its state");
        }
    }

    /// Reports for each institution that was called: the name of its breaker's state, how often it
    /// opened since this process started, and whether its callbacks are missing.
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

    /// A payment was found by a query.
    pub fn found(
        &self,
        institution: &InstitutionId,
        attempt: &AttemptId,
        paid_at: Timestamp,
        now: Timestamp,
    ) {
        self.observe(institution, now, |reliability| {
            reliability.found(attempt, paid_at, now);
        });
    }

    /// A callback reported a payment; `is_first` if nothing reported it before.
    pub fn reported(
        &self,
        institution: &InstitutionId,
        attempt: &AttemptId,
        paid_at: Timestamp,
        is_first: bool,
        now: Timestamp,
    ) {
        self.observe(institution, now, |reliability| {
            reliability.reported(attempt, paid_at, is_first, now);
        });
    }

    fn observe(
        &self,
        institution: &InstitutionId,
        now: Timestamp,
        record: impl FnOnce(&mut CallbackReliability),
    ) {
        let mut callback_reliability = self
            .callback_reliability
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let reliability = callback_reliability.entry(institution.clone()).or_default();
        let before = reliability.callbacks(now);
        record(reliability);
        let after = reliability.callbacks(now);
        drop(callback_reliability);
        match (before, after) {
            (CallbackDelivery::Arriving, CallbackDelivery::Missing) => {
                tracing::error!(institution.id = %institution,
                    "callbacks of the institution are missing; its payments are polled more often");
            }
            (CallbackDelivery::Missing, CallbackDelivery::Arriving) => {
                tracing::warn!(institution.id = %institution,
                    "callbacks of the institution arrive again");
            }
            (CallbackDelivery::Arriving, CallbackDelivery::Arriving)
            | (CallbackDelivery::Missing, CallbackDelivery::Missing) => (),
        }
    }

    /// Whether an institution's callbacks are missing.
    pub fn callbacks(&self, institution: &InstitutionId, now: Timestamp) -> CallbackDelivery {
        let callback_reliability = self
            .callback_reliability
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let reliability = callback_reliability.get(institution);
        reliability.map_or(CallbackDelivery::Arriving, |reliability| {
            reliability.callbacks(now)
        })
    }

    /// Number of calls an institution has answered since this process started.
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
