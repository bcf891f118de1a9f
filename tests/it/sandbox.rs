//! The sandbox institutions and merchants keep the interface, and misbehave only when told to: over
//! real sockets on loopback, with certificates made for the run.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use paymux::sandbox::{
    Authority, ClientResponse, ClientSettings, InstitutionDelays, InstitutionFault,
    InstitutionLedger, InstitutionSettings, MerchantClient, MerchantFault, MerchantSettings,
    PaymentState, RefundCapabilities, SandboxCall, SandboxInstitution, SandboxMerchant,
    SimulatedPayer,
};
use paymux::signature::{EnrolledKey, KeyRing, SigningKey, VerifyingKey};
use serde_json::{Value, json};

mod alipay;
mod listener;
mod refunds;
mod unionpay;
mod wechatpay;

use listener::CallbackListener;

/// Long enough for a busy machine; only a failing test waits for it.
const TIMEOUT: Duration = Duration::from_secs(20);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn pair(id: &str, owner: &str) -> (SigningKey, EnrolledKey) {
    let (private, public) = SigningKey::generate_ed25519().unwrap();
    let enrolled = EnrolledKey {
        id: id.to_owned(),
        owner: owner.to_owned(),
        key: VerifyingKey::from_spki_pem(&public).unwrap(),
        not_before_s: 0,
        not_after_s: i64::MAX,
    };
    (SigningKey::from_pkcs8_pem(id, &private).unwrap(), enrolled)
}

/// An institution, an authenticated caller, and a listener for its callbacks.
struct SandboxTestbed {
    institution: SandboxInstitution,
    caller: MerchantClient,
    payer: SimulatedPayer,
    listener: CallbackListener,
}

impl SandboxTestbed {
    async fn build() -> Self {
        Self::build_with(RefundCapabilities::default()).await
    }

    async fn build_with(refunding: RefundCapabilities) -> Self {
        let authority = Authority::new("Test").unwrap();
        let identity = authority
            .issue("Harbour", &["127.0.0.1", "localhost"])
            .unwrap();
        let roots_pem = authority.roots_pem();
        let (ours, ours_enrolled) = pair("paymux-1", "paymux");
        let (theirs, theirs_enrolled) = pair("harbour-1", "harbour");
        let callers = KeyRing::new(vec![ours_enrolled]).unwrap();
        let bank_keys = KeyRing::new(vec![theirs_enrolled]).unwrap();
        let short = Duration::from_millis(1);
        let settings = InstitutionSettings {
            id: "harbour".to_owned(),
            name: "海港银行".to_owned(),
            listen: LOOPBACK,
            host: "127.0.0.1".to_owned(),
            identity: identity.clone(),
            key: theirs,
            callers,
            accounts: vec!["acct1".to_owned()],
            roots_pem: roots_pem.clone(),
            can_close: true,
            remembers_close: true,
            refunding,
            waits: InstitutionDelays {
                slow: short,
                hold: short,
                late: short,
                again: vec![short],
            },
        };
        let institution = SandboxInstitution::start(settings).await.unwrap();
        let listener = CallbackListener::start(&identity, ours.clone(), bank_keys.clone()).await;
        let caller = MerchantClient::new(ClientSettings {
            gateway_origin: institution.origin(),
            roots_pem: roots_pem.clone(),
            identity: None,
            key: ours,
            gateway_keys: bank_keys,
        })
        .unwrap();
        let payer = SimulatedPayer::new(&roots_pem).unwrap();
        Self {
            institution,
            caller,
            payer,
            listener,
        }
    }

    fn order(&self, number: &str, sum: &str) -> Value {
        json!({
            "transactionType": "PASSWORD_PAY", "businessType": "WEBVIEW",
            "bankReturnUrl": self.listener.url("/v1/callbacks/harbour"),
            "merchantOrderNo": number, "merchantName": "Tea House", "orderDate": "20260102",
            "orderAmount": sum, "merchantId": "acct1", "mobileNo": "13800138000",
        })
    }

    async fn create(&self, number: &str, sum: &str) -> ClientResponse {
        self.caller
            .post("/v1/orders", &self.order(number, sum))
            .await
            .unwrap()
    }

    async fn ask(&self, path: &str, number: &str) -> ClientResponse {
        let body = json!({ "merchantOrderNo": number, "merchantId": "acct1" });
        self.caller.post(path, &body).await.unwrap()
    }

    async fn acknowledged(&self, number: &str, times: u32) {
        let acknowledged =
            |book: &InstitutionLedger| (book.payment(number)?.acknowledged >= times).then_some(());
        let acknowledged = self.institution.wait_for(acknowledged, TIMEOUT).await;
        assert!(acknowledged.is_some(), "no callback was acknowledged");
    }
}

/// A3.1, A3.2, A3.3
#[tokio::test]
async fn a_payment_is_created_paid_called_back_and_notified() {
    let gateway = SandboxTestbed::build().await;
    let created = gateway.create("A1", "12.00").await;
    assert_eq!(created.status, 200, "{:?}", created.json);
    assert_eq!(created.proof.as_ref().unwrap().owner, "harbour");
    assert_eq!(created.text("orderStatus"), "OPEN");
    let page = gateway.payer.pay(created.text("payUrl")).await.unwrap();
    assert!(page.html.contains("支付成功"));
    gateway.acknowledged("A1", 1).await;
    let callback = gateway.listener.bodies().remove(0);
    assert_eq!(
        (&callback["orderAmount"], &callback["orderStatus"]),
        (&json!("12.00"), &json!("PAID"))
    );
    let reply = gateway.ask("/v1/orders/query", "A1").await;
    assert_eq!(
        (reply.text("orderStatus"), reply.text("fee")),
        ("PAID", "0.0456")
    );
    assert_eq!(reply.text("paymentTime").len(), 6);
    assert_eq!(
        gateway.ask("/v1/orders/close", "A1").await.text("code"),
        "order_paid"
    );
    assert_eq!(gateway.institution.books().taken_cents(), 1_200);
}

/// K2
#[tokio::test]
async fn an_equal_create_brings_the_same_payment_action_and_another_is_refused() {
    let gateway = SandboxTestbed::build().await;
    let first = gateway.create("A1", "12.00").await;
    let again = gateway.create("A1", "12.00").await;
    assert_eq!(first.text("payUrl"), again.text("payUrl"));
    let other = gateway.create("A1", "13.00").await;
    assert_eq!((other.status, other.text("code")), (409, "order_conflict"));
    assert!(other.proof.is_ok(), "refusals are signed as well");
}

/// Q2, Q5
#[tokio::test]
async fn changed_and_repeated_requests_are_refused() {
    let gateway = SandboxTestbed::build().await;
    let body = gateway.order("A1", "12.00").to_string();
    let signed = gateway.caller.signed("/v1/orders", &body).unwrap();
    let (head, _) = signed.clone().into_parts();
    let changed = Request::from_parts(head, Bytes::from(body.replace("12.00", "11.00")));
    assert_eq!(gateway.caller.send(changed).await.unwrap().status, 401);
    assert_eq!(
        gateway.caller.send(signed.clone()).await.unwrap().status,
        200
    );
    let repeated = gateway.caller.send(signed).await.unwrap();
    assert_eq!(repeated.text("code"), "nonce_spent");
    assert_eq!(gateway.institution.books().payments().count(), 1);
}

/// K3
#[tokio::test]
async fn foreign_accounts_and_unknown_numbers_are_refused() {
    let gateway = SandboxTestbed::build().await;
    assert_eq!(gateway.ask("/v1/orders/query", "none").await.status, 404);
    let mut foreign = gateway.order("A1", "1.00");
    foreign["merchantId"] = json!("acct2");
    let refused = gateway.caller.post("/v1/orders", &foreign).await.unwrap();
    assert_eq!((refused.status, refused.text("field")), (403, "merchantId"));
}

/// A5
#[tokio::test]
async fn a_closed_number_is_never_paid() {
    let gateway = SandboxTestbed::build().await;
    let created = gateway.create("A1", "12.00").await;
    assert_eq!(
        gateway
            .ask("/v1/orders/close", "A1")
            .await
            .text("orderStatus"),
        "CLOSED"
    );
    gateway
        .payer
        .pay(created.text("payUrl"))
        .await
        .expect_err("a closed page has no form");
    assert_eq!(
        gateway
            .ask("/v1/orders/close", "A2")
            .await
            .text("orderStatus"),
        "CLOSED"
    );
    assert_eq!(
        gateway.create("A2", "1.00").await.text("code"),
        "order_closed"
    );
    assert_eq!(gateway.institution.books().taken_cents(), 0);
}

/// R-5.1.3-2
#[tokio::test]
async fn an_sdk_pays_like_the_page() {
    let gateway = SandboxTestbed::build().await;
    let mut order = gateway.order("A1", "3.00");
    order["businessType"] = json!("NATIVE");
    let created = gateway.caller.post("/v1/orders", &order).await.unwrap();
    let parameters = &created.json["sdkParameters"];
    let origin = gateway.institution.origin();
    gateway
        .payer
        .pay_by_sdk(&origin, parameters, "fail")
        .await
        .unwrap();
    let paid = gateway
        .payer
        .pay_by_sdk(&origin, parameters, "pay")
        .await
        .unwrap();
    assert!(paid.html.contains("PAID"), "{}", paid.html);
    gateway.acknowledged("A1", 1).await;
    assert_eq!(
        gateway.institution.books().payment("A1").unwrap().failures,
        1
    );
}

/// E5
#[tokio::test]
async fn a_lost_answer_leaves_a_booked_payment() {
    let gateway = SandboxTestbed::build().await;
    for (number, sum) in [("A62", "1.62"), ("A63", "1.63")] {
        let lost = gateway
            .caller
            .post("/v1/orders", &gateway.order(number, sum))
            .await;
        assert!(lost.is_err(), "{sum}");
        assert_eq!(
            gateway
                .ask("/v1/orders/query", number)
                .await
                .text("orderStatus"),
            "OPEN"
        );
    }
    assert_eq!(gateway.create("A65", "1.65").await.status, 500);
    assert_eq!(gateway.ask("/v1/orders/query", "A65").await.status, 200);
    assert_eq!(gateway.create("A61", "1.61").await.status, 200);
}

/// E2, E5
#[tokio::test]
async fn refused_and_broken_creates_book_nothing() {
    let gateway = SandboxTestbed::build().await;
    assert_eq!(gateway.create("A64", "1.64").await.status, 503);
    assert_eq!(
        gateway.create("A68", "1.68").await.text("code"),
        "payment_refused"
    );
    assert_eq!(gateway.institution.books().payments().count(), 0);
}

/// Q3, C3
#[tokio::test]
async fn forged_answers_and_unlisted_words_come_when_ordered() {
    let gateway = SandboxTestbed::build().await;
    assert!(gateway.create("A66", "1.66").await.proof.is_err());
    assert_eq!(
        gateway.create("A67", "1.67").await.text("orderStatus"),
        "SETTLING"
    );
    gateway
        .institution
        .control()
        .next_at(SandboxCall::Query, InstitutionFault::ForgedAnswer, 1);
    assert!(gateway.ask("/v1/orders/query", "A66").await.proof.is_err());
    assert!(gateway.ask("/v1/orders/query", "A66").await.proof.is_ok());
}

/// E3
#[tokio::test]
async fn an_early_callback_is_received_before_the_answer() {
    let gateway = SandboxTestbed::build().await;
    let created = gateway.create("A69", "1.69").await;
    assert_eq!(created.text("orderStatus"), "OPEN");
    assert_eq!(gateway.listener.bodies().len(), 1);
    let paid = gateway.institution.books().payment("A69").unwrap().state;
    assert_eq!(paid, PaymentState::Paid);
}

/// A8
#[tokio::test]
async fn closes_are_refused_or_broken_when_ordered() {
    let gateway = SandboxTestbed::build().await;
    gateway.create("A71", "1.71").await;
    assert_eq!(
        gateway.ask("/v1/orders/close", "A71").await.text("code"),
        "close_refused"
    );
    gateway.create("A72", "1.72").await;
    assert_eq!(
        gateway
            .ask("/v1/orders/close", "A72")
            .await
            .text("orderStatus"),
        "CLOSED"
    );
    gateway.acknowledged("A72", 1).await;
    assert_eq!(gateway.institution.books().taken_cents(), 172);
}

/// C5, V3, Q2
#[tokio::test]
async fn callbacks_repeat_lie_and_vanish_when_ordered() {
    let gateway = SandboxTestbed::build().await;
    for (number, sum, times) in [("A81", "1.81", 2), ("A82", "1.82", 1), ("A84", "1.84", 1)] {
        let created = gateway.create(number, sum).await;
        gateway.payer.pay(created.text("payUrl")).await.unwrap();
        gateway.acknowledged(number, times).await;
    }
    assert_eq!(gateway.listener.forged(), 1);
    let created = gateway.create("A83", "1.83").await;
    gateway.payer.pay(created.text("payUrl")).await.unwrap();
    gateway.acknowledged("A83", 2).await;
    let sums: Vec<Value> = gateway
        .listener
        .bodies()
        .iter()
        .map(|body| body["orderAmount"].clone())
        .collect();
    assert_eq!(
        sums,
        ["1.81", "1.81", "1.82", "1.84", "1.84", "1.83"].map(Value::from)
    );
    let created = gateway.create("A85", "1.85").await;
    gateway.payer.pay(created.text("payUrl")).await.unwrap();
    let lost = gateway.institution.books().payment("A85").unwrap().clone();
    assert_eq!((lost.state, lost.callbacks), (PaymentState::Paid, 0));
}

/// The sandbox's payment page masks the password and has no script.
#[tokio::test]
async fn the_page_masks_the_password_and_runs_nothing() {
    let gateway = SandboxTestbed::build().await;
    let created = gateway.create("A1", "12.00").await;
    let page = gateway.payer.open(created.text("payUrl")).await.unwrap();
    assert!(page.html.contains("type=\"password\"") && page.html.contains("autocomplete=\"off\""));
    assert!(page.html.contains("Tea House") && !page.html.contains("<script"));
    assert_eq!(page.headers["cache-control"], "no-store");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"));
}

/// A merchant, and a gateway that can only notify it.
async fn shop() -> (SandboxMerchant, MerchantClient) {
    let authority = Authority::new("Test").unwrap();
    let (platform, enrolled) = pair("paymux-1", "paymux");
    let merchant = SandboxMerchant::start(MerchantSettings {
        id: "tea".to_owned(),
        listen: LOOPBACK,
        host: "localhost".to_owned(),
        identity: authority.issue("Tea House", &["localhost"]).unwrap(),
        platform: KeyRing::new(vec![enrolled]).unwrap(),
        slow: Duration::from_millis(1),
    })
    .await
    .unwrap();
    let gateway = MerchantClient::new(ClientSettings {
        gateway_origin: merchant.origin(),
        roots_pem: authority.roots_pem(),
        identity: None,
        key: platform,
        gateway_keys: KeyRing::default(),
    })
    .unwrap();
    (merchant, gateway)
}

/// An event with A3.3's ten fields.
fn event(id: &str, event_type: &str) -> Value {
    let mut event = json!({ "eventId": id, "eventType": event_type, "version": 3 });
    for field in [
        "merchantOrderNo",
        "merchantName",
        "orderDate",
        "orderAmount",
        "merchantId",
        "mobileNo",
        "paymentDate",
        "paymentTime",
        "payOrderNo",
        "orderStatus",
    ] {
        event[field] = json!("M1");
    }
    event
}

/// N2, N3
#[tokio::test]
async fn a_merchant_receives_each_event_once_whatever_it_does() {
    let (merchant, gateway) = shop().await;
    let event = event("e1", "ORDER_PAID");
    let post = async || gateway.post("/notices", &event).await;
    for fault in [
        MerchantFault::Refuses,
        MerchantFault::Lies,
        MerchantFault::Dead,
        MerchantFault::Slow,
    ] {
        merchant.next(fault, 1);
    }
    assert_eq!(post().await.unwrap().status, 503);
    assert_eq!(post().await.unwrap().text("noticeResult"), "RECEIVED");
    assert!(post().await.is_err());
    assert_eq!(post().await.unwrap().text("noticeResult"), "SUCCESS");
    assert_eq!(post().await.unwrap().text("noticeResult"), "SUCCESS");
    let acknowledged = merchant
        .wait_for(|inbox| inbox.event("ORDER_PAID", "M1").cloned(), TIMEOUT)
        .await;
    assert_eq!(acknowledged.unwrap().version, 3);
    assert_eq!(
        (
            merchant.inbox().events.len(),
            merchant.inbox().deliveries.len()
        ),
        (1, 4)
    );
    merchant.stop().await;
}
