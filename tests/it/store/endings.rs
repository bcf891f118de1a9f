//! Every way in which an object can end, and every reader of it afterwards: data missing from one
//! ending might otherwise be noticed only by a reader much later.

use bytes::Bytes;
use http::Response;
use paymux::domain::change::ChangeCause;
use paymux::domain::evidence::{
    Ambiguity, Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment, Reason, Receipt,
};
use paymux::domain::identifiers::StaffId;
use paymux::domain::order::{Applied, CloseReason, Order, OrderState};
use paymux::domain::refund::{Refund, RefundDecision, RefundState};
use paymux::domain::statement::{DifferenceKind, Movement, SettlementDay, StatementLine, compare};
use paymux::store::Store;
use paymux::store::ledger::{MovementCursor, ReconciliationLedger};
use paymux::store::outbox::EventPageLimit;
use serde_json::{Value, json};

use super::builders::{
    MOBILE, accepted, apply, at, done, facts, institution, merchant, paid, place, start, succeeded,
    terms,
};
use super::embedded::EmbeddedStores;
use super::explained::explained;
use super::refunds::reserve;
use super::verify_store::verified;
use crate::world::clock::START_MS;
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::test_gateway::{PEER, TestGateway};

/// Applies a finding from this source to the order's last refund; returns the resulting order.
async fn received(store: &Store, order: Order, finding: Finding, by: EvidenceSource) -> Order {
    let refund = order.refunds.last().unwrap().no.clone();
    received_about(store, order, EvidenceSubject::Refund(refund), (finding, by)).await
}

async fn received_about(
    store: &Store,
    order: Order,
    about: EvidenceSubject,
    (finding, by): (Finding, EvidenceSource),
) -> Order {
    let evidence = Evidence {
        institution: institution("harbour"),
        accounts: None,
        receiver: None,
        about,
        by,
        sum: None,
        along: OriginalPayment::default(),
        asked_at: None,
        proves_arrival: false,
        finding,
    };
    let applied = order.apply(&evidence, &facts(), at(40));
    let Applied::Commit(change) = applied else {
        panic!("expected a change, not {applied:?}")
    };
    done(store, *change).await
}

fn silence() -> Finding {
    Finding::Ambiguous(Ambiguity::NoAnswer)
}

fn refused() -> Finding {
    Finding::Refused(Reason::from_code("REFUSED"))
}

fn back(refund: &Refund) -> Finding {
    Finding::Succeeded(Receipt {
        amount: refund.amount,
        institution_no: Some(format!("H-{}", refund.no).into()),
        paid_at: at(35),
        fee: None,
    })
}

/// An attempt with these findings, and its order, closed by the merchant if still open.
async fn attempted(store: &Store, n: u32, findings: &[(Finding, EvidenceSource)]) -> Order {
    let mut order = done(store, place(n, Some(start(n, "harbour", store.epoch)))).await;
    for (finding, by) in findings {
        order = done(store, apply(&order, 1, finding.clone(), *by, 20)).await;
    }
    if order.state == OrderState::Open {
        let end = order
            .end(CloseReason::Merchant, ChangeCause::Clock, at(30))
            .unwrap();
        order = done(store, end).await;
    }
    order
}

/// A paid order with a refund of 5.00 in progress.
async fn order_with_refund(store: &Store, n: u32) -> Order {
    let order = paid(store, n, "harbour", terms(n)).await;
    done(store, reserve(store, &order, n, &format!("B{n}"), 500)).await
}

/// The same, moved to manual review, and ended by two staff members.
async fn decided(store: &Store, n: u32, succeeded: bool, number: Option<&str>) -> Order {
    let order = order_with_refund(store, n).await;
    let order = received(store, order, silence(), EvidenceSource::Refund).await;
    let no = order.refunds[0].no.clone();
    let mut order = done(store, order.move_to_manual_review(&no, at(50)).unwrap()).await;
    for staff in ["anna", "ben"] {
        let decision = RefundDecision {
            staff: StaffId::parse(staff).unwrap(),
            succeeded,
            statement: [3; 32],
            institution_no: number.map(Into::into),
            moved_at: number.map(|_| at(33)),
        };
        let change = order.decide_refund(&no, decision, at(60)).unwrap();
        order = done(store, change).await;
    }
    order
}

/// A payment after a close, and its first refund sent.
async fn excess(store: &Store, n: u32) -> Order {
    let closed = [
        (accepted(), EvidenceSource::Create),
        (Finding::Closed, EvidenceSource::Callback),
    ];
    let order = attempted(store, n, &closed).await;
    let late = apply(&order, 1, succeeded(), EvidenceSource::Query, 40);
    send(store, done(store, late).await, 41).await
}

async fn send(store: &Store, order: Order, s: i64) -> Order {
    let no = order.refunds.last().unwrap().no.clone();
    let sent = order.send_refund(&no, store.epoch, at(s)).unwrap();
    done(store, sent).await
}

/// Each way in which an attempt or an order ends.
async fn payments(store: &Store) -> Vec<Order> {
    let never = [
        (silence(), EvidenceSource::Create),
        (Finding::NotFound, EvidenceSource::Close),
    ];
    let mut orders = vec![paid(store, 1, "harbour", terms(1)).await];
    for (n, findings) in (2..).zip([
        &[(succeeded(), EvidenceSource::Create)][..],
        &[
            (silence(), EvidenceSource::Create),
            (succeeded(), EvidenceSource::Query),
        ],
        &[
            (accepted(), EvidenceSource::Create),
            (succeeded(), EvidenceSource::Close),
        ],
        &[(refused(), EvidenceSource::Create)],
        &[(Finding::NotSent, EvidenceSource::Create)],
        &never,
        &[
            (accepted(), EvidenceSource::Create),
            (Finding::Closed, EvidenceSource::Query),
        ],
    ]) {
        orders.push(attempted(store, n, findings).await);
    }
    let order = done(store, place(20, None)).await;
    let end = order
        .end(CloseReason::Expired, ChangeCause::Clock, at(50))
        .unwrap();
    orders.push(done(store, end).await);
    orders
}

/// Each way in which a refund ends.
async fn refunds(store: &Store) -> Vec<Order> {
    let mut orders = Vec::new();
    for (n, actions) in (30..).zip([
        &[(None, EvidenceSource::Refund)][..],
        &[
            (Some(silence()), EvidenceSource::Refund),
            (None, EvidenceSource::Query),
        ],
        &[
            (Some(Finding::Accepted(None)), EvidenceSource::Refund),
            (None, EvidenceSource::Callback),
        ],
        &[(Some(refused()), EvidenceSource::Refund)],
        &[(Some(Finding::NotSent), EvidenceSource::Refund)],
        &[
            (Some(silence()), EvidenceSource::Refund),
            (Some(Finding::NotFound), EvidenceSource::Query),
        ],
        &[
            (Some(refused()), EvidenceSource::Refund),
            (None, EvidenceSource::Query),
        ],
    ]) {
        let mut order = order_with_refund(store, n).await;
        for (finding, by) in actions {
            let finding = finding.clone().unwrap_or_else(|| back(&order.refunds[0]));
            order = received(store, order, finding, *by).await;
        }
        orders.push(order);
    }
    orders.push(decided(store, 50, true, Some("H-77")).await);
    orders.push(decided(store, 51, true, None).await);
    orders.push(decided(store, 52, false, None).await);

    // More than the refundable rest is returned after all (R9).
    let order = order_with_refund(store, 53).await;
    let order = received(store, order, refused(), EvidenceSource::Refund).await;
    let all = reserve(store, &order, 54, "B54", 1_230);
    let order = done(store, all).await;
    let second = back(&order.refunds[1]);
    let order = received(store, order, second, EvidenceSource::Refund).await;
    let first = EvidenceSubject::Refund(order.refunds[0].no.clone());
    let late = back(&order.refunds[0]);
    orders.push(received_about(store, order, first, (late, EvidenceSource::Query)).await);

    // The same, but the refundable rest is sufficient after all.
    let order = order_with_refund(store, 55).await;
    let order = received(store, order, refused(), EvidenceSource::Refund).await;
    let order = done(store, reserve(store, &order, 56, "B56", 1_230)).await;
    let first = EvidenceSubject::Refund(order.refunds[0].no.clone());
    let late = back(&order.refunds[0]);
    let order = received_about(store, order, first, (late, EvidenceSource::Query)).await;
    assert_eq!(order.refunds[0].over_refunded_minor, 500);
    let order = received(store, order, refused(), EvidenceSource::Refund).await;
    assert_eq!(order.refunds[0].over_refunded_minor, 0);
    orders.push(order);
    orders
}

/// Each way in which an excess payment is returned.
async fn excesses(store: &Store) -> Vec<Order> {
    let order = excess(store, 60).await;
    let finding = back(&order.refunds[0]);
    let mut orders = vec![received(store, order, finding, EvidenceSource::Refund).await];

    let order = excess(store, 61).await;
    let order = received(store, order, refused(), EvidenceSource::Refund).await;
    let first = EvidenceSubject::Refund(order.refunds[0].no.clone());
    let late = back(&order.refunds[0]);
    let order = received_about(store, order, first, (late, EvidenceSource::Query)).await;
    orders.push(send(store, order, 101).await);

    let order = excess(store, 62).await;
    let order = received(store, order, refused(), EvidenceSource::Refund).await;
    let order = send(store, order, 101).await;
    let second = back(&order.refunds[1]);
    let order = received(store, order, second, EvidenceSource::Refund).await;
    let first = EvidenceSubject::Refund(order.refunds[0].no.clone());
    let late = back(&order.refunds[0]);
    orders.push(received_about(store, order, first, (late, EvidenceSource::Query)).await);
    orders
}

/// The statement lines of a day with all these movements.
fn lines(orders: &[Order]) -> Vec<(StatementLine, bool)> {
    let mut lines = Vec::new();
    for order in orders {
        let receiver = order.attempts.first().map(|one| one.receiver.clone());
        let line = |movement, number: &str, receipt: Option<&Receipt>| StatementLine {
            receiver: receiver.clone().unwrap(),
            movement,
            number: number.into(),
            institution_no: receipt
                .and_then(|receipt| receipt.institution_no.clone())
                .unwrap_or_else(|| "H-UNTOLD".into()),
            amount: receipt.map_or(order.terms.amount, |receipt| receipt.amount),
            at: receipt.map_or(at(20), |receipt| receipt.paid_at),
        };
        for attempt in &order.attempts {
            let receipt = attempt.receipt.as_ref();
            let reported = line(Movement::Payment, attempt.id.as_str(), receipt);
            lines.push((reported, receipt.is_some()));
        }
        for refund in &order.refunds {
            let receipt = refund.receipt.as_ref();
            let reported = line(Movement::Refund, refund.no.as_str(), receipt);
            lines.push((reported, refund.state == RefundState::Succeeded));
        }
    }
    lines
}

/// M7: the day's statement can be processed completely, and matches our movements.
async fn the_statement_is_read(ledger: &dyn ReconciliationLedger, orders: &[Order]) {
    let day = SettlementDay::parse(&at(20).date()).unwrap();
    let lines = lines(orders);
    let all: Vec<StatementLine> = lines.iter().map(|(line, _)| line.clone()).collect();
    let known = ledger.known(&institution("harbour"), &all).await.unwrap();
    for ((line, has_moved), ours) in lines.iter().zip(&known) {
        let differ = compare(line, ours.as_ref(), &day);
        let kinds: Vec<_> = differ.iter().map(|one| one.kind).collect();
        let is_open = kinds.contains(&DifferenceKind::NotDone);
        assert!(
            if *has_moved {
                kinds.is_empty()
            } else {
                is_open
            },
            "{line:?}: {kinds:?}"
        );
    }
    let (mut moved, mut next) = (0, Some(MovementCursor::before(&day)));
    while let Some(place) = next {
        let (some, then) = ledger
            .moved(&institution("harbour"), &day, &place)
            .await
            .unwrap();
        moved += some.len();
        next = then;
    }
    assert_eq!(
        moved,
        lines.iter().filter(|(_, has_moved)| *has_moved).count()
    );
    let receivers = ledger.receivers(&institution("harbour"), &day).await;
    assert_eq!(receivers.unwrap().len(), 1);
}

async fn asked(gateway: &TestGateway, path: &str, body: Value) -> Value {
    let answer = gateway
        .api
        .answer(gateway.signed("M1", path, &body), PEER)
        .await;
    let response: Response<Bytes> = answer.response;
    let json: Value = serde_json::from_slice(response.body()).unwrap();
    assert!(response.status().is_success(), "{path} {body}: {json}");
    json
}

/// M7, O5, N1, L1, R9: each ending of an order, attempt or refund leaves the data that every later
/// reader needs: the statement of its day, `explain`, `audit verify`, events and queries.
#[tokio::test]
async fn every_reader_can_read_every_ending() {
    let stores = EmbeddedStores::new();
    let (store, ledger) = stores.open_both();
    let mut orders = payments(&store).await;
    orders.extend(refunds(&store).await);
    orders.extend(excesses(&store).await);
    for order in &orders {
        let is_over = order.live_attempt().is_none() && order.state != OrderState::Open;
        let refunded = order.refunds.iter().all(|one| one.state.is_over());
        assert!(is_over && refunded, "{} has not ended", order.no);
        let read = explained(&stores, EmbeddedStores::seal(), order.no.as_str());
        let read = read.unwrap().expect("the order");
        assert_eq!(&read.order, order);
        assert_eq!(
            read.audit_entries.len(),
            usize::try_from(order.version).unwrap()
        );
    }
    the_statement_is_read(&*ledger, &orders).await;
    let (report, breaches) = verified(&stores.file()).unwrap();
    assert!(breaches.is_empty(), "{breaches:?}");
    assert_eq!(report.orders, u64::try_from(orders.len()).unwrap());

    let mut after = 0;
    loop {
        let room = EventPageLimit {
            count: 10,
            bytes: 1 << 20,
        };
        let some = store
            .outbox
            .events_after(&merchant("M1"), after, room)
            .await
            .unwrap();
        let Some(last) = some.last() else { break };
        for numbered in &some {
            let body: Value = serde_json::from_slice(&numbered.body).unwrap();
            let is_back = body["eventType"] == "REFUND_SUCCEEDED";
            assert_eq!(is_back, body["refundTime"].is_string(), "{body}");
        }
        after = last.sequence;
    }
    assert!(after > 20);

    let mut gateway = TestGateway::with(&[("harbour", FakeInstitutionAbility::ALL)]);
    gateway.clock.pass(at(100_000).ms() - START_MS);
    gateway.api.store = store.clone();
    for order in &orders {
        let no = order.no.as_str();
        let naming = json!({ "merchantId": "M1", "payOrderNo": no, "mobileNo": MOBILE });
        let reported = asked(&gateway, "/v1/orders/query", naming).await;
        assert_eq!(reported["orderStatus"], order.state.name());
        for refund in &order.refunds {
            let naming = json!({ "merchantId": "M1", "refundOrderNo": refund.no.as_str() });
            let reported = asked(&gateway, "/v1/refunds/query", naming).await;
            assert_eq!(reported["refundStatus"], refund.state.public_name());
            let is_back = refund.state == RefundState::Succeeded;
            assert_eq!(is_back, reported["refundTime"].is_string(), "{reported}");
        }
    }
}
