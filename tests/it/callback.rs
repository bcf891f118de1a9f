//! An institution has news: believed when proven, weighed whole, answered after the commit.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use paymux::domain::attempt::AttemptState;
use paymux::domain::identifiers::{AttemptId, InstitutionId};
use paymux::domain::institutions::Credentials;
use paymux::domain::order::OrderState;
use paymux::domain::refund::{RefundState, SurplusCause};
use paymux::store::{FORGED_KEPT_MAX, Verdict};
use serde_json::json;

use crate::world::books::{Ability, Books};
use crate::world::clock::START_MS;
use crate::world::dialect::PROOF;
use crate::world::enrolment::register;
use crate::world::frail::{Frail, Trouble};
use crate::world::memory::{Durable, Memory};
use crate::world::network::Ending;
use crate::world::town::Town;

/// Makes a callback from an institution's books.
type Make = Box<dyn Fn(&mut Books) -> Request<Bytes>>;

/// An order that waits for its payer at `bank`, and the number the bank knows it by.
fn waiting() -> (Town, String) {
    let town = Town::new();
    town.place("T1", json!({}));
    town.select("T1", "bank");
    let id = town.attempt("T1", "bank");
    (town, id)
}

fn verdicts(town: &Town) -> Vec<Verdict> {
    town.snapshot()
        .inbox
        .iter()
        .map(|row| row.verdict)
        .collect()
}

/// Everything but what was received.
fn without_inbox(mut durable: Durable) -> Durable {
    durable.inbox.clear();
    durable
}

/// R-A2.4.1-7a, R-5.1.4-7: a proven callback settles the order and is
/// answered with success.
#[test]
fn a_payment_is_believed_when_it_is_proven() {
    let (town, id) = waiting();
    town.pay("T1", "bank");
    let told = town.call_back("bank", &id);
    assert_eq!((told.status, told.result), (200, "GENUINE"));
    assert_eq!(town.order("T1").state, OrderState::Paid);
    assert_eq!(verdicts(&town), [Verdict::Genuine]);
}

/// F3, C4: while an institution's key cannot be used nothing of its callbacks is judged: each is answered
/// 503, as one to be sent again, and is believed once there is a key.
#[test]
fn callbacks_are_answered_503_while_the_key_is_unreadable() {
    let all = [("bank", Ability::ALL), ("purse", Ability::ALL)];
    let (until, from) = (START_MS / 1_000 + 60, START_MS / 1_000 + 120);
    let mut enrolled = register(&all);
    let bank = InstitutionId::parse("bank").unwrap();
    let bank = enrolled.directory.institutions.get_mut(&bank).unwrap();
    bank.credentials = Credentials::default().proven_by(vec![0..=until, from..=i64::MAX]);
    let town = Town::enrolled(&all, enrolled);
    town.place("T1", json!({}));
    town.select("T1", "bank");
    let id = town.attempt("T1", "bank");
    town.pay("T1", "bank");
    town.clock.pass(61_000);
    let told = town.call_back("bank", &id);
    assert_eq!((told.status, told.result), (503, "unavailable"));
    assert_eq!(verdicts(&town), []);
    assert_eq!(town.order("T1").state, OrderState::Open);
    town.clock.pass(60_000);
    let told = town.call_back("bank", &id);
    assert_eq!((told.status, told.result), (200, "GENUINE"));
    assert_eq!(town.order("T1").state, OrderState::Paid);
}

/// V1: what an institution says counts though it cannot be called: of money that moved nobody else tells.
#[test]
fn a_callback_counts_while_the_institution_cannot_be_called() {
    let all = [("bank", Ability::ALL), ("purse", Ability::ALL)];
    let mut enrolled = register(&all);
    let bank = InstitutionId::parse("bank").unwrap();
    let bank = enrolled.directory.institutions.get_mut(&bank).unwrap();
    let until = START_MS / 1_000 + 60;
    let credentials = Credentials::default().and(vec![0..=until]);
    bank.credentials = credentials.proven_by(vec![0..=i64::MAX]);
    let town = Town::enrolled(&all, enrolled);
    town.place("T1", json!({}));
    town.select("T1", "bank");
    let id = town.attempt("T1", "bank");
    town.pay("T1", "bank");
    town.clock.pass(61_000);
    let told = town.call_back("bank", &id);
    assert_eq!((told.status, told.result), (200, "GENUINE"));
    assert_eq!(town.order("T1").state, OrderState::Paid);
}

/// C5, N4: the same callback twice changes nothing and is answered with success.
#[test]
fn the_same_callback_twice_changes_nothing() {
    let (town, id) = waiting();
    town.pay("T1", "bank");
    town.call_back("bank", &id);
    let before = town.snapshot();
    for _ in 0..3 {
        assert_eq!(town.call_back("bank", &id).status, 200);
    }
    assert_eq!(town.snapshot(), before);
}

/// C6: news may come before the reply to our own call; the intent is there to match it.
#[test]
fn a_callback_may_be_faster_than_the_reply() {
    let town = Town::new();
    town.place("T1", json!({}));
    town.network.parties().script.push_back(Ending::LostAfter);
    town.select("T1", "bank");
    let id = town.pay("T1", "bank");
    assert_eq!(town.call_back("bank", &id).status, 200);
    assert_eq!(town.order("T1").state, OrderState::Paid);
}

/// C1, C2, C3, V1, V3, O2: a callback that is forged, about another sum, another institution's,
/// another account's, in an unknown word, or about nothing we know, moves nothing.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_is_not_so_changes_nothing() {
    let (town, id) = waiting();
    let truth = town.clock.truth();
    let elsewhere = town.at("purse", |books| books.id.clone());
    let letter = |field: &'static str, value: serde_json::Value| -> Make {
        let id = id.clone();
        Box::new(move |books| {
            let mut body = books.success(&id, truth);
            body[field] = value.clone();
            books.letter(&body)
        })
    };
    let forged: Make = {
        let id = id.clone();
        Box::new(move |books| books.forgery(&books.success(&id, truth)))
    };
    let swapped: Make = {
        let id = id.clone();
        Box::new(move |books| {
            let mut letter = books.letter(&books.success(&id, truth));
            *letter.body_mut() = Bytes::from(books.success(&id, truth + 1).to_string());
            letter
        })
    };
    let misaddressed: Make = {
        let id = id.clone();
        Box::new(move |books| {
            let mut letter = books.letter(&books.success(&id, truth));
            *letter.uri_mut() = format!("/v1/callbacks/{elsewhere}").parse().unwrap();
            letter
        })
    };
    let bare: Make = Box::new(|books| {
        let mut letter = books.letter(&json!({}));
        letter.headers_mut().remove(PROOF);
        letter
    });
    let cases: Vec<(Make, &str, u16)> = vec![
        (forged, "FORGED", 400),
        (swapped, "FORGED", 400),
        (misaddressed, "FORGED", 400),
        (bare, "FORGED", 400),
        (letter("minor", json!(1)), "QUARANTINED", 400),
        (letter("minor", json!(123_000)), "QUARANTINED", 400),
        (letter("currency", json!("USD")), "QUARANTINED", 400),
        (letter("account", json!("M2-at-bank")), "QUARANTINED", 400),
        // Proven, and about nothing that is known here.
        (
            letter("id", json!(id.replace('A', "B"))),
            "QUARANTINED",
            404,
        ),
        (
            letter("id", json!(format!("A{}", "0".repeat(26)))),
            "QUARANTINED",
            404,
        ),
        // Proven, and not understood: not heard, so that it comes again.
        (letter("word", json!("paid")), "GENUINE", 503),
        (letter("word", json!("SUCCESS")), "GENUINE", 503),
    ];
    let before = without_inbox(town.snapshot());
    for (place, (make, verdict, status)) in cases.iter().enumerate() {
        let callback = town.at("bank", |books| make(books));
        let told = town.send(callback);
        assert_eq!(
            (told.result, told.status),
            (*verdict, *status),
            "case {place}"
        );
        assert_eq!(without_inbox(town.snapshot()), before, "case {place}");
    }
    assert!(
        verdicts(&town).contains(&Verdict::Forged),
        "kept, to be looked at"
    );
}

/// C2, K3: a well-proven word of one institution about another's attempt is about nothing.
#[test]
fn one_institution_cannot_speak_for_another() {
    let (town, id) = waiting();
    let truth = town.clock.truth();
    let success = town.at("bank", |books| books.success(&id, truth));
    let callback = town.at("purse", |books| books.letter(&success));
    let told = town.send(callback);
    assert_eq!((told.result, told.status), ("QUARANTINED", 404));
    assert_eq!(town.order("T1").attempts[0].state, AttemptState::Accepted);
}

/// R-6.3.1-3a: of what is forged a bounded sample is kept; an address that nobody has is not one.
#[test]
fn forgeries_do_not_fill_the_store() {
    let (town, id) = waiting();
    for n in 0..=i64::from(FORGED_KEPT_MAX) + 5 {
        let callback = town.at("bank", |books| books.forgery(&books.success(&id, n)));
        assert_eq!(town.send(callback).result, "FORGED");
    }
    let kept = usize::try_from(FORGED_KEPT_MAX).unwrap();
    assert_eq!(verdicts(&town).len(), kept);
    let mut nobody = town.at("bank", |books| books.letter(&json!({})));
    *nobody.uri_mut() = "/v1/callbacks/nobody".parse().unwrap();
    assert_eq!(town.send(nobody).status, 404);
}

/// C4: while nothing can be made durable the institution is told to send again, and what it then
/// sends again is recorded.
#[test]
fn success_is_answered_after_the_commit_only() {
    let (mut town, id) = waiting();
    town.pay("T1", "bank");
    for trouble in [Trouble::Unavailable, Trouble::LostUnwritten] {
        let frail = Frail::new(Arc::<Memory>::clone(&town.memory));
        frail.plan(1, trouble);
        town.api.store = Arc::new(frail);
        assert_eq!(town.call_back("bank", &id).status, 503);
    }
    assert_eq!(town.order("T1").state, OrderState::Open);
    town.api.store = Arc::<Memory>::clone(&town.memory);
    assert_eq!(town.at("bank", |books| books.owed()), [id.as_str()]);
    assert_eq!(town.call_back("bank", &id).status, 200);
    assert_eq!(town.order("T1").state, OrderState::Paid);
}

/// An order whose attempt at `bank` was closed, and the bank took money for it all the same.
fn paid_after_close() -> (Town, String) {
    let (town, id) = waiting();
    assert_eq!(town.close("T1").text("result"), "CLOSED");
    town.at("bank", |books| books.manners.takes_after_end = true);
    town.pay("T1", "bank");
    (town, id)
}

/// V4, A4, A8, M1: late money is asked about, then booked as surplus with its cause, and its way
/// back is reserved in the same change; the order stays closed.
#[test]
fn late_money_is_confirmed_and_reserved_for_its_way_back() {
    let (town, id) = paid_after_close();
    assert_eq!(town.call_back("bank", &id).status, 200);
    let order = town.order("T1");
    assert_eq!(order.state, OrderState::Closed);
    assert!(order.attempts[0].late_success);
    assert_eq!(order.refunds.len(), 1);
    assert_eq!(order.refunds[0].amount, order.terms.amount);
    assert_eq!(order.refunds[0].state, RefundState::Reserved);
    assert_eq!(order.refunds[0].surplus(), Some(SurplusCause::AfterClose));
    let entries = town.snapshot().entries;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].credit.name(), format!("SURP:{id}"));
}

/// V4, C4: late money that the institution could not confirm when asked is neither applied nor
/// acknowledged, so that the institution tells again.
#[test]
fn late_money_that_nobody_confirmed_is_not_acknowledged() {
    for ending in [Ending::LostBefore, Ending::FaultBefore, Ending::NotSent] {
        let (town, id) = paid_after_close();
        town.network.parties().script.push_back(ending);
        assert_eq!(town.call_back("bank", &id).status, 503, "{ending:?}");
        assert!(town.order("T1").refunds.is_empty());
        assert_eq!(town.call_back("bank", &id).status, 200);
        assert_eq!(town.order("T1").refunds.len(), 1);
    }
}

/// V4: a callback says paid of what the institution, asked, says is closed: not applied.
#[test]
fn a_callback_alone_does_not_undo_an_end() {
    let (town, id) = waiting();
    town.close("T1");
    let truth = town.clock.truth();
    let callback = town.at("bank", |books| books.letter(&books.success(&id, truth)));
    assert_eq!(town.send(callback).status, 503);
    assert_eq!(town.order("T1").attempts[0].state, AttemptState::Closed);
}

/// A4, A7, O1: money through a second attempt leaves the settling one alone and is on its way back.
#[test]
fn a_second_payment_does_not_settle_again() {
    let (town, first) = waiting();
    town.select("T1", "purse");
    town.chase();
    town.select("T1", "purse");
    let second = town.pay("T1", "purse");
    town.call_back("purse", &second);
    town.at("bank", |books| books.manners.takes_after_end = true);
    town.pay("T1", "bank");
    assert_eq!(town.call_back("bank", &first).status, 200);
    let order = town.order("T1");
    assert_eq!(
        order.settling.as_ref().map(AttemptId::as_str),
        Some(second.as_str())
    );
    assert_eq!(order.refunds.len(), 1);
    assert_eq!(order.refunds[0].attempt.as_str(), first);
    assert_eq!(town.snapshot().events.len(), 1, "N4");
}

/// E3, M7: that money moved is believed; that it moved before there was an order, or will, is not: then
/// it counts from when it was heard, and so does the time in which it can be given back.
#[test]
fn a_payment_counts_from_when_it_can_have_been() {
    const DAY_MS: i64 = 86_400_000;
    for (off_ms, is_believed) in [
        (-9_000 * DAY_MS, false),
        (-DAY_MS - 60_000, false),
        (-DAY_MS / 2, true),
        (DAY_MS / 2, true),
        (DAY_MS + 60_000, false),
        (9_000 * DAY_MS, false),
    ] {
        let (town, id) = waiting();
        let now_ms = paymux::world::Clock::now(&*town.clock).ms();
        let dated_ms = now_ms + off_ms;
        town.at("bank", |books| books.pay(&id, dated_ms));
        assert_eq!(town.call_back("bank", &id).status, 200);
        assert_eq!(town.order("T1").state, OrderState::Paid);
        let receipt = town.order("T1").attempts[0].receipt.clone().unwrap();
        let expected_ms = if is_believed { dated_ms } else { now_ms };
        assert_eq!(receipt.paid_at.ms(), expected_ms, "{off_ms}");
        let asking = json!({ "merchantId": "M1", "merchantOrderNo": "T1", "orderDate": "20260925",
            "refundAmount": "1", "mobileNo": "13812345678" });
        assert_eq!(town.ask("M1", "/v1/refunds", &asking).status, 200);
    }
}

/// V3, C5: one number of ours, one movement of money: that it moved a second time, under another number
/// of the institution's, is no repeat but put aside for people, and moves nothing.
#[test]
fn a_second_payment_under_one_number_is_put_aside() {
    let (town, id) = waiting();
    town.pay("T1", "bank");
    town.call_back("bank", &id);
    let before = town.order("T1");
    let truth = town.clock.truth();
    let second = town.at("bank", |books| {
        let mut body = books.success(&id, truth);
        body["number"] = "bank-second".into();
        books.letter(&body)
    });
    let told = town.send(second);
    assert_eq!(
        (told.status, told.result),
        (400, Verdict::Quarantined.name())
    );
    assert_eq!(town.order("T1"), before);
    assert!(verdicts(&town).contains(&Verdict::Quarantined));
    assert_eq!(town.call_back("bank", &id).status, 200, "the first again");
}
