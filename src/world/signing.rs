//! The signing pool: all slow keys of this process sign in one pool, at most one signature per processor
//! at a time, beside the threads that answer.
//!
//! Whoever wants a signature takes a place first, and a caller does so before anything is written. The
//! number of places bounds how long a signature waits once it has one.

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// How long to wait for a place. With the wait behind it, a signature begins within 200 ms, or whoever
/// wants it is turned down and nothing is written.
const PLACE_WITHIN: Duration = Duration::from_millis(150);

/// Places per processor: as many RSA signatures of 0.7 ms as take 50 ms.
const PLACES_PER_PROCESSOR: usize = 72;

/// How often refused places are logged.
const LOGGED_EVERY: Duration = Duration::from_mins(1);

/// Permits to sign with slow keys.
pub struct SigningPool {
    working: Arc<Semaphore>,
    places: Arc<Semaphore>,
    refused: Mutex<RefusedPlaces>,
}

/// Places refused since the last log line, and when it was written.
#[derive(Default)]
struct RefusedPlaces {
    count: u64,
    logged: Option<Instant>,
}

/// No place came free in time: nothing was signed, and nothing was written (Q8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigningOverloaded;

/// A place in the pool, for one signature.
pub struct SigningPlace {
    working: Arc<Semaphore>,
    place: OwnedSemaphorePermit,
}

impl SigningPool {
    /// A pool that makes so many signatures at a time.
    pub fn new(at_once: usize) -> Self {
        let places = at_once.saturating_mul(PLACES_PER_PROCESSOR);
        Self {
            working: Arc::new(Semaphore::new(at_once)),
            places: Arc::new(Semaphore::new(places)),
            refused: Mutex::default(),
        }
    }

    /// Counts a refused place; how many there were since the last log line, if it is time for another.
    fn refused_lately(&self, now: Instant) -> Option<u64> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.count = refused.count.saturating_add(1);
        let is_due = |last: Instant| now.saturating_duration_since(last) >= LOGGED_EVERY;
        if !refused.logged.is_none_or(is_due) {
            return None;
        }
        refused.logged = Some(now);
        Some(std::mem::take(&mut refused.count))
    }

    /// Takes a place; waits for one, within bounds.
    ///
    /// # Errors
    /// [`SigningOverloaded`].
    pub async fn place(&self) -> Result<SigningPlace, SigningOverloaded> {
        let places = || Arc::clone(&self.places);
        let place = if let Ok(place) = places().try_acquire_owned() {
            place
        } else {
            let waited = timeout(PLACE_WITHIN, places().acquire_owned()).await;
            waited.ok().and_then(Result::ok).ok_or_else(|| {
                if let Some(refused) = self.refused_lately(Instant::now()) {
                    tracing::warn!(
                        refused,
                        "no place to sign with a slow key came free in time: use Ed25519 or ECDSA keys, \
                         unless the store's disk holds up what waits"
                    );
                }
                SigningOverloaded
            })?
        };
        Ok(SigningPlace {
            working: Arc::clone(&self.working),
            place,
        })
    }

    /// Signs as soon as there is a place; `None` if none came free in time or the thread failed.
    pub async fn sign<T: Send + 'static>(
        &self,
        signing: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.place().await.ok()?.sign(signing).await
    }
}

impl SigningPlace {
    /// Signs on a thread of the pool; `None` if the thread failed. The place moves to the thread: a
    /// caller that stops waiting does not free it.
    pub async fn sign<T: Send + 'static>(
        self,
        signing: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let Self { working, place } = self;
        let working = working.acquire_owned().await.ok()?;
        let signed = tokio::task::spawn_blocking(move || {
            let signed = signing();
            drop((working, place));
            signed
        });
        signed
            .await
            .inspect_err(|fault| tracing::error!(%fault, "a signing thread failed"))
            .ok()
    }
}

/// One signature at a time for each processor.
impl Default for SigningPool {
    fn default() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, NonZero::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Q8: who finds no place in time is turned down; who has one signs.
    #[tokio::test]
    async fn who_finds_no_place_in_time_is_turned_down() {
        let pool = SigningPool::new(1);
        let mut held = Vec::new();
        for _ in 0..PLACES_PER_PROCESSOR {
            held.push(pool.place().await.unwrap());
        }
        assert_eq!(pool.place().await.err(), Some(SigningOverloaded));
        assert_eq!(pool.sign(|| 1).await, None);
        let first = held.pop().unwrap();
        assert_eq!(first.sign(|| 2).await, Some(2));
        assert_eq!(pool.sign(|| 3).await, Some(3), "its place is free again");
    }

    /// However many are turned down, the log has one line a minute, with their number.
    #[tokio::test(start_paused = true)]
    async fn refused_places_are_logged_once_a_minute() {
        let pool = SigningPool::new(1);
        let refused = || pool.refused_lately(Instant::now());
        assert_eq!(refused(), Some(1));
        assert_eq!([refused(), refused()], [None, None]);
        tokio::time::advance(LOGGED_EVERY).await;
        assert_eq!([refused(), refused()], [Some(3), None]);
    }

    /// A caller that stops waiting frees its place once its signature is made, not before.
    #[tokio::test]
    async fn a_signature_in_the_making_keeps_its_place() {
        let pool = SigningPool::new(1);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let place = pool.place().await.unwrap();
        let signing = tokio::spawn(place.sign(move || wait.recv()));
        while pool.working.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        signing.abort();
        assert_eq!(pool.places.available_permits(), PLACES_PER_PROCESSOR - 1);
        go.send(()).unwrap();
        assert_eq!(pool.sign(|| 4).await, Some(4));
    }
}
