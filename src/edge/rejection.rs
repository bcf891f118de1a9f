//! Requests that are answered before anybody saw them: what is not understood, and what is rejected
//! under load. Such an answer is made beforehand, so that it costs no more than a bare one.

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
/// Seconds that rejected callers are told to stay away, one after the other, so that they do not all
/// come back at once.
const RETRY_AFTER_S: [u64; 4] = [1, 2, 3, 4];

/// Answers to rejected requests, made beforehand.
pub(super) struct Rejections {
    written: Vec<(Bytes, Bytes)>,
    next: AtomicUsize,
}

/// How a rejected request was to be answered.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// Its rank.
    pub(super) priority: Priority,
    /// Nothing follows it on its connection.
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
                let manner = WriteOptions {
                    secure,
                    keep,
                    head_only: false,
                    written: WriteTime::InAdvance,
                };
                answer::encode(response, manner)
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

    /// Rejects a request that was only looked at, and reads its body away.
    pub(super) async fn reject(
        &self,
        caller: &mut ClientConnection<'_>,
        sight: &RequestHead,
        (asked, why): (Asked, Cause),
        stopped: &StopReceiver,
    ) -> ConnectionReuse {
        let bounds = self.bounds();
        caller.read.advance(sight.bytes);
        if sight.waits_for_continue || sight.framing == Framing::Chunked {
            // What the client sends next is not known.
            self.count(asked.priority, why);
            let wire = self.rejections.next(false, asked.head_only);
            return self.write_last(caller, wire).await;
        }
        let ClientConnection { stream, read, .. } = &mut *caller;
        match read_body(stream, read, sight.framing, &bounds).await {
            Ok(_) => self.come_again(caller, (asked, why), stopped).await,
            Err(ReadFailure::Disconnected) => ConnectionReuse::Disconnected,
            Err(ReadFailure::Refused(refusal)) => {
                self.answer_last(caller, &refusal, asked.head_only).await
            }
        }
    }

    /// Tells a caller to come again, and reads such a request of its again only a moment later:
    /// one that comes back at once must not take the processor from those that are served.
    pub(super) async fn come_again(
        &self,
        caller: &mut ClientConnection<'_>,
        (asked, why): (Asked, Cause),
        stopped: &StopReceiver,
    ) -> ConnectionReuse {
        let bounds = self.bounds();
        self.count(asked.priority, why);
        let keep = !asked.last && !*stopped.borrow();
        let wire = self.rejections.next(keep, asked.head_only);
        match self.write(caller, &[wire], &bounds).await {
            ConnectionReuse::Again if !keep => ConnectionReuse::Close,
            ConnectionReuse::Again => {
                let again = Instant::now().checked_add(self.overload.pause(&bounds));
                caller.paused = again.map(|again| (asked.priority, again));
                ConnectionReuse::Again
            }
            then @ (ConnectionReuse::Close | ConnectionReuse::Disconnected) => then,
        }
    }

    /// Lets a request wait out the pause that one of its rank, or of a higher one, was given on its
    /// connection. Whatever is given up later than that goes ahead.
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

    /// Answers what never became a request; nothing follows.
    pub(super) async fn answer_last(
        &self,
        caller: &mut ClientConnection<'_>,
        refusal: &Refusal,
        head_only: bool,
    ) -> ConnectionReuse {
        let manner = WriteOptions {
            secure: self.acceptor.is_some(),
            keep: false,
            head_only,
            written: WriteTime::Now,
        };
        let wire = answer::encode(self.refuse(refusal), manner);
        self.write_last(caller, wire).await
    }

    async fn write_last(&self, caller: &mut ClientConnection<'_>, wire: Bytes) -> ConnectionReuse {
        let bounds = self.bounds();
        match self.write(caller, &[wire], &bounds).await {
            ConnectionReuse::Again | ConnectionReuse::Close => ConnectionReuse::Close,
            ConnectionReuse::Disconnected => ConnectionReuse::Disconnected,
        }
    }

    /// Ends a connection after its last answer: says so, and lets the client finish sending, within
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
            tracing::debug!("a client kept sending after its last answer");
        }
    }
}
