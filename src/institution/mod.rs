//! Adapters: each translates between our calls and one institution's dialect, and does nothing
//! else. They use no network, no clock and no randomness.

mod call;
mod kind;
mod settings;
mod standard;
mod statement;
mod step;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Semaphore;

use crate::domain::amount::Currency;
use crate::domain::attempt::Stamp;
use crate::domain::evidence::{Evidence, EvidenceSubject};
use crate::domain::identifiers::{AccountId, InstitutionId, Timestamp};
use crate::domain::institutions::Facts;

pub use call::{Call, OwnedCall};
pub use kind::{
    Build, ConfiguredAccount, ConfiguredInstitution, InstitutionKind, SettingsFault, URL,
};
pub use settings::{
    ALWAYS, OwnKey, OwnKeySettings, SecretText, Setting, SettingForm, SettingValue, SettingValues,
};
pub use statement::{StatementPage, StatementQuery, Statements};
pub use step::{CallState, Effect, Host, Outgoing, STEPS_MAX, Step, Unmade};

/// Every kind of institution there is; a further one is a file of its own and a line here.
pub const KINDS: &[InstitutionKind] = &[standard::KIND];

/// The kind of that name, as `routes.toml` has it.
pub fn kind(name: &str) -> Option<&'static InstitutionKind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// One institution's dialect.
///
/// A call is a small state machine: [`Institution::begin`] and [`Institution::next`] say what to do
/// next, and `flow/call_institution` does it. What cannot be read proves nothing, so reading cannot
/// fail: it ends in `Finding::Ambiguous` (V1, C3).
pub trait Institution: Send + Sync {
    /// Which institution.
    fn id(&self) -> &InstitutionId;

    /// What its dialect can do.
    fn facts(&self) -> &Facts;

    /// If this party's key is a slow one: what it takes to sign on another thread. Most are quick.
    fn slow(&self, _: SigningParty<'_>) -> Option<SlowSigner> {
        None
    }

    /// Of an adapter whose institution gives statements of a day over a call: how. Others send
    /// them as files.
    fn statements(&self) -> Option<&dyn Statements> {
        None
    }

    /// Where its requests go: `https://host[:port]` of that host, if it has it. A request to any other
    /// place is not sent.
    fn origin(&self, host: Host) -> Option<&str>;

    /// The first step of a call.
    ///
    /// The stamp has the moment of this sending. Equal creates have equal bodies all the same (A3);
    /// only their signatures differ (Q5).
    fn begin(&self, call: &Call<'_>, stamp: &Stamp) -> Step<Evidence>;

    /// What follows from the reply to the last step, with the state that step was sent with; the stamp
    /// is fresh.
    fn next(
        &self,
        call: &Call<'_>,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Evidence>;

    /// Proves that the institution sent this callback, then says what it is about, and what it proves.
    ///
    /// # Errors
    /// [`Unverified`]. An unlisted status word is not an error but `Finding::Ambiguous` (C3). Neither
    /// ever quotes the content.
    fn read_callback<'c>(
        &'c self,
        callback: &'c Request<Bytes>,
        now: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified>;

    /// The answer to a callback in the institution's own form (C4), with the number that the log knows
    /// it by where that form has room for one.
    fn acknowledge(
        &self,
        callback: &Request<Bytes>,
        heard: Acknowledgement,
        request_id: &str,
        stamp: &Stamp,
    ) -> Response<Bytes>;
}

/// As whom something is signed.
#[derive(Debug, Clone, Copy)]
pub enum SigningParty<'a> {
    /// A call as this account.
    Account(&'a AccountId),
    /// The answer to this callback, as the account that it is for.
    Answer(&'a Request<Bytes>),
}

/// An adapter whose signing takes as long as everything else of a request together.
pub struct SlowSigner {
    /// Permits for its key: take one before a request or an acknowledgement is signed.
    pub permits: Arc<Semaphore>,
    /// The same adapter, for a thread of its own.
    pub adapter: Arc<dyn Institution>,
}

/// A callback that is evidence of nothing. Holds a stable word for metrics; never quotes the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// Not proven to be the institution's.
    #[error("the callback is not proven: {0}")]
    Unverified(&'static str),
    /// Proven, and no message that can be read.
    #[error("the callback cannot be read: {0}")]
    Unreadable(&'static str),
    /// Proven, and about nothing that could be ours.
    #[error("the callback names nothing of ours: {0}")]
    NamesNothing(&'static str),
}

impl Unverified {
    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unverified(word) | Self::Unreadable(word) | Self::NamesNothing(word) => word,
        }
    }

    /// How the callback is acknowledged.
    pub fn heard(self) -> Acknowledgement {
        match self {
            Self::Unverified(_) => Acknowledgement::Unverified,
            Self::Unreadable(_) => Acknowledgement::Unreadable,
            Self::NamesNothing(_) => Acknowledgement::UnknownReference,
        }
    }
}

/// A proven callback. An amount without a currency is in the currency of the payment or refund that it is
/// about, which only the store knows (M6).
pub struct ProvenCallback<'c> {
    /// What it is about.
    pub about: EvidenceSubject,
    read: Box<dyn FnOnce(Currency) -> Evidence + Send + 'c>,
}

impl<'c> ProvenCallback<'c> {
    /// Builds one from what it is about and the function that reads the rest.
    pub fn new(
        about: EvidenceSubject,
        read: impl FnOnce(Currency) -> Evidence + Send + 'c,
    ) -> Self {
        let read = Box::new(read);
        Self { about, read }
    }

    /// What it proves; amounts without a currency are in `absent`.
    pub fn evidence(self, absent: Currency) -> Evidence {
        (self.read)(absent)
    }
}

/// How a callback is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// Stored durably, or known already (C4, C5).
    Recorded,
    /// Not stored, or not understood yet: the institution should send it again.
    TryAgain,
    /// Proven, but its reference is unknown here. A restored store may know it later.
    UnknownReference,
    /// Proven, about something known, and of another sum or account than that is: no repeat makes it
    /// true (V3).
    Quarantined,
    /// Proven, but the message cannot be read.
    Unreadable,
    /// Not proven. Answered unsigned, so that an unauthenticated caller cannot make us sign.
    Unverified,
}
