//! Merchants are notified (A3.3, X-4) with fixed bytes until they acknowledge.

mod events;

use std::sync::Arc;
use std::time::Duration;

use paymux::domain::identifiers::Timestamp;
use paymux::flow::configuration_snapshot::{DatedKey, SigningKeys};
use paymux::flow::notify_merchant::Delivery;
use paymux::flow::notify_merchant::notify_merchant;
use paymux::signature::verify_request;
use paymux::store::LeaseKind;
use serde_json::json;

use crate::store::builders::{lease, next_due};
use crate::world::clock::START_MS;
use crate::world::enrolment::{platform_ring, signer, snapshot};
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::fake_merchant::{FakeMerchant, FakeMerchantBehaviour};
use crate::world::memory::MemoryEventState;
use crate::world::network::ScriptedOutcome;
use crate::world::test_gateway::{TestGateway, now};

/// The retry delays of the interface document, in seconds.
const WAITS_S: [i64; 18] = [
    1, 2, 5, 15, 30, 60, 180, 600, 1_200, 1_800, 1_800, 3_600, 10_800, 10_800, 10_800, 21_600,
    21_600, 86_400,
];

fn paid() -> TestGateway {
    paid_in(TestGateway::new())
}

fn paid_in(gateway: TestGateway) -> TestGateway {
    gateway.place("T1", json!({ "attach": "k=1" }));
    gateway.select("T1", "bank");
    let id = gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    gateway
}

fn deliveries(inbox: &FakeMerchant) -> usize {
    inbox.requests.len()
}

/// R-A3.3-1, R-A3.1-5, R-5.1.4-8, R-A2.4.1-7b, R-A2.5-6b, N8: ten fields go to the order's own
/// address at once, signed by the platform.
#[test]
fn the_merchant_is_notified_of_its_payment() {
    let gateway = paid();
    let delivered = gateway.deliver();
    assert!(
        matches!(delivered[..], [Delivery::Delivered(_)]),
        "{delivered:?}"
    );
    let request = gateway.inbox(|inbox| inbox.requests[0].clone());
    let target = "https://m1.shop.example/paid";
    assert_eq!(request.uri().to_string(), target);
    let order = gateway.order("T1");
    let fields: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    for (field, value) in [
        ("merchantOrderNo", "T1"),
        ("merchantName", "Tea House"),
        ("orderDate", "20260925"),
        ("orderAmount", "12.30"),
        ("merchantId", "M1"),
        ("mobileNo", "13812345678"),
        ("paymentDate", "20260925"),
        ("paymentTime", "120000"),
        ("payOrderNo", order.no.as_str()),
        ("orderStatus", "PAID"),
        ("eventType", "ORDER_PAID"),
        ("currency", "CNY"),
        ("institutionId", "bank"),
        ("attach", "k=1"),
    ] {
        assert_eq!(fields[field], json!(value), "{field}");
    }
    assert_eq!(fields["version"], json!(order.version));
    let proven = verify_request(&request, target, &platform_ring(), gateway.now_s()).unwrap();
    assert_eq!(proven.owner, "platform");
    assert!(proven.nonce.is_some() && proven.expires_s.is_some());
    assert!(gateway.deliver().is_empty(), "notified once");
}

/// R-6.3.1-1c: an expired platform key signs nothing: the merchant is notified under the next key
/// only, and replies are not signed.
#[test]
fn an_expired_key_signs_no_notification() {
    let institutions = [
        ("bank", FakeInstitutionAbility::ALL),
        ("purse", FakeInstitutionAbility::ALL),
    ];
    let mut snapshot = snapshot(&institutions);
    let started_s = START_MS / 1_000;
    let dated = |from_s, until_s| DatedKey {
        from_s,
        until_s,
        key: Arc::new(signer("platform").clone()),
    };
    let keys = vec![dated(0, started_s + 60), dated(started_s + 600, i64::MAX)];
    snapshot.platform.signing = SigningKeys::of(keys, started_s).unwrap();
    let gateway = paid_in(TestGateway::enrolled(&institutions, snapshot));
    assert!(
        gateway
            .query("T1")
            .response
            .headers()
            .contains_key("signature")
    );
    gateway.advance_s(61);
    assert_eq!(gateway.deliver(), [Delivery::Again]);
    assert_eq!(gateway.inbox(|inbox| deliveries(inbox)), 0);
    let unsigned = gateway.query("T1");
    assert_eq!(unsigned.status, 200);
    assert!(!unsigned.response.headers().contains_key("signature"));
    gateway.advance_s(600);
    assert!(matches!(gateway.deliver()[..], [Delivery::Delivered(_)]));
}

/// N3: the signed address is the one on the wire, where an empty path is `/`.
#[test]
fn an_address_without_a_path_is_signed_as_it_is_called() {
    for (registered, called) in [
        ("https://m1.shop.example", "https://m1.shop.example/"),
        (
            "https://m1.shop.example?a=b",
            "https://m1.shop.example/?a=b",
        ),
    ] {
        let gateway = TestGateway::new();
        gateway.place("T1", json!({ "bankReturnUrl": registered }));
        gateway.select("T1", "bank");
        let id = gateway.pay("T1", "bank");
        gateway.call_back("bank", &id);
        gateway.deliver();
        let request = gateway.inbox(|inbox| inbox.requests[0].clone());
        let proven = verify_request(&request, called, &platform_ring(), gateway.now_s());
        assert!(proven.is_ok(), "{registered}: {proven:?}");
    }
}

/// H1: a shortage of ours is not the merchant's failure: it counts as no delivery attempt, however
/// long it lasts, and dead-letters nothing.
#[test]
fn a_shortage_of_ours_counts_as_no_attempt() {
    let gateway = paid();
    for _ in 0..40 {
        gateway
            .network
            .parties()
            .script
            .push_back(ScriptedOutcome::Shortage);
        assert_eq!(gateway.deliver(), [Delivery::Throttled]);
        gateway.advance_s(86_400);
    }
    let first = gateway.deliver();
    assert!(matches!(first[..], [Delivery::Delivered(_)]), "{first:?}");
    let tries = gateway.inbox(|inbox| inbox.requests[0].headers()["paymux-delivery"].clone());
    assert_eq!(tries, "1");
}

/// R-A3.3-2, N2, N3: any reply but HTTP 2xx with SUCCESS is retried with the same bytes and the
/// same id, signed anew.
#[test]
fn only_success_ends_delivery() {
    let gateway = paid();
    for behaviour in [
        FakeMerchantBehaviour::AnswersOtherWord,
        FakeMerchantBehaviour::ServerError,
        FakeMerchantBehaviour::NotFoundWithSuccess,
    ] {
        gateway.inbox(|inbox| inbox.behaviour = behaviour);
        assert_eq!(gateway.deliver(), [Delivery::Again], "{behaviour:?}");
        gateway.advance_s(10);
    }
    for ending in [
        ScriptedOutcome::NotSent,
        ScriptedOutcome::LostAfter,
        ScriptedOutcome::FaultAfter,
    ] {
        gateway.network.parties().script.push_back(ending);
        assert_eq!(gateway.deliver(), [Delivery::Again], "{ending:?}");
        gateway.advance_s(200);
    }
    gateway.inbox(|inbox| inbox.behaviour = FakeMerchantBehaviour::Acknowledges);
    assert!(matches!(gateway.deliver()[..], [Delivery::Delivered(_)]));
    gateway.inbox(|inbox| {
        assert_eq!(inbox.notices.len(), 1);
        let nonces: std::collections::BTreeSet<_> = inbox
            .requests
            .iter()
            .map(|request| request.headers()["signature-input"].to_str().unwrap())
            .collect();
        assert_eq!(nonces.len(), deliveries(inbox), "signed anew each time");
    });
}

/// G-19, N2: the retry delays are the published ones; after seven days the event is dead-lettered
/// and stays stored.
#[test]
fn deliveries_follow_the_published_schedule() {
    let gateway = paid();
    gateway.inbox(|inbox| inbox.behaviour = FakeMerchantBehaviour::ServerError);
    let born = gateway.clock.truth();
    for wait in WAITS_S {
        assert_eq!(gateway.deliver(), [Delivery::Again]);
        gateway.clock.pass(wait * 1_000 - 1);
        assert!(gateway.deliver().is_empty(), "before {wait} s are over");
        gateway.clock.pass(1);
    }
    let mut last = gateway.deliver();
    while last == [Delivery::Again] {
        gateway.advance_s(86_400);
        last = gateway.deliver();
    }
    assert_eq!(last, [Delivery::Dead]);
    assert!(gateway.clock.truth() - born <= 7 * 86_400_000);
    let durable = gateway.durable_state();
    assert!(
        durable
            .events
            .values()
            .all(|row| row.outcome == MemoryEventState::Dead)
    );
    gateway.advance_s(86_400);
    assert!(gateway.deliver().is_empty());
}

/// N2, T2: a clock that jumps thirty days ahead for one delivery, late in the schedule,
/// dead-letters nothing: the number of attempts decides.
#[test]
fn a_clock_ahead_dead_letters_no_event() {
    let gateway = paid();
    gateway.inbox(|inbox| inbox.behaviour = FakeMerchantBehaviour::ServerError);
    for wait in WAITS_S {
        assert_eq!(gateway.deliver(), [Delivery::Again]);
        gateway.advance_s(wait);
    }
    gateway.clock.set_off(30 * 86_400_000);
    assert_eq!(gateway.deliver(), [Delivery::Again]);
    let (by, now) = (Duration::from_hours(30 * 24), gateway.clock.truth());
    gateway.clock.set_off(0);
    let forward = gateway
        .api
        .store
        .nodes
        .bring_forward(Some(by), Timestamp::from_ms(now));
    assert_eq!(crate::world::test_gateway::now(forward), Ok(by));
    gateway.advance_s(86_400);
    gateway.inbox(|inbox| inbox.behaviour = FakeMerchantBehaviour::Acknowledges);
    assert!(matches!(gateway.deliver()[..], [Delivery::Delivered(_)]));
}

/// N6: a lost lease completes nothing; the event is delivered twice rather than never.
#[test]
fn a_lost_lease_repeats_and_does_not_lose() {
    let gateway = paid();
    let (store, world) = (&gateway.api.store, &gateway.api.world);
    let slow = now(lease(store, LeaseKind::Events, world.clock.now(), 1)).unwrap();
    assert!(gateway.deliver().is_empty(), "leased");
    gateway.advance_s(31);
    gateway.inbox(|inbox| inbox.behaviour = FakeMerchantBehaviour::ServerError);
    assert_eq!(gateway.deliver(), [Delivery::Again]);
    gateway.inbox(|inbox| inbox.behaviour = FakeMerchantBehaviour::Acknowledges);
    let delivery = now(notify_merchant(gateway.api.scope(), &slow[0])).unwrap();
    assert_eq!(delivery, Delivery::LeaseLost);
    gateway.advance_s(2);
    assert!(matches!(gateway.deliver()[..], [Delivery::Delivered(_)]));
    assert_eq!(gateway.inbox(|inbox| inbox.notices.len()), 1);
}

/// N7: a merchant that never acknowledges delays no other.
#[test]
fn a_merchant_that_never_acknowledges_delays_no_other() {
    let gateway = TestGateway::new();
    for n in 0..40 {
        gateway.place(&format!("D{n}"), json!({}));
        gateway.close(&format!("D{n}"));
    }
    gateway.inbox(|inbox| inbox.behaviour = FakeMerchantBehaviour::ServerError);
    let body = crate::world::enrolment::order_fields("M2", "T1");
    gateway.ask("M2", "/v1/orders", &body);
    let naming = json!({ "merchantId": "M2", "merchantOrderNo": "T1" });
    gateway.ask("M2", "/v1/orders/close", &naming);
    let delivered = gateway.deliver();
    let acknowledged = delivered
        .iter()
        .filter(|one| matches!(one, Delivery::Delivered(_)));
    assert_eq!(acknowledged.count(), 1, "{delivered:?}");
    assert_eq!(delivered.len(), 9);
}

/// N1: a close is notified to the enrolled address, not to `bankReturnUrl`, whose readers may know
/// the ten fields only; without an enrolled address the event waits to be fetched.
#[test]
fn a_close_is_notified_to_its_own_address() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.close("T1");
    gateway.deliver();
    gateway.inbox(|inbox| {
        let [request] = &inbox.requests[..] else {
            panic!("one notification");
        };
        assert_eq!(request.uri().path(), "/events");
        let notice = inbox.notices.values().next().unwrap().json();
        assert_eq!(notice["eventType"], json!("ORDER_CLOSED"));
        assert_eq!(notice["orderStatus"], json!("CLOSED"));
        assert_eq!(
            (&notice["paymentDate"], &notice["paymentTime"]),
            (&json!(""), &json!(""))
        );
    });

    let abilities = [(
        "bank",
        crate::world::fake_institution::FakeInstitutionAbility::ALL,
    )];
    let mut snapshot = crate::world::enrolment::snapshot(&abilities);
    for merchant in snapshot.routing.merchants.values_mut() {
        merchant.notice_url = None;
    }
    let gateway = TestGateway::enrolled(&abilities, snapshot);
    gateway.place("T1", json!({}));
    gateway.close("T1");
    assert!(gateway.deliver().is_empty());
    assert_eq!(gateway.durable_state().events.len(), 1);
    assert_eq!(
        now(next_due(&gateway.api.store, LeaseKind::Events)),
        Ok(None)
    );
}

/// N9: a later transition never changes the body of an earlier event.
#[test]
fn an_event_has_what_was_committed() {
    let gateway = paid();
    let before: Vec<_> = gateway
        .durable_state()
        .events
        .values()
        .map(|row| row.event.clone())
        .collect();
    gateway.place("T1", json!({ "attach": "k=1" }));
    gateway.close("T1");
    let after: Vec<_> = gateway
        .durable_state()
        .events
        .values()
        .map(|row| row.event.clone())
        .collect();
    assert_eq!(before, after);
}
