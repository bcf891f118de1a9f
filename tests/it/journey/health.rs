//! An institution that stops answering, over real sockets: it disappears from the lists of new
//! orders, what was begun there goes on, and it comes back.

use paymux::command::demo::enrolment::{BLUE, GREEN, RED};
use paymux::command::demo::environment::{DemoEnvironment, DemoMerchant, WAIT_MAX};
use paymux::sandbox::{ClientResponse, InstitutionFault, SandboxCall};
use serde_json::{Value, json};

use super::{PAYER, operations, order, placed, states};

/// Short open intervals that grow, so that a timely caller sees one.
const HEALTH: &str = "
[health]
calls_min = 3
failures_percent = 20
open_ms = 100
open_ms_max = 60_000
";

/// The list of institutions of an order, each with its reason or none.
async fn list(shop: &DemoMerchant, number: &str) -> Vec<(String, String)> {
    let explained = json!({ "explainInstitutions": true });
    let answer = shop.ask("/v1/orders/institutions", number, explained);
    let answer = answer.await.unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed = answer.json["institutions"].as_array().unwrap();
    listed
        .iter()
        .map(|it| (text(&it["institutionId"]), text(&it["reason"])))
        .collect()
}

async fn is_open(shop: &DemoMerchant, id: &str) -> bool {
    let found = list(shop, "WATCH").await;
    found.contains(&(id.to_owned(), String::new()))
}

async fn select(shop: &DemoMerchant, number: &str, id: &str) -> ClientResponse {
    let choice = json!({ "institutionId": id, "mode": "WEBVIEW" });
    shop.ask("/v1/orders/select", number, choice).await.unwrap()
}

/// R-A2.4.1-3a, R-5.1.4-0a, F2: while an institution drops every connection it is ineligible, with
/// the reason, on every endpoint; its unresolved orders are still queried; then one payer's order
/// shows that it answers again.
#[tokio::test(flavor = "multi_thread")]
async fn an_institution_that_hangs_up_disappears_and_comes_back() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), HEALTH)
        .await
        .unwrap();
    let open = stage.open().await.unwrap();
    let (shop, control) = (&stage.tea, stage.blue.control());
    let aggregated = |number: &str| shop.order(number, "AGGREGATED", "12.30", PAYER);
    placed(shop, &aggregated("WATCH")).await;
    placed(shop, &aggregated("T-LAST")).await;

    let mut spoiled = 0;
    let ineligible = async {
        while is_open(shop, BLUE.id).await {
            control.next_at(SandboxCall::Create, InstitutionFault::AnswerLost, 1);
            spoiled += 1;
            let lost = order(shop, &format!("T{spoiled}"), "12.30", BLUE.id);
            shop.place(&lost).await.unwrap();
        }
        // An open interval may end between two looks; then the next order fails and the interval
        // grows.
        select(shop, "T-LAST", BLUE.id).await
    };
    let refused = tokio::time::timeout(WAIT_MAX, ineligible).await.unwrap();
    if refused.status != 200 {
        assert_eq!(refused.text("reason"), "INSTITUTION_UNHEALTHY");
    }
    assert!(spoiled >= 3, "{spoiled}");

    let known = async { while states(shop, "T1").await.1 != "ACCEPTED" {} };
    let known = tokio::time::timeout(WAIT_MAX, known).await;
    known.expect("what was begun is queried");
    let back = async { while !is_open(shop, BLUE.id).await {} };
    tokio::time::timeout(WAIT_MAX, back)
        .await
        .expect("half-open");
    let chosen = select(shop, "WATCH", BLUE.id).await;
    assert_eq!(chosen.text("attemptStatus"), "ACCEPTED", "{}", chosen.json);
    let page = operations(&stage, "/metrics").await;
    let closed = r#"paymux_institution_breaker{institution="bluebank",state="closed"} 1"#;
    assert!(page.contains(closed), "{page}");
    let opened = r#"paymux_institution_breaker_openings_total{institution="bluebank"} "#;
    assert!(page.contains(opened), "{page}");
    open.close().await.unwrap();
}

/// R-A2.4.1-3a: the institution this payer last paid through comes first for this payer at this
/// merchant, and for no other.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_one_that_was_paid_comes_first() {
    let (stage, _open) = super::open().await;
    let shop = &stage.tea;
    for (number, mobile) in [("WATCH", PAYER), ("OTHER", "13900005678")] {
        placed(shop, &shop.order(number, "AGGREGATED", "12.30", mobile)).await;
    }
    let names = |list: Vec<(String, String)>| list.into_iter().map(|(id, _)| id);
    let before: Vec<_> = names(list(shop, "WATCH").await).collect();
    assert_eq!(before, [BLUE.id, RED.id, GREEN.id]);
    select(shop, "WATCH", RED.id).await;
    let answer = placed(shop, &order(shop, "T1", "12.30", GREEN.id)).await;
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let after: Vec<_> = names(list(shop, "WATCH").await).collect();
    assert_eq!(after, [GREEN.id, BLUE.id, RED.id]);
    let others: Vec<_> = names(list(shop, "OTHER").await).collect();
    assert_eq!(others, [BLUE.id, RED.id, GREEN.id]);
}
