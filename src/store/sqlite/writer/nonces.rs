//! The spent nonces, in memory: the single writer knows them all, and the file only appends them.
//! An index in the file would write a page for each nonce, at a random place (Q5).

use std::collections::HashSet;

use rusqlite::{Connection, params};

use crate::crypto::digest::sha256;
use crate::domain::identifiers::{FreshNonce, Timestamp};
use crate::store::sqlite::SqliteFault;

/// A truncated digest of key and nonce, long enough that two never collide by chance.
type NonceMark = [u8; 16];

/// A nonce to be spent.
pub(in crate::store::sqlite) struct Nonce {
    key: String,
    value: String,
    mark: NonceMark,
    pub(in crate::store::sqlite) created: Timestamp,
}

impl Nonce {
    pub(in crate::store::sqlite) fn of(nonce: &FreshNonce) -> Self {
        let (key, value) = (nonce.key.as_str().to_owned(), nonce.value.to_string());
        Self {
            mark: mark(&key, &value),
            key,
            value,
            created: nonce.created,
        }
    }
}

/// A key's name contains no space.
fn mark(key: &str, value: &str) -> NonceMark {
    let digest = sha256(format!("{key} {value}").as_bytes());
    digest.first_chunk().copied().unwrap_or_default()
}

/// All spent nonces that are not deleted.
#[derive(Debug, Default)]
pub(in crate::store::sqlite) struct SpentNonces {
    spent: HashSet<NonceMark>,
    /// Spent, and deleted, by the open transaction.
    spending: Vec<NonceMark>,
    forgetting: Vec<NonceMark>,
}

impl SpentNonces {
    /// Loads the nonces that earlier processes spent.
    pub(in crate::store::sqlite) fn load(connection: &Connection) -> Result<Self, rusqlite::Error> {
        let mut statement = connection.prepare("SELECT key_id, nonce FROM nonces")?;
        let mut rows = statement.query([])?;
        let mut spent = HashSet::new();
        while let Some(row) = rows.next()? {
            spent.insert(mark(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?));
        }
        Ok(Self {
            spent,
            ..Self::default()
        })
    }

    /// Spends a nonce, in memory and in the open transaction; returns its row number, or `None` if
    /// it was already spent.
    pub(in crate::store::sqlite) fn spend(
        &mut self,
        connection: &Connection,
        nonce: &Nonce,
    ) -> Result<Option<i64>, SqliteFault> {
        if !self.spent.insert(nonce.mark) {
            return Ok(None);
        }
        self.spending.push(nonce.mark);
        let sql = "INSERT INTO nonces (key_id, nonce, created) VALUES (?1, ?2, ?3)";
        let mut insert = connection.prepare_cached(sql)?;
        let row = insert.insert(params![nonce.key, nonce.value, nonce.created.ms()])?;
        Ok(Some(row))
    }

    /// Undoes the spending: the change it admitted was not written.
    pub(in crate::store::sqlite) fn take_back(
        &mut self,
        connection: &Connection,
        nonce: &Nonce,
        row: i64,
    ) -> Result<(), SqliteFault> {
        let sql = "DELETE FROM nonces WHERE nonce_no = ?1";
        connection.prepare_cached(sql)?.execute(params![row])?;
        self.spent.remove(&nonce.mark);
        Ok(())
    }

    /// Deletes nonces created up to `until`, at most `at_once`; returns their creation times (Q6).
    pub(super) fn forget(
        &mut self,
        connection: &Connection,
        until: Timestamp,
        at_once: i64,
    ) -> Result<Vec<Timestamp>, SqliteFault> {
        let sql = "DELETE FROM nonces WHERE nonce_no IN
            (SELECT nonce_no FROM nonces WHERE created <= ?1 ORDER BY created LIMIT ?2)
            RETURNING key_id, nonce, created";
        let mut delete = connection.prepare_cached(sql)?;
        let mut rows = delete.query(params![until.ms(), at_once])?;
        let mut forgotten = Vec::new();
        while let Some(row) = rows.next()? {
            let key = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            let value = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            let mark = mark(key, value);
            if self.spent.remove(&mark) {
                self.forgetting.push(mark);
            }
            forgotten.push(Timestamp::from_ms(row.get(2)?));
        }
        Ok(forgotten)
    }

    /// The transaction is durable.
    pub(super) fn committed(&mut self) {
        self.spending.clear();
        self.forgetting.clear();
    }

    /// The transaction was rolled back: undoes what it spent and deleted.
    pub(super) fn rolled_back(&mut self) {
        for mark in self.spending.drain(..) {
            self.spent.remove(&mark);
        }
        self.spent.extend(self.forgetting.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Connection {
        let file = Connection::open_in_memory().unwrap();
        let sql = "CREATE TABLE nonces (nonce_no INTEGER PRIMARY KEY, key_id, nonce, created)";
        file.execute_batch(sql).unwrap();
        file
    }

    fn nonce(value: &str, created: i64) -> Nonce {
        Nonce {
            mark: mark("key-1", value),
            key: "key-1".into(),
            value: value.into(),
            created: Timestamp::from_s(created),
        }
    }

    /// Q5, Q6: memory and file agree on the spent nonces after a rollback, a deletion and a
    /// restart.
    #[test]
    fn memory_and_file_agree_on_what_is_spent() {
        let file = file();
        let mut nonces = SpentNonces::default();
        for (value, created) in [("one", 1), ("two", 2)] {
            let spent = nonces.spend(&file, &nonce(value, created)).unwrap();
            assert!(spent.is_some());
        }
        nonces.committed();
        file.execute_batch("BEGIN").unwrap();
        assert!(nonces.spend(&file, &nonce("three", 3)).unwrap().is_some());
        let first = Timestamp::from_s(1);
        assert_eq!(nonces.forget(&file, first, 10).unwrap(), [first]);
        file.execute_batch("ROLLBACK").unwrap();
        nonces.rolled_back();
        for mut known in [nonces, SpentNonces::load(&file).unwrap()] {
            for (value, is_new) in [("one", false), ("two", false), ("three", true)] {
                file.execute_batch("BEGIN").unwrap();
                let spent = known.spend(&file, &nonce(value, 9)).unwrap();
                file.execute_batch("ROLLBACK").unwrap();
                known.rolled_back();
                assert_eq!(spent.is_some(), is_new, "{value}");
            }
        }
    }
}
