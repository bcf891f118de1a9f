//! How calls change an institution's health, and how new orders meet it: whole journeys.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use paymux::api::ApiResponse;
use paymux::domain::identifiers::{InstitutionId, MerchantId};
use paymux::domain::institutions::{CallEnd, CallPurpose, Health, HealthSettings};
use paymux::health::HealthTracker;
use paymux::world::{
    Clock, Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError,
};
use serde_json::json;

use super::{THREE, cut_off, id, listed};
use crate::world::clock::ManualClock;
use crate::world::network::ScriptedOutcome;
use crate::world::test_gateway::{PEER, TestGateway, TestReply, changed, naming};

fn bank_health(gateway: &TestGateway) -> Health {
    let world = &gateway.api.world;
    world.health.standing(&id("bank"), world.clock.now())
}

/// A new order that goes to the bank, while the network ends its calls like this.
fn create(gateway: &TestGateway, no: usize, ending: ScriptedOutcome) -> TestReply {
    gateway.network.parties().script = VecDeque::from([ending]);
    let reply = gateway.place(&format!("C{no}"), json!({ "institutionId": "bank" }));
    gateway.network.parties().script.clear();
    reply
}

/// Each way a call can end counts: no reply, faults, damaged replies and no connection against the
/// institution, refusals for it.
#[test]
fn each_way_a_call_ends_counts() {
    for (ending, calls, expected) in [
        (ScriptedOutcome::NotSent, 3, Health::Open),
        (ScriptedOutcome::LostBefore, 8, Health::Open),
        (ScriptedOutcome::LostAfter, 8, Health::Open),
        (ScriptedOutcome::FaultBefore, 8, Health::Open),
        (ScriptedOutcome::FaultAfter, 8, Health::Open),
        (ScriptedOutcome::Garbled, 8, Health::Open),
        (ScriptedOutcome::Answered, 20, Health::Healthy),
        (ScriptedOutcome::Twice, 20, Health::Healthy),
    ] {
        let gateway = TestGateway::with(&THREE);
        for no in 1..calls {
            create(&gateway, no, ending);
        }
        assert_eq!(bank_health(&gateway), Health::Healthy, "{ending:?}");
        create(&gateway, calls, ending);
        assert_eq!(bank_health(&gateway), expected, "{ending:?}");
    }
    let gateway = TestGateway::with(&THREE);
    gateway.at("bank", |books| books.behaviours.refuses = true);
    for no in 0..20 {
        assert_eq!(
            create(&gateway, no, ScriptedOutcome::Answered).text("result"),
            "REFUSED"
        );
    }
    assert_eq!(
        bank_health(&gateway),
        Health::Healthy,
        "a refusal is a reply"
    );
}

/// A merchant's query with a short timeout counts no silence; a worker's with a long one does.
#[test]
fn only_a_full_timeout_counts_as_no_reply() {
    let gateway = TestGateway::with(&THREE);
    gateway.place("T1", json!({ "institutionId": "bank" }));
    let doubted = |no: &str| {
        gateway.network.parties().script = VecDeque::from([ScriptedOutcome::LostAfter]);
        gateway.place(no, json!({ "institutionId": "bank" }));
    };
    doubted("T2");
    for _ in 0..20 {
        gateway.network.parties().script = VecDeque::from([ScriptedOutcome::LostBefore]);
        gateway.query("T2");
    }
    assert_eq!(bank_health(&gateway), Health::Healthy);
}

/// A call that we hold back ourselves does not count against the institution.
#[test]
fn a_call_held_back_is_not_counted_against_it() {
    struct ShortageNetwork;
    #[async_trait]
    impl Outbound for ShortageNetwork {
        async fn send(
            &self,
            _: &OutboundParty,
            _: Request<Bytes>,
            _: OutboundOptions,
        ) -> Result<Response<Bytes>, SendError> {
            Err(SendError::Throttled("its rate is used up".into()))
        }

        async fn permit(
            &self,
            _: &InstitutionId,
            _: &MerchantId,
        ) -> Result<Permit, PermitUnavailable> {
            Ok(Permit::free())
        }
    }
    let mut gateway = TestGateway::with(&THREE);
    gateway.api.world.outbound = Arc::new(ShortageNetwork);
    for no in 0..20 {
        let reply = gateway.place(&format!("T{no}"), json!({ "institutionId": "bank" }));
        assert_eq!(
            reply.text("result"),
            "REFUSED",
            "not sent: it may go elsewhere"
        );
    }
    assert_eq!(bank_health(&gateway), Health::Healthy);
}

/// Ineligible with its reason, half-open after the open interval, open to all again after one
/// reply.
#[test]
fn an_institution_that_fails_disappears_and_comes_back() {
    let gateway = TestGateway::with(&THREE);
    for no in 0..3 {
        create(&gateway, no, ScriptedOutcome::NotSent);
    }
    let explained = json!({ "explainInstitutions": true });
    let reply = gateway.place("T1", explained);
    let (name, reason) = listed(&reply).pop().unwrap();
    assert_eq!((&*name, &*reason), ("bank", "INSTITUTION_UNHEALTHY"));
    let reply = gateway.select("T1", "bank");
    assert_eq!(
        (reply.status, reply.result),
        (422, "institution_unavailable")
    );
    assert_eq!(reply.text("reason"), "INSTITUTION_UNHEALTHY");
    gateway.advance_s(5);
    assert_eq!(bank_health(&gateway), Health::HalfOpen);
    assert_eq!(gateway.select("T1", "bank").text("result"), "ACCEPTED");
    assert_eq!(bank_health(&gateway), Health::Healthy);
}

/// A worker's ordinary query may be a health probe: where nothing could be sent, its reply is
/// enough, and no payer has to try.
#[test]
fn a_workers_query_is_a_health_probe() {
    let gateway = TestGateway::with(&THREE);
    create(&gateway, 1, ScriptedOutcome::LostAfter);
    cut_off(&gateway.api.world.health, "bank", gateway.clock.now());
    gateway.advance_s(1);
    assert_eq!(gateway.poll_unresolved(), 1);
    assert_eq!(bank_health(&gateway), Health::Healthy);
}

type PendingAnswer<'a> = Pin<Box<dyn Future<Output = ApiResponse> + 'a>>;

fn poll(pending: &mut PendingAnswer<'_>) -> Poll<ApiResponse> {
    pending
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

/// Of sixty-four choices at once as many are sent as there are probe permits; the others are
/// refused with the reason and leave no attempt. After the first reply, the next is sent as to any
/// other institution.
#[test]
fn sixty_four_at_once_get_no_more_than_the_probe_permits() {
    let gateway = TestGateway::with(&THREE);
    let settings = HealthSettings {
        probes: 3,
        ..HealthSettings::default()
    };
    gateway.api.world.health.apply_settings(settings);
    let numbers: Vec<String> = (0..64).map(|no| format!("T{no}")).collect();
    for no in &numbers {
        gateway.place(no, json!({}));
    }
    cut_off(&gateway.api.world.health, "bank", gateway.clock.now());
    gateway.advance_s(5);
    gateway.network.parties().held = true;
    let mut pending: Vec<PendingAnswer<'_>> = numbers
        .iter()
        .map(|no| {
            let choice = changed(naming(no), json!({ "institutionId": "bank" }));
            let request = gateway.signed("M1", "/v1/orders/select", &choice);
            let pending: PendingAnswer<'_> = Box::pin(gateway.api.answer(request, PEER));
            pending
        })
        .collect();
    let mut results = Vec::new();
    pending.retain_mut(|one| match poll(one) {
        Poll::Ready(answer) => {
            results.push(answer.result);
            false
        }
        Poll::Pending => true,
    });
    assert_eq!((pending.len(), results.len()), (3, 61));
    assert!(results.iter().all(|it| *it == "institution_unavailable"));
    assert_eq!(gateway.network.parties().waiting.len(), 3);
    let begun = |no: &&String| !gateway.order(no).attempts.is_empty();
    assert_eq!(numbers.iter().filter(begun).count(), 3);
    assert_eq!(bank_health(&gateway), Health::Open, "every permit is taken");
    gateway.network.release(0, ScriptedOutcome::NotSent);
    assert!(poll(&mut pending[0]).is_ready());
    assert_eq!(bank_health(&gateway), Health::Open, "and one failed");
    drop(pending);
    assert_eq!(bank_health(&gateway), Health::Open);
    gateway.advance_s(10);
    assert_eq!(
        bank_health(&gateway),
        Health::HalfOpen,
        "abandoned permits are free"
    );
}

/// The same from sixty-four threads: permits are counted exactly, and returned.
#[test]
fn probe_permits_are_counted_exactly() {
    let clock = ManualClock::new();
    let health = HealthTracker::default();
    health.apply_settings(HealthSettings {
        probes: 5,
        ..HealthSettings::default()
    });
    cut_off(&health, "bank", clock.now());
    clock.pass(5_000);
    for _ in 0..20 {
        let start = Barrier::new(64);
        let passes: Vec<_> = thread::scope(|scope| {
            let enter = || {
                start.wait();
                health.enter(&id("bank"), clock.now())
            };
            let running: Vec<_> = (0..64).map(|_| scope.spawn(enter)).collect();
            running
                .into_iter()
                .filter_map(|one| one.join().unwrap())
                .collect()
        });
        assert_eq!(passes.len(), 5);
        drop(passes);
        let now = clock.now();
        assert_eq!(health.standing(&id("bank"), now), Health::HalfOpen);
    }
    let begun = health.begin(&id("bank"), clock.now());
    let (purpose, end) = (CallPurpose::Create, CallEnd::Answered);
    health.end(&id("bank"), begun, purpose, end, clock.now());
    let now = clock.now();
    assert_eq!(health.standing(&id("bank"), now), Health::Healthy);
}
