//! Reads a TOML document and records every fault with its line.
//!
//! A reader never stops at a fault: an unreadable value is `None`, and the fault is recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::config::faults::{ConfigFault, DatedCredentials, PartyKind, UnusableCredential};
use crate::config::named::{NamedFile, day};
use crate::domain::identifiers::Timestamp;
use crate::domain::institutions::{Validity, is_one_in_force};

/// An earlier expiry is a warning. Unit: seconds.
pub(super) const EXPIRY_WARNING_S: i64 = 30 * 86_400;

/// What a value must be: a description and an example.
#[derive(Clone, Copy)]
pub(super) struct ExpectedValue {
    pub(super) expected: &'static str,
    pub(super) example: &'static str,
}

/// Builds an [`ExpectedValue`].
pub(super) const fn shape(expected: &'static str, example: &'static str) -> ExpectedValue {
    ExpectedValue { expected, example }
}

/// A value and its line.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) line: usize,
}

/// The reading of one file.
pub(super) struct ConfigReader<'e> {
    file: String,
    folder: PathBuf,
    text: &'e str,
    environment: &'e dyn Fn(&str) -> Option<String>,
    pub(super) now: Timestamp,
    pub(super) faults: Vec<ConfigFault>,
    pub(super) warnings: Vec<ConfigFault>,
    pub(super) unusable: Vec<UnusableCredential>,
    /// Sets of credentials of which one in force is enough, evaluated again while in use.
    pub(super) dated: Vec<DatedCredentials>,
    /// The kind of party whose table is being read; `None` for the gateway's own tables.
    party: Option<PartyKind>,
    /// Every file that the document names, existing or not.
    pub(super) named: Vec<NamedFile>,
}

/// The readable part of a text that may be malformed.
pub(super) fn parse_leniently(text: &str) -> DeTable<'_> {
    DeTable::parse_recoverable(text).0.into_inner()
}

/// What is recorded of keys or certificates of which none is in force.
#[derive(Clone, Copy)]
pub(super) struct NotInForce<'a> {
    pub(super) line: usize,
    pub(super) subject: &'a str,
    pub(super) expected: &'a str,
    pub(super) found: &'a str,
    pub(super) advice: &'a str,
}

impl<'e> ConfigReader<'e> {
    pub(super) fn new(
        path: &Path,
        text: &'e str,
        now: Timestamp,
        environment: &'e dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self {
            file: path.display().to_string(),
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
            text,
            environment,
            now,
            faults: Vec::new(),
            warnings: Vec::new(),
            unusable: Vec::new(),
            dated: Vec::new(),
            party: None,
            named: Vec::new(),
        }
    }

    /// The document; records every syntax error.
    pub(super) fn document(&mut self) -> Option<DeTable<'e>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let line = error.span().map_or(0, |span| self.line(span.start));
            // Only the message: the surrounding text may be a secret.
            self.fault(
                line,
                "syntax",
                "TOML 1.0",
                error.message(),
                "correct this line",
            );
        }
        errors.is_empty().then(|| table.into_inner())
    }

    pub(super) fn line(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        before.matches('\n').count().saturating_add(1)
    }

    /// The folder of the document.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a file name in the document, relative to its folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }

    pub(super) fn note(
        &self,
        line: usize,
        subject: &str,
        expected: &str,
        found: &str,
        advice: &str,
    ) -> ConfigFault {
        ConfigFault {
            file: self.file.clone(),
            line,
            subject: subject.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
            advice: advice.to_owned(),
        }
    }

    pub(super) fn fault(
        &mut self,
        line: usize,
        subject: &str,
        expected: &str,
        found: &str,
        advice: &str,
    ) {
        let fault = self.note(line, subject, expected, found, advice);
        self.faults.push(fault);
    }

    /// Sets the kind of party that the following tables belong to.
    pub(super) fn about(&mut self, party: Option<PartyKind>) {
        self.party = party;
    }

    /// Records a key, secret or certificate that cannot be used. For a single party only that party is
    /// affected; for the gateway itself it is a fault of the whole file.
    pub(super) fn unusable(
        &mut self,
        line: usize,
        subject: &str,
        expected: &str,
        found: &str,
        advice: &str,
    ) {
        let note = self.note(line, subject, expected, found, advice);
        match self.party {
            Some(party) => self.unusable.push(UnusableCredential {
                party,
                note,
                is_dated: false,
            }),
            None => self.faults.push(note),
        }
    }

    /// Records keys or certificates of which one must be in force; returns whether one is. This is evaluated
    /// again while they are in use.
    pub(super) fn in_force(&mut self, any_of: Vec<Validity>, fault: NotInForce<'_>) -> bool {
        let is_in_force = self.is_dated(any_of);
        if !is_in_force {
            let before = self.unusable.len();
            let NotInForce {
                line,
                subject,
                expected,
                found,
                advice,
            } = fault;
            self.unusable(line, subject, expected, found, advice);
            let added = self.unusable.iter_mut().skip(before);
            added.for_each(|it| it.is_dated = true);
        }
        is_in_force
    }

    /// The same for one of several whose others remain usable.
    pub(super) fn in_force_or_skipped(
        &mut self,
        validity: Validity,
        fault: NotInForce<'_>,
    ) -> bool {
        let is_in_force = self.is_dated(vec![validity]);
        if !is_in_force {
            let before = self.unusable.len();
            let NotInForce {
                line,
                subject,
                expected,
                found,
                advice,
            } = fault;
            self.skipped(line, subject, expected, found, advice);
            let added = self.unusable.iter_mut().skip(before);
            added.for_each(|it| it.is_dated = true);
        }
        is_in_force
    }

    fn is_dated(&mut self, any_of: Vec<Validity>) -> bool {
        let is_in_force = is_one_in_force(&any_of, self.now);
        let party = self.party.unwrap_or(PartyKind::Gateway);
        self.dated.push(DatedCredentials { party, any_of });
        is_in_force
    }

    /// Records one of several that cannot be used while the others remain usable: never a fault.
    pub(super) fn skipped(
        &mut self,
        line: usize,
        subject: &str,
        expected: &str,
        found: &str,
        advice: &str,
    ) {
        let note = self.note(line, subject, expected, found, advice);
        let party = self.party.unwrap_or(PartyKind::Gateway);
        self.unusable.push(UnusableCredential {
            party,
            note,
            is_dated: false,
        });
    }

    /// Warns that the last key of a party expires within the month (R-6.3.1-1c).
    pub(super) fn ends_soon(&mut self, line: usize, subject: &str, last_s: Option<i64>) {
        let Some(last_s) = last_s else {
            return;
        };
        if last_s.saturating_sub(self.now.seconds()) < EXPIRY_WARNING_S {
            let found = format!("the end of the last one on {}", day(last_s));
            let advice = "enrol its successor before";
            let note = self.note(line, subject, "30 more days", &found, advice);
            self.warnings.push(note);
        }
    }

    /// Records an id; a duplicate is a fault.
    pub(super) fn once(
        &mut self,
        seen: &mut BTreeMap<String, usize>,
        id: &Located<impl ToString>,
        subject: &str,
    ) {
        let name = id.value.to_string();
        if let Some(line) = seen.get(&name) {
            let found = format!("{name:?}, which line {line} has taken");
            self.fault(
                id.line,
                subject,
                "an id that nothing else has",
                &found,
                "choose another",
            );
        } else {
            seen.insert(name, id.line);
        }
    }
}
