//! Calls of servers: admits a request, carries it out in the books, and signs the answer over the
//! node's exact characters. Effects are in the books before the answer.

mod creating;
mod refunding;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::sandbox::alipay::admission::{AdmittedCall, Channel, Turned, admit};
use crate::sandbox::alipay::answer::{
    AlipayRefusal, NodeMembers, node_name, signed, success, unsigned,
};
use crate::sandbox::alipay::biz::yuan;
use crate::sandbox::alipay::books::{AlipayStatus, AlipayTrade, TradeKey};
use crate::sandbox::alipay::clock::local;
use crate::sandbox::alipay::form::{AlipayParameters, FormFault};
use crate::sandbox::alipay::notices::NoticeEvent;
use crate::sandbox::alipay::steering::{AlipayFault, AlipaySteered};
use crate::sandbox::alipay::terms::AlipayProduct;
use crate::sandbox::alipay::{AlipayState, bills, cashier, lock, notices};
use crate::sandbox::clock::wait;
use crate::sandbox::refusal::written;
use crate::sandbox::server::SandboxReply;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json;charset=utf-8";

/// The payer of every trade.
pub(super) const BUYER_ID: &str = "2088102116773037";
/// The payer's account, masked.
pub(super) const BUYER_LOGON_ID: &str = "138****0000";

/// A request to the gateway's one path.
pub(super) async fn answer(state: &Arc<AlipayState>, request: &Request<Bytes>) -> SandboxReply {
    let form = match read(request) {
        Ok(form) => form,
        Err(refusal) => return refused_unsigned(state, "", &refusal),
    };
    let method = form.get("method").unwrap_or_default();
    let browser = [AlipayProduct::Page, AlipayProduct::Wap];
    if browser.iter().any(|product| product.method() == method) {
        return SandboxReply::Answer(cashier::open(state, &form));
    }
    let admitted = match admit(state, &form, Channel::Server) {
        Ok(admitted) => admitted,
        Err(Turned { refusal, to: None }) => return refused_unsigned(state, method, &refusal),
        Err(Turned {
            refusal,
            to: Some((method, certificate_mode)),
        }) => {
            count_refusal(state, &method, &refusal);
            let answer = sealed(state, &method, certificate_mode, &refusal.node(), None);
            return SandboxReply::Answer(answer);
        }
    };
    let method = admitted.method.clone();
    state.books.change(|books| books.count_call(&method));
    let steered = state.steering.take(&method, AlipayFault::is_of_a_call);
    reply(state, &admitted, steered).await
}

/// Query and body as one form.
fn read(request: &Request<Bytes>) -> Result<AlipayParameters, AlipayRefusal> {
    let invalid = |detail: &str| AlipayRefusal::invalid("isv.invalid-parameter", detail);
    let body = request.body();
    let media_type = request.headers().get(CONTENT_TYPE);
    let is_form = media_type.is_some_and(|value| value.as_bytes().starts_with(FORM.as_bytes()));
    match *request.method() {
        Method::GET if body.is_empty() => (),
        Method::POST if body.is_empty() || is_form => (),
        _ => return Err(invalid(FORM)),
    }
    let merged = AlipayParameters::merged(request.uri().query().unwrap_or_default(), body);
    merged.map_err(|fault| match fault {
        FormFault::Malformed => invalid("参数编码错误"),
        FormFault::Duplicate(name) => invalid(&format!("参数重复 {name}")),
    })
}

fn count_refusal(state: &AlipayState, method: &str, refusal: &AlipayRefusal) {
    let sub_code = &refusal.sub_code;
    state
        .books
        .change(|books| books.count_refusal(method, sub_code));
}

fn refused_unsigned(state: &AlipayState, method: &str, refusal: &AlipayRefusal) -> SandboxReply {
    count_refusal(state, method, refusal);
    SandboxReply::Answer(written(StatusCode::OK, JSON, unsigned(refusal)))
}

/// A signed answer; `fault` may change the signature.
fn sealed(
    state: &AlipayState,
    method: &str,
    certificate_mode: bool,
    node: &str,
    fault: Option<AlipayFault>,
) -> Response<Bytes> {
    let name = node_name(method);
    if fault == Some(AlipayFault::UnsignedAnswer) {
        return written(StatusCode::OK, JSON, format!("{{\"{name}\":{node}}}"));
    }
    let Some(current) = state.key() else {
        return written(StatusCode::INTERNAL_SERVER_ERROR, JSON, String::new());
    };
    let serial = current.serial().filter(|_| certificate_mode);
    let key = match fault {
        Some(AlipayFault::ForgedAnswer) => &state.forging_key,
        _ => &current.private,
    };
    let body = signed(&name, node, key, serial, state.next_order());
    written(StatusCode::OK, JSON, body)
}

/// Carries a call out, unless a fault says otherwise, and answers.
async fn reply(
    state: &Arc<AlipayState>,
    admitted: &AdmittedCall,
    steered: Option<AlipaySteered>,
) -> SandboxReply {
    let fault = steered.as_ref().map(|steered| steered.fault);
    let ordered =
        steered.map(|steered| AlipayRefusal::of(&steered.code, &steered.sub_code, "系统繁忙"));
    let method = admitted.method.as_str();
    let outcome = match (fault, ordered) {
        (Some(AlipayFault::RequestLost), _) => return SandboxReply::Silence(Duration::ZERO),
        (Some(AlipayFault::HtmlPage), _) => {
            let page = "<html><body>系统繁忙，请稍后再试</body></html>".to_owned();
            let answer = written(StatusCode::OK, "text/html;charset=utf-8", page);
            return SandboxReply::Answer(answer);
        }
        (Some(AlipayFault::RefusesUnsigned), Some(refusal)) => {
            return refused_unsigned(state, method, &refusal);
        }
        (Some(AlipayFault::Refuses), Some(refusal)) => Err(refusal),
        (Some(AlipayFault::ActsThenRefuses), Some(refusal)) => {
            let _ = carry_out(state, admitted).await;
            Err(refusal)
        }
        _ => carry_out(state, admitted).await,
    };
    let node = match outcome {
        Ok(members) => success(&altered(members, fault)),
        Err(refusal) => {
            count_refusal(state, method, &refusal);
            refusal.node()
        }
    };
    let answer = sealed(state, method, admitted.certificate_mode, &node, fault);
    match fault {
        Some(AlipayFault::SlowAnswer) => {
            wait(state.delays.slow).await;
            SandboxReply::Answer(answer)
        }
        Some(AlipayFault::NoAnswer) => SandboxReply::Silence(state.delays.hold),
        Some(AlipayFault::AnswerLost) => SandboxReply::Silence(Duration::ZERO),
        _ => SandboxReply::Answer(answer),
    }
}

/// The members of an answer that tells another state or amount than the books have.
fn altered(mut members: NodeMembers, fault: Option<AlipayFault>) -> NodeMembers {
    for (name, value) in &mut members {
        match (fault, *name) {
            (Some(AlipayFault::UnlistedStatus), "trade_status") => {
                *value = "TRADE_SETTLING".into();
            }
            (Some(AlipayFault::WrongAmountAnswer), "total_amount") => *value = "99999.99".into(),
            _ => (),
        }
    }
    members
}

async fn carry_out(
    state: &Arc<AlipayState>,
    admitted: &AdmittedCall,
) -> Result<NodeMembers, AlipayRefusal> {
    match admitted.method.as_str() {
        "alipay.trade.precreate" => creating::precreate(state, admitted).await,
        "alipay.trade.create" => creating::create(state, admitted).await,
        "alipay.trade.pay" => creating::pay(state, admitted),
        "alipay.trade.query" => query(state, admitted),
        "alipay.trade.close" => close(state, admitted),
        "alipay.trade.cancel" => refunding::cancel(state, admitted),
        "alipay.trade.refund" => refunding::refund(state, admitted),
        "alipay.trade.fastpay.refund.query" => refunding::query(state, admitted),
        "alipay.data.dataservice.bill.downloadurl.query" => bills::address(state, admitted),
        "alipay.open.app.alipaycert.download" => certificate(state, admitted),
        "alipay.open.auth.token.app" => tokens::exchange(state, admitted),
        "alipay.open.auth.token.app.query" => tokens::query(state, admitted),
        _ => Err(AlipayRefusal::invalid(
            "isv.invalid-method",
            "不存在的方法名",
        )),
    }
}

/// A refusal of the books.
pub(super) fn acq(sub_code: &'static str) -> AlipayRefusal {
    let detail = match sub_code {
        "ACQ.TRADE_NOT_EXIST" => "交易不存在",
        "ACQ.TRADE_HAS_SUCCESS" => "交易已被支付",
        "ACQ.TRADE_HAS_CLOSE" => "交易已经关闭",
        "ACQ.CONTEXT_INCONSISTENT" => "交易信息被篡改",
        _ => "业务处理失败",
    };
    AlipayRefusal::business(sub_code, detail)
}

/// The trade that a call names.
fn named(state: &AlipayState, admitted: &AdmittedCall) -> Result<TradeKey, AlipayRefusal> {
    let biz = &admitted.biz;
    let number = biz.number("out_trade_no")?;
    let trade_no = biz.text("trade_no", 64)?;
    if number.is_none() && trade_no.is_none() {
        return Err(biz.wrong("out_trade_no"));
    }
    let seller_id = &admitted.party.seller_id;
    let found = state
        .books
        .look(|books| books.find(seller_id, number, trade_no));
    found.ok_or_else(|| acq("ACQ.TRADE_NOT_EXIST"))
}

fn query(state: &AlipayState, admitted: &AdmittedCall) -> Result<NodeMembers, AlipayRefusal> {
    let biz = &admitted.biz;
    biz.only(&[&["out_trade_no", "trade_no", "query_options"]])?;
    let found = named(state, admitted).map(|key| {
        let now_ms = state.now_ms();
        state.books.change(|books| books.look(&key, now_ms))
    });
    match found {
        Ok(Some(trade)) => Ok(trade_members(&trade)),
        Ok(None) => Err(acq("ACQ.TRADE_NOT_EXIST")),
        Err(refusal) if refusal.sub_code == "ACQ.TRADE_NOT_EXIST" => {
            let number = biz.text("out_trade_no", 64)?.unwrap_or_default();
            Err(refusal.with(vec![
                ("buyer_pay_amount", "0.00".into()),
                ("invoice_amount", "0.00".into()),
                ("out_trade_no", number.into()),
                ("point_amount", "0.00".into()),
                ("receipt_amount", "0.00".into()),
            ]))
        }
        Err(refusal) => Err(refusal),
    }
}

/// A trade as query and pay answer it.
fn trade_members(trade: &AlipayTrade) -> NodeMembers {
    let total = yuan(trade.terms.total_fen);
    let is_paid = trade.paid_ms.is_some();
    let paid = if is_paid { total.as_str() } else { "0.00" };
    let mut members: NodeMembers = vec![
        ("buyer_logon_id", BUYER_LOGON_ID.into()),
        ("buyer_pay_amount", paid.into()),
        ("buyer_user_id", BUYER_ID.into()),
        ("invoice_amount", paid.into()),
        ("out_trade_no", trade.terms.out_trade_no.as_str().into()),
        ("point_amount", "0.00".into()),
        ("receipt_amount", paid.into()),
    ];
    if is_paid {
        let bills = json!([{ "amount": total, "fund_channel": "ALIPAYACCOUNT" }]);
        members.push(("fund_bill_list", bills));
        members.push(("send_pay_date", moment(trade.paid_ms)));
    }
    for (name, value) in [
        ("store_id", &trade.terms.store_id),
        ("terminal_id", &trade.terms.terminal_id),
    ] {
        if let Some(value) = value {
            members.push((name, value.as_str().into()));
        }
    }
    members.push(("total_amount", total.into()));
    members.push(("trade_no", trade.trade_no.as_str().into()));
    members.push(("trade_status", trade.status.word().into()));
    members
}

/// A moment in an answer.
fn moment(at_ms: Option<i64>) -> Value {
    at_ms.map_or(Value::Null, |at_ms| local(at_ms).into())
}

fn close(state: &Arc<AlipayState>, admitted: &AdmittedCall) -> Result<NodeMembers, AlipayRefusal> {
    let fields = ["out_trade_no", "trade_no", "operator_id"];
    admitted.biz.only(&[&fields])?;
    let key = named(state, admitted)?;
    let now_ms = state.now_ms();
    let closed = state.books.change(|books| books.close(&key, now_ms));
    let trade = closed.map_err(acq)?;
    if trade.status == AlipayStatus::Closed {
        notices::tell(state, &key, &NoticeEvent::Ended);
    }
    Ok(vec![
        ("out_trade_no", trade.terms.out_trade_no.into()),
        ("trade_no", trade.trade_no.into()),
    ])
}

/// The gateway's certificate of a number, also of an earlier key.
fn certificate(state: &AlipayState, admitted: &AdmittedCall) -> Result<NodeMembers, AlipayRefusal> {
    let biz = &admitted.biz;
    biz.only(&[&["alipay_cert_sn"]])?;
    let serial = biz.required("alipay_cert_sn", 32)?;
    let keys = lock(&state.keys);
    let pem = keys.iter().find_map(|key| {
        let (known, pem) = key.certificate.as_ref()?;
        (known == serial).then_some(pem)
    });
    let pem = pem.ok_or_else(|| biz.wrong("alipay_cert_sn"))?;
    Ok(vec![("alipay_cert_content", STANDARD.encode(pem).into())])
}
