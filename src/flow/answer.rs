//! Signs what leaves, bound to the question it answers (R-6.3.1-1b); with a slow key beside the
//! threads that answer others meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Semaphore;

use crate::domain::identifiers::Timestamp;
use crate::flow::register::Platform;
use crate::signature::{self, Question, SigningKey};

/// Signs an answer with the platform's key, bound to the signature that proved its question.
pub async fn sign_answer(
    platform: &Platform,
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
    let key = &platform.signing;
    let Some(turns) = key.turns() else {
        return sign(key, &question, answer, now);
    };
    let (key, mut copy) = (Arc::clone(key), answer.clone());
    let signed = aside(turns, move || {
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

/// Waits for a turn of a slow key, then signs on a thread that may take its time. Nothing if that
/// thread did not come back.
pub(in crate::flow) async fn aside<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    signing: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let turn = Arc::clone(turns).acquire_owned().await.ok()?;
    // The turn goes along: whoever stops waiting does not thereby free it.
    let signed = tokio::task::spawn_blocking(move || {
        let signed = signing();
        drop(turn);
        signed
    });
    signed
        .await
        .inspect_err(|fault| tracing::error!(%fault, "a signing thread failed"))
        .ok()
}
