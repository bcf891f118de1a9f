//! The event queues, one per destination: what is due, within the destination's share (N7).

mod dead_events;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use crate::domain::identifiers::{MerchantId, Timestamp};
use crate::store::outbox::{
    DeadEventFilter, DeadEvents, DeliveryOutcome, DeliveryShares, EventPageLimit, NumberedEvent,
    Outbox,
};
use crate::store::sqlite::{Sqlite, SqliteFault, lease};
use crate::store::{Lease, LeaseCompletion, LeaseKind, StoreError};

/// The oldest due events of one destination, whether pending or with an expired lease.
const DUE_OF_ORIGIN: &str = "SELECT event_id, due_at FROM (SELECT event_id, due_at FROM events
        WHERE due_at IS NOT NULL AND origin = ?1 AND state = 'PENDING' AND due_at <= ?2
        ORDER BY due_at, event_id LIMIT ?3)
    UNION ALL SELECT event_id, due_at FROM (SELECT event_id, due_at FROM events
        WHERE due_at IS NOT NULL AND origin = ?1 AND state = 'LEASED' AND due_at <= ?2
        ORDER BY due_at, event_id LIMIT ?3)
    ORDER BY due_at, event_id LIMIT ?3";

#[async_trait]
impl Outbox for Sqlite {
    async fn lease_events(
        &self,
        shares: &DeliveryShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        // Searched by a reader: with many destinations that takes longer than leasing, and the
        // writer thread is shared by all.
        let due = self.read(|connection| due(connection, shares, now, count))?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let taken = self
            .write(move |writing| lease::take_events(writing, &due, now))
            .await?;
        self.read(|connection| lease::load(connection, &self.seal, LeaseKind::Events, &taken))
    }

    async fn next_event(&self, shares: &DeliveryShares) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| next_due(connection, shares))
    }

    async fn complete(
        &self,
        lease: &Lease,
        outcome: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError> {
        let Some(completion) = lease::EventCompletion::of(lease, outcome) else {
            return Ok(LeaseCompletion::LeaseLost);
        };
        self.write(move |writing| completion.apply(writing)).await
    }

    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        limit: EventPageLimit,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        self.read(|connection| dead_events::after(connection, &self.seal, merchant, after, limit))
    }

    async fn dead_lettered(
        &self,
        which: &DeadEventFilter,
        shown: u32,
    ) -> Result<DeadEvents, StoreError> {
        self.read(|connection| dead_events::dead(connection, which, shown))
    }

    async fn resend(
        &self,
        which: &DeadEventFilter,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut resent = 0_u64;
        loop {
            let (which, by) = (which.clone(), by.to_owned());
            let some = self
                .write(move |writing| dead_events::resend(writing, &which, &by, now))
                .await?;
            resent = resent.saturating_add(some);
            if some < dead_events::RESENT_AT_ONCE {
                return Ok(resent);
            }
        }
    }
}

/// Ids of events that may be leased now. The destination with the fewest in flight comes first, so
/// that a free worker slot goes to one that has none.
fn due(
    connection: &Connection,
    shares: &DeliveryShares,
    now: Timestamp,
    count: u32,
) -> Result<Vec<String>, SqliteFault> {
    let mut due: Vec<(u32, i64, String)> = Vec::new();
    for_each_origin(connection, |origin| {
        let share = shares.of(origin);
        if share == 0 {
            return Ok(());
        }
        let running: u32 = connection
            .prepare_cached(
                "SELECT COUNT(*) FROM events WHERE due_at IS NOT NULL AND origin = ?1
                 AND state = 'LEASED' AND due_at > ?2",
            )?
            .query_row(params![origin, now.ms()], |row| row.get(0))?;
        let free = share.saturating_sub(running);
        let mut statement = connection.prepare_cached(DUE_OF_ORIGIN)?;
        let found = statement.query_map(params![origin, now.ms(), free], |row| {
            Ok((row.get(1)?, row.get(0)?))
        })?;
        for (place, event) in (running..).zip(found) {
            let (at, id) = event?;
            due.push((place, at, id));
        }
        Ok(())
    })?;
    due.sort_unstable();
    due.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    Ok(due.into_iter().map(|(_, _, event)| event).collect())
}

/// Visits every destination with undelivered events, by one index step each.
fn for_each_origin(
    connection: &Connection,
    mut visit: impl FnMut(&str) -> Result<(), SqliteFault>,
) -> Result<(), SqliteFault> {
    let mut next = connection.prepare_cached(
        "SELECT MIN(origin) FROM events WHERE due_at IS NOT NULL AND origin > ?1",
    )?;
    let mut origin = String::new();
    while let Some(found) =
        next.query_row(params![origin], |row| row.get::<_, Option<String>>(0))?
    {
        visit(&found)?;
        origin = found;
    }
    Ok(())
}

/// When `due` would next return something; for a destination with its share used up, when its first
/// lease ends.
fn next_due(
    connection: &Connection,
    shares: &DeliveryShares,
) -> Result<Option<Timestamp>, SqliteFault> {
    let earliest = |origin: &str, state: &str| {
        let sql = "SELECT MIN(due_at) FROM events
            WHERE due_at IS NOT NULL AND origin = ?1 AND state = ?2";
        let mut statement = connection.prepare_cached(sql)?;
        statement.query_row(params![origin, state], |row| row.get::<_, Option<i64>>(0))
    };
    let mut next: Option<i64> = None;
    for_each_origin(connection, |origin| {
        let share = shares.of(origin);
        if share == 0 {
            return Ok(());
        }
        let sql = "SELECT COUNT(*) FROM events
            WHERE due_at IS NOT NULL AND origin = ?1 AND state = 'LEASED'";
        let leased: u32 = connection
            .prepare_cached(sql)?
            .query_row(params![origin], |row| row.get(0))?;
        let waiting = if leased < share {
            earliest(origin, "PENDING")?
        } else {
            None
        };
        let soonest = waiting.into_iter().chain(earliest(origin, "LEASED")?).min();
        next = next.into_iter().chain(soonest).min();
        Ok(())
    })?;
    Ok(next.map(Timestamp::from_ms))
}
