//! Refunds and revokes.

use super::client::UnionPayFieldList;
use super::{BACK, MORNING_S, QUERY, UnionPayTestbed};
use paymux::sandbox::{UnionPayCall, UnionPayFault};

const NUMBER: &str = "5GM20260101000001";
const REFUND: &str = "5GR20260101000001";

/// A refund is accepted, then carried out, then notified, and found by its own number and time.
#[tokio::test]
async fn a_refund_is_accepted_carried_out_and_notified() {
    let testbed = UnionPayTestbed::build().await;
    let query_id = testbed.paid(NUMBER, "1001").await;
    let refund = testbed
        .refund(REFUND, "301", &query_id)
        .with("reqReserved", "r1");
    let accepted = testbed.post(BACK, &refund).await;
    assert_eq!(
        (accepted.code(), accepted.fields.get("reqReserved")),
        ("00", "r1")
    );
    assert_eq!(accepted.fields.get("queryId"), "");
    testbed.acknowledged(REFUND, 1).await;
    let fields = UnionPayFieldList::of_form(&testbed.listener.forms().remove(1).body);
    assert_eq!(testbed.trust.check(&fields), Ok(()));
    for (name, value) in [
        ("txnType", "04"),
        ("orderId", REFUND),
        ("txnAmt", "301"),
        ("respCode", "00"),
        ("origQryId", &query_id),
        ("reqReserved", "r1"),
    ] {
        assert_eq!(fields.get(name), value, "{name}");
    }
    let found = testbed.query(REFUND).await;
    assert_eq!(
        (found.original(), found.fields.get("txnAmt")),
        ("00", "301")
    );
    assert_ne!(found.fields.get("queryId"), query_id);
    let books = testbed.unionpay.books();
    assert_eq!((books.taken_fen(), books.returned_fen()), (1_001, 301));
}

/// Several refunds, never more than was paid; a repeat is a duplicate and not a second refund.
#[tokio::test]
async fn refunds_stay_within_the_payment() {
    let testbed = UnionPayTestbed::build().await;
    let query_id = testbed.paid(NUMBER, "1001").await;
    let first = testbed.refund(REFUND, "501", &query_id);
    assert_eq!(testbed.post(BACK, &first).await.code(), "00");
    assert_eq!(testbed.post(BACK, &first).await.code(), "12");
    for (code, number, fen) in [
        ("36", "5GR20260101000002", "501"),
        ("00", "5GR20260101000003", "500"),
        ("36", "5GR20260101000004", "1"),
    ] {
        let answer = testbed
            .post(BACK, &testbed.refund(number, fen, &query_id))
            .await;
        assert_eq!(answer.code(), code, "{number}");
    }
    testbed.acknowledged("5GR20260101000003", 1).await;
    testbed.acknowledged(REFUND, 1).await;
    assert_eq!(testbed.unionpay.books().returned_fen(), 1_001);
}

/// A refund names its payment in one way, and fits it.
#[tokio::test]
async fn a_refund_fits_its_payment() {
    let testbed = UnionPayTestbed::build().await;
    let query_id = testbed.paid(NUMBER, "1001").await;
    testbed
        .post(BACK, &testbed.qr("5GM20260101000002", "100"))
        .await;
    let good = testbed.refund(REFUND, "1", &query_id);
    let by_number = |number: &str| {
        let refund = good
            .clone()
            .without("origQryId")
            .with("origOrderId", number);
        refund.with("origTxnTime", "20260101080000")
    };
    for (code, refund) in [
        (
            "35",
            good.clone().with("origQryId", "442601010800001999999"),
        ),
        ("10", good.clone().with("origQryId", "44260101080000199999")),
        ("13", good.clone().without("origQryId")),
        ("10", by_number(NUMBER).with("origQryId", &query_id)),
        ("10", by_number(NUMBER).with("bizType", "000201")),
        ("36", good.clone().with("bizType", "000201")),
        ("35", by_number("5GM20260101000002")),
        (
            "35",
            good.clone()
                .with("accessType", "0")
                .with("origQryId", "442601010800009999999"),
        ),
        ("00", by_number(NUMBER)),
    ] {
        assert_eq!(testbed.post(BACK, &refund).await.code(), code, "{refund:?}");
    }
}

/// A refund that was accepted can fail; its amount can be refunded again.
#[tokio::test]
async fn an_accepted_refund_can_fail() {
    let testbed = UnionPayTestbed::build().await;
    let query_id = testbed.paid(NUMBER, "1001").await;
    testbed
        .control
        .next_at(UnionPayCall::Refund, UnionPayFault::FailsLater, 1);
    let refund = testbed.refund(REFUND, "1001", &query_id);
    assert_eq!(testbed.post(BACK, &refund).await.code(), "00");
    testbed.acknowledged(REFUND, 1).await;
    assert_eq!(testbed.query(REFUND).await.original(), "01");
    let form = testbed.listener.forms().remove(1);
    assert_eq!(UnionPayFieldList::of_form(&form.body).get("respCode"), "01");
    let again = testbed.refund("5GR20260101000002", "1001", &query_id);
    assert_eq!(testbed.post(BACK, &again).await.code(), "00");
}

/// Answers 03, 04 and 05 leave the refund in place; the query tells its end.
#[tokio::test]
async fn an_open_answer_is_resolved_by_the_query() {
    let testbed = UnionPayTestbed::build().await;
    let query_id = testbed.paid(NUMBER, "1001").await;
    for code in ["03", "04", "05"] {
        let fault = UnionPayFault::ActsThenAnswers(code);
        testbed.control.next_at(UnionPayCall::Refund, fault, 1);
        let number = format!("5GR202601010000{code}");
        let refund = testbed.refund(&number, "100", &query_id);
        assert_eq!(testbed.post(BACK, &refund).await.code(), code);
        testbed.acknowledged(&number, 1).await;
        assert_eq!(testbed.query(&number).await.original(), "00");
    }
    testbed
        .control
        .next(UnionPayFault::ActsThenAnswers("05"), 1);
    assert_eq!(
        testbed.query(REFUND).await.code(),
        "34",
        "a refusal stays one"
    );
}

/// A revoke takes back all, on the day of the payment; afterwards there is nothing to refund.
#[tokio::test]
async fn a_revoke_takes_back_all_on_the_same_day() {
    let testbed = UnionPayTestbed::build().await;
    let query_id = testbed.paid(NUMBER, "1001").await;
    let revoke = |fen: &str| {
        let refund = testbed.refund(REFUND, fen, &query_id);
        refund.with("txnType", "31")
    };
    assert_eq!(testbed.post(BACK, &revoke("1000")).await.code(), "36");
    testbed.control.hold_clock(Some(MORNING_S + 15 * 3_600));
    assert_eq!(testbed.post(BACK, &revoke("1001")).await.code(), "35");
    testbed.control.hold_clock(Some(MORNING_S));
    assert_eq!(testbed.post(BACK, &revoke("1001")).await.code(), "00");
    testbed.acknowledged(REFUND, 1).await;
    let refund = testbed.refund("5GR20260101000002", "1", &query_id);
    assert_eq!(testbed.post(BACK, &refund).await.code(), "35");
    let query = UnionPayTestbed::query_of(REFUND);
    assert_eq!(testbed.post(QUERY, &query).await.original(), "00");
    assert_eq!(testbed.unionpay.books().returned_fen(), 1_001);
}
