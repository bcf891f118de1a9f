//! Looks after what is due of orders: for each institution as much as its slots, its declared rate and the
//! budget leave, the most urgent first (N10). What has no place now is not taken up, so nothing is
//! written for it and nothing counted.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::budget::{CpuCharge, MeteredFuture, PollBudget};
use super::slots::{PollSlot, PollSlots};
use super::{FAULT_WAIT, PROMPT, SLEEP_MAX, WorkerResources, Workers, bounded_sleep, permits};
use crate::domain::identifiers::{InstitutionId, PayOrderNo};
use crate::domain::order::{PollLane, Urgency};
use crate::flow::poll_unresolved::{close_due_order, poll_order, poll_signalled_order, put_off};
use crate::store::{Lease, LeaseKind, LeasedWork, StoreError};

/// Orders looked after at once.
const AT_ONCE: usize = 256;

/// Of them, those that wait for no institution: they expire, and each takes one commit.
const EXPIRING_AT_ONCE: u32 = 64;

/// Between two looks for due orders, however often it rings: every selection rings, and what it
/// rings for is due half a second later. With an institution's slots it bounds what it is asked: 16 in
/// 20 ms.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Sleeps no longer while something is due that has no room: room comes with time, and does not ring.
const CAPACITY_WAIT: Duration = Duration::from_millis(250);

/// What was leased and cannot be asked about now is due again then: each time costs two writes.
const POSTPONED_FOR: Duration = Duration::from_secs(1);

/// Signals taken up at once.
const SIGNALS_AT_ONCE: usize = 64;

/// What an order that was leased is looked after for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PollTask {
    /// Its time has run out.
    Close,
    /// One of its objects is due.
    Poll(Urgency),
    /// Something was seen of it.
    Signal,
}

/// The two loops, and what they know of each other.
pub(super) struct Poller {
    workers: Arc<Workers>,
    slots: Arc<PollSlots>,
    budget: PollBudget,
    places: Arc<Semaphore>,
    /// Orders that somebody asks about. A change of such an order ends its lease, and not the question.
    in_progress: Mutex<HashSet<PayOrderNo>>,
}

/// A task's own account of what it holds.
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

    /// Runs both loops until told to stop, and returns when each order in hand is given back.
    pub(super) async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        let signals = Arc::clone(&self).signal_loop(stop.clone());
        tokio::join!(Arc::clone(&self).due_loop(stop), signals);
        let _ = self.places.acquire_many(permits(AT_ONCE)).await;
    }

    async fn due_loop(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            // Registered before looking, so that a ring in between is not missed.
            let rung = self.workers.worker_signals.orders.notified();
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
                () = rung => (),
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

    /// How many orders may be taken up now, whatever institution they wait for.
    fn allowed(&self, tools: &WorkerResources, urgency: Urgency) -> u32 {
        let delay = self.workers.metrics.front.last_delay();
        let allowed = self
            .budget
            .allows(urgency, tools.budget, (delay, Instant::now()));
        allowed.min(permits(self.places.available_permits()))
    }

    /// How many of one institution's.
    fn room(&self, tools: &WorkerResources, institution: &InstitutionId, urgency: Urgency) -> u32 {
        let world = &tools.world;
        let standing = world.health.standing(institution, world.clock.now());
        let free = self.slots.free(institution, standing);
        free.min(world.outbound.room(institution, urgency))
    }

    fn share(&self, tools: &WorkerResources, lane: PollLane<'_>) -> u32 {
        match lane.institution {
            Some(institution) => self.room(tools, institution, lane.urgency),
            None => EXPIRING_AT_ONCE,
        }
    }

    /// Leases as much as there is room for and starts it, the most urgent first. Says how much that
    /// was.
    async fn start_due(self: &Arc<Self>) -> Result<usize, StoreError> {
        let unresolved = &self.workers.store.unresolved;
        let mut count = 0_usize;
        for urgency in [Urgency::Unresolved, Urgency::Refund, Urgency::Payer] {
            let (tools, now) = ((self.workers.in_force)(), self.workers.clock.now());
            let allowed = self.allowed(&tools, urgency);
            if allowed == 0 {
                continue;
            }
            let shares = |lane: PollLane<'_>| {
                if lane.urgency == urgency {
                    self.share(&tools, lane)
                } else {
                    0
                }
            };
            let leases = unresolved.lease_orders(&shares, now, allowed).await?;
            count = count.saturating_add(leases.len());
            for lease in leases {
                self.begin(lease).await;
            }
        }
        Ok(count)
    }

    /// Finds the place for what is due of a leased order, and starts it.
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
        // Somebody asks about it already, under a lease that a change of the order has ended.
        let is_awaited = self.in_progress().contains(&order.no);
        let is_free = !is_awaited && self.room(&tools, institution, urgency) > 0;
        if is_free && self.allowed(&tools, urgency) > 0 {
            let slot = self.slots.take(institution);
            return self.start(PollTask::Poll(urgency), lease, Some(slot)).await;
        }
        // Due with several institutions, and this one has no room: the others do not wait for it.
        let until = now.plus(POSTPONED_FOR);
        let workers = Arc::clone(&self.workers);
        tokio::spawn(async move {
            match put_off(&*workers.store.unresolved, &lease, (&object, until)).await {
                Ok(()) => workers.worker_signals.orders.notify_one(),
                Err(fault) => tracing::error!(%fault, "a leased order could not be put off"),
            }
        });
    }

    async fn start(self: &Arc<Self>, task: PollTask, lease: Lease, slot: Option<PollSlot>) {
        // Never closed; whoever leases took no more than there are places.
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
        let WorkerResources {
            snapshot, world, ..
        } = (workers.in_force)();
        let store = &workers.store;
        let looked = async {
            match task {
                PollTask::Close => match close_due_order(store, &world, &lease).await {
                    Ok(false) => poll_order(store, &world, &snapshot, &lease).await,
                    done => done.map(|_| ()),
                },
                PollTask::Poll(_) => poll_order(store, &world, &snapshot, &lease).await,
                PollTask::Signal => poll_signalled_order(store, &world, &snapshot, &lease).await,
            }
        };
        let mut looked = std::pin::pin!(MeteredFuture::new(looked));
        let mut held = held;
        let answers = |slot: &PollSlot| world.health.answers(slot.institution());
        let before = held.slot.as_ref().map(answers);
        let (done, busy) = tokio::select! {
            done = &mut looked => done,
            () = bounded_sleep(PROMPT) => {
                held.slot.iter_mut().for_each(PollSlot::mark_late);
                looked.await
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
            tracing::error!(%fault, "a leased order could not be given back");
        }
        drop(held);
        // A place is free and the order may be due again.
        workers.worker_signals.orders.notify_one();
    }

    async fn until_next(&self) -> Duration {
        let (tools, is_short) = ((self.workers.in_force)(), AtomicBool::new(false));
        let allowed = Urgency::ALL.map(|urgency| (urgency, self.allowed(&tools, urgency)));
        let shares = |lane: PollLane<'_>| {
            let allowed = allowed.iter().find(|(one, _)| *one == lane.urgency);
            let allowed = allowed.map_or(0, |(_, many)| *many);
            let share = self.share(&tools, lane).min(allowed);
            if share == 0 {
                is_short.store(true, Ordering::Relaxed);
            }
            share
        };
        let due = self.workers.store.unresolved.next_order(&shares).await;
        let longest = if is_short.load(Ordering::Relaxed) {
            CAPACITY_WAIT
        } else {
            SLEEP_MAX
        };
        match due {
            Ok(Some(due)) => due
                .since(self.workers.clock.now())
                .clamp(Duration::from_millis(20), longest),
            Ok(None) => longest,
            Err(_) => FAULT_WAIT,
        }
    }

    /// Asks about orders that something was seen of.
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
            // Those that come together are leased together.
            bounded_sleep(LOOK_EVERY).await;
        }
    }

    async fn take_signals(self: &Arc<Self>) -> Result<(), StoreError> {
        let tools = (self.workers.in_force)();
        let (signals, now) = (&tools.world.signals, self.workers.clock.now());
        let allowed = self.allowed(&tools, Urgency::Signal);
        let allowed = usize::try_from(allowed).unwrap_or(0).min(SIGNALS_AT_ONCE);
        let due = signals.due(now, allowed, |institution| {
            let room = self.room(&tools, institution, Urgency::Signal);
            usize::try_from(room).unwrap_or(0)
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
        // Those that nobody could lease have moved meanwhile, or somebody asks about them.
        Ok(())
    }
}

impl PollTask {
    /// Of which urgency the question is; none where nobody is asked.
    fn urgency(self) -> Option<Urgency> {
        match self {
            Self::Close => None,
            Self::Poll(urgency) => Some(urgency),
            Self::Signal => Some(Urgency::Signal),
        }
    }
}

/// While it lives nobody else asks about the order.
struct PolledOrderGuard {
    polling: Arc<Poller>,
    order: Option<PayOrderNo>,
}

impl PolledOrderGuard {
    /// None of an order that somebody has in hand already: that one ends it.
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
