//! Callbacks of a simulated institution: a payment (A3.3) or a completed refund, retried
//! until the merchant acknowledges with a signed `SUCCESS`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response};
use serde_json::{Value, json};

use crate::sandbox::clock::{draw_token, now_s, shanghai, wait};
use crate::sandbox::institution::SandboxInstitutionState;
use crate::sandbox::institution::faults::{FaultTrigger, InstitutionFault};
use crate::sandbox::institution::ledger::{PaymentKey, PaymentState, SandboxPayment};
use crate::sandbox::institution::refunds::{self, RefundWithPayment, SandboxRefundState};
use crate::sandbox::institution::terms::yuan_text;
use crate::signature::{Covering, Question, SigningKey, sign_request, verify_response};

/// Attempts per callback; after that only queries show the result.
const CALLBACKS_MAX: usize = 100;
/// Lifetime of a callback's signature. Unit: seconds.
const SIGNATURE_LIFETIME_S: i64 = 120;

/// A callback: its URL, subject and body.
struct CallbackMessage {
    to: String,
    of: CallbackSubject,
    right: Bytes,
    /// The body with another amount.
    wrong: Bytes,
}

enum CallbackSubject {
    Payment(PaymentKey),
    Refund(PaymentKey),
}

/// Sends the callback of a payment, unless a fault says otherwise.
pub(super) fn call_back_payment(shared: &Arc<SandboxInstitutionState>, key: &PaymentKey) {
    let Some(payment) = shared.book.look(|book| book.look(key).cloned()) else {
        return;
    };
    let sum = Some(payment.terms.sum_cents);
    let fault = shared.faults.take(FaultTrigger::Payment, sum);
    post(shared, payment_message(&payment), fault);
}

/// Sends the callback of a completed refund, if one was requested and no fault says otherwise.
pub(super) fn call_back_refund(shared: &Arc<SandboxInstitutionState>, key: &PaymentKey) {
    let found = shared.book.look(|book| book.refund_with_payment(key));
    let Some((sum, message)) = found.and_then(|found| {
        let message = refund_message(&found)?;
        Some((found.refund.terms.sum_cents, message))
    }) else {
        return;
    };
    let fault = shared.faults.take(FaultTrigger::RefundEnded, Some(sum));
    post(shared, message, fault);
}

/// Sends the first callback now; if it is not acknowledged, retries in the background.
pub(super) async fn call_back_now(shared: &Arc<SandboxInstitutionState>, key: &PaymentKey) {
    let Some(payment) = shared.book.look(|book| book.look(key).cloned()) else {
        return;
    };
    let message = payment_message(&payment);
    let reply = attempt(shared, &message, &message.right, &shared.settings.key).await;
    if reply == CallbackReply::Again {
        post(shared, message, None);
    }
}

fn post(
    shared: &Arc<SandboxInstitutionState>,
    message: CallbackMessage,
    fault: Option<InstitutionFault>,
) {
    if fault != Some(InstitutionFault::LostCallback) {
        let background = Arc::clone(shared);
        shared.spawn_background(deliver(background, message, fault));
    }
}

async fn deliver(
    shared: Arc<SandboxInstitutionState>,
    message: CallbackMessage,
    fault: Option<InstitutionFault>,
) {
    let settings = &shared.settings;
    match fault {
        Some(InstitutionFault::LateCallback) => wait(settings.waits.late).await,
        Some(InstitutionFault::WrongSumCallback) => {
            attempt(&shared, &message, &message.wrong, &settings.key).await;
        }
        Some(InstitutionFault::ForgedCallback) => {
            attempt(&shared, &message, &message.right, &shared.forging_key).await;
        }
        _ => (),
    }
    let mut waits = settings.waits.again.iter().copied();
    let mut pause = Duration::from_secs(1);
    for _ in 0..CALLBACKS_MAX {
        match attempt(&shared, &message, &message.right, &settings.key).await {
            CallbackReply::Acknowledged | CallbackReply::Refused => break,
            CallbackReply::Again => (),
        }
        pause = waits.next().unwrap_or(pause);
        wait(pause).await;
    }
    if fault == Some(InstitutionFault::DuplicateCallback) {
        attempt(&shared, &message, &message.right, &settings.key).await;
    }
}

fn payment_message(payment: &SandboxPayment) -> CallbackMessage {
    let body = |sum_cents| {
        let more = json!({
            "orderStatus": PaymentState::Paid.word(),
            "eventId": format!("{}-paid", payment.institution_no),
            "eventType": "ORDER_PAID",
            "currency": payment.terms.currency,
            "fee": payment.fee_text(),
        });
        written(payment, sum_cents, more)
    };
    let sum = payment.terms.sum_cents;
    CallbackMessage {
        to: payment.terms.bank_return_url.clone(),
        of: CallbackSubject::Payment(payment.terms.key()),
        right: body(sum),
        wrong: body(sum.saturating_add(1)),
    }
}

/// `None` if no `noticeUrl` was given, or the refund is not completed.
fn refund_message(found: &RefundWithPayment) -> Option<CallbackMessage> {
    let refund = &found.refund;
    let to = refund.terms.notice_url.clone()?;
    let (field, end) = refunds::end(refund)?;
    let (event, suffix) = match refund.standing {
        SandboxRefundState::Processing => return None,
        SandboxRefundState::Succeeded => ("REFUND_SUCCEEDED", "succeeded"),
        SandboxRefundState::Failed => ("REFUND_FAILED", "failed"),
    };
    let body = |sum_cents| {
        let more = json!({
            "orderStatus": found.payment.state.word(),
            "eventId": format!("{}-{suffix}", refund.refund_no),
            "eventType": event,
            "currency": found.payment.terms.currency,
            "refundOrderNo": refund.refund_no,
            "merchantRefundNo": refund.merchant_refund_no,
            "refundAmount": yuan_text(sum_cents),
            "refundStatus": refund.standing.word(),
            field: end,
        });
        written(&found.payment, found.payment.terms.sum_cents, more)
    };
    let sum = refund.terms.sum_cents;
    Some(CallbackMessage {
        to,
        of: CallbackSubject::Refund(refund.key()),
        right: body(sum),
        wrong: body(sum.saturating_add(1)),
    })
}

/// A3.3's fields of the payment, and further ones. The same bytes each time.
fn written(payment: &SandboxPayment, sum_cents: i64, more: Value) -> Bytes {
    let terms = &payment.terms;
    let (date, time) = payment.paid_s.map(shanghai).unwrap_or_default();
    let mut body = json!({
        "merchantOrderNo": terms.merchant_order_no,
        "merchantName": terms.merchant_name,
        "orderDate": terms.order_date,
        "orderAmount": yuan_text(sum_cents),
        "merchantId": terms.merchant_id,
        "mobileNo": terms.mobile_no,
        "paymentDate": date,
        "paymentTime": time,
        "payOrderNo": payment.institution_no,
    });
    if let (Some(members), Value::Object(more)) = (body.as_object_mut(), more) {
        members.extend(more);
    }
    Bytes::from(body.to_string())
}

/// The outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallbackReply {
    /// A verified `SUCCESS` from the merchant.
    Acknowledged,
    /// Permanently refused: a retry would be refused as well.
    Refused,
    /// Anything else, also an unknown number: a merchant restored from backup may know it later.
    Again,
}

/// Sends the callback once, and records the outcome.
async fn attempt(
    shared: &SandboxInstitutionState,
    message: &CallbackMessage,
    body: &Bytes,
    key: &SigningKey,
) -> CallbackReply {
    let institution = &shared.settings.id;
    let reply = match send(shared, &message.to, body, key).await {
        Ok(reply) => reply,
        Err(why) => {
            tracing::info!(institution.id = %institution, why, "a callback was not acknowledged");
            CallbackReply::Again
        }
    };
    if reply == CallbackReply::Refused {
        tracing::warn!(institution.id = %institution, "a callback was refused permanently");
    }
    let acknowledged = reply == CallbackReply::Acknowledged;
    shared.book.change(|book| match &message.of {
        CallbackSubject::Payment(key) => book.count_payment_callback(key, acknowledged),
        CallbackSubject::Refund(key) => book.count_refund_callback(key, acknowledged),
    });
    reply
}

async fn send(
    shared: &SandboxInstitutionState,
    target: &str,
    body: &Bytes,
    key: &SigningKey,
) -> Result<CallbackReply, String> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(CONTENT_TYPE, "application/json")
        .body(body.clone())
        .map_err(|fault| fault.to_string())?;
    let created_s = now_s();
    let nonce = draw_token();
    let with = Covering {
        created_s,
        expires_s: Some(created_s.saturating_add(SIGNATURE_LIFETIME_S)),
        nonce: Some(&nonce),
    };
    // The URI as sent: there an empty path is `/`.
    let target = request.uri().to_string();
    sign_request(&mut request, &target, key, &with).map_err(|fault| fault.to_string())?;
    let question = Question::of(&request, &target).ok_or("the request is not signed")?;
    let answer = shared
        .caller
        .send(request)
        .await
        .map_err(|fault| fault.to_string())?;
    check(shared, &question, &answer)
}

fn check(
    shared: &SandboxInstitutionState,
    question: &Question,
    answer: &Response<Bytes>,
) -> Result<CallbackReply, String> {
    let is_final = matches!(answer.status().as_u16(), 400 | 422);
    if !answer.status().is_success() && !is_final {
        return Err(format!("answered {}", answer.status()));
    }
    verify_response(answer, question, &shared.settings.callers, now_s())
        .map_err(|fault| fault.to_string())?;
    if is_final {
        return Ok(CallbackReply::Refused);
    }
    let body: Option<Value> = serde_json::from_slice(answer.body()).ok();
    let result = body
        .as_ref()
        .and_then(|body| body.get("noticeResult")?.as_str());
    if result == Some("SUCCESS") {
        return Ok(CallbackReply::Acknowledged);
    }
    Err(format!("noticeResult: {result:?}"))
}
