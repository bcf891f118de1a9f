//! Adapters: each translates between our calls and one institution's protocol (its dialect), and
//! does nothing else. They use no network, no clock and no randomness.

mod alipay;
mod call;
mod kind;
mod settings;
mod standard;
mod statement;
mod step;
mod unionpay;
mod wechatpay;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};

use crate::domain::amount::Currency;
use crate::domain::attempt::Stamp;
use crate::domain::evidence::{Evidence, EvidenceSubject};
use crate::domain::identifiers::{AccountId, InstitutionId, Timestamp};
use crate::domain::institutions::Facts;

pub use call::{Call, Operation, OwnedCall};
pub use kind::{
    Build, ConfiguredAccount, ConfiguredInstitution, InstitutionKind, SettingsFault, URL,
};
pub use settings::{
    ALWAYS, OwnKey, OwnKeySettings, SecretText, Setting, SettingForm, SettingValue, SettingValues,
};
pub use statement::{StatementPage, StatementQuery, Statements};
pub use step::{CallState, Effect, Host, Outgoing, STEPS_MAX, Step, Unmade};

/// All kinds of institutions; a new one is a file of its own and a line here.
pub const KINDS: &[InstitutionKind] = &[
    standard::KIND,
    wechatpay::KIND,
    alipay::KIND,
    unionpay::KIND,
];

/// The kind with this name in `routes.toml`.
pub fn kind(name: &str) -> Option<&'static InstitutionKind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The adapter of one institution.
///
/// A call is a small state machine: [`Institution::begin`] and [`Institution::next`] return the
/// next step, and `flow/call_institution` carries it out. An unreadable reply proves nothing, so
/// reading cannot fail: it returns `Finding::Ambiguous` (V1, C3).
pub trait Institution: Send + Sync {
    /// The institution's id.
    fn id(&self) -> &InstitutionId;

    /// Its kind.
    fn kind(&self) -> &'static InstitutionKind;

    /// Its capabilities.
    fn facts(&self) -> &Facts;

    /// The same adapter for use on another thread, if this party's key is slow: it signs in the signing
    /// pool. Most keys are fast.
    fn slow(&self, _: SigningParty<'_>) -> Option<Arc<dyn Institution>> {
        None
    }

    /// The statement calls, if the institution offers statements of a day over a call. Others send
    /// files.
    fn statements(&self) -> Option<&dyn Statements> {
        None
    }

    /// The origin `https://host[:port]` of this host, if there is one. Requests to any other origin
    /// are not sent.
    fn origin(&self, host: Host) -> Option<&str>;

    /// The first step of a call.
    ///
    /// The stamp has the time of this send. Equal creates still have equal bodies (A3); only their
    /// signatures differ (Q5).
    fn begin(&self, call: &Call<'_>, stamp: &Stamp) -> Step<Evidence>;

    /// The next step after the reply to the last one, with the state of that step; the stamp is
    /// fresh.
    fn next(
        &self,
        call: &Call<'_>,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Evidence>;

    /// Verifies that the institution sent this callback, and returns its subject and evidence.
    ///
    /// # Errors
    /// [`Unverified`]. An unlisted status word is not an error but `Finding::Ambiguous` (C3).
    /// Neither ever quotes the content.
    fn read_callback<'c>(
        &'c self,
        callback: Callback<'c>,
        now: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified>;

    /// The reply to a callback in the institution's own format (C4), with the request id of the log
    /// if the format has a field for it.
    fn acknowledge(
        &self,
        callback: Callback<'_>,
        acknowledged: Acknowledgement,
        request_id: &str,
        stamp: &Stamp,
    ) -> Response<Bytes>;
}

/// A callback as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Callback<'a> {
    /// The message, untouched.
    pub message: &'a Request<Bytes>,
    /// The account of its path, where the kind has one address for each account: the message can be
    /// verified and read with its keys only, and is evidence of that account only (C1).
    pub account: Option<&'a AccountId>,
}

impl<'a> Callback<'a> {
    /// One that came to the address of its institution.
    pub fn of_institution(message: &'a Request<Bytes>) -> Self {
        Self {
            message,
            account: None,
        }
    }
}

/// The party that signs.
#[derive(Debug, Clone, Copy)]
pub enum SigningParty<'a> {
    /// This account, for a call.
    Account(&'a AccountId),
    /// The account that this callback is for, for the reply to it.
    Answer(Callback<'a>),
}

/// A callback that is not evidence. Holds a stable code for metrics; never quotes the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// Not authenticated as the institution's.
    #[error("the callback is not authenticated: {0}")]
    Unverified(&'static str),
    /// Authenticated, but unreadable.
    #[error("the callback cannot be read: {0}")]
    Unreadable(&'static str),
    /// Authenticated, but without a reference of ours.
    #[error("the callback has no reference of ours: {0}")]
    NamesNothing(&'static str),
}

impl Unverified {
    /// The stable code.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unverified(word) | Self::Unreadable(word) | Self::NamesNothing(word) => word,
        }
    }

    /// How the callback is acknowledged.
    pub fn received(self) -> Acknowledgement {
        match self {
            Self::Unverified(_) => Acknowledgement::Unverified,
            Self::Unreadable(_) => Acknowledgement::Unreadable,
            Self::NamesNothing(_) => Acknowledgement::UnknownReference,
        }
    }
}

/// An authenticated callback. An amount without a currency is in the currency of its payment or
/// refund, which only the store knows (M6).
pub struct ProvenCallback<'c> {
    /// What it is about.
    pub about: EvidenceSubject,
    read: Box<dyn FnOnce(Currency) -> Evidence + Send + 'c>,
}

impl<'c> ProvenCallback<'c> {
    /// Builds one from its subject and the function that reads the rest.
    pub fn new(
        about: EvidenceSubject,
        read: impl FnOnce(Currency) -> Evidence + Send + 'c,
    ) -> Self {
        let read = Box::new(read);
        Self { about, read }
    }

    /// Its evidence; amounts without a currency are in `absent`.
    pub fn evidence(self, absent: Currency) -> Evidence {
        (self.read)(absent)
    }
}

/// How a callback is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// Stored durably, or already known (C4, C5).
    Recorded,
    /// Not stored, or not understood yet: the institution should send it again.
    TryAgain,
    /// Authenticated, but its reference is unknown. A restored store may know it later.
    UnknownReference,
    /// Authenticated, but it contradicts the payment or refund it names, for example by its amount
    /// or account: no repeat makes it true (V3).
    Quarantined,
    /// Authenticated, but unreadable.
    Unreadable,
    /// Not authenticated. The reply is unsigned, so that an unauthenticated caller cannot make us
    /// sign.
    Unverified,
}
