//! The row of an attempt.

use super::{RowWrite, maybe, number, text};
use crate::domain::attempt::Attempt;
use crate::domain::evidence::Reason;
use crate::domain::identifiers::{PayOrderNo, Timestamp};
use crate::seal::Seal;
use crate::store::StoreError;
use crate::store::sqlite::sealed::{
    SealedPayerDetails, SealedPaymentAction, attempt_reason_place, seal_maybe, seal_text,
};

const UPSERT_ATTEMPT: &str = "INSERT INTO attempts (pay_order_no, seq, attempt_id, institution_id,
    account_id, receiver_id, mode, minor, currency, state, stamp_at, stamp_nonce, sent_at,
    configuration, epoch, payment_action, receipt_minor, receipt_currency, institution_no, paid_at, fee, reason_sealed,
    late_success, ended_at, named, asked, next_at, product, pay_by, payer_sealed)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
    ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30)
    ON CONFLICT (pay_order_no, seq) DO UPDATE SET state = excluded.state,
    sent_at = excluded.sent_at, payment_action = excluded.payment_action,
    receipt_minor = excluded.receipt_minor, receipt_currency = excluded.receipt_currency,
    institution_no = excluded.institution_no, paid_at = excluded.paid_at,
    fee = excluded.fee, reason_sealed = excluded.reason_sealed,
    late_success = excluded.late_success, ended_at = excluded.ended_at, named = excluded.named,
    asked = excluded.asked, next_at = excluded.next_at";

/// An update of a refund restarts the removal guard period of its institution (F2).
pub(super) fn attempt_row(
    seal: &Seal,
    order: &PayOrderNo,
    attempt: &Attempt,
    at: Timestamp,
) -> Result<RowWrite, StoreError> {
    let receipt = attempt.receipt.as_ref();
    let payment_action = match &attempt.payment_action {
        Some(payment_action) => {
            let place = SealedPaymentAction::place(attempt.id.as_str());
            Some(seal_text(
                seal,
                place,
                &SealedPaymentAction::of(payment_action),
            )?)
        }
        None => None,
    };
    let payer = match SealedPayerDetails::of(&attempt.payer) {
        Some(payer) => {
            let place = SealedPayerDetails::place(attempt.id.as_str());
            Some(seal_text(seal, place, &payer)?)
        }
        None => None,
    };
    let reason = attempt.reason.as_ref().map(Reason::as_str);
    let reason = seal_maybe(seal, attempt_reason_place(attempt.id.as_str()), reason)?;
    let values = vec![
        text(order.as_str()),
        i64::from(attempt.seq).into(),
        text(attempt.id.as_str()),
        text(attempt.institution.as_str()),
        text(attempt.account.as_str()),
        text(attempt.receiver.as_str()),
        text(attempt.mode.name()),
        attempt.amount.minor().into(),
        text(attempt.amount.currency().code()),
        text(attempt.state.name()),
        attempt.stamp.now.ms().into(),
        attempt.stamp.nonce.to_vec().into(),
        attempt.sent_at.ms().into(),
        number(attempt.configuration)?,
        attempt.epoch.0.into(),
        payment_action.into(),
        receipt.map(|receipt| receipt.amount.minor()).into(),
        maybe(receipt.map(|receipt| receipt.amount.currency().code())),
        maybe(receipt.and_then(|receipt| receipt.institution_no.as_deref())),
        receipt.map(|receipt| receipt.paid_at.ms()).into(),
        receipt
            .and_then(|receipt| receipt.fee)
            .map(|fee| fee.to_string())
            .into(),
        reason.into(),
        i64::from(attempt.late_success).into(),
        (!attempt.state.is_live()).then(|| at.ms()).into(),
        i64::from(attempt.named).into(),
        i64::from(attempt.schedule.asked).into(),
        attempt.schedule.next.ms().into(),
        text(attempt.product.as_str()),
        attempt.pay_by.ms().into(),
        payer.into(),
    ];
    let sql = UPSERT_ATTEMPT;
    Ok(RowWrite { sql, values })
}
