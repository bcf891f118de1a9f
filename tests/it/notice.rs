//! The merchant is told (A3.3, X-4): fixed bytes, until it says that it heard.

mod events;

use std::sync::Arc;
use std::time::Duration;

use paymux::domain::identifiers::Timestamp;
use paymux::flow::notify_merchant::Delivery;
use paymux::flow::notify_merchant::notify_merchant;
use paymux::flow::register::{DatedKey, Signing};
use paymux::signature::verify_request;
use paymux::store::{Store, Work};
use serde_json::json;

use crate::world::books::Ability;
use crate::world::clock::START_MS;
use crate::world::enrolment::{platform_ring, register, signer};
use crate::world::inbox::{Inbox, Mood};
use crate::world::memory::EventFate;
use crate::world::network::Ending;
use crate::world::town::{Town, now};

/// The waits of the interface document, in seconds.
const WAITS_S: [i64; 18] = [
    1, 2, 5, 15, 30, 60, 180, 600, 1_200, 1_800, 1_800, 3_600, 10_800, 10_800, 10_800, 21_600,
    21_600, 86_400,
];

fn paid() -> Town {
    paid_in(Town::new())
}

fn paid_in(town: Town) -> Town {
    town.place("T1", json!({ "attach": "k=1" }));
    town.select("T1", "bank");
    let id = town.pay("T1", "bank");
    town.call_back("bank", &id);
    town
}

fn deliveries(inbox: &Inbox) -> usize {
    inbox.requests.len()
}

/// R-A3.3-1, R-A3.1-5, R-5.1.4-8, R-A2.4.1-7b, R-A2.5-6b, N8: ten fields go to the order's own address
/// at once, signed by the platform.
#[test]
fn the_merchant_is_told_of_its_payment() {
    let town = paid();
    let delivered = town.deliver();
    assert!(
        matches!(delivered[..], [Delivery::Delivered(_)]),
        "{delivered:?}"
    );
    let request = town.inbox(|inbox| inbox.requests[0].clone());
    let target = "https://m1.shop.example/paid";
    assert_eq!(request.uri().to_string(), target);
    let order = town.order("T1");
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
    let proven = verify_request(&request, target, &platform_ring(), town.now_s()).unwrap();
    assert_eq!(proven.owner, "platform");
    assert!(proven.nonce.is_some() && proven.expires_s.is_some());
    assert!(town.deliver().is_empty(), "told once");
}

/// R-6.3.1-1c: when the platform's key has ended, nothing is signed with it any more: the merchant is
/// told under the next one only, and answers are not signed.
#[test]
fn a_key_that_has_ended_tells_nobody() {
    let institutions = [("bank", Ability::ALL), ("purse", Ability::ALL)];
    let mut register = register(&institutions);
    let started_s = START_MS / 1_000;
    let dated = |from_s, until_s| DatedKey {
        from_s,
        until_s,
        key: Arc::new(signer("platform").clone()),
    };
    let keys = vec![dated(0, started_s + 60), dated(started_s + 600, i64::MAX)];
    register.platform.signing = Signing::of(keys, started_s).unwrap();
    let town = paid_in(Town::enrolled(&institutions, register));
    assert!(
        town.query("T1")
            .response
            .headers()
            .contains_key("signature")
    );
    town.pass_s(61);
    assert_eq!(town.deliver(), [Delivery::Again]);
    assert_eq!(town.inbox(|inbox| deliveries(inbox)), 0);
    let unsigned = town.query("T1");
    assert_eq!(unsigned.status, 200);
    assert!(!unsigned.response.headers().contains_key("signature"));
    town.pass_s(600);
    assert!(matches!(town.deliver()[..], [Delivery::Delivered(_)]));
}

/// N3: what is signed is the address as it goes over the wire: there an empty path is `/`.
#[test]
fn an_address_without_a_path_is_signed_as_it_is_called() {
    for (registered, called) in [
        ("https://m1.shop.example", "https://m1.shop.example/"),
        (
            "https://m1.shop.example?a=b",
            "https://m1.shop.example/?a=b",
        ),
    ] {
        let town = Town::new();
        town.place("T1", json!({ "bankReturnUrl": registered }));
        town.select("T1", "bank");
        let id = town.pay("T1", "bank");
        town.call_back("bank", &id);
        town.deliver();
        let request = town.inbox(|inbox| inbox.requests[0].clone());
        let proven = verify_request(&request, called, &platform_ring(), town.now_s());
        assert!(proven.is_ok(), "{registered}: {proven:?}");
    }
}

/// H1: a lack of ours is not the merchant's failure: it counts as no try, however long it lasts, and
/// gives no event up.
#[test]
fn a_shortage_of_ours_counts_as_no_try() {
    let town = paid();
    for _ in 0..40 {
        town.network.parties().script.push_back(Ending::Shortage);
        assert_eq!(town.deliver(), [Delivery::KeptBack]);
        town.pass_s(86_400);
    }
    let first = town.deliver();
    assert!(matches!(first[..], [Delivery::Delivered(_)]), "{first:?}");
    let tries = town.inbox(|inbox| inbox.requests[0].headers()["paymux-delivery"].clone());
    assert_eq!(tries, "1");
}

/// R-A3.3-2, N2, N3: whatever is not HTTP 2xx with SUCCESS is tried again with the same bytes and
/// the same id, signed anew.
#[test]
fn only_success_ends_delivery() {
    let town = paid();
    for mood in [Mood::Mutters, Mood::Stumbles, Mood::Contradicts] {
        town.inbox(|inbox| inbox.mood = mood);
        assert_eq!(town.deliver(), [Delivery::Again], "{mood:?}");
        town.pass_s(10);
    }
    for ending in [Ending::NotSent, Ending::LostAfter, Ending::FaultAfter] {
        town.network.parties().script.push_back(ending);
        assert_eq!(town.deliver(), [Delivery::Again], "{ending:?}");
        town.pass_s(200);
    }
    town.inbox(|inbox| inbox.mood = Mood::Hears);
    assert!(matches!(town.deliver()[..], [Delivery::Delivered(_)]));
    town.inbox(|inbox| {
        assert_eq!(inbox.notices.len(), 1);
        let nonces: std::collections::BTreeSet<_> = inbox
            .requests
            .iter()
            .map(|request| request.headers()["signature-input"].to_str().unwrap())
            .collect();
        assert_eq!(nonces.len(), deliveries(inbox), "signed anew each time");
    });
}

/// G-19, N2: the waits are those that were published; after seven days the event is dead, and
/// stays.
#[test]
fn deliveries_follow_the_published_schedule() {
    let town = paid();
    town.inbox(|inbox| inbox.mood = Mood::Stumbles);
    let born = town.clock.truth();
    for wait in WAITS_S {
        assert_eq!(town.deliver(), [Delivery::Again]);
        town.clock.pass(wait * 1_000 - 1);
        assert!(town.deliver().is_empty(), "before {wait} s are over");
        town.clock.pass(1);
    }
    let mut last = town.deliver();
    while last == [Delivery::Again] {
        town.pass_s(86_400);
        last = town.deliver();
    }
    assert_eq!(last, [Delivery::Dead]);
    assert!(town.clock.truth() - born <= 7 * 86_400_000);
    let durable = town.snapshot();
    assert!(
        durable
            .events
            .values()
            .all(|row| row.fate == EventFate::Dead)
    );
    town.pass_s(86_400);
    assert!(town.deliver().is_empty());
}

/// N2, T2: a clock that is thirty days ahead for one delivery, late in the schedule, ends nothing: how
/// often it was tried does.
#[test]
fn a_clock_ahead_gives_no_event_up() {
    let town = paid();
    town.inbox(|inbox| inbox.mood = Mood::Stumbles);
    for wait in WAITS_S {
        assert_eq!(town.deliver(), [Delivery::Again]);
        town.pass_s(wait);
    }
    town.clock.set_off(30 * 86_400_000);
    assert_eq!(town.deliver(), [Delivery::Again]);
    let (by, now) = (Duration::from_hours(30 * 24), town.clock.truth());
    town.clock.set_off(0);
    let forward = town.memory.bring_forward(Some(by), Timestamp::from_ms(now));
    assert_eq!(crate::world::town::now(forward), Ok(by));
    town.pass_s(86_400);
    town.inbox(|inbox| inbox.mood = Mood::Hears);
    assert!(matches!(town.deliver()[..], [Delivery::Delivered(_)]));
}

/// N6: a lease that was lost settles nothing; the event is delivered twice rather than never.
#[test]
fn a_lost_lease_can_repeat_and_not_lose() {
    let town = paid();
    let (store, world) = (&*town.api.store, &town.api.world);
    let register = town.register();
    let slow = now(store.lease(Work::Events, world.clock.now(), 1)).unwrap();
    assert!(town.deliver().is_empty(), "taken");
    town.pass_s(31);
    town.inbox(|inbox| inbox.mood = Mood::Stumbles);
    assert_eq!(town.deliver(), [Delivery::Again]);
    town.inbox(|inbox| inbox.mood = Mood::Hears);
    let told = now(notify_merchant(store, world, &register.platform, &slow[0])).unwrap();
    assert_eq!(told, Delivery::LeaseLost);
    town.pass_s(2);
    assert!(matches!(town.deliver()[..], [Delivery::Delivered(_)]));
    assert_eq!(town.inbox(|inbox| inbox.notices.len()), 1);
}

/// N7: a merchant that hears nothing delays nobody else.
#[test]
fn a_deaf_merchant_delays_nobody() {
    let town = Town::new();
    for n in 0..40 {
        town.place(&format!("D{n}"), json!({}));
        town.close(&format!("D{n}"));
    }
    town.inbox(|inbox| inbox.mood = Mood::Stumbles);
    let body = crate::world::enrolment::order_fields("M2", "T1");
    town.ask("M2", "/v1/orders", &body);
    let naming = json!({ "merchantId": "M2", "merchantOrderNo": "T1" });
    town.ask("M2", "/v1/orders/close", &naming);
    let delivered = town.deliver();
    let heard = delivered
        .iter()
        .filter(|one| matches!(one, Delivery::Delivered(_)));
    assert_eq!(heard.count(), 1, "{delivered:?}");
    assert_eq!(delivered.len(), 9);
}

/// N1: a closing is told at the enrolled address, not at `bankReturnUrl`, whose readers may know
/// the ten fields only; with no enrolled address it waits to be fetched.
#[test]
fn a_closing_is_told_elsewhere() {
    let town = Town::new();
    town.place("T1", json!({}));
    town.close("T1");
    town.deliver();
    town.inbox(|inbox| {
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

    let abilities = [("bank", crate::world::books::Ability::ALL)];
    let mut register = crate::world::enrolment::register(&abilities);
    for merchant in register.directory.merchants.values_mut() {
        merchant.notice_url = None;
    }
    let town = Town::enrolled(&abilities, register);
    town.place("T1", json!({}));
    town.close("T1");
    assert!(town.deliver().is_empty());
    assert_eq!(town.snapshot().events.len(), 1);
    assert_eq!(now(town.memory.next_due(Work::Events)), Ok(None));
}

/// N9: a later transition never changes the body of an earlier event.
#[test]
fn an_event_says_what_was_committed() {
    let town = paid();
    let before: Vec<_> = town
        .snapshot()
        .events
        .values()
        .map(|row| row.event.clone())
        .collect();
    town.place("T1", json!({ "attach": "k=1" }));
    town.close("T1");
    let after: Vec<_> = town
        .snapshot()
        .events
        .values()
        .map(|row| row.event.clone())
        .collect();
    assert_eq!(before, after);
}
