//! The end of an unpaid order: by the merchant or by time. Evidence ends it, not the wish.

use paymux::domain::attempt::AttemptState;
use paymux::domain::order::OrderState;
use serde_json::json;

use crate::world::books::{Ability, Standing};
use crate::world::network::Ending;
use crate::world::town::Town;

fn standing(town: &Town, no: &str) -> (OrderState, Vec<AttemptState>) {
    let order = town.order(no);
    (
        order.state,
        order.attempts.iter().map(|one| one.state).collect(),
    )
}

/// O3: without a live attempt an order closes at once, and closing twice is closing once.
#[test]
fn an_idle_order_closes_at_once() {
    let town = Town::new();
    town.place("T1", json!({}));
    for _ in 0..2 {
        let told = town.close("T1");
        assert_eq!((told.status, told.text("result")), (200, "CLOSED"));
    }
    assert_eq!(town.order("T1").version, 2);
    assert_eq!(town.snapshot().events.len(), 1);
}

/// O3, V2: with a live attempt the institution closes first; until it said so the answer is 202
/// and the wish stands.
#[test]
fn a_live_order_closes_on_the_institutions_word() {
    let town = Town::new();
    town.place("T1", json!({}));
    town.select("T1", "bank");
    town.network.parties().script.push_back(Ending::LostAfter);
    let told = town.close("T1");
    assert_eq!((told.status, told.text("result")), (202, "PENDING"));
    assert_eq!(told.text("orderStatus"), "OPEN");
    let waiting = (OrderState::Open, vec![AttemptState::Closing]);
    assert_eq!(standing(&town, "T1"), waiting);
    let chosen = town.select("T1", "purse");
    assert_eq!((chosen.status, chosen.result), (409, "order_closed"), "O4");
    assert_eq!(town.close("T1").status, 202, "the wish stands already");

    town.chase();
    let ended = (OrderState::Closed, vec![AttemptState::Closed]);
    assert_eq!(standing(&town, "T1"), ended);
    assert_eq!(town.close("T1").status, 200);
}

/// V2: expiry asks the institution to close before anything closes here; a payment that was
/// faster wins.
#[test]
fn expiry_closes_at_the_institution_first() {
    for paid_first in [false, true] {
        let town = Town::new();
        town.place("T1", json!({ "expireMinutes": 1 }));
        town.select("T1", "bank");
        if paid_first {
            town.pay("T1", "bank");
        }
        town.pass_s(59);
        town.network
            .parties()
            .script
            .extend([Ending::LostBefore; 8]);
        town.pass_s(2);
        town.chase();
        assert_eq!(
            town.order("T1").state,
            OrderState::Open,
            "silence ends nothing"
        );
        assert_eq!(town.select("T1", "purse").status, 409, "O4");
        town.network.parties().script.clear();
        town.pass_s(40);
        town.chase();
        let expected = if paid_first {
            (OrderState::Paid, vec![AttemptState::Paid])
        } else {
            (OrderState::Closed, vec![AttemptState::Closed])
        };
        assert_eq!(standing(&town, "T1"), expected);
        let id = town.attempt("T1", "bank");
        let theirs = town.at("bank", |books| books.payments[&id].standing);
        let expected = if paid_first {
            Standing::Paid
        } else {
            Standing::Closed
        };
        assert_eq!(theirs, expected);
    }
}

/// R-6.1.1-2: a paid order is not closed: 409, and nothing changes but the spent nonce.
#[test]
fn a_paid_order_is_not_closed() {
    let town = Town::new();
    town.place("T1", json!({}));
    town.select("T1", "bank");
    let paid = town.pay("T1", "bank");
    town.call_back("bank", &paid);
    let before = town.snapshot();
    let told = town.close("T1");
    assert_eq!((told.status, told.result), (409, "order_paid"));
    let mut after = town.snapshot();
    assert_eq!(after.nonces.len(), before.nonces.len() + 1, "Q5");
    after.nonces = before.nonces.clone();
    assert_eq!(after, before);
}

/// V2: a payment that the institution took before the close settles the order although the
/// merchant gave up.
#[test]
fn a_payment_before_the_close_settles() {
    let town = Town::new();
    town.place("T1", json!({}));
    town.select("T1", "bank");
    town.pay("T1", "bank");
    let told = town.close("T1");
    assert_eq!((told.status, told.text("result")), (200, "ALREADY_PAID"));
    assert_eq!(town.query("T1").text("orderStatus"), "PAID");
}

/// V2: an institution that will not close keeps the order open, for as long as it does.
#[test]
fn a_refused_close_ends_nothing() {
    let town = Town::new();
    town.place("T1", json!({}));
    town.select("T1", "bank");
    town.at("bank", |books| books.manners.keeps_open = true);
    assert_eq!(town.close("T1").status, 202);
    for _ in 0..5 {
        town.pass_s(60);
        town.chase();
        assert_eq!(town.order("T1").state, OrderState::Open);
    }
    town.at("bank", |books| books.manners.keeps_open = false);
    town.pass_s(3_600);
    town.chase();
    assert_eq!(town.order("T1").state, OrderState::Closed);
}

/// A5: at an institution that cannot close, the order ends when the institution says that its
/// payment has ended.
#[test]
fn what_cannot_be_closed_ends_by_itself() {
    let town = Town::with(&[("bank", Ability::NONE)]);
    town.place("T1", json!({ "expireMinutes": 2 }));
    town.select("T1", "bank");
    assert_eq!(town.close("T1").status, 202);
    town.chase();
    assert_eq!(town.order("T1").state, OrderState::Open);
    town.pass_s(121);
    town.chase();
    assert_eq!(town.order("T1").state, OrderState::Closed);
}

/// A5: "not found" ends an attempt only when nothing sent can still be on its way and, where there
/// is a close, in answer to a close.
#[test]
fn not_found_waits_for_the_visibility_limit() {
    for (ability, closes) in [
        (
            Ability {
                remembers_close: false,
                ..Ability::ALL
            },
            true,
        ),
        (Ability::NONE, false),
    ] {
        let town = Town::with(&[("bank", ability)]);
        town.place("T1", json!({}));
        town.network.parties().script.push_back(Ending::LostBefore);
        town.select("T1", "bank");
        for _ in 0..5 {
            town.pass_s(6);
            town.chase();
            assert_eq!(town.order("T1").attempts[0].state, AttemptState::Unknown);
        }
        town.pass_s(60);
        town.chase();
        assert_eq!(town.order("T1").attempts[0].state, AttemptState::Failed);
        let calls = town.at("bank", |books| books.calls.clone());
        let asked_to_close = calls.iter().any(|(call, _)| call == "close");
        assert_eq!(asked_to_close, closes, "{calls:?}");
    }
}
