//! The exchange log as flows see it: what both sides of an exchange about an order said, for `paymux explain`.
//! Diagnosis only: nothing is decided by it, nothing waits for it, and an entry may be dropped.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::Timestamp;

/// The longest body that an entry holds; a longer one is named by its size. Unit: bytes.
pub const BODY_BYTES_MAX: usize = 4 * 1024;

/// The fields that an entry holds: what signatures here cover, and what says so, but for two. The digest of
/// a body and a signature over it tell a right guess of what is masked in that body: whoever sees seven
/// digits of a number beside one has the other four after ten thousand tries (D1).
pub const FIELDS: [HeaderName; 2] = [CONTENT_TYPE, HeaderName::from_static("signature-input")];

/// The longest value of a field that an entry holds. Unit: bytes.
const VALUE_BYTES_MAX: usize = 2 * 1024;

/// What an entry takes at most beside bodies and fields. Unit: bytes.
const ENTRY_BYTES: usize = 512;

/// Some fields of a message: shares of it, held until the exchange has ended.
pub struct HeaderFields(Vec<(HeaderName, HeaderValue)>);

impl HeaderFields {
    fn of(headers: &HeaderMap) -> Self {
        let some = FIELDS.into_iter().filter_map(|name| {
            let value = headers.get(&name)?;
            let fits = value.len() <= VALUE_BYTES_MAX;
            fits.then(|| (name, value.clone()))
        });
        Self(some.collect())
    }

    /// Each with its value.
    pub fn fields(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, value)| value.len()).sum()
    }
}

/// Takes entries.
pub trait Recorder: Send + Sync {
    /// Whether entries are wanted; if not, none need be made.
    fn is_on(&self) -> bool;

    /// Takes an entry, or drops and counts it where there is no room. Never waits.
    fn append(&self, entry: ExchangeEntry);

    /// For how many days, and within how many bytes on disk, entries are kept from now on; 0 days keep none.
    fn keep_within(&self, days: u32, bytes_max: u64);
}

/// Takes none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRecorder;

impl Recorder for NoRecorder {
    fn is_on(&self) -> bool {
        false
    }

    fn append(&self, _: ExchangeEntry) {}

    fn keep_within(&self, _: u32, _: u64) {}
}

/// One exchange of messages about one order, as it came. Holds personal data.
pub struct ExchangeEntry {
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
    pub result: String,
    /// Whether its sender was not proven: it may be anybody's.
    pub is_unproven: bool,
    /// Whether it is the callback by which an attempt was paid: no other entry takes its room.
    pub is_paying: bool,
    /// The request.
    pub request: RequestCopy,
    /// The reply, if one came.
    pub reply: Option<ReplyCopy>,
}

impl ExchangeEntry {
    /// Its kind: what it was, without how often it was tried.
    pub fn kind(&self) -> &str {
        self.what.split(',').next().unwrap_or_default()
    }

    /// What it takes at most, about. Unit: bytes.
    pub fn bytes(&self) -> usize {
        let request = self.request.head.bytes();
        let request = request.saturating_add(self.request.body.bytes());
        let reply = self.reply.as_ref();
        let reply = reply.map_or(0, |it| it.head.bytes().saturating_add(it.body.bytes()));
        request.saturating_add(reply).saturating_add(ENTRY_BYTES)
    }
}

/// A request, as it was on the wire.
pub struct RequestCopy {
    /// Its method.
    pub method: Method,
    /// Its target, absolute: what a signature covers. Of a merchant's own address the origin alone.
    pub target: String,
    /// Of its fields those that signatures cover.
    pub head: HeaderFields,
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
    fn of(bytes: &Bytes) -> Self {
        if bytes.len() > BODY_BYTES_MAX {
            Self::TooLong(bytes.len())
        } else {
            Self::Kept(bytes.clone())
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Kept(bytes) => bytes.len(),
            Self::TooLong(_) => 0,
        }
    }
}

impl RequestCopy {
    /// Of a request to this target.
    pub fn of(request: &Request<Bytes>, target: String) -> Self {
        Self {
            method: request.method().clone(),
            target,
            head: HeaderFields::of(request.headers()),
            body: Body::of(request.body()),
        }
    }
}

/// A reply, as it was on the wire.
pub struct ReplyCopy {
    /// Its status.
    pub status: StatusCode,
    /// Of its fields those that signatures cover.
    pub head: HeaderFields,
    /// Its body.
    pub body: Body,
}

impl ReplyCopy {
    /// Of a reply.
    pub fn of(response: &Response<Bytes>) -> Self {
        Self {
            status: response.status(),
            head: HeaderFields::of(response.headers()),
            body: Body::of(response.body()),
        }
    }
}
