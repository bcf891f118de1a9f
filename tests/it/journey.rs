//! End-to-end journeys over real sockets on loopback: the gateway as built, sandbox institutions,
//! two sandbox merchants and a payer, in the demonstration's environment.

mod chain;
mod clauses;
mod dead_lettered;
mod explained;
mod full_disk;
mod health;
mod machine;
mod manual_review;
mod metrics;
mod operations;
mod overload;
pub(crate) mod process;
pub(crate) mod races;
mod refused;
mod reload;

use paymux::command::demo::enrolment::{BLUE, RED, receiver};
use paymux::command::demo::environment::{
    DemoEnvironment, DemoGateway, DemoMerchant, WAIT_MAX, identity, payment_of,
};
use paymux::edge::DrainOutcome;
use paymux::sandbox::{
    ClientResponse, ClientSettings, InstitutionFault, MerchantClient, MerchantFault, PaymentState,
    PemIdentity, SandboxCall, SandboxInstitution,
};
use paymux::signature::{KeyRing, SigningKey};
use serde_json::{Value, json};

/// A payer whom every institution serves.
pub(crate) const PAYER: &str = "13800001234";

async fn open() -> (DemoEnvironment, DemoGateway) {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let open = stage.open().await.unwrap();
    (stage, open)
}

/// An order in webview mode that goes to an institution at once.
fn order(shop: &DemoMerchant, number: &str, sum: &str, institution: &str) -> Value {
    let mut order = shop.order(number, "WEBVIEW", sum, PAYER);
    order["institutionId"] = json!(institution);
    order
}

async fn placed(shop: &DemoMerchant, order: &Value) -> ClientResponse {
    let answer = shop.place(order).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert_eq!(answer.proof.as_ref().unwrap().owner, "paymux");
    answer
}

pub(crate) async fn queried(shop: &DemoMerchant, number: &str) -> ClientResponse {
    shop.ask("/v1/orders/query", number, json!({}))
        .await
        .unwrap()
}

/// The order's state: `orderStatus`, `attemptStatus`.
async fn states(shop: &DemoMerchant, number: &str) -> (String, String) {
    let answer = queried(shop, number).await;
    let text = |field| answer.text(field).to_owned();
    (text("orderStatus"), text("attemptStatus"))
}

/// The attempt's number, which is the order's number at the institution.
fn attempt(institution: &SandboxInstitution, number: &str) -> String {
    let book = institution.books();
    let payment = payment_of(&book, number).unwrap();
    payment.terms.merchant_order_no.clone()
}

/// Waits until the institution has booked the order.
async fn booked(institution: &SandboxInstitution, number: &str) {
    let seen = institution.wait_for(|book| payment_of(book, number).map(drop), WAIT_MAX);
    seen.await.expect("the call arrives");
}

/// The reply of the operations listener.
pub(crate) async fn operations(stage: &DemoEnvironment, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = ("127.0.0.1", stage.ports.operations);
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// R-6.3.1-4a: requests are counted by interface, result and duration, and no metric or publication
/// names a payer or an order.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_without_personal_data() {
    let (stage, open) = open().await;
    // Longer than any run of letters that a key published in base64 holds by chance.
    let number = "counted-and-not-named";
    let answer = placed(&stage.tea, &order(&stage.tea, number, "12.30", RED.id)).await;
    let page = operations(&stage, "/metrics").await;
    for line in [
        "paymux_requests_total{caller_class=\"merchant\",interface=\"A3.1\",result=\"ACCEPTED\"} 1",
        "paymux_request_duration_seconds_count{caller_class=\"merchant\",interface=\"A3.1\",outcome=\"answered\"} 1",
        "paymux_institution_calls_total{call=\"create\",institution=\"redpay\",outcome=\"answered\"} 1",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    assert!(operations(&stage, "/readyz").await.contains("200 OK"));
    let keys = format!("{}/.well-known/jwks.json", stage.origin());
    let published = stage.payer.open(&keys).await.unwrap().html;
    assert!(published.contains("Ed25519"), "{published}");
    for personal in [PAYER, answer.text("payOrderNo"), number] {
        assert!(!page.contains(personal) && !published.contains(personal));
    }
    open.close().await.unwrap();
}

/// A3.1, X-1, X-2, A3.2, A3.3, X-11, M4, R-6.2.4-1: placed, institution chosen, paid, called back,
/// notified and queried through one interface, with no messaging configured; money moves once.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_placed_chosen_paid_notified_and_found() {
    let (stage, open) = open().await;
    let shop = &stage.tea;
    let order = shop.order("T1", "AGGREGATED", "12.30", PAYER);
    let answer = placed(shop, &order).await;
    assert_eq!(answer.json["institutions"].as_array().unwrap().len(), 3);
    let choice = json!({ "institutionId": RED.id, "mode": "WEBVIEW" });
    let chosen = shop.ask("/v1/orders/select", "T1", choice).await.unwrap();
    assert_eq!(
        (chosen.status, chosen.text("attemptStatus")),
        (200, "ACCEPTED")
    );
    stage.payer.pay(chosen.text("payUrl")).await.unwrap();
    let notice = shop
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    for (field, value) in [
        ("orderAmount", "12.30"),
        ("mobileNo", PAYER),
        ("payOrderNo", answer.text("payOrderNo")),
        ("orderStatus", "PAID"),
        ("institutionId", RED.id),
    ] {
        assert_eq!(notice.fields[field], value, "{field}");
    }
    let found = queried(shop, "T1").await;
    assert_eq!(
        (found.text("orderStatus"), found.text("fee")),
        ("PAID", "0.04674"),
        "the fee has every decimal place that the institution sent"
    );
    assert_eq!(stage.red.books().taken_cents(), 1_230);
    assert_eq!(open.close().await.unwrap(), DrainOutcome::Whole);
}

/// A client of the gateway with this key and this certificate.
fn client(
    stage: &DemoEnvironment,
    key: SigningKey,
    identity: Option<PemIdentity>,
) -> MerchantClient {
    let roots_pem = std::fs::read_to_string(stage.certs().join("ca.pem")).unwrap();
    MerchantClient::new(ClientSettings {
        gateway_origin: stage.origin(),
        roots_pem,
        identity,
        key,
        gateway_keys: KeyRing::default(),
    })
    .unwrap()
}

fn key(stage: &DemoEnvironment, id: &str) -> SigningKey {
    let pem = std::fs::read_to_string(stage.certs().join(format!("{id}.key"))).unwrap();
    SigningKey::from_pkcs8_pem(id, &pem).unwrap()
}

/// Q1, Q2, Q4, Q5: every kind of bad request is refused and has no effect.
#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_and_change_nothing() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    let wanted = order(shop, "T1", "12.30", BLUE.id);
    let signed = |body: &str| shop.client.signed("/v1/orders", body).unwrap();
    let send = async |request| {
        let answer = shop.client.send(request).await.unwrap();
        (answer.status, answer.text("code").to_owned())
    };

    let mut large = wanted.clone();
    large["goodsDescription"] = json!("龙".repeat(30_000));
    let answer = send(signed(&large.to_string())).await;
    assert_eq!(answer, (413, "body_too_large".to_owned()));

    let mut unsigned = signed(&wanted.to_string());
    unsigned.headers_mut().remove("signature");
    unsigned.headers_mut().remove("signature-input");
    assert_eq!(send(unsigned).await.0, 401);

    let (head, _) = signed(&wanted.to_string()).into_parts();
    let cheaper = wanted.to_string().replace("12.30", "1.23");
    let changed = http::Request::from_parts(head, cheaper.into());
    assert_eq!(send(changed).await, (401, "digest_mismatch".to_owned()));

    let elsewhere = shop.client.post("/v1/nothing", &wanted).await.unwrap();
    assert_eq!(elsewhere.status, 404);

    let theirs = identity(&stage.certs(), stage.books.role.id).unwrap();
    for (shown, code) in [
        (Some(theirs), "certificate_foreign"),
        (None, "certificate_missing"),
    ] {
        let client = client(&stage, key(&stage, "M1001-1"), shown);
        let answer = client.post("/v1/orders", &wanted).await.unwrap();
        assert_eq!(answer.text("code"), code, "{}", answer.json);
    }

    assert_eq!(queried(shop, "T1").await.status, 404);
    assert_eq!(stage.blue.books().payments().count(), 0);
    let once = signed(&wanted.to_string());
    assert_eq!(send(once.clone()).await.0, 200);
    assert_eq!(send(once).await, (401, "nonce_spent".to_owned()));
    assert_eq!(stage.blue.books().payments().count(), 1);
}

/// C2, V3: a callback by an unauthenticated caller or with another amount changes nothing; the
/// right one is applied.
#[tokio::test(flavor = "multi_thread")]
async fn false_callbacks_change_nothing() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    let answer = placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
    let before = queried(shop, "T1").await.json;
    let callback = |sum: &str| {
        json!({
            "merchantOrderNo": attempt(&stage.blue, "T1"), "merchantName": "Tea House",
            "orderDate": "20260101", "orderAmount": sum, "currency": "CNY",
            "merchantId": receiver(stage.tea.role, BLUE), "mobileNo": PAYER,
            "paymentDate": "20260101", "paymentTime": "120000", "payOrderNo": "P1",
            "orderStatus": "PAID",
        })
    };
    let (unauthenticated, _) = SigningKey::generate_ed25519().unwrap();
    let unauthenticated = SigningKey::from_pkcs8_pem("bluebank-1", &unauthenticated).unwrap();
    for (who, key, sum) in [
        ("an unauthenticated caller", unauthenticated, "12.30"),
        ("another institution", key(&stage, "redpay-1"), "12.30"),
        ("another amount", key(&stage, "bluebank-1"), "12.31"),
    ] {
        let client = client(&stage, key, None);
        let reply = client.post("/v1/callbacks/bluebank", &callback(sum)).await;
        let reply = reply.unwrap();
        let refused = who == "another amount" || reply.text("noticeResult") != "SUCCESS";
        assert!(refused, "{who}: {} {}", reply.status, reply.json);
        assert_eq!(queried(shop, "T1").await.json, before, "{who}");
        assert!(shop.merchant.inbox().deliveries.is_empty(), "{who}");
    }
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    assert_eq!(stage.blue.books().taken_cents(), 1_230);
}

/// N7: a merchant that does not answer delays no other, and is notified in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_merchant_delays_no_other() {
    let (stage, _open) = open().await;
    stage.tea.merchant.next(MerchantFault::Slow, 1);
    for (shop, number) in [(&stage.tea, "T1"), (&stage.books, "B1")] {
        let answer = placed(shop, &order(shop, number, "12.30", BLUE.id)).await;
        stage.payer.pay(answer.text("payUrl")).await.unwrap();
    }
    stage
        .books
        .wait_for_notification("ORDER_PAID", "B1")
        .await
        .unwrap();
    let slow = stage.tea.merchant.inbox();
    assert!(slow.event("ORDER_PAID", "T1").is_none(), "still waiting");
    stage
        .tea
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
}

/// A stop lets a select finish that waits for a slow institution, and its reply arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_in_flight() {
    let (stage, open) = open().await;
    let control = stage.blue.control();
    control.next_at(SandboxCall::Create, InstitutionFault::SlowAnswer, 1);
    let wanted = order(&stage.tea, "T1", "12.30", BLUE.id);
    let stopping = async {
        booked(&stage.blue, "T1").await;
        open.close().await.unwrap()
    };
    let (answer, drained) = tokio::join!(placed(&stage.tea, &wanted), stopping);
    assert_eq!(answer.text("attemptStatus"), "ACCEPTED");
    assert_eq!(drained, DrainOutcome::Whole);
    assert!(
        stage.tea.place(&wanted).await.is_err(),
        "the listener is closed"
    );

    let _open = stage.open().await.unwrap();
    let again = placed(&stage.tea, &wanted).await;
    assert_eq!(again.text("payUrl"), answer.text("payUrl"));
    let book = stage.blue.books();
    let payment = payment_of(&book, "T1").unwrap();
    assert_eq!((payment.creates, payment.state), (1, PaymentState::Open));
}
