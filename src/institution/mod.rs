//! Adapters: each translates between our calls and one institution's dialect, and does nothing
//! else. They open no socket, read no clock, roll no dice.

pub mod standard;

use bytes::Bytes;
use http::{Request, Response};

use crate::domain::attempt::{Attempt, Stamp};
use crate::domain::evidence::{Evidence, Handover};
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::Facts;
use crate::domain::order::Terms;

/// One institution's dialect.
///
/// What cannot be read proves nothing, so reading cannot fail: it ends in `Finding::Ambiguous`
/// (V1, C3).
pub trait Institution: Send + Sync {
    /// Which institution.
    fn id(&self) -> &InstitutionId;

    /// What its dialect can do.
    fn facts(&self) -> &Facts;

    /// The request that makes this call, or the hand-over where no call is needed.
    fn request(&self, call: &Call<'_>, stamp: &Stamp) -> Outgoing;

    /// What the reply to this call proves.
    fn read(
        &self,
        call: &Call<'_>,
        asked: &Asked,
        reply: &Response<Bytes>,
        now: Timestamp,
    ) -> Evidence;

    /// Proves that the institution sent this callback, then says what it proves.
    ///
    /// # Errors
    /// [`Forged`], before any field is believed. An unlisted status word is not an error but
    /// `Finding::Ambiguous` (C3). Neither ever quotes the content.
    fn read_callback(&self, callback: &Request<Bytes>, now: Timestamp) -> Result<Evidence, Forged>;

    /// The answer to a callback in the institution's own form (C4).
    fn acknowledgement(
        &self,
        callback: &Request<Bytes>,
        heard: Heard,
        now: Timestamp,
    ) -> Response<Bytes>;
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
}

impl Call<'_> {
    /// The attempt it is about.
    pub fn attempt(&self) -> &Attempt {
        match self {
            Self::Create(attempt, _) | Self::Query(attempt, _) | Self::Close(attempt, _) => attempt,
        }
    }

    /// The terms of its order.
    pub fn terms(&self) -> &Terms {
        match self {
            Self::Create(_, terms) | Self::Query(_, terms) | Self::Close(_, terms) => terms,
        }
    }

    /// A stable word for metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Create(..) => "create",
            Self::Query(..) => "query",
            Self::Close(..) => "close",
        }
    }
}

/// What a call becomes.
#[derive(Debug)]
pub enum Outgoing {
    /// A request to send, and what reading its reply will need.
    Send(Request<Bytes>, Asked),
    /// No call is needed: the page's address can be made here.
    Local(Handover),
}

/// What of a sent request its reply is bound to; opaque to everybody but the adapter.
#[derive(Debug, Clone, Default)]
pub struct Asked(pub Option<crate::signature::Question>);

/// A callback that was not proven to be the institution's. Never quotes its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not proven to come from the institution: {0}")]
pub struct Forged(pub &'static str);

/// What we tell an institution about its callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Durable, or known already (C4, C5).
    Recorded,
    /// Not durable yet; send it again.
    TryAgain,
    /// Not believed.
    Refused,
}
