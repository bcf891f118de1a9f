//! The load: kept-alive connections over mutual TLS that send requests made beforehand, one after
//! another, and look at every answer. Signs nothing while the clock runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cpu::{Party, Spent};
use crate::wire::{Inbox, head_end};

/// How many requests go before the clock starts: connections, caches and branch predictors.
const WARMING: usize = 300;

/// Whom to ask, and how an answer has to look.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) expected: &'static str,
}

/// What one round found.
pub(crate) struct Round {
    pub(crate) requests: usize,
    pub(crate) wall_s: f64,
    /// Of each request, from its first byte to its answer's last. Unit: microseconds; sorted.
    pub(crate) latencies_us: Vec<u32>,
    /// By the measured process meanwhile.
    pub(crate) spent: Spent,
    /// By the measured process until the end of the round.
    pub(crate) ended: Spent,
}

impl Round {
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.wall_s
    }

    /// Processor time of the measured process for one request. Unit: microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.spent.total_ns() as f64 / self.requests as f64 / 1_000.0
    }

    /// The share of the core that the measured process had.
    pub(crate) fn busy(&self) -> f64 {
        self.cpu_us() * self.requests as f64 / self.wall_s / 1_000_000.0
    }

    /// Unit: milliseconds.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let last = self.latencies_us.len().saturating_sub(1);
        let at = (self.latencies_us.len() * percent).div_ceil(100);
        let us = self.latencies_us.get(at.saturating_sub(1).min(last));
        us.map_or(0.0, |us| f64::from(*us) / 1_000.0)
    }
}

struct Connection {
    stream: TlsStream<TcpStream>,
    inbox: Inbox,
}

/// Sends so many requests, starting over with the first where they do not suffice, over so many
/// connections at a time, and says what it cost `party`.
pub(crate) async fn round(
    target: &Target,
    party: &Party,
    connections: usize,
    requests: &Arc<[Bytes]>,
    count: usize,
) -> Result<Round> {
    let warm = WARMING.min(count / 4);
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(connect(target).await?);
    }
    let (open, _) = send(target, open, requests, 0..warm).await?;
    let before = party.spent();
    let start = Instant::now();
    let (_, mut latencies_us) = send(target, open, requests, warm..count).await?;
    let wall_s = start.elapsed().as_secs_f64();
    let ended = party.spent();
    latencies_us.sort_unstable();
    Ok(Round {
        requests: count - warm,
        wall_s,
        latencies_us,
        spent: ended.since(&before),
        ended,
    })
}

/// One request and what was answered.
pub(crate) struct Sample {
    /// The request's body.
    pub(crate) request: Bytes,
    /// The answer's body.
    pub(crate) answer: Bytes,
    /// The answer as it came, head and body.
    pub(crate) whole: Bytes,
}

/// Sends one request by a connection of its own.
pub(crate) async fn one(target: &Target, request: &Bytes) -> Result<Sample> {
    let mut connection = connect(target).await?;
    connection.stream.write_all(request).await?;
    let answer = connection
        .inbox
        .next(&mut connection.stream, |answer| Sample {
            request: request.slice(head_end(request)..),
            answer: Bytes::copy_from_slice(answer.body),
            whole: [answer.head, answer.body].concat().into(),
        });
    let sample = answer.await?.context("the connection ended unanswered")?;
    let whole = String::from_utf8_lossy(&sample.whole);
    ensure!(
        whole.contains(target.expected),
        "not {}:\n{whole}",
        target.expected
    );
    Ok(sample)
}

async fn connect(target: &Target) -> Result<Connection> {
    let stream = TcpStream::connect(("127.0.0.1", target.port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    let stream = TlsConnector::from(Arc::clone(&target.tls))
        .connect(name, stream)
        .await
        .context("no TLS")?;
    Ok(Connection {
        stream,
        inbox: Inbox::default(),
    })
}

async fn send(
    target: &Target,
    open: Vec<Connection>,
    requests: &Arc<[Bytes]>,
    range: std::ops::Range<usize>,
) -> Result<(Vec<Connection>, Vec<u32>)> {
    let next = Arc::new(AtomicUsize::new(range.start));
    let mut senders: JoinSet<Result<(Connection, Vec<u32>)>> = JoinSet::new();
    for mut connection in open {
        let (next, requests) = (Arc::clone(&next), Arc::clone(requests));
        let (expected, end) = (target.expected, range.end);
        senders.spawn(async move {
            let mut latencies_us = Vec::with_capacity(end / 8);
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= end {
                    return Ok((connection, latencies_us));
                }
                let request = &requests[at % requests.len()];
                let start = Instant::now();
                connection.exchange(request, expected).await?;
                latencies_us.push(u32::try_from(start.elapsed().as_micros())?);
            }
        });
    }
    let mut back = Vec::new();
    let mut latencies_us = Vec::new();
    while let Some(sender) = senders.join_next().await {
        let (connection, some) = sender??;
        back.push(connection);
        latencies_us.extend(some);
    }
    Ok((back, latencies_us))
}

impl Connection {
    async fn exchange(&mut self, request: &[u8], expected: &str) -> Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let answer = self.inbox.next(&mut self.stream, |answer| {
            let good = answer.head.starts_with(b"HTTP/1.1 200")
                && answer
                    .body
                    .windows(expected.len())
                    .any(|part| part == expected.as_bytes());
            (!good).then(|| {
                let whole = [answer.head, answer.body].concat();
                String::from_utf8_lossy(&whole).into_owned()
            })
        });
        match answer.await?.context("the connection ended unanswered")? {
            None => Ok(()),
            Some(answer) => bail!("not the answer that was expected ({expected}):\n{answer}"),
        }
    }
}
