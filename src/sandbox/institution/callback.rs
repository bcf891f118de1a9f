//! A pretend institution tells its merchant that it was paid (A3.3) and how a refund ended,
//! again and again until somebody who can prove to be the merchant says `SUCCESS`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response};
use serde_json::{Value, json};

use crate::sandbox::clock::{draw_token, now_s, shanghai, wait};
use crate::sandbox::institution::Desk;
use crate::sandbox::institution::book::{Key, Payment, State};
use crate::sandbox::institution::faults::{Fault, Occasion};
use crate::sandbox::institution::refunds::{self, RefundStanding, Told};
use crate::sandbox::institution::terms::yuan_text;
use crate::signature::{Covering, Question, SigningKey, sign_request, verify_response};

/// After so many callbacks nobody is told any more; queries still are.
const CALLBACKS_MAX: usize = 100;
/// How long a callback's signature is good. Unit: seconds.
const LIVES_S: i64 = 120;

/// What is told, of what, and to whom.
struct Letter {
    to: String,
    of: Of,
    right: Bytes,
    /// The same with another sum.
    wrong: Bytes,
}

enum Of {
    Payment(Key),
    Refund(Key),
}

/// Money was taken: somebody will be told, as well as the day's faults allow.
pub(super) fn announce(desk: &Arc<Desk>, key: &Key) {
    let Some(payment) = desk.book.look(|book| book.look(key).cloned()) else {
        return;
    };
    let sum = Some(payment.terms.sum_cents);
    let fault = desk.faults.arise(Occasion::Payment, sum);
    post(desk, of_payment(&payment), fault);
}

/// A refund ended: whoever wanted to know will be told, as well as the day's faults allow.
pub(super) fn announce_refund(desk: &Arc<Desk>, key: &Key) {
    let told = desk.book.look(|book| book.told(key));
    let Some((sum, letter)) = told.and_then(|told| {
        let letter = of_refund(&told)?;
        Some((told.refund.terms.sum_cents, letter))
    }) else {
        return;
    };
    let fault = desk.faults.arise(Occasion::RefundEnded, Some(sum));
    post(desk, letter, fault);
}

/// The first callback happens now; if it is not heard, the others follow later.
pub(super) async fn hurry(desk: &Arc<Desk>, key: &Key) {
    let Some(payment) = desk.book.look(|book| book.look(key).cloned()) else {
        return;
    };
    let letter = of_payment(&payment);
    let told = tell(desk, &letter, &letter.right, &desk.settings.key).await;
    if told == Reaction::Again {
        post(desk, letter, None);
    }
}

fn post(desk: &Arc<Desk>, letter: Letter, fault: Option<Fault>) {
    if fault != Some(Fault::LostCallback) {
        let desk_then = Arc::clone(desk);
        desk.send_on(deliver(desk_then, letter, fault));
    }
}

async fn deliver(desk: Arc<Desk>, letter: Letter, fault: Option<Fault>) {
    let settings = &desk.settings;
    match fault {
        Some(Fault::LateCallback) => wait(settings.waits.late).await,
        Some(Fault::WrongSumCallback) => {
            tell(&desk, &letter, &letter.wrong, &settings.key).await;
        }
        Some(Fault::ForgedCallback) => {
            tell(&desk, &letter, &letter.right, &desk.strangers_key).await;
        }
        _ => (),
    }
    let mut waits = settings.waits.again.iter().copied();
    let mut pause = Duration::from_secs(1);
    for _ in 0..CALLBACKS_MAX {
        match tell(&desk, &letter, &letter.right, &settings.key).await {
            Reaction::Heard | Reaction::Refused => break,
            Reaction::Again => (),
        }
        pause = waits.next().unwrap_or(pause);
        wait(pause).await;
    }
    if fault == Some(Fault::DuplicateCallback) {
        tell(&desk, &letter, &letter.right, &settings.key).await;
    }
}

fn of_payment(payment: &Payment) -> Letter {
    let body = |sum_cents| {
        let more = json!({
            "orderStatus": State::Paid.word(),
            "eventId": format!("{}-paid", payment.institution_no),
            "eventType": "ORDER_PAID",
            "currency": payment.terms.currency,
            "fee": payment.fee_text(),
        });
        written(payment, sum_cents, more)
    };
    let sum = payment.terms.sum_cents;
    Letter {
        to: payment.terms.bank_return_url.clone(),
        of: Of::Payment(payment.terms.key()),
        right: body(sum),
        wrong: body(sum.saturating_add(1)),
    }
}

/// Nothing if nobody wants to know, or it has not ended.
fn of_refund(told: &Told) -> Option<Letter> {
    let refund = &told.refund;
    let to = refund.terms.notice_url.clone()?;
    let (field, end) = refunds::end(refund)?;
    let (event, suffix) = match refund.standing {
        RefundStanding::Processing => return None,
        RefundStanding::Succeeded => ("REFUND_SUCCEEDED", "succeeded"),
        RefundStanding::Failed => ("REFUND_FAILED", "failed"),
    };
    let body = |sum_cents| {
        let more = json!({
            "orderStatus": told.payment.state.word(),
            "eventId": format!("{}-{suffix}", refund.refund_no),
            "eventType": event,
            "currency": told.payment.terms.currency,
            "refundOrderNo": refund.refund_no,
            "merchantRefundNo": refund.merchant_refund_no,
            "refundAmount": yuan_text(sum_cents),
            "refundStatus": refund.standing.word(),
            field: end,
        });
        written(&told.payment, told.payment.terms.sum_cents, more)
    };
    let sum = refund.terms.sum_cents;
    Some(Letter {
        to,
        of: Of::Refund(refund.key()),
        right: body(sum),
        wrong: body(sum.saturating_add(1)),
    })
}

/// A3.3's fields of the payment and what is told beside them. The same bytes each time.
fn written(payment: &Payment, sum_cents: i64, more: Value) -> Bytes {
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

/// What came of one callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// `SUCCESS`, from somebody who can prove to be the merchant.
    Heard,
    /// It will never be taken as it is: the next one would fare no better.
    Refused,
    /// Anything else; an unknown number among it, which a merchant that was restored may know tomorrow.
    Again,
}

/// One callback, and what came of it.
async fn tell(desk: &Desk, letter: &Letter, body: &Bytes, key: &SigningKey) -> Reaction {
    let institution = &desk.settings.id;
    let reaction = match send(desk, &letter.to, body, key).await {
        Ok(reaction) => reaction,
        Err(why) => {
            tracing::info!(institution.id = %institution, why, "a pretend callback was not heard");
            Reaction::Again
        }
    };
    if reaction == Reaction::Refused {
        tracing::warn!(institution.id = %institution, "a pretend callback is refused for good");
    }
    let heard = reaction == Reaction::Heard;
    desk.book.change(|book| match &letter.of {
        Of::Payment(key) => book.called_back(key, heard),
        Of::Refund(key) => book.refund_called_back(key, heard),
    });
    reaction
}

async fn send(
    desk: &Desk,
    target: &str,
    body: &Bytes,
    key: &SigningKey,
) -> Result<Reaction, String> {
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
        expires_s: Some(created_s.saturating_add(LIVES_S)),
        nonce: Some(&nonce),
    };
    // As it goes over the wire: there an empty path is `/`.
    let target = request.uri().to_string();
    sign_request(&mut request, &target, key, &with).map_err(|fault| fault.to_string())?;
    let question = Question::of(&request, &target).ok_or("nothing to bind an answer to")?;
    let answer = desk
        .caller
        .send(request)
        .await
        .map_err(|fault| fault.to_string())?;
    check(desk, &question, &answer)
}

fn check(desk: &Desk, question: &Question, answer: &Response<Bytes>) -> Result<Reaction, String> {
    let is_final = matches!(answer.status().as_u16(), 400 | 422);
    if !answer.status().is_success() && !is_final {
        return Err(format!("answered {}", answer.status()));
    }
    verify_response(answer, question, &desk.settings.callers, now_s())
        .map_err(|fault| fault.to_string())?;
    if is_final {
        return Ok(Reaction::Refused);
    }
    let said: Option<Value> = serde_json::from_slice(answer.body()).ok();
    let said = said
        .as_ref()
        .and_then(|body| body.get("noticeResult")?.as_str());
    if said == Some("SUCCESS") {
        return Ok(Reaction::Heard);
    }
    Err(format!("noticeResult: {said:?}"))
}
