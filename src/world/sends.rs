//! What this process sends, and since when none of it can leave any more (A5, V5).
//!
//! Kept in memory, not in the store: these readings mean nothing to another process. Whatever an
//! earlier process sent counts as sent when this one started.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::evidence::EvidenceSubject;
use crate::domain::identifiers::Uptime;
use crate::world::Clock;

/// Up to this many unresolved sends are remembered individually; beyond that, the older half counts
/// as sent when the last of them was.
pub const SENDS_KNOWN_MAX: usize = 100_000;

/// The log of sends.
pub trait Sends: Send + Sync {
    /// A create or refund is about to be sent. Call it before its intent is written, so that no
    /// send can leave unrecorded; hold the value until the send is over.
    fn begin(&self, about: &EvidenceSubject) -> InFlightSend;

    /// The time between the end of the last send about this and a query sent at `queried_at`;
    /// `None` while a send is in flight.
    fn quiet(&self, about: &EvidenceSubject, queried_at: Uptime) -> Option<Duration>;

    /// The outcome of this is durable: it needs no entry any more.
    fn forget(&self, about: &EvidenceSubject);
}

/// A send that may still leave this machine. It is over when the last copy is dropped: with the
/// response, with the error, or with the end of the connection that carried it.
#[derive(Clone)]
pub struct InFlightSend {
    begun: Uptime,
    entry: Arc<SendEntry>,
}

impl InFlightSend {
    /// When it began.
    pub fn begun(&self) -> Uptime {
        self.begun
    }

    /// From here on it may leave. A send that began and never reached this point was not sent.
    pub fn may_leave(&self) {
        self.entry.may_have_left.store(true, Ordering::SeqCst);
    }
}

struct SendEntry {
    about: EvidenceSubject,
    log: Arc<SharedSendLog>,
    may_have_left: AtomicBool,
}

impl Drop for SendEntry {
    fn drop(&mut self) {
        let now = self.log.clock.uptime();
        let mut table = self.log.table();
        let Some(known) = table.known.get_mut(&self.about) else {
            return;
        };
        known.under_way = known.under_way.saturating_sub(1);
        if self.may_have_left.load(Ordering::SeqCst) {
            known.over = Some(now);
        }
        if known.under_way == 0 && known.over.is_none() {
            table.known.remove(&self.about);
        }
    }
}

/// The sends of one process.
pub struct SendLog(Arc<SharedSendLog>);

struct SharedSendLog {
    clock: Arc<dyn Clock>,
    table: Mutex<SendTable>,
}

struct SendTable {
    /// Of what is not remembered individually, nothing was sent after this.
    before: Uptime,
    known: HashMap<EvidenceSubject, SendHistory>,
}

#[derive(Clone, Copy)]
struct SendHistory {
    under_way: u32,
    /// When the last send by this process that may have left was over.
    over: Option<Uptime>,
}

impl SendLog {
    /// Starts an empty log. Call it when no other process can be sending: after the store is locked
    /// (S1).
    pub fn start(clock: Arc<dyn Clock>) -> Self {
        let before = clock.uptime();
        let table = Mutex::new(SendTable {
            before,
            known: HashMap::new(),
        });
        Self(Arc::new(SharedSendLog { clock, table }))
    }
}

impl SharedSendLog {
    fn table(&self) -> MutexGuard<'_, SendTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SendTable {
    /// Evicts the older half of what is over, and counts it as sent when the last of it was.
    fn evict_oldest(&mut self) {
        let over = self.known.values().filter(|known| known.under_way == 0);
        let mut over: Vec<Uptime> = over.filter_map(|known| known.over).collect();
        let middle = over.len().checked_div(2).unwrap_or(0);
        if over.is_empty() {
            return;
        }
        let (_, cut, _) = over.select_nth_unstable(middle);
        let cut = *cut;
        self.before = self.before.max(cut);
        self.known
            .retain(|_, known| known.under_way > 0 || known.over > Some(cut));
    }
}

impl Sends for SendLog {
    fn begin(&self, about: &EvidenceSubject) -> InFlightSend {
        let begun = self.0.clock.uptime();
        let mut table = self.0.table();
        if table.known.len() >= SENDS_KNOWN_MAX {
            table.evict_oldest();
        }
        let known = table.known.entry(about.clone()).or_insert(SendHistory {
            under_way: 0,
            over: None,
        });
        known.under_way = known.under_way.saturating_add(1);
        drop(table);
        InFlightSend {
            begun,
            entry: Arc::new(SendEntry {
                about: about.clone(),
                log: Arc::clone(&self.0),
                may_have_left: AtomicBool::new(false),
            }),
        }
    }

    fn quiet(&self, about: &EvidenceSubject, queried_at: Uptime) -> Option<Duration> {
        let table = self.0.table();
        match table.known.get(about) {
            Some(known) if known.under_way > 0 => None,
            Some(SendHistory {
                over: Some(over), ..
            }) => Some(queried_at.since(*over)),
            Some(SendHistory { over: None, .. }) | None => Some(queried_at.since(table.before)),
        }
    }

    fn forget(&self, about: &EvidenceSubject) {
        let mut table = self.0.table();
        let is_over = |known: &SendHistory| known.under_way == 0;
        if table.known.get(about).is_some_and(is_over) {
            table.known.remove(about);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::domain::identifiers::{AttemptId, Timestamp};

    struct SendsTestClock(AtomicU64);

    impl Clock for SendsTestClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_ms(0)
        }

        fn uptime(&self) -> Uptime {
            Uptime::from_ms(self.0.load(Ordering::SeqCst))
        }
    }

    fn attempt(n: usize) -> EvidenceSubject {
        EvidenceSubject::Attempt(AttemptId::parse(&format!("A{n:026}")).unwrap())
    }

    fn quiet_ms(sends: &SendLog, about: &EvidenceSubject, queried_ms: u64) -> Option<u128> {
        let quiet = sends.quiet(about, Uptime::from_ms(queried_ms));
        quiet.map(|quiet| quiet.as_millis())
    }

    /// V5, A5: a send is over when its last copy is dropped, not when it began; what an earlier
    /// process sent counts from the start of this one; a query before that was not quiet at all.
    #[test]
    fn a_send_is_dated_by_when_it_ended() {
        let hand = Arc::new(SendsTestClock(AtomicU64::new(1_000)));
        let sends = SendLog::start(Arc::<SendsTestClock>::clone(&hand));
        let (one, other) = (attempt(1), attempt(2));
        assert_eq!(quiet_ms(&sends, &other, 5_000), Some(4_000));
        drop(sends.begin(&one));
        assert_eq!(quiet_ms(&sends, &one, 5_000), Some(4_000), "never left");
        let first = sends.begin(&one);
        first.may_leave();
        let carried = first.clone();
        drop(first);
        hand.0.store(600_000, Ordering::SeqCst);
        assert_eq!(quiet_ms(&sends, &one, 700_000), None, "still carried");
        drop(carried);
        assert_eq!(quiet_ms(&sends, &one, 700_000), Some(100_000));
        assert_eq!(quiet_ms(&sends, &one, 500_000), Some(0));
        let again = sends.begin(&one);
        sends.forget(&one);
        assert_eq!(quiet_ms(&sends, &one, 900_000), None, "not over");
        drop(again);
        sends.forget(&one);
        assert_eq!(quiet_ms(&sends, &one, 700_000), Some(699_000));
    }

    /// A5: evicted sends count as sent later than they were, never earlier.
    #[test]
    fn evicted_sends_count_as_sent_later() {
        let hand = Arc::new(SendsTestClock(AtomicU64::new(0)));
        let sends = SendLog::start(Arc::<SendsTestClock>::clone(&hand));
        for n in 0..=SENDS_KNOWN_MAX {
            hand.0.fetch_add(1, Ordering::SeqCst);
            sends.begin(&attempt(n)).may_leave();
        }
        let queried_ms = 1_000_000;
        let (first, last) = (attempt(0), attempt(SENDS_KNOWN_MAX));
        let half = u128::try_from(SENDS_KNOWN_MAX / 2).unwrap();
        assert!(quiet_ms(&sends, &first, queried_ms).unwrap() <= 1_000_000 - half);
        let now = hand.0.load(Ordering::SeqCst);
        assert_eq!(
            quiet_ms(&sends, &last, queried_ms),
            Some(u128::from(queried_ms - now))
        );
    }
}
