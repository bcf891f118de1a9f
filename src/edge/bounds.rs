//! The limits of the edge: each by name, with its default, replaceable while it serves.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::handshakes::Handshakes;
use super::overload::Overload;
use crate::limits::bound::Bound;

/// What one caller, and all callers together, may use (Q1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Header lines, the request line not counted.
    pub header_lines_max: usize,
    /// Bytes of the head, request line and empty line included.
    pub header_bytes_max: usize,
    /// From a connection to the end of its TLS handshake, waiting for its first bytes and for its
    /// permit included.
    pub handshake_within: Duration,
    /// From a request's first byte to the end of its head.
    pub head_within: Duration,
    /// From the end of the head to the end of the body.
    pub body_within: Duration,
    /// Bytes of a body that must come in a second, after the first two.
    pub body_rate_min: u32,
    /// Until the client has read the whole response.
    pub write_within: Duration,
    /// How long a connection may stay without a request.
    pub idle_within: Duration,
    /// Requests one connection carries; the last is answered with `Connection: close`.
    pub requests_per_connection_max: u32,
    /// Requests in a row that a client may send before it has the answer to the one before.
    pub pipelined_max: u32,
    /// Requests in flight at once; past it 503 (Q8).
    pub in_flight_max: u32,
    /// With so many in flight, new orders are rejected.
    pub in_flight_orders_max: u32,
    /// With so many in flight, selections are rejected as well.
    pub in_flight_selections_max: u32,
    /// How long a request may wait for a permit and for the processor before new orders are rejected.
    pub delay_max: Duration,
    /// How long a rejected caller's next request of that priority waits at least.
    pub rejection_pause: Duration,
    /// Such requests read in a second: the others wait longer.
    pub rejections_per_second_max: u32,
    /// How long a whole request may wait before it starts; later it is dropped (Q9).
    pub start_within: Duration,
    /// Connections at once, all together.
    pub connections_max: u32,
    /// The same of a plain listener, which is for operations.
    pub operations_connections_max: u32,
    /// Connections at once from one address; of IPv6 from one /64, twice as many from a /56, four
    /// times from a /48.
    pub connections_per_address_max: u32,
    /// TLS handshakes that may use the processor at once; others wait.
    pub handshakes_max: u32,
    /// The same from one address, of IPv6 from one /64; under load at most a quarter of those few.
    pub handshakes_per_address_max: u32,
    /// The same in overload.
    pub handshakes_under_load_max: u32,
    /// At a stop: how long requests in progress may take.
    pub drain_within: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 10,
            header_lines_max: 64,
            header_bytes_max: 16 << 10,
            handshake_within: Duration::from_secs(5),
            head_within: Duration::from_secs(5),
            body_within: Duration::from_secs(10),
            body_rate_min: 1024,
            write_within: Duration::from_secs(10),
            idle_within: Duration::from_mins(1),
            requests_per_connection_max: 100_000,
            pipelined_max: 32,
            in_flight_max: 1024,
            in_flight_orders_max: 512,
            in_flight_selections_max: 768,
            delay_max: Duration::from_millis(20),
            rejection_pause: Duration::from_millis(15),
            rejections_per_second_max: 5_000,
            start_within: Duration::from_secs(1),
            connections_max: 8192,
            operations_connections_max: 64,
            connections_per_address_max: 256,
            handshakes_max: 32,
            handshakes_per_address_max: 8,
            handshakes_under_load_max: 8,
            drain_within: Duration::from_secs(20),
        }
    }
}

/// Connections of a listener that were closed and whose descriptors are still open, at most.
const CLOSING_MAX: u32 = 16;

impl Bounds {
    /// How many connections a listener may hold.
    pub(super) fn held_max(&self, is_public: bool) -> u32 {
        if is_public {
            self.connections_max
        } else {
            self.operations_connections_max
        }
    }

    /// How many descriptors its connections may use: those it holds, and a few that are closing. Nothing
    /// is accepted past that, or callers could use up the descriptors of calls (H1).
    pub(super) fn open_max(&self, is_public: bool) -> u32 {
        self.held_max(is_public).saturating_add(CLOSING_MAX)
    }
}

/// The connections of one listener that are open.
#[derive(Clone)]
pub(super) struct OpenConnections {
    pub(super) is_public: bool,
    pub(super) bound: Arc<Bound>,
}

/// The bounds in force; can be cloned and kept, to replace them while the edge serves (F1).
#[derive(Clone)]
pub struct LiveBounds {
    pub(super) bounds: Arc<ArcSwap<Bounds>>,
    pub(super) handshakes: Vec<Arc<Handshakes>>,
    pub(super) overloads: Vec<Arc<Overload>>,
    pub(super) open: Vec<OpenConnections>,
}

impl LiveBounds {
    pub(super) fn of(bounds: Bounds) -> Self {
        Self {
            bounds: Arc::new(ArcSwap::from_pointee(bounds)),
            handshakes: Vec::new(),
            overloads: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Replaces the bounds, from the next connection, request or response on. What is counted stays
    /// counted; no open connection is closed.
    pub fn replace(&self, next: Bounds) {
        self.bounds.store(Arc::new(next));
        for handshakes in &self.handshakes {
            handshakes.resize(&next);
        }
        for overload in &self.overloads {
            overload.resize(&next);
        }
        for open in &self.open {
            // Connections over a smaller bound must not keep out new ones, for which they are closed.
            let still_open = open.bound.taken().saturating_add(CLOSING_MAX);
            open.bound
                .resize(next.open_max(open.is_public).max(still_open));
        }
    }
}
