//! Whole journeys, stopped before and after every durable step in turn. The environment retries as
//! it would: the merchant repeats requests, the institution repeats callbacks. Nothing may be lost,
//! and nobody charged twice.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use paymux::domain::attempt::AttemptState;
use paymux::domain::order::OrderState;
use paymux::flow::notify_merchant::notify_merchant;
use paymux::flow::poll_unresolved::{poll_order, recover_orphaned};
use paymux::store::LeaseKind;
use paymux::world::Clock;
use serde_json::{Value, json};

use super::checks::{InvariantChecks, end};
use crate::store::builders::lease;
use crate::world::enrolment::order_fields;
use crate::world::fault_injector::{FaultInjector, InjectedFault};
use crate::world::test_gateway::{PEER, TestGateway, changed, naming};

/// How many retries, a second apart: a create that was never sent is known not to have arrived
/// after its sixth query, after 37 s at most, and only then another one begins.
const TRIES: usize = 60;

/// A goal of somebody outside.
#[derive(Debug, Clone, Copy)]
enum CrashGoal {
    /// The merchant wants to place its order.
    Placed,
    /// The payer wants to pay there.
    Chosen(&'static str),
    /// The payer has paid there; the institution wants to report it.
    Paid(&'static str),
    /// The merchant wants the order closed.
    Closed,
    /// Time runs out.
    Expired,
    /// The merchant is to be notified of the end.
    Notified,
}

/// Runs until it waits; `None` if the process stopped.
fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut task = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut task) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

struct CrashRun {
    gateway: TestGateway,
    fault_injector: Arc<FaultInjector>,
    checks: InvariantChecks,
    stopped: bool,
}

impl CrashRun {
    fn new(at: u64, trouble: InjectedFault) -> Self {
        let mut gateway = TestGateway::new();
        let fault_injector = Arc::new(FaultInjector::new(gateway.memory.handles()));
        fault_injector.plan(at, trouble);
        gateway.api.store = fault_injector.handles();
        Self {
            gateway,
            fault_injector,
            checks: InvariantChecks::default(),
            stopped: false,
        }
    }

    /// Reaches a goal, across as many processes as needed.
    fn bring_about(&mut self, request: CrashGoal) {
        for _ in 0..TRIES {
            let _ = self.pursue(request);
            self.check();
            if self.fault_injector.is_stopped() {
                self.start_again();
                self.check();
            } else if self.has_come_true(request) {
                return;
            }
            self.gateway.advance_s(1);
        }
        let order = self.gateway.durable_state().orders.into_values().next();
        panic!(
            "{request:?} was never reached: {:#?}",
            order.map(|row| row.order.attempts)
        );
    }

    fn start_again(&mut self) {
        self.stopped = true;
        self.gateway.restart();
        self.fault_injector = Arc::new(FaultInjector::new(self.gateway.memory.handles()));
        self.gateway.api.store = self.fault_injector.handles();
        let now = self.gateway.clock.now();
        once(recover_orphaned(&self.gateway.api.store, now))
            .unwrap()
            .unwrap();
    }

    fn check(&mut self) {
        let durable = self.gateway.memory.durable();
        let parties = self.gateway.network.parties();
        let truth = self.gateway.clock.truth();
        let checked = self.checks.check(&durable, &parties, truth);
        checked.unwrap_or_else(|broken| panic!("{broken}"));
    }

    fn ask(&self, path: &str, body: &Value) -> Option<()> {
        let request = self.gateway.signed("M1", path, body);
        once(self.gateway.api.answer(request, PEER)).map(|_| ())
    }

    fn pursue(&self, request: CrashGoal) -> Option<()> {
        match request {
            CrashGoal::Placed => self.ask("/v1/orders", &order_fields("M1", "T1")),
            CrashGoal::Chosen(institution) => {
                let choice = changed(naming("T1"), json!({ "institutionId": institution }));
                self.ask("/v1/orders/select", &choice)?;
                self.work(LeaseKind::Orders)
            }
            CrashGoal::Paid(institution) => {
                let truth = self.gateway.clock.truth();
                let callbacks = self.gateway.at(institution, |books| {
                    for id in books.payable(truth) {
                        books.pay(&id, truth);
                    }
                    let due = books.undelivered().into_iter();
                    let messages = due.map(|id| (books.callback(&id, truth), id));
                    messages.collect::<Vec<_>>()
                });
                for (callback, id) in callbacks {
                    let answer = once(self.gateway.api.answer(callback, PEER))?;
                    self.gateway.at(institution, |books| {
                        books.acknowledge(&id, &answer.response);
                    });
                }
                Some(())
            }
            CrashGoal::Closed => {
                self.ask("/v1/orders/close", &naming("T1"))?;
                self.work(LeaseKind::Orders)
            }
            CrashGoal::Expired => {
                self.gateway.advance_s(900);
                self.work(LeaseKind::Orders)
            }
            CrashGoal::Notified => self.work(LeaseKind::Events),
        }
    }

    fn work(&self, work: LeaseKind) -> Option<()> {
        let (store, world) = (&self.gateway.api.store, &self.gateway.api.world);
        let leases = once(lease(store, work, world.clock.now(), 10))?.unwrap();
        for lease in &leases {
            match work {
                LeaseKind::Events => {
                    once(notify_merchant(self.gateway.api.scope(), lease))?.unwrap();
                }
                LeaseKind::Orders | LeaseKind::OrphanedCalls => {
                    once(poll_order(self.gateway.api.scope(), lease))?.unwrap();
                }
            }
        }
        Some(())
    }

    fn has_come_true(&self, request: CrashGoal) -> bool {
        let durable = self.gateway.durable_state();
        let Some(row) = durable.orders.values().next() else {
            return false;
        };
        let order = &row.order;
        match request {
            CrashGoal::Placed => true,
            CrashGoal::Chosen(institution) => order.live_attempt().is_some_and(|attempt| {
                attempt.institution.as_str() == institution
                    && attempt.state == AttemptState::Accepted
            }),
            CrashGoal::Paid(institution) => {
                order.state == OrderState::Paid
                    && self
                        .gateway
                        .at(institution, |books| books.undelivered().is_empty())
            }
            CrashGoal::Closed | CrashGoal::Expired => order.state == OrderState::Closed,
            CrashGoal::Notified => end(&durable, &self.gateway.network.parties()).is_ok(),
        }
    }
}

/// Stops at every durable step in turn until a journey completes; returns the number of steps.
fn stop_everywhere(requests: &[CrashGoal]) -> u64 {
    let mut steps = 0;
    for trouble in [InjectedFault::StopBefore, InjectedFault::StopAfter] {
        for at in 1.. {
            let mut journey = CrashRun::new(at, trouble);
            for request in requests {
                journey.bring_about(*request);
            }
            let durable = journey.gateway.durable_state();
            let parties = journey.gateway.network.parties();
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
        CrashGoal::Placed,
        CrashGoal::Chosen("bank"),
        CrashGoal::Paid("bank"),
        CrashGoal::Notified,
    ]);
    assert!(steps >= 14, "{steps}");
}

/// A2, A7, S1: a change of institution leads to one payment, wherever the process stops.
#[test]
fn a_change_of_institution_survives_a_stop_at_every_step() {
    let steps = stop_everywhere(&[
        CrashGoal::Placed,
        CrashGoal::Chosen("bank"),
        CrashGoal::Chosen("purse"),
        CrashGoal::Paid("purse"),
        CrashGoal::Notified,
    ]);
    assert!(steps >= 20, "{steps}");
}

/// V2, O3, S1, N1: a close, by the merchant or by expiry, closes at the institution and is
/// notified, wherever the process stops.
#[test]
fn an_end_survives_a_stop_at_every_step() {
    for end in [CrashGoal::Closed, CrashGoal::Expired] {
        let steps = stop_everywhere(&[
            CrashGoal::Placed,
            CrashGoal::Chosen("bank"),
            end,
            CrashGoal::Notified,
        ]);
        assert!(steps >= 12, "{steps}");
    }
}
