//! The time from the gateway's start until `/readyz` reports ready, over a store of a million
//! orders.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::measure::copies;
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::{BenchSetup, SetupOptions, enrolment};

const ORDERS: u32 = 1_000_000;
const TIMES: usize = 5;
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The interval between two readiness checks.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// The results.
pub(crate) struct StartupTimes {
    pub(crate) orders: u32,
    pub(crate) file_bytes: u64,
    /// Of each start. Unit: milliseconds.
    pub(crate) ready_ms: Vec<f64>,
    /// The same with an empty store.
    pub(crate) empty_ms: f64,
}

/// Creates the store if it does not exist, and starts the gateway on it repeatedly.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Result<StartupTimes> {
    let orders = if plan.quick { ORDERS / 10 } else { ORDERS };
    let path = copies::kept(log, orders).await?;
    let mut stand = BenchSetup::start(&SetupOptions::default()).await?;
    let empty_ms = started(&mut stand).await?;
    moved(&stand, &path)?;
    let mut ready_ms = Vec::new();
    for _ in 0..TIMES {
        ready_ms.push(started(&mut stand).await?);
    }
    log.say(&format!("startup: ready after {ready_ms:.0?} ms"));
    Ok(StartupTimes {
        orders,
        file_bytes: fs::metadata(&path)?.len(),
        ready_ms,
        empty_ms,
    })
}

/// Makes the gateway use this file from its next start.
pub(crate) fn moved(stand: &BenchSetup, file: &Path) -> Result<()> {
    let routes = fs::read_to_string(&stand.routes)?;
    let elsewhere = format!("sqlite:{}", file.display());
    let routes = routes.replace("sqlite:paymux.sqlite", &elsewhere);
    Ok(fs::write(&stand.routes, routes)?)
}

/// Restarts the gateway. Unit: milliseconds until it is ready.
pub(crate) async fn started(stand: &mut BenchSetup) -> Result<f64> {
    stand.gateway.stop()?;
    let start = Instant::now();
    stand.gateway = enrolment::serve(&stand.routes)?;
    let ready = async {
        let mut ticks = tokio::time::interval(ASK_EVERY);
        while !is_ready(stand.operations).await {
            ticks.tick().await;
        }
    };
    let ready = tokio::time::timeout(READY_WITHIN, ready).await;
    ready.context("not ready in time")?;
    let ready_ms = start.elapsed().as_secs_f64() * 1_000.0;
    stand.gateway.check()?;
    Ok(ready_ms)
}

async fn is_ready(port: u16) -> bool {
    let check = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    check.await.is_ok_and(|answer| &answer == b"HTTP/1.1 200")
}
