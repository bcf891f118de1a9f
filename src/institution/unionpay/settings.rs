//! The `unionpay` dialect as data: its settings, and the constructor of its adapter.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::institutions::{BodyFormat, CallbackPath, Rates, ShownFields};
use crate::domain::merchant;
use crate::institution::unionpay::accounts::UnionPayAccounts;
use crate::institution::unionpay::products::PRODUCTS;
use crate::institution::unionpay::{UnionPayAdapter, UnionPayInstitution};
use crate::institution::{
    ConfiguredInstitution, Institution, InstitutionKind, Setting, SettingForm, SettingsFault, URL,
};

/// The account's number; the receiver of a direct account.
pub(super) const MER_ID: &str = "mer_id";
/// How messages are signed.
pub(super) const SIGN_METHOD: &str = "sign_method";
/// The word of [`SIGN_METHOD`] for SM2.
pub(super) const SM2: &str = "21";
/// Our private key.
pub(super) const KEY: &str = "key";
/// The certificate of our key.
pub(super) const CERTIFICATE: &str = "certificate";
/// The root of UnionPay's certificates.
pub(super) const ROOT: &str = "root";
/// What is between the root and the certificates of messages.
pub(super) const MIDDLE: &str = "middle";
/// Whether money is real there.
pub(super) const ENVIRONMENT: &str = "environment";
/// The word of [`ENVIRONMENT`] for real money.
pub(super) const PRODUCTION: &str = "production";
/// As what a provider is connected.
pub(super) const ACCESS_TYPE: &str = "access_type";
/// The word of [`ACCESS_TYPE`] for an acquirer.
pub(super) const OF_ACQUIRER: &str = "1";
/// Which requests name a sub-merchant.
pub(super) const NAME_SUB_MERCHANT: &str = "name_sub_merchant";
/// The word of [`NAME_SUB_MERCHANT`] for all of them.
pub(super) const ALWAYS_NAMED: &str = "always";
/// The sub-merchant's number.
const SUB_MER_ID: &str = "sub_mer_id";
/// The sub-merchant's name.
pub(super) const SUB_MER_NAME: &str = "sub_mer_name";
/// The sub-merchant's short name.
pub(super) const SUB_MER_ABBR: &str = "sub_mer_abbr";
/// The number of an acquirer.
pub(super) const ACQ_INS_CODE: &str = "acq_ins_code";
/// The line of business of an acquirer's merchant.
pub(super) const MER_CAT_CODE: &str = "mer_cat_code";

/// "Not found" never proves that a refund did not arrive: only the settlement day's file does.
const NEVER: Duration = Duration::from_hours(24 * 36_500);

/// Values that may be shown: neither personal, nor usable to pay.
#[rustfmt::skip]
const SHOWN: &[&str] = &[
    "accessType", "bizType", "certId", "channelType", "currencyCode", "encoding", "merId",
    "orderId", "origOrderId", "origQryId", "origRespCode", "origTxnTime", "payCardType",
    "payTimeout", "payType", "queryId", "respCode", "settleAmt", "settleCurrencyCode",
    "settleDate", "signMethod", "subMerId", "traceNo", "traceTime", "txnAmt", "txnSubType",
    "txnTime", "txnType", "version",
];

/// The dialect as data.
pub(in crate::institution) const KIND: InstitutionKind = InstitutionKind {
    name: "unionpay",
    products: PRODUCTS,
    refund_visibility: NEVER,
    repeatable_refund: false,
    rates: Rates {
        calls_per_second: 20,
        refund_question_gap: Duration::from_secs(1),
    },
    callback_path: CallbackPath::OfAccount,
    body: BodyFormat::KeyValue,
    shown: ShownFields::Listed(SHOWN),
    institution_settings: &[Setting::required(
        URL,
        SettingForm::Address,
        "origin of its gateway, without /gateway",
    )
    .such_as("\"https://gateway.95516.com\"")],
    account_settings: ACCOUNT_SETTINGS,
    sub_settings: SUB_SETTINGS,
    account_receiver: MER_ID,
    sub_receiver: SUB_MER_ID,
    build,
};

const ACCOUNT_SETTINGS: &[Setting] = &[
    Setting::required(
        MER_ID,
        SettingForm::Identifier,
        "our merchant number, 15 digits; of a provider its own",
    )
    .such_as("\"777290058110048\""),
    Setting::required(
        SIGN_METHOD,
        SettingForm::Choice(&["01", SM2]),
        "how messages are signed, by contract: 01 RSA, 21 SM2",
    )
    .such_as("\"01\""),
    Setting::required(
        KEY,
        SettingForm::Secret,
        "private key of our signing certificate, in PEM",
    )
    .such_as("\"file:certs/….key\""),
    Setting::required(
        CERTIFICATE,
        SettingForm::Certificate,
        "our signing certificate, in PEM; its serial number is certId",
    ),
    Setting::required(
        ROOT,
        SettingForm::Certificate,
        "acp_…_root.cer of the environment, in PEM",
    ),
    Setting::required(
        MIDDLE,
        SettingForm::Certificate,
        "acp_…_middle.cer of the environment, in PEM",
    ),
    Setting::required(
        ENVIRONMENT,
        SettingForm::Choice(&[PRODUCTION, "test"]),
        "test also admits messages of UnionPay's test certificate",
    )
    .such_as("\"production\""),
    Setting::optional(
        ACCESS_TYPE,
        SettingForm::Choice(&[OF_ACQUIRER, "2"]),
        "only of a provider: 1 an acquirer, 2 a platform (default)",
    )
    .such_as("\"2\""),
    Setting::optional(
        NAME_SUB_MERCHANT,
        SettingForm::Choice(&["create", ALWAYS_NAMED]),
        "only of a provider, by contract: which requests name the sub-merchant; default: create",
    )
    .such_as("\"create\""),
];

const SUB_SETTINGS: &[Setting] = &[
    Setting::required(
        SUB_MER_ID,
        SettingForm::Identifier,
        "the sub-merchant's number, who receives the money: 5 to 15 letters or digits",
    )
    .such_as("\"00001\""),
    Setting::required(
        SUB_MER_NAME,
        SettingForm::Text,
        "the sub-merchant's name, at most 20 Chinese characters",
    )
    .such_as("\"示例商城有限公司\""),
    Setting::required(
        SUB_MER_ABBR,
        SettingForm::Text,
        "the sub-merchant's short name, at most 8 letters, digits or Chinese characters",
    )
    .such_as("\"示例商城\""),
    Setting::optional(
        ACQ_INS_CODE,
        SettingForm::Identifier,
        "number of the acquirer, 8 to 11 digits; needed with access_type 1",
    )
    .such_as("\"48270000\""),
    Setting::optional(
        MER_CAT_CODE,
        SettingForm::Identifier,
        "line of business (MCC), 4 digits; needed with access_type 1",
    )
    .such_as("\"5311\""),
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
    Ok(Arc::new(UnionPayAdapter(Arc::new(UnionPayInstitution {
        origin: origin.to_owned(),
        accounts: UnionPayAccounts::new(&settings)?,
        id: settings.id,
        facts: settings.facts,
    }))))
}
