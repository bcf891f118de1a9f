//! Movements of a day as rows. Decides nothing.

pub(super) mod incidents;
mod people;

use async_trait::async_trait;
use rusqlite::{CachedStatement, Connection, params};

use crate::domain::identifiers::{AccountId, InstitutionId};
use crate::domain::statement::{Day, Difference, Line, Movement, Ours, Standing};
use crate::store::StoreError;
use crate::store::ledger::{
    By, Incident, Ledger, LeftToPeople, LogSize, MOVEMENTS_AT_ONCE, Place, Reconciled,
};
use crate::store::sqlite::loading::Columns;
use crate::store::sqlite::{Fault, Sqlite};

/// Number, account, sum, currency, state, moment and the institution's number: every statement here
/// has these columns, in this order.
const KNOWN_ATTEMPT: &str = "SELECT attempt_id, account_id, minor, currency, state, paid_at,
    institution_no FROM attempts WHERE attempt_id = ?1 AND institution_id = ?2";

const KNOWN_REFUND: &str = "SELECT r.refund_order_no, a.account_id, r.minor, r.currency, r.state,
    r.refunded_at, r.institution_no FROM refunds r JOIN attempts a ON a.attempt_id = r.attempt_id
    WHERE r.refund_order_no = ?1 AND a.institution_id = ?2";

const MOVED_ATTEMPTS: &str = "SELECT attempt_id, account_id, minor, currency, state, paid_at,
    institution_no FROM attempts WHERE state = 'PAID' AND institution_id = ?1
    AND (paid_at, attempt_id) > (?2, ?3) AND paid_at < ?4 ORDER BY paid_at, attempt_id LIMIT ?5";

/// The cross join keeps the order: by the index of the day, not by every attempt of an institution.
const MOVED_REFUNDS: &str = "SELECT r.refund_order_no, a.account_id, r.minor, r.currency, r.state,
    r.refunded_at, r.institution_no FROM refunds r CROSS JOIN attempts a
    WHERE a.attempt_id = r.attempt_id AND r.state = 'SUCCEEDED' AND a.institution_id = ?1
    AND (r.refunded_at, r.refund_order_no) > (?2, ?3) AND r.refunded_at < ?4
    ORDER BY r.refunded_at, r.refund_order_no LIMIT ?5";

const ACCOUNTS: &str = "SELECT account_id FROM attempts WHERE state = 'PAID'
    AND institution_id = ?1 AND paid_at >= ?2 AND paid_at < ?3
    UNION SELECT a.account_id FROM refunds r CROSS JOIN attempts a
    WHERE a.attempt_id = r.attempt_id AND r.state = 'SUCCEEDED' AND a.institution_id = ?1
    AND r.refunded_at >= ?2 AND r.refunded_at < ?3";

#[async_trait]
impl Ledger for Sqlite {
    fn log_size(&self) -> LogSize {
        self.shared.log.size()
    }

    async fn known(
        &self,
        institution: &InstitutionId,
        lines: &[Line],
    ) -> Result<Vec<Option<Ours>>, StoreError> {
        self.read(|connection| known(connection, institution, lines))
    }

    async fn moved(
        &self,
        institution: &InstitutionId,
        day: &Day,
        after: &Place,
    ) -> Result<(Vec<Ours>, Option<Place>), StoreError> {
        self.ask(|connection| moved(connection, institution, day, after))
    }

    async fn accounts(
        &self,
        institution: &InstitutionId,
        day: &Day,
    ) -> Result<Vec<AccountId>, StoreError> {
        self.ask(|connection| accounts(connection, institution, day))
    }

    async fn raise(&self, of: &Reconciled, remaining: Vec<Difference>) -> Result<u64, StoreError> {
        let of = of.clone();
        self.write(move |writing| incidents::raise(writing, &of, &remaining))
            .await
    }

    async fn conclude(&self, of: &Reconciled, result: String) -> Result<u64, StoreError> {
        let of = of.clone();
        self.write(move |writing| incidents::conclude(writing, &of, &result))
            .await
    }

    async fn incidents(
        &self,
        institution: &InstitutionId,
        day: &Day,
    ) -> Result<Vec<Incident>, StoreError> {
        self.ask(|connection| incidents::of_day(connection, institution, day))
    }

    async fn open_incidents(&self, shown: u32) -> Result<(u64, Vec<Incident>), StoreError> {
        self.read(|connection| incidents::open(connection, shown))
    }

    async fn hand_over(&self, id: i64, to: &str, by: &By) -> Result<bool, StoreError> {
        let (to, by) = (to.to_owned(), by.clone());
        self.write(move |writing| incidents::hand_over(writing, id, &to, &by))
            .await
    }

    async fn resolve(&self, id: i64, because: &str, by: &By) -> Result<bool, StoreError> {
        let (because, by) = (because.to_owned(), by.clone());
        self.write(move |writing| incidents::resolve(writing, id, &because, &by))
            .await
    }

    async fn left_to_people(&self, shown: u32) -> Result<(u64, Vec<LeftToPeople>), StoreError> {
        self.read(|connection| people::left(connection, shown))
    }
}

fn known(
    connection: &Connection,
    institution: &InstitutionId,
    lines: &[Line],
) -> Result<Vec<Option<Ours>>, Fault> {
    let mut attempts = connection.prepare_cached(KNOWN_ATTEMPT)?;
    let mut refunds = connection.prepare_cached(KNOWN_REFUND)?;
    let find = |line: &Line| {
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

fn ours(columns: &Columns<'_>, movement: Movement) -> Result<Ours, Fault> {
    let state: Box<str> = columns.get(4)?;
    let has_moved = match movement {
        Movement::Payment => &*state == "PAID",
        Movement::Refund => &*state == "SUCCEEDED",
    };
    let standing = if has_moved {
        Standing::Moved(columns.moment(5)?, columns.get(6)?)
    } else {
        Standing::Not(state)
    };
    Ok(Ours {
        movement,
        number: columns.get(0)?,
        account: columns.parse(1, AccountId::parse)?,
        amount: columns.amount(2)?,
        standing,
    })
}

fn moved(
    connection: &Connection,
    institution: &InstitutionId,
    day: &Day,
    after: &Place,
) -> Result<(Vec<Ours>, Option<Place>), Fault> {
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
        Standing::Moved(at, _) => Some((*at, last.number.clone())),
        Standing::Not(_) => None,
    });
    let next = match (last, after.movement) {
        (Some((at, number)), movement) => Some(Place {
            movement,
            at,
            number,
        }),
        (None, Movement::Payment) => Some(Place {
            movement: Movement::Refund,
            ..Place::before(day)
        }),
        (None, Movement::Refund) => None,
    };
    Ok((moved, next))
}

fn accounts(
    connection: &Connection,
    institution: &InstitutionId,
    day: &Day,
) -> Result<Vec<AccountId>, Fault> {
    let mut statement = connection.prepare_cached(ACCOUNTS)?;
    let values = params![institution.as_str(), day.from.ms(), day.until.ms()];
    let mut rows = statement.query(values)?;
    let mut accounts = Vec::new();
    while let Some(row) = rows.next()? {
        accounts.push(Columns { row }.parse(0, AccountId::parse)?);
    }
    Ok(accounts)
}
