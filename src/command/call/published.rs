//! Fetches the platform's published keys, which verify its responses.

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;

use super::send;
use crate::outbound::HyperOutbound;
use crate::signature::{EnrolledKey, KeyRing, VerifyingKey};

/// Fetches the platform's JWK set over TLS, which authenticates the gateway.
pub(super) async fn platform_keys(
    outbound: &HyperOutbound,
    gateway: &str,
) -> anyhow::Result<KeyRing> {
    let address = format!("{}/.well-known/jwks.json", gateway.trim_end_matches('/'));
    let request = Request::builder()
        .method(Method::GET)
        .uri(address)
        .body(Bytes::new())?;
    let answer = send(outbound, request)
        .await
        .context("is the gateway running?")?;
    let set: Value = serde_json::from_slice(answer.body())?;
    let keys = set
        .get("keys")
        .and_then(Value::as_array)
        .context("no keys are published")?;
    let mut enrolled = Vec::new();
    for key in keys {
        let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
        // Skip keys of a type we do not support.
        let Ok(public) = VerifyingKey::from_jwk(key) else {
            continue;
        };
        let seconds = |name: &str, or: i64| key.get(name).and_then(Value::as_i64).unwrap_or(or);
        enrolled.push(EnrolledKey {
            id: text("kid").to_owned(),
            owner: "platform".into(),
            key: public,
            not_before_s: seconds("nbf", 0),
            not_after_s: seconds("exp", i64::MAX),
        });
    }
    Ok(KeyRing::new(enrolled)?)
}
