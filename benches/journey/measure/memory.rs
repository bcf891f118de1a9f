//! Memory of the gateway with this many merchants connected by mutual TLS, each having placed one
//! order and then gone idle.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;

use crate::load::BenchConnection;
use crate::load::work::ACCEPTED;
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::cpu::ProcessMemory;
use crate::setup::{BenchSetup, SetupOptions};

/// Concurrent handshakes.
const AT_ONCE: usize = 32;
/// Connections from each loopback address.
const PER_ADDRESS: usize = 4_000;
/// For one level. Connections that the gateway closed are detected: its open files are counted.
const WITHIN_S: u64 = 120;

/// Memory at this number of connections.
pub(crate) struct ConnectionMemory {
    pub(crate) connections: usize,
    pub(crate) memory: ProcessMemory,
}

/// From none to 10,000 on the same gateway.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Result<Vec<ConnectionMemory>> {
    let levels: &[usize] = if plan.quick {
        &[0, 200]
    } else {
        &[0, 1_000, 2_500, 5_000, 10_000]
    };
    let stand = BenchSetup::start(&SetupOptions::default()).await?;
    let numbers = stand
        .merchant
        .numbers(levels.iter().copied().max().unwrap_or(0));
    let requests = stand.merchant.place(&numbers)?;
    let mut open = Vec::new();
    let mut found = Vec::new();
    for level in levels {
        let step = format!("memory at {level} connections");
        let filled = fill(&stand, &requests, &mut open, *level);
        if log.step(&step, WITHIN_S, filled).await.is_none() {
            break;
        }
        stand.settled().await?;
        let files = stand.gateway.open_files()?;
        ensure!(
            files >= *level,
            "only {files} of {level} connections are still open"
        );
        let memory = stand.gateway.memory()?;
        log.say(&format!(
            "{step}: {:.1} MB resident",
            memory.rss as f64 / 1e6
        ));
        found.push(ConnectionMemory {
            connections: *level,
            memory,
        });
    }
    Ok(found)
}

/// Opens connections up to this number.
async fn fill(
    stand: &BenchSetup,
    requests: &[bytes::Bytes],
    open: &mut Vec<BenchConnection>,
    level: usize,
) -> Result<()> {
    let mut opening: JoinSet<Result<BenchConnection>> = JoinSet::new();
    let mut next = open.len();
    while next < level || !opening.is_empty() {
        while next < level && opening.len() < AT_ONCE {
            let (target, request) = (stand.to_gateway.clone(), requests[next].clone());
            let host = u8::try_from(2 + next / PER_ADDRESS)?;
            opening.spawn(async move {
                let from = Ipv4Addr::new(127, 0, 0, host);
                let mut connection = BenchConnection::open(&target, from).await?;
                let good = connection.ask(&request, |answer| {
                    String::from_utf8_lossy(answer.body).contains(ACCEPTED)
                });
                ensure!(good.await?, "an order was not accepted");
                Ok(connection)
            });
            next += 1;
        }
        let opened = opening
            .join_next()
            .await
            .context("no connection is being opened")?;
        open.push(opened??);
    }
    Ok(())
}
