//! The audit log, record by record (L1).

use crate::domain::audit::{AuditEntry, ChainLink};
use crate::domain::identifiers::{Timestamp, hex};
use crate::domain::verification::{Breach, BreachSink};

/// A record as it is stored.
#[derive(Debug)]
pub struct AuditRecord {
    /// Which of its chain, from 1.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What it says.
    pub audit_entry: AuditEntry,
    /// The hash it names as the one before.
    pub prev: [u8; 32],
    /// Its own.
    pub hash: [u8; 32],
}

/// Walks along one chain. What is broken at one record is not held against the next.
#[derive(Debug)]
pub struct Chain {
    name: String,
    link: ChainLink,
}

impl Chain {
    /// Before the first record.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            link: ChainLink::START,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it stands.
    pub fn head(&self) -> ChainLink {
        self.link
    }

    /// The next record, by number.
    pub fn follow(&mut self, record: &AuditRecord, hear: &mut BreachSink<'_>) {
        let object = format!("{} {}", self.name, record.seq);
        let next = self.link.seq.saturating_add(1);
        if record.seq != next {
            hear(Breach::of(
                "L1",
                &object,
                format!("record {next} after {}", self.link.seq),
                format!("record {}: what lies between is missing", record.seq),
            ));
        }
        if record.prev != self.link.hash {
            hear(Breach::of(
                "L1",
                &object,
                format!("names {} as the hash before it", hex(&self.link.hash)),
                format!("names {}", hex(&record.prev)),
            ));
        }
        let before = ChainLink {
            seq: record.seq.saturating_sub(1),
            hash: record.prev,
        };
        let written = before.follow(&self.name, &record.audit_entry, record.at);
        if written.hash != record.hash {
            hear(Breach::of(
                "L1",
                &object,
                format!(
                    "says what it said when it was hashed to {}",
                    hex(&record.hash)
                ),
                format!(
                    "{} {} {}: hashes to {}",
                    record.audit_entry.actor,
                    record.audit_entry.action,
                    record.audit_entry.object,
                    hex(&written.hash)
                ),
            ));
        }
        self.link = ChainLink {
            seq: record.seq,
            hash: record.hash,
        };
    }
}
