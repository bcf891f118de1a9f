//! One connection that is secured: reads a request, hands it over, writes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::answer::{self, Manner, Written};
use super::body::{Lost, READ_BYTES, read_body};
use super::handshakes::Handshakes;
use super::head::{self, Framing, Sight};
use super::hello::FIRST_BYTES;
use super::known::Known;
use super::overload::{self, InFlight, Overload};
use super::places::{Place, Places};
use super::rejection::{Asked, Rejections};
use super::{Bounds, Enrolled, Proven, Refuse, Responder};
use crate::api::Peer;
use crate::api::rank::Rank;
use crate::domain::refusal::Refusal;
use crate::limits::bound::Bound;
use crate::metrics::Metrics;

/// Of the requests of a connection that has proven something, one of so many is remembered.
const REMEMBERED_EVERY: u32 = 256;

/// One listener's connections.
pub(super) struct Door {
    pub(super) acceptor: Option<Acceptor>,
    pub(super) responder: Responder,
    pub(super) bounds: Arc<ArcSwap<Bounds>>,
    pub(super) refuse: Refuse,
    pub(super) metrics: Arc<Metrics>,
    pub(super) places: Places,
    pub(super) overload: Arc<Overload>,
    /// The connections that stand.
    pub(super) open: Arc<Bound>,
    pub(super) handshakes: Arc<Handshakes>,
    pub(super) known: Known,
    pub(super) enrolled: Enrolled,
    pub(super) rejections: Rejections,
}

/// A connection, and what was read from it and not yet used.
pub(super) struct Caller<'a> {
    pub(super) stream: Stream,
    pub(super) read: BytesMut,
    pub(super) peer: Peer,
    pub(super) place: &'a Place<'a>,
    /// The place is its own: it has proven something.
    pub(super) is_proven: bool,
    /// Requests so far.
    pub(super) requests: u32,
    /// Of the last ones, those that were sent before the answer to the one before was there.
    pub(super) ahead: u32,
    /// Requests up to this rank are not read before then: one of it was rejected.
    pub(super) paused: Option<(Rank, Instant)>,
}

/// Told when it is time to stop.
pub(super) type Stopped = watch::Receiver<bool>;

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It carries another request.
    Again,
    /// It is closed properly.
    Close,
    /// Nobody is there.
    Gone,
}

impl Door {
    /// The bounds in force. Copied, so that none is held while something is waited for.
    pub(super) fn bounds(&self) -> Bounds {
        let mut bounds = **self.bounds.load();
        if self.acceptor.is_none() {
            bounds.connections_max = bounds.operations_connections_max;
        }
        bounds
    }

    /// Waits for a request, then answers it.
    pub(super) async fn exchange(&self, caller: &mut Caller<'_>, stopped: &mut Stopped) -> Then {
        let mut line_end = head::LineEnd::default();
        caller.ahead = if line_end.is_all(&mut caller.read) {
            0
        } else {
            caller.ahead.saturating_add(1)
        };
        while line_end.is_all(&mut caller.read) {
            match self.first_bytes(caller, stopped).await {
                Then::Again => (),
                then @ (Then::Close | Then::Gone) => return then,
            }
        }
        Box::pin(self.answer(caller, stopped)).await
    }

    /// Waits for the first bytes of a request, with hardly any room taken meanwhile.
    async fn first_bytes(&self, caller: &mut Caller<'_>, stopped: &mut Stopped) -> Then {
        let idle_within = self.bounds.load().idle_within;
        if caller.read.is_empty() {
            caller.read = BytesMut::new();
        }
        let mut first = [0; FIRST_BYTES];
        tokio::select! {
            biased;
            read = timeout(idle_within, caller.stream.read(&mut first)) => match read {
                Ok(Ok(count @ 1..)) => {
                    caller.read.reserve(READ_BYTES);
                    caller.read.extend_from_slice(first.get(..count).unwrap_or_default());
                    Then::Again
                }
                Ok(Ok(0) | Err(_)) => Then::Gone,
                Err(_) => Then::Close,
            },
            _ = stopped.wait_for(|stop| *stop) => Then::Close,
        }
    }

    /// One request, whose first bytes are there, and its answer.
    async fn answer(&self, caller: &mut Caller<'_>, stopped: &mut Stopped) -> Then {
        let bounds = self.bounds();
        let sight = match self.read_head(caller, &bounds).await {
            Ok(sight) => sight,
            Err(Lost::Gone) => return Then::Gone,
            Err(Lost::Refused(refusal)) => {
                let bodiless = caller.read.starts_with(b"HEAD ");
                return self.answer_last(caller, &refusal, bodiless).await;
            }
        };
        caller.requests = caller.requests.saturating_add(1);
        let last = sight.closes
            || caller.requests >= bounds.requests_per_connection_max
            || caller.ahead > bounds.pipelined_max;
        let method = sight.method(&caller.read);
        let bodiless = method == Method::HEAD.as_str().as_bytes();
        let rank = Rank::of(method, sight.path(&caller.read));
        let asked = Asked {
            rank,
            last,
            bodiless,
        };
        self.wait_out(caller, rank, stopped).await;
        let who = self.who(caller);
        if let Err(why) = self.overload.check(rank, who, &bounds) {
            return self.reject(caller, &sight, (asked, why), stopped).await;
        }
        let request = match self.read_request(caller, &sight, &bounds).await {
            Ok(request) => request,
            Err(Lost::Gone) => return Then::Gone,
            Err(Lost::Refused(refusal)) => {
                return self.answer_last(caller, &refusal, bodiless).await;
            }
        };
        let permit = match self.overload.enter(rank, who, &bounds).await {
            Ok(permit) => permit,
            Err(why) => return self.come_again(caller, (asked, why), stopped).await,
        };
        let response = self.hand_over(request, caller, (rank, permit)).await;
        let manner = Manner {
            secure: self.acceptor.is_some(),
            keep: !last && !*stopped.borrow(),
            bodiless,
            written: Written::Now,
        };
        let wire = answer::pieces(response, manner);
        // Not after it is written: who does not read waits for nothing.
        if !caller.is_proven {
            caller.place.waits();
        }
        match self.write(caller, &wire, &bounds).await {
            Then::Again if !manner.keep => Then::Close,
            then @ (Then::Again | Then::Close | Then::Gone) => then,
        }
    }

    /// What is known of a caller before its signature is read.
    fn who(&self, caller: &Caller<'_>) -> overload::Caller {
        if caller.is_proven || self.known.knows(caller.peer.address) {
            overload::Caller::Proven
        } else {
            overload::Caller::Unauthenticated
        }
    }

    /// Reads until the head is whole. It stays where it was read.
    async fn read_head(&self, caller: &mut Caller<'_>, bounds: &Bounds) -> Result<Sight, Lost> {
        let Caller { stream, read, .. } = caller;
        let head = timeout(bounds.head_within, self.finish_head(stream, read, bounds)).await;
        head.unwrap_or_else(|_| {
            self.metrics.front.connection_cut("head_slow");
            Err(Lost::Refused(Refusal::TooSlow))
        })
    }

    async fn finish_head(
        &self,
        stream: &mut Stream,
        read: &mut BytesMut,
        bounds: &Bounds,
    ) -> Result<Sight, Lost> {
        let mut looked_at = 0;
        loop {
            let end = head::end(read, looked_at);
            if end.unwrap_or(read.len()) > bounds.header_bytes_max {
                return Err(Lost::Refused(Refusal::HeadTooLarge));
            }
            if let Some(end) = end {
                let head = read.get(..end).unwrap_or_default();
                let secure = self.acceptor.is_some();
                let sight = head::inspect(head, bounds.header_lines_max, secure);
                let sight = sight.map_err(Lost::Refused)?;
                return match sight.framing {
                    Framing::Length(length) if length > bounds.body_bytes_max => {
                        Err(Lost::Refused(Refusal::BodyTooLarge {
                            bytes_max: bounds.body_bytes_max,
                        }))
                    }
                    Framing::Length(_) | Framing::Chunked => Ok(sight),
                };
            }
            looked_at = read.len();
            read.reserve(READ_BYTES);
            if !matches!(stream.read_buf(read).await, Ok(1..)) {
                return Err(Lost::Gone);
            }
        }
    }

    /// Takes the head that was looked at apart and reads the body.
    async fn read_request(
        &self,
        caller: &mut Caller<'_>,
        sight: &Sight,
        bounds: &Bounds,
    ) -> Result<Request<Bytes>, Lost> {
        let Caller { stream, read, .. } = caller;
        let head = read.split_to(sight.bytes).freeze();
        let mut request = sight.request(&head).map_err(Lost::Refused)?;
        let unsent = read.is_empty() && sight.framing != Framing::Length(0);
        if sight.waits_for_continue && unsent {
            let asked = async {
                stream.write_all(answer::CONTINUE).await?;
                stream.flush().await
            };
            if !matches!(timeout(bounds.write_within, asked).await, Ok(Ok(()))) {
                return Err(Lost::Gone);
            }
        }
        let body = read_body(stream, read, sight.framing, bounds).await;
        if matches!(body, Err(Lost::Refused(Refusal::TooSlow))) {
            self.metrics.front.connection_cut("body_slow");
        }
        *request.body_mut() = body?;
        Ok(request)
    }

    /// Gives the request to whoever answers, as a task of its own: neither a client that hangs up
    /// nor the end of its connection cuts an order in progress off.
    async fn hand_over(
        &self,
        request: Request<Bytes>,
        caller: &mut Caller<'_>,
        (rank, permit): (Rank, InFlight),
    ) -> Response<Bytes> {
        if !caller.is_proven {
            caller.place.is_answered(&self.bounds());
        }
        let (began, peer) = (Instant::now(), caller.peer);
        let responder = Arc::clone(&self.responder);
        let metrics = Arc::clone(&self.metrics);
        let start_within = self.bounds.load().start_within;
        let answered = tokio::spawn(async move {
            let _permit = permit;
            // Dropped before it has an effect, never after (Q9).
            if began.elapsed() > start_within {
                metrics.front.load_shed(rank.word(), "late");
                return None;
            }
            let _counted = metrics.in_flight();
            Some(responder(request, peer).await)
        });
        match answered.await {
            Ok(Some(response)) => {
                self.learn(caller, response.extensions().get());
                response
            }
            Ok(None) => self.refuse(&Refusal::Unavailable),
            Err(error) => {
                tracing::error!(%error, "a request ended without an answer");
                self.refuse(&Refusal::OutcomeUnknown)
            }
        }
    }

    /// What its answer says of who asked.
    fn learn(&self, caller: &mut Caller<'_>, proven: Option<&Proven>) {
        let Some(proven) = proven else {
            return;
        };
        if !caller.is_proven {
            caller.is_proven = caller.place.has_proven(*proven, &self.bounds());
        } else if !caller
            .requests
            .saturating_sub(1)
            .is_multiple_of(REMEMBERED_EVERY)
        {
            return;
        }
        match proven {
            Proven::Party => self.known.remember(caller.peer.address),
            // Many share the address of a mobile network.
            Proven::Payer(_) => (),
        }
    }

    pub(super) async fn write(
        &self,
        caller: &mut Caller<'_>,
        pieces: &[Bytes],
        bounds: &Bounds,
    ) -> Then {
        let written = async {
            for piece in pieces {
                caller.stream.write_all(piece).await?;
            }
            caller.stream.flush().await
        };
        match timeout(bounds.write_within, written).await {
            Ok(Ok(())) => Then::Again,
            Ok(Err(_)) => Then::Gone,
            Err(_) => {
                self.metrics.front.connection_cut("reader_slow");
                Then::Gone
            }
        }
    }
}
