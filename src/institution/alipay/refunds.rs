//! Refunds: what the call and its query say, and what their answers prove.
//!
//! `refund_fee` of an answer is a running total of the payment, never the sum of one refund.

use serde::Serialize;

use crate::domain::amount::Amount;
use crate::domain::attempt::Attempt;
use crate::domain::evidence::{Ambiguity, Finding, Reason, Receipt};
use crate::domain::refund::{Refund, RefundState};
use crate::institution::alipay::answers::AlipayAnswer;
use crate::institution::alipay::codes::{AnswerCode, BusinessCode, of_refund};
use crate::institution::alipay::payments::{AlipayFinding, names_no_other, number};
use crate::institution::alipay::values::{moment, yuan};

/// `biz_content` of a refund. The merchant's reason is free text and stays here.
#[derive(Serialize)]
pub(super) struct RefundFields<'a> {
    out_trade_no: &'a str,
    refund_amount: String,
    out_request_no: &'a str,
}

/// `biz_content` of a refund query.
#[derive(Serialize)]
pub(super) struct RefundQueryFields<'a> {
    out_trade_no: &'a str,
    out_request_no: &'a str,
}

pub(super) fn asking<'a>(refund: &'a Refund, attempt: &'a Attempt) -> RefundFields<'a> {
    RefundFields {
        out_trade_no: attempt.id.as_str(),
        refund_amount: refund.amount.to_string(),
        out_request_no: refund.no.as_str(),
    }
}

pub(super) fn naming<'a>(refund: &'a Refund, attempt: &'a Attempt) -> RefundQueryFields<'a> {
    RefundQueryFields {
        out_trade_no: attempt.id.as_str(),
        out_request_no: refund.no.as_str(),
    }
}

/// The finding of an answer to a refund. An unsigned one proves nothing, least of all a failure.
pub(super) fn refunded(
    attempt: &Attempt,
    refund: &Refund,
    answer: &AlipayAnswer<'_>,
) -> AlipayFinding {
    if !answer.is_proven {
        return Err(Ambiguity::Unproven);
    }
    match answer.code()? {
        AnswerCode::Executed => executed(attempt, refund, answer),
        AnswerCode::NotExecuted(why) => Ok(Finding::NotExecuted(why)),
        AnswerCode::Unknown => Err(Ambiguity::ServerFault),
        AnswerCode::PayerConfirming | AnswerCode::Unlisted => Err(Ambiguity::UnlistedWord),
        AnswerCode::Business => {
            let code = answer.sub_code()?.ok_or(Ambiguity::Unreadable)?;
            names_no_other(attempt, answer)?;
            match of_refund(code) {
                // The refusal of a repeat says nothing about the earlier call.
                BusinessCode::Definite if refund.state == RefundState::Reserved => {
                    Ok(Finding::Refused(Reason::from_code(code)))
                }
                BusinessCode::Inconsistent => Err(Ambiguity::Mismatch),
                BusinessCode::Unknown => Err(Ambiguity::ServerFault),
                BusinessCode::Definite | BusinessCode::TradeNotExist | BusinessCode::Unlisted => {
                    Err(Ambiguity::UnlistedWord)
                }
            }
        }
    }
}

/// `fund_change` tells whether this very call moved money. Without it the refund is pending, failed,
/// or was made by an earlier call: its query tells.
fn executed(attempt: &Attempt, refund: &Refund, answer: &AlipayAnswer<'_>) -> AlipayFinding {
    answer.needed("out_trade_no")?;
    is_about_if_named(attempt, refund, answer)?;
    match answer.optional("fund_change")? {
        Some("Y") => {
            // The total of all refunds of the payment is at least this one.
            let total = yuan(answer.needed("refund_fee")?)?;
            if total.minor() < refund.amount.minor() || total.minor() > attempt.amount.minor() {
                return Err(Ambiguity::Mismatch);
            }
            Ok(Finding::Succeeded(receipt(attempt, answer, refund.amount)?))
        }
        Some("N") | None => Ok(Finding::Accepted(None)),
        Some(_) => Err(Ambiguity::UnlistedWord),
    }
}

/// The finding of an answer to a refund query.
pub(super) fn queried(
    attempt: &Attempt,
    refund: &Refund,
    answer: &AlipayAnswer<'_>,
) -> AlipayFinding {
    if !answer.is_proven {
        return Err(Ambiguity::Unproven);
    }
    match answer.code()? {
        AnswerCode::Executed => {
            is_about_if_named(attempt, refund, answer)?;
            match answer.optional("refund_status")? {
                None => Ok(Finding::NotFound),
                Some("REFUND_SUCCESS") => {
                    answer.needed("out_request_no")?;
                    let sum = yuan(answer.needed("refund_amount")?)?;
                    Ok(Finding::Succeeded(receipt(attempt, answer, sum)?))
                }
                Some(_) => Err(Ambiguity::UnlistedWord),
            }
        }
        AnswerCode::NotExecuted(why) => Ok(Finding::NotExecuted(why)),
        AnswerCode::Unknown => Err(Ambiguity::ServerFault),
        // A payment that was paid and is not known any more proves nothing about its refund.
        AnswerCode::Business => match of_refund(answer.sub_code()?.unwrap_or_default()) {
            BusinessCode::Unknown => Err(Ambiguity::ServerFault),
            BusinessCode::Definite
            | BusinessCode::Inconsistent
            | BusinessCode::TradeNotExist
            | BusinessCode::Unlisted => Err(Ambiguity::UnlistedWord),
        },
        AnswerCode::PayerConfirming | AnswerCode::Unlisted => Err(Ambiguity::UnlistedWord),
    }
}

/// What the answer names is ours. An answer about a refund that never came names nothing.
fn is_about_if_named(
    attempt: &Attempt,
    refund: &Refund,
    answer: &AlipayAnswer<'_>,
) -> Result<(), Ambiguity> {
    names_no_other(attempt, answer)?;
    let request = answer.optional("out_request_no")?;
    let total = answer.optional("total_amount")?.map(yuan).transpose()?;
    if request.is_none_or(|request| request == refund.no.as_str())
        && total.is_none_or(|total| total == attempt.amount)
    {
        Ok(())
    } else {
        Err(Ambiguity::Mismatch)
    }
}

/// A refund has no number of its own there: it is known by that of its payment.
fn receipt(
    attempt: &Attempt,
    answer: &AlipayAnswer<'_>,
    amount: Amount,
) -> Result<Receipt, Ambiguity> {
    let known = attempt.receipt.as_ref();
    let known = known.and_then(|receipt| receipt.institution_no.as_deref());
    let named = answer.optional("trade_no")?.map(number).transpose()?;
    if let (Some(known), Some(named)) = (known, named)
        && known != named
    {
        return Err(Ambiguity::Mismatch);
    }
    Ok(Receipt {
        amount,
        institution_no: named.or(known).map(Into::into),
        paid_at: moment(answer.optional("gmt_refund_pay")?),
        fee: None,
    })
}
