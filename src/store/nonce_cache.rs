//! Caches spent nonces, so that a replay is rejected without a query to the store. Caches only
//! facts that cannot change, and may evict any entry at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use moka::sync::Cache;

use crate::domain::change::Change;
use crate::domain::identifiers::FreshNonce;
use crate::store::{Changes, Committed, Store, StoreError};

/// Maximum number of cached nonces; about 150 bytes each.
const NONCES_MAX: u64 = 200_000;

/// Caches the nonces that commits spent.
pub struct NonceCache {
    changes: Arc<dyn Changes>,
    spent: Cache<Box<str>, ()>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Cache statistics since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonceCacheStats {
    /// Lookups that found a spent nonce.
    pub hits: u64,
    /// Lookups that found nothing.
    pub misses: u64,
    /// Approximate number of cached nonces.
    pub entries: u64,
}

impl NonceCache {
    /// Wraps the store's commits with a cache of spent nonces.
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

    /// Whether this nonce is cached as spent.
    pub fn remembers(&self, nonce: &FreshNonce) -> bool {
        let is_spent = self.spent.contains_key(&name(nonce));
        self.hits.fetch_add(u64::from(is_spent), Ordering::Relaxed);
        is_spent
    }

    /// Returns the cache statistics.
    pub fn stats(&self) -> NonceCacheStats {
        NonceCacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: self.spent.entry_count(),
        }
    }
}

/// A key's name contains no space.
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
        // Only durable nonces are cached: a change that was not written spent none.
        if committed == Committed::Done
            && let Some(nonce) = nonce
        {
            self.spent.insert(nonce, ());
        }
        Ok(committed)
    }
}
