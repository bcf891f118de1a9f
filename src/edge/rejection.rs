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
use super::answer::{self, Manner, Written};
use super::body::{Lost, READ_BYTES, read_body};
use super::door::{Caller, Door, Stopped, Then};
use super::head::{self, Framing, Sight};
use super::overload::Cause;
use crate::api::rank::Rank;
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
    pub(super) rank: Rank,
    /// Nothing follows it on its connection.
    pub(super) last: bool,
    /// It was `HEAD`.
    pub(super) bodiless: bool,
}

impl Rejections {
    pub(super) fn new(refuse: &Refuse, secure: bool) -> Self {
        let written = RETRY_AFTER_S.map(|seconds| {
            let written = |keep| {
                let mut response = refuse(&Refusal::Unavailable);
                let seconds = HeaderValue::from(seconds);
                response.headers_mut().insert(RETRY_AFTER, seconds);
                let manner = Manner {
                    secure,
                    keep,
                    bodiless: false,
                    written: Written::Beforehand,
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

    fn next(&self, keep: bool, bodiless: bool) -> Bytes {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let next = next.checked_rem(self.written.len()).unwrap_or(0);
        let Some((kept, closed)) = self.written.get(next) else {
            return Bytes::new();
        };
        let mut wire = if keep { kept.clone() } else { closed.clone() };
        if bodiless {
            wire.truncate(head::end(&wire, 0).unwrap_or(0));
        }
        wire
    }
}

impl Door {
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
        caller: &mut Caller<'_>,
        sight: &Sight,
        (asked, why): (Asked, Cause),
        stopped: &Stopped,
    ) -> Then {
        let bounds = self.bounds();
        caller.read.advance(sight.bytes);
        if sight.waits_for_continue || sight.framing == Framing::Chunked {
            // What the client sends next is not known.
            self.count(asked.rank, why);
            let wire = self.rejections.next(false, asked.bodiless);
            return self.write_last(caller, wire).await;
        }
        let Caller { stream, read, .. } = &mut *caller;
        match read_body(stream, read, sight.framing, &bounds).await {
            Ok(_) => self.come_again(caller, (asked, why), stopped).await,
            Err(Lost::Gone) => Then::Gone,
            Err(Lost::Refused(refusal)) => self.answer_last(caller, &refusal, asked.bodiless).await,
        }
    }

    /// Tells a caller to come again, and reads such a request of its again only a moment later:
    /// one that comes back at once must not take the processor from those that are served.
    pub(super) async fn come_again(
        &self,
        caller: &mut Caller<'_>,
        (asked, why): (Asked, Cause),
        stopped: &Stopped,
    ) -> Then {
        let bounds = self.bounds();
        self.count(asked.rank, why);
        let keep = !asked.last && !*stopped.borrow();
        let wire = self.rejections.next(keep, asked.bodiless);
        match self.write(caller, &[wire], &bounds).await {
            Then::Again if !keep => Then::Close,
            Then::Again => {
                let again = Instant::now().checked_add(self.overload.pause(&bounds));
                caller.paused = again.map(|again| (asked.rank, again));
                Then::Again
            }
            then @ (Then::Close | Then::Gone) => then,
        }
    }

    /// Lets a request wait out the pause that one of its rank, or of a higher one, was given on its
    /// connection. Whatever is given up later than that goes ahead.
    pub(super) async fn wait_out(
        &self,
        caller: &mut Caller<'_>,
        rank: Rank,
        stopped: &mut Stopped,
    ) {
        if let Some((paused, again)) = caller.paused
            && rank <= paused
        {
            caller.paused = None;
            let _ = timeout_at(again, stopped.wait_for(|stop| *stop)).await;
        }
    }

    fn count(&self, rank: Rank, why: Cause) {
        self.metrics.refusal(Refusal::Unavailable.code());
        self.metrics.front.load_shed(rank.word(), why.word());
    }

    /// Answers what never became a request; nothing follows.
    pub(super) async fn answer_last(
        &self,
        caller: &mut Caller<'_>,
        refusal: &Refusal,
        bodiless: bool,
    ) -> Then {
        let manner = Manner {
            secure: self.acceptor.is_some(),
            keep: false,
            bodiless,
            written: Written::Now,
        };
        let wire = answer::encode(self.refuse(refusal), manner);
        self.write_last(caller, wire).await
    }

    async fn write_last(&self, caller: &mut Caller<'_>, wire: Bytes) -> Then {
        let bounds = self.bounds();
        match self.write(caller, &[wire], &bounds).await {
            Then::Again | Then::Close => Then::Close,
            Then::Gone => Then::Gone,
        }
    }

    /// Ends a connection after its last answer: says so, and lets the client finish sending, within
    /// bounds.
    pub(super) async fn close(&self, caller: &mut Caller<'_>) {
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
