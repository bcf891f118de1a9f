//! A semaphore whose size may change while its permits are out (F1): tokio's, first come first
//! served, which by itself forgets free permits only. What is out beyond a smaller size is owed, and
//! forgotten when it comes back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// A number of permits.
pub struct Bound {
    free: Semaphore,
    size: Mutex<Size>,
}

struct Size {
    permits: u32,
    owed: usize,
}

/// Permits that are out; they come back when this is dropped.
pub struct Taken {
    bound: Arc<Bound>,
    permits: usize,
}

impl Bound {
    /// All free.
    pub fn new(size: u32) -> Arc<Self> {
        Arc::new(Self {
            free: Semaphore::new(many(size)),
            size: Mutex::new(Size {
                permits: size,
                owed: 0,
            }),
        })
    }

    /// Another size, at once; what is out counts against it.
    pub fn resize(&self, next: u32) {
        let mut size = self.lock();
        let (before, after) = (many(size.permits), many(next));
        size.permits = next;
        let paid = after.saturating_sub(before).min(size.owed);
        size.owed = size.owed.saturating_sub(paid);
        let more = after.saturating_sub(before).saturating_sub(paid);
        self.free.add_permits(more);
        let fewer = before.saturating_sub(after);
        let forgotten = self.free.forget_permits(fewer);
        let owed = fewer.saturating_sub(forgotten);
        size.owed = size.owed.saturating_add(owed);
    }

    /// How many there are.
    pub fn size(&self) -> u32 {
        self.lock().permits
    }

    /// How many are free, and nobody waits for them.
    pub fn free(&self) -> u32 {
        few(self.free.available_permits())
    }

    /// How many are out, those over its size included.
    pub fn taken(&self) -> u32 {
        let size = self.lock();
        let all = many(size.permits).saturating_add(size.owed);
        few(all.saturating_sub(self.free.available_permits()))
    }

    /// So many permits, in the order of asking. Whoever stops waiting has taken none.
    pub async fn take(self: &Arc<Self>, permits: u32) -> Taken {
        match self.free.acquire_many(permits).await {
            Ok(permit) => self.out(permit),
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// So many permits, if they are free and nobody waits.
    pub fn take_now(self: &Arc<Self>, permits: u32) -> Option<Taken> {
        let permit = self.free.try_acquire_many(permits).ok()?;
        Some(self.out(permit))
    }

    /// Returns when none is out.
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
        let paid = self.permits.min(size.owed);
        size.owed = size.owed.saturating_sub(paid);
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

    /// F1: fewer and more again leaves as many as were asked for, also while all are taken.
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
