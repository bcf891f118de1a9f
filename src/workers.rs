//! The worker loops that run flows when work is due; the only place that sleeps.
//!
//! Each loop leases due work, starts it, and sleeps until the next due time or a wake-up signal
//! from a commit. Signals only reduce latency: work whose signal is missed is found by its due
//! time.

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
use crate::flow::FlowScope;
use crate::flow::admit_request::refused_callers::{RefusedCallers, WRITTEN_EVERY};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::notify_merchant::{Delivery, notify_merchant};
use crate::metrics::Metrics;
use crate::store::notifying::{SOON, WorkerSignals};
use crate::store::outbox::DeliveryShares;
use crate::store::{Lease, LeaseKind, LeasedWork, NonceRetention, Store, StoreError};
use crate::world::{Clock, World};

pub use budget::BudgetSettings;
use lanes::{DeliveryLane, DestinationLanes, PROMPT};
use polling::Poller;

/// Maximum concurrent notifications that are not late yet ([`PROMPT`]); each destination gets only
/// its share (N7).
const EVENTS_AT_ONCE: usize = 256;

/// Maximum concurrent notifications whose reply is late. A delivery that waits for one of these
/// permits keeps its worker slot until then.
const LATE_AT_ONCE: usize = 256;

/// Maximum concurrent notifications to all recently failed destinations together, so that they do
/// not starve others (N7).
const FAILING_AT_ONCE: usize = 64;

/// Maximum sleep, whatever the due times are, because a clock may jump (T2).
const SLEEP_MAX: Duration = SOON;

/// How long to wait after a store failure.
const FAULT_WAIT: Duration = Duration::from_millis(500);

/// How often expired nonces are removed.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// How long nonces are kept: a signature is valid for 300 s, its nonce is kept 60 s longer, and
/// `created` may lie 30 s in the future (Q5, Q6).
const NONCE_KEPT_BEHIND_S: i64 = 400;

/// One consistent version of what a unit of work uses (F1).
pub struct WorkerResources {
    /// The configuration.
    pub snapshot: Arc<ConfigurationSnapshot>,
    /// Clock, randomness, network.
    pub world: World,
    /// The budget of background polls.
    pub budget: BudgetSettings,
}

impl WorkerResources {
    /// What a flow works with, under this version.
    fn scope<'a>(&'a self, store: &'a Store) -> FlowScope<'a> {
        FlowScope {
            store,
            world: &self.world,
            snapshot: &self.snapshot,
        }
    }
}

impl DeliveryLane {
    fn at_once(self) -> usize {
        match self {
            Self::Prompt => EVENTS_AT_ONCE,
            Self::Failing => FAILING_AT_ONCE,
        }
    }
}

/// The delivery loops and their shared state.
struct WorkerLoops {
    workers: Arc<Workers>,
    lanes: Arc<DestinationLanes>,
    /// Permits of notifications whose reply is late.
    late: Arc<Semaphore>,
}

/// The dependencies of the loops.
pub struct Workers {
    /// Durable state.
    pub store: Arc<Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Returns the current resources; called once per unit of work.
    pub in_force: Arc<dyn Fn() -> WorkerResources + Send + Sync>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Wake-up signals from commits that make work due (N8).
    pub worker_signals: Arc<WorkerSignals>,
    /// Counts of refused callers, for the audit log.
    pub refused_callers: Arc<RefusedCallers>,
}

impl Workers {
    /// Runs all loops until `stop`, and returns when all work in progress has ended.
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
        // Waits for late notifications; the loops themselves have ended.
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

    /// Writes counts of refused callers to the audit log (L5), and logs how many lines were
    /// suppressed.
    async fn refused_loop(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let is_over = *stop.borrow();
            let (changes, now) = (&*self.store.changes, self.clock.now());
            if let Err(fault) = self.refused_callers.write(changes, now).await {
                tracing::error!(%fault, "counts of refused callers could not be written; retrying");
            }
            let suppressed = self.refused_callers.suppressed();
            if suppressed > 0 {
                tracing::warn!(
                    suppressed,
                    "log lines about unauthenticated callers were suppressed"
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

    /// Removes expired nonces every minute.
    async fn forget_loop(&self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            if let Err(fault) = forget_nonces(&*self.store.nonces, &*self.clock).await {
                tracing::error!(%fault, "expired nonces could not be removed");
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
        let slots = Arc::new(Semaphore::new(lane.at_once()));
        while !*stop.borrow() {
            // Registered before leasing, so that a signal in between is not missed.
            let signalled = self.wake_up(lane).notified();
            let wait = match self.start_due(lane, &slots).await {
                Ok(0) => self.until_next(lane).await,
                Ok(_) => continue,
                Err(fault) => {
                    tracing::error!(%fault, ?lane, "events could not be leased");
                    FAULT_WAIT
                }
            };
            tokio::select! {
                () = bounded_sleep(wait) => (),
                () = signalled => (),
                _ = stop.changed() => (),
            }
        }
        // All slots are free: all deliveries have ended.
        let _ = slots.acquire_many(permits(lane.at_once())).await;
    }

    fn wake_up(&self, lane: DeliveryLane) -> &Notify {
        match lane {
            DeliveryLane::Prompt => &self.workers.worker_signals.events,
            DeliveryLane::Failing => &self.lanes.wake_up,
        }
    }

    /// How many events each destination may have in flight in this lane.
    fn shares(&self, lane: DeliveryLane) -> DeliveryShares {
        self.lanes.shares(lane, self.workers.clock.now())
    }

    /// Leases as many events as there are free worker slots, and starts them. Returns how many.
    async fn start_due(
        self: &Arc<Self>,
        lane: DeliveryLane,
        slots: &Arc<Semaphore>,
    ) -> Result<usize, StoreError> {
        let Ok(first) = Arc::clone(slots).acquire_owned().await else {
            return Ok(0);
        };
        let free = u32::try_from(slots.available_permits())
            .unwrap_or(0)
            .saturating_add(1);
        let (outbox, now) = (&self.workers.store.outbox, self.workers.clock.now());
        let leases = outbox.lease_events(&self.shares(lane), now, free).await?;
        let count = leases.len();
        let mut first = Some(first);
        for lease in leases {
            let slot = match first.take() {
                Some(slot) => slot,
                None => match Arc::clone(slots).acquire_owned().await {
                    Ok(slot) => slot,
                    Err(_) => return Ok(count),
                },
            };
            tokio::spawn(Arc::clone(self).work(lane, lease, slot));
        }
        Ok(count)
    }

    async fn work(self: Arc<Self>, lane: DeliveryLane, lease: Lease, slot: OwnedSemaphorePermit) {
        let workers = &self.workers;
        let _counted = workers
            .metrics
            .memory
            .work_in_progress(LeaseKind::Events.word());
        match self.deliver(lane, &lease, slot).await {
            Ok(delivery) => workers.count(delivery),
            Err(fault) => tracing::error!(%fault, ?lane, "a leased event could not be completed"),
        }
        // A slot is free, and the event may be due again.
        self.wake_up(lane).notify_one();
    }

    /// Delivers one event. A slow delivery frees its worker slot, and the result determines the
    /// lane and share of its destination (N7).
    async fn deliver(
        &self,
        lane: DeliveryLane,
        lease: &Lease,
        slot: OwnedSemaphorePermit,
    ) -> Result<Delivery, StoreError> {
        let workers = &self.workers;
        let resources = (workers.in_force)();
        let delivery = notify_merchant(resources.scope(&workers.store), lease);
        let mut delivery = pin!(delivery);
        let queue = queue_of(lease);
        let mut slot = slot;
        let mut overdue = false;
        let prompt = tokio::select! {
            result = &mut delivery => Some(result),
            () = bounded_sleep(PROMPT) => None,
        };
        let result = match (prompt, lane) {
            (Some(result), _) => result,
            (None, DeliveryLane::Failing) => {
                overdue = true;
                delivery.await
            }
            (None, DeliveryLane::Prompt) => {
                overdue = true;
                self.lanes.mark_late(&queue);
                tokio::select! {
                    result = &mut delivery => result,
                    permit = Arc::clone(&self.late).acquire_owned() => {
                        // The semaphore is never closed; without its permit the slot is kept.
                        if let Ok(permit) = permit {
                            slot = permit;
                            workers.worker_signals.events.notify_one();
                        }
                        delivery.await
                    }
                }
            }
        };
        drop(slot);
        let acknowledged = match result {
            Ok(Delivery::Delivered(_)) => Some(true),
            Ok(Delivery::Again | Delivery::Dead) => Some(false),
            // Says nothing about the destination.
            Ok(Delivery::LeaseLost | Delivery::Throttled) | Err(_) => None,
        };
        let now = workers.clock.now();
        if acknowledged.is_some_and(|done| self.lanes.ended(&queue, done, overdue, now)) {
            workers.worker_signals.events.notify_one();
            self.lanes.wake_up.notify_one();
        }
        result
    }

    async fn until_next(&self, lane: DeliveryLane) -> Duration {
        let workers = &self.workers;
        let due = workers.store.outbox.next_event(&self.shares(lane)).await;
        let sleep_max = match lane {
            // Backoffs end without a signal.
            DeliveryLane::Failing => PROMPT,
            DeliveryLane::Prompt => SLEEP_MAX,
        };
        match due {
            Ok(Some(due)) => due
                .since(workers.clock.now())
                .clamp(Duration::from_millis(20), sleep_max),
            Ok(None) => sleep_max,
            Err(_) => FAULT_WAIT,
        }
    }
}

/// Removes nonces whose signatures can no longer be valid (Q6). None while the clock may be ahead:
/// requests refused as created in the future have spent their nonces too, and one jump would remove
/// those and make the replay floor refuse all of their times.
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

#[expect(clippy::disallowed_methods, reason = "the only place that sleeps")]
async fn bounded_sleep(span: Duration) {
    tokio::time::sleep(span).await;
}
