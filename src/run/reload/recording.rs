//! What the audit log is told of a reload: that it is prepared, what became of it, and what is other than
//! before (L2, L5).

use super::{LINES_MAX, Ready, Reloading, Standing};
use crate::domain::audit::Deed;
use crate::domain::change::{Change, Configured};
use crate::domain::identifiers::Timestamp;
use crate::run::control::Reply;
use crate::store::{Committed, Store, StoreError};

/// The action in the audit log.
const RELOAD: &str = "configuration.reload";

/// What the audit log calls a value that is other than before.
const CHANGE: &str = "configuration.change";

impl Reloading {
    /// L2, L5: what cannot be recorded does not happen. What is recorded has not happened yet, and
    /// says so: a process may end in between.
    pub(super) async fn record(&self, by: &str, ready: &Ready) -> Result<(), StoreError> {
        let prepared = Configured {
            version: Some(ready.standing.version),
            endpoints: ready.endpoints.clone(),
            deed: deed(by, RELOAD, &result("prepared", &ready.standing)),
        };
        recorded(&*self.store, prepared, self.clock.now()).await
    }

    /// L5: what became of a reload.
    pub(super) async fn note(&self, by: &str, outcome: &str) {
        let outcome = Configured {
            version: None,
            endpoints: Vec::new(),
            deed: deed(by, RELOAD, outcome),
        };
        if let Err(fault) = recorded(&*self.store, outcome, self.clock.now()).await {
            tracing::error!(%fault, "what became of a reload could not be recorded");
        }
    }

    /// L5: what is other than before, keys and certificates among it: which table and which value of it.
    /// What the values are is not written, for some are about payers (L4).
    pub(super) async fn note_changes(&self, by: &str, reply: &Reply) {
        let Reply::Accepted { changes, .. } = reply else {
            return;
        };
        for change in changes.iter().take(LINES_MAX) {
            let what = match (&change.field, &change.before, &change.after) {
                (Some(field), ..) => format!("{field} changed"),
                (None, None, _) => "added".to_owned(),
                (None, Some(_), _) => "taken out".to_owned(),
            };
            self.note_change(by, &change.subject, what).await;
        }
        let others = changes.len().saturating_sub(LINES_MAX);
        if others > 0 {
            let what = format!("and {others} others changed");
            self.note_change(by, "others", what).await;
        }
    }

    async fn note_change(&self, by: &str, subject: &str, what: String) {
        let deed = Deed {
            object: subject.to_owned(),
            ..deed(by, CHANGE, &what)
        };
        let change = Configured {
            version: None,
            endpoints: Vec::new(),
            deed,
        };
        if let Err(fault) = recorded(&*self.store, change, self.clock.now()).await {
            tracing::error!(%fault, "a change of the configuration could not be recorded");
        }
    }
}

/// Writes a record about the configuration.
///
/// # Errors
/// It is not known to be durable.
pub(in crate::run) async fn recorded(
    store: &dyn Store,
    configured: Configured,
    now: Timestamp,
) -> Result<(), StoreError> {
    match store.commit(&Change::configured(configured, now)).await? {
        Committed::Done => Ok(()),
        Committed::Stale | Committed::KeyTaken | Committed::NonceSpent => {
            Err(StoreError::Unavailable("the record was not taken".into()))
        }
    }
}

/// What happened to this version, for the audit log.
pub(super) fn result(what: &str, standing: &Standing) -> String {
    let Standing {
        version, digest, ..
    } = standing;
    format!("{what} version={version} sha256={digest}")
}

/// A deed of somebody about the configuration.
pub(in crate::run) fn deed(by: &str, action: &'static str, result: &str) -> Deed {
    Deed {
        actor: by.to_owned(),
        action: action.into(),
        object: "configuration".to_owned(),
        result: result.to_owned(),
    }
}
