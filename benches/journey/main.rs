//! Whole journeys against a yardstick: a merchant places orders and takes them to an institution,
//! through the real gateway on one pinned core, over mutual TLS, with everything signed and durable;
//! beside it the distribution's nginx as a bare proxy on the same core in the same run.
//!
//! Load, institution and backend share the other core and are not counted. `docs/performance.md`
//! says how to read the tables.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::float_arithmetic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark reads the clock, computes rates, and stops at the first surprise"
)]

mod certificates;
mod commits;
mod cpu;
mod enrolment;
mod institution;
mod load;
mod parts;
mod report;
mod requests;
mod wire;
mod yardstick;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use tokio::net::TcpStream;

use crate::cpu::{Party, Spent};
use crate::load::{Round, Sample, Target, one, round};
use crate::report::Compared;
use crate::requests::{Merchant, numbers};

const CONNECTIONS: [usize; 3] = [16, 64, 128];
const ROUNDS: usize = 5;
/// Orders placed in one round.
const PLACED: usize = 12_000;
/// Of which so many are taken to an institution: a burst that is over before the gateway begins to
/// ask the institution about the first of them, half a second later.
const SELECTED: usize = 1_500;
/// nginx is faster and gets the same bytes again and again.
const NGINX_REQUESTS: usize = 36_000;
const PLACE_RATIO_MAX: f64 = 4.0;
const SELECT_RATIO_MAX: f64 = 7.0;
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Less than this in 700 ms is no work.
const IDLE_NS_MAX: u64 = 10_000_000;
const IDLE_WITHIN_TICKS: usize = 40;

fn main() -> Result<()> {
    // `cargo test` builds and starts benches as well; only `cargo bench` says so.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("measures only under cargo bench");
        return Ok(());
    }
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    ensure!(installed.is_ok(), "another crypto provider is in use");
    cpu::pin_load()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tables = runtime.block_on(measured())?;
    println!("{tables}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    report::renew(&root.join("docs/performance.md"), &tables)
}

async fn measured() -> Result<String> {
    // Beside the build, because /tmp may be memory, where nothing is ever synchronised.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let commits = commits::measure(dir.path()).await?;
    let mut bench = Bench::start(dir.path()).await?;
    let mut found = Vec::new();
    for connections in CONNECTIONS {
        found.extend(bench.compare(connections).await?);
    }
    found.sort_by_key(|compared| compared.journey);
    let parts = parts::measure(&bench.place.request, &bench.place.answer)?;
    report::written(&found, &commits, &parts)
}

/// Both parties on the measured core, and what the load needs to address them.
struct Bench {
    gateway: Party,
    nginx: Party,
    to_gateway: Target,
    to_nginx: Target,
    merchant: Merchant,
    backend: yardstick::Backend,
    place: Sample,
    select: Sample,
    rounds: usize,
}

impl Bench {
    async fn start(dir: &Path) -> Result<Self> {
        let certificates = certificates::make(dir)?;
        let [port, operations, nginx_port] = free_ports()?;
        let target = |port| Target {
            port,
            tls: Arc::clone(&certificates.caller),
            expected: "\"result\":\"ACCEPTED\"",
        };
        let (to_gateway, to_nginx) = (target(port), target(nginx_port));
        let backend = yardstick::Backend::serve()?;
        let mut nginx = yardstick::start(dir, nginx_port, backend.port)?;
        let (mut gateway, merchant) = enrolment::start(dir, [port, operations], &certificates)?;
        ready(&mut nginx, nginx_port).await.context("nginx")?;
        ready(&mut gateway, port).await.context("the gateway")?;

        let numbers = numbers(0, 1);
        let place = one(&to_gateway, &merchant.place(&numbers)?[0]).await?;
        let select = one(&to_gateway, &merchant.select(&numbers)?[0]).await?;
        Ok(Self {
            gateway,
            nginx,
            to_gateway,
            to_nginx,
            merchant,
            backend,
            place,
            select,
            rounds: 0,
        })
    }

    /// Places orders and selects some of them, gateway and yardstick by turns.
    async fn compare(&mut self, connections: usize) -> Result<[Compared; 2]> {
        let mut place = Compared::new("place", connections, PLACE_RATIO_MAX);
        let mut select = Compared::new("select", connections, SELECT_RATIO_MAX);
        for _ in 0..ROUNDS {
            self.rounds += 1;
            let numbers = numbers(self.rounds, PLACED);
            let requests = self.merchant.place(&numbers)?;
            place
                .gateway
                .push(self.asked(connections, &requests).await?);
            place.nginx.push(
                self.proxied(connections, &requests, &self.place.whole)
                    .await?,
            );
            let requests = self.merchant.select(&numbers[..SELECTED])?;
            let asked = self.asked(connections, &requests).await?;
            let asking = settled(&self.gateway).await?.since(&asked.ended).total_ns();
            let questions_us = asking as f64 / 1_000.0 / SELECTED as f64;
            select.with_questions_us.push(asked.cpu_us() + questions_us);
            select.gateway.push(asked);
            select.nginx.push(
                self.proxied(connections, &requests, &self.select.whole)
                    .await?,
            );
        }
        Ok([place, select])
    }

    async fn asked(&self, connections: usize, requests: &Arc<[Bytes]>) -> Result<Round> {
        let asked = round(
            &self.to_gateway,
            &self.gateway,
            connections,
            requests,
            requests.len(),
        );
        asked.await.context("the gateway")
    }

    /// The same requests to nginx, whose backend answers what the gateway did.
    async fn proxied(
        &self,
        connections: usize,
        requests: &Arc<[Bytes]>,
        answer: &Bytes,
    ) -> Result<Round> {
        self.backend.answers(answer);
        let asked = round(
            &self.to_nginx,
            &self.nginx,
            connections,
            requests,
            NGINX_REQUESTS,
        );
        asked.await.context("nginx")
    }
}

/// Waits until the gateway has asked about everything there is to ask about, and is idle.
async fn settled(gateway: &Party) -> Result<Spent> {
    let mut ticks = tokio::time::interval(Duration::from_millis(700));
    let mut before = gateway.spent();
    ticks.tick().await;
    for _ in 0..IDLE_WITHIN_TICKS {
        ticks.tick().await;
        let now = gateway.spent();
        if now.since(&before).total_ns() < IDLE_NS_MAX {
            return Ok(now);
        }
        before = now;
    }
    bail!("the gateway does not come to rest");
}

/// Ports that nobody listens on.
fn free_ports() -> Result<[u16; 3]> {
    let mut held = Vec::new();
    let mut ports = [0; 3];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Waits until somebody listens.
async fn ready(party: &mut Party, port: u16) -> Result<()> {
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
