//! Refunds, their query, and what a merchant does about an abnormal one (sections 11 and 24.2), and
//! a refund as answers and notifications show it.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sandbox::wechatpay::api::{WechatAnswer, WechatOutcome, parameters};
use crate::sandbox::wechatpay::book::{
    WechatBook, WechatKey, WechatOrder, WechatRefund, WechatRefundRejection, WechatRefundState,
    WechatRefundTerms,
};
use crate::sandbox::wechatpay::drawing::draw_digits;
use crate::sandbox::wechatpay::merchants::EnrolledMerchant;
use crate::sandbox::wechatpay::prepay::{check_sub_merchant, is_notify_url, is_text};
use crate::sandbox::wechatpay::refusal::{WechatErrorCode, WechatRefusal, reason};
use crate::sandbox::wechatpay::time::rfc_3339;
use crate::sandbox::wechatpay::{WechatPayState, notify};

/// Between two refunds of one order. Unit: seconds.
const GAP_S: i64 = 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundBody {
    sub_mchid: Option<String>,
    transaction_id: Option<String>,
    out_trade_no: Option<String>,
    out_refund_no: String,
    reason: Option<String>,
    notify_url: Option<String>,
    funds_account: Option<String>,
    amount: RefundAmount,
    #[serde(rename = "goods_detail", default)]
    _goods_detail: Vec<RefundGoods>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundAmount {
    refund: i64,
    total: i64,
    currency: String,
    #[serde(default)]
    from: Vec<RefundSource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundSource {
    account: String,
    amount: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundGoods {
    #[serde(rename = "merchant_goods_id")]
    _merchant_goods_id: String,
    #[serde(rename = "wechatpay_goods_id")]
    _wechatpay_goods_id: Option<String>,
    #[serde(rename = "goods_name")]
    _goods_name: Option<String>,
    #[serde(rename = "unit_price")]
    _unit_price: i64,
    #[serde(rename = "refund_amount")]
    _refund_amount: i64,
    #[serde(rename = "refund_quantity")]
    _refund_quantity: i64,
}

/// Whose refund it is: a provider always names the sub-merchant, a direct merchant never does.
fn receiver(
    merchant: &EnrolledMerchant,
    pointer: &str,
    sub_mchid: Option<&String>,
) -> Result<Option<String>, WechatRefusal> {
    if merchant.settings.is_provider() {
        return check_sub_merchant(&merchant.settings, pointer, sub_mchid).map(Some);
    }
    if sub_mchid.is_some() {
        let refusal = WechatRefusal::member(pointer, "a direct merchant has no sub-merchants");
        return Err(refusal.because(reason::UNKNOWN_MEMBER));
    }
    Ok(None)
}

fn is_refund_number(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-*@|".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn check_members(body: &RefundBody) -> Result<(), WechatRefusal> {
    let amount = &body.amount;
    let sources = amount.from.iter();
    let from_fen = sources.fold(0_i64, |sum, source| sum.saturating_add(source.amount));
    let known = |source: &RefundSource| {
        ["AVAILABLE", "UNAVAILABLE"].contains(&source.account.as_str()) && source.amount >= 1
    };
    let funds = body.funds_account.as_deref();
    let checks = [
        (
            "/out_trade_no",
            body.transaction_id.is_some() != body.out_trade_no.is_some(),
            "exactly one of transaction_id and out_trade_no",
        ),
        (
            "/out_refund_no",
            is_refund_number(&body.out_refund_no),
            "1 to 64 of letters, digits, _-*@|",
        ),
        (
            "/reason",
            body.reason.as_deref().is_none_or(|it| is_text(it, 80)),
            "at most 80 characters",
        ),
        (
            "/notify_url",
            body.notify_url
                .as_deref()
                .is_none_or(|it| is_notify_url(it, 256)),
            "https, at most 256 characters, no query string",
        ),
        (
            "/funds_account",
            funds.is_none_or(|it| ["AVAILABLE", "UNSETTLED"].contains(&it)),
            "AVAILABLE or UNSETTLED",
        ),
        ("/amount/refund", amount.refund >= 1, "at least 1"),
        ("/amount/total", amount.total >= 1, "at least 1"),
        ("/amount/currency", amount.currency == "CNY", "CNY"),
        (
            "/amount/from",
            amount.from.iter().all(known) && (amount.from.is_empty() || from_fen == amount.refund),
            "accounts AVAILABLE or UNAVAILABLE, together the refund's sum",
        ),
    ];
    for (pointer, right, issue) in checks {
        if !right {
            return Err(WechatRefusal::member(pointer, issue).because(reason::RANGE));
        }
    }
    Ok(())
}

pub(super) fn apply(
    shared: &Arc<WechatPayState>,
    merchant: &EnrolledMerchant,
    bytes: &[u8],
) -> WechatOutcome {
    let unreadable = |fault: serde_json::Error| WechatRefusal::unreadable(&fault);
    let body: RefundBody = serde_json::from_slice(bytes).map_err(unreadable)?;
    check_members(&body)?;
    let sub_mchid = receiver(merchant, "/sub_mchid", body.sub_mchid.as_ref())?;
    let asked = WechatRefundTerms {
        mchid: merchant.mchid().to_owned(),
        sub_mchid,
        out_trade_no: body.out_trade_no,
        transaction_id: body.transaction_id,
        out_refund_no: body.out_refund_no,
        refund_fen: body.amount.refund,
        total_fen: body.amount.total,
        notify_url: body.notify_url,
        funds_account: body.funds_account,
        body: serde_json::from_slice(bytes).map_err(unreadable)?,
    };
    let key = (asked.mchid.clone(), asked.out_refund_no.clone());
    let is_new = shared.book.look(|book| book.find_refund(&key).is_none());
    let moment = (shared.clock.now_s(), shared.clock.scaled_s(GAP_S));
    let id = format!("50{}", draw_digits(27));
    let taken = shared
        .book
        .change(|book| book.take_refund(asked, id, moment))
        .map_err(rejected)?;
    if is_new {
        succeed_later(shared, key);
    }
    shown(shared, &taken)
}

/// The refund succeeds by itself after a while, unless it was moved otherwise.
fn succeed_later(shared: &Arc<WechatPayState>, key: WechatKey) {
    let Some(refund_s) = shared.waits.refund_s else {
        return;
    };
    let mark = shared.clock.mark();
    let background = Arc::clone(shared);
    shared.spawn_background(async move {
        background.clock.wait_since(&mark, refund_s.into()).await;
        let state = |book: &WechatBook| Some(book.find_refund(&key)?.state);
        if background.book.look(state) == Some(WechatRefundState::Processing) {
            move_refund(&background, &key, WechatRefundState::Success);
        }
    });
}

/// Moves a refund on and notifies its end; whether it moved.
pub(super) fn move_refund(
    shared: &Arc<WechatPayState>,
    key: &WechatKey,
    next: WechatRefundState,
) -> bool {
    let now_s = shared.clock.now_s();
    let moved = shared
        .book
        .change(|book| book.move_refund(key, next, now_s));
    if moved && next != WechatRefundState::Processing {
        notify::refund(shared, key);
    }
    moved
}

fn rejected(rejection: WechatRefundRejection) -> WechatRefusal {
    use WechatErrorCode as Code;
    let invalid =
        |issue: &str| WechatRefusal::of(Code::InvalidRequest, reason::PARAMETER).saying(issue);
    match rejection {
        WechatRefundRejection::OrderUnknown => {
            WechatRefusal::of(Code::ResourceNotExists, reason::NO_SUCH_ORDER)
        }
        WechatRefundRejection::OrderOfAnother => {
            WechatRefusal::member("/sub_mchid", "not the order's")
                .because(reason::SUB_MCHID_OF_ANOTHER)
        }
        WechatRefundRejection::NotPaid => invalid("订单未支付"),
        WechatRefundRejection::OtherContent => {
            invalid("same out_refund_no with other data").because(reason::OTHER_CONTENT)
        }
        WechatRefundRejection::WrongTotal => invalid("amount.total is not the order's"),
        WechatRefundRejection::OverRemaining { left_fen } => {
            invalid(&format!("退款金额大于可退金额: {left_fen} left"))
        }
        WechatRefundRejection::TooMany => invalid("at most 50 refunds of one order"),
        WechatRefundRejection::TooLate => invalid("more than 365 days after the payment"),
        WechatRefundRejection::TooSoon => {
            WechatRefusal::of(Code::FrequencyLimited, reason::TOO_FREQUENT)
                .saying("one refund a minute of one order")
        }
    }
}

fn unknown() -> WechatRefusal {
    WechatRefusal::of(WechatErrorCode::ResourceNotExists, reason::NO_SUCH_ORDER)
}

pub(super) fn query(
    shared: &WechatPayState,
    merchant: &EnrolledMerchant,
    number: &str,
    request: &Request<Bytes>,
) -> WechatOutcome {
    let [sub_mchid] = parameters(request, ["sub_mchid"])?;
    let sub_mchid = receiver(merchant, "sub_mchid", sub_mchid.as_ref())?;
    let key = (merchant.mchid().to_owned(), number.to_owned());
    let found = shared.book.look(|book| book.find_refund(&key).cloned());
    let found = found.ok_or_else(unknown)?;
    let order = shared.book.look(|book| book.find(&found.order).cloned());
    if order.is_some_and(|order| order.terms.sub_mchid != sub_mchid) {
        let refusal = WechatRefusal::query("sub_mchid", "not the refund's");
        return Err(refusal.because(reason::SUB_MCHID_OF_ANOTHER));
    }
    shown(shared, &found)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AbnormalBody {
    sub_mchid: Option<String>,
    out_refund_no: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The money of an abnormal refund goes to the merchant's card. (To the payer's card needs members
/// encrypted for the platform, which this counterpart does not read.)
pub(super) fn apply_abnormal(
    shared: &Arc<WechatPayState>,
    merchant: &EnrolledMerchant,
    refund_id: &str,
    bytes: &[u8],
) -> WechatOutcome {
    let body: AbnormalBody =
        serde_json::from_slice(bytes).map_err(|fault| WechatRefusal::unreadable(&fault))?;
    receiver(merchant, "/sub_mchid", body.sub_mchid.as_ref())?;
    if body.kind != "MERCHANT_BANK_CARD" {
        return Err(WechatRefusal::member("/type", "MERCHANT_BANK_CARD"));
    }
    let key = (merchant.mchid().to_owned(), body.out_refund_no);
    let fits = |book: &WechatBook| {
        book.find_refund(&key)
            .is_some_and(|it| it.refund_id == refund_id)
    };
    if !shared.book.look(fits) {
        return Err(unknown());
    }
    if !move_refund(shared, &key, WechatRefundState::Processing) {
        let code = WechatErrorCode::InvalidRequest;
        return Err(WechatRefusal::of(code, reason::PARAMETER).saying("not abnormal"));
    }
    succeed_later(shared, key.clone());
    let found = shared.book.look(|book| book.find_refund(&key).cloned());
    shown(shared, &found.ok_or_else(unknown)?)
}

fn shown(shared: &WechatPayState, refund: &WechatRefund) -> WechatOutcome {
    let order = shared.book.look(|book| book.find(&refund.order).cloned());
    let order = order.ok_or_else(unknown)?;
    Ok(WechatAnswer::Json(applied(refund, &order)))
}

/// What of a refund the payer gets, when coupons paid a part. Unit: fen.
fn payer_refund_fen(refund: &WechatRefund, order: &WechatOrder) -> i64 {
    let paid = order.transaction.as_ref().map(|paid| paid.payer_total_fen);
    let share = paid.and_then(|paid| {
        let whole = refund.refund_fen.checked_mul(paid)?;
        whole.checked_div(order.terms.total_fen)
    });
    share.unwrap_or(refund.refund_fen)
}

fn payer_total_fen(order: &WechatOrder) -> i64 {
    let paid = order.transaction.as_ref();
    paid.map_or(order.terms.total_fen, |paid| paid.payer_total_fen)
}

fn transaction_id(order: &WechatOrder) -> &str {
    let paid = order.transaction.as_ref();
    paid.map_or("", |paid| paid.transaction_id.as_str())
}

/// The answer to apply and query.
fn applied(refund: &WechatRefund, order: &WechatOrder) -> Value {
    let payer_fen = payer_refund_fen(refund, order);
    let mut shown = json!({
        "refund_id": refund.refund_id,
        "out_refund_no": refund.out_refund_no,
        "transaction_id": transaction_id(order),
        "out_trade_no": order.terms.out_trade_no,
        "channel": "ORIGINAL",
        "user_received_account": "支付用户零钱",
        "create_time": rfc_3339(refund.created_s),
        "status": refund.state.word(),
        "funds_account": refund.funds_account.as_deref().unwrap_or("UNSETTLED"),
        "amount": {
            "total": order.terms.total_fen,
            "refund": refund.refund_fen,
            "payer_total": payer_total_fen(order),
            "payer_refund": payer_fen,
            "settlement_refund": payer_fen,
            "settlement_total": payer_total_fen(order),
            "discount_refund": refund.refund_fen.saturating_sub(payer_fen),
            "currency": "CNY",
        },
        "promotion_detail": [],
    });
    if let (Some(success_s), Some(members)) = (refund.success_s, shown.as_object_mut()) {
        members.insert("success_time".to_owned(), rfc_3339(success_s).into());
    }
    shown
}

/// What the notification of a refund's end carries.
pub(super) fn notified(refund: &WechatRefund, order: &WechatOrder) -> Value {
    let mut shown = json!({
        "out_trade_no": order.terms.out_trade_no,
        "transaction_id": transaction_id(order),
        "out_refund_no": refund.out_refund_no,
        "refund_id": refund.refund_id,
        "refund_status": refund.state.word(),
        "user_received_account": "支付用户零钱",
        "amount": {
            "total": order.terms.total_fen,
            "refund": refund.refund_fen,
            "payer_total": payer_total_fen(order),
            "payer_refund": payer_refund_fen(refund, order),
        },
    });
    if let Some(members) = shown.as_object_mut() {
        let signer = order.terms.mchid.clone();
        match &order.terms.sub_mchid {
            None => members.insert("mchid".to_owned(), signer.into()),
            Some(sub_mchid) => {
                members.insert("sub_mchid".to_owned(), sub_mchid.clone().into());
                members.insert("sp_mchid".to_owned(), signer.into())
            }
        };
        if let Some(success_s) = refund.success_s {
            members.insert("success_time".to_owned(), rfc_3339(success_s).into());
        }
    }
    shown
}
