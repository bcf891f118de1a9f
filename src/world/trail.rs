//! What happened to an order on the way, beside what the ledger says: for whoever must explain it.
//! Diagnosis only: nothing is decided by it, nothing waits for it, and it may be lost.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};

use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::Timestamp;

/// The longest body that a note keeps; a longer one is named by its size. Unit: bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

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
    /// The request.
    pub asked: Asked,
    /// The answer, if one came.
    pub answered: Option<Answered>,
}

/// A request, as it was on the wire.
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its target, absolute: what a signature covers.
    pub target: String,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Asked {
    /// Of a request to this target.
    pub fn of(request: &Request<Bytes>, target: String) -> Self {
        Self {
            method: request.method().clone(),
            target,
            headers: request.headers().clone(),
            body: request.body().clone(),
        }
    }
}

/// An answer, as it was on the wire.
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answered {
    /// Of an answer.
    pub fn of(response: &Response<Bytes>) -> Self {
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.body().clone(),
        }
    }
}
