//! Clauses 6.3.1, 6.4, A3.3: where notifications go, how soon replies come, and that nothing is
//! sent in the clear.

use paymux::command::demo::enrolment::{BLUE, RED};
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};
use paymux::sandbox::{InstitutionFault, MerchantFault, SandboxCall};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::{booked, open, operations, order, placed, states};
use super::{changed, checked};

/// R-6.1.1-4: a merchant that was unreachable at first is notified all the same, and once.
#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_was_unreachable_is_notified_of_the_result() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    shop.merchant.next(MerchantFault::Dead, 1);
    shop.merchant.next(MerchantFault::Refuses, 1);
    let answer = placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    let notification = shop
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let inbox = shop.merchant.inbox();
    assert_eq!((inbox.events.len(), inbox.deliveries.len()), (1, 2));
    assert_eq!(
        inbox.deliveries[0].body, notification.body,
        "the same bytes"
    );
}

/// R-6.4-1a: a silent institution delays no reply: the merchant is answered while the call is still
/// open.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_institution_delays_no_reply() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    let control = stage.blue.control();
    control.next_at(SandboxCall::Create, InstitutionFault::NoAnswer, 1);
    let wanted = order(shop, "T1", "12.30", BLUE.id);
    let answer = tokio::time::timeout(WAIT_MAX, shop.place(&wanted)).await;
    let answer = answer
        .expect("the institution's call takes longer")
        .unwrap();
    let found = (answer.status, answer.text("result"));
    assert_eq!(found, (202, "PENDING"), "{}", answer.json);
    assert!(answer.headers.contains_key("retry-after"));
    booked(&stage.blue, "T1").await;
}

/// R-A3.3-3: an order's notifications go to the address given with it and nowhere else; an order
/// whose address is not under the merchant's origins is refused.
#[tokio::test(flavor = "multi_thread")]
async fn notifications_go_to_the_address_of_the_order() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let (own, other) = (stage.tea.merchant.origin(), stage.books.merchant.origin());
    let origins = format!("notify_origins = [\"{own}\"]");
    changed(
        &stage,
        &[(
            &origins,
            &format!("notify_origins = [\"{own}\", \"{other}\"]"),
        )],
    );
    let _open = stage.open().await.unwrap();
    let shop = &stage.tea;
    let mut there = order(shop, "T1", "12.30", BLUE.id);
    there["bankReturnUrl"] = json!(stage.books.merchant.notice_url());
    let answer = placed(shop, &there).await;
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    stage
        .books
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    assert!(shop.merchant.inbox().deliveries.is_empty());
    for foreign in [
        "https://localhost:1/notices",
        "https://shop.example/notices",
    ] {
        let mut wanted = order(shop, "T2", "12.30", BLUE.id);
        wanted["bankReturnUrl"] = json!(foreign);
        let refused = shop.place(&wanted).await.unwrap();
        assert_eq!(refused.text("field"), "bankReturnUrl", "{}", refused.json);
    }
    assert_eq!(stage.blue.books().payments().count(), 1);
}

/// R-6.3.1-2c: a connection without TLS gets no HTTP; an institution or merchant with an untrusted
/// certificate is not called; no plain-text address can be configured.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_unencrypted() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(stage.certs().join("other.pem"), other.cert.pem()).unwrap();
    let text = std::fs::read_to_string(&stage.config).unwrap();
    let (_, after) = text
        .split_once("[[institution]]\nid = \"redpay\"\n")
        .unwrap();
    let (head, _) = after.split_once("roots").unwrap();
    let roots = |name: &str| format!("{head}roots = \"certs/{name}.pem\"");
    let merchants = |name: &str| format!("merchant_roots = \"certs/{name}.pem\"");
    changed(
        &stage,
        &[
            (&roots("ca"), &roots("other")),
            (&merchants("ca"), &merchants("other")),
        ],
    );
    let _open = stage.open().await.unwrap();

    let address = ("127.0.0.1", stage.ports.public);
    let mut plain = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET /openapi.yaml HTTP/1.1\r\nhost: localhost\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut received = Vec::new();
    let read = tokio::time::timeout(WAIT_MAX, plain.read_to_end(&mut received)).await;
    let _ = read.expect("the connection is ended");
    assert!(
        !received.windows(4).any(|part| part == b"HTTP"),
        "{received:?}"
    );

    let shop = &stage.tea;
    let refused = placed(shop, &order(shop, "T1", "12.30", RED.id)).await;
    assert_eq!(refused.text("result"), "REFUSED", "{}", refused.json);
    assert_eq!(stage.red.books().calls, 0);
    let answer = placed(shop, &order(shop, "T2", "12.30", BLUE.id)).await;
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    let tried = async {
        let line = "paymux_notifications_total{result=\"again\"}";
        while !operations(&stage, "/metrics").await.contains(line) {}
    };
    let tried = tokio::time::timeout(WAIT_MAX, tried).await;
    tried.expect("a delivery to the merchant is tried");
    assert_eq!(states(shop, "T2").await.0, "PAID");
    assert!(shop.merchant.inbox().deliveries.is_empty());

    for (from, to) in [
        (
            format!("url = \"{}\"", stage.blue.origin()),
            "url = \"http://localhost:1\"".to_owned(),
        ),
        (
            format!("operations = \"127.0.0.1:{}\"", stage.ports.operations),
            format!("operations = \"0.0.0.0:{}\"", stage.ports.operations),
        ),
    ] {
        let original = std::fs::read_to_string(&stage.config).unwrap();
        let (served, received) = checked(&stage, &[(&from, &to)]);
        assert!(!served, "{received}");
        std::fs::write(&stage.config, original).unwrap();
    }
}
