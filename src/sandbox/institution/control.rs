//! The control interface of a simulated institution: lists faults, injects them, shows the ledger.
//! Answers only callers on this machine.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sandbox::institution::SandboxInstitutionState;
use crate::sandbox::institution::faults::{FAULTS, InstitutionFault, SandboxCall};
use crate::sandbox::institution::ledger::SandboxPayment;
use crate::sandbox::institution::refunds::SandboxRefund;
use crate::sandbox::institution::terms::yuan_text;
use crate::sandbox::refusal::{SandboxRefusal, answered};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultOrder {
    fault: String,
    #[serde(default = "once")]
    times: u32,
    #[serde(default)]
    call: Option<String>,
}

fn once() -> u32 {
    1
}

pub(super) fn answer(
    shared: &SandboxInstitutionState,
    request: &Request<Bytes>,
    what: &str,
    from: SocketAddr,
) -> Response<Bytes> {
    if !from.ip().is_loopback() {
        return SandboxRefusal::of(403, "not_here", "only from this machine").into_response();
    }
    match (request.method(), what) {
        (&Method::GET, "faults") => answered(&table()),
        (&Method::GET, "books") => answered(&book(shared)),
        (&Method::POST, "next") => inject(shared, request.body())
            .map_or_else(SandboxRefusal::into_response, |injected| {
                answered(&injected)
            }),
        _ => SandboxRefusal::of(404, "path_unknown", "GET faults, GET books, POST next")
            .into_response(),
    }
}

fn inject(shared: &SandboxInstitutionState, body: &[u8]) -> Result<Value, SandboxRefusal> {
    let next: FaultOrder =
        serde_json::from_slice(body).map_err(|fault| SandboxRefusal::unreadable(&fault))?;
    let malformed = |field, detail| SandboxRefusal::of(400, "field_malformed", detail).at(field);
    let fault = InstitutionFault::from_word(&next.fault)
        .ok_or_else(|| malformed("fault", "see GET /control/faults"))?;
    let call =
        match next.call.as_deref() {
            None => None,
            Some(word) => {
                let call = SandboxCall::from_word(word);
                Some(call.ok_or_else(|| {
                    malformed("call", "create, query, close, refund or refund_query")
                })?)
            }
        };
    shared.faults.order(fault, call, next.times);
    Ok(json!({ "fault": fault.word(), "times": next.times, "call": call.map(SandboxCall::word) }))
}

fn table() -> Value {
    let lines = FAULTS.iter().map(|(_, word, cents, what)| {
        json!({ "fault": word, "sumEndsIn": format!("{cents:02}"), "does": what })
    });
    json!({ "faults": lines.collect::<Vec<_>>() })
}

fn book(shared: &SandboxInstitutionState) -> Value {
    shared.book.look(|book| {
        let lines: Vec<Value> = book
            .payments()
            .map(|payment| line(shared, payment))
            .collect();
        let refunds: Vec<Value> = book.refunds().map(refund_line).collect();
        json!({
            "calls": book.calls,
            "taken": yuan_text(book.taken_cents()),
            "returned": yuan_text(book.returned_cents()),
            "payments": lines,
            "refunds": refunds,
        })
    })
}

fn line(shared: &SandboxInstitutionState, payment: &SandboxPayment) -> Value {
    json!({
        "merchantId": payment.terms.merchant_id,
        "merchantOrderNo": payment.terms.merchant_order_no,
        "payOrderNo": payment.institution_no,
        "orderAmount": yuan_text(payment.terms.sum_cents),
        "orderStatus": payment.state.word(),
        "taken": yuan_text(payment.taken_cents),
        "page": shared.page_url(&payment.token),
        "creates": payment.creates,
        "queries": payment.queries,
        "closes": payment.closes,
        "failures": payment.failures,
        "callbacks": payment.callbacks,
        "acknowledged": payment.acknowledged,
    })
}

fn refund_line(refund: &SandboxRefund) -> Value {
    json!({
        "merchantId": refund.terms.merchant_id,
        "merchantOrderNo": refund.terms.merchant_order_no,
        "payOrderNo": refund.institution_no,
        "merchantRefundNo": refund.merchant_refund_no,
        "refundOrderNo": refund.refund_no,
        "refundAmount": yuan_text(refund.terms.sum_cents),
        "refundStatus": refund.standing.word(),
        "reason": refund.reason,
        "asks": refund.asks,
        "queries": refund.queries,
        "callbacks": refund.callbacks,
        "acknowledged": refund.acknowledged,
    })
}
