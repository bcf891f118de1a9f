//! Reads the refunds in manual review.

use rusqlite::Connection;

use crate::domain::identifiers::{
    InstitutionId, MerchantId, PayOrderNo, RefundOrderNo, StaffId, Timestamp,
};
use crate::store::ledger::{FirstDecision, ManualReviewRefund};
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::loading::{Columns, read};

/// Uses the index of unfinished refunds; the cross joins keep the planner from starting at the
/// orders.
const AWAITING: &str = "SELECT r.refund_order_no, r.pay_order_no, o.merchant_id, a.institution_id,
    r.minor, r.currency, r.created, r.cause IS NOT NULL, r.staff, r.found_back, r.statement,
    r.found_no, r.found_at FROM refunds r CROSS JOIN orders o CROSS JOIN attempts a
    WHERE r.state = 'MANUAL' AND o.pay_order_no = r.pay_order_no AND a.attempt_id = r.attempt_id
    ORDER BY r.refund_order_no LIMIT ?1";

const COUNT: &str = "SELECT COUNT(*) FROM refunds WHERE state = 'MANUAL'";

/// Counts them and returns the oldest.
pub(super) fn left(
    connection: &Connection,
    shown: u32,
) -> Result<(u64, Vec<ManualReviewRefund>), SqliteFault> {
    let count: i64 = connection
        .prepare_cached(COUNT)?
        .query_row([], |row| row.get(0))?;
    let mut statement = connection.prepare_cached(AWAITING)?;
    let mut rows = statement.query([shown])?;
    let mut left = Vec::new();
    while let Some(row) = rows.next()? {
        let columns = Columns { row };
        let staff: Option<String> = columns.get(8)?;
        let found = match staff {
            None => None,
            Some(staff) => Some(FirstDecision {
                staff: read(StaffId::parse(&staff))?,
                succeeded: columns.get(9)?,
                statement: columns.get(10)?,
                institution_no: columns.get(11)?,
                moved_at: columns.get::<Option<i64>>(12)?.map(Timestamp::from_ms),
            }),
        };
        left.push(ManualReviewRefund {
            refund: columns.parse(0, RefundOrderNo::parse)?,
            order: columns.parse(1, PayOrderNo::parse)?,
            merchant: columns.parse(2, MerchantId::parse)?,
            institution: columns.parse(3, InstitutionId::parse)?,
            amount: columns.amount(4)?,
            asked: Timestamp::from_ms(columns.get(6)?),
            is_excess: columns.get(7)?,
            found,
        });
    }
    Ok((u64::try_from(count).unwrap_or_default(), left))
}
