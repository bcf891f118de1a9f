//! Refunds in the `standard` dialect (A3.4, X-4, X-5): identified by our refund number, each status
//! value mapped one by one (C3). The sender was verified before.

use http::StatusCode;
use serde::Serialize;

use crate::domain::amount::Currency;
use crate::domain::attempt::Attempt;
use crate::domain::evidence::{Ambiguity, Finding, OriginalPayment, Reason, Receipt};
use crate::domain::fields::Fields;
use crate::domain::identifiers::{RefundOrderNo, Timestamp};
use crate::domain::order::OrderTerms;
use crate::domain::refund::{Refund, RefundState};
use crate::institution::standard::reading::{
    FINAL_REFUSALS, FindingResult, INSTITUTION_NO_BYTES_MAX, moment, needed, optional, sum,
};
use crate::institution::{Call, Operation};

/// Codes that finally refuse a refund, and only a refund (E2). Some come with status 409, which
/// decides nothing for other calls: here the number was new, or the stored refund would have been
/// returned.
const FINAL_REFUSALS_OF_REFUNDS: [&str; 6] = [
    "notice_url_unregistered",
    "order_unpaid",
    "refund_not_supported",
    "refund_over_rest",
    "refund_window_over",
    "refunds_exhausted",
];

/// The field of the refunded amount; without a currency it is in that of the refund (M6).
pub(super) const SUM: &str = "refundAmount";

/// The five fields of A3.4, our number, and where to notify us.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RefundRequestFields<'a> {
    merchant_id: &'a str,
    merchant_order_no: &'a str,
    order_date: &'a str,
    refund_amount: String,
    mobile_no: &'a str,
    merchant_refund_no: &'a str,
    notice_url: &'a str,
}

pub(super) fn asking<'a>(
    refund: &'a Refund,
    attempt: &'a Attempt,
    terms: &'a OrderTerms,
    callback_url: &'a str,
) -> RefundRequestFields<'a> {
    RefundRequestFields {
        merchant_id: attempt.receiver.as_str(),
        merchant_order_no: attempt.id.as_str(),
        order_date: terms.order_date.as_str(),
        refund_amount: refund.amount.to_string(),
        mobile_no: terms.mobile.expose(),
        merchant_refund_no: refund.no.as_str(),
        notice_url: callback_url,
    }
}

/// How a query identifies a refund: by our number.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RefundIdentification<'a> {
    merchant_id: &'a str,
    merchant_refund_no: &'a str,
}

pub(super) fn naming<'a>(refund: &'a Refund, attempt: &'a Attempt) -> RefundIdentification<'a> {
    RefundIdentification {
        merchant_id: attempt.receiver.as_str(),
        merchant_refund_no: refund.no.as_str(),
    }
}

/// The finding of an authenticated reply about a refund.
pub(super) fn reply(
    call: &Call<'_>,
    refund: &Refund,
    status: StatusCode,
    fields: &Fields<'_>,
    now: Timestamp,
) -> FindingResult {
    match status.as_u16() {
        200 | 202 => {
            is_about(refund, call.attempt, fields)?;
            // The domain compares the refunded amount and quarantines a mismatch (V3).
            let absent = refund.amount.currency();
            let found = refund_state(fields, absent, now)?;
            // The refusal of a repeat says nothing about the earlier call, in whatever form it
            // comes.
            if matches!(found, Finding::Refused(_)) && is_repeat(call, refund) {
                return Err(Ambiguity::UnlistedWord);
            }
            if matches!(found, Finding::Succeeded(_)) || sum(fields, SUM, absent)? == refund.amount
            {
                Ok(found)
            } else {
                Err(Ambiguity::Mismatch)
            }
        }
        400..=499 => refused(call, refund, status.as_u16(), needed(fields, "code")?),
        _ => Err(Ambiguity::UnlistedWord),
    }
}

pub(super) fn is_about(
    refund: &Refund,
    attempt: &Attempt,
    fields: &Fields<'_>,
) -> Result<(), Ambiguity> {
    let number = needed(fields, "merchantRefundNo")?;
    let receiver = needed(fields, "merchantId")?;
    let along = along(fields, refund.amount.currency())?;
    if number == refund.no.as_str()
        && receiver == attempt.receiver.as_str()
        && along.is_of(&attempt.id, attempt.amount, refund.amount)
    {
        Ok(())
    } else {
        Err(Ambiguity::Mismatch)
    }
}

/// The original payment that the message names.
pub(super) fn along(fields: &Fields<'_>, absent: Currency) -> Result<OriginalPayment, Ambiguity> {
    const PAID: &str = "orderAmount";
    let paid = fields.scalar(PAID).map(|_| sum(fields, PAID, absent));
    Ok(OriginalPayment {
        number: optional(fields, "merchantOrderNo")?.map(Into::into),
        paid: paid.transpose()?,
    })
}

/// Whether it is a repeated refund call: an earlier one may have arrived.
fn is_repeat(call: &Call<'_>, refund: &Refund) -> bool {
    matches!(call.operation, Operation::Refund(_)) && refund.state != RefundState::Reserved
}

fn refused(call: &Call<'_>, refund: &Refund, status: u16, code: &str) -> FindingResult {
    let is_final = FINAL_REFUSALS_OF_REFUNDS.contains(&code)
        || (!matches!(status, 401 | 408 | 409 | 421 | 429) && FINAL_REFUSALS.contains(&code))
        || code == "order_unknown";
    match call.operation {
        Operation::Refund(_) if !is_repeat(call, refund) && is_final => {
            Ok(Finding::Refused(Reason::from_code(code)))
        }
        Operation::RefundQuery(_) if status == 404 && code == "refund_unknown" => {
            Ok(Finding::NotFound)
        }
        Operation::Create
        | Operation::Query
        | Operation::Close
        | Operation::Refund(_)
        | Operation::RefundQuery(_) => Err(Ambiguity::UnlistedWord),
    }
}

/// Our refund number in a callback, if it is about a refund.
pub(super) fn refund_no(fields: &Fields<'_>) -> Option<RefundOrderNo> {
    let kind = optional(fields, "eventType").ok()??;
    let no = optional(fields, "merchantRefundNo").ok()??;
    kind.starts_with("REFUND_")
        .then(|| RefundOrderNo::parse(no).ok())?
}

/// The finding of an authenticated callback.
pub(super) fn notice(fields: &Fields<'_>, absent: Currency, now: Timestamp) -> FindingResult {
    match (
        needed(fields, "eventType")?,
        needed(fields, "refundStatus")?,
    ) {
        ("REFUND_SUCCEEDED", "SUCCEEDED") | ("REFUND_FAILED", "FAILED") => {
            refund_state(fields, absent, now)
        }
        _ => Err(Ambiguity::UnlistedWord),
    }
}

/// `PENDING` is the institution's own "unknown", whatever state it shows: it is queried, like a
/// timeout.
fn refund_state(fields: &Fields<'_>, absent: Currency, now: Timestamp) -> FindingResult {
    match (needed(fields, "refundStatus")?, optional(fields, "result")?) {
        ("PROCESSING", Some("PENDING")) => Err(Ambiguity::NoAnswer),
        ("PROCESSING", _) => Ok(Finding::Accepted(None)),
        ("SUCCEEDED", _) => refunded(fields, absent, now),
        ("FAILED", _) => {
            let reason = optional(fields, "reason")?.unwrap_or("REFUSED");
            Ok(Finding::Refused(Reason::from_code(reason)))
        }
        _ => Err(Ambiguity::UnlistedWord),
    }
}

fn refunded(fields: &Fields<'_>, absent: Currency, now: Timestamp) -> FindingResult {
    let no = needed(fields, "refundOrderNo")?;
    if no.is_empty() || no.len() > INSTITUTION_NO_BYTES_MAX {
        return Err(Ambiguity::Unreadable);
    }
    let at = match optional(fields, "refundTime")? {
        Some(text) => moment(text).unwrap_or(Timestamp::UNREADABLE),
        None => now,
    };
    Ok(Finding::Succeeded(Receipt {
        amount: sum(fields, SUM, absent)?,
        institution_no: Some(no.into()),
        paid_at: at,
        fee: None,
    }))
}
