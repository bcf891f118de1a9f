//! The `alipay` dialect as data: its products, settings, and the constructor of its adapter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::institutions::{BodyFormat, CallbackPath, Rates, ShownFields};
use crate::domain::merchant;
use crate::institution::alipay::account::AlipayAccount;
use crate::institution::alipay::products::{PRODUCTS, VISIBLE_AFTER};
use crate::institution::alipay::{AlipayAdapter, AlipayInstitution};
use crate::institution::{
    ConfiguredInstitution, Institution, InstitutionKind, Setting, SettingForm, SettingsFault, URL,
};

/// Our application.
pub(super) const APP_ID: &str = "app_id";
/// Our number as a merchant (PID), or a sub-merchant's.
const SELLER_ID: &str = "seller_id";
/// Our private key.
pub(super) const KEY: &str = "key";
/// The institution's public key.
pub(super) const ALIPAY_PUBLIC_KEY: &str = "alipay_public_key";
/// The certificate of our key.
pub(super) const APP_CERTIFICATE: &str = "app_certificate";
/// The institution's certificate.
pub(super) const ALIPAY_CERTIFICATE: &str = "alipay_certificate";
/// The bundle of roots.
pub(super) const ALIPAY_ROOT: &str = "alipay_root";
/// How payers are named.
pub(super) const PAYER_ID: &str = "payer_id";
/// `product_code` of `CREATE`.
pub(super) const CREATE_CODE: &str = "create_product_code";
/// `product_code` of `PRECREATE`.
pub(super) const PRECREATE_CODE: &str = "precreate_product_code";
/// Acting for another merchant.
pub(super) const APP_AUTH_TOKEN: &str = "app_auth_token";

/// The dialect as data.
pub(in crate::institution) const KIND: InstitutionKind = InstitutionKind {
    name: "alipay",
    products: PRODUCTS,
    refund_visibility: VISIBLE_AFTER,
    repeatable_refund: true,
    rates: Rates {
        calls_per_second: 50,
        refund_question_gap: Duration::from_secs(10),
    },
    callback_path: CallbackPath::OfAccount,
    body: BodyFormat::Form,
    shown: ShownFields::Listed(SHOWN),
    institution_settings: &[Setting::required(
        URL,
        SettingForm::Address,
        "origin of its gateway, without /gateway.do",
    )
    .such_as("\"https://openapi.alipay.com\"")],
    account_settings: ACCOUNT_SETTINGS,
    sub_settings: &[
        Setting::required(
            SELLER_ID,
            SettingForm::Identifier,
            "the sub-merchant's number (PID), who receives the money",
        )
        .such_as("\"2088123412341234\""),
        Setting::required(
            APP_AUTH_TOKEN,
            SettingForm::Secret,
            "the token with which the merchant authorised us",
        ),
    ],
    account_receiver: SELLER_ID,
    sub_receiver: SELLER_ID,
    build,
};

const ACCOUNT_SETTINGS: &[Setting] = &[
    Setting::required(APP_ID, SettingForm::App, "our application").such_as("\"2021000123456789\""),
    Setting::required(
        SELLER_ID,
        SettingForm::Identifier,
        "our number as a merchant or provider (PID)",
    )
    .such_as("\"2088123412341234\""),
    Setting::required(
        KEY,
        SettingForm::Secret,
        "the application's private RSA key, PKCS #1 or PKCS #8, as it was downloaded",
    )
    .such_as("\"file:certs/….key\""),
    Setting::optional(
        ALIPAY_PUBLIC_KEY,
        SettingForm::PublicKey("rsa-v1_5-sha256"),
        "the institution's public key, in key mode; not the application's own",
    ),
    Setting::optional(
        APP_CERTIFICATE,
        SettingForm::Certificate,
        "appCertPublicKey_….crt, in certificate mode",
    )
    .such_as("\"certs/….crt\""),
    Setting::optional(
        ALIPAY_CERTIFICATE,
        SettingForm::Certificate,
        "alipayCertPublicKey_RSA2.crt with its intermediate, in certificate mode",
    )
    .such_as("\"certs/….crt\""),
    Setting::optional(
        ALIPAY_ROOT,
        SettingForm::Certificate,
        "alipayRootCert.crt, in certificate mode",
    )
    .such_as("\"certs/….crt\""),
    Setting::optional(
        "mini_programs",
        SettingForm::Apps,
        "mini programs in which payers pay (CREATE), other than app_id",
    )
    .such_as("{ default = \"2021000987654321\" }"),
    Setting::optional(
        PAYER_ID,
        SettingForm::Choice(&["open_id", "buyer_id"]),
        "what the application gets of a payer (CREATE); default: open_id",
    ),
    Setting::optional(
        CREATE_CODE,
        SettingForm::Identifier,
        "product_code of CREATE by contract; default: JSAPI_PAY",
    )
    .such_as("\"FACE_TO_FACE_PAYMENT\""),
    Setting::optional(
        PRECREATE_CODE,
        SettingForm::Identifier,
        "product_code of PRECREATE by contract; default: none is sent",
    )
    .such_as("\"QR_CODE_OFFLINE\""),
];

/// Nothing of a payer, and nothing that leads to a payment: neither `qr_code` nor `biz_content`,
/// whose parts are not told apart.
#[rustfmt::skip]
const SHOWN: &[&str] = &[
    "action", "alipay_cert_sn", "alipay_root_cert_sn", "app_cert_sn", "app_id", "auth_app_id",
    "charset", "code", "format", "fund_change", "gmt_close", "gmt_create", "gmt_payment",
    "gmt_refund", "gmt_refund_pay", "method", "msg", "notify_id", "notify_time", "notify_type",
    "out_biz_no", "out_request_no", "out_trade_no", "receipt_amount", "refund_amount",
    "refund_fee", "refund_status", "retry_flag", "seller_id", "send_pay_date", "sign_type",
    "sub_code", "timestamp", "total_amount", "trade_no", "trade_status", "version",
];

/// Builds the adapter of one institution.
fn build(settings: ConfiguredInstitution) -> Result<Arc<dyn Institution>, SettingsFault> {
    let is_origin = |text: &str| merchant::origin(text).as_deref() == Some(text);
    let origin = settings.values.text(URL).unwrap_or_default();
    if !is_origin(origin) {
        return Err(SettingsFault::NotAnOrigin(URL));
    }
    if !is_origin(&settings.callback_origin) {
        return Err(SettingsFault::NotAnOrigin("callback_origin"));
    }
    let origin = origin.to_owned();
    let mut accounts = HashMap::new();
    for account in &settings.accounts {
        let callback_url = settings.callback_url(Some(&account.id));
        let account = AlipayAccount::new(account.clone(), callback_url)?;
        accounts.insert(account.id.clone(), account);
    }
    Ok(Arc::new(AlipayAdapter(Arc::new(AlipayInstitution {
        id: settings.id,
        facts: settings.facts,
        origin,
        accounts,
    }))))
}
