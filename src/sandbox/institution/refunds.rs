//! Refunds at a simulated institution (A3.4, X-5): responses, and the later completion of pending
//! refunds.

mod ledger;
mod terms;

pub(super) use ledger::RefundWithPayment;
pub use ledger::{RefundCapabilities, SandboxRefund, SandboxRefundState};
pub use terms::RefundTerms;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::sandbox::clock::{draw_number, now_s, rfc_3339_shanghai, wait};
use crate::sandbox::institution::SandboxInstitutionState;
use crate::sandbox::institution::callback;
use crate::sandbox::institution::faults::{FaultTrigger, InstitutionFault, SandboxCall};
use crate::sandbox::institution::ledger::{InstitutionLedger, PaymentKey};
use crate::sandbox::institution::orders::{self, CallResult};
use crate::sandbox::institution::refunds::ledger::{
    DelayedRefundOutcome, NewRefund, RefundBooking, RefundRejection,
};
use crate::sandbox::institution::refunds::terms::RefundReference;
use crate::sandbox::institution::terms::yuan_text;
use crate::sandbox::refusal::SandboxRefusal;

/// A3.4.
pub(super) fn create(shared: &Arc<SandboxInstitutionState>, body: &[u8]) -> CallResult {
    let terms = match RefundTerms::read(body) {
        Ok(terms) => terms,
        Err(refusal) => return (Err(refusal), None),
    };
    if let Err(refusal) = orders::check_account(shared, &terms.merchant_id) {
        return (Err(refusal), None);
    }
    let is_new = shared.book.look(|book| book.is_new_refund(&terms));
    let faulting_sum = is_new.then_some(terms.sum_cents);
    let fault = shared
        .faults
        .take(FaultTrigger::Call(SandboxCall::Refund), faulting_sum);
    if fault == Some(InstitutionFault::ServerError) {
        return (Err(orders::broken()), fault);
    }
    let fresh = NewRefund {
        refund_no: draw_number('R'),
        now_s: now_s(),
    };
    let offered = shared.settings.refunding;
    let sum = Some(terms.sum_cents);
    let draw = || shared.faults.take(FaultTrigger::RefundBooked, sum);
    let booked = shared
        .book
        .change(|book| book.create_refund(&terms, fresh, offered, draw));
    let outcome = match booked {
        Ok(RefundBooking::Known(found)) => Ok(response(&found)),
        Ok(RefundBooking::Created(found, fault)) => {
            complete(shared, found.refund.key(), fault);
            Ok(response(&found))
        }
        Err(refused) => Err(refusal(&refused)),
    };
    (outcome, fault)
}

///
pub(super) fn query(shared: &SandboxInstitutionState, body: &[u8]) -> CallResult {
    let reference = match RefundReference::read(body) {
        Ok(reference) => reference,
        Err(refusal) => return (Err(refusal), None),
    };
    if let Err(refusal) = orders::check_account(shared, &reference.merchant_id) {
        return (Err(refusal), None);
    }
    let fault = shared
        .faults
        .take(FaultTrigger::Call(SandboxCall::RefundQuery), None);
    if fault == Some(InstitutionFault::ServerError) {
        return (Err(orders::broken()), fault);
    }
    let found = shared.book.change(|book| book.query_refund(&reference));
    let unknown = || SandboxRefusal::of(404, "refund_unknown", "no such refund");
    let outcome = found.map(|found| response(&found)).ok_or_else(unknown);
    (outcome, fault)
}

/// Calls back for a completed refund now; completes a pending one later.
fn complete(
    shared: &Arc<SandboxInstitutionState>,
    key: PaymentKey,
    fault: Option<InstitutionFault>,
) {
    let ending = match fault {
        Some(InstitutionFault::RefundTakesTime | InstitutionFault::RefundAfterFailure) => {
            DelayedRefundOutcome::Succeeds
        }
        Some(InstitutionFault::RefundFailsLate) => DelayedRefundOutcome::Fails,
        _ => return callback::call_back_refund(shared, &key),
    };
    let background = Arc::clone(shared);
    shared.spawn_background(async move {
        wait(background.settings.waits.late).await;
        let ended = |book: &mut InstitutionLedger| book.end_refund(&key, ending, now_s());
        if background.book.change(ended) {
            callback::call_back_refund(&background, &key);
        }
    });
}

fn refusal(refused: &RefundRejection) -> SandboxRefusal {
    match refused {
        RefundRejection::Conflict => {
            let detail = "same number, different content; equal refunds need different numbers";
            SandboxRefusal::of(409, "refund_conflict", detail)
        }
        RefundRejection::OrderUnknown => orders::unknown(),
        RefundRejection::OrderUnpaid => SandboxRefusal::of(409, "order_unpaid", "nothing was paid"),
        RefundRejection::OverRemaining(rest_cents) => {
            let detail = format!("at most {} is left", yuan_text(*rest_cents));
            SandboxRefusal::of(409, "refund_over_rest", detail).at("refundAmount")
        }
        RefundRejection::NotOffered(reason) => {
            let detail = "this institution does not support this kind of refund";
            SandboxRefusal::of(422, "refund_not_supported", detail).because(reason)
        }
    }
}

/// The response of A3.4 and X-5.
fn response(found: &RefundWithPayment) -> Value {
    let RefundWithPayment {
        refund,
        payment,
        returned_cents,
    } = found;
    let mut answer = json!({
        "result": match refund.standing {
            SandboxRefundState::Processing | SandboxRefundState::Succeeded => "ACCEPTED",
            SandboxRefundState::Failed => "REFUSED",
        },
        "orderStatus": payment.state.word(),
        "merchantId": refund.terms.merchant_id,
        "merchantOrderNo": refund.terms.merchant_order_no,
        "payOrderNo": refund.institution_no,
        "refundAmount": yuan_text(refund.terms.sum_cents),
        "currency": payment.terms.currency,
        "refundOrderNo": refund.refund_no,
        "merchantRefundNo": refund.merchant_refund_no,
        "refundStatus": refund.standing.word(),
        "orderRefundStatus": match *returned_cents {
            0 => "NONE",
            part if part < payment.taken_cents => "PARTIAL",
            _ => "FULL",
        },
    });
    if let (Some((field, value)), Some(members)) = (end(refund), answer.as_object_mut()) {
        members.insert(field.to_owned(), value.into());
    }
    answer
}

/// The field of a completed refund: when it was paid, or why it failed.
pub(super) fn end(refund: &SandboxRefund) -> Option<(&'static str, String)> {
    let ended_s = refund.ended_s?;
    Some(match refund.reason {
        Some(reason) => ("reason", reason.to_owned()),
        None => ("refundTime", rfc_3339_shanghai(ended_s)),
    })
}
