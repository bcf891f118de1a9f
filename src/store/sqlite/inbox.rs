//! Stores institutions' raw messages, sealed: each once, and a sample of the forged ones.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::identifiers::hex;
use crate::seal::{Seal, SealBinding};
use crate::store::sqlite::sealed::not_sealed;
use crate::store::sqlite::writer::WriteTransaction;
use crate::store::sqlite::{Sqlite, SqliteFault};
use crate::store::{
    Archive, ArchiveOutcome, FORGED_ARCHIVED_MAX, InboxMessage, InboxStatus, StoreError,
};

#[async_trait]
impl Archive for Sqlite {
    async fn archive(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError> {
        let message = seal(&self.seal, message)?;
        // Checked by a reader first: a flood of forged messages must not reach the writer.
        if let Some(outcome) = self.read(|connection| message.judge(connection))? {
            return Ok(outcome);
        }
        self.write(move |writing| message.write(writing)).await
    }
}

/// A sealed message, keyed by the digest of its bytes.
struct InboxRow {
    institution: String,
    digest: [u8; 32],
    status: InboxStatus,
    at: i64,
    sealed: Vec<u8>,
}

/// Seals a message for storage.
fn seal(seal: &Seal, message: &InboxMessage) -> Result<InboxRow, StoreError> {
    let digest = seal.digest("inbox", &message.raw);
    let row = format!("{} {}", message.institution, hex(&digest));
    let place = SealBinding {
        table: "inbox",
        row: &row,
        column: "sealed",
    };
    Ok(InboxRow {
        institution: message.institution.as_str().to_owned(),
        digest,
        status: message.status,
        at: message.at.ms(),
        sealed: seal
            .seal(place, &message.raw)
            .map_err(not_sealed)?
            .into_bytes(),
    })
}

impl InboxRow {
    /// The outcome, if nothing has to be written.
    fn judge(&self, connection: &Connection) -> Result<Option<ArchiveOutcome>, SqliteFault> {
        let known: Option<String> = connection
            .prepare_cached("SELECT status FROM inbox WHERE institution_id = ?1 AND digest = ?2")?
            .query_row(params![self.institution, self.digest], |row| row.get(0))
            .optional()?;
        if let Some(known) = known {
            return Ok((!self.is_worse_than(&known)).then_some(ArchiveOutcome::Seen));
        }
        if self.status != InboxStatus::Forged {
            return Ok(None);
        }
        let sql = "SELECT COUNT(*) FROM inbox WHERE institution_id = ?1 AND status = 'FORGED'";
        let archived: u32 = connection
            .prepare_cached(sql)?
            .query_row(params![self.institution], |row| row.get(0))?;
        Ok((archived >= FORGED_ARCHIVED_MAX).then_some(ArchiveOutcome::Dropped))
    }

    fn write(&self, writing: &mut WriteTransaction<'_>) -> Result<ArchiveOutcome, SqliteFault> {
        if let Some(outcome) = self.judge(writing.connection)? {
            return Ok(outcome);
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
                self.status.name(),
                self.at,
                self.sealed
            ])?;
        if inserted == 1 {
            return Ok(ArchiveOutcome::New);
        }
        writing
            .connection
            .prepare_cached(
                "UPDATE inbox SET status = ?3 WHERE institution_id = ?1 AND digest = ?2",
            )?
            .execute(params![self.institution, self.digest, self.status.name()])?;
        Ok(ArchiveOutcome::Seen)
    }

    /// The status of the same bytes may change from genuine to quarantined when their evidence is
    /// applied, or up from forged once the right key is configured.
    fn is_worse_than(&self, known: &str) -> bool {
        match self.status {
            InboxStatus::Forged => false,
            InboxStatus::Genuine => known == InboxStatus::Forged.name(),
            InboxStatus::Quarantined => known != InboxStatus::Quarantined.name(),
        }
    }
}
