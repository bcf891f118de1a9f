//! A signature that does not match: the caller is shown the computed base, at a limited rate.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paymux::api::Peer;
use paymux::limits::{ExplanationLimits, Rate};

use super::*;

fn rate(per_second: u32, burst: u32) -> Rate {
    Rate {
        per_second: NonZeroU32::new(per_second).unwrap(),
        burst: NonZeroU32::new(burst).unwrap(),
    }
}

fn limited(caller: Rate, all: Rate) -> TestGateway {
    let mut gateway = gateway();
    let clock = Arc::clone(&gateway.api.world.clock);
    gateway.api.admission.explained = ExplanationLimits::new(caller, all, clock);
    gateway
}

fn from(address: &str, merchant: Option<&str>) -> Peer {
    Peer {
        address: address.parse().unwrap(),
        certificate: merchant.and_then(|merchant| showing(merchant).certificate),
        ..PEER
    }
}

/// The base shown for a mismatch of this key, if any.
fn shown(gateway: &TestGateway, key: &TestSigningKey, peer: Peer) -> Option<String> {
    let draft = draft(gateway, key);
    let misfit = draft.with(&[1; 64]);
    let reply = refused_from(gateway, (misfit, peer), MISMATCH, key.algorithm);
    assert!(!reply.response.headers().contains_key("signature"));
    let detail = reply.text("detail");
    assert!(
        detail.starts_with("the signature does not verify"),
        "{detail}"
    );
    let base = detail.split_once(":\n").map(|(_, base)| base.to_owned());
    if let Some(base) = &base {
        assert_eq!(*base, draft.base(), "{}", key.algorithm);
    }
    base
}

/// R-6.3.1-2a, L4: the owner of a known key sees the base we computed, whole, and never a secret.
#[test]
fn a_mismatch_shows_the_base_and_no_secret() {
    for algorithm in ALGORITHMS {
        let gateway = gateway();
        let base = shown(&gateway, key_of(algorithm), showing("M1")).unwrap();
        let tag = mac(SECRET, base.as_bytes());
        for secret in [SECRET, &tag, digest(&SHA256, SECRET).as_ref()] {
            let text = STANDARD.encode(secret);
            assert!(!base.contains(&text), "{algorithm}");
            assert!(!base.contains(String::from_utf8_lossy(secret).as_ref()));
        }
    }
}

/// A caller without a known key is shown nothing.
#[test]
fn an_unauthenticated_caller_is_shown_nothing() {
    let (gateway, key) = (gateway(), key_of("ed25519"));
    let mut draft = draft(&gateway, key);
    draft.key_id = "M1-ed25520".to_owned();
    let reply = refused(
        &gateway,
        draft.by(key),
        (401, "key_unknown"),
        "an unauthenticated caller",
    );
    assert!(!reply.text("detail").contains("@method"));
}

/// Q1: past the limit the refusal is the same without the base. The limits are by certificate or
/// address, and for all unauthenticated callers together, who use up nothing of a merchant's; an
/// unknown certificate counts by its address.
#[test]
fn a_base_is_not_shown_too_often() {
    let gateway = limited(rate(1, 2), rate(1, 3));
    let key = key_of("ecdsa-p256-sha256");
    let unauthenticated = from("192.0.2.1", None);
    assert!(shown(&gateway, key, unauthenticated).is_some());
    assert!(shown(&gateway, key, unauthenticated).is_some());
    assert!(shown(&gateway, key, unauthenticated).is_none());
    let made_up = from("192.0.2.1", Some("nobody"));
    assert!(shown(&gateway, key, made_up).is_none(), "the same address");
    let bearer = from("192.0.2.1", Some("M1"));
    assert!(shown(&gateway, key, bearer).is_some());
    assert!(shown(&gateway, key, bearer).is_some());
    assert!(shown(&gateway, key, bearer).is_none());
    assert!(shown(&gateway, key, from("192.0.2.2", None)).is_some());
    assert!(
        shown(&gateway, key, from("192.0.2.3", None)).is_none(),
        "all unauthenticated callers"
    );
    gateway.advance_s(1);
    assert!(shown(&gateway, key, from("192.0.2.4", None)).is_some());
    assert!(
        shown(&gateway, key, unauthenticated).is_none(),
        "all, again"
    );
    assert!(shown(&gateway, key, bearer).is_some(), "a merchant's own");
    // Whatever was shown, a valid signature is accepted.
    let good = draft(&gateway, key).by(key);
    assert_eq!(gateway.send_from(good, unauthenticated).status, 200);
}
