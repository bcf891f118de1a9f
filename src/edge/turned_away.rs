//! Requests that are refused before anybody answers them: what is not understood, and what there is
//! no room for. A refusal costs as little as can be: it is written beforehand where it can be.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use pingora_core::server::ShutdownWatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Refuse;
use super::answer::{self, Manner};
use super::body::{Lost, READ_BYTES, read_body};
use super::door::{Caller, Door, Then};
use super::head::{Framing, Sight};
use super::load::Shed;
use crate::api::rank::Rank;
use crate::domain::refusal::Refusal;

/// How long, and how much, a refused client may still send before its connection is closed: a
/// close with unread bytes takes the answer away from it.
const LINGER_WITHIN: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1 << 20;
/// Seconds that shed callers are told to stay away, in turn, so that they do not come back at once.
const SHED_RETRY_S: [u64; 4] = [1, 2, 3, 4];

/// Answers to shed requests, written beforehand: a refusal must cost next to nothing.
pub(super) struct Sheds {
    written: Vec<(Bytes, Bytes)>,
    next: AtomicUsize,
}

impl Sheds {
    pub(super) fn new(refuse: &Refuse, secure: bool) -> Self {
        let written = SHED_RETRY_S.map(|seconds| {
            let written = |keep| {
                let mut response = refuse(&Refusal::Unavailable);
                let seconds = HeaderValue::from(seconds);
                response.headers_mut().insert(RETRY_AFTER, seconds);
                let manner = Manner {
                    secure,
                    keep,
                    bodiless: false,
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

    fn next(&self, keep: bool) -> Bytes {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = turn.checked_rem(self.written.len()).unwrap_or(0);
        let Some((kept, closed)) = self.written.get(turn) else {
            return Bytes::new();
        };
        if keep { kept.clone() } else { closed.clone() }
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

    /// Refuses a request that was only looked at, and reads its body away.
    pub(super) async fn shed(
        &self,
        caller: &mut Caller,
        sight: &Sight,
        why: (Rank, Shed),
        (last, stopped): (bool, &mut ShutdownWatch),
    ) -> Then {
        let bounds = self.bounds();
        caller.read.advance(sight.bytes);
        if sight.waits_for_continue || sight.framing == Framing::Chunked {
            // What the client sends next is not known.
            self.count(why);
            let wire = self.sheds.next(false);
            return self.turn_away_with(caller, &wire).await;
        }
        let Caller { stream, read, .. } = &mut *caller;
        match read_body(stream, read, sight.framing, &bounds).await {
            Ok(_) => self.come_again(caller, why, (last, stopped)).await,
            Err(Lost::Gone) => Then::Gone,
            Err(Lost::Refused(refusal)) => self.turn_away(caller, &refusal).await,
        }
    }

    /// Tells a caller to come again, and hears it again only a moment later: one that comes back at
    /// once must not take the processor from those that are served.
    pub(super) async fn come_again(
        &self,
        caller: &mut Caller,
        why: (Rank, Shed),
        (last, stopped): (bool, &mut ShutdownWatch),
    ) -> Then {
        let bounds = self.bounds();
        self.count(why);
        let keep = !last && !*stopped.borrow();
        let wire = self.sheds.next(keep);
        match self.write(caller, &wire, &bounds).await {
            Then::Again if !keep => Then::Close,
            Then::Again => {
                let pause = self.load.pause(&bounds);
                let _ = timeout(pause, stopped.wait_for(|stop| *stop)).await;
                Then::Again
            }
            then @ (Then::Close | Then::Gone) => then,
        }
    }

    fn count(&self, (rank, why): (Rank, Shed)) {
        self.metrics.refusal(Refusal::Unavailable.code());
        self.metrics.front.shed(rank.word(), why.word());
    }

    /// Answers what never became a request and closes, after letting the client finish sending.
    pub(super) async fn turn_away(&self, caller: &mut Caller, refusal: &Refusal) -> Then {
        let manner = Manner {
            secure: self.acceptor.is_some(),
            keep: false,
            bodiless: false,
        };
        let wire = answer::encode(self.refuse(refusal), manner);
        self.turn_away_with(caller, &wire).await
    }

    async fn turn_away_with(&self, caller: &mut Caller, wire: &[u8]) -> Then {
        let bounds = self.bounds();
        if self.write(caller, wire, &bounds).await == Then::Gone {
            return Then::Gone;
        }
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
            tracing::debug!("a refused client kept sending");
        }
        Then::Gone
    }
}
