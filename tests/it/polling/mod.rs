//! When an institution is queried, and when not: by each object's own schedule, by signals; a query
//! that we held back ourselves does not count.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::attempt::AttemptState;
use paymux::domain::identifiers::{AttemptId, InstitutionId, MerchantId};
use paymux::domain::order::{OrderState, Urgency};
use paymux::domain::refund::RefundState;
use paymux::flow::poll_unresolved::{poll_order, poll_signalled_order};
use paymux::store::LeaseKind;
use paymux::world::{
    Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError,
};
use serde_json::{Value, json};

use crate::store::builders::lease;
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::network::{ScriptedOutcome, TestNetwork};
use crate::world::test_gateway::{PEER, TestGateway, changed, naming, now};

/// Number of calls of this kind that were sent to institutions so far.
fn calls(gateway: &TestGateway, word: &str) -> usize {
    let parties = gateway.network.parties();
    let bodies = parties.sent.iter().map(|(_, request)| request.body());
    let queries = bodies.filter(|body| {
        let queries: Value = serde_json::from_slice(body).unwrap_or_default();
        queries["call"] == word
    });
    queries.count()
}

/// Lets this many seconds pass, running due work ten times in each; the times of calls of this
/// kind. Unit: milliseconds.
fn moments(gateway: &TestGateway, word: &str, seconds: i64) -> Vec<i64> {
    let mut moments = Vec::new();
    let began = gateway.clock.truth();
    while gateway.clock.truth() < began + seconds * 1_000 {
        let before = calls(gateway, word);
        gateway.poll_unresolved();
        let truth = gateway.clock.truth() - began;
        moments.extend((before..calls(gateway, word)).map(|_| truth));
        gateway.clock.pass(100);
    }
    moments
}

/// The worker's run for due signals; how many orders were queried.
fn follow(gateway: &TestGateway) -> usize {
    let (store, world) = (&gateway.api.store, &gateway.api.world);
    let due = world.signals.due(world.clock.now(), 100, |_| 100);
    let orders: Vec<_> = due.into_iter().map(|(order, _)| order).collect();
    let leases = now(store.unresolved.lease_named(&orders, world.clock.now())).unwrap();
    for lease in &leases {
        now(poll_signalled_order(gateway.api.scope(), lease)).unwrap();
    }
    leases.len()
}

fn look(gateway: &TestGateway, path: &str) {
    let no = gateway.order("T1");
    let path = format!("/pay/{}{path}", no.page_token().expose());
    let request = Request::get(path).body(Bytes::new()).unwrap();
    assert_eq!(gateway.send_from(request, PEER).status, 200);
}

/// An order that waits for its payer at the bank.
fn waiting() -> TestGateway {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    assert_eq!(
        gateway.order("T1").attempts[0].state,
        AttemptState::Accepted
    );
    gateway
}

/// M1 refunds this much of its order, under a number of its own.
fn refund_fields(no: &str, sum: &str) -> Value {
    let changes = json!({
        "orderDate": "20260925",
        "refundAmount": sum,
        "mobileNo": "13812345678",
        "merchantRefundNo": format!("R-{}", sum.replace('.', "-")),
    });
    changed(naming(no), changes)
}

/// A6: a payment that waits for its payer is queried 20 and 60 s after it was accepted, then each
/// minute, each time up to a fifth later; this finds a lost callback.
#[test]
fn a_payment_that_waits_is_seldom_queried() {
    let gateway = waiting();
    let queries = moments(&gateway, "query", 400);
    let waits: Vec<i64> = queries.windows(2).map(|two| two[1] - two[0]).collect();
    assert!((20_000..=24_100).contains(&queries[0]), "{queries:?}");
    assert!((40_000..=48_100).contains(&waits[0]), "{queries:?}");
    assert!(
        waits[1..].iter().all(|one| (60_000..=72_100).contains(one)),
        "{queries:?}"
    );
    gateway.pay("T1", "bank");
    moments(&gateway, "query", 75);
    assert_eq!(gateway.order("T1").state, OrderState::Paid);
}

/// A payer who is back on the page has the institution queried at once; so do a read of the status
/// and the merchant's query, three seconds apart.
#[test]
fn signals_have_it_queried_at_once() {
    let gateway = waiting();
    gateway.advance_s(2);
    assert_eq!(follow(&gateway), 0, "nothing was seen");
    look(&gateway, "");
    assert_eq!((follow(&gateway), calls(&gateway, "query")), (1, 1));
    assert_eq!(
        gateway.order("T1").attempts[0].schedule.asked,
        0,
        "does not count in the schedule"
    );
    gateway.pay("T1", "bank");
    gateway.advance_s(2);
    assert_eq!(follow(&gateway), 1, "two seconds after the return");
    assert_eq!(gateway.order("T1").state, OrderState::Paid);
    assert_eq!(gateway.deliver().len(), 1);
    gateway.advance_s(10);
    assert_eq!(follow(&gateway), 0, "a paid order is not queried");

    let gateway = waiting();
    look(&gateway, "/status");
    assert_eq!(follow(&gateway), 1);
    gateway.advance_s(1);
    assert_eq!(gateway.query("T1").text("orderStatus"), "OPEN");
    assert_eq!(follow(&gateway), 0);
    gateway.advance_s(2);
    assert_eq!(follow(&gateway), 1);
    assert_eq!(calls(&gateway, "query"), 2);
}

/// An institution whose callbacks go missing has its payments queried 3, 5, 10, 20 and 30 s after
/// they were accepted.
#[test]
fn payments_are_queried_more_often_where_callbacks_go_missing() {
    let gateway = TestGateway::new();
    let bank = InstitutionId::parse("bank").unwrap();
    let clock = &gateway.api.world.clock;
    let began = clock.now();
    for n in 0..100_u8 {
        let id = AttemptId::mint(began, [n; 10]);
        gateway.api.world.health.found(&bank, &id, began, began);
    }
    gateway.advance_s(1_000);
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let mut queries = Vec::new();
    for step in 0..400 {
        let before = calls(&gateway, "query");
        gateway.poll_unresolved();
        follow(&gateway);
        queries.extend((before..calls(&gateway, "query")).map(|_| step * 100));
        gateway.clock.pass(100);
    }
    assert_eq!(queries.len(), 5, "{queries:?}");
    for (at, least) in queries.iter().zip([3_000, 5_000, 10_000, 20_000, 30_000]) {
        assert!((least..=least * 6 / 5 + 500).contains(at), "{queries:?}");
    }
}

/// R4, A6: a refund that the institution does not know is sent again by its schedule, which no
/// other change of its order restarts.
#[test]
fn a_refund_that_is_not_found_is_sent_again_by_its_schedule() {
    let gateway = waiting();
    let id = gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    let lost = [ScriptedOutcome::FaultBefore, ScriptedOutcome::Answered]
        .into_iter()
        .cycle();
    gateway.network.parties().script.extend(lost.take(400));
    assert_eq!(
        gateway
            .ask("M1", "/v1/refunds", &refund_fields("T1", "5"))
            .status,
        202
    );
    let again = moments(&gateway, "refund", 60);
    assert!((4..=8).contains(&again.len()), "{again:?}");
    let waits: Vec<i64> = again.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(waits.windows(2).all(|two| two[0] < two[1]), "{waits:?}");
    let before = gateway.order("T1").refunds[0].schedule;
    // The next refund goes through at once, and moves the order.
    gateway.network.parties().script.clear();
    assert_eq!(
        gateway
            .ask("M1", "/v1/refunds", &refund_fields("T1", "1"))
            .status,
        200
    );
    let refunds = gateway.order("T1").refunds;
    assert_eq!(refunds[1].state, RefundState::Succeeded);
    assert_eq!(refunds[0].schedule, before);
}

/// R4: a refund under manual review is queried daily, and not before.
#[test]
fn a_refund_under_manual_review_is_queried_daily() {
    let gateway = waiting();
    let id = gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    gateway.at("bank", |books| books.behaviours.uses_unlisted_word = true);
    assert_eq!(
        gateway
            .ask("M1", "/v1/refunds", &refund_fields("T1", "5"))
            .status,
        202
    );
    while gateway.order("T1").refunds[0].state != RefundState::Manual {
        gateway.advance_s(4_000);
        gateway.poll_unresolved();
    }
    let before = calls(&gateway, "refund_query");
    for _ in 0..23 {
        gateway.advance_s(3_600);
        gateway.poll_unresolved();
    }
    assert_eq!(calls(&gateway, "refund_query"), before);
    gateway.advance_s(3_700);
    gateway.poll_unresolved();
    assert_eq!(calls(&gateway, "refund_query"), before + 1);
}

/// N10: one lease, one object: however many refunds of an order are unresolved, each is queried
/// within a lease of its own.
#[test]
fn many_unresolved_refunds_are_queried_one_by_one() {
    let gateway = waiting();
    let id = gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    gateway.at("bank", |books| books.behaviours.uses_unlisted_word = true);
    for n in 1..=9 {
        let sum = format!("0.0{n}");
        assert_eq!(
            gateway
                .ask("M1", "/v1/refunds", &refund_fields("T1", &sum))
                .status,
            202
        );
    }
    gateway.advance_s(1);
    let (store, world) = (&*gateway.api.store, &gateway.api.world);
    for queries in 1..=9 {
        let leases = now(lease(store, LeaseKind::Orders, world.clock.now(), 10)).unwrap();
        assert_eq!(leases.len(), 1);
        now(poll_order(gateway.api.scope(), &leases[0])).unwrap();
        assert_eq!(calls(&gateway, "refund_query"), queries);
    }
    assert_eq!(gateway.poll_unresolved(), 0);
}

/// A network whose institutions have no permit for a query at present.
struct QueryLimitedNetwork(Arc<TestNetwork>);

#[async_trait]
impl Outbound for QueryLimitedNetwork {
    async fn send(
        &self,
        party: &OutboundParty,
        request: Request<Bytes>,
        options: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        self.0.send(party, request, options).await
    }

    async fn permit(&self, _: &InstitutionId, _: &MerchantId) -> Result<Permit, PermitUnavailable> {
        Ok(Permit::free())
    }

    async fn acquire_question_permit(
        &self,
        _: &InstitutionId,
        _: Urgency,
    ) -> Result<Permit, PermitUnavailable> {
        let wait = std::time::Duration::from_secs(1);
        Err(PermitUnavailable { wait })
    }
}

/// A query that we held back ourselves does not count in the schedule, and is sent as soon as there
/// is a permit.
#[test]
fn a_query_that_we_did_not_send_does_not_count() {
    let mut gateway = waiting();
    let id = gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::FaultAfter);
    assert_eq!(
        gateway
            .ask("M1", "/v1/refunds", &refund_fields("T1", "5"))
            .status,
        202
    );
    let free = Arc::clone(&gateway.api.world.outbound);
    gateway.api.world.outbound = Arc::new(QueryLimitedNetwork(Arc::clone(&gateway.network)));
    assert!(moments(&gateway, "refund_query", 60).is_empty());
    let refund = gateway.order("T1").refunds[0].clone();
    assert_eq!(
        (refund.state, refund.schedule.asked),
        (RefundState::Unknown, 0)
    );
    gateway.api.world.outbound = free;
    gateway.advance_s(1);
    gateway.poll_unresolved();
    assert_eq!(gateway.order("T1").refunds[0].state, RefundState::Succeeded);
}

/// H1: a query that could not be sent for a shortage of our own, a file or a signature, does not
/// count; it is retried at its own pace, and not each second for as long as the shortage lasts.
#[test]
fn a_shortage_of_ours_counts_as_no_query() {
    let gateway = waiting();
    let id = gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::FaultAfter);
    assert_eq!(
        gateway
            .ask("M1", "/v1/refunds", &refund_fields("T1", "5"))
            .status,
        202
    );
    gateway
        .network
        .parties()
        .script
        .extend([ScriptedOutcome::Shortage; 1_000]);
    let tried = moments(&gateway, "refund_query", 60);
    assert!((2..=20).contains(&tried.len()), "{tried:?}");
    let refund = gateway.order("T1").refunds[0].clone();
    assert_eq!(
        (refund.state, refund.schedule.asked),
        (RefundState::Unknown, 0)
    );
    gateway.network.parties().script.clear();
    moments(&gateway, "refund_query", 31);
    assert_eq!(gateway.order("T1").refunds[0].state, RefundState::Succeeded);
}

/// A4, R4: an excess refund whose first call was sent long after it was reserved is sent again like
/// any other.
#[test]
fn an_excess_refund_that_was_first_sent_late_is_sent_again() {
    let gateway = TestGateway::with(&[("bank", FakeInstitutionAbility::ALL)]);
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let id = gateway.attempt("T1", "bank");
    assert_eq!(gateway.close("T1").text("result"), "CLOSED");
    gateway.at("bank", |books| books.behaviours.takes_after_end = true);
    gateway.pay("T1", "bank");
    assert_eq!(gateway.call_back("bank", &id).status, 200);
    // For fifteen minutes the bank cannot be reached, then a call is lost.
    gateway
        .network
        .parties()
        .script
        .extend([ScriptedOutcome::NotSent; 15]);
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::LostBefore);
    for _ in 0..16 {
        gateway.poll_unresolved();
        gateway.advance_s(61);
    }
    assert_eq!(gateway.order("T1").refunds[0].state, RefundState::Unknown);
    let sent = calls(&gateway, "refund");
    let again = moments(&gateway, "refund", 10);
    assert_eq!((sent, again.len()), (16, 1));
    assert_eq!(gateway.order("T1").refunds[0].state, RefundState::Succeeded);
}
