//! An authenticated request has one reply: any refusal spends its nonce, so that no later change
//! makes the same bytes valid.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use paymux::api::Peer;
use paymux::domain::identifiers::{InstitutionId, MerchantId};
use paymux::domain::merchant::{Admission, ClientCertificate, Merchant};
use paymux::domain::personal::payer_context::PayerDetail;
use paymux::domain::refusal::Refusal;
use paymux::flow::configuration_snapshot::ConfigurationSnapshot;
use paymux::limits::{LimitSettings, Rate};
use paymux::signature::{EnrolledKey, KeyRing};
use serde_json::{Value, json};

use super::with;
use crate::openapi::refusals;
use crate::world::enrolment::{order_fields, shown, sign, snapshot, unsigned};
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::fault_injector::{FaultInjector, InjectedFault, MissingProtection};
use crate::world::test_gateway::{PEER, TestGateway, TestReply, changed, naming};

const BANKS: [(&str, FakeInstitutionAbility); 2] = [
    ("bank", FakeInstitutionAbility::ALL),
    ("purse", FakeInstitutionAbility::ALL),
];

/// Refused before authentication, or without a nonce to spend: the same bytes are refused for ever,
/// or their caller is unknown.
const UNAUTHENTICATED: [&str; 17] = [
    "authority_wrong",
    "body_too_large",
    "body_unreadable",
    "cross_site",
    "digest_mismatch",
    "field_duplicate",
    "head_too_large",
    "key_unknown",
    "media_type_wrong",
    "method_wrong",
    "nonce_malformed",
    "nonce_spent",
    "path_unknown",
    "query_unexpected",
    "signature_mismatch",
    "signature_unusable",
    "too_slow",
];

/// A request that is refused, and what then changes.
struct Case {
    gateway: TestGateway,
    request: Request<Bytes>,
    peer: Peer,
    repair: Box<dyn FnOnce(&mut TestGateway)>,
    /// The peer that sends it again.
    again: Peer,
}

impl Case {
    fn new(
        gateway: TestGateway,
        request: Request<Bytes>,
        repair: impl FnOnce(&mut TestGateway) + 'static,
    ) -> Self {
        Self {
            gateway,
            request,
            peer: PEER,
            repair: Box::new(repair),
            again: PEER,
        }
    }

    /// A malformed request: no change would make it valid.
    fn of_order(changes: Value) -> Self {
        let gateway = TestGateway::new();
        let request = with(&gateway, changes);
        Self::new(gateway, request, |_| ())
    }

    /// Under an enrolment with this change, which is then reverted.
    fn enrolled(
        change: impl FnOnce(&mut ConfigurationSnapshot),
        request: impl FnOnce(&TestGateway) -> Request<Bytes>,
    ) -> Self {
        let mut enrolment = snapshot(&BANKS);
        change(&mut enrolment);
        let gateway = TestGateway::enrolled(&BANKS, enrolment);
        let request = request(&gateway);
        Self::new(gateway, request, |gateway| {
            gateway.api.snapshot = Arc::new(snapshot(&BANKS));
        })
    }

    /// Under the usual enrolment, which is then changed.
    fn changed(
        gateway: TestGateway,
        request: Request<Bytes>,
        change: impl FnOnce(&mut ConfigurationSnapshot) + 'static,
    ) -> Self {
        Self::new(gateway, request, |gateway| {
            let mut enrolment = snapshot(&BANKS);
            change(&mut enrolment);
            gateway.api.snapshot = Arc::new(enrolment);
        })
    }
}

fn m1(snapshot: &mut ConfigurationSnapshot) -> &mut Merchant {
    let id = MerchantId::parse("M1").unwrap();
    snapshot.routing.merchants.get_mut(&id).unwrap()
}

fn bank() -> InstitutionId {
    InstitutionId::parse("bank").unwrap()
}

fn refund_fields(sum: &str, changes: Value) -> Value {
    let fields = json!({
        "merchantOrderNo": "T1",
        "orderDate": "20260925",
        "refundAmount": sum,
        "merchantId": "M1",
        "mobileNo": "13812345678",
    });
    changed(fields, changes)
}

fn placed() -> TestGateway {
    let gateway = TestGateway::new();
    assert_eq!(gateway.place("T1", json!({})).status, 200);
    gateway
}

fn paid() -> TestGateway {
    let gateway = placed();
    gateway.select("T1", "bank");
    let id = gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    gateway
}

fn refunding(gateway: &TestGateway, sum: &str, changes: Value) -> Request<Bytes> {
    gateway.signed("M1", "/v1/refunds", &refund_fields(sum, changes))
}

fn closing(gateway: &TestGateway, no: &str) -> Request<Bytes> {
    gateway.signed("M1", "/v1/orders/close", &naming(no))
}

fn choosing(gateway: &TestGateway, institution: &str) -> Request<Bytes> {
    let body = changed(naming("T1"), json!({ "institutionId": institution }));
    gateway.signed("M1", "/v1/orders/select", &body)
}

/// Refusals of the request's form and fields, and of the caller.
fn of_fields(code: &str) -> Option<Case> {
    Some(match code {
        "field_unknown" => Case::of_order(json!({ "zzz": 1 })),
        "field_missing" => Case::of_order(json!({ "orderDate": null })),
        "field_malformed" => Case::of_order(json!({ "orderDate": "today" })),
        "fields_disagree" => Case::of_order(json!({ "mode": "NATIVE" })),
        "amount_unreadable" => Case::of_order(json!({ "orderAmount": "1e3" })),
        "amount_too_precise" => Case::of_order(json!({ "orderAmount": "0.001" })),
        "amount_out_of_range" => Case::of_order(json!({ "orderAmount": "99999999999.00" })),
        "currency_unknown" => Case::of_order(json!({ "currency": "QQQ" })),
        "not_offered" => Case::of_order(json!({ "transactionType": "SCAN_PAY" })),
        "secret_in_text" => Case::of_order(json!({ "goodsName": "card 4111 1111 1111 1111" })),
        "merchant_foreign" => Case::of_order(json!({ "merchantId": "M2" })),
        "outside_window" => {
            let gateway = TestGateway::new();
            let body = order_fields("M1", "T1").to_string();
            let mut request = unsigned("/v1/orders", body);
            sign(
                &mut request,
                "M1-key",
                gateway.now_s() + 60,
                &gateway.nonce(),
            );
            Case::new(gateway, request, |gateway| gateway.advance_s(45))
        }
        "key_expired" => {
            let gateway = TestGateway::new();
            let mut request = with(&gateway, json!({}));
            sign(&mut request, "M1-old", gateway.now_s(), &gateway.nonce());
            Case::changed(gateway, request, |all| {
                let old = all.keys.key("M1-old").unwrap();
                let not_after_s = i64::MAX;
                let renewed = EnrolledKey {
                    not_after_s,
                    ..old.clone()
                };
                all.keys = KeyRing::new(vec![renewed]).unwrap();
            })
        }
        "certificate_missing" => Case::enrolled(
            |all| m1(all).client_certificate = ClientCertificate::Required,
            |gateway| with(gateway, json!({})),
        ),
        "certificate_expired" | "certificate_foreign" => {
            let mut case = Case::of_order(json!({}));
            let (whose, until_s) = match code {
                "certificate_expired" => ("M1", case.gateway.now_s() - 1),
                _ => ("M2", i64::MAX),
            };
            case.peer.certificate = Some(shown(whose, until_s));
            case
        }
        "merchant_not_admitted" => Case::enrolled(
            |all| m1(all).admission = Admission::Suspended,
            |gateway| with(gateway, json!({})),
        ),
        "merchant_name_wrong" => Case::enrolled(
            |all| m1(all).name = "Coffee House".into(),
            |gateway| with(gateway, json!({})),
        ),
        "return_url_unregistered" => {
            let gateway = TestGateway::new();
            let there = json!({ "bankReturnUrl": "https://new.example/paid" });
            let request = with(&gateway, there);
            Case::changed(gateway, request, |all| {
                m1(all).notify_origins.push("https://new.example".into());
            })
        }
        _ => return None,
    })
}

/// Refusals because of institutions.
fn of_institutions(code: &str) -> Option<Case> {
    let at_bank = |gateway: &TestGateway| with(gateway, json!({ "institutionId": "bank" }));
    Some(match code {
        "institution_unknown" => {
            let gateway = TestGateway::new();
            let request = with(&gateway, json!({ "institutionId": "new" }));
            Case::new(gateway, request, |gateway| {
                let three = [BANKS[0], BANKS[1], ("new", FakeInstitutionAbility::ALL)];
                gateway.api.snapshot = Arc::new(snapshot(&three));
            })
        }
        "institution_required" => {
            let gateway = TestGateway::new();
            let request = with(&gateway, json!({ "businessType": "NATIVE" }));
            Case::new(gateway, request, |gateway| {
                gateway.api.snapshot = Arc::new(snapshot(&BANKS[..1]));
            })
        }
        "institution_unavailable" => Case::enrolled(
            |all| {
                let institutions = &mut all.routing.institutions;
                institutions.get_mut(&bank()).unwrap().stopped = true;
            },
            at_bank,
        ),
        "app_not_enrolled" => Case::enrolled(
            |all| {
                let profile = all.routing.institutions.get_mut(&bank()).unwrap();
                profile.facts.products[0].wants = &[PayerDetail::OpenId];
            },
            |gateway| {
                let of_payer = json!({ "payerOpenId": "o1", "payerAppId": "wx1" });
                with(
                    gateway,
                    changed(of_payer, json!({ "institutionId": "bank" })),
                )
            },
        ),
        "institution_not_contracted" => Case::enrolled(
            |all| {
                let key = (MerchantId::parse("M1").unwrap(), bank());
                all.routing.contracts.remove(&key).unwrap();
            },
            at_bank,
        ),
        _ => return None,
    })
}

/// Refusals because of an order's state.
fn of_orders(code: &str) -> Option<Case> {
    Some(match code {
        "order_unknown" => {
            let gateway = TestGateway::new();
            let request = closing(&gateway, "T1");
            Case::new(gateway, request, |gateway| {
                gateway.place("T1", json!({}));
            })
        }
        "order_conflict" => {
            let gateway = placed();
            let request = with(&gateway, json!({ "orderAmount": "1" }));
            Case::new(gateway, request, |_| ())
        }
        "order_closed" => {
            let gateway = placed();
            gateway.close("T1");
            let request = choosing(&gateway, "bank");
            Case::new(gateway, request, |_| ())
        }
        "order_paid" => {
            let gateway = paid();
            let request = closing(&gateway, "T1");
            Case::new(gateway, request, |_| ())
        }
        "attempts_exhausted" => {
            let gateway = placed();
            gateway.at("bank", |books| books.behaviours.refuses = true);
            for _ in 0..20 {
                assert_eq!(gateway.select("T1", "bank").text("result"), "REFUSED");
            }
            let request = choosing(&gateway, "purse");
            Case::new(gateway, request, |_| ())
        }
        "contended" => {
            let mut gateway = placed();
            let request = closing(&gateway, "T1");
            let busy = FaultInjector::unmet_requirements(&gateway.memory, MissingProtection::Quiet);
            gateway.api.store = Arc::new(busy).handles();
            Case::new(gateway, request, |gateway| {
                gateway.api.store = gateway.memory.handles();
            })
        }
        _ => return None,
    })
}

/// Refusals of refunds.
fn of_refunds(code: &str) -> Option<Case> {
    let number = |no: usize| json!({ "merchantRefundNo": format!("B{no}") });
    let ask = move |gateway: &TestGateway, sum: &str, no: usize| {
        let reply = gateway.send(refunding(gateway, sum, number(no)));
        assert_eq!(reply.status, 200, "{}", reply.json);
    };
    Some(match code {
        "refund_unknown" => {
            let gateway = paid();
            let body = json!({ "merchantId": "M1", "merchantRefundNo": "B1" });
            let request = gateway.signed("M1", "/v1/refunds/query", &body);
            Case::new(gateway, request, move |gateway| ask(gateway, "1", 1))
        }
        "order_unpaid" => {
            let gateway = placed();
            gateway.select("T1", "bank");
            let request = refunding(&gateway, "1", number(1));
            Case::new(gateway, request, |gateway| {
                let id = gateway.pay("T1", "bank");
                gateway.call_back("bank", &id);
            })
        }
        "refund_conflict" => {
            let gateway = paid();
            ask(&gateway, "1", 1);
            let request = refunding(&gateway, "2", number(1));
            Case::new(gateway, request, |_| ())
        }
        "refund_over_rest" => {
            let gateway = paid();
            let request = refunding(&gateway, "12.31", number(1));
            Case::new(gateway, request, |_| ())
        }
        "refunds_exhausted" => {
            let gateway = paid();
            (0..50).for_each(|no| ask(&gateway, "0.10", no));
            let request = refunding(&gateway, "0.10", number(50));
            Case::new(gateway, request, |_| ())
        }
        "refund_window_over" | "refund_not_supported" => {
            let mut gateway = paid();
            gateway.advance_s(1);
            let mut enrolment = snapshot(&BANKS);
            let institutions = &mut enrolment.routing.institutions;
            let rules = &mut institutions.get_mut(&bank()).unwrap().refunds;
            if code == "refund_window_over" {
                rules.window = Duration::ZERO;
            } else {
                rules.kinds.partial = false;
            }
            gateway.api.snapshot = Arc::new(enrolment);
            let request = refunding(&gateway, "1", number(1));
            Case::changed(gateway, request, |_| ())
        }
        "notice_url_unregistered" => {
            let gateway = paid();
            let there = json!({ "noticeUrl": "https://new.example/told" });
            let request = refunding(&gateway, "1", there);
            Case::changed(gateway, request, |all| {
                m1(all).notify_origins.push("https://new.example".into());
            })
        }
        _ => return None,
    })
}

/// Codes with which nothing was recorded: the same bytes are valid once the cause is gone (Q8).
fn spent_by_none(code: &str) -> Option<Case> {
    let failing = |trouble| {
        let mut gateway = TestGateway::new();
        let fault_injector = FaultInjector::new(gateway.memory.handles());
        fault_injector.plan(1, trouble);
        gateway.api.store = Arc::new(fault_injector).handles();
        let request = with(&gateway, json!({}));
        Case::new(gateway, request, |_| ())
    };
    Some(match code {
        "too_often" => {
            let gateway = TestGateway::new();
            let rate = |per_second: u32| Rate {
                per_second: per_second.try_into().unwrap(),
                burst: per_second.try_into().unwrap(),
            };
            gateway.api.admission.limits.replace(&LimitSettings {
                certificate: rate(9),
                address: rate(9),
                merchant: rate(1),
            });
            gateway.send(with(&gateway, json!({ "merchantOrderNo": "T2" })));
            let request = with(&gateway, json!({}));
            Case::new(gateway, request, |gateway| gateway.advance_s(1))
        }
        "outcome_unknown" => failing(InjectedFault::LostUnwritten),
        "unavailable" => failing(InjectedFault::Unavailable),
        _ => return None,
    })
}

fn twice(case: Case, code: &str) -> (TestReply, TestReply) {
    let Case {
        mut gateway,
        request,
        peer,
        repair,
        again,
    } = case;
    let first = gateway.send_from(request.clone(), peer);
    assert_eq!(first.result, code, "{}", first.json);
    repair(&mut gateway);
    let second = gateway.send_from(request, again);
    (first, second)
}

/// Q5, R-6.3.2-2a: whatever public code an authenticated request is refused with, the same bytes
/// get `nonce_spent` afterwards, also when the cause is gone; except for 429, 500 and 503, with
/// which nothing was recorded.
#[test]
fn every_refusal_of_an_authenticated_request_spends_its_nonce() {
    let codes: BTreeSet<&str> = refusals().iter().map(Refusal::code).collect();
    let of = [of_fields, of_institutions, of_orders, of_refunds];
    for code in codes {
        let mut cases = of.iter().filter_map(|case| case(code));
        if let Some(case) = cases.next() {
            let (first, second) = twice(case, code);
            assert!(first.response.headers().contains_key("signature"), "{code}");
            assert_eq!(
                (second.status, second.result),
                (401, "nonce_spent"),
                "{code}"
            );
        } else if let Some(case) = spent_by_none(code) {
            let (first, second) = twice(case, code);
            assert!([429, 500, 503].contains(&first.status), "{code}");
            assert_eq!(second.status, 200, "{code}: {}", second.json);
        } else {
            assert!(UNAUTHENTICATED.contains(&code), "{code} has no case");
        }
    }
}

/// Q5, R6: a refund refused because its address was not registered moves no money when it is
/// replayed after the address was registered.
#[test]
fn a_refused_refund_moves_no_money_later() {
    let case = of_refunds("notice_url_unregistered").unwrap();
    let Case {
        mut gateway,
        request,
        repair,
        ..
    } = case;
    assert_eq!(
        gateway.send(request.clone()).result,
        "notice_url_unregistered"
    );
    repair(&mut gateway);
    assert_eq!(gateway.send(request).result, "nonce_spent");
    assert!(gateway.order("T1").refunds.is_empty());
    gateway.at("bank", |books| assert!(books.returns.is_empty()));
}

/// Q5, Q6: a nonce spent by a refusal stays spent after a restart.
#[test]
fn a_nonce_spent_by_a_refusal_is_durable() {
    let mut gateway = TestGateway::new();
    let request = with(&gateway, json!({ "zzz": 1 }));
    assert_eq!(gateway.send(request.clone()).result, "field_unknown");
    gateway.restart();
    assert_eq!(gateway.send(request).result, "nonce_spent");
}
