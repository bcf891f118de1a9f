//! Nonces of read-only requests: in memory only, not covered by the durable replay floor (Q5).

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::identifiers::{FreshNonce, KeyId, Timestamp};
use crate::store::nonce_cache::NonceCacheStats;

/// Nonces of read-only requests, in memory: two generations; the older is dropped when the younger
/// has reached the longest lifetime of a signature.
pub struct ReadNonces {
    kept: Mutex<NonceGenerations>,
    entries_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Default)]
struct NonceGenerations {
    young: HashSet<(KeyId, Box<str>)>,
    old: HashSet<(KeyId, Box<str>)>,
    since: Option<Timestamp>,
}

/// Minimum time that a read-only nonce is remembered: the longest lifetime of a signature, and
/// grace.
const READ_GENERATION: Duration = Duration::from_mins(7);

impl ReadNonces {
    /// Holds at most `entries_max` in each generation. Beyond that, the older one is dropped early:
    /// the worst that can follow is a repeated read.
    pub fn new(entries_max: usize) -> Self {
        Self {
            kept: Mutex::default(),
            entries_max,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Hits, misses and entries.
    pub fn stats(&self) -> NonceCacheStats {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = kept.young.len().saturating_add(kept.old.len());
        NonceCacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: u64::try_from(entries).unwrap_or(u64::MAX),
        }
    }

    /// Whether it is known to be spent.
    pub(super) fn remember(&self, nonce: &FreshNonce) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = (nonce.key.clone(), nonce.value.clone());
        kept.old.contains(&entry) || kept.young.contains(&entry)
    }

    pub(super) fn spend(&self, nonce: &FreshNonce, now: Timestamp) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *kept.since.get_or_insert(now);
        let over = kept.young.len() >= self.entries_max;
        if over || now.since(since) >= READ_GENERATION {
            kept.old = std::mem::take(&mut kept.young);
            kept.since = Some(now);
        }
        let entry = (nonce.key.clone(), nonce.value.clone());
        let fresh = !kept.old.contains(&entry) && kept.young.insert(entry);
        let counter = if fresh { &self.misses } else { &self.hits };
        counter.fetch_add(1, Ordering::Relaxed);
        fresh
    }
}
