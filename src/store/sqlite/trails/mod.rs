//! Trails as rows: compressed, then sealed to their row, and kept within their order's bounds.

mod packed;

use std::io;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use crate::crypto::random;
use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::{PayOrderNo, Timestamp, hex};
use crate::seal::{Place, Seal};
use crate::store::StoreError;
use crate::store::sqlite::sealed::not_sealed;
use crate::store::sqlite::writer::Writing;
use crate::store::sqlite::{Fault, Sqlite};
use crate::store::trails::{
    BEGINNING_BYTES, FORGOTTEN_AT_ONCE, Kinds, LEAF_BYTES_MAX, Leaf, ORDER_BYTES_MAX,
    STRANGERS_BYTES_MAX, Trail, Trails,
};

/// A leaf as it is stored.
#[derive(Clone)]
struct Row {
    order: PayOrderNo,
    at: i64,
    leaf: [u8; 16],
    is_stranger: bool,
    is_paying: bool,
    holds: Kinds,
    sealed: Vec<u8>,
}

#[async_trait]
impl Trails for Sqlite {
    async fn named(&self, keys: &[OrderKey]) -> Result<Vec<Option<PayOrderNo>>, StoreError> {
        self.read(|connection| keys.iter().map(|key| named(connection, key)).collect())
    }

    async fn keep(&self, leaves: &[Leaf]) -> Result<(), StoreError> {
        let fits = leaves
            .iter()
            .filter(|leaf| leaf.lines.len() <= LEAF_BYTES_MAX);
        let mut packer = packed::Packer::new().map_err(|fault| not_packed(&fault))?;
        let rows: Vec<Row> = fits
            .map(|leaf| row(&self.seal, &mut packer, leaf))
            .collect::<Result<_, _>>()?;
        self.write(move |writing| rows.iter().try_for_each(|row| keep(writing, row)))
            .await
    }

    async fn forget(&self, before: Timestamp) -> Result<u64, StoreError> {
        let sql = "DELETE FROM trails WHERE (pay_order_no, at, leaf) IN
            (SELECT pay_order_no, at, leaf FROM trails WHERE at < ?1 ORDER BY at LIMIT ?2)";
        let old = self.ask(|connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM trails WHERE at < ?1)";
            let mut is_there = connection.prepare_cached(sql)?;
            Ok(is_there.query_row([before.ms()], |row| row.get::<_, bool>(0))?)
        })?;
        // An idle look must not cost a synchronisation.
        if !old {
            return Ok(0);
        }
        self.write(move |writing| {
            let mut delete = writing.connection.prepare_cached(sql)?;
            let gone = delete.execute(params![before.ms(), FORGOTTEN_AT_ONCE])?;
            Ok(u64::try_from(gone).unwrap_or(u64::MAX))
        })
        .await
    }
}

fn place(row: &str) -> Place<'_> {
    let (table, column) = ("trails", "sealed");
    Place { table, row, column }
}

/// Bound to its order and to its own number.
fn row_name(order: &str, leaf: &[u8]) -> String {
    format!("{order} {}", hex(leaf))
}

fn not_packed(fault: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("a note cannot be packed: {fault}"))
}

fn row(seal: &Seal, packer: &mut packed::Packer, leaf: &Leaf) -> Result<Row, StoreError> {
    let mut number = [0; 16];
    random::fill(&mut number).map_err(|_| StoreError::Unavailable("no randomness".into()))?;
    let name = row_name(leaf.order.as_str(), &number);
    let small = packer.pack(&leaf.lines);
    let small = small.map_err(|fault| not_packed(&fault))?;
    let sealed = seal.seal(place(&name), &small).map_err(not_sealed)?;
    Ok(Row {
        order: leaf.order.clone(),
        at: leaf.at.ms(),
        leaf: number,
        is_stranger: leaf.is_stranger,
        is_paying: leaf.is_paying,
        holds: leaf.holds.clone(),
        sealed: sealed.into_bytes(),
    })
}

fn named(connection: &Connection, key: &OrderKey) -> Result<Option<PayOrderNo>, Fault> {
    let (sql, values) = match key {
        OrderKey::Ours(merchant, no) => (
            "SELECT pay_order_no FROM orders WHERE pay_order_no = ?2 AND merchant_id = ?1",
            [merchant.as_str(), no.as_str()],
        ),
        OrderKey::Theirs(merchant, no) => (
            "SELECT pay_order_no FROM orders WHERE merchant_id = ?1 AND merchant_order_no = ?2",
            [merchant.as_str(), no.as_str()],
        ),
        OrderKey::OfAttempt(institution, id) => (
            "SELECT pay_order_no FROM attempts WHERE attempt_id = ?2 AND institution_id = ?1",
            [institution.as_str(), id.as_str()],
        ),
        OrderKey::OfRefund(institution, no) => (
            "SELECT r.pay_order_no FROM refunds r CROSS JOIN attempts a
             WHERE r.refund_order_no = ?2 AND a.attempt_id = r.attempt_id AND a.institution_id = ?1",
            [institution.as_str(), no.as_str()],
        ),
        OrderKey::RefundOurs(merchant, no) => (
            "SELECT r.pay_order_no FROM refunds r CROSS JOIN orders o
             WHERE r.refund_order_no = ?2 AND o.pay_order_no = r.pay_order_no AND o.merchant_id = ?1",
            [merchant.as_str(), no.as_str()],
        ),
        OrderKey::RefundTheirs(merchant, no) => (
            "SELECT pay_order_no FROM refunds WHERE merchant_id = ?1 AND request_no = ?2",
            [merchant.as_str(), no.as_str()],
        ),
        // Whoever holds the address of a page is nobody that could be named.
        OrderKey::OfPage(token) => (
            "SELECT pay_order_no FROM orders WHERE pay_order_no = ?2 AND ?1 = ''",
            ["", token.order().as_str()],
        ),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let no: Option<String> = statement.query_row(values, |row| row.get(0)).optional()?;
    no.map(|no| {
        PayOrderNo::parse(&no).map_err(|_| Fault::Corrupt("a stored number is malformed".into()))
    })
    .transpose()
}

/// Of one order's trail: moment and number, bytes, whether of strangers.
type Kept = (i64, Vec<u8>, i64, bool);

/// The callback that paid stands beside the bound: it is neither counted nor given up.
fn keep(writing: &mut Writing<'_>, row: &Row) -> Result<(), Fault> {
    let connection = writing.connection;
    if row.is_paying {
        return insert(connection, row, (0, &Kinds::new()));
    }
    let sql = "SELECT at, leaf, LENGTH(sealed), is_stranger FROM trails
        WHERE pay_order_no = ?1 AND is_paying = 0 ORDER BY at, leaf";
    let mut statement = connection.prepare_cached(sql)?;
    let kept = statement.query_map([row.order.as_str()], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    let mut kept: Vec<Kept> = kept.collect::<Result<_, _>>()?;
    let bytes = size(row.sealed.len());
    let strangers = kept.iter().filter(|one| one.3).map(|one| one.2);
    let is_too_much =
        row.is_stranger && strangers.sum::<i64>().saturating_add(bytes) > size(STRANGERS_BYTES_MAX);
    if is_too_much || bytes > size(ORDER_BYTES_MAX.saturating_sub(BEGINNING_BYTES)) {
        return given_up(connection, row);
    }
    let (mut count, mut lost) = (0_i64, Kinds::new());
    let all = |kept: &[Kept]| kept.iter().map(|one| one.2).sum::<i64>();
    while all(&kept).saturating_add(bytes) > size(ORDER_BYTES_MAX) {
        let Some(at) = first_behind(&kept) else {
            return given_up(connection, row);
        };
        let gone = kept.remove(at);
        let sql = "DELETE FROM trails WHERE pay_order_no = ?1 AND at = ?2 AND leaf = ?3
            RETURNING given_up, holds, lost";
        let mut delete = connection.prepare_cached(sql)?;
        let of = params![row.order.as_str(), gone.0, gone.1];
        let (before, held, lost_before): (i64, String, String) =
            delete.query_row(of, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        count = count.saturating_add(before).saturating_add(1);
        add(&mut lost, &kinds(&held)?);
        add(&mut lost, &kinds(&lost_before)?);
    }
    insert(connection, row, (count, &lost))
}

fn insert(connection: &Connection, row: &Row, gone: (i64, &Kinds)) -> Result<(), Fault> {
    let (count, lost) = gone;
    let sql = "INSERT INTO trails (pay_order_no, at, leaf, is_stranger, is_paying, holds, sealed,
        given_up, lost) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![
        row.order.as_str(),
        row.at,
        row.leaf,
        row.is_stranger,
        row.is_paying,
        spelled(&row.holds)?,
        row.sealed,
        count,
        spelled(lost)?
    ])?;
    Ok(())
}

fn add(sum: &mut Kinds, more: &Kinds) {
    for (kind, count) in more {
        let known = sum.entry(kind.clone()).or_default();
        *known = known.saturating_add(*count);
    }
}

fn kinds(text: &str) -> Result<Kinds, Fault> {
    serde_json::from_str(text).map_err(|_| Fault::Corrupt("counts of notes are malformed".into()))
}

fn spelled(kinds: &Kinds) -> Result<String, Fault> {
    serde_json::to_string(kinds).map_err(|fault| Fault::Corrupt(fault.to_string()))
}

fn size(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Where the first leaf stands that is not of the beginning.
fn first_behind(kept: &[Kept]) -> Option<usize> {
    let mut sum = 0_i64;
    kept.iter().position(|one| {
        sum = sum.saturating_add(one.2);
        sum > size(BEGINNING_BYTES)
    })
}

/// There is no room for it; the latest that is kept says so, and what it was.
fn given_up(connection: &Connection, row: &Row) -> Result<(), Fault> {
    let sql = "SELECT at, leaf, lost FROM trails WHERE pay_order_no = ?1
        ORDER BY at DESC, leaf DESC LIMIT 1";
    let mut latest = connection.prepare_cached(sql)?;
    let latest = latest.query_row([row.order.as_str()], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, Vec<u8>>(1)?,
            row.get::<_, String>(2)?,
        ))
    });
    let Some((at, leaf, before)) = latest.optional()? else {
        return Ok(());
    };
    let mut lost = kinds(&before)?;
    add(&mut lost, &row.holds);
    let sql = "UPDATE trails SET given_up = given_up + 1, lost = ?4
        WHERE pay_order_no = ?1 AND at = ?2 AND leaf = ?3";
    let mut update = connection.prepare_cached(sql)?;
    update.execute(params![row.order.as_str(), at, leaf, spelled(&lost)?])?;
    Ok(())
}

/// What is left of an order's trail.
pub(super) fn read(
    connection: &Connection,
    seal: &Seal,
    order: &PayOrderNo,
) -> Result<Trail, Fault> {
    let sql = "SELECT leaf, sealed, given_up, holds, lost FROM trails
        WHERE pay_order_no = ?1 ORDER BY at, leaf";
    let mut trail = Trail::default();
    // A gateway of an earlier release, which still runs, has no such table.
    let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'trails')";
    if !connection.query_row(is_there, [], |row| row.get::<_, bool>(0))? {
        return Ok(trail);
    }
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([order.as_str()])?;
    while let Some(row) = rows.next()? {
        let (leaf, sealed): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let name = row_name(order.as_str(), &leaf);
        let small = seal.open(place(&name), &sealed)?;
        // What another release packed is no damage; here it says nothing.
        if !packed::is_ours(&small) {
            trail.given_up = trail.given_up.saturating_add(1);
            add(&mut trail.lost, &kinds(&row.get::<_, String>(3)?)?);
            continue;
        }
        let lines = packed::unpack(&small, LEAF_BYTES_MAX)
            .ok_or_else(|| Fault::Corrupt("a note cannot be unpacked".into()))?;
        let lines = String::from_utf8_lossy(&lines);
        trail.lines.extend(lines.lines().map(str::to_owned));
        let given_up = u64::try_from(row.get::<_, i64>(2)?).unwrap_or_default();
        trail.given_up = trail.given_up.saturating_add(given_up);
        add(&mut trail.lost, &kinds(&row.get::<_, String>(4)?)?);
    }
    Ok(trail)
}
