//! Who may shake hands now. A handshake costs more than a request, so only so many want the
//! processor at once, fewer while there is too much to do, and of them each address has a share.
//!
//! A turn is for processor time and lasts as long as that: it is taken when the whole `ClientHello` is
//! there, and given back when our answer to it is written. Whoever waits for a client holds none.
//! Turns are taken in the order share, under load, all: whoever waits for one holds nothing that
//! others could use meanwhile.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use arc_swap::ArcSwap;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use pingora_core::protocols::{Ssl, Stream};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::task::yield_now;

use super::door::Door;
use super::hello::read_hello;
use super::load::Load;
use super::places::subscriber;
use super::{Bounds, identity};
use crate::domain::merchant::ShownCertificate;

/// While there is too much to do an address has at most this part of what may go on then.
const SHARE_UNDER_LOAD: u32 = 4;

/// One listener's handshakes.
pub(super) struct Handshakes {
    all: Turns,
    under_load: Turns,
    shares: Mutex<HashMap<IpAddr, Share>>,
}

/// A stream that is ready for requests, and the certificate its client has shown.
pub(super) type Secured = (Stream, Option<ShownCertificate>);

/// Leave to use the processor for a handshake.
pub(super) struct Turn<'a> {
    _all: Held<'a>,
    _under_load: Option<Held<'a>>,
    _share: Present<'a>,
}

impl Handshakes {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            all: Turns::new(bounds.handshakes_max),
            under_load: Turns::new(bounds.handshakes_under_load_max),
            shares: Mutex::default(),
        }
    }

    /// Other bounds. Nobody who shakes hands is disturbed.
    pub(super) fn resize(&self, next: &Bounds) {
        self.all.resize(next.handshakes_max);
        self.under_load.resize(next.handshakes_under_load_max);
    }

    /// Waits for a turn.
    pub(super) async fn turn(
        &self,
        address: IpAddr,
        load: &Load,
        bounds: &ArcSwap<Bounds>,
    ) -> Option<Turn<'_>> {
        let mut share = self.present(address);
        while !share.take(share_max(load, bounds)) {
            share.freed.notified().await;
        }
        let under_load = if load.is_over() {
            Some(self.under_load.take().await?)
        } else {
            None
        };
        Some(Turn {
            _all: self.all.take().await?,
            _under_load: under_load,
            _share: share,
        })
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<IpAddr, Share>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self, address: IpAddr) -> Present<'_> {
        let address = subscriber(address);
        let mut shares = self.shares();
        let share = shares.entry(address).or_default();
        share.present = share.present.saturating_add(1);
        Present {
            handshakes: self,
            address,
            freed: Arc::clone(&share.freed),
            taken: false,
        }
    }
}

impl Door {
    /// Waits until the client has said all that a handshake begins with, with hardly any room and no
    /// turn taken; then finishes TLS.
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
        // Each time that the client has said something: what costs comes late with who wishes it so.
        let ended = loop {
            let turn = self.handshakes.turn(address, &self.load, &self.bounds);
            let turn = turn.await?;
            // Behind everything that is ready: handshakes take no request's time.
            yield_now().await;
            let polled = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context))).await;
            drop(turn);
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

fn share_max(load: &Load, bounds: &ArcSwap<Bounds>) -> u32 {
    let bounds = bounds.load();
    let share = bounds.handshakes_per_address_max;
    let share = if load.is_over() {
        let part = bounds.handshakes_under_load_max.div_ceil(SHARE_UNDER_LOAD);
        share.min(part)
    } else {
        share
    };
    share.max(1)
}

/// One address: who is there, waiting or not, and of them who has taken from its share.
#[derive(Default)]
struct Share {
    present: u32,
    taken: u32,
    freed: Arc<Notify>,
}

/// One that is there.
struct Present<'a> {
    handshakes: &'a Handshakes,
    address: IpAddr,
    freed: Arc<Notify>,
    taken: bool,
}

impl Present<'_> {
    fn take(&mut self, share_max: u32) -> bool {
        let mut shares = self.handshakes.shares();
        let Some(share) = shares.get_mut(&self.address) else {
            return false;
        };
        if share.taken >= share_max {
            return false;
        }
        share.taken = share.taken.saturating_add(1);
        self.taken = true;
        if share.taken < share_max {
            // The share may have grown since the next one began to wait.
            self.freed.notify_one();
        }
        true
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        let mut shares = self.handshakes.shares();
        let Some(share) = shares.get_mut(&self.address) else {
            return;
        };
        share.present = share.present.saturating_sub(1);
        if self.taken {
            share.taken = share.taken.saturating_sub(1);
            self.freed.notify_one();
        }
        if share.present == 0 {
            shares.remove(&self.address);
        }
    }
}

/// So many at once, in the order they came; how many can change while they are taken.
struct Turns {
    semaphore: Semaphore,
    size: Mutex<Size>,
}

/// How many there are, and how many of those taken are not to come back.
struct Size {
    turns: u32,
    owed: usize,
}

/// One that is taken.
struct Held<'a> {
    turns: &'a Turns,
    permit: Option<SemaphorePermit<'a>>,
}

impl Turns {
    fn new(turns: u32) -> Self {
        Self {
            semaphore: Semaphore::new(permits(turns)),
            size: Mutex::new(Size { turns, owed: 0 }),
        }
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self) -> Option<Held<'_>> {
        let permit = self.semaphore.acquire().await.ok()?;
        Some(Held {
            turns: self,
            permit: Some(permit),
        })
    }

    /// A semaphore forgets only what is free; what is taken is owed and forgotten when it is given
    /// back.
    fn resize(&self, next: u32) {
        let mut size = self.size();
        let (before, after) = (permits(size.turns), permits(next));
        size.turns = next;
        if after >= before {
            let more = after.saturating_sub(before);
            let paid = more.min(size.owed);
            size.owed = size.owed.saturating_sub(paid);
            self.semaphore.add_permits(more.saturating_sub(paid));
        } else {
            let fewer = before.saturating_sub(after);
            let forgotten = self.semaphore.forget_permits(fewer);
            size.owed = size.owed.saturating_add(fewer.saturating_sub(forgotten));
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let mut size = self.turns.size();
        if let Some(less) = size.owed.checked_sub(1) {
            size.owed = less;
            permit.forget();
        }
    }
}

fn permits(count: u32) -> usize {
    usize::try_from(count)
        .unwrap_or(Semaphore::MAX_PERMITS)
        .min(Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::places::Places;
    use std::time::Duration;

    /// What is there without waiting.
    async fn at_once<T>(waited: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = waited => Some(done),
            () = std::future::ready(()) => None,
        }
    }

    fn live(bounds: Bounds) -> (Handshakes, ArcSwap<Bounds>) {
        (Handshakes::new(&bounds), ArcSwap::from_pointee(bounds))
    }

    /// F1: fewer and more again leaves as many as were asked for, also while all are taken.
    #[tokio::test]
    async fn what_is_taken_counts_against_the_bound_in_force() {
        let turns = Turns::new(4);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(turns.take().await.unwrap());
        }
        turns.resize(1);
        for _ in 0..3 {
            held.pop();
            assert!(at_once(turns.take()).await.is_none(), "one is enough");
        }
        turns.resize(4);
        for _ in 0..3 {
            held.push(at_once(turns.take()).await.unwrap().unwrap());
        }
        assert!(at_once(turns.take()).await.is_none());
        turns.resize(2);
        turns.resize(4);
        held.clear();
        assert_eq!(turns.semaphore.available_permits(), 4);
    }

    /// R-6.3.1-3a: whoever waits for one of the few turns under load holds none of all.
    #[tokio::test]
    async fn who_waits_under_load_keeps_nobody_else_out() {
        let (handshakes, bounds) = live(Bounds {
            handshakes_max: 9,
            handshakes_under_load_max: 1,
            ..Bounds::default()
        });
        let places = Arc::<Places>::default();
        let _crowd: Vec<_> = (0..64).map(|_| places.request(64).unwrap()).collect();
        let load = Load::new(places);
        for _ in 0..2 {
            load.tick(Duration::from_millis(9), Duration::from_millis(1));
        }
        assert!(load.is_over());
        let turn = |last: u8| {
            let address = IpAddr::from([192, 0, 2, last]);
            handshakes.turn(address, &load, &bounds)
        };
        let first = turn(1).await.unwrap();
        let mut second = Box::pin(turn(2));
        assert!(at_once(&mut second).await.is_none());
        assert_eq!(handshakes.all.semaphore.available_permits(), 8);
        drop(first);
        assert!(at_once(&mut second).await.is_some());
    }

    /// R-6.3.1-3a: an address has its share; who waits within it is woken, also when it grows, and
    /// nothing is remembered of who has gone.
    #[tokio::test]
    async fn an_address_has_its_share_and_leaves_nothing_behind() {
        let (handshakes, bounds) = live(Bounds {
            handshakes_per_address_max: 1,
            ..Bounds::default()
        });
        let load = Load::new(Arc::default());
        let turn = |last: u8| {
            let address = IpAddr::from([192, 0, 2, last]);
            handshakes.turn(address, &load, &bounds)
        };
        let first = turn(1).await.unwrap();
        let (mut second, mut third) = (Box::pin(turn(1)), Box::pin(turn(1)));
        assert!(at_once(&mut second).await.is_none());
        assert!(at_once(&mut third).await.is_none());
        assert!(at_once(turn(2)).await.is_some(), "another address");
        bounds.store(Arc::new(Bounds::default()));
        drop(first);
        let second = at_once(&mut second).await.unwrap();
        let third = at_once(&mut third).await.unwrap();
        assert!(second.is_some() && third.is_some());
        drop((second, third));
        assert!(handshakes.shares().is_empty());
    }
}
