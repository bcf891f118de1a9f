//! A mock institution of the `standard` dialect, as cheap as possible: it accepts every request,
//! answers at once and signs what the gateway will verify. It runs on the load's core, so it is not
//! counted; by default it has no state.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Response};
use paymux::domain::identifiers::Timestamp;
use paymux::signature::{Covering, Question, SigningKey, sign_request, sign_response};
use rustls::ServerConfig;
use serde_json::{Value, json};

use crate::load::wire::{RawMessage, lines, written};
use crate::setup::https::{BenchReply, BenchResponder, serve};
use crate::setup::requests::now_s;

/// Validity of a callback's signature. Unit: seconds.
const SIGNED_FOR_S: i64 = 120;

/// A mock institution.
pub(crate) struct BenchInstitution {
    pub(crate) id: &'static str,
    pub(crate) key: SigningKey,
    /// Its origin, for the gateway.
    pub(crate) origin: String,
    /// The gateway's port, for its callbacks.
    pub(crate) gateway: u16,
    /// Whether it answers a query with "open"; otherwise with "closed", so that the gateway queries
    /// once and no more.
    pub(crate) answers_open: AtomicBool,
    pub(crate) callbacks: AtomicU64,
    /// Queries answered with a final state, after which the gateway stops polling.
    pub(crate) ended: AtomicU64,
    /// Paid attempts, if it records payments.
    pub(crate) paid: Mutex<Option<HashSet<String>>>,
}

impl BenchInstitution {
    /// Serves on the load's core.
    pub(crate) fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
    ) -> Result<()> {
        serve(listener, Some(tls), Arc::clone(self))
    }

    /// From now on it records payments, and answers queries of any other attempt with "open".
    pub(crate) fn record_payments(&self) {
        self.answers_open.store(true, Ordering::Relaxed);
        *self.paid_attempts() = Some(HashSet::new());
    }

    /// Records the payment of an attempt.
    pub(crate) fn pay(&self, attempt: &str) {
        if let Some(paid) = self.paid_attempts().as_mut() {
            paid.insert(attempt.to_owned());
        }
    }

    fn paid_attempts(&self) -> MutexGuard<'_, Option<HashSet<String>>> {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The signed callback that an attempt was paid (A3.3), ready to send.
    pub(crate) fn callback(&self, attempt: &str) -> Result<Bytes> {
        let number = self.callbacks.fetch_add(1, Ordering::Relaxed);
        let now = Timestamp::from_s(now_s());
        let body = json!({
            "merchantOrderNo": attempt,
            "merchantName": "Harbour Tea",
            "orderDate": "20260701",
            "orderAmount": "25.80",
            "merchantId": format!("account-{}", self.id),
            "mobileNo": "13812345678",
            "paymentDate": now.date(),
            "paymentTime": now.time_of_day(),
            "payOrderNo": institution_no(attempt),
            "orderStatus": "PAID",
            "eventId": format!("E{number:020}"),
            "eventType": "ORDER_PAID",
            "currency": "CNY",
            "fee": "0.05",
        });
        let path = format!("/v1/callbacks/{}", self.id);
        let authority = format!("localhost:{}", self.gateway);
        let target = format!("https://{authority}{path}");
        let mut request = Request::post(target.as_str())
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(body.to_string()))?;
        let created_s = now_s();
        let nonce = format!("callback-{number:016}");
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

impl BenchResponder for BenchInstitution {
    fn answer(&self, message: &RawMessage<'_>) -> Result<BenchReply> {
        let request = request(message)?;
        let target = format!("{}{}", self.origin, request.uri());
        let fields: Value = serde_json::from_slice(request.body())?;
        let open = fields.get("orderAmount").is_some() || self.answers_open.load(Ordering::Relaxed);
        if !open {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        let attempt = fields.get("merchantOrderNo").and_then(Value::as_str);
        let attempt = attempt.context("no merchantOrderNo")?;
        let is_paid = self
            .paid_attempts()
            .as_ref()
            .is_some_and(|paid| paid.contains(attempt));
        let body = match fields.get("refundAmount") {
            Some(sum) => refunded(&fields, attempt, sum),
            None if is_paid => paid(&fields, attempt),
            None => json!({
            "payOrderNo": institution_no(attempt),
            "merchantId": fields.get("merchantId"),
            "merchantOrderNo": attempt,
            "orderAmount": fields.get("orderAmount").unwrap_or(&json!("25.80")),
            "currency": "CNY",
            "result": "ACCEPTED",
            "orderStatus": if open { "OPEN" } else { "CLOSED" },
            "payUrl": format!("{}/pay/{attempt}", self.origin),
            "sdkParameters": { "attempt": attempt },
            }),
        };
        let mut response = Response::builder()
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(body.to_string()))?;
        let question = Question::of(&request, &target);
        sign_response(&mut response, question.as_ref(), &self.key, now_s())?;
        let answer = written("HTTP/1.1 200 OK", response.headers(), response.body());
        Ok(answer.into())
    }
}

/// The answer to a query of a paid attempt (A3.2).
fn paid(fields: &Value, attempt: &str) -> Value {
    let now = Timestamp::from_s(now_s());
    json!({
        "payOrderNo": institution_no(attempt),
        "merchantId": fields.get("merchantId"),
        "merchantOrderNo": attempt,
        "orderAmount": "25.80",
        "currency": "CNY",
        "orderStatus": "PAID",
        "paymentDate": now.date(),
        "paymentTime": now.time_of_day(),
        "fee": "0.05",
    })
}

/// Its own number of a payment, the same for every query.
fn institution_no(attempt: &str) -> String {
    format!("P{attempt}")
}

/// The refund succeeds at once (A3.4), so it is not polled.
fn refunded(fields: &Value, attempt: &str, sum: &Value) -> Value {
    json!({
        "merchantId": fields.get("merchantId"),
        "merchantOrderNo": attempt,
        "merchantRefundNo": fields.get("merchantRefundNo"),
        "refundOrderNo": "R20260701000000000001",
        "refundAmount": sum,
        "currency": "CNY",
        "refundStatus": "SUCCEEDED",
        "result": "ACCEPTED",
    })
}

fn request(message: &RawMessage<'_>) -> Result<Request<Bytes>> {
    let head = std::str::from_utf8(message.head)?;
    let path = head.split(' ').nth(1).context("no request line")?;
    let mut request = Request::post(path);
    for (name, value) in lines(message.head) {
        request = request.header(name, value);
    }
    Ok(request.body(Bytes::copy_from_slice(message.body))?)
}
