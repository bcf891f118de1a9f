//! The control interface of the gateway: faults, payers without a browser, the clock, keys and the
//! books. Over HTTP it answers only callers on this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sandbox::alipay::biz::yuan;
use crate::sandbox::alipay::books::{AlipayAct, AlipayActed, AlipayTrade, TradeKey};
use crate::sandbox::alipay::keys::CurrentKey;
use crate::sandbox::alipay::notices::NoticeEvent;
use crate::sandbox::alipay::steering::{ALIPAY_CODES, ALIPAY_FAULTS, AlipayFault, AlipaySteered};
use crate::sandbox::alipay::{AlipayKey, AlipayStartFault, AlipayState, cashier, lock, notices};
use crate::sandbox::refusal::{SandboxRefusal, answered};

/// The control interface, without HTTP.
#[derive(Clone)]
pub struct AlipayControl(pub(super) Arc<AlipayState>);

impl AlipayControl {
    /// Shows a fault once, at any method.
    pub fn next(&self, fault: AlipayFault) {
        self.order(AlipaySteered::once(fault));
    }

    /// Shows a fault as ordered.
    pub fn order(&self, order: AlipaySteered) {
        self.0.steering.order(order);
    }

    /// A payer's wallet is handed an order string.
    ///
    /// # Errors
    /// The `sub_code` for which the wallet refuses it.
    pub fn pay_order_string(
        &self,
        order_string: &str,
        act: AlipayAct,
    ) -> Result<AlipayActed, String> {
        let acted = cashier::pay_order_string(&self.0, order_string, act);
        acted.map_err(|refusal| refusal.sub_code)
    }

    /// A payer scans the code of a precreate.
    pub fn scan(&self, qr_code: &str, act: AlipayAct) -> AlipayActed {
        let token = qr_code.rsplit('/').next().unwrap_or_default();
        cashier::act_on_offer(&self.0, token, act)
    }

    /// A payer acts on a trade that exists: a mini program, or a bar code that waits.
    pub fn confirm(&self, out_trade_no: &str, act: AlipayAct) -> AlipayActed {
        match self.key_of(out_trade_no) {
            Some(key) => cashier::act_on_trade(&self.0, &key, act),
            None => AlipayActed::Refused("ACQ.TRADE_NOT_EXIST"),
        }
    }

    /// Ends the time in which a paid trade can be refunded; whether there was one.
    pub fn finish(&self, out_trade_no: &str) -> bool {
        let Some(key) = self.key_of(out_trade_no) else {
            return false;
        };
        let finished = self.0.books.change(|books| books.finish(&key));
        if finished {
            notices::tell(&self.0, &key, &NoticeEvent::Ended);
        }
        finished
    }

    /// Completes a pending refund; whether there was one.
    pub fn complete_refund(&self, out_trade_no: &str, out_request_no: &str) -> bool {
        let Some(key) = self.key_of(out_trade_no) else {
            return false;
        };
        let now_ms = self.0.now_ms();
        let completed = self
            .0
            .books
            .change(|books| books.complete_refund(&key, out_request_no, now_ms));
        if completed.is_some() {
            let event = NoticeEvent::Refunded(out_request_no.to_owned());
            notices::tell(&self.0, &key, &event);
        }
        completed.is_some()
    }

    /// The gateway's present moment. Unit: Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }

    /// Moves the gateway's clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.clock.advance(by);
    }

    /// Signs with another key from now on. The certificate of the old one can still be downloaded.
    ///
    /// # Errors
    /// [`AlipayStartFault::Key`] for a key that cannot be used.
    pub fn switch_key(&self, key: &AlipayKey) -> Result<(), AlipayStartFault> {
        let key = CurrentKey::read(key)?;
        lock(&self.0.keys).push(Arc::new(key));
        Ok(())
    }

    /// A merchant withdraws a provider's authorisation; whether there was one.
    pub fn withdraw(&self, app_auth_token: &str) -> bool {
        let mut authorisations = lock(&self.0.authorisations);
        let found = authorisations
            .iter_mut()
            .find(|enrolled| enrolled.authorisation.token == app_auth_token);
        found.map(|enrolled| enrolled.withdrawn = true).is_some()
    }

    fn key_of(&self, out_trade_no: &str) -> Option<TradeKey> {
        let trade = |trade: &AlipayTrade| trade.key();
        self.0
            .books
            .look(|books| books.trade(out_trade_no).map(trade))
    }
}

/// What a caller of the control interface says; each operation uses its own members.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ControlCall {
    fault: String,
    method: Option<String>,
    times: Option<u32>,
    code: Option<String>,
    sub_code: Option<String>,
    order_string: String,
    qr_code: String,
    out_trade_no: String,
    out_request_no: String,
    app_auth_token: String,
    outcome: Option<String>,
    seconds: u64,
    private_key: String,
    certificate_number: Option<String>,
    certificate: Option<String>,
}

pub(super) fn answer(
    state: &Arc<AlipayState>,
    request: &Request<Bytes>,
    what: &str,
    from: SocketAddr,
) -> Response<Bytes> {
    if !from.ip().is_loopback() {
        return SandboxRefusal::of(403, "not_here", "only from this machine").into_response();
    }
    let control = AlipayControl(Arc::clone(state));
    let outcome = match (request.method(), what) {
        (&Method::GET, "faults") => Ok(table()),
        (&Method::GET, "books") => Ok(books(state)),
        (&Method::POST, operation) => operate(&control, operation, request.body()),
        _ => Err(unknown()),
    };
    outcome.map_or_else(SandboxRefusal::into_response, |body| answered(&body))
}

fn unknown() -> SandboxRefusal {
    let known = "GET faults, books; POST next, order-string, scan, confirm, finish, \
                 complete-refund, clock, key, withdraw";
    SandboxRefusal::of(404, "path_unknown", known)
}

fn operate(control: &AlipayControl, operation: &str, body: &[u8]) -> Result<Value, SandboxRefusal> {
    let call: ControlCall =
        serde_json::from_slice(body).map_err(|fault| SandboxRefusal::unreadable(&fault))?;
    let malformed =
        |field, detail: &str| SandboxRefusal::of(400, "field_malformed", detail).at(field);
    let act = || {
        let word = call.outcome.as_deref().unwrap_or("pay");
        AlipayAct::from_word(word).ok_or_else(|| malformed("outcome", "pay, open or fail"))
    };
    let done = |done: bool| json!({ "done": done });
    match operation {
        "next" => next(control, &call),
        "order-string" => {
            let acted = control.pay_order_string(&call.order_string, act()?);
            let acted = acted.map_err(|sub_code| malformed("orderString", &sub_code))?;
            Ok(wallet_result(acted))
        }
        "scan" => Ok(wallet_result(control.scan(&call.qr_code, act()?))),
        "confirm" => Ok(wallet_result(control.confirm(&call.out_trade_no, act()?))),
        "finish" => Ok(done(control.finish(&call.out_trade_no))),
        "complete-refund" => {
            let (trade, refund) = (&call.out_trade_no, &call.out_request_no);
            Ok(done(control.complete_refund(trade, refund)))
        }
        "clock" => {
            control.advance(Duration::from_secs(call.seconds));
            Ok(json!({ "nowMs": control.now_ms() }))
        }
        "key" => {
            let key = AlipayKey {
                private_key: call.private_key.clone(),
                certificate: call
                    .certificate_number
                    .clone()
                    .zip(call.certificate.clone()),
            };
            let switched = control.switch_key(&key);
            switched.map_err(|fault| malformed("privateKey", &fault.to_string()))?;
            Ok(done(true))
        }
        "withdraw" => Ok(done(control.withdraw(&call.app_auth_token))),
        _ => Err(unknown()),
    }
}

fn next(control: &AlipayControl, call: &ControlCall) -> Result<Value, SandboxRefusal> {
    let fault = AlipayFault::from_word(&call.fault).ok_or_else(|| {
        SandboxRefusal::of(400, "field_malformed", "see GET /control/faults").at("fault")
    })?;
    let mut order = AlipaySteered::once(fault);
    order.method.clone_from(&call.method);
    order.times = call.times.unwrap_or(order.times);
    if let Some(code) = &call.code {
        order.code.clone_from(code);
        order.sub_code = call.sub_code.clone().unwrap_or_default();
    }
    let answer = json!({ "fault": fault.word(), "times": order.times, "method": order.method });
    control.order(order);
    Ok(answer)
}

/// The result code that the wallet gives an app.
fn wallet_result(acted: AlipayActed) -> Value {
    let (status, sub_code) = match acted {
        AlipayActed::Paid => ("9000", None),
        AlipayActed::Waiting => ("8000", None),
        AlipayActed::Failed => ("4000", None),
        AlipayActed::Refused("ACQ.TRADE_HAS_SUCCESS") => ("5000", Some("ACQ.TRADE_HAS_SUCCESS")),
        AlipayActed::Refused(sub_code) => ("4000", Some(sub_code)),
    };
    json!({ "resultStatus": status, "subCode": sub_code })
}

fn table() -> Value {
    let faults = ALIPAY_FAULTS
        .iter()
        .map(|(_, word, effect)| json!({ "fault": word, "does": effect }));
    let codes = ALIPAY_CODES
        .iter()
        .map(|(code, sub_codes)| json!({ "code": code, "subCodes": sub_codes }));
    json!({ "faults": faults.collect::<Vec<_>>(), "codes": codes.collect::<Vec<_>>() })
}

fn books(state: &AlipayState) -> Value {
    state.books.look(|books| {
        json!({
            "calls": books.calls,
            "refusals": books.refusals,
            "balance": yuan(books.balance_fen()),
            "trades": books.trades().map(line).collect::<Vec<_>>(),
        })
    })
}

fn line(trade: &AlipayTrade) -> Value {
    let refunds = trade.refunds.iter().map(|refund| {
        json!({
            "outRequestNo": refund.number,
            "refundAmount": yuan(refund.fen),
            "moved": refund.moved_ms.is_some(),
        })
    });
    json!({
        "sellerId": trade.seller_id,
        "outTradeNo": trade.terms.out_trade_no,
        "tradeNo": trade.trade_no,
        "method": trade.terms.product.method(),
        "tradeStatus": trade.status.word(),
        "totalAmount": yuan(trade.terms.total_fen),
        "failures": trade.failures,
        "notices": trade.notices,
        "acknowledged": trade.acknowledged,
        "refunds": refunds.collect::<Vec<_>>(),
    })
}
