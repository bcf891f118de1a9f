//! Who was refused for want of proof or of standing, for the audit log (L5): counted by caller, interface
//! and reason, written once a minute, and never more than so many rows. Says of a caller no more than
//! a digest: an address is a person's (L4).
//!
//! Beside it, how many lines about callers whom nobody knows may be logged: they are bought for nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::audit::AuditEntry;
use crate::domain::change::{Change, ConfigurationChange};
use crate::domain::identifiers::{Timestamp, hex};
use crate::domain::merchant::ShownCertificate;
use crate::store::{Changes, StoreError};

/// How often what was counted is written.
pub const WRITTEN_EVERY: Duration = Duration::from_mins(1);

/// Rows that are written of one such while at most, the row of all others not counted.
pub const ROWS_MAX: usize = 64;

/// Lines about callers whom nobody knows that are logged in a second at most.
pub const LINES_PER_SECOND_MAX: u32 = 10;

/// Bytes of a caller's digest that are shown: enough to tell callers apart.
const DIGEST_BYTES: usize = 8;

/// Makes an address's keyed digest.
pub type Digest = dyn Fn(&[u8]) -> [u8; 32] + Send + Sync;

/// Who was refused, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub enum RefusedCaller<'a> {
    /// The key whose signature was good.
    Key(&'a str),
    /// What the connection shows.
    Connection(IpAddr, Option<&'a ShownCertificate>),
}

/// By caller, interface and code: how often.
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

/// Counts who was refused, and lines about it. Whoever counts never waits.
pub struct RefusedCallers {
    digest: Box<Digest>,
    counts: Mutex<RefusalCounts>,
    lines: Mutex<LogLineQuota>,
}

impl RefusedCallers {
    /// Nobody was refused yet.
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

    /// How the log knows a caller: a certificate by the beginning of its fingerprint, an address by that
    /// of its keyed digest, one of IPv6 by its /64, which is one household's.
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

    /// Writes what was counted since the last time, a record each and one for all others; what cannot be
    /// written is counted on.
    ///
    /// # Errors
    /// The store's.
    pub async fn write(&self, changes: &dyn Changes, now: Timestamp) -> Result<(), StoreError> {
        let RefusalCounts { rows, others } = std::mem::take(&mut *lock(&self.counts));
        let mut left = rows.into_iter();
        while let Some(((caller, interface, code), count)) = left.next() {
            let audit_entry = audit_entry(&caller, interface, format!("{code} times={count}"));
            if let Err(fault) = changes.commit(&recorded(audit_entry, now)).await {
                let first = ((caller, interface, code), count);
                self.give_back(std::iter::once(first).chain(left), others);
                return Err(fault);
            }
        }
        if others == 0 {
            return Ok(());
        }
        let result = format!("and others times={others}");
        let audit_entry = audit_entry("others", "any", result);
        if let Err(fault) = changes.commit(&recorded(audit_entry, now)).await {
            self.give_back(std::iter::empty(), others);
            return Err(fault);
        }
        Ok(())
    }

    fn give_back(
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

    /// Whether one more line about somebody unknown may be logged in this second.
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

    /// How many lines were left out since this was last asked.
    pub fn suppressed(&self) -> u64 {
        std::mem::take(&mut lock(&self.lines).suppressed)
    }
}

fn audit_entry(caller: &str, interface: &str, result: String) -> AuditEntry {
    AuditEntry {
        actor: format!("caller:{caller}"),
        action: "authentication.refuse".into(),
        object: interface.to_owned(),
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
