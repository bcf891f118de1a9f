//! Turns at institutions: never more calls in a second than an institution declared, never more at
//! once than it may hold of us, waiting bounded, and fair between merchants.
//!
//! Who is next is decided in `line.rs`; here is what waits, for a turn and to leave in it, and what
//! is held while a call is under way. Whoever waits also looks: nobody else is needed to call the
//! next when a second has passed.

mod behind;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::domain::identifiers::{InstitutionId, MerchantId};
use crate::limits::Wait;
use crate::limits::line::{Background, Joined, Kind, Line};
pub use crate::limits::line::{Pace, Patience};
use crate::metrics::Metrics;
use crate::world::{Place, TooMany, Turn};

/// What a caller is told to wait whose turn did not come, if nothing better is known.
const WAIT_AGAIN: Duration = Duration::from_secs(1);

/// The numbers in force.
#[derive(Debug, Clone)]
pub struct TurnSettings {
    /// Of each institution.
    pub paces: HashMap<InstitutionId, Pace>,
    /// Of each create; a call with a turn waits no longer until it may leave.
    pub patience: Patience,
    /// What questions in the background may take of a rate while creates come. Unit: percent.
    pub background_rate_percent: u32,
}

/// The queues of all institutions.
pub struct Turns {
    live: ArcSwap<Live>,
    room: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

struct Live {
    queues: HashMap<InstitutionId, Arc<Queue>>,
    patience: Patience,
    background: Background,
}

impl Turns {
    /// Starts with nobody waiting.
    pub fn new(settings: &TurnSettings, metrics: Arc<Metrics>) -> Self {
        let live = Live::of(settings, &HashMap::new(), &metrics);
        Self {
            live: ArcSwap::from_pointee(live),
            room: Arc::default(),
            metrics,
        }
    }

    /// Other numbers, at once (F1). What was counted stays counted, and who waits goes on waiting.
    pub fn replace(&self, settings: &TurnSettings) {
        let before = self.live.load();
        let next = Live::of(settings, &before.queues, &self.metrics);
        self.live.store(Arc::new(next));
    }

    /// A turn for a create, waited for within bounds, fairly between merchants.
    ///
    /// # Errors
    /// [`Wait`] if it did not come in time, too many wait already, or the institution is not one of
    /// those in reach; nothing was counted then.
    pub async fn wait(
        &self,
        institution: &InstitutionId,
        merchant: &MerchantId,
    ) -> Result<Turn, Wait> {
        let (queue, patience) = {
            let live = self.live.load();
            (live.queues.get(institution).cloned(), live.patience)
        };
        let turn = match queue {
            Some(queue) => {
                let seat = Seat::taken(&self.room, patience.waiting_in_all_max);
                let patience = match &seat {
                    Some(_) => patience,
                    // Whoever need not wait needs no seat.
                    None => Patience {
                        waiting_max: 0,
                        ..patience
                    },
                };
                // Let go of before anything else: whatever comes next looks at the line as well.
                let joined = queue.line().join(merchant, &patience, Instant::now());
                let seat = seat.filter(|_| matches!(joined, Joined::Waiting(..)));
                let within = (patience.within, patience.within);
                let turn = queue.stand((joined, Kind::Create), within).await;
                drop(seat);
                turn
            }
            // Nobody said what it takes: it is called by nobody until somebody does.
            None => Err(Wait(WAIT_AGAIN)),
        };
        turn.inspect_err(|_| self.metrics.front.limited("institution"))
    }

    /// A turn for a question: now, or, where no turn can be kept for questions, soon.
    ///
    /// # Errors
    /// [`Wait`] if there is none in time, or the institution is not one of those in reach; nothing was
    /// counted then.
    pub async fn soon(&self, institution: &InstitutionId, within: Duration) -> Result<Turn, Wait> {
        let (queue, leaves_within) = {
            let live = self.live.load();
            let queue = live.queues.get(institution).cloned();
            (queue, live.patience.within)
        };
        let turn = match queue {
            Some(queue) => {
                let joined = queue.line().ask(Instant::now());
                let within = (within, leaves_within);
                queue.stand((joined, Kind::Question), within).await
            }
            None => Err(Wait(WAIT_AGAIN)),
        };
        turn.inspect_err(|_| self.metrics.front.limited("institution"))
    }
}

impl Live {
    fn of(
        settings: &TurnSettings,
        before: &HashMap<InstitutionId, Arc<Queue>>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let queues = settings.paces.iter().map(|(id, pace)| {
            let queue = match before.get(id) {
                Some(known) => {
                    known.line().repace(*pace, Instant::now());
                    Arc::clone(known)
                }
                None => Arc::new(Queue {
                    id: id.clone(),
                    line: Mutex::new(Line::new(*pace)),
                    metrics: Arc::clone(metrics),
                }),
            };
            (id.clone(), queue)
        });
        Self {
            queues: queues.collect(),
            patience: settings.patience,
            background: Background {
                rate_percent: settings.background_rate_percent,
            },
        }
    }
}

/// One of the seats of those who wait, at whatever institution: each of them is a request under way,
/// and institutions that are silent must not hold all of those.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn taken(room: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let one_more = |taken: usize| taken.checked_add(1).filter(|taken| *taken <= max);
        let taken = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Self(Arc::clone(room)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One institution's queue.
struct Queue {
    id: InstitutionId,
    line: Mutex<Line>,
    metrics: Arc<Metrics>,
}

/// Held while a call is under way.
struct Held {
    queue: Arc<Queue>,
    kind: Kind,
    /// How long it may wait to leave.
    within: Duration,
    /// When it left.
    left: Mutex<Option<Instant>>,
}

impl Held {
    fn left(&self) -> MutexGuard<'_, Option<Instant>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves now, or says when to look again.
    fn leave(&self) -> Result<(), Instant> {
        let (mut left, mut line) = (self.left(), self.queue.line());
        if left.take().is_some() {
            // It is sent once more: both count.
            line.reserve(self.kind);
        }
        let now = Instant::now();
        line.depart(self.kind, now)?;
        *left = Some(now);
        Ok(())
    }
}

#[async_trait]
impl Place for Held {
    async fn depart(&self) -> Result<(), TooMany> {
        let began = Instant::now();
        let until = began.checked_add(self.within).unwrap_or(began);
        while let Err(look) = self.leave() {
            if look > until {
                self.queue.metrics.front.limited("institution");
                return Err(TooMany { wait: WAIT_AGAIN });
            }
            sleep_until(look).await;
        }
        Ok(())
    }

    fn stay(&self) {
        if let Some(at) = self.left().take() {
            self.queue.line().stay(self.kind, at);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let left = self.left().is_some();
        self.queue.line().end(self.kind, left, Instant::now());
        self.queue.show();
    }
}

/// A place in the line, given up when whoever waits goes away, whatever for.
struct Waiting {
    queue: Arc<Queue>,
    kind: Kind,
    number: u64,
    called: oneshot::Receiver<()>,
    taken: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut line = self.queue.line();
        // Not in line any more and not taken: the call came and nobody was there to hear it.
        if !line.leave(self.number) {
            line.end(self.kind, false, Instant::now());
        }
    }
}

impl Queue {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(self: &Arc<Self>, kind: Kind, within: Duration) -> Turn {
        self.show();
        Turn::held(Arc::new(Held {
            queue: Arc::clone(self),
            kind,
            within,
            left: Mutex::default(),
        }))
    }

    fn show(&self) {
        let line = self.line();
        let (waiting, in_flight) = (line.waiting, line.under_way.all());
        drop(line);
        let front = &self.metrics.front;
        front.turns(self.id.as_str(), waiting, in_flight);
    }

    /// Waits, where it has to, for a turn no longer than the first span; with it, a call may wait to
    /// leave no longer than the second.
    async fn stand(
        self: &Arc<Self>,
        (joined, kind): (Joined, Kind),
        (within, leaves_within): (Duration, Duration),
    ) -> Result<Turn, Wait> {
        let began = Instant::now();
        let (number, called) = match joined {
            Joined::Now => return Ok(self.turn(kind, leaves_within)),
            Joined::Full(wait) => return Err(Wait(wait)),
            Joined::Waiting(number, called) => (number, called),
        };
        self.show();
        let mut waiting = Waiting {
            queue: Arc::clone(self),
            kind,
            number,
            called,
            taken: false,
        };
        let until = began.checked_add(within).unwrap_or(began);
        loop {
            let look = self.line().next_look(number, Instant::now());
            let by = look.map_or(until, |look| look.min(until));
            if let Ok(called) = timeout_at(by, &mut waiting.called).await {
                waiting.taken = called.is_ok();
                break;
            }
            // A turn may be free by now: whoever looks calls the next in rotation, perhaps itself.
            let now = Instant::now();
            self.line().advance(now);
            waiting.taken = waiting.called.try_recv().is_ok();
            if waiting.taken || now >= until {
                break;
            }
        }
        if waiting.taken {
            return Ok(self.turn(kind, leaves_within));
        }
        drop(waiting);
        self.show();
        Err(Wait(WAIT_AGAIN))
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::num::NonZeroU32;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Longer than anything here takes; only a test that fails waits for it.
    const LONG: Duration = Duration::from_secs(30);

    fn id(name: &str) -> InstitutionId {
        InstitutionId::parse(name).unwrap()
    }

    fn merchant(name: &str) -> MerchantId {
        MerchantId::parse(name).unwrap()
    }

    fn settings(calls_at_once: u32, within: Duration) -> TurnSettings {
        let pace = Pace {
            calls_per_second: None,
            calls_at_once: calls_at_once.try_into().unwrap(),
        };
        TurnSettings {
            paces: [(id("bank"), pace), (id("purse"), pace)].into(),
            patience: Patience {
                within,
                waiting_in_all_max: 3,
                waiting_max: 2,
                waiting_per_merchant_max: 2,
            },
            background_rate_percent: 25,
        }
    }

    fn turns(settings: &TurnSettings) -> (Turns, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new().unwrap());
        (Turns::new(settings, Arc::clone(&metrics)), metrics)
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    /// Whether a create is refused at once, rather than after it waited.
    fn is_refused(turns: &Turns, institution: &InstitutionId, merchant: &MerchantId) -> bool {
        let turn = poll(pin!(turns.wait(institution, merchant)));
        turn.is_some_and(|turn| turn.is_err())
    }

    /// A turn is held until its last copy is dropped; who waits then has it. Another institution's
    /// turns are its own.
    #[tokio::test]
    async fn a_turn_is_held_until_the_call_has_ended() {
        let (turns, metrics) = turns(&settings(1, LONG));
        let (bank, one) = (id("bank"), merchant("M1"));
        let held = turns.wait(&bank, &one).await.unwrap();
        let copy = held.clone();
        assert!(turns.soon(&bank, Duration::ZERO).await.is_err());
        assert!(turns.soon(&id("purse"), Duration::ZERO).await.is_ok());
        let mut next = pin!(turns.wait(&bank, &one));
        assert!(poll(next.as_mut()).is_none());
        let page = metrics.render();
        assert!(page.contains(r#"paymux_institution_turns_waiting{institution="bank"} 1"#));
        assert!(page.contains(r#"paymux_limited_total{kind="institution"} 1"#));
        drop(held);
        assert!(poll(next.as_mut()).is_none());
        drop(copy);
        let held = next.await.unwrap();
        let page = metrics.render();
        assert!(page.contains(r#"paymux_institution_turns_waiting{institution="bank"} 0"#));
        assert!(page.contains(r#"paymux_institution_calls_in_flight{institution="bank"} 1"#));
        drop(held);
        assert!(turns.soon(&bank, Duration::ZERO).await.is_ok());
    }

    /// F2: an institution that nobody said anything about gets no turns, rather than all it wants: not
    /// before it is enrolled, and not once it is let go.
    #[tokio::test]
    async fn an_institution_that_is_not_in_reach_gets_no_turn() {
        let (turns, _) = turns(&settings(9, LONG));
        let (purse, one) = (id("purse"), merchant("M1"));
        assert!(turns.soon(&id("stranger"), Duration::ZERO).await.is_err());
        assert!(is_refused(&turns, &id("stranger"), &one));
        assert!(turns.soon(&purse, Duration::ZERO).await.is_ok());
        let mut without = settings(9, LONG);
        without.paces.remove(&purse);
        turns.replace(&without);
        assert!(
            turns.soon(&purse, Duration::ZERO).await.is_err()
                && turns.wait(&purse, &one).await.is_err()
        );
    }

    /// Z1: where one call at a time may be under way, a question is called before the creates that
    /// wait; and one that is given up holds nothing.
    #[tokio::test]
    async fn a_question_stands_in_front() {
        let (turns, _) = turns(&settings(1, LONG));
        let (bank, one) = (id("bank"), merchant("M1"));
        let held = turns.wait(&bank, &one).await.unwrap();
        let mut create = pin!(turns.wait(&bank, &one));
        assert!(poll(create.as_mut()).is_none());
        {
            let mut given_up = pin!(turns.soon(&bank, LONG));
            assert!(poll(given_up.as_mut()).is_none());
        }
        let mut question = pin!(turns.soon(&bank, LONG));
        assert!(poll(question.as_mut()).is_none());
        drop(held);
        assert!(poll(create.as_mut()).is_none());
        let asking = question.await.unwrap();
        drop(asking);
        drop(create.await.unwrap());
        assert!(turns.soon(&bank, Duration::ZERO).await.is_ok());
    }

    /// However many institutions are silent, only so many creates wait for them in all, and only so
    /// many for each; who need not wait has a turn all the same.
    #[tokio::test]
    async fn waiting_is_bounded_over_all_institutions() {
        let (turns, _) = turns(&settings(1, LONG));
        let (bank, purse) = (id("bank"), id("purse"));
        let [one, two, three] = ["M1", "M2", "M3"].map(merchant);
        let held = turns.wait(&bank, &one).await.unwrap();
        {
            let mut first = pin!(turns.wait(&bank, &one));
            let mut second = pin!(turns.wait(&bank, &two));
            assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
            assert!(is_refused(&turns, &bank, &three), "its share");
            let other = turns.wait(&purse, &one).await.unwrap();
            let mut third = pin!(turns.wait(&purse, &one));
            assert!(poll(third.as_mut()).is_none());
            assert!(is_refused(&turns, &purse, &two), "three in all");
            drop(other);
            drop(third.await.unwrap());
            drop(turns.wait(&purse, &two).await.unwrap());
            let _busy = turns.wait(&purse, &two).await.unwrap();
            let mut again = pin!(turns.wait(&purse, &two));
            assert!(poll(again.as_mut()).is_none(), "a seat is free again");
            assert!(is_refused(&turns, &purse, &three));
        }
        drop(held);
        assert_eq!(turns.room.load(Ordering::Relaxed), 0);
    }

    /// Waiting is bounded, in time and in number, and who gives up, or is given up, holds nothing.
    #[tokio::test]
    async fn waiting_ends() {
        let (turns, _) = turns(&settings(1, Duration::from_millis(1)));
        let (bank, one) = (id("bank"), merchant("M1"));
        let held = turns.wait(&bank, &one).await.unwrap();
        assert!(turns.wait(&bank, &one).await.is_err());
        turns.replace(&settings(1, LONG));
        {
            let mut first = pin!(turns.wait(&bank, &one));
            let mut second = pin!(turns.wait(&bank, &one));
            assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
            assert!(is_refused(&turns, &bank, &one), "two of one merchant");
            // The first is called, and dropped before it hears of it.
            drop(held);
        }
        assert!(turns.soon(&bank, Duration::ZERO).await.is_ok());
    }

    /// A call with a turn waits to leave while as many left within a second as may, within bounds, and
    /// no place is lost by one that came back whole or never left.
    #[tokio::test]
    async fn a_call_waits_to_leave() {
        let paced = |calls_per_second, within| {
            let mut settings = settings(9, within);
            let pace = settings.paces.get_mut(&id("bank")).unwrap();
            pace.calls_per_second = NonZeroU32::new(calls_per_second);
            settings
        };
        let (turns, metrics) = turns(&paced(4, LONG));
        let (bank, one) = (id("bank"), merchant("M1"));
        let (first, second) = (turns.wait(&bank, &one).await, turns.wait(&bank, &one).await);
        let (first, second) = (first.unwrap(), second.unwrap());
        turns.replace(&paced(1, Duration::ZERO));
        first.depart().await.unwrap();
        {
            let mut leaving = pin!(second.depart());
            assert!(poll(leaving.as_mut()).is_none(), "it may wait");
        }
        first.stay();
        second.depart().await.unwrap();
        drop((first, second));
        turns.replace(&paced(2, Duration::ZERO));
        let hasty = turns.soon(&bank, Duration::ZERO).await.unwrap();
        turns.replace(&paced(1, Duration::ZERO));
        let refused = hasty.depart().await;
        assert!(refused.is_err(), "it may not wait");
        assert!(
            metrics
                .render()
                .contains(r#"paymux_limited_total{kind="institution"} 1"#)
        );
        assert!(turns.soon(&bank, Duration::ZERO).await.is_err());
    }

    /// F1: other numbers count at once, for those who wait as well; what is held stays counted.
    #[tokio::test]
    async fn numbers_are_replaced_while_somebody_waits() {
        let (turns, _) = turns(&settings(1, LONG));
        let (bank, one) = (id("bank"), merchant("M1"));
        let _held = turns.wait(&bank, &one).await.unwrap();
        let mut next = pin!(turns.wait(&bank, &one));
        assert!(poll(next.as_mut()).is_none());
        turns.replace(&settings(3, LONG));
        let _second = next.await.unwrap();
        assert!(turns.soon(&bank, Duration::ZERO).await.is_ok());
        turns.replace(&settings(2, LONG));
        assert!(
            turns.soon(&bank, Duration::ZERO).await.is_err(),
            "two are under way"
        );
    }
}
