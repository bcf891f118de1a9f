//! Clause 6.3.1, 4: the use of every interface is monitored.

use std::collections::BTreeSet;

use paymux::command::demo::enrolment::BLUE;
use serde_json::{Value, json};

use super::super::{PAYER, open, operations, order, placed};

/// The interfaces with caller class and result, as counted.
fn counted(page: &str) -> BTreeSet<(String, String, String)> {
    let value = |line: &str, name: &str| {
        let (_, after) = line.split_once(&format!("{name}=\"")).unwrap();
        after.split('"').next().unwrap().to_owned()
    };
    page.lines()
        .filter(|line| line.starts_with("paymux_requests_total{"))
        .map(|line| {
            let [interface, caller, result] =
                ["interface", "caller_class", "result"].map(|name| value(line, name));
            (interface, caller, result)
        })
        .collect()
}

/// R-6.3.1-4a: each interface's use is counted by caller and result, refused use too, with its
/// duration.
#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_every_interface_is_counted() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    let ask = async |path: &str, more: Value| shop.ask(path, "T1", more).await.unwrap();
    let answer = placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
    ask("/v1/orders/institutions", json!({})).await;
    let choice = json!({ "institutionId": BLUE.id, "mode": "WEBVIEW" });
    ask("/v1/orders/select", choice).await;
    ask("/v1/orders/query", json!({})).await;
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    let notice = shop
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    ask("/v1/orders/close", json!({})).await;
    let date = &notice.fields["orderDate"];
    let refund = json!({ "orderDate": date, "refundAmount": "1.00", "mobileNo": PAYER, "merchantRefundNo": "R1" });
    ask("/v1/refunds", refund).await;
    let merchant = json!({ "merchantId": shop.role.id });
    let with = |name: &str, value: Value| {
        let mut body = merchant.clone();
        body[name] = value;
        body
    };
    let refund = with("merchantRefundNo", json!("R1"));
    shop.client
        .post("/v1/refunds/query", &refund)
        .await
        .unwrap();
    shop.client.post("/v1/events", &merchant).await.unwrap();
    let status = answer.text("statusUrl");
    let page = status.strip_suffix("/status").unwrap();
    let origin = stage.origin();
    for address in [
        status,
        page,
        &format!("{origin}/.well-known/jwks.json"),
        &format!("{origin}/openapi.yaml"),
    ] {
        stage.payer.open(address).await.unwrap();
    }
    let page = operations(&stage, "/metrics").await;
    let counted = counted(&page);
    let has = |interface: &str, caller: &str, result: &str| {
        counted.contains(&(interface.into(), caller.into(), result.into()))
    };
    for (interface, caller, result) in [
        ("A3.1", "merchant", "ACCEPTED"),
        ("X-1", "merchant", "ACCEPTED"),
        ("X-2", "merchant", "ACCEPTED"),
        ("A3.4", "merchant", "ACCEPTED"),
        ("X-11", "institution", "GENUINE"),
        ("page", "payer", "SHOWN"),
        ("X-6", "payer", "SHOWN"),
    ] {
        let is_counted = has(interface, caller, result);
        assert!(is_counted, "{interface} {caller} {result}: {counted:#?}");
    }
    for interface in ["A3.2", "X-3", "X-5", "events", "jwks", "openapi"] {
        let is_counted = counted.iter().any(|(counted, ..)| counted == interface);
        assert!(is_counted, "{interface}: {counted:#?}");
    }
    for (interface, ..) in &counted {
        let took = format!("interface=\"{interface}\"");
        let timed = page.lines().any(|line| {
            line.starts_with("paymux_request_duration_seconds_count") && line.contains(&took)
        });
        assert!(timed, "{interface}");
    }
}
