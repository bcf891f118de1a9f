//! Leases. A lease moves the row's due time to the lease's end, under a fencing number that
//! increases with every lease, completion and change: a holder of an older number cannot complete
//! (N6), and work left by a crash becomes due again by itself (Z3).

mod bring_forward;
pub(super) mod lanes;

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::event::{Event, EventType};
use crate::domain::identifiers::{EventId, MerchantId, PayOrderNo, Timestamp};
use crate::domain::order::Order;
use crate::seal::Seal;
use crate::store::sqlite::writer::WriteTransaction;
use crate::store::sqlite::{Sqlite, SqliteFault, loading, sealed};
use crate::store::unresolved::{LaneShares, NextOrder, Unresolved};
use crate::store::{
    DeliveryOutcome, LEASE, Lease, LeaseCompletion, LeaseKind, LeasedWork, Nodes, StoreError,
};

use bring_forward::bring_forward;

/// Orders with intents of expired nodes. Final states are listed so that the partial index is used.
const ORPHANED: &str = "SELECT pay_order_no FROM attempts
    WHERE state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED' AND state = 'INTENT'
    AND EXISTS (SELECT 1 FROM nodes WHERE nodes.epoch = attempts.epoch AND nodes.state = 'EXPIRED')
    UNION SELECT pay_order_no FROM refunds
    WHERE refunds.state <> 'FAILED' AND refunds.state <> 'SUCCEEDED'
    AND refunds.state = 'RESERVED' AND left_at IS NOT NULL
    AND EXISTS (SELECT 1 FROM nodes WHERE nodes.epoch = refunds.epoch AND nodes.state = 'EXPIRED')
    LIMIT ?1";

/// The key of a leased row, and its lease.
pub(super) struct LeasedRow {
    row: String,
    fence: i64,
    tries: u32,
}

/// Numbers of orders with intents of expired nodes.
fn orphaned(connection: &Connection, count: u32) -> Result<Vec<String>, SqliteFault> {
    let mut statement = connection.prepare_cached(ORPHANED)?;
    let keys = statement.query_map(params![count], |row| row.get(0))?;
    Ok(keys.collect::<Result<_, _>>()?)
}

/// Leases them, whether due or not.
fn lease_orphaned(
    writing: &mut WriteTransaction<'_>,
    now: Timestamp,
    count: u32,
) -> Result<Vec<LeasedRow>, SqliteFault> {
    let sql = "UPDATE orders SET due_at = ?2, leased_until = ?2, fence = fence + 1
        WHERE pay_order_no = ?1 RETURNING fence";
    let mut statement = writing.connection.prepare_cached(sql)?;
    let until = now.plus(LEASE).ms();
    orphaned(writing.connection, count)?
        .into_iter()
        .map(|row| {
            let fence = statement.query_row(params![row, until], |found| found.get(0))?;
            Ok(LeasedRow {
                row,
                fence,
                tries: 0,
            })
        })
        .collect()
}

#[async_trait]
impl Nodes for Sqlite {
    async fn lease_orphaned(&self, now: Timestamp, count: u32) -> Result<Vec<Lease>, StoreError> {
        if self.read(|connection| orphaned(connection, 1))?.is_empty() {
            return Ok(Vec::new());
        }
        let take = move |writing: &mut WriteTransaction<'_>| lease_orphaned(writing, now, count);
        let taken = self.write(take).await?;
        self.read(|connection| load(connection, &self.seal, LeaseKind::OrphanedCalls, &taken))
    }

    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError> {
        self.write(move |writing| bring_forward(writing, by, now))
            .await
    }
}

#[async_trait]
impl Unresolved for Sqlite {
    async fn lease_orders(
        &self,
        shares: &LaneShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        let due = self.read(|connection| lanes::due(connection, shares, now, count))?;
        self.take_orders(due, now, lanes::LeaseReason::Due).await
    }

    async fn next_order(&self, shares: &LaneShares) -> Result<NextOrder, StoreError> {
        self.read(|connection| lanes::next_due(connection, shares))
    }

    async fn lease_named(
        &self,
        orders: &[PayOrderNo],
        now: Timestamp,
    ) -> Result<Vec<Lease>, StoreError> {
        let free = self.read(|connection| lanes::free(connection, orders, now))?;
        self.take_orders(free, now, lanes::LeaseReason::Named).await
    }

    async fn reschedule(&self, order: &Order, fence: u64) -> Result<LeaseCompletion, StoreError> {
        let rescheduled = lanes::OrderReschedule::of(order, fence);
        self.write(move |writing| rescheduled.apply(writing)).await
    }
}

impl Sqlite {
    /// Leases these orders.
    async fn take_orders(
        &self,
        orders: Vec<String>,
        now: Timestamp,
        reason: lanes::LeaseReason,
    ) -> Result<Vec<Lease>, StoreError> {
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        let take =
            move |writing: &mut WriteTransaction<'_>| lanes::take(writing, &orders, now, reason);
        let taken = self.write(take).await?;
        self.read(|connection| load(connection, &self.seal, LeaseKind::Orders, &taken))
    }
}

/// Leases these events, if they are still due.
pub(super) fn take_events(
    writing: &mut WriteTransaction<'_>,
    due: &[String],
    now: Timestamp,
) -> Result<Vec<LeasedRow>, SqliteFault> {
    let sql = "UPDATE events SET state = 'LEASED', due_at = ?2, fence = fence + 1
        WHERE event_id = ?1 AND due_at <= ?3 RETURNING fence, tries";
    let mut statement = writing.connection.prepare_cached(sql)?;
    let until = now.plus(LEASE).ms();
    let mut taken = Vec::with_capacity(due.len());
    for row in due {
        let found = statement
            .query_row(params![row, until, now.ms()], |found| {
                Ok((found.get(0)?, found.get(1)?))
            })
            .optional()?;
        let row = row.clone();
        taken.extend(found.map(|(fence, tries)| LeasedRow { row, fence, tries }));
    }
    Ok(taken)
}

/// Loads leased rows completely. A row with a newer fence has another holder by now.
pub(super) fn load(
    connection: &Connection,
    seal: &Seal,
    work: LeaseKind,
    taken: &[LeasedRow],
) -> Result<Vec<Lease>, SqliteFault> {
    let mut leases = Vec::with_capacity(taken.len());
    for lease in taken {
        let of = match work {
            LeaseKind::Orders | LeaseKind::OrphanedCalls => loading::order_where(
                connection,
                seal,
                "pay_order_no = ?1 AND fence = ?2",
                params![lease.row, lease.fence],
            )
            .map(|order| order.map(|order| LeasedWork::Order(Box::new(order)))),
            LeaseKind::Events => event(connection, seal, lease),
        };
        let of = match of {
            // One unreadable row must not block those leased with it.
            Err(SqliteFault::Corrupt(what)) => {
                tracing::error!(
                    row = lease.row,
                    what,
                    "leased work cannot be read and needs manual repair"
                );
                continue;
            }
            read => read?,
        };
        let fence = u64::try_from(lease.fence).unwrap_or(0);
        let tries = lease.tries;
        leases.extend(of.map(|of| Lease { of, fence, tries }));
    }
    Ok(leases)
}

fn event(
    connection: &Connection,
    seal: &Seal,
    lease: &LeasedRow,
) -> Result<Option<LeasedWork>, SqliteFault> {
    let sql = "SELECT event_type, merchant_id, pay_order_no, version, target, sealed, born
        FROM events WHERE event_id = ?1 AND fence = ?2";
    let found = connection
        .prepare_cached(sql)?
        .query_row(params![lease.row, lease.fence], |row| {
            let names: (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let version: i64 = row.get(3)?;
            let target: Option<Vec<u8>> = row.get(4)?;
            let sealed: Vec<u8> = row.get(5)?;
            Ok((names, version, target, sealed, row.get(6)?))
        })
        .optional()?;
    let Some(((kind, merchant, order), version, target, body, born)) = found else {
        return Ok(None);
    };
    let malformed = || SqliteFault::Corrupt("a stored event is malformed".into());
    let event = Event {
        id: EventId::parse(&lease.row).map_err(|_| malformed())?,
        kind: EventType::ALL
            .into_iter()
            .find(|known| known.name() == kind)
            .ok_or_else(malformed)?,
        merchant: MerchantId::parse(&merchant).map_err(|_| malformed())?,
        order: PayOrderNo::parse(&order).map_err(|_| malformed())?,
        version: u64::try_from(version).map_err(|_| malformed())?,
        destination: sealed::open_maybe(seal, sealed::target_place(&lease.row), target.as_deref())?,
        body: seal.open(sealed::event_place(&lease.row), &body)?,
    };
    let born = Timestamp::from_ms(born);
    Ok(Some(LeasedWork::Event(Box::new(event), born)))
}

/// The result of a leased event as column values.
pub(super) struct EventCompletion {
    row: String,
    fence: i64,
    outcome: DeliveryOutcome,
}

impl EventCompletion {
    /// `None` for an order, which is rescheduled instead.
    pub(super) fn of(lease: &Lease, outcome: DeliveryOutcome) -> Option<Self> {
        let LeasedWork::Event(event, _) = &lease.of else {
            return None;
        };
        Some(Self {
            row: event.id.as_str().to_owned(),
            // A fence out of range was never issued.
            fence: i64::try_from(lease.fence).unwrap_or(-1),
            outcome,
        })
    }

    pub(super) fn apply(
        &self,
        writing: &mut WriteTransaction<'_>,
    ) -> Result<LeaseCompletion, SqliteFault> {
        let (sql, moment) = match self.outcome {
            DeliveryOutcome::Again(at) => (
                "UPDATE events SET state = 'PENDING', due_at = ?3, tries = tries + 1,
                 fence = fence + 1 WHERE event_id = ?1 AND fence = ?2 AND state = 'LEASED'",
                Some(at),
            ),
            DeliveryOutcome::NotAttempted(at) => (
                "UPDATE events SET state = 'PENDING', due_at = ?3, fence = fence + 1
                 WHERE event_id = ?1 AND fence = ?2 AND state = 'LEASED'",
                Some(at),
            ),
            DeliveryOutcome::Delivered(at) => (
                "UPDATE events SET state = 'DELIVERED', due_at = NULL, delivered_at = ?3,
                 tries = tries + 1, fence = fence + 1
                 WHERE event_id = ?1 AND fence = ?2 AND state = 'LEASED'",
                Some(at),
            ),
            DeliveryOutcome::Dead => (
                "UPDATE events SET state = 'DEAD', due_at = ?3, tries = tries + 1,
                 fence = fence + 1 WHERE event_id = ?1 AND fence = ?2 AND state = 'LEASED'",
                None,
            ),
        };
        let mut statement = writing.connection.prepare_cached(sql)?;
        let completed =
            statement.execute(params![self.row, self.fence, moment.map(Timestamp::ms)])?;
        Ok(if completed == 1 {
            LeaseCompletion::Done
        } else {
            LeaseCompletion::LeaseLost
        })
    }
}
