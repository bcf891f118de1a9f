//! A semaphore that can be resized while its permits are taken (F1). It wraps tokio's, which is
//! first come first served and can remove only free permits. Permits taken beyond a smaller size
//! are in excess, and removed when they are returned.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// A resizable number of permits.
pub struct Bound {
    free: Semaphore,
    size: Mutex<Size>,
}

struct Size {
    permits: u32,
    excess: usize,
}

/// Taken permits, returned on drop.
pub struct Taken {
    bound: Arc<Bound>,
    permits: usize,
}

impl Bound {
    /// Starts with all permits free.
    pub fn new(size: u32) -> Arc<Self> {
        Arc::new(Self {
            free: Semaphore::new(many(size)),
            size: Mutex::new(Size {
                permits: size,
                excess: 0,
            }),
        })
    }

    /// Resizes at once; taken permits count against the new size.
    pub fn resize(&self, next: u32) {
        let mut size = self.lock();
        let (before, after) = (many(size.permits), many(next));
        size.permits = next;
        let paid = after.saturating_sub(before).min(size.excess);
        size.excess = size.excess.saturating_sub(paid);
        let more = after.saturating_sub(before).saturating_sub(paid);
        self.free.add_permits(more);
        let fewer = before.saturating_sub(after);
        let forgotten = self.free.forget_permits(fewer);
        let excess = fewer.saturating_sub(forgotten);
        size.excess = size.excess.saturating_add(excess);
    }

    /// The number of permits.
    pub fn size(&self) -> u32 {
        self.lock().permits
    }

    /// How many are free; none while somebody waits for one.
    pub fn free(&self) -> u32 {
        few(self.free.available_permits())
    }

    /// How many are taken, including those beyond the size.
    pub fn taken(&self) -> u32 {
        let size = self.lock();
        let all = many(size.permits).saturating_add(size.excess);
        few(all.saturating_sub(self.free.available_permits()))
    }

    /// Takes this many permits, first come first served. Cancelling the future takes none.
    pub async fn take(self: &Arc<Self>, permits: u32) -> Taken {
        match self.free.acquire_many(permits).await {
            Ok(permit) => self.out(permit),
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes this many permits if they are free and nobody waits.
    pub fn take_now(self: &Arc<Self>, permits: u32) -> Option<Taken> {
        let permit = self.free.try_acquire_many(permits).ok()?;
        Some(self.out(permit))
    }

    /// Returns when none is taken.
    pub async fn all_back(self: &Arc<Self>) {
        drop(self.take(self.size()).await);
    }

    fn out(self: &Arc<Self>, permit: SemaphorePermit<'_>) -> Taken {
        let permits = permit.num_permits();
        permit.forget();
        Taken {
            bound: Arc::clone(self),
            permits,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut size = self.bound.lock();
        let paid = self.permits.min(size.excess);
        size.excess = size.excess.saturating_sub(paid);
        let free = self.permits.saturating_sub(paid);
        self.bound.free.add_permits(free);
    }
}

fn many(count: u32) -> usize {
    usize::try_from(count)
        .unwrap_or(Semaphore::MAX_PERMITS)
        .min(Semaphore::MAX_PERMITS)
}

fn few(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F1: shrinking and growing again leaves the right number, also while all are taken.
    #[test]
    fn what_is_taken_counts_against_the_size_in_force() {
        let bound = Bound::new(4);
        let mut held: Vec<_> = (0..4).map(|_| bound.take_now(1).unwrap()).collect();
        bound.resize(1);
        assert_eq!((bound.taken(), bound.free()), (4, 0));
        for _ in 0..3 {
            held.pop();
            assert!(bound.take_now(1).is_none(), "one is enough");
        }
        bound.resize(4);
        for _ in 0..3 {
            held.push(bound.take_now(1).unwrap());
        }
        assert!(bound.take_now(1).is_none());
        bound.resize(2);
        bound.resize(4);
        held.clear();
        assert_eq!((bound.taken(), bound.free()), (0, 4));
        let all = bound.take_now(4).unwrap();
        bound.resize(3);
        drop(all);
        assert_eq!((bound.size(), bound.free()), (3, 3));
    }
}
