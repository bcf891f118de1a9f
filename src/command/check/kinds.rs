//! `paymux check --kinds`: what each kind of institution needs in `routes.toml`.

use std::fmt::Write as _;

use crate::command::check::table;
use crate::domain::institutions::Product;
use crate::institution::{InstitutionKind, KINDS, Setting, SettingForm};

/// Every kind with its settings, table by table.
pub fn describe() -> String {
    let kinds: Vec<String> = KINDS.iter().map(of_kind).collect();
    kinds.join("\n")
}

fn of_kind(kind: &InstitutionKind) -> String {
    let mut text = format!("kind = \"{}\"\n", kind.name);
    for (title, settings) in [
        ("[[institution]]", kind.institution_settings),
        ("[[account]]", kind.account_settings),
        (
            "[[contract]] sub = { … }, of a provider's account",
            kind.sub_settings,
        ),
    ] {
        if settings.is_empty() {
            continue;
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n{title}");
        let rows: Vec<_> = settings.iter().map(row).collect();
        for line in table(&rows).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    let _ = writeln!(text, "\nproducts");
    let mut rows = vec![PRODUCT_HEADS.map(ToOwned::to_owned)];
    rows.extend(kind.products.iter().map(product_row));
    for line in table(&rows).lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// The heads of the columns of [`product_row`].
const PRODUCT_HEADS: [&str; 8] = [
    "id",
    "payer gets",
    "modes",
    "create sends",
    "wants",
    "not found counts",
    "ended by",
    "reply bound by",
];

fn product_row(product: &Product) -> [String; 8] {
    let modes: Vec<_> = product.modes.iter().map(|mode| mode.name()).collect();
    let wants: Vec<_> = product.wants.iter().map(|one| one.field()).collect();
    let wants = if wants.is_empty() {
        "nothing".to_owned()
    } else {
        wants.join(", ")
    };
    [
        product.id.to_owned(),
        product.help.to_owned(),
        modes.join(", "),
        product.create.word().to_owned(),
        wants,
        product.visibility.describe(),
        product.ending.word().to_owned(),
        product.binding.word().to_owned(),
    ]
}

fn row(setting: &Setting) -> [String; 4] {
    let need = if setting.is_required {
        "required"
    } else {
        "optional"
    };
    let help = match setting.form {
        SettingForm::Choice(words) => format!("{}: {}", setting.help, words.join(", ")),
        SettingForm::Text
        | SettingForm::Identifier
        | SettingForm::Address
        | SettingForm::App
        | SettingForm::Apps
        | SettingForm::Secret
        | SettingForm::SecretOf(_)
        | SettingForm::PublicKey(_)
        | SettingForm::PublicKeys
        | SettingForm::PrivateKey(_)
        | SettingForm::Certificate
        | SettingForm::KeyIdOf(_)
        | SettingForm::DayOf(_) => setting.help.to_owned(),
    };
    [
        setting.name.to_owned(),
        setting.form.word().to_owned(),
        need.to_owned(),
        help,
    ]
}
