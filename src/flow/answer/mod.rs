//! Signs replies, bound to the request they answer (R-6.3.1-1b); slow keys sign on blocking
//! threads.

pub mod commit_once;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};

use crate::domain::identifiers::Timestamp;
use crate::flow::configuration_snapshot::PlatformIdentity;
use crate::signature::{self, Question, SigningKey};
use crate::world::signing::SigningPool;

/// Signs a reply with the platform's key, bound to the signature of its request. When every key has
/// expired, or slow keys are overloaded, it is sent unsigned: TLS still authenticates us, and a verifier
/// sees that it is missing.
pub async fn sign_answer(
    pool: &SigningPool,
    platform: &PlatformIdentity,
    request: &Request<Bytes>,
    label: &str,
    answer: &mut Response<Bytes>,
    now: Timestamp,
) {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let target = format!("{}{path}", platform.origin);
    let Some(question) = Question::under(request, &target, label) else {
        return;
    };
    let Some(key) = platform.signing.at(now.seconds()) else {
        tracing::error!("no platform key is in force; a reply is sent unsigned");
        return;
    };
    if !key.is_slow() {
        return sign(key, &question, answer, now);
    }
    let (key, mut copy) = (Arc::clone(key), answer.clone());
    let signed = pool.sign(move || {
        sign(&key, &question, &mut copy, now);
        copy
    });
    if let Some(signed) = signed.await {
        *answer = signed;
    }
}

fn sign(key: &SigningKey, question: &Question, answer: &mut Response<Bytes>, now: Timestamp) {
    if let Err(fault) = signature::sign_response(answer, Some(question), key, now.seconds()) {
        tracing::error!(%fault, "a reply could not be signed");
    }
}
