//! Adapters: each translates between our calls and one institution's dialect, and does nothing
//! else. They open no socket, read no clock, roll no dice.

mod standard;

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Semaphore;

use crate::domain::amount::Currency;
use crate::domain::attempt::{Attempt, Stamp};
use crate::domain::evidence::{About, Evidence, Handover, Means};
use crate::domain::identifiers::{AccountId, CalendarDay, InstitutionId, Timestamp};
use crate::domain::institutions::Facts;
use crate::domain::order::Terms;
use crate::domain::refund::Refund;
use crate::domain::statement::{Line, Totals, Unusable};
use crate::signature::{KeyRing, Question, SigningKey};

/// Every kind of institution there is; a further one is a file of its own and a line here.
#[rustfmt::skip]
pub const KINDS: &[Kind] = &[
    Kind { name: "standard", facts: standard::FACTS, build: standard::build },
];

/// The kind of that name, as `routes.toml` has it.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// A dialect, and how an institution that speaks it is built.
#[derive(Debug)]
pub struct Kind {
    /// Its name in `routes.toml`.
    pub name: &'static str,
    /// What the dialect can do, where an operator does not know better.
    pub facts: Facts,
    /// Makes the adapter of one configured institution.
    pub build: Build,
}

/// Checks the settings and makes an adapter of them.
pub type Build = fn(Settings) -> Result<Arc<dyn Institution>, SettingsFault>;

/// One institution as configured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name in calls, paths and tables.
    pub id: InstitutionId,
    /// Where it is called: `https://host[:port]`, in lower case, without the default port.
    pub origin: String,
    /// Where it calls us: our public origin, in the same shape. Callbacks come to
    /// `{callback_origin}/v1/callbacks/{id}`.
    pub callback_origin: String,
    /// What we are called there; the merchant's own name where absent.
    pub merchant_name: Option<String>,
    /// Signs our calls and acknowledgements.
    pub signing: Arc<SigningKey>,
    /// When it may: outside it no call is made and nothing is signed (R-6.3.1-1c).
    /// Unit: Unix seconds.
    pub signs_within: RangeInclusive<i64>,
    /// The institution's keys; only those whose owner is [`Settings::id`] count (C1).
    pub keys: KeyRing,
    /// What its dialect can do; at first [`Kind::facts`].
    pub facts: Facts,
}

/// For a key whose end nobody wrote down.
pub const ALWAYS: RangeInclusive<i64> = i64::MIN..=i64::MAX;

/// Why no adapter can be made of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsFault {
    /// The named setting is not an origin.
    #[error("{0}: expected https://host[:port], in lower case, without path or default port")]
    NotAnOrigin(&'static str),
}

/// One institution's dialect.
///
/// What cannot be read proves nothing, so reading cannot fail: it ends in `Finding::Ambiguous`
/// (V1, C3).
pub trait Institution: Send + Sync {
    /// Which institution.
    fn id(&self) -> &InstitutionId;

    /// What its dialect can do.
    fn facts(&self) -> &Facts;

    /// Of an adapter that signs with a slow key: what it takes to sign elsewhere. Most are quick.
    fn slow(&self) -> Option<Slow> {
        None
    }

    /// Of an adapter whose institution gives statements of a day over a call: how. Others send
    /// them as files.
    fn statements(&self) -> Option<&dyn Statements> {
        None
    }

    /// The request that makes this call, or the hand-over where no call is needed.
    ///
    /// The stamp has the moment of this sending. Equal creates have equal bodies all the same
    /// (A3); only their signatures differ (Q5).
    fn request(&self, call: &Call<'_>, stamp: &Stamp) -> Outgoing;

    /// What the reply to this call proves.
    fn read(
        &self,
        call: &Call<'_>,
        asked: &Asked,
        reply: &Response<Bytes>,
        now: Timestamp,
    ) -> Evidence;

    /// Proves that the institution sent this callback, then says what it is about, and what it proves.
    ///
    /// # Errors
    /// [`Unbelieved`]. An unlisted status word is not an error but `Finding::Ambiguous` (C3). Neither
    /// ever quotes the content.
    fn read_callback<'c>(
        &'c self,
        callback: &'c Request<Bytes>,
        now: Timestamp,
    ) -> Result<Told<'c>, Unbelieved>;

    /// The answer to a callback in the institution's own form (C4), with the number that the log knows
    /// it by where that form has room for one.
    fn acknowledgement(
        &self,
        callback: &Request<Bytes>,
        heard: Heard,
        known_by: (&str, Timestamp),
    ) -> Response<Bytes>;
}

/// How an institution is asked for its statement of a day, page by page, so that no answer is
/// longer than what is read of one.
pub trait Statements: Send + Sync {
    /// The request for a page; nothing if it could not be made or signed.
    fn ask(&self, wanted: &Wanted, stamp: &Stamp) -> Option<(Request<Bytes>, Asked)>;

    /// The page that a reply brings.
    ///
    /// # Errors
    /// It is not proven, not this page, or no page.
    fn read(
        &self,
        wanted: &Wanted,
        asked: &Asked,
        reply: &Response<Bytes>,
        now: Timestamp,
    ) -> Result<Page, Unusable>;
}

/// Which page of which statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Our account there.
    pub account: AccountId,
    /// The day.
    pub date: CalendarDay,
    /// The page begins with the line after this one; 0 before the first.
    pub after: u64,
    /// Lines in it at most.
    pub limit: u32,
}

/// A page of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its lines.
    pub lines: Vec<Line>,
    /// Whether another one follows.
    pub more: bool,
    /// What the whole statement is said to add up to; the same on each of its pages.
    pub totals: Totals,
}

/// An adapter whose signing takes as long as everything else of a request together.
pub struct Slow {
    /// Its key's turns: whoever makes a request or an acknowledgement takes one first.
    pub turns: Arc<Semaphore>,
    /// The same adapter, for a thread of its own.
    pub adapter: Arc<dyn Institution>,
}

/// What we ask an institution. Borrows from a committed order: nothing else can be sent (A1).
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// Take this payment and say how the payer pays.
    Create(&'a Attempt, &'a Terms),
    /// Where does it stand?
    Query(&'a Attempt, &'a Terms),
    /// End it.
    Close(&'a Attempt, &'a Terms),
    /// Send this money back the way it came.
    Refund(&'a Refund, &'a Attempt, &'a Terms),
    /// Where does the refund stand?
    RefundQuery(&'a Refund, &'a Attempt, &'a Terms),
}

impl Call<'_> {
    /// The attempt it is about, or along which the money goes back (R5).
    pub fn attempt(&self) -> &Attempt {
        match self {
            Self::Create(attempt, _)
            | Self::Query(attempt, _)
            | Self::Close(attempt, _)
            | Self::Refund(_, attempt, _)
            | Self::RefundQuery(_, attempt, _) => attempt,
        }
    }

    /// The refund it is about, if it is about one.
    pub fn refund(&self) -> Option<&Refund> {
        match self {
            Self::Refund(refund, ..) | Self::RefundQuery(refund, ..) => Some(refund),
            Self::Create(..) | Self::Query(..) | Self::Close(..) => None,
        }
    }

    /// What the institution knows it by (K2).
    pub fn about(&self) -> About {
        match self.refund() {
            Some(refund) => About::Refund(refund.no.clone()),
            None => About::Attempt(self.attempt().id.clone()),
        }
    }

    /// Whether it may move money, so that it must be known when it has left; the others only ask.
    pub fn is_send(&self) -> bool {
        match self {
            Self::Create(..) | Self::Refund(..) => true,
            Self::Query(..) | Self::Close(..) | Self::RefundQuery(..) => false,
        }
    }

    /// How we come to hear its reply.
    pub fn means(&self) -> Means {
        match self {
            Self::Create(..) => Means::Create,
            Self::Query(..) | Self::RefundQuery(..) => Means::Query,
            Self::Close(..) => Means::Close,
            Self::Refund(..) => Means::Refund,
        }
    }

    /// The terms of its order.
    pub fn terms(&self) -> &Terms {
        match self {
            Self::Create(_, terms)
            | Self::Query(_, terms)
            | Self::Close(_, terms)
            | Self::Refund(_, _, terms)
            | Self::RefundQuery(_, _, terms) => terms,
        }
    }

    /// A stable word for metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Create(..) => "create",
            Self::Query(..) => "query",
            Self::Close(..) => "close",
            Self::Refund(..) => "refund",
            Self::RefundQuery(..) => "refund_query",
        }
    }
}

/// What a call becomes.
#[derive(Debug)]
pub enum Outgoing {
    /// A request to send, and what reading its reply will need.
    Send(Box<Request<Bytes>>, Asked),
    /// No call is needed: the page's address can be made here.
    Local(Handover),
    /// It could not be made or signed: nothing leaves (E1).
    Unmade,
}

/// What of a sent request its reply is bound to; opaque to everybody but the adapter.
#[derive(Debug, Clone, Default)]
pub struct Asked(pub Option<Question>);

/// A callback that is evidence of nothing. Holds a stable word for metrics; never quotes the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unbelieved {
    /// Not proven to be the institution's.
    #[error("the callback is not proven: {0}")]
    Forged(&'static str),
    /// Proven, and no message that can be read.
    #[error("the callback cannot be read: {0}")]
    Unreadable(&'static str),
    /// Proven, and about nothing that could be ours.
    #[error("the callback names nothing of ours: {0}")]
    NamesNothing(&'static str),
}

impl Unbelieved {
    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Forged(word) | Self::Unreadable(word) | Self::NamesNothing(word) => word,
        }
    }

    /// What the institution is told.
    pub fn heard(self) -> Heard {
        match self {
            Self::Forged(_) => Heard::Forged,
            Self::Unreadable(_) => Heard::Unreadable,
            Self::NamesNothing(_) => Heard::UnknownReference,
        }
    }
}

/// A proven callback. What it names without a currency is in that of what it is about, which only the
/// books know (M6).
pub struct Told<'c> {
    /// What it is about.
    pub about: About,
    read: Box<dyn FnOnce(Currency) -> Evidence + Send + 'c>,
}

impl<'c> Told<'c> {
    /// About this, with its reading.
    pub fn new(about: About, read: impl FnOnce(Currency) -> Evidence + Send + 'c) -> Self {
        let read = Box::new(read);
        Self { about, read }
    }

    /// What it proves, where sums without a currency are in this one.
    pub fn evidence(self, absent: Currency) -> Evidence {
        (self.read)(absent)
    }
}

/// What we tell an institution about its callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Durable, or known already (C4, C5).
    Recorded,
    /// Not durable, or not understood yet; sent again it may be.
    TryAgain,
    /// Proven, and about nothing that is known here. A store that was restored may know it tomorrow.
    UnknownReference,
    /// Proven, about something known, and of another sum or account than that is: no repeat makes it
    /// true (V3).
    Quarantined,
    /// Proven, and no message that can be read.
    Unreadable,
    /// Not proven. Answered without a signature: a stranger must not buy one with each message.
    Forged,
}
