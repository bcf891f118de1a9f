//! Balancers in front of the public listener: a connection from one begins with a PROXY protocol v2 header,
//! whose source address is the client's from then on.
//!
//! The peer of a connection alone decides whether a header is expected: from any other peer none is read.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use tokio::time::{Instant, timeout};

use super::connection::ListenerConnections;
use crate::api::AddressSource;
use crate::domain::identifiers::IpNetwork;
use header::{HeaderFault, HeaderSource, read_header};

mod header;

/// How often refused headers are logged: a balancer that is not set up for them sends none at all.
const LOGGED_EVERY: Duration = Duration::from_mins(1);

/// The networks of the balancers; replaced at once, without a restart (F1).
#[derive(Debug, Default)]
pub struct TrustedProxies {
    networks: ArcSwap<Vec<IpNetwork>>,
    refused: Mutex<RefusedHeaders>,
}

/// What was refused since the last log line.
#[derive(Debug, Default)]
struct RefusedHeaders {
    logged: Option<Instant>,
    count: u64,
}

impl TrustedProxies {
    /// Starts with these networks; with none, no header is read.
    pub fn new(networks: Vec<IpNetwork>) -> Self {
        Self {
            networks: ArcSwap::from_pointee(networks),
            refused: Mutex::default(),
        }
    }

    /// Uses other networks, from the next connection on. Open connections keep their client's address.
    pub fn replace(&self, networks: Vec<IpNetwork>) {
        self.networks.store(networks.into());
    }

    /// Who says the address of the client behind this peer.
    pub(super) fn source(&self, peer: IpAddr) -> AddressSource {
        let networks = self.networks.load();
        if networks.iter().any(|network| network.contains(peer)) {
            AddressSource::TrustedProxy
        } else {
            AddressSource::Connection
        }
    }

    /// Counts a refused header; how many there were since the last log line, if it is time for another.
    fn refused_lately(&self, now: Instant) -> Option<u64> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.count = refused.count.saturating_add(1);
        let is_due = |last: Instant| now.saturating_duration_since(last) >= LOGGED_EVERY;
        if !refused.logged.is_none_or(is_due) {
            return None;
        }
        refused.logged = Some(now);
        Some(std::mem::take(&mut refused.count))
    }
}

impl ListenerConnections {
    /// Reads the header of a trusted proxy's connection: the client's address, or the proxy's own where the
    /// header names no client. `None` if it is not accepted; the connection is then closed unanswered.
    pub(super) async fn read_proxy_header(
        &self,
        tcp: &mut TcpStream,
        proxy: IpAddr,
        within: Duration,
    ) -> Option<IpAddr> {
        let read = timeout(within, read_header(tcp)).await;
        match read.unwrap_or(Err(HeaderFault::Slow)) {
            Ok(HeaderSource::Address(client)) => Some(client),
            Ok(HeaderSource::Proxy) => Some(proxy),
            Err(fault) => {
                self.refuse_header(proxy, fault);
                None
            }
        }
    }

    fn refuse_header(&self, proxy: IpAddr, fault: HeaderFault) {
        let reason = fault.word();
        self.metrics.front.proxy_header_refused(reason);
        // A balancer that only tries whether the port is open sends nothing.
        if fault == HeaderFault::Cut {
            return;
        }
        if let Some(refused) = self.trusted_proxies.refused_lately(Instant::now()) {
            tracing::warn!(
                %proxy,
                reason,
                refused,
                "a connection from [listen] trusted_proxies was closed: it must begin with a PROXY \
                 protocol v2 header"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer is compared with the networks in force, and never with those of the other family.
    #[test]
    fn only_peers_in_the_networks_are_trusted() {
        let networks = |texts: &[&str]| texts.iter().map(|it| it.parse().unwrap()).collect();
        let proxies = TrustedProxies::new(networks(&["10.0.3.0/24", "fd00::/64"]));
        let is_trusted =
            |peer: &str| proxies.source(peer.parse().unwrap()) == AddressSource::TrustedProxy;
        assert!(is_trusted("10.0.3.9") && is_trusted("fd00::9"));
        assert!(!is_trusted("10.0.4.9") && !is_trusted("fd00:0:0:1::9") && !is_trusted("::1"));
        proxies.replace(networks(&["10.0.4.0/24"]));
        assert!(is_trusted("10.0.4.9") && !is_trusted("10.0.3.9") && !is_trusted("fd00::9"));
        proxies.replace(Vec::new());
        assert!(!is_trusted("10.0.4.9"));
    }

    /// A balancer without headers costs one line a minute, which says how many it was.
    #[tokio::test(start_paused = true)]
    async fn refused_headers_are_logged_once_a_minute() {
        let proxies = TrustedProxies::default();
        let refused = || proxies.refused_lately(Instant::now());
        assert_eq!(refused(), Some(1));
        assert_eq!([refused(), refused()], [None, None]);
        tokio::time::advance(LOGGED_EVERY).await;
        assert_eq!([refused(), refused()], [Some(3), None]);
    }
}
