//! Events by merchant sequence number, and dead-lettered events (N2).

use rusqlite::{Connection, params};

use crate::domain::audit::AuditEntry;
use crate::domain::event::EventType;
use crate::domain::identifiers::{EventId, MerchantId, PayOrderNo, Timestamp};
use crate::seal::Seal;
use crate::store::outbox::{DeadEvent, DeadEventFilter, DeadEvents, EventPageLimit, NumberedEvent};
use crate::store::sqlite::chain::record;
use crate::store::sqlite::writer::WriteTransaction;
use crate::store::sqlite::{SqliteFault, sealed};

/// Maximum number of dead-lettered events requeued in one transaction, so that payments are not
/// delayed.
pub(in crate::store::sqlite) const RESENT_AT_ONCE: u64 = 500;

/// The condition of every query for dead-lettered events; uses their partial index.
const IS_MEANT: &str = "state = 'DEAD' AND (?1 IS NULL OR merchant_id = ?1)
    AND (?2 IS NULL OR event_id = ?2)";

fn malformed() -> SqliteFault {
    SqliteFault::Corrupt("a stored event is malformed".into())
}

/// A merchant's events after a sequence number, up to the page limit.
pub(in crate::store::sqlite) fn after(
    connection: &Connection,
    seal: &Seal,
    merchant: &MerchantId,
    after: u64,
    limit: EventPageLimit,
) -> Result<Vec<NumberedEvent>, SqliteFault> {
    let sql = "SELECT sequence, event_id, sealed FROM events
        WHERE merchant_id = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    // No event has a higher number.
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![merchant.as_str(), after, limit.count])?;
    let mut found = Vec::new();
    let mut bytes = 0_usize;
    while let Some(row) = rows.next()? {
        let (sequence, id): (i64, String) = (row.get(0)?, row.get(1)?);
        let closed: Vec<u8> = row.get(2)?;
        let body = seal.open(sealed::event_place(&id), &closed)?;
        bytes = bytes.saturating_add(body.len());
        if bytes > limit.bytes && !found.is_empty() {
            break;
        }
        let sequence = u64::try_from(sequence).map_err(|_| malformed())?;
        found.push(NumberedEvent { sequence, body });
    }
    Ok(found)
}

/// Counts dead-lettered events and returns the first of them.
pub(in crate::store::sqlite) fn dead(
    connection: &Connection,
    which: &DeadEventFilter,
    shown: u32,
) -> Result<DeadEvents, SqliteFault> {
    let merchant = which.merchant.as_ref().map(MerchantId::as_str);
    let event = which.event.as_ref().map(EventId::as_str);
    let count: i64 = connection
        .prepare_cached(&format!("SELECT COUNT(*) FROM events WHERE {IS_MEANT}"))?
        .query_row(params![merchant, event], |row| row.get(0))?;
    let mut dead = DeadEvents {
        count: u64::try_from(count).map_err(|_| malformed())?,
        shown: Vec::new(),
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT event_id, event_type, merchant_id, sequence, pay_order_no, born FROM events
         WHERE {IS_MEANT} ORDER BY merchant_id, sequence LIMIT ?3"
    ))?;
    let mut rows = statement.query(params![merchant, event, shown])?;
    while let Some(row) = rows.next()? {
        let (id, kind): (String, String) = (row.get(0)?, row.get(1)?);
        let (merchant, sequence): (String, i64) = (row.get(2)?, row.get(3)?);
        let (order, born): (String, i64) = (row.get(4)?, row.get(5)?);
        let mut kinds = EventType::ALL.into_iter();
        dead.shown.push(DeadEvent {
            id: EventId::parse(&id).map_err(|_| malformed())?,
            kind: kinds
                .find(|known| known.name() == kind)
                .ok_or_else(malformed)?,
            merchant: MerchantId::parse(&merchant).map_err(|_| malformed())?,
            sequence: u64::try_from(sequence).map_err(|_| malformed())?,
            order: PayOrderNo::parse(&order).map_err(|_| malformed())?,
            born: Timestamp::from_ms(born),
        });
    }
    Ok(dead)
}

/// Requeues some dead-lettered events, with an audit entry (L2).
pub(in crate::store::sqlite) fn resend(
    writing: &mut WriteTransaction<'_>,
    which: &DeadEventFilter,
    by: &str,
    now: Timestamp,
) -> Result<u64, SqliteFault> {
    let merchant = which.merchant.as_ref().map(MerchantId::as_str);
    let event = which.event.as_ref().map(EventId::as_str);
    let sql = format!(
        "UPDATE events SET state = 'PENDING', due_at = ?3, tries = 0, fence = fence + 1
         WHERE event_id IN (SELECT event_id FROM events WHERE {IS_MEANT}
         ORDER BY merchant_id, sequence LIMIT ?4)"
    );
    let at_once = i64::try_from(RESENT_AT_ONCE).unwrap_or(i64::MAX);
    let resent = writing.connection.prepare_cached(&sql)?.execute(params![
        merchant,
        event,
        now.ms(),
        at_once
    ])?;
    let resent = u64::try_from(resent).unwrap_or(u64::MAX);
    record(writing, &audit_entry(which, by, resent), now)?;
    Ok(resent)
}

fn audit_entry(which: &DeadEventFilter, by: &str, resent: u64) -> AuditEntry {
    let object = match (&which.event, &which.merchant) {
        (Some(event), _) => event.as_str().to_owned(),
        (None, Some(merchant)) => format!("events of {merchant}"),
        (None, None) => "events".to_owned(),
    };
    AuditEntry {
        actor: by.to_owned(),
        action: "events.resend".into(),
        object,
        result: format!("resent={resent}"),
    }
}
