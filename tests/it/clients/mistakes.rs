//! The table of common mistakes in `docs/clients.md`, each of them made.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use paymux::command::demo::enrolment::{GREEN, RED};
use paymux::signature::{Covering, SigningKey, sign_request};
use paymux::world::{Clock, SystemClock};
use serde_json::{Value, json};

use super::document::PAGE;
use super::notified::covers_too_little;
use super::wire::send;
use super::{ClientTestbed, ED25519, MERCHANT, PAYER, notice_url};
use crate::tidy::tree;

/// Status and code of every row under the heading.
fn documented() -> BTreeSet<(u16, String)> {
    let page = tree::read(PAGE);
    let (_, table) = page.split_once("## Common mistakes\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = table.lines().filter_map(|line| {
        let [_, _, status, code, ..] = line.split('|').collect::<Vec<_>>()[..] else {
            return None;
        };
        let status = status.trim().parse().ok()?;
        Some((status, code.trim().trim_matches('`').to_owned()))
    });
    rows.collect()
}

/// A valid request, to be spoiled.
struct SpoilableRequest<'a> {
    scene: &'a ClientTestbed,
    key: SigningKey,
}

impl SpoilableRequest<'_> {
    fn order(&self, more: &Value) -> Value {
        let mut order = json!({
            "merchantId": MERCHANT, "transactionType": "PASSWORD_PAY",
            "businessType": "AGGREGATED", "bankReturnUrl": notice_url(self.scene.notices),
            "merchantOrderNo": "T1", "merchantName": "Corner \"Shop\"", "orderDate": "20260101",
            "orderAmount": "12.30", "mobileNo": PAYER,
        });
        order
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        order
    }

    fn target(&self, path: &str) -> String {
        format!("{}{path}", self.scene.stage.origin())
    }

    fn signed(&self, order: &Value, age_s: i64, nonce: &str) -> Request<Bytes> {
        let target = self.target("/v1/orders");
        let mut request = Request::post(&target)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(order.to_string()))
            .unwrap();
        let created_s = SystemClock::start().now().seconds() - age_s;
        let covering = Covering {
            created_s,
            expires_s: Some(created_s + 120),
            nonce: Some(nonce),
        };
        sign_request(&mut request, &target, &self.key, &covering).unwrap();
        request
    }

    async fn answered(&self, mut request: Request<Bytes>, shown: Option<&str>) -> (u16, String) {
        let authority = request.uri().authority().unwrap().to_string();
        let path = request.uri().path().to_owned();
        let host = HeaderValue::try_from(authority).unwrap();
        request.headers_mut().entry(header::HOST).or_insert(host);
        *request.uri_mut() = path.parse().unwrap();
        let stage = &self.scene.stage;
        let answer = send(&stage.certs(), shown, stage.ports.public, request).await;
        let fields: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let code = fields["code"].as_str().unwrap_or_default().to_owned();
        (answer.status().as_u16(), code)
    }
}

impl ClientTestbed {
    /// A private key of the environment under a given name.
    fn key(&self, file: &str, id: &str) -> SigningKey {
        let pem = std::fs::read_to_string(self.stage.certs().join(file)).unwrap();
        SigningKey::from_pkcs8_pem(id, &pem).unwrap()
    }
}

/// A nonce of its own for each request.
fn nonce(number: usize) -> String {
    format!("AAAAAAAAAAAAAAAA{number:06}")
}

/// Each mistake once, by a merchant whose first order was `first`.
fn mistaken(spoilable: &SpoilableRequest<'_>, first: Request<Bytes>) -> Vec<Request<Bytes>> {
    let right = spoilable.order(&json!({}));
    let good = |number| spoilable.signed(&right, 0, &nonce(number));
    let with = |number, more| spoilable.signed(&spoilable.order(&more), 0, &nonce(number));
    let another = |number, more: &str| {
        let (field, value) = more.split_once('=').unwrap();
        with(number, json!({ "merchantOrderNo": "T2", field: value }))
    };
    let by = |file, id| SpoilableRequest {
        scene: spoilable.scene,
        key: spoilable.scene.key(file, id),
    };
    let mut rewritten = good(1);
    *rewritten.body_mut() = serde_json::to_vec_pretty(&right).unwrap().into();
    let mut little = good(2);
    covers_too_little(&mut little, &spoilable.key);
    let mut elsewhere = good(3);
    *elsewhere.uri_mut() = spoilable.target("/v1/orders/query").parse().unwrap();
    let mut named = good(4);
    let address = HeaderValue::from_static("127.0.0.1");
    named.headers_mut().insert(header::HOST, address);
    let mut text = good(5);
    let plain = HeaderValue::from_static("text/plain");
    text.headers_mut().insert(header::CONTENT_TYPE, plain);
    let dear = json!({
        "merchantOrderNo": "T2", "institutionId": RED.id, "orderAmount": "2000.01",
    });
    vec![
        first,
        rewritten,
        little,
        elsewhere,
        named,
        text,
        spoilable.signed(&right, 1_000, &nonce(6)),
        spoilable.signed(&right, -100, &nonce(7)),
        spoilable.signed(&right, 0, "short"),
        by("M3003-1.key", "M3003-7").signed(&right, 0, &nonce(8)),
        by("M1001-1.key", "M3003-1").signed(&right, 0, &nonce(9)),
        with(10, json!({ "orderAmount": "12.31" })),
        with(11, json!({ "orderDate": "20260102" })),
        another(12, "merchantId=M1001"),
        another(13, "merchantName=Corner Shop"),
        another(14, "bankReturnUrl=https://localhost:1/"),
        another(15, &format!("institutionId={}", GREEN.id)),
        with(16, dear),
    ]
}

/// Q1, Q2, Q4, Q5, Q7, R-6.3.1-1a: every mistake in the document's table gets the documented reply,
/// and none has an effect.
#[tokio::test(flavor = "multi_thread")]
async fn every_common_mistake_is_answered_as_documented() {
    let scene = ClientTestbed::set(ED25519).await;
    let spoilable = SpoilableRequest {
        scene: &scene,
        key: scene.key("M3003-1.key", "M3003-1"),
    };
    let signed = |number| spoilable.signed(&spoilable.order(&json!({})), 0, &nonce(number));
    let first = signed(0);
    let placed = spoilable.answered(first.clone(), Some(MERCHANT)).await;
    assert_eq!(placed.0, 200);
    let mut made = BTreeSet::new();
    for request in mistaken(&spoilable, first) {
        made.insert(spoilable.answered(request, Some(MERCHANT)).await);
    }
    made.insert(spoilable.answered(signed(21), None).await);
    made.insert(spoilable.answered(signed(22), Some("M1001")).await);
    assert_eq!(made, documented());
    assert!(scene.stage.red.books().payments().next().is_none());
}
