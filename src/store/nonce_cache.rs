//! Remembers which nonces were spent, so that a replay is refused without asking the store.
//! Remembers only what cannot change any more, and may forget it at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use moka::sync::Cache;

use crate::domain::change::Change;
use crate::domain::identifiers::FreshNonce;
use crate::store::{Changes, Committed, Store, StoreError};

/// Nonces remembered at most; about 150 bytes each.
const NONCES_MAX: u64 = 200_000;

/// Remembers the nonces that commits spent.
pub struct NonceCache {
    changes: Arc<dyn Changes>,
    spent: Cache<Box<str>, ()>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How a memory of nonces did since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonceCacheStats {
    /// Nonces that were found: spent before.
    pub hits: u64,
    /// Nonces that were not found.
    pub misses: u64,
    /// Nonces remembered now, about.
    pub entries: u64,
}

impl NonceCache {
    /// The store with a cache in front of its commits.
    pub fn in_front_of(store: Store) -> Store {
        let cache = Arc::new(Self {
            changes: store.changes,
            spent: Cache::new(NONCES_MAX),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        });
        Store {
            changes: Arc::<Self>::clone(&cache),
            nonce_cache: Some(cache),
            ..store
        }
    }

    /// Whether this nonce is known to be spent.
    pub fn remembers(&self, nonce: &FreshNonce) -> bool {
        let is_spent = self.spent.contains_key(&name(nonce));
        self.hits.fetch_add(u64::from(is_spent), Ordering::Relaxed);
        is_spent
    }

    /// How often a nonce was found here.
    pub fn stats(&self) -> NonceCacheStats {
        NonceCacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: self.spent.entry_count(),
        }
    }
}

/// No key's name holds a space.
fn name(nonce: &FreshNonce) -> Box<str> {
    format!("{} {}", nonce.key, nonce.value).into()
}

#[async_trait]
impl Changes for NonceCache {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        let nonce = change.nonce().map(name);
        if let Some(nonce) = &nonce {
            if self.spent.contains_key(nonce) {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(Committed::NonceSpent);
            }
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
        let committed = self.changes.commit(change).await?;
        // Only what is durable is remembered: a change that wrote nothing spent nothing.
        if committed == Committed::Done
            && let Some(nonce) = nonce
        {
            self.spent.insert(nonce, ());
        }
        Ok(committed)
    }
}
