//! One proven request, one answer: whatever refuses it spends its nonce, so that nothing that changes
//! later makes the very same bytes good.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use paymux::api::Peer;
use paymux::domain::identifiers::{InstitutionId, MerchantId};
use paymux::domain::merchant::{Admission, ClientCertificate, Merchant};
use paymux::domain::refusal::Refusal;
use paymux::flow::register::Register;
use paymux::limits::{LimitSettings, Rate};
use paymux::signature::{EnrolledKey, KeyRing};
use serde_json::{Value, json};

use super::with;
use crate::openapi::refusals;
use crate::world::books::Ability;
use crate::world::enrolment::{order_fields, register, shown, sign, unsigned};
use crate::world::frail::{Frail, Lack, Trouble};
use crate::world::memory::Memory;
use crate::world::town::{PEER, Told, Town, changed, naming};

const BANKS: [(&str, Ability); 2] = [("bank", Ability::ALL), ("purse", Ability::ALL)];

/// Refused before anybody was proven, or with no nonce to spend: the same bytes are refused for ever,
/// or nobody can tell whose they are.
const NOBODY_PROVEN: [&str; 16] = [
    "authority_wrong",
    "body_too_large",
    "body_unreadable",
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

/// What is asked and refused, and what then changes.
struct Case {
    town: Town,
    request: Request<Bytes>,
    peer: Peer,
    mend: Box<dyn FnOnce(&mut Town)>,
    /// From where it is sent again.
    again: Peer,
}

impl Case {
    fn new(town: Town, request: Request<Bytes>, mend: impl FnOnce(&mut Town) + 'static) -> Self {
        Self {
            town,
            request,
            peer: PEER,
            mend: Box::new(mend),
            again: PEER,
        }
    }

    /// A case of form: nothing would make it good.
    fn of_order(changes: Value) -> Self {
        let town = Town::new();
        let request = with(&town, changes);
        Self::new(town, request, |_| ())
    }

    /// Under an enrolment with this change, which is then taken back.
    fn enrolled(
        change: impl FnOnce(&mut Register),
        request: impl FnOnce(&Town) -> Request<Bytes>,
    ) -> Self {
        let mut enrolment = register(&BANKS);
        change(&mut enrolment);
        let town = Town::enrolled(&BANKS, enrolment);
        let request = request(&town);
        Self::new(town, request, |town| {
            town.api.register = Arc::new(register(&BANKS));
        })
    }

    /// Under the usual enrolment, which is then changed.
    fn changed(
        town: Town,
        request: Request<Bytes>,
        change: impl FnOnce(&mut Register) + 'static,
    ) -> Self {
        Self::new(town, request, |town| {
            let mut enrolment = register(&BANKS);
            change(&mut enrolment);
            town.api.register = Arc::new(enrolment);
        })
    }
}

fn m1(register: &mut Register) -> &mut Merchant {
    let id = MerchantId::parse("M1").unwrap();
    register.directory.merchants.get_mut(&id).unwrap()
}

fn bank() -> InstitutionId {
    InstitutionId::parse("bank").unwrap()
}

fn asking(sum: &str, changes: Value) -> Value {
    let fields = json!({
        "merchantOrderNo": "T1",
        "orderDate": "20260925",
        "refundAmount": sum,
        "merchantId": "M1",
        "mobileNo": "13812345678",
    });
    changed(fields, changes)
}

fn placed() -> Town {
    let town = Town::new();
    assert_eq!(town.place("T1", json!({})).status, 200);
    town
}

fn paid() -> Town {
    let town = placed();
    town.select("T1", "bank");
    let id = town.pay("T1", "bank");
    town.call_back("bank", &id);
    town
}

fn refunding(town: &Town, sum: &str, changes: Value) -> Request<Bytes> {
    town.signed("M1", "/v1/refunds", &asking(sum, changes))
}

fn closing(town: &Town, no: &str) -> Request<Bytes> {
    town.signed("M1", "/v1/orders/close", &naming(no))
}

fn choosing(town: &Town, institution: &str) -> Request<Bytes> {
    let body = changed(naming("T1"), json!({ "institutionId": institution }));
    town.signed("M1", "/v1/orders/select", &body)
}

/// Refusals of form and of fields, and of who asks.
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
            let town = Town::new();
            let body = order_fields("M1", "T1").to_string();
            let mut request = unsigned("/v1/orders", body);
            sign(&mut request, "M1-key", town.now_s() + 60, &town.nonce());
            Case::new(town, request, |town| town.pass_s(45))
        }
        "key_expired" => {
            let town = Town::new();
            let mut request = with(&town, json!({}));
            sign(&mut request, "M1-old", town.now_s(), &town.nonce());
            Case::changed(town, request, |all| {
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
            |town| with(town, json!({})),
        ),
        "certificate_expired" | "certificate_foreign" => {
            let mut case = Case::of_order(json!({}));
            let (whose, until_s) = match code {
                "certificate_expired" => ("M1", case.town.now_s() - 1),
                _ => ("M2", i64::MAX),
            };
            case.peer.certificate = Some(shown(whose, until_s));
            case
        }
        "merchant_not_admitted" => Case::enrolled(
            |all| m1(all).admission = Admission::Suspended,
            |town| with(town, json!({})),
        ),
        "merchant_name_wrong" => Case::enrolled(
            |all| m1(all).name = "Coffee House".into(),
            |town| with(town, json!({})),
        ),
        "return_url_unregistered" => {
            let town = Town::new();
            let there = json!({ "bankReturnUrl": "https://new.example/paid" });
            let request = with(&town, there);
            Case::changed(town, request, |all| {
                m1(all).notify_origins.push("https://new.example".into());
            })
        }
        _ => return None,
    })
}

/// Refusals of institutions.
fn of_institutions(code: &str) -> Option<Case> {
    let at_bank = |town: &Town| with(town, json!({ "institutionId": "bank" }));
    Some(match code {
        "institution_unknown" => {
            let town = Town::new();
            let request = with(&town, json!({ "institutionId": "new" }));
            Case::new(town, request, |town| {
                let three = [BANKS[0], BANKS[1], ("new", Ability::ALL)];
                town.api.register = Arc::new(register(&three));
            })
        }
        "institution_required" => {
            let town = Town::new();
            let request = with(&town, json!({ "businessType": "NATIVE" }));
            Case::new(town, request, |town| {
                town.api.register = Arc::new(register(&BANKS[..1]));
            })
        }
        "institution_unavailable" => Case::enrolled(
            |all| {
                let institutions = &mut all.directory.institutions;
                institutions.get_mut(&bank()).unwrap().stopped = true;
            },
            at_bank,
        ),
        "institution_not_contracted" => Case::enrolled(
            |all| {
                let key = (MerchantId::parse("M1").unwrap(), bank());
                all.directory.contracts.remove(&key).unwrap();
            },
            at_bank,
        ),
        _ => return None,
    })
}

/// Refusals of orders, as they stand.
fn of_orders(code: &str) -> Option<Case> {
    Some(match code {
        "order_unknown" => {
            let town = Town::new();
            let request = closing(&town, "T1");
            Case::new(town, request, |town| {
                town.place("T1", json!({}));
            })
        }
        "order_conflict" => {
            let town = placed();
            let request = with(&town, json!({ "orderAmount": "1" }));
            Case::new(town, request, |_| ())
        }
        "order_closed" => {
            let town = placed();
            town.close("T1");
            let request = choosing(&town, "bank");
            Case::new(town, request, |_| ())
        }
        "order_paid" => {
            let town = paid();
            let request = closing(&town, "T1");
            Case::new(town, request, |_| ())
        }
        "attempts_exhausted" => {
            let town = placed();
            town.at("bank", |books| books.manners.refuses = true);
            for _ in 0..20 {
                assert_eq!(town.select("T1", "bank").text("result"), "REFUSED");
            }
            let request = choosing(&town, "purse");
            Case::new(town, request, |_| ())
        }
        "contended" => {
            let mut town = placed();
            let request = closing(&town, "T1");
            town.api.store = Arc::new(Frail::lacking(&town.memory, Lack::Quiet));
            Case::new(town, request, |town| {
                town.api.store = Arc::<Memory>::clone(&town.memory);
            })
        }
        _ => return None,
    })
}

/// Refusals of refunds.
fn of_refunds(code: &str) -> Option<Case> {
    let number = |no: usize| json!({ "merchantRefundNo": format!("B{no}") });
    let ask = move |town: &Town, sum: &str, no: usize| {
        let told = town.send(refunding(town, sum, number(no)));
        assert_eq!(told.status, 200, "{}", told.json);
    };
    Some(match code {
        "refund_unknown" => {
            let town = paid();
            let body = json!({ "merchantId": "M1", "merchantRefundNo": "B1" });
            let request = town.signed("M1", "/v1/refunds/query", &body);
            Case::new(town, request, move |town| ask(town, "1", 1))
        }
        "order_unpaid" => {
            let town = placed();
            town.select("T1", "bank");
            let request = refunding(&town, "1", number(1));
            Case::new(town, request, |town| {
                let id = town.pay("T1", "bank");
                town.call_back("bank", &id);
            })
        }
        "refund_conflict" => {
            let town = paid();
            ask(&town, "1", 1);
            let request = refunding(&town, "2", number(1));
            Case::new(town, request, |_| ())
        }
        "refund_over_rest" => {
            let town = paid();
            let request = refunding(&town, "12.31", number(1));
            Case::new(town, request, |_| ())
        }
        "refunds_exhausted" => {
            let town = paid();
            (0..50).for_each(|no| ask(&town, "0.10", no));
            let request = refunding(&town, "0.10", number(50));
            Case::new(town, request, |_| ())
        }
        "refund_window_over" | "refund_not_supported" => {
            let mut town = paid();
            town.pass_s(1);
            let mut enrolment = register(&BANKS);
            let institutions = &mut enrolment.directory.institutions;
            let rules = &mut institutions.get_mut(&bank()).unwrap().refunds;
            if code == "refund_window_over" {
                rules.window = Duration::ZERO;
            } else {
                rules.kinds.partial = false;
            }
            town.api.register = Arc::new(enrolment);
            let request = refunding(&town, "1", number(1));
            Case::changed(town, request, |_| ())
        }
        "notice_url_unregistered" => {
            let town = paid();
            let there = json!({ "noticeUrl": "https://new.example/told" });
            let request = refunding(&town, "1", there);
            Case::changed(town, request, |all| {
                m1(all).notify_origins.push("https://new.example".into());
            })
        }
        _ => return None,
    })
}

/// By which nothing was recorded: the same bytes are good once what was in the way is gone (Q8).
fn spent_by_none(code: &str) -> Option<Case> {
    let failing = |trouble| {
        let mut town = Town::new();
        let frail = Frail::new(Arc::<Memory>::clone(&town.memory));
        frail.plan(1, trouble);
        town.api.store = Arc::new(frail);
        let request = with(&town, json!({}));
        Case::new(town, request, |_| ())
    };
    Some(match code {
        "too_often" => {
            let town = Town::new();
            let rate = |per_second: u32| Rate {
                per_second: per_second.try_into().unwrap(),
                burst: per_second.try_into().unwrap(),
            };
            town.api.gate.limits.replace(&LimitSettings {
                certificate: rate(9),
                address: rate(9),
                merchant: rate(1),
            });
            town.send(with(&town, json!({ "merchantOrderNo": "T2" })));
            let request = with(&town, json!({}));
            Case::new(town, request, |town| town.pass_s(1))
        }
        "outcome_unknown" => failing(Trouble::LostUnwritten),
        "unavailable" => failing(Trouble::Unavailable),
        _ => return None,
    })
}

fn twice(case: Case, code: &str) -> (Told, Told) {
    let Case {
        mut town,
        request,
        peer,
        mend,
        again,
    } = case;
    let first = town.send_from(request.clone(), peer);
    assert_eq!(first.result, code, "{}", first.json);
    mend(&mut town);
    let second = town.send_from(request, again);
    (first, second)
}

/// Q5, R-6.3.2-2a: whatever public code a proven request is refused with, the same bytes are answered
/// `nonce_spent` afterwards, also when everything that was in their way is gone; but for 429, 500 and
/// 503, by which nothing was recorded.
#[test]
fn every_refusal_of_a_proven_request_spends_its_nonce() {
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
            assert!(NOBODY_PROVEN.contains(&code), "{code} has no case");
        }
    }
}

/// Q5, R6: a refund that was refused because its address was not registered moves no money when
/// somebody plays it again after the address was.
#[test]
fn a_refused_refund_moves_no_money_later() {
    let case = of_refunds("notice_url_unregistered").unwrap();
    let Case {
        mut town,
        request,
        mend,
        ..
    } = case;
    assert_eq!(town.send(request.clone()).result, "notice_url_unregistered");
    mend(&mut town);
    assert_eq!(town.send(request).result, "nonce_spent");
    assert!(town.order("T1").refunds.is_empty());
    town.at("bank", |books| assert!(books.returns.is_empty()));
}

/// Q5, Q6: what a refusal spent stays spent over a restart.
#[test]
fn what_a_refusal_spent_is_durable() {
    let mut town = Town::new();
    let request = with(&town, json!({ "zzz": 1 }));
    assert_eq!(town.send(request.clone()).result, "field_unknown");
    town.restart();
    assert_eq!(town.send(request).result, "nonce_spent");
}
