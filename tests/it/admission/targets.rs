//! What was signed is what is routed: paths, hosts and header lines that another program might take
//! for equivalent.

use http::{HeaderName, HeaderValue, header};

use super::{good, refused};
use crate::world::enrolment::{sign, unsigned};
use crate::world::test_gateway::{TestGateway, naming};

/// Spellings of the path that some programs treat as equal.
const VARIANTS: [&str; 20] = [
    "/v1/%6frders",
    "/v1/%6Frders",
    "/%76%31/orders",
    "/v1%2forders",
    "/v1%2Forders",
    "/v1%5corders",
    "/v1//orders",
    "//v1/orders",
    "/v1/./orders",
    "/./v1/orders",
    "/v1/x/../orders",
    "/v1/%2e/orders",
    "/v1/x/%2e%2e/orders",
    "/v1/orders/",
    "/v1/orders/.",
    "/v1/orders;x=1",
    "/v1;x/orders",
    "/v1/orders%00",
    "/v1/%c0%afv1/orders",
    "/V1/Orders",
];

/// Q2: a path is compared byte for byte: another spelling is another path, whether it was signed as
/// it was sent or as it should have been.
#[test]
fn another_spelling_of_the_path_is_another_path() {
    let gateway = TestGateway::new();
    for variant in VARIANTS {
        let mut moved = good(&gateway);
        *moved.uri_mut() = variant.parse().unwrap();
        refused(&gateway, moved, 404, "path_unknown");

        let mut signed = unsigned(variant, good(&gateway).body().clone());
        sign(&mut signed, "M1-key", gateway.now_s(), &gateway.nonce());
        refused(&gateway, signed, 404, "path_unknown");
    }
    for variant in [
        "/v1/callbacks/bank%2f",
        "/v1/callbacks/./bank",
        "/v1/callbacks/bank/",
    ] {
        refused(&gateway, unsigned(variant, "{}"), 404, "path_unknown");
    }
}

/// Q2, R-6.5-1c, D1: no path of merchants or institutions has a query string: signed with or
/// without it, the request is refused, and the query is not quoted.
#[test]
fn a_query_is_refused_and_not_quoted() {
    let gateway = TestGateway::new();
    for path in [
        "/v1/orders",
        "/v1/orders/institutions",
        "/v1/orders/select",
        "/v1/orders/query",
        "/v1/orders/close",
        "/v1/refunds",
        "/v1/refunds/query",
        "/v1/events",
        "/v1/callbacks/bank",
        "/v1/callbacks/bank/shop",
    ] {
        for query in ["?mobileNo=13812345678", "?"] {
            let target = format!("{path}{query}");
            let mut signed = unsigned(&target, good(&gateway).body().clone());
            sign(&mut signed, "M1-key", gateway.now_s(), &gateway.nonce());
            let mut added = gateway.signed("M1", path, &naming("T1"));
            *added.uri_mut() = target.parse().unwrap();
            for request in [signed, added] {
                let reply = refused(&gateway, request, 400, "query_unexpected");
                assert!(
                    !reply.json.to_string().contains("1381234"),
                    "{}",
                    reply.json
                );
            }
        }
    }
}

/// Q2, 421: there is one authority, with or without its default port; any other host header is
/// refused, however similar.
#[test]
fn another_authority_is_refused() {
    let gateway = TestGateway::new();
    for host in [
        "pay.example:",
        "pay.example:80",
        "pay.example:8443",
        "pay.example:0443",
        "pay.example.",
        "pay.example.evil",
        "xpay.example",
        "x@pay.example",
        "pay.example, pay.example",
        "pay.example/",
        "127.0.0.1",
        "",
    ] {
        let mut request = good(&gateway);
        let value = HeaderValue::from_str(host).unwrap();
        request.headers_mut().insert(header::HOST, value);
        refused(&gateway, request, 421, "authority_wrong");
    }
    for (uri, ours) in [
        ("https://evil.example/v1/orders", false),
        ("https://pay.example:8443/v1/orders", false),
        ("https://pay.example/v1/orders", true),
    ] {
        let mut request = good(&gateway);
        *request.uri_mut() = uri.parse().unwrap();
        if ours {
            assert_eq!(gateway.send(request).status, 200, "{uri}");
        } else {
            refused(&gateway, request, 421, "authority_wrong");
        }
    }
    let mut twice = good(&gateway);
    let host = HeaderValue::from_static("pay.example");
    twice.headers_mut().append(header::HOST, host);
    refused(&gateway, twice, 421, "authority_wrong");
    let mut none = good(&gateway);
    none.headers_mut().remove(header::HOST);
    refused(&gateway, none, 421, "authority_wrong");
}

/// Q2, Q10: a duplicate of a header that decides something, with the same or another value, before
/// or after the right one, is refused.
#[test]
fn a_duplicate_header_is_refused() {
    let gateway = TestGateway::new();
    for (name, other, status, code) in [
        ("content-type", "text/plain", 415, "media_type_wrong"),
        ("content-type", "application/json", 415, "media_type_wrong"),
        ("content-digest", "sha-256=:AAAA:", 401, "digest_mismatch"),
        ("signature", "sig1=:AAAA:", 401, "signature_mismatch"),
    ] {
        let mut request = good(&gateway);
        let name: HeaderName = name.parse().unwrap();
        let value = HeaderValue::from_static(other);
        request.headers_mut().append(name, value);
        let reply = gateway.send(request);
        assert_eq!(reply.status, status, "{other}: {}", reply.json);
        assert!(
            reply.result == code || status == 401,
            "{other}: {}",
            reply.json
        );
    }
    assert!(gateway.durable_state().orders.is_empty());
}
