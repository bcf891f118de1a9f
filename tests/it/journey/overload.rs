//! Overload of a whole gateway over real sockets (R-6.4-1c).

use paymux::command::demo::enrolment::{BLUE, RED};
use paymux::command::demo::environment::DemoEnvironment;
use paymux::sandbox::{ClientResponse, InstitutionFault, SandboxCall};
use serde_json::{Value, json};

use super::{PAYER, booked, client, key, operations, order, placed, queried};

/// Three permits: one for new orders, two for selections, three for the rest.
const SMALL: &str = "
[limits]
in_flight_max = 3
in_flight_choices_max = 2
in_flight_orders_max = 1
";

fn is_rejected(answer: &ClientResponse) {
    assert_eq!((answer.status, answer.text("code")), (503, "unavailable"));
    let wait: u64 = answer.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=4).contains(&wait));
}

/// R-6.4-1c, Q8, Z4: while selections hang at an institution that does not answer, new orders are
/// rejected, and then selections; queries and callbacks are answered, results are notified. Nothing
/// of what was rejected is recorded and no nonce spent: the very same bytes succeed afterwards, and
/// the gateway is as before.
#[tokio::test(flavor = "multi_thread")]
async fn overload_rejects_orders_first_and_results_never() {
    let stage = DemoEnvironment::start_on_free_ports(SMALL).await.unwrap();
    let open = stage.open().await.unwrap();
    let shop = &stage.tea;
    let accepted = placed(shop, &order(shop, "T0", "12.30", RED.id)).await;
    let there = stage.payer.arrive(accepted.text("payUrl")).await.unwrap();
    for number in ["T1", "T2", "T3"] {
        placed(shop, &shop.order(number, "AGGREGATED", "12.30", PAYER)).await;
    }
    let signed = |path: &str, body: &Value| shop.client.signed(path, &body.to_string()).unwrap();
    let choose = |number: &str| {
        let body = json!({
            "merchantId": shop.role.id, "merchantOrderNo": number,
            "institutionId": BLUE.id, "mode": "WEBVIEW",
        });
        signed("/v1/orders/select", &body)
    };
    let new = signed(
        "/v1/orders",
        &shop.order("T9", "AGGREGATED", "12.30", PAYER),
    );
    let third = choose("T3");
    stage
        .blue
        .control()
        .next_at(SandboxCall::Create, InstitutionFault::NoAnswer, 2);
    let send = async |request| shop.client.send(request).await.unwrap();

    let crowded = async {
        booked(&stage.blue, "T1").await;
        is_rejected(&send(new.clone()).await);
        let (second, ()) = tokio::join!(send(choose("T2")), async {
            booked(&stage.blue, "T2").await;
            is_rejected(&send(new.clone()).await);
            is_rejected(&send(third.clone()).await);
            assert_eq!(queried(shop, "T0").await.text("attemptStatus"), "ACCEPTED");
            assert_eq!(
                queried(shop, "T9").await.status,
                404,
                "nothing was recorded"
            );
            stage.payer.pay(&there.url).await.unwrap();
            shop.wait_for_notification("ORDER_PAID", "T0")
                .await
                .unwrap();
        });
        second
    };
    let (first, second) = tokio::join!(send(choose("T1")), crowded);
    for held in [first, second] {
        assert_eq!(
            (held.status, held.text("result")),
            (202, "PENDING"),
            "{}",
            held.json
        );
    }
    for (request, status) in [(new.clone(), "NONE"), (third, "ACCEPTED")] {
        let answer = send(request).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        let found = queried(shop, if status == "NONE" { "T9" } else { "T3" }).await;
        assert_eq!(found.text("attemptStatus"), status);
    }
    assert_eq!(send(new).await.text("code"), "nonce_spent");
    let page = operations(&stage, "/metrics").await;
    for line in [
        "paymux_load_shed_total{priority=\"new_order\",reason=\"in_flight\"} 2",
        "paymux_load_shed_total{priority=\"selection\",reason=\"in_flight\"} 1",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    open.close().await.unwrap();
}

/// R-6.3.1-3a: connections that send too little, too much or nothing do not block a merchant.
#[tokio::test(flavor = "multi_thread")]
async fn unauthenticated_connections_do_not_block_merchants() {
    let stage = DemoEnvironment::start_on_free_ports(
        "\n[limits]\nhandshakes_max = 8\nhandshake_ms = 300\n",
    )
    .await;
    let stage = stage.unwrap();
    let open = stage.open().await.unwrap();
    let address = ("127.0.0.1", stage.ports.public);
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let shop = &stage.tea;
    placed(shop, &shop.order("T1", "AGGREGATED", "12.30", PAYER)).await;
    let unauthenticated = client(&stage, key(&stage, "bluebank-1"), None);
    let answer = unauthenticated
        .post("/v1/orders", &json!({}))
        .await
        .unwrap();
    assert_eq!(answer.status, 401, "{}", answer.json);
    drop(silent);
    open.close().await.unwrap();
}
