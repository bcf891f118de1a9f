//! Messages of institutions as they came, sealed: once each, and of the forged ones a sample.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::identifiers::hex;
use crate::seal::{Place, Seal};
use crate::store::sqlite::Fault;
use crate::store::sqlite::sealed::not_sealed;
use crate::store::sqlite::writer::Writing;
use crate::store::{FORGED_KEPT_MAX, Kept, Message, StoreError, Verdict};

/// A message, sealed, under the digest of its bytes.
pub(super) struct Letter {
    institution: String,
    digest: [u8; 32],
    verdict: Verdict,
    at: i64,
    sealed: Vec<u8>,
}

/// Seals a message for its row.
pub(super) fn seal(seal: &Seal, message: &Message) -> Result<Letter, StoreError> {
    let digest = seal.digest("inbox", &message.raw);
    let row = format!("{} {}", message.institution, hex(&digest));
    let place = Place {
        table: "inbox",
        row: &row,
        column: "sealed",
    };
    Ok(Letter {
        institution: message.institution.as_str().to_owned(),
        digest,
        verdict: message.verdict,
        at: message.at.ms(),
        sealed: seal
            .seal(place, &message.raw)
            .map_err(not_sealed)?
            .into_bytes(),
    })
}

impl Letter {
    /// What becomes of it where nothing has to be written.
    pub(super) fn judge(&self, connection: &Connection) -> Result<Option<Kept>, Fault> {
        let known: Option<String> = connection
            .prepare_cached("SELECT status FROM inbox WHERE institution_id = ?1 AND digest = ?2")?
            .query_row(params![self.institution, self.digest], |row| row.get(0))
            .optional()?;
        if let Some(known) = known {
            return Ok((!self.outweighs(&known)).then_some(Kept::Seen));
        }
        if self.verdict != Verdict::Forged {
            return Ok(None);
        }
        let sql = "SELECT COUNT(*) FROM inbox WHERE institution_id = ?1 AND status = 'FORGED'";
        let kept: u32 = connection
            .prepare_cached(sql)?
            .query_row(params![self.institution], |row| row.get(0))?;
        Ok((kept >= FORGED_KEPT_MAX).then_some(Kept::Dropped))
    }

    pub(super) fn write(&self, writing: &mut Writing<'_>) -> Result<Kept, Fault> {
        if let Some(kept) = self.judge(writing.connection)? {
            return Ok(kept);
        }
        let inserted = writing
            .connection
            .prepare_cached(
                "INSERT INTO inbox (institution_id, digest, status, at, sealed)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                self.institution,
                self.digest,
                self.verdict.name(),
                self.at,
                self.sealed
            ])?;
        if inserted == 1 {
            return Ok(Kept::New);
        }
        writing
            .connection
            .prepare_cached(
                "UPDATE inbox SET status = ?3 WHERE institution_id = ?1 AND digest = ?2",
            )?
            .execute(params![self.institution, self.digest, self.verdict.name()])?;
        Ok(Kept::Seen)
    }

    /// The same bytes may come to be thought of worse than genuine, once they are weighed, and
    /// better than forged, once the right key is configured.
    fn outweighs(&self, known: &str) -> bool {
        match self.verdict {
            Verdict::Forged => false,
            Verdict::Genuine => known == Verdict::Forged.name(),
            Verdict::Quarantined => known != Verdict::Quarantined.name(),
        }
    }
}
