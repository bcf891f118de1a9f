//! Requests answered by the edge itself: those it cannot read, and those rejected in overload. Responses
//! to rejected ones are encoded in advance, so that rejecting costs no more than writing them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::Refuse;
use super::answer::{self, WriteOptions, WriteTime};
use super::body::{READ_BYTES, ReadFailure, read_body};
use super::connection::{ClientConnection, ConnectionReuse, ListenerConnections, StopReceiver};
use super::head::{self, Framing, RequestHead};
use super::overload::Cause;
use crate::api::priority::Priority;
use crate::domain::refusal::Refusal;

/// How long, and how much, a client may still send before its connection is closed: a close with
/// unread bytes takes the last answer away from it.
const LINGER_WITHIN: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1 << 20;
/// `retry-after` of rejected requests, one value after the other, so that callers do not all retry at
/// once. Unit: seconds.
const RETRY_AFTER_S: [u64; 4] = [1, 2, 3, 4];

/// Responses to rejected requests, encoded in advance.
pub(super) struct Rejections {
    written: Vec<(Bytes, Bytes)>,
    next: AtomicUsize,
}

/// What is known of a rejected request.
#[derive(Clone, Copy)]
pub(super) struct RejectedRequest {
    /// Its priority.
    pub(super) priority: Priority,
    /// Its connection is closed after it.
    pub(super) last: bool,
    /// It was `HEAD`.
    pub(super) head_only: bool,
}

impl Rejections {
    pub(super) fn new(refuse: &Refuse, secure: bool) -> Self {
        let written = RETRY_AFTER_S.map(|seconds| {
            let written = |keep| {
                let mut response = refuse(&Refusal::Unavailable);
                let seconds = HeaderValue::from(seconds);
                response.headers_mut().insert(RETRY_AFTER, seconds);
                let options = WriteOptions {
                    secure,
                    keep,
                    head_only: false,
                    written: WriteTime::InAdvance,
                };
                answer::encode(response, options)
            };
            (written(true), written(false))
        });
        Self {
            written: written.into(),
            next: AtomicUsize::new(0),
        }
    }

    fn next(&self, keep: bool, head_only: bool) -> Bytes {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let next = next.checked_rem(self.written.len()).unwrap_or(0);
        let Some((kept, closed)) = self.written.get(next) else {
            return Bytes::new();
        };
        let mut wire = if keep { kept.clone() } else { closed.clone() };
        if head_only {
            wire.truncate(head::end(&wire, 0).unwrap_or(0));
        }
        wire
    }
}

impl ListenerConnections {
    pub(super) fn refuse(&self, refusal: &Refusal) -> Response<Bytes> {
        self.metrics.refusal(refusal.code());
        let mut response = (self.refuse)(refusal);
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            let soon = HeaderValue::from_static("1");
            response.headers_mut().entry(RETRY_AFTER).or_insert(soon);
        }
        response
    }

    /// Rejects a request whose head was inspected, and discards its body.
    pub(super) async fn reject(
        &self,
        caller: &mut ClientConnection<'_>,
        head: &RequestHead,
        rejected: RejectedRequest,
        why: Cause,
        stopped: &StopReceiver,
    ) -> ConnectionReuse {
        let bounds = self.bounds();
        caller.read.advance(head.bytes);
        if head.waits_for_continue || head.framing == Framing::Chunked {
            // Whether the client sends the body is not known.
            self.count(rejected.priority, why);
            let wire = self.rejections.next(false, rejected.head_only);
            return self.write_last(caller, wire).await;
        }
        let ClientConnection { stream, read, .. } = &mut *caller;
        match read_body(stream, read, head.framing, &bounds).await {
            Ok(_) => self.ask_to_retry(caller, rejected, why, stopped).await,
            Err(ReadFailure::Disconnected) => ConnectionReuse::Disconnected,
            Err(ReadFailure::Refused(refusal)) => {
                self.answer_last(caller, &refusal, rejected.head_only).await
            }
        }
    }

    /// Asks the caller to retry, and reads its next request of that priority only after a pause: a caller
    /// that retries at once must not take the processor from those that are served.
    pub(super) async fn ask_to_retry(
        &self,
        caller: &mut ClientConnection<'_>,
        rejected: RejectedRequest,
        why: Cause,
        stopped: &StopReceiver,
    ) -> ConnectionReuse {
        let bounds = self.bounds();
        self.count(rejected.priority, why);
        let keep = !rejected.last && !*stopped.borrow();
        let wire = self.rejections.next(keep, rejected.head_only);
        match self.write(caller, &[wire], &bounds).await {
            ConnectionReuse::Again if !keep => ConnectionReuse::Close,
            ConnectionReuse::Again => {
                let again = Instant::now().checked_add(self.overload.pause(&bounds));
                caller.paused = again.map(|again| (rejected.priority, again));
                ConnectionReuse::Again
            }
            then @ (ConnectionReuse::Close | ConnectionReuse::Disconnected) => then,
        }
    }

    /// Waits for the end of the pause that a rejected request of this priority, or of a higher one, left on
    /// the connection. A request of a higher priority does not wait.
    pub(super) async fn wait_out(
        &self,
        caller: &mut ClientConnection<'_>,
        priority: Priority,
        stopped: &mut StopReceiver,
    ) {
        if let Some((paused, again)) = caller.paused
            && priority <= paused
        {
            caller.paused = None;
            let _ = timeout_at(again, stopped.wait_for(|stop| *stop)).await;
        }
    }

    fn count(&self, priority: Priority, why: Cause) {
        self.metrics.refusal(Refusal::Unavailable.code());
        self.metrics.front.load_shed(priority.word(), why.word());
    }

    /// Answers what could not be read as a request, and closes.
    pub(super) async fn answer_last(
        &self,
        caller: &mut ClientConnection<'_>,
        refusal: &Refusal,
        head_only: bool,
    ) -> ConnectionReuse {
        let options = WriteOptions {
            secure: self.acceptor.is_some(),
            keep: false,
            head_only,
            written: WriteTime::Now,
        };
        let wire = answer::encode(self.refuse(refusal), options);
        self.write_last(caller, wire).await
    }

    async fn write_last(&self, caller: &mut ClientConnection<'_>, wire: Bytes) -> ConnectionReuse {
        let bounds = self.bounds();
        match self.write(caller, &[wire], &bounds).await {
            ConnectionReuse::Again | ConnectionReuse::Close => ConnectionReuse::Close,
            ConnectionReuse::Disconnected => ConnectionReuse::Disconnected,
        }
    }

    /// Closes a connection after its last response: shuts it down and lets the client finish sending, within
    /// bounds.
    pub(super) async fn close(&self, caller: &mut ClientConnection<'_>) {
        let lingering = async {
            caller.stream.shutdown().await?;
            let mut left = LINGER_BYTES_MAX;
            while left > 0 {
                caller.read.clear();
                caller.read.reserve(READ_BYTES);
                match caller.stream.read_buf(&mut caller.read).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            std::io::Result::Ok(())
        };
        if !matches!(timeout(LINGER_WITHIN, lingering).await, Ok(Ok(()))) {
            tracing::debug!("a client kept sending after its last response");
        }
    }
}
