//! Merchants that read their events by number (`/v1/events`), now and then and at the end. Draws no
//! dice: lives are what they would be without.

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

/// What one merchant asked, and what it was owed by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventListing {
    pub(super) merchant: &'static str,
    after: u64,
    limit: u64,
    /// Events there were when it asked.
    owed: u64,
}

/// What merchants learnt from their lists.
#[derive(Default)]
pub(crate) struct EventListings {
    asked: u64,
    known: BTreeMap<(&'static str, u64), Value>,
}

fn owed(durable: &DurableState, merchant: &str) -> u64 {
    let merchant = MerchantId::parse(merchant).unwrap();
    let rows = durable.events.values();
    let theirs = rows.filter(|row| row.event.merchant == merchant);
    theirs.count().try_into().unwrap()
}

impl EventListings {
    /// N9, K3, and no gap: numbers follow each other, a number names one event for ever, and all
    /// that there was is there.
    pub(crate) fn hear(
        &mut self,
        asked: &EventListing,
        answer: &Response<Bytes>,
        durable: &DurableState,
    ) -> InvariantResult {
        if answer.status() != 200 {
            return Ok(());
        }
        let told: Value = serde_json::from_slice(answer.body()).unwrap();
        let events = told["events"].as_array().unwrap();
        let wanted = asked.owed.saturating_sub(asked.after).min(asked.limit);
        let many: u64 = events.len().try_into().unwrap();
        hold!(many >= wanted, "N2: {asked:?} was given {many} events");
        hold!(many <= asked.limit, "{asked:?} was given {many} events");
        for (sequence, one) in (asked.after + 1..).zip(events) {
            hold!(
                one["sequence"] == sequence,
                "a gap: {asked:?} was given {told}"
            );
            let event = &one["event"];
            hold!(
                event["merchantId"] == asked.merchant,
                "K3: {asked:?} was given {event}"
            );
            let first = self.known.entry((asked.merchant, sequence));
            let first = first.or_insert_with(|| event.clone());
            hold!(first == event, "N9: {sequence} was {first} and is {event}");
            let mut rows = durable.events.values();
            let real =
                rows.any(|row| serde_json::from_slice::<Value>(&row.event.body).unwrap() == *event);
            hold!(real, "N1: {event} was given and is not there");
        }
        hold!(
            told["nextSequence"] == asked.after + many,
            "{asked:?} was sent on to {}",
            told["nextSequence"]
        );
        Ok(())
    }
}

impl SimulationRun {
    /// One merchant after the other reads its list, from its beginning or from somewhere.
    pub(super) fn list_events(&mut self) {
        self.lists.asked += 1;
        let permit = self.lists.asked;
        let merchant = MERCHANTS[usize::try_from(permit).unwrap() % MERCHANTS.len()];
        let owed = owed(&self.memory.durable(), merchant);
        let listing = EventListing {
            merchant,
            after: if permit.is_multiple_of(3) {
                owed / 2
            } else {
                0
            },
            limit: if permit.is_multiple_of(5) { 1 } else { 500 },
            owed,
        };
        let body = json!({
            "merchantId": merchant, "afterSequence": listing.after, "limit": listing.limit,
        });
        let mut request = unsigned("/v1/events", serde_json::to_vec(&body).unwrap());
        let (key, nonce) = (format!("{merchant}-secret"), format!("lists-{permit:020}"));
        sign(&mut request, &key, self.clock.now().seconds(), &nonce);
        self.list(listing, request);
    }
}
