//! What is measured, and what plays its surroundings: the gateway and the yardsticks on one core;
//! institutions, the merchant's endpoint and the yardstick's backend on the other.

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
/// Less than this in a tick is no work.
const IDLE_NS_MAX: u64 = 15_000_000;
const IDLE_TICK: Duration = Duration::from_millis(700);
/// Ticks in which a gateway that nobody has asked anything shows what its rest costs.
const REST_TICKS: usize = 4;
/// Two minutes: what was put off in a whole point may be much.
const IDLE_WITHIN_TICKS: usize = 170;
/// Callers that prepare orders while nothing is measured.
const PREPARING: usize = 64;

/// What kind of gateway.
pub(crate) struct SetupOptions {
    /// Of the merchant's key.
    pub(crate) algorithm: SignerAlgorithm,
    /// Of the platform's: Ed25519 or RSA.
    pub(crate) answers: SignerAlgorithm,
    /// Refuses what is too much, as it does by default. Otherwise everybody waits as long as it
    /// takes: what is measured then is work.
    pub(crate) rejections: bool,
    /// The merchant hears of closed orders, at an origin of their own.
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

/// A gateway with an empty database and all that is around it.
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
    /// Less than this in a tick is no work of this gateway. Unit: nanoseconds.
    idle_ns_max: u64,
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

impl BenchSetup {
    pub(crate) async fn start(wanted: &SetupOptions) -> Result<Self> {
        // Beside the build, because /tmp may be memory, where nothing is ever synchronised.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let certificates = certificates::make(dir.path())?;
        let [port, operations] = free_ports()?;
        let enrolled = enrolment::write(dir.path(), wanted, [port, operations], &certificates)?;
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

    /// nginx in front of a backend of the load's.
    pub(crate) async fn nginx(&self) -> Result<(MeasuredProcess, LoadTarget, yardstick::Backend)> {
        let [port, _] = free_ports()?;
        let backend = yardstick::Backend::serve()?;
        let mut nginx = yardstick::start(self.dir.path(), port, backend.port)?;
        ready(&mut nginx, port).await.context("nginx")?;
        Ok((nginx, self.target(port), backend))
    }

    /// A bare pingora that always answers this.
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

    /// Sends one request by a connection of its own; its answer must hold `expected`.
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

    /// Payments that are prepared as far as they can be.
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

    /// Orders that were paid and told; nothing is measured.
    pub(crate) async fn paid(&self, count: usize) -> Result<Vec<String>> {
        // Who is asked while its callback is on its way must not say that it is over.
        self.institution.timeouts.store(true, Ordering::Relaxed);
        let work = self.payments(count)?;
        let mut callers = self.callers(PREPARING, true).await?;
        closed::send(&mut callers, &work, 0..count).await?;
        drop(callers);
        self.settled().await?;
        let LoadWork::Payments(payments) = &*work else {
            bail!("payments are no payments");
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

    /// Learns what this gateway's rest costs, before anybody asks it anything: what it does then
    /// anyway, as on a large database, is no work that was put off.
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

    /// Waits until the gateway has nothing more to do, and says what it has spent by then.
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
        bail!("the gateway does not come to rest");
    }
}

/// Ports that nobody listens on.
fn free_ports() -> Result<[u16; 2]> {
    let mut held = Vec::new();
    let mut ports = [0; 2];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Waits until somebody listens.
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
        .context("nobody listens in time")?
}
