//! Institutions' messages as they came: the evidence behind a change, and a bounded sample of what was
//! refused.

use async_trait::async_trait;

use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::store::StoreError;

/// Forged messages archived of one institution at most; past it they are only counted.
pub const FORGED_ARCHIVED_MAX: u32 = 100;

/// Where messages are archived.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Archives a message, sealed.
    async fn archive(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError>;
}

/// An institution's message as it came (inbox, section 9).
#[derive(Clone, PartialEq, Eq)]
pub struct InboxMessage {
    /// Whose address it came to.
    pub institution: InstitutionId,
    /// What we think of it.
    pub status: InboxStatus,
    /// Head and body, raw; sealed before it is stored.
    pub raw: Vec<u8>,
    /// When it came.
    pub at: Timestamp,
}

/// What we think of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InboxStatus {
    /// Proven the institution's own: by its signature, or by an operator's.
    Genuine,
    /// Genuine, and impossible (V3).
    Quarantined,
    /// Not proven; a bounded sample is archived.
    Forged,
}

impl InboxStatus {
    /// The name in the database and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Genuine => "GENUINE",
            Self::Quarantined => "QUARANTINED",
            Self::Forged => "FORGED",
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveOutcome {
    /// Stored.
    New,
    /// These very bytes were stored before.
    Seen,
    /// The sample is full; not stored.
    Dropped,
}
