//! Orders by the institution they wait for: what is due within a lane's share, and how an order is
//! rescheduled (N10).

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::identifiers::{InstitutionId, PayOrderNo, Timestamp};
use crate::domain::order::{Order, PollLane, Urgency};
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::lease::LeasedRow;
use crate::store::sqlite::loading::read;
use crate::store::sqlite::writer::WriteTransaction;
use crate::store::unresolved::{LaneShares, NextOrder};
use crate::store::{LEASE, LeaseCompletion};

/// The orders of one lane that have been due longest.
const DUE_OF_LANE: &str = "SELECT due_at, pay_order_no FROM orders
    WHERE due_at IS NOT NULL AND due_institution = ?1 AND due_urgency = ?2 AND due_at <= ?3
    ORDER BY due_at LIMIT ?4";

/// The next lane of an institution, by one index step. A row-value comparison would not be a seek:
/// `SQLite` would read every row of the previous lane.
const NEXT_URGENCY: &str = "SELECT due_institution, due_urgency FROM orders
    WHERE due_at IS NOT NULL AND due_institution = ?1 AND due_urgency > ?2
    ORDER BY due_urgency LIMIT 1";

/// The first lane of the next institution, likewise.
const NEXT_INSTITUTION: &str = "SELECT due_institution, due_urgency FROM orders
    WHERE due_at IS NOT NULL AND due_institution > ?1
    ORDER BY due_institution, due_urgency LIMIT 1";

/// An open order without an active lease.
const IS_FREE: &str = "pay_order_no = ?1 AND state = 'OPEN' AND due_at IS NOT NULL
    AND (leased_until IS NULL OR leased_until <= ?2)";

/// An urgency as stored: its index, the most urgent first.
pub(in crate::store::sqlite) fn urgency(urgency: Urgency) -> i64 {
    let place = Urgency::ALL.iter().position(|one| *one == urgency);
    i64::try_from(place.unwrap_or(0)).unwrap_or(0)
}

/// Visits every lane with waiting orders.
fn for_each_lane(
    connection: &Connection,
    mut visit: impl FnMut(PollLane<'_>, (&str, i64)) -> Result<(), SqliteFault>,
) -> Result<(), SqliteFault> {
    let mut beside = connection.prepare_cached(NEXT_URGENCY)?;
    let mut after = connection.prepare_cached(NEXT_INSTITUTION)?;
    let mut at = (String::new(), -1_i64);
    let lane = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
    let mut step = |(institution, urgency): &(String, i64)| {
        let found = beside.query_row(params![institution, urgency], lane);
        match found.optional()? {
            Some(found) => Ok(Some(found)),
            None => after.query_row(params![institution], lane).optional(),
        }
    };
    while let Some(found) = step(&at)? {
        let institution = match found.0.as_str() {
            "" => None,
            id => Some(read(InstitutionId::parse(id))?),
        };
        let urgency = usize::try_from(found.1).ok();
        let urgency = urgency.and_then(|place| Urgency::ALL.get(place));
        let lane = PollLane {
            institution: institution.as_ref(),
            urgency: *read(urgency.ok_or(()))?,
        };
        visit(lane, (&found.0, found.1))?;
        at = found;
    }
    Ok(())
}

/// Numbers of orders that may be leased now. Takes from all lanes in turn, the more urgent lane
/// first.
pub(in crate::store::sqlite) fn due(
    connection: &Connection,
    shares: &LaneShares,
    now: Timestamp,
    count: u32,
) -> Result<Vec<String>, SqliteFault> {
    let mut due: Vec<(u32, i64, i64, String)> = Vec::new();
    for_each_lane(connection, |lane, (institution, urgency)| {
        let share = shares.of(lane).min(count);
        if share == 0 {
            return Ok(());
        }
        let mut statement = connection.prepare_cached(DUE_OF_LANE)?;
        let values = params![institution, urgency, now.ms(), share];
        let found = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        for (place, order) in (0..).zip(found) {
            let (at, no) = order?;
            due.push((place, urgency, at, no));
        }
        Ok(())
    })?;
    due.sort_unstable();
    due.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    Ok(due.into_iter().map(|(.., no)| no).collect())
}

/// When `due` would next return something.
pub(in crate::store::sqlite) fn next_due(
    connection: &Connection,
    shares: &LaneShares,
) -> Result<NextOrder, SqliteFault> {
    let mut next: Option<i64> = None;
    let mut is_held_back = false;
    for_each_lane(connection, |lane, (institution, urgency)| {
        if shares.of(lane) == 0 {
            is_held_back = true;
            return Ok(());
        }
        let sql = "SELECT MIN(due_at) FROM orders
            WHERE due_at IS NOT NULL AND due_institution = ?1 AND due_urgency = ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let values = params![institution, urgency];
        let soonest = statement.query_row(values, |row| row.get::<_, Option<i64>>(0))?;
        next = next.into_iter().chain(soonest).min();
        Ok(())
    })?;
    Ok(NextOrder {
        due: next.map(Timestamp::from_ms),
        is_held_back,
    })
}

/// Those of these orders that can be leased.
pub(in crate::store::sqlite) fn free(
    connection: &Connection,
    orders: &[PayOrderNo],
    now: Timestamp,
) -> Result<Vec<String>, SqliteFault> {
    let sql = format!("SELECT pay_order_no FROM orders WHERE {IS_FREE}");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut free = Vec::new();
    for order in orders {
        let values = params![order.as_str(), now.ms()];
        free.extend(statement.query_row(values, |row| row.get(0)).optional()?);
    }
    Ok(free)
}

/// Leases these orders if they are still due or, for named ones, still free.
pub(in crate::store::sqlite) fn take(
    writing: &mut WriteTransaction<'_>,
    orders: &[String],
    now: Timestamp,
    reason: LeaseReason,
) -> Result<Vec<LeasedRow>, SqliteFault> {
    let which = match reason {
        LeaseReason::Due => "pay_order_no = ?1 AND due_at <= ?2",
        LeaseReason::Named => IS_FREE,
    };
    let sql = format!(
        "UPDATE orders SET due_at = ?3, leased_until = ?3, fence = fence + 1 WHERE {which}
         RETURNING fence"
    );
    let mut statement = writing.connection.prepare_cached(&sql)?;
    let until = now.plus(LEASE).ms();
    let mut taken = Vec::with_capacity(orders.len());
    for row in orders {
        let values = params![row, now.ms(), until];
        let fence = statement
            .query_row(values, |found| found.get(0))
            .optional()?;
        taken.extend(fence.map(|fence| LeasedRow {
            row: row.clone(),
            fence,
            tries: 0,
        }));
    }
    Ok(taken)
}

/// Why orders are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::sqlite) enum LeaseReason {
    /// They are due.
    Due,
    /// A sign of activity was seen for them.
    Named,
}

/// The column values of an unchanged order that is rescheduled.
pub(in crate::store::sqlite) struct OrderReschedule {
    order: String,
    fence: i64,
    due: Option<i64>,
    institution: String,
    urgency: i64,
    attempts: Vec<(u32, u32, i64)>,
    refunds: Vec<(String, u32, i64)>,
}

impl OrderReschedule {
    pub(in crate::store::sqlite) fn of(order: &Order, fence: u64) -> Self {
        let lane = order.lane();
        let institution = lane.institution.map_or("", InstitutionId::as_str);
        let live = order.attempts.iter().filter(|one| one.state.is_live());
        let open = order.refunds.iter().filter(|one| !one.state.is_over());
        Self {
            order: order.no.as_str().to_owned(),
            // A fence out of range was never issued.
            fence: i64::try_from(fence).unwrap_or(-1),
            due: order.due().map(Timestamp::ms),
            institution: institution.to_owned(),
            urgency: urgency(lane.urgency),
            attempts: live
                .map(|one| (one.seq, one.schedule.asked, one.schedule.next.ms()))
                .collect(),
            refunds: open
                .map(|one| {
                    let no = one.no.as_str().to_owned();
                    (no, one.schedule.asked, one.schedule.next.ms())
                })
                .collect(),
        }
    }

    pub(in crate::store::sqlite) fn apply(
        &self,
        writing: &mut WriteTransaction<'_>,
    ) -> Result<LeaseCompletion, SqliteFault> {
        let sql = "UPDATE orders SET due_at = ?3, due_institution = ?4, due_urgency = ?5,
            leased_until = NULL, fence = fence + 1 WHERE pay_order_no = ?1 AND fence = ?2";
        let values = params![
            self.order,
            self.fence,
            self.due,
            self.institution,
            self.urgency
        ];
        if writing.connection.prepare_cached(sql)?.execute(values)? == 0 {
            return Ok(LeaseCompletion::LeaseLost);
        }
        let sql = "UPDATE attempts SET asked = ?3, next_at = ?4 WHERE pay_order_no = ?1
            AND seq = ?2 AND (asked <> ?3 OR next_at <> ?4)";
        let mut statement = writing.connection.prepare_cached(sql)?;
        for (seq, asked, next) in &self.attempts {
            statement.execute(params![self.order, seq, asked, next])?;
        }
        let sql = "UPDATE refunds SET asked = ?2, next_at = ?3 WHERE refund_order_no = ?1
            AND (asked <> ?2 OR next_at <> ?3)";
        let mut statement = writing.connection.prepare_cached(sql)?;
        for (no, asked, next) in &self.refunds {
            statement.execute(params![no, asked, next])?;
        }
        Ok(LeaseCompletion::Done)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    /// N10: the cost of finding due orders grows with the number of lanes, not of waiting orders.
    #[test]
    fn a_look_for_due_orders_does_not_read_the_lanes() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE orders (pay_order_no TEXT, due_at INTEGER, due_institution TEXT,
                     due_urgency INTEGER);
                 CREATE INDEX orders_due ON orders (due_institution, due_urgency, due_at)
                     WHERE due_at IS NOT NULL;
                 WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many LIMIT 50000)
                 INSERT INTO orders SELECT n, n, CASE n % 3 WHEN 0 THEN '' ELSE 'bank' END, n % 2
                     FROM many;",
            )
            .unwrap();
        let mut lanes = Vec::new();
        for_each_lane(&connection, |lane, _| {
            let id = lane.institution.map(InstitutionId::as_str);
            lanes.push((id.map(str::to_owned), lane.urgency));
            Ok(())
        })
        .unwrap();
        assert_eq!(lanes.len(), 4, "{lanes:?}");
        for sql in [NEXT_URGENCY, NEXT_INSTITUTION] {
            let statement = connection.prepare_cached(sql).unwrap();
            let steps = statement.get_status(StatementStatus::VmStep);
            assert!((1..500).contains(&steps), "{steps} steps: {sql}");
        }
    }
}
