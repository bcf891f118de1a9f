//! The exchange log as flows see it: both sides' messages of an exchange about an order, for
//! `paymux explain`. Diagnosis only: nothing is decided by it, nothing waits for it, and an entry
//! may be dropped.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::Timestamp;
use crate::domain::institutions::MessageFormat;

/// The longest body stored in an entry; of a longer one only the size is stored. Unit: bytes.
pub const BODY_BYTES_MAX: usize = 4 * 1024;

/// The header fields stored in an entry: those that signatures cover and `Signature-Input`, without
/// the body's digest and signature. These would confirm a guess of what is masked in that body:
/// with seven digits of a number visible, the other four take ten thousand tries (D1).
pub const FIELDS: [HeaderName; 2] = [CONTENT_TYPE, HeaderName::from_static("signature-input")];

/// The longest header value stored in an entry. Unit: bytes.
const VALUE_BYTES_MAX: usize = 2 * 1024;

/// The most an entry takes besides bodies and fields. Unit: bytes.
const ENTRY_BYTES: usize = 512;

/// Some header fields of a message, shared until the exchange has ended.
pub struct HeaderFields(Vec<(HeaderName, HeaderValue)>);

impl HeaderFields {
    fn of(headers: &HeaderMap) -> Self {
        let some = FIELDS.into_iter().filter_map(|name| {
            let value = headers.get(&name)?;
            let fits = value.len() <= VALUE_BYTES_MAX;
            // A copy: a share would keep the whole head that it came with.
            let copy = || HeaderValue::from_bytes(value.as_bytes()).ok();
            Some((name, fits.then(copy).flatten()?))
        });
        Self(some.collect())
    }

    /// Each field with its value.
    pub fn fields(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, value)| value.len()).sum()
    }
}

/// Records entries.
pub trait Recorder: Send + Sync {
    /// Whether entries are recorded; if not, none need be built.
    fn is_on(&self) -> bool;

    /// Queues an entry; when the queue is full, the entry is dropped and counted. Never waits.
    fn append(&self, entry: ExchangeEntry);

    /// Sets for how many days, and up to how many bytes on disk, entries are stored; 0 days store
    /// none.
    fn keep_within(&self, days: u32, bytes_max: u64);
}

/// Records nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRecorder;

impl Recorder for NoRecorder {
    fn is_on(&self) -> bool {
        false
    }

    fn append(&self, _: ExchangeEntry) {}

    fn keep_within(&self, _: u32, _: u64) {}
}

/// One exchange of messages about one order, as it was on the wire. Contains personal data.
pub struct ExchangeEntry {
    /// The order, under the number that was used.
    pub about: OrderKey,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// The other party: `merchant M1001`, `institution bluebank`.
    pub with: String,
    /// What kind of exchange, a stable word: an interface, a call, an event.
    pub what: String,
    /// Its outcome: a result, evidence with its class, an inbox status.
    pub result: String,
    /// Whether its sender is not authenticated: anybody may have sent it.
    pub is_unproven: bool,
    /// Whether it is the callback that paid an attempt: it is never displaced by other entries.
    pub is_paying: bool,
    /// How its messages are read and which of their values may be shown.
    pub format: MessageFormat,
    /// The request.
    pub request: RequestCopy,
    /// The reply, if one came.
    pub reply: Option<ReplyCopy>,
}

impl ExchangeEntry {
    /// Its kind, without the number of tries.
    pub fn kind(&self) -> &str {
        self.what.split(',').next().unwrap_or_default()
    }

    /// An upper estimate of its size. Unit: bytes.
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
    /// Its absolute target, as signatures cover it. Of a merchant's own address only the origin.
    pub target: String,
    /// The header fields that signatures cover.
    pub head: HeaderFields,
    /// Its body.
    pub body: Body,
}

/// A body, or only its length if it is too long to store.
pub enum Body {
    /// The whole body.
    Kept(Bytes),
    /// Its length in bytes.
    TooLong(usize),
}

impl Body {
    fn of(bytes: &Bytes) -> Self {
        if bytes.len() > BODY_BYTES_MAX {
            Self::TooLong(bytes.len())
        } else {
            Self::Kept(Bytes::copy_from_slice(bytes))
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
    /// Copies a request to this target.
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
    /// The header fields that signatures cover.
    pub head: HeaderFields,
    /// Its body.
    pub body: Body,
}

impl ReplyCopy {
    /// Copies a reply.
    pub fn of(response: &Response<Bytes>) -> Self {
        Self {
            status: response.status(),
            head: HeaderFields::of(response.headers()),
            body: Body::of(response.body()),
        }
    }
}
