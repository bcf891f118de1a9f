//! Refunds that no institution resolves are decided by two staff members, on the institution's own
//! statement.

use bytes::Bytes;
use http::Request;
use paymux::crypto::digest::sha256;
use paymux::domain::identifiers::hex;
use paymux::domain::refund::{DecisionIneffective, RefundState};
use paymux::flow::refunds::decide_refund::{
    DecisionOutcome, DecisionRefused, TARGET, decide_refund,
};
use paymux::signature::{Covering, sign_request};
use serde_json::json;

use super::{hold_and_payable, only, paid, refund};
use crate::world::enrolment::signer;
use crate::world::test_gateway::{TestGateway, now};

/// An order with a refund of 5.00 whose whole query schedule brought no reply.
fn awaiting_manual_review() -> TestGateway {
    let gateway = paid();
    gateway.at("bank", |books| books.behaviours.uses_unlisted_word = true);
    assert_eq!(refund(&gateway, "T1", "5", json!({})).status, 202);
    for _ in 0..100 {
        gateway.advance_s(86_400);
        gateway.poll_unresolved();
    }
    assert_eq!(only(&gateway, "T1").state, RefundState::Manual);
    gateway
}

/// A decision on that refund, signed by this key this many seconds ago.
fn decision(
    gateway: &TestGateway,
    key: &str,
    succeeded: bool,
    statement: &str,
    ago_s: i64,
) -> Request<Bytes> {
    let body = json!({
        "merchantId": "M1",
        "refundOrderNo": only(gateway, "T1").no.as_str(),
        "succeeded": succeeded,
        "statementSha256": hex(&sha256(statement.as_bytes())),
    });
    let mut request = Request::post(TARGET)
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_string()))
        .unwrap();
    let created_s = gateway.now_s() - ago_s;
    let covering = Covering {
        created_s,
        expires_s: Some(created_s + 300),
        nonce: Some("verdict-0123456789"),
    };
    sign_request(&mut request, TARGET, signer(key), &covering).unwrap();
    request
}

fn decide_on(
    gateway: &TestGateway,
    signed: &Request<Bytes>,
    statement: &str,
) -> Result<DecisionOutcome, DecisionRefused> {
    let statement = Bytes::copy_from_slice(statement.as_bytes());
    now(decide_refund(gateway.api.scope(), signed, statement))
}

/// With the statement it was signed for.
fn decide(
    gateway: &TestGateway,
    signed: &Request<Bytes>,
) -> Result<DecisionOutcome, DecisionRefused> {
    let names_a = String::from_utf8_lossy(signed.body()).contains(&hex(&sha256(b"a")));
    decide_on(gateway, signed, if names_a { "a" } else { "b" })
}

/// Section 5, L5, N1: one staff member is not enough, nor the same one twice, nor two who decide
/// differently; two who decide the same end the refund, the books follow, and the audit entry names
/// both and the statement.
#[test]
fn two_staff_members_who_decide_the_same_end_a_refund() {
    for succeeded in [true, false] {
        let gateway = awaiting_manual_review();
        let first = decision(&gateway, "anna-key", succeeded, "a", 0);
        assert_eq!(decide(&gateway, &first).unwrap(), DecisionOutcome::First);
        let again = decide(&gateway, &first).unwrap_err();
        assert!(
            matches!(
                again,
                DecisionRefused::Ineffective(DecisionIneffective::SameStaff)
            ),
            "{again}"
        );
        let otherwise = decision(&gateway, "ben-key", !succeeded, "a", 0);
        assert_eq!(
            decide(&gateway, &otherwise).unwrap(),
            DecisionOutcome::First
        );
        let elsewhere = decision(&gateway, "anna-key", !succeeded, "b", 0);
        assert_eq!(
            decide(&gateway, &elsewhere).unwrap(),
            DecisionOutcome::First
        );
        assert_eq!(only(&gateway, "T1").state, RefundState::Manual);
        assert_eq!(hold_and_payable(&gateway, "T1"), (500, 730));

        assert_eq!(decide(&gateway, &first).unwrap(), DecisionOutcome::First);
        let second = decision(&gateway, "ben-key", succeeded, "a", 0);
        let state = if succeeded {
            RefundState::Succeeded
        } else {
            RefundState::Failed
        };
        assert_eq!(
            decide(&gateway, &second).unwrap(),
            DecisionOutcome::Ended(state)
        );
        assert_eq!(only(&gateway, "T1").state, state);
        let payable = if succeeded { 730 } else { 1_230 };
        assert_eq!(hold_and_payable(&gateway, "T1"), (0, payable));
        let durable = gateway.durable_state();
        assert_eq!(durable.events.len(), 2);
        let audit_entry = &durable.audit_entries.last().unwrap().0;
        assert_eq!(audit_entry.actor, "staff:anna,ben");
        assert!(
            audit_entry.result.contains(&hex(&sha256(b"a"))),
            "{audit_entry:?}"
        );
        let archived = durable.inbox.iter().filter(|row| row.raw == b"a");
        assert_eq!(archived.count(), 1, "the statement is archived, once");
    }
}

/// Section 5: a decision that is not by an enrolled staff member, not recent, or about a refund not
/// under manual review changes nothing.
#[test]
fn a_decision_that_does_not_count_moves_nothing() {
    let gateway = awaiting_manual_review();
    let before = only(&gateway, "T1");
    for (key, ago_s) in [
        ("M1-key", 0),
        ("unknown", 0),
        ("platform", 0),
        ("anna-key", 400),
        ("anna-key", -60),
    ] {
        let refused = decide(&gateway, &decision(&gateway, key, true, "a", ago_s)).unwrap_err();
        assert!(
            matches!(refused, DecisionRefused::Unproven(_)),
            "{key}: {refused}"
        );
    }
    let mut altered = decision(&gateway, "anna-key", true, "a", 0);
    let body = String::from_utf8(altered.body().to_vec()).unwrap();
    *altered.body_mut() = body.replace("true", "false").into();
    assert!(matches!(
        decide(&gateway, &altered),
        Err(DecisionRefused::Unproven(_))
    ));
    let decision_a = decision(&gateway, "anna-key", true, "a", 0);
    let refused = decide_on(&gateway, &decision_a, "b").unwrap_err();
    assert!(
        matches!(refused, DecisionRefused::AnotherStatement { .. }),
        "{refused}"
    );
    assert_eq!(only(&gateway, "T1"), before);

    let gateway = paid();
    refund(&gateway, "T1", "5", json!({}));
    let refused = decide(&gateway, &decision(&gateway, "anna-key", false, "a", 0)).unwrap_err();
    assert!(
        matches!(
            refused,
            DecisionRefused::Ineffective(DecisionIneffective::NotManual)
        ),
        "{refused}"
    );
}
