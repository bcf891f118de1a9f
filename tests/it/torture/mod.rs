//! The real binary under load, killed at random and at named points, frozen for a while at others,
//! and restarted on the same store; acknowledgements, the institution's ledger and the merchants'
//! inboxes must agree at the end. `make torture KILLS=n SEED=n` runs longer.

mod checks;
mod journal;
mod kill_points;
mod load;
mod served;
mod store_observer;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use paymux::command::demo::environment::DemoEnvironment;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::simulation::said;
use crate::world::random::SeededRandom;
use kill_points::{KILL_POINTS, KillPoint};
use load::BuyerLoad;
use served::TortureGateway;

/// Kills in every test run, and the seed.
const KILLS: usize = 25;
const SEED: u64 = 1;

/// Concurrent buyers.
const BUYERS: usize = 4;

/// Additional kills, at most, until every named point was hit.
const TRIES_MAX: usize = 60;

/// The time limit for coming to rest after the last kill and purchase.
const REST: Duration = Duration::from_mins(3);

/// The environment variables with other numbers.
const KILLS_NAME: &str = "PAYMUX_KILLS";
const SEED_NAME: &str = "PAYMUX_SEED";

/// Waits: between kills, and between checks for rest.
async fn pass(how_long: Duration) {
    let _ = tokio::time::timeout(how_long, std::future::pending::<()>()).await;
}

/// Statistics of a run.
#[derive(Default)]
struct KillReport {
    kills: usize,
    drawn: usize,
    missed: BTreeMap<KillPoint, usize>,
    hits: BTreeMap<KillPoint, usize>,
    orders: usize,
    refunds: usize,
    events: usize,
    rest: Duration,
}

impl fmt::Display for KillReport {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kills,
            drawn,
            orders,
            refunds,
            events,
            rest,
            ..
        } = self;
        writeln!(
            to,
            "{kills} kills: {drawn} at random points, {} at named ones, {} missed a named one",
            self.hits.values().sum::<usize>(),
            self.missed.values().sum::<usize>()
        )?;
        for (moment, hits) in &self.hits {
            let missed = self.missed.get(moment).copied().unwrap_or_default();
            writeln!(to, "  {moment:?}: {hits} hit, {missed} missed")?;
        }
        write!(
            to,
            "{orders} orders and {refunds} refunds acknowledged, {events} events delivered, at rest {} s \
             after the last start",
            rest.as_secs()
        )
    }
}

/// A1, A5, A7, A8, C4, K1, K2, L1, M2, N1 to N4, O5, Q7, R1, R4, S1, Z1 to Z3: no acknowledged
/// order, event or refund is lost, nobody is charged twice, every unknown outcome is resolved, and
/// the inboxes are complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killing_it_loses_nothing_and_charges_nobody_twice() {
    let kills = said(KILLS_NAME).map_or(KILLS, |many| usize::try_from(many).unwrap());
    let seed = said(SEED_NAME).unwrap_or(SEED);
    let begun = tokio::time::Instant::now();
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let stage = Arc::new(stage);
    let running = tokio::spawn(run(Arc::clone(&stage), kills, seed));
    let broken = match running.await {
        Ok(Ok(report)) => {
            let took = begun.elapsed().as_secs();
            eprintln!("torture: seed {seed}, {took} s, {report}");
            return;
        }
        Ok(Err(broken)) => broken,
        Err(panicked) => panicked.to_string(),
    };
    let folder = stage.config.parent().unwrap().display().to_string();
    // Kept for analysis.
    std::mem::forget(stage);
    panic!("seed {seed}, {kills} kills, the files are in {folder}:\n{broken}");
}

async fn run(stage: Arc<DemoEnvironment>, kills: usize, seed: u64) -> Result<KillReport, String> {
    let mut dice = SeededRandom::new(seed);
    let (up, is_up) = watch::channel(false);
    let (done, is_done) = watch::channel(false);
    let load = Arc::new(BuyerLoad::new(Arc::clone(&stage), is_up, is_done));
    let buyers: Vec<_> = (0..BUYERS)
        .map(|buyer| {
            let dice = SeededRandom::new(dice.draw());
            tokio::spawn(Arc::clone(&load).buy(buyer, dice))
        })
        .collect();
    let mut report = KillReport::default();
    kill(&stage, &load, (&mut dice, &up), kills, &mut report).await?;
    let (served, _) = TortureGateway::start(&stage).await?;
    let begun = tokio::time::Instant::now();
    up.send_replace(true);
    done.send_replace(true);
    for buyer in buyers {
        buyer.await.map_err(|panicked| panicked.to_string())?;
    }
    load.end_all().await;
    rest(&stage).await?;
    report.rest = begun.elapsed();
    load.ask_all().await?;
    load.list_events().await?;
    served.kill();
    served.ended().await;
    let reported = load.reported();
    report.events = checks::all(&stage, &reported)?;
    report.orders = reported.orders.len();
    report.refunds = reported.refunds.len();
    if kills >= KILL_POINTS.len() && report.hits.len() < KILL_POINTS.len() {
        return Err(format!("not every named point was hit: {report}"));
    }
    Ok(report)
}

/// This many kills, every third at a random point, the others at the named ones in turn; and more
/// until each of those was hit.
async fn kill(
    stage: &Arc<DemoEnvironment>,
    load: &BuyerLoad,
    (dice, up): (&mut SeededRandom, &watch::Sender<bool>),
    kills: usize,
    report: &mut KillReport,
) -> Result<(), String> {
    let mut waiting = VecDeque::from(KILL_POINTS);
    // With fewer kills than named points, not all have to be hit.
    let every = kills >= KILL_POINTS.len();
    let lacks = |report: &KillReport| every && report.hits.len() < KILL_POINTS.len();
    while report.kills < kills || (lacks(report) && report.kills < kills + TRIES_MAX) {
        report.kills += 1;
        let is_drawn = report.kills.is_multiple_of(3) && report.kills <= kills;
        let moment = if is_drawn {
            KillPoint::Drawn
        } else {
            waiting.pop_front().unwrap()
        };
        let (served, took) = TortureGateway::start(stage).await?;
        up.send_replace(true);
        let was_hit = if moment == KillPoint::Starting {
            KillPoint::Drawn
                .kill_when_reached(stage, load, dice, served)
                .await;
            up.send_replace(false);
            kill_points::kill_while_starting(stage, took, dice).await
        } else {
            moment.kill_when_reached(stage, load, dice, served).await
        };
        up.send_replace(false);
        checks::acknowledged(stage)?;
        match (moment, was_hit) {
            (KillPoint::Drawn, _) => report.drawn += 1,
            (named, true) => *report.hits.entry(named).or_default() += 1,
            (named, false) => *report.missed.entry(named).or_default() += 1,
        }
        if moment == KillPoint::Drawn {
            continue;
        }
        // A missed point is tried again before the others' second turn.
        if was_hit || report.hits.len() == KILL_POINTS.len() {
            waiting.push_back(moment);
        } else {
            let first = waiting.iter().position(|one| report.hits.contains_key(one));
            waiting.insert(first.unwrap_or(waiting.len()), moment);
        }
    }
    Ok(())
}

/// The gateway's own store, read-only.
fn file(stage: &DemoEnvironment) -> Connection {
    let path = stage.config.with_file_name("paymux.sqlite");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = Connection::open_with_flags(path, flags).unwrap();
    file.busy_timeout(Duration::from_secs(5)).unwrap();
    file
}

/// Z1, Z2: waits until nothing is unresolved, in flight or undelivered.
async fn rest(stage: &DemoEnvironment) -> Result<(), String> {
    let until = tokio::time::Instant::now() + REST;
    loop {
        let unfinished = checks::unfinished(&file(stage));
        if unfinished.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > until {
            return Err(format!("Z1, Z2: not at rest: {}", unfinished.join("\n")));
        }
        pass(Duration::from_millis(200)).await;
    }
}
