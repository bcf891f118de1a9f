//! Closes in the `wechatpay` dialect: two requests, of which the answer to the second counts.

use bytes::Bytes;
use http::Response;
use paymux::domain::attempt::AttemptState;
use paymux::domain::evidence::Finding;
use paymux::institution::{Call, Effect, Operation, Step};

use super::super::recorded::NOW_S;
use super::super::{reply_with, sent, stamp};
use super::{APP, MCHID, WechatRig, order_of, rig};

const NUMBER: &str = "A01KAMB7E80000000000000000A";
const UNKNOWN: &str = r#"{"code":"ORDER_NOT_EXIST"}"#;

/// The platform's text about a payment in this state.
fn text_of(state: &str) -> String {
    format!(
        r#"{{"appid":"{APP}","mchid":"{MCHID}","out_trade_no":"{NUMBER}","transaction_id":"42",
        "trade_state":"{state}","success_time":"2026-11-22T00:29:00+08:00",
        "amount":{{"total":1230,"currency":"CNY"}}}}"#
    )
}

fn unsigned(status: u16, body: &str) -> Response<Bytes> {
    reply_with(status, body.to_owned())
}

/// What a close proves; `None` for the answer to its second request if it must end with the first.
fn proves(rig: &WechatRig, close: &Response<Bytes>, query: Option<&Response<Bytes>>) -> Finding {
    let order = order_of("H5", AttemptState::Closing);
    assert_eq!(order.attempts[0].id.as_str(), NUMBER);
    let call = Call::new(Operation::Close, &order.attempts[0], &order.terms);
    let (request, state) = sent(rig, &call, &stamp(NOW_S));
    assert!(request.uri().path().ends_with("/close"));
    let step = rig.adapter.next(&call, &state, close, &stamp(NOW_S + 1));
    let step = match (step, query) {
        (Step::Send(second), Some(query)) => {
            assert_eq!(
                (second.request.method().as_str(), second.effect),
                ("GET", Effect::None)
            );
            assert!(second.request.uri().path().ends_with(NUMBER));
            rig.adapter
                .next(&call, &second.state, query, &stamp(NOW_S + 1))
        }
        (step, _) => step,
    };
    match step {
        Step::Done(evidence) => evidence.finding,
        Step::Send(_) | Step::Unmade(_) => panic!("the close goes on"),
    }
}

/// E4: whatever the close was answered, the query that follows it says whether it is closed.
#[test]
fn a_close_ends_in_the_query_that_follows_it() {
    let rig = rig();
    for (close, state, expected) in [
        (rig.reply(204, ""), "CLOSED", "E4 closed"),
        (
            rig.reply(400, r#"{"code":"ORDER_CLOSED"}"#),
            "CLOSED",
            "E4 closed",
        ),
        (unsigned(204, ""), "CLOSED", "E4 closed"),
        (unsigned(502, "<html>"), "CLOSED", "E4 closed"),
        (
            rig.reply(400, r#"{"code":"ORDERPAID"}"#),
            "SUCCESS",
            "E3 succeeded",
        ),
        (
            rig.reply(400, r#"{"code":"ORDER_PAID"}"#),
            "SUCCESS",
            "E3 succeeded",
        ),
        (rig.reply(204, ""), "SUCCESS", "E3 succeeded"),
        // Not closed yet, which is no refusal: it is asked to close again.
        (rig.reply(204, ""), "NOTPAY", "E5 no_answer"),
        (
            rig.reply(202, r#"{"code":"USER_PAYING"}"#),
            "USERPAYING",
            "E5 no_answer",
        ),
        (rig.reply(204, ""), "CLOSING", "E5 unlisted_word"),
    ] {
        let found = proves(&rig, &close, Some(&rig.reply(200, &text_of(state))));
        assert_eq!(found.class(), expected, "{} {state}", close.status());
        let query = unsigned(200, &text_of(state));
        let found = proves(&rig, &close, Some(&query));
        assert_eq!(found.class(), "E5 unproven", "{} {state}", close.status());
    }
}

/// A5: "not found" counts only after a close that the platform confirmed, with its signature.
#[test]
fn not_found_counts_only_after_a_confirmed_close() {
    let rig = rig();
    for (close, expected) in [
        (rig.reply(204, ""), "A5 not found"),
        (rig.reply(404, UNKNOWN), "A5 not found"),
        (unsigned(204, ""), "E5 no_answer"),
        (unsigned(404, UNKNOWN), "E5 no_answer"),
        (rig.reply(500, r#"{"code":"SYSTEM_ERROR"}"#), "E5 no_answer"),
        (rig.reply(400, r#"{"code":"PARAM_ERROR"}"#), "E5 no_answer"),
        (rig.reply(202, ""), "E5 no_answer"),
        (rig.reply(200, ""), "E5 no_answer"),
    ] {
        let found = proves(&rig, &close, Some(&rig.reply(404, UNKNOWN)));
        assert_eq!(found.class(), expected, "{}", close.status());
        let found = proves(&rig, &close, Some(&unsigned(404, UNKNOWN)));
        assert_eq!(found.class(), "E5 unproven", "{}", close.status());
    }
}

/// A close that was rejected before it was looked at is followed by nothing.
#[test]
fn a_rejected_close_is_followed_by_nothing() {
    let rig = rig();
    let (rate, signature) = (
        r#"{"code":"FREQUENCY_LIMITED"}"#,
        r#"{"code":"SIGN_ERROR"}"#,
    );
    for (close, expected) in [
        (rig.reply(429, rate), "E1 not executed REJECTED_RATE"),
        (
            rig.reply(401, signature),
            "E1 not executed REJECTED_SIGNATURE",
        ),
        (unsigned(429, rate), "E5 unproven"),
        (unsigned(401, signature), "E5 unproven"),
        (unsigned(429, ""), "E5 unproven"),
    ] {
        let found = proves(&rig, &close, None);
        assert_eq!(found.class(), expected, "{}", close.status());
    }
}
