//! Signing with RSA is slow: it runs on other threads than the ones that answer, a few at a time,
//! with the same result.

use std::sync::Arc;

use http::Response;
use paymux::domain::identifiers::{AttemptId, Timestamp};
use paymux::flow::FlowScope;
use paymux::flow::answer::sign_answer;
use paymux::flow::call_institution::{CREATE_TIMEOUTS, SendOptions, call_institution, send_once};
use paymux::flow::configuration_snapshot::{DatedKey, PlatformIdentity, SigningKeys};
use paymux::flow::notify_merchant::{Delivery, notify_merchant};
use paymux::flow::receive_callback::receive_callback;
use paymux::institution::{Call, Callback, Operation, SigningParty, kind};
use paymux::signature::{
    Algorithm, Covering, Question, SigningKey, VerifyingKey, sign_request, verify_request,
    verify_response,
};
use paymux::store::LeaseKind;
use paymux::world::signing::SigningPool;

use super::*;
use crate::store::builders::lease;
use crate::world::enrolment::{ORIGIN, standard};
use crate::world::network::ScriptedOutcome;

fn pair(id: &str, algorithm: &str) -> (SigningKey, KeyRing) {
    let algorithm = Algorithm::parse(algorithm).unwrap();
    let (private, public) = SigningKey::generate(algorithm).unwrap();
    let ring = KeyRing::new(vec![EnrolledKey {
        id: id.into(),
        // Of a platform's key only the key matters; of an institution's its id counts (C1).
        owner: id.split('-').next().unwrap().into(),
        key: VerifyingKey::of_algorithm(algorithm, &public).unwrap(),
        not_before_s: 0,
        not_after_s: i64::MAX,
    }]);
    (
        SigningKey::from_pkcs8_pem(id, &private).unwrap(),
        ring.unwrap(),
    )
}

fn platform(signing: SigningKey) -> PlatformIdentity {
    PlatformIdentity {
        origin: ORIGIN.into(),
        signing: SigningKeys::always(signing),
        jwks: Bytes::new(),
    }
}

/// R-6.3.1-1b: whatever key signs, the reply is authentic and bound to its request.
#[tokio::test]
async fn a_reply_is_signed_with_any_key() {
    let (gateway, merchant) = (gateway(), key_of("ed25519"));
    let request = draft(&gateway, merchant).by(merchant);
    let target = format!("{ORIGIN}{PLACE}");
    let question = Question::of(&request, &target).unwrap();
    for algorithm in ["ed25519", "ecdsa-p256-sha256", "rsa-pss-sha512"] {
        let (key, ring) = pair("platform", algorithm);
        let mut answer = Response::builder()
            .status(202)
            .header("content-type", "application/json")
            .body(Bytes::from_static(b"{}"))
            .unwrap();
        sign_answer(
            &gateway.api.world.signing,
            &platform(key),
            &request,
            "sig",
            &mut answer,
            gateway.api.now(),
        )
        .await;
        let proven = verify_response(&answer, &question, &ring, gateway.now_s()).unwrap();
        assert_eq!(proven.algorithm.name(), algorithm);
        assert_eq!(
            (answer.status(), &answer.body()[..]),
            (202.try_into().unwrap(), &b"{}"[..])
        );
    }
}

/// R-6.3.1-1c: the next key signs replies from its first second on, without a reload, and the
/// previous one until then; when all have expired, nothing is signed any more.
#[tokio::test]
async fn a_key_signs_in_its_time() {
    let (gateway, merchant) = (gateway(), key_of("ed25519"));
    let request = draft(&gateway, merchant).by(merchant);
    let dated = |id: &str, from_s, until_s| DatedKey {
        from_s,
        until_s,
        key: Arc::new(pair(id, "ed25519").0),
    };
    let keys = vec![dated("next", 200, 300), dated("now", 0, 250)];
    let platform = PlatformIdentity {
        origin: ORIGIN.into(),
        signing: SigningKeys::of(keys, 100).unwrap(),
        jwks: Bytes::new(),
    };
    for (now_s, id) in [(199, "now"), (200, "next"), (300, "next"), (301, "")] {
        let mut answer = Response::new(Bytes::new());
        let json = "application/json".parse().unwrap();
        answer.headers_mut().insert("content-type", json);
        let now = Timestamp::from_s(now_s);
        let pool = &gateway.api.world.signing;
        sign_answer(pool, &platform, &request, "sig", &mut answer, now).await;
        let input = answer.headers().get("signature-input");
        let input = input.map_or("", |input| input.to_str().unwrap());
        let named = input.split("keyid=\"").nth(1);
        let named = named.map_or("", |rest| rest.split('"').next().unwrap());
        assert_eq!(named, id, "{now_s}: {input}");
    }
    assert!(SigningKeys::of(vec![dated("late", 200, 300)], 100).is_none());
}

/// A fast key signs in place, without a runtime, a task or a permit.
#[test]
fn a_fast_key_needs_no_permit() {
    let (gateway, merchant) = (gateway(), key_of("ed25519"));
    let request = draft(&gateway, merchant).by(merchant);
    for algorithm in ["ed25519", "ecdsa-p256-sha256"] {
        let (key, _) = pair("platform", algorithm);
        assert!(!key.is_slow());
        let mut answer = Response::new(Bytes::new());
        let json = "application/json".parse().unwrap();
        answer.headers_mut().insert("content-type", json);
        crate::world::test_gateway::now(sign_answer(
            &gateway.api.world.signing,
            &platform(key),
            &request,
            "sig",
            &mut answer,
            gateway.api.now(),
        ));
        assert!(answer.headers().contains_key("signature"));
    }
}

/// A slow key signs with a permit, on another thread: while none is free the reply waits, and other
/// tasks on its thread do not.
#[tokio::test]
async fn a_slow_key_signs_with_a_permit() {
    let (gateway, merchant) = (gateway(), key_of("ed25519"));
    let request = draft(&gateway, merchant).by(merchant);
    let (key, _) = pair("platform", "rsa-pss-sha512");
    assert!(key.is_slow());
    let pool = SigningPool::new(1);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let held = pool.place().await.unwrap();
    let platform = platform(key);
    let mut answer = Response::new(Bytes::new());
    let json = "application/json".parse().unwrap();
    answer.headers_mut().insert("content-type", json);
    let mut held = Box::pin(held.sign(move || wait.recv()));
    assert!(still_waits(held.as_mut()).await, "the pool is busy");
    let mut signing = Box::pin(sign_answer(
        &pool,
        &platform,
        &request,
        "sig",
        &mut answer,
        gateway.api.now(),
    ));
    for _ in 0..100 {
        // On this single thread: other tasks go on while it waits.
        let waits = still_waits(signing.as_mut()).await;
        assert!(waits, "it did not wait for its permit");
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    signing.await;
    assert!(answer.headers().contains_key("signature"));
}

/// Polls once; whether it is still pending.
async fn still_waits<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    std::future::poll_fn(|task| std::task::Poll::Ready(future.as_mut().poll(task).is_pending()))
        .await
}

/// R-6.3.1-1b, N3: a notification signed with a slow key.
#[tokio::test]
async fn a_slow_key_signs_notifications() {
    let gateway = TestGateway::with(&ONE);
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let id = gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    let (store, world) = (&gateway.api.store, &gateway.api.world);
    let leases = lease(store, LeaseKind::Events, world.clock.now(), 1).await;
    let (key, ring) = pair("platform", "rsa-pss-sha512");
    let lease = &leases.unwrap()[0];
    let mut signing = snapshot(&ONE);
    signing.platform = platform(key);
    let scope = FlowScope {
        snapshot: &signing,
        ..gateway.api.scope()
    };
    let delivery = notify_merchant(scope, lease).await;
    assert!(
        matches!(delivery, Ok(Delivery::Delivered(_))),
        "{delivery:?}"
    );
    let request = gateway.inbox(|inbox| inbox.requests[0].clone());
    let target = "https://m1.shop.example/paid";
    let proven = verify_request(&request, target, &ring, gateway.now_s()).unwrap();
    assert_eq!(proven.algorithm.name(), "rsa-pss-sha512");
}

/// R-6.3.1-1b, A1, C4: a call to an institution, and the reply to its callback.
#[tokio::test]
async fn a_slow_key_signs_what_institutions_get() {
    const ADDRESS: &str = "https://bank.example";
    let gateway = TestGateway::with(&ONE);
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let order = gateway.order("T1");
    let bank = order.attempts[0].institution.clone();
    let (ours, our_ring) = pair("paymux-bank", "rsa-pss-sha512");
    let (theirs, their_ring) = pair("shop-1", "ecdsa-p256-sha256");
    let dialect = kind("standard").unwrap();
    let attempt = &order.attempts[0];
    let numbers = (attempt.account.as_str(), attempt.receiver.as_str());
    let account = standard::account(numbers, ours, vec![their_ring.keys()[0].clone()]);
    let settings = standard::institution(bank.as_str(), [ADDRESS, ORIGIN], vec![account]);
    let adapter = (dialect.build)(settings).unwrap();
    let party = SigningParty::Account(&order.attempts[0].account);
    assert!(adapter.slow(party).is_some());

    let lost = ScriptedOutcome::NotSent;
    for (call, path) in [
        (
            Call::new(Operation::Create, &order.attempts[0], &order.terms),
            "/v1/orders",
        ),
        (
            Call::new(Operation::Query, &order.attempts[0], &order.terms),
            "/v1/orders/query",
        ),
        (
            Call::new(Operation::Close, &order.attempts[0], &order.terms),
            "/v1/orders/close",
        ),
    ] {
        gateway.network.parties().script.push_back(lost);
        let world = &gateway.api.world;
        if call.is_send() {
            let leave = SendOptions::at_once(None, world.sends.begin(&call.about()));
            send_once(world, &*adapter, &call, leave).await;
        } else {
            call_institution(world, &*adapter, &call, CREATE_TIMEOUTS).await;
        }
        let (_, request) = gateway.network.parties().sent.last().unwrap().clone();
        let target = format!("{ADDRESS}{path}");
        let proven = verify_request(&request, &target, &our_ring, gateway.now_s()).unwrap();
        assert_eq!(proven.algorithm.name(), "rsa-pss-sha512", "{path}");
    }

    let mut enrolled = snapshot(&ONE);
    enrolled.adapters.insert(bank.clone(), adapter);
    let target = format!("{ORIGIN}/v1/callbacks/bank");
    let nobodys = AttemptId::mint(Timestamp::from_ms(0), [7; 10]);
    let mut callback = Request::post("/v1/callbacks/bank")
        .header("content-type", "application/json")
        .body(Bytes::from(format!(
            "{{\"merchantOrderNo\":\"{nobodys}\"}}"
        )))
        .unwrap();
    let with = Covering {
        created_s: gateway.now_s(),
        expires_s: None,
        nonce: None,
    };
    sign_request(&mut callback, &target, &theirs, &with).unwrap();
    let question = Question::of(&callback, &target).unwrap();
    let scope = FlowScope {
        snapshot: &enrolled,
        ..gateway.api.scope()
    };
    let received = receive_callback(scope, &bank, Callback::of_institution(&callback)).await;
    let answer = received.unwrap().answer;
    verify_response(&answer, &question, &our_ring, gateway.now_s()).unwrap();
}
