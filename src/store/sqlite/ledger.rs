//! Reads the movements of a day. Makes no decisions.

pub(super) mod breaks;
mod manual_review;

use async_trait::async_trait;
use rusqlite::{CachedStatement, Connection, params};

use crate::domain::identifiers::{AccountId, InstitutionId, ReceiverId};
use crate::domain::statement::{
    AccountReceiver, Movement, MovementStatus, OurMovement, SettlementDay, StatementDifference,
    StatementLine,
};
use crate::store::StoreError;
use crate::store::ledger::{
    MOVEMENTS_AT_ONCE, ManualReviewRefund, MovementCursor, Reconciliation, ReconciliationBreak,
    ReconciliationLedger, StaffAct, WalSize,
};
use crate::store::sqlite::loading::Columns;
use crate::store::sqlite::{Sqlite, SqliteFault};

/// Columns of every statement here, in this order: number, receiver, amount, currency, state, time,
/// the institution's number.
const KNOWN_ATTEMPT: &str = "SELECT attempt_id, receiver_id, minor, currency, state, paid_at,
    institution_no FROM attempts WHERE attempt_id = ?1 AND institution_id = ?2";

const KNOWN_REFUND: &str = "SELECT r.refund_order_no, a.receiver_id, r.minor, r.currency, r.state,
    r.refunded_at, r.institution_no FROM refunds r JOIN attempts a ON a.attempt_id = r.attempt_id
    WHERE r.refund_order_no = ?1 AND a.institution_id = ?2";

const MOVED_ATTEMPTS: &str = "SELECT attempt_id, receiver_id, minor, currency, state, paid_at,
    institution_no FROM attempts WHERE state = 'PAID' AND institution_id = ?1
    AND (paid_at, attempt_id) > (?2, ?3) AND paid_at < ?4 ORDER BY paid_at, attempt_id LIMIT ?5";

/// The cross join fixes the join order: start from the index of the day, not from every attempt of
/// an institution.
const MOVED_REFUNDS: &str = "SELECT r.refund_order_no, a.receiver_id, r.minor, r.currency, r.state,
    r.refunded_at, r.institution_no FROM refunds r CROSS JOIN attempts a
    WHERE a.attempt_id = r.attempt_id AND r.state = 'SUCCEEDED' AND a.institution_id = ?1
    AND (r.refunded_at, r.refund_order_no) > (?2, ?3) AND r.refunded_at < ?4
    ORDER BY r.refunded_at, r.refund_order_no LIMIT ?5";

const RECEIVERS: &str = "SELECT account_id, receiver_id FROM attempts WHERE state = 'PAID'
    AND institution_id = ?1 AND paid_at >= ?2 AND paid_at < ?3
    UNION SELECT a.account_id, a.receiver_id FROM refunds r CROSS JOIN attempts a
    WHERE a.attempt_id = r.attempt_id AND r.state = 'SUCCEEDED' AND a.institution_id = ?1
    AND r.refunded_at >= ?2 AND r.refunded_at < ?3";

#[async_trait]
impl ReconciliationLedger for Sqlite {
    fn wal_size(&self) -> WalSize {
        self.shared.log.size()
    }

    async fn known(
        &self,
        institution: &InstitutionId,
        lines: &[StatementLine],
    ) -> Result<Vec<Option<OurMovement>>, StoreError> {
        self.read(|connection| known(connection, institution, lines))
    }

    async fn moved(
        &self,
        institution: &InstitutionId,
        day: &SettlementDay,
        after: &MovementCursor,
    ) -> Result<(Vec<OurMovement>, Option<MovementCursor>), StoreError> {
        self.query(|connection| moved(connection, institution, day, after))
    }

    async fn receivers(
        &self,
        institution: &InstitutionId,
        day: &SettlementDay,
    ) -> Result<Vec<AccountReceiver>, StoreError> {
        self.query(|connection| receivers(connection, institution, day))
    }

    async fn raise(
        &self,
        of: &Reconciliation,
        remaining: Vec<StatementDifference>,
    ) -> Result<u64, StoreError> {
        let of = of.clone();
        self.write(move |writing| breaks::raise(writing, &of, &remaining))
            .await
    }

    async fn conclude(&self, of: &Reconciliation, result: String) -> Result<u64, StoreError> {
        let of = of.clone();
        self.write(move |writing| breaks::conclude(writing, &of, &result))
            .await
    }

    async fn breaks(
        &self,
        institution: &InstitutionId,
        day: &SettlementDay,
    ) -> Result<Vec<ReconciliationBreak>, StoreError> {
        self.query(|connection| breaks::of_day(connection, institution, day))
    }

    async fn open_breaks(&self, shown: u32) -> Result<(u64, Vec<ReconciliationBreak>), StoreError> {
        self.read(|connection| breaks::open(connection, shown))
    }

    async fn hand_over(&self, id: i64, to: &str, by: &StaffAct) -> Result<bool, StoreError> {
        let (to, by) = (to.to_owned(), by.clone());
        self.write(move |writing| breaks::hand_over(writing, id, &to, &by))
            .await
    }

    async fn resolve(&self, id: i64, because: &str, by: &StaffAct) -> Result<bool, StoreError> {
        let (because, by) = (because.to_owned(), by.clone());
        self.write(move |writing| breaks::resolve(writing, id, &because, &by))
            .await
    }

    async fn awaiting_manual_review(
        &self,
        shown: u32,
    ) -> Result<(u64, Vec<ManualReviewRefund>), StoreError> {
        self.read(|connection| manual_review::left(connection, shown))
    }
}

fn known(
    connection: &Connection,
    institution: &InstitutionId,
    lines: &[StatementLine],
) -> Result<Vec<Option<OurMovement>>, SqliteFault> {
    let mut attempts = connection.prepare_cached(KNOWN_ATTEMPT)?;
    let mut refunds = connection.prepare_cached(KNOWN_REFUND)?;
    let find = |line: &StatementLine| {
        let statement: &mut CachedStatement<'_> = match line.movement {
            Movement::Payment => &mut attempts,
            Movement::Refund => &mut refunds,
        };
        let mut rows = statement.query(params![&*line.number, institution.as_str()])?;
        let row = rows.next()?;
        row.map(|row| ours(&Columns { row }, line.movement))
            .transpose()
    };
    lines.iter().map(find).collect()
}

fn ours(columns: &Columns<'_>, movement: Movement) -> Result<OurMovement, SqliteFault> {
    let state: Box<str> = columns.get(4)?;
    let has_moved = match movement {
        Movement::Payment => &*state == "PAID",
        Movement::Refund => &*state == "SUCCEEDED",
    };
    let standing = if has_moved {
        MovementStatus::Moved(columns.moment(5)?, columns.get(6)?)
    } else {
        MovementStatus::Not(state)
    };
    Ok(OurMovement {
        movement,
        number: columns.get(0)?,
        receiver: columns.parse(1, ReceiverId::parse)?,
        amount: columns.amount(2)?,
        standing,
    })
}

fn moved(
    connection: &Connection,
    institution: &InstitutionId,
    day: &SettlementDay,
    after: &MovementCursor,
) -> Result<(Vec<OurMovement>, Option<MovementCursor>), SqliteFault> {
    let sql = match after.movement {
        Movement::Payment => MOVED_ATTEMPTS,
        Movement::Refund => MOVED_REFUNDS,
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![
        institution.as_str(),
        after.at.ms(),
        &*after.number,
        day.until.ms(),
        MOVEMENTS_AT_ONCE,
    ])?;
    let mut moved = Vec::new();
    while let Some(row) = rows.next()? {
        moved.push(ours(&Columns { row }, after.movement)?);
    }
    let last = moved.last().and_then(|last| match &last.standing {
        MovementStatus::Moved(at, _) => Some((*at, last.number.clone())),
        MovementStatus::Not(_) => None,
    });
    let next = match (last, after.movement) {
        (Some((at, number)), movement) => Some(MovementCursor {
            movement,
            at,
            number,
        }),
        (None, Movement::Payment) => Some(MovementCursor {
            movement: Movement::Refund,
            ..MovementCursor::before(day)
        }),
        (None, Movement::Refund) => None,
    };
    Ok((moved, next))
}

fn receivers(
    connection: &Connection,
    institution: &InstitutionId,
    day: &SettlementDay,
) -> Result<Vec<AccountReceiver>, SqliteFault> {
    let mut statement = connection.prepare_cached(RECEIVERS)?;
    let values = params![institution.as_str(), day.from.ms(), day.until.ms()];
    let mut rows = statement.query(values)?;
    let mut receivers = Vec::new();
    while let Some(row) = rows.next()? {
        let columns = Columns { row };
        receivers.push(AccountReceiver {
            account: columns.parse(0, AccountId::parse)?,
            receiver: columns.parse(1, ReceiverId::parse)?,
        });
    }
    Ok(receivers)
}
