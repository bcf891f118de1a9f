//! Signs what leaves, bound to the question it answers (R-6.3.1-1b); with a slow key beside the
//! threads that answer others meanwhile.

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

/// How long anything waits for its turn with a slow key. Past it an answer leaves unsigned, for TLS
/// proves us as well; a call is not made; a notification is tried again.
const KEY_PERMIT_WITHIN: Duration = Duration::from_secs(2);

/// Signs an answer with the platform's key, bound to the signature that proved its question. When
/// every key has ended it leaves unsigned: TLS proves us still, and whoever verifies sees it.
pub async fn sign_answer(
    platform: &PlatformIdentity,
    (request, label): (&Request<Bytes>, &str),
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
        tracing::error!("no platform key is in force: an answer leaves unsigned");
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
        tracing::error!(%fault, "an answer could not be signed");
    }
}

/// Waits for a turn of a slow key, then signs on a thread that may take its time. Nothing if no turn
/// came in time or that thread did not come back.
pub(in crate::flow) async fn sign_on_blocking_thread<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    signing: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let permit = timeout(KEY_PERMIT_WITHIN, Arc::clone(permits).acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        tracing::warn!("a slow key has more to sign than it can; Ed25519 or ECDSA keys can");
        return None;
    };
    // The turn goes along: whoever stops waiting does not thereby free it.
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
