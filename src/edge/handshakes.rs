//! Limits TLS handshakes (R-6.3.1-3a). A handshake costs more than a request, so only so many use the
//! processor at once, and of one address a share of them; in overload each takes several permits, so that
//! fewer do.
//!
//! A permit is for processor time and lasts as long as that: it is acquired when the whole `ClientHello`
//! has arrived, and released when our reply is written. A handshake that waits for its client holds none.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use pingora_core::protocols::{Ssl, Stream};
use tokio::task::yield_now;

use super::connection::ListenerConnections;
use super::hello::read_hello;
use super::overload::Pressure;
use super::places::subscriber;
use super::{Bounds, identity};
use crate::domain::merchant::ShownCertificate;
use crate::limits::bound::{Bound, Taken};

/// In overload an address has at most this part of the handshakes that may run then.
const SHARE_IN_OVERLOAD: u32 = 4;

/// One listener's handshakes.
pub(super) struct Handshakes {
    all: Arc<Bound>,
    /// By address: how many are in progress, waiting or not, and their share.
    shares: Mutex<HashMap<IpAddr, (u32, Arc<Bound>)>>,
}

/// A stream that is ready for requests, and the certificate its client has shown.
pub(super) type Secured = (Stream, Option<ShownCertificate>);

/// A permit to use the processor for a handshake.
pub(super) struct ProcessorTime<'a> {
    _taken: [Taken; 2],
    _present: Present<'a>,
}

impl Handshakes {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            all: Bound::new(bounds.handshakes_max),
            shares: Mutex::default(),
        }
    }

    /// Replaces the bounds. Handshakes in progress are not affected.
    pub(super) fn resize(&self, next: &Bounds) {
        self.all.resize(next.handshakes_max);
        for (_, share) in self.shares().values() {
            share.resize(next.handshakes_per_address_max);
        }
    }

    /// Waits for processor time: first for the address's share, so that a handshake that waits within it
    /// holds nothing that others could use.
    pub(super) async fn processor_time(
        &self,
        address: IpAddr,
        pressure: Pressure,
        bounds: &Bounds,
    ) -> ProcessorTime<'_> {
        let (all, share) = (bounds.handshakes_max, bounds.handshakes_per_address_max);
        let all_max = bounds.handshakes_under_load_max;
        let share_max = all_max.div_ceil(SHARE_IN_OVERLOAD);
        let (of_all, of_share) = match pressure {
            Pressure::Normal => (1, 1),
            Pressure::Overload => (each(all, all_max), each(share, share_max)),
        };
        let present = self.present(address, share);
        let share = present.share.take(of_share).await;
        ProcessorTime {
            _taken: [share, self.all.take(of_all).await],
            _present: present,
        }
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<IpAddr, (u32, Arc<Bound>)>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self, address: IpAddr, share: u32) -> Present<'_> {
        let address = subscriber(address);
        let mut shares = self.shares();
        let new = || (0, Bound::new(share));
        let (present, share) = shares.entry(address).or_insert_with(new);
        *present = present.saturating_add(1);
        Present {
            handshakes: self,
            address,
            share: Arc::clone(share),
        }
    }
}

/// How many of so many permits each takes, so that at most `max` run.
fn each(of: u32, max: u32) -> u32 {
    of.div_ceil(max.max(1)).max(1)
}

/// A handshake in progress, counted for its address.
struct Present<'a> {
    handshakes: &'a Handshakes,
    address: IpAddr,
    share: Arc<Bound>,
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        let mut shares = self.handshakes.shares();
        if let Some((present, _)) = shares.get_mut(&self.address) {
            *present = present.saturating_sub(1);
            if *present == 0 {
                shares.remove(&self.address);
            }
        }
    }
}

impl ListenerConnections {
    /// Waits until the client has sent its whole `ClientHello`, with hardly any memory and no permit held;
    /// then finishes TLS.
    pub(super) async fn secure(&self, tcp: TcpStream, address: IpAddr) -> Option<Secured> {
        let Some(acceptor) = &self.acceptor else {
            return Some((Box::new(tcp), None));
        };
        let mut tcp = tcp;
        if read_hello(&mut tcp).await.is_none() {
            self.metrics.front.connection_cut("handshake_failed");
            return None;
        }
        Box::pin(self.shake_hands(acceptor, tcp, address)).await
    }

    /// Finishes TLS and takes the client certificate's digest, once for all requests to come.
    async fn shake_hands(
        &self,
        acceptor: &Acceptor,
        tcp: TcpStream,
        address: IpAddr,
    ) -> Option<Secured> {
        let _counted = self.metrics.front.handshake();
        let mut handshake = pin!(acceptor.tls_handshake(tcp));
        // Each time that the client has sent something: it decides when the expensive part comes.
        let ended = loop {
            let (pressure, bounds) = (self.overload.pressure(), self.bounds());
            let time = self.handshakes.processor_time(address, pressure, &bounds);
            let time = time.await;
            // After all ready tasks: handshakes must not delay requests.
            yield_now().await;
            let polled = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context))).await;
            drop(time);
            match polled {
                Poll::Ready(ended) => break ended,
                Poll::Pending => woken().await,
            }
        };
        let tls = match ended {
            Ok(tls) => tls,
            Err(error) => {
                tracing::debug!(%error, "handshake failed");
                self.metrics.front.connection_cut("handshake_failed");
                return None;
            }
        };
        let certificate = tls
            .get_ssl()
            .and_then(|tls| tls.peer_certificate_der())
            .and_then(identity::shown);
        Some((Box::new(tls), certificate))
    }
}

/// Ends when the task is woken by what it waited for before.
async fn woken() {
    let mut waits = true;
    poll_fn(|_| {
        if std::mem::take(&mut waits) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is ready without waiting.
    async fn at_once<T>(waited: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = waited => Some(done),
            () = std::future::ready(()) => None,
        }
    }

    fn from(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// R-6.3.1-3a: in overload fewer handshakes want the processor at once, and of one address a
    /// quarter of those.
    #[tokio::test]
    async fn in_overload_fewer_handshakes_go_on() {
        let bounds = Bounds {
            handshakes_max: 9,
            handshakes_per_address_max: 9,
            handshakes_under_load_max: 4,
            ..Bounds::default()
        };
        let handshakes = Handshakes::new(&bounds);
        let time = |last| handshakes.processor_time(from(last), Pressure::Normal, &bounds);
        let mut calm = Vec::new();
        while let Some(one) = at_once(time(1)).await {
            calm.push(one);
        }
        assert_eq!(calm.len(), 9);
        calm.clear();
        let time = |last| handshakes.processor_time(from(last), Pressure::Overload, &bounds);
        let first = at_once(time(1)).await.unwrap();
        let mut same = Box::pin(time(1));
        assert!(at_once(&mut same).await.is_none(), "a quarter of four");
        let _others = [
            at_once(time(2)).await.unwrap(),
            at_once(time(3)).await.unwrap(),
        ];
        assert!(
            at_once(time(4)).await.is_none(),
            "three times three of nine"
        );
        drop(first);
        assert!(at_once(&mut same).await.is_some());
    }

    /// R-6.3.1-3a: an address has its share; who waits within it holds nothing and is woken, also when
    /// it grows, and nothing is remembered of who has gone.
    #[tokio::test]
    async fn an_address_has_its_share_and_leaves_nothing_behind() {
        let bounds = Bounds {
            handshakes_max: 2,
            handshakes_per_address_max: 1,
            ..Bounds::default()
        };
        let handshakes = Handshakes::new(&bounds);
        let time = |last| handshakes.processor_time(from(last), Pressure::Normal, &bounds);
        let first = time(1).await;
        let (mut second, mut third) = (Box::pin(time(1)), Box::pin(time(1)));
        assert!(at_once(&mut second).await.is_none());
        assert!(at_once(&mut third).await.is_none());
        assert!(at_once(time(2)).await.is_some(), "another address");
        handshakes.resize(&Bounds::default());
        let second = at_once(&mut second).await.unwrap();
        let third = at_once(&mut third).await.unwrap();
        drop((first, second, third));
        assert!(handshakes.shares().is_empty());
    }
}
