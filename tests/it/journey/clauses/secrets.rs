//! Clauses 6.1.1, 6.1.3, 6.3.2: what no merchant can collect, and what is never disclosed.

use std::io::Read as _;
use std::process::{Command, Stdio};

use http::header::{CONTENT_SECURITY_POLICY, X_FRAME_OPTIONS};
use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};
use serde_json::{Value, json};

use super::super::{PAYER, open, operations, order, placed};
use super::ClauseMode;

/// Every merchant interface.
const INTERFACES: [&str; 8] = [
    "/v1/orders",
    "/v1/orders/institutions",
    "/v1/orders/select",
    "/v1/orders/query",
    "/v1/orders/close",
    "/v1/refunds",
    "/v1/refunds/query",
    "/v1/events",
];

/// A field that the interface does not have is refused by its name, on every interface, and reaches
/// no institution.
async fn refused_everywhere(stage: &DemoEnvironment, names: &[&str]) {
    let shop = &stage.tea;
    for path in INTERFACES {
        for name in names {
            let mut body = match path {
                "/v1/orders" => order(shop, "T1", "12.30", BLUE.id),
                _ => json!({ "merchantId": shop.role.id }),
            };
            body[*name] = json!("123456");
            let answer = shop.client.post(path, &body).await.unwrap();
            let found = (answer.status, answer.text("code"), answer.text("field"));
            assert_eq!(found, (400, "field_unknown", *name), "{path}");
            assert!(!answer.json.to_string().contains("123456"), "{path}");
        }
    }
    assert_eq!(stage.blue.books().payments().count(), 0);
}

/// R-6.1.1-3a: no interface takes a password from a merchant; the pages where one is entered are
/// never the merchant's, and ours cannot be framed.
#[tokio::test(flavor = "multi_thread")]
async fn no_merchant_can_collect_a_password() {
    let (stage, _open) = open().await;
    refused_everywhere(
        &stage,
        &["payPassword", "password", "pin", "verificationCode"],
    )
    .await;
    let shop = &stage.tea;
    let ours = placed(shop, &shop.order("T2", "WEBVIEW", "12.30", PAYER)).await;
    let theirs = placed(shop, &order(shop, "T3", "12.30", BLUE.id)).await;
    assert!(ours.text("payUrl").starts_with(&stage.origin()));
    let there = stage.payer.arrive(theirs.text("payUrl")).await.unwrap();
    assert!(there.url.starts_with(&stage.blue.origin()));
    let page = stage.payer.open(ours.text("payUrl")).await.unwrap();
    let policy = page.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.headers[X_FRAME_OPTIONS], "DENY");
    assert!(!page.html.contains("type=\"password\""), "{}", page.html);
}

/// R-6.1.3-1: no interface takes card data from a merchant, and none returns any.
#[tokio::test(flavor = "multi_thread")]
async fn no_merchant_can_collect_card_data() {
    let (stage, _open) = open().await;
    refused_everywhere(&stage, &["cardNo", "bankCardNo", "cvv2", "expiryDate"]).await;
    let ready = ClauseMode::Webview.ready(&stage, "T2", "12.30").await;
    ClauseMode::Webview.does(&stage, &ready, "pay").await;
    let notice = stage
        .tea
        .wait_for_notification("ORDER_PAID", "T2")
        .await
        .unwrap();
    let found = super::super::queried(&stage.tea, "T2").await;
    for fields in [&ready.0.json, &notice.fields, &found.json] {
        let names = fields.as_object().unwrap().keys();
        let card = names.filter(|name| name.to_lowercase().contains("card"));
        assert_eq!(card.count(), 0, "{fields}");
    }
}

/// `paymux explain` of the order, as JSON, once it contains this.
async fn explained(stage: &DemoEnvironment, part: &str) -> String {
    let waiting = async {
        loop {
            let mut command = Command::new(env!("CARGO_BIN_EXE_paymux"));
            command.args(["explain", "M1001/T1", "--json", "--config"]);
            command.arg(&stage.config);
            let run = tokio::task::spawn_blocking(move || command.output().unwrap());
            let output = run.await.unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            if printed.contains(part) {
                return printed;
            }
        }
    };
    let found = tokio::time::timeout(WAIT_MAX, waiting).await;
    found.expect("it is shown")
}

/// R-6.3.2-3b, D5: most digits of the payer's number are masked by the same character on our page
/// and in `explain`, and the number is in no line of the log, at any log level.
#[tokio::test(flavor = "multi_thread")]
async fn a_payers_number_is_masked_wherever_it_is_shown() {
    let masked = format!("{}****{}", &PAYER[..3], &PAYER[7..]);
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let mut served = Command::new(env!("CARGO_BIN_EXE_paymux"))
        .args(["serve", "--config"])
        .arg(&stage.config)
        .env("RUST_LOG", "debug")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = served.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
    });
    let listens = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", stage.ports.public))
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    let listens = tokio::time::timeout(WAIT_MAX, listens).await;
    listens.expect("it listens");
    let ready = ClauseMode::Webview.ready(&stage, "T1", "12.30").await;
    let page = stage.payer.open(ready.0.text("payUrl")).await.unwrap();
    ClauseMode::Webview.does(&stage, &ready, "pay").await;
    stage
        .tea
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let screen = explained(&stage, "mobileNo").await;
    let id = served.id().to_string();
    assert!(Command::new("kill").arg(id).status().unwrap().success());
    served.wait().unwrap();
    let log = reading.join().unwrap().unwrap();
    assert!(page.html.contains(&masked), "{}", page.html);
    assert!(log.contains("listening"), "{log}");
    for (what, text) in [("page", &page.html), ("screen", &screen), ("log", &log)] {
        assert!(!text.contains(PAYER), "the {what} shows it: {text}");
    }
    assert!(screen.contains('*') && !screen.contains('•'), "{screen}");
}

/// R-6.3.2-3d: what is readable without authentication, and what monitoring reads, names no payment
/// and no payer.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_public_names_a_payment() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    let payer = "13987654329";
    let mut wanted = order(shop, "ZQ7731X", "1357.91", BLUE.id);
    wanted["mobileNo"] = json!(payer);
    let answer = placed(shop, &wanted).await;
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    let notice = shop
        .wait_for_notification("ORDER_PAID", "ZQ7731X")
        .await
        .unwrap();
    let mut read = Vec::new();
    for path in [
        "/openapi.yaml",
        "/.well-known/jwks.json",
        "/pay/x",
        "/pay/x/status",
        "/v1/orders",
    ] {
        let address = format!("{}{path}", stage.origin());
        read.push((path, stage.payer.open(&address).await.unwrap().html));
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        read.push((path, operations(&stage, path).await));
    }
    let named = |fields: &Value, name: &str| fields[name].as_str().unwrap().to_owned();
    let event = named(&notice.fields, "eventId");
    let ours = answer.text("payOrderNo");
    for (path, text) in &read {
        for personal in [payer, "ZQ7731X", "1357.91", "135791", ours, &event] {
            assert!(!text.contains(personal), "{path} names {personal}: {text}");
        }
    }
}
