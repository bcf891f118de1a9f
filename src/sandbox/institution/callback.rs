//! A pretend institution tells its merchant that it was paid (A3.3), again and again until somebody
//! who can prove to be the merchant says `SUCCESS`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response};
use serde_json::{Value, json};

use crate::sandbox::clock::{draw_token, now_s, shanghai, wait};
use crate::sandbox::institution::Desk;
use crate::sandbox::institution::book::{Key, Payment};
use crate::sandbox::institution::faults::{Fault, Occasion};
use crate::sandbox::institution::terms::yuan_text;
use crate::signature::{Covering, Question, SigningKey, sign_request, verify_response};

/// After so many callbacks nobody is told any more; queries still are.
const CALLBACKS_MAX: usize = 100;
/// How long a callback's signature is good. Unit: seconds.
const LIVES_S: i64 = 120;

/// Money was taken: somebody will be told, as well as the day's faults allow.
pub(super) fn announce(desk: &Arc<Desk>, key: &Key) {
    let Some(payment) = desk.book.look(|book| book.look(key).cloned()) else {
        return;
    };
    let sum = Some(payment.terms.sum_cents);
    let fault = desk.faults.arise(Occasion::Payment, sum);
    if fault != Some(Fault::LostCallback) {
        let desk_then = Arc::clone(desk);
        desk.send_on(deliver(desk_then, payment, fault));
    }
}

/// The first callback happens now; if it is not heard, the others follow later.
pub(super) async fn hurry(desk: &Arc<Desk>, key: &Key) {
    let Some(payment) = desk.book.look(|book| book.look(key).cloned()) else {
        return;
    };
    let body = body(&payment, payment.terms.sum_cents);
    if !tell(desk, &payment, &body, &desk.settings.key).await {
        let desk_then = Arc::clone(desk);
        desk.send_on(deliver(desk_then, payment, None));
    }
}

async fn deliver(desk: Arc<Desk>, payment: Payment, fault: Option<Fault>) {
    let settings = &desk.settings;
    let sum = payment.terms.sum_cents;
    let right = body(&payment, sum);
    match fault {
        Some(Fault::LateCallback) => wait(settings.waits.late).await,
        Some(Fault::WrongSumCallback) => {
            let wrong = body(&payment, sum.saturating_add(1));
            tell(&desk, &payment, &wrong, &settings.key).await;
        }
        Some(Fault::ForgedCallback) => {
            tell(&desk, &payment, &right, &desk.strangers_key).await;
        }
        _ => (),
    }
    let mut waits = settings.waits.again.iter().copied();
    let mut pause = Duration::from_secs(1);
    for _ in 0..CALLBACKS_MAX {
        if tell(&desk, &payment, &right, &settings.key).await {
            break;
        }
        pause = waits.next().unwrap_or(pause);
        wait(pause).await;
    }
    if fault == Some(Fault::DuplicateCallback) {
        tell(&desk, &payment, &right, &settings.key).await;
    }
}

/// A3.3's ten fields and a few more. The same bytes each time.
fn body(payment: &Payment, sum_cents: i64) -> Bytes {
    let terms = &payment.terms;
    let (date, time) = payment.paid_s.map(shanghai).unwrap_or_default();
    let body = json!({
        "merchantOrderNo": terms.merchant_order_no,
        "merchantName": terms.merchant_name,
        "orderDate": terms.order_date,
        "orderAmount": yuan_text(sum_cents),
        "merchantId": terms.merchant_id,
        "mobileNo": terms.mobile_no,
        "paymentDate": date,
        "paymentTime": time,
        "payOrderNo": payment.institution_no,
        "orderStatus": "PAID",
        "eventId": format!("{}-paid", payment.institution_no),
        "eventType": "ORDER_PAID",
        "currency": terms.currency,
        "fee": yuan_text(payment.fee_cents()),
    });
    Bytes::from(body.to_string())
}

/// One callback; whether it was heard.
async fn tell(desk: &Desk, payment: &Payment, body: &Bytes, key: &SigningKey) -> bool {
    let heard = match send(desk, &payment.terms.bank_return_url, body, key).await {
        Ok(()) => true,
        Err(why) => {
            let institution = &desk.settings.id;
            tracing::info!(institution.id = %institution, why, "a pretend callback was not heard");
            false
        }
    };
    desk.book
        .change(|book| book.called_back(&payment.terms.key(), heard));
    heard
}

async fn send(desk: &Desk, target: &str, body: &Bytes, key: &SigningKey) -> Result<(), String> {
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
    sign_request(&mut request, target, key, &with).map_err(|fault| fault.to_string())?;
    let question = Question::of(&request, target).ok_or("nothing to bind an answer to")?;
    let answer = desk
        .caller
        .send(request)
        .await
        .map_err(|fault| fault.to_string())?;
    check(desk, &question, &answer)
}

fn check(desk: &Desk, question: &Question, answer: &Response<Bytes>) -> Result<(), String> {
    if !answer.status().is_success() {
        return Err(format!("answered {}", answer.status()));
    }
    verify_response(answer, question, &desk.settings.callers, now_s())
        .map_err(|fault| fault.to_string())?;
    let said: Option<Value> = serde_json::from_slice(answer.body()).ok();
    let said = said
        .as_ref()
        .and_then(|body| body.get("noticeResult")?.as_str());
    if said == Some("SUCCESS") {
        return Ok(());
    }
    Err(format!("noticeResult: {said:?}"))
}
