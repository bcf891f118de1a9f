//! All audit chains of a store together (L1): each is whole, was opened by a node, and is named,
//! with its last record, by the chain opened after it. So a chain or an end of one that was removed
//! contradicts a chain that is still there.

use std::collections::BTreeMap;

use crate::domain::audit::{AuditHeads, ChainLink, FIRST_CHAIN};
use crate::domain::identifiers::hex;
use crate::domain::verification::chain::{AuditRecord, Chain};
use crate::domain::verification::{Breach, BreachSink, Report};

/// A chain that a node has opened.
#[derive(Debug)]
pub struct RegisteredChain {
    /// Its name.
    pub name: String,
    /// Whether its process may still be writing.
    pub is_live: bool,
}

/// Follows all chains, one after the other.
#[derive(Debug, Default)]
pub struct AuditChains {
    chains: BTreeMap<String, Chain>,
    /// The highest number of each chain that `audit.heads` records name.
    named: BTreeMap<String, u64>,
    /// The highest number of chains ever opened that such a record says, and that record.
    opened: (u64, String),
}

impl AuditChains {
    /// Checks the next record of this chain. Returns what it says of the heads of chains, for
    /// [`Self::check_heads`].
    pub fn follow(
        &mut self,
        name: &str,
        record: &AuditRecord,
        report: &mut BreachSink<'_>,
    ) -> Option<AuditHeads> {
        let chain = match self.chains.get_mut(name) {
            Some(chain) => chain,
            None => self
                .chains
                .entry(name.to_owned())
                .or_insert_with(|| Chain::new(name)),
        };
        chain.follow(record, report);
        let heads = AuditHeads::read(&record.audit_entry)?.ok();
        if heads.is_none() {
            let found = record.audit_entry.result.as_str();
            let object = format!("{name} {}", record.seq);
            report(Breach::of("L1", object, "a list of heads", found));
        }
        heads
    }

    /// Checks what the record at this place says against the hashes of the records that it names,
    /// in the same order; `None` where there is no such record.
    pub fn check_heads(
        &mut self,
        place: &str,
        heads: &AuditHeads,
        hashes: &[Option<[u8; 32]>],
        report: &mut BreachSink<'_>,
    ) {
        if heads.opened > self.opened.0 {
            self.opened = (heads.opened, place.to_owned());
        }
        let mut found = Vec::with_capacity(hashes.len());
        for ((chain, seq), hash) in heads.chains.iter().zip(hashes) {
            let highest = self.named.entry(chain.clone()).or_default();
            *highest = (*highest).max(*seq);
            match hash {
                Some(hash) => found.push((
                    chain.as_str(),
                    ChainLink {
                        seq: *seq,
                        hash: *hash,
                    },
                )),
                None => report(Breach::of(
                    "L1",
                    format!("{chain} {seq}"),
                    format!("this record, which audit.heads in {place} names"),
                    "none: it was removed",
                )),
            }
        }
        let digest = AuditHeads::digest(found.iter().copied());
        if found.len() == heads.chains.len() && digest != heads.digest {
            let named: Vec<_> = heads
                .chains
                .iter()
                .map(|(chain, seq)| format!("{chain} {seq}"))
                .collect();
            report(Breach::of(
                "L1",
                place,
                format!(
                    "records {} with digest {}",
                    named.join(", "),
                    hex(&heads.digest)
                ),
                format!("digest {}: they were written anew", hex(&digest)),
            ));
        }
    }

    /// Checks all chains against those that nodes opened, oldest first, and completes the report.
    pub fn end(
        self,
        registered: &[RegisteredChain],
        result: &mut Report,
        report: &mut BreachSink<'_>,
    ) {
        let missing = registered
            .iter()
            .filter(|one| !self.chains.contains_key(&one.name));
        for one in missing {
            let expected = "the records of this chain, which a node opened";
            report(Breach::of(
                "L1",
                &one.name,
                expected,
                "none: it was removed",
            ));
        }
        let count = u64::try_from(self.chains.len()).unwrap_or(u64::MAX);
        if self.opened.0 > count {
            let expected = format!("{} audit chains, as {} says", self.opened.0, self.opened.1);
            report(Breach::of("L1", "audit", expected, format!("{count}")));
        }
        let newest = registered.last().map(|one| one.name.as_str());
        for (name, chain) in &self.chains {
            let of = registered.iter().find(|one| one.name == *name);
            self.check_end(chain, of, newest, report);
            let link = chain.head();
            if self.named.get(name) < Some(&link.seq) {
                result.heads.push((name.clone(), link.seq, link.hash));
            }
        }
        result.chains = count;
    }

    fn check_end(
        &self,
        chain: &Chain,
        of: Option<&RegisteredChain>,
        newest: Option<&str>,
        report: &mut BreachSink<'_>,
    ) {
        let (name, seq) = (chain.name(), chain.head().seq);
        let object = format!("{name} {seq}");
        if of.is_none() && name != FIRST_CHAIN {
            let found = "records that no node wrote";
            report(Breach::of(
                "L1",
                &object,
                "only chains that nodes opened",
                found,
            ));
        }
        // The first chain is closed once a process of this release has opened the store.
        let may_be_open = of.map_or(newest.is_none(), |one| one.is_live);
        if !chain.is_closed() && !may_be_open {
            let expected = "chain.close as the last record of a process that is gone";
            report(Breach::of("L1", &object, expected, "another record"));
        }
        let named = self.named.get(name).copied().unwrap_or_default();
        if newest.is_some_and(|newest| newest != name) && named != seq {
            let expected = "its last record named by audit.heads in a later chain";
            let found = format!("the last record so named is {named}");
            report(Breach::of("L1", &object, expected, found));
        }
    }
}
