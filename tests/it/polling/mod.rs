//! When an institution is asked, and when it is not: by each object's own schedule, by signals, and never
//! counted where we kept the question back ourselves.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::attempt::AttemptState;
use paymux::domain::identifiers::{AttemptId, InstitutionId, MerchantId};
use paymux::domain::order::{OrderState, Urgency};
use paymux::domain::refund::RefundState;
use paymux::flow::chase_doubts::{chase_order, follow_signal};
use paymux::store::Work;
use paymux::world::{Outbound, Party, Patience, SendError, TooMany, Turn};
use serde_json::{Value, json};

use crate::world::books::Ability;
use crate::world::network::{Ending, Network};
use crate::world::town::{PEER, Town, changed, naming, now};

/// Calls of this word that left for institutions so far.
fn calls(town: &Town, word: &str) -> usize {
    let parties = town.network.parties();
    let bodies = parties.sent.iter().map(|(_, request)| request.body());
    let asked = bodies.filter(|body| {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        asked["call"] == word
    });
    asked.count()
}

/// Lets so many seconds pass, looking after what is due ten times in each; the moments of calls of this
/// word. Unit: milliseconds.
fn moments(town: &Town, word: &str, seconds: i64) -> Vec<i64> {
    let mut moments = Vec::new();
    let began = town.clock.truth();
    while town.clock.truth() < began + seconds * 1_000 {
        let before = calls(town, word);
        town.chase();
        let truth = town.clock.truth() - began;
        moments.extend((before..calls(town, word)).map(|_| truth));
        town.clock.pass(100);
    }
    moments
}

/// What the worker does for signals that are due now; how many orders were asked about.
fn follow(town: &Town) -> usize {
    let (store, world, register) = (&*town.api.store, &town.api.world, town.register());
    let due = world.signals.due(world.clock.now(), 100, |_| 100);
    let orders: Vec<_> = due.into_iter().map(|(order, _)| order).collect();
    let leases = now(store.lease_named(&orders, world.clock.now())).unwrap();
    for lease in &leases {
        now(follow_signal(store, world, &register, lease)).unwrap();
    }
    leases.len()
}

fn look(town: &Town, path: &str) {
    let no = town.order("T1");
    let path = format!("/pay/{}{path}", no.page_token().expose());
    let request = Request::get(path).body(Bytes::new()).unwrap();
    assert_eq!(town.send_from(request, PEER).status, 200);
}

/// An order that waits for its payer at the bank.
fn waiting() -> Town {
    let town = Town::new();
    town.place("T1", json!({}));
    town.select("T1", "bank");
    assert_eq!(town.order("T1").attempts[0].state, AttemptState::Accepted);
    town
}

/// M1 gives so much of its order back, under a number of its own.
fn asking(no: &str, sum: &str) -> Value {
    let changes = json!({
        "orderDate": "20260925",
        "refundAmount": sum,
        "mobileNo": "13812345678",
        "merchantRefundNo": format!("R-{}", sum.replace('.', "-")),
    });
    changed(naming(no), changes)
}

/// A6: a payment that waits for its payer is asked about 20 and 60 s after it was accepted, then each
/// minute, each time up to a fifth later; a lost callback is found so.
#[test]
fn a_payment_that_waits_is_seldom_asked_about() {
    let town = waiting();
    let asked = moments(&town, "query", 400);
    let waits: Vec<i64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert!((20_000..=24_100).contains(&asked[0]), "{asked:?}");
    assert!((40_000..=48_100).contains(&waits[0]), "{asked:?}");
    assert!(
        waits[1..].iter().all(|one| (60_000..=72_100).contains(one)),
        "{asked:?}"
    );
    town.pay("T1", "bank");
    moments(&town, "query", 75);
    assert_eq!(town.order("T1").state, OrderState::Paid);
}

/// A payer who is back on the page has the institution asked at once; whoever reads the status, and
/// the merchant's question, do so too, three seconds apart.
#[test]
fn signals_have_it_asked_about_at_once() {
    let town = waiting();
    town.pass_s(2);
    assert_eq!(follow(&town), 0, "nothing was seen");
    look(&town, "");
    assert_eq!((follow(&town), calls(&town, "query")), (1, 1));
    assert_eq!(
        town.order("T1").attempts[0].schedule.asked,
        0,
        "counts in no schedule"
    );
    town.pay("T1", "bank");
    town.pass_s(2);
    assert_eq!(follow(&town), 1, "two seconds after the return");
    assert_eq!(town.order("T1").state, OrderState::Paid);
    assert_eq!(town.deliver().len(), 1);
    town.pass_s(10);
    assert_eq!(follow(&town), 0, "what is paid is not asked about");

    let town = waiting();
    look(&town, "/status");
    assert_eq!(follow(&town), 1);
    town.pass_s(1);
    assert_eq!(town.query("T1").text("orderStatus"), "OPEN");
    assert_eq!(follow(&town), 0);
    town.pass_s(2);
    assert_eq!(follow(&town), 1);
    assert_eq!(calls(&town, "query"), 2);
}

/// An institution whose callbacks go missing has its payments asked about 3, 5, 10, 20 and 30 s after
/// they were accepted.
#[test]
fn payments_are_asked_about_more_often_where_callbacks_go_missing() {
    let town = Town::new();
    let bank = InstitutionId::parse("bank").unwrap();
    let clock = &town.api.world.clock;
    let began = clock.now();
    for n in 0..100_u8 {
        let id = AttemptId::mint(began, [n; 10]);
        town.api.world.health.found(&bank, (&id, began), began);
    }
    town.pass_s(1_000);
    town.place("T1", json!({}));
    town.select("T1", "bank");
    let mut asked = Vec::new();
    for step in 0..400 {
        let before = calls(&town, "query");
        town.chase();
        follow(&town);
        asked.extend((before..calls(&town, "query")).map(|_| step * 100));
        town.clock.pass(100);
    }
    assert_eq!(asked.len(), 5, "{asked:?}");
    for (at, least) in asked.iter().zip([3_000, 5_000, 10_000, 20_000, 30_000]) {
        assert!((least..=least * 6 / 5 + 500).contains(at), "{asked:?}");
    }
}

/// R4, A6: a refund that the institution does not see is sent again by its schedule, which no other
/// change of its order begins anew.
#[test]
fn a_refund_that_is_not_seen_is_sent_again_by_its_schedule() {
    let town = waiting();
    let id = town.pay("T1", "bank");
    town.call_back("bank", &id);
    let lost = [Ending::FaultBefore, Ending::Answered].into_iter().cycle();
    town.network.parties().script.extend(lost.take(400));
    assert_eq!(
        town.ask("M1", "/v1/refunds", &asking("T1", "5")).status,
        202
    );
    let again = moments(&town, "refund", 60);
    assert!((4..=8).contains(&again.len()), "{again:?}");
    let waits: Vec<i64> = again.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(waits.windows(2).all(|two| two[0] < two[1]), "{waits:?}");
    let before = town.order("T1").refunds[0].schedule;
    // The next refund goes through at once, and moves the order.
    town.network.parties().script.clear();
    assert_eq!(
        town.ask("M1", "/v1/refunds", &asking("T1", "1")).status,
        200
    );
    let refunds = town.order("T1").refunds;
    assert_eq!(refunds[1].state, RefundState::Succeeded);
    assert_eq!(refunds[0].schedule, before);
}

/// R4: once people decide about a refund it is asked about daily, and not before.
#[test]
fn what_is_left_to_people_is_asked_about_daily() {
    let town = waiting();
    let id = town.pay("T1", "bank");
    town.call_back("bank", &id);
    town.at("bank", |books| books.manners.mumbles = true);
    assert_eq!(
        town.ask("M1", "/v1/refunds", &asking("T1", "5")).status,
        202
    );
    while town.order("T1").refunds[0].state != RefundState::Manual {
        town.pass_s(4_000);
        town.chase();
    }
    let before = calls(&town, "refund_query");
    for _ in 0..23 {
        town.pass_s(3_600);
        town.chase();
    }
    assert_eq!(calls(&town, "refund_query"), before);
    town.pass_s(3_700);
    town.chase();
    assert_eq!(calls(&town, "refund_query"), before + 1);
}

/// N10: one lease, one object: however many refunds of an order are in doubt, each is asked about
/// within a lease of its own.
#[test]
fn many_refunds_in_doubt_are_asked_about_one_by_one() {
    let town = waiting();
    let id = town.pay("T1", "bank");
    town.call_back("bank", &id);
    town.at("bank", |books| books.manners.mumbles = true);
    for n in 1..=9 {
        let sum = format!("0.0{n}");
        assert_eq!(
            town.ask("M1", "/v1/refunds", &asking("T1", &sum)).status,
            202
        );
    }
    town.pass_s(1);
    let (store, world, register) = (&*town.api.store, &town.api.world, town.register());
    for asked in 1..=9 {
        let leases = now(store.lease(Work::Orders, world.clock.now(), 10)).unwrap();
        assert_eq!(leases.len(), 1);
        now(chase_order(store, world, &register, &leases[0])).unwrap();
        assert_eq!(calls(&town, "refund_query"), asked);
    }
    assert_eq!(town.chase(), 0);
}

/// A network whose institutions take no question at present.
struct Busy(Arc<Network>);

#[async_trait]
impl Outbound for Busy {
    async fn send(
        &self,
        party: &Party,
        request: Request<Bytes>,
        patience: Patience,
    ) -> Result<Response<Bytes>, SendError> {
        self.0.send(party, request, patience).await
    }

    async fn turn(&self, _: &InstitutionId, _: &MerchantId) -> Result<Turn, TooMany> {
        Ok(Turn::free())
    }

    async fn question_turn(&self, _: &InstitutionId, _: Urgency) -> Result<Turn, TooMany> {
        let wait = std::time::Duration::from_secs(1);
        Err(TooMany { wait })
    }
}

/// A question that we kept back ourselves is no question: it does not count in the schedule, and is
/// asked as soon as there is room.
#[test]
fn a_question_that_we_kept_back_does_not_count() {
    let mut town = waiting();
    let id = town.pay("T1", "bank");
    town.call_back("bank", &id);
    town.network.parties().script.push_back(Ending::FaultAfter);
    assert_eq!(
        town.ask("M1", "/v1/refunds", &asking("T1", "5")).status,
        202
    );
    let free = Arc::clone(&town.api.world.outbound);
    town.api.world.outbound = Arc::new(Busy(Arc::clone(&town.network)));
    assert!(moments(&town, "refund_query", 60).is_empty());
    let refund = town.order("T1").refunds[0].clone();
    assert_eq!(
        (refund.state, refund.schedule.asked),
        (RefundState::Unknown, 0)
    );
    town.api.world.outbound = free;
    town.pass_s(1);
    town.chase();
    assert_eq!(town.order("T1").refunds[0].state, RefundState::Succeeded);
}

/// H1: a question that could not leave for a lack of our own, a file or a signature, was not asked; it is
/// tried again at its own pace, and not each second for as long as the lack lasts.
#[test]
fn a_lack_of_our_own_counts_as_no_question() {
    let town = waiting();
    let id = town.pay("T1", "bank");
    town.call_back("bank", &id);
    town.network.parties().script.push_back(Ending::FaultAfter);
    assert_eq!(
        town.ask("M1", "/v1/refunds", &asking("T1", "5")).status,
        202
    );
    town.network
        .parties()
        .script
        .extend([Ending::Shortage; 1_000]);
    let tried = moments(&town, "refund_query", 60);
    assert!((2..=20).contains(&tried.len()), "{tried:?}");
    let refund = town.order("T1").refunds[0].clone();
    assert_eq!(
        (refund.state, refund.schedule.asked),
        (RefundState::Unknown, 0)
    );
    town.network.parties().script.clear();
    moments(&town, "refund_query", 31);
    assert_eq!(town.order("T1").refunds[0].state, RefundState::Succeeded);
}

/// A4, R4: surplus money whose first call left long after it was reserved is sent again like any other.
#[test]
fn surplus_that_was_first_sent_late_is_sent_again() {
    let town = Town::with(&[("bank", Ability::ALL)]);
    town.place("T1", json!({}));
    town.select("T1", "bank");
    let id = town.attempt("T1", "bank");
    assert_eq!(town.close("T1").text("result"), "CLOSED");
    town.at("bank", |books| books.manners.takes_after_end = true);
    town.pay("T1", "bank");
    assert_eq!(town.call_back("bank", &id).status, 200);
    // A quarter of an hour in which the bank cannot be reached, then a call that is lost.
    town.network.parties().script.extend([Ending::NotSent; 15]);
    town.network.parties().script.push_back(Ending::LostBefore);
    for _ in 0..16 {
        town.chase();
        town.pass_s(61);
    }
    assert_eq!(town.order("T1").refunds[0].state, RefundState::Unknown);
    let sent = calls(&town, "refund");
    let again = moments(&town, "refund", 10);
    assert_eq!((sent, again.len()), (16, 1));
    assert_eq!(town.order("T1").refunds[0].state, RefundState::Succeeded);
}
