//! Maps the status values of authenticated messages in the `standard` dialect, one by one (C3); an
//! unlisted value proves nothing (V1). The sender was verified before.

use http::StatusCode;
use http::uri::{Scheme, Uri};

use crate::domain::amount::{Amount, Currency, Fee};
use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::evidence::{
    Ambiguity, Finding, PaymentAction, PaymentActionKind, Reason, Receipt,
};
use crate::domain::fields::Fields;
use crate::domain::identifiers::{ReceiverId, Timestamp};
use crate::domain::institutions::Mode;
use crate::institution::standard::refunds;
use crate::institution::{Call, Operation};

/// The longest page address and the longest SDK parameters. Unit: bytes.
const LINK_BYTES_MAX: usize = 2_048;
const SDK_BYTES_MAX: usize = 8_192;

/// The longest number an institution may give a payment. Unit: bytes.
pub(super) const INSTITUTION_NO_BYTES_MAX: usize = 64;

/// Codes that refuse a create finally (E2): the interface's own, except those of the statuses 401,
/// 408, 409, 421 and 429; `payment_refused` means that this payer is refused.
pub(super) const FINAL_REFUSALS: [&str; 30] = [
    "amount_out_of_range",
    "amount_too_precise",
    "amount_unreadable",
    "app_not_enrolled",
    "body_too_large",
    "body_unreadable",
    "certificate_foreign",
    "currency_unknown",
    "field_duplicate",
    "field_malformed",
    "field_missing",
    "field_unknown",
    "fields_disagree",
    "head_too_large",
    "institution_not_contracted",
    "institution_required",
    "institution_unavailable",
    "institution_unknown",
    "media_type_wrong",
    "merchant_foreign",
    "merchant_name_wrong",
    "merchant_not_admitted",
    "method_wrong",
    "not_offered",
    "order_closed",
    "path_unknown",
    "payment_refused",
    "query_unexpected",
    "return_url_unregistered",
    "secret_in_text",
];

pub(super) type FindingResult = Result<Finding, Ambiguity>;

/// The finding of an authenticated reply.
pub(super) fn reply(call: &Call<'_>, status: StatusCode, fields: &Fields<'_>) -> FindingResult {
    let attempt = call.attempt;
    match status.as_u16() {
        200 | 202 => {
            is_about(attempt, fields)?;
            match call.operation {
                Operation::Create => created(attempt, fields),
                Operation::Query => queried(attempt, fields),
                Operation::Close => closed(attempt, fields),
                Operation::Refund(_) | Operation::RefundQuery(_) => Err(Ambiguity::Mismatch),
            }
        }
        400..=499 => refused(call, status.as_u16(), needed(fields, "code")?),
        _ => Err(Ambiguity::UnlistedWord),
    }
}

/// Codes that refuse a close and show that the institution has the order.
const REFUSALS_OF_KNOWN: [&str; 2] = ["close_refused", "order_paid"];

/// Whether an authenticated reply shows that the institution has the payment or refund, whatever
/// else it says (V5). For creates and refunds only an acceptance shows it: one reported as pending
/// may still be lost inside the institution.
pub(super) fn proves_arrival(
    call: &Call<'_>,
    status: StatusCode,
    fields: &Fields<'_>,
    read: &FindingResult,
) -> bool {
    let answers = matches!(status.as_u16(), 200 | 202);
    let code = || needed(fields, "code").is_ok_and(|code| REFUSALS_OF_KNOWN.contains(&code));
    let attempt = call.attempt;
    match call.operation {
        Operation::Create | Operation::Refund(_) => matches!(
            read,
            Ok(Finding::Accepted(_) | Finding::Succeeded(_) | Finding::Closed)
        ),
        Operation::Query => answers && is_about(attempt, fields).is_ok(),
        Operation::Close if answers => is_about(attempt, fields).is_ok(),
        Operation::Close => status == StatusCode::CONFLICT && code(),
        Operation::RefundQuery(refund) => {
            answers && refunds::is_about(refund, attempt, fields).is_ok()
        }
    }
}

/// The finding of an authenticated callback (A3.3). Refund events also have `PAID`, without a new
/// payment.
pub(super) fn notice(fields: &Fields<'_>, absent: Currency) -> FindingResult {
    match (
        optional(fields, "eventType")?,
        needed(fields, "orderStatus")?,
    ) {
        (None | Some("ORDER_PAID"), "PAID") => paid(fields, absent),
        (None | Some("ORDER_CLOSED"), "CLOSED") => Ok(Finding::Closed),
        _ => Err(Ambiguity::UnlistedWord),
    }
}

/// The receiver a callback names (C2).
pub(super) fn receiver(fields: &Fields<'_>) -> Option<ReceiverId> {
    ReceiverId::parse(fields.text("merchantId")?.ok()?).ok()
}

/// `PENDING` is the institution's own "unknown": the payment may still be refused, accepted or lost
/// inside it, so it is neither accepted nor ended but queried, like a timeout.
fn created(attempt: &Attempt, fields: &Fields<'_>) -> FindingResult {
    match (needed(fields, "result")?, optional(fields, "orderStatus")?) {
        ("ACCEPTED", None | Some("OPEN")) => {
            is_of_sum(attempt, fields)?;
            Ok(Finding::Accepted(payment_action(attempt.mode, fields)?))
        }
        ("REFUSED", None | Some("OPEN"))
            // After a repeat it says nothing about the earlier create, whose order stays open
            // there.
            if optional(fields, "attemptStatus")? == Some("FAILED")
                && attempt.state == AttemptState::Intent =>
        {
            let reason = optional(fields, "reason")?.unwrap_or("REFUSED");
            Ok(Finding::Refused(Reason::from_code(reason)))
        }
        ("ALREADY_PAID", None | Some("PAID")) => paid(fields, attempt.amount.currency()),
        ("CLOSED", None | Some("CLOSED")) | ("ACCEPTED", Some("CLOSED")) => Ok(Finding::Closed),
        ("PENDING", None | Some("OPEN")) => Err(Ambiguity::NoAnswer),
        _ => Err(Ambiguity::UnlistedWord),
    }
}

fn queried(attempt: &Attempt, fields: &Fields<'_>) -> FindingResult {
    match needed(fields, "orderStatus")? {
        "OPEN" => {
            is_of_sum(attempt, fields)?;
            Ok(Finding::Accepted(None))
        }
        "PAID" => paid(fields, attempt.amount.currency()),
        "CLOSED" => Ok(Finding::Closed),
        _ => Err(Ambiguity::UnlistedWord),
    }
}

/// An order that is still open has recorded the close request; that is no refusal to close.
fn closed(attempt: &Attempt, fields: &Fields<'_>) -> FindingResult {
    match needed(fields, "orderStatus")? {
        "CLOSED" => Ok(Finding::Closed),
        "PAID" => paid(fields, attempt.amount.currency()),
        "OPEN" => Err(Ambiguity::NoAnswer),
        _ => Err(Ambiguity::UnlistedWord),
    }
}

fn refused(call: &Call<'_>, status: u16, code: &str) -> FindingResult {
    match (call.operation, status, code) {
        (Operation::Create, 401 | 408 | 409 | 421 | 429, _) => Err(Ambiguity::UnlistedWord),
        // The refusal of a repeat says nothing about the earlier create, which may have arrived:
        // fields and admission are checked before the number is looked up.
        (Operation::Create, _, code)
            if call.attempt.state == AttemptState::Intent && FINAL_REFUSALS.contains(&code) =>
        {
            Ok(Finding::Refused(Reason::from_code(code)))
        }
        (Operation::Query | Operation::Close, 404, "order_unknown") => Ok(Finding::NotFound),
        // It has the order and does not close it: the attempt keeps its state.
        (Operation::Close, 409, "close_refused") => Ok(Finding::Accepted(None)),
        // `order_paid` among them: the query that follows brings the receipt.
        _ => Err(Ambiguity::UnlistedWord),
    }
}

fn is_about(attempt: &Attempt, fields: &Fields<'_>) -> Result<(), Ambiguity> {
    let number = needed(fields, "merchantOrderNo")?;
    let receiver = needed(fields, "merchantId")?;
    if number == attempt.id.as_str() && receiver == attempt.receiver.as_str() {
        Ok(())
    } else {
        Err(Ambiguity::Mismatch)
    }
}

/// E3 requires the amount to match before a payment counts as accepted. The domain compares the
/// paid amount and quarantines a mismatch (V3).
fn is_of_sum(attempt: &Attempt, fields: &Fields<'_>) -> Result<(), Ambiguity> {
    if sum(fields, "orderAmount", attempt.amount.currency())? == attempt.amount {
        Ok(())
    } else {
        Err(Ambiguity::Mismatch)
    }
}

fn paid(fields: &Fields<'_>, absent: Currency) -> FindingResult {
    let amount = sum(fields, "orderAmount", absent)?;
    let no = needed(fields, "payOrderNo")?;
    let date = needed(fields, "paymentDate")?;
    let time = needed(fields, "paymentTime")?;
    if no.is_empty() || no.len() > INSTITUTION_NO_BYTES_MAX {
        return Err(Ambiguity::Unreadable);
    }
    Ok(Finding::Succeeded(Receipt {
        amount,
        institution_no: Some(no.into()),
        // The payment counts even if its time cannot be read.
        paid_at: Timestamp::parse_local(date, time).unwrap_or(Timestamp::UNREADABLE),
        fee: fee(fields, amount.currency()),
    }))
}

/// The amount under this name. Its currency is the field `currency`, or `absent` without that
/// field: the currency of the payment or refund, which the institution got with its first call
/// (M6).
pub(super) fn sum(fields: &Fields<'_>, name: &str, absent: Currency) -> Result<Amount, Ambiguity> {
    let currency = match optional(fields, "currency")? {
        Some(code) => Currency::parse(code).map_err(|_| Ambiguity::Unreadable)?,
        None => absent,
    };
    let text = fields
        .scalar(name)
        .and_then(Result::ok)
        .ok_or(Ambiguity::Unreadable)?;
    Amount::parse(text, currency).map_err(|_| Ambiguity::Unreadable)
}

/// For information only: a malformed fee must not delay a payment. `paymux explain` shows it as
/// received.
fn fee(fields: &Fields<'_>, currency: Currency) -> Option<Fee> {
    let text = fields.scalar("fee")?.ok()?;
    Fee::parse(text, currency).ok()
}

/// The payment action for the mode. An unusable one makes the reply unreadable; an absent one does
/// not: the chatbot mode has none.
fn payment_action(mode: Mode, fields: &Fields<'_>) -> Result<Option<PaymentAction>, Ambiguity> {
    let way = match mode {
        Mode::Webview => optional(fields, "payUrl")?.map(link),
        Mode::Native => fields.raw("sdkParameters").map(sdk),
        Mode::Chatbot => None,
    };
    let Some(way) = way else {
        return Ok(None);
    };
    let way = way.ok_or(Ambiguity::Unreadable)?;
    let expires = match optional(fields, "expireTime")? {
        Some(text) => Some(moment(text)?),
        None => None,
    };
    Ok(Some(PaymentAction { way, expires }))
}

/// A time, truncated to seconds as displayed.
pub(super) fn moment(text: &str) -> Result<Timestamp, Ambiguity> {
    let moment = Timestamp::parse_rfc3339(text).map_err(|_| Ambiguity::Unreadable)?;
    Ok(Timestamp::from_s(moment.seconds()))
}

/// The payer is redirected there, so it must be https and must not disguise its host.
fn link(text: &str) -> Option<PaymentActionKind> {
    let fits = text.len() <= LINK_BYTES_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
    if !fits {
        return None;
    }
    let uri: Uri = text.parse().ok()?;
    let plain = uri.scheme() == Some(&Scheme::HTTPS) && !uri.authority()?.as_str().contains('@');
    plain.then(|| PaymentActionKind::Redirect(text.into()))
}

/// An object or a string, passed on as unchanged JSON text (R-5.1.3-2).
fn sdk(raw: &str) -> Option<PaymentActionKind> {
    let fits = raw.len() <= SDK_BYTES_MAX && raw.starts_with(['{', '"']);
    let reads = fits && serde_json::from_str::<serde_json::Value>(raw).is_ok();
    reads.then(|| PaymentActionKind::SdkParameters(raw.into()))
}

pub(super) fn needed<'f>(fields: &'f Fields<'_>, name: &str) -> Result<&'f str, Ambiguity> {
    optional(fields, name)?.ok_or(Ambiguity::Unreadable)
}

pub(super) fn optional<'f>(
    fields: &'f Fields<'_>,
    name: &str,
) -> Result<Option<&'f str>, Ambiguity> {
    fields
        .text(name)
        .transpose()
        .map_err(|_| Ambiguity::Unreadable)
}
