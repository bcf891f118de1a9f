//! The settings of a kind of institution, declared as data: `routes.toml` is read by these
//! declarations, and `paymux check --kinds` prints them.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::domain::personal::payer_context::PayerAppId;
use crate::signature::{KeyRing, SigningKey, VerifyingKey};

/// One setting of an institution, of an account or of a provider's contract.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in `routes.toml`.
    pub name: &'static str,
    /// The kind of its value.
    pub form: SettingForm,
    /// Whether it is required.
    pub is_required: bool,
    /// An example value in TOML.
    pub example: &'static str,
    /// A short help text.
    pub help: &'static str,
}

impl Setting {
    /// A required setting.
    pub const fn required(name: &'static str, form: SettingForm, help: &'static str) -> Self {
        Self {
            name,
            form,
            is_required: true,
            example: form.example(),
            help,
        }
    }

    /// An optional setting.
    pub const fn optional(name: &'static str, form: SettingForm, help: &'static str) -> Self {
        Self {
            is_required: false,
            ..Self::required(name, form, help)
        }
    }

    /// The same with another example.
    #[must_use]
    pub const fn such_as(self, example: &'static str) -> Self {
        Self { example, ..self }
    }
}

/// The kind of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingForm {
    /// 1 to 64 characters of plain text.
    Text,
    /// 1 to 64 of A-Z a-z 0-9 _ -: a number that the institution assigned.
    Identifier,
    /// `https://host[:port]`.
    Address,
    /// 1 to 32 of A-Z a-z 0-9 _ -: an application of ours at the institution.
    App,
    /// A table of such applications by their use: `{ jsapi = "wx…", default = "wx…" }`.
    Apps,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `file:PATH` or `env:NAME` of a secret text.
    Secret,
    /// The same, of exactly this many ASCII characters.
    SecretOf(usize),
    /// A file with the institution's public key for this algorithm, in PEM.
    PublicKey(&'static str),
    /// Tables with the institution's public keys, each with an id, an algorithm and its validity.
    PublicKeys,
    /// `file:PATH` or `env:NAME` of our own private key, with the names of its related settings.
    PrivateKey(OwnKeySettings),
    /// A file with a certificate chain in PEM.
    Certificate,
    /// The id of the private key in this setting.
    KeyIdOf(&'static str),
    /// The first or last day of the private key in this setting.
    DayOf(&'static str),
}

/// The names of the settings that belong to a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnKeySettings {
    /// Its id.
    pub id: &'static str,
    /// Its first and last day.
    pub days: [&'static str; 2],
    /// The algorithm it signs with, where the dialect fixes it; `None` where the key says it.
    pub algorithm: Option<&'static str>,
}

impl SettingForm {
    /// Its printed name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Identifier => "identifier",
            Self::Address => "address",
            Self::App => "application",
            Self::Apps => "applications",
            Self::Choice(_) => "choice",
            Self::Secret | Self::SecretOf(_) => "secret",
            Self::PublicKey(_) => "public key",
            Self::PublicKeys => "public keys",
            Self::PrivateKey(_) => "private key",
            Self::Certificate => "certificate",
            Self::KeyIdOf(_) => "key id",
            Self::DayOf(_) => "day",
        }
    }

    /// Whether its value names a file.
    pub fn is_file(self) -> bool {
        match self {
            Self::Secret
            | Self::SecretOf(_)
            | Self::PublicKey(_)
            | Self::PrivateKey(_)
            | Self::Certificate => true,
            Self::Text
            | Self::Identifier
            | Self::Address
            | Self::App
            | Self::Apps
            | Self::Choice(_)
            | Self::PublicKeys
            | Self::KeyIdOf(_)
            | Self::DayOf(_) => false,
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Text => "\"Paymux\"",
            Self::Identifier => "\"88001001\"",
            Self::Address => "\"https://pay.example\"",
            Self::App => "\"wxd678efh567hg6787\"",
            Self::Apps => "{ default = \"wxd678efh567hg6787\" }",
            Self::Choice(_) => "one of them",
            Self::Secret | Self::SecretOf(_) => "\"file:certs/….secret\"",
            Self::PublicKey(_) => "\"certs/….pub\"",
            Self::PublicKeys => {
                "[{ id = \"…\", algorithm = \"ed25519\", file = \"certs/….pub\", \
                 not_before = 2026-01-01, not_after = 2035-12-31 }]"
            }
            Self::PrivateKey(_) => "\"file:certs/….key\"",
            Self::Certificate => "\"certs/….pem\"",
            Self::KeyIdOf(_) => "\"paymux-1\"",
            Self::DayOf(_) => "2026-01-01",
        }
    }
}

/// The value of a setting, parsed and validated according to its form.
#[derive(Debug, Clone)]
pub enum SettingValue {
    /// A text, an identifier, an address or a choice.
    Text(Box<str>),
    /// An application.
    App(PayerAppId),
    /// Applications by their use.
    Apps(Vec<(Box<str>, PayerAppId)>),
    /// A secret.
    Secret(SecretText),
    /// A public key.
    PublicKey(VerifyingKey),
    /// Several public keys.
    PublicKeys(KeyRing),
    /// A private key.
    PrivateKey(OwnKey),
    /// A certificate chain in DER, the holder's certificate first.
    Certificate(Vec<Box<[u8]>>),
}

/// A secret text. Cannot be printed.
#[derive(Clone)]
pub struct SecretText(Box<str>);

impl SecretText {
    /// Wraps a secret.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The plain text, for a signature or a cipher.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

/// One of our private keys, and its validity.
#[derive(Debug, Clone)]
pub struct OwnKey {
    /// The key.
    pub key: Arc<SigningKey>,
    /// The period in which it may sign (R-6.3.1-1c). Unit: Unix seconds.
    pub signs_within: RangeInclusive<i64>,
}

/// The validity of a key without dates.
pub const ALWAYS: RangeInclusive<i64> = i64::MIN..=i64::MAX;

/// The values of one table, by setting name. A key or certificate that is currently unusable is
/// absent; all other required settings are present.
#[derive(Debug, Clone, Default)]
pub struct SettingValues(HashMap<&'static str, SettingValue>);

impl SettingValues {
    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: SettingValue) -> Self {
        self.0.insert(name, value);
        self
    }

    /// A text, an identifier, an address or a choice.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(SettingValue::Text(text)) => Some(text),
            Some(_) | None => None,
        }
    }

    /// An application.
    pub fn app(&self, name: &str) -> Option<&PayerAppId> {
        match self.0.get(name) {
            Some(SettingValue::App(app)) => Some(app),
            Some(_) | None => None,
        }
    }

    /// The application of a table for this use; without one the `default`.
    pub fn app_for(&self, name: &str, purpose: &str) -> Option<&PayerAppId> {
        let Some(SettingValue::Apps(apps)) = self.0.get(name) else {
            return None;
        };
        let of = |purpose: &str| apps.iter().find(|(known, _)| **known == *purpose);
        of(purpose).or_else(|| of("default")).map(|(_, app)| app)
    }

    /// Every application named in the table.
    pub fn apps(&self) -> Vec<PayerAppId> {
        let mut apps: Vec<PayerAppId> = Vec::new();
        for value in self.0.values() {
            match value {
                SettingValue::App(app) => apps.push(app.clone()),
                SettingValue::Apps(all) => apps.extend(all.iter().map(|(_, app)| app.clone())),
                SettingValue::Text(_)
                | SettingValue::Secret(_)
                | SettingValue::PublicKey(_)
                | SettingValue::PublicKeys(_)
                | SettingValue::PrivateKey(_)
                | SettingValue::Certificate(_) => (),
            }
        }
        apps
    }

    /// A secret.
    pub fn secret(&self, name: &str) -> Option<&SecretText> {
        match self.0.get(name) {
            Some(SettingValue::Secret(secret)) => Some(secret),
            Some(_) | None => None,
        }
    }

    /// A public key of the institution.
    pub fn public_key(&self, name: &str) -> Option<&VerifyingKey> {
        match self.0.get(name) {
            Some(SettingValue::PublicKey(key)) => Some(key),
            Some(_) | None => None,
        }
    }

    /// The public keys of the institution.
    pub fn public_keys(&self, name: &str) -> Option<&KeyRing> {
        match self.0.get(name) {
            Some(SettingValue::PublicKeys(ring)) => Some(ring),
            Some(_) | None => None,
        }
    }

    /// Our own private key.
    pub fn private_key(&self, name: &str) -> Option<&OwnKey> {
        match self.0.get(name) {
            Some(SettingValue::PrivateKey(key)) => Some(key),
            Some(_) | None => None,
        }
    }

    /// A certificate chain in DER.
    pub fn certificate(&self, name: &str) -> Option<&[Box<[u8]>]> {
        match self.0.get(name) {
            Some(SettingValue::Certificate(chain)) => Some(chain),
            Some(_) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D2: `Debug` does not print a secret.
    #[test]
    fn a_secret_setting_is_not_printed() {
        let secret = SettingValue::Secret(SecretText::new("hunter2"));
        let values = SettingValues::default().with("apiv3_key", secret);
        assert!(!format!("{values:?}").contains("hunter2"));
        let held = values.secret("apiv3_key").map(SecretText::expose);
        assert_eq!(held, Some("hunter2"));
    }
}
