//! Which configuration was in force, and what the next one may not lose (F2). A version itself is
//! written with [`crate::store::Changes::commit`], like everything that leaves a record.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::domain::identifiers::{InstitutionId, ReceiverId, Timestamp};
use crate::domain::institutions::{AccountKey, InstitutionEndpoint};
use crate::store::StoreError;

/// Counts no further than this what ended lately at an institution: a start must not wait for it.
pub const ENDED_COUNTED_MAX: u64 = 1_000;

/// What binds the next configuration.
#[async_trait]
pub trait ConfigurationLog: Send + Sync {
    /// How high the next version must be, and which institutions and accounts it must keep: with
    /// anything unfinished, or ended `since` (F2, R5).
    async fn dependents(&self, since: Timestamp) -> Result<RemovalGuard, StoreError>;
}

/// What is stored and binds the next configuration (F2, R5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovalGuard {
    /// The highest version that was ever in force; 0 before the first.
    pub version: u64,
    /// What needs each institution, of those that anything needs.
    pub held: BTreeMap<InstitutionId, Dependents>,
    /// What needs each account, of those that anything needs.
    pub accounts: BTreeMap<AccountKey, Dependents>,
    /// The number of each account at its institution under the last version that named it.
    pub receivers: BTreeMap<AccountKey, ReceiverId>,
    /// Where each institution was asked under the last version that named it.
    pub endpoints: BTreeMap<InstitutionId, InstitutionEndpoint>,
}

/// What needs an institution or an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dependents {
    /// Attempts that are live, and refunds that have not ended.
    pub unfinished: u64,
    /// Attempts that ended lately, or of which a refund moved lately; [`ENDED_COUNTED_MAX`] stands
    /// for so many or more. Money may still come, and what was paid go back.
    pub ended: u64,
}
