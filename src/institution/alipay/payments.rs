//! What answers about a payment prove: to a create, to a query, and to the query that follows a
//! close. Each status is mapped one by one (C3).

use crate::domain::amount::Amount;
use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::evidence::{
    Ambiguity, Finding, PaymentAction, PaymentActionKind, Reason, Receipt, Reversal,
};
use crate::institution::alipay::answers::AlipayAnswer;
use crate::institution::alipay::codes::{AnswerCode, BusinessCode, of_close, of_create, of_query};
use crate::institution::alipay::products::Creation;
use crate::institution::alipay::values::{is_nothing, moment, yuan};

/// What a message proves, or why it proves nothing.
pub(super) type AlipayFinding = Result<Finding, Ambiguity>;

/// The longest number that the institution gives a payment. Unit: bytes.
const NUMBER_BYTES_MAX: usize = 64;

/// The longest content of a code. Unit: bytes.
const CODE_BYTES_MAX: usize = 1_024;

/// What was answered to a close, as far as the query that follows needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseAnswer {
    /// Refused, with the trade as it was.
    Refused,
    /// Closed, unknown, or unreadable: only the query tells.
    Open,
}

/// The finding of an answer to a create.
pub(super) fn created(
    attempt: &Attempt,
    answer: &AlipayAnswer<'_>,
    how: Creation,
) -> AlipayFinding {
    // After an earlier create a refusal says nothing about that one.
    let is_first = attempt.state == AttemptState::Intent;
    let refused = |code: &str| Ok(Finding::Refused(Reason::from_code(code)));
    let unproven = |why| {
        Err(if answer.is_proven {
            why
        } else {
            Ambiguity::Unproven
        })
    };
    match answer.code()? {
        AnswerCode::Executed if answer.is_proven => {
            is_about(attempt, answer)?;
            Ok(Finding::Accepted(Some(action(attempt, answer, how)?)))
        }
        AnswerCode::PayerConfirming if answer.is_proven => {
            is_about(attempt, answer)?;
            Ok(Finding::Accepted(None))
        }
        AnswerCode::Executed | AnswerCode::PayerConfirming => Err(Ambiguity::Unproven),
        // Nothing was handed out, so nobody can pay: believed unsigned, too.
        AnswerCode::NotExecuted(why) => Ok(Finding::NotExecuted(why)),
        AnswerCode::Unknown => unproven(Ambiguity::ServerFault),
        AnswerCode::Unlisted => unproven(Ambiguity::UnlistedWord),
        AnswerCode::Business => {
            let code = answer.sub_code()?.ok_or(Ambiguity::Unreadable)?;
            names_no_other(attempt, answer)?;
            match of_create(code) {
                BusinessCode::Definite | BusinessCode::Inconsistent if is_first => refused(code),
                BusinessCode::Inconsistent => unproven(Ambiguity::Mismatch),
                BusinessCode::Unknown => unproven(Ambiguity::ServerFault),
                BusinessCode::Definite | BusinessCode::TradeNotExist | BusinessCode::Unlisted => {
                    unproven(Ambiguity::UnlistedWord)
                }
            }
        }
    }
}

/// The finding of an answer to a query.
pub(super) fn queried(attempt: &Attempt, answer: &AlipayAnswer<'_>) -> AlipayFinding {
    if !answer.is_proven {
        return Err(Ambiguity::Unproven);
    }
    match answer.code()? {
        AnswerCode::Executed => state(attempt, answer),
        AnswerCode::NotExecuted(why) => Ok(Finding::NotExecuted(why)),
        AnswerCode::Unknown => Err(Ambiguity::ServerFault),
        AnswerCode::PayerConfirming | AnswerCode::Unlisted => Err(Ambiguity::UnlistedWord),
        AnswerCode::Business => match of_query(answer.sub_code()?.unwrap_or_default()) {
            BusinessCode::TradeNotExist => {
                names_no_other(attempt, answer)?;
                Ok(Finding::NotFound)
            }
            BusinessCode::Unknown => Err(Ambiguity::ServerFault),
            BusinessCode::Definite | BusinessCode::Inconsistent | BusinessCode::Unlisted => {
                Err(Ambiguity::UnlistedWord)
            }
        },
    }
}

/// What an answer to a close says; nothing of it counts before the query.
pub(super) fn close_answer(answer: &AlipayAnswer<'_>) -> CloseAnswer {
    if !answer.is_proven {
        return CloseAnswer::Open;
    }
    let sub_code = answer.sub_code().ok().flatten().unwrap_or_default();
    match answer.code() {
        Ok(AnswerCode::Business) if of_close(sub_code) == BusinessCode::Definite => {
            CloseAnswer::Refused
        }
        Ok(AnswerCode::NotExecuted(_)) => CloseAnswer::Refused,
        Ok(
            AnswerCode::Business
            | AnswerCode::Executed
            | AnswerCode::PayerConfirming
            | AnswerCode::Unknown
            | AnswerCode::Unlisted,
        )
        | Err(_) => CloseAnswer::Open,
    }
}

/// The finding of a close: that of the query after it. A trade that is still open is kept open by a
/// refusal only; else the close may still take effect.
pub(super) fn closed(queried: AlipayFinding, close: CloseAnswer) -> AlipayFinding {
    match (queried, close) {
        (Ok(Finding::Accepted(_)), CloseAnswer::Open) => Err(Ambiguity::NoAnswer),
        (read, CloseAnswer::Open | CloseAnswer::Refused) => read,
    }
}

/// Whether a query's answer shows that the institution has the payment (V5).
pub(super) fn names(attempt: &Attempt, answer: &AlipayAnswer<'_>) -> bool {
    answer.is_proven
        && answer.code() == Ok(AnswerCode::Executed)
        && is_about(attempt, answer).is_ok()
}

fn state(attempt: &Attempt, answer: &AlipayAnswer<'_>) -> AlipayFinding {
    is_about(attempt, answer)?;
    match answer.needed("trade_status")? {
        "WAIT_BUYER_PAY" if total(answer)? == attempt.amount => Ok(Finding::Accepted(None)),
        "WAIT_BUYER_PAY" => Err(Ambiguity::Mismatch),
        "TRADE_SUCCESS" | "TRADE_FINISHED" => Ok(Finding::Succeeded(receipt(answer)?)),
        // Unpaid, or paid and wholly refunded since: our own reverse, or the institution's portal.
        "TRADE_CLOSED" if was_paid(answer)? => {
            Ok(Finding::Reversed(Reversal::Returned(receipt(answer)?)))
        }
        "TRADE_CLOSED" => match answer.optional("total_amount")? {
            Some(text) if yuan(text)? != attempt.amount => Err(Ambiguity::Mismatch),
            Some(_) | None => Ok(Finding::Closed),
        },
        _ => Err(Ambiguity::UnlistedWord),
    }
}

/// The answer names our number, and no other receiver.
fn is_about(attempt: &Attempt, answer: &AlipayAnswer<'_>) -> Result<(), Ambiguity> {
    answer.needed("out_trade_no")?;
    names_no_other(attempt, answer)
}

/// What the answer names is ours; a failure may name nothing.
pub(super) fn names_no_other(
    attempt: &Attempt,
    answer: &AlipayAnswer<'_>,
) -> Result<(), Ambiguity> {
    let number = answer.optional("out_trade_no")?;
    let receiver = answer.optional("seller_id")?;
    if number.is_none_or(|number| number == attempt.id.as_str())
        && receiver.is_none_or(|receiver| receiver == attempt.receiver.as_str())
    {
        Ok(())
    } else {
        Err(Ambiguity::Mismatch)
    }
}

fn was_paid(answer: &AlipayAnswer<'_>) -> Result<bool, Ambiguity> {
    let refunded = answer.optional("refund_fee")?;
    Ok(answer.optional("send_pay_date")?.is_some()
        || answer.optional("gmt_payment")?.is_some()
        || refunded.is_some_and(|sum| !is_nothing(sum)))
}

/// What was ordered: discounts change what the payer paid and what was received, not this.
fn total(answer: &AlipayAnswer<'_>) -> Result<Amount, Ambiguity> {
    yuan(answer.needed("total_amount")?)
}

fn receipt(answer: &AlipayAnswer<'_>) -> Result<Receipt, Ambiguity> {
    Ok(Receipt {
        amount: total(answer)?,
        institution_no: Some(number(answer.needed("trade_no")?)?.into()),
        paid_at: moment(answer.optional("send_pay_date")?),
        fee: None,
    })
}

/// A number of the institution's.
pub(super) fn number(text: &str) -> Result<&str, Ambiguity> {
    let fits = (1..=NUMBER_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then_some(text).ok_or(Ambiguity::Unreadable)
}

fn action(
    attempt: &Attempt,
    answer: &AlipayAnswer<'_>,
    how: Creation,
) -> Result<PaymentAction, Ambiguity> {
    let way = match how {
        Creation::Code => {
            let code = answer.needed("qr_code")?;
            if !is_link(code) {
                return Err(Ambiguity::Unreadable);
            }
            PaymentActionKind::QrCode(code.into())
        }
        Creation::Number => {
            let no = number(answer.needed("trade_no")?)?;
            PaymentActionKind::SdkParameters(format!(r#"{{"tradeNO":"{no}"}}"#).into())
        }
        Creation::Page | Creation::OrderString => return Err(Ambiguity::Unreadable),
    };
    Ok(PaymentAction {
        way,
        expires: Some(attempt.pay_by),
    })
}

/// The code is drawn as it is, and a wallet opens what it holds.
fn is_link(text: &str) -> bool {
    text.len() <= CODE_BYTES_MAX
        && text.starts_with("https://")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
}
