//! What a reply, a callback or silence does to a refund (section 5 of the invariants).

use paymux::domain::evidence::{
    Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment,
};
use paymux::domain::journal::JournalAccount;
use paymux::domain::order::Applied;
use paymux::domain::refund::RefundState;
use paymux::store::InboxStatus;
use paymux::world::Clock;
use serde_json::json;

use super::{hold_and_payable, only, paid, pay_at_bank, query, refund, states};
use crate::simulation::balances;
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::network::ScriptedOutcome;
use crate::world::test_gateway::TestGateway;

/// C4, V4: a hint about a failed refund is confirmed by a query: it may have been carried out since.
#[test]
fn a_hint_about_a_failed_refund_is_asked_about() {
    let gateway = paid();
    gateway.at("bank", |books| books.behaviours.refuses_refunds = true);
    refund(&gateway, "T1", "5", json!({}));
    let order = gateway.order("T1");
    assert_eq!(states(&order), [RefundState::Failed]);
    let evidence = Evidence {
        institution: order.attempts[0].institution.clone(),
        accounts: None,
        receiver: None,
        about: EvidenceSubject::Refund(order.refunds[0].no.clone()),
        by: EvidenceSource::Callback,
        sum: None,
        along: OriginalPayment::default(),
        asked_at: None,
        proves_arrival: true,
        finding: Finding::Hint,
    };
    let snapshot = gateway.snapshot();
    let facts = snapshot.adapters[&evidence.institution].facts();
    let applied = order.apply(&evidence, facts, gateway.clock.now());
    assert!(matches!(applied, Applied::ConfirmByQuery), "{applied:?}");
}

/// E5, V1, R3, R4: after a lost reply the refund is unresolved: 202, the amount stays reserved, and
/// the institution's evidence ends it.
#[test]
fn a_lost_reply_is_unresolved_and_is_queried() {
    for ending in [
        ScriptedOutcome::LostAfter,
        ScriptedOutcome::FaultAfter,
        ScriptedOutcome::Garbled,
    ] {
        let gateway = paid();
        gateway.network.parties().script.push_back(ending);
        let reply = refund(&gateway, "T1", "5", json!({}));
        assert_eq!(
            (reply.status, reply.text("result")),
            (202, "PENDING"),
            "{ending:?}"
        );
        assert_eq!(reply.text("refundStatus"), "PROCESSING");
        assert_eq!(only(&gateway, "T1").state, RefundState::Unknown);
        assert_eq!(hold_and_payable(&gateway, "T1"), (500, 730));
        gateway.advance_s(1);
        gateway.poll_unresolved();
        assert_eq!(only(&gateway, "T1").state, RefundState::Succeeded);
        assert_eq!(hold_and_payable(&gateway, "T1"), (0, 730));
        assert_eq!(gateway.at("bank", |books| books.returns.len()), 1);
    }
}

/// E1, R3: a refund that was never sent has failed; its amount is free again, and the merchant is
/// notified.
#[test]
fn a_refund_that_was_not_sent_frees_its_amount() {
    let gateway = paid();
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::NotSent);
    let reply = refund(&gateway, "T1", "5", json!({}));
    assert_eq!((reply.status, reply.text("reason")), (200, "NOT_REACHED"));
    assert_eq!(hold_and_payable(&gateway, "T1"), (0, 1_230));
    gateway.deliver();
    gateway.inbox(|inbox| {
        let last = inbox.requests.last().unwrap().body();
        let event: serde_json::Value = serde_json::from_slice(last).unwrap();
        assert_eq!(event["eventType"], "REFUND_FAILED");
        assert_eq!(event["reason"], "NOT_REACHED");
    });
    assert_eq!(
        refund(&gateway, "T1", "12.30", json!({})).text("refundStatus"),
        "SUCCEEDED"
    );
}

/// R4: a call that was lost in transit is repeated once, under the same number, where that is
/// harmless; elsewhere the refund fails once nothing can be in transit any more, not before.
#[test]
fn a_lost_call_is_repeated_only_where_that_is_harmless() {
    for repeatable_refund in [true, false] {
        let ability = FakeInstitutionAbility {
            repeatable_refund,
            ..FakeInstitutionAbility::ALL
        };
        let gateway = TestGateway::with(&[("bank", ability)]);
        pay_at_bank(&gateway, "T1");
        gateway
            .network
            .parties()
            .script
            .push_back(ScriptedOutcome::LostBefore);
        assert_eq!(refund(&gateway, "T1", "5", json!({})).status, 202);
        gateway.advance_s(1);
        gateway.poll_unresolved();
        let sent = gateway.at("bank", |books| books.returns.len());
        assert_eq!(sent, usize::from(repeatable_refund));
        if repeatable_refund {
            assert_eq!(only(&gateway, "T1").state, RefundState::Succeeded);
            continue;
        }
        assert_eq!(
            only(&gateway, "T1").state,
            RefundState::Unknown,
            "it may still arrive"
        );
        gateway.advance_s(40);
        gateway.poll_unresolved();
        assert_eq!(only(&gateway, "T1").state, RefundState::Failed);
        assert_eq!(hold_and_payable(&gateway, "T1"), (0, 1_230));
    }
}

/// S1: a reservation left by a dead process may have been sent: it is unresolved, and queried.
#[test]
fn a_reservation_of_a_dead_process_is_unresolved() {
    let mut gateway = paid();
    let fault_injector = crate::world::fault_injector::FaultInjector::new(gateway.memory.handles());
    fault_injector.plan(2, crate::world::fault_injector::InjectedFault::Unavailable);
    gateway.api.store = std::sync::Arc::new(fault_injector).handles();
    assert_eq!(refund(&gateway, "T1", "5", json!({})).status, 202);
    assert_eq!(only(&gateway, "T1").state, RefundState::Reserved);
    gateway.restart();
    let recovered =
        crate::world::test_gateway::now(paymux::flow::poll_unresolved::recover_orphaned(
            &gateway.api.store,
            paymux::world::Clock::now(&*gateway.clock),
        ));
    assert_eq!(recovered, Ok(1));
    assert_eq!(only(&gateway, "T1").state, RefundState::Unknown);
    gateway.advance_s(60);
    gateway.poll_unresolved();
    assert_eq!(only(&gateway, "T1").state, RefundState::Succeeded);
}

/// C4, C5, C6, N4: a slow institution reports by callback; a repeated callback notifies once.
#[test]
fn a_callback_ends_a_refund_once() {
    let gateway = paid();
    gateway.at("bank", |books| books.behaviours.takes_its_time = true);
    let reply = refund(&gateway, "T1", "5", json!({ "merchantRefundNo": "B1" }));
    assert_eq!((reply.status, reply.text("result")), (200, "ACCEPTED"));
    assert_eq!(only(&gateway, "T1").state, RefundState::Processing);
    let no = reply.text("refundOrderNo").to_owned();
    let truth = gateway.clock.truth();
    let callback = gateway.at("bank", |books| {
        books.end_refund(&no, false, truth);
        books.refund_callback(&no)
    });
    for _ in 0..2 {
        assert_eq!(gateway.send(callback.clone()).status, 200);
        assert_eq!(only(&gateway, "T1").state, RefundState::Succeeded);
        assert_eq!(gateway.durable_state().events.len(), 2);
    }
    assert_eq!(
        query(&gateway, json!({ "merchantRefundNo": "B1" })).text("refundStatus"),
        "SUCCEEDED"
    );
}

/// C1, C2, V3: a callback about a refund that is forged, another institution's, or has another
/// amount changes nothing.
#[test]
fn a_false_callback_about_a_refund_moves_nothing() {
    let gateway = paid();
    gateway.at("bank", |books| books.behaviours.takes_its_time = true);
    refund(&gateway, "T1", "5", json!({}));
    let no = only(&gateway, "T1").no.to_string();
    let truth = gateway.clock.truth();
    let before = only(&gateway, "T1");
    let body = |minor: i64, receiver: &str| {
        json!({ "refund": no, "word": "RETURNED", "receiver": receiver, "minor": minor,
            "currency": "CNY", "paidAt": truth, "number": "1" })
    };
    let receiver = gateway.at("bank", |books| books.returns[&no].receiver.clone());
    let forged = gateway.at("bank", |books| books.forgery(&body(500, &receiver)));
    let others = gateway.at("purse", |books| books.message(&body(500, &receiver)));
    let sum = gateway.at("bank", |books| books.message(&body(501, &receiver)));
    let foreign = gateway.at("bank", |books| books.message(&body(500, "another")));
    for (callback, status, decision) in [
        (forged, 400, InboxStatus::Forged),
        (others, 404, InboxStatus::Quarantined),
        (sum, 400, InboxStatus::Quarantined),
        (foreign, 400, InboxStatus::Quarantined),
    ] {
        let reply = gateway.send(callback);
        assert_eq!((reply.status, reply.result), (status, decision.name()));
        assert_eq!(only(&gateway, "T1"), before);
    }
}

/// V4, R9: a refund that had failed and succeeded after all is applied once the institution's reply
/// to a query confirms it; what still fits is debited to the merchant, the rest is a loss, and
/// nothing more is refunded.
#[test]
fn a_late_success_is_counted_as_far_as_it_fits() {
    for (refunded_since, excess) in [("7.30", 0), ("10", 270)] {
        let gateway = paid();
        gateway.at("bank", |books| books.behaviours.refuses_refunds = true);
        refund(&gateway, "T1", "5", json!({ "merchantRefundNo": "B1" }));
        gateway.at("bank", |books| books.behaviours.refuses_refunds = false);
        let since = refund(
            &gateway,
            "T1",
            refunded_since,
            json!({ "merchantRefundNo": "B2" }),
        );
        assert_eq!(since.text("refundStatus"), "SUCCEEDED");
        let no = gateway.order("T1").refunds[0].no.to_string();
        let truth = gateway.clock.truth();
        let callback = gateway.at("bank", |books| {
            books.end_refund(&no, false, truth);
            books.refund_callback(&no)
        });
        let silent = ScriptedOutcome::LostBefore;
        gateway.network.parties().script.push_back(silent);
        assert_eq!(
            gateway.send(callback.clone()).status,
            503,
            "V4: no query confirmed it"
        );
        assert_eq!(gateway.order("T1").refunds[0].state, RefundState::Failed);
        assert_eq!(gateway.send(callback).status, 200);
        let order = gateway.order("T1");
        assert_eq!(states(&order), [RefundState::Succeeded; 2]);
        assert!(order.refunds[0].late_success);
        assert_eq!(order.refunds[0].over_refunded_minor, excess);
        let balances = balances(&gateway.durable_state().entries);
        let loss = balances
            .get(&JournalAccount::OverRefundLoss(order.no.clone()))
            .copied();
        assert_eq!(loss.unwrap_or(0), excess);
        assert_eq!(hold_and_payable(&gateway, "T1"), (0, 0));
        assert!(order.refunded_minor() <= 1_230, "R1");
        assert_eq!(
            refund(&gateway, "T1", "0.01", json!({})).result,
            "refund_over_rest"
        );
    }
}

/// E3, M7, V3: a refund dated before its payment, or far ahead, counts from when its evidence
/// arrived; a second refund under the same number with another number of the institution's goes to
/// manual review.
#[test]
fn a_refund_counts_once_and_from_when_it_can_have_been() {
    const DAY_MS: i64 = 86_400_000;
    for (off_ms, is_believed) in [
        (-3 * DAY_MS, false),
        (DAY_MS / 2, true),
        (3 * DAY_MS, false),
    ] {
        let gateway = paid();
        gateway.at("bank", |books| books.behaviours.takes_its_time = true);
        refund(&gateway, "T1", "5", json!({}));
        let no = only(&gateway, "T1").no.to_string();
        let now_ms = paymux::world::Clock::now(&*gateway.clock).ms();
        let callback = gateway.at("bank", |books| {
            books.end_refund(&no, false, now_ms + off_ms);
            books.refund_callback(&no)
        });
        assert_eq!(gateway.send(callback.clone()).status, 200);
        let back = only(&gateway, "T1");
        assert_eq!(back.state, RefundState::Succeeded);
        let at_ms = back.receipt.as_ref().unwrap().paid_at.ms();
        let expected_ms = if is_believed { now_ms + off_ms } else { now_ms };
        assert_eq!(at_ms, expected_ms, "{off_ms}");

        let mut second: serde_json::Value = serde_json::from_slice(callback.body()).unwrap();
        second["number"] = "bank-second".into();
        let second = gateway.at("bank", |books| books.message(&second));
        let reply = gateway.send(second);
        assert_eq!(
            (reply.status, reply.result),
            (400, InboxStatus::Quarantined.name())
        );
        assert_eq!(only(&gateway, "T1"), back);
        assert_eq!(gateway.send(callback).status, 200, "the first again");
    }
}

/// Z1, section 5: a refund that the institution reports as in progress needs no decision.
#[test]
fn a_refund_in_progress_needs_no_manual_review() {
    let gateway = paid();
    gateway.at("bank", |books| books.behaviours.takes_its_time = true);
    refund(&gateway, "T1", "5", json!({}));
    for _ in 0..100 {
        gateway.advance_s(86_400);
        gateway.poll_unresolved();
    }
    assert_eq!(only(&gateway, "T1").state, RefundState::Processing);
    // One query that is lost in transit, after months, changes nothing.
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::LostBefore);
    gateway.advance_s(86_400);
    gateway.poll_unresolved();
    assert_eq!(only(&gateway, "T1").state, RefundState::Processing);
}

/// Z1, section 5, V1, R4, V5: a refund that was accepted, and that the institution then does not
/// answer about or does not know, goes to manual review as well. It is not sent again, its amount
/// stays reserved, and the institution's evidence can still end it.
#[test]
fn an_accepted_and_forgotten_refund_awaits_manual_review() {
    for (is_forgotten, fails) in [(true, true), (true, false), (false, true), (false, false)] {
        let gateway = paid();
        gateway.at("bank", |books| books.behaviours.takes_its_time = true);
        assert_eq!(
            refund(&gateway, "T1", "5", json!({})).text("result"),
            "ACCEPTED"
        );
        let no = only(&gateway, "T1").no.to_string();
        let returned = gateway.at("bank", |books| {
            books.behaviours.uses_unlisted_word = !is_forgotten;
            books.returns.get(&no).cloned().unwrap()
        });
        if is_forgotten {
            gateway.at("bank", |books| books.returns.clear());
        }
        for _ in 0..100 {
            gateway.advance_s(86_400);
            gateway.poll_unresolved();
        }
        assert_eq!(only(&gateway, "T1").state, RefundState::Manual);
        assert_eq!(hold_and_payable(&gateway, "T1"), (500, 730), "V1, R3");
        let sent = gateway.at("bank", |books| {
            let calls = books.calls.iter();
            calls.filter(|(word, _)| word == "refund").count()
        });
        assert_eq!(sent, 1, "R4");
        let truth = gateway.clock.truth();
        gateway.at("bank", |books| {
            books.behaviours.uses_unlisted_word = false;
            books.returns.insert(no.clone(), returned);
            books.end_refund(&no, fails, truth);
        });
        gateway.advance_s(86_400);
        gateway.poll_unresolved();
        let (state, payable) = if fails {
            (RefundState::Failed, 1_230)
        } else {
            (RefundState::Succeeded, 730)
        };
        assert_eq!(only(&gateway, "T1").state, state);
        assert_eq!(hold_and_payable(&gateway, "T1"), (0, payable));
    }
}

/// R9, R1, M3: a late success beyond what was left is a loss only while other refunds reserve what
/// was paid: as these fail it is covered, and what is left then can be refunded.
#[test]
fn a_loss_is_covered_as_other_refunds_fail() {
    let gateway = paid();
    let number = |number: &str| json!({ "merchantRefundNo": number });
    gateway.at("bank", |books| books.behaviours.refuses_refunds = true);
    refund(&gateway, "T1", "10", number("A"));
    gateway.at("bank", |books| {
        books.behaviours.refuses_refunds = false;
        books.behaviours.takes_its_time = true;
    });
    refund(&gateway, "T1", "6", number("B"));
    refund(&gateway, "T1", "6.30", number("C"));
    let numbers: Vec<_> = gateway
        .order("T1")
        .refunds
        .iter()
        .map(|one| one.no.to_string())
        .collect();
    for (at, fails, back, loss, held_and_payable) in [
        (0, false, 0, 1_000, (1_230, 0)),
        (1, true, 600, 400, (630, 0)),
        (2, true, 1_000, 0, (0, 230)),
    ] {
        let truth = gateway.clock.truth();
        let callback = gateway.at("bank", |books| {
            books.end_refund(&numbers[at], fails, truth);
            books.refund_callback(&numbers[at])
        });
        assert_eq!(gateway.send(callback).status, 200);
        let order = gateway.order("T1");
        assert_eq!(order.refunded_minor(), back);
        let balances = balances(&gateway.durable_state().entries);
        let lost = balances
            .get(&JournalAccount::OverRefundLoss(order.no.clone()))
            .copied();
        assert_eq!(
            (lost.unwrap_or(0), order.refunds[0].over_refunded_minor),
            (loss, loss)
        );
        assert_eq!(hold_and_payable(&gateway, "T1"), held_and_payable);
    }
    gateway.at("bank", |books| books.behaviours.takes_its_time = false);
    let rest = refund(&gateway, "T1", "2.30", number("D"));
    assert_eq!(rest.text("orderRefundStatus"), "FULL", "{}", rest.json);
}

/// Z1: a refund whose whole query schedule brought no reply goes to manual review, its amount still
/// reserved; the institution is still queried, and its evidence ends it.
#[test]
fn an_unanswered_refund_awaits_manual_review() {
    let gateway = paid();
    gateway.at("bank", |books| books.behaviours.uses_unlisted_word = true);
    assert_eq!(
        refund(&gateway, "T1", "5", json!({ "merchantRefundNo": "B1" })).status,
        202
    );
    for _ in 0..100 {
        gateway.advance_s(86_400);
        gateway.poll_unresolved();
    }
    assert_eq!(only(&gateway, "T1").state, RefundState::Manual);
    assert_eq!(hold_and_payable(&gateway, "T1"), (500, 730), "V2, R3");
    let reply = query(&gateway, json!({ "merchantRefundNo": "B1" }));
    assert_eq!(
        (reply.status, reply.text("refundStatus")),
        (202, "PROCESSING")
    );
    gateway.at("bank", |books| books.behaviours.uses_unlisted_word = false);
    gateway.advance_s(86_400);
    gateway.poll_unresolved();
    assert_eq!(only(&gateway, "T1").state, RefundState::Succeeded);
}
