//! Metrics of the edge: connections, rate limits and load shedding.

use prometheus::{Histogram, IntCounterVec, IntGauge, IntGaugeVec};

use super::{MetricRegistration, SECONDS};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Metrics of connections, rate limits and overload. Every label is a fixed name or the id of a
/// configured institution.
pub struct EdgeMetrics {
    connections: IntGauge,
    connections_refused: IntCounterVec,
    connections_cut: IntCounterVec,
    proxy_headers_refused: IntCounterVec,
    handshakes: IntGauge,
    load_shed: IntCounterVec,
    limited: IntCounterVec,
    scheduling_delay_seconds: Histogram,
    last_delay_us: AtomicU64,
    permits_waiting: IntGaugeVec,
    institution_calls_in_flight: IntGaugeVec,
}

impl EdgeMetrics {
    pub(super) fn new(page: &MetricRegistration<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            connections: page.gauge(
                "connections",
                "Open connections on all listeners, including those in a handshake.",
            )?,
            connections_refused: page.counters(
                "connections_refused_total",
                "Connections closed before their handshake, by the limit that was reached: \
                 connections (in total), address (per address or IPv6 network), or shortage \
                 (the system could not accept one).",
                &["cause"],
            )?,
            connections_cut: page.counters(
                "connections_cut_total",
                "Connections closed by us, by cause: unproven (closed to free capacity, because \
                 the client had proven nothing), or a slow client or protocol violation: \
                 handshake_slow, handshake_failed, head_slow, body_slow, reader_slow.",
                &["cause"],
            )?,
            proxy_headers_refused: page.counters(
                "proxy_headers_refused_total",
                "Connections from trusted proxies closed because of their PROXY protocol header, \
                 by reason: missing, v1 (text), cut (the connection ended), slow, too_long, \
                 unsupported (UNIX or datagram), invalid.",
                &["reason"],
            )?,
            handshakes: page.gauge("handshakes_in_progress", "TLS handshakes in progress.")?,
            load_shed: page.counters(
                "load_shed_total",
                "Requests rejected with 503 before they were processed, by priority (unknown, \
                 new_order, selection, other) and reason: in_flight (this priority's limit of \
                 requests in progress), delay (too long a wait for a permit or the processor), \
                 unauthenticated (too many unauthenticated callers), late (it waited too long).",
                &["priority", "reason"],
            )?,
            limited: page.counters(
                "limited_total",
                "Requests rejected by a rate limit, by what was counted: certificate, address, \
                 merchant, institution.",
                &["kind"],
            )?,
            last_delay_us: AtomicU64::new(0),
            scheduling_delay_seconds: page.histogram(
                "scheduling_delay_seconds",
                "How late a clock tick was served: how long a ready task waits for the processor. \
                 New orders are rejected while it stays high.",
                &SECONDS,
            )?,
            permits_waiting: page.gauges(
                "institution_permits_waiting",
                "Creates waiting for a permit at an institution.",
                &["institution"],
            )?,
            institution_calls_in_flight: page.gauges(
                "institution_calls_in_flight",
                "Calls to an institution in flight.",
                &["institution"],
            )?,
        })
    }

    /// Creates its series at 0.
    pub(super) fn begin(&self) {
        self.connections_refused.with_label_values(&["shortage"]);
    }

    /// Counts a connection until the returned value is dropped.
    pub fn connection(&self) -> ConnectionGuard {
        ConnectionGuard::up(&self.connections)
    }

    /// Counts a handshake until the returned value is dropped.
    pub fn handshake(&self) -> ConnectionGuard {
        ConnectionGuard::up(&self.handshakes)
    }

    /// A connection was closed before its handshake.
    pub fn connection_refused(&self, cause: &'static str) {
        self.connections_refused.with_label_values(&[cause]).inc();
    }

    /// We closed a connection because of its client.
    pub fn connection_cut(&self, cause: &'static str) {
        self.connections_cut.with_label_values(&[cause]).inc();
    }

    /// A trusted proxy's connection did not begin with an accepted PROXY protocol header.
    pub fn proxy_header_refused(&self, reason: &'static str) {
        self.proxy_headers_refused
            .with_label_values(&[reason])
            .inc();
    }

    /// A request was rejected under load.
    pub fn load_shed(&self, priority: &'static str, reason: &'static str) {
        self.load_shed.with_label_values(&[priority, reason]).inc();
    }

    /// A rate limit was exceeded.
    pub fn limited(&self, kind: &'static str) {
        self.limited.with_label_values(&[kind]).inc();
    }

    /// A clock tick was served this late.
    pub fn scheduling_delay(&self, late_by: Duration) {
        self.scheduling_delay_seconds.observe(late_by.as_secs_f64());
        let late_us = u64::try_from(late_by.as_micros()).unwrap_or(u64::MAX);
        self.last_delay_us.store(late_us, Ordering::Relaxed);
    }

    /// How late the last clock tick was served.
    pub fn last_delay(&self) -> Duration {
        Duration::from_micros(self.last_delay_us.load(Ordering::Relaxed))
    }

    /// How many calls wait for a permit at an institution, and how many are in flight.
    pub fn permits(&self, institution: &str, waiting: u32, in_flight: u32) {
        self.permits_waiting
            .with_label_values(&[institution])
            .set(i64::from(waiting));
        self.institution_calls_in_flight
            .with_label_values(&[institution])
            .set(i64::from(in_flight));
    }
}

/// Something that exists; decrements its gauge on drop.
#[derive(Debug)]
pub struct ConnectionGuard(IntGauge);

impl ConnectionGuard {
    fn up(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
