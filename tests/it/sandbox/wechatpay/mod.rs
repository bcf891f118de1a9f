//! The counterpart of WeChat Pay keeps the protocol, judges as strictly as it, and does wrong only
//! when told to: over real sockets, with the protocol's own keys and a client of a few lines.

mod bills;
mod calls;
mod client;
mod keys;
mod notifications;
mod partner;
mod payer;
mod receiver;
mod refunds;
mod steered;
mod strict;
mod vectors;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use http::{Method, Request};
use paymux::sandbox::wechatpay::{
    KeyPhase, MerchantApiCertificate, PlatformCertificate, PlatformPublicKey, SandboxWechatPay,
    WechatMerchant, WechatPaySettings, WechatPayWaits, WechatSubMerchant,
};
use paymux::sandbox::{Authority, SimulatedPayer};
use serde_json::{Value, json};

use super::LOOPBACK;
use client::{WechatReply, WechatSigning, WechatTestClient};
use receiver::NoticeReceiver;

/// When the platform's clock starts: the moment of the published vectors.
const START_S: i64 = 1_767_225_600;
const MCHID: &str = "1900009191";
const SUB_MCHID: &str = "1900009291";
const APPID: &str = "wxd678efh567hg6787";
const MERCHANT_SERIAL: &str = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1";
const PLATFORM_SERIAL: &str = "7132D72A03E93CDDF8C03BBD1F37EEDF5A1B2C3D";
const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_0119000091912026010100389200000001";

/// The platform, a merchant's client, a payer, and a receiver of notifications.
struct WechatTestbed {
    wechat: SandboxWechatPay,
    client: WechatTestClient,
    receiver: NoticeReceiver,
    payer: SimulatedPayer,
}

fn merchant(sub_merchants: Vec<WechatSubMerchant>) -> WechatMerchant {
    WechatMerchant {
        mchid: MCHID.to_owned(),
        apps: vec![APPID.to_owned()],
        certificates: vec![MerchantApiCertificate {
            serial: MERCHANT_SERIAL.to_owned(),
            public_key_pem: vectors::pem("merchant_public", "PUBLIC KEY"),
        }],
        apiv3_key: vectors::constant("apiv3_key"),
        fee_basis_points: 60,
        h5_hosts: vec!["pay.example.com".to_owned()],
        sub_merchants,
    }
}

impl WechatTestbed {
    /// A directly contracted merchant, in certificate mode.
    async fn build() -> Self {
        Self::build_with(Vec::new(), |_| ()).await
    }

    /// A provider with a sub-merchant.
    async fn of_provider() -> Self {
        let sub = |mchid: &str, app: &str, fee_basis_points| WechatSubMerchant {
            mchid: mchid.to_owned(),
            apps: vec![app.to_owned()],
            fee_basis_points,
        };
        let subs = vec![
            sub(SUB_MCHID, "wxsub0001", 38),
            sub("1900009391", "wxsub0002", 60),
        ];
        Self::build_with(subs, |_| ()).await
    }

    async fn build_with(
        subs: Vec<WechatSubMerchant>,
        change: impl FnOnce(&mut WechatPaySettings),
    ) -> Self {
        let authority = Authority::new("Test").unwrap();
        let identity = authority.issue("WeChat Pay", &["127.0.0.1"]).unwrap();
        let roots_pem = authority.roots_pem();
        let key_pem = vectors::pem("platform_private", "PRIVATE KEY");
        let mut settings = WechatPaySettings {
            listen: LOOPBACK,
            listen_second: LOOPBACK,
            host: "127.0.0.1".to_owned(),
            identity: identity.clone(),
            roots_pem: roots_pem.clone(),
            merchants: vec![merchant(subs)],
            certificates: vec![PlatformCertificate {
                serial: PLATFORM_SERIAL.to_owned(),
                certificate_pem: vectors::pem("platform_certificate", "CERTIFICATE"),
                key_pem: key_pem.clone(),
                effective_s: 1_735_689_600,
                expires_s: 2_398_377_599,
            }],
            public_key: Some(PlatformPublicKey {
                id: PUBLIC_KEY_ID.to_owned(),
                key_pem,
            }),
            phases: BTreeMap::new(),
            starts_s: Some(START_S),
            waits: WechatPayWaits {
                faster: NonZeroU32::MIN,
                refund_s: None,
                acknowledge: Duration::from_secs(10),
                hold: Duration::from_millis(1),
            },
        };
        change(&mut settings);
        let wechat = SandboxWechatPay::start(settings).await.unwrap();
        Self {
            client: WechatTestClient::new(&roots_pem, wechat.origin()),
            receiver: NoticeReceiver::start(&identity).await,
            payer: SimulatedPayer::new(&roots_pem).unwrap(),
            wechat,
        }
    }

    fn signing(&self) -> WechatSigning<'static> {
        WechatSigning {
            mchid: MCHID,
            serial: MERCHANT_SERIAL,
            timestamp: self.wechat.control().now_s().to_string(),
            nonce: "5K8264ILTKCH16CQ2502SI8ZNMTM67VS".to_owned(),
        }
    }

    fn request(&self, method: Method, path: &str, body: &str) -> Request<bytes::Bytes> {
        self.client.signed((method, path), body, &self.signing())
    }

    async fn try_post(&self, path: &str, body: &Value) -> Option<WechatReply> {
        let request = self.request(Method::POST, path, &body.to_string());
        self.client.send(request).await
    }

    async fn post(&self, path: &str, body: &Value) -> WechatReply {
        self.try_post(path, body).await.expect("an answer")
    }

    async fn get(&self, path: &str) -> WechatReply {
        let request = self.request(Method::GET, path, "");
        self.client.send(request).await.expect("an answer")
    }

    /// A direct order of this product, with all it needs.
    fn order(&self, product: &str, number: &str) -> Value {
        let mut order = json!({
            "appid": APPID, "mchid": MCHID, "description": "5G消息-话费充值",
            "out_trade_no": number, "notify_url": self.receiver.url("/notify"),
            "attach": "batch 7", "amount": { "total": 1001, "currency": "CNY" },
        });
        if product == "jsapi" {
            order["payer"] = json!({ "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o" });
        }
        if product == "h5" {
            order["scene_info"] =
                json!({ "payer_client_ip": "203.0.113.10", "h5_info": { "type": "Wap" } });
        }
        order
    }

    async fn place(&self, product: &str, number: &str) -> WechatReply {
        let path = format!("/v3/pay/transactions/{product}");
        self.post(&path, &self.order(product, number)).await
    }

    /// Places and pays a native order.
    async fn paid(&self, number: &str) {
        assert_eq!(self.place("native", number).await.status, 200);
        self.wechat.control().pay(number, None);
    }

    async fn query(&self, number: &str) -> WechatReply {
        let path = format!("/v3/pay/transactions/out-trade-no/{number}?mchid={MCHID}");
        self.get(&path).await
    }

    async fn close(&self, number: &str) -> WechatReply {
        let path = format!("/v3/pay/transactions/out-trade-no/{number}/close");
        self.post(&path, &json!({ "mchid": MCHID })).await
    }

    fn refund_body(&self, number: &str, refund: &str, fen: i64) -> Value {
        json!({
            "out_trade_no": number, "out_refund_no": refund,
            "notify_url": self.receiver.url("/refund"),
            "amount": { "refund": fen, "total": 1001, "currency": "CNY" },
        })
    }

    async fn refund(&self, number: &str, refund: &str, fen: i64) -> WechatReply {
        let body = self.refund_body(number, refund, fen);
        self.post("/v3/refund/domestic/refunds", &body).await
    }

    async fn query_refund(&self, refund: &str) -> WechatReply {
        self.get(&format!("/v3/refund/domestic/refunds/{refund}"))
            .await
    }

    fn set_phase(&self, phase: KeyPhase) {
        self.wechat.control().set_phase(MCHID, phase);
    }
}
