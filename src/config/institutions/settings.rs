//! Reads the settings that a kind of institution declares, each by its form; every fault has its line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::enrolment::owners::{KeyHolder, KeyNote};
use crate::config::enrolment::public_keys::KeysOf;
use crate::config::enrolment::{Enrolment, NAME, name, validities};
use crate::config::faults::nearest;
use crate::config::gateway::{KEY_ID, ORIGIN, plain_origin};
use crate::config::named::{CertificateRole, NamedFile, certificates, day, text};
use crate::config::outline::mark;
use crate::config::reading::{ConfigReader, Located, NotInForce, shape};
use crate::config::section::Section;
use crate::config::{KeyClass, KeySummary};
use crate::domain::identifiers::{KeyId, ReceiverId};
use crate::domain::institutions::Credentials;
use crate::domain::personal::payer_context::PayerAppId;
use crate::institution::{
    ALWAYS, OwnKey, OwnKeySettings, SecretText, Setting, SettingForm, SettingValue, SettingValues,
};
use crate::signature::{Algorithm, KeyRing, VerifyingKey};

/// An application.
const APP: &str = "an application's number, 1 to 32 of A-Z a-z 0-9 _ -";

/// The settings of one table.
#[derive(Default)]
pub(in crate::config) struct ReadSettings {
    /// The settings that could be read.
    pub(in crate::config) values: SettingValues,
    /// When its keys and certificates are usable; never if one cannot be read.
    pub(in crate::config) credentials: Credentials,
}

impl ReadSettings {
    fn set(&mut self, name: &'static str, value: Option<SettingValue>) {
        if let Some(value) = value {
            self.values = std::mem::take(&mut self.values).with(name, value);
        }
    }

    /// Requires a credential without dates: it is usable always or never.
    fn needs(&mut self, is_there: bool) {
        let span = is_there.then_some(ALWAYS).into_iter().collect();
        self.credentials = std::mem::take(&mut self.credentials).and(span);
    }
}

/// The table to read settings from, and the holder of the keys in it.
pub(in crate::config) struct SettingsReader<'a, 'd> {
    pub(in crate::config) section: &'a mut Section<'d>,
    pub(in crate::config) holder: Option<KeyHolder<'a>>,
    /// The key ids already used here.
    pub(in crate::config) key_ids: &'a mut BTreeMap<String, usize>,
}

impl Enrolment {
    /// Reads every declared setting of a table.
    pub(in crate::config) fn settings(
        &mut self,
        r: &mut ConfigReader<'_>,
        mut at: SettingsReader<'_, '_>,
        declared: &[Setting],
    ) -> ReadSettings {
        let mut read = ReadSettings::default();
        for setting in declared {
            if setting.is_required || at.section.has(setting.name) {
                self.setting(r, &mut at, setting, &mut read);
            } else {
                at.section.knows(&[setting.name]);
            }
        }
        read
    }

    fn setting(
        &mut self,
        r: &mut ConfigReader<'_>,
        at: &mut SettingsReader<'_, '_>,
        setting: &Setting,
        read: &mut ReadSettings,
    ) {
        let s = &mut *at.section;
        let name = setting.name;
        match setting.form {
            SettingForm::Text
            | SettingForm::Identifier
            | SettingForm::Address
            | SettingForm::Choice(_) => read.set(name, plain(r, s, setting)),
            SettingForm::App => {
                let form = shape(APP, setting.example);
                let app = s.mandatory(r, name, form, |v| PayerAppId::parse(v.as_str()?).ok());
                read.set(name, app.map(|found| SettingValue::App(found.value)));
            }
            SettingForm::Apps => {
                let apps = s
                    .table(r, name)
                    .named_texts(r, shape(APP, "\"wx…\""), |text| {
                        PayerAppId::parse(text).ok()
                    });
                read.set(name, Some(SettingValue::Apps(apps)));
            }
            SettingForm::Secret | SettingForm::SecretOf(_) => {
                let secret = secret(r, s, setting);
                read.needs(secret.is_some());
                read.set(name, secret.map(SettingValue::Secret));
            }
            SettingForm::PublicKey(algorithm) => {
                let key = public_key(r, s, setting, algorithm);
                read.needs(key.is_some());
                read.set(name, key.map(SettingValue::PublicKey));
            }
            SettingForm::PublicKeys => {
                let ring = self.public_key_ring(r, at, name, read);
                read.set(name, ring.map(SettingValue::PublicKeys));
            }
            SettingForm::PrivateKey(belonging) => {
                let key = self.own_key(r, at, name, belonging);
                let span = key.as_ref().map(|key| key.signs_within.clone());
                let credentials = std::mem::take(&mut read.credentials);
                read.credentials = credentials.and(span.into_iter().collect());
                read.set(name, key.map(SettingValue::PrivateKey));
            }
            SettingForm::Certificate => {
                let chain = certificate(r, s, name);
                read.needs(chain.is_some());
                read.set(name, chain.map(SettingValue::Certificate));
            }
            // Read with the key they belong to.
            SettingForm::KeyIdOf(_) | SettingForm::DayOf(_) => s.knows(&[name]),
        }
    }

    fn public_key_ring(
        &mut self,
        r: &mut ConfigReader<'_>,
        at: &mut SettingsReader<'_, '_>,
        name: &'static str,
        read: &mut ReadSettings,
    ) -> Option<KeyRing> {
        let of = KeysOf {
            holder: at.holder,
            class: KeyClass::Institution,
        };
        let keys = self.public_keys(r, at.section, name, of, at.key_ids);
        if keys.iter().any(|it| it.key.algorithm().is_shared()) {
            // V3, R-6.3.1-1b: its messages can move money, so nobody else may be able to sign them.
            let advice = "ask the institution for one: a shared secret proves nothing to others";
            r.fault(
                at.section.line,
                &at.section.subject(name),
                "a public key of the institution",
                "a shared secret",
                advice,
            );
        }
        let credentials = std::mem::take(&mut read.credentials);
        read.credentials = credentials.proven_by(validities(&keys));
        // A duplicate id has been reported already.
        KeyRing::new(keys).ok()
    }

    /// Our own key with its id and validity.
    fn own_key(
        &mut self,
        r: &mut ConfigReader<'_>,
        at: &mut SettingsReader<'_, '_>,
        name: &'static str,
        belonging: OwnKeySettings,
    ) -> Option<OwnKey> {
        let s = &mut *at.section;
        let id = s.mandatory(r, belonging.id, KEY_ID, |v| KeyId::parse(v.as_str()?).ok());
        if let Some(id) = &id {
            r.once(at.key_ids, id, &s.subject(belonging.id));
        }
        let key_id = id.as_ref().map(|id| id.value.as_str());
        let key = match belonging.algorithm.and_then(Algorithm::parse) {
            Some(algorithm) => s.signing_key_for(r, name, key_id, algorithm),
            None => s.signing_key(r, name, key_id),
        };
        let validity_s = own_key_span(r, s, belonging.days);
        let (key, id) = (key?, id?);
        if let Some(holder) = at.holder {
            self.notes.push(KeyNote {
                summary: KeySummary {
                    id: key.id().to_owned(),
                    owner: format!("this gateway as {}", holder.shown),
                    class: KeyClass::OursAtInstitution,
                    mark: mark(key.public_pem().as_bytes()),
                    algorithm: key.algorithm().name(),
                    validity_s,
                },
                party: holder.party.to_owned(),
                line: id.line,
            });
        }
        Some(OwnKey {
            key,
            signs_within: validity_s.map_or(ALWAYS, |(from, until)| from..=until),
        })
    }
}

/// A text of a given form.
fn plain(r: &mut ConfigReader<'_>, s: &mut Section<'_>, setting: &Setting) -> Option<SettingValue> {
    let (at, example) = (setting.name, setting.example);
    let found: Option<Located<String>> = match setting.form {
        SettingForm::Identifier => {
            let form = shape("1 to 64 of A-Z a-z 0-9 _ -", example);
            s.mandatory(r, at, form, |v| {
                let id = ReceiverId::parse(v.as_str()?).ok()?;
                Some(id.to_string())
            })
        }
        SettingForm::Address => {
            let form = shape(ORIGIN.expected, example);
            s.mandatory(r, at, form, |v| text(v).and_then(plain_origin))
        }
        SettingForm::Choice(words) => chosen(r, s, setting, words),
        SettingForm::Text
        | SettingForm::App
        | SettingForm::Apps
        | SettingForm::Secret
        | SettingForm::SecretOf(_)
        | SettingForm::PublicKey(_)
        | SettingForm::PublicKeys
        | SettingForm::PrivateKey(_)
        | SettingForm::Certificate
        | SettingForm::KeyIdOf(_)
        | SettingForm::DayOf(_) => {
            let form = shape(NAME.expected, example);
            s.mandatory(r, at, form, |v| v.as_str().and_then(name))
        }
    };
    found.map(|found| SettingValue::Text(found.value.into()))
}

/// One of the given words.
fn chosen(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
    setting: &Setting,
    words: &[&'static str],
) -> Option<Located<String>> {
    let form = shape("one of the words of paymux check --kinds", setting.example);
    let found = s.mandatory(r, setting.name, form, text)?;
    let Located { value, line } = found;
    if words.contains(&value) {
        let value = value.to_owned();
        return Some(Located { value, line });
    }
    let expected = format!("one of {}", words.join(", "));
    let advice = nearest(value, words).map_or_else(
        || "write one of them".to_owned(),
        |word| format!("did you mean {word:?}?"),
    );
    let found = format!("{value:?}");
    r.fault(line, &s.subject(setting.name), &expected, &found, &advice);
    None
}

/// A secret text, of the length that its setting demands.
fn secret(r: &mut ConfigReader<'_>, s: &mut Section<'_>, setting: &Setting) -> Option<SecretText> {
    let found = s.secret(r, setting.name, |_| None)?;
    let text = found.text.trim();
    if let SettingForm::SecretOf(length) = setting.form
        && !(text.is_ascii() && text.len() == length)
    {
        let expected = format!("a secret of exactly {length} ASCII characters");
        let (subject, there) = (s.subject(setting.name), "something else (not shown)");
        r.unusable(found.line, &subject, &expected, there, "copy it again");
        return None;
    }
    Some(SecretText::new(text))
}

/// A public key of another party, in a file.
fn public_key(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
    setting: &Setting,
    algorithm: &str,
) -> Option<VerifyingKey> {
    let algorithm = Algorithm::parse(algorithm)?;
    let holds = |path: PathBuf| NamedFile::Public {
        id: setting.name.to_owned(),
        algorithm,
        path,
    };
    let file = s.file(r, setting.name, holds)?;
    match VerifyingKey::of_algorithm(algorithm, &file.value) {
        Ok(key) => Some(key),
        Err(fault) => {
            let expected = format!("a public key for {algorithm}, SubjectPublicKeyInfo in PEM");
            let advice = "ask its owner for the public half";
            let subject = s.subject(setting.name);
            r.unusable(file.line, &subject, &expected, &fault.to_string(), advice);
            None
        }
    }
}

/// A chain of certificates, in a file.
fn certificate(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
    name: &'static str,
) -> Option<Vec<Box<[u8]>>> {
    let holds = |certificate: PathBuf| NamedFile::Certificate {
        certificate,
        key: None,
        holder: CertificateRole::Client,
    };
    let file = s.file(r, name, holds)?;
    let chain = certificates(r, &file.value, file.line, &s.subject(name))?;
    Some(chain.iter().map(|der| der.as_ref().into()).collect())
}

/// The validity of our own key (R-6.3.1-1c). Without it the key never expires, with a warning: then only
/// the institution knows when it stops accepting the key. Unit: Unix seconds.
fn own_key_span(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
    names: [&'static str; 2],
) -> Option<(i64, i64)> {
    let [first, last] = names;
    let subject = s.subject(last);
    if !names.iter().any(|name| s.has(name)) {
        s.knows(&names);
        let expected = format!("the last day of our own key, and {first}, its first");
        let advice =
            "write what was agreed with the institution, so that its end is announced in time";
        let note = r.note(s.line, &subject, &expected, "nothing", advice);
        r.warnings.push(note);
        return None;
    }
    let span = s.span(r, names)?;
    let found = format!("one from {} to {}", day(span.0), day(span.1));
    let fault = NotInForce {
        line: s.line,
        subject: &subject,
        expected: "a key in force today",
        found: &found,
        advice: "nothing can be signed: name the key that is in force, or its days",
    };
    if r.in_force(vec![span.0..=span.1], fault) {
        r.ends_soon(s.line, &subject, Some(span.1));
    }
    Some(span)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config::PartyKind;
    use crate::domain::identifiers::Timestamp;
    use crate::signature::SigningKey;

    /// One setting of every form that a dialect may declare.
    const DECLARED: [Setting; 8] = [
        Setting::optional("apps", SettingForm::Apps, "our applications"),
        Setting::required("mchid", SettingForm::Identifier, "the number"),
        Setting::optional("title", SettingForm::Text, "a name"),
        Setting::optional("files", SettingForm::Address, "the second host"),
        Setting::required(
            "scheme",
            SettingForm::Choice(&["rsa", "sm2"]),
            "how it signs",
        ),
        Setting::required(
            "apiv3_key",
            SettingForm::SecretOf(16),
            "opens what is encrypted",
        ),
        Setting::required(
            "platform",
            SettingForm::PublicKey("ed25519"),
            "proves answers",
        ),
        Setting::optional("certificate", SettingForm::Certificate, "ours"),
    ];

    fn read(text: &str) -> (ReadSettings, Vec<String>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let (_, public) = SigningKey::generate_ed25519().unwrap();
        fs::write(folder.path().join("platform.pub"), public).unwrap();
        let file = folder.path().join("routes.toml");
        let environment = |name: &str| match name {
            "APIV3" => Some("0123456789abcdef".to_owned()),
            "SHORT" => Some("0123456789abcde".to_owned()),
            "WIDE" => Some("０123456789abc".to_owned()),
            _ => None,
        };
        let now = Timestamp::from_s(1_790_000_000);
        let mut r = ConfigReader::new(Path::new(&file), text, now, &environment);
        r.about(Some(PartyKind::Institution));
        let document = r.document().unwrap();
        let mut section = Section::whole(&document);
        let mut key_ids = BTreeMap::new();
        let reader = SettingsReader {
            section: &mut section,
            holder: None,
            key_ids: &mut key_ids,
        };
        let read = Enrolment::default().settings(&mut r, reader, &DECLARED);
        section.end(&mut r);
        let faults = r.faults.iter().map(ToString::to_string).collect();
        (read, faults, r.unusable.len())
    }

    const SOUND: &str = "mchid = \"1900009191\"\nscheme = \"sm2\"\napiv3_key = \"env:APIV3\"\n\
                         platform = \"platform.pub\"\nfiles = \"https://files.example\"\n\
                         apps = { jsapi = \"wx1\", default = \"wx2\" }\n";

    /// F1: a setting of each form is read as declared.
    #[test]
    fn every_form_of_setting_is_read() {
        let (read, faults, unusable) = read(SOUND);
        assert_eq!((faults, unusable), (Vec::new(), 0));
        let values = &read.values;
        assert_eq!(values.text("mchid"), Some("1900009191"));
        assert_eq!(values.text("scheme"), Some("sm2"));
        assert_eq!(values.text("files"), Some("https://files.example"));
        assert_eq!(values.text("title"), None);
        let app = |purpose| values.app_for("apps", purpose).map(PayerAppId::as_str);
        assert_eq!([app("jsapi"), app("h5")], [Some("wx1"), Some("wx2")]);
        assert_eq!(values.apps().len(), 2);
        let secret = values.secret("apiv3_key").map(SecretText::expose);
        assert_eq!(secret, Some("0123456789abcdef"));
        assert!(values.public_key("platform").is_some());
        assert!(values.certificate("certificate").is_none());
        assert!(
            read.credentials
                .are_usable(Timestamp::from_s(1_790_000_000))
        );
    }

    /// F1: every fault has a line with expected, found and advice.
    #[test]
    fn every_fault_of_a_setting_has_its_line() {
        for (from, to, expected) in [
            (
                "mchid = \"1900009191\"\n",
                "",
                "mchid: expected 1 to 64 of A-Z a-z 0-9 _ -, found nothing",
            ),
            (
                "\"1900009191\"",
                "\"19 00\"",
                ":1: mchid: expected 1 to 64 of A-Z a-z 0-9 _ -, found \"19 00\"",
            ),
            (
                "\"sm2\"",
                "\"sm3\"",
                ":2: scheme: expected one of rsa, sm2, found \"sm3\"; did you mean \"sm2\"?",
            ),
            (
                "\"env:APIV3\"",
                "\"0123\"",
                ":3: apiv3_key: expected the name of a secret",
            ),
            (
                "https://files",
                "http://files",
                ":5: files: expected https://host[:port]",
            ),
            (
                "\"wx1\"",
                "\"wx 1\"",
                ":6: apps jsapi: expected an application's number, 1 to 32 of A-Z a-z 0-9 _ -, \
                 found \"wx 1\"",
            ),
            (
                "mchid =",
                "mchidd =",
                "unknown name \"mchidd\"; did you mean mchid?",
            ),
        ] {
            let (_, faults, _) = read(&SOUND.replace(from, to));
            let is_reported = faults.iter().any(|fault| fault.contains(expected));
            assert!(is_reported, "{expected}: {faults:#?}");
        }
    }

    /// F3: an unusable key or secret leaves its account without credentials and is no fault.
    #[test]
    fn what_cannot_be_used_is_no_fault() {
        for (from, to) in [
            ("env:APIV3", "env:ABSENT"),
            ("env:APIV3", "env:SHORT"),
            ("env:APIV3", "env:WIDE"),
            ("platform.pub", "absent.pub"),
        ] {
            let (read, faults, unusable) = read(&SOUND.replace(from, to));
            assert_eq!((faults, unusable), (Vec::new(), 1), "{to}");
            assert!(
                !read
                    .credentials
                    .are_usable(Timestamp::from_s(1_790_000_000))
            );
        }
    }
}
