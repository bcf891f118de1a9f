//! Converts a change to rows: sealed and serialised in the caller's thread, so that the writer only
//! executes statements. Makes no decisions.

mod attempt_row;

use rusqlite::params_from_iter;
use rusqlite::types::Value;

use crate::domain::attempt::AttemptState;
use crate::domain::audit::AuditEntry;
use crate::domain::change::{Change, ChangeRows};
use crate::domain::event::Event;
use crate::domain::identifiers::{AttemptId, InstitutionId, Timestamp, hex};
use crate::domain::institutions::Mode;
use crate::domain::journal::JournalEntry;
use crate::domain::merchant::origin;
use crate::domain::order::{Order, OrderTerms};
use crate::seal::Seal;
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::chain::record;
use crate::store::sqlite::lease::lanes;
use crate::store::sqlite::ledger::breaks;
use crate::store::sqlite::refunds::{NUMBER_TAKEN, numbered, refund_row};
use crate::store::sqlite::sealed::{
    SealedOrderFields, event_place, not_sealed, payer_digest, seal_maybe, seal_text, target_place,
};
use crate::store::sqlite::writer::WriteTransaction;
use crate::store::sqlite::writer::nonces::Nonce;
use crate::store::{Committed, StoreError};
use attempt_row::attempt_row;

const INSERT_ORDER: &str =
"INSERT INTO orders (pay_order_no, merchant_id, merchant_order_no, order_date, minor,
    currency, business_type, transaction_type, expire_minutes, named_institution, named_mode,
    terms_digest, sealed, created, expires, state, ending, version, paying_attempt, due_at, reserved_minor,
    due_institution, due_urgency, chosen_institution)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
    ?20, ?21, ?22, ?23, ?24) ON CONFLICT DO NOTHING";

/// Ends the order's lease: a completion with the old fence is rejected (N6).
const UPDATE_ORDER: &str =
    "UPDATE orders SET state = ?3, ending = ?4, version = ?5, paying_attempt = ?6,
    due_at = ?7, reserved_minor = ?8, due_institution = ?9, due_urgency = ?10,
    chosen_institution = ?11, leased_until = NULL, fence = fence + 1 WHERE pay_order_no = ?1 AND version = ?2";

const TOUCH_ATTEMPT: &str = "UPDATE attempts SET ended_at = max(ended_at, ?2)
    WHERE attempt_id = ?1 AND ended_at IS NOT NULL";

const COUNT_EVENT: &str = "INSERT INTO sequences (merchant_id, last) VALUES (?1, 1)
    ON CONFLICT (merchant_id) DO UPDATE SET last = last + 1";

const INSERT_EVENT: &str = "INSERT INTO events (event_id, merchant_id, sequence, event_type,
    pay_order_no, version, target, origin, sealed, born, state, due_at)
    VALUES (?1, ?2, (SELECT last FROM sequences WHERE merchant_id = ?2), ?3, ?4, ?5, ?6, ?7, ?8,
    ?9, 'PENDING', ?10)";

const INSERT_ENTRY: &str = "INSERT INTO journal (at, kind, pay_order_no, debit, credit, minor,
    currency) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const UPSERT_PAYER: &str = "INSERT INTO payers (payer_digest, institution_id, at)
    VALUES (?1, ?2, ?3) ON CONFLICT (payer_digest) DO UPDATE
    SET institution_id = excluded.institution_id, at = excluded.at WHERE excluded.at >= at";

/// An SQL statement and its values.
pub(super) struct RowWrite {
    pub(super) sql: &'static str,
    pub(super) values: Vec<Value>,
}

impl RowWrite {
    fn write(&self, writing: &WriteTransaction<'_>) -> Result<usize, SqliteFault> {
        let mut statement = writing.connection.prepare_cached(self.sql)?;
        Ok(statement.execute(params_from_iter(&self.values))?)
    }
}

/// Everything a change writes.
pub(super) struct ChangeWrite {
    nonce: Option<Nonce>,
    /// Merchant, request number and our number of a new refund.
    numbered: Option<[String; 3]>,
    /// The row that is written only if no other write came first, and the outcome otherwise.
    guard: Option<(RowWrite, Committed)>,
    rows: Vec<RowWrite>,
    audit_entry: Option<AuditEntry>,
    at: Timestamp,
}

impl ChangeWrite {
    /// Checks guards first; a failed guard undoes the nonce, so that nothing is written.
    pub(super) fn apply(
        &self,
        writing: &mut WriteTransaction<'_>,
    ) -> Result<Committed, SqliteFault> {
        if let Some(numbered) = &self.numbered {
            let mut taken = writing.connection.prepare_cached(NUMBER_TAKEN)?;
            if taken.query_row(params_from_iter(numbered), |row| row.get(0))? {
                return Ok(Committed::KeyTaken);
            }
        }
        let mut spent = None;
        if let Some(nonce) = &self.nonce {
            if writing.forgotten.contains(nonce.created) {
                return Ok(Committed::NonceSpent);
            }
            match writing.nonces.spend(writing.connection, nonce)? {
                Some(row) => spent = Some((nonce, row)),
                None => return Ok(Committed::NonceSpent),
            }
        }
        if let Some((row, otherwise)) = &self.guard
            && row.write(writing)? == 0
        {
            if let Some((nonce, row)) = spent {
                writing.nonces.take_back(writing.connection, nonce, row)?;
            }
            return Ok(*otherwise);
        }
        for row in &self.rows {
            row.write(writing)?;
        }
        if let Some(audit_entry) = &self.audit_entry {
            record(writing, audit_entry, self.at)?;
        }
        Ok(Committed::Done)
    }
}

/// Converts a change to rows.
pub(super) fn write(seal: &Seal, change: &Change) -> Result<ChangeWrite, StoreError> {
    let mut write = ChangeWrite {
        nonce: change.nonce().map(Nonce::of),
        numbered: change.rows().and_then(numbered),
        guard: None,
        rows: Vec::new(),
        audit_entry: None,
        at: change.at(),
    };
    if let Some(rows) = change.rows() {
        write.audit_entry = Some(rows.audit_entry.clone());
        write.guard = Some(guard(seal, rows)?);
        write.rows = dependents(seal, rows, change.at())?;
    }
    Ok(write)
}

fn guard(seal: &Seal, rows: &ChangeRows) -> Result<(RowWrite, Committed), StoreError> {
    let order = &rows.order;
    let status = [
        text(order.state.name()),
        order.ending.map(|ending| ending.name().to_owned()).into(),
        number(order.version)?,
        maybe(order.paying_attempt_id.as_ref().map(AttemptId::as_str)),
        moment(rows.due),
        order.reserved_minor().into(),
        text(order.lane().institution.map_or("", InstitutionId::as_str)),
        lanes::urgency(order.lane().urgency).into(),
        maybe(order.chosen.as_ref().map(InstitutionId::as_str)),
    ];
    let (sql, mut values, otherwise) = match rows.before {
        None => (INSERT_ORDER, fixed(seal, order)?, Committed::KeyTaken),
        Some(before) => {
            let values = vec![text(order.no.as_str()), number(before)?];
            (UPDATE_ORDER, values, Committed::Stale)
        }
    };
    values.extend(status);
    Ok((RowWrite { sql, values }, otherwise))
}

/// The immutable columns of an order.
fn fixed(seal: &Seal, order: &Order) -> Result<Vec<Value>, StoreError> {
    let terms = &order.terms;
    let private = SealedOrderFields::of(order);
    let sealed = seal_text(seal, SealedOrderFields::place(&order.no), &private)?;
    let (institution, mode) = match &terms.named {
        Some((institution, mode)) => (Some(institution.as_str()), mode.map(Mode::name)),
        None => (None, None),
    };
    let mut values = Vec::with_capacity(24);
    values.extend([
        text(order.no.as_str()),
        text(terms.merchant.as_str()),
        text(terms.merchant_order_no.as_str()),
        text(terms.order_date.as_str()),
        terms.amount.minor().into(),
        text(terms.amount.currency().code()),
        text(terms.business_type.name()),
        text(terms.transaction_type.name()),
        i64::from(terms.expire_minutes).into(),
        maybe(institution),
        maybe(mode),
        fingerprint(seal, terms, &private)?.to_vec().into(),
        sealed.into(),
        order.created.ms().into(),
        order.expires.ms().into(),
    ]);
    Ok(values)
}

/// A keyed digest of everything the merchant requested, to prove the stored terms.
fn fingerprint(
    seal: &Seal,
    terms: &OrderTerms,
    private: &SealedOrderFields<'_>,
) -> Result<[u8; 32], StoreError> {
    let named = terms.named.as_ref();
    let spelled = serde_json::to_vec(&(
        terms.merchant.as_str(),
        terms.merchant_order_no.as_str(),
        terms.order_date.as_str(),
        (terms.amount.minor(), terms.amount.currency().code()),
        (terms.business_type.name(), terms.transaction_type.name()),
        &terms.return_url,
        terms.expire_minutes,
        named.map(|(id, mode)| (id.as_str(), mode.map(Mode::name))),
        (&private.mobile, &private.merchant_name, &private.attach),
        (
            &private.goods_no,
            &private.goods_name,
            &private.goods_description,
        ),
    ));
    let spelled = spelled.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(seal.digest("terms", &spelled))
}

fn dependents(seal: &Seal, rows: &ChangeRows, at: Timestamp) -> Result<Vec<RowWrite>, StoreError> {
    let order = &rows.order;
    let mut written = Vec::with_capacity(8);
    for attempt in rows.attempts() {
        written.push(attempt_row(seal, &order.no, attempt, at)?);
        // It became the paying attempt in this change: that never changes an attempt again (O1).
        if attempt.state == AttemptState::Paid
            && order.paying_attempt_id.as_ref() == Some(&attempt.id)
        {
            let digest = payer_digest(seal, &order.terms.merchant, &order.terms.mobile);
            written.push(RowWrite {
                sql: UPSERT_PAYER,
                values: vec![
                    digest.to_vec().into(),
                    text(attempt.institution.as_str()),
                    at.ms().into(),
                ],
            });
        }
    }
    for refund in rows.refunds() {
        written.push(refund_row(seal, order, refund)?);
        written.push(RowWrite {
            sql: TOUCH_ATTEMPT,
            values: vec![text(refund.attempt.as_str()), at.ms().into()],
        });
    }
    for entry in &rows.entries {
        written.push(entry_row(order, entry, at));
    }
    for (institution, difference) in &rows.breaks {
        written.push(RowWrite {
            sql: breaks::RAISE,
            values: breaks::late(institution, difference, at),
        });
    }
    for event in &rows.events {
        written.push(RowWrite {
            sql: COUNT_EVENT,
            values: vec![text(event.merchant.as_str())],
        });
        written.push(event_row(seal, event, at)?);
    }
    Ok(written)
}

fn entry_row(order: &Order, entry: &JournalEntry, at: Timestamp) -> RowWrite {
    RowWrite {
        sql: INSERT_ENTRY,
        values: vec![
            at.ms().into(),
            text(entry.kind),
            text(order.no.as_str()),
            entry.debit.name().into(),
            entry.credit.name().into(),
            entry.amount.minor().into(),
            text(entry.amount.currency().code()),
        ],
    }
}

fn event_row(seal: &Seal, event: &Event, at: Timestamp) -> Result<RowWrite, StoreError> {
    let sealed = seal
        .seal(event_place(event.id.as_str()), &event.body)
        .map_err(not_sealed)?;
    let destination = event.destination.as_deref();
    // The key of its queue (N7); a URL without an origin gets its own queue, under a digest that
    // does not reveal it.
    let own_queue = |to: &str| hex(&seal.digest("destination", to.as_bytes()));
    let origin = destination.map(|to| origin(to).unwrap_or_else(|| own_queue(to)));
    let target = seal_maybe(seal, target_place(event.id.as_str()), destination)?;
    let values = vec![
        text(event.id.as_str()),
        text(event.merchant.as_str()),
        text(event.kind.name()),
        text(event.order.as_str()),
        number(event.version)?,
        target.into(),
        origin.into(),
        sealed.into_bytes().into(),
        at.ms().into(),
        moment(destination.map(|_| at)),
    ];
    let sql = INSERT_EVENT;
    Ok(RowWrite { sql, values })
}

pub(super) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub(super) fn maybe(text: Option<&str>) -> Value {
    text.map(str::to_owned).into()
}

pub(super) fn moment(at: Option<Timestamp>) -> Value {
    at.map(Timestamp::ms).into()
}

pub(super) fn number(number: u64) -> Result<Value, StoreError> {
    let number = i64::try_from(number);
    let number = number.map_err(|_| StoreError::Corrupt("a number is out of range".into()))?;
    Ok(number.into())
}
