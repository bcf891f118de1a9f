//! The content of a configuration, table by table, for comparison and display.
//!
//! Contains no secret: the text of a configuration has none, and of the files it names only fingerprints
//! are included. Of payers' numbers only their count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use crate::config::Config;
use crate::config::named::{day, validity_s};
use crate::crypto::digest::sha256;
use crate::crypto::pem;
use crate::domain::identifiers::{hex, unhex};
use crate::institution::{InstitutionKind, KINDS};
use crate::signature::Algorithm;

/// Displayed digits of a digest.
const SHOWN_DIGITS: usize = 16;

/// Names of values that are file names.
const FILES: [&str; 10] = [
    "certificate",
    "certificates",
    "client_certificate",
    "client_key",
    "digest_key",
    "file",
    "key",
    "merchant_roots",
    "roots",
    "secret",
];

/// Every table by its display name (`merchant M1001`), every value as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationOutline(pub(super) BTreeMap<String, BTreeMap<String, String>>);

impl ConfigurationOutline {
    /// The content of a document. File names are relative to its folder; two that mean the same file are
    /// equal.
    pub(super) fn of(document: &DeTable<'_>, folder: &Path) -> Self {
        let mut drawing = OutlineBuilder {
            outline: Self::default(),
            folder: folder.to_owned(),
        };
        for (name, value) in document {
            let (name, value) = (name.get_ref(), value.get_ref());
            if let Some(table) = value.as_table() {
                drawing.table(name, "", table);
            } else {
                drawing.tables("", name, value);
            }
        }
        drawing.outline
    }

    fn set(&mut self, subject: &str, name: &str, value: String) {
        let table = self.0.entry(subject.to_owned()).or_default();
        table.insert(name.to_owned(), value);
    }
}

/// An outline under construction.
struct OutlineBuilder {
    outline: ConfigurationOutline,
    folder: PathBuf,
}

impl OutlineBuilder {
    fn table(&mut self, subject: &str, before: &str, table: &DeTable<'_>) {
        self.outline.0.entry(subject.to_owned()).or_default();
        for (key, value) in table {
            let name = format!("{before}{}", key.get_ref());
            let value = value.get_ref();
            let list = value.as_array();
            if let Some(inner) = value.as_table() {
                self.table(subject, &format!("{name}."), inner);
            } else if list.is_some_and(|list| list.iter().any(|it| it.get_ref().is_table())) {
                self.tables(subject, &name, value);
            } else if let Some(list) = list.filter(|_| name.contains("payer")) {
                let all = short(&hex(&sha256(text(value).as_bytes())));
                let entries = format!("{} entries, {all}", list.len());
                self.outline.set(subject, &name, entries);
            } else if is_file(key.get_ref()) {
                self.outline.set(subject, &name, self.files(value));
            } else {
                self.outline.set(subject, &name, text(value));
            }
        }
    }

    /// Adds each table of a list under its own name: its id, or the parties it is about.
    fn tables(&mut self, owner: &str, name: &str, list: &DeValue<'_>) {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for value in list.as_array().into_iter().flatten() {
            let Some(table) = value.get_ref().as_table() else {
                continue;
            };
            let named = |name: &str| table.get(name).and_then(|it| it.get_ref().as_str());
            let mut subject = match (named("merchant"), named("institution"), named("id")) {
                (None, Some(institution), Some(id)) => {
                    format!("{} {id} at {institution}", singular(name))
                }
                (_, _, Some(id)) => format!("{} {id}", singular(name)),
                (Some(merchant), Some(institution), None) => {
                    format!("{name} of {merchant} with {institution}")
                }
                (None, Some(institution), None) => format!("{name} to {institution}"),
                (_, None, None) => singular(name).to_owned(),
            };
            if !owner.is_empty() {
                subject = format!("{owner}, {subject}");
            }
            let count = counts.entry(subject.clone()).or_default();
            *count = count.saturating_add(1);
            if *count > 1 {
                subject = format!("{subject} ({count})");
            }
            self.table(&subject, "", table);
        }
    }
}

impl OutlineBuilder {
    /// A file, or a list of files, as resolved paths.
    fn files(&self, value: &DeValue<'_>) -> String {
        match value {
            DeValue::String(name) => format!("{:?}", self.file(name)),
            DeValue::Array(values) => {
                let each = values.iter().map(|value| self.files(value.get_ref()));
                format!("[{}]", each.collect::<Vec<_>>().join(", "))
            }
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => text(value),
        }
    }

    fn file(&self, name: &str) -> String {
        let is_digest = unhex::<32>(name).is_some();
        if name.is_empty() || name.starts_with("env:") || is_digest {
            return name.to_owned();
        }
        match name.strip_prefix("file:") {
            Some(path) => format!("file:{}", meant(&self.folder.join(path))),
            None => meant(&self.folder.join(name)),
        }
    }
}

/// Maximum number of links followed in a row.
const LINKS_MAX: usize = 40;

/// The resolved path: the same for every spelling, and the same before and after the file is created.
fn meant(path: &Path) -> String {
    let mut whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..LINKS_MAX {
        let there = |one: &&Path| one.symlink_metadata().is_ok();
        let Some(known) = whole.ancestors().find(there).map(Path::to_owned) else {
            break;
        };
        let rest = whole.strip_prefix(&known).unwrap_or(Path::new(""));
        let real = known.canonicalize();
        // A dangling link: the file will be created at its target.
        let (mut next, is_real) = match (real, known.read_link()) {
            (Ok(real), _) => (real, true),
            (Err(_), Ok(target)) => (known.with_file_name("").join(target), false),
            (Err(_), Err(_)) => (known.clone(), true),
        };
        next.extend(rest);
        whole = next;
        if is_real {
            break;
        }
    }
    whole.display().to_string()
}

/// Whether values of this name are file names, in any table.
fn is_file(name: &str) -> bool {
    let lists = |kind: &InstitutionKind| {
        [
            kind.institution_settings,
            kind.account_settings,
            kind.sub_settings,
        ]
    };
    let mut declared = KINDS.iter().flat_map(lists).flatten();
    FILES.contains(&name) || declared.any(|setting| setting.name == name && setting.form.is_file())
}

fn singular(name: &str) -> &str {
    name.strip_suffix('s').unwrap_or(name)
}

/// A value as written in TOML.
fn text(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(moment) => moment.to_string(),
        DeValue::Array(values) => {
            let texts: Vec<_> = values.iter().map(|value| text(value.get_ref())).collect();
            format!("[{}]", texts.join(", "))
        }
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The outline completed with defaults that a running gateway could not change, and with fingerprints of
/// the named files.
pub(super) fn completed(config: &Config) -> ConfigurationOutline {
    let mut outline = config.outline.clone();
    for table in ["limits", "health"] {
        // Every value of these has a default: setting one is a change of a value, not a new table.
        outline.0.entry(table.to_owned()).or_default();
    }
    let listen = &config.listen;
    outline.set("listen", "public", format!("\"{}\"", listen.public));
    outline.set("listen", "operations", format!("\"{}\"", listen.operations));
    let shown = certificate(&listen.identity.cert);
    outline.set("listen", "certificate shown", shown);
    let store = &config.store;
    let path = store.url.strip_prefix("sqlite:").unwrap_or(&store.url);
    let url = format!("sqlite:{}", meant(Path::new(path)));
    outline.set("store", "url", format!("{url:?}"));
    let mark = short(&hex(&store.seal.digest_mark()));
    outline.set("store", "digest_key in the file", mark);
    for (id, mark) in store.seal.marks() {
        let subject = format!("store, seal_key {id}");
        outline.set(&subject, "key in the file", short(&hex(&mark)));
    }
    for key in &config.keys {
        let subject = format!("signing key {} of {}", key.id, key.owner);
        let shared = Algorithm::parse(key.algorithm).is_some_and(Algorithm::is_shared);
        let half = if shared {
            "mark of the secret"
        } else {
            "public half"
        };
        outline.set(&subject, half, short(&key.mark));
        if let Some((from, until)) = key.validity_s {
            let span = format!("{} to {}", day(from), day(until));
            outline.set(&subject, "validity", span);
        }
    }
    for merchant in config.snapshot.routing.merchants.values() {
        let mut marks: Vec<_> = merchant.certificates.iter().map(|it| hex(it)).collect();
        marks.sort();
        let marks: Vec<_> = marks.iter().map(|mark| short(mark)).collect();
        let subject = format!("merchant {}", merchant.id);
        outline.set(&subject, "certificates enrolled", marks.join(", "));
    }
    if let Some(roots) = &config.outbound.merchant_roots {
        outline.set("outbound", "merchant_roots in the file", certificate(roots));
    }
    for (id, leg) in &config.outbound.institutions {
        let subject = format!("institution {id}");
        if let Some(roots) = &leg.roots {
            outline.set(&subject, "roots in the file", certificate(roots));
        }
        if let Some(identity) = &leg.identity {
            let shown = certificate(&identity.cert);
            outline.set(&subject, "client certificate shown", shown);
        }
    }
    outline
}

/// The fingerprints of certificates, and the expiry of the first.
fn certificate(chain: &[CertificateDer<'_>]) -> String {
    let marks: Vec<_> = chain.iter().map(|der| short(&hex(&sha256(der)))).collect();
    let until = chain.first().and_then(validity_s);
    let until = until.map_or("unknown".to_owned(), |(_, until)| day(until));
    format!("{} until {until}", marks.join(", "))
}

fn short(digest: &str) -> String {
    digest.get(..SHOWN_DIGITS).unwrap_or(digest).to_owned()
}

/// The fingerprint of a public key in PEM: SHA-256 of its DER, in hexadecimal digits.
pub(super) fn mark(pem: &[u8]) -> String {
    let der = pem::read_public_key(pem);
    der.map_or_else(String::new, |der| hex(&sha256(&der)))
}

/// The fingerprint of a shared secret. The secret has at least 32 random bytes, so it cannot be found by
/// brute force; the prefix separates this digest from every other use.
pub(super) fn secret_fingerprint(secret: &[u8]) -> String {
    hex(&sha256(
        &[b"the mark of a shared secret\0", secret].concat(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F2: a path resolves to the same before and after the store's file exists, also through links to
    /// folders and through a link to the file itself.
    #[test]
    fn the_first_start_behind_a_symlink_can_be_reloaded() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("private/paymux");
        std::fs::create_dir_all(&real).unwrap();
        let link = folder.path().join("paymux");
        std::os::unix::fs::symlink("private/paymux", &link).unwrap();
        std::os::unix::fs::symlink("file.db", real.join("link.db")).unwrap();
        for (written, file) in [
            ("paymux.db", "paymux.db"),
            ("made/later/paymux.db", "made/later/paymux.db"),
            ("link.db", "file.db"),
        ] {
            let (path, file) = (link.join(written), real.join(file));
            let before = meant(&path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            assert_eq!(before, meant(&path));
            assert_eq!(before, file.display().to_string());
        }
        assert_eq!(meant(&link), real.display().to_string());
    }
}
