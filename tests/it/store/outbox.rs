//! Scenarios of the outbox: sequence numbers, dead-lettered events, shares.

use std::collections::BTreeMap;

use paymux::domain::identifiers::{EventId, Timestamp};
use paymux::domain::order::OrderTerms;
use paymux::store::outbox::{DeadEventFilter, DeliveryShares, EventPageLimit, NumberedEvent};
use paymux::store::{DeliveryOutcome, Lease, LeaseCompletion, LeaseKind, LeasedWork, Store};

use super::Stores;
use super::builders::{at, lease, merchant, next_due, paid, terms};

const PLENTY: EventPageLimit = EventPageLimit {
    count: 500,
    bytes: 1 << 20,
};

fn of(name: &str, n: u32) -> OrderTerms {
    OrderTerms {
        merchant: merchant(name),
        ..terms(n)
    }
}

async fn after(store: &Store, name: &str, after: u64, room: EventPageLimit) -> Vec<NumberedEvent> {
    let merchant = merchant(name);
    store
        .outbox
        .events_after(&merchant, after, room)
        .await
        .unwrap()
}

fn sequences(found: &[NumberedEvent]) -> Vec<u64> {
    found.iter().map(|one| one.sequence).collect()
}

fn event_id(lease: &Lease) -> EventId {
    match &lease.of {
        LeasedWork::Event(event, _) => event.id.clone(),
        LeasedWork::Order(_) => panic!("an order among events"),
    }
}

/// K3, N3, N9: each merchant's events are numbered from 1 in the order of commits; the bodies are
/// the exact bytes delivered, include no other merchant's, and stay after they are acknowledged.
pub(crate) async fn events_are_numbered_without_a_gap(stores: &dyn Stores) {
    let store = stores.open();
    for (name, n) in [("M1", 1), ("M2", 2), ("M1", 3), ("M1", 4), ("M2", 5)] {
        paid(&store, n, "harbour", of(name, n)).await;
    }
    drop(store);
    let store = stores.open();
    let all = after(&store, "M1", 0, PLENTY).await;
    assert_eq!(sequences(&all), [1, 2, 3]);
    for (one, order) in all.iter().zip(["ORDER-1", "ORDER-3", "ORDER-4"]) {
        let body: serde_json::Value = serde_json::from_slice(&one.body).unwrap();
        assert_eq!(
            (&body["merchantId"], &body["merchantOrderNo"]),
            (&"M1".into(), &order.into())
        );
    }
    for lease in lease(&store, LeaseKind::Events, at(20), 100).await.unwrap() {
        let LeasedWork::Event(event, _) = &lease.of else {
            panic!("an order among events");
        };
        let listed = after(&store, event.merchant.as_str(), 0, PLENTY).await;
        assert!(listed.iter().any(|one| one.body == event.body));
        store
            .outbox
            .complete(&lease, DeliveryOutcome::Delivered(at(21)))
            .await
            .unwrap();
    }
    assert_eq!(after(&store, "M1", 0, PLENTY).await, all);
    assert_eq!(sequences(&after(&store, "M1", 2, PLENTY).await), [3]);
    assert_eq!(sequences(&after(&store, "M2", 0, PLENTY).await), [1, 2]);
    for (name, behind) in [("M1", 3), ("M1", u64::MAX), ("M3", 0)] {
        assert_eq!(after(&store, name, behind, PLENTY).await, []);
    }
}

/// Interface, Events: at most the page limit, by count and by bytes, but at least one.
pub(crate) async fn of_events_only_what_fits_is_given(stores: &dyn Stores) {
    let store = stores.open();
    for n in 1..=4 {
        paid(&store, n, "harbour", terms(n)).await;
    }
    let all = after(&store, "M1", 0, PLENTY).await;
    let two = all[0].body.len() + all[1].body.len();
    for (count, bytes, given) in [
        (500, two, 2),
        (500, two - 1, 1),
        (500, 1, 1),
        (3, 1 << 20, 3),
        (1, two, 1),
    ] {
        let found = after(&store, "M1", 0, EventPageLimit { count, bytes }).await;
        assert_eq!(found, all[..given], "{count} {bytes}");
    }
}

/// N2, L5: dead-lettered events are counted and listed, and resent on request, with a full retry
/// schedule and the same id.
pub(crate) async fn dead_lettered_events_are_listed_and_sent_again(stores: &dyn Stores) {
    let store = stores.open();
    let (outbox, all) = (&store.outbox, DeadEventFilter::default());
    let none = outbox.dead_lettered(&all, 10).await.unwrap();
    assert_eq!((none.count, none.shown.len()), (0, 0));
    for (name, n) in [("M2", 1), ("M1", 2), ("M1", 3), ("M1", 4)] {
        paid(&store, n, "harbour", of(name, n)).await;
    }
    let leases = lease(&store, LeaseKind::Events, at(20), 100).await.unwrap();
    assert_eq!(leases.len(), 4);
    // The third of M1 is acknowledged; it is never resent.
    for lease in &leases {
        let LeasedWork::Event(event, _) = &lease.of else {
            panic!("an order among events");
        };
        let body: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
        let outcome = if body["merchantOrderNo"] == "ORDER-4" {
            DeliveryOutcome::Delivered(at(21))
        } else {
            DeliveryOutcome::Dead
        };
        let done = outbox.complete(lease, outcome).await;
        assert_eq!(done, Ok(LeaseCompletion::Done));
    }
    let dead = outbox.dead_lettered(&all, 2).await.unwrap();
    assert_eq!(dead.count, 3);
    let shown: Vec<_> = dead
        .shown
        .iter()
        .map(|one| (one.merchant.as_str(), one.sequence, one.born))
        .collect();
    assert_eq!(shown, [("M1", 1, at(20)), ("M1", 2, at(20))]);
    let one = DeadEventFilter {
        event: Some(dead.shown[0].id.clone()),
        ..DeadEventFilter::default()
    };
    let foreign = DeadEventFilter {
        merchant: Some(merchant("M2")),
        ..one.clone()
    };
    let theirs = DeadEventFilter {
        merchant: Some(merchant("M1")),
        event: None,
    };
    for (which, resent, left) in [
        (&foreign, 0, 3),
        (&one, 1, 2),
        (&one, 0, 2),
        (&theirs, 1, 1),
    ] {
        let count = outbox.resend(which, "local:uid=7", at(900)).await;
        assert_eq!(count, Ok(resent), "{which:?}");
        let dead = outbox.dead_lettered(&all, 10).await.unwrap();
        assert_eq!(dead.count, left, "{which:?}");
    }
    // The completed leases are no longer valid (N6).
    let late = outbox.complete(&leases[1], DeliveryOutcome::Dead).await;
    assert_eq!(late, Ok(LeaseCompletion::LeaseLost));
    assert_eq!(next_due(&store, LeaseKind::Events).await, Ok(Some(at(900))));
    let again = lease(&store, LeaseKind::Events, at(900), 100)
        .await
        .unwrap();
    let tries: Vec<_> = again.iter().map(|lease| lease.tries).collect();
    assert_eq!(tries, [0, 0]);
    let ids: Vec<_> = again.iter().map(event_id).collect();
    assert!(
        dead.shown.iter().all(|one| ids.contains(&one.id)),
        "the same ids"
    );
}

/// N7: each destination gets what its share allows, one without a share nothing, and if the total
/// is limited, the destination with the fewest in flight comes first.
pub(crate) async fn whoever_has_least_under_way_comes_first(stores: &dyn Stores) {
    let store = stores.open();
    let shops = [
        "dead", "dead", "dead", "dead", "busy", "busy", "busy", "tea", "out",
    ];
    for (n, shop) in (1..).zip(shops) {
        let terms = OrderTerms {
            return_url: format!("https://{shop}.example/notice").into(),
            ..terms(n)
        };
        paid(&store, n, "harbour", terms).await;
    }
    let shares = DeliveryShares {
        destinations: [("https://dead.example", 4), ("https://out.example", 0)]
            .map(|(origin, share)| (origin.into(), share))
            .into(),
        others: 2,
    };
    let count = |leases: &[Lease]| {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for lease in leases {
            let LeasedWork::Event(event, _) = &lease.of else {
                panic!("an order among events");
            };
            let shop = event.destination.as_deref().unwrap().to_owned();
            *counts.entry(shop[8..11].to_owned()).or_default() += 1;
        }
        counts.into_iter().collect::<Vec<_>>()
    };
    let lease = async |now: Timestamp, many: u32| {
        let leases = store.outbox.lease_events(&shares, now, many).await.unwrap();
        (count(&leases), leases)
    };
    let two = |shop: &str, many: u32| (shop.to_owned(), many);
    assert_eq!(store.outbox.next_event(&shares).await, Ok(Some(at(20))));
    let (first, held) = lease(at(20), 4).await;
    assert_eq!(
        first,
        [two("bus", 1), two("dea", 2), two("tea", 1)].map(|it| it)
    );
    assert_eq!(held.len(), 4);
    let (second, _) = lease(at(20), 1).await;
    assert_eq!(second, [two("bus", 1)]);
    let (third, _) = lease(at(20), 100).await;
    assert_eq!(third, [two("dea", 2)]);
    assert_eq!(lease(at(21), 100).await.1, []);
    let nobody = DeliveryShares::same(0);
    assert_eq!(store.outbox.next_event(&nobody).await, Ok(None));
    assert_eq!(
        store.outbox.lease_events(&nobody, at(99), 100).await,
        Ok(vec![])
    );
}
