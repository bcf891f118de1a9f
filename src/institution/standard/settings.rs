//! The `standard` dialect as data: its capabilities, settings, and the constructor of its adapter.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::institutions::{
    BodyFormat, CallbackPath, CreateSend, Ending, Product, Rates, ShownFields, Visibility,
};
use crate::domain::merchant;
use crate::institution::standard::accounts::StandardAccounts;
use crate::institution::standard::{StandardAdapter, StandardInstitution};
use crate::institution::{
    ConfiguredInstitution, Institution, InstitutionKind, OwnKeySettings, Setting, SettingForm,
    SettingsFault, URL,
};

/// A call is valid for `SIGNED_FOR_S`, by a clock that may be half a minute behind (A5).
const VISIBLE_AFTER: Duration = Duration::from_secs(330);

/// Its only product: whatever the institution offers its payers, in every mode.
const PRODUCT: Product = Product {
    help: "the institution's own page or SDK",
    create: CreateSend::Repeatable,
    ending: Ending::Close,
    ..Product::plain("STANDARD", Visibility::AfterSend(VISIBLE_AFTER))
};

/// The merchant name that the institution gets.
const MERCHANT_NAME: &str = "merchant_name";
/// The receiver's number.
const MERCHANT_ID: &str = "merchant_id";
/// Our private key.
pub(super) const KEY: &str = "key";
/// The institution's keys for us.
pub(super) const KEYS: &str = "keys";

/// The names that belong to [`KEY`].
const OWN_KEY: OwnKeySettings = OwnKeySettings {
    id: "key_id",
    days: ["key_not_before", "key_not_after"],
    algorithm: None,
};

/// The dialect as data.
pub(in crate::institution) const KIND: InstitutionKind = InstitutionKind {
    name: "standard",
    products: &[PRODUCT],
    refund_visibility: VISIBLE_AFTER,
    repeatable_refund: true,
    rates: Rates {
        calls_per_second: 50,
        refund_question_gap: Duration::ZERO,
    },
    callback_path: CallbackPath::OfInstitution,
    body: BodyFormat::Json,
    // It speaks this gateway's own interface.
    shown: ShownFields::OfInterface,
    institution_settings: &[
        Setting::required(URL, SettingForm::Address, "base URL of its API")
            .such_as("\"https://bank.example\""),
        Setting::optional(
            MERCHANT_NAME,
            SettingForm::Text,
            "merchant name sent to the institution; default: the merchant's own",
        ),
    ],
    account_settings: &[
        Setting::required(
            MERCHANT_ID,
            SettingForm::Identifier,
            "the account's number at the institution (merchantId)",
        ),
        Setting::required(OWN_KEY.id, SettingForm::KeyIdOf(KEY), "the id of our key"),
        Setting::required(
            KEY,
            SettingForm::PrivateKey(OWN_KEY),
            "signs our calls and acknowledgements",
        ),
        Setting::optional(
            "key_not_before",
            SettingForm::DayOf(KEY),
            "the first day on which our key signs",
        ),
        Setting::optional(
            "key_not_after",
            SettingForm::DayOf(KEY),
            "last day; a warning appears 30 days before",
        ),
        Setting::required(
            KEYS,
            SettingForm::PublicKeys,
            "verify its responses and callbacks",
        ),
    ],
    sub_settings: &[Setting::required(
        MERCHANT_ID,
        SettingForm::Identifier,
        "the sub-merchant's number there, who receives the money",
    )],
    account_receiver: MERCHANT_ID,
    sub_receiver: MERCHANT_ID,
    build,
};

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
    let callback_url = settings.callback_url(None);
    let merchant_name = settings.values.text(MERCHANT_NAME);
    Ok(Arc::new(StandardAdapter(Arc::new(StandardInstitution {
        origin: origin.to_owned(),
        merchant_name: merchant_name.map(ToOwned::to_owned),
        callback_url,
        accounts: StandardAccounts::new(settings.accounts),
        id: settings.id,
        facts: settings.facts,
    }))))
}
