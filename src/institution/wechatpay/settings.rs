//! The `wechatpay` dialect as data: its products, settings, and the constructor of its adapter.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::institutions::{
    ActionOpening, BodyFormat, CallbackPath, CreateSend, Ending, Mode, Product, Rates,
    ReplyBinding, ShownFields, Visibility,
};
use crate::domain::merchant;
use crate::domain::personal::payer_context::{PayerDetail, PayerDevice, PayerWallet};
use crate::institution::wechatpay::accounts::WechatAccounts;
use crate::institution::wechatpay::{WechatAdapter, WechatInstitution};
use crate::institution::{
    ConfiguredInstitution, Institution, InstitutionKind, OwnKeySettings, Setting, SettingForm,
    SettingsFault, URL,
};

/// A request is valid for five minutes, by a clock that may be half a minute behind (A5).
const VISIBLE_AFTER: Duration = Duration::from_secs(330);

/// How long a code to scan is shown.
const CODE_LIFE: Duration = Duration::from_mins(3);

/// The second host.
const SECOND_URL: &str = "second_url";
/// The account's number; the receiver of a direct account.
pub(super) const MCHID: &str = "mchid";
/// Our applications, by use.
pub(super) const APPS: &str = "apps";
/// Our private key.
pub(super) const KEY: &str = "key";
/// The secret that opens notifications.
pub(super) const APIV3_KEY: &str = "apiv3_key";
/// The platform's keys for us.
pub(super) const KEYS: &str = "keys";
/// The key that answers are to be signed with.
pub(super) const ASK_FOR_KEY: &str = "ask_for_key";
/// Whose number an APP payment of a provider starts with.
pub(super) const APP_PARTNER: &str = "app_partner";
/// The word of [`APP_PARTNER`] for our own number.
pub(super) const PROVIDER: &str = "provider";
/// The sub-merchant's number.
pub(super) const SUB_MCHID: &str = "sub_mchid";
/// The sub-merchant's own application.
pub(super) const SUB_APPID: &str = "sub_appid";

/// The length of [`APIV3_KEY`].
pub(super) const APIV3_KEY_CHARS: usize = 32;

/// The names that belong to [`KEY`]. Its id is the serial number of its certificate.
const OWN_KEY: OwnKeySettings = OwnKeySettings {
    id: "certificate_serial",
    days: ["certificate_not_before", "certificate_not_after"],
    algorithm: Some("rsa-v1_5-sha256"),
};

/// What all products have in common. Of a prepay answer only the connection says what it answers.
const PREPAID: Product = Product {
    create: CreateSend::Repeatable,
    binding: ReplyBinding::Connection,
    ending: Ending::Close,
    // An earlier deadline would be raised in silence.
    least_left: Duration::from_mins(1),
    ..Product::plain("", Visibility::AfterSend(VISIBLE_AFTER))
};

/// In WeChat's own browser or a mini-program.
const JSAPI: Product = Product {
    id: "JSAPI",
    help: "parameters that WeChat's own browser or a mini-program pays with",
    modes: &[Mode::Webview, Mode::Native],
    wants: &[PayerDetail::OpenId],
    wallets: &[PayerWallet::WeChat],
    opening: ActionOpening::WeChatBridge,
    action_life: Some(Duration::from_hours(2)),
    ..PREPAID
};

/// In another browser of a phone.
const H5: Product = Product {
    id: "H5",
    help: "a page that opens WeChat from a phone's browser",
    modes: &[Mode::Webview],
    wants: &[PayerDetail::ClientIp, PayerDetail::Device],
    wallets: &[PayerWallet::None],
    devices: &[PayerDevice::Ios, PayerDevice::Android, PayerDevice::Other],
    // Its page checks that the payer comes from a domain that was registered with it.
    opening: ActionOpening::FromOurOrigin,
    action_life: Some(Duration::from_mins(5)),
    ..PREPAID
};

/// On a desktop.
const NATIVE: Product = Product {
    id: "NATIVE",
    help: "a code to scan with WeChat",
    modes: &[Mode::Webview],
    wallets: &[PayerWallet::None],
    devices: &[PayerDevice::Desktop],
    action_life: Some(CODE_LIFE),
    pay_within: Some(CODE_LIFE),
    ..PREPAID
};

/// In the merchant's application.
const APP: Product = Product {
    id: "APP",
    help: "parameters that an application starts WeChat with",
    modes: &[Mode::Native],
    wallets: &[PayerWallet::None],
    action_life: Some(Duration::from_hours(2)),
    ..PREPAID
};

/// Values that may be shown: neither personal, nor usable to pay or to read a notification.
#[rustfmt::skip]
const SHOWN: &[&str] = &[
    "algorithm", "appid", "bank_type", "channel", "code", "create_time", "currency",
    "discount_refund", "event_type", "field", "funds_account", "location", "mchid",
    "original_type", "out_refund_no", "out_trade_no", "payer_currency", "payer_refund",
    "payer_total", "refund", "refund_fee", "refund_id", "refund_status", "resource_type",
    "settlement_refund", "settlement_total", "sp_appid", "sp_mchid", "status", "sub_appid",
    "sub_mchid", "success_time", "time_expire", "total", "trade_state", "trade_type",
    "transaction_id", "type",
];

/// The dialect as data.
pub(in crate::institution) const KIND: InstitutionKind = InstitutionKind {
    name: "wechatpay",
    products: &[JSAPI, H5, NATIVE, APP],
    refund_visibility: VISIBLE_AFTER,
    repeatable_refund: true,
    rates: Rates {
        calls_per_second: 50,
        refund_question_gap: Duration::from_mins(1),
    },
    callback_path: CallbackPath::OfAccount,
    body: BodyFormat::Json,
    shown: ShownFields::Listed(SHOWN),
    institution_settings: &[
        Setting::required(URL, SettingForm::Address, "main host")
            .such_as("\"https://api.mch.weixin.qq.com\""),
        Setting::optional(
            SECOND_URL,
            SettingForm::Address,
            "host of the same API for when the main one fails",
        )
        .such_as("\"https://api2.mch.weixin.qq.com\""),
    ],
    account_settings: &[
        Setting::required(
            MCHID,
            SettingForm::Identifier,
            "our merchant number (商户号); of a provider the sp_mchid",
        )
        .such_as("\"1900009191\""),
        Setting::required(
            APPS,
            SettingForm::Apps,
            "our applications by use: jsapi, h5, native, app, default",
        ),
        Setting::required(
            OWN_KEY.id,
            SettingForm::KeyIdOf(KEY),
            "serial number of our API certificate",
        )
        .such_as("\"5157F09EFDC096DE15EBE81A47057A7232F1B8E1\""),
        Setting::required(
            KEY,
            SettingForm::PrivateKey(OWN_KEY),
            "private key of our API certificate, RSA",
        ),
        Setting::optional(
            "certificate_not_before",
            SettingForm::DayOf(KEY),
            "the first day of our API certificate",
        ),
        Setting::optional(
            "certificate_not_after",
            SettingForm::DayOf(KEY),
            "its last day; a warning appears 30 days before",
        ),
        Setting::required(
            APIV3_KEY,
            SettingForm::SecretOf(APIV3_KEY_CHARS),
            "APIv3 key, opens notifications",
        ),
        Setting::required(
            KEYS,
            SettingForm::PublicKeys,
            "verify answers and notifications, by serial: the WeChat Pay public key, public keys \
             of platform certificates",
        )
        .such_as(
            "[{ id = \"PUB_KEY_ID_…\", algorithm = \"rsa-v1_5-sha256\", file = \"certs/….pem\", \
             not_before = 2026-01-01, not_after = 2035-12-31 }]",
        ),
        Setting::optional(
            ASK_FOR_KEY,
            SettingForm::Identifier,
            "id of the key that answers are to be signed with",
        )
        .such_as("\"PUB_KEY_ID_0119000091912026010100389200000001\""),
        Setting::optional(
            APP_PARTNER,
            SettingForm::Choice(&["sub", PROVIDER]),
            "whose number (partnerid) an APP payment of a provider starts with; default: sub",
        )
        .such_as("\"sub\""),
    ],
    sub_settings: &[
        Setting::required(
            SUB_MCHID,
            SettingForm::Identifier,
            "the sub-merchant's number, who receives the money",
        )
        .such_as("\"1900009291\""),
        Setting::optional(
            SUB_APPID,
            SettingForm::App,
            "the sub-merchant's own application, if payments start there",
        ),
    ],
    account_receiver: MCHID,
    sub_receiver: SUB_MCHID,
    build,
};

/// Builds the adapter of one institution.
fn build(settings: ConfiguredInstitution) -> Result<Arc<dyn Institution>, SettingsFault> {
    let is_origin = |text: &str| merchant::origin(text).as_deref() == Some(text);
    let main = settings.values.text(URL).unwrap_or_default();
    if !is_origin(main) {
        return Err(SettingsFault::NotAnOrigin(URL));
    }
    let second = settings.values.text(SECOND_URL);
    if second.is_some_and(|second| !is_origin(second)) {
        return Err(SettingsFault::NotAnOrigin(SECOND_URL));
    }
    if !is_origin(&settings.callback_origin) {
        return Err(SettingsFault::NotAnOrigin("callback_origin"));
    }
    Ok(Arc::new(WechatAdapter(Arc::new(WechatInstitution {
        main: main.to_owned(),
        second: second.map(ToOwned::to_owned),
        accounts: WechatAccounts::new(&settings),
        id: settings.id,
        facts: settings.facts,
    }))))
}
