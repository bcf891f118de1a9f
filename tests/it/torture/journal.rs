//! The journal and the audit log at rest.

use std::collections::BTreeMap;

use paymux::command::demo::enrolment::BLUE;
use paymux::domain::audit::{AuditEntry, ChainLink};
use paymux::domain::identifiers::Timestamp;
use paymux::sandbox::InstitutionLedger;
use rusqlite::Connection;

use super::checks::rows;

/// M1 to M3, and RECV equals the institution's ledger.
pub(super) fn money(file: &Connection, book: &InstitutionLedger, broken: &mut Vec<String>) {
    let mut balances: BTreeMap<String, i64> = BTreeMap::new();
    let sql = "SELECT debit, credit, minor FROM journal";
    for (debit, credit, cents) in rows(file, sql, |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, i64>(2)?,
        ))
    }) {
        let grows = |name: &str| name.starts_with("RECV") || name.starts_with("LOSS");
        let signed = |is_growing: bool| if is_growing { cents } else { -cents };
        let (to, from) = (signed(grows(&debit)), signed(!grows(&credit)));
        *balances.entry(debit).or_default() += to;
        *balances.entry(credit).or_default() += from;
    }
    let sum = |kind: &[&str]| -> i64 {
        let of = |name: &str| kind.iter().any(|one| name.starts_with(one));
        balances
            .iter()
            .filter(|(name, _)| of(name))
            .map(|(_, cents)| cents)
            .sum()
    };
    let (left, right) = (sum(&["RECV", "LOSS"]), sum(&["MERCH", "HOLD", "SURP"]));
    if left != right {
        broken.push(format!(
            "M2: RECV + LOSS is {left}, MERCH + HOLD + SURP is {right}"
        ));
    }
    if let Some(below) = balances.iter().find(|(_, cents)| **cents < 0) {
        broken.push(format!("M3: {below:?}"));
    }
    if sum(&["HOLD", "SURP", "LOSS"]) != 0 {
        broken.push("M3: HOLD, SURP or LOSS is not zero at rest".to_owned());
    }
    let theirs = book.taken_cents() - book.returned_cents();
    let ours = balances.get(&format!("RECV:{}", BLUE.id)).copied();
    if ours.unwrap_or_default() != theirs {
        broken.push(format!("M7: RECV is {ours:?}, its ledger has {theirs}"));
    }
}

/// L1: no gap in any chain, and each record contains the previous one's hash.
pub(super) fn audited(file: &Connection, broken: &mut Vec<String>) {
    let sql = "SELECT chain_id, seq, at, actor, action, object, version, result, prev, hash
        FROM audit ORDER BY chain_id, seq";
    let records = rows(file, sql, |row| {
        let audit_entry = AuditEntry {
            actor: row.get(3)?,
            action: row.get::<_, String>(4)?.into(),
            object: row.get(5)?,
            version: u64::try_from(row.get::<_, i64>(6)?).unwrap(),
            result: row.get(7)?,
        };
        let hashes: ([u8; 32], [u8; 32]) = (row.get(8)?, row.get(9)?);
        let seq = row.get::<_, i64>(1)?;
        let seq = u64::try_from(seq).unwrap();
        let place: (String, u64, i64) = (row.get(0)?, seq, row.get(2)?);
        Ok((place, audit_entry, hashes))
    });
    if records.is_empty() {
        broken.push("L1: no audit log".to_owned());
    }
    let (mut link, mut of) = (ChainLink::START, "");
    for ((chain, seq, at), audit_entry, (prev, hash)) in &records {
        if chain != of {
            (link, of) = (ChainLink::START, chain);
        }
        let next = link.follow(chain, audit_entry, Timestamp::from_ms(*at));
        if (next.seq, link.hash, next.hash) != (*seq, *prev, *hash) {
            broken.push(format!(
                "L1: chain {chain} breaks at {seq}: {audit_entry:?}"
            ));
            return;
        }
        link = next;
    }
}
