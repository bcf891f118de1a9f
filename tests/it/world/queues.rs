//! The events of the memory store: queues by destination, numbers by merchant, dead-lettered
//! events.

use std::collections::BTreeMap;

use paymux::domain::audit::AuditEntry;
use paymux::domain::identifiers::{EventId, MerchantId, Timestamp};
use paymux::domain::merchant::origin;
use paymux::store::outbox::{
    DeadEvent, DeadEventFilter, DeadEvents, DeliveryShares, EventPageLimit, NumberedEvent,
};
use paymux::store::{Lease, LeasedWork};

use super::memory::{DurableState, MemoryEventRow, MemoryEventState, MemoryLease};

/// The number of leases of a queue, their ends, and the due times of pending events.
type MemoryQueueState = (u32, Vec<Timestamp>, Vec<Timestamp>);

fn queue(destination: &str) -> String {
    origin(destination).unwrap_or_default()
}

fn is_addressed_here(row: &MemoryEventRow, which: &DeadEventFilter) -> bool {
    let (merchant, event) = (&which.merchant, &which.event);
    row.outcome == MemoryEventState::Dead
        && merchant.as_ref().is_none_or(|id| *id == row.event.merchant)
        && event.as_ref().is_none_or(|id| *id == row.event.id)
}

impl DurableState {
    /// Makes events in flight in a dead process due at once.
    pub(super) fn requeue_in_flight(&mut self) {
        for row in self.events.values_mut() {
            if row.lease.until.take().is_some() && row.outcome == MemoryEventState::Pending {
                row.lease.fence += 1;
                row.due = Timestamp::from_ms(0);
            }
        }
    }

    /// For a destination with its share used up, the next time is the end of a lease.
    pub(super) fn next_event(&self, shares: &DeliveryShares) -> Option<Timestamp> {
        let mut queues: BTreeMap<String, MemoryQueueState> = BTreeMap::new();
        for row in self.events.values() {
            let (MemoryEventState::Pending, Some(to)) =
                (row.outcome, row.event.destination.as_deref())
            else {
                continue;
            };
            let (taken, ends, waiting) = queues.entry(queue(to)).or_default();
            match row.lease.until {
                Some(until) => {
                    *taken += 1;
                    ends.push(until);
                }
                None => waiting.push(row.due),
            }
        }
        let next = queues
            .into_iter()
            .flat_map(|(origin, (taken, mut ends, waiting))| {
                let share = shares.of(&origin);
                if taken < share {
                    ends.extend(waiting);
                }
                if share == 0 {
                    ends.clear();
                }
                ends
            });
        next.min()
    }

    pub(super) fn lease_events(
        &mut self,
        shares: &DeliveryShares,
        now: Timestamp,
        count: usize,
    ) -> Vec<Lease> {
        let mut running: BTreeMap<String, u32> = BTreeMap::new();
        for row in self.events.values() {
            let taken = row.outcome == MemoryEventState::Pending && !row.lease.is_free(now);
            if let (true, Some(to)) = (taken, row.event.destination.as_deref()) {
                *running.entry(queue(to)).or_default() += 1;
            }
        }
        let mut due: Vec<(Timestamp, EventId)> = self
            .events
            .iter()
            .filter(|(_, row)| row.outcome == MemoryEventState::Pending && row.due <= now)
            .filter(|(_, row)| row.lease.is_free(now) && row.event.destination.is_some())
            .map(|(id, row)| (row.due, id.clone()))
            .collect();
        due.sort_by(|one, other| (one.0, one.1.as_str()).cmp(&(other.0, other.1.as_str())));
        // The destination with the fewest in flight comes first.
        let mut placed = Vec::new();
        for (at, id) in due {
            let origin = queue(self.events[&id].event.destination.as_deref().unwrap());
            let (share, running) = (shares.of(&origin), running.entry(origin).or_default());
            if *running < share {
                placed.push((*running, at, id));
                *running += 1;
            }
        }
        placed.sort_by(|one, other| {
            (one.0, one.1, one.2.as_str()).cmp(&(other.0, other.1, other.2.as_str()))
        });
        placed.truncate(count);
        placed
            .into_iter()
            .map(|(_, _, id)| {
                let row = self.events.get_mut(&id).unwrap();
                let (fence, tries) = row.lease.take(now);
                let of = LeasedWork::Event(Box::new(row.event.clone()), row.born);
                Lease { of, fence, tries }
            })
            .collect()
    }

    pub(super) fn next_sequence(&self, merchant: &MerchantId) -> u64 {
        let theirs = self
            .events
            .values()
            .filter(|row| row.event.merchant == *merchant);
        theirs.map(|row| row.sequence).max().unwrap_or(0) + 1
    }

    pub(super) fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        room: EventPageLimit,
    ) -> Vec<NumberedEvent> {
        let theirs = self
            .events
            .values()
            .filter(|row| row.event.merchant == *merchant);
        let mut wanted: Vec<NumberedEvent> = theirs
            .filter(|row| row.sequence > after)
            .map(|row| NumberedEvent {
                sequence: row.sequence,
                body: row.event.body.clone(),
            })
            .collect();
        wanted.sort_by_key(|one| one.sequence);
        wanted.truncate(usize::try_from(room.count).unwrap());
        let mut bytes = 0;
        let mut fitting = 0;
        for one in &wanted {
            bytes += one.body.len();
            if bytes > room.bytes && fitting > 0 {
                break;
            }
            fitting += 1;
        }
        wanted.truncate(fitting);
        wanted
    }

    pub(super) fn dead_lettered(&self, which: &DeadEventFilter, shown: usize) -> DeadEvents {
        let dead = self
            .events
            .values()
            .filter(|row| is_addressed_here(row, which));
        let mut all: Vec<DeadEvent> = dead
            .map(|row| DeadEvent {
                id: row.event.id.clone(),
                kind: row.event.kind,
                merchant: row.event.merchant.clone(),
                sequence: row.sequence,
                order: row.event.order.clone(),
                born: row.born,
            })
            .collect();
        all.sort_by(|one, other| {
            (one.merchant.as_str(), one.sequence).cmp(&(other.merchant.as_str(), other.sequence))
        });
        let count = all.len().try_into().unwrap();
        all.truncate(shown);
        DeadEvents { count, shown: all }
    }

    pub(super) fn resend(&mut self, which: &DeadEventFilter, by: &str, now: Timestamp) -> u64 {
        let mut resent = 0;
        for row in self
            .events
            .values_mut()
            .filter(|row| is_addressed_here(row, which))
        {
            row.outcome = MemoryEventState::Pending;
            row.due = now;
            row.lease = MemoryLease {
                fence: row.lease.fence + 1,
                ..MemoryLease::default()
            };
            resent += 1;
        }
        let audit_entry = AuditEntry {
            actor: by.to_owned(),
            action: "events.resend".into(),
            object: "events".to_owned(),
            result: format!("resent={resent}"),
        };
        self.audit_entries.push((audit_entry, now));
        resent
    }
}
