//! What an answer proves: first who sent it, then what it is about, then what its codes say.
//!
//! A signature covers the answer and not our request, so an answer counts by what it names: number,
//! time, account, and, where money moved, the sum.

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::domain::amount::{Amount, CNY};
use crate::domain::attempt::AttemptState;
use crate::domain::evidence::{
    Ambiguity, Finding, PaymentAction, PaymentActionKind, Receipt, Reversal,
};
use crate::domain::identifiers::Timestamp;
use crate::domain::refund::{Refund, RefundState};
use crate::institution::unionpay::accounts::UnionPayAccount;
use crate::institution::unionpay::codes::{
    TransactionState, UnionPayFinding, of_create, of_payment, of_question, of_refund,
    of_refund_state,
};
use crate::institution::unionpay::message::UnionPayMessage;
use crate::institution::unionpay::products::{MARGIN, UnionPayProduct};
use crate::institution::unionpay::requests::{RENMINBI, UnionPayTransactionId};
use crate::institution::{Call, Operation};

/// The longest code to scan, and the longest number for the SDK. Unit: bytes.
const CODE_BYTES_MAX: usize = 512;
const TN_BYTES_MAX: usize = 64;

/// The most digits of UnionPay's numbers, and of a sum.
const NUMBER_DIGITS_MAX: usize = 32;
const FEN_DIGITS_MAX: usize = 12;

/// What an answer proves, and what it shows besides.
pub(super) struct UnionPayReading {
    pub(super) finding: UnionPayFinding,
    /// UnionPay sent it.
    pub(super) is_proven: bool,
    /// It shows that UnionPay has the payment or refund (V5).
    pub(super) proves_arrival: bool,
}

impl UnionPayReading {
    /// Of an answer that counts for nothing.
    pub(super) fn nothing(why: Ambiguity) -> Self {
        Self {
            finding: Err(why),
            is_proven: false,
            proves_arrival: false,
        }
    }
}

/// Reads an answer to a request that was made at `asked`.
pub(super) fn read(
    call: &Call<'_>,
    account: &UnionPayAccount,
    product: UnionPayProduct,
    reply: &Response<Bytes>,
    asked: Timestamp,
    now: Timestamp,
) -> UnionPayReading {
    if reply.status() != StatusCode::OK {
        let is_fault = reply.status().is_server_error();
        return UnionPayReading::nothing(if is_fault {
            Ambiguity::ServerFault
        } else {
            Ambiguity::NoAnswer
        });
    }
    let Some(answer) = UnionPayMessage::from_raw(reply.body()) else {
        return UnionPayReading::nothing(Ambiguity::Unreadable);
    };
    let trust = account.trust();
    if trust.is_none_or(|trust| trust.verify(&answer, now).is_err()) {
        return UnionPayReading::nothing(Ambiguity::Unproven);
    }
    let about = is_about(call, account, &answer);
    let finding = about.and_then(|()| answered(call, product, &answer, asked));
    UnionPayReading {
        proves_arrival: about.is_ok() && has_it(call, &answer, &finding),
        finding,
        is_proven: true,
    }
}

/// Whether the answer is about this payment or refund (E3). What it repeats must be what was sent; the
/// one that rejects a request it could not read may repeat nothing.
fn is_about(
    call: &Call<'_>,
    account: &UnionPayAccount,
    answer: &UnionPayMessage,
) -> Result<(), Ambiguity> {
    let by = UnionPayTransactionId::of(call);
    let txn_type = match call.operation {
        Operation::Create => "01",
        Operation::Query | Operation::Close | Operation::RefundQuery(_) => "00",
        Operation::Refund(_) => "04",
    };
    let sum = call.refund().map_or(call.attempt.amount, |it| it.amount);
    let sum = sum.minor().to_string();
    let sent = [
        ("merId", account.mer_id.as_str()),
        ("orderId", by.number),
        ("txnTime", by.time.as_str()),
        ("txnType", txn_type),
        ("accessType", account.access.word()),
        ("txnAmt", sum.as_str()),
        ("currencyCode", RENMINBI),
    ];
    let is_other = |(name, value): (&str, &str)| answer.get(name).is_some_and(|it| it != value);
    let receiver = answer.get("subMerId");
    if sent.into_iter().any(is_other)
        || receiver.is_some_and(|number| number != call.attempt.receiver.as_str())
    {
        return Err(Ambiguity::Mismatch);
    }
    let is_rejection = matches!(answer.get("respCode"), Some("10" | "11" | "13"));
    let names_it = ["merId", "orderId", "txnTime"]
        .iter()
        .all(|name| answer.get(name).is_some());
    if names_it || is_rejection {
        Ok(())
    } else {
        Err(Ambiguity::Unreadable)
    }
}

fn answered(
    call: &Call<'_>,
    product: UnionPayProduct,
    answer: &UnionPayMessage,
    asked: Timestamp,
) -> UnionPayFinding {
    let code = answer.get("respCode").ok_or(Ambiguity::Unreadable)?;
    let attempt = call.attempt;
    match call.operation {
        Operation::Create => {
            let is_first = attempt.state == AttemptState::Intent;
            let refused = of_create(code, product.start(), is_first);
            refused.unwrap_or_else(|| Ok(Finding::Accepted(Some(action(call, product, answer)?))))
        }
        Operation::Refund(refund) => of_refund(code, refund.state == RefundState::Reserved),
        Operation::Query | Operation::Close | Operation::RefundQuery(_) => {
            if let Some(found) = of_question(code) {
                return found;
            }
            let code = answer.get("origRespCode").ok_or(Ambiguity::Unreadable)?;
            match call.refund() {
                None => {
                    let is_over = asked >= attempt.pay_by.plus(MARGIN);
                    payment(call, of_payment(code, product.start(), is_over), answer)
                }
                Some(refund) => refunded(refund, of_refund_state(code), answer),
            }
        }
    }
}

fn payment(call: &Call<'_>, state: TransactionState, answer: &UnionPayMessage) -> UnionPayFinding {
    let found = match state {
        TransactionState::Succeeded => Finding::Succeeded(receipt(answer)?),
        TransactionState::GivenBack => {
            let returned = Receipt {
                amount: sum(answer).unwrap_or(call.attempt.amount),
                institution_no: answer.get("queryId").and_then(number).map(Into::into),
                paid_at: moved_at(answer),
                fee: None,
            };
            Finding::Reversed(Reversal::Returned(returned))
        }
        TransactionState::Other(found) => found?,
    };
    match (call.operation, found) {
        // Nothing can be closed: what is still open was not refused, and not closed either.
        (Operation::Close, Finding::Accepted(_)) => Err(Ambiguity::NoAnswer),
        (_, found) => Ok(found),
    }
}

fn refunded(refund: &Refund, state: TransactionState, answer: &UnionPayMessage) -> UnionPayFinding {
    match state {
        TransactionState::Succeeded => {
            let receipt = receipt(answer)?;
            if receipt.amount != refund.amount {
                return Err(Ambiguity::Mismatch);
            }
            Ok(Finding::Succeeded(receipt))
        }
        TransactionState::GivenBack => Err(Ambiguity::UnlistedWord),
        TransactionState::Other(found) => found,
    }
}

/// Whether the answer shows that UnionPay has the number: not if it does not know it, and not if it
/// cannot tell.
fn has_it(call: &Call<'_>, answer: &UnionPayMessage, found: &UnionPayFinding) -> bool {
    let code = answer.get("respCode");
    match call.operation {
        Operation::Create => matches!(found, Ok(Finding::Accepted(_))) || code == Some("12"),
        Operation::Refund(_) => matches!(code, Some("00" | "A6" | "05" | "12")),
        Operation::Query | Operation::Close | Operation::RefundQuery(_) => {
            let is_found = !matches!(answer.get("origRespCode"), Some("34") | None);
            code == Some("00") && is_found
        }
    }
}

/// What the payer pays with.
fn action(
    call: &Call<'_>,
    product: UnionPayProduct,
    answer: &UnionPayMessage,
) -> Result<PaymentAction, Ambiguity> {
    let way = match product {
        UnionPayProduct::Qr => {
            let code = answer.get("qrCode").filter(|code| is_code(code));
            code.map(|code| PaymentActionKind::QrCode(code.into()))
        }
        UnionPayProduct::App => {
            let tn = answer.get("tn").filter(|tn| is_tn(tn));
            tn.map(|tn| PaymentActionKind::SdkParameters(format!(r#"{{"tn":"{tn}"}}"#).into()))
        }
        UnionPayProduct::Wap | UnionPayProduct::Web => None,
    };
    Ok(PaymentAction {
        way: way.ok_or(Ambiguity::Unreadable)?,
        expires: Some(call.attempt.pay_by),
    })
}

/// It is drawn, never fetched.
fn is_code(text: &str) -> bool {
    text.len() <= CODE_BYTES_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
}

fn is_tn(text: &str) -> bool {
    text.len() <= TN_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The confirmation of money that moved: what was ordered, never what was settled, which discounts
/// make less.
pub(super) fn receipt(message: &UnionPayMessage) -> Result<Receipt, Ambiguity> {
    let no = message.get("queryId").and_then(number);
    Ok(Receipt {
        amount: sum(message)?,
        institution_no: Some(no.ok_or(Ambiguity::Unreadable)?.into()),
        paid_at: moved_at(message),
        fee: None,
    })
}

/// `txnAmt`: fen, without leading zeros, in renminbi (M5, M6).
pub(super) fn sum(message: &UnionPayMessage) -> Result<Amount, Ambiguity> {
    let digits = message.get("txnAmt").ok_or(Ambiguity::Unreadable)?;
    let is_plain = digits.len() <= FEN_DIGITS_MAX
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0');
    let minor = digits.parse().ok().filter(|_| is_plain);
    let is_renminbi = message
        .get("currencyCode")
        .is_none_or(|code| code == RENMINBI);
    minor
        .filter(|_| is_renminbi)
        .and_then(|minor| Amount::from_minor(minor, CNY).ok())
        .ok_or(Ambiguity::Unreadable)
}

/// A number of UnionPay's.
fn number(text: &str) -> Option<&str> {
    let is_number =
        text.len() <= NUMBER_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(text)
}

/// When money moved: `traceTime`, which has no year, in the year after the transaction began. It counts
/// even if the time cannot be read.
fn moved_at(message: &UnionPayMessage) -> Timestamp {
    let read = || {
        let (date, time) = message.get("txnTime")?.split_at_checked(8)?;
        let began = Timestamp::parse_local(date, time).ok()?;
        let (day, time) = message.get("traceTime")?.split_at_checked(4)?;
        let year: u16 = date.get(..4)?.parse().ok()?;
        [year, year.checked_add(1)?]
            .into_iter()
            .filter_map(|year| Timestamp::parse_local(&format!("{year}{day}"), time).ok())
            // Its clock may be a little behind ours.
            .find(|moved| moved.plus(MARGIN) >= began)
    };
    read().unwrap_or(Timestamp::UNREADABLE)
}
