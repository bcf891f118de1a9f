//! The dialect's calls at a simulated institution: verifies signature and nonce, carries out the
//! call, and signs the response, bound to the request. Effects are in the ledger before the
//! response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use serde_json::{Value, json};

use crate::sandbox::clock::{draw_number, draw_token, now_ms, now_s, rfc_3339, shanghai, wait};
use crate::sandbox::institution::SandboxInstitutionState;
use crate::sandbox::institution::faults::{FaultTrigger, InstitutionFault, SandboxCall};
use crate::sandbox::institution::ledger::{
    CloseOutcome, CreateOutcome, NewPayment, PayOutcome, PaymentKey, PaymentState, SandboxPayment,
};
use crate::sandbox::institution::terms::{PaymentReference, PaymentTerms, yuan_text};
use crate::sandbox::institution::{callback, refunds, statements};
use crate::sandbox::refusal::{SandboxRefusal, answered};
use crate::sandbox::server::SandboxReply;
use crate::signature::{Proven, Question, sign_response, verify_request};

/// How far `created` may be in the past, and `expires` after it. Unit: seconds.
const WINDOW_S: i64 = 300;
/// How far `created` may be in the future. Unit: seconds.
const AHEAD_S: i64 = 30;

/// The outcome of a call, and the fault to apply to its response.
pub(super) type CallResult = (Result<Value, SandboxRefusal>, Option<InstitutionFault>);

pub(super) async fn answer(
    shared: &Arc<SandboxInstitutionState>,
    call: SandboxCall,
    request: &Request<Bytes>,
) -> SandboxReply {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let target = format!("{}{path}", shared.origin());
    let proven = match verify_request(request, &target, &shared.settings.callers, now_s()) {
        Ok(proven) => proven,
        Err(fault) => {
            let refusal = SandboxRefusal::of(401, "signature_unusable", fault.to_string());
            return SandboxReply::Answer(refusal.into_response());
        }
    };
    let (outcome, fault) = match admit(shared, request, &proven) {
        Err(refusal) => (Err(refusal), None),
        Ok(()) => match call {
            SandboxCall::Create => create(shared, request.body()).await,
            SandboxCall::Query => query(shared, request.body()),
            SandboxCall::Close => close(shared, request.body()),
            SandboxCall::Refund => refunds::create(shared, request.body()),
            SandboxCall::RefundQuery => refunds::query(shared, request.body()),
            SandboxCall::Statement => statements::page(shared, request.body()),
        },
    };
    respond(shared, outcome, fault, Question::of(request, &target)).await
}

/// Checks validity period, nonce and media type.
fn admit(
    shared: &SandboxInstitutionState,
    request: &Request<Bytes>,
    proven: &Proven,
) -> Result<(), SandboxRefusal> {
    let outside = |what: &str| SandboxRefusal::of(401, "outside_window", what);
    let now = now_s();
    let expires = proven
        .expires_s
        .ok_or_else(|| outside("expires is missing"))?;
    if expires < now || expires > proven.created_s.saturating_add(WINDOW_S) {
        return Err(outside(
            "expires: at most 300 s after created, and not yet past",
        ));
    }
    let earliest = now.saturating_sub(WINDOW_S);
    if !(earliest..=now.saturating_add(AHEAD_S)).contains(&proven.created_s) {
        return Err(outside("created: at most 300 s ago and 30 s ahead"));
    }
    let nonce = proven.nonce.as_deref().unwrap_or_default();
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !(16..=64).contains(&nonce.len()) || !nonce.bytes().all(base64url) {
        let detail = "nonce: 16 to 64 characters, base64url";
        return Err(SandboxRefusal::of(401, "nonce_malformed", detail));
    }
    let spent = format!("{}/{nonce}", proven.key_id);
    if !shared
        .book
        .change(|book| book.spend_nonce(&spent, expires, now))
    {
        return Err(SandboxRefusal::of(
            401,
            "nonce_spent",
            "draw a new nonce for every request",
        ));
    }
    let media_type = request
        .headers()
        .get(CONTENT_TYPE)
        .map_or(b"".as_slice(), |value| value.as_bytes());
    if !media_type.starts_with(b"application/json") {
        return Err(SandboxRefusal::of(
            415,
            "media_type_wrong",
            "application/json",
        ));
    }
    Ok(())
}

/// Refuses unknown accounts before anything is looked up (K3).
pub(super) fn check_account(
    shared: &SandboxInstitutionState,
    account: &str,
) -> Result<(), SandboxRefusal> {
    if shared
        .settings
        .accounts
        .iter()
        .any(|known| known == account)
    {
        return Ok(());
    }
    Err(SandboxRefusal::of(403, "merchant_foreign", "no such account").at("merchantId"))
}

pub(super) fn broken() -> SandboxRefusal {
    SandboxRefusal::of(503, "unavailable", "try again later")
}

async fn create(shared: &Arc<SandboxInstitutionState>, body: &[u8]) -> CallResult {
    let terms = match PaymentTerms::read(body) {
        Ok(terms) => terms,
        Err(refusal) => return (Err(refusal), None),
    };
    let key = terms.key();
    if let Err(refusal) = check_account(shared, &key.0) {
        return (Err(refusal), None);
    }
    let is_new = shared.book.look(|book| book.is_new(&key));
    let faulting_sum = is_new.then_some(terms.sum_cents);
    let fault = shared
        .faults
        .take(FaultTrigger::Call(SandboxCall::Create), faulting_sum);
    match fault {
        Some(InstitutionFault::ServerError) => return (Err(broken()), fault),
        Some(InstitutionFault::RefusesPayment) => {
            let refusal =
                SandboxRefusal::of(422, "payment_refused", "not accepted from this payer");
            return (Err(refusal), fault);
        }
        _ => (),
    }
    let fresh = NewPayment {
        institution_no: draw_number('P'),
        token: draw_token(),
        now_s: now_s(),
    };
    let outcome = match shared.book.change(|book| book.create(&terms, fresh)) {
        CreateOutcome::Stands(payment) => {
            if fault == Some(InstitutionFault::EarlyCallback)
                && shared.book.change(|book| book.pay(&key, now_ms())) == PayOutcome::Taken
            {
                callback::call_back_now(shared, &key).await;
            }
            // The state at booking, as a response that races with the callback would show.
            Ok(created(shared, &payment))
        }
        CreateOutcome::Conflict => Err(SandboxRefusal::of(
            409,
            "order_conflict",
            "same number, different content",
        )),
        CreateOutcome::ClosedBefore => Err(SandboxRefusal::of(
            422,
            "order_closed",
            "closed before it was created",
        )),
    };
    (outcome, fault)
}

/// A3.1's response, with the payment action.
fn created(shared: &SandboxInstitutionState, payment: &SandboxPayment) -> Value {
    let terms = &payment.terms;
    let mut answer = json!({
        "payOrderNo": payment.institution_no,
        "createDate": shanghai(payment.created_s).0,
        "merchantId": terms.merchant_id,
        "merchantOrderNo": terms.merchant_order_no,
        "merchantName": terms.merchant_name,
        "orderAmount": yuan_text(terms.sum_cents),
        "result": match payment.state {
            PaymentState::Open => "ACCEPTED",
            PaymentState::Paid => "ALREADY_PAID",
            PaymentState::Closed => "CLOSED",
        },
        "orderStatus": payment.state.word(),
        "expireTime": rfc_3339(payment.expires_s),
    });
    if let (PaymentState::Open, Some(members)) = (payment.state, answer.as_object_mut()) {
        let (field, value) = match terms.business_type.as_str() {
            "WEBVIEW" => ("payUrl", shared.page_url(&payment.token).into()),
            "NATIVE" => ("sdkParameters", sdk_parameters(shared, payment)),
            _ => ("messageSent", true.into()),
        };
        members.insert(field.to_owned(), value);
    }
    answer
}

/// SDK parameters are opaque to everybody but the institution, as real ones are.
fn sdk_parameters(shared: &SandboxInstitutionState, payment: &SandboxPayment) -> Value {
    json!({
        "sdk": { "name": format!("{}-pay-sdk", shared.settings.id), "version": "3.2.1" },
        "institution": shared.settings.id,
        "prepayNo": payment.institution_no,
        "timestamp": payment.created_s.to_string(),
        "token": payment.token,
    })
}

fn query(shared: &SandboxInstitutionState, body: &[u8]) -> CallResult {
    let (reference, fault) = match read_reference(shared, SandboxCall::Query, body) {
        Ok(found) => found,
        Err(refusal) => return (Err(refusal), None),
    };
    if fault == Some(InstitutionFault::ServerError) {
        return (Err(broken()), fault);
    }
    let found = shared
        .book
        .change(|book| book.query(&reference.key(), now_s()));
    let outcome = found
        .filter(|payment| agrees(&reference, payment))
        .map(|payment| queried(&payment))
        .ok_or_else(unknown);
    (outcome, fault)
}

pub(super) fn unknown() -> SandboxRefusal {
    SandboxRefusal::of(404, "order_unknown", "no such order")
}

fn read_reference(
    shared: &SandboxInstitutionState,
    call: SandboxCall,
    body: &[u8],
) -> Result<(PaymentReference, Option<InstitutionFault>), SandboxRefusal> {
    let reference = PaymentReference::read(body)?;
    let key = reference.key();
    check_account(shared, &key.0)?;
    let sum = shared
        .book
        .look(|book| Some(book.look(&key)?.terms.sum_cents));
    Ok((reference, shared.faults.take(FaultTrigger::Call(call), sum)))
}

/// Every other field of A3.2 that was given must match (K3).
fn agrees(reference: &PaymentReference, payment: &SandboxPayment) -> bool {
    let same = |given: &Option<String>, known: &str| given.as_deref().is_none_or(|it| it == known);
    same(&reference.pay_order_no, &payment.institution_no)
        && same(&reference.create_date, &shanghai(payment.created_s).0)
        && same(&reference.mobile_no, &payment.terms.mobile_no)
}

/// A3.2's response.
fn queried(payment: &SandboxPayment) -> Value {
    let terms = &payment.terms;
    let (paid_date, paid_time) = payment.paid_s.map(shanghai).unwrap_or_default();
    let mut answer = json!({
        "transactionType": terms.transaction_type,
        "businessType": terms.business_type,
        "merchantOrderNo": terms.merchant_order_no,
        "merchantName": terms.merchant_name,
        "orderDate": terms.order_date,
        "orderAmount": yuan_text(terms.sum_cents),
        "currency": terms.currency,
        "merchantId": terms.merchant_id,
        "mobileNo": terms.mobile_no,
        "paymentDate": paid_date,
        "paymentTime": paid_time,
        "payOrderNo": payment.institution_no,
        "orderStatus": payment.state.word(),
    });
    let fee = payment.paid_s.map(|_| payment.fee_text());
    let optional = [
        ("goodsNo", terms.goods_no.clone()),
        ("goodsName", terms.goods_name.clone()),
        ("goodsDescription", terms.goods_description.clone()),
        ("attach", terms.attach.clone()),
        ("fee", fee),
    ];
    if let Some(members) = answer.as_object_mut() {
        for (field, value) in optional {
            if let Some(value) = value {
                members.insert(field.to_owned(), value.into());
            }
        }
    }
    answer
}

fn close(shared: &Arc<SandboxInstitutionState>, body: &[u8]) -> CallResult {
    if !shared.settings.can_close {
        let refusal = SandboxRefusal::of(
            422,
            "not_offered",
            "this institution does not support close",
        );
        return (Err(refusal), None);
    }
    let (reference, fault) = match read_reference(shared, SandboxCall::Close, body) {
        Ok(found) => found,
        Err(refusal) => return (Err(refusal), None),
    };
    match fault {
        Some(InstitutionFault::ServerError) => return (Err(broken()), fault),
        Some(InstitutionFault::RefusesClose) => {
            let refusal = SandboxRefusal::of(409, "close_refused", "the payment stays open");
            return (Err(refusal), fault);
        }
        _ => (),
    }
    let key = reference.key();
    let known = shared.book.look(|book| book.look(&key).cloned());
    if known
        .as_ref()
        .is_some_and(|payment| !agrees(&reference, payment))
    {
        return (Err(unknown()), fault);
    }
    let remembers = shared.settings.remembers_close;
    let outcome = match shared
        .book
        .change(|book| book.close(&key, now_s(), remembers))
    {
        CloseOutcome::Paid => Err(SandboxRefusal::of(409, "order_paid", "the payer has paid")),
        CloseOutcome::Unknown => Err(unknown()),
        CloseOutcome::Closed => {
            if fault == Some(InstitutionFault::PaysAfterClose) && known.is_some() {
                let background = Arc::clone(shared);
                shared.spawn_background(pay_late(background, key));
            }
            Ok(json!({
                "merchantOrderNo": reference.merchant_order_no,
                "merchantId": reference.merchant_id,
                "result": "CLOSED",
                "orderStatus": "CLOSED",
            }))
        }
    };
    (outcome, fault)
}

async fn pay_late(shared: Arc<SandboxInstitutionState>, key: PaymentKey) {
    wait(shared.settings.waits.late).await;
    if shared
        .book
        .change(|book| book.pay_after_close(&key, now_ms()))
        == PayOutcome::Taken
    {
        callback::call_back_payment(&shared, &key);
    }
}

async fn respond(
    shared: &SandboxInstitutionState,
    outcome: Result<Value, SandboxRefusal>,
    fault: Option<InstitutionFault>,
    question: Option<Question>,
) -> SandboxReply {
    let mut answer = match (outcome, fault) {
        (_, Some(InstitutionFault::ActsThenServerError)) => {
            SandboxRefusal::of(500, "outcome_unknown", "something went wrong").into_response()
        }
        (Ok(mut body), Some(InstitutionFault::UnlistedWord)) => {
            if let Some(members) = body.as_object_mut() {
                let of_refund = members.contains_key("refundStatus");
                let field = if of_refund {
                    "refundStatus"
                } else {
                    "orderStatus"
                };
                members.insert(field.to_owned(), "SETTLING".into());
            }
            answered(&body)
        }
        (Ok(body), _) => answered(&body),
        (Err(refusal), _) => refusal.into_response(),
    };
    let settings = &shared.settings;
    let key = match fault {
        Some(InstitutionFault::ForgedAnswer) => &shared.forging_key,
        _ => &settings.key,
    };
    if let Err(fault) = sign_response(&mut answer, question.as_ref(), key, now_s()) {
        answer = unsigned(&fault.to_string());
    }
    match fault {
        Some(InstitutionFault::SlowAnswer) => {
            wait(settings.waits.slow).await;
            SandboxReply::Answer(answer)
        }
        Some(InstitutionFault::NoAnswer) => SandboxReply::Silence(settings.waits.hold),
        Some(InstitutionFault::AnswerLost) => SandboxReply::Silence(Duration::ZERO),
        _ => SandboxReply::Answer(answer),
    }
}

fn unsigned(why: &str) -> Response<Bytes> {
    SandboxRefusal::of(500, "not_signed", why).into_response()
}
