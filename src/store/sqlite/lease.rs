//! Work taken for a while. A lease is the row's own due time, moved behind the lease's end, under
//! a fencing number that grows with every lease, settlement and change: whoever holds an older
//! number settles nothing (N6), and what a crash leaves behind is due again by itself (Z3).

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::attempt::Epoch;
use crate::domain::event::{Event, EventType};
use crate::domain::identifiers::{EventId, MerchantId, PayOrderNo, Timestamp};
use crate::seal::Seal;
use crate::store::sqlite::chain::CHAIN;
use crate::store::sqlite::writer::Writing;
use crate::store::sqlite::{Fault, loading, sealed};
use crate::store::{CLOCKS_APART, Fate, LEASE, Lease, Leased, Settled, Work};

/// Orders with intents of other processes. The states that are over are named for the index.
const LEFTOVERS: &str = "SELECT pay_order_no FROM attempts
    WHERE state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED'
    AND state = 'INTENT' AND epoch <> ?1
    UNION SELECT pay_order_no FROM refunds
    WHERE state <> 'FAILED' AND state <> 'SUCCEEDED'
    AND state = 'RESERVED' AND epoch <> ?1 AND left_at IS NOT NULL LIMIT ?2";

/// A row that was leased, by its key, with what the lease says.
pub(super) struct Taken {
    row: String,
    fence: i64,
    tries: u32,
}

/// Keys of rows that may be leased now, the longest due first.
pub(super) fn candidates(
    connection: &Connection,
    work: Work,
    epoch: Epoch,
    now: Timestamp,
    count: u32,
) -> Result<Vec<String>, Fault> {
    let (sql, first) = match work {
        Work::Orders => {
            let sql = "SELECT pay_order_no FROM orders WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2";
            (sql, now.ms())
        }
        Work::Leftovers => (LEFTOVERS, epoch.0),
        // Found by their destinations (`queue.rs`).
        Work::Events => return Ok(Vec::new()),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let keys = statement.query_map(params![first, count], |row| row.get(0))?;
    Ok(keys.collect::<Result<_, _>>()?)
}

/// Leases orders that are due.
pub(super) fn take(
    writing: &mut Writing<'_>,
    work: Work,
    epoch: Epoch,
    now: Timestamp,
    count: u32,
) -> Result<Vec<Taken>, Fault> {
    let sql = "UPDATE orders SET due_at = ?2, fence = fence + 1 WHERE pay_order_no = ?1
        RETURNING fence, tries";
    let mut statement = writing.connection.prepare_cached(sql)?;
    let until = now.plus(LEASE).ms();
    candidates(writing.connection, work, epoch, now, count)?
        .into_iter()
        .map(|row| {
            let (fence, tries) = statement.query_row(params![row, until], |found| {
                Ok((found.get(0)?, found.get(1)?))
            })?;
            Ok(Taken { row, fence, tries })
        })
        .collect()
}

/// Leases these events, if they are still due.
pub(super) fn take_events(
    writing: &mut Writing<'_>,
    due: &[String],
    now: Timestamp,
) -> Result<Vec<Taken>, Fault> {
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
        taken.extend(found.map(|(fence, tries)| Taken { row, fence, tries }));
    }
    Ok(taken)
}

/// Reads whole what was leased. A row whose fence has grown since is somebody else's by now.
pub(super) fn load(
    connection: &Connection,
    seal: &Seal,
    work: Work,
    taken: &[Taken],
) -> Result<Vec<Lease>, Fault> {
    let mut leases = Vec::with_capacity(taken.len());
    for lease in taken {
        let of = match work {
            Work::Orders | Work::Leftovers => loading::order_where(
                connection,
                seal,
                "pay_order_no = ?1 AND fence = ?2",
                params![lease.row, lease.fence],
            )
            .map(|order| order.map(|order| Leased::Order(Box::new(order)))),
            Work::Events => event(connection, seal, lease),
        };
        let of = match of {
            // One row that cannot be read must not hold up those leased with it.
            Err(Fault::Corrupt(what)) => {
                tracing::error!(
                    row = lease.row,
                    what,
                    "leased work cannot be read; a person must look"
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

fn event(connection: &Connection, seal: &Seal, lease: &Taken) -> Result<Option<Leased>, Fault> {
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
    let malformed = || Fault::Corrupt("a stored event is malformed".into());
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
    Ok(Some(Leased::Event(Box::new(event), born)))
}

/// What became of leased work, spelled out.
pub(super) struct Settlement {
    is_event: bool,
    row: String,
    fence: i64,
    fate: Fate,
}

impl Settlement {
    pub(super) fn of(lease: &Lease, fate: Fate) -> Self {
        let (is_event, row) = match &lease.of {
            Leased::Order(order) => (false, order.no.as_str()),
            Leased::Event(event, _) => (true, event.id.as_str()),
        };
        Self {
            is_event,
            row: row.to_owned(),
            // A fence that does not fit was never given out.
            fence: i64::try_from(lease.fence).unwrap_or(-1),
            fate,
        }
    }

    pub(super) fn apply(&self, writing: &mut Writing<'_>) -> Result<Settled, Fault> {
        let (sql, moment) = match (self.is_event, self.fate) {
            (false, Fate::Again(at)) => (
                "UPDATE orders SET due_at = ?3, tries = tries + 1, fence = fence + 1
                 WHERE pay_order_no = ?1 AND fence = ?2",
                Some(at),
            ),
            (false, Fate::NotTried(at)) => (
                "UPDATE orders SET due_at = ?3, fence = fence + 1
                 WHERE pay_order_no = ?1 AND fence = ?2",
                Some(at),
            ),
            // Only a change ends an order.
            (false, Fate::Delivered(_) | Fate::Dead) => return Ok(Settled::LeaseLost),
            (true, Fate::Again(at)) => (
                "UPDATE events SET state = 'PENDING', due_at = ?3, tries = tries + 1,
                 fence = fence + 1 WHERE event_id = ?1 AND fence = ?2 AND state = 'LEASED'",
                Some(at),
            ),
            (true, Fate::NotTried(at)) => (
                "UPDATE events SET state = 'PENDING', due_at = ?3, fence = fence + 1
                 WHERE event_id = ?1 AND fence = ?2 AND state = 'LEASED'",
                Some(at),
            ),
            (true, Fate::Delivered(at)) => (
                "UPDATE events SET state = 'DELIVERED', due_at = NULL, delivered_at = ?3,
                 tries = tries + 1, fence = fence + 1
                 WHERE event_id = ?1 AND fence = ?2 AND state = 'LEASED'",
                Some(at),
            ),
            (true, Fate::Dead) => (
                "UPDATE events SET state = 'DEAD', due_at = ?3, tries = tries + 1,
                 fence = fence + 1 WHERE event_id = ?1 AND fence = ?2 AND state = 'LEASED'",
                None,
            ),
        };
        let mut statement = writing.connection.prepare_cached(sql)?;
        let settled =
            statement.execute(params![self.row, self.fence, moment.map(Timestamp::ms)])?;
        Ok(if settled == 1 {
            Settled::Done
        } else {
            Settled::LeaseLost
        })
    }
}

/// Every moment that something waits for, and that was reckoned from a clock.
const WAITED_FOR: [(&str, &str); 3] = [
    ("orders", "due_at"),
    ("events", "due_at"),
    ("refunds", "waits_until"),
];

/// Brings forward what a clock that was ahead has put off: nothing waits longer than its own wait,
/// counted from now. Looking too early asks too early, once; too late would be a payment nobody asks
/// about for as long as the clock was ahead (T2).
pub(super) fn bring_forward(
    writing: &mut Writing<'_>,
    by: Option<Duration>,
    now: Timestamp,
) -> Result<Duration, Fault> {
    let last = "SELECT at FROM audit WHERE chain_id = ?1 ORDER BY seq DESC LIMIT 1";
    let recorded: Option<i64> = writing
        .connection
        .prepare_cached(last)?
        .query_row(params![CHAIN], |row| row.get(0))
        .optional()?;
    let ahead = recorded.map(|at| Timestamp::from_ms(at).since(now));
    let by = by.or(ahead).filter(|by| *by > CLOCKS_APART);
    let by = by.unwrap_or_default();
    if by.is_zero() {
        return Ok(by);
    }
    let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    for (table, column) in WAITED_FOR {
        let sql = format!(
            "UPDATE {table} SET {column} = max({column} - ?1, ?2)
             WHERE {column} IS NOT NULL AND {column} > ?2"
        );
        let mut statement = writing.connection.prepare(&sql)?;
        statement.execute(params![by_ms, now.ms()])?;
    }
    Ok(by)
}

/// When a look would find work of this kind.
pub(super) fn next_due(
    connection: &Connection,
    work: Work,
    epoch: Epoch,
) -> Result<Option<Timestamp>, Fault> {
    let due: Option<i64> = match work {
        Work::Orders => connection
            .prepare_cached("SELECT MIN(due_at) FROM orders WHERE due_at IS NOT NULL")?
            .query_row([], |row| row.get(0))?,
        Work::Leftovers => {
            let any = candidates(connection, work, epoch, Timestamp::from_ms(0), 1)?;
            any.first().map(|_| i64::MIN)
        }
        Work::Events => None,
    };
    Ok(due.map(Timestamp::from_ms))
}
