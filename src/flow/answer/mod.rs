//! Signs replies, bound to the request they answer (R-6.3.1-1b); slow keys sign on blocking
//! threads.

pub mod commit_once;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::domain::identifiers::Timestamp;
use crate::flow::configuration_snapshot::PlatformIdentity;
use crate::signature::{self, Question, SigningKey};

/// How long to wait for a permit of a slow key. After that a reply is sent unsigned, since TLS also
/// authenticates us; a call is not made; a notification is retried.
const KEY_PERMIT_WITHIN: Duration = Duration::from_secs(2);

/// Signs a reply with the platform's key, bound to the signature of its request. When every key has
/// expired it is sent unsigned: TLS still authenticates us, and a verifier sees that it is missing.
pub async fn sign_answer(
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
    let Some(permits) = key.permits() else {
        return sign(key, &question, answer, now);
    };
    let (key, mut copy) = (Arc::clone(key), answer.clone());
    let signed = sign_on_blocking_thread(permits, move || {
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

/// Acquires a permit of a slow key, then signs on a blocking thread. `None` if no permit was
/// available in time or the thread failed.
pub(in crate::flow) async fn sign_on_blocking_thread<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    signing: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let permit = timeout(KEY_PERMIT_WITHIN, Arc::clone(permits).acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        tracing::warn!("a slow key is overloaded; use an Ed25519 or ECDSA key");
        return None;
    };
    // The permit moves to the thread: a caller that stops waiting does not free it.
    let signed = tokio::task::spawn_blocking(move || {
        let signed = signing();
        drop(permit);
        signed
    });
    signed
        .await
        .inspect_err(|fault| tracing::error!(%fault, "a signing thread failed"))
        .ok()
}
