//! How every institution lately fared, as this process saw it: one pulse each, behind a short lock.
//!
//! Kept by the institution's id, so that another configuration changes the measures and forgets
//! nothing. Judges new orders only (F2), and never holds a lock while anybody waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::domain::identifiers::{AttemptId, InstitutionId, Timestamp};
use crate::domain::institutions::{
    Begun, CallEnd, Entry, HealthSettings, Pulse, Purpose, Standing, Stretch, Telling,
};
use crate::domain::order::Callbacks;

type Shared = Arc<Mutex<Pulse>>;

/// The pulses of all institutions that were called.
#[derive(Debug, Default)]
pub struct Health {
    settings: RwLock<HealthSettings>,
    /// Grows with the institutions that are configured, never with what a caller names.
    pulses: RwLock<HashMap<InstitutionId, Shared>>,
    /// Of those that payments came of, whether they told us.
    tellings: Mutex<HashMap<InstitutionId, Telling>>,
    /// Of those that answered, how many calls.
    answers: Mutex<HashMap<InstitutionId, u64>>,
}

/// A new order's leave to go to an institution. One on trial takes a place that is free again when
/// this is dropped, whatever became of the order.
#[derive(Debug, Default)]
#[must_use = "dropping it gives the place of an order on trial back"]
pub struct Pass(Option<(Shared, Stretch)>);

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some((pulse, stretch)) = self.0.take() {
            locked(&pulse).leave(stretch);
        }
    }
}

impl Health {
    /// Nothing seen yet.
    pub fn new(settings: HealthSettings) -> Self {
        Self {
            settings: RwLock::new(settings),
            pulses: RwLock::default(),
            tellings: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    /// Other measures from now on; what was seen stays seen.
    pub fn measure_by(&self, settings: HealthSettings) {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// What a new order may expect of an institution. Asking uses no trial up.
    pub fn standing(&self, institution: &InstitutionId, now: Timestamp) -> Standing {
        match self.known(institution) {
            Some(pulse) => locked(&pulse).standing(&self.settings(), now),
            None => Standing::Healthy,
        }
    }

    /// Lets a new order go to an institution; `None` while nothing new is sent there.
    pub fn enter(&self, institution: &InstitutionId, now: Timestamp) -> Option<Pass> {
        let Some(pulse) = self.known(institution) else {
            return Some(Pass::default());
        };
        let entry = locked(&pulse).enter(&self.settings(), now);
        match entry {
            Entry::Free => Some(Pass::default()),
            Entry::Probe(stretch) => Some(Pass(Some((pulse, stretch)))),
            Entry::Refused => None,
        }
    }

    /// A call to a configured institution begins.
    pub fn begin(&self, institution: &InstitutionId, now: Timestamp) -> Begun {
        locked(&self.pulse(institution)).begin(now)
    }

    /// It ended.
    pub fn end(
        &self,
        institution: &InstitutionId,
        begun: Begun,
        how: (Purpose, CallEnd),
        now: Timestamp,
    ) {
        let settings = self.settings();
        if how.1 == CallEnd::Answered {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            let count = answers.entry(institution.clone()).or_default();
            *count = count.wrapping_add(1);
        }
        let pulse = self.pulse(institution);
        let mut pulse = locked(&pulse);
        let before = pulse.breaker(now);
        pulse.end(&settings, begun, how, now);
        let after = pulse.breaker(now);
        drop(pulse);
        if before != after {
            tracing::warn!(institution.id = %institution, from = before.word(), to = after.word(),
                "how new orders may go to the institution has changed");
        }
    }

    /// Shows each institution that was called, the word of its breaker's state, how often it opened
    /// since this process started, and whether its callbacks go missing.
    pub fn show(&self, now: Timestamp, mut to: impl FnMut(&str, &'static str, u64, Callbacks)) {
        let pulses = self.pulses.read().unwrap_or_else(PoisonError::into_inner);
        for (id, pulse) in pulses.iter() {
            let callbacks = self.callbacks(id, now);
            let mut pulse = locked(pulse);
            to(
                id.as_str(),
                pulse.breaker(now).word(),
                pulse.openings(),
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
        learn: impl FnOnce(&mut Telling),
    ) {
        let mut tellings = self.tellings.lock().unwrap_or_else(PoisonError::into_inner);
        let telling = tellings.entry(institution.clone()).or_default();
        let before = telling.callbacks(now);
        learn(telling);
        let after = telling.callbacks(now);
        drop(tellings);
        match (before, after) {
            (Callbacks::Come, Callbacks::Missing) => {
                tracing::error!(institution.id = %institution,
                    "callbacks of the institution go missing; its payments are asked about more often");
            }
            (Callbacks::Missing, Callbacks::Come) => {
                tracing::warn!(institution.id = %institution, "callbacks of the institution come again");
            }
            (Callbacks::Come, Callbacks::Come) | (Callbacks::Missing, Callbacks::Missing) => (),
        }
    }

    /// Whether an institution's callbacks go missing.
    pub fn callbacks(&self, institution: &InstitutionId, now: Timestamp) -> Callbacks {
        let tellings = self.tellings.lock().unwrap_or_else(PoisonError::into_inner);
        let telling = tellings.get(institution);
        telling.map_or(Callbacks::Come, |telling| telling.callbacks(now))
    }

    /// How many calls an institution has answered since this process started.
    pub fn answers(&self, institution: &InstitutionId) -> u64 {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(institution).copied().unwrap_or_default()
    }

    fn settings(&self) -> HealthSettings {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, institution: &InstitutionId) -> Option<Shared> {
        let pulses = self.pulses.read().unwrap_or_else(PoisonError::into_inner);
        pulses.get(institution).cloned()
    }

    fn pulse(&self, institution: &InstitutionId) -> Shared {
        if let Some(pulse) = self.known(institution) {
            return pulse;
        }
        let mut pulses = self.pulses.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pulses.entry(institution.clone()).or_default())
    }
}

fn locked(pulse: &Mutex<Pulse>) -> MutexGuard<'_, Pulse> {
    pulse.lock().unwrap_or_else(PoisonError::into_inner)
}
