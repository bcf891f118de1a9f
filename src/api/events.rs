//! A merchant's events by sequence number: what it missed while it was down (`docs/openapi.yaml`).

use std::ops::RangeInclusive;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::reading::AuthenticatedFields;
use crate::api::response::json;
use crate::domain::refusal::Refusal;
use crate::store::outbox::{EventPageLimit, NumberedEvent};

/// Every field of the request.
pub(super) const FIELDS: [&str; 3] = ["merchantId", "afterSequence", "limit"];

/// Events in one response where the request has no limit.
const COUNT_DEFAULT: u32 = 100;

/// Events in one response at most.
const COUNT_MAX: u32 = 500;

/// Bytes of event bodies in one response at most; past it fewer events are returned, and one at least. A
/// body is at most some 4 KiB, so the response stays below 300 KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The largest number that every reader of JSON keeps exact (RFC 8259, 6).
const SEQUENCE_MAX: u64 = (1 << 53) - 1;

/// The sequence number after which events are wanted, and how many.
///
/// # Errors
/// A number that is malformed or out of range.
pub(super) fn read_fields(
    request: &AuthenticatedFields<'_>,
) -> Result<(u64, EventPageLimit), Refusal> {
    let after = whole(request, "afterSequence", 0..=SEQUENCE_MAX)?;
    let limit = whole(request, "limit", 1..=u64::from(COUNT_MAX))?;
    let count = limit.and_then(|limit| u32::try_from(limit).ok());
    let page = EventPageLimit {
        count: count.unwrap_or(COUNT_DEFAULT),
        bytes: ANSWER_BYTES_MAX,
    };
    Ok((after.unwrap_or(0), page))
}

fn whole(
    request: &AuthenticatedFields<'_>,
    field: &'static str,
    bounds: RangeInclusive<u64>,
) -> Result<Option<u64>, Refusal> {
    let Some(text) = request.scalar(field)? else {
        return Ok(None);
    };
    let number = text.parse().ok().filter(|number: &u64| {
        // In canonical form: `+1` and `01` are not.
        bounds.contains(number) && number.to_string() == text
    });
    let expected = if field == "limit" {
        "a whole number from 1 to 500"
    } else {
        "a whole number from 0 to 9007199254740991"
    };
    let malformed = Refusal::FieldMalformed { field, expected };
    number.map(Some).ok_or(malformed)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventsResponseBody<'a> {
    events: Vec<EventItem<'a>>,
    next_sequence: u64,
}

#[derive(Serialize)]
struct EventItem<'a> {
    sequence: u64,
    event: &'a RawValue,
}

/// The events, each as the very bytes that are delivered (N3, N9), and the number to continue from.
///
/// # Errors
/// A stored body is no JSON, which needs manual review.
pub(super) fn answer(found: &[NumberedEvent], after: u64) -> Result<Response<Bytes>, Refusal> {
    let mut events = Vec::with_capacity(found.len());
    for one in found {
        let event = serde_json::from_slice(&one.body).map_err(|fault| {
            tracing::error!(%fault, sequence = one.sequence, "a stored event is no JSON");
            Refusal::Unavailable
        })?;
        let sequence = one.sequence;
        events.push(EventItem { sequence, event });
    }
    let next_sequence = found.last().map_or(after, |last| last.sequence);
    let body = EventsResponseBody {
        events,
        next_sequence,
    };
    Ok(json(StatusCode::OK, &body))
}
