//! Audit records of failed authentication and admission (L5): counted by caller, interface and
//! reason, written once a minute, at most [`ROWS_MAX`] rows. A caller is identified by a digest
//! only, because an address is personal (L4).
//!
//! Also limits the log lines about unauthenticated callers, who could otherwise flood the log.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::audit::AuditEntry;
use crate::domain::change::{Change, ConfigurationChange};
use crate::domain::identifiers::{Timestamp, hex};
use crate::domain::merchant::ShownCertificate;
use crate::store::{Changes, StoreError};

/// How often the counts are written.
pub const WRITTEN_EVERY: Duration = Duration::from_mins(1);

/// Maximum number of rows per write, not counting the row for all others.
pub const ROWS_MAX: usize = 64;

/// Maximum number of log lines per second about unauthenticated callers.
pub const LINES_PER_SECOND_MAX: u32 = 10;

/// Bytes of a caller's digest that are shown: enough to tell callers apart.
const DIGEST_BYTES: usize = 8;

/// Computes the keyed digest of an address.
pub type Digest = dyn Fn(&[u8]) -> [u8; 32] + Send + Sync;

/// A refused caller, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub enum RefusedCaller<'a> {
    /// The key of its verified signature.
    Key(&'a str),
    /// The address and certificate of its connection.
    Connection(IpAddr, Option<&'a ShownCertificate>),
}

/// Counts by caller, interface and code.
type RefusalRows = BTreeMap<(String, &'static str, &'static str), u64>;

#[derive(Default)]
struct RefusalCounts {
    rows: RefusalRows,
    others: u64,
}

#[derive(Default)]
struct LogLineQuota {
    second: i64,
    written: u32,
    suppressed: u64,
}

/// Counts refusals by caller, and limits log lines about them. Counting never blocks on I/O.
pub struct RefusedCallers {
    digest: Box<Digest>,
    counts: Mutex<RefusalCounts>,
    lines: Mutex<LogLineQuota>,
}

impl RefusedCallers {
    /// Starts with empty counts.
    pub fn new(digest: Box<Digest>) -> Self {
        Self {
            digest,
            counts: Mutex::default(),
            lines: Mutex::default(),
        }
    }

    /// Counts a refusal.
    pub fn count(&self, caller: RefusedCaller<'_>, interface: &'static str, code: &'static str) {
        let key = (self.name(caller), interface, code);
        let mut counts = lock(&self.counts);
        let counts = &mut *counts;
        if let Some(count) = counts.rows.get_mut(&key) {
            *count = count.saturating_add(1);
        } else if counts.rows.len() < ROWS_MAX {
            counts.rows.insert(key, 1);
        } else {
            counts.others = counts.others.saturating_add(1);
        }
    }

    /// The caller's name in the audit log: a certificate by a prefix of its fingerprint, an address
    /// by a prefix of its keyed digest; IPv6 addresses are counted by /64, the usual size for one
    /// site.
    fn name(&self, caller: RefusedCaller<'_>) -> String {
        let short = |digest: &[u8; 32]| {
            let begin: Vec<u8> = digest.iter().take(DIGEST_BYTES).copied().collect();
            hex(&begin)
        };
        match caller {
            RefusedCaller::Key(id) => format!("key:{id}"),
            RefusedCaller::Connection(_, Some(shown)) => {
                format!("certificate:{}", short(&shown.digest))
            }
            RefusedCaller::Connection(IpAddr::V4(address), None) => {
                format!("address:{}", short(&(self.digest)(&address.octets())))
            }
            RefusedCaller::Connection(IpAddr::V6(address), None) => {
                let whole = address.octets();
                let network = whole.get(..8).unwrap_or_default();
                format!("address:{}", short(&(self.digest)(network)))
            }
        }
    }

    /// Writes the counts since the last write, one record each and one for all others. Counts that
    /// cannot be written are kept for the next write.
    ///
    /// # Errors
    /// The store's.
    pub async fn write(&self, changes: &dyn Changes, now: Timestamp) -> Result<(), StoreError> {
        let RefusalCounts { rows, others } = std::mem::take(&mut *lock(&self.counts));
        let mut remaining = rows.into_iter();
        while let Some(((caller, interface, code), count)) = remaining.next() {
            let audit_entry = audit_entry(&caller, interface, format!("{code} times={count}"));
            if let Err(fault) = changes.commit(&recorded(audit_entry, now)).await {
                let first = ((caller, interface, code), count);
                self.restore(std::iter::once(first).chain(remaining), others);
                return Err(fault);
            }
        }
        if others == 0 {
            return Ok(());
        }
        let result = format!("and others times={others}");
        let audit_entry = audit_entry("others", "any", result);
        if let Err(fault) = changes.commit(&recorded(audit_entry, now)).await {
            self.restore(std::iter::empty(), others);
            return Err(fault);
        }
        Ok(())
    }

    fn restore(
        &self,
        rows: impl Iterator<Item = ((String, &'static str, &'static str), u64)>,
        others: u64,
    ) {
        let mut counts = lock(&self.counts);
        counts.others = counts.others.saturating_add(others);
        for (key, count) in rows {
            let known = counts.rows.entry(key).or_default();
            *known = known.saturating_add(count);
        }
    }

    /// Whether one more line about an unauthenticated caller may be logged in this second.
    pub fn may_log(&self, now: Timestamp) -> bool {
        let mut lines = lock(&self.lines);
        if lines.second != now.seconds() {
            lines.second = now.seconds();
            lines.written = 0;
        }
        if lines.written < LINES_PER_SECOND_MAX {
            lines.written = lines.written.saturating_add(1);
            return true;
        }
        lines.suppressed = lines.suppressed.saturating_add(1);
        false
    }

    /// How many lines were suppressed since the last call.
    pub fn suppressed(&self) -> u64 {
        std::mem::take(&mut lock(&self.lines).suppressed)
    }
}

fn audit_entry(caller: &str, interface: &str, result: String) -> AuditEntry {
    AuditEntry {
        actor: format!("caller:{caller}"),
        action: "authentication.refuse".into(),
        object: interface.to_owned(),
        version: 0,
        result,
    }
}

fn recorded(audit_entry: AuditEntry, now: Timestamp) -> Change {
    let configured = ConfigurationChange {
        version: None,
        endpoints: Vec::new(),
        accounts: Vec::new(),
        audit_entry,
    };
    Change::configured(configured, now)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
