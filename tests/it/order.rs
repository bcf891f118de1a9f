//! Placing an order, its list of institutions, and querying it (A3.1, A3.2, X-1).

use paymux::domain::identifiers::AttemptId;
use serde_json::{Value, json};

use crate::world::enrolment::{ORIGIN, merchant, order_fields, snapshot};
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::network::ScriptedOutcome;
use crate::world::test_gateway::{TestGateway, TestReply, changed, naming};

fn ids(reply: &TestReply) -> Vec<&str> {
    let listed = reply.json["institutions"].as_array().unwrap();
    listed
        .iter()
        .map(|one| one["institutionId"].as_str().unwrap())
        .collect()
}

/// R-A3.1-1, R-A3.1-2, R-5.1.4-1, R-A2.4.1-2, R-A2.4.3-2: thirteen fields in, eight out, and no
/// institution is called before the payer chooses.
#[test]
fn an_order_is_placed() {
    let gateway = TestGateway::new();
    let reply = gateway.place("T1", json!({}));
    assert_eq!(reply.status, 200, "{:?}", reply.json);
    let no = gateway.order("T1").no;
    for (field, value) in [
        ("payOrderNo", no.as_str()),
        ("createDate", "20260925"),
        ("merchantId", "M1"),
        ("merchantOrderNo", "T1"),
        ("merchantName", "Tea House"),
        ("orderAmount", "12.30"),
        ("result", "ACCEPTED"),
        ("orderStatus", "OPEN"),
        ("expireTime", "2026-09-25T12:15:00+08:00"),
        ("attemptStatus", "NONE"),
    ] {
        assert_eq!(reply.text(field), value, "{field}");
    }
    assert!(gateway.network.parties().sent.is_empty());
}

/// R-A2.4.1-3a, R-A2.4.3-3: the list holds what this payer may use, in the configured order, the
/// payer's last one first.
#[test]
fn the_list_is_for_this_payer() {
    let abilities = [
        ("bank", FakeInstitutionAbility::ALL),
        ("purse", FakeInstitutionAbility::ALL),
        ("other", FakeInstitutionAbility::ALL),
    ];
    let mut snapshot = snapshot(&abilities);
    snapshot.routing.routes[2].payers.only = vec!["139".into()];
    let gateway = TestGateway::enrolled(&abilities, snapshot);
    let reply = gateway.place("T1", json!({}));
    assert_eq!(ids(&reply), ["bank", "purse"]);
    assert_eq!(
        reply.json["institutions"][0]["modes"],
        json!(["WEBVIEW", "NATIVE"])
    );

    let reply = gateway.place("T2", json!({ "explainInstitutions": true }));
    let listed = &reply.json["institutions"][2];
    assert_eq!(listed["available"], json!(false));
    assert_eq!(listed["reason"], json!("PAYER_NOT_SERVED"));

    gateway.select("T2", "purse");
    let paid = gateway.pay("T2", "purse");
    gateway.call_back("purse", &paid);
    let reply = gateway.ask("M1", "/v1/orders/institutions", &naming("T1"));
    assert_eq!(ids(&reply), ["purse", "bank"]);
}

/// R-A3.1-3, R-A2.1-2, R-A2.1-3, R-5.1.1-1, R-5.1.1-2: in webview mode the reply has an https
/// address that holds nothing but a token.
#[test]
fn webview_orders_have_a_page() {
    let gateway = TestGateway::new();
    let reply = gateway.place("T1", json!({ "businessType": "WEBVIEW" }));
    let page = gateway.order("T1").page_token().expose();
    assert_eq!(reply.text("payUrl"), format!("{ORIGIN}/pay/{page}"));
    assert!(!reply.text("payUrl").contains("138"));
}

/// R-A2.5-2, R-5.1.1-0a: with an institution named, our page leads to that institution's, and
/// order and attempt were one change.
#[test]
fn a_named_institution_is_called_at_once() {
    let gateway = TestGateway::new();
    let wanted = json!({ "businessType": "WEBVIEW", "institutionId": "bank" });
    let reply = gateway.place("T1", wanted);
    assert_eq!(reply.status, 200);
    let page = format!("{ORIGIN}{}", gateway.page("T1"));
    assert_eq!(reply.text("payUrl"), page);
    assert!(
        gateway
            .onward("T1")
            .starts_with("https://bank.example/pay/A")
    );
    assert_eq!(reply.text("attemptStatus"), "ACCEPTED");
    let audit_entries = gateway.durable_state().audit_entries;
    assert_eq!(audit_entries[0].0.action, "order.place");
    assert!(
        audit_entries[0].0.result.contains("bank=INTENT"),
        "{audit_entries:?}"
    );
}

/// R-5.1.3-1, R-5.1.3-2, R-A2.3-2, R-A2.3-3a, R-A2.3-3b: in native mode the institution's start
/// parameters are returned unchanged, through the enrolled default or the only institution.
#[test]
fn native_orders_answer_start_parameters() {
    let native = json!({ "businessType": "NATIVE" });
    let alone = TestGateway::with(&[("bank", FakeInstitutionAbility::ALL)]);
    let reply = alone.place("T1", native.clone());
    let id = alone.attempt("T1", "bank");
    assert_eq!(
        reply.json["sdkParameters"],
        json!({ "prepay": id, "order": 1 })
    );
    assert_eq!(reply.json.get("payUrl"), None);

    let abilities = [
        ("bank", FakeInstitutionAbility::ALL),
        ("purse", FakeInstitutionAbility::ALL),
    ];
    let mut snapshot = snapshot(&abilities);
    let mut enrolled = merchant("M1");
    let purse = snapshot.routing.routes[1].institution.clone();
    let mode = paymux::domain::institutions::Mode::Native;
    enrolled.default_institutions.insert(mode, purse);
    snapshot
        .routing
        .merchants
        .insert(enrolled.id.clone(), enrolled);
    let two = TestGateway::enrolled(&abilities, snapshot);
    let reply = two.place("T1", native);
    assert_eq!(reply.text("institutionId"), "purse");
}

/// R-6.1.1-1, Q7, K2: an equal request returns the same order, also from another process; other
/// content under the same number is a conflict and changes nothing.
#[test]
fn a_number_is_one_order() {
    let mut gateway = TestGateway::new();
    let first = gateway.place("T1", json!({}));
    gateway.restart();
    let again = gateway.place("T1", json!({}));
    assert_eq!(again.status, 200);
    assert_eq!(again.text("payOrderNo"), first.text("payOrderNo"));
    assert_eq!(again.json["institutions"], first.json["institutions"]);
    for other in [
        json!({ "orderAmount": "12.31" }),
        json!({ "mobileNo": "13812345679" }),
        json!({ "attach": "x" }),
        json!({ "institutionId": "bank" }),
    ] {
        let reply = gateway.place("T1", other);
        assert_eq!((reply.status, reply.result), (409, "order_conflict"));
    }
    // Two merchants may use the same number.
    let theirs = gateway.ask("M2", "/v1/orders", &order_fields("M2", "T1"));
    assert_eq!(theirs.status, 200);
    assert_ne!(theirs.text("payOrderNo"), first.text("payOrderNo"));
    let durable = gateway.durable_state();
    assert_eq!(durable.orders.len(), 2);
    assert!(durable.orders.values().all(|row| row.order.version == 1));
}

/// G-2, M4, M6: an amount is the same however it is written, as string or as number, and a missing
/// currency is CNY.
#[test]
fn one_sum_in_every_spelling_is_one_request() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    for spelled in [json!("12.3"), json!(12.3), json!("12.30"), json!("12.300")] {
        let reply = gateway.place("T1", json!({ "orderAmount": spelled, "currency": null }));
        assert_eq!(reply.status, 200, "{:?}", reply.json);
    }
    let reply = gateway.place("T1", json!({ "mobileNo": 13_812_345_678_u64 }));
    assert_eq!(reply.status, 200, "G-1: {:?}", reply.json);
}

/// R-6.1.1-2: a paid order is never paid again; placing and selecting say so and start nothing.
#[test]
fn a_paid_order_answers_already_paid() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let paid = gateway.pay("T1", "bank");
    gateway.call_back("bank", &paid);
    let sent = gateway.network.parties().sent.len();
    for reply in [
        gateway.place("T1", json!({})),
        gateway.select("T1", "bank"),
        gateway.select("T1", "purse"),
    ] {
        assert_eq!((reply.status, reply.text("result")), (200, "ALREADY_PAID"));
        assert_eq!(reply.text("orderStatus"), "PAID");
    }
    assert_eq!(gateway.order("T1").attempts.len(), 1);
    assert_eq!(gateway.network.parties().sent.len(), sent);
}

/// O4: a repeat of a closed order returns CLOSED; no institution can be selected on it any more.
#[test]
fn a_closed_order_stays_closed() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    assert_eq!(gateway.close("T1").text("result"), "CLOSED");
    let again = gateway.place("T1", json!({}));
    assert_eq!((again.status, again.text("result")), (200, "CLOSED"));
    assert_eq!(again.text("orderStatus"), "CLOSED");
    let chosen = gateway.select("T1", "bank");
    assert_eq!((chosen.status, chosen.result), (409, "order_closed"));
    assert!(gateway.order("T1").attempts.is_empty());
}

/// R-A3.2-2: seventeen fields; payment dates are empty until the order is paid, then those of the
/// institution.
#[test]
fn a_query_answers_every_field() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({ "attach": "k=1" }));
    let open = gateway.query("T1");
    assert_eq!(
        (open.text("paymentDate"), open.text("paymentTime")),
        ("", "")
    );
    assert_eq!(open.text("currency"), "CNY");
    gateway.select("T1", "bank");
    gateway.advance_s(65);
    let paid = gateway.pay("T1", "bank");
    gateway.call_back("bank", &paid);
    let reply = gateway.query("T1");
    let no = gateway.order("T1").no;
    for (field, value) in [
        ("transactionType", "PASSWORD_PAY"),
        ("businessType", "AGGREGATED"),
        ("merchantOrderNo", "T1"),
        ("merchantName", "Tea House"),
        ("orderDate", "20260925"),
        ("orderAmount", "12.30"),
        ("currency", "CNY"),
        ("merchantId", "M1"),
        ("mobileNo", "13812345678"),
        ("goodsNo", "T-1"),
        ("goodsName", "龙井"),
        ("goodsDescription", "250 g"),
        ("paymentDate", "20260925"),
        ("paymentTime", "120105"),
        ("fee", "0.0125"),
        ("payOrderNo", no.as_str()),
        ("orderStatus", "PAID"),
        ("createDate", "20260925"),
        ("orderRefundStatus", "NONE"),
        ("attemptStatus", "PAID"),
        ("institutionId", "bank"),
        ("attach", "k=1"),
    ] {
        assert_eq!(reply.text(field), value, "{field}");
    }
}

/// R-A3.2-1, K3: every field of the query must match; another merchant's order is answered as
/// unknown.
#[test]
fn an_order_is_found_by_matching_fields_only() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    let no = gateway.order("T1").no.as_str().to_owned();
    let whole = json!({
        "payOrderNo": no, "createDate": "20260925", "mobileNo": "13812345678",
        "merchantOrderNo": "T1", "merchantId": "M1",
    });
    assert_eq!(gateway.ask("M1", "/v1/orders/query", &whole).status, 200);
    for wrong in [
        json!({ "payOrderNo": no.replace('P', "Q") }),
        json!({ "createDate": "20260926" }),
        json!({ "mobileNo": "13812345679" }),
        json!({ "merchantOrderNo": "T2" }),
    ] {
        let reply = gateway.ask("M1", "/v1/orders/query", &changed(whole.clone(), wrong));
        assert_eq!((reply.status, reply.result), (404, "order_unknown"));
    }
    let theirs = changed(whole, json!({ "merchantId": "M2" }));
    let before = gateway.durable_state();
    let foreign = gateway.ask("M2", "/v1/orders/query", &theirs);
    let missing = gateway.ask(
        "M2",
        "/v1/orders/query",
        &json!({
            "merchantId": "M2", "payOrderNo": no.replace('0', "1"),
        }),
    );
    let bare = |reply: &TestReply| changed(reply.json.clone(), json!({ "requestId": Value::Null }));
    assert_eq!(foreign.status, 404);
    assert_eq!(bare(&foreign), bare(&missing), "the replies are equal");
    assert_eq!(gateway.durable_state(), before);
}

/// R-A3.2-3, V1: a query of an unresolved order queries the institution; no reply shows as PENDING
/// and decides nothing.
#[test]
fn a_query_of_an_unresolved_order_asks_the_institution() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::LostAfter);
    let chosen = gateway.select("T1", "bank");
    assert_eq!((chosen.status, chosen.text("result")), (202, "PENDING"));
    assert!(chosen.response.headers().contains_key("retry-after"));

    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::LostBefore);
    let silent = gateway.query("T1");
    assert_eq!(silent.text("attemptStatus"), "PENDING");
    assert_eq!(silent.text("orderStatus"), "OPEN");
    let known = gateway.query("T1");
    assert_eq!(known.text("attemptStatus"), "ACCEPTED");
}

/// O1, O2, M1, N1: a payment completes its order once, with the order's amount, one balanced
/// posting and one event, in one change.
#[test]
fn a_payment_is_booked_whole() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let paid = gateway.pay("T1", "bank");
    gateway.call_back("bank", &paid);
    let order = gateway.order("T1");
    assert_eq!(
        order.paying_attempt_id.as_ref().map(AttemptId::as_str),
        Some(paid.as_str())
    );
    assert_eq!(
        order.receipt().map(|receipt| receipt.amount),
        Some(order.terms.amount)
    );
    let durable = gateway.durable_state();
    assert_eq!(durable.entries.len(), 1);
    assert_eq!(durable.entries[0].debit.name(), "RECV:bank");
    assert_eq!(
        durable.entries[0].credit.name(),
        format!("MERCH:{}", order.no)
    );
    assert_eq!(durable.entries[0].amount, order.terms.amount);
    let events: Vec<_> = durable.events.values().collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event.version, order.version);
}
