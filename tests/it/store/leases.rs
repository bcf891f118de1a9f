//! Scenarios of leased work.

use std::time::Duration;

use paymux::domain::change::ChangeCause;
use paymux::domain::event::EventType;
use paymux::domain::evidence::{EvidenceSource, Finding, PaymentAction, PaymentActionKind};
use paymux::domain::identifiers::{EventId, Timestamp};
use paymux::domain::order::{CloseReason, Order, OrderTerms, PollTarget, Urgency};
use paymux::domain::schedule::Schedule;
use paymux::store::outbox::{DESTINATION_SHARE, DeliveryShares};
use paymux::store::unresolved::{LaneShares, NextOrder, UrgencyShares};
use paymux::store::{DeliveryOutcome, LEASE, Lease, LeaseCompletion, LeaseKind, LeasedWork, Store};

use super::Stores;
use super::builders::{
    accepted, apply, at, done, institution, lease, next_due, opening, paid, place, start,
    succeeded, terms,
};

fn order(lease: &Lease) -> &Order {
    match &lease.of {
        LeasedWork::Order(order) => order,
        LeasedWork::Event(..) => panic!("an event among orders"),
    }
}

fn event_id(lease: &Lease) -> EventId {
    match &lease.of {
        LeasedWork::Event(event, _) => event.id.clone(),
        LeasedWork::Order(_) => panic!("an order among events"),
    }
}

async fn leased(store: &Store, work: LeaseKind, now: Timestamp) -> Vec<Lease> {
    lease(store, work, now, 100).await.unwrap()
}

/// An order that waits for its payer, due 20 to 24 s after second 2.
async fn unresolved(store: &Store, n: u32) -> Order {
    unresolved_at(store, n, ("harbour", 2)).await
}

/// The same through this institution, accepted there at this second.
async fn unresolved_at(store: &Store, n: u32, (through, second): (&str, i64)) -> Order {
    let first = Some(start(n, through, store.epoch));
    let order = done(store, place(n, first)).await;
    let change = apply(&order, 1, accepted(), EvidenceSource::Create, second);
    done(store, change).await
}

/// N6, Z3: a lease excludes others until it ends, and no longer; it contains the complete order.
pub(crate) async fn a_leased_order_is_leased_to_nobody_else(stores: &dyn Stores) {
    let store = stores.open();
    let due = unresolved(&store, 1).await;
    unresolved(&store, 2).await;
    assert_eq!(leased(&store, LeaseKind::Orders, at(21)).await, []);
    let first = lease(&store, LeaseKind::Orders, at(30), 1).await.unwrap();
    assert_eq!(first.len(), 1);
    let rest = leased(&store, LeaseKind::Orders, at(30)).await;
    assert_eq!(rest.len(), 1);
    let mut both = [order(&first[0]).clone(), order(&rest[0]).clone()];
    both.sort_by(|a, b| a.no.cmp(&b.no));
    assert_eq!(both[0], due);
    assert_eq!(leased(&store, LeaseKind::Orders, at(31)).await, []);
    let after = leased(&store, LeaseKind::Orders, at(30).plus(LEASE)).await;
    assert_eq!(after.len(), 2);
    let again = after
        .iter()
        .find(|lease| order(lease).no == order(&first[0]).no);
    assert!(again.unwrap().fence > first[0].fence);
}

/// An order's only attempt, as a poll target.
fn only(order: &Order) -> PollTarget {
    PollTarget::Attempt(order.attempts[0].id.clone())
}

/// The order with one more query of its attempt counted, and due at `next`.
fn asked(order: &Order, next: Timestamp) -> Order {
    let mut order = order.clone();
    let object = only(&order);
    let asked = order.schedule_of(&object).unwrap().asked + 1;
    order.reschedule(&object, Schedule { asked, next });
    order
}

/// N6: an old fence completes nothing, and no fence completes twice.
pub(crate) async fn a_lost_lease_completes_nothing(stores: &dyn Stores) {
    let store = stores.open();
    unresolved(&store, 1).await;
    let old = leased(&store, LeaseKind::Orders, at(30)).await.remove(0);
    let new = leased(&store, LeaseKind::Orders, at(70)).await.remove(0);
    let again = asked(order(&new), at(80));
    let late = store.unresolved.reschedule(&again, old.fence).await;
    assert_eq!(late, Ok(LeaseCompletion::LeaseLost));
    let back = store.unresolved.reschedule(&again, new.fence).await;
    assert_eq!(back, Ok(LeaseCompletion::Done));
    let twice = store.unresolved.reschedule(&again, new.fence).await;
    assert_eq!(twice, Ok(LeaseCompletion::LeaseLost));
    assert_eq!(leased(&store, LeaseKind::Orders, at(79)).await, []);
    let held = leased(&store, LeaseKind::Orders, at(80)).await;
    assert_eq!(held.iter().map(order).collect::<Vec<_>>(), [&again]);
    let made_up = store.unresolved.reschedule(&again, u64::MAX).await;
    assert_eq!(made_up, Ok(LeaseCompletion::LeaseLost));
}

/// N6: a change ends the lease; its holder's completion is rejected, and the order is due when the
/// change says. A holder that made the change itself knows the new fence.
pub(crate) async fn a_change_ends_the_lease(stores: &dyn Stores) {
    let store = stores.open();
    let before = unresolved(&store, 1).await;
    let held = leased(&store, LeaseKind::Orders, at(30)).await.remove(0);
    let closing = before.begin_closing(ChangeCause::Page, at(31)).unwrap();
    let closing = done(&store, closing).await;
    let late = store
        .unresolved
        .reschedule(&asked(&before, at(900)), held.fence)
        .await;
    assert_eq!(late, Ok(LeaseCompletion::LeaseLost));
    let ours = store.unresolved.reschedule(&closing, held.fence + 1).await;
    assert_eq!(ours, Ok(LeaseCompletion::Done));
    let now = leased(&store, LeaseKind::Orders, at(31)).await;
    assert_eq!(order(&now[0]), &closing);
}

/// A6, Z3: each object's schedule is durable, and a change that leaves its state unchanged leaves
/// its schedule unchanged.
pub(crate) async fn a_schedule_outlives_leases_changes_and_processes(stores: &dyn Stores) {
    let store = stores.open();
    unresolved(&store, 1).await;
    let mut due = at(30);
    for n in 1..=3 {
        let held = leased(&store, LeaseKind::Orders, due).await.remove(0);
        due = due.plus(Duration::from_mins(1));
        let again = asked(order(&held), due);
        let back = store.unresolved.reschedule(&again, held.fence).await;
        assert_eq!(back, Ok(LeaseCompletion::Done));
        assert_eq!(again.attempts[0].schedule.asked, n);
    }
    let found = lease(&store, LeaseKind::Orders, due, 1)
        .await
        .unwrap()
        .remove(0);
    let newer = Finding::Accepted(Some(PaymentAction {
        way: PaymentActionKind::Redirect("https://harbour.example/pay?token=newer".into()),
        expires: Some(at(900)),
    }));
    let linked = apply(order(&found), 1, newer, EvidenceSource::Create, 300);
    let linked = done(&store, linked).await;
    assert_eq!(linked.attempts[0].schedule.asked, 3);
    assert_eq!(linked.attempts[0].schedule.next, due);
    drop(store);
    let store = stores.open();
    let held = leased(&store, LeaseKind::Orders, due).await.remove(0);
    assert_eq!(order(&held).attempts[0].schedule.asked, 3);
    let closing = order(&held)
        .begin_closing(ChangeCause::Page, at(400))
        .unwrap();
    let closing = done(&store, closing).await;
    assert_eq!(closing.attempts[0].schedule, Schedule::from(at(400)));
}

/// N10: an order waits in the lane of its institution; a lane has only its share, and does not
/// delay the others.
pub(crate) async fn an_institution_has_only_its_share(stores: &dyn Stores) {
    let store = stores.open();
    for n in 1..=40 {
        unresolved_at(&store, n, ("silent", 2)).await;
    }
    unresolved_at(&store, 50, ("harbour", 2)).await;
    done(&store, place(60, None)).await;
    let late = at(9_000);
    let silent = institution("silent");
    let each = UrgencyShares {
        own: 1,
        institutions: [(silent.clone(), 4)].into(),
        others: 16,
    };
    let shares = LaneShares {
        urgencies: Urgency::ALL.map(|urgency| (urgency, each.clone())).into(),
    };
    let held = store
        .unresolved
        .lease_orders(&shares, late, 100)
        .await
        .unwrap();
    let through = |one: &&Lease| {
        order(one)
            .attempts
            .first()
            .map(|one| one.institution.clone())
    };
    let silents = held
        .iter()
        .filter(|one| through(one) == Some(silent.clone()));
    assert_eq!(
        (held.len(), silents.count()),
        (6, 4),
        "and what has only expired"
    );
    let two = store
        .unresolved
        .lease_orders(&shares, late, 2)
        .await
        .unwrap();
    assert_eq!(two.len(), 2);
    let none = LaneShares::default();
    assert_eq!(
        store.unresolved.lease_orders(&none, late, 100).await,
        Ok(Vec::new())
    );
    let held_back = NextOrder {
        due: None,
        is_held_back: true,
    };
    assert_eq!(store.unresolved.next_order(&none).await, Ok(held_back));
    let first = store.unresolved.next_order(&shares).await.unwrap();
    assert!(first.due.is_some_and(|due| due <= at(26)));
    assert!(!first.is_held_back);
    let own = LaneShares {
        urgencies: Urgency::ALL
            .map(|urgency| {
                let own = UrgencyShares {
                    own: 1,
                    ..UrgencyShares::default()
                };
                (urgency, own)
            })
            .into(),
    };
    let expires = store.unresolved.next_order(&own).await.unwrap();
    assert!(expires.is_held_back && expires.due.is_some(), "{expires:?}");
}

/// A signal about an order leases it before it is due, unless it is leased already or nothing is
/// waiting.
pub(crate) async fn a_named_order_is_leased_before_it_is_due(stores: &dyn Stores) {
    let store = stores.open();
    let waiting = unresolved(&store, 1).await;
    let over = paid(&store, 2, "harbour", terms(2)).await;
    let both = [waiting.no.clone(), over.no];
    let held = store.unresolved.lease_named(&both, at(3)).await.unwrap();
    assert_eq!(held.iter().map(order).collect::<Vec<_>>(), [&waiting]);
    assert_eq!(
        store.unresolved.lease_named(&both, at(4)).await,
        Ok(Vec::new())
    );
    let back = store.unresolved.reschedule(&waiting, held[0].fence).await;
    assert_eq!(back, Ok(LeaseCompletion::Done));
    assert_eq!(
        store
            .unresolved
            .lease_named(&both, at(5))
            .await
            .unwrap()
            .len(),
        1
    );
    let left = store
        .unresolved
        .lease_named(&both, at(5).plus(LEASE))
        .await
        .unwrap();
    assert_eq!(left.len(), 1, "a lease that ended is nobody's");
}

/// Z3: an order is due when its change says so: to expire, to be queried, or never again.
pub(crate) async fn an_order_is_due_when_its_change_says(stores: &dyn Stores) {
    let store = stores.open();
    assert_eq!(next_due(&store, LeaseKind::Orders).await, Ok(None));
    let idle = done(&store, place(1, None)).await;
    assert_eq!(
        next_due(&store, LeaseKind::Orders).await,
        Ok(Some(idle.expires))
    );
    let waits = unresolved(&store, 2).await;
    let asked = waits.attempts[0].schedule.next;
    assert!(asked >= at(22) && asked <= at(26));
    assert_eq!(next_due(&store, LeaseKind::Orders).await, Ok(Some(asked)));
    let due = leased(&store, LeaseKind::Orders, idle.expires).await;
    assert_eq!(due.len(), 2);
    let ends = Some(idle.expires.plus(LEASE));
    assert_eq!(next_due(&store, LeaseKind::Orders).await, Ok(ends));
    done(
        &store,
        idle.end(CloseReason::Expired, ChangeCause::Clock, at(9_000))
            .unwrap(),
    )
    .await;
    let order_2 = due.iter().map(order).find(|order| order.no != idle.no);
    let settled = apply(
        order_2.unwrap(),
        1,
        succeeded(),
        EvidenceSource::Query,
        9_000,
    );
    done(&store, settled).await;
    assert_eq!(next_due(&store, LeaseKind::Orders).await, Ok(None));
}

/// T2, H2, Z3: work postponed by a clock that was ahead is due no later than its own interval after
/// the clock is right, whether the offset is known or taken from the last record; a correct clock
/// moves nothing.
pub(crate) async fn what_a_clock_ahead_put_off_is_brought_forward(stores: &dyn Stores) {
    const AHEAD_S: i64 = 86_400;
    let store = stores.open();
    let idle = done(&store, place(1, None)).await;
    let forward = |by, now| store.nodes.bring_forward(by, now);
    assert_eq!(forward(None, at(2)).await, Ok(Duration::ZERO));
    assert_eq!(
        next_due(&store, LeaseKind::Orders).await,
        Ok(Some(idle.expires))
    );
    let ahead = Duration::from_mins(10);
    let now = at(100);
    assert_eq!(forward(Some(ahead), now).await, Ok(ahead));
    let due = next_due(&store, LeaseKind::Orders).await.unwrap().unwrap();
    assert_eq!(due.ms(), (idle.expires.ms() - 600_000).max(now.ms()));
    // A process with its clock a day ahead is followed by one without.
    let change = idle
        .end(CloseReason::Merchant, ChangeCause::Clock, at(AHEAD_S))
        .unwrap();
    done(&store, change).await;
    unresolved_at(&store, 2, ("harbour", AHEAD_S)).await;
    drop(store);
    let store = stores.open();
    let now = at(200);
    let by = store.nodes.bring_forward(None, now).await.unwrap();
    assert!(by >= Duration::from_secs(86_400 - 200), "{by:?}");
    let due = next_due(&store, LeaseKind::Orders).await.unwrap().unwrap();
    assert!(due.since(now) <= Duration::from_secs(24), "{due:?}");
    // Its own schedule came forward as well, not only its order's due time.
    let held = leased(&store, LeaseKind::Orders, due).await.remove(0);
    let next = order(&held).attempts[0].schedule.next;
    assert!(next.since(now) <= Duration::from_secs(24), "{next:?}");
}

/// N6, T2: a holder that leased an order or event before due times were brought forward cannot
/// postpone it again.
pub(crate) async fn a_holder_from_before_the_step_puts_nothing_off(stores: &dyn Stores) {
    const AHEAD_S: i64 = 86_400;
    let store = stores.open();
    unresolved_at(&store, 1, ("harbour", AHEAD_S)).await;
    let second = Some(start(2, "harbour", store.epoch));
    let second = done(&store, place(2, second)).await;
    let paid = apply(&second, 1, succeeded(), EvidenceSource::Callback, AHEAD_S);
    done(&store, paid).await;
    let held = leased(&store, LeaseKind::Orders, at(AHEAD_S + 30)).await;
    let held = held
        .iter()
        .find(|held| order(held).no != second.no)
        .unwrap();
    let telling = leased(&store, LeaseKind::Events, at(AHEAD_S + 30))
        .await
        .remove(0);
    let now = at(200);
    let by = Duration::from_hours(24);
    assert_eq!(store.nodes.bring_forward(Some(by), now).await, Ok(by));
    let late = store.unresolved.reschedule(order(held), held.fence).await;
    assert_eq!(late, Ok(LeaseCompletion::LeaseLost));
    let late = store
        .outbox
        .complete(&telling, DeliveryOutcome::Again(at(AHEAD_S + 31)))
        .await;
    assert_eq!(late, Ok(LeaseCompletion::LeaseLost));
    for work in [LeaseKind::Orders, LeaseKind::Events] {
        let due = next_due(&store, work).await.unwrap().unwrap();
        assert!(due.since(now) <= LEASE, "{work:?}: {due:?}");
    }
}

/// T2, L5: a process followed the clock back and died before bringing work forward, while others
/// wrote with the right time: the next start completes it, once, and records it.
pub(crate) async fn a_crash_between_following_and_bringing_forward_is_completed(
    stores: &dyn Stores,
) {
    const AHEAD_S: i64 = 86_400;
    let store = stores.open();
    unresolved_at(&store, 1, ("harbour", AHEAD_S)).await;
    let other = done(&store, place(2, None)).await;
    let ended = other
        .end(CloseReason::Merchant, ChangeCause::Clock, at(150))
        .unwrap();
    done(&store, ended).await;
    drop(store);
    let store = stores.open();
    let now = at(200);
    let by = store.nodes.bring_forward(None, now).await.unwrap();
    assert_eq!(by, Duration::from_secs(86_400 - 200));
    let due = next_due(&store, LeaseKind::Orders).await.unwrap().unwrap();
    assert!(due.since(now) <= Duration::from_secs(30), "{due:?}");
    drop(store);
    let store = stores.open();
    assert_eq!(
        store.nodes.bring_forward(None, at(201)).await,
        Ok(Duration::ZERO)
    );
}

/// S1: intents are orphaned once their process is dead, never before; after recovery they are not.
pub(crate) async fn orphaned_calls_are_those_of_dead_processes(stores: &dyn Stores) {
    let store = stores.open();
    let intent = done(&store, place(1, Some(start(1, "harbour", store.epoch)))).await;
    unresolved(&store, 2).await;
    done(&store, place(3, None)).await;
    assert_eq!(leased(&store, LeaseKind::OrphanedCalls, at(5)).await, []);
    drop(store);
    let store = stores.open();
    let left = leased(&store, LeaseKind::OrphanedCalls, at(5)).await;
    assert_eq!(left.iter().map(order).collect::<Vec<_>>(), [&intent]);
    let recovered = order(&left[0])
        .recover_orphaned(store.epoch, at(5))
        .unwrap();
    done(&store, recovered).await;
    assert_eq!(leased(&store, LeaseKind::OrphanedCalls, at(5)).await, []);
    assert_eq!(leased(&store, LeaseKind::Orders, at(30)).await.len(), 2);
}

/// N1, N2, N3: an event is due with its change, the same on every delivery, until it is
/// acknowledged.
pub(crate) async fn an_event_is_leased_until_it_is_delivered(stores: &dyn Stores) {
    let store = stores.open();
    let paid = paid(&store, 1, "harbour", terms(1)).await;
    assert_eq!(next_due(&store, LeaseKind::Events).await, Ok(Some(at(20))));
    let first = leased(&store, LeaseKind::Events, at(20)).await.remove(0);
    let LeasedWork::Event(event, born) = &first.of else {
        panic!("an order among events");
    };
    assert_eq!(
        (event.kind, event.version),
        (EventType::OrderPaid, paid.version)
    );
    assert_eq!(
        (&event.order, &event.merchant),
        (&paid.no, &paid.terms.merchant)
    );
    assert_eq!(event.destination.as_deref(), Some(&*paid.terms.return_url));
    assert_eq!((*born, first.tries), (at(20), 0));
    assert!(String::from_utf8_lossy(&event.body).contains("ORDER_PAID"));
    assert_eq!(leased(&store, LeaseKind::Events, at(21)).await, []);
    let again = store
        .outbox
        .complete(&first, DeliveryOutcome::Again(at(30)))
        .await;
    assert_eq!(again, Ok(LeaseCompletion::Done));
    assert_eq!(leased(&store, LeaseKind::Events, at(29)).await, []);
    drop(store);
    let store = stores.open();
    let second = leased(&store, LeaseKind::Events, at(30)).await.remove(0);
    assert_eq!((&second.of, second.tries), (&first.of, 1));
    let late = store
        .outbox
        .complete(&first, DeliveryOutcome::Delivered(at(31)))
        .await;
    assert_eq!(late, Ok(LeaseCompletion::LeaseLost));
    let received = store
        .outbox
        .complete(&second, DeliveryOutcome::Delivered(at(31)))
        .await;
    assert_eq!(received, Ok(LeaseCompletion::Done));
    assert_eq!(leased(&store, LeaseKind::Events, at(9_999)).await, []);
    assert_eq!(next_due(&store, LeaseKind::Events).await, Ok(None));
}

/// N2, N6, S1: what a process was delivering when it died is due at once for the next one, first in
/// its destination's queue, and the dead one can no longer complete it.
pub(crate) async fn what_a_dead_process_was_delivering_is_due_at_once(stores: &dyn Stores) {
    let store = stores.open();
    paid(&store, 1, "harbour", terms(1)).await;
    let dead = leased(&store, LeaseKind::Events, at(20)).await.remove(0);
    drop(store);
    let store = stores.open();
    let due = next_due(&store, LeaseKind::Events).await.unwrap();
    assert!(due.is_some_and(|due| due <= at(20)), "{due:?}");
    let alone = store
        .outbox
        .lease_events(&DeliveryShares::same(1), at(21), 10)
        .await
        .unwrap();
    assert_eq!(alone.len(), 1);
    assert_eq!((&alone[0].of, alone[0].tries), (&dead.of, dead.tries));
    let late = store
        .outbox
        .complete(&dead, DeliveryOutcome::Delivered(at(22)))
        .await;
    assert_eq!(late, Ok(LeaseCompletion::LeaseLost));
    let received = store
        .outbox
        .complete(&alone[0], DeliveryOutcome::Delivered(at(23)))
        .await;
    assert_eq!(received, Ok(LeaseCompletion::Done));
}

/// N2, S1, T2: the same for an event created and leased while the clock was a day ahead, before
/// that is detected.
pub(crate) async fn a_lease_of_an_event_born_ahead_is_handed_back_at_once(stores: &dyn Stores) {
    const AHEAD_S: i64 = 86_400;
    let store = stores.open();
    let first = Some(start(1, "harbour", store.epoch));
    let order = done(&store, place(1, first)).await;
    let paid = apply(&order, 1, succeeded(), EvidenceSource::Callback, AHEAD_S);
    done(&store, paid).await;
    let dead = leased(&store, LeaseKind::Events, at(AHEAD_S))
        .await
        .remove(0);
    drop(store);
    let store = stores.open();
    let again = leased(&store, LeaseKind::Events, at(30)).await.remove(0);
    assert_eq!(again.of, dead.of);
    let received = store
        .outbox
        .complete(&again, DeliveryOutcome::Delivered(at(31)))
        .await;
    assert_eq!(received, Ok(LeaseCompletion::Done));
}

/// N2: a dead-lettered event is not delivered again by itself; one whose lease expired is.
pub(crate) async fn a_dead_lettered_event_is_not_leased(stores: &dyn Stores) {
    let store = stores.open();
    paid(&store, 1, "harbour", terms(1)).await;
    let lost = leased(&store, LeaseKind::Events, at(20)).await.remove(0);
    let held = leased(&store, LeaseKind::Events, at(20).plus(LEASE))
        .await
        .remove(0);
    assert_eq!(event_id(&lost), event_id(&held));
    assert_eq!(
        store.outbox.complete(&held, DeliveryOutcome::Dead).await,
        Ok(LeaseCompletion::Done)
    );
    assert_eq!(leased(&store, LeaseKind::Events, at(9_999)).await, []);
    let again = store
        .outbox
        .complete(&held, DeliveryOutcome::Again(at(9_999)))
        .await;
    assert_eq!(again, Ok(LeaseCompletion::LeaseLost));
}

/// N7: a destination uses its share and no more, whatever waits for it, and does not delay others.
pub(crate) async fn a_destination_has_only_its_share(stores: &dyn Stores) {
    let store = stores.open();
    let share = usize::try_from(DESTINATION_SHARE).unwrap();
    for n in 1..=DESTINATION_SHARE + 4 {
        paid(&store, n, "harbour", terms(n)).await;
    }
    let elsewhere = OrderTerms {
        return_url: "https://tea.example/notice".into(),
        ..terms(50)
    };
    paid(&store, 50, "harbour", elsewhere).await;
    let mut held = leased(&store, LeaseKind::Events, at(20)).await;
    assert_eq!(held.len(), share + 1);
    assert_eq!(leased(&store, LeaseKind::Events, at(21)).await, []);
    let next = next_due(&store, LeaseKind::Events).await;
    assert_eq!(next, Ok(Some(at(20).plus(LEASE))));
    held.retain(|lease| match &lease.of {
        LeasedWork::Event(event, _) => {
            event.destination.as_deref() != Some("https://tea.example/notice")
        }
        LeasedWork::Order(_) => false,
    });
    assert_eq!(held.len(), share);
    let received = store
        .outbox
        .complete(&held[0], DeliveryOutcome::Delivered(at(22)))
        .await;
    assert_eq!(received, Ok(LeaseCompletion::Done));
    assert_eq!(next_due(&store, LeaseKind::Events).await, Ok(Some(at(20))));
    assert_eq!(leased(&store, LeaseKind::Events, at(22)).await.len(), 1);
    let over = leased(&store, LeaseKind::Events, at(60)).await;
    assert_eq!(over.len(), share + 1);
}

/// an event without a destination waits to be fetched and is never leased.
pub(crate) async fn what_goes_nowhere_is_not_leased(stores: &dyn Stores) {
    let store = stores.open();
    let mut unheard = opening(1, terms(1));
    unheard.notice_url = None;
    let open = done(&store, Order::open(unheard, None, ChangeCause::Page, at(1))).await;
    done(
        &store,
        open.end(CloseReason::Merchant, ChangeCause::Page, at(2))
            .unwrap(),
    )
    .await;
    assert_eq!(leased(&store, LeaseKind::Events, at(9_999)).await, []);
    assert_eq!(next_due(&store, LeaseKind::Events).await, Ok(None));
}
