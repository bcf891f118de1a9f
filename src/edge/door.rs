//! One connection from its handshake to its end: reads a request, hands it over, writes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, RETRY_AFTER, STRICT_TRANSPORT_SECURITY};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use pingora_core::apps::ServerApp;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use pingora_core::protocols::{Ssl, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::head::{self, Head};
use super::places::Places;
use super::{Bounds, Refuse, Responder};
use crate::api::Peer;
use crate::domain::refusal::Refusal;
use crate::metrics::Metrics;

/// Room a read asks for; most requests come whole in one.
const READ_BYTES: usize = 4096;
/// How long, and how much, a refused client may still send before its connection is closed: a
/// close with unread bytes takes the answer away from it.
const LINGER_WITHIN: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1 << 20;
/// Two years, as browsers' preload lists ask.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000");

/// One listener's connections.
pub(super) struct Door {
    pub(super) acceptor: Option<Acceptor>,
    pub(super) responder: Responder,
    pub(super) bounds: Bounds,
    pub(super) refuse: Refuse,
    pub(super) metrics: Arc<Metrics>,
    pub(super) places: Arc<Places>,
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        stopped: &ShutdownWatch,
    ) -> Option<Stream> {
        let address = stream
            .get_socket_digest()?
            .peer_addr()?
            .as_inet()?
            .ip()
            .to_canonical();
        // Past the bounds it is closed before it costs a handshake.
        let _place = self.places.connection(address)?;
        let mut stopped = stopped.clone();
        let (stream, certificate) = tokio::select! {
            secured = timeout(self.bounds.head_within, self.secure(stream)) => secured.ok()??,
            _ = stopped.wait_for(|stop| *stop) => return None,
        };
        let peer = Peer {
            address,
            certificate,
        };
        let mut next = Some((stream, BytesMut::new()));
        while let Some((stream, read)) = next {
            next = self.exchange(stream, read, peer, &mut stopped).await;
        }
        None
    }
}

impl Door {
    /// Finishes TLS and takes the client certificate's digest, once for all requests to come.
    async fn secure(&self, stream: Stream) -> Option<(Stream, Option<[u8; 32]>)> {
        let Some(acceptor) = &self.acceptor else {
            return Some((stream, None));
        };
        let tcp = stream.into_any().downcast::<TcpStream>().ok()?;
        let tls = match acceptor.tls_handshake(*tcp).await {
            Ok(tls) => tls,
            Err(error) => {
                tracing::debug!(%error, "handshake failed");
                return None;
            }
        };
        let certificate = tls
            .get_ssl()
            .and_then(|tls| tls.peer_certificate_der())
            .and_then(|leaf| {
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
                digest.as_ref().try_into().ok()
            });
        Some((Box::new(tls), certificate))
    }

    /// One request and its answer. The connection comes back with what was read beyond the
    /// request, if it may carry another.
    async fn exchange(
        &self,
        mut stream: Stream,
        mut read: BytesMut,
        peer: Peer,
        stopped: &mut ShutdownWatch,
    ) -> Option<(Stream, BytesMut)> {
        let bounds = &self.bounds;
        let head = match self.read_head(&mut stream, &mut read, stopped).await {
            Ok(head) => head,
            Err(None) => return None,
            Err(Some(refusal)) => {
                return self.turn_away(HttpSession::new(stream), &refusal).await;
            }
        };
        let mut session = HttpSession::new(stream);
        session.set_read_timeout(None);
        session.set_pipelining_enabled(true);
        // It would count `100 Continue` as an answer before the end; we answer only after it.
        session.set_close_on_response_before_downstream_finish(false);
        session.set_pipelined_prefix(read);
        let request =
            match timeout(bounds.body_within, read_request(&mut session, head, bounds)).await {
                Ok(Ok(request)) => request,
                Ok(Err(refusal)) => return self.turn_away(session, &refusal).await,
                Err(_) => return self.turn_away(session, &Refusal::TooSlow).await,
            };
        let bodiless = request.method() == Method::HEAD;
        let response = self.hand_over(request, peer).await;
        if *stopped.borrow() {
            session.set_server_keepalive(None);
        }
        timeout(
            bounds.write_within,
            self.write(&mut session, response, bodiless),
        )
        .await
        .ok()??;
        // A client that takes nothing more must not keep its place while the connection closes.
        let kept = timeout(bounds.write_within, session.reuse()).await.ok()?;
        let (stream, more) = kept.ok()??.into_parts();
        Some((stream, more.unwrap_or_default()))
    }

    /// Reads until the head is whole. `Err(None)` if nobody waits for an answer.
    async fn read_head(
        &self,
        stream: &mut Stream,
        read: &mut BytesMut,
        stopped: &mut ShutdownWatch,
    ) -> Result<Head, Option<Refusal>> {
        let bounds = &self.bounds;
        if read.is_empty() {
            read.reserve(READ_BYTES);
            tokio::select! {
                biased;
                first = timeout(bounds.idle_within, stream.read_buf(read)) => match first {
                    Ok(Ok(1..)) => (),
                    Ok(Ok(0) | Err(_)) | Err(_) => return Err(None),
                },
                _ = stopped.wait_for(|stop| *stop) => return Err(None),
            }
        }
        match timeout(bounds.head_within, self.finish_head(stream, read)).await {
            Ok(head) => head,
            Err(_) => Err(Some(Refusal::TooSlow)),
        }
    }

    async fn finish_head(
        &self,
        stream: &mut Stream,
        read: &mut BytesMut,
    ) -> Result<Head, Option<Refusal>> {
        let bounds = &self.bounds;
        let mut looked_at = 0;
        loop {
            // RFC 9112, 2.2: some clients end a body with one line end too many.
            while read.starts_with(b"\r\n") {
                read.advance(2);
            }
            let end = head::end(read, looked_at);
            if end.unwrap_or(read.len()) > bounds.header_bytes_max {
                return Err(Some(Refusal::HeadTooLarge));
            }
            if let Some(end) = end {
                let head = read.get(..end).unwrap_or_default();
                let head = head::inspect(head, bounds.header_lines_max).map_err(Some)?;
                return match head.length {
                    Some(length) if length > bounds.body_bytes_max => Err(Some(too_large(bounds))),
                    Some(_) | None => Ok(head),
                };
            }
            looked_at = read.len();
            read.reserve(READ_BYTES);
            if !matches!(stream.read_buf(read).await, Ok(1..)) {
                return Err(None);
            }
        }
    }

    /// Gives the request to whoever answers, unless too many are on their way already.
    async fn hand_over(&self, request: Request<Bytes>, peer: Peer) -> Response<Bytes> {
        let Some(permit) = self.places.request() else {
            return self.refuse(&Refusal::Unavailable);
        };
        let responder = Arc::clone(&self.responder);
        let metrics = Arc::clone(&self.metrics);
        let answered = tokio::spawn(async move {
            let _permit = permit;
            let _counted = metrics.in_flight();
            responder(request, peer).await
        });
        match answered.await {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(%error, "a request ended without an answer");
                self.refuse(&Refusal::OutcomeUnknown)
            }
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Response<Bytes> {
        self.metrics.refusal(refusal.code());
        let mut response = (self.refuse)(refusal);
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            let soon = HeaderValue::from_static("1");
            response.headers_mut().entry(RETRY_AFTER).or_insert(soon);
        }
        response
    }

    /// Answers what never became a request and closes, after letting the client finish sending.
    async fn turn_away(
        &self,
        mut session: HttpSession,
        refusal: &Refusal,
    ) -> Option<(Stream, BytesMut)> {
        session.set_server_keepalive(None);
        let response = self.refuse(refusal);
        let written = self.write(&mut session, response, false);
        timeout(self.bounds.write_within, written).await.ok()??;
        let mut stream = session.into_inner();
        let lingering = async {
            AsyncWriteExt::shutdown(&mut stream).await?;
            let mut rest = vec![0; READ_BYTES];
            let mut left = LINGER_BYTES_MAX;
            while left > 0 {
                match stream.read(&mut rest).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            std::io::Result::Ok(())
        };
        if !matches!(timeout(LINGER_WITHIN, lingering).await, Ok(Ok(()))) {
            tracing::debug!("a refused client kept sending");
        }
        None
    }

    async fn write(
        &self,
        session: &mut HttpSession,
        response: Response<Bytes>,
        bodiless: bool,
    ) -> Option<()> {
        let (mut parts, body) = response.into_parts();
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        if self.acceptor.is_some() {
            parts.headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
        }
        session
            .write_response_header(Box::new(parts.into()))
            .await
            .ok()?;
        if !body.is_empty() && !bodiless {
            session.write_body(&body).await.ok()?;
        }
        session.finish_body().await.ok()?;
        Some(())
    }
}

fn too_large(bounds: &Bounds) -> Refusal {
    Refusal::BodyTooLarge {
        bytes_max: bounds.body_bytes_max,
    }
}

/// Lets pingora parse the head that was looked at, then reads the body, at most to the bound.
async fn read_request(
    session: &mut HttpSession,
    head: Head,
    bounds: &Bounds,
) -> Result<Request<Bytes>, Refusal> {
    let cut = |_| Refusal::BodyUnreadable("the request is not readable as HTTP/1.1");
    if session.read_request().await.map_err(cut)?.is_none() {
        return Err(Refusal::BodyUnreadable("the request was cut off"));
    }
    if head.waits_for_continue && !session.is_body_done() {
        session.write_continue_response().await.map_err(cut)?;
    }
    let mut body = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(piece) = session.read_body_bytes().await.map_err(cut)? {
        let length = body.len().max(joined.len()).saturating_add(piece.len());
        if length > bounds.body_bytes_max {
            return Err(too_large(bounds));
        }
        if body.is_empty() && joined.is_empty() {
            body = piece;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut body));
            joined.extend_from_slice(&piece);
        }
    }
    if !joined.is_empty() {
        body = joined.freeze();
    }
    let mut parts = session.req_header().as_owned_parts();
    // Whatever form the target had, what lies behind the edge sees path and query; the authority
    // of an absolute one equals the host header, or pingora would have refused it.
    let path = parts
        .uri
        .path_and_query()
        .filter(|path| path.as_str().starts_with('/'));
    parts.uri = path
        .map(|path| Uri::from(path.clone()))
        .ok_or(Refusal::BodyUnreadable("the request target is not a path"))?;
    Ok(Request::from_parts(parts, body))
}
