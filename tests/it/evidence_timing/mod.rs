//! How old news is, and whose word counts: "not found" is as old as its question (V5), a send is as
//! late as its end, and what an institution ever named as its own did arrive.

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
use paymux::store::{LeaseKind, Store};
use paymux::world::Clock;
use serde_json::json;

use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::network::ScriptedOutcome;
use crate::world::test_gateway::{PEER, TestGateway, naming, now};

/// Longer than everything can be on its way. Unit: seconds.
const LONG_S: i64 = 620;

/// Something the gateway does, which waits for the network.
struct PendingOperation<'a, T>(Pin<Box<dyn Future<Output = T> + 'a>>);

impl<'a, T> PendingOperation<'a, T> {
    fn new(doing: impl Future<Output = T> + 'a) -> Self {
        Self(Box::pin(doing))
    }

    /// Goes on until it waits; its end, if it came to that.
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

/// Closes, and does not remember a close of what it has not seen.
const FORGETFUL: FakeInstitutionAbility = FakeInstitutionAbility {
    remembers_close: false,
    ..FakeInstitutionAbility::ALL
};

const CANNOT_CLOSE: FakeInstitutionAbility = FakeInstitutionAbility {
    can_close: false,
    ..FORGETFUL
};

/// What the worker does for orders that are due, while the network holds its breath.
fn polling(gateway: &TestGateway) -> PendingOperation<'_, usize> {
    gateway.network.parties().held = true;
    PendingOperation::new(async {
        let snapshot = gateway.snapshot();
        let (store, world) = (&*gateway.api.store, &gateway.api.world);
        let due = store.lease(LeaseKind::Orders, world.clock.now(), 100);
        let leases = due.await.unwrap();
        for lease in &leases {
            poll_order(store, world, &snapshot, lease).await.unwrap();
        }
        leases.len()
    })
}

/// The one exchange on its way is answered now, and everybody stands still before it is read.
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

/// An order whose create ended so at the bank.
fn created(ability: FakeInstitutionAbility, ending: ScriptedOutcome) -> TestGateway {
    let gateway = gateway(ability);
    gateway.place("T1", json!({}));
    script(&gateway, ending);
    gateway.select("T1", "bank");
    assert_eq!(attempt(&gateway).state, AttemptState::Unknown, "{ending:?}");
    gateway
}

/// V5, R3: a refund that was not found, said before a pause in which it arrived, has not failed; its sum
/// is still held, and the institution's later word ends it.
#[test]
fn a_refund_asked_about_before_a_pause_has_not_failed() {
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
    let mut asking = polling(&gateway);
    assert!(asking.go_on().is_none());
    answered_before_a_pause(&gateway, LONG_S);
    gateway.network.arrive_late(0);
    gateway.network.release(0, ScriptedOutcome::Answered);
    assert_eq!(asking.go_on(), Some(1));
    drop(asking);
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

/// V5, A5, A2: a payment that was not found, said before a pause in which it arrived, has not failed: no
/// other institution may be chosen, and it can still be paid.
#[test]
fn a_payment_asked_about_before_a_pause_has_not_failed() {
    for ability in [FORGETFUL, CANNOT_CLOSE] {
        let gateway = created(ability, ScriptedOutcome::Late);
        gateway.advance_s(1);
        let mut asking = polling(&gateway);
        assert!(asking.go_on().is_none());
        answered_before_a_pause(&gateway, 345);
        gateway.network.arrive_late(0);
        gateway.network.release(0, ScriptedOutcome::Answered);
        assert_eq!(asking.go_on(), Some(1), "it asks nothing more on that word");
        drop(asking);
        gateway.network.parties().held = false;
        assert_eq!(attempt(&gateway).state, AttemptState::Unknown);
        gateway.advance_s(60);
        gateway.poll_unresolved();
        assert_eq!(attempt(&gateway).state, AttemptState::Accepted);
    }
}

/// V5, A5: the same of the answer to a close, with a question after it that says the same.
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
        "it asks whether it was paid first"
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

/// A5: a create that stood still with its process for minutes, between its intent and its first byte, is
/// as late as its end: nothing that is said of it before counts.
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
    let chased = |said: ScriptedOutcome| {
        let mut asking = polling(&gateway);
        if asking.go_on().is_none() {
            gateway.network.release(1, said);
            assert!(asking.go_on().is_some());
        }
    };
    chased(ScriptedOutcome::Answered);
    assert_eq!(attempt(&gateway).state, AttemptState::Unknown, "overdue");
    gateway.advance_s(60);
    chased(ScriptedOutcome::Answered);
    assert_eq!(
        attempt(&gateway).state,
        AttemptState::Unknown,
        "still leaving"
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

/// S1, T2: a send that was written down under a clock a day ahead, and that nobody came back from, is in
/// doubt as soon as the clock is right.
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
    let forward = gateway.memory.bring_forward(Some(by), gateway.clock.now());
    now(forward).unwrap();
    gateway.advance_s(20);
    assert!(polling(&gateway).go_on().is_some());
    assert_eq!(attempt(&gateway).state, AttemptState::Unknown);
}

/// T1, T2, A5: a wall clock that is set ends nothing, ahead or back, while the process runs; what truly
/// passed does.
#[test]
fn a_clock_that_is_set_is_no_waiting() {
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

/// A5, S1, T2: what an earlier process sent counts as sent when this one started, whatever the clocks of
/// both showed.
#[test]
fn a_send_of_an_earlier_process_counts_from_the_start() {
    let mut gateway = created(CANNOT_CLOSE, ScriptedOutcome::LostBefore);
    gateway.clock.set_off(7_200_000);
    gateway.advance_s(1);
    gateway.restart();
    let adopted = recover_orphaned(&*gateway.api.store, gateway.clock.now());
    now(adopted).unwrap();
    gateway.poll_unresolved();
    assert!(attempt(&gateway).state.is_live());
    gateway.advance_s(60);
    gateway.poll_unresolved();
    assert_eq!(attempt(&gateway).state, AttemptState::Failed);
}

/// V5: what a query named as open is not ended by "not found", however late, at a close or a query.
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

/// V5, A2: what the answer to a close named is not ended by "not found", also where the query right after
/// it did not find it and was too early to count.
#[test]
fn what_a_close_named_is_not_ended_by_not_found() {
    let gateway = created(FORGETFUL, ScriptedOutcome::LostAfter);
    gateway.at("bank", |books| {
        books.manners.keeps_open = true;
        books.manners.denies_queries = true;
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

/// A5, V5: a merchant's close is not ended by a "not found" that is said once: the question right after it
/// finds the payment.
#[test]
fn a_merchants_close_is_not_ended_by_one_not_found() {
    let gateway = created(FORGETFUL, ScriptedOutcome::LostAfter);
    gateway.advance_s(345);
    gateway.at("bank", |books| books.manners.denies_closes = true);
    assert_eq!(gateway.close("T1").status, 202);
    let open = attempt(&gateway);
    assert_eq!((open.state, open.named), (AttemptState::Closing, true));
}

/// V5, V3, O2: a callback of another sum is put aside, and names the payment all the same.
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

/// V5, A5: the later word counts: a close that is answered "not found" by who says "open" right after
/// ends nothing.
#[test]
fn open_said_after_not_found_counts() {
    let gateway = created(FORGETFUL, ScriptedOutcome::LostAfter);
    gateway.at("bank", |books| books.manners.denies_closes = true);
    assert_eq!(gateway.close("T1").status, 202);
    for _ in 0..2 {
        gateway.advance_s(345);
        gateway.poll_unresolved();
        let open = attempt(&gateway);
        assert_eq!((open.state, open.named), (AttemptState::Closing, true));
    }
    assert_eq!(gateway.query("T1").text("orderStatus"), "OPEN");
}

/// V5, A5: "not found" to a close, and no answer to the question after it: nothing is settled yet.
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

/// E1: that a question was not sent says nothing about the create before it.
#[test]
fn a_question_that_was_not_sent_ends_nothing() {
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
            account: None,
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

/// V3, E3: an answer that names another sum is put aside, whatever was asked: the call is in doubt at
/// once, and nothing says that it succeeded.
#[test]
fn an_answer_of_another_sum_is_unresolved_at_once() {
    let gateway = gateway(FakeInstitutionAbility::ALL);
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let id = gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    gateway.at("bank", |books| books.manners.misstates = true);
    let fields = json!({ "merchantId": "M1", "merchantOrderNo": "T1", "orderDate": "20260925",
        "mobileNo": "13812345678", "refundAmount": "5", "merchantRefundNo": "B1" });
    let told = gateway.ask("M1", "/v1/refunds", &fields);
    assert_eq!((told.status, told.text("result")), (202, "PENDING"));
    let refund = &gateway.order("T1").refunds[0];
    assert_eq!(refund.state, RefundState::Unknown);
    gateway.at("bank", |books| books.manners.misstates = false);
    gateway.advance_s(1);
    gateway.poll_unresolved();
    assert_eq!(gateway.order("T1").refunds[0].state, RefundState::Succeeded);
}

/// M6: what a callback or an answer names without a currency is in that of the order, whichever that is.
#[test]
fn a_sum_without_a_currency_is_the_orders() {
    let abilities = [("bank", FakeInstitutionAbility::ALL)];
    let snapshot = crate::world::enrolment::in_dollars(&abilities);
    let gateway = TestGateway::enrolled(&abilities, snapshot);
    for (no, by_callback) in [("T1", true), ("T2", false)] {
        gateway.place(no, json!({ "currency": "USD" }));
        gateway.select(no, "bank");
        let id = gateway.pay(no, "bank");
        gateway.at("bank", |books| books.manners.names_no_currency = true);
        if by_callback {
            assert_eq!(gateway.call_back("bank", &id).status, 200);
        } else {
            gateway.advance_s(60);
            gateway.poll_unresolved();
        }
        let told = gateway.query(no);
        assert_eq!(told.text("orderStatus"), "PAID", "{no}");
        let receipt = attempt_of(&gateway, no).receipt.unwrap();
        assert_eq!(receipt.amount.currency().code(), "USD");
        gateway.at("bank", |books| books.manners.names_no_currency = false);
    }
}
