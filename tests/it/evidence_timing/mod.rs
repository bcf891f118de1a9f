//! How old evidence is, and what counts: "not found" is as old as its query (V5), a send is as late
//! as its end, and what an institution ever named as its own has arrived.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use paymux::domain::attempt::{Attempt, AttemptState};
use paymux::domain::evidence::{
    Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment,
};
use paymux::domain::order::Applied;
use paymux::domain::refund::RefundState;
use paymux::flow::poll_unresolved::{poll_order, recover_orphaned};
use paymux::store::LeaseKind;
use paymux::world::Clock;
use serde_json::json;

use crate::store::builders::lease;
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::network::ScriptedOutcome;
use crate::world::test_gateway::{PEER, TestGateway, naming, now};

/// Longer than anything can be in transit. Unit: seconds.
const LONG_S: i64 = 620;

/// An operation of the gateway, which waits for the network.
struct PendingOperation<'a, T>(Pin<Box<dyn Future<Output = T> + 'a>>);

impl<'a, T> PendingOperation<'a, T> {
    fn new(doing: impl Future<Output = T> + 'a) -> Self {
        Self(Box::pin(doing))
    }

    /// Goes on until it waits; its result, if it ended.
    fn go_on(&mut self) -> Option<T> {
        let mut task = Context::from_waker(Waker::noop());
        match self.0.as_mut().poll(&mut task) {
            Poll::Ready(end) => Some(end),
            Poll::Pending => None,
        }
    }
}

fn gateway(ability: FakeInstitutionAbility) -> TestGateway {
    TestGateway::with(&[("bank", ability), ("purse", FakeInstitutionAbility::ALL)])
}

/// Can close, and does not remember a close of an unknown payment.
const FORGETFUL: FakeInstitutionAbility = FakeInstitutionAbility {
    remembers_close: false,
    ..FakeInstitutionAbility::ALL
};

const CANNOT_CLOSE: FakeInstitutionAbility = FakeInstitutionAbility {
    can_close: false,
    ..FORGETFUL
};

/// The worker's run over due orders, while the network holds every exchange.
fn polling(gateway: &TestGateway) -> PendingOperation<'_, usize> {
    gateway.network.parties().held = true;
    PendingOperation::new(async {
        let (store, world) = (&gateway.api.store, &gateway.api.world);
        let due = lease(store, LeaseKind::Orders, world.clock.now(), 100);
        let leases = due.await.unwrap();
        for lease in &leases {
            poll_order(gateway.api.scope(), lease).await.unwrap();
        }
        leases.len()
    })
}

/// The one exchange in transit is answered now, and time passes before the reply is read.
fn answered_before_a_pause(gateway: &TestGateway, seconds: i64) {
    assert_eq!(gateway.network.parties().waiting.len(), 1);
    gateway.network.arrive(0);
    gateway.advance_s(seconds);
}

fn attempt_of(gateway: &TestGateway, no: &str) -> Attempt {
    gateway.order(no).attempts.last().unwrap().clone()
}

fn attempt(gateway: &TestGateway) -> Attempt {
    attempt_of(gateway, "T1")
}

fn script(gateway: &TestGateway, ending: ScriptedOutcome) {
    gateway.network.parties().script.push_back(ending);
}

/// An order whose create ended in this way at the bank.
fn created(ability: FakeInstitutionAbility, ending: ScriptedOutcome) -> TestGateway {
    let gateway = gateway(ability);
    gateway.place("T1", json!({}));
    script(&gateway, ending);
    gateway.select("T1", "bank");
    assert_eq!(attempt(&gateway).state, AttemptState::Unknown, "{ending:?}");
    gateway
}

/// V5, R3: "not found" about a refund, from before a pause in which the refund arrived, does not
/// fail it; its amount is still reserved, and later evidence ends it.
#[test]
fn a_refund_queried_before_a_pause_has_not_failed() {
    let gateway = gateway(FakeInstitutionAbility {
        repeatable_refund: false,
        ..FakeInstitutionAbility::ALL
    });
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let id = gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    script(&gateway, ScriptedOutcome::Late);
    let fields = json!({ "merchantId": "M1", "merchantOrderNo": "T1", "orderDate": "20260925",
        "mobileNo": "13812345678", "refundAmount": "12.30", "merchantRefundNo": "B1" });
    assert_eq!(gateway.ask("M1", "/v1/refunds", &fields).status, 202);
    gateway.advance_s(1);
    let mut worker = polling(&gateway);
    assert!(worker.go_on().is_none());
    answered_before_a_pause(&gateway, LONG_S);
    gateway.network.arrive_late(0);
    gateway.network.release(0, ScriptedOutcome::Answered);
    assert_eq!(worker.go_on(), Some(1));
    drop(worker);
    gateway.network.parties().held = false;
    assert_eq!(gateway.order("T1").refunds[0].state, RefundState::Unknown);
    let mut again = fields;
    again["merchantRefundNo"] = "B2".into();
    let again = gateway.ask("M1", "/v1/refunds", &again);
    assert_eq!((again.status, again.result), (409, "refund_over_rest"));
    gateway.advance_s(60);
    gateway.poll_unresolved();
    assert_eq!(gateway.order("T1").refunds[0].state, RefundState::Succeeded);
}

/// V5, A5, A2: "not found" about a payment, from before a pause in which the payment arrived, does
/// not fail it: no other institution may be chosen, and it can still be paid.
#[test]
fn a_payment_queried_before_a_pause_has_not_failed() {
    for ability in [FORGETFUL, CANNOT_CLOSE] {
        let gateway = created(ability, ScriptedOutcome::Late);
        gateway.advance_s(1);
        let mut worker = polling(&gateway);
        assert!(worker.go_on().is_none());
        answered_before_a_pause(&gateway, 345);
        gateway.network.arrive_late(0);
        gateway.network.release(0, ScriptedOutcome::Answered);
        assert_eq!(
            worker.go_on(),
            Some(1),
            "that reply leads to no further query"
        );
        drop(worker);
        gateway.network.parties().held = false;
        assert_eq!(attempt(&gateway).state, AttemptState::Unknown);
        gateway.advance_s(60);
        gateway.poll_unresolved();
        assert_eq!(attempt(&gateway).state, AttemptState::Accepted);
    }
}

/// V5, A5: the same for the reply to a close, with a query after it that says the same.
#[test]
fn a_close_answered_before_a_pause_ends_nothing() {
    let gateway = created(FORGETFUL, ScriptedOutcome::Late);
    assert_eq!(gateway.close("T1").status, 202);
    gateway.advance_s(1);
    let mut closing = polling(&gateway);
    assert!(closing.go_on().is_none());
    answered_before_a_pause(&gateway, 345);
    gateway.network.release(0, ScriptedOutcome::Answered);
    assert!(
        closing.go_on().is_none(),
        "it queries first whether it was paid"
    );
    gateway.network.release(0, ScriptedOutcome::Answered);
    assert_eq!(closing.go_on(), Some(1));
    drop(closing);
    assert_eq!(attempt(&gateway).state, AttemptState::Closing);
    gateway.network.arrive_late(0);
    gateway.network.parties().held = false;
    gateway.advance_s(60);
    gateway.poll_unresolved();
    assert_eq!(attempt(&gateway).state, AttemptState::Closed);
}

/// A5: a create whose process paused for minutes, between its intent and its first byte, is as late
/// as its end: no earlier evidence counts.
#[test]
fn a_send_is_as_late_as_its_end() {
    let gateway = gateway(CANNOT_CLOSE);
    gateway.place("T1", json!({}));
    gateway.network.parties().held = true;
    let mut body = naming("T1");
    body["institutionId"] = "bank".into();
    let request = gateway.signed("M1", "/v1/orders/select", &body);
    let mut selecting = PendingOperation::new(gateway.api.answer(request, PEER));
    assert!(selecting.go_on().is_none());
    gateway.advance_s(LONG_S);
    let poll_until_released = |outcome: ScriptedOutcome| {
        let mut worker = polling(&gateway);
        if worker.go_on().is_none() {
            gateway.network.release(1, outcome);
            assert!(worker.go_on().is_some());
        }
    };
    poll_until_released(ScriptedOutcome::Answered);
    assert_eq!(attempt(&gateway).state, AttemptState::Unknown, "overdue");
    gateway.advance_s(60);
    poll_until_released(ScriptedOutcome::Answered);
    assert_eq!(
        attempt(&gateway).state,
        AttemptState::Unknown,
        "still being sent"
    );
    gateway.network.parties().waiting[0].sent = gateway.clock.truth();
    gateway.network.release(0, ScriptedOutcome::Late);
    assert!(selecting.go_on().is_some());
    gateway.network.parties().held = false;
    gateway.advance_s(15);
    gateway.poll_unresolved();
    assert_eq!(attempt(&gateway).state, AttemptState::Unknown, "just sent");
    gateway.network.arrive_late(0);
    gateway.advance_s(60);
    gateway.poll_unresolved();
    assert_eq!(attempt(&gateway).state, AttemptState::Accepted);
}

/// S1, T2: a send that was recorded under a clock a day ahead, by a process that died, is
/// unresolved as soon as the clock is corrected.
#[test]
fn an_intent_dated_ahead_is_unresolved() {
    let gateway = gateway(CANNOT_CLOSE);
    gateway.clock.set_off(86_400_000);
    gateway.place("T1", json!({}));
    gateway.network.parties().held = true;
    let mut body = naming("T1");
    body["institutionId"] = "bank".into();
    let request = gateway.signed("M1", "/v1/orders/select", &body);
    let mut selecting = PendingOperation::new(gateway.api.answer(request, PEER));
    assert!(selecting.go_on().is_none());
    assert_eq!(attempt(&gateway).state, AttemptState::Intent);
    gateway.clock.set_off(0);
    let by = std::time::Duration::from_hours(24);
    let nodes = &gateway.api.store.nodes;
    let forward = nodes.bring_forward(Some(by), gateway.clock.now());
    now(forward).unwrap();
    gateway.advance_s(20);
    assert!(polling(&gateway).go_on().is_some());
    assert_eq!(attempt(&gateway).state, AttemptState::Unknown);
}

/// T1, T2, A5: a wall clock that is set, ahead or back, ends nothing while the process runs;
/// elapsed time does.
#[test]
fn setting_the_clock_is_not_elapsed_time() {
    let gateway = created(CANNOT_CLOSE, ScriptedOutcome::LostBefore);
    for off_ms in [7_200_000, 14_400_000] {
        gateway.clock.set_off(off_ms);
        gateway.advance_s(1);
        assert_eq!(gateway.poll_unresolved(), 1);
        assert!(attempt(&gateway).state.is_live(), "{off_ms}");
    }
    gateway.clock.set_off(21_600_000);
    gateway.advance_s(40);
    gateway.poll_unresolved();
    let ended = attempt(&gateway);
    assert_eq!(ended.state, AttemptState::Failed);
    assert_eq!(ended.reason.unwrap().as_str(), "NEVER_ARRIVED");
}

/// A5, S1, T2: a send of an earlier process counts as sent when this one started, whatever both
/// clocks showed.
#[test]
fn a_send_of_an_earlier_process_counts_from_the_start() {
    let mut gateway = created(CANNOT_CLOSE, ScriptedOutcome::LostBefore);
    gateway.clock.set_off(7_200_000);
    gateway.advance_s(1);
    gateway.restart();
    let recovered = recover_orphaned(&gateway.api.store, gateway.clock.now());
    now(recovered).unwrap();
    gateway.poll_unresolved();
    assert!(attempt(&gateway).state.is_live());
    gateway.advance_s(60);
    gateway.poll_unresolved();
    assert_eq!(attempt(&gateway).state, AttemptState::Failed);
}

/// V5: what a query reported as open is not ended by "not found", however late, to a close or a
/// query.
#[test]
fn what_a_query_named_is_not_ended_by_not_found() {
    for ability in [FORGETFUL, CANNOT_CLOSE] {
        let gateway = created(ability, ScriptedOutcome::LostAfter);
        gateway.advance_s(1);
        gateway.poll_unresolved();
        assert_eq!(attempt(&gateway).state, AttemptState::Accepted);
        let id = gateway.attempt("T1", "bank");
        let hide = |is_hidden| {
            gateway.at("bank", |books| {
                books.payments.get_mut(&id).unwrap().is_hidden = is_hidden;
            });
        };
        hide(true);
        gateway.advance_s(345);
        assert_eq!(gateway.close("T1").text("orderStatus"), "OPEN");
        for _ in 0..3 {
            gateway.advance_s(60);
            gateway.poll_unresolved();
            assert_eq!(attempt(&gateway).state, AttemptState::Closing);
        }
        hide(false);
        gateway.pay("T1", "bank");
        gateway.advance_s(3_600);
        gateway.poll_unresolved();
        assert_eq!(attempt(&gateway).state, AttemptState::Paid);
    }
}

/// V5, A2: what the reply to a close named is not ended by "not found", also where the query right
/// after it did not find it and was too early to count.
#[test]
fn what_a_close_named_is_not_ended_by_not_found() {
    let gateway = created(FORGETFUL, ScriptedOutcome::LostAfter);
    gateway.at("bank", |books| {
        books.behaviours.keeps_open = true;
        books.behaviours.denies_queries = true;
    });
    gateway.select("T1", "purse");
    gateway.advance_s(1);
    gateway.poll_unresolved();
    let named = attempt(&gateway);
    assert_eq!((named.state, named.named), (AttemptState::Closing, true));
    let id = gateway.attempt("T1", "bank");
    gateway.at("bank", |books| {
        books.payments.get_mut(&id).unwrap().is_hidden = true;
    });
    for _ in 0..3 {
        gateway.advance_s(345);
        gateway.poll_unresolved();
        assert_eq!(attempt(&gateway).state, AttemptState::Closing);
    }
}

/// A5, V5: a merchant's close is not ended by a single "not found": the query right after it finds
/// the payment.
#[test]
fn a_merchants_close_is_not_ended_by_one_not_found() {
    let gateway = created(FORGETFUL, ScriptedOutcome::LostAfter);
    gateway.advance_s(345);
    gateway.at("bank", |books| books.behaviours.denies_closes = true);
    assert_eq!(gateway.close("T1").status, 202);
    let open = attempt(&gateway);
    assert_eq!((open.state, open.named), (AttemptState::Closing, true));
}

/// V5, V3, O2: a callback with another amount is quarantined, and names the payment all the same.
#[test]
fn what_a_false_callback_named_is_not_ended_by_not_found() {
    let gateway = created(CANNOT_CLOSE, ScriptedOutcome::LostAfter);
    let id = gateway.attempt("T1", "bank");
    let truth = gateway.clock.truth();
    let callback = gateway.at("bank", |books| {
        let mut body = books.success(&id, truth);
        body["minor"] = 1.into();
        books.payments.get_mut(&id).unwrap().is_hidden = true;
        books.message(&body)
    });
    assert_eq!(gateway.send(callback).result, "QUARANTINED");
    let named = attempt(&gateway);
    assert_eq!((named.state, named.named), (AttemptState::Unknown, true));
    gateway.advance_s(LONG_S);
    gateway.poll_unresolved();
    assert_eq!(attempt(&gateway).state, AttemptState::Unknown);
}

/// V5, A5: the later evidence counts: a close answered "not found" by an institution that says
/// "open" right after ends nothing.
#[test]
fn open_reported_after_not_found_counts() {
    let gateway = created(FORGETFUL, ScriptedOutcome::LostAfter);
    gateway.at("bank", |books| books.behaviours.denies_closes = true);
    assert_eq!(gateway.close("T1").status, 202);
    for _ in 0..2 {
        gateway.advance_s(345);
        gateway.poll_unresolved();
        let open = attempt(&gateway);
        assert_eq!((open.state, open.named), (AttemptState::Closing, true));
    }
    assert_eq!(gateway.query("T1").text("orderStatus"), "OPEN");
}

/// V5, A5: "not found" to a close, and no reply to the query after it: nothing is ended yet.
#[test]
fn not_found_alone_ends_nothing() {
    let gateway = created(FORGETFUL, ScriptedOutcome::LostBefore);
    assert_eq!(gateway.close("T1").status, 202);
    gateway.advance_s(345);
    script(&gateway, ScriptedOutcome::Answered);
    script(&gateway, ScriptedOutcome::LostBefore);
    gateway.poll_unresolved();
    assert_eq!(attempt(&gateway).state, AttemptState::Closing);
    gateway.advance_s(60);
    gateway.poll_unresolved();
    assert_eq!(attempt(&gateway).state, AttemptState::Failed);
}

/// E1: a query that was not sent is no evidence about the create before it.
#[test]
fn a_query_that_was_not_sent_ends_nothing() {
    let gateway = gateway(FORGETFUL);
    gateway.place("T1", json!({}));
    gateway.network.parties().held = true;
    let mut body = naming("T1");
    body["institutionId"] = "bank".into();
    let request = gateway.signed("M1", "/v1/orders/select", &body);
    let mut selecting = PendingOperation::new(gateway.api.answer(request, PEER));
    assert!(selecting.go_on().is_none());
    let order = gateway.order("T1");
    let created = attempt(&gateway);
    assert_eq!(created.state, AttemptState::Intent);
    let facts = gateway.snapshot().adapters[&created.institution]
        .facts()
        .clone();
    for by in [
        EvidenceSource::Query,
        EvidenceSource::Close,
        EvidenceSource::Create,
    ] {
        let evidence = Evidence {
            institution: created.institution.clone(),
            accounts: None,
            receiver: None,
            about: EvidenceSubject::Attempt(created.id.clone()),
            by,
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: false,
            finding: Finding::NotSent,
        };
        let applied = order.apply(&evidence, &facts, gateway.clock.now());
        let ends = matches!(applied, Applied::Commit(_));
        assert_eq!(ends, by == EvidenceSource::Create, "{by:?}");
    }
}

/// V3, E3: a reply with another amount is quarantined, whatever the call was: the call is
/// unresolved at once, and nothing says that it succeeded.
#[test]
fn a_reply_with_another_amount_is_unresolved_at_once() {
    let gateway = gateway(FakeInstitutionAbility::ALL);
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let id = gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    gateway.at("bank", |books| books.behaviours.misstates = true);
    let fields = json!({ "merchantId": "M1", "merchantOrderNo": "T1", "orderDate": "20260925",
        "mobileNo": "13812345678", "refundAmount": "5", "merchantRefundNo": "B1" });
    let reply = gateway.ask("M1", "/v1/refunds", &fields);
    assert_eq!((reply.status, reply.text("result")), (202, "PENDING"));
    let refund = &gateway.order("T1").refunds[0];
    assert_eq!(refund.state, RefundState::Unknown);
    gateway.at("bank", |books| books.behaviours.misstates = false);
    gateway.advance_s(1);
    gateway.poll_unresolved();
    assert_eq!(gateway.order("T1").refunds[0].state, RefundState::Succeeded);
}

/// M6: an amount without a currency in a callback or reply is in the order's currency.
#[test]
fn an_amount_without_a_currency_is_in_the_orders() {
    let abilities = [("bank", FakeInstitutionAbility::ALL)];
    let snapshot = crate::world::enrolment::in_dollars(&abilities);
    let gateway = TestGateway::enrolled(&abilities, snapshot);
    for (no, by_callback) in [("T1", true), ("T2", false)] {
        gateway.place(no, json!({ "currency": "USD" }));
        gateway.select(no, "bank");
        let id = gateway.pay(no, "bank");
        gateway.at("bank", |books| books.behaviours.names_no_currency = true);
        if by_callback {
            assert_eq!(gateway.call_back("bank", &id).status, 200);
        } else {
            gateway.advance_s(60);
            gateway.poll_unresolved();
        }
        let reply = gateway.query(no);
        assert_eq!(reply.text("orderStatus"), "PAID", "{no}");
        let receipt = attempt_of(&gateway, no).receipt.unwrap();
        assert_eq!(receipt.amount.currency().code(), "USD");
        gateway.at("bank", |books| books.behaviours.names_no_currency = false);
    }
}
