//! Notifications: genuine forms, eight times on the documented schedule, for the documented states.

use paymux::sandbox::{AlipayAct, AlipayFault};
use serde_json::json;

use super::client::{APP_ID, AlipayTestbed, SELLER_ID, encoded, is_genuine, order, order_of};
use super::inbox::NoticeForm;

/// When a notification is sent again, after the time before. Unit: seconds.
const PAUSES_S: [u64; 7] = [240, 600, 600, 3_600, 7_200, 21_600, 54_000];

fn of<'a>(form: &'a NoticeForm, name: &str) -> &'a str {
    form.get(name).map_or("", String::as_str)
}

/// Pays with an order string; closings and full refunds of apps are notified.
async fn paid_in_app(bed: &AlipayTestbed, number: &str) {
    let biz = order_of(number, "10.01", "QUICK_MSECURITY_PAY");
    let text = encoded(&bed.signed("alipay.trade.app.pay", &biz));
    bed.control.pay_order_string(&text, AlipayAct::Pay).unwrap();
    bed.noticed(number, 1).await;
}

/// Every documented field, unknown ones as well, signed without `sign` and `sign_type`; the
/// query of the address is no part of it.
#[tokio::test]
async fn a_payment_is_notified_with_signed_fields() {
    let bed = AlipayTestbed::build().await;
    let mut biz = order("A1", "10.01");
    biz["passback_params"] = "chatbot%3D1065%26s%3D1".into();
    let created = bed.create("alipay.trade.precreate", &biz).await;
    bed.control.scan(created.text("qr_code"), AlipayAct::Pay);
    bed.noticed("A1", 1).await;
    let forms = bed.inbox.forms();
    let form = &forms[0];
    assert!(is_genuine(form), "{form:?}");
    for (name, value) in [
        ("notify_type", "trade_status_sync"),
        ("app_id", APP_ID),
        ("auth_app_id", APP_ID),
        ("seller_id", SELLER_ID),
        ("out_trade_no", "A1"),
        ("trade_status", "TRADE_SUCCESS"),
        ("total_amount", "10.01"),
        ("subject", "5G消息-话费充值"),
        ("passback_params", "chatbot%3D1065%26s%3D1"),
        ("gmt_payment", "2026-01-01 08:00:00"),
        ("refund_fee", ""),
        ("tenant", ""),
    ] {
        assert_eq!(of(form, name), value, "{name}");
    }
    assert_eq!(of(form, "notify_id").len(), 34);
    assert!(
        form.contains_key("channel_remark"),
        "fields appear without warning"
    );
}

/// Only the seven characters with status 200 are an acknowledgement; anything else is repeated
/// under the same `notify_id`, eight times in all.
#[tokio::test]
async fn a_notification_is_repeated_until_exactly_success() {
    let bed = AlipayTestbed::build().await;
    bed.inbox.answer(&[
        (200, "SUCCESS"),
        (200, "success\n"),
        (200, "\"success\""),
        (200, "<html>success</html>"),
        (201, "success"),
        (302, "success"),
        (500, "success"),
        (200, "fail"),
    ]);
    let created = bed
        .create("alipay.trade.precreate", &order("A1", "10.01"))
        .await;
    bed.control.scan(created.text("qr_code"), AlipayAct::Pay);
    bed.sent("A1", 1).await;
    for (times, pause) in (2..).zip(PAUSES_S) {
        bed.advance_s(pause - 1);
        assert_eq!(bed.gateway.books().trade("A1").unwrap().notices, times - 1);
        bed.advance_s(1);
        bed.sent("A1", times).await;
    }
    let forms = bed.inbox.forms();
    assert_eq!(forms.len(), 8);
    assert!(forms.iter().all(is_genuine));
    assert!(
        forms
            .iter()
            .all(|form| form["notify_id"] == forms[0]["notify_id"])
    );
    assert_ne!(forms[7]["notify_time"], forms[0]["notify_time"]);
    bed.advance_s(1_000_000);
    assert_eq!(bed.gateway.books().trade("A1").unwrap().acknowledged, 0);
    bed.pay_by_qr("A2", "1.00").await;
    assert_eq!(bed.inbox.forms().len(), 9, "nothing more of the first");
}

/// A partial refund is notified as a second `TRADE_SUCCESS` with the running total; a full one
/// only for app and wap.
#[tokio::test]
async fn refunds_are_notified_as_the_product_is() {
    let bed = AlipayTestbed::build().await;
    let refund = |order: &str, number: &str, sum: &str| json!({ "out_trade_no": order, "refund_amount": sum, "out_request_no": number });
    bed.pay_by_qr("Q1", "10.01").await;
    paid_in_app(&bed, "P1").await;
    for order in ["Q1", "P1"] {
        for (number, sum) in [("R1", "3.01"), ("R2", "2.00")] {
            bed.call("alipay.trade.refund", &refund(order, number, sum))
                .await;
            bed.advance_s(3);
        }
        bed.noticed(order, 3).await;
    }
    bed.call("alipay.trade.refund", &refund("Q1", "R3", "5.00"))
        .await;
    bed.call("alipay.trade.refund", &refund("P1", "R3", "5.00"))
        .await;
    bed.noticed("P1", 4).await;
    let forms = bed.inbox.forms();
    let notified: Vec<[&str; 4]> = forms
        .iter()
        .filter(|form| form.contains_key("out_biz_no"))
        .map(|form| {
            ["out_trade_no", "trade_status", "out_biz_no", "refund_fee"].map(|name| of(form, name))
        })
        .collect();
    for order in ["Q1", "P1"] {
        assert!(
            notified.contains(&[order, "TRADE_SUCCESS", "R1", "3.01"]),
            "{notified:?}"
        );
        assert!(
            notified.contains(&[order, "TRADE_SUCCESS", "R2", "5.01"]),
            "{notified:?}"
        );
    }
    assert!(
        notified.contains(&["P1", "TRADE_CLOSED", "R3", "10.01"]),
        "{notified:?}"
    );
    assert_eq!(notified.len(), 5, "{notified:?}");
    assert!(forms.iter().all(is_genuine));
    let moment = forms
        .iter()
        .find_map(|form| form.get("gmt_refund"))
        .unwrap();
    assert_eq!(moment.len(), "2026-01-01 09:00:05.123".len());
}

/// App and wap payments that end unpaid are notified, by a close and by their deadline; those of
/// a code are not, and waiting never is.
#[tokio::test]
async fn unpaid_ends_are_notified_for_apps_only() {
    let bed = AlipayTestbed::build().await;
    let open = |number: &str| {
        let mut biz = order_of(number, "1.00", "QUICK_MSECURITY_PAY");
        biz["timeout_express"] = "3m".into();
        let text = encoded(&bed.signed("alipay.trade.app.pay", &biz));
        bed.control
            .pay_order_string(&text, AlipayAct::Open)
            .unwrap();
    };
    open("P1");
    open("P2");
    let created = bed
        .create("alipay.trade.precreate", &order("Q1", "1.00"))
        .await;
    bed.control.scan(created.text("qr_code"), AlipayAct::Open);
    for number in ["P1", "Q1"] {
        let closed = bed
            .call("alipay.trade.close", &json!({ "out_trade_no": number }))
            .await;
        assert_eq!(closed.outcome(), ("10000", ""));
    }
    bed.noticed("P1", 1).await;
    bed.advance_s(180);
    bed.noticed("P2", 1).await;
    paid_in_app(&bed, "P3").await;
    assert!(bed.control.finish("P3"));
    bed.noticed("P3", 2).await;
    let forms = bed.inbox.forms();
    let notified: Vec<_> = forms
        .iter()
        .map(|form| (of(form, "out_trade_no"), of(form, "trade_status")))
        .collect();
    assert_eq!(
        notified,
        [
            ("P1", "TRADE_CLOSED"),
            ("P2", "TRADE_CLOSED"),
            ("P3", "TRADE_SUCCESS"),
            ("P3", "TRADE_FINISHED")
        ]
    );
    assert_eq!(
        (of(&forms[0], "gmt_payment"), of(&forms[0], "refund_fee")),
        ("", "")
    );
    assert_eq!(of(&forms[1], "gmt_close"), "2026-01-01 08:03:00");
}

/// Notifications lie, come twice, at once, early or never, when ordered; the books stay true.
#[tokio::test]
async fn notifications_go_wrong_when_ordered() {
    let bed = AlipayTestbed::build().await;
    for (number, fault, times) in [
        ("A1", AlipayFault::NoticeWrongAmount, 2),
        ("A2", AlipayFault::NoticeWrongSeller, 2),
        ("A3", AlipayFault::NoticeForged, 2),
        ("A4", AlipayFault::NoticeTwice, 2),
        ("A5", AlipayFault::NoticeConcurrent, 2),
    ] {
        bed.control.next(fault);
        bed.pay_by_qr(number, "10.01").await;
        bed.noticed(number, times).await;
    }
    let forms = bed.inbox.forms();
    assert_eq!(forms.len(), 10);
    let genuine: Vec<bool> = forms.iter().map(is_genuine).collect();
    assert_eq!(genuine.iter().filter(|genuine| !**genuine).count(), 1);
    assert!(!genuine[4], "the first of the third is forged");
    assert_eq!(
        (of(&forms[0], "total_amount"), of(&forms[1], "total_amount")),
        ("99999.99", "10.01")
    );
    assert_eq!(
        (of(&forms[2], "seller_id"), of(&forms[3], "seller_id")),
        ("2088000000000000", SELLER_ID)
    );
    bed.control.next(AlipayFault::NoticeLost);
    let created = bed
        .create("alipay.trade.precreate", &order("A6", "1.00"))
        .await;
    bed.control.scan(created.text("qr_code"), AlipayAct::Pay);
    bed.control.next(AlipayFault::PaidEarly);
    bed.create("alipay.trade.precreate", &order("A7", "1.00"))
        .await;
    let forms = bed.inbox.forms();
    assert_eq!((forms.len(), of(&forms[10], "out_trade_no")), (11, "A7"));
    assert_eq!(bed.query("A6").await.text("trade_status"), "TRADE_SUCCESS");
    assert_eq!(bed.gateway.books().balance_fen(), 5 * 1_001 + 200);
}
