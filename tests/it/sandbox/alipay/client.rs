//! A small client of the gateway, written from the wire format: signs requests, finds the node of
//! an answer by its characters and verifies it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use form_urlencoded::byte_serialize;
use http::{Method, Request};
use paymux::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};
use paymux::sandbox::{
    AlipayApp, AlipayAuthorisation, AlipayControl, AlipayDelays, AlipayKey, AlipaySettings,
    AlipayTime, Authority, ClientResponse, ClientSettings, EmptyDay, ExchangeFault, MerchantClient,
    SandboxAlipay, SimulatedPayer,
};
use paymux::signature::KeyRing;
use serde_json::{Value, json};
use time::macros::{format_description, offset};

use super::inbox::{NoticeForm, NoticeInbox};
use crate::sandbox::{TIMEOUT, pair};

pub(super) const APP_ID: &str = "2021000123456789";
pub(super) const SELLER_ID: &str = "2088123412341234";
/// The merchant that authorised the provider, and the token of the wire format's vector.
pub(super) const SUB_SELLER_ID: &str = "2088000011112222";
pub(super) const SUB_APP_ID: &str = "2021000987654321";
pub(super) const TOKEN: &str = "202601BB5c2b1a0d9e8f47a6b3c4d5e6f7a8b901";
/// 2026-01-01 08:00:00 in UTC+8, at which most vectors are signed. Unit: Unix milliseconds.
pub(super) const START_MS: i64 = 1_767_225_600_000;

pub(super) type Form = BTreeMap<String, String>;

/// Keys, messages and signatures of the wire format; the keys were made for it.
pub(super) fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn der(name: &str) -> Vec<u8> {
    STANDARD.decode(vectors()[name].as_str().unwrap()).unwrap()
}

pub(super) fn public_key(name: &str) -> RsaPublicKey {
    RsaPublicKey::from_spki(&der(name), RsaScheme::Pkcs1Sha256).unwrap()
}

/// The text that a signature covers.
pub(super) fn covered(form: &Form, without: &[&str]) -> String {
    let pairs: Vec<String> = form
        .iter()
        .filter(|(name, value)| !value.is_empty() && !without.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

pub(super) fn encoded(form: &Form) -> String {
    let quoted = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pairs: Vec<String> = form
        .iter()
        .map(|(name, value)| format!("{}={}", quoted(name), quoted(value)))
        .collect();
    pairs.join("&")
}

pub(super) fn verified(key: &RsaPublicKey, text: &str, signature: &str) -> bool {
    let signature = STANDARD.decode(signature).unwrap_or_default();
    key.verify(text.as_bytes(), &signature)
}

/// Whether a notification is the gateway's.
pub(super) fn is_genuine(form: &NoticeForm) -> bool {
    let text = covered(form, &["sign", "sign_type"]);
    form["sign_type"] == "RSA2" && verified(&public_key("alipay_public"), &text, &form["sign"])
}

/// The characters of a member's value at the top level, found without reading them as JSON.
pub(super) fn member<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let bytes = body.as_bytes();
    let key = format!("\"{name}\":");
    let (mut at, mut depth, mut in_text) = (0, 0, false);
    let mut start = None;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_text => at += 1,
            b'"' => {
                if !in_text && depth == 1 && start.is_none() && body[at..].starts_with(&key) {
                    at += key.len();
                    start = Some(at);
                    continue;
                }
                in_text = !in_text;
            }
            b'{' | b'[' if !in_text => depth += 1,
            b',' if !in_text && depth == 1 && start.is_some() => {
                return body.get(start?..at);
            }
            b'}' | b']' if !in_text => {
                depth -= 1;
                if depth == 0 {
                    return body.get(start?..at);
                }
            }
            _ => (),
        }
        at += 1;
    }
    None
}

/// An answer of the gateway.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) body: String,
    /// The node as JSON.
    pub(super) node: Value,
    /// Whether it was the method's node, not `error_response`.
    pub(super) is_of_method: bool,
    pub(super) is_signed: bool,
}

impl Answered {
    pub(super) fn read(body: &str, method: &str) -> Self {
        let name = format!("{}_response", method.replace('.', "_"));
        let of_method = member(body, &name);
        let text = of_method.or_else(|| member(body, "error_response"));
        let text = text.unwrap_or("null");
        let signature = member(body, "sign").unwrap_or_default().trim_matches('"');
        Self {
            body: body.to_owned(),
            node: serde_json::from_str(text).unwrap(),
            is_of_method: of_method.is_some(),
            is_signed: verified(&public_key("alipay_public"), text, signature),
        }
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.node[name].as_str().unwrap_or_default()
    }

    /// `code`, or `code` and `sub_code`.
    pub(super) fn outcome(&self) -> (&str, &str) {
        (self.text("code"), self.text("sub_code"))
    }
}

/// A gateway, a client with the wire format's application key, a payer and a merchant's server.
pub(super) struct AlipayTestbed {
    pub(super) gateway: SandboxAlipay,
    pub(super) control: AlipayControl,
    pub(super) payer: SimulatedPayer,
    pub(super) inbox: NoticeInbox,
    client: MerchantClient,
    key: RsaPrivateKey,
}

impl AlipayTestbed {
    pub(super) async fn build() -> Self {
        Self::build_with(|_| ()).await
    }

    pub(super) async fn build_with(adjust: impl FnOnce(&mut AlipaySettings)) -> Self {
        let authority = Authority::new("Test").unwrap();
        let identity = authority.issue("Alipay", &["127.0.0.1"]).unwrap();
        let vectors = vectors();
        let text = |name: &str| vectors[name].as_str().unwrap().to_owned();
        let short = Duration::from_millis(1);
        let mut settings = AlipaySettings {
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            host: "127.0.0.1".to_owned(),
            identity: identity.clone(),
            roots_pem: authority.roots_pem(),
            key: AlipayKey {
                private_key: text("alipay_private"),
                certificate: None,
            },
            apps: vec![AlipayApp {
                app_id: APP_ID.to_owned(),
                seller_id: SELLER_ID.to_owned(),
                public_key: Some(text("app_public")),
                certificates: None,
            }],
            authorisations: vec![AlipayAuthorisation {
                app_id: APP_ID.to_owned(),
                code: "P1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6".to_owned(),
                token: TOKEN.to_owned(),
                refresh_token: "202601BBrefresh".to_owned(),
                auth_app_id: SUB_APP_ID.to_owned(),
                seller_id: SUB_SELLER_ID.to_owned(),
            }],
            empty_day: EmptyDay::EmptyFile,
            time: AlipayTime {
                start_ms: Some(START_MS),
                speed: 0,
            },
            delays: AlipayDelays {
                slow: short,
                hold: short,
            },
        };
        adjust(&mut settings);
        let gateway = SandboxAlipay::start(settings).await.unwrap();
        let client = MerchantClient::new(ClientSettings {
            gateway_origin: gateway.gateway_url(),
            roots_pem: authority.roots_pem(),
            identity: None,
            key: pair("unused", "unused").0,
            gateway_keys: KeyRing::default(),
        })
        .unwrap();
        let scheme = RsaScheme::Pkcs1Sha256;
        Self {
            control: gateway.control(),
            payer: SimulatedPayer::new(&authority.roots_pem()).unwrap(),
            inbox: NoticeInbox::start(&identity).await,
            key: RsaPrivateKey::from_pkcs8(&der("app_private"), scheme).unwrap(),
            client,
            gateway,
        }
    }

    pub(super) fn advance_s(&self, seconds: u64) {
        self.control.advance(Duration::from_secs(seconds));
    }

    /// The gateway's moment, later by so many seconds, as it stands on the wire.
    pub(super) fn moment(&self, later_s: i64) -> String {
        let seconds = self.control.now_ms().div_euclid(1_000) + later_s;
        let moment = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
        moment.to_offset(offset!(+8)).format(format).unwrap()
    }

    /// The common parameters of a call, not signed yet.
    pub(super) fn unsigned(&self, method: &str, biz: &Value) -> Form {
        [
            ("app_id", APP_ID.to_owned()),
            ("method", method.to_owned()),
            ("format", "JSON".to_owned()),
            ("charset", "utf-8".to_owned()),
            ("sign_type", "RSA2".to_owned()),
            ("timestamp", self.moment(0)),
            ("version", "1.0".to_owned()),
            ("biz_content", biz.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
    }

    pub(super) fn sign(&self, mut form: Form) -> Form {
        let signature = self.key.sign(covered(&form, &["sign"]).as_bytes()).unwrap();
        form.insert("sign".to_owned(), STANDARD.encode(signature));
        form
    }

    /// A creating call, with notifications to the merchant's server.
    pub(super) fn signed(&self, method: &str, biz: &Value) -> Form {
        let mut form = self.unsigned(method, biz);
        form.insert("notify_url".to_owned(), self.inbox.url());
        self.sign(form)
    }

    /// Sends query and body as they are.
    pub(super) async fn send_raw(
        &self,
        method: Method,
        query: &str,
        body: &str,
    ) -> Result<ClientResponse, ExchangeFault> {
        let url = format!("{}?{query}", self.gateway.gateway_url());
        let mut request = Request::builder().method(method).uri(url);
        if !body.is_empty() {
            let form = "application/x-www-form-urlencoded;charset=utf-8";
            request = request.header("content-type", form);
        }
        let request = request.body(Bytes::from(body.to_owned())).unwrap();
        self.client.send(request).await
    }

    /// Sends a form as libraries do: common parameters in the query, `biz_content` in the body.
    pub(super) async fn send(&self, form: &Form) -> Answered {
        let method = form.get("method").cloned().unwrap_or_default();
        let (body, query): (Form, Form) = form
            .clone()
            .into_iter()
            .partition(|(name, _)| name == "biz_content");
        let answer = self
            .send_raw(Method::POST, &encoded(&query), &encoded(&body))
            .await
            .unwrap();
        assert_eq!(answer.status, 200);
        Answered::read(std::str::from_utf8(&answer.body).unwrap(), &method)
    }

    /// A call without addresses.
    pub(super) async fn call(&self, method: &str, biz: &Value) -> Answered {
        self.send(&self.sign(self.unsigned(method, biz))).await
    }

    /// A call that creates a payment.
    pub(super) async fn create(&self, method: &str, biz: &Value) -> Answered {
        self.send(&self.signed(method, biz)).await
    }

    pub(super) async fn query(&self, number: &str) -> Answered {
        let biz = json!({ "out_trade_no": number });
        self.call("alipay.trade.query", &biz).await
    }

    /// Creates a payment by a scanned code and pays it.
    pub(super) async fn pay_by_qr(&self, number: &str, sum: &str) {
        let created = self
            .create("alipay.trade.precreate", &order(number, sum))
            .await;
        assert_eq!(created.outcome(), ("10000", ""), "{}", created.body);
        let acted = self
            .control
            .scan(created.text("qr_code"), paymux::sandbox::AlipayAct::Pay);
        assert_eq!(acted, paymux::sandbox::AlipayActed::Paid);
        self.noticed(number, 1).await;
    }

    /// Waits until so many notifications of a trade were acknowledged.
    pub(super) async fn noticed(&self, number: &str, times: u32) {
        let seen = |books: &paymux::sandbox::AlipayBooks| {
            (books.trade(number)?.acknowledged >= times).then_some(())
        };
        let seen = self.gateway.wait_for(seen, TIMEOUT).await;
        assert!(seen.is_some(), "{number}: not acknowledged {times} times");
    }

    /// Waits until so many notifications of a trade were sent.
    pub(super) async fn sent(&self, number: &str, times: u32) {
        let seen = |books: &paymux::sandbox::AlipayBooks| {
            (books.trade(number)?.notices >= times).then_some(())
        };
        let seen = self.gateway.wait_for(seen, TIMEOUT).await;
        assert!(seen.is_some(), "{number}: not sent {times} times");
    }

    /// Sends any request with this client's roots.
    pub(super) async fn get(&self, url: &str, agent: Option<&str>) -> ClientResponse {
        let mut request = Request::builder().uri(url);
        if let Some(agent) = agent {
            request = request.header("user-agent", agent);
        }
        self.client
            .send(request.body(Bytes::new()).unwrap())
            .await
            .unwrap()
    }

    /// Calls the control interface.
    pub(super) async fn post_control(&self, operation: &str, body: &Value) -> ClientResponse {
        let url = self.gateway.gateway_url();
        let url = url.replace("/gateway.do", &format!("/control/{operation}"));
        let request = Request::builder().method(Method::POST).uri(url);
        let request = request.body(Bytes::from(body.to_string())).unwrap();
        self.client.send(request).await.unwrap()
    }
}

/// The fields that every payment needs.
pub(super) fn order(number: &str, sum: &str) -> Value {
    json!({ "out_trade_no": number, "total_amount": sum, "subject": "5G消息-话费充值" })
}

/// The same for a page or an app.
pub(super) fn order_of(number: &str, sum: &str, product_code: &str) -> Value {
    let mut order = order(number, sum);
    order["product_code"] = product_code.into();
    order
}
