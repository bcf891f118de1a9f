//! Whole journeys, stopped before and after every durable step in turn. Everybody outside goes on
//! as they would: the merchant asks again, the institution tells again. Nothing may be lost, and
//! nothing be charged twice.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use paymux::domain::attempt::AttemptState;
use paymux::domain::order::OrderState;
use paymux::flow::chase_doubts::{adopt_leftovers, chase_order};
use paymux::flow::notify_merchant::notify_merchant;
use paymux::store::Work;
use paymux::world::Clock;
use serde_json::{Value, json};

use super::checks::{Checks, end};
use crate::world::enrolment::order_fields;
use crate::world::frail::{Frail, Trouble};
use crate::world::memory::Memory;
use crate::world::town::{PEER, Town, changed, naming};

/// How often everybody outside tries again, a second apart: a create that never left is known not to
/// have arrived after its sixth question, 37 s at most, and only then another one begins.
const TRIES: usize = 60;

/// One thing that somebody outside wants to come true.
#[derive(Debug, Clone, Copy)]
enum Wish {
    /// The merchant wants its order placed.
    Placed,
    /// The payer wants to pay there.
    Chosen(&'static str),
    /// The payer has paid there; the institution wants that known.
    Paid(&'static str),
    /// The merchant wants the order closed.
    Closed,
    /// Time runs out.
    Expired,
    /// The merchant is to hear how it ended.
    Told,
}

/// Goes on until it waits; nothing, if the process stopped.
fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut task = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut task) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

struct Journey {
    town: Town,
    frail: Arc<Frail>,
    checks: Checks,
    stopped: bool,
}

impl Journey {
    fn new(at: u64, trouble: Trouble) -> Self {
        let mut town = Town::new();
        let frail = Arc::new(Frail::new(Arc::<Memory>::clone(&town.memory)));
        frail.plan(at, trouble);
        town.api.store = Arc::<Frail>::clone(&frail);
        Self {
            town,
            frail,
            checks: Checks::default(),
            stopped: false,
        }
    }

    /// Brings a wish about, through as many processes as it takes.
    fn bring_about(&mut self, wish: Wish) {
        for _ in 0..TRIES {
            let _ = self.pursue(wish);
            self.look();
            if self.frail.is_stopped() {
                self.start_again();
                self.look();
            } else if self.has_come_true(wish) {
                return;
            }
            self.town.pass_s(1);
        }
        let order = self.town.snapshot().orders.into_values().next();
        panic!(
            "{wish:?} never came true: {:#?}",
            order.map(|row| row.order.attempts)
        );
    }

    fn start_again(&mut self) {
        self.stopped = true;
        self.town.restart();
        self.frail = Arc::new(Frail::new(Arc::<Memory>::clone(&self.town.memory)));
        self.town.api.store = Arc::<Frail>::clone(&self.frail);
        let now = self.town.clock.now();
        once(adopt_leftovers(&*self.town.api.store, now))
            .unwrap()
            .unwrap();
    }

    fn look(&mut self) {
        let durable = self.town.memory.durable();
        let parties = self.town.network.parties();
        let truth = self.town.clock.truth();
        let looked = self.checks.look(&durable, &parties, truth);
        looked.unwrap_or_else(|broken| panic!("{broken}"));
    }

    fn ask(&self, path: &str, body: &Value) -> Option<()> {
        let request = self.town.signed("M1", path, body);
        once(self.town.api.answer(request, PEER)).map(|_| ())
    }

    fn pursue(&self, wish: Wish) -> Option<()> {
        match wish {
            Wish::Placed => self.ask("/v1/orders", &order_fields("M1", "T1")),
            Wish::Chosen(institution) => {
                let choice = changed(naming("T1"), json!({ "institutionId": institution }));
                self.ask("/v1/orders/select", &choice)?;
                self.work(Work::Orders)
            }
            Wish::Paid(institution) => {
                let truth = self.town.clock.truth();
                let owed = self.town.at(institution, |books| {
                    for id in books.payable(truth) {
                        books.pay(&id, truth);
                    }
                    let owed = books.owed().into_iter();
                    let letters = owed.map(|id| (books.callback(&id, truth), id));
                    letters.collect::<Vec<_>>()
                });
                for (callback, id) in owed {
                    let answer = once(self.town.api.answer(callback, PEER))?;
                    self.town.at(institution, |books| {
                        books.acknowledge(&id, &answer.response);
                    });
                }
                Some(())
            }
            Wish::Closed => {
                self.ask("/v1/orders/close", &naming("T1"))?;
                self.work(Work::Orders)
            }
            Wish::Expired => {
                self.town.pass_s(900);
                self.work(Work::Orders)
            }
            Wish::Told => self.work(Work::Events),
        }
    }

    fn work(&self, work: Work) -> Option<()> {
        let (store, world) = (&*self.town.api.store, &self.town.api.world);
        let register = self.town.register();
        let leases = once(store.lease(work, world.clock.now(), 10))?.unwrap();
        for lease in &leases {
            match work {
                Work::Events => {
                    once(notify_merchant(store, world, &register.platform, lease))?.unwrap();
                }
                Work::Orders | Work::Leftovers => {
                    once(chase_order(store, world, &register, lease))?.unwrap();
                }
            }
        }
        Some(())
    }

    fn has_come_true(&self, wish: Wish) -> bool {
        let durable = self.town.snapshot();
        let Some(row) = durable.orders.values().next() else {
            return false;
        };
        let order = &row.order;
        match wish {
            Wish::Placed => true,
            Wish::Chosen(institution) => order.live_attempt().is_some_and(|attempt| {
                attempt.institution.as_str() == institution
                    && attempt.state == AttemptState::Accepted
            }),
            Wish::Paid(institution) => {
                order.state == OrderState::Paid
                    && self.town.at(institution, |books| books.owed().is_empty())
            }
            Wish::Closed | Wish::Expired => order.state == OrderState::Closed,
            Wish::Told => end(&durable, &self.town.network.parties()).is_ok(),
        }
    }
}

/// Stops at every durable step in turn until a journey ends untouched; how many there were.
fn stop_everywhere(wishes: &[Wish]) -> u64 {
    let mut steps = 0;
    for trouble in [Trouble::StopBefore, Trouble::StopAfter] {
        for at in 1.. {
            let mut journey = Journey::new(at, trouble);
            for wish in wishes {
                journey.bring_about(*wish);
            }
            let durable = journey.town.snapshot();
            let parties = journey.town.network.parties();
            assert_eq!(durable.orders.len(), 1);
            assert_eq!(durable.events.len(), 1, "N1, N4");
            end(&durable, &parties)
                .unwrap_or_else(|broken| panic!("{trouble:?} at {at}: {broken}"));
            if !journey.stopped {
                steps += at - 1;
                break;
            }
        }
    }
    steps
}

/// A1, A7, C4, N1, N2, Q7, S1, Z1, Z2: from the order to the merchant's acknowledgement, one
/// payment and one event, wherever the process stops.
#[test]
fn a_payment_survives_a_stop_at_every_step() {
    let steps = stop_everywhere(&[
        Wish::Placed,
        Wish::Chosen("bank"),
        Wish::Paid("bank"),
        Wish::Told,
    ]);
    assert!(steps >= 14, "{steps}");
}

/// A2, A7, S1: a change of mind between two institutions takes one payment, wherever the process
/// stops.
#[test]
fn a_change_of_institution_survives_a_stop_at_every_step() {
    let steps = stop_everywhere(&[
        Wish::Placed,
        Wish::Chosen("bank"),
        Wish::Chosen("purse"),
        Wish::Paid("purse"),
        Wish::Told,
    ]);
    assert!(steps >= 20, "{steps}");
}

/// V2, O3, S1, N1: a close, by the merchant or by time, closes at the institution and is told,
/// wherever the process stops.
#[test]
fn an_end_survives_a_stop_at_every_step() {
    for end in [Wish::Closed, Wish::Expired] {
        let steps = stop_everywhere(&[Wish::Placed, Wish::Chosen("bank"), end, Wish::Told]);
        assert!(steps >= 12, "{steps}");
    }
}
