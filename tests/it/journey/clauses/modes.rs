//! Clauses 5.1, A1, A2 and A3.2: the modes, each from the order to the notification.

use paymux::command::demo::enrolment::{BLUE, GREEN, RED};
use paymux::command::demo::environment::payment_of;
use serde_json::json;

use super::super::{PAYER, attempt, open, order, placed, queried, states};
use super::{ClauseMode, chosen, read};

/// A payer who fails verification has not paid; once the institution has verified the payer, the
/// payment completes, once and in full.
async fn completes(way: ClauseMode) {
    let (stage, _open) = open().await;
    let ready = way.ready(&stage, "T1", "12.30").await;
    way.does(&stage, &ready, "fail").await;
    let waiting = ("OPEN".to_owned(), "ACCEPTED".to_owned());
    assert_eq!(states(&stage.tea, "T1").await, waiting, "{way:?}");
    assert_eq!(way.institution(&stage).books().taken_cents(), 0);
    way.does(&stage, &ready, "pay").await;
    stage
        .tea
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let paid = ("PAID".to_owned(), "PAID".to_owned());
    assert_eq!(states(&stage.tea, "T1").await, paid, "{way:?}");
    assert_eq!(way.institution(&stage).books().taken_cents(), 1_230);
}

/// The merchant is notified of the result at its address, and a query returns the same.
async fn is_notified(way: ClauseMode) {
    let (stage, _open) = open().await;
    let ready = way.ready(&stage, "T1", "12.30").await;
    assert!(stage.tea.merchant.inbox().deliveries.is_empty());
    way.does(&stage, &ready, "pay").await;
    let notice = stage
        .tea
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let found = queried(&stage.tea, "T1").await;
    for field in [
        "merchantOrderNo",
        "orderAmount",
        "payOrderNo",
        "orderStatus",
        "paymentDate",
        "paymentTime",
        "institutionId",
    ] {
        assert_eq!(notice.fields[field], found.json[field], "{way:?}: {field}");
    }
    assert_eq!(notice.fields["orderStatus"], "PAID");
}

/// R-5.1.1-4
#[tokio::test(flavor = "multi_thread")]
async fn a_webview_payment_completes_when_the_payer_is_verified() {
    completes(ClauseMode::Webview).await;
}

/// R-5.1.1-5, R-A2.1-6b
#[tokio::test(flavor = "multi_thread")]
async fn the_merchant_is_notified_of_a_webview_payment() {
    is_notified(ClauseMode::Webview).await;
}

/// R-5.1.3-3
#[tokio::test(flavor = "multi_thread")]
async fn a_native_payment_completes_when_the_payer_is_verified() {
    completes(ClauseMode::Native).await;
}

/// R-5.1.3-4, R-A2.3-5a
#[tokio::test(flavor = "multi_thread")]
async fn the_merchant_is_notified_of_a_native_payment() {
    is_notified(ClauseMode::Native).await;
}

/// R-A2.4.3-7a
#[tokio::test(flavor = "multi_thread")]
async fn the_merchant_is_notified_of_a_payment_in_the_chosen_sdk() {
    completes(ClauseMode::AggregatedNative).await;
    is_notified(ClauseMode::AggregatedNative).await;
}

/// What an SDK reads, without a key, at the address that came with its start parameters: first that
/// the order is open, then that it is paid.
async fn shows_the_result(way: ClauseMode) {
    let (stage, _open) = open().await;
    let ready = way.ready(&stage, "T1", "12.30").await;
    let address = ready.0.text("statusUrl").to_owned();
    assert!(address.starts_with(&stage.origin()), "{}", ready.0.json);
    let before = stage.payer.open(&address).await.unwrap();
    assert_eq!(read(&before)["orderStatus"], "OPEN", "{way:?}");
    way.does(&stage, &ready, "pay").await;
    stage
        .tea
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let after = stage.payer.open(&address).await.unwrap();
    let shown = read(&after);
    let result = (&shown["orderStatus"], &shown["orderAmount"]);
    assert_eq!(result, (&json!("PAID"), &json!("12.30")), "{way:?}");
    for personal in [PAYER, stage.tea.role.name] {
        assert!(!after.html.contains(personal) && !address.contains(personal));
    }
}

/// R-A2.3-5b, X-6
#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_shows_the_result_of_a_native_order() {
    shows_the_result(ClauseMode::Native).await;
}

/// R-A2.4.3-7b, X-6
#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_shows_the_result_of_the_chosen_institution() {
    shows_the_result(ClauseMode::AggregatedNative).await;
}

/// R-5.1.4-5: the button of a chosen institution opens its page in the webview, with the order on
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn the_button_opens_the_page_of_the_chosen_institution() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    placed(shop, &shop.order("T1", "AGGREGATED", "12.30", PAYER)).await;
    chosen(shop, "T1", RED.id, "WEBVIEW").await;
    let wanted = json!({ "withCards": true });
    let listed = shop.ask("/v1/orders/institutions", "T1", wanted).await;
    let cards = &listed.unwrap().json["cards"];
    let card = &cards[0]["message"]["generalPurposeCard"]["content"];
    let button = &card["suggestions"][0]["action"]["urlAction"]["openUrl"];
    assert_eq!(button["application"], "webview", "{cards:#}");
    let address = button["url"].as_str().unwrap();
    assert!(address.starts_with(&stage.origin()), "{address}");
    let page = stage.payer.arrive(address).await.unwrap();
    assert!(page.url.starts_with(&stage.red.origin()), "{}", page.url);
    assert_eq!(page.status, 200);
    assert!(page.html.contains("12.30"), "{}", page.html);
    stage.payer.pay(address).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
}

/// R-3-1: the same request, except for the institution's name and the mode, pays in every way, and
/// the reply has the same fields, except for how to pay.
#[tokio::test(flavor = "multi_thread")]
async fn one_interface_serves_every_way_to_pay() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    let mut seen = Vec::new();
    for (number, institution, mode) in [
        ("T1", BLUE.id, "WEBVIEW"),
        ("T2", BLUE.id, "NATIVE"),
        ("T3", RED.id, "WEBVIEW"),
        ("T4", GREEN.id, "WEBVIEW"),
    ] {
        let mut wanted = order(shop, number, "12.30", institution);
        wanted["businessType"] = json!(mode);
        let answer = placed(shop, &wanted).await;
        let mut fields: Vec<_> = answer.json.as_object().unwrap().keys().cloned().collect();
        fields.retain(|name| name != "payUrl" && name != "sdkParameters");
        if mode == "NATIVE" {
            let (parameters, origin) = (&answer.json["sdkParameters"], stage.blue.origin());
            let paid = stage.payer.pay_by_sdk(&origin, parameters, "pay");
            paid.await.unwrap();
        } else {
            stage.payer.pay(answer.text("payUrl")).await.unwrap();
        }
        let notice = shop
            .wait_for_notification("ORDER_PAID", number)
            .await
            .unwrap();
        let names: Vec<_> = notice.fields.as_object().unwrap().keys().cloned().collect();
        seen.push((fields, names));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

/// R-5.1.1-0b: no institution needs a messaging platform: none is configured, and all are paid.
#[tokio::test(flavor = "multi_thread")]
async fn no_institution_needs_a_messaging_platform() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    let configured = std::fs::read_to_string(&stage.config)
        .unwrap()
        .to_lowercase();
    for word in ["maap", "chatbot", "messag"] {
        assert!(!configured.contains(word), "{word} in {configured}");
    }
    for (number, cast) in [("T1", BLUE), ("T2", RED), ("T3", GREEN)] {
        let answer = placed(shop, &order(shop, number, "12.30", cast.id)).await;
        stage.payer.pay(answer.text("payUrl")).await.unwrap();
        shop.wait_for_notification("ORDER_PAID", number)
            .await
            .unwrap();
    }
}

/// R-A2.5-3: a valid order is answered with the page that asks for the password, and no other order
/// is.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_leads_to_the_page_that_asks_for_the_password() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    let mut unsound = order(shop, "T1", "12.30", BLUE.id);
    unsound["orderAmount"] = json!("0.00");
    let refused = shop.place(&unsound).await.unwrap();
    assert!(refused.status >= 400 && refused.json.get("payUrl").is_none());
    assert_eq!(stage.blue.books().payments().count(), 0);
    let answer = placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
    let page = stage.payer.arrive(answer.text("payUrl")).await.unwrap();
    assert!(page.url.starts_with(&stage.blue.origin()));
    assert!(page.html.contains("type=\"password\""), "{}", page.html);
}

/// R-A1-10: a business customer's order reaches the institution as a payment with password, and is
/// paid only when the institution has verified the payer.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_paid_with_a_password() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    let answer = placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
    let terms = payment_of(&stage.blue.books(), "T1").unwrap().terms.clone();
    assert_eq!(terms.transaction_type, "PASSWORD_PAY");
    assert_eq!(terms.merchant_order_no, attempt(&stage.blue, "T1"));
    stage.payer.fail(answer.text("payUrl")).await.unwrap();
    assert_eq!(states(shop, "T1").await.0, "OPEN");
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    assert_eq!(states(shop, "T1").await.0, "PAID");
}

/// R-A3.2-1, G-1, G-34: five fields, the payer's number as string or as JSON number; all given
/// fields must match one order of the caller, and one of the two order numbers is required.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_accepts_the_payers_number_as_text_or_as_a_number() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    let placed = placed(shop, &shop.order("T1", "AGGREGATED", "12.30", PAYER)).await;
    let whole = json!({
        "payOrderNo": placed.text("payOrderNo"), "createDate": placed.text("createDate"),
        "mobileNo": PAYER, "merchantOrderNo": "T1", "merchantId": shop.role.id,
    });
    let number: u64 = PAYER.parse().unwrap();
    for (field, value, status) in [
        ("mobileNo", json!(PAYER), 200),
        ("mobileNo", json!(number), 200),
        ("mobileNo", json!(number + 1), 404),
        ("mobileNo", json!("13800001235"), 404),
        ("mobileNo", json!(138.5), 400),
        ("createDate", json!("20200101"), 404),
        ("merchantOrderNo", json!("T2"), 404),
        ("merchantId", json!("M2002"), 403),
    ] {
        let mut query = whole.clone();
        query[field] = value;
        let answer = shop.client.post("/v1/orders/query", &query).await.unwrap();
        assert_eq!(answer.status, status, "{query} {}", answer.json);
    }
    let unnamed = json!({ "merchantId": shop.role.id, "mobileNo": number });
    let answer = shop
        .client
        .post("/v1/orders/query", &unnamed)
        .await
        .unwrap();
    let found = (answer.status, answer.text("field"));
    assert_eq!(found, (400, ""), "either of two: {}", answer.json);
}
