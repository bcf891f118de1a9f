//! One connection from its acceptance to its end: its place, its handshake, its requests.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::connection::{ClientConnection, ConnectionReuse, ListenerConnections, StopReceiver};
use super::places::{ConnectionPlace, Full};
use crate::api::Peer;

/// How long nothing is accepted after the system failed to accept a connection.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

impl ListenerConnections {
    /// Accepts connections until stopped. Where the system cannot, for want of file descriptors or memory,
    /// it retries a little later, and logs the first failure of a row (H1).
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener, mut stopped: StopReceiver) {
        let mut failures = 0_u64;
        loop {
            // Before accepting: a connection that was closed must have released its descriptor by then.
            let accepting = async {
                let open = self.open.take(1).await;
                (open, listener.accept().await)
            };
            let (open, accepted) = tokio::select! {
                accepted = accepting => accepted,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((tcp, from)) => {
                    if failures > 0 {
                        tracing::warn!(failures, "connections are accepted again");
                    }
                    failures = 0;
                    // This fails only for a connection that has ended already.
                    let _ = tcp.set_nodelay(true);
                    let address = from.ip().to_canonical();
                    let connections = Arc::clone(&self);
                    let receiving = connections.receive(tcp.into(), address, stopped.clone());
                    tokio::spawn(async move {
                        let _open = open;
                        receiving.await;
                    });
                }
                Err(error) if is_of_one_connection(&error) => (),
                Err(error) => {
                    if failures == 0 {
                        tracing::error!(%error, "no connection can be accepted; trying again");
                    }
                    failures = failures.saturating_add(1);
                    self.metrics.front.connection_refused("shortage");
                    let stop = stopped.wait_for(|stop| *stop);
                    if timeout(SHORTAGE_PAUSE, stop).await.is_ok() {
                        return;
                    }
                }
            }
        }
    }

    /// One connection. Most connections are idle most of the time, so what a handshake or a request needs
    /// is allocated apart, and only as long as it lasts.
    async fn receive(self: Arc<Self>, tcp: TcpStream, address: IpAddr, mut stopped: StopReceiver) {
        let bounds = self.bounds();
        // Past the limits it is closed before it costs a handshake.
        let place = match self.places.connection(address, &bounds) {
            Ok(place) => place,
            Err(full) => {
                let cause = match full {
                    Full::Whole => "connections",
                    Full::Address => "address",
                };
                return self.metrics.front.connection_refused(cause);
            }
        };
        let _counted = self.metrics.front.connection();
        let serving = self.converse(tcp, address, &place, &mut stopped);
        tokio::select! {
            () = serving => (),
            () = place.is_taken() => self.metrics.front.connection_cut("unproven"),
        }
    }

    async fn converse(
        &self,
        tcp: TcpStream,
        address: IpAddr,
        place: &ConnectionPlace<'_>,
        stopped: &mut StopReceiver,
    ) {
        let within = self.bounds.load().handshake_within;
        let secured = tokio::select! {
            secured = timeout(within, self.secure(tcp, address)) => secured,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        let Ok(secured) = secured else {
            return self.metrics.front.connection_cut("handshake_slow");
        };
        let Some((stream, certificate)) = secured else {
            return;
        };
        let is_enrolled = certificate.is_some_and(|shown| (self.enrolled)(&shown));
        if is_enrolled {
            place.has_certificate();
        }
        let mut caller = ClientConnection {
            stream,
            read: BytesMut::new(),
            peer: Peer {
                address,
                certificate,
            },
            place,
            is_proven: is_enrolled,
            requests: 0,
            ahead: 0,
            paused: None,
        };
        let mut then = ConnectionReuse::Again;
        while then == ConnectionReuse::Again {
            then = self.exchange(&mut caller, stopped).await;
        }
        if then == ConnectionReuse::Close {
            Box::pin(self.close(&mut caller)).await;
        }
    }
}

/// Whether a connection ended before it was accepted: that says nothing of the next one.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    [ConnectionAborted, ConnectionReset, Interrupted].contains(&error.kind())
}
