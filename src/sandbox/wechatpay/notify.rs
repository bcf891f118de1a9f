//! Notifications of payments and of refunds that ended: encrypted, signed anew each time, and
//! repeated on the platform's schedule until they are acknowledged (section 12).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::crypto::aead::{Aes256GcmKey, NONCE_BYTES};
use crate::sandbox::wechatpay::book::{WechatKey, WechatRefundState};
use crate::sandbox::wechatpay::drawing::{draw_digits, draw_letters};
use crate::sandbox::wechatpay::faults::NotificationFault;
use crate::sandbox::wechatpay::platform::{SignatureKind, sealed};
use crate::sandbox::wechatpay::time::rfc_3339;
use crate::sandbox::wechatpay::{WechatPayState, orders, refunds};

/// Before each repeat; in all 24 h and 4 min. Unit: seconds.
pub(super) const REPEATS_S: [i64; 15] = [
    15, 15, 30, 180, 600, 1_200, 1_800, 1_800, 1_800, 3_600, 10_800, 10_800, 10_800, 21_600, 21_600,
];

/// One thing to be notified.
struct WechatNotice {
    to: String,
    mchid: String,
    about: WechatNoticeSubject,
    right: Bytes,
    /// What the first message is instead, if that was ordered.
    first: Option<(Bytes, SignatureKind)>,
}

#[derive(Clone)]
enum WechatNoticeSubject {
    Payment(WechatKey),
    Refund(WechatKey),
}

/// The envelope around an encrypted resource.
struct WechatNoticeEvent {
    event_type: &'static str,
    summary: &'static str,
    original_type: &'static str,
}

const PAID: WechatNoticeEvent = WechatNoticeEvent {
    event_type: "TRANSACTION.SUCCESS",
    summary: "支付成功",
    original_type: "transaction",
};

impl WechatNoticeEvent {
    fn of_refund(state: WechatRefundState) -> Option<Self> {
        let (event_type, summary) = match state {
            WechatRefundState::Processing => return None,
            WechatRefundState::Success => ("REFUND.SUCCESS", "退款成功"),
            WechatRefundState::Abnormal => ("REFUND.ABNORMAL", "退款异常"),
            WechatRefundState::Closed => ("REFUND.CLOSED", "退款关闭"),
        };
        Some(Self {
            event_type,
            summary,
            original_type: "refund",
        })
    }

    /// The message, the same bytes at each repeat.
    fn written(&self, key: &Aes256GcmKey, plain: &Value, (id, now_s): (&str, i64)) -> Value {
        let text = plain.to_string();
        let nonce = draw_letters(NONCE_BYTES);
        let mut resource = sealed(key, &nonce, self.original_type, text.as_bytes());
        if let Some(members) = resource.as_object_mut() {
            members.insert("original_type".to_owned(), self.original_type.into());
        }
        json!({
            "id": id,
            "create_time": rfc_3339(now_s),
            "resource_type": "encrypt-resource",
            "event_type": self.event_type,
            "summary": self.summary,
            "resource": resource,
        })
    }
}

/// Notifies a payment, unless a fault says otherwise.
pub(super) fn payment(shared: &Arc<WechatPayState>, key: &WechatKey) {
    if let Some((notice, fault)) = payment_notice(shared, key) {
        send(shared, notice, fault);
    }
}

/// Sends a payment's notification once and waits for its end; repeats in the background.
pub(super) async fn payment_now(shared: &Arc<WechatPayState>, key: &WechatKey) {
    let Some((notice, _)) = payment_notice(shared, key) else {
        return;
    };
    let right = (notice.right.clone(), SignatureKind::Right);
    if !attempt(shared, &notice, right).await {
        send(shared, notice, None);
    }
}

fn payment_notice(
    shared: &WechatPayState,
    key: &WechatKey,
) -> Option<(WechatNotice, Option<NotificationFault>)> {
    let order = shared.book.look(|book| book.find(key).cloned())?;
    let plain = orders::transaction(&order);
    let about = WechatNoticeSubject::Payment(key.clone());
    notice(shared, (&order.terms.notify_url, &PAID), about, &plain)
}

/// Notifies the end of a refund, if it asked for that and no fault says otherwise.
pub(super) fn refund(shared: &Arc<WechatPayState>, key: &WechatKey) {
    let found = shared.book.look(|book| {
        let refund = book.find_refund(key)?;
        Some((refund.clone(), book.find(&refund.order)?.clone()))
    });
    let Some((refund, order)) = found else {
        return;
    };
    let (Some(to), Some(event)) = (
        &refund.notify_url,
        WechatNoticeEvent::of_refund(refund.state),
    ) else {
        return;
    };
    let plain = refunds::notified(&refund, &order);
    let about = WechatNoticeSubject::Refund(key.clone());
    if let Some((notice, fault)) = notice(shared, (to, &event), about, &plain) {
        send(shared, notice, fault);
    }
}

fn notice(
    shared: &WechatPayState,
    (to, event): (&str, &WechatNoticeEvent),
    about: WechatNoticeSubject,
    plain: &Value,
) -> Option<(WechatNotice, Option<NotificationFault>)> {
    let (WechatNoticeSubject::Payment((mchid, _)) | WechatNoticeSubject::Refund((mchid, _))) =
        &about;
    let merchant = shared.merchants.find(mchid)?;
    let now_s = shared.clock.now_s();
    let id = format!("EV-{}", draw_digits(25));
    let write = |plain: &Value| event.written(&merchant.apiv3, plain, (&id, now_s));
    let right = write(plain);
    let fault = shared.faults.take_notification();
    let first = fault.and_then(|fault| first_message(fault, (&right, plain), write));
    let notice = WechatNotice {
        to: to.to_owned(),
        mchid: mchid.clone(),
        about,
        right: Bytes::from(right.to_string()),
        first: first.map(|(body, kind)| (Bytes::from(body.to_string()), kind)),
    };
    Some((notice, fault))
}

/// What a fault sends before the right message.
fn first_message(
    fault: NotificationFault,
    (right, plain): (&Value, &Value),
    write: impl Fn(&Value) -> Value,
) -> Option<(Value, SignatureKind)> {
    let signed = |kind| Some((right.clone(), kind));
    match fault {
        NotificationFault::Duplicate
        | NotificationFault::Concurrent
        | NotificationFault::BeforeAnswer
        | NotificationFault::NeverSent => None,
        NotificationFault::WrongSum => {
            let mut other = plain.clone();
            if let Some(total) = other.pointer_mut("/amount/total") {
                *total = total.as_i64().unwrap_or(0).saturating_add(1).into();
            }
            Some((write(&other), SignatureKind::Right))
        }
        NotificationFault::UnlistedState => {
            let mut other = plain.clone();
            for field in ["trade_state", "refund_status"] {
                if let Some(state) = other.get_mut(field) {
                    *state = Value::from("SETTLING");
                }
            }
            Some((write(&other), SignatureKind::Right))
        }
        NotificationFault::DamagedTag => {
            let mut other = right.clone();
            if let Some(text) = other.pointer_mut("/resource/ciphertext") {
                // Base64 of other bytes, as long as before.
                let was = text.as_str().unwrap_or_default();
                let first = if was.starts_with('A') { "B" } else { "A" };
                let rest = was.get(1..).unwrap_or_default();
                *text = format!("{first}{rest}").into();
            }
            Some((other, SignatureKind::Right))
        }
        NotificationFault::UnknownSerial => signed(SignatureKind::UnknownSerial),
        NotificationFault::Probe => signed(SignatureKind::Probe),
        NotificationFault::OldTimestamp => signed(SignatureKind::Old),
        NotificationFault::ForeignKey => signed(SignatureKind::ForeignKey),
    }
}

fn send(shared: &Arc<WechatPayState>, notice: WechatNotice, fault: Option<NotificationFault>) {
    if fault == Some(NotificationFault::NeverSent) {
        return;
    }
    let background = Arc::clone(shared);
    shared.spawn_background(deliver(background, notice, fault));
}

async fn deliver(
    shared: Arc<WechatPayState>,
    notice: WechatNotice,
    fault: Option<NotificationFault>,
) {
    let right = || (notice.right.clone(), SignatureKind::Right);
    let mut mark = shared.clock.mark();
    let first = notice.first.clone().unwrap_or_else(right);
    let mut acknowledged = if fault == Some(NotificationFault::Concurrent) {
        let both = tokio::join!(
            attempt(&shared, &notice, right()),
            attempt(&shared, &notice, right()),
        );
        both.0 || both.1
    } else {
        attempt(&shared, &notice, first).await
    };
    for pause_s in REPEATS_S {
        if acknowledged {
            break;
        }
        shared.clock.wait_since(&mark, pause_s).await;
        mark = shared.clock.mark();
        acknowledged = attempt(&shared, &notice, right()).await;
    }
    if fault == Some(NotificationFault::Duplicate) {
        attempt(&shared, &notice, right()).await;
    }
}

/// Sends it once; whether it was acknowledged.
async fn attempt(
    shared: &WechatPayState,
    notice: &WechatNotice,
    (body, kind): (Bytes, SignatureKind),
) -> bool {
    let acknowledged = post(shared, notice, body, kind).await.unwrap_or(false);
    shared.book.change(|book| match &notice.about {
        WechatNoticeSubject::Payment(key) => book.count_notification(key, acknowledged),
        WechatNoticeSubject::Refund(key) => book.count_refund_notification(key, acknowledged),
    });
    acknowledged
}

/// `None` if there was no answer in time.
async fn post(
    shared: &WechatPayState,
    notice: &WechatNotice,
    body: Bytes,
    kind: SignatureKind,
) -> Option<bool> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&notice.to)
        .body(body.clone())
        .ok()?;
    let now_s = shared.clock.now_s();
    let signer = shared.keys.for_notification(&notice.mchid, now_s);
    let headers = request.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(CONTENT_TYPE, json);
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static("Mozilla/4.0"));
    shared
        .keys
        .sign_headers(headers, &body, (signer, kind, now_s));
    let answer = tokio::time::timeout(shared.waits.acknowledge, shared.caller.send(request));
    let answer = answer.await.ok()?.ok()?;
    Some(matches!(
        answer.status(),
        StatusCode::OK | StatusCode::NO_CONTENT
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 12 of the protocol: up to 15 repeats, 24 h 4 min in all.
    #[test]
    fn the_schedule_ends_after_a_day() {
        assert_eq!(REPEATS_S.iter().sum::<i64>(), 24 * 3_600 + 4 * 60);
    }
}
