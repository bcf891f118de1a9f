//! Payments: what an answer to a create gives the payer, and each `trade_state`, one by one (C3). An
//! unlisted word proves nothing (V1). Who sent it was verified before.

use http::uri::{Scheme, Uri};
use serde::Serialize;

use crate::domain::amount::{Amount, Currency};
use crate::domain::attempt::{Attempt, Stamp};
use crate::domain::evidence::{Ambiguity, Finding, PaymentAction, PaymentActionKind, Receipt};
use crate::domain::fields::Fields;
use crate::domain::identifiers::{ReceiverId, Timestamp};
use crate::domain::institutions::AccountRole;
use crate::institution::Call;
use crate::institution::wechatpay::accounts::WechatAccount;
use crate::institution::wechatpay::errors::WechatFinding;
use crate::institution::wechatpay::requests::{PrepayProduct, client_app};
use crate::institution::wechatpay::signing::{nonce, sign};

/// The longest page address, code and prepay id. Unit: bytes.
const LINK_BYTES_MAX: usize = 2_048;
const CODE_BYTES_MAX: usize = 512;
const PREPAY_ID_BYTES_MAX: usize = 128;

/// The longest number that the platform gives a payment or refund. Unit: bytes.
const PLATFORM_NO_BYTES_MAX: usize = 64;

/// The most digits of a sum: one more than the largest has.
const FEN_DIGITS_MAX: usize = 13;

/// What a code to scan begins with. It is drawn, never fetched.
const CODE_START: &str = "weixin://";

/// The parties that a message names.
pub(super) struct WechatParties {
    /// Its number and application are those of the account that it came to.
    pub(super) are_of_account: bool,
    pub(super) receiver: ReceiverId,
}

/// The finding of a verified answer 200 to a create: what the payer pays with. Parameters are signed
/// here, with the fresh stamp of this step.
pub(super) fn created(
    call: &Call<'_>,
    account: &WechatAccount,
    fields: &Fields<'_>,
    stamp: &Stamp,
) -> WechatFinding {
    let product = PrepayProduct::of(call.attempt).ok_or(Ambiguity::Mismatch)?;
    let way = match product {
        PrepayProduct::H5 => link(needed(fields, "h5_url")?),
        PrepayProduct::Native => code(needed(fields, "code_url")?),
        PrepayProduct::Jsapi | PrepayProduct::App => {
            let id = needed(fields, "prepay_id")?;
            is_prepay_id(id)
                .then(|| parameters(call, account, product, id, stamp))
                .flatten()
        }
    };
    let way = way.ok_or(Ambiguity::Unreadable)?;
    // How long it can be used is declared by the product.
    let action = PaymentAction { way, expires: None };
    Ok(Finding::Accepted(Some(action)))
}

/// The finding of a verified answer 200 to a query.
pub(super) fn queried(fields: &Fields<'_>, attempt: &Attempt) -> WechatFinding {
    let state = needed(fields, "trade_state")?;
    let sum = total(fields, attempt.amount.currency());
    if let Ok(sum) = sum
        && sum != attempt.amount
    {
        return Err(Ambiguity::Mismatch);
    }
    match state {
        "SUCCESS" | "REFUND" => paid(fields, sum?),
        // A failed try stays like this, and the payer may try again. E3: the sum is named.
        // PAYERROR is documented for payments by code, which end with it; these can be tried again, and
        // only a close ends them.
        "NOTPAY" | "USERPAYING" | "ACCEPT" | "PAYERROR" => sum.map(|_| Finding::Accepted(None)),
        "CLOSED" | "REVOKED" => named_sum(fields, sum).map(|()| Finding::Closed),
        _ => Err(Ambiguity::UnlistedWord),
    }
}

/// The finding of a verified notification: only of a payment that was made.
pub(super) fn noticed(fields: &Fields<'_>, event: &str, sum: Amount) -> WechatFinding {
    match (event, needed(fields, "trade_state")?) {
        ("TRANSACTION.SUCCESS", "SUCCESS" | "REFUND") => paid(fields, sum),
        _ => Err(Ambiguity::UnlistedWord),
    }
}

/// What was ordered. What the payer really paid may be less, after coupons, and is not compared.
/// Without a currency it is in that of the payment (M6).
pub(super) fn total(fields: &Fields<'_>, absent: Currency) -> Result<Amount, Ambiguity> {
    let amount = nested(fields, "amount")?;
    fen(&amount, "total", absent)
}

/// A closed payment need not name its sum; but one that cannot be read proves nothing.
fn named_sum(fields: &Fields<'_>, sum: Result<Amount, Ambiguity>) -> Result<(), Ambiguity> {
    match fields.raw("amount") {
        Some(_) => sum.map(|_| ()),
        None => Ok(()),
    }
}

/// Paid; `REFUND` means that a refund was asked for besides, and nothing about its result.
fn paid(fields: &Fields<'_>, amount: Amount) -> WechatFinding {
    Ok(Finding::Succeeded(Receipt {
        amount,
        institution_no: Some(platform_no(fields, "transaction_id")?.into()),
        paid_at: moment(fields, "success_time")?,
        fee: None,
    }))
}

/// The parties that a payment names: of a provider its own number and the sub-merchant's.
pub(super) fn parties(
    fields: &Fields<'_>,
    account: &WechatAccount,
) -> Result<WechatParties, Ambiguity> {
    let (app, own, receiver) = match account.role {
        AccountRole::Direct => ("appid", "mchid", "mchid"),
        AccountRole::Provider => ("sp_appid", "sp_mchid", "sub_mchid"),
    };
    let is_own_app = optional(fields, app)?.is_none_or(|app| account.has_app(app));
    let is_own_number = needed(fields, own)? == account.mchid.as_str();
    let receiver = ReceiverId::parse(needed(fields, receiver)?);
    Ok(WechatParties {
        are_of_account: is_own_app && is_own_number,
        receiver: receiver.map_err(|_| Ambiguity::Unreadable)?,
    })
}

/// Whether a verified answer is about this payment (E3): the platform's signature covers its text and
/// not our request.
pub(super) fn is_about(
    call: &Call<'_>,
    account: &WechatAccount,
    fields: &Fields<'_>,
) -> Result<(), Ambiguity> {
    let attempt = call.attempt;
    let named = parties(fields, account)?;
    let is_ours = needed(fields, "out_trade_no")? == attempt.id.as_str();
    if is_ours && named.are_of_account && named.receiver == attempt.receiver {
        Ok(())
    } else {
        Err(Ambiguity::Mismatch)
    }
}

/// The browser is sent there, so it must be https and must not disguise its host.
fn link(text: &str) -> Option<PaymentActionKind> {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    if text.len() > LINK_BYTES_MAX || !text.bytes().all(is_allowed) {
        return None;
    }
    let uri: Uri = text.parse().ok()?;
    let plain = uri.scheme() == Some(&Scheme::HTTPS) && !uri.authority()?.as_str().contains('@');
    plain.then(|| PaymentActionKind::Redirect(text.into()))
}

fn code(text: &str) -> Option<PaymentActionKind> {
    let is_code = text.len() <= CODE_BYTES_MAX
        && text.starts_with(CODE_START)
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_code.then(|| PaymentActionKind::QrCode(text.into()))
}

fn is_prepay_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=PREPAY_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_allowed)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsapiStartFields<'a> {
    app_id: &'a str,
    time_stamp: &'a str,
    nonce_str: &'a str,
    package: &'a str,
    sign_type: &'static str,
    pay_sign: String,
}

#[derive(Serialize)]
struct AppStartFields<'a> {
    appid: &'a str,
    partnerid: &'a str,
    prepayid: &'a str,
    package: &'static str,
    noncestr: &'a str,
    timestamp: &'a str,
    sign: String,
}

/// What WeChat is started with, signed; `None` if our key is not valid now.
pub(super) fn parameters(
    call: &Call<'_>,
    account: &WechatAccount,
    product: PrepayProduct,
    prepay_id: &str,
    stamp: &Stamp,
) -> Option<PaymentActionKind> {
    let app = client_app(call, account, product).ok()?.as_str();
    let partner = match account.role {
        AccountRole::Provider if account.app_partner_is_provider => account.mchid.as_str(),
        AccountRole::Provider | AccountRole::Direct => call.attempt.receiver.as_str(),
    };
    let parts = ClientParts {
        app,
        partner,
        timestamp: &stamp.now.seconds().to_string(),
        nonce: &nonce("client", stamp),
        prepay_id,
    };
    let key = account.signing(stamp.now)?;
    let text = match product {
        PrepayProduct::Jsapi => parts.jsapi(|lines| sign(key, lines)),
        PrepayProduct::App => parts.app(|lines| sign(key, lines)),
        PrepayProduct::H5 | PrepayProduct::Native => None,
    };
    text.map(|text| PaymentActionKind::SdkParameters(text.into()))
}

/// What the payer's parameters are made of.
pub(super) struct ClientParts<'a> {
    pub(super) app: &'a str,
    pub(super) partner: &'a str,
    pub(super) timestamp: &'a str,
    pub(super) nonce: &'a str,
    pub(super) prepay_id: &'a str,
}

impl ClientParts<'_> {
    /// For WeChat's own browser: the prefix is signed too.
    pub(super) fn jsapi(&self, sign: impl FnOnce(&[&[u8]]) -> Option<String>) -> Option<String> {
        let package = format!("prepay_id={}", self.prepay_id);
        let lines = [self.app, self.timestamp, self.nonce, &package];
        let parameters = JsapiStartFields {
            app_id: self.app,
            time_stamp: self.timestamp,
            nonce_str: self.nonce,
            package: &package,
            sign_type: "RSA",
            pay_sign: sign(&lines.map(str::as_bytes))?,
        };
        serde_json::to_string(&parameters).ok()
    }

    /// For an application: the bare id is signed.
    pub(super) fn app(&self, sign: impl FnOnce(&[&[u8]]) -> Option<String>) -> Option<String> {
        let lines = [self.app, self.timestamp, self.nonce, self.prepay_id];
        let parameters = AppStartFields {
            appid: self.app,
            partnerid: self.partner,
            prepayid: self.prepay_id,
            package: "Sign=WXPay",
            noncestr: self.nonce,
            timestamp: self.timestamp,
            sign: sign(&lines.map(str::as_bytes))?,
        };
        serde_json::to_string(&parameters).ok()
    }
}

/// The object under this name, read as strictly as a whole message: no name twice.
pub(super) fn nested<'f>(fields: &Fields<'f>, name: &str) -> Result<Fields<'f>, Ambiguity> {
    let raw = fields.raw(name).ok_or(Ambiguity::Unreadable)?;
    Fields::parse(raw.as_bytes()).map_err(|_| Ambiguity::Unreadable)
}

/// A sum in fen: a plain integer, exactly or not at all (M5).
pub(super) fn fen(amount: &Fields<'_>, name: &str, absent: Currency) -> Result<Amount, Ambiguity> {
    let currency = match optional(amount, "currency")? {
        Some(code) => Currency::parse(code).map_err(|_| Ambiguity::Unreadable)?,
        None => absent,
    };
    let digits = amount.raw(name).ok_or(Ambiguity::Unreadable)?;
    let is_plain = digits.len() <= FEN_DIGITS_MAX && digits.bytes().all(|b| b.is_ascii_digit());
    let minor = digits.parse().ok().filter(|_| is_plain);
    minor
        .and_then(|minor| Amount::from_minor(minor, currency).ok())
        .ok_or(Ambiguity::Unreadable)
}

/// The platform's number of a payment or refund.
pub(super) fn platform_no<'f>(fields: &'f Fields<'_>, name: &str) -> Result<&'f str, Ambiguity> {
    let no = needed(fields, name)?;
    let is_no = (1..=PLATFORM_NO_BYTES_MAX).contains(&no.len())
        && no.bytes().all(|byte| byte.is_ascii_graphic());
    is_no.then_some(no).ok_or(Ambiguity::Unreadable)
}

/// When money moved. It counts even if the time cannot be read.
pub(super) fn moment(fields: &Fields<'_>, name: &str) -> Result<Timestamp, Ambiguity> {
    let text = optional(fields, name)?;
    let moment = text.and_then(|text| Timestamp::parse_rfc3339(text).ok());
    Ok(moment.map_or(Timestamp::UNREADABLE, |moment| {
        Timestamp::from_s(moment.seconds())
    }))
}

pub(super) fn needed<'f>(fields: &'f Fields<'_>, name: &str) -> Result<&'f str, Ambiguity> {
    optional(fields, name)?.ok_or(Ambiguity::Unreadable)
}

pub(super) fn optional<'f>(
    fields: &'f Fields<'_>,
    name: &str,
) -> Result<Option<&'f str>, Ambiguity> {
    let text = fields.text(name).transpose();
    text.map_err(|_| Ambiguity::Unreadable)
}
