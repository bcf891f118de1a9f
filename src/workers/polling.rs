//! Polls due orders: for each institution as many as its slots, its declared rate and the budget
//! allow, the most urgent first (N10). An order without capacity now is not leased, so nothing is
//! written for it and nothing is counted.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::budget::{CpuCharge, MeteredFuture, PollBudget};
use super::slots::{PollSlot, PollSlots};
use super::{FAULT_WAIT, PROMPT, SLEEP_MAX, WorkerResources, Workers, bounded_sleep, permits};
use crate::domain::identifiers::{InstitutionId, PayOrderNo};
use crate::domain::order::Urgency;
use crate::flow::poll_unresolved::{close_due_order, poll_order, poll_signalled_order, put_off};
use crate::store::unresolved::{LaneShares, UrgencyShares};
use crate::store::{Lease, LeaseKind, LeasedWork, StoreError};

/// Maximum number of orders polled concurrently.
const AT_ONCE: usize = 256;

/// Of them, orders that need no call to an institution: they expire, with one commit each.
const EXPIRING_AT_ONCE: u32 = 64;

/// Minimum time between two scans for due orders, whatever the signals: every selection sends one,
/// and its order is due half a second later. With an institution's slots this bounds its rate of
/// queries to 16 per 20 ms.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Maximum sleep while due work lacks capacity: capacity returns with time, without a signal.
const CAPACITY_WAIT: Duration = Duration::from_millis(250);

/// How long a leased order that cannot be polled now is postponed; each time costs two writes.
const POSTPONED_FOR: Duration = Duration::from_secs(1);

/// The urgencies of orders in the store, the most urgent first.
const STORED: [Urgency; 3] = [Urgency::Unresolved, Urgency::Refund, Urgency::Payer];

/// Maximum number of signals taken at once.
const SIGNALS_AT_ONCE: usize = 64;

/// Why an order was leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PollTask {
    /// It has expired.
    Close,
    /// One of its objects is due.
    Poll(Urgency),
    /// A signal was raised for it.
    Signal,
}

/// The two polling loops and their shared state.
pub(super) struct Poller {
    workers: Arc<Workers>,
    slots: Arc<PollSlots>,
    budget: PollBudget,
    places: Arc<Semaphore>,
    /// Orders being polled. A change to such an order ends its lease, but not the poll.
    in_progress: Mutex<HashSet<PayOrderNo>>,
}

/// The resources that a task holds.
struct ActivePoll {
    slot: Option<PollSlot>,
    _place: OwnedSemaphorePermit,
    _asked_about: PolledOrderGuard,
    paid: CpuCharge,
}

impl Poller {
    pub(super) fn new(workers: &Arc<Workers>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            workers: Arc::clone(workers),
            slots: Arc::default(),
            budget: PollBudget::new(cores, Instant::now()),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            in_progress: Mutex::default(),
        }
    }

    /// Runs both loops until `stop`, and returns when all orders in progress are returned.
    pub(super) async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        let signals = Arc::clone(&self).signal_loop(stop.clone());
        tokio::join!(Arc::clone(&self).due_loop(stop), signals);
        let _ = self.places.acquire_many(permits(AT_ONCE)).await;
    }

    async fn due_loop(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            // Registered before leasing, so that a signal in between is not missed.
            let signalled = self.workers.worker_signals.orders.notified();
            let freed = self.slots.freed.notified();
            let wait = match self.start_due().await {
                Ok(0) => self.until_next().await,
                Ok(_) => continue,
                Err(fault) => {
                    tracing::error!(%fault, "due orders could not be leased");
                    FAULT_WAIT
                }
            };
            tokio::select! {
                () = bounded_sleep(wait) => (),
                () = signalled => (),
                () = freed => (),
                _ = stop.changed() => (),
            }
            bounded_sleep(LOOK_EVERY).await;
        }
    }

    fn in_progress(&self) -> MutexGuard<'_, HashSet<PayOrderNo>> {
        self.in_progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many orders may be polled now, over all institutions.
    fn allowed(&self, tools: &WorkerResources, urgency: Urgency) -> u32 {
        let delay = self.workers.metrics.front.last_delay();
        let allowed = self
            .budget
            .allows(urgency, tools.budget, delay, Instant::now());
        allowed.min(permits(self.places.available_permits()))
    }

    /// How many orders may be polled at one institution.
    fn capacity(
        &self,
        tools: &WorkerResources,
        institution: &InstitutionId,
        urgency: Urgency,
    ) -> u32 {
        let world = &tools.world;
        let health = world.health.standing(institution, world.clock.now());
        let free = self.slots.free(institution, health);
        free.min(world.outbound.room(institution, urgency))
    }

    /// How many orders of each lane of an urgency may be leased.
    fn shares(&self, tools: &WorkerResources, urgency: Urgency) -> UrgencyShares {
        let configured = tools.snapshot.routing.institutions.keys().cloned();
        let known: HashSet<_> = configured.chain(self.slots.institutions()).collect();
        let with_capacity = |id| {
            let capacity = self.capacity(tools, &id, urgency);
            (id, capacity)
        };
        UrgencyShares {
            own: EXPIRING_AT_ONCE,
            institutions: known.into_iter().map(with_capacity).collect(),
            // Leased, so that it is found out and reported that the institution is missing.
            others: self.slots.free_at_others(),
        }
    }

    /// Leases as many orders as there is capacity for and starts them, the most urgent first.
    /// Returns how many.
    async fn start_due(self: &Arc<Self>) -> Result<usize, StoreError> {
        let unresolved = &self.workers.store.unresolved;
        let mut count = 0_usize;
        for urgency in STORED {
            let (tools, now) = ((self.workers.in_force)(), self.workers.clock.now());
            let allowed = self.allowed(&tools, urgency);
            if allowed == 0 {
                continue;
            }
            let shares = LaneShares::only(urgency, self.shares(&tools, urgency));
            let leases = unresolved.lease_orders(&shares, now, allowed).await?;
            count = count.saturating_add(leases.len());
            for lease in leases {
                self.begin(lease).await;
            }
        }
        Ok(count)
    }

    /// Starts the due task of a leased order, or postpones it.
    async fn begin(self: &Arc<Self>, lease: Lease) {
        let (tools, now) = ((self.workers.in_force)(), self.workers.clock.now());
        let LeasedWork::Order(order) = &lease.of else {
            return;
        };
        let due = match order.pursue(now) {
            Some(_) => None,
            None => order.next_poll_target(now),
        };
        let Some((object, institution, urgency)) = due else {
            return self.start(PollTask::Close, lease, None).await;
        };
        // It may be polled already, under a lease that a change to the order has ended.
        let is_polled = self.in_progress().contains(&order.no);
        let is_free = !is_polled && self.capacity(&tools, institution, urgency) > 0;
        if is_free && self.allowed(&tools, urgency) > 0 {
            let slot = self.slots.take(institution);
            return self.start(PollTask::Poll(urgency), lease, Some(slot)).await;
        }
        // Postponed, so that an order due at several institutions does not wait for this one.
        let until = now.plus(POSTPONED_FOR);
        let workers = Arc::clone(&self.workers);
        tokio::spawn(async move {
            match put_off(&*workers.store.unresolved, &lease, &object, until).await {
                Ok(()) => workers.worker_signals.orders.notify_one(),
                Err(fault) => tracing::error!(%fault, "a leased order could not be postponed"),
            }
        });
    }

    async fn start(self: &Arc<Self>, task: PollTask, lease: Lease, slot: Option<PollSlot>) {
        // Never closed; no more orders are leased than there are places.
        if let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
            let held = ActivePoll {
                slot,
                _place: place,
                _asked_about: PolledOrderGuard::of(self, &lease),
                paid: self.budget.begin(task.urgency()),
            };
            tokio::spawn(Arc::clone(self).work(task, lease, held));
        }
    }

    async fn work(self: Arc<Self>, task: PollTask, lease: Lease, held: ActivePoll) {
        let workers = &self.workers;
        let _counted = workers
            .metrics
            .memory
            .work_in_progress(LeaseKind::Orders.word());
        let resources = (workers.in_force)();
        let (scope, world) = (resources.scope(&workers.store), &resources.world);
        let poll = async {
            match task {
                PollTask::Close => match close_due_order(scope, &lease).await {
                    Ok(false) => poll_order(scope, &lease).await,
                    done => done.map(|_| ()),
                },
                PollTask::Poll(_) => poll_order(scope, &lease).await,
                PollTask::Signal => poll_signalled_order(scope, &lease).await,
            }
        };
        let mut poll = std::pin::pin!(MeteredFuture::new(poll));
        let mut held = held;
        let answers = |slot: &PollSlot| world.health.answers(slot.institution());
        let before = held.slot.as_ref().map(answers);
        let (done, busy) = tokio::select! {
            done = &mut poll => done,
            () = bounded_sleep(PROMPT) => {
                held.slot.iter_mut().for_each(PollSlot::mark_late);
                poll.await
            }
        };
        if held.slot.as_ref().map(answers) != before {
            held.slot.iter_mut().for_each(PollSlot::answered);
        }
        let cost = self.budget.end(held.paid, busy);
        if let Some(urgency) = task.urgency() {
            workers.metrics.polling.asked(urgency.word(), cost);
        }
        if let Err(fault) = done {
            tracing::error!(%fault, "a leased order could not be polled and returned");
        }
        drop(held);
        // A place is free and the order may be due again.
        workers.worker_signals.orders.notify_one();
    }

    async fn until_next(&self) -> Duration {
        let tools = (self.workers.in_force)();
        let shares = STORED.map(|urgency| {
            let allowed = self.allowed(&tools, urgency);
            (urgency, self.shares(&tools, urgency).at_most(allowed))
        });
        let shares = LaneShares {
            urgencies: shares.into(),
        };
        let Ok(next) = self.workers.store.unresolved.next_order(&shares).await else {
            return FAULT_WAIT;
        };
        let longest = if next.is_held_back {
            CAPACITY_WAIT
        } else {
            SLEEP_MAX
        };
        match next.due {
            Some(due) => due
                .since(self.workers.clock.now())
                .clamp(Duration::from_millis(20), longest),
            None => longest,
        }
    }

    /// Polls orders with signals.
    async fn signal_loop(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let world = (self.workers.in_force)().world;
            let now = self.workers.clock.now();
            let wait = match world.signals.next() {
                Some(due) => due.since(now).min(SLEEP_MAX),
                None => SLEEP_MAX,
            };
            if !wait.is_zero() {
                tokio::select! {
                    () = bounded_sleep(wait) => (),
                    () = world.signals.rung.notified() => (),
                    _ = stop.changed() => (),
                }
            }
            if let Err(fault) = self.take_signals().await {
                tracing::error!(%fault, "signalled orders could not be leased");
            }
            // Signals that come together are leased together.
            bounded_sleep(LOOK_EVERY).await;
        }
    }

    async fn take_signals(self: &Arc<Self>) -> Result<(), StoreError> {
        let tools = (self.workers.in_force)();
        let (signals, now) = (&tools.world.signals, self.workers.clock.now());
        let allowed = self.allowed(&tools, Urgency::Signal);
        let allowed = usize::try_from(allowed).unwrap_or(0).min(SIGNALS_AT_ONCE);
        let due = signals.due(now, allowed, |institution| {
            let capacity = self.capacity(&tools, institution, Urgency::Signal);
            usize::try_from(capacity).unwrap_or(0)
        });
        let mut taken: Vec<(PayOrderNo, PollSlot)> = Vec::new();
        for (order, institution) in due {
            if self.in_progress().contains(&order) {
                signals.put_off(&order, now.plus(CAPACITY_WAIT));
            } else {
                taken.push((order, self.slots.take(&institution)));
            }
        }
        let orders: Vec<PayOrderNo> = taken.iter().map(|(order, _)| order.clone()).collect();
        if orders.is_empty() {
            return Ok(());
        }
        for lease in self
            .workers
            .store
            .unresolved
            .lease_named(&orders, now)
            .await?
        {
            let slot = taken.iter().position(|(no, _)| is_of(&lease, no));
            let slot = slot.map(|at| taken.swap_remove(at).1);
            self.start(PollTask::Signal, lease, slot).await;
        }
        // Orders that could not be leased have changed since, or are leased by another worker.
        Ok(())
    }
}

impl PollTask {
    /// The urgency of its query; `None` if no institution is called.
    fn urgency(self) -> Option<Urgency> {
        match self {
            Self::Close => None,
            Self::Poll(urgency) => Some(urgency),
            Self::Signal => Some(Urgency::Signal),
        }
    }
}

/// While held, no other task polls the order.
struct PolledOrderGuard {
    polling: Arc<Poller>,
    order: Option<PayOrderNo>,
}

impl PolledOrderGuard {
    /// Holds nothing if the order is already being polled: the other task's guard covers it.
    fn of(polling: &Arc<Poller>, lease: &Lease) -> Self {
        let order = match &lease.of {
            LeasedWork::Order(order) => Some(order.no.clone()),
            LeasedWork::Event(..) => None,
        };
        let order = order.filter(|order| polling.in_progress().insert(order.clone()));
        Self {
            polling: Arc::clone(polling),
            order,
        }
    }
}

impl Drop for PolledOrderGuard {
    fn drop(&mut self) {
        if let Some(order) = &self.order {
            self.polling.in_progress().remove(order);
        }
    }
}

fn is_of(lease: &Lease, no: &PayOrderNo) -> bool {
    match &lease.of {
        LeasedWork::Order(order) => order.no == *no,
        LeasedWork::Event(..) => false,
    }
}
