//! The differences between two configurations, and which of them need a restart.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::outline::ConfigurationOutline;
use crate::config::{Config, ConfigFault};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigDifference {
    /// The table, for display: `merchant M1001`.
    pub subject: String,
    /// The value; without one the whole table was added or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The old value, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The new value, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// A running gateway cannot apply it and would refuse the whole file.
    pub needs_restart: bool,
}

impl fmt::Display for ConfigDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        match (&self.field, &self.before, &self.after) {
            (None, None, _) => f.write_str(": added")?,
            (None, Some(_), _) => f.write_str(": taken out")?,
            (Some(_), Some(before), Some(after)) => write!(f, ": {before} becomes {after}")?,
            (Some(_), Some(before), None) => write!(f, ": {before} is no longer set")?,
            (Some(_), None, Some(after)) => write!(f, ": set to {after}")?,
            (Some(_), None, None) => (),
        }
        if self.needs_restart {
            f.write_str(" (needs a restart)")?;
        }
        Ok(())
    }
}

/// All differences, in the order of the tables' names.
pub fn differences(
    before: &ConfigurationOutline,
    after: &ConfigurationOutline,
) -> Vec<ConfigDifference> {
    let mut found = Vec::new();
    let subjects = before.0.keys().chain(after.0.keys());
    let mut subjects: Vec<_> = subjects.collect();
    subjects.sort();
    subjects.dedup();
    for subject in subjects {
        match (before.0.get(subject), after.0.get(subject)) {
            (Some(was), Some(is)) => {
                let mut fields: Vec<_> = was.keys().chain(is.keys()).collect();
                fields.sort();
                fields.dedup();
                for field in fields.into_iter().filter(|it| was.get(*it) != is.get(*it)) {
                    found.push(ConfigDifference {
                        subject: subject.clone(),
                        field: Some(field.clone()),
                        before: was.get(field).cloned(),
                        after: is.get(field).cloned(),
                        needs_restart: is_fixed(subject, Some(field)),
                    });
                }
            }
            (was, is) => {
                let whole = |there: bool| there.then(|| "the whole table".to_owned());
                found.push(ConfigDifference {
                    subject: subject.clone(),
                    field: None,
                    before: whole(was.is_some()),
                    after: whole(is.is_some()),
                    needs_restart: is_fixed(subject, None) && was.is_some(),
                });
            }
        }
    }
    found
}

/// Listeners and the store cannot change while running, and sealed and digested values must stay readable.
fn is_fixed(subject: &str, field: Option<&str>) -> bool {
    match (subject, field) {
        ("listen", Some("public" | "operations"))
        | ("store", Some("url" | "digest_key in the file")) => true,
        (_, None | Some("key in the file")) => subject.starts_with("store, seal_key "),
        (_, Some(_)) => false,
    }
}

/// The differences that a running gateway cannot apply, as faults: then the whole file is refused (F1).
pub fn needing_restart(before: &ConfigurationOutline, next: &Config) -> Vec<ConfigFault> {
    let fixed = differences(before, &next.outline);
    let fixed = fixed.into_iter().filter(|it| it.needs_restart);
    let faults = fixed.map(|it| {
        let [public, operations] = next.listen.lines;
        let [url, digest_key] = next.store.lines;
        let (line, name) = match it.field.as_deref() {
            Some("public") => (public, "[listen] public"),
            Some("operations") => (operations, "[listen] operations"),
            Some("url") => (url, "[store] url"),
            Some("digest_key in the file") => (digest_key, "[store] digest_key"),
            Some(_) | None => (url, "[[store.seal_keys]]"),
        };
        let gone = || format!("{} gone", it.subject.trim_start_matches("store, "));
        ConfigFault {
            file: next.file.display().to_string(),
            line,
            subject: name.to_owned(),
            expected: it
                .before
                .clone()
                .filter(|_| it.field.is_some())
                .map_or_else(
                    || "every seal key of the running gateway".to_owned(),
                    |before| format!("{before} as long as the gateway runs"),
                ),
            found: it.after.clone().unwrap_or_else(gone),
            advice:
                "needs a restart: stop the gateway and start it on this file, or change it back"
                    .to_owned(),
        }
    });
    faults.collect()
}
