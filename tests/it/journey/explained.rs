//! An eventful order, as `paymux explain` shows it: what both sides sent, masked, what their
//! signatures cover, and which evidence it was.

use std::process::Command;

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};
use paymux::config;
use paymux::sandbox::{InstitutionFault, MerchantFault, SandboxCall};
use paymux::signature::SigningKey;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{PAYER, client, key, open, operations, order, placed};

/// Another number of the payer's, in an address that the merchant gave.
const ELSEWHERE: &str = "13987650002";

async fn explain(stage: &DemoEnvironment, more: &'static [&'static str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paymux"));
    command.arg("explain").arg("M1001/T1").args(more);
    command.arg("--config").arg(&stage.config);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = run.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until the timeline has all of this; entries are written some time after the exchange.
async fn timeline(stage: &DemoEnvironment, all: &[&str]) -> Value {
    let waiting = async {
        loop {
            let timeline: Value = serde_json::from_str(&explain(stage, &["--json"]).await).unwrap();
            let text = timeline.to_string();
            if all.iter().all(|part| text.contains(part)) {
                return timeline;
            }
        }
    };
    let timeline = tokio::time::timeout(WAIT_MAX, waiting).await;
    timeline.unwrap_or_else(|_| panic!("{all:?} is never shown"))
}

/// The one exchange of this kind whose result contains this.
fn one<'a>(timeline: &'a Value, what: &str, result: &str) -> &'a Value {
    let mut lines = timeline["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["what"] == what && line["result"].as_str().unwrap().contains(result));
    let found = lines.next();
    found.unwrap_or_else(|| panic!("no {what} with {result} in {timeline:#}"))
}

fn base(line: &Value, side: &str) -> String {
    let base = line[side]["signatureBase"].as_str();
    base.unwrap_or_else(|| panic!("no base in {line:#}"))
        .to_owned()
}

fn file(stage: &DemoEnvironment) -> Connection {
    let url = config::store_url(&stage.config).unwrap();
    Connection::open(url.strip_prefix("sqlite:").unwrap()).unwrap()
}

/// Waits, without a query through the gateway, until the unresolved payment is accepted.
async fn accepted(stage: &DemoEnvironment) {
    let store = file(stage);
    let sql = "SELECT COUNT(*) FROM attempts WHERE state = 'ACCEPTED'";
    let known = async {
        while store
            .query_row(sql, [], |row| row.get::<_, u32>(0))
            .unwrap()
            == 0
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_MAX, known)
        .await
        .expect("the payment is accepted");
}

/// The story: a create whose reply is lost, a signature that is refused, a forged callback before
/// the good one, a merchant that first does not acknowledge. Returns the payer's link.
async fn goes_through_a_lot(stage: &DemoEnvironment) -> String {
    let (shop, control) = (&stage.tea, stage.blue.control());
    control.next_at(SandboxCall::Create, InstitutionFault::AnswerLost, 1);
    control.next(InstitutionFault::ForgedCallback, 1);
    shop.merchant.next(MerchantFault::Lies, 1);
    let mut wanted = order(shop, "T1", "12.30", BLUE.id);
    let back = wanted["bankReturnUrl"].as_str().unwrap();
    wanted["bankReturnUrl"] = format!("{back}?phone={ELSEWHERE}").into();
    let first = shop.place(&wanted).await.unwrap();
    assert_eq!(first.text("attemptStatus"), "PENDING", "{}", first.json);
    let (unauthenticated, _) = SigningKey::generate_ed25519().unwrap();
    let unauthenticated = SigningKey::from_pkcs8_pem("M1001-1", &unauthenticated).unwrap();
    let unauthenticated = client(stage, unauthenticated, None);
    let date = &wanted["orderDate"];
    let question = json!({ "merchantId": "M1001", "merchantOrderNo": "T1", "orderDate": date });
    let refused = unauthenticated.post("/v1/orders/query", &question).await;
    assert_eq!(refused.unwrap().status, 401);
    accepted(stage).await;
    let again = placed(shop, &wanted).await;
    let link = stage.payer.arrive(again.text("payUrl")).await.unwrap().url;
    stage.payer.pay(&link).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    link
}

/// L4, V1, N3, Q2: every exchange about an order is shown with its time, duration, content, what
/// its signatures cover and which evidence it was, refused ones too.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_went_through_a_lot_is_explained_completely() {
    let (stage, open) = open().await;
    goes_through_a_lot(&stage).await;
    let all = [
        "ORDER_PAID, delivery 2",
        "FORGED",
        "GENUINE: E3 succeeded",
        "signature_mismatch",
    ];
    let timeline = timeline(&stage, &all).await;
    let created = one(&timeline, "create", "E5 no_answer");
    assert_eq!(created["who"], "institution bluebank");
    let signed = "\"@method\": POST\n\"@target-uri\": https://";
    assert!(base(created, "asked").starts_with(signed));
    assert_eq!(created["asked"]["body"]["orderAmount"], "12.30");
    assert_eq!(created["answered"], Value::Null);
    let found = one(&timeline, "query", "E3 accepted");
    assert!(base(found, "answered").starts_with("\"@status\": 200\n"));
    let forged = one(&timeline, "callback", "FORGED");
    let is_marked = forged["result"].as_str().unwrap().contains("not proven");
    assert!(is_marked, "{forged:#}");
    one(&timeline, "callback", "GENUINE: E3 succeeded");
    let lied = one(
        &timeline,
        "notify ORDER_PAID, delivery 1",
        "not acknowledged",
    );
    assert_eq!(lied["answered"]["line"], "200");
    one(&timeline, "notify ORDER_PAID, delivery 2", "acknowledged");
    let refused = one(&timeline, "A3.2", "signature_mismatch");
    assert!(base(refused, "asked").contains("\"content-digest\": ***\n"));
    let placed = one(&timeline, "A3.1", "PENDING");
    assert_eq!(placed["asked"]["body"]["mobileNo"], "138****1234");
    assert!(base(placed, "answered").contains("\"signature\";req;key=\"sig1\": ***\n"));
    assert!(placed["elapsedMs"].is_i64());
    let text = explain(&stage, &[]).await;
    for part in ["> POST https://localhost:", "  | \"@method\": POST"] {
        assert!(text.contains(part), "{text}");
    }
    let page = operations(&stage, "/metrics").await;
    assert!(page.contains("paymux_exchange_log_entries_dropped_total 0\n"));
    open.close().await.unwrap();
}

/// C4, V3: an authentic callback about another amount is answered 422, one about an unknown payment
/// 404, each with the number of the exchange; neither changes anything.
#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_cannot_be_right_are_explained_as_such() {
    let (stage, open) = open().await;
    let shop = &stage.tea;
    stage
        .blue
        .control()
        .next(InstitutionFault::WrongSumCallback, 1);
    let link = placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
    stage.payer.pay(link.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let timeline = timeline(&stage, &["notice_contradicts", "GENUINE: E3 succeeded"]).await;
    let wrong = one(&timeline, "callback", "QUARANTINED");
    assert_eq!(wrong["answered"]["line"], "422");
    let bank = client(&stage, key(&stage, "bluebank-1"), None);
    let unknown = json!({
        "merchantOrderNo": "A0000000000000000001", "orderDate": "20261130",
        "orderAmount": "1.00", "merchantId": "M1001", "payOrderNo": "B1",
        "orderStatus": "PAID", "paymentDate": "20261130", "paymentTime": "120000",
        "eventId": "B1-paid", "eventType": "ORDER_PAID",
    });
    let answer = bank.post("/v1/callbacks/bluebank", &unknown).await.unwrap();
    assert_eq!(answer.status, 404, "{}", answer.json);
    assert_ne!(answer.text("requestId"), "");
    open.close().await.unwrap();
}

/// D5, X-6: what a payer chose on our page is shown, without the page's address.
#[tokio::test(flavor = "multi_thread")]
async fn a_payers_choice_is_explained_without_the_pages_address() {
    let (stage, open) = open().await;
    let order = placed(
        &stage.tea,
        &stage.tea.order("T1", "WEBVIEW", "12.30", PAYER),
    )
    .await;
    let page = order.text("payUrl");
    // A number is no secret; what stands beside it is.
    let foreign = format!("{}{}", &page[..page.len() - 4], "0000");
    let guessed = stage.payer.choose(&foreign, BLUE.id).await;
    assert!(guessed.is_err(), "{guessed:?}");
    stage.payer.choose(page, BLUE.id).await.unwrap();
    let timeline = timeline(&stage, &["\"page\"", "A3.1"]).await;
    let text = timeline.to_string();
    assert_eq!(text.matches("\"what\":\"page\"").count(), 1, "{timeline:#}");
    let chosen = one(&timeline, "page", "ACCEPTED");
    assert_eq!(chosen["who"], "payer");
    assert_eq!(chosen["answered"]["line"], "303");
    let secret = page.rsplit('/').next().unwrap();
    assert!(!text.contains(secret), "{timeline:#}");
    open.close().await.unwrap();
}

/// D1, D2, D5: the exchange log shows and stores no personal value in plain text, and nothing that
/// authorises a payment.
#[tokio::test(flavor = "multi_thread")]
async fn the_exchange_log_discloses_nothing() {
    let (stage, open) = open().await;
    let link = goes_through_a_lot(&stage).await;
    let timeline = timeline(&stage, &["ORDER_PAID, delivery 2"])
        .await
        .to_string();
    let text = explain(&stage, &[]).await;
    open.close().await.unwrap();
    let store = file(&stage);
    let raw = std::fs::read(store.path().unwrap()).unwrap();
    for secret in [PAYER, ELSEWHERE, &link] {
        assert!(!text.contains(secret), "{secret} is stored");
        assert!(!timeline.contains(secret), "{secret} is shown");
        let bytes = secret.as_bytes();
        let is_stored = raw.windows(bytes.len()).any(|part| part == bytes);
        assert!(!is_stored, "{secret} is stored");
    }
    assert!(blocks(&store) > 0);
}

/// D1, D5: a masked number cannot be found by trying numbers: neither a digest of its message nor a
/// signature over one is shown beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_masked_number_cannot_be_guessed() {
    let (stage, open) = open().await;
    goes_through_a_lot(&stage).await;
    let timeline = timeline(&stage, &["ORDER_PAID, delivery 2"])
        .await
        .to_string();
    let text = explain(&stage, &[]).await;
    open.close().await.unwrap();
    for shown in [timeline, text] {
        assert!(shown.contains("138****"), "{shown}");
        // A digest or a signature in Base64 (RFC 9530, RFC 9421) has 43 characters or more.
        let mut words = shown.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c));
        assert!(words.all(|word| word.len() < 43), "{shown}");
    }
}

fn blocks(store: &Connection) -> u32 {
    let sql = "SELECT COUNT(*) FROM exchange_log";
    store.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A stop writes the entries in memory, among them the callback that paid; with `exchange_log_days
/// = 0` nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_flushes_the_exchange_log() {
    for (more, is_recorded) in [("", true), ("\n[limits]\nexchange_log_days = 0\n", false)] {
        let stage = DemoEnvironment::set(crate::socket::ports::free(), more)
            .await
            .unwrap();
        let open = stage.open().await.unwrap();
        let shop = &stage.tea;
        let answer = placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
        stage.payer.pay(answer.text("payUrl")).await.unwrap();
        shop.wait_for_notification("ORDER_PAID", "T1")
            .await
            .unwrap();
        open.close().await.unwrap();
        assert_eq!(blocks(&file(&stage)) > 0, is_recorded);
        let text = explain(&stage, &[]).await;
        assert_eq!(
            text.contains("has nothing of this order"),
            !is_recorded,
            "{text}"
        );
        assert_eq!(
            text.contains("GENUINE: E3 succeeded"),
            is_recorded,
            "{text}"
        );
        assert!(text.contains("none dropped in this time"), "{text}");
    }
}
