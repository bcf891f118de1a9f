//! Answers go wrong when ordered: before or after the call was carried out, signed or not.

use paymux::sandbox::{AlipayAct, AlipayFault, AlipayKey, AlipaySteered};
use serde_json::{Value, json};

use super::client::{AlipayTestbed, order, vectors};

const REFUND: &str = "alipay.trade.refund";

fn asked(number: &str) -> Value {
    json!({ "out_trade_no": "A1", "refund_amount": "1.00", "out_request_no": number })
}

fn ordered(fault: AlipayFault, code: &str, sub_code: &str) -> AlipaySteered {
    AlipaySteered {
        method: Some(REFUND.to_owned()),
        code: code.to_owned(),
        sub_code: sub_code.to_owned(),
        ..AlipaySteered::once(fault)
    }
}

/// Any documented code can be ordered, without and after an effect, signed and unsigned.
#[tokio::test]
async fn every_code_comes_when_ordered() {
    let bed = AlipayTestbed::build().await;
    bed.pay_by_qr("A1", "100.00").await;
    for (code, sub_codes) in paymux::sandbox::ALIPAY_CODES {
        for sub_code in sub_codes {
            bed.control
                .order(ordered(AlipayFault::Refuses, code, sub_code));
            assert_eq!(
                bed.query("A1").await.outcome(),
                ("10000", ""),
                "other methods are not"
            );
            let refused = bed.call(REFUND, &asked("R1")).await;
            assert_eq!(refused.outcome(), (code, *sub_code));
            assert!(refused.is_signed && refused.is_of_method);
        }
    }
    assert_eq!(
        bed.gateway.books().balance_fen(),
        10_000,
        "nothing was carried out"
    );
    bed.control.order(ordered(
        AlipayFault::RefusesUnsigned,
        "20000",
        "isp.unknow-error",
    ));
    let unsigned = bed.call(REFUND, &asked("R1")).await;
    assert_eq!(unsigned.outcome(), ("20000", "isp.unknow-error"));
    assert!(
        !unsigned.is_signed && !unsigned.is_of_method,
        "{}",
        unsigned.body
    );
    assert_eq!(bed.gateway.books().balance_fen(), 10_000);
    for (number, code, sub_code) in [
        ("R1", "20000", "aop.unknow-error"),
        ("R2", "40004", "ACQ.SYSTEM_ERROR"),
    ] {
        bed.control
            .order(ordered(AlipayFault::ActsThenRefuses, code, sub_code));
        assert_eq!(
            bed.call(REFUND, &asked(number)).await.outcome(),
            (code, sub_code)
        );
        bed.advance_s(3);
    }
    assert_eq!(
        bed.gateway.books().balance_fen(),
        9_800,
        "both were carried out"
    );
    let repeated = bed.call(REFUND, &asked("R1")).await;
    assert_eq!(
        repeated.text("fund_change"),
        "N",
        "a repeat finds the effect"
    );
}

/// Connections break before or after the effect; pages come instead of answers.
#[tokio::test]
async fn answers_get_lost_before_and_after_the_effect() {
    let bed = AlipayTestbed::build().await;
    bed.pay_by_qr("A1", "100.00").await;
    let mut balance = 10_000;
    for (fault, number, moved) in [
        (AlipayFault::RequestLost, "R1", 0),
        (AlipayFault::AnswerLost, "R2", 100),
        (AlipayFault::NoAnswer, "R3", 100),
    ] {
        bed.control.order(ordered(fault, "", ""));
        let form = super::client::encoded(&bed.sign(bed.unsigned(REFUND, &asked(number))));
        let lost = bed.send_raw(http::Method::POST, "", &form).await;
        assert!(lost.is_err(), "{fault:?}");
        balance -= moved;
        assert_eq!(bed.gateway.books().balance_fen(), balance, "{fault:?}");
        bed.advance_s(3);
    }
    bed.control.order(ordered(AlipayFault::HtmlPage, "", ""));
    let page = bed.call(REFUND, &asked("R4")).await;
    assert!(page.node.is_null() && page.body.starts_with("<html>"));
    assert_eq!(bed.gateway.books().balance_fen(), balance);
    bed.control.order(ordered(AlipayFault::SlowAnswer, "", ""));
    let slow = bed.call(REFUND, &asked("R4")).await;
    assert_eq!(slow.text("fund_change"), "Y");
}

/// Forged and unsigned answers, words and amounts that are not in the books.
#[tokio::test]
async fn answers_lie_when_ordered() {
    let bed = AlipayTestbed::build().await;
    bed.pay_by_qr("A1", "10.01").await;
    for fault in [AlipayFault::ForgedAnswer, AlipayFault::UnsignedAnswer] {
        bed.control.next(fault);
        let answer = bed.query("A1").await;
        assert_eq!(answer.text("trade_status"), "TRADE_SUCCESS");
        assert!(!answer.is_signed && answer.is_of_method);
    }
    bed.control.next(AlipayFault::UnlistedStatus);
    let answer = bed.query("A1").await;
    assert_eq!(
        (answer.text("trade_status"), answer.is_signed),
        ("TRADE_SETTLING", true)
    );
    bed.control.next(AlipayFault::WrongAmountAnswer);
    let answer = bed.query("A1").await;
    assert_eq!(
        (answer.text("total_amount"), answer.is_signed),
        ("99999.99", true)
    );
    assert_eq!(bed.query("A1").await.text("total_amount"), "10.01");
}

/// The order of an answer's members is not promised.
#[tokio::test]
async fn members_change_their_order() {
    let bed = AlipayTestbed::build().await;
    bed.pay_by_qr("A1", "10.01").await;
    let mut firsts = Vec::new();
    for _ in 0..2 {
        let answer = bed.query("A1").await;
        assert!(answer.is_signed);
        firsts.push(answer.body.starts_with("{\"sign\""));
    }
    firsts.sort_unstable();
    assert_eq!(firsts, [false, true]);
}

/// The gateway switches its key while it runs: answers and notifications follow at once, and the
/// old certificate can still be had.
#[tokio::test]
async fn a_key_is_switched_while_running() {
    let bed = AlipayTestbed::build().await;
    assert!(bed.query("A1").await.is_signed);
    let other = vectors()["app_private"].as_str().unwrap().to_owned();
    let key = AlipayKey {
        private_key: other,
        certificate: None,
    };
    bed.control.switch_key(&key).unwrap();
    assert!(
        !bed.query("A1").await.is_signed,
        "it is another key's signature"
    );
    let created = bed
        .create("alipay.trade.precreate", &order("A2", "1.00"))
        .await;
    bed.control.scan(created.text("qr_code"), AlipayAct::Pay);
    bed.noticed("A2", 1).await;
    let form = &bed.inbox.forms()[0];
    assert!(!super::client::is_genuine(form));
    let text = super::client::covered(form, &["sign", "sign_type"]);
    let new = super::client::public_key("app_public");
    assert!(super::client::verified(&new, &text, &form["sign"]));
    let useless = AlipayKey {
        private_key: "AAAA".to_owned(),
        certificate: None,
    };
    assert!(bed.control.switch_key(&useless).is_err());
}

/// The control interface over HTTP: the same operations, for callers on this machine.
#[tokio::test]
async fn the_control_interface_answers_over_http() {
    let bed = AlipayTestbed::build().await;
    let faults = bed
        .gateway
        .gateway_url()
        .replace("/gateway.do", "/control/faults");
    let faults = bed.get(&faults, None).await.json;
    assert_eq!(faults["faults"].as_array().unwrap().len(), 24);
    let created = bed
        .create("alipay.trade.precreate", &order("A1", "10.01"))
        .await;
    let scan = json!({ "qrCode": created.text("qr_code") });
    let answer = bed.post_control("scan", &scan).await;
    assert_eq!(answer.text("resultStatus"), "9000");
    let answer = bed.post_control("scan", &scan).await;
    assert_eq!(
        (answer.text("resultStatus"), answer.text("subCode")),
        ("5000", "ACQ.TRADE_HAS_SUCCESS")
    );
    let next = json!({ "fault": "refuses", "method": "alipay.trade.query", "code": "40006",
        "subCode": "isv.insufficient-isv-permissions" });
    assert_eq!(bed.post_control("next", &next).await.status, 200);
    assert_eq!(
        bed.query("A1").await.outcome(),
        ("40006", "isv.insufficient-isv-permissions")
    );
    let before = bed.control.now_ms();
    bed.post_control("clock", &json!({ "seconds": 60 })).await;
    assert_eq!(bed.control.now_ms(), before + 60_000);
    for (operation, body) in [
        ("next", json!({ "fault": "no such fault" })),
        ("next", json!({ "unknown": 1 })),
        ("scan", json!({ "qrCode": "x", "outcome": "no such act" })),
        ("order-string", json!({ "orderString": "a=1" })),
        ("key", json!({ "privateKey": "AAAA" })),
    ] {
        assert_eq!(
            bed.post_control(operation, &body).await.status,
            400,
            "{operation} {body}"
        );
    }
    assert_eq!(bed.post_control("nothing", &json!({})).await.status, 404);
    let books = bed
        .gateway
        .gateway_url()
        .replace("/gateway.do", "/control/books");
    let books = bed.get(&books, None).await.json;
    assert_eq!(books["trades"][0]["tradeStatus"], "TRADE_SUCCESS");
    assert_eq!(books["balance"], "10.01");
}
