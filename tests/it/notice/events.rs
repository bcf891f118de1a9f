//! `/v1/events`: what a merchant that was down missed.

use serde_json::{Value, json};

use crate::world::test_gateway::{TestGateway, changed};

const PATH: &str = "/v1/events";

/// A test gateway in which M1 has this many closed orders, and M2 one.
fn gateway(orders: usize) -> TestGateway {
    let gateway = TestGateway::new();
    for n in 0..orders {
        let no = format!("T{n}");
        gateway.place(&no, json!({}));
        gateway.close(&no);
    }
    let body = crate::world::enrolment::order_fields("M2", "T1");
    gateway.ask("M2", "/v1/orders", &body);
    let naming = json!({ "merchantId": "M2", "merchantOrderNo": "T1" });
    gateway.ask("M2", "/v1/orders/close", &naming);
    gateway
}

fn request_of(merchant: &str, more: Value) -> Value {
    changed(json!({ "merchantId": merchant }), more)
}

fn sequences(json: &Value) -> Vec<u64> {
    let events = json["events"].as_array().unwrap();
    events
        .iter()
        .map(|one| one["sequence"].as_u64().unwrap())
        .collect()
}

/// N3, N9, K3: the events are the delivered bytes, in their order, and only the caller's;
/// continuing with `nextSequence` returns each once.
#[test]
fn a_merchant_reads_what_it_missed() {
    let gateway = gateway(5);
    let before = gateway.durable_state();
    let mut after = 0;
    let mut read = Vec::new();
    loop {
        let reply = gateway.ask(
            "M1",
            PATH,
            &request_of("M1", json!({ "afterSequence": after, "limit": 2 })),
        );
        assert_eq!((reply.status, reply.result), (200, "ACCEPTED"));
        let numbers = sequences(&reply.json);
        after = reply.json["nextSequence"].as_u64().unwrap();
        if numbers.is_empty() {
            break;
        }
        assert_eq!(numbers.last(), Some(&after));
        read.extend(numbers);
    }
    assert_eq!((read, after), (vec![1, 2, 3, 4, 5], 5));
    assert_eq!(
        gateway.durable_state().audit_entries,
        before.audit_entries,
        "it reads only"
    );
    gateway.deliver();
    let reply = gateway.ask("M1", PATH, &request_of("M1", json!({})));
    let text = std::str::from_utf8(reply.response.body()).unwrap();
    gateway.inbox(|inbox| {
        assert_eq!(inbox.requests.len(), 5);
        for request in &inbox.requests {
            let delivered = std::str::from_utf8(request.body()).unwrap();
            assert!(text.contains(delivered), "{delivered} is not in {text}");
        }
    });
    let theirs = gateway.ask("M2", PATH, &request_of("M2", json!({})));
    assert_eq!(sequences(&theirs.json), [1]);
    assert_eq!(theirs.json["events"][0]["event"]["merchantId"], json!("M2"));
    let foreign = gateway.ask("M2", PATH, &request_of("M1", json!({})));
    assert_eq!((foreign.status, foreign.result), (403, "merchant_foreign"));
}

/// Q10: numbers are whole, in range, and JSON numbers; anything else is refused.
#[test]
fn event_queries_are_parsed_strictly() {
    let gateway = gateway(1);
    for (more, code) in [
        (json!({ "limit": 0 }), "field_malformed"),
        (json!({ "limit": 501 }), "field_malformed"),
        (json!({ "limit": 1.5 }), "field_malformed"),
        (json!({ "limit": "+5" }), "field_malformed"),
        (json!({ "limit": [1] }), "field_malformed"),
        (json!({ "afterSequence": -1 }), "field_malformed"),
        (json!({ "afterSequence": "007" }), "field_malformed"),
        (
            json!({ "afterSequence": 9_007_199_254_740_992_u64 }),
            "field_malformed",
        ),
        (json!({ "since": 1 }), "field_unknown"),
    ] {
        let reply = gateway.ask("M1", PATH, &request_of("M1", more.clone()));
        assert_eq!((reply.status, reply.result), (400, code), "{more}");
    }
    for more in [
        json!({ "limit": 500, "afterSequence": 0 }),
        json!({ "limit": "1", "afterSequence": "0" }),
    ] {
        assert_eq!(
            sequences(&gateway.ask("M1", PATH, &request_of("M1", more)).json),
            [1]
        );
    }
    let far = json!({ "afterSequence": 9_007_199_254_740_991_u64 });
    let reply = gateway.ask("M1", PATH, &request_of("M1", far));
    assert_eq!(
        reply.json,
        json!({ "events": [], "nextSequence": 9_007_199_254_740_991_u64 })
    );
}

/// N2, G-19: a dead-lettered event can still be fetched.
#[test]
fn a_dead_lettered_event_can_be_fetched() {
    let gateway = gateway(1);
    gateway.inbox(|inbox| {
        inbox.behaviour = crate::world::fake_merchant::FakeMerchantBehaviour::ServerError;
    });
    while !gateway
        .deliver()
        .contains(&paymux::flow::notify_merchant::Delivery::Dead)
    {
        gateway.advance_s(86_400);
    }
    let reply = gateway.ask("M1", PATH, &request_of("M1", json!({})));
    assert_eq!(
        reply.json["events"][0]["event"]["eventType"],
        json!("ORDER_CLOSED")
    );
}
