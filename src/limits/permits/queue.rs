//! The permit queue of one institution: two limits (concurrent calls, calls per second), each of
//! three semaphores. Every call takes one of `all`. Payments and background queries also take one
//! of `unkept`, which reserves an eighth of `all` for queries about unresolved outcomes (Z1);
//! background queries have a share of that. Semaphores are first come first served and only the
//! first payment of each merchant queues there, so merchants take turns and a flood of one waits
//! behind itself (N7).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::domain::identifiers::{InstitutionId, MerchantId};
use crate::limits::bound::{Bound, Taken};
use crate::limits::permits::{CallLimits, WaitLimits};
use crate::metrics::Metrics;

/// The declared rate holds for any span of one second; slightly longer, so that no clock reading
/// shortens it.
const SECOND: Duration = Duration::from_millis(1_001);
/// One in this many permits is reserved for queries.
const KEPT_ONE_IN: u32 = 8;
/// The share of background queries while no payments begin. Unit: percent.
const ALONE_PERCENT: u32 = 90;
/// More permits than are ever taken: no rate was declared.
const UNLIMITED: u32 = u32::MAX;

/// One institution's queue.
pub(super) struct Queue {
    id: InstitutionId,
    metrics: Arc<Metrics>,
    at_once: Limit,
    in_a_second: Limit,
    /// Permits of calls that were sent: a call with a permit of `in_a_second` finds one here,
    /// unless the rate was lowered meanwhile or something was sent twice.
    left: Arc<Bound>,
    /// If there is only one permit, none can be reserved: the one query that may wait for it.
    question: Arc<Bound>,
    /// Background queries are admitted one by one.
    background: Mutex<()>,
    /// Waiting payments, in total and by merchant.
    waiting: Arc<Bound>,
    lanes: Mutex<HashMap<MerchantId, Lane>>,
}

/// The waiting payments of one merchant.
#[derive(Clone)]
struct Lane {
    waiting: Arc<Bound>,
    /// Its holder queues at the semaphores.
    first: Arc<Bound>,
}

/// The share of the permits that background queries may fill.
#[derive(Clone, Copy)]
pub(super) struct Share {
    /// Its size. Unit: percent.
    pub(super) part: u32,
    /// What it is a share of while payments begin. Unit: percent of all permits.
    pub(super) percent: u32,
}

/// The purpose of a call.
#[derive(Clone, Copy)]
enum Kind {
    /// A payer waits for it.
    Payment,
    /// A query or a close about an unresolved outcome.
    Question,
    /// A query about a known state: everything else comes first.
    Background,
}

/// The permits of a call, of both limits.
pub(super) struct Grant {
    in_a_second: Vec<Taken>,
    at_once: Vec<Taken>,
}

/// The send of a call, and when it was.
pub(super) type Left = (Instant, Taken);

impl Grant {
    /// The call has ended. Another may be in flight at once, but is sent only a second after it.
    pub(super) fn end(self, left: Option<Left>, queue: &Queue) {
        drop(self.at_once);
        if let Some((at, left)) = left {
            queue.keep_for_a_second(at, (left, self.in_a_second));
        }
    }
}

struct Limit {
    all: Arc<Bound>,
    unkept: Arc<Bound>,
    background: Arc<Bound>,
}

impl Limit {
    fn new(max: u32) -> Self {
        Self {
            all: Bound::new(max),
            unkept: Bound::new(unkept(max)),
            background: Bound::new(UNLIMITED),
        }
    }

    fn resize(&self, max: u32) {
        self.all.resize(max);
        self.unkept.resize(unkept(max));
    }

    /// Always in this order, which prevents deadlock.
    fn of(&self, kind: Kind) -> Vec<&Arc<Bound>> {
        match kind {
            Kind::Payment => vec![&self.unkept, &self.all],
            Kind::Question => vec![&self.all],
            Kind::Background => vec![&self.background, &self.unkept, &self.all],
        }
    }

    async fn take(&self, kind: Kind) -> Vec<Taken> {
        let mut taken = Vec::new();
        for bound in self.of(kind) {
            taken.push(bound.take(1).await);
        }
        taken
    }

    fn take_now(&self, kind: Kind) -> Option<Vec<Taken>> {
        let bounds = self.of(kind).into_iter();
        bounds.map(|bound| bound.take_now(1)).collect()
    }

    fn background_room(&self, share: Share, payments_wait: bool) -> u32 {
        let taken = self.background.taken();
        let payments_begin = payments_wait || self.unkept.taken() > taken;
        let percent = if payments_begin {
            share.percent
        } else {
            ALONE_PERCENT
        };
        let of = |count: u32, percent: u32| count.saturating_mul(percent).div_ceil(100);
        let allowed = of(of(self.all.size(), percent), share.part);
        let free = self.unkept.free().min(self.all.free());
        allowed.saturating_sub(taken).min(free)
    }
}

impl Queue {
    pub(super) fn new(id: InstitutionId, limits: CallLimits, metrics: Arc<Metrics>) -> Self {
        let rate = limits.calls_per_second.map_or(UNLIMITED, NonZeroU32::get);
        Self {
            id,
            metrics,
            at_once: Limit::new(limits.calls_at_once.get()),
            in_a_second: Limit::new(rate),
            left: Bound::new(rate),
            question: Bound::new(1),
            background: Mutex::default(),
            waiting: Bound::new(0),
            lanes: Mutex::default(),
        }
    }

    /// Resizes the limits, also for those who wait; taken permits stay counted.
    pub(super) fn resize(&self, limits: CallLimits) {
        let rate = limits.calls_per_second.map_or(UNLIMITED, NonZeroU32::get);
        self.left.resize(rate);
        self.in_a_second.resize(rate);
        self.at_once.resize(limits.calls_at_once.get());
    }

    async fn take(&self, kind: Kind) -> Grant {
        Grant {
            in_a_second: self.in_a_second.take(kind).await,
            at_once: self.at_once.take(kind).await,
        }
    }

    fn take_now(&self, kind: Kind) -> Option<Grant> {
        Some(Grant {
            in_a_second: self.in_a_second.take_now(kind)?,
            at_once: self.at_once.take_now(kind)?,
        })
    }

    /// A payment's permit, if nobody waits for one.
    pub(super) fn payment_now(&self) -> Option<Grant> {
        let nobody_waits = self.waiting.taken() == 0;
        nobody_waits.then(|| self.take_now(Kind::Payment))?
    }

    /// Waits for a payment's permit, behind those of the same merchant and in turn with others'.
    /// `None` if too many wait.
    pub(super) async fn payment(
        self: &Arc<Self>,
        merchant: &MerchantId,
        limits: &WaitLimits,
    ) -> Option<Grant> {
        let waiting = self.join(merchant, limits)?;
        let granted = async {
            let _first = waiting.lane.first.take(1).await;
            self.take(Kind::Payment).await
        };
        timeout(limits.within, granted).await.ok()
    }

    /// A query's permit: at once or, if there is only one, within this time.
    pub(super) async fn question(&self, within: Duration) -> Option<Grant> {
        let now = self.take_now(Kind::Question);
        if now.is_some() || !self.is_single() {
            return now;
        }
        let _first = self.question.take_now(1)?;
        timeout(within, self.take(Kind::Question)).await.ok()
    }

    /// A background query's permit, if its share allows one and nobody else waits.
    pub(super) fn background_now(&self, share: Share) -> Option<Grant> {
        let _one = self.background.lock();
        let has_room = self.background_room(share) > 0;
        has_room.then(|| self.take_now(Kind::Background))?
    }

    /// How many background queries may begin now.
    pub(super) fn background_room(&self, share: Share) -> u32 {
        if self.question.free() == 0 {
            return 0;
        }
        let payments_wait = self.waiting.taken() > 0;
        let capacity = |limit: &Limit| limit.background_room(share, payments_wait);
        capacity(&self.in_a_second).min(capacity(&self.at_once))
    }

    /// How many queries about unresolved outcomes may begin now.
    pub(super) fn question_room(&self) -> u32 {
        let free = self.in_a_second.all.free().min(self.at_once.all.free());
        // If there is only one permit, one query may wait for it.
        let may_wait = self.is_single() && self.question.free() > 0;
        free.max(u32::from(may_wait))
    }

    /// Counts a call as sent, waiting within this time: no second has more than the declared
    /// number.
    pub(super) async fn leave(&self, within: Duration) -> Option<Left> {
        let Ok(left) = timeout(within, self.left.take(1)).await else {
            self.metrics.front.limited("institution");
            return None;
        };
        Some((Instant::now(), left))
    }

    /// Returns what counts against the rate a second after `at`.
    pub(super) fn keep_for_a_second(&self, at: Instant, taken: impl Send + 'static) {
        let until = at.checked_add(SECOND).unwrap_or(at);
        let is_declared = self.in_a_second.all.size() != UNLIMITED;
        // Without a runtime nothing is sent any more.
        if let (true, Ok(runtime)) = (is_declared, Handle::try_current()) {
            runtime.spawn(async move {
                sleep_until(until).await;
                drop(taken);
            });
        }
    }

    /// An estimate of how long the queue needs to empty; a second at least.
    pub(super) fn emptied_in(&self) -> Duration {
        let rate = self.in_a_second.all.size();
        let seconds = self.waiting.taken().checked_div(rate).unwrap_or(1);
        Duration::from_secs(u64::from(seconds.max(1)))
    }

    /// Exports how many wait and how many calls are in flight.
    pub(super) fn show(&self) {
        let (waiting, in_flight) = (self.waiting.taken(), self.at_once.all.taken());
        let front = &self.metrics.front;
        front.permits(self.id.as_str(), waiting, in_flight);
    }

    fn join(self: &Arc<Self>, merchant: &MerchantId, limits: &WaitLimits) -> Option<Waiting> {
        self.waiting.resize(limits.waiting_max);
        let one = self.waiting.take_now(1)?;
        let theirs_max = limits.waiting_per_merchant_max;
        let mut lanes = self.lanes();
        let lane = lanes.entry(merchant.clone()).or_insert_with(|| Lane {
            waiting: Bound::new(theirs_max),
            first: Bound::new(1),
        });
        lane.waiting.resize(theirs_max);
        let (lane, of_theirs) = (lane.clone(), lane.waiting.take_now(1));
        drop(lanes);
        let mut waiting = Waiting {
            queue: Arc::clone(self),
            merchant: merchant.clone(),
            lane,
            counted: None,
        };
        waiting.counted = Some((one, of_theirs?));
        self.show();
        Some(waiting)
    }

    /// Whether there is only one permit, concurrent or per second, so that none can be reserved.
    fn is_single(&self) -> bool {
        self.at_once.all.size().min(self.in_a_second.all.size()) < 2
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<MerchantId, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, counted until it is dropped for whatever reason.
struct Waiting {
    queue: Arc<Queue>,
    merchant: MerchantId,
    lane: Lane,
    counted: Option<(Taken, Taken)>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.counted = None;
        let mut lanes = self.queue.lanes();
        if self.lane.waiting.taken() == 0 {
            lanes.remove(&self.merchant);
        }
        drop(lanes);
        self.queue.show();
    }
}

/// Of this many permits, those for payments and background queries.
fn unkept(max: u32) -> u32 {
    if max < 2 {
        return max;
    }
    let reserved = max.checked_div(KEPT_ONE_IN).unwrap_or(0).max(1);
    max.saturating_sub(reserved)
}
