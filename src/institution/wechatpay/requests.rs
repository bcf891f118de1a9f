//! The requests of this dialect: paths and bodies. Nothing of the stamp is in them: equal calls have
//! equal bytes (A3, R4).

use serde::Serialize;

use crate::domain::amount::{Amount, CNY};
use crate::domain::attempt::Attempt;
use crate::domain::institutions::AccountRole;
use crate::domain::order::OrderTerms;
use crate::domain::personal::payer_context::{PayerAppId, PayerDevice};
use crate::domain::refund::{Refund, RefundOrigin};
use crate::institution::wechatpay::accounts::WechatAccount;
use crate::institution::wechatpay::settings::SUB_APPID;
use crate::institution::{Call, SettingValues, Unmade};

/// The longest description of a payment and reason of a refund. Unit: characters.
const DESCRIPTION_CHARS_MAX: usize = 127;
const REASON_CHARS_MAX: usize = 80;

/// A request before it is signed.
pub(super) struct WechatRequest {
    pub(super) method: &'static str,
    /// Path and query.
    pub(super) target: String,
    /// Empty for a GET.
    pub(super) body: Vec<u8>,
}

/// The four products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PrepayProduct {
    Jsapi,
    H5,
    Native,
    App,
}

impl PrepayProduct {
    /// The product of an attempt.
    pub(super) fn of(attempt: &Attempt) -> Option<Self> {
        match attempt.product.as_str() {
            "JSAPI" => Some(Self::Jsapi),
            "H5" => Some(Self::H5),
            "NATIVE" => Some(Self::Native),
            "APP" => Some(Self::App),
            _ => None,
        }
    }

    /// The last part of its path.
    fn path(self) -> &'static str {
        match self {
            Self::Jsapi => "jsapi",
            Self::H5 => "h5",
            Self::Native => "native",
            Self::App => "app",
        }
    }
}

/// Who asks and who receives.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum PrepayPartyFields<'a> {
    Direct {
        appid: &'a str,
        mchid: &'a str,
    },
    Partner {
        sp_appid: &'a str,
        sp_mchid: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        sub_appid: Option<&'a str>,
        sub_mchid: &'a str,
    },
}

#[derive(Serialize)]
pub(super) struct PrepayFields<'a> {
    #[serde(flatten)]
    pub(super) parties: PrepayPartyFields<'a>,
    pub(super) description: String,
    pub(super) out_trade_no: &'a str,
    pub(super) time_expire: String,
    pub(super) notify_url: &'a str,
    pub(super) amount: PrepayAmountFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payer: Option<PrepayPayerFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scene_info: Option<PrepaySceneFields>,
}

/// Fen, as an integer.
#[derive(Serialize)]
pub(super) struct PrepayAmountFields {
    pub(super) total: i64,
    pub(super) currency: &'static str,
}

/// The payer's id, under the name that says in whose application.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PrepayPayerFields<'a> {
    Openid(&'a str),
    SpOpenid(&'a str),
    SubOpenid(&'a str),
}

#[derive(Serialize)]
pub(super) struct PrepaySceneFields {
    pub(super) payer_client_ip: String,
    pub(super) h5_info: PrepayH5Fields,
}

#[derive(Serialize)]
pub(super) struct PrepayH5Fields {
    #[serde(rename = "type")]
    pub(super) device: &'static str,
}

#[derive(Serialize)]
pub(super) struct WechatRefundFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub_mchid: Option<&'a str>,
    pub(super) out_trade_no: &'a str,
    pub(super) out_refund_no: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    pub(super) notify_url: &'a str,
    pub(super) amount: WechatRefundAmount,
}

/// Fen, as integers.
#[derive(Serialize)]
pub(super) struct WechatRefundAmount {
    pub(super) refund: i64,
    pub(super) total: i64,
    pub(super) currency: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WechatCloseFields<'a> {
    Direct {
        mchid: &'a str,
    },
    Partner {
        sp_mchid: &'a str,
        sub_mchid: &'a str,
    },
}

/// Creates a payment.
///
/// # Errors
/// Its product is not one of ours, its currency is not the platform's, or what the product has to be
/// told of the payer is missing.
pub(super) fn prepay(call: &Call<'_>, account: &WechatAccount) -> Result<WechatRequest, Unmade> {
    let attempt = call.attempt;
    let product = PrepayProduct::of(attempt).ok_or(Unmade::Malformed)?;
    let fields = PrepayFields {
        parties: parties(call, account, product)?,
        description: description(call.terms),
        out_trade_no: attempt.id.as_str(),
        // Stored with the intent: another one in a repeat would be refused.
        time_expire: attempt.pay_by.rfc3339(),
        notify_url: &account.callback_url,
        amount: PrepayAmountFields {
            total: fen(attempt.amount)?,
            currency: CNY.code(),
        },
        payer: match product {
            PrepayProduct::Jsapi => Some(payer(attempt, account)?),
            PrepayProduct::H5 | PrepayProduct::Native | PrepayProduct::App => None,
        },
        scene_info: match product {
            PrepayProduct::H5 => Some(scene(attempt)?),
            PrepayProduct::Jsapi | PrepayProduct::Native | PrepayProduct::App => None,
        },
    };
    let target = format!("{}/{}", payments(account), product.path());
    post(target, &fields)
}

/// Queries a payment by our number.
pub(super) fn query(attempt: &Attempt, account: &WechatAccount) -> WechatRequest {
    let mchid = &account.mchid;
    let whose = match account.role {
        AccountRole::Direct => format!("mchid={mchid}"),
        AccountRole::Provider => format!("sp_mchid={mchid}&sub_mchid={}", attempt.receiver),
    };
    let path = payments(account);
    get(format!("{path}/out-trade-no/{}?{whose}", attempt.id))
}

/// Closes a payment.
///
/// # Errors
/// None in practice: the fields are text.
pub(super) fn close(attempt: &Attempt, account: &WechatAccount) -> Result<WechatRequest, Unmade> {
    let mchid = account.mchid.as_str();
    let fields = match account.role {
        AccountRole::Direct => WechatCloseFields::Direct { mchid },
        AccountRole::Provider => WechatCloseFields::Partner {
            sp_mchid: mchid,
            sub_mchid: attempt.receiver.as_str(),
        },
    };
    let path = payments(account);
    post(format!("{path}/out-trade-no/{}/close", attempt.id), &fields)
}

/// Refunds a part of a payment, or all of it.
///
/// # Errors
/// Its currency is not the platform's.
pub(super) fn refund(
    refund: &Refund,
    attempt: &Attempt,
    account: &WechatAccount,
) -> Result<WechatRequest, Unmade> {
    let reason = match &refund.why {
        RefundOrigin::Asked(details) => details.reason.as_deref(),
        RefundOrigin::Excess(_) => None,
    };
    let fields = WechatRefundFields {
        sub_mchid: sub_mchid(attempt, account),
        out_trade_no: attempt.id.as_str(),
        out_refund_no: refund.no.as_str(),
        reason: reason.map(|text| cut(text, REASON_CHARS_MAX)),
        notify_url: &account.callback_url,
        amount: WechatRefundAmount {
            refund: fen(refund.amount)?,
            total: fen(attempt.amount)?,
            currency: CNY.code(),
        },
    };
    post(REFUNDS.to_owned(), &fields)
}

/// Queries a refund by our number.
pub(super) fn refund_query(
    refund: &Refund,
    attempt: &Attempt,
    account: &WechatAccount,
) -> WechatRequest {
    let whose = sub_mchid(attempt, account).map(|number| format!("?sub_mchid={number}"));
    get(format!(
        "{REFUNDS}/{}{}",
        refund.no,
        whose.unwrap_or_default()
    ))
}

/// The application that a payment starts in, and whose it is.
pub(super) fn client_app<'a>(
    call: &Call<'a>,
    account: &'a WechatAccount,
    product: PrepayProduct,
) -> Result<&'a PayerAppId, Unmade> {
    match sub_app(call, account, product) {
        Some(sub) => Ok(sub),
        None => own_app(call, account, product),
    }
}

/// The application of the sub-merchant that a payment starts in; `None` if it starts in ours. One
/// that only has to be shown a page or a code starts in none, and takes ours.
fn sub_app<'a>(
    call: &Call<'a>,
    account: &WechatAccount,
    product: PrepayProduct,
) -> Option<&'a PayerAppId> {
    if account.role == AccountRole::Direct {
        return None;
    }
    match product {
        PrepayProduct::Jsapi => {
            let identity = call.attempt.payer.identity.as_ref()?;
            (!account.has_app(identity.app.as_str())).then_some(&identity.app)
        }
        PrepayProduct::App => call.sub_merchant.and_then(own_app_of_sub),
        PrepayProduct::H5 | PrepayProduct::Native => None,
    }
}

fn own_app_of_sub(sub: &SettingValues) -> Option<&PayerAppId> {
    sub.app(SUB_APPID)
}

fn own_app<'a>(
    call: &Call<'a>,
    account: &'a WechatAccount,
    product: PrepayProduct,
) -> Result<&'a PayerAppId, Unmade> {
    let of_payer = match product {
        PrepayProduct::Jsapi => account.payer_app(call.attempt),
        PrepayProduct::H5 | PrepayProduct::Native | PrepayProduct::App => None,
    };
    let configured = || account.app_for(call.attempt.product.as_str());
    of_payer.or_else(configured).ok_or(Unmade::Malformed)
}

fn parties<'a>(
    call: &Call<'a>,
    account: &'a WechatAccount,
    product: PrepayProduct,
) -> Result<PrepayPartyFields<'a>, Unmade> {
    let own = own_app(call, account, product)?.as_str();
    let mchid = account.mchid.as_str();
    Ok(match account.role {
        AccountRole::Direct => PrepayPartyFields::Direct { appid: own, mchid },
        AccountRole::Provider => PrepayPartyFields::Partner {
            sp_appid: own,
            sp_mchid: mchid,
            sub_appid: sub_app(call, account, product).map(PayerAppId::as_str),
            sub_mchid: call.attempt.receiver.as_str(),
        },
    })
}

fn payer<'a>(
    attempt: &'a Attempt,
    account: &WechatAccount,
) -> Result<PrepayPayerFields<'a>, Unmade> {
    let identity = attempt.payer.identity.as_ref().ok_or(Unmade::Malformed)?;
    let id = identity.open_id.expose();
    match (account.role, account.has_app(identity.app.as_str())) {
        (AccountRole::Direct, true) => Ok(PrepayPayerFields::Openid(id)),
        // An id means nothing in another application than its own.
        (AccountRole::Direct, false) => Err(Unmade::Malformed),
        (AccountRole::Provider, true) => Ok(PrepayPayerFields::SpOpenid(id)),
        (AccountRole::Provider, false) => Ok(PrepayPayerFields::SubOpenid(id)),
    }
}

fn scene(attempt: &Attempt) -> Result<PrepaySceneFields, Unmade> {
    let (ip, device) = (attempt.payer.ip, attempt.payer.device);
    let (Some(ip), Some(device)) = (ip, device) else {
        return Err(Unmade::Malformed);
    };
    Ok(PrepaySceneFields {
        payer_client_ip: ip.expose(),
        h5_info: PrepayH5Fields {
            device: match device {
                PayerDevice::Ios => "iOS",
                PayerDevice::Android => "Android",
                PayerDevice::Desktop | PayerDevice::Other => "Wap",
            },
        },
    })
}

fn description(terms: &OrderTerms) -> String {
    let text = terms.goods_name.as_deref().unwrap_or(&terms.merchant_name);
    cut(text, DESCRIPTION_CHARS_MAX)
}

/// The first characters of a text: the same at each repeat (A3).
fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

/// The minor unit of its only currency (M5).
fn fen(amount: Amount) -> Result<i64, Unmade> {
    (amount.currency() == CNY)
        .then(|| amount.minor())
        .ok_or(Unmade::Malformed)
}

fn sub_mchid<'a>(attempt: &'a Attempt, account: &WechatAccount) -> Option<&'a str> {
    (account.role == AccountRole::Provider).then(|| attempt.receiver.as_str())
}

const REFUNDS: &str = "/v3/refund/domestic/refunds";

fn payments(account: &WechatAccount) -> &'static str {
    match account.role {
        AccountRole::Direct => "/v3/pay/transactions",
        AccountRole::Provider => "/v3/pay/partner/transactions",
    }
}

fn get(target: String) -> WechatRequest {
    WechatRequest {
        method: "GET",
        target,
        body: Vec::new(),
    }
}

fn post(target: String, fields: &impl Serialize) -> Result<WechatRequest, Unmade> {
    Ok(WechatRequest {
        method: "POST",
        target,
        body: serde_json::to_vec(fields).map_err(|_| Unmade::Malformed)?,
    })
}
