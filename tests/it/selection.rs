//! The payer's choice: the order goes to that institution, and to no second one at a time.

use std::sync::{Arc, Barrier};
use std::thread;

use paymux::domain::attempt::AttemptState;
use paymux::domain::identifiers::{InstitutionId, MerchantId};
use paymux::domain::institutions::{Mode, RoutingTable};
use paymux::domain::order::OrderState;
use serde_json::json;

use crate::world::enrolment::{ORIGIN, snapshot, up_to};
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::network::ScriptedOutcome;
use crate::world::test_gateway::{TestGateway, changed, naming};

/// Changes an enrolment.
type Edit<'a> = &'a dyn Fn(&mut RoutingTable);

const TWO: [(&str, FakeInstitutionAbility); 2] = [
    ("bank", FakeInstitutionAbility::ALL),
    ("purse", FakeInstitutionAbility::ALL),
];

fn creates(gateway: &TestGateway, institution: &str) -> usize {
    gateway.at(institution, |books| {
        let created = books.calls.iter().filter(|(call, _)| call == "create");
        created.count()
    })
}

fn states(gateway: &TestGateway, no: &str) -> Vec<AttemptState> {
    gateway
        .order(no)
        .attempts
        .iter()
        .map(|one| one.state)
        .collect()
}

/// R-5.1.4-4, R-A2.4.1-4a, R-A2.4.1-4b, R-A2.4.1-5a, R-5.1.1-0a: the choice goes to that
/// institution, and our page leads on by its link unchanged.
#[test]
fn a_choice_leads_to_the_institutions_link() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    let reply = gateway.select("T1", "purse");
    let id = gateway.attempt("T1", "purse");
    assert_eq!(reply.status, 200, "{:?}", reply.json);
    let page = format!("{ORIGIN}{}", gateway.page("T1"));
    assert_eq!(reply.text("payUrl"), page);
    let link = format!("https://purse.example/pay/{id}");
    assert_eq!(gateway.onward("T1"), link);
    assert_eq!(reply.text("attemptStatus"), "ACCEPTED");
    assert_eq!(reply.text("institutionId"), "purse");
    assert_eq!(
        (creates(&gateway, "bank"), creates(&gateway, "purse")),
        (0, 1)
    );
    let payment = gateway.at("purse", |books| books.payments[&id].clone());
    assert_eq!((payment.minor, payment.currency.as_str()), (1_230, "CNY"));
    assert_eq!(payment.receiver, "M1-at-purse");
}

/// R-A2.4.3-4, R-A2.4.3-5: in native mode the reply to a choice has the start parameters.
#[test]
fn a_native_choice_is_answered_with_start_parameters() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    let native = changed(
        naming("T1"),
        json!({ "institutionId": "bank", "mode": "NATIVE" }),
    );
    let reply = gateway.ask("M1", "/v1/orders/select", &native);
    let id = gateway.attempt("T1", "bank");
    assert_eq!(
        reply.json["sdkParameters"],
        json!({ "prepay": id, "order": 1 })
    );
    assert_eq!(reply.text("mode"), "NATIVE");
}

/// A2: choosing the same institution again returns the stored link while it is valid, and calls
/// nothing.
#[test]
fn the_same_choice_again_answers_the_same_link() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    let first = gateway.select("T1", "bank");
    let link = gateway.onward("T1");
    let again = gateway.select("T1", "bank");
    assert_eq!(again.text("payUrl"), first.text("payUrl"));
    assert_eq!(gateway.onward("T1"), link);
    assert_eq!(
        (creates(&gateway, "bank"), states(&gateway, "T1").len()),
        (1, 1)
    );
}

/// A3: when the link has expired, the same attempt is created again where the institution allows
/// that.
#[test]
fn an_expired_link_is_made_again_under_the_same_attempt() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    gateway.advance_s(121);
    let reply = gateway.select("T1", "bank");
    assert_eq!(
        (reply.status, reply.text("attemptStatus")),
        (200, "ACCEPTED")
    );
    assert_eq!(states(&gateway, "T1"), [AttemptState::Accepted]);
    let id = gateway.attempt("T1", "bank");
    assert_eq!(gateway.at("bank", |books| books.payments[&id].creates), 2);
}

/// A3, V1: a refused repeat does not end what the payer was given before: it can still be paid, and is
/// asked about.
#[test]
fn a_refused_repeat_does_not_end_the_attempt() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    gateway.advance_s(121);
    gateway.at("bank", |books| books.behaviours.refuses_repeats = true);
    gateway.select("T1", "bank");
    assert_eq!(states(&gateway, "T1"), [AttemptState::Accepted]);
    gateway.pay("T1", "bank");
    assert_eq!(gateway.poll_unresolved(), 1);
    assert_eq!(states(&gateway, "T1"), [AttemptState::Paid]);
}

/// A2, A3: where it does not, the old attempt is closed first, on the institution's evidence, and
/// only then a new one begins.
#[test]
fn an_expired_link_elsewhere_means_a_new_attempt_after_the_close() {
    let once = FakeInstitutionAbility {
        repeatable_create: false,
        ..FakeInstitutionAbility::ALL
    };
    let gateway = TestGateway::with(&[("bank", once)]);
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    gateway.advance_s(121);
    let reply = gateway.select("T1", "bank");
    assert_eq!((reply.status, reply.text("result")), (202, "PENDING"));
    assert_eq!(states(&gateway, "T1"), [AttemptState::Closing]);
    gateway.poll_unresolved();
    let reply = gateway.select("T1", "bank");
    assert_eq!(reply.status, 200);
    assert_eq!(
        states(&gateway, "T1"),
        [AttemptState::Closed, AttemptState::Accepted]
    );
}

/// A6: querying an attempt that waits for its payer changes nothing, however the institution dates
/// its replies, so the queries become rarer.
#[test]
fn a_query_does_not_renew_the_link() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let before = gateway.order("T1");
    for _ in 0..6 {
        gateway.advance_s(73);
        assert_eq!(gateway.poll_unresolved(), 1);
    }
    let after = gateway.order("T1");
    assert_eq!(after.version, before.version);
    assert_eq!(
        after.attempts[0].payment_action,
        before.attempts[0].payment_action
    );
    assert_eq!(after.attempts[0].schedule.asked, 6);
    gateway.advance_s(59);
    assert_eq!(gateway.poll_unresolved(), 0, "a minute between queries");
}

/// A2: another institution waits until evidence has ended the live attempt: 202 and `Retry-After`.
#[test]
fn another_institution_waits_for_the_first() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::LostBefore);
    for _ in 0..2 {
        let reply = gateway.select("T1", "purse");
        assert_eq!((reply.status, reply.text("result")), (202, "PENDING"));
        assert!(reply.response.headers().contains_key("retry-after"));
        assert_eq!(creates(&gateway, "purse"), 0);
    }
    assert_eq!(states(&gateway, "T1"), [AttemptState::Closing]);
    gateway.poll_unresolved();
    gateway.advance_s(2);
    gateway.poll_unresolved();
    let reply = gateway.select("T1", "purse");
    assert_eq!((reply.status, reply.text("institutionId")), (200, "purse"));
    assert_eq!(
        states(&gateway, "T1"),
        [AttemptState::Closed, AttemptState::Accepted]
    );
}

/// A2, A7: if the payer paid at the first meanwhile, there is no second payment.
#[test]
fn a_payment_at_the_first_pays_the_order() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    gateway.select("T1", "purse");
    gateway.pay("T1", "bank");
    gateway.poll_unresolved();
    assert_eq!(gateway.order("T1").state, OrderState::Paid);
    assert_eq!(gateway.select("T1", "purse").text("result"), "ALREADY_PAID");
    assert_eq!(creates(&gateway, "purse"), 0);
}

/// E2, R-6.1.1-1: a definite refusal is an outcome, with the institution's reason; the order stays
/// open and may be paid elsewhere.
#[test]
fn a_refusal_leaves_the_order_open() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.at("bank", |books| books.behaviours.refuses = true);
    let reply = gateway.select("T1", "bank");
    assert_eq!((reply.status, reply.text("result")), (200, "REFUSED"));
    assert_eq!(reply.text("attemptStatus"), "FAILED");
    assert_eq!(reply.text("reason"), "NO_FUNDS");
    assert_eq!(reply.text("orderStatus"), "OPEN");
    assert_eq!(gateway.select("T1", "purse").text("result"), "ACCEPTED");
    assert_eq!(
        states(&gateway, "T1"),
        [AttemptState::Failed, AttemptState::Accepted]
    );
}

/// E1: a call that was never sent may go elsewhere at once.
#[test]
fn an_attempt_that_was_not_sent_has_failed() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::NotSent);
    let reply = gateway.select("T1", "bank");
    assert_eq!(
        (reply.text("result"), reply.text("reason")),
        ("REFUSED", "NOT_REACHED")
    );
    assert_eq!(gateway.select("T1", "purse").status, 200);
}

/// E5, V1, A3: no reply, a server error, a damaged or unlisted reply decide nothing: 202, queried
/// and never sent again.
#[test]
fn an_unresolved_attempt_is_queried_and_not_sent_again() {
    for ending in [
        ScriptedOutcome::LostBefore,
        ScriptedOutcome::LostAfter,
        ScriptedOutcome::Late,
        ScriptedOutcome::FaultAfter,
        ScriptedOutcome::FaultBefore,
        ScriptedOutcome::Garbled,
    ] {
        let gateway = TestGateway::new();
        gateway.place("T1", json!({}));
        gateway.network.parties().script.push_back(ending);
        let reply = gateway.select("T1", "bank");
        assert_eq!(
            (reply.status, reply.text("result")),
            (202, "PENDING"),
            "{ending:?}"
        );
        for _ in 0..3 {
            gateway.select("T1", "bank");
            gateway.advance_s(1);
            gateway
                .network
                .parties()
                .script
                .push_back(ScriptedOutcome::LostBefore);
            gateway.poll_unresolved();
        }
        assert!(creates(&gateway, "bank") <= 1, "{ending:?}");
        assert_eq!(
            states(&gateway, "T1"),
            [AttemptState::Unknown],
            "{ending:?}"
        );
    }
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.at("bank", |books| books.behaviours.uses_unlisted_word = true);
    assert_eq!(gateway.select("T1", "bank").text("result"), "PENDING", "C3");
}

/// A1: an intent is durable before the institution receives the call, even when its store stops
/// there.
#[test]
fn no_call_precedes_its_intent() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.network.parties().held = true;
    let mut journey = Box::pin(gateway.api.answer(
        gateway.signed(
            "M1",
            "/v1/orders/select",
            &changed(naming("T1"), json!({ "institutionId": "bank" })),
        ),
        crate::world::test_gateway::PEER,
    ));
    let mut task = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(journey.as_mut().poll(&mut task).is_pending());
    assert_eq!(gateway.network.parties().waiting.len(), 1);
    assert_eq!(states(&gateway, "T1"), [AttemptState::Intent]);
}

/// S1, A1: an orphaned intent is unresolved at the next start, and is queried.
#[test]
fn an_orphaned_intent_is_unresolved() {
    let mut gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.network.parties().held = true;
    {
        let select = changed(naming("T1"), json!({ "institutionId": "bank" }));
        let request = gateway.signed("M1", "/v1/orders/select", &select);
        let mut journey = Box::pin(
            gateway
                .api
                .answer(request, crate::world::test_gateway::PEER),
        );
        let mut task = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(journey.as_mut().poll(&mut task).is_pending());
    }
    gateway.restart();
    let clock = gateway.api.world.clock.now();
    let recover_orphaned = paymux::flow::poll_unresolved::recover_orphaned;
    let recovered =
        crate::world::test_gateway::now(recover_orphaned(&gateway.api.store, clock)).unwrap();
    assert_eq!(recovered, 1);
    assert_eq!(states(&gateway, "T1"), [AttemptState::Unknown]);
    gateway.network.arrive(0);
    gateway.network.parties().held = false;
    gateway.advance_s(1);
    gateway.poll_unresolved();
    assert_eq!(states(&gateway, "T1"), [AttemptState::Accepted]);
}

/// R-A2.4.1-3a: an institution that is not eligible for this payment is refused, with the reason,
/// and no attempt is made.
#[test]
fn an_institution_that_is_not_open_is_refused() {
    let mut gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    let before = gateway.durable_state();
    let m1 = MerchantId::parse("M1").unwrap();
    let bank = InstitutionId::parse("bank").unwrap();
    let contract = (m1, bank.clone());
    let unavailable = "institution_unavailable";
    let cases: [(Edit<'_>, u16, &str, &str); 5] = [
        (
            &|routing| routing.routes[0].payers.only = vec!["139".into()],
            422,
            unavailable,
            "PAYER_NOT_SERVED",
        ),
        (
            &|routing| routing.institutions.get_mut(&bank).unwrap().stopped = true,
            422,
            unavailable,
            "INSTITUTION_DOWN",
        ),
        (
            &|routing| drop(routing.contracts.remove(&contract)),
            403,
            "institution_not_contracted",
            "NOT_CONTRACTED",
        ),
        (
            &|routing| routing.contracts.get_mut(&contract).unwrap().sums = vec![up_to(1_000)],
            422,
            unavailable,
            "AMOUNT_ABOVE_LIMIT",
        ),
        (
            &|routing| {
                routing.contracts.get_mut(&contract).unwrap().modes = vec![Mode::Chatbot];
            },
            422,
            unavailable,
            "MODE_NOT_OFFERED",
        ),
    ];
    for (edit, status, code, reason) in cases {
        let mut snapshot = snapshot(&TWO);
        edit(&mut snapshot.routing);
        gateway.api.snapshot = Arc::new(snapshot);
        let reply = gateway.select("T1", "bank");
        assert_eq!((reply.status, reply.result), (status, code));
        assert_eq!(reply.text("reason"), reason);
        assert_eq!(reply.text("field"), "institutionId");
        let mut after = gateway.durable_state();
        after.nonces.clone_from(&before.nonces);
        assert_eq!(after, before, "{reason} changed the store");
    }
    let reply = gateway.select("T1", "nobody");
    assert_eq!((reply.status, reply.result), (422, "institution_unknown"));
}

/// F2: an institution taken out of service still completes what was begun there.
#[test]
fn a_stopped_institution_finishes_what_it_began() {
    let mut gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    let first = gateway.select("T1", "bank");
    let mut snapshot = snapshot(&TWO);
    for institution in snapshot.routing.institutions.values_mut() {
        institution.stopped = true;
    }
    gateway.api.snapshot = Arc::new(snapshot);
    let link = gateway.onward("T1");
    let again = gateway.select("T1", "bank");
    assert_eq!(again.text("payUrl"), first.text("payUrl"));
    assert_eq!(gateway.onward("T1"), link);
    let paid = gateway.pay("T1", "bank");
    assert_eq!(gateway.call_back("bank", &paid).status, 200);
    assert_eq!(gateway.order("T1").state, OrderState::Paid);
}

/// Q5, Q7, A2: sixty-four copies of one request at once have one effect: the nonce is spent once.
/// Sixty-four equal requests with nonces of their own also have one effect: one order, one attempt.
#[test]
fn many_at_once_are_one() {
    let gateway = TestGateway::new();
    let named = changed(
        crate::world::enrolment::order_fields("M1", "T1"),
        json!({ "institutionId": "bank" }),
    );
    let copy = gateway.signed("M1", "/v1/orders", &named);
    let equal: Vec<_> = (0..64)
        .map(|_| gateway.signed("M1", "/v1/orders", &named))
        .collect();
    let start = Barrier::new(64);
    let together = |requests: Vec<http::Request<bytes::Bytes>>| -> Vec<u16> {
        thread::scope(|scope| {
            let (gateway, start) = (&gateway, &start);
            let running: Vec<_> = requests
                .into_iter()
                .map(|request| {
                    scope.spawn(move || {
                        start.wait();
                        gateway.send(request).status
                    })
                })
                .collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        })
    };
    let copies = together(vec![copy; 64]);
    assert_eq!(
        copies.iter().filter(|status| **status == 401).count(),
        63,
        "{copies:?}"
    );
    let answers = together(equal);
    assert!(
        answers.iter().all(|status| matches!(status, 200 | 202)),
        "{answers:?}"
    );
    let durable = gateway.durable_state();
    assert_eq!((durable.orders.len(), durable.nonces.len()), (1, 65));
    assert_eq!(
        (states(&gateway, "T1").len(), creates(&gateway, "bank")),
        (1, 1)
    );
}
