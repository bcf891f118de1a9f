//! Refunds (A3.4, X-4, X-5): what merchants may refund, and what becomes of it for each reply of
//! the institution.

mod evidence;
mod excess;
mod manual_review;

use paymux::domain::identifiers::InstitutionId;
use paymux::domain::institutions::Credentials;
use paymux::domain::journal::JournalAccount;
use paymux::domain::order::{Order, REFUNDS_MAX, REFUNDS_REQUESTED_MAX};
use paymux::domain::refund::{Refund, RefundState};
use paymux::domain::refusal::Refusal;
use serde_json::{Value, json};

use crate::simulation::balances;
use crate::world::clock::START_MS;
use crate::world::enrolment::snapshot;
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::fake_merchant::FakeMerchantNotification;
use crate::world::fake_refunds::FakeRefundState;
use crate::world::test_gateway::{TestGateway, TestReply, changed};

/// The five fields of A3.4 for M1's order.
fn refund_fields(no: &str, sum: &str) -> Value {
    json!({
        "merchantOrderNo": no,
        "orderDate": "20260925",
        "refundAmount": sum,
        "merchantId": "M1",
        "mobileNo": "13812345678",
    })
}

/// M1 refunds its order, with these fields changed or added.
fn refund(gateway: &TestGateway, no: &str, sum: &str, changes: Value) -> TestReply {
    gateway.ask(
        "M1",
        "/v1/refunds",
        &changed(refund_fields(no, sum), changes),
    )
}

fn query(gateway: &TestGateway, naming: Value) -> TestReply {
    let body = changed(json!({ "merchantId": "M1" }), naming);
    gateway.ask("M1", "/v1/refunds/query", &body)
}

/// An order of 12.30, paid at `bank`, and the merchant notified.
fn pay_at_bank(gateway: &TestGateway, no: &str) {
    gateway.place(no, json!({}));
    gateway.select(no, "bank");
    let id = gateway.pay(no, "bank");
    gateway.call_back("bank", &id);
    gateway.deliver();
}

fn paid() -> TestGateway {
    let gateway = TestGateway::new();
    pay_at_bank(&gateway, "T1");
    gateway
}

/// The balances of an order: held for the payer, and payable to the merchant.
fn hold_and_payable(gateway: &TestGateway, no: &str) -> (i64, i64) {
    let order = gateway.order(no).no;
    let balances = balances(&gateway.durable_state().entries);
    let of = |account| balances.get(&account).copied().unwrap_or(0);
    (
        of(JournalAccount::RefundReserved(order.clone())),
        of(JournalAccount::MerchantPayable(order)),
    )
}

fn states(order: &Order) -> Vec<RefundState> {
    order.refunds.iter().map(|one| one.state).collect()
}

fn only(gateway: &TestGateway, no: &str) -> Refund {
    let order = gateway.order(no);
    assert_eq!(order.refunds.len(), 1);
    order.refunds[0].clone()
}

/// The part of the books that a refused request must not change.
fn untouched(gateway: &TestGateway) -> (Vec<Order>, usize, usize, usize) {
    let durable = gateway.durable_state();
    let orders = durable.orders.values().map(|row| row.order.clone());
    let sent = gateway.network.parties().sent.len();
    (
        orders.collect(),
        durable.entries.len(),
        durable.events.len(),
        sent,
    )
}

/// R-A3.4-1, R-A3.4-2, R-A3.4-4, R-A2.7-4b, R-A2.7-5, R-6.1.5-3, R5, O6, M2: five fields are
/// enough; the money goes back through the institution that was paid, and the merchant is notified
/// at once.
#[test]
fn five_fields_refund_everything() {
    let gateway = paid();
    let reply = refund(&gateway, "T1", "12.30", json!({}));
    assert_eq!((reply.status, reply.text("result")), (200, "ACCEPTED"));
    assert_eq!(reply.text("orderStatus"), "PAID");
    assert_eq!(reply.text("merchantId"), "M1");
    assert_eq!(reply.text("merchantOrderNo"), "T1");
    assert_eq!(reply.text("refundAmount"), "12.30");
    assert_eq!(reply.text("refundStatus"), "SUCCEEDED");
    assert_eq!(reply.text("orderRefundStatus"), "FULL");
    let no = reply.text("refundOrderNo").to_owned();
    let theirs = gateway.at("bank", |books| books.returns[&no].clone());
    assert_eq!(
        (theirs.minor, theirs.standing),
        (1_230, FakeRefundState::Succeeded)
    );
    assert_eq!(theirs.payment, gateway.attempt("T1", "bank"));
    assert_eq!(hold_and_payable(&gateway, "T1"), (0, 0));
    assert_eq!(gateway.deliver().len(), 1);
    gateway.inbox(|inbox| {
        let mut bodies = inbox.notices.values().map(FakeMerchantNotification::json);
        let event = bodies.find(|body| body["eventType"] == "REFUND_SUCCEEDED");
        let event = event.unwrap();
        assert_eq!(event["refundOrderNo"], no.as_str());
        assert_eq!(event["refundAmount"], "12.30");
        assert_eq!(event["refundStatus"], "SUCCEEDED");
        assert_eq!(event["orderStatus"], "PAID");
        assert_eq!(event["version"], 6);
    });
    let report = gateway.query("T1");
    assert_eq!(report.text("orderRefundStatus"), "FULL");
    assert_eq!(report.json["refunds"][0]["refundOrderNo"], no.as_str());
}

/// R-6.1.5-2, R1, R2, O6: partial refunds are accepted until nothing is left; one fen more is
/// refused, and the refusal says how much is left.
#[test]
fn parts_are_refunded_until_nothing_is_left() {
    let gateway = paid();
    let first = refund(&gateway, "T1", "5", json!({ "merchantRefundNo": "B1" }));
    assert_eq!(first.text("orderRefundStatus"), "PARTIAL");
    let before = untouched(&gateway);
    let over = refund(&gateway, "T1", "7.31", json!({ "merchantRefundNo": "B2" }));
    assert_eq!((over.status, over.result), (409, "refund_over_rest"));
    assert!(
        over.text("detail").contains("refundable amount is 7.30"),
        "{over:?}"
    );
    assert_eq!(untouched(&gateway), before);
    let rest = refund(&gateway, "T1", "7.30", json!({ "merchantRefundNo": "B2" }));
    assert_eq!(rest.text("orderRefundStatus"), "FULL");
    let none = refund(&gateway, "T1", "0.01", json!({ "merchantRefundNo": "B3" }));
    assert_eq!((none.status, none.result), (409, "refund_over_rest"));
    assert_eq!(hold_and_payable(&gateway, "T1"), (0, 0));
}

/// R6: one number is one refund: an equal request gets the state of the first; the same number with
/// another amount, or for another order, has no effect.
#[test]
fn one_number_is_one_refund() {
    let gateway = paid();
    pay_at_bank(&gateway, "T2");
    let number = || json!({ "merchantRefundNo": "B1" });
    let first = refund(&gateway, "T1", "5", number());
    let again = refund(&gateway, "T1", "5.00", number());
    assert_eq!(again.status, 200);
    assert_eq!(again.text("refundOrderNo"), first.text("refundOrderNo"));
    let before = untouched(&gateway);
    for (no, sum) in [("T1", "5.01"), ("T2", "5"), ("T2", "5.01")] {
        let other = refund(&gateway, no, sum, number());
        assert_eq!(
            (other.status, other.result),
            (409, "refund_conflict"),
            "{no} {sum}"
        );
    }
    assert_eq!(untouched(&gateway), before);
    let theirs = gateway.ask(
        "M2",
        "/v1/refunds/query",
        &json!({ "merchantId": "M2", "merchantRefundNo": "B1" }),
    );
    assert_eq!(
        (theirs.status, theirs.result),
        (404, "refund_unknown"),
        "K3"
    );
}

/// R7: without a number, order and amount identify the refund, and the reply says so; once it has
/// definitely failed the same request is a new refund.
#[test]
fn without_a_number_the_sum_names_the_refund() {
    let gateway = paid();
    gateway.at("bank", |books| books.behaviours.refuses_refunds = true);
    let failed = refund(&gateway, "T1", "5", json!({}));
    assert_eq!((failed.status, failed.text("result")), (200, "REFUSED"));
    assert_eq!(failed.text("reason"), "NO_FUNDS");
    assert_eq!(
        failed.text("merchantRefundNo").rsplit('-').next(),
        Some("0")
    );
    gateway.at("bank", |books| books.behaviours.refuses_refunds = false);
    let next = refund(&gateway, "T1", "5", json!({}));
    assert_eq!(next.text("refundStatus"), "SUCCEEDED");
    assert!(next.text("merchantRefundNo").starts_with("AUTO-P"));
    assert_eq!(next.text("merchantRefundNo").rsplit('-').next(), Some("1"));
    let same = refund(&gateway, "T1", "5.00", json!({}));
    assert_eq!(same.text("refundOrderNo"), next.text("refundOrderNo"));
    assert!(same.text("hint").contains("merchantRefundNo"));
    assert_eq!(gateway.order("T1").refunds.len(), 2);
    let report = query(
        &gateway,
        json!({ "merchantRefundNo": next.text("merchantRefundNo") }),
    );
    assert_eq!(report.text("refundOrderNo"), next.text("refundOrderNo"));
    let forged = json!({ "merchantRefundNo": "AUTO-1" });
    assert_eq!(
        refund(&gateway, "T1", "1", forged).result,
        "field_malformed"
    );
}

/// R8, R-A3.4-3, K3, M4: what cannot be refunded is refused with its reason, and nothing moves.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_cannot_be_refunded_is_refused_and_nothing_moves() {
    let gateway = paid();
    gateway.place("open", json!({}));
    gateway.place("closed", json!({}));
    gateway.close("closed");
    gateway.deliver();
    let before = untouched(&gateway);
    let none = || json!({});
    let cases = [
        ("open", "1", none(), 409, "order_unpaid"),
        ("closed", "1", none(), 409, "order_unpaid"),
        ("nobody", "1", none(), 404, "order_unknown"),
        (
            "T1",
            "1",
            json!({ "orderDate": "20260924" }),
            404,
            "order_unknown",
        ),
        (
            "T1",
            "1",
            json!({ "mobileNo": "13812345679" }),
            404,
            "order_unknown",
        ),
        ("T1", "0", none(), 422, "amount_out_of_range"),
        ("T1", "0.00", none(), 422, "amount_out_of_range"),
        ("T1", "-1", none(), 400, "amount_unreadable"),
        ("T1", "1e1", none(), 400, "amount_unreadable"),
        ("T1", "01", none(), 400, "amount_unreadable"),
        ("T1", "0.001", none(), 422, "amount_too_precise"),
        ("T1", "12.31", none(), 409, "refund_over_rest"),
        ("T1", "99999999999", none(), 422, "amount_out_of_range"),
        ("T1", "1", json!({ "mobileNo": null }), 400, "field_missing"),
        (
            "T1",
            "1",
            json!({ "orderDate": null }),
            400,
            "field_missing",
        ),
        (
            "T1",
            "1",
            json!({ "merchantRefundNo": "B 1" }),
            400,
            "field_malformed",
        ),
        (
            "T1",
            "1",
            json!({ "refundReason": "x".repeat(129) }),
            400,
            "field_malformed",
        ),
        (
            "T1",
            "1",
            json!({ "noticeUrl": "https://evil.example/" }),
            422,
            "notice_url_unregistered",
        ),
        (
            "T1",
            "1",
            json!({ "currency": "CNY" }),
            400,
            "field_unknown",
        ),
        (
            "T1",
            "1",
            json!({ "merchantId": "M2" }),
            403,
            "merchant_foreign",
        ),
    ];
    for (no, sum, changes, status, code) in cases {
        let reply = refund(&gateway, no, sum, changes);
        assert_eq!((reply.status, reply.result), (status, code), "{no} {sum}");
    }
    let mut foreign = refund_fields("T1", "1");
    foreign["merchantId"] = "M2".into();
    let reply = gateway.ask("M2", "/v1/refunds", &foreign);
    assert_eq!((reply.status, reply.result), (404, "order_unknown"));
    assert_eq!(untouched(&gateway), before);
}

/// R-6.1.5-2: what an institution does not offer by a recorded waiver is refused with the reason,
/// and nothing moves.
#[test]
fn a_kind_the_institution_lacks_is_refused_with_its_reason() {
    let institutions = [("bank", FakeInstitutionAbility::ALL)];
    let unmet_requirements = |change: fn(&mut paymux::domain::institutions::RefundKinds)| {
        let mut snapshot = snapshot(&institutions);
        for one in snapshot.routing.institutions.values_mut() {
            change(&mut one.refunds.kinds);
        }
        let gateway = TestGateway::enrolled(&institutions, snapshot);
        pay_at_bank(&gateway, "T1");
        gateway
    };
    let number = |number: &str| json!({ "merchantRefundNo": number });
    let reason = |reply: &TestReply| (reply.status, reply.text("reason").to_owned());

    let gateway = unmet_requirements(|kinds| kinds.partial = false);
    let before = untouched(&gateway);
    let reply = refund(&gateway, "T1", "5", json!({}));
    assert_eq!(reason(&reply), (422, "PARTIAL_REFUND".into()));
    assert_eq!(untouched(&gateway), before);
    assert_eq!(refund(&gateway, "T1", "12.30", json!({})).status, 200);

    let gateway = unmet_requirements(|kinds| kinds.full = false);
    let reply = refund(&gateway, "T1", "12.30", json!({}));
    assert_eq!(reason(&reply), (422, "FULL_REFUND".into()));

    let gateway = unmet_requirements(|kinds| kinds.repeated = false);
    assert_eq!(refund(&gateway, "T1", "5", number("B1")).status, 200);
    let reply = refund(&gateway, "T1", "5", number("B2"));
    assert_eq!(reason(&reply), (422, "REPEATED_REFUND".into()));
    assert_eq!(refund(&gateway, "T1", "5", number("B1")).status, 200, "R6");
}

/// Section 5: after the institution's refund window it is not called.
#[test]
fn a_refund_after_the_window_is_refused() {
    let gateway = paid();
    gateway.advance_s(365 * 86_400 + 10);
    let reply = refund(&gateway, "T1", "5", json!({}));
    assert_eq!((reply.status, reply.result), (409, "refund_window_over"));
    assert!(gateway.order("T1").refunds.is_empty());
}

/// a refund's events go to the merchant's given address, under an origin that is registered
/// for it.
#[test]
fn events_of_a_refund_go_to_its_own_address() {
    let gateway = paid();
    let own = json!({ "noticeUrl": "https://m1.shop.example/refunds" });
    assert_eq!(refund(&gateway, "T1", "5", own).status, 200);
    gateway.deliver();
    gateway.inbox(|inbox| {
        let last = inbox.requests.last().unwrap();
        assert_eq!(last.uri(), "https://m1.shop.example/refunds");
    });
}

/// a refund is found by our number or the merchant's, and by no other merchant.
#[test]
fn a_refund_is_found_by_either_number() {
    let gateway = paid();
    let reply = refund(&gateway, "T1", "5", json!({ "merchantRefundNo": "B1" }));
    let ours = reply.text("refundOrderNo");
    for naming in [
        json!({ "refundOrderNo": ours }),
        json!({ "merchantRefundNo": "B1" }),
    ] {
        let found = query(&gateway, naming);
        assert_eq!(
            (found.status, found.text("refundStatus")),
            (200, "SUCCEEDED")
        );
        assert_eq!(found.text("refundOrderNo"), ours);
    }
    let foreign = json!({ "merchantId": "M2", "refundOrderNo": ours });
    assert_eq!(gateway.ask("M2", "/v1/refunds/query", &foreign).status, 404);
    assert_eq!(
        query(&gateway, json!({ "refundOrderNo": "R1" })).result,
        "refund_unknown"
    );
    assert_eq!(query(&gateway, json!({})).result, "field_missing");
    let both = json!({ "refundOrderNo": ours, "merchantRefundNo": "B1" });
    assert_eq!(query(&gateway, both).result, "fields_disagree");
}

/// Section 5, R3: refunds that definitely failed do not count towards an order's maximum number of
/// refunds; all requests together have a maximum as well.
#[test]
fn failed_refunds_do_not_count_towards_the_maximum() {
    let gateway = paid();
    let ask = |n: usize| {
        let number = json!({ "merchantRefundNo": format!("B{n}") });
        refund(&gateway, "T1", "0.01", number)
    };
    gateway.at("bank", |books| books.behaviours.refuses_refunds = true);
    for n in 0..REFUNDS_REQUESTED_MAX - 1 {
        assert_eq!(ask(n).text("result"), "REFUSED", "{n}");
    }
    gateway.at("bank", |books| books.behaviours.refuses_refunds = false);
    let reply = ask(REFUNDS_REQUESTED_MAX);
    assert_eq!(
        (reply.status, reply.text("refundStatus")),
        (200, "SUCCEEDED")
    );
    let reply = ask(REFUNDS_REQUESTED_MAX + 1);
    assert_eq!(
        (reply.status, reply.result),
        (409, Refusal::RefundsExhausted.code())
    );
}

/// Section 5: an order's number of refunds is limited.
#[test]
fn an_order_has_a_maximum_number_of_refunds() {
    let gateway = paid();
    for n in 0..REFUNDS_MAX {
        let number = json!({ "merchantRefundNo": format!("B{n}") });
        assert_eq!(refund(&gateway, "T1", "0.01", number).status, 200);
    }
    let reply = refund(
        &gateway,
        "T1",
        "0.01",
        json!({ "merchantRefundNo": "more" }),
    );
    assert_eq!(
        (reply.status, reply.result),
        (409, Refusal::RefundsExhausted.code())
    );
}

/// F3, R4: while an institution's credentials cannot be used nothing is reserved and no failure is
/// reported: the merchant repeats the request, and then the refund is made.
#[test]
fn refunds_wait_while_roots_are_unusable() {
    let all = [
        ("bank", FakeInstitutionAbility::ALL),
        ("purse", FakeInstitutionAbility::ALL),
    ];
    let (until, from) = (START_MS / 1_000 + 600, START_MS / 1_000 + 1_200);
    let mut enrolled = snapshot(&all);
    let bank = InstitutionId::parse("bank").unwrap();
    let bank = enrolled.routing.institutions.get_mut(&bank).unwrap();
    let always = vec![i64::MIN..=i64::MAX];
    let roots = vec![0..=until, from..=i64::MAX];
    bank.credentials = Credentials::default().and(always).and(roots);
    let gateway = TestGateway::enrolled(&all, enrolled);
    pay_at_bank(&gateway, "T1");
    gateway.clock.pass(601_000);
    let before = untouched(&gateway);
    let reply = refund(&gateway, "T1", "12.30", json!({}));
    assert_eq!((reply.status, reply.result), (503, "unavailable"));
    assert_eq!(untouched(&gateway), before);
    gateway.clock.pass(600_000);
    let reply = refund(&gateway, "T1", "12.30", json!({}));
    assert_eq!(reply.status, 200, "{}", reply.json);
    assert_eq!(only(&gateway, "T1").state, RefundState::Succeeded);
}
