//! Authentication, for each algorithm: what proves the caller, and what does not. Each request is
//! made by hand, goes through the whole API, and changes nothing if it is refused.

mod explained;
mod openssl;
mod replay;
mod signing;
mod slow;

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use paymux::api::Peer;
use paymux::domain::identifiers::MerchantId;
use paymux::domain::merchant::{Admission, ClientCertificate};
use paymux::flow::configuration_snapshot::ConfigurationSnapshot;
use paymux::signature::{EnrolledKey, KeyRing};
use serde_json::{Value, json};

use crate::world::enrolment::{order_fields, snapshot};
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::test_gateway::{PEER, TestGateway, TestReply, changed, showing};
use signing::{ALGORITHMS, KEYS, SECRET, SignatureDraft, TestSigningKey, mac};

const PLACE: &str = "/v1/orders";
const ONE: [(&str, FakeInstitutionAbility); 1] = [("bank", FakeInstitutionAbility::ALL)];

fn key_of(algorithm: &str) -> &'static TestSigningKey {
    let mut keys = KEYS[0].iter();
    keys.find(|key| key.algorithm == algorithm).unwrap()
}

/// Two merchants with a key of each algorithm; of M1's each also an expired one, one that is not
/// valid yet, and a second one.
fn enrolled(now_s: i64) -> ConfigurationSnapshot {
    let mut snapshot = snapshot(&ONE);
    let mut keys = Vec::new();
    for (merchant, set) in ["M1", "M2"].into_iter().zip(KEYS.iter()) {
        for key in set {
            let mut enrol = |suffix: &str, from: i64, until: i64| {
                keys.push(EnrolledKey {
                    id: format!("{merchant}-{}{suffix}", key.algorithm),
                    owner: merchant.into(),
                    key: key.verifying(),
                    not_before_s: from,
                    not_after_s: until,
                });
            };
            enrol("", 0, i64::MAX);
            enrol("-second", 0, i64::MAX);
            enrol("-ended", 0, now_s - 1);
            enrol("-coming", now_s + 1, i64::MAX);
        }
    }
    snapshot.keys = KeyRing::new(keys).unwrap();
    snapshot
}

fn gateway() -> TestGateway {
    let now_s = TestGateway::new().now_s();
    TestGateway::enrolled(&ONE, enrolled(now_s))
}

fn draft(gateway: &TestGateway, key: &TestSigningKey) -> SignatureDraft {
    let id = format!("M1-{}", key.algorithm);
    let body = order_fields("M1", "T1");
    SignatureDraft::new(PLACE, &body, (&id, gateway.nonce()), gateway.now_s())
}

/// Checks a refusal that must leave nothing durable behind, not even its nonce; the code is what is
/// counted.
fn refused(
    gateway: &TestGateway,
    request: Request<Bytes>,
    expected: (u16, &str),
    what: &str,
) -> TestReply {
    refused_from(gateway, (request, showing("M1")), expected, what)
}

fn refused_from(
    gateway: &TestGateway,
    (request, peer): (Request<Bytes>, Peer),
    expected: (u16, &str),
    what: &str,
) -> TestReply {
    let before = gateway.durable_state();
    let reply = gateway.send_from(request, peer);
    assert_eq!(
        (reply.status, reply.result),
        expected,
        "{what}: {:?}",
        reply.json
    );
    assert_eq!(reply.text("code"), expected.1, "{what}");
    // An authenticated caller has spent the nonce (Q5), and nothing else has changed.
    let mut after = gateway.durable_state();
    after.nonces.clone_from(&before.nonces);
    assert!(after == before, "{what} changed the store");
    reply
}

const UNUSABLE: (u16, &str) = (401, "signature_unusable");
const MISMATCH: (u16, &str) = (401, "signature_mismatch");
const OUTSIDE: (u16, &str) = (401, "outside_window");

/// R-6.3.1-1a, R-6.3.1-2a, R-6.3.2-2b, Q3: each algorithm authenticates the caller; its name may be
/// in the message and must match the key's.
#[test]
fn each_algorithm_authenticates_its_owner() {
    for algorithm in ALGORITHMS {
        for alg in [None, Some(algorithm.to_owned())] {
            let gateway = gateway();
            let key = key_of(algorithm);
            let draft = SignatureDraft {
                alg,
                ..draft(&gateway, key)
            };
            let reply = gateway.send_from(draft.by(key), showing("M1"));
            assert_eq!(
                (reply.status, reply.result),
                (200, "ACCEPTED"),
                "{algorithm}"
            );
            assert_eq!(gateway.durable_state().orders.len(), 1);
        }
    }
}

/// R-6.3.1-2a, Q2: unsigned, signed over too few components, changed in transit, sent elsewhere.
#[test]
fn a_request_not_signed_whole_is_refused() {
    for algorithm in ALGORITHMS {
        let (gateway, key) = (gateway(), key_of(algorithm));
        let what = |case: &str| format!("{algorithm}, {case}");
        let good = draft(&gateway, key);
        refused(&gateway, good.bare(), UNUSABLE, &what("unsigned"));
        for at in 0..good.covered.len() {
            let mut little = good.clone();
            let removed = little.covered.remove(at);
            refused(&gateway, little.by(key), UNUSABLE, &what(removed));
        }
        let other = order_fields("M1", "T2").to_string();
        let mut body = good.by(key);
        *body.body_mut() = Bytes::from(other.clone());
        refused(&gateway, body, (401, "digest_mismatch"), &what("body"));
        let changed = SignatureDraft {
            body: other.into_bytes(),
            ..good.clone()
        };
        let with_digest = changed.with(&key.sign(good.base().as_bytes()));
        refused(&gateway, with_digest, MISMATCH, &what("body and digest"));
        let mut elsewhere = good.by(key);
        *elsewhere.uri_mut() = "/v1/orders/close".parse().unwrap();
        refused(&gateway, elsewhere, MISMATCH, &what("path"));
        let mut later = good.clone();
        later.nonce = Some(gateway.nonce());
        let later = later.with(&key.sign(good.base().as_bytes()));
        refused(&gateway, later, MISMATCH, &what("another nonce"));
    }
}

/// R-6.3.1-1c, R-6.3.2-2a, Q5: keys and signatures are valid in their period only.
#[test]
fn a_request_outside_its_time_is_refused() {
    for algorithm in ALGORITHMS {
        let (gateway, key) = (gateway(), key_of(algorithm));
        let what = |case: &str| format!("{algorithm}, {case}");
        let now = gateway.now_s();
        for suffix in ["-ended", "-coming"] {
            let mut draft = draft(&gateway, key);
            draft.key_id.push_str(suffix);
            refused(&gateway, draft.by(key), (401, "key_expired"), &what(suffix));
        }
        for (case, created, expires, expected) in [
            ("stale", Some(now - 301), Some(now + 1), OUTSIDE),
            ("future", Some(now + 31), Some(now + 60), OUTSIDE),
            ("no expires", Some(now), None, OUTSIDE),
            ("expired", Some(now - 10), Some(now - 1), OUTSIDE),
            ("for too long", Some(now), Some(now + 301), OUTSIDE),
            ("backwards", Some(now + 10), Some(now + 5), OUTSIDE),
            ("huge", Some(now), Some(999_999_999_999_999), OUTSIDE),
            ("no created", None, Some(now + 60), UNUSABLE),
        ] {
            let draft = SignatureDraft {
                created,
                expires,
                ..draft(&gateway, key)
            };
            refused(&gateway, draft.by(key), expected, &what(case));
        }
        for nonce in [None, Some("short"), Some("sixteen and blank")] {
            let draft = SignatureDraft {
                nonce: nonce.map(str::to_owned),
                ..draft(&gateway, key)
            };
            refused(
                &gateway,
                draft.by(key),
                (401, "nonce_malformed"),
                &what("nonce"),
            );
        }
    }
}

/// R-6.3.2-2a, Q5: a nonce is accepted once.
#[test]
fn a_nonce_is_accepted_once() {
    for algorithm in ALGORITHMS {
        let (mut gateway, key) = (gateway(), key_of(algorithm));
        let request = draft(&gateway, key).by(key);
        assert_eq!(
            gateway.send_from(request.clone(), showing("M1")).status,
            200
        );
        for _ in 0..2 {
            refused(&gateway, request.clone(), (401, "nonce_spent"), algorithm);
            gateway.restart();
        }
        // The nonce belongs to the key: signing the same content anew is still a replay.
        let mut again = draft(&gateway, key);
        let first = request.headers()["signature-input"].to_str().unwrap();
        let nonce = first.split("nonce=\"").nth(1).unwrap().split('"').next();
        again.nonce = nonce.map(str::to_owned);
        refused(&gateway, again.by(key), (401, "nonce_spent"), algorithm);
    }
}

/// Q3: the key decides the algorithm, and nothing in the message can: each key is named with the
/// signature of every other algorithm, with and without its name.
#[test]
fn no_algorithm_is_accepted_as_another() {
    for algorithm in ALGORITHMS {
        let (gateway, key) = (gateway(), key_of(algorithm));
        for other in ALGORITHMS.into_iter().filter(|other| *other != algorithm) {
            let what = format!("{algorithm} by {other}");
            let mut silent = draft(&gateway, key);
            refused(&gateway, silent.by(key_of(other)), MISMATCH, &what);
            silent.alg = Some(other.to_owned());
            refused(&gateway, silent.by(key_of(other)), UNUSABLE, &what);
            refused(&gateway, silent.by(key), UNUSABLE, &what);
            silent.alg = Some(algorithm.to_owned());
            refused(&gateway, silent.by(key_of(other)), MISMATCH, &what);
        }
        for none in ["none", "", "ED25519", "rsa-pss-sha256", "hs2019"] {
            let mut draft = draft(&gateway, key);
            draft.alg = Some(none.to_owned());
            refused(
                &gateway,
                draft.by(key),
                UNUSABLE,
                &format!("{algorithm} {none:?}"),
            );
        }
    }
}

/// Q3: public values are no secret: MACs made with the bytes of public keys are refused.
#[test]
fn a_public_key_is_not_a_secret() {
    for algorithm in ALGORITHMS.into_iter().filter(|it| *it != "hmac-sha256") {
        let (gateway, key) = (gateway(), key_of(algorithm));
        for secret in key.public_forms() {
            let mut draft = draft(&gateway, key);
            let tag = mac(&secret, draft.base().as_bytes());
            refused(&gateway, draft.with(&tag), MISMATCH, algorithm);
            draft.alg = Some("hmac-sha256".to_owned());
            let tag = mac(&secret, draft.base().as_bytes());
            refused(&gateway, draft.with(&tag), UNUSABLE, algorithm);
            draft.key_id = "M1-hmac-sha256".to_owned();
            let tag = mac(&secret, draft.base().as_bytes());
            refused(&gateway, draft.with(&tag), MISMATCH, algorithm);
        }
    }
    let (gateway, shared) = (gateway(), key_of("hmac-sha256"));
    let draft = draft(&gateway, shared);
    for secret in [[].as_slice(), &[0; 32], b"M1-hmac-sha256", b"M1"] {
        let tag = mac(secret, draft.base().as_bytes());
        refused(
            &gateway,
            draft.with(&tag),
            MISMATCH,
            "an empty or guessed secret",
        );
    }
}

/// Q3: empty, truncated, extended and altered signatures; ECDSA as ASN.1, and its numbers out of
/// range.
#[test]
fn a_signature_has_one_form() {
    for algorithm in ALGORITHMS {
        let (gateway, key) = (gateway(), key_of(algorithm));
        // Often enough to fill the caches for a key that calls repeatedly.
        for _ in 0..40 {
            let reply = gateway.send_from(draft(&gateway, key).by(key), showing("M1"));
            assert_eq!(reply.status, 200, "{algorithm}");
        }
        let draft = draft(&gateway, key);
        let good = key.sign(draft.base().as_bytes());
        let (last, cut) = good.split_last().unwrap();
        let mut forms = vec![
            ("empty", Vec::new()),
            ("one byte", vec![*last]),
            ("cut", cut.to_vec()),
            ("truncated at the front", good[1..].to_vec()),
            ("stretched", [good.as_slice(), &[0]].concat()),
            ("extended at the front", [&[0], good.as_slice()].concat()),
            ("twice", [good.as_slice(), &good].concat()),
            ("zeroes", vec![0; good.len()]),
            ("ones", vec![0xff; good.len()]),
        ];
        for at in [0, good.len() / 2 - 1, good.len() / 2, good.len() - 1] {
            let mut bent = good.clone();
            bent[at] ^= 0x80;
            forms.push(("high bit", bent));
        }
        if algorithm == "ecdsa-p256-sha256" {
            let zero = [0; 32];
            forms.push(("ASN.1", key.sign_der(draft.base().as_bytes())));
            forms.push(("r = 0", [&zero, &good[32..]].concat()));
            forms.push(("s = 0", [&good[..32], &zero].concat()));
        }
        for (form, signature) in forms {
            let what = format!("{algorithm}, {form}");
            refused(&gateway, draft.with(&signature), MISMATCH, &what);
        }
        let mut ragged = draft.with(&good);
        let text = ragged.headers()["signature"].to_str().unwrap();
        let text = text.trim_end_matches(':').parse().unwrap();
        ragged.headers_mut().insert("signature", text);
        refused(&gateway, ragged, UNUSABLE, &format!("{algorithm}, ragged"));
    }
}

/// Q3: exactly one signature by a known key counts; those by unknown keys beside it do not,
/// whatever they contain and wherever they are.
#[test]
fn exactly_one_signature_by_a_known_key_counts() {
    for algorithm in ALGORITHMS {
        let key = key_of(algorithm);
        let beside = |gateway: &TestGateway, id: &str, first: bool| {
            let mine = draft(gateway, key);
            let theirs = SignatureDraft {
                label: "other",
                key_id: id.to_owned(),
                ..draft(gateway, key)
            };
            let mut request = mine.bare();
            let drafts = if first {
                [&theirs, &mine]
            } else {
                [&mine, &theirs]
            };
            for draft in drafts {
                draft.put(&mut request, &key.sign(draft.base().as_bytes()));
            }
            request
        };
        for first in [true, false] {
            for known in [
                format!("M1-{algorithm}-second"),
                format!("M1-{algorithm}-ended"),
                format!("M2-{algorithm}"),
            ] {
                let gateway = gateway();
                let request = beside(&gateway, &known, first);
                refused(
                    &gateway,
                    request,
                    UNUSABLE,
                    &format!("{algorithm}, {known}"),
                );
            }
            let gateway = gateway();
            let request = beside(&gateway, "a-proxy-of-theirs", first);
            let reply = gateway.send_from(request, showing("M1"));
            assert_eq!(
                (reply.status, reply.result),
                (200, "ACCEPTED"),
                "{algorithm}"
            );
        }
    }
}

/// Q4, R-4-3: key, certificate and `merchantId` must belong to one merchant, and one that is
/// admitted.
#[test]
fn no_caller_acts_for_another_merchant() {
    for algorithm in ALGORITHMS {
        let (mut gateway, key) = (gateway(), key_of(algorithm));
        let what = |case: &str| format!("{algorithm}, {case}");
        let foreign = (403, "merchant_foreign");
        let theirs = SignatureDraft {
            body: order_fields("M2", "T1").to_string().into_bytes(),
            ..draft(&gateway, key)
        };
        refused(
            &gateway,
            theirs.by(key),
            foreign,
            &what("another's merchantId"),
        );
        let their_key = KEYS[1].iter().find(|it| it.algorithm == algorithm).unwrap();
        let signed = SignatureDraft {
            key_id: format!("M2-{algorithm}"),
            ..draft(&gateway, key)
        };
        let from = (signed.by(their_key), showing("M2"));
        refused_from(&gateway, from, foreign, &what("another's key"));
        let mine = SignatureDraft {
            key_id: format!("M2-{algorithm}"),
            ..draft(&gateway, key)
        };
        refused(&gateway, mine.by(key), MISMATCH, &what("another's keyid"));
        let unknown = SignatureDraft {
            key_id: "nobody".to_owned(),
            ..draft(&gateway, key)
        };
        let reply = refused(
            &gateway,
            unknown.by(key),
            (401, "key_unknown"),
            &what("nobody"),
        );
        assert!(!reply.response.headers().contains_key("signature"));
        for shown in ["M2", "nobody"] {
            let from = (draft(&gateway, key).by(key), showing(shown));
            refused_from(&gateway, from, (403, "certificate_foreign"), &what(shown));
        }
        for (admission, path, body) in [
            (Admission::Suspended, PLACE, order_fields("M1", "T1")),
            (Admission::Suspended, "/v1/orders/select", chosen()),
            (Admission::Applied, "/v1/orders/query", naming()),
        ] {
            let mut enrolled = enrolled(gateway.now_s());
            let m1 = MerchantId::parse("M1").unwrap();
            enrolled.routing.merchants.get_mut(&m1).unwrap().admission = admission;
            gateway.api.snapshot = Arc::new(enrolled);
            let id = format!("M1-{algorithm}");
            let draft = SignatureDraft::new(path, &body, (&id, gateway.nonce()), gateway.now_s());
            let denied = (403, "merchant_not_admitted");
            refused(&gateway, draft.by(key), denied, &what("not admitted"));
        }
    }
}

fn naming() -> Value {
    json!({ "merchantId": "M1", "merchantOrderNo": "T1" })
}

fn chosen() -> Value {
    changed(naming(), json!({ "institutionId": "bank" }))
}

/// R-6.3.1-1b: a shared secret is accepted only with a certificate of the same merchant, whatever
/// else the merchant's connections must show; a private key needs none.
#[test]
fn a_shared_secret_counts_only_beside_a_certificate() {
    for wanted in [
        ClientCertificate::Off,
        ClientCertificate::Optional,
        ClientCertificate::Required,
    ] {
        let mut gateway = gateway();
        let mut enrolled = enrolled(gateway.now_s());
        let m1 = MerchantId::parse("M1").unwrap();
        let merchant = enrolled.routing.merchants.get_mut(&m1).unwrap();
        merchant.client_certificate = wanted;
        gateway.api.snapshot = Arc::new(enrolled);
        let key = key_of("hmac-sha256");
        for path in [PLACE, "/v1/orders/select", "/v1/orders/query"] {
            let id = "M1-hmac-sha256";
            let draft =
                SignatureDraft::new(path, &naming(), (id, gateway.nonce()), gateway.now_s());
            let missing = (403, "certificate_missing");
            let reply = refused_from(&gateway, (draft.by(key), PEER), missing, "alone");
            let detail = reply.text("detail");
            assert!(detail.contains("client certificate"), "{detail}");
            assert!(detail.contains("hmac-sha256"), "{detail}");
        }
        for shown in ["M2", "nobody"] {
            let from = (draft(&gateway, key).by(key), showing(shown));
            refused_from(&gateway, from, (403, "certificate_foreign"), shown);
        }
        let reply = gateway.send_from(draft(&gateway, key).by(key), showing("M1"));
        assert_eq!(
            (reply.status, reply.result),
            (200, "ACCEPTED"),
            "{wanted:?}"
        );
    }
    let gateway = gateway();
    let key = key_of("ecdsa-p256-sha256");
    assert_eq!(gateway.send(draft(&gateway, key).by(key)).status, 200);
}
