//! The payer's side: WeChat's own client, which judges what a page or an app starts it with, a
//! scanned code, and the page behind an h5 address.

mod page;

pub(super) use page::{PAGE_PATH, page};

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sandbox::refusal::{SandboxRefusal, answered};
use crate::sandbox::wechatpay::book::{PayingOutcome, WechatOrder, WechatTransaction};
use crate::sandbox::wechatpay::drawing::{draw_digits, draw_letters};
use crate::sandbox::wechatpay::{WechatPayState, WechatProduct, notify};

/// What a code's text begins with.
pub(super) const CODE_PREFIX: &str = "weixin://wxpay/bizpayurl?pr=";

/// What the payer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox::wechatpay) enum PayerChoice {
    Pay,
    Fail,
    Nothing,
}

impl PayerChoice {
    fn from_word(word: &str) -> Option<Self> {
        match word {
            "pay" => Some(Self::Pay),
            "fail" => Some(Self::Fail),
            "nothing" => Some(Self::Nothing),
            _ => None,
        }
    }
}

/// What the payer adds to the merchant's parameters.
#[derive(Deserialize)]
struct PayerPart {
    #[serde(default = "pay")]
    outcome: String,
    /// After coupons. Unit: fen.
    payer_total: Option<i64>,
}

fn pay() -> String {
    "pay".to_owned()
}

/// `WeixinJSBridge.invoke('getBrandWCPayRequest', …)`.
#[derive(Deserialize)]
struct JsapiParameters {
    #[serde(rename = "appId")]
    app_id: String,
    #[serde(rename = "timeStamp")]
    timestamp: String,
    #[serde(rename = "nonceStr")]
    nonce: String,
    package: String,
    #[serde(rename = "signType")]
    sign_type: String,
    #[serde(rename = "paySign")]
    sign: String,
}

/// The request object of the app's SDK.
#[derive(Deserialize)]
struct AppParameters {
    appid: String,
    partnerid: String,
    prepayid: String,
    package: String,
    noncestr: String,
    timestamp: String,
    sign: String,
}

#[derive(Deserialize)]
struct ScannedCode {
    code_url: String,
}

/// `POST /payer/jsapi`, `/payer/app`, `/payer/native`: the merchant's parameters as they are, with
/// `outcome` (`pay`, `fail`, `nothing`) and `payer_total` beside them.
pub(super) fn answer(
    shared: &Arc<WechatPayState>,
    request: &Request<Bytes>,
    what: &str,
) -> Response<Bytes> {
    if *request.method() != Method::POST {
        return SandboxRefusal::of(405, "method_wrong", "POST").into_response();
    }
    let body = request.body();
    let checked = match what {
        "jsapi" => read(body).and_then(|parameters| check_jsapi(shared, &parameters)),
        "app" => read(body).and_then(|parameters| check_app(shared, &parameters)),
        "native" => read(body).map(|code: ScannedCode| {
            let value = code.code_url.strip_prefix(CODE_PREFIX);
            value.unwrap_or_default().to_owned()
        }),
        _ => Err("jsapi, app or native".to_owned()),
    };
    let acted = checked.and_then(|value| {
        let part: PayerPart = read(body)?;
        let choice = PayerChoice::from_word(&part.outcome).ok_or("pay, fail or nothing")?;
        Ok(act(shared, &value, (choice, part.payer_total)))
    });
    answered(&client_reply(what, acted))
}

fn read<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|fault| fault.to_string())
}

/// What the client tells the page or the app: a hint, never proof.
fn client_reply(what: &str, acted: Result<PayingOutcome, String>) -> Value {
    let (word, code, why) = match acted {
        Ok(PayingOutcome::Paid) => ("ok", 0, String::new()),
        Ok(PayingOutcome::Failed) => ("cancel", -2, String::new()),
        Ok(other) => ("fail", -1, format!("{other:?}")),
        Err(why) => ("fail", -1, why),
    };
    match what {
        "jsapi" => json!({ "err_msg": format!("get_brand_wcpay_request:{word}"), "why": why }),
        _ => json!({ "errCode": code, "errStr": why }),
    }
}

/// The order behind a `prepay_id`, of the product that it is started as.
fn order_of(
    shared: &WechatPayState,
    value: &str,
    product: WechatProduct,
) -> Result<WechatOrder, String> {
    let found = shared.book.look(|book| book.by_issued(value).cloned());
    found
        .filter(|order| order.terms.product == product)
        .ok_or_else(|| format!("no {} order has this prepay_id", product.trade_type()))
}

fn check_sign(
    shared: &WechatPayState,
    order: &WechatOrder,
    lines: [&str; 4],
    sign: &str,
) -> Result<(), String> {
    let mut text = lines.join("\n");
    text.push('\n');
    let merchant = shared.merchants.find(&order.terms.mchid);
    let signature = STANDARD
        .decode(sign)
        .map_err(|_| "the signature is not Base64")?;
    let is_right = merchant.is_some_and(|it| it.signed(text.as_bytes(), &signature));
    is_right
        .then_some(())
        .ok_or_else(|| "the signature does not fit".to_owned())
}

fn is_seconds(text: &str) -> bool {
    !text.is_empty() && text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn check_jsapi(shared: &WechatPayState, asked: &JsapiParameters) -> Result<String, String> {
    let value = asked.package.strip_prefix("prepay_id=");
    let value = value.ok_or("package is prepay_id= and the id")?;
    let order = order_of(shared, value, WechatProduct::Jsapi)?;
    let terms = &order.terms;
    let is_app = asked.app_id == terms.appid || Some(&asked.app_id) == terms.sub_appid.as_ref();
    if !is_app {
        return Err("appId is not the order's".to_owned());
    }
    if asked.sign_type != "RSA" || !is_seconds(&asked.timestamp) || asked.nonce.len() > 32 {
        return Err("signType RSA, timeStamp in seconds as text, nonceStr up to 32".to_owned());
    }
    let lines = [
        asked.app_id.as_str(),
        &asked.timestamp,
        &asked.nonce,
        &asked.package,
    ];
    check_sign(shared, &order, lines, &asked.sign)?;
    Ok(value.to_owned())
}

fn check_app(shared: &WechatPayState, asked: &AppParameters) -> Result<String, String> {
    let order = order_of(shared, &asked.prepayid, WechatProduct::App)?;
    let terms = &order.terms;
    // An app's payment starts with the very app id it was created with.
    if asked.appid != *terms.sub_appid.as_ref().unwrap_or(&terms.appid) {
        return Err("appid is not the order's".to_owned());
    }
    // Which of a provider's two numbers it is remains unverified: either is taken.
    let is_partner =
        asked.partnerid == terms.mchid || Some(&asked.partnerid) == terms.sub_mchid.as_ref();
    if !is_partner {
        return Err("partnerid is not the order's".to_owned());
    }
    if asked.package != "Sign=WXPay" || !is_seconds(&asked.timestamp) || asked.noncestr.len() > 32 {
        return Err("package Sign=WXPay, timestamp in seconds, noncestr up to 32".to_owned());
    }
    let lines = [
        asked.appid.as_str(),
        &asked.timestamp,
        &asked.noncestr,
        &asked.prepayid,
    ];
    check_sign(shared, &order, lines, &asked.sign)?;
    Ok(asked.prepayid.clone())
}

/// The payer acts; a payment is notified.
pub(super) fn act(
    shared: &Arc<WechatPayState>,
    value: &str,
    (choice, payer_total): (PayerChoice, Option<i64>),
) -> PayingOutcome {
    let now_s = shared.clock.now_s();
    let opened = shared.book.look(|book| book.opened(value, now_s).cloned());
    let order = match opened {
        Ok(order) => order,
        Err(outcome) => return outcome,
    };
    let key = order.terms.key();
    match choice {
        PayerChoice::Nothing => PayingOutcome::Failed,
        PayerChoice::Fail => {
            shared.book.change(|book| book.fail(&key));
            PayingOutcome::Failed
        }
        PayerChoice::Pay => {
            let outcome = take(shared, &order, value, payer_total);
            if outcome == PayingOutcome::Paid {
                notify::payment(shared, &key);
            }
            outcome
        }
    }
}

fn take(
    shared: &WechatPayState,
    order: &WechatOrder,
    value: &str,
    payer_total: Option<i64>,
) -> PayingOutcome {
    let total_fen = order.terms.total_fen;
    let openid = order.terms.openid.clone();
    let by = WechatTransaction {
        transaction_id: format!("42000{}", draw_digits(23)),
        success_s: shared.clock.now_s(),
        payer_total_fen: payer_total.unwrap_or(total_fen).clamp(0, total_fen),
        openid: openid.unwrap_or_else(|| format!("o{}", draw_letters(27))),
    };
    shared.book.change(|book| book.pay(value, by))
}

/// The payer pays, and the first notification ends, before the prepay call is answered.
pub(super) async fn pay_before_answer(shared: &Arc<WechatPayState>, value: &str) {
    let now_s = shared.clock.now_s();
    let opened = shared
        .book
        .look(|book| book.opened(value, now_s).ok().cloned());
    let Some(order) = opened else {
        return;
    };
    if take(shared, &order, value, None) == PayingOutcome::Paid {
        notify::payment_now(shared, &order.terms.key()).await;
    }
}
