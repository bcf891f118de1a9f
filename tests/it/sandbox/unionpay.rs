//! UnionPay's counterpart in the sandbox judges requests as strictly as the interface's
//! description, and answers as it says: over real sockets on loopback, with a small merchant
//! written for these tests and the description's own messages.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use paymux::crypto::pem;
use paymux::sandbox::{
    Authority, PemIdentity, SandboxUnionPay, SimulatedPayer, UnionPayAuthority, UnionPayBook,
    UnionPayControl, UnionPayDelays, UnionPayMerchant, UnionPaySettings, UnionPayTransaction,
};
use serde_json::Value;

use super::{LOOPBACK, TIMEOUT};

mod client;
mod faults;
mod files;
mod forms;
mod listener;
mod notifications;
mod payments;
mod refunds;
mod vectors;

use client::{
    FORM, UnionPayFieldList, UnionPayHttpsCaller, UnionPayRawAnswer, UnionPayTestMerchant,
    UnionPayTrust,
};
use listener::UnionPayFormListener;

const FRONT: &str = "/gateway/api/frontTransReq.do";
const BACK: &str = "/gateway/api/backTransReq.do";
const APP: &str = "/gateway/api/appTransReq.do";
const QUERY: &str = "/gateway/api/queryTrans.do";
const FILES: &str = "/";

const MER_ID: &str = "777290058110048";
const CERT_ID: &str = "68759663125";
/// 2026-01-01 08:00:00 in Beijing, when the description's messages were sent.
const MORNING_S: i64 = 1_767_225_600;
const MORNING: &str = "20260101080000";

/// The description's keys, certificates and messages.
static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("unionpay/vectors.json")).expect("the vectors are JSON")
});
/// Made once: RSA keys take long.
static AUTHORITY: LazyLock<Arc<UnionPayAuthority>> =
    LazyLock::new(|| Arc::new(UnionPayAuthority::new().expect("keys can be made")));

fn vector(name: &str, field: &str) -> String {
    VECTORS[name][field]
        .as_str()
        .expect("the vector has it")
        .to_owned()
}

fn whole(name: &str) -> &'static str {
    VECTORS[name].as_str().expect("the vector is a text")
}

/// The identity of a certificate and a key of the description.
fn identity(certificate: &str, key: &str) -> PemIdentity {
    let der = STANDARD.decode(whole(key)).unwrap();
    PemIdentity {
        certificates_pem: whole(certificate).to_owned(),
        key_pem: pem::write(pem::PRIVATE_KEY, &der),
    }
}

/// The counterpart, a merchant, and its listener.
struct UnionPayTestbed {
    unionpay: SandboxUnionPay,
    control: UnionPayControl,
    merchant: UnionPayTestMerchant,
    caller: UnionPayHttpsCaller,
    payer: SimulatedPayer,
    listener: UnionPayFormListener,
    trust: UnionPayTrust,
}

impl UnionPayTestbed {
    async fn build() -> Self {
        let authority = Authority::new("Test").unwrap();
        let identity = authority.issue("UnionPay", &["127.0.0.1"]).unwrap();
        let short = Duration::from_millis(1);
        let unionpay = SandboxUnionPay::start(UnionPaySettings {
            listen: LOOPBACK,
            host: "127.0.0.1".to_owned(),
            identity: identity.clone(),
            authority: Arc::clone(&AUTHORITY),
            merchants: merchants(),
            roots_pem: authority.roots_pem(),
            delays: UnionPayDelays {
                soon: short,
                slow: short,
                hold: short,
                late: short,
                minute: short,
                acknowledgement: TIMEOUT,
            },
        })
        .await
        .unwrap();
        let control = unionpay.control();
        control.hold_clock(Some(MORNING_S));
        let key = STANDARD.decode(whole("merchant_key")).unwrap();
        Self {
            control,
            merchant: UnionPayTestMerchant::new(CERT_ID, &key),
            caller: UnionPayHttpsCaller::new(&authority.roots_pem()),
            payer: SimulatedPayer::new(&authority.roots_pem()).unwrap(),
            listener: UnionPayFormListener::start(&identity).await,
            trust: UnionPayTrust {
                root_pem: AUTHORITY.root_pem(),
                middle_pem: AUTHORITY.middle_pem(),
                now_s: MORNING_S,
            },
            unionpay,
        }
    }

    fn base(kind: [&str; 2], biz_type: &str) -> UnionPayFieldList {
        UnionPayFieldList::of(&[
            ("version", "5.1.0"),
            ("encoding", "UTF-8"),
            ("signMethod", "01"),
            ("txnType", kind[0]),
            ("txnSubType", kind[1]),
            ("bizType", biz_type),
            ("accessType", "0"),
            ("merId", MER_ID),
            ("txnTime", MORNING),
        ])
    }

    fn payment(
        &self,
        kind: [&str; 2],
        biz_type: &str,
        order_id: &str,
        fen: &str,
    ) -> UnionPayFieldList {
        Self::base(kind, biz_type)
            .with("channelType", "08")
            .with("orderId", order_id)
            .with("txnAmt", fen)
            .with("currencyCode", "156")
            .with("backUrl", &self.listener.url("/notify?a=1"))
    }

    fn front(&self, order_id: &str, fen: &str) -> UnionPayFieldList {
        let to = self.listener.url("/return?o=1&t=2");
        self.payment(["01", "01"], "000201", order_id, fen)
            .with("frontUrl", &to)
            .with("orderDesc", "5G消息 话费充值")
    }

    fn qr(&self, order_id: &str, fen: &str) -> UnionPayFieldList {
        self.payment(["01", "07"], "000000", order_id, fen)
    }

    fn barcode(&self, order_id: &str, fen: &str) -> UnionPayFieldList {
        self.payment(["01", "06"], "000000", order_id, fen)
            .with("qrNo", "6220000000000000001")
            .with("termId", "49000001")
    }

    fn query_of(order_id: &str) -> UnionPayFieldList {
        Self::base(["00", "00"], "000000").with("orderId", order_id)
    }

    fn refund(&self, order_id: &str, fen: &str, query_id: &str) -> UnionPayFieldList {
        self.payment(["04", "00"], "000000", order_id, fen)
            .without("currencyCode")
            .with("origQryId", query_id)
    }

    /// Posts a form as it is.
    async fn post_body(
        &self,
        path: &str,
        media_type: &str,
        body: String,
    ) -> Option<UnionPayRawAnswer> {
        let url = format!("{}{path}", self.unionpay.origin());
        self.caller.send(Method::POST, &url, media_type, body).await
    }

    async fn try_post(&self, path: &str, fields: &UnionPayFieldList) -> Option<UnionPayRawAnswer> {
        let body = self.merchant.sign(fields).body();
        self.post_body(path, FORM, body).await
    }

    /// Signs and posts, and verifies the answer.
    async fn post(&self, path: &str, fields: &UnionPayFieldList) -> UnionPayRawAnswer {
        let answer = self.try_post(path, fields).await.expect("it answers");
        assert_eq!(
            (answer.status, self.trust.check(&answer.fields)),
            (200, Ok(())),
            "{answer:?}"
        );
        answer
    }

    async fn query(&self, order_id: &str) -> UnionPayRawAnswer {
        self.post(QUERY, &Self::query_of(order_id)).await
    }

    /// As a payer's browser posts it.
    async fn arrive(&self, fields: &UnionPayFieldList) -> UnionPayRawAnswer {
        let body = self.merchant.sign(fields).body();
        let answer = self
            .post_body(FRONT, "application/x-www-form-urlencoded", body)
            .await;
        answer.expect("it answers")
    }

    /// The payer chooses on the page of a payment.
    async fn press(&self, order_id: &str, choice: &str) -> String {
        let url = self.unionpay.page_url(order_id).expect("it was booked");
        self.payer
            .press(&url, "outcome", choice)
            .await
            .unwrap()
            .html
    }

    async fn wait_for(
        &self,
        order_id: &str,
        until: impl Fn(&UnionPayTransaction) -> bool,
    ) -> UnionPayTransaction {
        let look = |book: &UnionPayBook| {
            let found = book.transaction(order_id)?;
            until(found).then(|| found.clone())
        };
        let found = self.unionpay.wait_for(look, TIMEOUT).await;
        found.expect("it comes to this")
    }

    async fn acknowledged(&self, order_id: &str, times: u32) -> UnionPayTransaction {
        self.wait_for(order_id, |found| found.acknowledged >= times)
            .await
    }

    /// A payment by QR code that was paid; its `queryId`.
    async fn paid(&self, order_id: &str, fen: &str) -> String {
        assert_eq!(self.post(BACK, &self.qr(order_id, fen)).await.code(), "00");
        self.press(order_id, "pay").await;
        self.acknowledged(order_id, 1).await;
        self.query(order_id).await.fields.get("queryId").to_owned()
    }
}

fn merchants() -> Vec<UnionPayMerchant> {
    let known = UnionPayMerchant {
        mer_id: MER_ID.to_owned(),
        name: "Tea House".to_owned(),
        certificates_pem: vec![whole("merchant_certificate").to_owned()],
        access_types: ["0", "1", "2"].map(str::to_owned).to_vec(),
        has_files: true,
        fee_basis_points: 60,
    };
    let other = UnionPayMerchant {
        mer_id: "777290058110097".to_owned(),
        name: "Book Shop".to_owned(),
        certificates_pem: Vec::new(),
        access_types: vec!["0".to_owned()],
        has_files: false,
        ..known.clone()
    };
    vec![known, other]
}
