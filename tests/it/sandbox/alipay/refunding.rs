//! Refunds: one effect for each number, a running total, gaps, and what can be asked when.

use paymux::sandbox::{AlipayAct, AlipayFault, AlipayStatus};
use serde_json::{Value, json};

use super::client::{AlipayTestbed, Answered, order};

const QUERY: &str = "alipay.trade.fastpay.refund.query";

fn asked(number: &str, sum: &str) -> Value {
    json!({ "out_trade_no": "A1", "refund_amount": sum, "out_request_no": number,
        "refund_reason": "partial refund" })
}

async fn refund(bed: &AlipayTestbed, number: &str, sum: &str) -> Answered {
    bed.call("alipay.trade.refund", &asked(number, sum)).await
}

async fn query(bed: &AlipayTestbed, number: &str) -> Answered {
    let biz = json!({ "out_trade_no": "A1", "out_request_no": number });
    bed.call(QUERY, &biz).await
}

/// The same number is the same refund; `refund_fee` is the total of all.
#[tokio::test]
async fn a_refund_number_has_one_effect_and_totals_run() {
    let bed = AlipayTestbed::build().await;
    bed.pay_by_qr("A1", "10.01").await;
    let first = refund(&bed, "R1", "3.01").await;
    assert_eq!(
        (first.text("fund_change"), first.text("refund_fee")),
        ("Y", "3.01")
    );
    assert!(first.is_signed && first.text("gmt_refund_pay") == "2026-01-01 08:00:00");
    let again = refund(&bed, "R1", "3.01").await;
    assert_eq!(
        (again.text("fund_change"), again.text("refund_fee")),
        ("N", "3.01")
    );
    let other = refund(&bed, "R1", "3.02").await;
    assert_eq!(other.outcome(), ("40004", "ACQ.DISCORDANT_REPEAT_REQUEST"));
    let soon = refund(&bed, "R2", "2.00").await;
    assert_eq!(soon.outcome(), ("40004", "ACQ.TRADE_NOT_ALLOW_REFUND"));
    bed.advance_s(3);
    let second = refund(&bed, "R2", "2.00").await;
    assert_eq!(
        (second.text("fund_change"), second.text("refund_fee")),
        ("Y", "5.01")
    );
    bed.advance_s(3);
    let more = refund(&bed, "R3", "5.01").await;
    assert_eq!(more.outcome().1, "ACQ.REASON_TRADE_REFUND_FEE_ERR");
    assert_eq!(bed.query("A1").await.text("trade_status"), "TRADE_SUCCESS");
    let rest = refund(&bed, "R3", "5.00").await;
    assert_eq!(rest.text("refund_fee"), "10.01");
    let closed = bed.query("A1").await;
    assert_eq!(
        (closed.text("trade_status"), closed.text("send_pay_date")),
        ("TRADE_CLOSED", "2026-01-01 08:00:00")
    );
    assert_eq!(bed.gateway.books().balance_fen(), 0);
}

/// A refund shows in a query after ten seconds, by itself and not as the total.
#[tokio::test]
async fn a_refund_shows_in_a_query_after_ten_seconds() {
    let bed = AlipayTestbed::build().await;
    bed.pay_by_qr("A1", "10.01").await;
    refund(&bed, "R1", "3.01").await;
    bed.advance_s(3);
    refund(&bed, "R2", "2.00").await;
    assert_eq!(query(&bed, "R1").await.outcome(), ("10000", ""));
    assert_eq!(
        query(&bed, "R1").await.text("refund_status"),
        "",
        "too early"
    );
    bed.advance_s(10);
    let shown = query(&bed, "R2").await;
    assert_eq!(
        (shown.text("refund_status"), shown.text("refund_amount")),
        ("REFUND_SUCCESS", "2.00")
    );
    assert_eq!(
        (shown.text("total_amount"), shown.text("refund_reason")),
        ("10.01", "partial refund")
    );
    assert_eq!(query(&bed, "R3").await.text("refund_status"), "");
    bed.control.next(AlipayFault::RefundHidden);
    assert_eq!(query(&bed, "R2").await.text("refund_status"), "");
    let nameless = bed.call(QUERY, &json!({ "out_trade_no": "A1" })).await;
    assert_eq!(nameless.outcome().1, "ACQ.INVALID_PARAMETER");
    let unknown = json!({ "out_trade_no": "A9", "out_request_no": "R1" });
    assert_eq!(
        bed.call(QUERY, &unknown).await.outcome().1,
        "ACQ.TRADE_NOT_EXIST"
    );
}

/// Without a number only the whole can be refunded, under the order's number.
#[tokio::test]
async fn a_refund_without_a_number_is_of_the_whole() {
    let bed = AlipayTestbed::build().await;
    bed.pay_by_qr("A1", "10.01").await;
    let without = |sum: &str| json!({ "out_trade_no": "A1", "refund_amount": sum });
    let part = bed.call("alipay.trade.refund", &without("3.00")).await;
    assert_eq!(part.outcome().1, "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL");
    let whole = bed.call("alipay.trade.refund", &without("10.01")).await;
    assert_eq!(whole.text("fund_change"), "Y");
    bed.advance_s(10);
    assert_eq!(
        query(&bed, "A1").await.text("refund_status"),
        "REFUND_SUCCESS"
    );
    let mut unlisted = asked("R1", "1.00");
    unlisted["notify_url"] = "https://a.example".into();
    let refused = bed.call("alipay.trade.refund", &unlisted).await;
    assert_eq!(refused.outcome().1, "ACQ.INVALID_PARAMETER");
}

/// Only paid trades are refunded, and only until they are finished.
#[tokio::test]
async fn what_is_not_paid_or_is_finished_is_not_refunded() {
    let bed = AlipayTestbed::build().await;
    assert_eq!(
        refund(&bed, "R1", "1.00").await.outcome().1,
        "ACQ.TRADE_NOT_EXIST"
    );
    let created = bed
        .create("alipay.trade.precreate", &order("A1", "10.01"))
        .await;
    bed.control.scan(created.text("qr_code"), AlipayAct::Open);
    assert_eq!(
        refund(&bed, "R1", "1.00").await.outcome().1,
        "ACQ.TRADE_STATUS_ERROR"
    );
    bed.control.confirm("A1", AlipayAct::Pay);
    assert!(bed.control.finish("A1"));
    assert_eq!(bed.query("A1").await.text("trade_status"), "TRADE_FINISHED");
    assert_eq!(
        refund(&bed, "R1", "1.00").await.outcome().1,
        "ACQ.TRADE_HAS_FINISHED"
    );
}

/// `fund_change` `N`: pending, or never received; the query tells neither from the other.
#[tokio::test]
async fn a_refund_that_moved_nothing_is_pending_or_lost() {
    let bed = AlipayTestbed::build().await;
    bed.pay_by_qr("A1", "10.01").await;
    bed.control.next(AlipayFault::RefundForgotten);
    assert_eq!(refund(&bed, "R1", "3.01").await.text("fund_change"), "N");
    bed.control.next(AlipayFault::RefundPending);
    let pending = refund(&bed, "R1", "3.01").await;
    assert_eq!(
        (pending.text("fund_change"), pending.text("refund_fee")),
        ("N", "0.00")
    );
    bed.advance_s(10);
    assert_eq!(query(&bed, "R1").await.text("refund_status"), "");
    assert_eq!(bed.gateway.books().balance_fen(), 1_001);
    let repeated = refund(&bed, "R1", "3.01").await;
    assert_eq!(repeated.text("fund_change"), "N");
    assert!(bed.control.complete_refund("A1", "R1"));
    assert!(!bed.control.complete_refund("A1", "R1"));
    assert_eq!(
        query(&bed, "R1").await.text("refund_status"),
        "REFUND_SUCCESS"
    );
    assert_eq!(bed.gateway.books().balance_fen(), 700);
}

/// A cancel closes what waits, returns what was paid, and can ask to be called again.
#[tokio::test]
async fn a_cancel_closes_or_returns_within_a_day() {
    let bed = AlipayTestbed::build().await;
    let cancel = "alipay.trade.cancel";
    let of = |number: &str| json!({ "out_trade_no": number });
    bed.pay_by_qr("A1", "10.01").await;
    bed.control.next(AlipayFault::CancelAgain);
    assert_eq!(bed.call(cancel, &of("A1")).await.text("retry_flag"), "Y");
    assert_eq!(bed.gateway.books().balance_fen(), 1_001);
    let returned = bed.call(cancel, &of("A1")).await;
    assert_eq!(
        (returned.text("retry_flag"), returned.text("action")),
        ("N", "refund")
    );
    assert_eq!(bed.gateway.books().balance_fen(), 0);
    assert_eq!(bed.call(cancel, &of("A1")).await.text("action"), "");

    let mut waits = order("C1", "1.00");
    waits["buyer_id"] = "2088102116773037".into();
    bed.create("alipay.trade.create", &waits).await;
    assert_eq!(bed.call(cancel, &of("C1")).await.text("action"), "close");
    assert_eq!(
        bed.gateway.books().trade("C1").unwrap().status,
        AlipayStatus::Closed
    );
    bed.pay_by_qr("A2", "1.00").await;
    bed.advance_s(86_400);
    let late = bed.call(cancel, &of("A2")).await;
    assert_eq!(late.outcome().1, "ACQ.REASON_TRADE_STATUS_INVALID");
}
