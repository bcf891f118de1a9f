//! The network implementation of `World::outbound`: hyper over rustls, with a bounded connection
//! pool.
//!
//! Never follows a redirect, never sends twice, never connects on behalf of a merchant to an
//! address that was not checked. No other file except the sandbox names hyper.

mod address;
mod dial;
mod party_client;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{self, ACCEPT, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::domain::identifiers::{InstitutionId, IpNetwork, MerchantId};
use crate::world::sends::InFlightSend;
use crate::world::{
    Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError,
};

use party_client::{DialRules, PartyClient, PooledConnection, TargetOrigin};

/// Name lookup, connection and handshake together; a destination that takes longer was not reached.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Shorter than the usual idle timeout of servers: a write into a closing connection has an unknown
/// outcome.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Concurrent connections to one merchant's origin (N7). As many are pooled when idle: a handshake
/// costs more than a request.
const MERCHANT_CONNECTIONS_MAX: usize = 16;
/// Concurrent connections to all merchants together, unless a lower limit is set: as many as
/// notifications in flight, and some idle ones.
pub const MERCHANT_CONNECTIONS_TOTAL_MAX: usize = 640;
/// Additional sockets for trying further addresses of names in parallel, besides the first of each
/// call.
pub const PARALLEL_DIALS_MAX: usize = 64;
/// Destinations of one party remembered before unused ones are forgotten.
const DESTINATIONS_MAX: usize = 1024;
/// Sent to every party: some merchants' firewalls reject requests without a user agent.
const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("paymux/", env!("CARGO_PKG_VERSION")));
/// The response format that is understood.
const ACCEPT_VALUE: HeaderValue = HeaderValue::from_static("application/json");
/// How long a connection may take to become idle after its response was read.
const RELEASE_WITHIN: Duration = Duration::from_secs(1);

/// The connection settings of one institution.
#[derive(Debug, Clone)]
pub struct PartyClientSettings {
    /// Trusted authorities; none means the public ones.
    pub roots: Vec<CertificateDer<'static>>,
    /// The client certificate, with its key.
    pub client_identity: Option<Arc<CertifiedKey>>,
    /// Concurrent connections to one origin; as many are pooled when idle.
    pub connections_max: usize,
}

/// The parties that may be called, and how.
#[derive(Debug, Default)]
pub struct HyperOutboundSettings {
    /// Every institution that may be called.
    pub institutions: HashMap<InstitutionId, PartyClientSettings>,
    /// Trusted authorities for merchants; none means the public ones.
    pub merchant_roots: Vec<CertificateDer<'static>>,
    /// Non-public networks in which merchants may be.
    pub allowed_networks: Vec<IpNetwork>,
    /// Concurrent connections to all merchants together; [`MERCHANT_CONNECTIONS_TOTAL_MAX`] by
    /// default.
    pub merchant_connections_max: Option<usize>,
}

/// The network, over hyper.
pub struct HyperOutbound {
    institutions: HashMap<InstitutionId, Arc<PartyClient>>,
    merchants: Arc<PartyClient>,
    company: Arc<Semaphore>,
}

/// Host and port.
type HostPort = (String, u16);

/// A request to be sent, with its permit and its entry in the send log.
struct PendingSend {
    request: Request<Full<Bytes>>,
    permit: Permit,
    in_flight: Option<InFlightSend>,
}

/// The connections to one origin of one party; never shared between parties.
struct OriginPool {
    places: Arc<Semaphore>,
    idle: Mutex<Vec<(PooledConnection, Instant)>>,
}

impl HyperOutbound {
    /// Builds the client of every party.
    ///
    /// # Errors
    /// A certificate or key cannot be used.
    pub fn new(settings: HyperOutboundSettings) -> Result<Self, rustls::Error> {
        Self::build(None, settings)
    }

    /// The network with other settings (F1). A client with unchanged settings is reused with its
    /// connections; of a changed one, calls in flight finish on the old one.
    ///
    /// # Errors
    /// As [`Self::new`]; the old network is left unchanged.
    pub fn renewed(&self, settings: HyperOutboundSettings) -> Result<Self, rustls::Error> {
        Self::build(Some(self), settings)
    }

    fn build(known: Option<&Self>, settings: HyperOutboundSettings) -> Result<Self, rustls::Error> {
        let company = known.map(|known| Arc::clone(&known.company));
        let company = company.unwrap_or_else(|| Arc::new(Semaphore::new(PARALLEL_DIALS_MAX)));
        let mut institutions = HashMap::new();
        for (id, line) in settings.institutions {
            let known = known.and_then(|known| known.institutions.get(&id));
            let reach = DialRules {
                vetted: None,
                connections_in_all_max: line.connections_max,
                company: Arc::clone(&company),
            };
            let line = PartyClient::of(known, line, reach)?;
            institutions.insert(id, line);
        }
        let line = PartyClientSettings {
            roots: settings.merchant_roots,
            client_identity: None,
            connections_max: MERCHANT_CONNECTIONS_MAX,
        };
        let in_all = settings.merchant_connections_max;
        let reach = DialRules {
            vetted: Some(settings.allowed_networks),
            connections_in_all_max: in_all.unwrap_or(MERCHANT_CONNECTIONS_TOTAL_MAX),
            company: Arc::clone(&company),
        };
        let known = known.map(|known| &known.merchants);
        Ok(Self {
            institutions,
            merchants: PartyClient::of(known, line, reach)?,
            company,
        })
    }
}

#[async_trait]
impl Outbound for HyperOutbound {
    async fn send(
        &self,
        party: &OutboundParty,
        request: Request<Bytes>,
        options: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        let line = match party {
            OutboundParty::Institution(id) => {
                let line = self.institutions.get(id);
                line.ok_or_else(|| not_sent("no such institution"))?
            }
            OutboundParty::Merchant => &self.merchants,
        };
        let (timeouts, in_flight) = (options.timeouts, options.in_flight);
        let permit = options.permit.unwrap_or_else(Permit::free);
        let target = TargetOrigin::of(request.uri())?;
        let request = in_origin_form(request)?;
        let destination = line.destination((target.host.clone(), target.port));
        let began = Instant::now();
        let (head_by, whole_by) = (
            began.checked_add(timeouts.head),
            began.checked_add(timeouts.whole),
        );
        let (Some(head_by), Some(whole_by)) = (head_by, whole_by) else {
            return Err(not_sent("no deadline"));
        };
        let head_by = head_by.min(whole_by);

        // Everything up to an open connection: nothing has been written yet (E1).
        let waiting = Arc::clone(&destination.places).acquire_owned();
        let place = timeout_at(head_by, waiting)
            .await
            .map_err(|_| throttled("too many requests to this destination"))?
            .map_err(not_sent)?;
        let leaving = PendingSend {
            request,
            permit,
            in_flight,
        };
        let (response, sender) = exchange(&destination, line, &target, leaving, head_by).await?;

        let (head, body) = response.into_parts();
        // Merchants' servers often close without a TLS close. A body that only the end of the
        // connection delimits is accepted from a merchant, because its reader checks that it is
        // complete; from an institution it is a fault.
        let may_just_close = matches!(party, OutboundParty::Merchant)
            && !head.headers.contains_key(header::CONTENT_LENGTH)
            && !head.headers.contains_key(header::TRANSFER_ENCODING);
        let cut = if may_just_close {
            UncleanClose::IsEnd
        } else {
            UncleanClose::IsFault
        };
        let body = timeout_at(whole_by, read_body(body, timeouts.body_bytes_max, cut))
            .await
            .map_err(|_| unknown("the response did not end in time"))??;
        sender.carry(None);
        destination.take_back(sender, place);
        Ok(Response::from_parts(head, body))
    }

    /// No limits here; rate limiting wraps this.
    async fn permit(&self, _: &InstitutionId, _: &MerchantId) -> Result<Permit, PermitUnavailable> {
        Ok(Permit::free())
    }
}

/// Sends over a pooled connection or a new one, once: hyper returns a request only if it never took
/// it from its queue, and only such a request is tried on another connection. It is counted as sent
/// when a connection is open and only its bytes remain to be sent.
async fn exchange(
    destination: &OriginPool,
    line: &PartyClient,
    target: &TargetOrigin,
    leaving: PendingSend,
    head_by: Instant,
) -> Result<(Response<Incoming>, PooledConnection), SendError> {
    let PendingSend {
        mut request,
        permit,
        in_flight,
    } = leaving;
    loop {
        let pooled = destination.take_idle();
        let fresh = pooled.is_none();
        let mut sender = if let Some(sender) = pooled {
            sender
        } else {
            let connect_by = Instant::now().checked_add(CONNECT_WITHIN);
            let connect_by = connect_by.unwrap_or(head_by).min(head_by);
            line.connect(target, connect_by).await?
        };
        let marked = timeout_at(head_by, permit.mark_sent()).await;
        if !matches!(marked, Ok(Ok(()))) {
            destination.put_back(sender);
            return Err(throttled("the rate of this second is used up"));
        }
        // Whatever happens to this task, the request may leave until this connection has ended.
        sender.carry(in_flight.clone());
        let sending = sender.requests.try_send_request(request);
        let answered = timeout_at(head_by, sending).await;
        match answered.map_err(|_| unknown("no response in time"))? {
            Ok(response) => return Ok((response, sender)),
            Err(mut error) => match error.take_message() {
                Some(unsent) => {
                    permit.mark_unsent();
                    sender.carry(None);
                    if fresh {
                        return Err(not_sent(error.into_error()));
                    }
                    request = unsent;
                }
                None => return Err(unknown(error.into_error())),
            },
        }
    }
}

impl OriginPool {
    fn new(connections_max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(connections_max)),
            idle: Mutex::default(),
        }
    }

    /// The most recently used connection that is still open.
    fn take_idle(&self) -> Option<PooledConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(sender, since)| !sender.requests.is_closed() && since.elapsed() < IDLE_MAX);
        idle.pop().map(|(sender, _)| sender)
    }

    /// Closes all idle connections to free capacity.
    fn drop_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.clear();
    }

    /// Returns a connection to the pool once hyper has finished with its request.
    fn take_back(self: &Arc<Self>, mut sender: PooledConnection, place: OwnedSemaphorePermit) {
        if sender.requests.is_ready() {
            self.put_back(sender);
        } else if !sender.requests.is_closed() {
            let destination = Arc::clone(self);
            tokio::spawn(async move {
                // The place is held until then: a connection still in use counts.
                let _place = place;
                if let Ok(Ok(())) = timeout(RELEASE_WITHIN, sender.requests.ready()).await {
                    destination.put_back(sender);
                }
            });
        }
    }

    fn put_back(&self, sender: PooledConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Never more than the places: a connection in use holds one.
        idle.push((sender, Instant::now()));
    }
}

/// The meaning of a connection that ends without a TLS close.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UncleanClose {
    IsEnd,
    IsFault,
}

async fn read_body(
    mut body: Incoming,
    bytes_max: usize,
    cut: UncleanClose,
) -> Result<Bytes, SendError> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Err(error) if cut == UncleanClose::IsEnd && is_cut(&error) => break,
            frame => frame.map_err(unknown)?,
        };
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        let length = first.len().max(joined.len()).saturating_add(piece.len());
        if length > bytes_max {
            return Err(unknown("the response is larger than the limit"));
        }
        if first.is_empty() && joined.is_empty() {
            first = piece;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut first));
            joined.extend_from_slice(&piece);
        }
    }
    Ok(if joined.is_empty() {
        first
    } else {
        joined.freeze()
    })
}

/// Whether the connection was closed without a TLS close.
fn is_cut(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|it| it.kind() == std::io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Path and query as the target, the authority as `host`; adds user agent and accept.
fn in_origin_form(request: Request<Bytes>) -> Result<Request<Full<Bytes>>, SendError> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let host = authority.map(|text| text.rsplit_once('@').map_or(text, |(_, host)| host));
    let host = HeaderValue::from_str(host.unwrap_or_default()).map_err(not_sent)?;
    parts.headers.entry(HOST).or_insert(host);
    parts.headers.entry(USER_AGENT).or_insert(USER_AGENT_VALUE);
    parts.headers.entry(ACCEPT).or_insert(ACCEPT_VALUE);
    let path = parts.uri.path_and_query().cloned();
    parts.uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    Ok(Request::from_parts(parts, Full::new(body)))
}

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

fn not_sent(why: impl Into<BoxedError>) -> SendError {
    SendError::NotSent(why.into().to_string())
}

/// Throttled by this gateway: no sign of the party's health.
fn throttled(why: &str) -> SendError {
    SendError::Throttled(why.to_owned())
}

/// This machine lacks a resource: no sign of the party's health either (H1).
fn local_shortage(why: impl Into<BoxedError>) -> SendError {
    SendError::LocalShortage(why.into().to_string())
}

fn unknown(why: impl Into<BoxedError>) -> SendError {
    SendError::Unknown(why.into().to_string())
}
