//! Archives institutions' raw messages: the proof behind a change, and a bounded sample of rejected
//! messages.

use async_trait::async_trait;

use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::store::StoreError;

/// Maximum number of forged messages archived per institution; beyond it they are only counted.
pub const FORGED_ARCHIVED_MAX: u32 = 100;

/// Stores institutions' raw messages.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Encrypts and stores a message.
    async fn archive(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError>;
}

/// A message as received from an institution (inbox).
#[derive(Clone, PartialEq, Eq)]
pub struct InboxMessage {
    /// The institution whose callback address received it.
    pub institution: InstitutionId,
    /// Its verification status.
    pub status: InboxStatus,
    /// Raw head and body; sealed before they are stored.
    pub raw: Vec<u8>,
    /// When it was received.
    pub at: Timestamp,
}

/// The verification status of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InboxStatus {
    /// Authenticated by the institution's signature or a staff member's.
    Genuine,
    /// Authentic, but contradicts the known state (V3).
    Quarantined,
    /// Not authenticated; a bounded sample is archived.
    Forged,
}

impl InboxStatus {
    /// The name used in the database and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Genuine => "GENUINE",
            Self::Quarantined => "QUARANTINED",
            Self::Forged => "FORGED",
        }
    }
}

/// The result of archiving a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveOutcome {
    /// Stored.
    New,
    /// Identical bytes are already stored.
    Seen,
    /// Not stored: the sample of forged messages is full.
    Dropped,
}
