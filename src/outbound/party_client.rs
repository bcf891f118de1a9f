//! How a party is reached: name, address, TCP, TLS. Everything here happens before the first byte
//! of a request, so every failure is `NotSent` (E1) or a local shortage.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::{
    DESTINATIONS_MAX, HostPort, OriginPool, PartyClientSettings, address, dial, local_shortage,
    not_sent,
};
use crate::domain::identifiers::IpNetwork;
use crate::world::SendError;
use crate::world::sends::InFlightSend;

/// The most bytes of a response head.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// How long an unused connection may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A connection that accepts requests until it is dropped.
pub(super) struct PooledConnection {
    pub(super) requests: SendRequest<Full<Bytes>>,
    /// Dropped to tell the connection's task that it is not needed any more.
    _wanted: oneshot::Sender<()>,
    carried: Arc<Mutex<Option<InFlightSend>>>,
}

impl PooledConnection {
    /// Attaches the send in flight to the connection. The send is over only when it is detached or
    /// the connection itself has ended: until then bytes may leave.
    pub(super) fn carry(&self, in_flight: Option<InFlightSend>) {
        *self.carried.lock().unwrap_or_else(PoisonError::into_inner) = in_flight;
    }
}

/// The dialling rules of all destinations of a party.
pub(super) struct DialRules {
    /// Networks allowed besides public addresses. `None` allows any address that the configuration
    /// names.
    pub(super) vetted: Option<Vec<IpNetwork>>,
    /// Connections to all of them together, in use and idle.
    pub(super) connections_in_all_max: usize,
    /// Additional sockets for trying several addresses of a name, besides the first; shared by all
    /// parties.
    pub(super) company: Arc<Semaphore>,
}

/// How a party, or a kind of party, is reached, with its connections.
pub(super) struct PartyClient {
    settings: PartyClientSettings,
    tls: TlsConnector,
    reach: DialRules,
    /// One for each connection that may be open.
    files: Arc<Semaphore>,
    destinations: Mutex<HashMap<HostPort, Arc<OriginPool>>>,
}

impl PartyClient {
    /// Reuses the known client if nothing changed; otherwise a new one without connections.
    pub(super) fn of(
        known: Option<&Arc<Self>>,
        settings: PartyClientSettings,
        reach: DialRules,
    ) -> Result<Arc<Self>, rustls::Error> {
        let same = |known: &&Arc<Self>| {
            is_same(&known.settings, &settings)
                && known.reach.vetted == reach.vetted
                && known.reach.connections_in_all_max == reach.connections_in_all_max
        };
        if let Some(known) = known.filter(same) {
            return Ok(Arc::clone(known));
        }
        Ok(Arc::new(Self {
            tls: connector(&settings)?,
            settings,
            files: Arc::new(Semaphore::new(reach.connections_in_all_max)),
            reach,
            destinations: Mutex::default(),
        }))
    }

    /// The connections to one origin.
    pub(super) fn destination(&self, key: HostPort) -> Arc<OriginPool> {
        let mut all = self
            .destinations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if all.len() >= DESTINATIONS_MAX && !all.contains_key(&key) {
            all.retain(|_, known| Arc::strong_count(known) > 1);
        }
        let fresh = || Arc::new(OriginPool::new(self.settings.connections_max));
        Arc::clone(all.entry(key).or_insert_with(fresh))
    }

    /// A new connection, vetted, secured and ready. It connects only to checked addresses; the name
    /// is not looked up again.
    pub(super) async fn connect(
        &self,
        target: &TargetOrigin,
        by: Instant,
    ) -> Result<PooledConnection, SendError> {
        let file = self.file(by).await?;
        let mut found = dial::addresses(target, by).await?;
        found.retain(|found| self.may_call(target, *found));
        found.truncate(dial::ADDRESSES_MAX);
        let company = &self.reach.company;
        if !target.secure {
            let tcp = dial::first_of(found, by, company, |address, _| dial::tcp(address));
            return start_http(tcp.await?, file).await;
        }
        let name = ServerName::try_from(target.host.clone()).map_err(not_sent)?;
        let secured = dial::first_of(found, by, company, |address, wake_up| {
            let (tls, name) = (self.tls.clone(), name.clone());
            async move {
                let tcp = dial::tcp(address).await?;
                wake_up.notify_one();
                tls.connect(name, tcp).await.map_err(not_sent)
            }
        });
        start_http(secured.await?, file).await
    }

    /// Whether this exact address may be connected to. Without TLS only a configured address on
    /// this machine.
    fn may_call(&self, target: &TargetOrigin, found: SocketAddr) -> bool {
        match &self.reach.vetted {
            Some(networks) => target.secure && address::may_be_called(found.ip(), networks),
            None => target.secure || found.ip().to_canonical().is_loopback(),
        }
    }

    /// A permit for one more connection. If there is none, idle connections are closed.
    async fn file(&self, by: Instant) -> Result<OwnedSemaphorePermit, SendError> {
        if let Ok(file) = Arc::clone(&self.files).try_acquire_owned() {
            return Ok(file);
        }
        self.drop_idle();
        let file = timeout_at(by, Arc::clone(&self.files).acquire_owned()).await;
        file.map_err(|_| local_shortage("the limit of open connections is reached"))?
            .map_err(not_sent)
    }

    fn drop_idle(&self) {
        let all = self.destinations.lock();
        for destination in all.unwrap_or_else(PoisonError::into_inner).values() {
            destination.drop_idle();
        }
    }
}

async fn start_http<T>(io: T, file: OwnedSemaphorePermit) -> Result<PooledConnection, SendError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(io))
        .await
        .map_err(not_sent)?;
    let (wanted, unwanted) = oneshot::channel();
    let carried = Arc::default();
    let until_the_end = Arc::clone(&carried);
    tokio::spawn(async move {
        // Dropped last, when the connection has ended.
        let _until_the_end = until_the_end;
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = unwanted => timeout(CLOSE_WITHIN, connection.as_mut()).await.ok(),
        };
        if let Some(Err(error)) = ended {
            tracing::debug!(%error, "a connection ended");
        }
        // The file descriptor is closed by now.
        drop(file);
    });
    Ok(PooledConnection {
        requests,
        _wanted: wanted,
        carried,
    })
}

/// Scheme, host and port of an address.
pub(super) struct TargetOrigin {
    secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl TargetOrigin {
    pub(super) fn of(uri: &Uri) -> Result<Self, SendError> {
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

/// Whether connections made under both settings would be the same, and equally many. The same
/// certificate implies the same key.
fn is_same(one: &PartyClientSettings, other: &PartyClientSettings) -> bool {
    let shown =
        |line: &PartyClientSettings| line.client_identity.as_ref().map(|it| it.cert.clone());
    one.roots == other.roots
        && shown(one) == shown(other)
        && one.connections_max == other.connections_max
}

/// The trust anchors: the configured authorities, and the public ones only if none are configured,
/// so that pinning an authority excludes all others.
fn connector(settings: &PartyClientSettings) -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore::empty();
    if settings.roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for root in &settings.roots {
        roots.add(root.clone())?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match settings.client_identity.clone() {
        Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
