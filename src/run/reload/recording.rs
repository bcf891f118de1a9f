//! Audit entries of a reload: that it is prepared, its outcome, and what changed (L2, L5).

use super::{LINES_MAX, LoadedConfiguration, PreparedReload, ReloadScope};
use crate::domain::audit::AuditEntry;
use crate::domain::change::{Change, ConfigurationChange};
use crate::domain::identifiers::Timestamp;
use crate::run::control::ControlReply;
use crate::store::{Changes, Committed, StoreError};

/// The action in the audit log.
const RELOAD: &str = "configuration.reload";

/// The audit log's action for a changed value.
const CHANGE: &str = "configuration.change";

impl ReloadScope {
    /// L2, L5: what cannot be recorded does not happen. The entry says "prepared", because the
    /// process may end before the swap.
    pub(super) async fn record(&self, by: &str, ready: &PreparedReload) -> Result<(), StoreError> {
        let prepared = ConfigurationChange {
            version: Some(ready.loaded.version),
            endpoints: ready.endpoints.clone(),
            accounts: ready.accounts.clone(),
            audit_entry: audit_entry(by, RELOAD, &result("prepared", &ready.loaded)),
        };
        recorded(&*self.store.changes, prepared, self.clock.now()).await
    }

    /// L5: the outcome of a reload.
    pub(super) async fn record_outcome(&self, by: &str, outcome: &str) {
        let outcome = ConfigurationChange {
            version: None,
            endpoints: Vec::new(),
            accounts: Vec::new(),
            audit_entry: audit_entry(by, RELOAD, outcome),
        };
        if let Err(fault) = recorded(&*self.store.changes, outcome, self.clock.now()).await {
            tracing::error!(%fault, "the outcome of a reload could not be recorded");
        }
    }

    /// L5: which table and which value changed, keys and certificates included. The values
    /// themselves are not written, because some are about payers (L4).
    pub(super) async fn record_changes(&self, by: &str, reply: &ControlReply) {
        let ControlReply::Accepted { changes, .. } = reply else {
            return;
        };
        for change in changes.iter().take(LINES_MAX) {
            let what = match (&change.field, &change.before, &change.after) {
                (Some(field), ..) => format!("{field} changed"),
                (None, None, _) => "added".to_owned(),
                (None, Some(_), _) => "removed".to_owned(),
            };
            self.record_change(by, &change.subject, what).await;
        }
        let others = changes.len().saturating_sub(LINES_MAX);
        if others > 0 {
            let what = format!("and {others} others changed");
            self.record_change(by, "others", what).await;
        }
    }

    async fn record_change(&self, by: &str, subject: &str, what: String) {
        let audit_entry = AuditEntry {
            object: subject.to_owned(),
            ..audit_entry(by, CHANGE, &what)
        };
        let change = ConfigurationChange {
            version: None,
            endpoints: Vec::new(),
            accounts: Vec::new(),
            audit_entry,
        };
        if let Err(fault) = recorded(&*self.store.changes, change, self.clock.now()).await {
            tracing::error!(%fault, "a configuration change could not be recorded");
        }
    }
}

/// Writes a record about the configuration.
///
/// # Errors
/// It is not known to be durable.
pub(in crate::run) async fn recorded(
    changes: &dyn Changes,
    configured: ConfigurationChange,
    now: Timestamp,
) -> Result<(), StoreError> {
    match changes.commit(&Change::configured(configured, now)).await? {
        Committed::Done => Ok(()),
        Committed::Stale | Committed::KeyTaken | Committed::NonceSpent => Err(
            StoreError::Unavailable("the record was not accepted".into()),
        ),
    }
}

/// The outcome for this version, for the audit log.
pub(super) fn result(what: &str, loaded: &LoadedConfiguration) -> String {
    let LoadedConfiguration {
        version, digest, ..
    } = loaded;
    format!("{what} version={version} sha256={digest}")
}

/// An audit entry about the configuration.
pub(in crate::run) fn audit_entry(by: &str, action: &'static str, result: &str) -> AuditEntry {
    AuditEntry {
        actor: by.to_owned(),
        action: action.into(),
        object: "configuration".to_owned(),
        version: 0,
        result: result.to_owned(),
    }
}
