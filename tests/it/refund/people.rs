//! What no institution answers, two operators decide, on the institution's own statement.

use bytes::Bytes;
use http::Request;
use paymux::crypto::digest::sha256;
use paymux::domain::identifiers::hex;
use paymux::domain::refund::{RefundState, Undecided};
use paymux::flow::refunds::decide_refund::{Decided, NotDecided, TARGET, decide_refund};
use paymux::signature::{Covering, sign_request};
use serde_json::json;

use super::{held_and_owed, only, paid, refund};
use crate::world::enrolment::signer;
use crate::world::town::{Town, now};

/// An order with a refund of 5.00 whose whole schedule brought no answer.
fn left_to_people() -> Town {
    let town = paid();
    town.at("bank", |books| books.manners.mumbles = true);
    assert_eq!(refund(&town, "T1", "5", json!({})).status, 202);
    for _ in 0..100 {
        town.pass_s(86_400);
        town.chase();
    }
    assert_eq!(only(&town, "T1").state, RefundState::Manual);
    town
}

/// A verdict on that refund, signed by this key so many seconds ago.
fn verdict(town: &Town, key: &str, succeeded: bool, statement: &str, ago_s: i64) -> Request<Bytes> {
    let body = json!({
        "merchantId": "M1",
        "refundOrderNo": only(town, "T1").no.as_str(),
        "succeeded": succeeded,
        "statementSha256": hex(&sha256(statement.as_bytes())),
    });
    let mut request = Request::post(TARGET)
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_string()))
        .unwrap();
    let created_s = town.now_s() - ago_s;
    let covering = Covering {
        created_s,
        expires_s: Some(created_s + 300),
        nonce: Some("verdict-0123456789"),
    };
    sign_request(&mut request, TARGET, signer(key), &covering).unwrap();
    request
}

fn decide_on(town: &Town, signed: &Request<Bytes>, statement: &str) -> Result<Decided, NotDecided> {
    let register = town.register();
    let statement = Bytes::copy_from_slice(statement.as_bytes());
    let (store, world) = (&*town.api.store, &town.api.world);
    now(decide_refund(store, world, &register, signed, statement))
}

/// With the statement it was signed for.
fn decide(town: &Town, signed: &Request<Bytes>) -> Result<Decided, NotDecided> {
    let names_a = String::from_utf8_lossy(signed.body()).contains(&hex(&sha256(b"a")));
    decide_on(town, signed, if names_a { "a" } else { "b" })
}

/// Section 5, L5, N1: one operator is not enough, nor the same one twice, nor two who do not find
/// the same; two who do end it, the books follow, and the record names both and the statement.
#[test]
fn two_operators_who_find_the_same_end_a_refund() {
    for succeeded in [true, false] {
        let town = left_to_people();
        let first = verdict(&town, "anna-key", succeeded, "a", 0);
        assert_eq!(decide(&town, &first).unwrap(), Decided::First);
        let again = decide(&town, &first).unwrap_err();
        assert!(
            matches!(again, NotDecided::Undecided(Undecided::SameOperator)),
            "{again}"
        );
        let otherwise = verdict(&town, "ben-key", !succeeded, "a", 0);
        assert_eq!(decide(&town, &otherwise).unwrap(), Decided::First);
        let elsewhere = verdict(&town, "anna-key", !succeeded, "b", 0);
        assert_eq!(decide(&town, &elsewhere).unwrap(), Decided::First);
        assert_eq!(only(&town, "T1").state, RefundState::Manual);
        assert_eq!(held_and_owed(&town, "T1"), (500, 730));

        assert_eq!(decide(&town, &first).unwrap(), Decided::First);
        let second = verdict(&town, "ben-key", succeeded, "a", 0);
        let state = if succeeded {
            RefundState::Succeeded
        } else {
            RefundState::Failed
        };
        assert_eq!(decide(&town, &second).unwrap(), Decided::Ended(state));
        assert_eq!(only(&town, "T1").state, state);
        let owed = if succeeded { 730 } else { 1_230 };
        assert_eq!(held_and_owed(&town, "T1"), (0, owed));
        let durable = town.snapshot();
        assert_eq!(durable.events.len(), 2);
        let deed = &durable.deeds.last().unwrap().0;
        assert_eq!(deed.actor, "operators:anna,ben");
        assert!(deed.result.contains(&hex(&sha256(b"a"))), "{deed:?}");
        let kept = durable.inbox.iter().filter(|row| row.raw == b"a");
        assert_eq!(kept.count(), 1, "the statement is kept, once");
    }
}

/// Section 5: a verdict that is not an enrolled operator's, or not of just now, or about what is
/// not left to people, moves nothing.
#[test]
fn a_verdict_that_does_not_count_moves_nothing() {
    let town = left_to_people();
    let before = only(&town, "T1");
    for (key, ago_s) in [
        ("M1-key", 0),
        ("stranger", 0),
        ("platform", 0),
        ("anna-key", 400),
        ("anna-key", -60),
    ] {
        let refused = decide(&town, &verdict(&town, key, true, "a", ago_s)).unwrap_err();
        assert!(
            matches!(refused, NotDecided::Unproven(_)),
            "{key}: {refused}"
        );
    }
    let mut altered = verdict(&town, "anna-key", true, "a", 0);
    let body = String::from_utf8(altered.body().to_vec()).unwrap();
    *altered.body_mut() = body.replace("true", "false").into();
    assert!(matches!(
        decide(&town, &altered),
        Err(NotDecided::Unproven(_))
    ));
    let verdict_a = verdict(&town, "anna-key", true, "a", 0);
    let refused = decide_on(&town, &verdict_a, "b").unwrap_err();
    assert!(
        matches!(refused, NotDecided::AnotherStatement { .. }),
        "{refused}"
    );
    assert_eq!(only(&town, "T1"), before);

    let town = paid();
    refund(&town, "T1", "5", json!({}));
    let refused = decide(&town, &verdict(&town, "anna-key", false, "a", 0)).unwrap_err();
    assert!(
        matches!(refused, NotDecided::Undecided(Undecided::NotManual)),
        "{refused}"
    );
}
