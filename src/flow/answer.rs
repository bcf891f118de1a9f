//! Signs what leaves, bound to the question it answers (R-6.3.1-1b).

use bytes::Bytes;
use http::{Request, Response};

use crate::domain::identifiers::Timestamp;
use crate::flow::register::Platform;
use crate::signature::{self, Question};

/// Signs an answer with the platform's key, bound to the signature that proved its question.
pub fn sign_answer(
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
    if let Err(fault) =
        signature::sign_response(answer, Some(&question), &platform.signing, now.seconds())
    {
        tracing::error!(%fault, "an answer could not be signed");
    }
}
