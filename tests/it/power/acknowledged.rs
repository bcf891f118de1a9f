//! What was acknowledged up to a point of the record, and whether an image contains all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

/// The file, in the recorded folder, into which the recorded process writes each acknowledgement,
/// so that it is ordered among the writes of the store.
pub(super) const NOTIFIED: &str = "told";

/// Everything acknowledged so far.
#[derive(Debug, Clone, Default)]
pub(super) struct AcknowledgedState {
    /// Each order, and its minimum version.
    orders: BTreeMap<String, u64>,
    /// Key and value of spent nonces, and when each was created.
    nonces: BTreeMap<(String, String), i64>,
    /// Events acknowledged by their merchants.
    delivered: BTreeSet<String>,
    /// Moments whose nonces were deleted.
    forgotten: BTreeSet<i64>,
    /// Archived messages of institutions.
    kept: u64,
}

impl AcknowledgedState {
    /// Adds one line of the acknowledgement file.
    pub(super) fn add(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["order", no, version] => {
                let version: u64 = version.parse().unwrap();
                let known = self.orders.entry(no.to_owned()).or_default();
                *known = version.max(*known);
            }
            ["nonce", key, value, created] => {
                let key = (key.to_owned(), value.to_owned());
                self.nonces.insert(key, created.parse().unwrap());
            }
            ["delivered", event] => {
                self.delivered.insert(event.to_owned());
            }
            ["forgotten", first, last] => {
                let both: [i64; 2] = [first, last].map(|at| at.parse().unwrap());
                self.forgotten.extend(both);
            }
            ["kept"] => self.kept += 1,
            _ => panic!("unknown line {line:?}"),
        }
    }

    /// The number of acknowledgements.
    pub(super) fn count(&self) -> usize {
        self.orders.len() + self.nonces.len() + self.delivered.len()
    }

    /// S1, K1, Q5, Q6, C4: checks that this file contains everything acknowledged.
    pub(super) fn check(&self, file: &Path) -> Result<(), String> {
        let file = Connection::open(file).unwrap();
        let mut lost = Vec::new();
        let mut version = file
            .prepare("SELECT version FROM orders WHERE pay_order_no = ?1")
            .unwrap();
        for (no, least) in &self.orders {
            let found = version.query_row([no], |row| row.get::<_, i64>(0));
            let found = found.optional().unwrap();
            if found.is_none_or(|found| u64::try_from(found).unwrap() < *least) {
                lost.push(format!(
                    "order {no}: version {least} promised, {found:?} found"
                ));
            }
        }
        let spans = "SELECT substr(name, 11), number FROM meta WHERE name GLOB 'forgotten *'";
        let mut spans = file.prepare(spans).unwrap();
        let spans = spans.query_map([], |row| {
            let first: String = row.get(0)?;
            Ok(first.parse::<i64>().unwrap()..=row.get(1)?)
        });
        let spans: Vec<_> = spans.unwrap().map(Result::unwrap).collect();
        let is_forgotten = |created: &i64| spans.iter().any(|span| span.contains(created));
        let missing = self.forgotten.iter().filter(|at| !is_forgotten(at));
        lost.extend(missing.map(|at| format!("the deletion of nonces of {at} is lost")));
        let mut spent = file
            .prepare("SELECT 1 FROM nonces WHERE key_id = ?1 AND nonce = ?2")
            .unwrap();
        for ((key, value), created) in &self.nonces {
            if !is_forgotten(created) && !spent.exists([key, value]).unwrap() {
                lost.push(format!("nonce {value} can be spent again"));
            }
        }
        let mut delivered = file
            .prepare("SELECT 1 FROM events WHERE event_id = ?1 AND state = 'DELIVERED'")
            .unwrap();
        for event in &self.delivered {
            if !delivered.exists([event]).unwrap() {
                lost.push(format!("event {event} is not delivered any more"));
            }
        }
        let kept = file.query_row("SELECT COUNT(*) FROM inbox", [], |row| row.get::<_, i64>(0));
        let kept = u64::try_from(kept.unwrap()).unwrap();
        if kept < self.kept {
            lost.push(format!("{} messages archived, {kept} found", self.kept));
        }
        if lost.is_empty() {
            Ok(())
        } else {
            Err(lost.join("\n"))
        }
    }
}
