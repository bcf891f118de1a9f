//! What is remembered of requests that read only: in memory, and outside what is forgotten durably (Q5).

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::identifiers::{FreshNonce, KeyId, Timestamp};
use crate::store::nonce_cache::NonceCacheStats;

/// Nonces of requests that read only, in memory: two generations, the older forgotten when the
/// younger is as old as a signature can live.
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

/// As long as a read-only nonce is remembered at least: a signature's longest life and its grace.
const READ_GENERATION: Duration = Duration::from_mins(7);

impl ReadNonces {
    /// Remembers so many at most in each generation; past it the older is given up early, which
    /// can repeat a reading and nothing else.
    pub fn new(entries_max: usize) -> Self {
        Self {
            kept: Mutex::default(),
            entries_max,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// How often a nonce was found here.
    pub fn stats(&self) -> NonceCacheStats {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = kept.young.len().saturating_add(kept.old.len());
        NonceCacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: u64::try_from(entries).unwrap_or(u64::MAX),
        }
    }

    /// Whether it was spent, as far as that is remembered.
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
