//! Prepay, query and close (sections 7, 9, 10 and 24), and the transaction as query and
//! notification show it.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sandbox::wechatpay::api::{WechatAnswer, WechatOutcome, parameters, percent_encoded};
use crate::sandbox::wechatpay::book::{OrderRejection, WechatOrder};
use crate::sandbox::wechatpay::drawing::{draw_hex, draw_letters};
use crate::sandbox::wechatpay::merchants::EnrolledMerchant;
use crate::sandbox::wechatpay::prepay::{
    self, ContractRole, WechatOrderTerms, WechatProduct, check_signer, check_sub_merchant,
    not_this_contract,
};
use crate::sandbox::wechatpay::refusal::{WechatErrorCode, WechatRefusal, reason};
use crate::sandbox::wechatpay::time::{compact, rfc_3339};
use crate::sandbox::wechatpay::{WechatHost, WechatPayState, payer};

/// Digits of a `transaction_id` at most.
const TRANSACTION_CHARS_MAX: usize = 32;

pub(super) async fn prepay(
    shared: &Arc<WechatPayState>,
    host: WechatHost,
    merchant: &EnrolledMerchant,
    (product, role): (WechatProduct, ContractRole),
    body: &[u8],
) -> WechatOutcome {
    let terms = prepay::read(&merchant.settings, (product, role), body)?;
    let now_s = shared.clock.now_s();
    let value = match product {
        WechatProduct::Native => draw_letters(9),
        WechatProduct::Jsapi | WechatProduct::App | WechatProduct::H5 => {
            format!("wx{}{}", compact(now_s), draw_hex(20))
        }
    };
    shared
        .book
        .change(|book| book.place(&terms, &value, now_s))
        .map_err(rejected)?;
    if shared.faults.take_before_answer() {
        payer::pay_before_answer(shared, &value).await;
    }
    Ok(WechatAnswer::Json(handed_out(shared, host, &terms, &value)))
}

fn handed_out(
    shared: &WechatPayState,
    host: WechatHost,
    terms: &WechatOrderTerms,
    value: &str,
) -> Value {
    match terms.product {
        WechatProduct::Jsapi | WechatProduct::App => json!({ "prepay_id": value }),
        WechatProduct::Native => {
            json!({ "code_url": format!("{}{value}", payer::CODE_PREFIX) })
        }
        WechatProduct::H5 => {
            let path = payer::PAGE_PATH;
            let package = percent_encoded(&terms.out_trade_no);
            let origin = shared.origin(host);
            json!({ "h5_url": format!("{origin}{path}?prepay_id={value}&package={package}") })
        }
    }
}

fn rejected(rejection: OrderRejection) -> WechatRefusal {
    use WechatErrorCode as Code;
    match rejection {
        OrderRejection::OtherContent => {
            WechatRefusal::of(Code::InvalidRequest, reason::OTHER_CONTENT)
                .saying("请求重入时，参数与首次请求时不一致")
        }
        OrderRejection::Paid => WechatRefusal::of(Code::OrderPaid, reason::PAID),
        OrderRejection::Closed => WechatRefusal::of(Code::OrderClosed, reason::EXPIRED_OR_CLOSED),
        OrderRejection::Expired => WechatRefusal::of(Code::OrderClosed, reason::EXPIRED_OR_CLOSED)
            .saying("past time_expire"),
        OrderRejection::Unknown => unknown(),
    }
}

fn unknown() -> WechatRefusal {
    WechatRefusal::of(WechatErrorCode::OrderNotExist, reason::NO_SUCH_ORDER)
}

/// The numbers in a query's address: the signer's, and of a provider its sub-merchant's.
fn named(
    merchant: &EnrolledMerchant,
    role: ContractRole,
    request: &Request<Bytes>,
) -> Result<Option<String>, WechatRefusal> {
    let caller = &merchant.settings;
    match role {
        ContractRole::Direct => {
            let [mchid] = parameters(request, ["mchid"])?;
            check_signer(caller, "mchid", mchid.as_ref())?;
            if caller.is_provider() {
                return Err(not_this_contract());
            }
            Ok(None)
        }
        ContractRole::Partner => {
            let [sp_mchid, sub_mchid] = parameters(request, ["sp_mchid", "sub_mchid"])?;
            check_signer(caller, "sp_mchid", sp_mchid.as_ref())?;
            if !caller.is_provider() {
                return Err(not_this_contract());
            }
            check_sub_merchant(caller, "sub_mchid", sub_mchid.as_ref()).map(Some)
        }
    }
}

pub(super) fn by_number(
    shared: &WechatPayState,
    merchant: &EnrolledMerchant,
    (number, role): (&str, ContractRole),
    request: &Request<Bytes>,
) -> WechatOutcome {
    let sub_mchid = named(merchant, role, request)?;
    let key = (merchant.mchid().to_owned(), number.to_owned());
    let found = shared.book.look(|book| book.find(&key).cloned());
    shown(shared, found, sub_mchid.as_ref())
}

pub(super) fn by_transaction(
    shared: &WechatPayState,
    merchant: &EnrolledMerchant,
    (id, role): (&str, ContractRole),
    request: &Request<Bytes>,
) -> WechatOutcome {
    let sub_mchid = named(merchant, role, request)?;
    if id.len() > TRANSACTION_CHARS_MAX || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        let code = WechatErrorCode::InvalidTransactionId;
        return Err(WechatRefusal::of(code, reason::PARAMETER));
    }
    let mchid = merchant.mchid();
    let found = shared
        .book
        .look(|book| book.by_transaction(mchid, id).cloned());
    shown(shared, found, sub_mchid.as_ref())
}

fn shown(
    shared: &WechatPayState,
    found: Option<WechatOrder>,
    sub_mchid: Option<&String>,
) -> WechatOutcome {
    let order = found.ok_or_else(unknown)?;
    check_receiver(&order, sub_mchid)?;
    let key = order.terms.key();
    shared.book.change(|book| book.count_query(&key));
    Ok(WechatAnswer::Json(transaction(&order)))
}

fn check_receiver(order: &WechatOrder, sub_mchid: Option<&String>) -> Result<(), WechatRefusal> {
    if order.terms.sub_mchid.as_ref() == sub_mchid {
        return Ok(());
    }
    let refusal = WechatRefusal::query("sub_mchid", "not the order's");
    Err(refusal.because(reason::SUB_MCHID_OF_ANOTHER))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseBody {
    mchid: Option<String>,
    sp_mchid: Option<String>,
    sub_mchid: Option<String>,
}

pub(super) fn close(
    shared: &WechatPayState,
    merchant: &EnrolledMerchant,
    (number, role): (&str, ContractRole),
    body: &[u8],
) -> WechatOutcome {
    let body: CloseBody =
        serde_json::from_slice(body).map_err(|fault| WechatRefusal::unreadable(&fault))?;
    let caller = &merchant.settings;
    let foreign = |pointer: &str, value: &Option<String>| match value {
        Some(_) => Err(
            WechatRefusal::member(pointer, "not a member of this request")
                .because(reason::UNKNOWN_MEMBER),
        ),
        None => Ok(()),
    };
    let sub_mchid = match role {
        ContractRole::Direct => {
            foreign("/sp_mchid", &body.sp_mchid)?;
            foreign("/sub_mchid", &body.sub_mchid)?;
            check_signer(caller, "/mchid", body.mchid.as_ref())?;
            None
        }
        ContractRole::Partner => {
            foreign("/mchid", &body.mchid)?;
            check_signer(caller, "/sp_mchid", body.sp_mchid.as_ref())?;
            Some(check_sub_merchant(
                caller,
                "/sub_mchid",
                body.sub_mchid.as_ref(),
            )?)
        }
    };
    if caller.is_provider() != (role == ContractRole::Partner) {
        return Err(not_this_contract());
    }
    let key = (merchant.mchid().to_owned(), number.to_owned());
    let found = shared.book.look(|book| book.find(&key).cloned());
    if let Some(order) = found {
        check_receiver(&order, sub_mchid.as_ref())?;
    }
    match shared.book.change(|book| book.close(&key)) {
        // An unknown number is answered like a known one: 204 is no proof that there is an order.
        Ok(()) | Err(OrderRejection::Unknown) => Ok(WechatAnswer::Nothing),
        Err(rejection) => Err(rejected(rejection)),
    }
}

/// The transaction, as a query shows it and a notification carries it.
pub(super) fn transaction(order: &WechatOrder) -> Value {
    let terms = &order.terms;
    let mut shown = json!({
        "out_trade_no": terms.out_trade_no,
        "trade_type": terms.product.trade_type(),
        "trade_state": order.state.word(),
        "trade_state_desc": order.state.description(),
        "amount": { "total": terms.total_fen, "currency": "CNY" },
    });
    let mut add = |name: &str, value: Value| {
        if let Some(members) = shown.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    match &terms.sub_mchid {
        None => {
            add("mchid", json!(terms.mchid));
            add("appid", json!(terms.appid));
        }
        Some(sub_mchid) => {
            add("sp_mchid", json!(terms.mchid));
            add("sp_appid", json!(terms.appid));
            add("sub_mchid", json!(sub_mchid));
            if let Some(sub_appid) = &terms.sub_appid {
                add("sub_appid", json!(sub_appid));
            }
        }
    }
    let Some(paid) = &order.transaction else {
        return shown;
    };
    add("transaction_id", json!(paid.transaction_id));
    add("success_time", json!(rfc_3339(paid.success_s)));
    add("bank_type", json!("OTHERS"));
    add("attach", json!(terms.attach.as_deref().unwrap_or_default()));
    let payer = match (&terms.sub_mchid, terms.openid_is_sub) {
        (None, _) => json!({ "openid": paid.openid }),
        (Some(_), false) => json!({ "sp_openid": paid.openid }),
        (Some(_), true) => json!({ "sub_openid": paid.openid }),
    };
    add("payer", payer);
    let amount = json!({
        "total": terms.total_fen,
        "payer_total": paid.payer_total_fen,
        "currency": "CNY",
        "payer_currency": "CNY",
    });
    add("amount", amount);
    let coupon_fen = terms.total_fen.saturating_sub(paid.payer_total_fen);
    if coupon_fen > 0 {
        let coupon = json!({
            "coupon_id": "109519", "name": "单品惠-6", "scope": "GLOBAL", "type": "CASH",
            "amount": coupon_fen, "stock_id": "931386", "wechatpay_contribute": coupon_fen,
            "merchant_contribute": 0, "other_contribute": 0, "currency": "CNY",
        });
        add("promotion_detail", json!([coupon]));
    }
    shown
}
