//! How old news is, and whose word counts: "not found" is as old as its question (V5), a send is as
//! late as its end, and what an institution ever named as its own did arrive.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use paymux::domain::attempt::{Attempt, AttemptState};
use paymux::domain::evidence::{About, Along, Evidence, Finding, Means};
use paymux::domain::order::Weighed;
use paymux::domain::refund::RefundState;
use paymux::flow::chase_doubts::{adopt_leftovers, chase_order};
use paymux::store::{Store, Work};
use paymux::world::Clock;
use serde_json::json;

use crate::world::books::Ability;
use crate::world::network::Ending;
use crate::world::town::{PEER, Town, naming, now};

/// Longer than everything can be on its way. Unit: seconds.
const LONG_S: i64 = 620;

/// Something the gateway does, which waits for the network.
struct Doing<'a, T>(Pin<Box<dyn Future<Output = T> + 'a>>);

impl<'a, T> Doing<'a, T> {
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

fn town(ability: Ability) -> Town {
    Town::with(&[("bank", ability), ("purse", Ability::ALL)])
}

/// Closes, and does not remember a close of what it has not seen.
const FORGETFUL: Ability = Ability {
    remembers_close: false,
    ..Ability::ALL
};

const CANNOT_CLOSE: Ability = Ability {
    can_close: false,
    ..FORGETFUL
};

/// What the worker does for orders that are due, while the network holds its breath.
fn chasing(town: &Town) -> Doing<'_, usize> {
    town.network.parties().held = true;
    Doing::new(async {
        let register = town.register();
        let (store, world) = (&*town.api.store, &town.api.world);
        let due = store.lease(Work::Orders, world.clock.now(), 100);
        let leases = due.await.unwrap();
        for lease in &leases {
            chase_order(store, world, &register, lease).await.unwrap();
        }
        leases.len()
    })
}

/// The one exchange on its way is answered now, and everybody stands still before it is read.
fn answered_before_a_pause(town: &Town, seconds: i64) {
    assert_eq!(town.network.parties().waiting.len(), 1);
    town.network.arrive(0);
    town.pass_s(seconds);
}

fn attempt_of(town: &Town, no: &str) -> Attempt {
    town.order(no).attempts.last().unwrap().clone()
}

fn attempt(town: &Town) -> Attempt {
    attempt_of(town, "T1")
}

fn script(town: &Town, ending: Ending) {
    town.network.parties().script.push_back(ending);
}

/// An order whose create ended so at the bank.
fn created(ability: Ability, ending: Ending) -> Town {
    let town = town(ability);
    town.place("T1", json!({}));
    script(&town, ending);
    town.select("T1", "bank");
    assert_eq!(attempt(&town).state, AttemptState::Unknown, "{ending:?}");
    town
}

/// V5, R3: a refund that was not found, said before a pause in which it arrived, has not failed; its sum
/// is still held, and the institution's later word ends it.
#[test]
fn a_refund_asked_about_before_a_pause_has_not_failed() {
    let town = town(Ability {
        repeatable_refund: false,
        ..Ability::ALL
    });
    town.place("T1", json!({}));
    town.select("T1", "bank");
    let id = town.pay("T1", "bank");
    town.call_back("bank", &id);
    script(&town, Ending::Late);
    let fields = json!({ "merchantId": "M1", "merchantOrderNo": "T1", "orderDate": "20260925",
        "mobileNo": "13812345678", "refundAmount": "12.30", "merchantRefundNo": "B1" });
    assert_eq!(town.ask("M1", "/v1/refunds", &fields).status, 202);
    town.pass_s(1);
    let mut asking = chasing(&town);
    assert!(asking.go_on().is_none());
    answered_before_a_pause(&town, LONG_S);
    town.network.arrive_late(0);
    town.network.release(0, Ending::Answered);
    assert_eq!(asking.go_on(), Some(1));
    drop(asking);
    town.network.parties().held = false;
    assert_eq!(town.order("T1").refunds[0].state, RefundState::Unknown);
    let mut again = fields;
    again["merchantRefundNo"] = "B2".into();
    let again = town.ask("M1", "/v1/refunds", &again);
    assert_eq!((again.status, again.result), (409, "refund_over_rest"));
    town.pass_s(60);
    town.chase();
    assert_eq!(town.order("T1").refunds[0].state, RefundState::Succeeded);
}

/// V5, A5, A2: a payment that was not found, said before a pause in which it arrived, has not failed: no
/// other institution may be chosen, and it can still be paid.
#[test]
fn a_payment_asked_about_before_a_pause_has_not_failed() {
    for ability in [FORGETFUL, CANNOT_CLOSE] {
        let town = created(ability, Ending::Late);
        town.pass_s(1);
        let mut asking = chasing(&town);
        assert!(asking.go_on().is_none());
        answered_before_a_pause(&town, 345);
        town.network.arrive_late(0);
        town.network.release(0, Ending::Answered);
        assert_eq!(asking.go_on(), Some(1), "it asks nothing more on that word");
        drop(asking);
        town.network.parties().held = false;
        assert_eq!(attempt(&town).state, AttemptState::Unknown);
        town.pass_s(60);
        town.chase();
        assert_eq!(attempt(&town).state, AttemptState::Accepted);
    }
}

/// V5, A5: the same of the answer to a close, with a question after it that says the same.
#[test]
fn a_close_answered_before_a_pause_ends_nothing() {
    let town = created(FORGETFUL, Ending::Late);
    assert_eq!(town.close("T1").status, 202);
    town.pass_s(1);
    let mut closing = chasing(&town);
    assert!(closing.go_on().is_none());
    answered_before_a_pause(&town, 345);
    town.network.release(0, Ending::Answered);
    assert!(
        closing.go_on().is_none(),
        "it asks whether it was paid first"
    );
    town.network.release(0, Ending::Answered);
    assert_eq!(closing.go_on(), Some(1));
    drop(closing);
    assert_eq!(attempt(&town).state, AttemptState::Closing);
    town.network.arrive_late(0);
    town.network.parties().held = false;
    town.pass_s(60);
    town.chase();
    assert_eq!(attempt(&town).state, AttemptState::Closed);
}

/// A5: a create that stood still with its process for minutes, between its intent and its first byte, is
/// as late as its end: nothing that is said of it before counts.
#[test]
fn a_send_is_as_late_as_its_end() {
    let town = town(CANNOT_CLOSE);
    town.place("T1", json!({}));
    town.network.parties().held = true;
    let mut body = naming("T1");
    body["institutionId"] = "bank".into();
    let request = town.signed("M1", "/v1/orders/select", &body);
    let mut selecting = Doing::new(town.api.answer(request, PEER));
    assert!(selecting.go_on().is_none());
    town.pass_s(LONG_S);
    let chased = |said: Ending| {
        let mut asking = chasing(&town);
        if asking.go_on().is_none() {
            town.network.release(1, said);
            assert!(asking.go_on().is_some());
        }
    };
    chased(Ending::Answered);
    assert_eq!(attempt(&town).state, AttemptState::Unknown, "overdue");
    town.pass_s(60);
    chased(Ending::Answered);
    assert_eq!(attempt(&town).state, AttemptState::Unknown, "still leaving");
    town.network.parties().waiting[0].sent = town.clock.truth();
    town.network.release(0, Ending::Late);
    assert!(selecting.go_on().is_some());
    town.network.parties().held = false;
    town.pass_s(15);
    town.chase();
    assert_eq!(attempt(&town).state, AttemptState::Unknown, "just sent");
    town.network.arrive_late(0);
    town.pass_s(60);
    town.chase();
    assert_eq!(attempt(&town).state, AttemptState::Accepted);
}

/// S1, T2: a send that was written down under a clock a day ahead, and that nobody came back from, is in
/// doubt as soon as the clock is right.
#[test]
fn an_intent_dated_ahead_is_doubted() {
    let town = town(CANNOT_CLOSE);
    town.clock.set_off(86_400_000);
    town.place("T1", json!({}));
    town.network.parties().held = true;
    let mut body = naming("T1");
    body["institutionId"] = "bank".into();
    let request = town.signed("M1", "/v1/orders/select", &body);
    let mut selecting = Doing::new(town.api.answer(request, PEER));
    assert!(selecting.go_on().is_none());
    assert_eq!(attempt(&town).state, AttemptState::Intent);
    town.clock.set_off(0);
    let by = std::time::Duration::from_hours(24);
    let forward = town.memory.bring_forward(Some(by), town.clock.now());
    now(forward).unwrap();
    town.pass_s(20);
    assert!(chasing(&town).go_on().is_some());
    assert_eq!(attempt(&town).state, AttemptState::Unknown);
}

/// T1, T2, A5: a wall clock that is set ends nothing, ahead or back, while the process runs; what truly
/// passed does.
#[test]
fn a_clock_that_is_set_is_no_waiting() {
    let town = created(CANNOT_CLOSE, Ending::LostBefore);
    for off_ms in [7_200_000, 14_400_000] {
        town.clock.set_off(off_ms);
        town.pass_s(1);
        assert_eq!(town.chase(), 1);
        assert!(attempt(&town).state.is_live(), "{off_ms}");
    }
    town.clock.set_off(21_600_000);
    town.pass_s(40);
    town.chase();
    let ended = attempt(&town);
    assert_eq!(ended.state, AttemptState::Failed);
    assert_eq!(ended.reason.unwrap().as_str(), "NEVER_ARRIVED");
}

/// A5, S1, T2: what an earlier process sent counts as sent when this one started, whatever the clocks of
/// both showed.
#[test]
fn a_send_of_an_earlier_process_counts_from_the_start() {
    let mut town = created(CANNOT_CLOSE, Ending::LostBefore);
    town.clock.set_off(7_200_000);
    town.pass_s(1);
    town.restart();
    let adopted = adopt_leftovers(&*town.api.store, town.clock.now());
    now(adopted).unwrap();
    town.chase();
    assert!(attempt(&town).state.is_live());
    town.pass_s(60);
    town.chase();
    assert_eq!(attempt(&town).state, AttemptState::Failed);
}

/// V5: what a query named as open is not ended by "not found", however late, at a close or a query.
#[test]
fn what_a_query_named_is_not_ended_by_not_found() {
    for ability in [FORGETFUL, CANNOT_CLOSE] {
        let town = created(ability, Ending::LostAfter);
        town.pass_s(1);
        town.chase();
        assert_eq!(attempt(&town).state, AttemptState::Accepted);
        let id = town.attempt("T1", "bank");
        let hide = |is_hidden| {
            town.at("bank", |books| {
                books.payments.get_mut(&id).unwrap().is_hidden = is_hidden;
            });
        };
        hide(true);
        town.pass_s(345);
        assert_eq!(town.close("T1").text("orderStatus"), "OPEN");
        for _ in 0..3 {
            town.pass_s(60);
            town.chase();
            assert_eq!(attempt(&town).state, AttemptState::Closing);
        }
        hide(false);
        town.pay("T1", "bank");
        town.pass_s(3_600);
        town.chase();
        assert_eq!(attempt(&town).state, AttemptState::Paid);
    }
}

/// V5, A2: what the answer to a close named is not ended by "not found", also where the query right after
/// it did not find it and was too early to count.
#[test]
fn what_a_close_named_is_not_ended_by_not_found() {
    let town = created(FORGETFUL, Ending::LostAfter);
    town.at("bank", |books| {
        books.manners.keeps_open = true;
        books.manners.denies_queries = true;
    });
    town.select("T1", "purse");
    town.pass_s(1);
    town.chase();
    let named = attempt(&town);
    assert_eq!((named.state, named.named), (AttemptState::Closing, true));
    let id = town.attempt("T1", "bank");
    town.at("bank", |books| {
        books.payments.get_mut(&id).unwrap().is_hidden = true;
    });
    for _ in 0..3 {
        town.pass_s(345);
        town.chase();
        assert_eq!(attempt(&town).state, AttemptState::Closing);
    }
}

/// A5, V5: a merchant's close is not ended by a "not found" that is said once: the question right after it
/// finds the payment.
#[test]
fn a_merchants_close_is_not_ended_by_one_not_found() {
    let town = created(FORGETFUL, Ending::LostAfter);
    town.pass_s(345);
    town.at("bank", |books| books.manners.denies_closes = true);
    assert_eq!(town.close("T1").status, 202);
    let open = attempt(&town);
    assert_eq!((open.state, open.named), (AttemptState::Closing, true));
}

/// V5, V3, O2: a callback of another sum is put aside, and names the payment all the same.
#[test]
fn what_a_false_callback_named_is_not_ended_by_not_found() {
    let town = created(CANNOT_CLOSE, Ending::LostAfter);
    let id = town.attempt("T1", "bank");
    let truth = town.clock.truth();
    let callback = town.at("bank", |books| {
        let mut body = books.success(&id, truth);
        body["minor"] = 1.into();
        books.payments.get_mut(&id).unwrap().is_hidden = true;
        books.letter(&body)
    });
    assert_eq!(town.send(callback).result, "QUARANTINED");
    let named = attempt(&town);
    assert_eq!((named.state, named.named), (AttemptState::Unknown, true));
    town.pass_s(LONG_S);
    town.chase();
    assert_eq!(attempt(&town).state, AttemptState::Unknown);
}

/// V5, A5: the later word counts: a close that is answered "not found" by who says "open" right after
/// ends nothing.
#[test]
fn open_said_after_not_found_counts() {
    let town = created(FORGETFUL, Ending::LostAfter);
    town.at("bank", |books| books.manners.denies_closes = true);
    assert_eq!(town.close("T1").status, 202);
    for _ in 0..2 {
        town.pass_s(345);
        town.chase();
        let open = attempt(&town);
        assert_eq!((open.state, open.named), (AttemptState::Closing, true));
    }
    assert_eq!(town.query("T1").text("orderStatus"), "OPEN");
}

/// V5, A5: "not found" to a close, and no answer to the question after it: nothing is settled yet.
#[test]
fn not_found_alone_ends_nothing() {
    let town = created(FORGETFUL, Ending::LostBefore);
    assert_eq!(town.close("T1").status, 202);
    town.pass_s(345);
    script(&town, Ending::Answered);
    script(&town, Ending::LostBefore);
    town.chase();
    assert_eq!(attempt(&town).state, AttemptState::Closing);
    town.pass_s(60);
    town.chase();
    assert_eq!(attempt(&town).state, AttemptState::Failed);
}

/// E1: that a question was not sent says nothing about the create before it.
#[test]
fn a_question_that_was_not_sent_ends_nothing() {
    let town = town(FORGETFUL);
    town.place("T1", json!({}));
    town.network.parties().held = true;
    let mut body = naming("T1");
    body["institutionId"] = "bank".into();
    let request = town.signed("M1", "/v1/orders/select", &body);
    let mut selecting = Doing::new(town.api.answer(request, PEER));
    assert!(selecting.go_on().is_none());
    let order = town.order("T1");
    let created = attempt(&town);
    assert_eq!(created.state, AttemptState::Intent);
    let facts = town.register().adapters[&created.institution]
        .facts()
        .clone();
    for by in [Means::Query, Means::Close, Means::Create] {
        let evidence = Evidence {
            institution: created.institution.clone(),
            account: None,
            about: About::Attempt(created.id.clone()),
            by,
            sum: None,
            along: Along::default(),
            asked_at: None,
            names_it: false,
            finding: Finding::NotSent,
        };
        let weighed = order.weigh(&evidence, &facts, town.clock.now());
        let ends = matches!(weighed, Weighed::Commit(_));
        assert_eq!(ends, by == Means::Create, "{by:?}");
    }
}

/// V3, E3: an answer that names another sum is put aside, whatever was asked: the call is in doubt at
/// once, and nothing says that it succeeded.
#[test]
fn an_answer_of_another_sum_is_doubt_at_once() {
    let town = town(Ability::ALL);
    town.place("T1", json!({}));
    town.select("T1", "bank");
    let id = town.pay("T1", "bank");
    town.call_back("bank", &id);
    town.at("bank", |books| books.manners.misstates = true);
    let fields = json!({ "merchantId": "M1", "merchantOrderNo": "T1", "orderDate": "20260925",
        "mobileNo": "13812345678", "refundAmount": "5", "merchantRefundNo": "B1" });
    let told = town.ask("M1", "/v1/refunds", &fields);
    assert_eq!((told.status, told.text("result")), (202, "PENDING"));
    let refund = &town.order("T1").refunds[0];
    assert_eq!(refund.state, RefundState::Unknown);
    town.at("bank", |books| books.manners.misstates = false);
    town.pass_s(1);
    town.chase();
    assert_eq!(town.order("T1").refunds[0].state, RefundState::Succeeded);
}

/// M6: what a callback or an answer names without a currency is in that of the order, whichever that is.
#[test]
fn a_sum_without_a_currency_is_the_orders() {
    let abilities = [("bank", Ability::ALL)];
    let register = crate::world::enrolment::in_dollars(&abilities);
    let town = Town::enrolled(&abilities, register);
    for (no, by_callback) in [("T1", true), ("T2", false)] {
        town.place(no, json!({ "currency": "USD" }));
        town.select(no, "bank");
        let id = town.pay(no, "bank");
        town.at("bank", |books| books.manners.names_no_currency = true);
        if by_callback {
            assert_eq!(town.call_back("bank", &id).status, 200);
        } else {
            town.pass_s(60);
            town.chase();
        }
        let told = town.query(no);
        assert_eq!(told.text("orderStatus"), "PAID", "{no}");
        let receipt = attempt_of(&town, no).receipt.unwrap();
        assert_eq!(receipt.amount.currency().code(), "USD");
        town.at("bank", |books| books.manners.names_no_currency = false);
    }
}
