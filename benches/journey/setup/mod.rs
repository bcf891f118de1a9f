//! The measured processes and their environment: gateway and yardsticks on one core; institutions,
//! the merchant's endpoint and the yardstick's backend on the other.

pub(crate) mod bare;
pub(crate) mod certificates;
pub(crate) mod cpu;
pub(crate) mod enrolment;
pub(crate) mod https;
pub(crate) mod institution;
pub(crate) mod notification_endpoint;
pub(crate) mod requests;
pub(crate) mod signer;
pub(crate) mod yardstick;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::load::wire::head_end;
use crate::load::work::{ACCEPTED, CLOSED, LoadWork, Payments, Requests};
use crate::load::{BenchCaller, LoadTarget, ReconnectingClient, callers, closed};
use crate::setup::cpu::{CpuTime, MeasuredProcess};
use crate::setup::institution::BenchInstitution;
use crate::setup::notification_endpoint::NotificationEndpoint;
use crate::setup::requests::BenchMerchant;
use crate::setup::signer::SignerAlgorithm;

const READY_WITHIN: Duration = Duration::from_secs(20);
/// Less than this in one tick is idle.
const IDLE_NS_MAX: u64 = 15_000_000;
const IDLE_TICK: Duration = Duration::from_millis(700);
/// Ticks over which an idle gateway's base load is measured.
const REST_TICKS: usize = 4;
/// Two minutes: a whole point may have deferred much work.
const IDLE_WITHIN_TICKS: usize = 170;
/// Callers that prepare orders while nothing is measured.
const PREPARING: usize = 64;

/// Options of a benchmark gateway.
pub(crate) struct SetupOptions {
    /// The algorithm of the merchant's key.
    pub(crate) algorithm: SignerAlgorithm,
    /// The algorithm of the platform's key: Ed25519 or RSA.
    pub(crate) answers: SignerAlgorithm,
    /// Whether load shedding is on, as by default. If off, every caller waits as long as it takes,
    /// so that work is measured.
    pub(crate) rejections: bool,
    /// Whether the merchant is notified of closed orders, at a second origin.
    pub(crate) notify_closed: bool,
}

impl Default for SetupOptions {
    fn default() -> Self {
        Self {
            algorithm: SignerAlgorithm::Ed25519,
            answers: SignerAlgorithm::Ed25519,
            rejections: false,
            notify_closed: false,
        }
    }
}

/// A gateway with an empty store and its environment.
pub(crate) struct BenchSetup {
    pub(crate) gateway: MeasuredProcess,
    pub(crate) to_gateway: LoadTarget,
    pub(crate) operations: u16,
    pub(crate) merchant: BenchMerchant,
    pub(crate) institution: Arc<BenchInstitution>,
    pub(crate) shop: Arc<NotificationEndpoint>,
    pub(crate) second_shop: Option<Arc<NotificationEndpoint>>,
    pub(crate) routes: PathBuf,
    pub(crate) dir: TempDir,
    /// Less than this in one tick is idle for this gateway. Unit: nanoseconds.
    idle_ns_max: u64,
}

/// One request and its response.
pub(crate) struct Sample {
    /// The request's body.
    pub(crate) request: Bytes,
    /// The response's body.
    pub(crate) answer: Bytes,
    /// The whole response, head and body.
    pub(crate) whole: Bytes,
}

impl BenchSetup {
    pub(crate) async fn start(options: &SetupOptions) -> Result<Self> {
        // Next to the build, because /tmp may be a tmpfs, where fsync does nothing.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let certificates = certificates::make(dir.path())?;
        let [port, operations] = free_ports()?;
        let enrolled = enrolment::write(dir.path(), options, [port, operations], &certificates)?;
        let mut gateway = enrolment::serve(&enrolled.routes)?;
        ready(&mut gateway, port).await.context("the gateway")?;
        Ok(Self {
            gateway,
            to_gateway: LoadTarget {
                port,
                tls: certificates.caller,
            },
            operations,
            merchant: enrolled.merchant,
            institution: enrolled.institution,
            shop: enrolled.shop,
            second_shop: enrolled.second_shop,
            routes: enrolled.routes,
            dir,
            idle_ns_max: IDLE_NS_MAX,
        })
    }

    /// nginx in front of a backend of the load.
    pub(crate) async fn nginx(&self) -> Result<(MeasuredProcess, LoadTarget, yardstick::Backend)> {
        let [port, _] = free_ports()?;
        let backend = yardstick::Backend::serve()?;
        let mut nginx = yardstick::start(self.dir.path(), port, backend.port)?;
        ready(&mut nginx, port).await.context("nginx")?;
        Ok((nginx, self.target(port), backend))
    }

    /// A bare pingora that always returns these bytes.
    pub(crate) async fn bare(&self, answer: &Bytes) -> Result<(MeasuredProcess, LoadTarget)> {
        let [port, _] = free_ports()?;
        let mut bare = bare::start(self.dir.path(), port, answer)?;
        ready(&mut bare, port).await.context("a bare pingora")?;
        Ok((bare, self.target(port)))
    }

    fn target(&self, port: u16) -> LoadTarget {
        LoadTarget {
            port,
            tls: Arc::clone(&self.to_gateway.tls),
        }
    }

    /// Sends one request over its own connection; the response must contain `expected`.
    pub(crate) async fn sample(&self, request: &Bytes, expected: &str) -> Result<Sample> {
        let sample = ReconnectingClient::new(&self.to_gateway)
            .ask(request, |answer| Sample {
                request: request.slice(head_end(request)..),
                answer: Bytes::copy_from_slice(answer.body),
                whole: [answer.head, answer.body].concat().into(),
            })
            .await?;
        let whole = String::from_utf8_lossy(&sample.whole);
        if !whole.contains(expected) {
            bail!("expected {expected}, found\n{whole}");
        }
        Ok(sample)
    }

    pub(crate) async fn callers(&self, count: usize, both: bool) -> Result<Vec<BenchCaller>> {
        callers(&self.to_gateway, count, both).await
    }

    /// Places these orders; nothing is measured.
    pub(crate) async fn placed(&self, orders: &[String]) -> Result<()> {
        let work = Requests::of(self.merchant.place(orders)?, ACCEPTED);
        let mut callers = self.callers(PREPARING, false).await?;
        closed::send(&mut callers, &work, 0..orders.len()).await?;
        Ok(())
    }

    /// Prepared payments.
    pub(crate) fn payments(&self, count: usize) -> Result<Arc<LoadWork>> {
        let numbers = self.merchant.numbers(count);
        Ok(Arc::new(LoadWork::Payments(Payments {
            place: self.merchant.place(&numbers)?,
            select: self.merchant.select(&numbers)?,
            numbers,
            institution: Arc::clone(&self.institution),
            shop: Arc::clone(&self.shop),
        })))
    }

    /// Orders that were paid and notified; nothing is measured.
    pub(crate) async fn paid(&self, count: usize) -> Result<Vec<String>> {
        // A payment queried before its callback arrives must not be reported as over.
        self.institution.answers_open.store(true, Ordering::Relaxed);
        let work = self.payments(count)?;
        let mut callers = self.callers(PREPARING, true).await?;
        closed::send(&mut callers, &work, 0..count).await?;
        drop(callers);
        self.settled().await?;
        let LoadWork::Payments(payments) = &*work else {
            bail!("expected prepared payments");
        };
        Ok(payments.numbers.clone())
    }

    /// Places these orders and closes them; nothing is measured.
    pub(crate) async fn closed(&self, orders: &[String]) -> Result<()> {
        self.placed(orders).await?;
        let work = Requests::of(self.merchant.close(orders)?, CLOSED);
        let mut callers = self.callers(PREPARING, false).await?;
        closed::send(&mut callers, &work, 0..orders.len()).await?;
        Ok(())
    }

    /// Measures the gateway's base load before its first request: what it does anyway, for example
    /// on a large store, is not deferred work.
    pub(crate) async fn rests(&mut self) {
        let mut ticks = tokio::time::interval(IDLE_TICK);
        ticks.tick().await;
        let mut least = u64::MAX;
        for _ in 0..REST_TICKS {
            let before = self.gateway.spent();
            ticks.tick().await;
            least = least.min(self.gateway.spent().since(&before).total_ns());
        }
        self.idle_ns_max = IDLE_NS_MAX.saturating_add(least.saturating_mul(2));
    }

    /// Waits until the gateway is idle, and returns the processor time spent by then.
    pub(crate) async fn settled(&self) -> Result<CpuTime> {
        let mut ticks = tokio::time::interval(IDLE_TICK);
        let mut before = self.gateway.spent();
        ticks.tick().await;
        for _ in 0..IDLE_WITHIN_TICKS {
            ticks.tick().await;
            let now = self.gateway.spent();
            if now.since(&before).total_ns() < self.idle_ns_max {
                return Ok(now);
            }
            before = now;
        }
        bail!("the gateway does not become idle");
    }
}

/// Free ports.
fn free_ports() -> Result<[u16; 2]> {
    let mut bound = Vec::new();
    let mut ports = [0; 2];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        bound.push(listener);
    }
    Ok(ports)
}

/// Waits until the port accepts connections.
async fn ready(party: &mut MeasuredProcess, port: u16) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let ready = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            party.check()?;
            ticks.tick().await;
        }
        Ok(())
    };
    tokio::time::timeout(READY_WITHIN, ready)
        .await
        .context("the port did not open in time")?
}
