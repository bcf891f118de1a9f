//! The real network behind `World::outbound`: hyper over rustls, connections kept and bounded.
//!
//! Never follows a redirect, never sends a request twice, never connects on a merchant's behalf
//! to an address it has not looked at. No other file but the sandbox names hyper.

mod address;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::domain::identifiers::InstitutionId;
use crate::world::{Network, Outbound, Party, Patience, SendError};

/// Name, connection and handshake together: a destination that takes longer was not reached.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Shorter than servers' usual patience, so that we seldom write into a closing connection:
/// that would leave a request in doubt.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Connections at once to one merchant's origin (N7), and to one institution. As many are kept
/// when they fall idle: a handshake costs more than a request.
const MERCHANT_CONNECTIONS_MAX: usize = 16;
const INSTITUTION_CONNECTIONS_MAX: usize = 256;
/// Destinations remembered before unused ones are forgotten.
const DESTINATIONS_MAX: usize = 1024;
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// How long a connection may take to become free after its answer was read.
const SETTLE_WITHIN: Duration = Duration::from_secs(1);

/// One institution's line.
#[derive(Debug, Default)]
pub struct LineSettings {
    /// Authorities believed; none means the public ones.
    pub roots: Vec<CertificateDer<'static>>,
    /// The client certificate shown, with its key.
    pub client_identity: Option<Arc<CertifiedKey>>,
}

/// Whom we may call and how.
#[derive(Debug, Default)]
pub struct OutboundSettings {
    /// Every institution that may be called.
    pub institutions: HashMap<InstitutionId, LineSettings>,
    /// Authorities believed for merchants beside the public ones.
    pub merchant_roots: Vec<CertificateDer<'static>>,
    /// Networks merchants may lie in although they are not public.
    pub allowed_networks: Vec<Network>,
}

/// The network, by hyper.
pub struct Hyper {
    institutions: HashMap<InstitutionId, Line>,
    merchants: Line,
    destinations: Mutex<HashMap<Key, Arc<Destination>>>,
}

/// How a kind of party is reached.
#[derive(Clone)]
struct Line {
    tls: TlsConnector,
    connections_max: usize,
    /// None: whatever address its configuration names.
    vetted: Option<Arc<[Network]>>,
}

type Key = (Option<InstitutionId>, String, u16);
type Sender = SendRequest<Full<Bytes>>;

/// The connections to one origin of one party; never shared between parties.
struct Destination {
    places: Arc<Semaphore>,
    idle: Mutex<Vec<(Sender, Instant)>>,
}

impl Hyper {
    /// Builds every line.
    ///
    /// # Errors
    /// If a certificate or key cannot be used.
    pub fn new(settings: OutboundSettings) -> Result<Self, rustls::Error> {
        let mut institutions = HashMap::new();
        for (id, line) in settings.institutions {
            let roots = if line.roots.is_empty() {
                public_roots()
            } else {
                RootCertStore::empty()
            };
            let line = Line {
                tls: connector(roots, line.roots, line.client_identity)?,
                connections_max: INSTITUTION_CONNECTIONS_MAX,
                vetted: None,
            };
            institutions.insert(id, line);
        }
        let merchants = Line {
            tls: connector(public_roots(), settings.merchant_roots, None)?,
            connections_max: MERCHANT_CONNECTIONS_MAX,
            vetted: Some(settings.allowed_networks.into()),
        };
        Ok(Self {
            institutions,
            merchants,
            destinations: Mutex::default(),
        })
    }

    fn destination(&self, key: Key, line: &Line) -> Arc<Destination> {
        let mut all = self
            .destinations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if all.len() >= DESTINATIONS_MAX && !all.contains_key(&key) {
            all.retain(|_, known| Arc::strong_count(known) > 1);
        }
        Arc::clone(all.entry(key).or_insert_with(|| {
            Arc::new(Destination {
                places: Arc::new(Semaphore::new(line.connections_max)),
                idle: Mutex::default(),
            })
        }))
    }
}

#[async_trait]
impl Outbound for Hyper {
    async fn send(
        &self,
        party: &Party,
        request: Request<Bytes>,
        patience: Patience,
    ) -> Result<Response<Bytes>, SendError> {
        let (line, institution) = match party {
            Party::Institution(id) => {
                let line = self.institutions.get(id);
                (
                    line.ok_or_else(|| not_sent("no such institution"))?,
                    Some(id.clone()),
                )
            }
            Party::Merchant => (&self.merchants, None),
        };
        let target = Target::of(request.uri())?;
        let request = in_origin_form(request)?;
        let key = (institution, target.host.clone(), target.port);
        let destination = self.destination(key, line);
        let began = Instant::now();
        let (head_by, whole_by) = (
            began.checked_add(patience.head),
            began.checked_add(patience.whole),
        );
        let (Some(head_by), Some(whole_by)) = (head_by, whole_by) else {
            return Err(not_sent("no deadline"));
        };
        let head_by = head_by.min(whole_by);

        // Everything until a connection stands: nothing has been written yet (E1).
        let waiting = Arc::clone(&destination.places).acquire_owned();
        let place = timeout_at(head_by, waiting)
            .await
            .map_err(|_| not_sent("too many requests to this destination"))?
            .map_err(not_sent)?;
        let (response, sender) = exchange(&destination, line, &target, request, head_by).await?;

        let (head, body) = response.into_parts();
        let body = timeout_at(whole_by, read_body(body, patience.body_bytes_max))
            .await
            .map_err(|_| unknown("the answer did not end in time"))??;
        destination.take_back(sender, place);
        Ok(Response::from_parts(head, body))
    }
}

/// Sends over a kept connection or a new one, once: hyper gives a request back only if it never
/// took it from its queue, and only such a one is offered to another connection.
async fn exchange(
    destination: &Destination,
    line: &Line,
    target: &Target,
    mut request: Request<Full<Bytes>>,
    head_by: Instant,
) -> Result<(Response<Incoming>, Sender), SendError> {
    loop {
        let kept = destination.kept();
        let fresh = kept.is_none();
        let mut sender = if let Some(sender) = kept {
            sender
        } else {
            let connect_by = Instant::now().checked_add(CONNECT_WITHIN);
            let connect_by = connect_by.unwrap_or(head_by).min(head_by);
            timeout_at(connect_by, line.connect(target))
                .await
                .map_err(|_| not_sent("no connection in time"))??
        };
        let answered = timeout_at(head_by, sender.try_send_request(request)).await;
        match answered.map_err(|_| unknown("no answer in time"))? {
            Ok(response) => return Ok((response, sender)),
            Err(mut error) => match error.take_message() {
                Some(unsent) if !fresh => request = unsent,
                Some(_) => return Err(not_sent(error.into_error())),
                None => return Err(unknown(error.into_error())),
            },
        }
    }
}

impl Destination {
    /// The connection used last that is still good.
    fn kept(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE_MAX);
        idle.pop().map(|(sender, _)| sender)
    }

    /// Keeps a connection for the next request, once hyper is done with this one.
    fn take_back(self: &Arc<Self>, mut sender: Sender, place: OwnedSemaphorePermit) {
        if sender.is_ready() {
            self.keep(sender);
        } else if !sender.is_closed() {
            let destination = Arc::clone(self);
            tokio::spawn(async move {
                // The place is held until then: an unsettled connection is a connection.
                let _place = place;
                if let Ok(Ok(())) = timeout(SETTLE_WITHIN, sender.ready()).await {
                    destination.keep(sender);
                }
            });
        }
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Never more than there are places: a connection in use holds one.
        idle.push((sender, Instant::now()));
    }
}

impl Line {
    async fn connect(&self, target: &Target) -> Result<Sender, SendError> {
        let tcp = self.dial(target).await?;
        tcp.set_nodelay(true).map_err(not_sent)?;
        if !target.secure {
            // Only what our own configuration names, and only inside this machine.
            let inside = tcp
                .peer_addr()
                .is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
            if self.vetted.is_some() || !inside {
                return Err(not_sent("https is required"));
            }
            return speak(tcp).await;
        }
        let name = ServerName::try_from(target.host.clone()).map_err(not_sent)?;
        speak(self.tls.connect(name, tcp).await.map_err(not_sent)?).await
    }

    /// Connects to one of the very addresses that were looked at; the name is not asked again.
    async fn dial(&self, target: &Target) -> Result<TcpStream, SendError> {
        let found: Vec<SocketAddr> = match target.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, target.port)],
            Err(_) => tokio::net::lookup_host((target.host.as_str(), target.port))
                .await
                .map_err(not_sent)?
                .collect(),
        };
        let mut last = not_sent("the name has no address that may be called");
        let allowed = |found: &SocketAddr| match &self.vetted {
            Some(networks) => address::may_be_called(found.ip(), networks),
            None => true,
        };
        for address in found.into_iter().filter(allowed).take(ADDRESSES_MAX) {
            match TcpStream::connect(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = not_sent(error),
            }
        }
        Err(last)
    }
}

async fn speak<T>(io: T) -> Result<Sender, SendError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(io))
        .await
        .map_err(not_sent)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
    Ok(sender)
}

async fn read_body(mut body: Incoming, bytes_max: usize) -> Result<Bytes, SendError> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(unknown)?.into_data() else {
            continue;
        };
        let length = first.len().max(joined.len()).saturating_add(piece.len());
        if length > bytes_max {
            return Err(unknown("the answer is longer than will be read"));
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

/// Scheme, host and port of an address.
struct Target {
    secure: bool,
    host: String,
    port: u16,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, SendError> {
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(not_sent("expected an https address")),
        };
        let authority = uri.authority().ok_or_else(|| not_sent("expected a host"))?;
        let host = authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        Ok(Self {
            secure,
            host: bare.unwrap_or(host).to_ascii_lowercase(),
            port: authority
                .port_u16()
                .unwrap_or(if secure { 443 } else { 80 }),
        })
    }
}

/// Path and query as target, the authority as `host`.
fn in_origin_form(request: Request<Bytes>) -> Result<Request<Full<Bytes>>, SendError> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let host = authority.map(|text| text.rsplit_once('@').map_or(text, |(_, host)| host));
    let host = HeaderValue::from_str(host.unwrap_or_default()).map_err(not_sent)?;
    parts.headers.entry(HOST).or_insert(host);
    let path = parts.uri.path_and_query().cloned();
    parts.uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    Ok(Request::from_parts(parts, Full::new(body)))
}

fn public_roots() -> RootCertStore {
    RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    }
}

fn connector(
    mut roots: RootCertStore,
    more: Vec<CertificateDer<'static>>,
    identity: Option<Arc<CertifiedKey>>,
) -> Result<TlsConnector, rustls::Error> {
    for root in more {
        roots.add(root)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn not_sent(why: impl Into<Cause>) -> SendError {
    SendError::NotSent(why.into().to_string())
}

fn unknown(why: impl Into<Cause>) -> SendError {
    SendError::Unknown(why.into().to_string())
}
