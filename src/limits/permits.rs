//! Permits for calls to institutions: no more calls in a second than an institution declared, no
//! more in flight than its limit, a bounded queue, and fairness between merchants.
//!
//! How permits are distributed is in `permits/queue.rs`; here is who acquires one, and what is held
//! while a call is in flight.

mod queue;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use crate::domain::identifiers::{InstitutionId, MerchantId};
use crate::domain::order::Urgency;
use crate::limits::Wait;
use crate::limits::bound::Bound;
use crate::limits::permits::queue::{Grant, Left, Queue, Share};
use crate::metrics::Metrics;
use crate::world::{HeldPermit, Permit, PermitUnavailable};

/// The retry time of a caller who got no permit, if nothing better is known.
const WAIT_AGAIN: Duration = Duration::from_secs(1);

/// The limits of one institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Calls that may begin in any second; `None` is unlimited.
    pub calls_per_second: Option<NonZeroU32>,
    /// Concurrent calls.
    pub calls_at_once: NonZeroU32,
}

/// Limits of the permit queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitLimits {
    /// How long a payment waits for its permit, and a call with a permit until it may be sent.
    pub within: Duration,
    /// Payments waiting at all institutions together.
    pub waiting_in_all_max: u32,
    /// Payments waiting at one institution.
    pub waiting_max: u32,
    /// Payments waiting of one merchant at one institution.
    pub waiting_per_merchant_max: u32,
}

/// The limits in force.
#[derive(Debug, Clone)]
pub struct PermitSettings {
    /// Per institution.
    pub calls: HashMap<InstitutionId, CallLimits>,
    /// Limits of the queue.
    pub waiting: WaitLimits,
    /// The share of the rate for background queries while payments begin. Unit: percent.
    pub background_rate_percent: u32,
}

/// The permit queues of all institutions.
pub struct Permits {
    live: ArcSwap<Live>,
    /// Payments that wait at any institution: each is a request in flight, and silent institutions
    /// must not hold all of those.
    waiting: Arc<Bound>,
    metrics: Arc<Metrics>,
}

struct Live {
    queues: HashMap<InstitutionId, Arc<Queue>>,
    waiting: WaitLimits,
    background_rate_percent: u32,
}

impl Permits {
    /// Starts with nobody waiting.
    pub fn new(settings: &PermitSettings, metrics: Arc<Metrics>) -> Self {
        let live = live(settings, &HashMap::new(), &metrics);
        Self {
            live: ArcSwap::from_pointee(live),
            waiting: Bound::new(settings.waiting.waiting_in_all_max),
            metrics,
        }
    }

    /// Replaces the limits at once (F1). Counts continue, and whoever waits keeps waiting.
    pub fn replace(&self, settings: &PermitSettings) {
        let before = self.live.load();
        let next = live(settings, &before.queues, &self.metrics);
        self.waiting.resize(settings.waiting.waiting_in_all_max);
        self.live.store(Arc::new(next));
    }

    /// Waits, within bounds and fairly between merchants, for the permit of a payment (a create).
    ///
    /// # Errors
    /// [`Wait`] if none came free in time, too many wait already, or the institution is not
    /// configured; nothing was counted then.
    pub async fn wait(
        &self,
        institution: &InstitutionId,
        merchant: &MerchantId,
    ) -> Result<Permit, Wait> {
        let (queue, limits) = self.queue(institution)?;
        let granted = match queue.payment_now() {
            Some(granted) => Some(granted),
            // A payment that need not wait takes no place in the queue.
            None => match self.waiting.take_now(1) {
                Some(_waits) => queue.payment(merchant, &limits).await,
                None => None,
            },
        };
        let wait = queue.emptied_in();
        let granted = granted.ok_or_else(|| self.refused(wait))?;
        Ok(held(queue, granted, &limits))
    }

    /// A permit for a query: at once or, where none can be reserved for queries, soon.
    ///
    /// # Errors
    /// [`Wait`] if none came free in time, or the institution is not configured; nothing was
    /// counted then.
    pub async fn soon(
        &self,
        institution: &InstitutionId,
        within: Duration,
    ) -> Result<Permit, Wait> {
        let (queue, limits) = self.queue(institution)?;
        let granted = queue.question(within).await;
        let granted = granted.ok_or_else(|| self.refused(WAIT_AGAIN))?;
        Ok(held(queue, granted, &limits))
    }

    /// A permit for a query with no caller waiting. About an unresolved outcome it is like any
    /// query; else it is granted only at once, behind all others, and within its share of the
    /// limits (Z1).
    ///
    /// # Errors
    /// [`Wait`] if other calls come first; nothing was counted then.
    pub async fn behind(
        &self,
        institution: &InstitutionId,
        urgency: Urgency,
        within: Duration,
    ) -> Result<Permit, Wait> {
        let Some(share) = self.share(urgency) else {
            return self.soon(institution, within).await;
        };
        let (queue, limits) = self.queue(institution)?;
        let granted = queue.background_now(share).ok_or(Wait(WAIT_AGAIN))?;
        Ok(held(queue, granted, &limits))
    }

    /// How many such queries may begin at this moment; reading it uses nothing up.
    pub fn room(&self, institution: &InstitutionId, urgency: Urgency) -> u32 {
        // The caller finds out that it is missing and reports it.
        let Some(queue) = self.live.load().queues.get(institution).cloned() else {
            return u32::MAX;
        };
        match self.share(urgency) {
            Some(share) => queue.background_room(share),
            None => queue.question_room(),
        }
    }

    /// An institution without declared limits is not called at all.
    fn queue(&self, institution: &InstitutionId) -> Result<(Arc<Queue>, WaitLimits), Wait> {
        let live = self.live.load();
        match live.queues.get(institution) {
            Some(queue) => Ok((Arc::clone(queue), live.waiting)),
            None => Err(self.refused(WAIT_AGAIN)),
        }
    }

    /// The share of the background's permits for queries of an urgency; `None` for those that are
    /// not background queries.
    fn share(&self, urgency: Urgency) -> Option<Share> {
        let percent = self.live.load().background_rate_percent;
        let part = match urgency {
            Urgency::Unresolved => return None,
            Urgency::Signal => 100,
            Urgency::Refund => 88,
            Urgency::Payer => 75,
        };
        Some(Share { part, percent })
    }

    fn refused(&self, wait: Duration) -> Wait {
        self.metrics.front.limited("institution");
        Wait(wait)
    }
}

fn live(
    settings: &PermitSettings,
    before: &HashMap<InstitutionId, Arc<Queue>>,
    metrics: &Arc<Metrics>,
) -> Live {
    let queues = settings.calls.iter().map(|(id, limits)| {
        let queue = match before.get(id) {
            Some(known) => {
                known.resize(*limits);
                Arc::clone(known)
            }
            None => Arc::new(Queue::new(id.clone(), *limits, Arc::clone(metrics))),
        };
        (id.clone(), queue)
    });
    Live {
        queues: queues.collect(),
        waiting: settings.waiting,
        background_rate_percent: settings.background_rate_percent,
    }
}

fn held(queue: Arc<Queue>, granted: Grant, limits: &WaitLimits) -> Permit {
    queue.show();
    Permit::held(Arc::new(Held {
        queue,
        within: limits.within,
        state: Mutex::new((Some(granted), None)),
    }))
}

/// What a call holds while it is in flight.
struct Held {
    queue: Arc<Queue>,
    /// How long it may wait to be sent.
    within: Duration,
    state: Mutex<(Option<Grant>, Option<Left>)>,
}

impl Held {
    fn swap(&self, left: Option<Left>) -> Option<Left> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut state.1, left)
    }
}

#[async_trait]
impl HeldPermit for Held {
    async fn mark_sent(&self) -> Result<(), PermitUnavailable> {
        if let Some((at, left)) = self.swap(None) {
            // It is sent once more, and both sends count.
            self.queue.keep_for_a_second(at, left);
        }
        let left = self.queue.leave(self.within).await;
        let left = left.ok_or(PermitUnavailable { wait: WAIT_AGAIN })?;
        self.swap(Some(left));
        Ok(())
    }

    fn mark_unsent(&self) {
        self.swap(None);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let left = self.swap(None);
        let state = self.state.get_mut();
        if let Some(granted) = state.unwrap_or_else(PoisonError::into_inner).0.take() {
            granted.end(left, &self.queue);
        }
        self.queue.show();
    }
}

#[cfg(test)]
mod tests;
