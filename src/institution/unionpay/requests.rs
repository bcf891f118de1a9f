//! The requests, before they are signed. Nothing of the stamp is in them: a repeated form and a query
//! name the time of the first create, because number and time together identify a transaction (A3,
//! R4).

use crate::domain::amount::{Amount, CNY};
use crate::domain::attempt::Attempt;
use crate::domain::identifiers::Timestamp;
use crate::domain::order::OrderTerms;
use crate::domain::refund::Refund;
use crate::institution::unionpay::accounts::{UnionPayAccess, UnionPayAccount};
use crate::institution::unionpay::message::UnionPayMessage;
use crate::institution::unionpay::products::UnionPayProduct;
use crate::institution::unionpay::settings::{
    ACQ_INS_CODE, MER_CAT_CODE, SUB_MER_ABBR, SUB_MER_NAME,
};
use crate::institution::{Call, Unmade};

/// The only version that is spoken.
pub(super) const VERSION: &str = "5.1.0";
/// The only encoding that is spoken.
pub(super) const ENCODING: &str = "UTF-8";
/// The number of the renminbi.
pub(super) const RENMINBI: &str = "156";

/// Where queries go.
pub(super) const QUERY: &str = "/gateway/api/queryTrans.do";
/// Where refunds go.
pub(super) const BACK: &str = "/gateway/api/backTransReq.do";

/// The longest description of a payment. Unit: characters.
const DESCRIPTION_CHARS_MAX: usize = 32;
/// The longest name of a sub-merchant. Unit: bytes, of which a Chinese character has two.
const SUB_NAME_BYTES_MAX: usize = 40;
/// The longest short name of a sub-merchant. Unit: characters.
const SUB_ABBR_CHARS_MAX: usize = 8;

/// The transaction that a call is about, as it is identified there.
pub(super) struct UnionPayTransactionId<'a> {
    /// `orderId`: our number.
    pub(super) number: &'a str,
    /// `txnTime`.
    pub(super) time: String,
}

impl<'a> UnionPayTransactionId<'a> {
    /// That of a payment: its time is that of the first create.
    pub(super) fn of_payment(attempt: &'a Attempt) -> Self {
        Self {
            number: attempt.id.as_str(),
            time: moment(attempt.stamp.now),
        }
    }

    /// That of a refund: its time never changes either, or a repeat would be another refund.
    pub(super) fn of_refund(refund: &'a Refund) -> Self {
        Self {
            number: refund.no.as_str(),
            time: moment(refund.created),
        }
    }

    /// That of the transaction that a call is about.
    pub(super) fn of(call: &Call<'a>) -> Self {
        match call.refund() {
            Some(refund) => Self::of_refund(refund),
            None => Self::of_payment(call.attempt),
        }
    }
}

/// Creates a payment.
///
/// # Errors
/// Its currency is not UnionPay's, or what its sub-merchant must be called is missing or too long.
pub(super) fn create(
    call: &Call<'_>,
    account: &UnionPayAccount,
    product: UnionPayProduct,
) -> Result<UnionPayMessage, Unmade> {
    let attempt = call.attempt;
    let message = begun(account, ["01", product.sub_type()], product.biz_type())
        .with("channelType", product.channel());
    let message = identified(message, &UnionPayTransactionId::of_payment(attempt))
        .with("txnAmt", &fen(attempt.amount)?)
        .with("currencyCode", RENMINBI)
        .with("backUrl", &account.callback_url)
        .with("payTimeout", &moment(attempt.pay_by))
        .with("orderDesc", &description(call.terms));
    let message = if product.is_page() {
        message.with("frontUrl", &account.front_url)
    } else {
        message
    };
    named_sub_merchant(message, call, account)
}

/// Queries a payment or a refund. A payment on a page is not known there before its payer is.
///
/// # Errors
/// As [`create`], where the contract wants the sub-merchant in every request.
pub(super) fn query(
    call: &Call<'_>,
    account: &UnionPayAccount,
    product: UnionPayProduct,
) -> Result<UnionPayMessage, Unmade> {
    let message = begun(account, ["00", "00"], product.biz_type());
    let message = identified(message, &UnionPayTransactionId::of(call));
    where_agreed(message, call, account)
}

/// Refunds a part of a payment, or all of it.
///
/// # Errors
/// As [`create`]; or UnionPay's number of the payment is not known.
pub(super) fn refund(
    call: &Call<'_>,
    refund: &Refund,
    account: &UnionPayAccount,
    product: UnionPayProduct,
) -> Result<UnionPayMessage, Unmade> {
    let receipt = call.attempt.receipt.as_ref();
    let paid_as = receipt.and_then(|receipt| receipt.institution_no.as_deref());
    let message =
        begun(account, ["04", "00"], product.biz_type()).with("channelType", product.channel());
    let message = identified(message, &UnionPayTransactionId::of_refund(refund))
        .with("txnAmt", &fen(refund.amount)?)
        .with("origQryId", paid_as.ok_or(Unmade::Malformed)?)
        .with("backUrl", &account.callback_url);
    where_agreed(message, call, account)
}

fn begun(account: &UnionPayAccount, kind: [&str; 2], biz_type: &str) -> UnionPayMessage {
    let [txn_type, sub_type] = kind;
    UnionPayMessage::default()
        .with("version", VERSION)
        .with("encoding", ENCODING)
        .with("txnType", txn_type)
        .with("txnSubType", sub_type)
        .with("bizType", biz_type)
        .with("accessType", account.access.word())
        .with("merId", account.mer_id.as_str())
}

fn identified(message: UnionPayMessage, by: &UnionPayTransactionId<'_>) -> UnionPayMessage {
    message.with("orderId", by.number).with("txnTime", &by.time)
}

/// The fields of a sub-merchant in other requests than creates: the description does not say whether
/// they belong there.
fn where_agreed(
    message: UnionPayMessage,
    call: &Call<'_>,
    account: &UnionPayAccount,
) -> Result<UnionPayMessage, Unmade> {
    if account.names_sub_merchant_always {
        named_sub_merchant(message, call, account)
    } else {
        Ok(message)
    }
}

fn named_sub_merchant(
    message: UnionPayMessage,
    call: &Call<'_>,
    account: &UnionPayAccount,
) -> Result<UnionPayMessage, Unmade> {
    let setting = |name: &str| {
        let sub = call.sub_merchant.ok_or(Unmade::Malformed)?;
        sub.text(name).ok_or(Unmade::Malformed)
    };
    let names = || {
        let (name, abbr) = (setting(SUB_MER_NAME)?, setting(SUB_MER_ABBR)?);
        let fits = encoded_bytes(name) <= SUB_NAME_BYTES_MAX
            && abbr.chars().count() <= SUB_ABBR_CHARS_MAX
            && abbr.chars().all(char::is_alphanumeric)
            && !name.chars().any(is_structural);
        fits.then_some((name, abbr)).ok_or(Unmade::Malformed)
    };
    Ok(match account.access {
        UnionPayAccess::Direct => message,
        UnionPayAccess::Acquirer => {
            let (name, abbr) = names()?;
            message
                .with("acqInsCode", setting(ACQ_INS_CODE)?)
                .with("merCatCode", setting(MER_CAT_CODE)?)
                .with("merName", name)
                .with("merAbbr", abbr)
        }
        UnionPayAccess::Platform => {
            let (name, abbr) = names()?;
            message
                .with("subMerId", sub_number(call.attempt)?)
                .with("subMerName", name)
                .with("subMerAbbr", abbr)
        }
    })
}

fn sub_number(attempt: &Attempt) -> Result<&str, Unmade> {
    let number = attempt.receiver.as_str();
    let is_number =
        (5..=15).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_number.then_some(number).ok_or(Unmade::Malformed)
}

/// As in GBK: one byte of an ASCII character, else two.
fn encoded_bytes(text: &str) -> usize {
    let bytes = text
        .chars()
        .map(|letter| if letter.is_ascii() { 1_usize } else { 2 });
    bytes.sum()
}

/// `yyyyMMddHHmmss` in Asia/Shanghai.
pub(super) fn moment(at: Timestamp) -> String {
    [at.date(), at.time_of_day()].concat()
}

/// The minor unit of its only currency, without leading zeros (M5).
fn fen(amount: Amount) -> Result<String, Unmade> {
    (amount.currency() == CNY)
        .then(|| amount.minor().to_string())
        .ok_or(Unmade::Malformed)
}

/// What the payer is shown; the same at each repeat (A3). Without what separates fields: the signed
/// text of whoever repeats it would have two readings.
fn description(terms: &OrderTerms) -> String {
    let text = terms.goods_name.as_deref().unwrap_or(&terms.merchant_name);
    let plain = text
        .chars()
        .map(|letter| if is_structural(letter) { ' ' } else { letter });
    plain.take(DESCRIPTION_CHARS_MAX).collect()
}

fn is_structural(letter: char) -> bool {
    "&={}[]\"'".contains(letter) || letter.is_control()
}
