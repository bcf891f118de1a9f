//! One hash chain of the audit log (L1).

use crate::domain::audit::{AuditEntry, CHAIN_CLOSE, CHAIN_OPEN, ChainLink, FIRST_CHAIN};
use crate::domain::identifiers::{Timestamp, hex};
use crate::domain::verification::{Breach, BreachSink};

/// A stored record.
#[derive(Debug)]
pub struct AuditRecord {
    /// Its number in its chain, from 1.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Its content.
    pub audit_entry: AuditEntry,
    /// The previous record's hash, as stored.
    pub prev: [u8; 32],
    /// Its own hash, as stored.
    pub hash: [u8; 32],
}

/// Follows one chain. A fault at one record is not reported again at the next.
#[derive(Debug)]
pub struct Chain {
    name: String,
    link: ChainLink,
    is_closed: bool,
}

impl Chain {
    /// A chain before its first record.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            link: ChainLink::START,
            is_closed: false,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last record checked.
    pub fn head(&self) -> ChainLink {
        self.link
    }

    /// Whether the last record checked ends it.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Checks the next record, by number.
    pub fn follow(&mut self, record: &AuditRecord, report: &mut BreachSink<'_>) {
        let object = format!("{} {}", self.name, record.seq);
        let next = self.link.seq.saturating_add(1);
        if record.seq != next {
            report(Breach::of(
                "L1",
                &object,
                format!("record {next} after {}", self.link.seq),
                format!("record {}: those between are missing", record.seq),
            ));
        }
        if record.prev != self.link.hash {
            report(Breach::of(
                "L1",
                &object,
                format!("previous hash {}", hex(&self.link.hash)),
                format!("previous hash {}", hex(&record.prev)),
            ));
        }
        let before = ChainLink {
            seq: record.seq.saturating_sub(1),
            hash: record.prev,
        };
        let written = before.follow(&self.name, &record.audit_entry, record.at);
        if written.hash != record.hash {
            report(Breach::of(
                "L1",
                &object,
                format!("content that hashes to {}", hex(&record.hash)),
                format!(
                    "{} {} {}: content that hashes to {}",
                    record.audit_entry.actor,
                    record.audit_entry.action,
                    record.audit_entry.object,
                    hex(&written.hash)
                ),
            ));
        }
        self.check_place(&object, record, report);
        self.link = ChainLink {
            seq: record.seq,
            hash: record.hash,
        };
        self.is_closed = record.audit_entry.action == CHAIN_CLOSE;
    }

    /// `chain.open` comes first, and nothing after `chain.close`.
    fn check_place(&self, object: &str, record: &AuditRecord, report: &mut BreachSink<'_>) {
        let action = &*record.audit_entry.action;
        let is_open = action == CHAIN_OPEN && self.name != FIRST_CHAIN;
        let must_be_open = record.seq == 1 && self.name != FIRST_CHAIN;
        if is_open != must_be_open {
            let expected = "chain.open as the first record, and nowhere else";
            report(Breach::of("L1", object, expected, action));
        }
        if self.is_closed {
            report(Breach::of(
                "L1",
                object,
                "no record after chain.close",
                action,
            ));
        }
    }
}
