//! How tests and the demo steer the counterpart: faults, the clock, keys and certificates. By HTTP
//! it answers only callers on this machine.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sandbox::authority::PemIdentity;
use crate::sandbox::unionpay::answer::written;
use crate::sandbox::unionpay::clock::parse_beijing;
use crate::sandbox::unionpay::crypto::{UnionPayKeyFault, UnionPaySigningSet};
use crate::sandbox::unionpay::faults::{UNIONPAY_FAULTS, UnionPayFault};
use crate::sandbox::unionpay::ledger::UnionPayTransaction;
use crate::sandbox::unionpay::page::yuan;
use crate::sandbox::unionpay::request::UnionPayCall;
use crate::sandbox::unionpay::{UnionPayParty, locked};

/// Steers the counterpart while it runs.
#[derive(Clone)]
pub struct UnionPayControl(pub(super) Arc<UnionPayParty>);

impl UnionPayControl {
    /// Injects the fault the next `times` times that it can occur.
    pub fn next(&self, fault: UnionPayFault, times: u32) {
        self.0.faults.order(fault, None, times);
    }

    /// The same, only at one call or at notifications.
    pub fn next_at(&self, call: UnionPayCall, fault: UnionPayFault, times: u32) {
        self.0.faults.order(fault, Some(call), times);
    }

    /// Holds the clock at a moment (Unix seconds); `None` follows the real time again.
    pub fn hold_clock(&self, at_s: Option<i64>) {
        self.0.clock.hold(at_s);
    }

    /// Signs from now on with a new key and certificate, whose serial number is the next.
    ///
    /// # Errors
    /// [`UnionPayKeyFault`] if there is no randomness.
    pub fn renew_signing_key(&self) -> Result<(), UnionPayKeyFault> {
        let generation = locked(&self.0.signing).0.saturating_add(1);
        let drawn = UnionPaySigningSet::draw(&self.0.settings.authority, generation)?;
        *locked(&self.0.signing) = (generation, Arc::new(drawn));
        Ok(())
    }

    /// Signs from now on with this certificate and key, for messages that are known byte for byte;
    /// the certificate stands in answers with bare line feeds.
    ///
    /// # Errors
    /// [`UnionPayKeyFault`] for unusable ones.
    pub fn sign_with(&self, identity: &PemIdentity) -> Result<(), UnionPayKeyFault> {
        let generation = locked(&self.0.signing).0.saturating_add(1);
        let drawn =
            UnionPaySigningSet::draw(&self.0.settings.authority, generation)?.with(identity)?;
        *locked(&self.0.signing) = (generation, Arc::new(drawn));
        Ok(())
    }

    /// The certificate that signs now, in PEM.
    pub fn signing_certificate_pem(&self) -> String {
        self.0.signing().certificate_pem().to_owned()
    }

    /// Enrols a further certificate of a merchant; returns its `certId`.
    ///
    /// # Errors
    /// [`UnionPayKeyFault`] for an unusable certificate.
    pub fn enrol(&self, mer_id: &str, certificate_pem: &str) -> Result<String, UnionPayKeyFault> {
        self.0.enrol(mer_id, certificate_pem)
    }

    /// Knows a merchant's certificate no longer.
    pub fn withdraw(&self, mer_id: &str, cert_id: &str) {
        if let Some(known) = locked(&self.0.enrolled).get_mut(mer_id) {
            known.retain(|known| known.cert_id != cert_id);
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnionPayFaultOrder {
    fault: String,
    #[serde(default = "once")]
    times: u32,
    #[serde(default)]
    call: Option<String>,
}

fn once() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnionPayClockOrder {
    at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct UnionPayEnrolment {
    mer_id: String,
    #[serde(default)]
    certificate: String,
    #[serde(default)]
    cert_id: String,
}

pub(super) fn answer(
    shared: &Arc<UnionPayParty>,
    request: &Request<Bytes>,
    what: &str,
    from: SocketAddr,
) -> Response<Bytes> {
    if !from.ip().is_loopback() {
        return said(
            StatusCode::FORBIDDEN,
            &json!({ "fault": "only from this machine" }),
        );
    }
    let steered = match (request.method(), what) {
        (&Method::GET, "faults") => Ok(table()),
        (&Method::GET, "books") => Ok(books(shared)),
        (&Method::POST, _) => steer(&UnionPayControl(Arc::clone(shared)), what, request.body()),
        _ => Err("GET faults, books; POST next, clock, renew, enrol, withdraw".to_owned()),
    };
    match steered {
        Ok(value) => said(StatusCode::OK, &value),
        Err(fault) => said(StatusCode::BAD_REQUEST, &json!({ "fault": fault })),
    }
}

fn said(status: StatusCode, value: &Value) -> Response<Bytes> {
    written(status, "application/json", value.to_string())
}

fn steer(control: &UnionPayControl, what: &str, body: &[u8]) -> Result<Value, String> {
    match what {
        "next" => {
            let order: UnionPayFaultOrder = read(body)?;
            let fault = UnionPayFault::from_word(&order.fault).ok_or("see GET /control/faults")?;
            match order.call.as_deref() {
                None => control.next(fault, order.times),
                Some(word) => {
                    let call = UnionPayCall::from_word(word).ok_or("no such call")?;
                    control.next_at(call, fault, order.times);
                }
            }
            Ok(json!({ "fault": fault.word(), "times": order.times, "call": order.call }))
        }
        "clock" => {
            let order: UnionPayClockOrder = read(body)?;
            let at_s = match order.at.as_deref() {
                None => None,
                Some(text) => Some(parse_beijing(text).ok_or("at: YYYYMMDDhhmmss")?),
            };
            control.hold_clock(at_s);
            Ok(json!({ "at": order.at }))
        }
        "renew" => {
            control
                .renew_signing_key()
                .map_err(|fault| fault.to_string())?;
            Ok(json!({ "certificate": control.signing_certificate_pem() }))
        }
        "enrol" => {
            let order: UnionPayEnrolment = read(body)?;
            let enrolled = control.enrol(&order.mer_id, &order.certificate);
            let cert_id = enrolled.map_err(|fault| fault.to_string())?;
            Ok(json!({ "certId": cert_id }))
        }
        "withdraw" => {
            let order: UnionPayEnrolment = read(body)?;
            control.withdraw(&order.mer_id, &order.cert_id);
            Ok(json!({ "certId": order.cert_id }))
        }
        _ => Err("POST next, clock, renew, enrol, withdraw".to_owned()),
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|fault| fault.to_string())
}

fn table() -> Value {
    let lines = UNIONPAY_FAULTS.iter().map(|(_, word, cents, what)| {
        let cents = cents.map(|cents| format!("{cents:02}"));
        json!({ "fault": word, "amountEndsIn": cents, "does": what })
    });
    json!({ "faults": lines.collect::<Vec<_>>() })
}

fn books(shared: &UnionPayParty) -> Value {
    shared.book.look(|book| {
        let lines: Vec<Value> = book.transactions().map(|one| line(shared, one)).collect();
        json!({
            "calls": book.calls,
            "taken": yuan(book.taken_fen()),
            "returned": yuan(book.returned_fen()),
            "transactions": lines,
        })
    })
}

fn line(shared: &UnionPayParty, one: &UnionPayTransaction) -> Value {
    let receipt = one.receipt.as_ref();
    json!({
        "call": one.call.word(),
        "merId": one.mer_id,
        "orderId": one.order_id,
        "txnTime": one.txn_time,
        "amount": yuan(one.amount_fen),
        "origRespCode": one.code,
        "queryId": receipt.map(|receipt| &receipt.query_id),
        "settleDate": receipt.map(|receipt| &receipt.day),
        "page": (!one.token.is_empty()).then(|| shared.page_url(&one.token)),
        "isCancelled": one.is_cancelled,
        "queries": one.queries,
        "failures": one.failures,
        "notifications": one.notifications,
        "acknowledged": one.acknowledged,
    })
}
