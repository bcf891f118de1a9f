//! The calls of the dialect at a pretend institution: who asks, whether it is new, what is done, and
//! an answer signed and bound to its question. Everything done is in the book before it is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use serde_json::{Value, json};

use crate::sandbox::clock::{draw_number, draw_token, now_ms, now_s, rfc_3339, shanghai, wait};
use crate::sandbox::institution::Desk;
use crate::sandbox::institution::book::{Closing, Created, Fresh, Key, Paying, Payment, State};
use crate::sandbox::institution::faults::{Call, Fault, Occasion};
use crate::sandbox::institution::terms::{Reference, Terms, yuan_text};
use crate::sandbox::institution::{callback, refunds, statements};
use crate::sandbox::refusal::{Refusal, answered};
use crate::sandbox::server::Reply;
use crate::signature::{Proven, Question, sign_response, verify_request};

/// `created` may lie this far in the past, and `expires` this far after it. Unit: seconds.
const WINDOW_S: i64 = 300;
/// `created` may lie this far ahead. Unit: seconds.
const AHEAD_S: i64 = 30;

/// What was done, and what goes wrong with saying so.
pub(super) type Done = (Result<Value, Refusal>, Option<Fault>);

pub(super) async fn answer(desk: &Arc<Desk>, call: Call, request: &Request<Bytes>) -> Reply {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let target = format!("{}{path}", desk.origin());
    let proven = match verify_request(request, &target, &desk.settings.callers, now_s()) {
        Ok(proven) => proven,
        Err(fault) => {
            let refusal = Refusal::of(401, "signature_unusable", fault.to_string());
            return Reply::Answer(refusal.into_response());
        }
    };
    let (outcome, fault) = match admit(desk, request, &proven) {
        Err(refusal) => (Err(refusal), None),
        Ok(()) => match call {
            Call::Create => create(desk, request.body()).await,
            Call::Query => query(desk, request.body()),
            Call::Close => close(desk, request.body()),
            Call::Refund => refunds::ask(desk, request.body()),
            Call::RefundQuery => refunds::query(desk, request.body()),
            Call::Statement => statements::page(desk, request.body()),
        },
    };
    say(desk, outcome, fault, Question::of(request, &target)).await
}

/// New, recent, and JSON.
fn admit(desk: &Desk, request: &Request<Bytes>, proven: &Proven) -> Result<(), Refusal> {
    let outside = |what: &str| Refusal::of(401, "outside_window", what);
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
        return Err(Refusal::of(401, "nonce_malformed", detail));
    }
    let spent = format!("{}/{nonce}", proven.key_id);
    if !desk
        .book
        .change(|book| book.spend_nonce(&spent, expires, now))
    {
        return Err(Refusal::of(
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
        return Err(Refusal::of(415, "media_type_wrong", "application/json"));
    }
    Ok(())
}

/// Accounts of others are refused before anything is looked up (K3).
pub(super) fn check_account(desk: &Desk, account: &str) -> Result<(), Refusal> {
    if desk.settings.accounts.iter().any(|ours| ours == account) {
        return Ok(());
    }
    Err(Refusal::of(403, "merchant_foreign", "no such account of yours").at("merchantId"))
}

pub(super) fn broken() -> Refusal {
    Refusal::of(503, "unavailable", "try again later")
}

async fn create(desk: &Arc<Desk>, body: &[u8]) -> Done {
    let terms = match Terms::read(body) {
        Ok(terms) => terms,
        Err(refusal) => return (Err(refusal), None),
    };
    let key = terms.key();
    if let Err(refusal) = check_account(desk, &key.0) {
        return (Err(refusal), None);
    }
    let is_new = desk.book.look(|book| book.is_new(&key));
    let spoiling = is_new.then_some(terms.sum_cents);
    let fault = desk.faults.arise(Occasion::Call(Call::Create), spoiling);
    match fault {
        Some(Fault::ServerError) => return (Err(broken()), fault),
        Some(Fault::RefusesPayment) => {
            let refusal = Refusal::of(422, "payment_refused", "not from this payer");
            return (Err(refusal), fault);
        }
        _ => (),
    }
    let fresh = Fresh {
        institution_no: draw_number('P'),
        token: draw_token(),
        now_s: now_s(),
    };
    let outcome = match desk.book.change(|book| book.create(&terms, fresh)) {
        Created::Stands(payment) => {
            if fault == Some(Fault::EarlyCallback)
                && desk.book.change(|book| book.pay(&key, now_ms())) == Paying::Taken
            {
                callback::hurry(desk, &key).await;
            }
            // As it stood when it was booked: the answer a race would bring.
            Ok(handed_over(desk, &payment))
        }
        Created::Conflict => Err(Refusal::of(
            409,
            "order_conflict",
            "same number, other content",
        )),
        Created::ClosedBefore => Err(Refusal::of(422, "order_closed", "closed before it came")),
    };
    (outcome, fault)
}

/// A3.1's answer, with what the payer needs.
fn handed_over(desk: &Desk, payment: &Payment) -> Value {
    let terms = &payment.terms;
    let mut answer = json!({
        "payOrderNo": payment.institution_no,
        "createDate": shanghai(payment.created_s).0,
        "merchantId": terms.merchant_id,
        "merchantOrderNo": terms.merchant_order_no,
        "merchantName": terms.merchant_name,
        "orderAmount": yuan_text(terms.sum_cents),
        "result": match payment.state {
            State::Open => "ACCEPTED",
            State::Paid => "ALREADY_PAID",
            State::Closed => "CLOSED",
        },
        "orderStatus": payment.state.word(),
        "expireTime": rfc_3339(payment.expires_s),
    });
    if let (State::Open, Some(members)) = (payment.state, answer.as_object_mut()) {
        let (field, value) = match terms.business_type.as_str() {
            "WEBVIEW" => ("payUrl", desk.page_url(&payment.token).into()),
            "NATIVE" => ("sdkParameters", sdk_parameters(desk, payment)),
            _ => ("messageSent", true.into()),
        };
        members.insert(field.to_owned(), value);
    }
    answer
}

/// What a real institution's SDK wants is opaque to everybody else; so is this.
fn sdk_parameters(desk: &Desk, payment: &Payment) -> Value {
    json!({
        "sdk": { "name": format!("{}-pay-sdk", desk.settings.id), "version": "3.2.1" },
        "institution": desk.settings.id,
        "prepayNo": payment.institution_no,
        "timestamp": payment.created_s.to_string(),
        "token": payment.token,
    })
}

fn query(desk: &Desk, body: &[u8]) -> Done {
    let (reference, fault) = match referred(desk, Call::Query, body) {
        Ok(found) => found,
        Err(refusal) => return (Err(refusal), None),
    };
    if fault == Some(Fault::ServerError) {
        return (Err(broken()), fault);
    }
    let found = desk
        .book
        .change(|book| book.query(&reference.key(), now_s()));
    let outcome = found
        .filter(|payment| agrees(&reference, payment))
        .map(|payment| standing(&payment))
        .ok_or_else(unknown);
    (outcome, fault)
}

pub(super) fn unknown() -> Refusal {
    Refusal::of(404, "order_unknown", "no such order of yours")
}

fn referred(desk: &Desk, call: Call, body: &[u8]) -> Result<(Reference, Option<Fault>), Refusal> {
    let reference = Reference::read(body)?;
    let key = reference.key();
    check_account(desk, &key.0)?;
    let sum = desk
        .book
        .look(|book| Some(book.look(&key)?.terms.sum_cents));
    Ok((reference, desk.faults.arise(Occasion::Call(call), sum)))
}

/// Whatever else of A3.2's fields was given has to match (K3).
fn agrees(reference: &Reference, payment: &Payment) -> bool {
    let same = |given: &Option<String>, ours: &str| given.as_deref().is_none_or(|it| it == ours);
    same(&reference.pay_order_no, &payment.institution_no)
        && same(&reference.create_date, &shanghai(payment.created_s).0)
        && same(&reference.mobile_no, &payment.terms.mobile_no)
}

/// A3.2's answer.
fn standing(payment: &Payment) -> Value {
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

fn close(desk: &Arc<Desk>, body: &[u8]) -> Done {
    if !desk.settings.can_close {
        let refusal = Refusal::of(422, "not_offered", "this institution closes nothing");
        return (Err(refusal), None);
    }
    let (reference, fault) = match referred(desk, Call::Close, body) {
        Ok(found) => found,
        Err(refusal) => return (Err(refusal), None),
    };
    match fault {
        Some(Fault::ServerError) => return (Err(broken()), fault),
        Some(Fault::RefusesClose) => {
            let refusal = Refusal::of(409, "close_refused", "it stays open");
            return (Err(refusal), fault);
        }
        _ => (),
    }
    let key = reference.key();
    let known = desk.book.look(|book| book.look(&key).cloned());
    if known
        .as_ref()
        .is_some_and(|payment| !agrees(&reference, payment))
    {
        return (Err(unknown()), fault);
    }
    let remembers = desk.settings.remembers_close;
    let outcome = match desk
        .book
        .change(|book| book.close(&key, now_s(), remembers))
    {
        Closing::Paid => Err(Refusal::of(409, "order_paid", "the payer has paid")),
        Closing::Unknown => Err(unknown()),
        Closing::Closed => {
            if fault == Some(Fault::PaysAfterClose) && known.is_some() {
                let desk_then = Arc::clone(desk);
                desk.send_on(pay_late(desk_then, key));
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

async fn pay_late(desk: Arc<Desk>, key: Key) {
    wait(desk.settings.waits.late).await;
    if desk
        .book
        .change(|book| book.pay_after_close(&key, now_ms()))
        == Paying::Taken
    {
        callback::announce(&desk, &key);
    }
}

async fn say(
    desk: &Desk,
    outcome: Result<Value, Refusal>,
    fault: Option<Fault>,
    question: Option<Question>,
) -> Reply {
    let mut answer = match (outcome, fault) {
        (_, Some(Fault::ActsThenServerError)) => {
            Refusal::of(500, "outcome_unknown", "something went wrong").into_response()
        }
        (Ok(mut body), Some(Fault::UnlistedWord)) => {
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
    let settings = &desk.settings;
    let key = match fault {
        Some(Fault::ForgedAnswer) => &desk.strangers_key,
        _ => &settings.key,
    };
    if let Err(fault) = sign_response(&mut answer, question.as_ref(), key, now_s()) {
        answer = unsigned(&fault.to_string());
    }
    match fault {
        Some(Fault::SlowAnswer) => {
            wait(settings.waits.slow).await;
            Reply::Answer(answer)
        }
        Some(Fault::NoAnswer) => Reply::Silence(settings.waits.hold),
        Some(Fault::AnswerLost) => Reply::Silence(Duration::ZERO),
        _ => Reply::Answer(answer),
    }
}

fn unsigned(why: &str) -> Response<Bytes> {
    Refusal::of(500, "not_signed", why).into_response()
}
