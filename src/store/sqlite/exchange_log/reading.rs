//! Reads the entries of one order while the gateway runs: filters by time first, then by digest, so
//! that little more than a page is read of each block of other orders.

use rusqlite::{Connection, params};
use serde::Deserialize;

use crate::domain::identifiers::{Timestamp, hex};
use crate::domain::order::Order;
use crate::domain::verification::BlockHead;
use crate::seal::Seal;
use crate::store::exchange_log::{
    BLOCK_BYTES_MAX, Dropped, ENTRIES_READ_MAX, Exchanges, OrderDigest, UNPROVEN_READ_MAX,
    count_dropped, digests,
};
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::exchange_log::place;

/// The fields of an entry that decide whether it is kept when there are too many.
#[derive(Deserialize)]
struct Marks {
    #[serde(default)]
    unproven: bool,
    #[serde(default)]
    paying: bool,
}

/// Reads this order's entries from the blocks whose first entry is within that time range.
pub(in crate::store::sqlite) fn read(
    connection: &Connection,
    seal: &Seal,
    order: &Order,
    from: Timestamp,
    until: Timestamp,
) -> Result<Exchanges, SqliteFault> {
    let mut found = Exchanges::until(until);
    let names = digests(seal, order);
    let sql = "SELECT block, first_at, last_at, dropped, orders FROM exchange_log
        WHERE first_at >= ?1 AND first_at <= ?2 ORDER BY first_at, block";
    let mut blocks = connection.prepare(sql)?;
    let mut sealed = connection.prepare("SELECT sealed FROM exchange_log WHERE block = ?1")?;
    let mut rows = blocks.query(params![from.ms(), until.ms()])?;
    let mut unproven = 0_usize;
    while let Some(row) = rows.next()? {
        let dropped = row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?;
        add(&mut found.dropped, dropped)?;
        let orders = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
        let (each, _) = orders.as_chunks::<{ size_of::<OrderDigest>() }>();
        if !each.iter().any(|one| names.contains(one)) {
            continue;
        }
        let head = BlockHead {
            first: Timestamp::from_ms(row.get(1)?),
            last: Timestamp::from_ms(row.get(2)?),
            dropped,
            orders,
        };
        let raw: Vec<u8> = sealed.query_row([row.get::<_, i64>(0)?], |row| row.get(0))?;
        let Some(text) = opened(seal, &head, &raw) else {
            found.unreadable = found.unreadable.saturating_add(1);
            continue;
        };
        let lines = text.lines().zip(each);
        for (line, _) in lines.filter(|(_, one)| names.contains(one)) {
            let marks: Marks = serde_json::from_str(line)
                .map_err(|_| SqliteFault::Corrupt("an entry is malformed".into()))?;
            unproven = unproven.saturating_add(usize::from(marks.unproven));
            let is_too_many = found.lines.len() >= ENTRIES_READ_MAX
                || marks.unproven && unproven > UNPROVEN_READ_MAX;
            if is_too_many && !marks.paying {
                found.left_out = found.left_out.saturating_add(1);
            } else {
                found.lines.push(line.to_owned());
            }
        }
    }
    Ok(found)
}

/// `None` if its key is gone or it was altered: the rest is still reported.
fn opened(seal: &Seal, head: &BlockHead<'_>, sealed: &[u8]) -> Option<String> {
    let packed = seal.open(place(&hex(&head.hash())), sealed).ok()?;
    let plain = zstd::bulk::decompress(&packed, BLOCK_BYTES_MAX).ok()?;
    String::from_utf8(plain).ok()
}

fn add(sum: &mut Dropped, spelled: &str) -> Result<(), SqliteFault> {
    // Few blocks have any.
    if spelled == "{}" {
        return Ok(());
    }
    let more: Dropped = serde_json::from_str(spelled)
        .map_err(|_| SqliteFault::Corrupt("counts of dropped entries are malformed".into()))?;
    for (kind, count) in more {
        count_dropped(sum, &kind, count);
    }
    Ok(())
}
