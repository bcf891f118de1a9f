//! Whose a prepay request is: the merchant or the provider and its sub-merchant, their apps, and
//! the payer under one of them. A member of the other contract's request is refused.

use crate::sandbox::wechatpay::merchants::WechatMerchant;
use crate::sandbox::wechatpay::prepay::{PrepayBody, PrepayPayer, WechatProduct};
use crate::sandbox::wechatpay::refusal::{WechatErrorCode, WechatRefusal, reason};

/// Who the order's parties are, and the payer.
pub(super) struct PrepayParties {
    pub(super) appid: String,
    pub(super) sub_mchid: Option<String>,
    pub(super) sub_appid: Option<String>,
    pub(super) openid: Option<String>,
    pub(super) openid_is_sub: bool,
}

pub(super) fn unknown_member(pointer: &str) -> WechatRefusal {
    WechatRefusal::member(pointer, "not a member of this request").because(reason::UNKNOWN_MEMBER)
}

fn required<'a>(pointer: &str, value: Option<&'a String>) -> Result<&'a String, WechatRefusal> {
    value
        .filter(|value| !value.is_empty() && value.len() <= 32)
        .ok_or_else(|| WechatRefusal::member(pointer, "required, at most 32 characters"))
}

/// Members that belong to the other contract's request.
fn none_of(members: &[(&str, Option<&String>)]) -> Result<(), WechatRefusal> {
    let foreign = members.iter().find(|(_, value)| value.is_some());
    foreign.map_or(Ok(()), |(pointer, _)| Err(unknown_member(pointer)))
}

pub(in crate::sandbox::wechatpay) fn not_this_contract() -> WechatRefusal {
    WechatRefusal::of(WechatErrorCode::NoAuth, reason::PARAMETER)
        .saying("a direct merchant calls /v3/pay/transactions, a provider /v3/pay/partner")
}

/// The number in the data must be the one that signed.
pub(in crate::sandbox::wechatpay) fn check_signer(
    caller: &WechatMerchant,
    pointer: &str,
    given: Option<&String>,
) -> Result<(), WechatRefusal> {
    let given = required(pointer, given)?;
    if *given == caller.mchid {
        return Ok(());
    }
    let issue = "not the merchant in the Authorization header";
    Err(WechatRefusal::member(pointer, issue).because(reason::MCHID_OF_ANOTHER))
}

/// A provider's related sub-merchant.
pub(in crate::sandbox::wechatpay) fn check_sub_merchant(
    caller: &WechatMerchant,
    pointer: &str,
    given: Option<&String>,
) -> Result<String, WechatRefusal> {
    let given = required(pointer, given).map_err(|it| it.because(reason::SUB_MCHID_MISSING))?;
    if *given == caller.mchid {
        let issue = "the provider itself";
        return Err(WechatRefusal::member(pointer, issue).because(reason::SUB_MCHID_IS_PROVIDER));
    }
    if caller.sub_merchant(given).is_some() {
        return Ok(given.clone());
    }
    Err(
        WechatRefusal::of(WechatErrorCode::NoAuth, reason::SUB_MCHID_UNRELATED)
            .saying("not a sub-merchant of this provider"),
    )
}

fn check_app(apps: &[String], appid: &str) -> Result<(), WechatRefusal> {
    if apps.iter().any(|known| known == appid) {
        return Ok(());
    }
    let code = WechatErrorCode::AppidMchidNotMatch;
    Err(WechatRefusal::of(code, reason::APP_OF_ANOTHER).saying("not bound to this merchant"))
}

pub(super) fn direct_parties(
    caller: &WechatMerchant,
    product: WechatProduct,
    body: &PrepayBody,
) -> Result<PrepayParties, WechatRefusal> {
    none_of(&[
        ("/sp_appid", body.sp_appid.as_ref()),
        ("/sp_mchid", body.sp_mchid.as_ref()),
        ("/sub_appid", body.sub_appid.as_ref()),
        ("/sub_mchid", body.sub_mchid.as_ref()),
    ])?;
    let appid = required("/appid", body.appid.as_ref())?;
    check_signer(caller, "/mchid", body.mchid.as_ref())?;
    if caller.is_provider() {
        return Err(not_this_contract());
    }
    check_app(&caller.apps, appid)?;
    let openid = match payer(product, body)? {
        None => None,
        Some(payer) => {
            none_of(&[
                ("/payer/sp_openid", payer.sp_openid.as_ref()),
                ("/payer/sub_openid", payer.sub_openid.as_ref()),
            ])?;
            Some(openid("/payer/openid", payer.openid.as_ref())?)
        }
    };
    Ok(PrepayParties {
        appid: appid.clone(),
        sub_mchid: None,
        sub_appid: None,
        openid,
        openid_is_sub: false,
    })
}

pub(super) fn partner_parties(
    caller: &WechatMerchant,
    product: WechatProduct,
    body: &PrepayBody,
) -> Result<PrepayParties, WechatRefusal> {
    none_of(&[
        ("/appid", body.appid.as_ref()),
        ("/mchid", body.mchid.as_ref()),
    ])?;
    let appid = required("/sp_appid", body.sp_appid.as_ref())?;
    check_signer(caller, "/sp_mchid", body.sp_mchid.as_ref())?;
    if !caller.is_provider() {
        return Err(not_this_contract());
    }
    let sub_mchid = check_sub_merchant(caller, "/sub_mchid", body.sub_mchid.as_ref())?;
    check_app(&caller.apps, appid)?;
    if let Some(sub_appid) = &body.sub_appid {
        let sub = caller.sub_merchant(&sub_mchid);
        check_app(sub.map_or(&[], |sub| sub.apps.as_slice()), sub_appid)?;
    }
    let (openid, openid_is_sub) = match payer(product, body)? {
        None => (None, false),
        Some(payer) => partner_openid(payer, body.sub_appid.is_some())?,
    };
    Ok(PrepayParties {
        appid: appid.clone(),
        sub_mchid: Some(sub_mchid),
        sub_appid: body.sub_appid.clone(),
        openid,
        openid_is_sub,
    })
}

/// The payer of a JSAPI order; other orders have none.
fn payer(product: WechatProduct, body: &PrepayBody) -> Result<Option<&PrepayPayer>, WechatRefusal> {
    match (product, &body.payer) {
        (WechatProduct::Jsapi, Some(payer)) => Ok(Some(payer)),
        (WechatProduct::Jsapi, None) => {
            let refusal = WechatRefusal::member("/payer", "required for a JSAPI order");
            Err(refusal.because(reason::OPENID_MISSING))
        }
        (WechatProduct::App | WechatProduct::H5 | WechatProduct::Native, None) => Ok(None),
        (WechatProduct::App | WechatProduct::H5 | WechatProduct::Native, Some(_)) => {
            Err(unknown_member("/payer"))
        }
    }
}

fn partner_openid(
    payer: &PrepayPayer,
    has_sub_app: bool,
) -> Result<(Option<String>, bool), WechatRefusal> {
    none_of(&[("/payer/openid", payer.openid.as_ref())])?;
    match (&payer.sp_openid, &payer.sub_openid) {
        (Some(_), Some(_)) => Err(WechatRefusal::member("/payer", "one of the two openids")),
        (sp, None) => Ok((Some(openid("/payer/sp_openid", sp.as_ref())?), false)),
        (None, sub) if has_sub_app => Ok((Some(openid("/payer/sub_openid", sub.as_ref())?), true)),
        (None, Some(_)) => {
            let issue = "an openid of sub_appid, which is not sent";
            Err(WechatRefusal::member("/payer/sub_openid", issue))
        }
    }
}

fn openid(pointer: &str, value: Option<&String>) -> Result<String, WechatRefusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    value
        .filter(|it| (1..=128).contains(&it.len()) && it.bytes().all(allowed))
        .cloned()
        .ok_or_else(|| {
            WechatRefusal::member(pointer, "required, at most 128 characters")
                .because(reason::OPENID_MISSING)
        })
}
