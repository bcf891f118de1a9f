//! The merchant's requests, built and signed before the clock starts, each with its own number and
//! nonce.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::setup::signer::BenchSigner;

pub(crate) const MERCHANT: &str = "M100001";
pub(crate) const MERCHANT_NAME: &str = "Harbour Tea";
pub(crate) const INSTITUTIONS: [&str; 3] = ["north", "south", "east"];

/// Validity of a signature. Unit: seconds.
const SIGNED_FOR_S: i64 = 300;

/// The merchant and the gateway it calls.
pub(crate) struct BenchMerchant {
    pub(crate) key: BenchSigner,
    pub(crate) port: u16,
    /// Its notification URL.
    pub(crate) notices: String,
    /// Order and request numbers issued so far.
    pub(crate) given: AtomicU64,
}

impl BenchMerchant {
    /// New order numbers.
    pub(crate) fn numbers(&self, count: usize) -> Vec<String> {
        let number = |_| format!("order-{:010}", self.given.fetch_add(1, Ordering::Relaxed));
        (0..count).map(number).collect()
    }

    /// Requests to place orders (A3.1, aggregated); the response lists the institutions.
    pub(crate) fn place(&self, orders: &[String]) -> Result<Arc<[Bytes]>> {
        self.all("/v1/orders", orders, |order| {
            json!({
                "transactionType": "PASSWORD_PAY",
                "businessType": "AGGREGATED",
                "bankReturnUrl": self.notices,
                "merchantOrderNo": order,
                "merchantName": MERCHANT_NAME,
                "orderDate": "20260701",
                "orderAmount": "25.80",
                "currency": "CNY",
                "merchantId": MERCHANT,
                "mobileNo": "13812345678",
                "goodsNo": "T-0017",
                "goodsName": "White tea, 100 g",
                "goodsDescription": "Spring harvest, in a tin",
            })
        })
    }

    /// Requests to select the first institution for orders.
    pub(crate) fn select(&self, orders: &[String]) -> Result<Arc<[Bytes]>> {
        self.all("/v1/orders/select", orders, |order| {
            json!({
                "merchantId": MERCHANT,
                "merchantOrderNo": order,
                "institutionId": INSTITUTIONS[0],
                "mode": "NATIVE",
            })
        })
    }

    /// Requests to close orders.
    pub(crate) fn close(&self, orders: &[String]) -> Result<Arc<[Bytes]>> {
        self.all(
            "/v1/orders/close",
            orders,
            |order| json!({ "merchantId": MERCHANT, "merchantOrderNo": order }),
        )
    }

    /// Requests to refund orders in full (A3.4). Without an address, so without notifications.
    pub(crate) fn refund(&self, orders: &[String]) -> Result<Arc<[Bytes]>> {
        self.all("/v1/refunds", orders, |order| {
            json!({
                "merchantId": MERCHANT,
                "merchantOrderNo": order,
                "orderDate": "20260701",
                "refundAmount": "25.80",
                "mobileNo": "13812345678",
                "merchantRefundNo": format!("back-{order}"),
            })
        })
    }

    /// Queries of orders (A3.2).
    pub(crate) fn query(&self, orders: &[String]) -> Result<Arc<[Bytes]>> {
        self.all(
            "/v1/orders/query",
            orders,
            |order| json!({ "merchantId": MERCHANT, "merchantOrderNo": order }),
        )
    }

    fn all(
        &self,
        path: &str,
        orders: &[String],
        body: impl Fn(&str) -> Value,
    ) -> Result<Arc<[Bytes]>> {
        let made = orders.iter().map(|order| self.one(path, &body(order)));
        made.collect::<Result<Vec<_>>>().map(Into::into)
    }

    fn one(&self, path: &str, body: &Value) -> Result<Bytes> {
        let body = body.to_string();
        let authority = format!("localhost:{}", self.port);
        let digest = STANDARD.encode(digest(&SHA256, body.as_bytes()));
        let created_s = now_s();
        let params = format!(
            "(\"@method\" \"@target-uri\" \"content-digest\" \"content-type\");created={created_s};\
             expires={};nonce=\"nonce-{:016}\";keyid=\"{}\"",
            created_s + SIGNED_FOR_S,
            self.given.fetch_add(1, Ordering::Relaxed),
            self.key.id,
        );
        let base = format!(
            "\"@method\": POST\n\"@target-uri\": https://{authority}{path}\n\
             \"content-digest\": sha-256=:{digest}:\n\"content-type\": application/json\n\
             \"@signature-params\": {params}"
        );
        let signature = self.key.sign(base.as_bytes())?;
        let message = format!(
            "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
             content-digest: sha-256=:{digest}:\r\nsignature-input: sig1={params}\r\n\
             signature: sig1=:{signature}:\r\ncontent-length: {}\r\n\r\n{body}",
            body.len(),
        );
        Ok(message.into())
    }
}

/// Unit: Unix seconds.
pub(crate) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}
