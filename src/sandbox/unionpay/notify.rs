//! Notifications to a merchant's `backUrl`: a signed form, sent up to five times until it is
//! answered with 200. Front products are notified of success only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};

use crate::sandbox::clock::wait;
use crate::sandbox::unionpay::UnionPayParty;
use crate::sandbox::unionpay::answer::{message_of, opening, sealed};
use crate::sandbox::unionpay::calls::trace_time;
use crate::sandbox::unionpay::faults::{UnionPayFault, UnionPayTrigger};
use crate::sandbox::unionpay::form::UnionPayFields;
use crate::sandbox::unionpay::ledger::{
    UnionPayKey, UnionPayPayerAttempt, UnionPayReceipt, UnionPayState, UnionPayTransaction,
};
use crate::sandbox::unionpay::request::UnionPayCall;

/// Minutes between two sendings; one sending more than gaps.
const GAPS: [u32; 4] = [0, 1, 2, 4];
/// An address that stands for no notification.
const NOWHERE: &str = "http://www.specialUrl.com";
/// A tenth of the amount is paid by somebody else.
const DISCOUNT_DIVISOR: i64 = 10;

/// The payer pays; whether this ended the transaction.
pub(super) fn pay(shared: &UnionPayParty, key: &UnionPayKey) -> bool {
    let Some(found) = shared.book.look(|book| book.look(key).cloned()) else {
        return false;
    };
    let trigger = UnionPayTrigger::Paying(found.call);
    let fault = shared.faults.take(trigger, Some(found.amount_fen));
    let is_code = found.call == UnionPayCall::Barcode;
    let now_s = shared.clock.now_s();
    shared.book.change(|book| match fault {
        Some(UnionPayFault::BankRefuses) if is_code => {
            book.fail(key, "60");
            true
        }
        Some(UnionPayFault::BankRefuses) => {
            book.fail_attempt(key, "60");
            false
        }
        _ => {
            let discount_fen = match fault {
                Some(UnionPayFault::Discount) => found.amount_fen / DISCOUNT_DIVISOR,
                _ => 0,
            };
            let is_taken = book.pay(key, now_s, discount_fen) == UnionPayPayerAttempt::Taken;
            if is_taken && fault == Some(UnionPayFault::Defect) {
                book.mark_defect(key);
            }
            is_taken
        }
    })
}

/// The fields of the message about a transaction, before its signature.
pub(super) fn notification(found: &UnionPayTransaction, amount_fen: i64) -> UnionPayFields {
    let mut fields = opening();
    for name in [
        "txnType",
        "txnSubType",
        "bizType",
        "accessType",
        "merId",
        "orderId",
        "txnTime",
    ] {
        fields.set(name, found.request.text(name));
    }
    fields.set("txnAmt", amount_fen.to_string());
    fields.set("currencyCode", "156");
    if let Some(receipt) = &found.receipt {
        fields.set("queryId", &*receipt.query_id);
    }
    fields.set("respCode", found.code);
    fields.set("respMsg", message_of(found.code));
    if let Some(receipt) = &found.receipt {
        settlement(&mut fields, receipt);
    }
    for name in ["origQryId", "reqReserved"] {
        fields.set(name, found.request.text(name));
    }
    fields
}

/// What is settled, and when.
pub(super) fn settlement(fields: &mut UnionPayFields, receipt: &UnionPayReceipt) {
    fields.set("settleAmt", receipt.settle_fen.to_string());
    fields.set("settleCurrencyCode", "156");
    fields.set("settleDate", receipt.day.get(4..).unwrap_or_default());
    fields.set("traceNo", &*receipt.trace_no);
    fields.set("traceTime", trace_time(receipt.at_s));
}

/// The transaction, if its end is notified.
fn ended(shared: &UnionPayParty, key: &UnionPayKey) -> Option<UnionPayTransaction> {
    let found = shared.book.look(|book| book.look(key).cloned())?;
    let succeeded = found.state == UnionPayState::Succeeded;
    let tells_failure = !found.call.is_front() && found.call != UnionPayCall::Qr;
    let is_notified = succeeded || tells_failure && found.state == UnionPayState::Failed;
    let is_wanted = found.request.text("backUrl") != NOWHERE;
    (is_notified && is_wanted).then_some(found)
}

/// Notifies the end of a transaction in the background, unless a fault says otherwise.
pub(super) fn deliver(shared: &Arc<UnionPayParty>, key: &UnionPayKey) {
    let Some(found) = ended(shared, key) else {
        return;
    };
    let amount = Some(found.amount_fen);
    let fault = shared.faults.take(UnionPayTrigger::Notified, amount);
    if fault != Some(UnionPayFault::LostNotification) {
        let background = Arc::clone(shared);
        shared.spawn_background(async move { repeat(&background, &found, fault).await });
    }
}

/// Notifies at once, before the call is answered; repeats in the background.
pub(super) async fn deliver_now(shared: &Arc<UnionPayParty>, key: &UnionPayKey) {
    let Some(found) = ended(shared, key) else {
        return;
    };
    if !send(shared, &found, None).await {
        deliver(shared, key);
    }
}

async fn repeat(shared: &UnionPayParty, found: &UnionPayTransaction, fault: Option<UnionPayFault>) {
    let delays = &shared.settings.delays;
    match fault {
        None | Some(UnionPayFault::DuplicateNotification) => (),
        Some(UnionPayFault::LateNotification) => wait(delays.late).await,
        Some(_) => {
            send(shared, found, fault).await;
        }
    }
    let mut gaps = GAPS.iter();
    while !send(shared, found, None).await {
        let Some(minutes) = gaps.next() else {
            return;
        };
        wait(delays.minute.saturating_mul(*minutes)).await;
    }
    if fault == Some(UnionPayFault::DuplicateNotification) {
        send(shared, found, None).await;
    }
}

/// Sends the notification once, and records whether it was acknowledged.
async fn send(
    shared: &UnionPayParty,
    found: &UnionPayTransaction,
    fault: Option<UnionPayFault>,
) -> bool {
    let more_fen = i64::from(fault == Some(UnionPayFault::WrongAmount));
    let fields = notification(found, found.amount_fen.saturating_add(more_fen));
    let fields = sealed(fields, &shared.signing(), fault, "\n");
    let within = shared.settings.delays.acknowledgement;
    let acknowledged = post(shared, found.request.text("backUrl"), &fields, within).await;
    let key = found.key();
    shared
        .book
        .change(|book| book.count_notification(&key, acknowledged));
    acknowledged
}

async fn post(shared: &UnionPayParty, to: &str, fields: &UnionPayFields, within: Duration) -> bool {
    let request = Request::builder()
        .method(Method::POST)
        .uri(to)
        .header(
            CONTENT_TYPE,
            "application/x-www-form-urlencoded;charset=UTF-8",
        )
        .body(Bytes::from(fields.form_text()));
    let Ok(request) = request else {
        return false;
    };
    match tokio::time::timeout(within, shared.caller.send(request)).await {
        Ok(Ok(answer)) => matches!(answer.status().as_u16(), 200 | 302),
        Ok(Err(fault)) => {
            tracing::info!(%fault, "a notification was not acknowledged");
            false
        }
        Err(_) => false,
    }
}
