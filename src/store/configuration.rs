//! Applied configuration versions and the constraints on the next one (F2). A version is written
//! with [`crate::store::Changes::commit`], like every audited change.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::domain::identifiers::{InstitutionId, ReceiverId, Timestamp};
use crate::domain::institutions::{AccountKey, InstitutionEndpoint};
use crate::store::StoreError;

/// Upper limit when counting an institution's recently ended objects, so that start-up stays fast.
pub const ENDED_COUNTED_MAX: u64 = 1_000;

/// Reports what constrains the next configuration.
#[async_trait]
pub trait ConfigurationLog: Send + Sync {
    /// The highest version applied so far, and the institutions and accounts that the next
    /// configuration must keep: those with unfinished objects, or with objects ended after `since`
    /// (F2, R5).
    async fn dependents(&self, since: Timestamp) -> Result<RemovalGuard, StoreError>;
}

/// Stored state that constrains the next configuration (F2, R5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovalGuard {
    /// The highest version ever applied; 0 before the first.
    pub version: u64,
    /// Dependents of each institution that has any.
    pub held: BTreeMap<InstitutionId, Dependents>,
    /// Dependents of each account that has any.
    pub accounts: BTreeMap<AccountKey, Dependents>,
    /// The receiver id of each account in the last version that contained it.
    pub receivers: BTreeMap<AccountKey, ReceiverId>,
    /// The endpoint of each institution in the last version that contained it.
    pub endpoints: BTreeMap<InstitutionId, InstitutionEndpoint>,
}

/// How many objects depend on an institution or an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dependents {
    /// Live attempts and unfinished refunds.
    pub unfinished: u64,
    /// Attempts that ended recently, or that have a refund updated recently; counted up to
    /// [`ENDED_COUNTED_MAX`]. Late payments and refunds of them are still possible.
    pub ended: u64,
}
