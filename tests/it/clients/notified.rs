//! Notifications to the programs: by the gateway's key, and by others.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use paymux::sandbox::{ClientResponse, ClientSettings, MerchantClient};
use paymux::signature::{Covering, KeyRing, SigningKey, sign_request, sign_response};
use paymux::world::{Clock, SystemClock};
use serde_json::{Value, json};

use super::program::Program;
use super::relay::{content_digest, platform, unauthenticated};
use super::{ClientTestbed, ED25519, MERCHANT, PAYER, notice_url};

/// A notification as the gateway signs it, to be spoiled before it is sent.
pub(super) struct SpoilableNotification<'a> {
    scene: &'a ClientTestbed,
    body: Value,
}

impl<'a> SpoilableNotification<'a> {
    /// About an order that the programs placed.
    pub(super) fn of(scene: &'a ClientTestbed) -> Self {
        scene.remember("T9 12.3 CNY");
        let body = body();
        Self { scene, body }
    }

    /// Sends it as the gateway does.
    pub(super) async fn honest(&self) -> ClientResponse {
        let key = platform(&self.scene.stage.certs());
        let url = notice_url(self.scene.notices);
        self.send(self.request(&key, &url, 0)).await
    }

    /// Sends it signed by an unknown key.
    pub(super) async fn unknown(&self) -> ClientResponse {
        let key = named(&self.scene.stage.certs(), "platform-9");
        let url = notice_url(self.scene.notices);
        self.send(self.request(&key, &url, 0)).await
    }

    fn request(&self, key: &SigningKey, target: &str, age_s: i64) -> Request<Bytes> {
        let mut request = Request::post(target)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(self.body.to_string()))
            .unwrap();
        let now = SystemClock::start().now().seconds();
        let covering = Covering {
            created_s: now - age_s,
            expires_s: Some(now + 300),
            nonce: Some("AAAAAAAAAAAAAAAAAAAAAA"),
        };
        sign_request(&mut request, target, key, &covering).unwrap();
        request
    }

    async fn send(&self, mut request: Request<Bytes>) -> ClientResponse {
        // Whatever it was signed for, it goes to the endpoint.
        let path = request.uri().path_and_query().unwrap().clone();
        *request.uri_mut() = format!("https://localhost:{}{path}", self.scene.notices)
            .parse()
            .unwrap();
        let certs = self.scene.stage.certs();
        let teller = MerchantClient::new(ClientSettings {
            gateway_origin: format!("https://localhost:{}", self.scene.notices),
            roots_pem: std::fs::read_to_string(certs.join("ca.pem")).unwrap(),
            identity: None,
            key: platform(&certs),
            gateway_keys: KeyRing::default(),
        });
        teller.unwrap().send(request).await.unwrap()
    }
}

/// A notification like the gateway's.
fn body() -> Value {
    json!({
        "merchantOrderNo": "T9", "merchantName": "Corner \"Shop\"", "orderDate": "20260101",
        "orderAmount": "12.30", "merchantId": MERCHANT, "mobileNo": PAYER,
        "paymentDate": "20260101", "paymentTime": "120000", "payOrderNo": "P1",
        "orderStatus": "PAID", "eventId": "E9", "eventType": "ORDER_PAID", "version": 3,
        "currency": "CNY", "attach": "\"eventId\":\"E10\"",
    })
}

/// Everything that must be refused.
fn spoilt(
    notifications: &SpoilableNotification<'_>,
    certs: &Path,
    url: &str,
) -> Vec<(&'static str, Request<Bytes>)> {
    let key = platform(certs);
    let good = notifications.request(&key, url, 0);
    let spoil = |spoil: &dyn Fn(&mut Request<Bytes>)| {
        let mut request = good.clone();
        spoil(&mut request);
        request
    };
    let other_amount = Bytes::from(notifications.body.to_string().replace("12.30", "99.30"));
    let another = spoil(&|it| *it.body_mut() = other_amount.clone());
    let with_its_digest = spoil(&|it| {
        *it.body_mut() = other_amount.clone();
        it.headers_mut()
            .insert("content-digest", content_digest(&other_amount));
    });
    let unsigned = spoil(&|it| {
        it.headers_mut().remove("signature");
        it.headers_mut().remove("signature-input");
    });
    let little = spoil(&|it| covers_too_little(it, &key));
    let unknown = named(certs, "platform-9");
    let saying = |field: &str, value: &str| {
        let mut body = notifications.body.clone();
        body[field] = json!(value);
        let scene = notifications.scene;
        SpoilableNotification { scene, body }.request(&key, url, 0)
    };
    let elsewhere = url.replace("/notices", "/elsewhere");
    vec![
        ("another body", another),
        ("another body with its digest", with_its_digest),
        ("no signature", unsigned),
        ("a signature over too few components", little),
        (
            "signed by an unenrolled key",
            notifications.request(&unauthenticated(), url, 0),
        ),
        (
            "signed under an unknown key id",
            notifications.request(&unknown, url, 0),
        ),
        (
            "for another host",
            notifications.request(&key, "https://localhost:1/notices", 0),
        ),
        (
            "for another path",
            notifications.request(&key, &elsewhere, 0),
        ),
        ("an old one", notifications.request(&key, url, 1_000)),
        (
            "one in the future",
            notifications.request(&key, url, -1_000),
        ),
        (
            "for another query",
            notifications.request(&key, &url.replace("shop=7", "shop=8"), 0),
        ),
        // These with a signature of the gateway's own key.
        ("another merchant", saying("merchantId", "M1001")),
        ("another order", saying("merchantOrderNo", "T8")),
        ("another amount", saying("orderAmount", "12.31")),
        ("another currency", saying("currency", "MOP")),
    ]
}

/// A tampered notification is refused; an accepted one is entered once.
async fn refuses_tampered_notifications(program: Program) {
    let scene = ClientTestbed::set(ED25519).await;
    let mut listening = program.listen(&scene.around, scene.notices).await;
    let certs = scene.stage.certs();
    let (key, url) = (platform(&certs), notice_url(scene.notices));
    let mut notifications = SpoilableNotification::of(&scene);
    for (what, request) in spoilt(&notifications, &certs, &url) {
        let answer = notifications.send(request).await;
        let success = answer.text("noticeResult") == "SUCCESS";
        let refused = answer.status == 401 && !success;
        assert!(refused, "{program:?} believes {what}");
        assert!(scene.book().is_empty(), "{what}");
    }
    for expected in ["heard E9", "repeated E9"] {
        let answer = notifications
            .send(notifications.request(&key, &url, 0))
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json, json!({ "noticeResult": "SUCCESS" }));
        assert_eq!(listening.next_line().await, expected);
        assert_eq!(scene.book(), ["E9 ORDER_PAID T9 12.30 CNY PAID"]);
    }
    notifications.body["eventId"] = json!("E8");
    let acknowledged = notifications
        .send(notifications.request(&key, &url, 0))
        .await;
    assert_eq!(acknowledged.status, 200);
    assert_eq!(scene.book().len(), 2);
    // An event acknowledged before is known to the next process as well.
    listening.ended().await;
    let mut again = program.listen(&scene.around, scene.notices).await;
    let acknowledged = notifications
        .send(notifications.request(&key, &url, 0))
        .await;
    assert_eq!(acknowledged.status, 200);
    assert_eq!(again.next_line().await, "repeated E8");
    assert_eq!(scene.book().len(), 2);
}

/// The platform's own signature, over the body and not the target.
pub(super) fn covers_too_little(request: &mut Request<Bytes>, key: &SigningKey) {
    let mut answer = http::Response::new(request.body().clone());
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    let now = SystemClock::start().now().seconds();
    sign_response(&mut answer, None, key, now).unwrap();
    for name in ["signature", "signature-input"] {
        let value = answer.headers()[name].clone();
        request.headers_mut().insert(name, value);
    }
}

/// The platform's key under another id.
fn named(certs: &Path, id: &str) -> SigningKey {
    let file = certs.join("platform-1.key");
    SigningKey::from_pkcs8_pem(id, &std::fs::read_to_string(file).unwrap()).unwrap()
}

/// N2, N3, Q2: a notification is accepted only whole, signed by the platform's key, for this
/// address, and in time; and acted on once.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_refuses_tampered_notifications() {
    refuses_tampered_notifications(Program::Python).await;
}

/// N2, N3, Q2: the same in Node.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_refuses_tampered_notifications() {
    refuses_tampered_notifications(Program::Node).await;
}

/// N2, N3, Q2: the same with curl and openssl, given one request at a time.
#[tokio::test(flavor = "multi_thread")]
async fn the_curl_client_refuses_tampered_notifications() {
    refuses_tampered_notifications(Program::Curl).await;
}

/// N2, N3, Q2: the same in Java.
#[tokio::test(flavor = "multi_thread")]
async fn the_java_client_refuses_tampered_notifications() {
    refuses_tampered_notifications(Program::Java).await;
}
