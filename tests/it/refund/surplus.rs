//! Surplus money goes back on its own (A4, A8), with its cause, seen by merchant and operator.

use paymux::domain::evidence::{About, Along, Evidence, Finding, Means, Receipt};
use paymux::domain::journal::Account;
use paymux::domain::order::{SURPLUS_FAILURES_MAX, Weighed};
use paymux::domain::refund::{RefundState, SurplusCause};
use paymux::world::Clock;
use serde_json::json;

use super::{only, states};
use crate::simulation::balances;
use crate::world::network::Ending;
use crate::world::town::Town;

/// An order that was closed and paid all the same; its surplus is known.
fn paid_after_close() -> Town {
    let town = Town::new();
    town.place("T1", json!({}));
    town.select("T1", "bank");
    let id = town.attempt("T1", "bank");
    assert_eq!(town.close("T1").text("result"), "CLOSED");
    town.at("bank", |books| books.manners.takes_after_end = true);
    town.pay("T1", "bank");
    assert_eq!(town.call_back("bank", &id).status, 200);
    town.at("bank", |books| books.manners.takes_after_end = false);
    town.deliver();
    town
}

/// The refund that had failed is made good at the institution, and it says so.
fn the_first_goes_back_after_all(town: &Town) {
    let no = town.order("T1").refunds[0].no.to_string();
    let truth = town.clock.truth();
    let callback = town.at("bank", |books| {
        books.bring_back(&no, false, truth);
        books.return_callback(&no)
    });
    assert_eq!(town.send(callback).status, 200);
}

/// A4, A8, M2, N1: it goes back in full without being asked, and both sides see why.
#[test]
fn surplus_goes_back_on_its_own() {
    let town = paid_after_close();
    assert_eq!(town.chase(), 1);
    let refund = only(&town, "T1");
    assert_eq!(refund.state, RefundState::Succeeded);
    assert_eq!(refund.surplus(), Some(SurplusCause::AfterClose));
    assert_eq!(
        balances(&town.snapshot().entries).len(),
        0,
        "nothing is owed to anybody"
    );
    assert_eq!(town.chase(), 0, "nothing is left to do");
    let asked = town.query("T1");
    assert_eq!(asked.text("orderStatus"), "CLOSED");
    assert_eq!(asked.json["refunds"][0]["refundCause"], "AFTER_CLOSE");
    assert_eq!(town.deliver().len(), 1);
    town.inbox(|inbox| {
        let last = inbox.requests.last().unwrap().body();
        let event: serde_json::Value = serde_json::from_slice(last).unwrap();
        assert_eq!(event["eventType"], "REFUND_SUCCEEDED");
        assert_eq!(event["refundCause"], "AFTER_CLOSE");
    });
}

/// A4, E1: where the institution cannot be reached it waits, and is not given up.
#[test]
fn surplus_waits_for_an_institution_that_cannot_be_reached() {
    let town = paid_after_close();
    town.network.parties().script.push_back(Ending::NotSent);
    town.chase();
    assert_eq!(only(&town, "T1").state, RefundState::Reserved);
    assert_eq!(town.chase(), 0, "not at once");
    town.pass_s(61);
    town.chase();
    assert_eq!(only(&town, "T1").state, RefundState::Succeeded);
}

/// A4: a definite failure is followed by another under a number of its own, ever later, until the
/// money is back or people must decide.
#[test]
fn a_failed_surplus_refund_is_followed_by_another() {
    let town = paid_after_close();
    town.at("bank", |books| books.manners.refuses_refunds = true);
    town.chase();
    let order = town.order("T1");
    assert_eq!(states(&order), [RefundState::Failed, RefundState::Reserved]);
    assert_ne!(order.refunds[0].no, order.refunds[1].no);
    assert_eq!(town.chase(), 0, "not at once");
    for _ in 0..SURPLUS_FAILURES_MAX + 2 {
        town.pass_s(86_400);
        town.chase();
    }
    let order = town.order("T1");
    let mut expected = vec![RefundState::Failed; SURPLUS_FAILURES_MAX];
    expected.push(RefundState::Manual);
    assert_eq!(states(&order), expected);
    let mut numbers: Vec<_> = order.refunds.iter().map(|one| one.no.clone()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), SURPLUS_FAILURES_MAX + 1, "K1");
}

/// A4, R9: surplus that had failed and went back after all: the one that waits is not sent.
#[test]
fn surplus_that_is_back_is_not_sent_again() {
    let town = paid_after_close();
    town.at("bank", |books| books.manners.refuses_refunds = true);
    town.chase();
    town.at("bank", |books| books.manners.refuses_refunds = false);
    the_first_goes_back_after_all(&town);
    town.pass_s(61);
    town.chase();
    let order = town.order("T1");
    assert_eq!(
        states(&order),
        [RefundState::Succeeded, RefundState::Failed]
    );
    assert_eq!(town.at("bank", |books| books.returns.len()), 1);
    assert_eq!(balances(&town.snapshot().entries).len(), 0);
}

/// A4, R4: nor is it where the call for it was lost: nobody asks for the money once more that is known to be
/// back.
#[test]
fn surplus_that_is_back_is_not_sent_again_after_a_lost_call() {
    let town = paid_after_close();
    town.at("bank", |books| books.manners.refuses_refunds = true);
    town.chase();
    town.at("bank", |books| books.manners.refuses_refunds = false);
    town.network.parties().script.push_back(Ending::LostBefore);
    town.pass_s(61);
    town.chase();
    let lost = [RefundState::Failed, RefundState::Unknown];
    assert_eq!(states(&town.order("T1")), lost);
    the_first_goes_back_after_all(&town);
    for _ in 0..20 {
        town.pass_s(60);
        town.chase();
    }
    let ended = [RefundState::Succeeded, RefundState::Failed];
    assert_eq!(states(&town.order("T1")), ended);
    assert_eq!(town.at("bank", |books| books.returns.len()), 1);
    assert_eq!(balances(&town.snapshot().entries).len(), 0);
}

/// A4, R9, M2: surplus that went back, and whose refund before that one goes back after all, is a loss:
/// it was owed once.
#[test]
fn surplus_that_went_back_twice_is_a_loss() {
    let town = paid_after_close();
    town.at("bank", |books| books.manners.refuses_refunds = true);
    town.chase();
    town.at("bank", |books| books.manners.refuses_refunds = false);
    town.pass_s(86_400);
    town.chase();
    let order = town.order("T1");
    assert_eq!(
        states(&order),
        [RefundState::Failed, RefundState::Succeeded]
    );
    the_first_goes_back_after_all(&town);
    let order = town.order("T1");
    assert_eq!(states(&order), [RefundState::Succeeded; 2]);
    let paid = order.refunds[1].amount.minor();
    assert_eq!(order.refunds[0].excess_minor, paid);
    let balances = balances(&town.snapshot().entries);
    let lost = balances.get(&Account::Loss(order.no.clone())).copied();
    assert_eq!(lost, Some(paid), "{balances:?}");
    assert!(!balances.keys().any(|of| matches!(of, Account::Surp(_))));
}

/// R9: a loss is an incident, whichever of the two refunds went back first.
#[test]
fn surplus_that_goes_back_twice_is_an_incident_in_either_order() {
    let town = paid_after_close();
    town.at("bank", |books| books.manners.refuses_refunds = true);
    town.chase();
    town.at("bank", |books| {
        books.manners.refuses_refunds = false;
        books.manners.takes_its_time = true;
    });
    town.pass_s(61);
    town.chase();
    the_first_goes_back_after_all(&town);
    let order = town.order("T1");
    let under_way = [RefundState::Succeeded, RefundState::Processing];
    assert_eq!(states(&order), under_way);
    let second = &order.refunds[1];
    let evidence = Evidence {
        institution: order.attempts[0].institution.clone(),
        account: None,
        about: About::Refund(second.no.clone()),
        by: Means::Query,
        sum: None,
        along: Along::default(),
        asked_at: None,
        names_it: true,
        finding: Finding::Succeeded(Receipt {
            amount: second.amount,
            institution_no: None,
            paid_at: town.clock.now(),
            fee: None,
        }),
    };
    let register = town.register();
    let facts = register.adapters[&evidence.institution].facts();
    let Weighed::Commit(change) = order.weigh(&evidence, facts, town.clock.now()) else {
        panic!("nothing follows");
    };
    let incidents = &change.rows().unwrap().incidents;
    assert_eq!(incidents.len(), 1);
    let difference = &incidents[0].1;
    assert_eq!(&*difference.number, second.no.as_str());
    let beyond = format!("of it beyond what was left {}", second.amount);
    assert!(difference.found.ends_with(&beyond), "{difference:?}");
}

/// R1, R9, A4: what an institution gave back twice of an excess payment is its loss; the merchant still
/// gives back what was paid.
#[test]
fn surplus_that_went_back_twice_blocks_no_refund_of_the_merchant() {
    let town = Town::new();
    town.place("T1", json!({}));
    town.select("T1", "bank");
    let late = town.attempt("T1", "bank");
    town.select("T1", "purse");
    town.chase();
    town.select("T1", "purse");
    let id = town.pay("T1", "purse");
    assert_eq!(town.call_back("purse", &id).status, 200);
    town.at("bank", |books| books.manners.takes_after_end = true);
    town.pay("T1", "bank");
    town.at("bank", |books| books.manners.refuses_refunds = true);
    assert_eq!(town.call_back("bank", &late).status, 200);
    town.chase();
    town.at("bank", |books| {
        books.manners = crate::world::books::Manners::default();
    });
    town.pass_s(86_400);
    town.chase();
    the_first_goes_back_after_all(&town);
    let order = town.order("T1");
    assert_eq!(states(&order), [RefundState::Succeeded; 2]);
    assert!(order.refunds[0].excess_minor > 0, "it went back twice");
    let told = super::refund(&town, "T1", "12.30", json!({}));
    assert_eq!((told.status, told.text("refundStatus")), (200, "SUCCEEDED"));
    assert_eq!(told.text("orderRefundStatus"), "FULL");
}
