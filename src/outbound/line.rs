//! How a party is reached: name, address, TCP, TLS. Everything here happens before the first byte
//! of a request, so every failure is `NotSent` (E1).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{DESTINATIONS_MAX, Destination, Key, LineSettings, address, not_sent};
use crate::world::{Network, SendError};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// A connection that takes requests.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// How a party, or a kind of party, is reached, and the connections to it.
pub(super) struct Line {
    settings: LineSettings,
    tls: TlsConnector,
    /// Networks allowed beside public addresses. None: whatever address its configuration names.
    vetted: Option<Vec<Network>>,
    destinations: Mutex<HashMap<Key, Arc<Destination>>>,
}

impl Line {
    /// The line that is known, if it is the very same; otherwise a new one without connections.
    pub(super) fn of(
        known: Option<&Arc<Self>>,
        settings: LineSettings,
        vetted: Option<Vec<Network>>,
    ) -> Result<Arc<Self>, rustls::Error> {
        let same =
            |known: &&Arc<Self>| is_same(&known.settings, &settings) && known.vetted == vetted;
        if let Some(known) = known.filter(same) {
            return Ok(Arc::clone(known));
        }
        Ok(Arc::new(Self {
            tls: connector(&settings)?,
            settings,
            vetted,
            destinations: Mutex::default(),
        }))
    }

    /// The connections to one origin.
    pub(super) fn destination(&self, key: Key) -> Arc<Destination> {
        let mut all = self
            .destinations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if all.len() >= DESTINATIONS_MAX && !all.contains_key(&key) {
            all.retain(|_, known| Arc::strong_count(known) > 1);
        }
        let fresh = || Arc::new(Destination::new(self.settings.connections_max));
        Arc::clone(all.entry(key).or_insert_with(fresh))
    }

    /// A new connection, vetted, secured and ready.
    pub(super) async fn connect(&self, target: &Target) -> Result<Sender, SendError> {
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

/// Scheme, host and port of an address.
pub(super) struct Target {
    secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Target {
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

/// Whether a connection made under one would be made just so under the other, and as many of them.
/// Whoever shows the same certificate shows the same key.
fn is_same(one: &LineSettings, other: &LineSettings) -> bool {
    let shown = |line: &LineSettings| line.client_identity.as_ref().map(|it| it.cert.clone());
    one.roots == other.roots
        && shown(one) == shown(other)
        && one.connections_max == other.connections_max
}

/// What is believed: the named authorities, and the public ones only where there are none, so
/// that pinning an authority leaves no other.
fn connector(settings: &LineSettings) -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore::empty();
    if settings.roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for root in &settings.roots {
        roots.add(root.clone())?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match settings.client_identity.clone() {
        Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
