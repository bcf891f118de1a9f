//! What happened to an order on the way, beside what the ledger says: for whoever must explain it.
//! Diagnosis only: nothing is decided by it, nothing waits for it, and it may be lost.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::Timestamp;

/// The longest body that a note keeps; a longer one is named by its size. Unit: bytes.
pub const BODY_BYTES_MAX: usize = 4 * 1024;

/// The fields that a note keeps: what signatures here cover, and what says so, but for two. The digest of
/// a body and a signature over it tell a right guess of what is masked in that body: whoever sees seven
/// digits of a number beside one has the other four after ten thousand tries (D1).
pub const FIELDS: [HeaderName; 2] = [CONTENT_TYPE, HeaderName::from_static("signature-input")];

/// The longest value of a field that a note keeps. Unit: bytes.
const VALUE_BYTES_MAX: usize = 2 * 1024;

/// Some fields of a message, copied: a share of them would keep all that was read with them.
pub struct Head(Vec<(HeaderName, HeaderValue)>);

impl Head {
    fn of(headers: &HeaderMap) -> Self {
        let some = FIELDS.into_iter().filter_map(|name| {
            let value = headers.get(&name)?;
            let fits = value.len() <= VALUE_BYTES_MAX;
            let copy = fits.then(|| HeaderValue::from_bytes(value.as_bytes()).ok())??;
            Some((name, copy))
        });
        Self(some.collect())
    }

    /// Each with its value.
    pub fn fields(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }
}

/// Takes notes.
pub trait Trail: Send + Sync {
    /// Whether notes are wanted; if not, none need be made.
    fn is_kept(&self) -> bool;

    /// Takes a note, or drops it where there is no room. Never waits.
    fn note(&self, note: Note);

    /// For how many days notes are kept from now on; 0 keeps none.
    fn keep_for(&self, days: u32);
}

/// Takes none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Untold;

impl Trail for Untold {
    fn is_kept(&self) -> bool {
        false
    }

    fn note(&self, _: Note) {}

    fn keep_for(&self, _: u32) {}
}

/// One exchange of messages about one order, as it came. Holds personal data.
pub struct Note {
    /// Which order, under the name that was used.
    pub about: OrderKey,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// With whom: `merchant M1001`, `institution bluebank`.
    pub with: String,
    /// What it was, as a stable word: an interface, a call, an event.
    pub what: String,
    /// What was made of it: a result, evidence with its class, a verdict.
    pub verdict: String,
    /// Whether its sender was not proven: it may be anybody's.
    pub is_stranger: bool,
    /// Whether it is the callback by which an attempt was paid: never given up for lack of room.
    pub is_paying: bool,
    /// The request.
    pub asked: Asked,
    /// The answer, if one came.
    pub answered: Option<Answered>,
}

/// A request, as it was on the wire.
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its target, absolute: what a signature covers. Of a merchant's own address the origin alone.
    pub target: String,
    /// Of its fields those that signatures cover.
    pub head: Head,
    /// Its body.
    pub body: Body,
}

/// A body, or how long one was that is too long to be kept.
pub enum Body {
    /// Whole.
    Kept(Bytes),
    /// So many bytes.
    TooLong(usize),
}

impl Body {
    /// A copy: a share of it would keep the whole of what was read with it.
    fn of(bytes: &Bytes) -> Self {
        if bytes.len() > BODY_BYTES_MAX {
            Self::TooLong(bytes.len())
        } else {
            Self::Kept(Bytes::copy_from_slice(bytes))
        }
    }
}

impl Asked {
    /// Of a request to this target.
    pub fn of(request: &Request<Bytes>, target: String) -> Self {
        Self {
            method: request.method().clone(),
            target,
            head: Head::of(request.headers()),
            body: Body::of(request.body()),
        }
    }
}

/// An answer, as it was on the wire.
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Of its fields those that signatures cover.
    pub head: Head,
    /// Its body.
    pub body: Body,
}

impl Answered {
    /// Of an answer.
    pub fn of(response: &Response<Bytes>) -> Self {
        Self {
            status: response.status(),
            head: Head::of(response.headers()),
            body: Body::of(response.body()),
        }
    }
}
