//! Our accounts at the institutions, one for each set of credentials (`[[account]]`).

use crate::domain::identifiers::{AccountId, InstitutionId, ReceiverId};
use crate::domain::institutions::Credentials;
use crate::domain::personal::payer_context::PayerAppId;

/// Who receives the money of an account's payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountRole {
    /// The account itself.
    Direct,
    /// Sub-merchants, each named by its contract: we are a service provider (服务商).
    Provider,
}

impl AccountRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Direct, Self::Provider];

    /// The word in `routes.toml`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Provider => "provider",
        }
    }
}

/// An account as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountProfile {
    /// Our name for it, unique within its institution. Never changes (C2, R5).
    pub id: AccountId,
    /// Where it is.
    pub institution: InstitutionId,
    /// Who receives the money.
    pub role: AccountRole,
    /// The account's own number at the institution.
    pub receiver: ReceiverId,
    /// Our applications at the institution, in which a payer may have an id.
    pub apps: Vec<PayerAppId>,
    /// While these cannot be used nothing new goes over it, and what was begun waits.
    pub credentials: Credentials,
}

/// By which an account is found.
pub type AccountKey = (InstitutionId, AccountId);

/// Which of our addresses an institution's callbacks come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackPath {
    /// One for the institution: the message says whose it is.
    OfInstitution,
    /// One for each account: only its keys can read the message (C1).
    OfAccount,
}
