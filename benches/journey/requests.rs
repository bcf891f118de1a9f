//! The merchant's requests, written and signed before the clock starts, each with a number and a
//! nonce of its own.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_TYPE, HOST};
use paymux::signature::{Covering, SigningKey, sign_request};
use serde_json::json;

use crate::wire::written;

pub(crate) const MERCHANT: &str = "M100001";
pub(crate) const MERCHANT_NAME: &str = "Harbour Tea";
pub(crate) const INSTITUTIONS: [&str; 3] = ["north", "south", "east"];
pub(crate) const RETURN_ORIGIN: &str = "https://shop.example";

/// How long a signature may be believed. Unit: seconds.
const SIGNED_FOR_S: i64 = 300;

/// Who asks, and where.
pub(crate) struct Merchant {
    pub(crate) key: SigningKey,
    pub(crate) port: u16,
}

impl Merchant {
    /// Requests to place orders (A3.1, aggregated): the answer lists the institutions.
    pub(crate) fn place(&self, orders: &[String]) -> Result<Arc<[Bytes]>> {
        self.all("/v1/orders", orders, |order| {
            json!({
                "transactionType": "PASSWORD_PAY",
                "businessType": "AGGREGATED",
                "bankReturnUrl": format!("{RETURN_ORIGIN}/notice"),
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

    /// Requests to take orders to the first institution.
    pub(crate) fn select(&self, orders: &[String]) -> Result<Arc<[Bytes]>> {
        self.all("/v1/orders/select", orders, |order| {
            json!({
                "merchantId": MERCHANT,
                "merchantOrderNo": order,
                "institutionId": INSTITUTIONS[0],
                "mode": "WEBVIEW",
            })
        })
    }

    fn all(
        &self,
        path: &str,
        orders: &[String],
        body: impl Fn(&str) -> serde_json::Value,
    ) -> Result<Arc<[Bytes]>> {
        let made = orders
            .iter()
            .map(|order| self.one(path, order, &body(order)));
        made.collect::<Result<Vec<_>>>().map(Into::into)
    }

    fn one(&self, path: &str, order: &str, body: &serde_json::Value) -> Result<Bytes> {
        let authority = format!("localhost:{}", self.port);
        let target = format!("https://{authority}{path}");
        let mut request = Request::post(target.as_str())
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(body.to_string()))?;
        let created_s = now_s();
        let nonce = format!("{order}-{}", path.len());
        let covering = Covering {
            created_s,
            expires_s: Some(created_s + SIGNED_FOR_S),
            nonce: Some(&nonce),
        };
        sign_request(&mut request, &target, &self.key, &covering)?;
        let line = format!("POST {path} HTTP/1.1");
        Ok(written(&line, request.headers(), request.body()))
    }
}

/// Numbers of new orders, told apart by the round.
pub(crate) fn numbers(round: usize, count: usize) -> Vec<String> {
    (0..count)
        .map(|at| format!("order-{round:04}-{at:08}"))
        .collect()
}

/// Unit: Unix seconds.
pub(crate) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}
