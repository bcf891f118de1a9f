//! Reads the ledger of one order while the gateway runs. The audit log and the journal have no
//! index by order, because every write would pay for it. Both grow in time order, so a binary
//! search finds where the order begins, and as many records are read as the order has versions
//! (K4).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row, params};

use crate::domain::audit::AuditEntry;
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;
use crate::seal::Seal;
use crate::store::sqlite::chain::CHAIN;
use crate::store::sqlite::exchange_log::reading;
use crate::store::sqlite::loading::order_where;
use crate::store::sqlite::{SqliteFault, file};
use crate::store::timeline::{EventDelivery, PostedEntry, Timeline, Timelines};
use crate::store::{OpenError, StoreError};

/// How far concurrently written records may be out of time order. Unit: milliseconds.
const DISORDER_MS_MAX: i64 = 60_000;

/// How much earlier than an order the first exchange of a block with one of its entries may have
/// started: longer than any exchange takes. Unit: milliseconds.
const BEFORE_MS: i64 = 120_000;

/// How long after an order's last change its exchanges are searched for.
const AFTER: Duration = Duration::from_hours(1);

/// How long an unacknowledged notification is retried (N2).
const DELIVERED_WITHIN: Duration = Duration::from_hours(8 * 24);

/// A store's file, and the seal that opens its content.
pub(in crate::store) struct TimelineReader {
    connection: Connection,
    seal: Arc<Seal>,
}

impl TimelineReader {
    pub(in crate::store) fn open(path: &Path, seal: Arc<Seal>) -> Result<Self, OpenError> {
        let connection = file::connect_beside(path)?;
        file::is_current(&connection)?;
        Ok(Self { connection, seal })
    }

    fn read(&self, named: &str) -> Result<Option<Timeline>, SqliteFault> {
        // One snapshot, whatever is written meanwhile.
        let snapshot = self.connection.unchecked_transaction()?;
        let Some(order) = named_order(&snapshot, &self.seal, named)? else {
            return Ok(None);
        };
        let audit_entries = audit_entries(&snapshot, &order)?;
        let last = audit_entries.last().map_or(order.created, |(at, _)| *at);
        let events = events(&snapshot, &order)?;
        let (from, until) = span(&order, last, &events);
        Ok(Some(Timeline {
            entries: entries(&snapshot, &order, last)?,
            events,
            exchanges: reading::read(&snapshot, &self.seal, &order, from, until)?,
            audit_entries,
            order,
        }))
    }
}

impl Timelines for TimelineReader {
    fn timeline(&self, named: &str) -> Result<Option<Timeline>, StoreError> {
        Ok(self.read(named)?)
    }
}

/// The time range of exchanges about an order: from shortly before its creation to shortly after
/// its last change or delivery.
fn span(order: &Order, last: Timestamp, events: &[EventDelivery]) -> (Timestamp, Timestamp) {
    let ends = events.iter().filter_map(|event| {
        event.origin.as_ref()?;
        Some(event.delivered.unwrap_or(event.born.plus(DELIVERED_WITHIN)))
    });
    let last = ends.fold(last, Timestamp::max);
    let from = order.created.ms().saturating_sub(BEFORE_MS);
    (Timestamp::from_ms(from), last.plus(AFTER))
}

fn named_order(
    connection: &Connection,
    seal: &Seal,
    named: &str,
) -> Result<Option<Order>, SqliteFault> {
    if let Some((merchant, no)) = named.split_once('/') {
        let which = "merchant_id = ?1 AND merchant_order_no = ?2";
        return order_where(connection, seal, which, params![merchant, no]);
    }
    let which = match named.as_bytes().first() {
        Some(b'A') => "pay_order_no = (SELECT pay_order_no FROM attempts WHERE attempt_id = ?1)",
        Some(b'R') => {
            "pay_order_no = (SELECT pay_order_no FROM refunds WHERE refund_order_no = ?1)"
        }
        _ => "pay_order_no = ?1",
    };
    order_where(connection, seal, which, params![named])
}

/// The first row number, of a table in time order, whose time is not before `at`.
fn first_at(connection: &Connection, sql: &str, last: i64, at: i64) -> Result<i64, SqliteFault> {
    let mut statement = connection.prepare(sql)?;
    let (mut low, mut high) = (1, last.saturating_add(1));
    while low < high {
        let middle = low.saturating_add(high.saturating_sub(low) / 2);
        let moment: Option<i64> = statement.query_row(params![middle], |row| row.get(0))?;
        match moment {
            Some(moment) if moment < at => low = middle.saturating_add(1),
            // A gap also counts: the next existing row has a higher number.
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

fn last_of(connection: &Connection, sql: &str) -> Result<i64, SqliteFault> {
    Ok(connection
        .query_row(sql, [], |row| row.get::<_, Option<i64>>(0))?
        .unwrap_or(0))
}

fn audit_entries(
    connection: &Connection,
    order: &Order,
) -> Result<Vec<(Timestamp, AuditEntry)>, SqliteFault> {
    let last = last_of(
        connection,
        "SELECT MAX(seq) FROM audit WHERE chain_id = 'main'",
    )?;
    let begin = order.created.ms().saturating_sub(DISORDER_MS_MAX);
    let moment = "SELECT (SELECT at FROM audit WHERE chain_id = 'main' AND seq = ?1)";
    let first = first_at(connection, moment, last, begin)?;
    let sql = "SELECT at, actor, action, object, result FROM audit
        WHERE chain_id = ?1 AND seq >= ?2 AND object = ?3 ORDER BY seq LIMIT ?4";
    let versions = i64::try_from(order.version).unwrap_or(i64::MAX);
    let mut statement = connection.prepare(sql)?;
    let audit_entry = |row: &Row<'_>| {
        let audit_entry = AuditEntry {
            actor: row.get(1)?,
            action: row.get::<_, String>(2)?.into(),
            object: row.get(3)?,
            result: row.get(4)?,
        };
        Ok((Timestamp::from_ms(row.get(0)?), audit_entry))
    };
    let rows = statement.query_map(
        params![CHAIN, first, order.no.as_str(), versions],
        audit_entry,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn entries(
    connection: &Connection,
    order: &Order,
    until: Timestamp,
) -> Result<Vec<PostedEntry>, SqliteFault> {
    let last = last_of(connection, "SELECT MAX(entry_id) FROM journal")?;
    let begin = order.created.ms().saturating_sub(DISORDER_MS_MAX);
    let moment = "SELECT (SELECT at FROM journal WHERE entry_id = ?1)";
    let first = first_at(connection, moment, last, begin)?;
    let end = until.ms().saturating_add(DISORDER_MS_MAX);
    let behind = first_at(connection, moment, last, end)?;
    let sql = "SELECT at, kind, debit, credit, minor FROM journal
        WHERE entry_id >= ?1 AND entry_id <= ?2 AND pay_order_no = ?3 ORDER BY entry_id";
    let mut statement = connection.prepare(sql)?;
    let posted = |row: &Row<'_>| {
        Ok(PostedEntry {
            at: Timestamp::from_ms(row.get(0)?),
            kind: row.get(1)?,
            debit: row.get(2)?,
            credit: row.get(3)?,
            minor: row.get(4)?,
        })
    };
    let rows = statement.query_map(params![first, behind, order.no.as_str()], posted)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// An event's id begins with its order's number.
fn events(connection: &Connection, order: &Order) -> Result<Vec<EventDelivery>, SqliteFault> {
    let begin = format!("E{}", order.no.as_str().get(1..).unwrap_or_default());
    let sql = "SELECT event_id, event_type, born, delivered_at, state, tries, origin FROM events
        WHERE event_id >= ?1 AND event_id < ?1 || '~' ORDER BY born, event_id";
    let mut statement = connection.prepare(sql)?;
    let delivery = |row: &Row<'_>| {
        Ok(EventDelivery {
            id: row.get(0)?,
            kind: row.get(1)?,
            born: Timestamp::from_ms(row.get(2)?),
            delivered: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_ms),
            state: row.get(4)?,
            tries: row.get(5)?,
            origin: row.get(6)?,
        })
    };
    let rows = statement.query_map(params![begin], delivery)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
