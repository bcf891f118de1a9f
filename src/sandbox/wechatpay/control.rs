//! How tests and the demo steer the platform: faults, the payer, refunds, clock, keys, hosts. As
//! functions, and over HTTP for callers on this machine:
//!
//! | Call | Body |
//! |---|---|
//! | `GET /control/faults`, `/control/books` | |
//! | `POST /control/next` | `fault`, `times`; of an answer also `call` and `carried_out` |
//! | `POST /control/pay` | `out_trade_no`, `outcome` (`pay`, `fail`), `payer_total` in fen |
//! | `POST /control/refund` | `out_refund_no`, `status` |
//! | `POST /control/clock` | `advance_s` |
//! | `POST /control/keys` | `mchid`, `phase`, `day` of a switch |
//! | `POST /control/hosts` | `first`: `lost` or `back` |

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sandbox::refusal::{SandboxRefusal, answered};
use crate::sandbox::wechatpay::book::{
    PayingOutcome, WechatKey, WechatOrder, WechatRefund, WechatRefundState,
};
use crate::sandbox::wechatpay::faults::{
    ANSWER_FAULTS, AnswerFault, Carried, NOTIFICATION_FAULTS, NotificationFault, WechatCall,
};
use crate::sandbox::wechatpay::payer::{PayerChoice, act};
use crate::sandbox::wechatpay::platform::{KeyPhase, NoCertificates};
use crate::sandbox::wechatpay::{WechatPayState, refunds};

/// Steers the platform.
#[derive(Clone)]
pub struct WechatControl(pub(super) Arc<WechatPayState>);

impl WechatControl {
    /// Spoils the next answers to calls of one kind.
    pub fn next_answer(&self, call: WechatCall, fault: AnswerFault, carried: Carried) {
        self.0.faults.order_answer(call, fault, (carried, 1));
    }

    /// Spoils the next notification.
    pub fn next_notification(&self, fault: NotificationFault) {
        self.0.faults.order_notification(fault, 1);
    }

    /// The payer pays the order of this number with what was handed out last, whatever the
    /// product. `payer_total_fen` is what remains after coupons; all of it if none.
    pub fn pay(&self, out_trade_no: &str, payer_total_fen: Option<i64>) -> PayingOutcome {
        self.choose(out_trade_no, (PayerChoice::Pay, payer_total_fen))
    }

    /// The payer's attempt fails.
    pub fn fail(&self, out_trade_no: &str) -> PayingOutcome {
        self.choose(out_trade_no, (PayerChoice::Fail, None))
    }

    fn choose(&self, out_trade_no: &str, by: (PayerChoice, Option<i64>)) -> PayingOutcome {
        let newest = |order: &WechatOrder| Some(order.issued.last()?.value.clone());
        let value = self
            .0
            .book
            .look(|book| book.order(out_trade_no).and_then(newest));
        value.map_or(PayingOutcome::Unknown, |value| act(&self.0, &value, by))
    }

    /// Moves a refund on, and notifies its end; whether it could move there.
    pub fn move_refund(&self, out_refund_no: &str, next: WechatRefundState) -> bool {
        let key = |refund: &WechatRefund| -> WechatKey {
            (refund.order.0.clone(), refund.out_refund_no.clone())
        };
        let found = self.0.book.look(|book| book.refund(out_refund_no).map(key));
        found.is_some_and(|key| refunds::move_refund(&self.0, &key, next))
    }

    /// The platform's clock. Unit: Unix seconds.
    pub fn now_s(&self) -> i64 {
        self.0.clock.now_s()
    }

    /// Puts the clock forward. Waits that end by then end.
    pub fn advance(&self, seconds: u32) {
        self.0.clock.advance(seconds);
    }

    /// Which key signs for a merchant from now on.
    pub fn set_phase(&self, mchid: &str, phase: KeyPhase) {
        self.0.keys.set_phase(mchid, phase);
    }

    /// How `/v3/certificates` says that there is none.
    pub fn set_no_certificates(&self, none: NoCertificates) {
        self.0.keys.set_none(none);
    }

    /// Signs with this certificate from now on; all stay listed. Whether there is one.
    pub fn sign_with(&self, serial: &str) -> bool {
        self.0.keys.sign_with(serial)
    }

    /// The first host is back after it was lost.
    pub fn restore_first_host(&self) {
        self.0.first_host_lost.store(false, Ordering::SeqCst);
    }

    /// The first host answers nobody from now on; the second works on.
    pub fn lose_first_host(&self) {
        self.0.first_host_lost.store(true, Ordering::SeqCst);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WechatFaultOrder {
    fault: String,
    /// Without it, the next notification.
    call: Option<String>,
    #[serde(default)]
    carried_out: Option<bool>,
    #[serde(default = "once")]
    times: u32,
}

fn once() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PayOrder {
    out_trade_no: String,
    payer_total: Option<i64>,
    outcome: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveRefundOrder {
    out_refund_no: String,
    status: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockOrder {
    advance_s: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyOrder {
    mchid: String,
    /// `certificates`, `switching`, `public_key`.
    phase: String,
    /// Day of the switch, from 1.
    #[serde(default = "first_day")]
    day: u32,
}

fn first_day() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostOrder {
    first: String,
}

pub(super) fn answer(
    shared: &Arc<WechatPayState>,
    request: &Request<Bytes>,
    what: &str,
    from: SocketAddr,
) -> Response<Bytes> {
    if !from.ip().is_loopback() {
        return SandboxRefusal::of(403, "not_here", "only from this machine").into_response();
    }
    let control = WechatControl(Arc::clone(shared));
    let body = request.body();
    let done = match (request.method(), what) {
        (&Method::GET, "faults") => Ok(table()),
        (&Method::GET, "books") => Ok(books(shared)),
        (&Method::POST, "next") => read(body).and_then(|order| control.order(&order)),
        (&Method::POST, "pay") => read(body).and_then(|order| control.order_payment(&order)),
        (&Method::POST, "refund") => read(body).and_then(|order| control.order_refund(&order)),
        (&Method::POST, "clock") => read(body).map(|order: ClockOrder| {
            control.advance(order.advance_s);
            json!({ "now": control.now_s() })
        }),
        (&Method::POST, "keys") => read(body).and_then(|order| control.order_keys(&order)),
        (&Method::POST, "hosts") => read(body).and_then(|order| control.order_hosts(&order)),
        _ => Err(SandboxRefusal::of(
            404,
            "path_unknown",
            "GET faults, books; POST next, pay, refund, clock, keys, hosts",
        )),
    };
    done.map_or_else(SandboxRefusal::into_response, |done| answered(&done))
}

fn read<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, SandboxRefusal> {
    serde_json::from_slice(body).map_err(|fault| SandboxRefusal::unreadable(&fault))
}

fn malformed(field: &str, detail: &str) -> SandboxRefusal {
    SandboxRefusal::of(400, "field_malformed", detail).at(field)
}

impl WechatControl {
    fn order(&self, order: &WechatFaultOrder) -> Result<Value, SandboxRefusal> {
        let unknown = || malformed("fault", "see GET /control/faults");
        match &order.call {
            None => {
                let fault = NotificationFault::from_word(&order.fault).ok_or_else(unknown)?;
                self.0.faults.order_notification(fault, order.times);
            }
            Some(call) => {
                let fault = AnswerFault::from_word(&order.fault).ok_or_else(unknown)?;
                let call = WechatCall::from_word(call).ok_or_else(|| malformed("call", "which"))?;
                let carried = if order.carried_out == Some(false) {
                    Carried::Not
                } else {
                    Carried::Out
                };
                self.0
                    .faults
                    .order_answer(call, fault, (carried, order.times));
            }
        }
        Ok(json!({ "fault": order.fault, "times": order.times }))
    }

    fn order_payment(&self, order: &PayOrder) -> Result<Value, SandboxRefusal> {
        let word = order.outcome.as_deref().unwrap_or("pay");
        let outcome = match word {
            "pay" => self.pay(&order.out_trade_no, order.payer_total),
            "fail" => self.fail(&order.out_trade_no),
            _ => return Err(malformed("outcome", "pay or fail")),
        };
        Ok(json!({ "outcome": format!("{outcome:?}") }))
    }

    fn order_refund(&self, order: &MoveRefundOrder) -> Result<Value, SandboxRefusal> {
        let next = WechatRefundState::from_word(&order.status);
        let next = next.ok_or_else(|| malformed("status", "SUCCESS, CLOSED or ABNORMAL"))?;
        Ok(json!({ "moved": self.move_refund(&order.out_refund_no, next) }))
    }

    fn order_keys(&self, order: &KeyOrder) -> Result<Value, SandboxRefusal> {
        let days = i64::from(order.day.saturating_sub(1));
        let phase = match order.phase.as_str() {
            "certificates" => KeyPhase::Certificates,
            "public_key" => KeyPhase::PublicKey,
            "switching" => KeyPhase::Switching {
                since_s: self.now_s().saturating_sub(days.saturating_mul(86_400)),
            },
            _ => return Err(malformed("phase", "certificates, switching, public_key")),
        };
        self.set_phase(&order.mchid, phase);
        Ok(json!({ "phase": order.phase }))
    }

    fn order_hosts(&self, order: &HostOrder) -> Result<Value, SandboxRefusal> {
        match order.first.as_str() {
            "lost" => self.lose_first_host(),
            "back" => self.restore_first_host(),
            _ => return Err(malformed("first", "lost or back")),
        }
        Ok(json!({ "first": order.first }))
    }
}

fn table() -> Value {
    let answers = ANSWER_FAULTS
        .iter()
        .map(|(_, word, what)| json!({ "fault": word, "does": what }));
    let notifications = NOTIFICATION_FAULTS
        .iter()
        .map(|(_, word, what)| json!({ "fault": word, "does": what }));
    json!({
        "answers": answers.collect::<Vec<_>>(),
        "codes": "an answer's fault may also be any documented error code",
        "notifications": notifications.collect::<Vec<_>>(),
    })
}

fn books(shared: &WechatPayState) -> Value {
    shared.book.look(|book| {
        let orders = book.orders().map(order_line);
        let refunds = book.refunds().map(refund_line);
        json!({
            "calls": book.calls,
            "refused": book.refused,
            "taken": book.taken_fen(),
            "orders": orders.collect::<Vec<_>>(),
            "refunds": refunds.collect::<Vec<_>>(),
        })
    })
}

fn order_line(order: &WechatOrder) -> Value {
    let terms = &order.terms;
    json!({
        "mchid": terms.mchid,
        "sub_mchid": terms.sub_mchid,
        "out_trade_no": terms.out_trade_no,
        "trade_type": terms.product.trade_type(),
        "trade_state": order.state.word(),
        "total": terms.total_fen,
        "transaction_id": order.transaction.as_ref().map(|paid| paid.transaction_id.clone()),
        "prepays": order.issued.len(),
        "queries": order.queries,
        "closes": order.closes,
        "failures": order.failures,
        "notified": order.notified,
        "acknowledged": order.acknowledged,
    })
}

fn refund_line(refund: &WechatRefund) -> Value {
    json!({
        "out_refund_no": refund.out_refund_no,
        "refund_id": refund.refund_id,
        "out_trade_no": refund.order.1,
        "refund": refund.refund_fen,
        "status": refund.state.word(),
        "asks": refund.asks,
        "notified": refund.notified,
        "acknowledged": refund.acknowledged,
    })
}
