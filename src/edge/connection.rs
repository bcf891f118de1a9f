//! One connection after its handshake: reads a request, passes it on, writes the response.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::answer::{self, WriteOptions, WriteTime};
use super::body::{READ_BYTES, ReadFailure, read_body};
use super::handshakes::Handshakes;
use super::head::{self, Framing, RequestHead};
use super::hello::FIRST_BYTES;
use super::known_addresses::KnownAddresses;
use super::overload::{self, InFlight, Overload};
use super::places::{ConnectionPlace, Places};
use super::rejection::{RejectedRequest, Rejections};
use super::{Bounds, ConnectionProof, EdgeResponse, EnrolmentCheck, Refuse, Responder};
use crate::api::priority::Priority;
use crate::api::{EndpointMatch, Peer};
use crate::domain::refusal::Refusal;
use crate::limits::bound::Bound;
use crate::metrics::Metrics;

/// Of the requests of an authenticated connection, one in so many renews its known address.
const REMEMBER_ADDRESS_EVERY: u32 = 256;

/// One listener's connections.
pub(super) struct ListenerConnections {
    pub(super) acceptor: Option<Acceptor>,
    pub(super) responder: Responder,
    pub(super) bounds: Arc<ArcSwap<Bounds>>,
    pub(super) refuse: Refuse,
    pub(super) metrics: Arc<Metrics>,
    pub(super) places: Places,
    pub(super) overload: Arc<Overload>,
    /// The connections that are open.
    pub(super) open: Arc<Bound>,
    pub(super) handshakes: Arc<Handshakes>,
    pub(super) known: KnownAddresses,
    pub(super) enrolled: EnrolmentCheck,
    pub(super) rejections: Rejections,
}

/// A connection, and what was read from it and not yet consumed.
pub(super) struct ClientConnection<'a> {
    pub(super) stream: Stream,
    pub(super) read: BytesMut,
    pub(super) peer: Peer,
    pub(super) place: &'a ConnectionPlace<'a>,
    /// It has proven something: it is not closed to make room for others.
    pub(super) is_proven: bool,
    /// Requests so far.
    pub(super) requests: u32,
    /// Of the last requests in a row, those sent before the response to the one before.
    pub(super) ahead: u32,
    /// Requests up to this priority are not read before then, because one was rejected.
    pub(super) paused: Option<(Priority, Instant)>,
}

/// Changes to `true` when it is time to stop.
pub(super) type StopReceiver = watch::Receiver<bool>;

/// What happens to a connection after a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionReuse {
    /// It carries another request.
    Again,
    /// It is closed in order.
    Close,
    /// The client has disconnected.
    Disconnected,
}

impl ListenerConnections {
    /// The bounds in force. Copied, so that no guard is held across an await.
    pub(super) fn bounds(&self) -> Bounds {
        let mut bounds = **self.bounds.load();
        bounds.connections_max = bounds.held_max(self.acceptor.is_some());
        bounds
    }

    /// Waits for a request, then answers it.
    pub(super) async fn exchange(
        &self,
        caller: &mut ClientConnection<'_>,
        stopped: &mut StopReceiver,
    ) -> ConnectionReuse {
        let mut line_end = head::LineEnd::default();
        caller.ahead = if line_end.is_all(&mut caller.read) {
            0
        } else {
            caller.ahead.saturating_add(1)
        };
        while line_end.is_all(&mut caller.read) {
            match self.first_bytes(caller, stopped).await {
                ConnectionReuse::Again => (),
                then @ (ConnectionReuse::Close | ConnectionReuse::Disconnected) => return then,
            }
        }
        Box::pin(self.answer(caller, stopped)).await
    }

    /// Waits for the first bytes of a request, with hardly any memory used meanwhile.
    async fn first_bytes(
        &self,
        caller: &mut ClientConnection<'_>,
        stopped: &mut StopReceiver,
    ) -> ConnectionReuse {
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
                    ConnectionReuse::Again
                }
                Ok(Ok(0) | Err(_)) => ConnectionReuse::Disconnected,
                Err(_) => ConnectionReuse::Close,
            },
            _ = stopped.wait_for(|stop| *stop) => ConnectionReuse::Close,
        }
    }

    /// One request, whose first bytes have arrived, and its response.
    async fn answer(
        &self,
        caller: &mut ClientConnection<'_>,
        stopped: &mut StopReceiver,
    ) -> ConnectionReuse {
        let bounds = self.bounds();
        let head = match self.read_head(caller, &bounds).await {
            Ok(head) => head,
            Err(ReadFailure::Disconnected) => return ConnectionReuse::Disconnected,
            Err(ReadFailure::Refused(refusal)) => {
                let head_only = caller.read.starts_with(b"HEAD ");
                return self.answer_last(caller, &refusal, head_only).await;
            }
        };
        caller.requests = caller.requests.saturating_add(1);
        let last = head.closes
            || caller.requests >= bounds.requests_per_connection_max
            || caller.ahead > bounds.pipelined_max;
        let method = head.method(&caller.read);
        let head_only = method == Method::HEAD.as_str().as_bytes();
        let matched = EndpointMatch::find(method, head.path(&caller.read));
        let priority = matched.priority();
        let rejected = RejectedRequest {
            priority,
            last,
            head_only,
        };
        self.wait_out(caller, priority, stopped).await;
        let who = self.who(caller);
        if let Err(why) = self.overload.check(priority, who, &bounds) {
            return self.reject(caller, &head, rejected, why, stopped).await;
        }
        let request = match self.read_request(caller, &head, &bounds).await {
            Ok(request) => request,
            Err(ReadFailure::Disconnected) => return ConnectionReuse::Disconnected,
            Err(ReadFailure::Refused(refusal)) => {
                return self.answer_last(caller, &refusal, head_only).await;
            }
        };
        let permit = match self.overload.enter(priority, who, &bounds).await {
            Ok(permit) => permit,
            Err(why) => return self.ask_to_retry(caller, rejected, why, stopped).await,
        };
        let response = self.respond(request, matched, caller, permit).await;
        let options = WriteOptions {
            secure: self.acceptor.is_some(),
            keep: !last && !*stopped.borrow(),
            head_only,
            written: WriteTime::Now,
        };
        let wire = answer::pieces(response, options);
        // Before it is written: a client that does not read is waiting for nothing.
        if !caller.is_proven {
            caller.place.waits();
        }
        match self.write(caller, &wire, &bounds).await {
            ConnectionReuse::Again if !options.keep => ConnectionReuse::Close,
            then @ (ConnectionReuse::Again
            | ConnectionReuse::Close
            | ConnectionReuse::Disconnected) => then,
        }
    }

    /// What is known of a caller before its signature is verified.
    fn who(&self, caller: &ClientConnection<'_>) -> overload::Caller {
        if caller.is_proven || self.known.knows(caller.peer.address) {
            overload::Caller::Proven
        } else {
            overload::Caller::Unauthenticated
        }
    }

    /// Reads until the head is whole, and leaves it in the buffer.
    async fn read_head(
        &self,
        caller: &mut ClientConnection<'_>,
        bounds: &Bounds,
    ) -> Result<RequestHead, ReadFailure> {
        let ClientConnection { stream, read, .. } = caller;
        let head = timeout(bounds.head_within, self.finish_head(stream, read, bounds)).await;
        head.unwrap_or_else(|_| {
            self.metrics.front.connection_cut("head_slow");
            Err(ReadFailure::Refused(Refusal::TooSlow))
        })
    }

    async fn finish_head(
        &self,
        stream: &mut Stream,
        read: &mut BytesMut,
        bounds: &Bounds,
    ) -> Result<RequestHead, ReadFailure> {
        let mut looked_at = 0;
        loop {
            let end = head::end(read, looked_at);
            if end.unwrap_or(read.len()) > bounds.header_bytes_max {
                return Err(ReadFailure::Refused(Refusal::HeadTooLarge));
            }
            if let Some(end) = end {
                let head = read.get(..end).unwrap_or_default();
                let secure = self.acceptor.is_some();
                let head = head::inspect(head, bounds.header_lines_max, secure);
                let head = head.map_err(ReadFailure::Refused)?;
                return match head.framing {
                    Framing::Length(length) if length > bounds.body_bytes_max => {
                        Err(ReadFailure::Refused(Refusal::BodyTooLarge {
                            bytes_max: bounds.body_bytes_max,
                        }))
                    }
                    Framing::Length(_) | Framing::Chunked => Ok(head),
                };
            }
            looked_at = read.len();
            read.reserve(READ_BYTES);
            if !matches!(stream.read_buf(read).await, Ok(1..)) {
                return Err(ReadFailure::Disconnected);
            }
        }
    }

    /// Parses the head that was inspected, and reads the body.
    async fn read_request(
        &self,
        caller: &mut ClientConnection<'_>,
        head: &RequestHead,
        bounds: &Bounds,
    ) -> Result<Request<Bytes>, ReadFailure> {
        let ClientConnection { stream, read, .. } = caller;
        let bytes = read.split_to(head.bytes).freeze();
        let mut request = head.request(&bytes).map_err(ReadFailure::Refused)?;
        let unsent = read.is_empty() && head.framing != Framing::Length(0);
        if head.waits_for_continue && unsent {
            let interim = async {
                stream.write_all(answer::CONTINUE).await?;
                stream.flush().await
            };
            if !matches!(timeout(bounds.write_within, interim).await, Ok(Ok(()))) {
                return Err(ReadFailure::Disconnected);
            }
        }
        let body = read_body(stream, read, head.framing, bounds).await;
        if matches!(body, Err(ReadFailure::Refused(Refusal::TooSlow))) {
            self.metrics.front.connection_cut("body_slow");
        }
        *request.body_mut() = body?;
        Ok(request)
    }

    /// Runs the responder as a task of its own: neither a client that disconnects nor the end of its
    /// connection interrupts an order in progress.
    async fn respond(
        &self,
        request: Request<Bytes>,
        matched: EndpointMatch,
        caller: &mut ClientConnection<'_>,
        permit: InFlight,
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
                metrics.front.load_shed(matched.priority().word(), "late");
                return None;
            }
            let _counted = metrics.in_flight();
            Some(responder(request, peer, matched).await)
        });
        match answered.await {
            Ok(Some(EdgeResponse { response, proof })) => {
                self.learn(caller, proof);
                response
            }
            Ok(None) => self.refuse(&Refusal::Unavailable),
            Err(error) => {
                tracing::error!(%error, "a request ended without an answer");
                self.refuse(&Refusal::OutcomeUnknown)
            }
        }
    }

    /// Remembers what the request proved of its caller.
    fn learn(&self, caller: &mut ClientConnection<'_>, proven: Option<ConnectionProof>) {
        let Some(proven) = proven else {
            return;
        };
        if !caller.is_proven {
            caller.is_proven = caller.place.has_proven(proven, &self.bounds());
        } else if !caller
            .requests
            .saturating_sub(1)
            .is_multiple_of(REMEMBER_ADDRESS_EVERY)
        {
            return;
        }
        match proven {
            ConnectionProof::Party => self.known.remember(caller.peer.address),
            // Many payers share the address of a mobile network.
            ConnectionProof::Payer(_) => (),
        }
    }

    pub(super) async fn write(
        &self,
        caller: &mut ClientConnection<'_>,
        pieces: &[Bytes],
        bounds: &Bounds,
    ) -> ConnectionReuse {
        let written = async {
            for piece in pieces {
                caller.stream.write_all(piece).await?;
            }
            caller.stream.flush().await
        };
        match timeout(bounds.write_within, written).await {
            Ok(Ok(())) => ConnectionReuse::Again,
            Ok(Err(_)) => ConnectionReuse::Disconnected,
            Err(_) => {
                self.metrics.front.connection_cut("reader_slow");
                ConnectionReuse::Disconnected
            }
        }
    }
}
