//! Loops that tell a flow what time it is; the only place that waits.
//!
//! Each loop leases what is due, hands it out, and sleeps until the next thing is due or a commit
//! rings. The bell saves time, never correctness: what it misses is found by the due times.

mod budget;
pub mod exchange_log;
mod lanes;
mod polling;
mod slots;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::domain::identifiers::Timestamp;
use crate::domain::merchant::origin;
use crate::flow::admit_request::refused_callers::{RefusedCallers, WRITTEN_EVERY};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::notify_merchant::{Delivery, notify_merchant};
use crate::metrics::Metrics;
use crate::store::notifying::{SOON, WorkerSignals};
use crate::store::{Lease, LeaseKind, LeasedWork, NonceRetention, Store, StoreError};
use crate::world::{Clock, World};

pub use budget::BudgetSettings;
use lanes::{DeliveryLane, DestinationLanes, PROMPT};
use polling::Poller;

/// Notifications at once that have not waited for [`PROMPT`] yet; of each destination only its share
/// (N7).
const EVENTS_AT_ONCE: usize = 256;

/// Notifications at once whose answer is late. What waits for one of these places meanwhile keeps
/// the hand it has.
const LATE_AT_ONCE: usize = 256;

/// Notifications at once to destinations that failed lately, all together: who is dead holds
/// nothing that others need (N7).
const FAILING_AT_ONCE: usize = 64;

/// Sleeps no longer than this, whatever the due times say: a clock may jump (T2).
const SLEEP_MAX: Duration = SOON;

/// After a fault of the store, before it is asked again.
const FAULT_WAIT: Duration = Duration::from_millis(500);

/// How often spent nonces are forgotten.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// How far behind the clock they are kept: a signature lives 300 s, its nonce 60 s longer, and
/// `created` may lie 30 s ahead (Q5, Q6).
const NONCE_KEPT_BEHIND_S: i64 = 400;

/// One version of what a piece of work is done with, whole (F1).
pub struct WorkerResources {
    /// The enrolment.
    pub snapshot: Arc<ConfigurationSnapshot>,
    /// Time, chance, network.
    pub world: World,
    /// What is spent on questions that nobody waits for.
    pub budget: BudgetSettings,
}

impl DeliveryLane {
    fn at_once(self) -> usize {
        match self {
            Self::Prompt => EVENTS_AT_ONCE,
            Self::Failing => FAILING_AT_ONCE,
        }
    }
}

/// The loops, and what they know of each other.
struct WorkerLoops {
    workers: Arc<Workers>,
    lanes: Arc<DestinationLanes>,
    /// Places of notifications whose answer is late.
    late: Arc<Semaphore>,
}

/// What the loops work with.
pub struct Workers {
    /// What outlives the process.
    pub store: Arc<Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is in force at this moment; asked once for each piece of work.
    pub in_force: Arc<dyn Fn() -> WorkerResources + Send + Sync>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Rung by commits that make work due (N8).
    pub worker_signals: Arc<WorkerSignals>,
    /// Who was refused, on its way to the audit log.
    pub refused_callers: Arc<RefusedCallers>,
}

impl Workers {
    /// Runs every loop until told to stop, and returns when each item in hand is ended.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        let loops = Arc::new(WorkerLoops {
            workers: Arc::clone(&self),
            lanes: Arc::default(),
            late: Arc::new(Semaphore::new(LATE_AT_ONCE)),
        });
        let polling = Arc::new(Poller::new(&self));
        let lease = |lane| Arc::clone(&loops).lease_loop(lane, stop.clone());
        tokio::join!(
            polling.run(stop.clone()),
            lease(DeliveryLane::Prompt),
            lease(DeliveryLane::Failing),
            self.forget_loop(stop.clone()),
            self.refused_loop(stop.clone())
        );
        // What came late was handed over by the loops, which have ended.
        let _ = loops.late.acquire_many(permits(LATE_AT_ONCE)).await;
    }

    fn count(&self, delivery: Delivery) {
        let word = match delivery {
            Delivery::Delivered(after) => {
                self.metrics.result_to_merchant(after);
                "delivered"
            }
            Delivery::Again => "again",
            Delivery::Throttled => "kept_back",
            Delivery::Dead => "dead",
            Delivery::LeaseLost => "lease_lost",
        };
        self.metrics.notification(word);
    }

    /// Writes who was refused into the audit log (L5), and how many lines of the log were left out.
    async fn refused_loop(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let is_over = *stop.borrow();
            let (changes, now) = (&*self.store.changes, self.clock.now());
            if let Err(fault) = self.refused_callers.write(changes, now).await {
                tracing::error!(%fault, "who was refused could not be recorded; it is tried again");
            }
            let suppressed = self.refused_callers.suppressed();
            if suppressed > 0 {
                tracing::warn!(
                    suppressed,
                    "lines about callers whom nobody knows were left out"
                );
            }
            if is_over {
                return;
            }
            tokio::select! {
                () = bounded_sleep(WRITTEN_EVERY) => (),
                _ = stop.changed() => (),
            }
        }
    }

    /// Forgets spent nonces, minute by minute.
    async fn forget_loop(&self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            if let Err(fault) = forget_nonces(&*self.store.nonces, &*self.clock).await {
                tracing::error!(%fault, "spent nonces could not be forgotten");
            }
            tokio::select! {
                () = bounded_sleep(FORGET_EVERY) => (),
                _ = stop.changed() => (),
            }
        }
    }
}

impl WorkerLoops {
    async fn lease_loop(self: Arc<Self>, lane: DeliveryLane, mut stop: watch::Receiver<bool>) {
        let hands = Arc::new(Semaphore::new(lane.at_once()));
        while !*stop.borrow() {
            // Registered before looking, so that a ring in between is not missed.
            let rung = self.wake_up(lane).notified();
            let wait = match self.start_due(lane, &hands).await {
                Ok(0) => self.until_next(lane).await,
                Ok(_) => continue,
                Err(fault) => {
                    tracing::error!(%fault, ?lane, "events could not be leased");
                    FAULT_WAIT
                }
            };
            tokio::select! {
                () = bounded_sleep(wait) => (),
                () = rung => (),
                _ = stop.changed() => (),
            }
        }
        // Every hand back: what was taken up is ended.
        let _ = hands.acquire_many(permits(lane.at_once())).await;
    }

    fn wake_up(&self, lane: DeliveryLane) -> &Notify {
        match lane {
            DeliveryLane::Prompt => &self.workers.worker_signals.events,
            DeliveryLane::Failing => &self.lanes.wake_up,
        }
    }

    /// What each destination may have on its way in this lane.
    fn shares(&self, lane: DeliveryLane) -> impl Fn(&str) -> u32 + Send + Sync + 'static {
        let (lanes, now) = (Arc::clone(&self.lanes), self.workers.clock.now());
        move |origin: &str| lanes.share(lane, origin, now)
    }

    /// Leases as much as there are free hands, and starts it. Says how much that was.
    async fn start_due(
        self: &Arc<Self>,
        lane: DeliveryLane,
        hands: &Arc<Semaphore>,
    ) -> Result<usize, StoreError> {
        let Ok(first) = Arc::clone(hands).acquire_owned().await else {
            return Ok(0);
        };
        let free = u32::try_from(hands.available_permits())
            .unwrap_or(0)
            .saturating_add(1);
        let (outbox, now) = (&self.workers.store.outbox, self.workers.clock.now());
        let leases = outbox.lease_events(&self.shares(lane), now, free).await?;
        let count = leases.len();
        let mut hand = Some(first);
        for lease in leases {
            let taken = match hand.take() {
                Some(hand) => hand,
                None => match Arc::clone(hands).acquire_owned().await {
                    Ok(hand) => hand,
                    Err(_) => return Ok(count),
                },
            };
            tokio::spawn(Arc::clone(self).work(lane, lease, taken));
        }
        Ok(count)
    }

    async fn work(self: Arc<Self>, lane: DeliveryLane, lease: Lease, hand: OwnedSemaphorePermit) {
        let workers = &self.workers;
        let _counted = workers
            .metrics
            .memory
            .work_in_progress(LeaseKind::Events.word());
        match self.tell(lane, &lease, hand).await {
            Ok(delivery) => workers.count(delivery),
            Err(fault) => tracing::error!(%fault, ?lane, "a leased event could not be completed"),
        }
        // A hand is free and the row may be due again.
        self.wake_up(lane).notify_one();
    }

    /// Delivers one event. An answer that is late gives its hand to others, and what is learnt of
    /// the destination decides about its next (N7).
    async fn tell(
        &self,
        lane: DeliveryLane,
        lease: &Lease,
        hand: OwnedSemaphorePermit,
    ) -> Result<Delivery, StoreError> {
        let workers = &self.workers;
        let WorkerResources {
            snapshot, world, ..
        } = (workers.in_force)();
        let telling = notify_merchant(&*workers.store.outbox, &world, &snapshot.platform, lease);
        let mut telling = pin!(telling);
        let queue = queue_of(lease);
        let mut hand = hand;
        let mut overdue = false;
        let told = tokio::select! {
            told = &mut telling => Some(told),
            () = bounded_sleep(PROMPT) => None,
        };
        let told = match (told, lane) {
            (Some(told), _) => told,
            (None, DeliveryLane::Failing) => {
                overdue = true;
                telling.await
            }
            (None, DeliveryLane::Prompt) => {
                overdue = true;
                self.lanes.mark_late(&queue);
                tokio::select! {
                    told = &mut telling => told,
                    place = Arc::clone(&self.late).acquire_owned() => {
                        // The semaphore is never closed; without a place the hand is kept.
                        if let Ok(place) = place {
                            hand = place;
                            workers.worker_signals.events.notify_one();
                        }
                        telling.await
                    }
                }
            }
        };
        drop(hand);
        let heard = match told {
            Ok(Delivery::Delivered(_)) => Some(true),
            Ok(Delivery::Again | Delivery::Dead) => Some(false),
            // Says nothing of the destination.
            Ok(Delivery::LeaseLost | Delivery::Throttled) | Err(_) => None,
        };
        let now = workers.clock.now();
        if heard.is_some_and(|heard| self.lanes.ended(&queue, heard, overdue, now)) {
            workers.worker_signals.events.notify_one();
            self.lanes.wake_up.notify_one();
        }
        told
    }

    async fn until_next(&self, lane: DeliveryLane) -> Duration {
        let workers = &self.workers;
        let due = workers.store.outbox.next_event(&self.shares(lane)).await;
        let nap_max = match lane {
            // Rests end without a ring.
            DeliveryLane::Failing => PROMPT,
            DeliveryLane::Prompt => SLEEP_MAX,
        };
        match due {
            Ok(Some(due)) => due
                .since(workers.clock.now())
                .clamp(Duration::from_millis(20), nap_max),
            Ok(None) => nap_max,
            Err(_) => FAULT_WAIT,
        }
    }
}

/// Forgets spent nonces that no clock can make good again (Q6). Under a clock that may be ahead none:
/// what was refused as made in the future has spent its nonce too, and one jump would forget all of
/// those, and shut out all of their moments.
///
/// # Errors
/// The store's.
pub async fn forget_nonces(
    nonces: &dyn NonceRetention,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    if !clock.is_settled() {
        return Ok(());
    }
    let until = clock.now().seconds().saturating_sub(NONCE_KEPT_BEHIND_S);
    nonces.forget_nonces(Timestamp::from_s(until)).await
}

/// The destination of an event, as the store names its queue.
fn queue_of(lease: &Lease) -> String {
    match &lease.of {
        LeasedWork::Event(event, _) => {
            let to = event.destination.as_deref().unwrap_or_default();
            origin(to).unwrap_or_else(|| to.to_owned())
        }
        LeasedWork::Order(_) => String::new(),
    }
}

fn permits(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the place that waits")]
async fn bounded_sleep(span: Duration) {
    tokio::time::sleep(span).await;
}
