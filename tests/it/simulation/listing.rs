//! Merchants read their events by number (`/v1/events`), now and then and at the end. Uses no
//! random numbers, so runs are the same as without it.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use paymux::domain::identifiers::MerchantId;
use paymux::world::Clock;
use serde_json::{Value, json};

use super::checks::{InvariantResult, hold};
use super::run::SimulationRun;
use crate::world::enrolment::{MERCHANTS, sign, unsigned};
use crate::world::memory::DurableState;

/// A merchant's request, and how many events it must get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventListing {
    pub(super) merchant: &'static str,
    after: u64,
    limit: u64,
    /// The number of events at the time of the request.
    event_count: u64,
}

/// What merchants learnt from their lists.
#[derive(Default)]
pub(crate) struct EventListings {
    asked: u64,
    known: BTreeMap<(&'static str, u64), Value>,
}

fn event_count(durable: &DurableState, merchant: &str) -> u64 {
    let merchant = MerchantId::parse(merchant).unwrap();
    let rows = durable.events.values();
    let theirs = rows.filter(|row| row.event.merchant == merchant);
    theirs.count().try_into().unwrap()
}

impl EventListings {
    /// N9, K3, and no gap: numbers are consecutive, a number identifies one event for ever, and all
    /// earlier events are listed.
    pub(crate) fn check_answer(
        &mut self,
        listing: &EventListing,
        answer: &Response<Bytes>,
        durable: &DurableState,
    ) -> InvariantResult {
        if answer.status() != 200 {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        let events = body["events"].as_array().unwrap();
        let expected = listing
            .event_count
            .saturating_sub(listing.after)
            .min(listing.limit);
        let many: u64 = events.len().try_into().unwrap();
        hold!(many >= expected, "N2: {listing:?} was given {many} events");
        hold!(many <= listing.limit, "{listing:?} was given {many} events");
        for (sequence, one) in (listing.after + 1..).zip(events) {
            hold!(
                one["sequence"] == sequence,
                "a gap: {listing:?} was given {body}"
            );
            let event = &one["event"];
            hold!(
                event["merchantId"] == listing.merchant,
                "K3: {listing:?} was given {event}"
            );
            let first = self.known.entry((listing.merchant, sequence));
            let first = first.or_insert_with(|| event.clone());
            hold!(first == event, "N9: {sequence} was {first} and is {event}");
            let mut rows = durable.events.values();
            let real =
                rows.any(|row| serde_json::from_slice::<Value>(&row.event.body).unwrap() == *event);
            hold!(real, "N1: {event} was given and is not there");
        }
        hold!(
            body["nextSequence"] == listing.after + many,
            "{listing:?} was sent on to {}",
            body["nextSequence"]
        );
        Ok(())
    }
}

impl SimulationRun {
    /// The merchants read their lists in turn, from the beginning or from the middle.
    pub(super) fn list_events(&mut self) {
        self.lists.asked += 1;
        let request_no = self.lists.asked;
        let merchant = MERCHANTS[usize::try_from(request_no).unwrap() % MERCHANTS.len()];
        let event_count = event_count(&self.memory.durable(), merchant);
        let listing = EventListing {
            merchant,
            after: if request_no.is_multiple_of(3) {
                event_count / 2
            } else {
                0
            },
            limit: if request_no.is_multiple_of(5) { 1 } else { 500 },
            event_count,
        };
        let body = json!({
            "merchantId": merchant, "afterSequence": listing.after, "limit": listing.limit,
        });
        let mut request = unsigned("/v1/events", serde_json::to_vec(&body).unwrap());
        let (key, nonce) = (
            format!("{merchant}-secret"),
            format!("lists-{request_no:020}"),
        );
        sign(&mut request, &key, self.clock.now().seconds(), &nonce);
        self.list(listing, request);
    }
}
