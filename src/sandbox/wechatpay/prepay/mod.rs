//! Reads a prepay request: every member's name, type, limit and alphabet, whose ids they are, and
//! nothing that the protocol does not list (sections 7 and 24.3).

mod parties;

pub(in crate::sandbox::wechatpay) use parties::{
    check_signer, check_sub_merchant, not_this_contract,
};

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::sandbox::wechatpay::merchants::WechatMerchant;
use crate::sandbox::wechatpay::prepay::parties::{direct_parties, partner_parties, unknown_member};
use crate::sandbox::wechatpay::refusal::{WechatRefusal, reason};
use crate::sandbox::wechatpay::time::read_moment;

/// How the payer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WechatProduct {
    /// Inside WeChat: an official account's page or a mini-program.
    Jsapi,
    /// A merchant's own app.
    App,
    /// A mobile browser outside WeChat.
    H5,
    /// The payer scans a QR code.
    Native,
}

impl WechatProduct {
    /// The last segment of the path.
    pub(in crate::sandbox::wechatpay) fn from_path(word: &str) -> Option<Self> {
        match word {
            "jsapi" => Some(Self::Jsapi),
            "app" => Some(Self::App),
            "h5" => Some(Self::H5),
            "native" => Some(Self::Native),
            _ => None,
        }
    }

    /// The word in `trade_type`.
    pub fn trade_type(self) -> &'static str {
        match self {
            Self::Jsapi => "JSAPI",
            Self::App => "APP",
            Self::H5 => "MWEB",
            Self::Native => "NATIVE",
        }
    }
}

/// Whose interface a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox::wechatpay) enum ContractRole {
    Direct,
    Partner,
}

/// A checked prepay request.
#[derive(Clone, PartialEq, Eq)]
pub struct WechatOrderTerms {
    /// How the payer pays.
    pub product: WechatProduct,
    /// Who signed: the merchant, or the provider.
    pub mchid: String,
    /// The app of `mchid`.
    pub appid: String,
    /// A provider's sub-merchant, which receives the money.
    pub sub_mchid: Option<String>,
    /// The sub-merchant's app, if one is used.
    pub sub_appid: Option<String>,
    /// The merchant's number.
    pub out_trade_no: String,
    /// What the payer sees.
    pub description: String,
    /// Echoed once the order is paid.
    pub attach: Option<String>,
    /// Where the payment is notified.
    pub notify_url: String,
    /// The last moment for payment, as sent.
    pub time_expire: Option<String>,
    /// The sum. Unit: fen.
    pub total_fen: i64,
    /// The payer under `appid` or, of a provider, under `sub_appid`.
    pub openid: Option<String>,
    /// Whether `openid` is one of `sub_appid`.
    pub(in crate::sandbox::wechatpay) openid_is_sub: bool,
    /// The whole request: a repeat must be equal.
    pub(in crate::sandbox::wechatpay) body: Value,
}

impl WechatOrderTerms {
    /// Its key in the books: numbers are unique under the signer.
    pub(in crate::sandbox::wechatpay) fn key(&self) -> (String, String) {
        (self.mchid.clone(), self.out_trade_no.clone())
    }

    /// The last moment for payment. Earlier than in a minute is raised, too late is cut, both in
    /// silence. Unit: Unix seconds.
    pub(in crate::sandbox::wechatpay) fn payable_until_s(&self, now_s: i64) -> i64 {
        const DAY_S: i64 = 86_400;
        let asked = self.time_expire.as_deref().and_then(read_moment);
        let until = asked.unwrap_or_else(|| now_s.saturating_add(DAY_S.saturating_mul(7)));
        let days = if self.sub_mchid.is_some() { 15 } else { 90 };
        let latest = now_s.saturating_add(DAY_S.saturating_mul(days));
        until.clamp(now_s.saturating_add(60), latest)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrepayBody {
    appid: Option<String>,
    mchid: Option<String>,
    sp_appid: Option<String>,
    sp_mchid: Option<String>,
    sub_appid: Option<String>,
    sub_mchid: Option<String>,
    description: String,
    out_trade_no: String,
    time_expire: Option<String>,
    attach: Option<String>,
    notify_url: String,
    goods_tag: Option<String>,
    #[serde(rename = "support_fapiao")]
    _support_fapiao: Option<bool>,
    amount: PrepayAmount,
    payer: Option<PrepayPayer>,
    detail: Option<PrepayDetail>,
    scene_info: Option<PrepayScene>,
    #[serde(rename = "settle_info")]
    _settle_info: Option<PrepaySettlement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrepayAmount {
    total: i64,
    currency: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrepayPayer {
    openid: Option<String>,
    sp_openid: Option<String>,
    sub_openid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrepayDetail {
    #[serde(rename = "cost_price")]
    _cost_price: Option<i64>,
    invoice_id: Option<String>,
    #[serde(rename = "goods_detail", default)]
    _goods_detail: Vec<PrepayGoods>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrepayGoods {
    #[serde(rename = "merchant_goods_id")]
    _merchant_goods_id: String,
    #[serde(rename = "wechatpay_goods_id")]
    _wechatpay_goods_id: Option<String>,
    #[serde(rename = "goods_name")]
    _goods_name: Option<String>,
    #[serde(rename = "quantity")]
    _quantity: i64,
    #[serde(rename = "unit_price")]
    _unit_price: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrepayScene {
    payer_client_ip: String,
    device_id: Option<String>,
    store_info: Option<PrepayStore>,
    h5_info: Option<PrepayBrowser>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrepayStore {
    id: String,
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "area_code")]
    _area_code: Option<String>,
    #[serde(rename = "address")]
    _address: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrepayBrowser {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "app_name")]
    _app_name: Option<String>,
    #[serde(rename = "app_url")]
    _app_url: Option<String>,
    #[serde(rename = "bundle_id")]
    _bundle_id: Option<String>,
    #[serde(rename = "package_name")]
    _package_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrepaySettlement {
    #[serde(rename = "profit_sharing")]
    _profit_sharing: Option<bool>,
}

/// Reads and checks a request of a caller.
pub(in crate::sandbox::wechatpay) fn read(
    caller: &WechatMerchant,
    (product, role): (WechatProduct, ContractRole),
    bytes: &[u8],
) -> Result<WechatOrderTerms, WechatRefusal> {
    let unreadable = |fault: serde_json::Error| WechatRefusal::unreadable(&fault);
    let body: PrepayBody = serde_json::from_slice(bytes).map_err(unreadable)?;
    check_members(&body)?;
    check_scene(product, body.scene_info.as_ref())?;
    let parties = match role {
        ContractRole::Direct => direct_parties(caller, product, &body)?,
        ContractRole::Partner => partner_parties(caller, product, &body)?,
    };
    Ok(WechatOrderTerms {
        product,
        mchid: caller.mchid.clone(),
        appid: parties.appid,
        sub_mchid: parties.sub_mchid,
        sub_appid: parties.sub_appid,
        out_trade_no: body.out_trade_no,
        description: body.description,
        attach: body.attach,
        notify_url: body.notify_url,
        time_expire: body.time_expire,
        total_fen: body.amount.total,
        openid: parties.openid,
        openid_is_sub: parties.openid_is_sub,
        body: serde_json::from_slice(bytes).map_err(unreadable)?,
    })
}

fn check_members(body: &PrepayBody) -> Result<(), WechatRefusal> {
    let invoice = body.detail.as_ref().and_then(|it| it.invoice_id.as_deref());
    let currency = body.amount.currency.as_deref();
    let expires = body.time_expire.as_deref();
    let checks = [
        (
            "/description",
            is_text(&body.description, 127) && !body.description.is_empty(),
            "1 to 127 characters",
        ),
        (
            "/out_trade_no",
            is_order_number(&body.out_trade_no),
            "6 to 32 of letters, digits, _-*|",
        ),
        (
            "/time_expire",
            expires.is_none_or(|text| read_moment(text).is_some()),
            "RFC 3339 with offset",
        ),
        (
            "/attach",
            body.attach.as_deref().is_none_or(|it| is_text(it, 128)),
            "at most 128 characters",
        ),
        (
            "/notify_url",
            is_notify_url(&body.notify_url, 255),
            "https, at most 255 characters, no query string",
        ),
        (
            "/goods_tag",
            body.goods_tag.as_deref().is_none_or(|it| is_text(it, 32)),
            "at most 32 characters",
        ),
        (
            "/detail/invoice_id",
            invoice.is_none_or(|it| is_text(it, 32)),
            "at most 32 characters",
        ),
        ("/amount/total", body.amount.total >= 1, "at least 1"),
        (
            "/amount/currency",
            currency.is_none_or(|it| it == "CNY"),
            "CNY",
        ),
    ];
    for (pointer, right, issue) in checks {
        if !right {
            return Err(WechatRefusal::member(pointer, issue).because(reason::RANGE));
        }
    }
    Ok(())
}

fn check_scene(product: WechatProduct, scene: Option<&PrepayScene>) -> Result<(), WechatRefusal> {
    let member = |pointer, issue: &str| Err(WechatRefusal::member(pointer, issue));
    let is_h5 = product == WechatProduct::H5;
    let Some(scene) = scene else {
        return if is_h5 {
            member("/scene_info", "required for an h5 order")
        } else {
            Ok(())
        };
    };
    let is_address = scene.payer_client_ip.parse::<IpAddr>().is_ok();
    if !is_address || scene.payer_client_ip.len() > 45 {
        return member("/scene_info/payer_client_ip", "an IPv4 or IPv6 address");
    }
    if scene
        .device_id
        .as_deref()
        .is_some_and(|it| !is_text(it, 32))
    {
        return member("/scene_info/device_id", "at most 32 characters");
    }
    if scene
        .store_info
        .as_ref()
        .is_some_and(|it| !is_text(&it.id, 32))
    {
        return member("/scene_info/store_info/id", "at most 32 characters");
    }
    match (&scene.h5_info, is_h5) {
        (None, false) => Ok(()),
        (None, true) => member("/scene_info/h5_info", "required for an h5 order"),
        (Some(_), false) => Err(unknown_member("/scene_info/h5_info")),
        (Some(browser), true) if ["iOS", "Android", "Wap"].contains(&browser.kind.as_str()) => {
            Ok(())
        }
        (Some(_), true) => member("/scene_info/h5_info/type", "iOS, Android or Wap"),
    }
}

/// A text of at most this many characters.
pub(in crate::sandbox::wechatpay) fn is_text(text: &str, chars_max: usize) -> bool {
    text.chars().count() <= chars_max && !text.chars().any(char::is_control)
}

fn is_order_number(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-*|".contains(&byte);
    (6..=32).contains(&text.len()) && text.bytes().all(allowed)
}

/// An address to notify: https, with a host, without query string or fragment.
pub(in crate::sandbox::wechatpay) fn is_notify_url(text: &str, bytes_max: usize) -> bool {
    let host = text.strip_prefix("https://").map(str::as_bytes);
    host.and_then(<[u8]>::first)
        .is_some_and(|byte| *byte != b'/')
        && text.len() <= bytes_max
        && !text.contains(['?', '#', ' '])
        && text.parse::<http::Uri>().is_ok()
}
