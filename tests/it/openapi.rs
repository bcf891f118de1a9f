//! `docs/openapi.yaml` against the program: the same codes and paths, examples and notifications of
//! the documented shape, and a fuzzer driven by it against a running gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use paymux::api::ENDPOINTS;
use paymux::api::endpoint::EndpointMethods;
use paymux::api::refusal::status;
use paymux::command::demo::environment::{DemoEnvironment, DemoMerchant, WAIT_MAX};
use paymux::domain::amount::AmountFault;
use paymux::domain::institutions::{IneligibleReason, RefundLack};
use paymux::domain::refusal::Refusal;
use paymux::sandbox::{ClientResponse, InstitutionFault, NotificationInbox, SandboxCall};
use serde_json::{Value, json};

use crate::tidy::tree;

const DOCUMENT: &str = "docs/openapi.yaml";

mod fuzzer;

/// Stops a program that hangs, also on a slow machine. Unit: seconds.
const PROGRAM_MAX_S: &str = "1800";

pub(crate) fn python(program: &str) -> Command {
    let place = tree::root().join("target/python/bin");
    assert!(
        place.join(program).exists(),
        "{program} is not in {}: run `make setup-tests`, which installs it",
        place.display()
    );
    let mut command = Command::new("timeout");
    command.arg(PROGRAM_MAX_S).arg(place.join(program));
    // The tests trust only what they name, not the machine's own certificates.
    for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"] {
        command.env_remove(name);
    }
    command
}

fn judge() -> Command {
    let mut command = python("python");
    command.arg(tree::root().join("tests/openapi/document.py"));
    command
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The document, validated and parsed.
fn document() -> Value {
    let output = judge().output().unwrap();
    assert!(output.status.success(), "{DOCUMENT}: {}", printed(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Validates values against a schema of the document.
fn fit(schema: &str, values: &[Value]) {
    let mut judging = judge();
    judging.args(["--is", schema]).stdin(Stdio::piped());
    let mut judging = judging.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = judging.stdin.take().unwrap();
    for value in values {
        writeln!(lines, "{value}").unwrap();
    }
    drop(lines);
    let output = judging.wait_with_output().unwrap();
    assert!(output.status.success(), "{schema}: {}", printed(&output));
}

/// One refusal of each kind.
pub(crate) fn refusals() -> Vec<Refusal> {
    let text = || "x".into();
    vec![
        Refusal::BodyUnreadable("x"),
        Refusal::FieldTwice(text()),
        Refusal::FieldUnknown(text()),
        Refusal::FieldMissing("x"),
        Refusal::FieldMalformed {
            field: "x",
            expected: "x",
        },
        Refusal::FieldsDisagree("x"),
        Refusal::QueryUnexpected,
        Refusal::MediaTypeWrong,
        Refusal::BodyTooLarge { bytes_max: 1 },
        Refusal::HeadTooLarge,
        Refusal::TooSlow,
        Refusal::CrossSite,
        Refusal::PathUnknown,
        Refusal::MethodWrong("GET"),
        Refusal::AuthorityWrong { expected: text() },
        Refusal::SignatureUnusable(text()),
        Refusal::KeyUnknown,
        Refusal::KeyExpired,
        Refusal::DigestMismatch,
        Refusal::SignatureMismatch { base: None },
        Refusal::OutsideWindow("x"),
        Refusal::NonceSpent,
        Refusal::NonceMalformed,
        Refusal::CertificateMissing,
        Refusal::CertificateExpired,
        Refusal::CertificateForeign,
        Refusal::MerchantNotAdmitted,
        Refusal::MerchantForeign,
        Refusal::OrderUnknown,
        Refusal::OrderConflict,
        Refusal::OrderClosed,
        Refusal::OrderPaid,
        Refusal::OrderUnpaid,
        Refusal::RefundUnknown,
        Refusal::RefundConflict,
        Refusal::RefundExceedsRemaining { rest: None },
        Refusal::RefundWindowOver,
        Refusal::RefundsExhausted,
        Refusal::RefundNotSupported(RefundLack::Full),
        Refusal::NoticeUrlUnregistered,
        Refusal::RefundAmount(AmountFault::Unreadable),
        Refusal::AttemptsExhausted,
        Refusal::Contended,
        Refusal::Amount(AmountFault::Unreadable),
        Refusal::Amount(AmountFault::TooPrecise),
        Refusal::Amount(AmountFault::OutOfRange),
        Refusal::CurrencyUnknown {
            settled: "CNY".into(),
        },
        Refusal::SecretInText("x"),
        Refusal::MerchantNameWrong,
        Refusal::ReturnUrlUnregistered,
        Refusal::InstitutionUnknown,
        Refusal::InstitutionRequired,
        Refusal::InstitutionNotContracted,
        Refusal::InstitutionUnavailable(IneligibleReason::InstitutionDown),
        Refusal::AppNotEnrolled,
        Refusal::NotOffered("x"),
        Refusal::TooOften {
            wait: Duration::from_secs(1),
        },
        Refusal::Unavailable,
        Refusal::OutcomeUnknown,
    ]
}

/// String literals in one function of the program's source.
fn words(path_start: &str, owner: &str, function: &str) -> BTreeSet<String> {
    let files = tree::sources(&["src"]);
    let file = files
        .iter()
        .find(|file| file.path.starts_with(path_start) && file.text.contains(owner))
        .unwrap_or_else(|| panic!("{owner} is not under {path_start}"));
    let (_, after) = file.text.split_once(owner).unwrap();
    let (_, body) = after.split_once(function).unwrap();
    let (body, _) = body.split_once("\n    }\n").unwrap();
    body.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn texts(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().unwrap();
    list.iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

/// G-12: every public code is documented under the status it is answered with, and no other code
/// is.
#[test]
fn the_document_and_the_program_have_the_same_codes() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let all = texts(&schemas["Problem"]["properties"]["code"]["enum"]);
    assert_eq!(
        all,
        words("src/domain/refusal", "impl Refusal {", "fn code(")
    );

    let mut stated = BTreeMap::new();
    for (name, schema) in schemas.as_object().unwrap() {
        let number = name.strip_prefix("Problem").unwrap_or_default();
        let Ok(number) = number.parse::<u16>() else {
            continue;
        };
        let narrowed = &schema["allOf"][1]["properties"];
        assert_eq!(narrowed["status"]["const"], number, "{name}");
        for code in texts(&narrowed["code"]["enum"]) {
            let before = stated.insert(code.clone(), number);
            assert_eq!(before, None, "{code} has one status");
        }
    }
    let answered = refusals().into_iter().map(|refusal| {
        let code = refusal.code().to_owned();
        (code, status(&refusal).as_u16())
    });
    assert_eq!(stated, answered.collect());
    assert_eq!(
        stated.into_keys().collect::<BTreeSet<_>>(),
        all,
        "a code without a status"
    );

    let table = schemas["Problem"]["description"].as_str().unwrap();
    for code in &all {
        assert!(
            table.contains(&format!("`{code}`")),
            "{code} is not explained"
        );
    }
}

/// R-A2.4.1-3a, R-6.1.5-2: every reason for which an institution is ineligible, or does not make a
/// refund, is documented and explained.
#[test]
fn the_document_and_the_program_have_the_same_reasons() {
    let schemas = &document()["components"]["schemas"];
    for kind in ["IneligibleReason", "RefundLack"] {
        let reasons = texts(&schemas[kind]["enum"]);
        let owner = format!("impl {kind} {{");
        assert_eq!(reasons, words("src/domain/", &owner, "fn word("));
        for reason in reasons {
            let explained = format!("`{reason}`");
            let text = schemas[kind]["description"].as_str().unwrap();
            assert!(text.contains(&explained), "{reason} is not explained");
        }
    }
}

/// G-12: the document is complete: every row of the endpoint table has its operation, and there is no
/// other. HEAD is answered like GET and not documented beside it.
#[test]
fn the_document_has_an_operation_for_every_endpoint_and_no_other() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let mut documented = BTreeSet::new();
    for (path, operations) in paths {
        for method in ["delete", "get", "head", "options", "patch", "post", "put"] {
            if operations.get(method).is_some() {
                documented.insert((path.as_str(), method));
            }
        }
    }
    let answered = ENDPOINTS.iter().map(|endpoint| {
        let method = match endpoint.methods {
            EndpointMethods::Post => "post",
            EndpointMethods::GetOrHead => "get",
        };
        (endpoint.path.text(), method)
    });
    assert_eq!(documented, answered.collect());
    assert_eq!(documented.len(), ENDPOINTS.len(), "no row stands twice");
}

/// A3.3, R-A3.3-1: notifications have the documented shape.
#[tokio::test(flavor = "multi_thread")]
async fn notifications_are_as_documented() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let open = stage.open().await.unwrap();
    let shop = &stage.tea;
    let mut order = shop.order("T1", "WEBVIEW", "12.30", "13800001234");
    order["institutionId"] = json!("bluebank");
    order["attach"] = json!("table 7");
    let placed = shop.place(&order).await.unwrap();
    stage.payer.pay(placed.text("payUrl")).await.unwrap();
    let paid = shop
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let second = shop.order("T2", "AGGREGATED", "12.30", "13800001234");
    assert_eq!(shop.place(&second).await.unwrap().status, 200);
    shop.ask("/v1/orders/close", "T2", json!({})).await.unwrap();
    let closed = shop
        .wait_for_notification("ORDER_CLOSED", "T2")
        .await
        .unwrap();
    open.close().await.unwrap();

    documented("Notification", &[paid.fields, closed.fields]);
}

/// Every field is documented, and each has its documented shape.
fn documented(schema: &str, values: &[Value]) {
    let fields = &document()["components"]["schemas"][schema]["properties"];
    for value in values {
        for field in value.as_object().unwrap().keys() {
            let known = fields.get(field);
            assert!(
                known.is_some(),
                "{field} of {schema} is not in the document"
            );
        }
    }
    fit(schema, values);
}

/// Requests a refund of a part of order `T1`.
async fn refund(shop: &DemoMerchant, sum: &str, more: Value) -> ClientResponse {
    let order = shop.order("T1", "WEBVIEW", sum, "13800001234");
    let mut body = json!({
        "orderDate": order["orderDate"],
        "refundAmount": sum,
        "mobileNo": "13800001234",
    });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    shop.ask("/v1/refunds", "T1", body).await.unwrap()
}

/// R-A3.4-2, A8: replies and notifications about refunds have the documented shape: for a
/// refund that was made, one of unknown outcome, one refused, one without a number, and one that
/// nobody requested.
#[tokio::test(flavor = "multi_thread")]
async fn replies_about_refunds_are_as_documented() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let open = stage.open().await.unwrap();
    let shop = &stage.tea;
    let mut order = shop.order("T1", "WEBVIEW", "12.30", "13800001234");
    order["institutionId"] = json!("bluebank");
    let placed = shop.place(&order).await.unwrap();
    stage.payer.pay(placed.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let mut late = shop.order("T2", "WEBVIEW", "8.72", "13800001234");
    late["institutionId"] = json!("redpay");
    assert_eq!(shop.place(&late).await.unwrap().status, 200);
    shop.ask("/v1/orders/close", "T2", json!({})).await.unwrap();

    let mut replies = Vec::new();
    for (sum, more, status, result) in [
        ("5.00", json!({ "merchantRefundNo": "B1" }), 200, "ACCEPTED"),
        ("1.92", json!({ "merchantRefundNo": "B2" }), 200, "REFUSED"),
        ("0.63", json!({ "merchantRefundNo": "B3" }), 202, "PENDING"),
        ("0.50", json!({}), 200, "ACCEPTED"),
        ("0.50", json!({}), 200, "ACCEPTED"),
    ] {
        if result == "PENDING" {
            // Its callback could be faster than the lost reply.
            let control = stage.blue.control();
            control.next_at(SandboxCall::Refund, InstitutionFault::LostCallback, 1);
        }
        let answer = refund(shop, sum, more).await;
        assert_eq!((answer.status, answer.text("result")), (status, result));
        replies.push(answer.json);
    }
    assert_ne!(replies[4]["hint"], Value::Null);
    let own = json!({ "merchantId": shop.role.id, "merchantRefundNo": "B1" });
    let one = shop.client.post("/v1/refunds/query", &own).await.unwrap();
    replies.push(one.json);

    let notified = async |event: &str, number: &str| {
        let find = |inbox: &NotificationInbox| inbox.refund_event(event, number).cloned();
        let found = shop.merchant.wait_for(find, WAIT_MAX).await;
        found
            .unwrap_or_else(|| panic!("{event} of {number}"))
            .fields
    };
    let excess = shop
        .wait_for_notification("REFUND_SUCCEEDED", "T2")
        .await
        .unwrap()
        .fields;
    assert_eq!(excess["refundCause"], "AFTER_CLOSE");
    let notifications = [
        notified("REFUND_SUCCEEDED", "B1").await,
        notified("REFUND_FAILED", "B2").await,
        excess,
    ];
    let mut listed = Vec::new();
    for number in ["T1", "T2"] {
        let report = shop.ask("/v1/orders/query", number, json!({})).await;
        listed.push(report.unwrap().json);
    }
    let refunds = |at: usize| listed[at]["refunds"].as_array().unwrap().len();
    assert_eq!((refunds(0), refunds(1)), (4, 1));
    open.close().await.unwrap();

    documented("Refund", &replies);
    documented("Notification", &notifications);
    documented("OrderReport", &listed);
}

/// G-12: the served document is the one in the repository, may be cached, and needs no signature.
#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let open = stage.open().await.unwrap();
    let ask = async |method: Method| {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/openapi.yaml", stage.origin()))
            .body(Bytes::new())
            .unwrap();
        stage.tea.client.send(request).await.unwrap()
    };
    let served = ask(Method::GET).await;
    assert_eq!(served.status, 200);
    assert!(served.body == tree::read(DOCUMENT), "another one is served");
    for (name, value) in [
        ("content-type", "application/yaml"),
        ("cache-control", "public, max-age=3600"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(served.headers[name], value);
    }
    let head = ask(Method::HEAD).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    // RFC 9110, 8.6: the length that GET would have, or none.
    assert_eq!(
        head.headers["content-length"],
        served.body.len().to_string()
    );
    let wrong = ask(Method::POST).await;
    assert_eq!(wrong.text("code"), "method_wrong");
    assert_eq!(wrong.headers["allow"], "GET, HEAD");
    open.close().await.unwrap();
}

/// R-6.3.1-1c: keys may be cached, also by shared caches, for as long as the clients' document
/// says, with the documented header; a refusal at that path may not be.
#[tokio::test(flavor = "multi_thread")]
async fn keys_may_be_cached_for_ten_minutes() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let open = stage.open().await.unwrap();
    let ask = async |method: Method| {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/.well-known/jwks.json", stage.origin()))
            .body(Bytes::new())
            .unwrap();
        stage.tea.client.send(request).await.unwrap()
    };
    let served = ask(Method::GET).await;
    assert_eq!(served.status, 200);
    for (name, value) in [
        ("cache-control", "public, max-age=600"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(served.headers[name], value);
    }
    let wrong = ask(Method::POST).await;
    assert_eq!(wrong.headers["cache-control"], "no-store");
    open.close().await.unwrap();
}
