//! How payments come into being: only when a payer acts, once for each number, until a deadline.

use http::Method;
use paymux::sandbox::{AlipayAct, AlipayActed, AlipayFault, AlipayStatus};
use serde_json::{Value, json};

use super::client::{
    AlipayTestbed, Form, covered, encoded, order, order_of, public_key, vectors, verified,
};

const WAP: &str = "alipay.trade.wap.pay";
const PAGE: &str = "alipay.trade.page.pay";
const PRECREATE: &str = "alipay.trade.precreate";
const CREATE: &str = "alipay.trade.create";
const PAY: &str = "alipay.trade.pay";

/// The signed address to which a browser is sent.
fn address(bed: &AlipayTestbed, method: &str, biz: &Value, return_url: &str) -> String {
    let mut form = bed.unsigned(method, biz);
    form.insert("notify_url".to_owned(), bed.inbox.url());
    form.insert("return_url".to_owned(), return_url.to_owned());
    format!("{}?{}", bed.gateway.gateway_url(), encoded(&bed.sign(form)))
}

fn of_create(number: &str) -> Value {
    let mut biz = order(number, "10.01");
    biz["buyer_id"] = "2088102116773037".into();
    biz
}

fn of_code(number: &str, auth_code: &str) -> Value {
    let mut biz = order_of(number, "10.01", "FACE_TO_FACE_PAYMENT");
    biz["scene"] = "bar_code".into();
    biz["auth_code"] = auth_code.into();
    biz
}

/// A page exists for its holder; the trade exists once the payer acts, and the browser goes back
/// with signed parameters that say nothing of the outcome.
#[tokio::test]
async fn a_wap_payment_exists_once_the_payer_acts() {
    let bed = AlipayTestbed::build().await;
    let biz = order_of("W1", "10.01", "QUICK_WAP_WAY");
    let url = address(&bed, WAP, &biz, "https://shop.example/back?token=1");
    let page = bed.payer.open(&url).await.unwrap();
    assert!(page.html.contains("width=device-width") && !page.html.contains("<script"));
    assert!(page.html.contains("10.01") && page.html.contains("5G消息"));

    let missing = bed.query("W1").await;
    assert_eq!(missing.outcome(), ("40004", "ACQ.TRADE_NOT_EXIST"));
    assert!(missing.is_signed);
    assert_eq!(
        (missing.text("out_trade_no"), missing.text("receipt_amount")),
        ("W1", "0.00")
    );
    let number = json!({ "out_trade_no": "W1" });
    let nothing = bed.call("alipay.trade.close", &number).await;
    assert_eq!(nothing.outcome().1, "ACQ.TRADE_NOT_EXIST");
    let nothing = bed.call("alipay.trade.cancel", &number).await;
    assert_eq!(
        (nothing.text("retry_flag"), nothing.text("action")),
        ("N", "")
    );

    let waits = bed.payer.press(&url, "outcome", "open").await.unwrap();
    assert!(waits.html.contains("未付款"));
    assert_eq!(bed.query("W1").await.text("trade_status"), "WAIT_BUYER_PAY");
    bed.payer.fail(&url).await.unwrap();
    let paid = bed.payer.pay(&url).await.unwrap();
    assert_eq!(paid.status, 303);
    let location = paid.headers["location"].to_str().unwrap();
    let parameters = location
        .strip_prefix("https://shop.example/back?token=1&")
        .unwrap();
    let form: Form = form_urlencoded::parse(parameters.as_bytes())
        .into_owned()
        .collect();
    let text = covered(&form, &["sign", "sign_type"]);
    assert!(verified(&public_key("alipay_public"), &text, &form["sign"]));
    assert_eq!(
        (form["out_trade_no"].as_str(), form.get("trade_status")),
        ("W1", None)
    );

    let answer = bed.query("W1").await;
    assert_eq!(answer.text("trade_status"), "TRADE_SUCCESS");
    assert_eq!(
        (answer.text("total_amount"), answer.text("send_pay_date")),
        ("10.01", "2026-01-01 08:00:00")
    );
    let trade = bed.gateway.books().trade("W1").cloned().unwrap();
    assert_eq!((trade.failures, trade.status), (1, AlipayStatus::Success));
    let again = bed.payer.open(&url).await.unwrap();
    assert!(again.html.contains("ACQ.TRADE_HAS_SUCCESS"));
    assert_eq!(bed.gateway.books().balance_fen(), 1_001);
}

/// A page whose address was changed, whose product code is another's, or whose deadline has
/// passed shows why, and takes nothing. A posted form works like an address.
#[tokio::test]
async fn a_page_that_cannot_be_paid_says_why() {
    let bed = AlipayTestbed::build().await;
    let mut biz = order_of("P1", "10.01", "FAST_INSTANT_TRADE_PAY");
    let expiry = bed.moment(180);
    biz["time_expire"] = expiry.as_str().into();
    let url = address(&bed, PAGE, &biz, "https://shop.example/back");
    let changed = bed.payer.open(&url.replace("10.01", "0.01")).await.unwrap();
    assert!(changed.html.contains("isv.invalid-signature"));
    let wrong = order_of("P2", "10.01", "QUICK_WAP_PAY");
    let wrong = address(&bed, WAP, &wrong, "https://shop.example/back");
    let wrong = bed.payer.open(&wrong).await.unwrap();
    assert!(wrong.html.contains("ACQ.INVALID_PARAMETER"));

    let form = url.split_once('?').unwrap().1;
    let posted = bed.send_raw(Method::POST, "", form).await.unwrap();
    let posted = String::from_utf8(posted.body.to_vec()).unwrap();
    let action = posted
        .split("action=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let cashier = bed.gateway.gateway_url().replace("/gateway.do", action);
    assert!(
        bed.payer
            .open(&cashier)
            .await
            .unwrap()
            .html
            .contains("确认付款")
    );
    bed.advance_s(180);
    let expired = bed.payer.open(&cashier).await.unwrap();
    assert!(expired.html.contains("已过期"));
    let refused = bed.payer.open(&url).await.unwrap();
    assert!(
        refused.html.contains("ACQ.INVALID_PARAMETER"),
        "{}",
        refused.html
    );
    assert_eq!(bed.gateway.books().trades().count(), 0);
}

/// Who gives up goes to `quit_url`.
#[tokio::test]
async fn a_payer_who_gives_up_goes_to_the_quit_address() {
    let bed = AlipayTestbed::build().await;
    let mut biz = order_of("W1", "10.01", "QUICK_WAP_WAY");
    biz["quit_url"] = "https://shop.example/quit".into();
    let url = address(&bed, WAP, &biz, "https://shop.example/back");
    let left = bed.payer.press(&url, "outcome", "quit").await.unwrap();
    assert_eq!(
        (left.status, &left.headers["location"]),
        (303, &"https://shop.example/quit".parse().unwrap())
    );
    assert_eq!(bed.gateway.books().trades().count(), 0);
}

/// The wallet takes the wire format's order string, once, and no other text.
#[tokio::test]
async fn an_order_string_pays_in_the_wallet() {
    let bed = AlipayTestbed::build().await;
    let text = vectors()["v3_order"].as_str().unwrap().to_owned();
    // The vector's address for notifications is nobody's.
    bed.control.next(AlipayFault::NoticeLost);
    let wrong = bed
        .control
        .pay_order_string(&text.replace("0.01", "0.02"), AlipayAct::Pay);
    assert_eq!(wrong, Err("isv.invalid-signature".to_owned()));
    assert_eq!(
        bed.control.pay_order_string(&text, AlipayAct::Fail),
        Ok(AlipayActed::Failed)
    );
    assert_eq!(
        bed.control.pay_order_string(&text, AlipayAct::Pay),
        Ok(AlipayActed::Paid)
    );
    let trade = bed
        .gateway
        .books()
        .trade("5GM20260101000003")
        .cloned()
        .unwrap();
    assert_eq!(
        (trade.terms.subject.as_str(), trade.terms.total_fen),
        ("A&B=C+D", 1)
    );
    let again = bed.control.pay_order_string(&text, AlipayAct::Pay);
    assert_eq!(again, Err("ACQ.TRADE_HAS_SUCCESS".to_owned()));
    let page = order_of("W1", "1.00", "QUICK_WAP_WAY");
    let page = encoded(&bed.signed(WAP, &page));
    let other = bed.control.pay_order_string(&page, AlipayAct::Pay);
    assert_eq!(other, Err("isv.invalid-method".to_owned()));
}

/// One code for one number; other data under it are refused, before and after it is scanned.
#[tokio::test]
async fn a_code_is_repeated_for_equal_data_only() {
    let bed = AlipayTestbed::build().await;
    let created = bed.create(PRECREATE, &order("Q1", "10.01")).await;
    let code = created.text("qr_code").to_owned();
    assert!(created.body.contains("\\/qr\\/"));
    let again = bed.create(PRECREATE, &order("Q1", "10.01")).await;
    assert_eq!(again.text("qr_code"), code);
    let other = bed.create(PRECREATE, &order("Q1", "10.02")).await;
    assert_eq!(other.outcome(), ("40004", "ACQ.CONTEXT_INCONSISTENT"));
    assert_eq!(bed.query("Q1").await.outcome().1, "ACQ.TRADE_NOT_EXIST");
    let page = bed.payer.pay(&code).await.unwrap();
    assert!(page.html.contains("支付成功"));
    let paid = bed.create(PRECREATE, &order("Q1", "10.01")).await;
    assert_eq!(paid.outcome(), ("40004", "ACQ.TRADE_HAS_SUCCESS"));
    assert_eq!(
        bed.control.scan(&code, AlipayAct::Pay),
        AlipayActed::Refused("ACQ.TRADE_HAS_SUCCESS")
    );
    assert_eq!(bed.gateway.books().balance_fen(), 1_001);
    bed.create(PRECREATE, &order("Q2", "1.00")).await;
    let unused = bed.create(PRECREATE, &order("Q2", "1.00")).await;
    bed.advance_s(2 * 3_600);
    let late = bed.control.scan(unused.text("qr_code"), AlipayAct::Pay);
    assert_eq!(late, AlipayActed::Refused("ACQ.TRADE_HAS_CLOSE"));
}

/// `trade.create` is there at once: it waits, is confirmed or closed.
#[tokio::test]
async fn a_created_trade_waits_for_the_payer_at_once() {
    let bed = AlipayTestbed::build().await;
    let created = bed.create(CREATE, &of_create("C1")).await;
    assert_eq!(created.text("trade_no").len(), 28, "{}", created.body);
    assert_eq!(bed.query("C1").await.text("trade_status"), "WAIT_BUYER_PAY");
    let again = bed.create(CREATE, &of_create("C1")).await;
    assert_eq!(again.text("trade_no"), created.text("trade_no"));
    assert_eq!(bed.control.confirm("C1", AlipayAct::Pay), AlipayActed::Paid);
    let by_trade_no = json!({ "trade_no": created.text("trade_no"), "out_trade_no": "other" });
    let found = bed.call("alipay.trade.query", &by_trade_no).await;
    assert_eq!(
        (found.text("out_trade_no"), found.text("trade_status")),
        ("C1", "TRADE_SUCCESS")
    );
    let close = |number: &str| json!({ "out_trade_no": number });
    let refused = bed.call("alipay.trade.close", &close("C1")).await;
    assert_eq!(refused.outcome(), ("40004", "ACQ.TRADE_STATUS_ERROR"));

    bed.create(CREATE, &of_create("C2")).await;
    let closed = bed.call("alipay.trade.close", &close("C2")).await;
    assert_eq!(closed.outcome(), ("10000", ""));
    assert_eq!(bed.query("C2").await.text("trade_status"), "TRADE_CLOSED");
    assert_eq!(bed.query("C2").await.text("send_pay_date"), "");
    let twice = bed.call("alipay.trade.close", &close("C2")).await;
    assert_eq!(twice.outcome().1, "ACQ.REASON_TRADE_STATUS_INVALID");
    let late = bed.create(CREATE, &of_create("C2")).await;
    assert_eq!(late.outcome().1, "ACQ.TRADE_HAS_CLOSE");
    let paid = bed.control.confirm("C2", AlipayAct::Pay);
    assert_eq!(paid, AlipayActed::Refused("ACQ.TRADE_HAS_CLOSE"));
    let mut nobody = of_create("C3");
    nobody["buyer_open_id"] = "074a1CcTG1LelxKe4xQC0zgNdId0".into();
    let refused = bed.create(CREATE, &nobody).await;
    assert_eq!(
        refused.outcome().1,
        "ACQ.INVALID_PARAMETER",
        "one of the two names the payer"
    );
}

/// A bar code is used once; a payer who must confirm is waited for, or the trade is cancelled.
#[tokio::test]
async fn a_bar_code_pays_once_or_waits_for_the_payer() {
    let bed = AlipayTestbed::build().await;
    let paid = bed.create(PAY, &of_code("B1", "281234567890123456")).await;
    assert_eq!(
        (paid.outcome(), paid.text("gmt_payment")),
        (("10000", ""), "2026-01-01 08:00:00")
    );
    let used = bed.create(PAY, &of_code("B2", "281234567890123456")).await;
    assert_eq!(used.outcome().1, "ACQ.PAYMENT_AUTH_CODE_INVALID");
    assert_eq!(bed.query("B2").await.outcome().1, "ACQ.TRADE_NOT_EXIST");
    for code in [
        "181234567890123456",
        "28123456789012345a",
        "281234567890123",
    ] {
        let refused = bed.create(PAY, &of_code("B3", code)).await;
        assert_eq!(
            refused.outcome().1,
            "ACQ.PAYMENT_AUTH_CODE_INVALID",
            "{code}"
        );
    }
    bed.control.next(AlipayFault::PayerConfirms);
    let waits = bed.create(PAY, &of_code("B4", "291234567890123456")).await;
    assert_eq!(waits.outcome(), ("10003", ""), "{}", waits.body);
    assert!(waits.is_signed);
    let waits = bed.create(PAY, &of_code("B4", "291234567890123456")).await;
    assert_eq!(waits.text("code"), "10003");
    assert_eq!(bed.control.confirm("B4", AlipayAct::Pay), AlipayActed::Paid);
    assert_eq!(bed.query("B4").await.text("trade_status"), "TRADE_SUCCESS");
    assert_eq!(bed.gateway.books().balance_fen(), 2_002);
}

/// Deadlines close what nobody paid, and money that comes later is not taken.
#[tokio::test]
async fn a_deadline_closes_what_nobody_paid() {
    let bed = AlipayTestbed::build().await;
    let mut biz = order("D1", "1.00");
    biz["timeout_express"] = "3m".into();
    let created = bed.create(PRECREATE, &biz).await;
    bed.advance_s(600);
    let scanned = bed.control.scan(created.text("qr_code"), AlipayAct::Open);
    assert_eq!(
        scanned,
        AlipayActed::Waiting,
        "it counts from the payer's first act"
    );
    bed.advance_s(179);
    assert_eq!(bed.query("D1").await.text("trade_status"), "WAIT_BUYER_PAY");
    bed.advance_s(1);
    assert_eq!(bed.query("D1").await.text("trade_status"), "TRADE_CLOSED");
    let late = bed.control.confirm("D1", AlipayAct::Pay);
    assert_eq!(late, AlipayActed::Refused("ACQ.TRADE_HAS_CLOSE"));
}

/// Fields are text of the listed kinds and lengths; nothing unlisted is accepted.
#[tokio::test]
async fn fields_that_are_not_as_listed_are_refused() {
    let bed = AlipayTestbed::build().await;
    let long = "字".repeat(257);
    for (name, value) in [
        ("out_trade_no", json!("a-b")),
        ("out_trade_no", json!("a".repeat(65))),
        ("out_trade_no", json!(5)),
        ("out_trade_no", Value::Null),
        ("total_amount", json!(10.01)),
        ("total_amount", json!("10.001")),
        ("total_amount", json!("0.00")),
        ("total_amount", json!("100000000.01")),
        ("total_amount", json!("1e3")),
        ("subject", json!("")),
        ("subject", json!(long)),
        ("product_code", json!("QUICK_WAP_WAY")),
        ("time_expire", json!("2026-01-01 07:59:59")),
        ("timeout_express", json!("16d")),
        ("passback_params", json!("a=b&c")),
        ("goods_detail", json!("text")),
        ("extend_params", json!([])),
        ("notify_url", json!("https://a.example")),
        ("quit_url", json!("https://a.example")),
    ] {
        let mut biz = order("F1", "10.01");
        biz[name] = value.clone();
        let answer = bed.create(PRECREATE, &biz).await;
        assert_eq!(
            answer.outcome(),
            ("40004", "ACQ.INVALID_PARAMETER"),
            "{name}: {value}"
        );
        assert!(answer.is_signed && answer.is_of_method);
    }
    for biz in [json!({}), json!({ "out_trade_no": "F1", "more": "x" })] {
        let answer = bed.call("alipay.trade.query", &biz).await;
        assert_eq!(answer.outcome().1, "ACQ.INVALID_PARAMETER", "{biz}");
    }
}
