//! Movements of a day, and incidents, as rows. Decides nothing.

use async_trait::async_trait;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::domain::identifiers::{AccountId, InstitutionId, Timestamp};
use crate::domain::statement::{Day, Difference, DifferenceKind, Line, Movement, Ours, Standing};
use crate::store::StoreError;
use crate::store::ledger::{Incident, Ledger, MOVEMENTS_AT_ONCE, Place, Reconciled};
use crate::store::sqlite::chain::record;
use crate::store::sqlite::loading::{Columns, named, read};
use crate::store::sqlite::writer::Writing;
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

const RAISE: &str = "INSERT INTO incidents (at, institution_id, day, kind, movement, object,
    expected, found, owner, state, seen_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'OPEN', ?1)
    ON CONFLICT (institution_id, day, kind, movement, object) DO UPDATE
    SET expected = excluded.expected, found = excluded.found, state = 'OPEN', resolved_at = NULL,
    seen_at = excluded.seen_at";

const STATE_OF: &str = "SELECT state FROM incidents WHERE institution_id = ?1 AND day = ?2
    AND kind = ?3 AND movement = ?4 AND object = ?5";

const RESOLVE: &str = "UPDATE incidents SET state = 'RESOLVED', resolved_at = ?3
    WHERE institution_id = ?1 AND day = ?2 AND state = 'OPEN' AND seen_at <> ?3";

const INCIDENTS: &str = "SELECT incident_id, at, kind, movement, object, expected, found, owner,
    state FROM incidents WHERE institution_id = ?1 AND day = ?2 ORDER BY state, incident_id";

#[async_trait]
impl Ledger for Sqlite {
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
        self.write(move |writing| raise(writing, &of, &remaining))
            .await
    }

    async fn conclude(&self, of: &Reconciled, result: String) -> Result<u64, StoreError> {
        let of = of.clone();
        self.write(move |writing| conclude(writing, &of, &result))
            .await
    }

    async fn incidents(
        &self,
        institution: &InstitutionId,
        day: &Day,
    ) -> Result<Vec<Incident>, StoreError> {
        self.ask(|connection| incidents(connection, institution, day))
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

fn raise(
    writing: &mut Writing<'_>,
    of: &Reconciled,
    remaining: &[Difference],
) -> Result<u64, Fault> {
    let (institution, day) = (of.institution.as_str(), of.day.date.as_str());
    let mut raised: u64 = 0;
    for difference in remaining {
        let (kind, movement) = (difference.kind.word(), difference.movement.name());
        let object = &*difference.number;
        let state: Option<String> = writing
            .connection
            .prepare_cached(STATE_OF)?
            .query_row(params![institution, day, kind, movement, object], |row| {
                row.get(0)
            })
            .optional()?;
        if state.as_deref() != Some("OPEN") {
            raised = raised.saturating_add(1);
        }
        writing.connection.prepare_cached(RAISE)?.execute(params![
            of.at.ms(),
            institution,
            day,
            kind,
            movement,
            object,
            &*difference.expected,
            &*difference.found,
            of.by,
        ])?;
    }
    if raised > 0 {
        let deed = of.deed("incident.raise", format!("incidents={raised}"));
        record(writing, &deed, of.at)?;
    }
    Ok(raised)
}

fn conclude(writing: &mut Writing<'_>, of: &Reconciled, result: &str) -> Result<u64, Fault> {
    let resolved = writing
        .connection
        .prepare_cached(RESOLVE)?
        .execute(params![
            of.institution.as_str(),
            of.day.date.as_str(),
            of.at.ms(),
        ])?;
    let deed = of.deed(
        "statement.reconcile",
        format!("{result} resolved={resolved}"),
    );
    record(writing, &deed, of.at)?;
    Ok(u64::try_from(resolved).unwrap_or(u64::MAX))
}

fn incidents(
    connection: &Connection,
    institution: &InstitutionId,
    day: &Day,
) -> Result<Vec<Incident>, Fault> {
    let mut statement = connection.prepare_cached(INCIDENTS)?;
    let mut rows = statement.query(params![institution.as_str(), day.date.as_str()])?;
    let mut incidents = Vec::new();
    while let Some(row) = rows.next()? {
        let columns = Columns { row };
        let movement = columns.parse(3, |word| Movement::parse(word).ok_or(()));
        let difference = Difference {
            kind: columns.parse(2, named(&DifferenceKind::ALL, DifferenceKind::word))?,
            movement: movement?,
            number: columns.get(4)?,
            expected: columns.get(5)?,
            found: columns.get(6)?,
        };
        let state: String = columns.get(8)?;
        incidents.push(Incident {
            id: columns.get(0)?,
            at: Timestamp::from_ms(columns.get(1)?),
            difference,
            owner: columns.get(7)?,
            is_open: read(match state.as_str() {
                "OPEN" => Ok(true),
                "RESOLVED" => Ok(false),
                _ => Err(()),
            })?,
        });
    }
    Ok(incidents)
}
