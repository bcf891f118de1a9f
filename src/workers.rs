//! Loops that tell a flow what time it is; the only place that waits.
//!
//! Each loop leases what is due, hands it out, and sleeps until the next thing is due or a commit
//! rings. The bell saves time, never correctness: what it misses is found by the due times.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::domain::identifiers::Timestamp;
use crate::flow::chase_doubts::chase_order;
use crate::flow::notify_merchant::{Delivery, notify_merchant};
use crate::flow::register::Register;
use crate::metrics::Metrics;
use crate::store::ringing::{Bells, SOON};
use crate::store::{Lease, Store, StoreError, Work};
use crate::world::{Clock, World};

/// Orders asked about at once.
const ORDERS_AT_ONCE: usize = 64;

/// Notifications under way at once; the store gives each destination only its share (N7).
const EVENTS_AT_ONCE: usize = 256;

/// Sleeps no longer than this, whatever the due times say: a clock may jump (T2).
const NAP_MAX: Duration = SOON;

/// Between two looks for due orders, however often it rings: every selection rings, and what it
/// rings for is due half a second later.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// After a fault of the store, before it is asked again.
const FAULT_NAP: Duration = Duration::from_millis(500);

/// How often the replay floor is raised.
const FLOOR_EVERY: Duration = Duration::from_mins(1);

/// How far behind the clock the floor stays: a signature lives 300 s, its nonce 60 s longer, and
/// `created` may lie 30 s ahead (Q5, Q6).
const FLOOR_BEHIND_S: i64 = 400;

/// One version of what a piece of work is done with, whole (F1).
pub struct Tools {
    /// The enrolment.
    pub register: Arc<Register>,
    /// Time, chance, network.
    pub world: World,
}

/// What the loops work with.
pub struct Workers {
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is in force at this moment; asked once for each piece of work.
    pub in_force: Arc<dyn Fn() -> Tools + Send + Sync>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Rung by commits that make work due (N8).
    pub bells: Arc<Bells>,
}

impl Workers {
    /// Runs every loop until told to stop, and returns when each item in hand is ended.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        let orders = Arc::clone(&self).lease_loop(Work::Orders, ORDERS_AT_ONCE, stop.clone());
        let events = Arc::clone(&self).lease_loop(Work::Events, EVENTS_AT_ONCE, stop.clone());
        tokio::join!(orders, events, self.floor_loop(stop));
    }

    async fn lease_loop(
        self: Arc<Self>,
        work: Work,
        at_once: usize,
        mut stop: watch::Receiver<bool>,
    ) {
        let hands = Arc::new(Semaphore::new(at_once));
        let bell = match work {
            Work::Events => &self.bells.events,
            Work::Orders | Work::Leftovers => &self.bells.orders,
        };
        while !*stop.borrow() {
            // Registered before looking, so that a ring in between is not missed.
            let rung = bell.notified();
            let wait = match self.hand_out(work, &hands).await {
                Ok(0) => self.until_next(work).await,
                Ok(_) => continue,
                Err(fault) => {
                    tracing::error!(%fault, work = ?work, "work could not be leased");
                    FAULT_NAP
                }
            };
            tokio::select! {
                () = nap(wait) => (),
                () = rung => (),
                _ = stop.changed() => (),
            }
            if work == Work::Orders {
                nap(LOOK_EVERY).await;
            }
        }
        // Every hand back: what was taken up is ended.
        let all = u32::try_from(at_once).unwrap_or(u32::MAX);
        let _ = hands.acquire_many(all).await;
    }

    /// Leases as much as there are free hands, and starts it. Says how much that was.
    async fn hand_out(
        self: &Arc<Self>,
        work: Work,
        hands: &Arc<Semaphore>,
    ) -> Result<usize, StoreError> {
        let Ok(first) = Arc::clone(hands).acquire_owned().await else {
            return Ok(0);
        };
        let free = u32::try_from(hands.available_permits())
            .unwrap_or(0)
            .saturating_add(1);
        let leases = self.store.lease(work, self.clock.now(), free).await?;
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
            tokio::spawn(Arc::clone(self).work(work, lease, taken));
        }
        Ok(count)
    }

    async fn work(self: Arc<Self>, work: Work, lease: Lease, hand: OwnedSemaphorePermit) {
        let Tools { register, world } = (self.in_force)();
        let _counted = self.metrics.memory.work_in_hand(work.word());
        let done = match work {
            Work::Orders | Work::Leftovers => {
                chase_order(&*self.store, &world, &register, &lease).await
            }
            Work::Events => {
                let platform = &register.platform;
                let told = notify_merchant(&*self.store, &world, platform, &lease).await;
                told.map(|delivery| self.count(delivery))
            }
        };
        if let Err(fault) = done {
            tracing::error!(%fault, work = ?work, "leased work could not be settled");
        }
        drop(hand);
        // A hand is free and the row may be due again.
        match work {
            Work::Events => self.bells.events.notify_one(),
            Work::Orders | Work::Leftovers => self.bells.orders.notify_one(),
        }
    }

    fn count(&self, delivery: Delivery) {
        let word = match delivery {
            Delivery::Delivered(after) => {
                self.metrics.result_to_merchant(after);
                "delivered"
            }
            Delivery::Again => "again",
            Delivery::Dead => "dead",
            Delivery::LeaseLost => "lease_lost",
        };
        self.metrics.notification(word);
    }

    async fn until_next(&self, work: Work) -> Duration {
        match self.store.next_due(work).await {
            Ok(Some(due)) => due
                .since(self.clock.now())
                .clamp(Duration::from_millis(20), NAP_MAX),
            Ok(None) => NAP_MAX,
            Err(_) => FAULT_NAP,
        }
    }

    /// Raises the replay floor, so that spent nonces can be forgotten (Q6).
    async fn floor_loop(&self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let now = self.clock.now();
            let floor = Timestamp::from_s(now.seconds().saturating_sub(FLOOR_BEHIND_S));
            if floor > self.store.floor()
                && let Err(fault) = self.store.raise_floor(floor).await
            {
                tracing::error!(%fault, "the replay floor could not be raised");
            }
            tokio::select! {
                () = nap(FLOOR_EVERY) => (),
                _ = stop.changed() => (),
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the place that waits")]
async fn nap(span: Duration) {
    tokio::time::sleep(span).await;
}
