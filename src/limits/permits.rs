//! Permits in front of institutions: never more calls in a second than an institution declared, never
//! more at once than it may hold of us, waiting bounded, and fair between merchants.
//!
//! How permits are shared out is `permits/queue.rs`; here is who asks for one, and what is held while
//! a call is under way.

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

/// What a caller is told to wait who got no permit, if nothing better is known.
const WAIT_AGAIN: Duration = Duration::from_secs(1);

/// What one institution takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Calls that may begin in any second; none: as many as there are.
    pub calls_per_second: Option<NonZeroU32>,
    /// Calls under way at once.
    pub calls_at_once: NonZeroU32,
}

/// How long, and how many, may wait for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitLimits {
    /// How long a payment waits for its permit, and a call with one until it may leave.
    pub within: Duration,
    /// Payments waiting at all institutions together.
    pub waiting_in_all_max: u32,
    /// Of them, at one institution.
    pub waiting_max: u32,
    /// Of them, of one merchant.
    pub waiting_per_merchant_max: u32,
}

/// The numbers in force.
#[derive(Debug, Clone)]
pub struct PermitSettings {
    /// Of each institution.
    pub calls: HashMap<InstitutionId, CallLimits>,
    /// Of waiting.
    pub waiting: WaitLimits,
    /// What questions in the background may take of a rate while payments begin. Unit: percent.
    pub background_rate_percent: u32,
}

/// The permit queues of all institutions.
pub struct Permits {
    live: ArcSwap<Live>,
    /// Payments that wait, at whatever institution: each is a request under way, and institutions that
    /// are silent must not hold all of those.
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

    /// Other numbers, at once (F1). What was counted stays counted, and who waits goes on waiting.
    pub fn replace(&self, settings: &PermitSettings) {
        let before = self.live.load();
        let next = live(settings, &before.queues, &self.metrics);
        self.waiting.resize(settings.waiting.waiting_in_all_max);
        self.live.store(Arc::new(next));
    }

    /// A permit for a payment (a create), waited for within bounds, fairly between merchants.
    ///
    /// # Errors
    /// [`Wait`] if it did not come in time, too many wait already, or the institution is not one of
    /// those in reach; nothing was counted then.
    pub async fn wait(
        &self,
        institution: &InstitutionId,
        merchant: &MerchantId,
    ) -> Result<Permit, Wait> {
        let (queue, limits) = self.queue(institution)?;
        let granted = match queue.payment_now() {
            Some(granted) => Some(granted),
            // Whoever need not wait needs no place among those who do.
            None => match self.waiting.take_now(1) {
                Some(_waits) => queue.payment(merchant, &limits).await,
                None => None,
            },
        };
        let wait = queue.emptied_in();
        let granted = granted.ok_or_else(|| self.refused(wait))?;
        Ok(held(queue, granted, &limits))
    }

    /// A permit for a question: now, or, where none can be kept for questions, soon.
    ///
    /// # Errors
    /// [`Wait`] if there is none in time, or the institution is not one of those in reach; nothing was
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

    /// A permit for a question that nobody waits for: as any question where something is in doubt,
    /// else now and behind everybody, within its part of the limits (Z1).
    ///
    /// # Errors
    /// [`Wait`] if others come first; nothing was counted then.
    pub async fn behind(
        &self,
        institution: &InstitutionId,
        (urgency, within): (Urgency, Duration),
    ) -> Result<Permit, Wait> {
        let Some(share) = self.share(urgency) else {
            return self.soon(institution, within).await;
        };
        let (queue, limits) = self.queue(institution)?;
        let granted = queue.background_now(share).ok_or(Wait(WAIT_AGAIN))?;
        Ok(held(queue, granted, &limits))
    }

    /// How many such questions may begin at this moment; asking uses nothing up.
    pub fn room(&self, institution: &InstitutionId, urgency: Urgency) -> u32 {
        // Whoever asks finds out that it is missing, and says so.
        let Some(queue) = self.live.load().queues.get(institution).cloned() else {
            return u32::MAX;
        };
        match self.share(urgency) {
            Some(share) => queue.background_room(share),
            None => queue.question_room(),
        }
    }

    /// Nobody said what an institution takes that is not in reach: it is called by nobody.
    fn queue(&self, institution: &InstitutionId) -> Result<(Arc<Queue>, WaitLimits), Wait> {
        let live = self.live.load();
        match live.queues.get(institution) {
            Some(queue) => Ok((Arc::clone(queue), live.waiting)),
            None => Err(self.refused(WAIT_AGAIN)),
        }
    }

    /// What part of the background's permits questions of an urgency may fill; none where they are of
    /// no background.
    fn share(&self, urgency: Urgency) -> Option<Share> {
        let percent = self.live.load().background_rate_percent;
        let part = match urgency {
            Urgency::Unresolved => return None,
            Urgency::Signal => 100,
            Urgency::Refund => 88,
            Urgency::Payer => 75,
        };
        Some((part, percent))
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

/// Held while a call is under way.
struct Held {
    queue: Arc<Queue>,
    /// How long it may wait to leave.
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
            // It is sent once more: both count.
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
