//! The only place that names concrete parts: builds, starts, drains, stops.
//!
//! Start-up follows S1: lock the data, check schema and seal, load what is forgotten, take over leftovers,
//! start the workers, accept traffic. Stopping is the reverse: refuse new connections, finish what
//! was handed over, let the workers end what is in their hands, close the store.

mod blocking_source;
pub mod control;
pub mod dead_lettered;
mod disk_space;
mod in_force;
pub mod machine;
pub mod manual_review;
mod rate_limited;
pub mod reconcile;
mod reload;
mod removal_guard;
mod responders;
mod settings;
pub mod signals;
mod wall_clock;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};

use crate::config::{CONNECTIONS_MAX, Config, ConfigFaults, UnusableCredential};
use crate::domain::change::ConfigurationChange;
use crate::edge::{DrainOutcome, Edge, Listener, Stop, TlsIdentity};
use crate::flow::admit_request::refused_callers::RefusedCallers;
use crate::flow::poll_unresolved::recover_orphaned;
use crate::metrics::Metrics;
use crate::seal::Seal;
use crate::store::exchange_log::ExchangeLog;
use crate::store::nonce_cache::NonceCache;
use crate::store::notifying::{NotifyingStore, WorkerSignals};
use crate::store::{self, Store, StoreViews};
use crate::workers::Workers;
use crate::workers::exchange_log::ExchangeLogWriter;
use crate::world::exchange_log::Recorder;
use crate::world::{Clock, SystemClock};

use control::ControlSocket;
use disk_space::DiskSpaceMonitor;
use in_force::ActiveConfiguration;
use reconcile::Reconciler;
pub use reload::Reload;
use reload::{LoadedConfiguration, ReloadScope};
use responders::OperationsState;
use wall_clock::watch_clock;

/// How long the workers may take to end what is in their hands; a notification may last 10 s.
const WORKERS_DRAIN: Duration = Duration::from_secs(15);

/// The store that is built so far.
const SQLITE: &str = "sqlite:";

/// A gateway that is built, bound to its addresses, and not yet serving.
pub struct Gateway {
    edge: Edge,
    workers: Arc<Workers>,
    store: Arc<dyn Store>,
    ready: Arc<watch::Sender<bool>>,
    reloading: Arc<ReloadScope>,
    control: Option<ControlSocket>,
    room: DiskSpaceMonitor,
    wall: Arc<SystemClock>,
    exchange_log: (Arc<ExchangeLogWriter>, Arc<dyn ExchangeLog>),
}

impl Gateway {
    /// Builds every part and takes over what a dead process left (S1). To be called on the runtime
    /// that will serve.
    ///
    /// # Errors
    /// The data cannot be opened, an address is taken, a certificate cannot be used, or the file
    /// lacks an institution that payments need (F2).
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        Self::build_in(config, Arc::new(())).await
    }

    /// The same on a store in a folder that goes when `folder` is dropped: not before the store is
    /// closed, for a store that is removed beneath it stops the process.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub async fn build_in(
        mut config: Config,
        folder: Arc<dyn Send + Sync>,
    ) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new()?);
        let wall = Arc::new(SystemClock::start());
        let clock: Arc<dyn Clock> = Arc::<SystemClock>::clone(&wall);
        let worker_signals = Arc::new(WorkerSignals::default());
        let (store, ledger, exchange_log) = open_store(&config, &metrics, folder)?;
        let entries = settings::entries(&config, &metrics);
        let (remembered, store) = in_front_of(store, &worker_signals);
        // Before anything is recorded: the last record tells when the clock was ahead.
        wall_clock::at_start(&*store, &wall).await?;
        begin(&mut config, &*store, &*clock, &metrics).await?;
        let loaded = LoadedConfiguration::of(&config);
        let room = disk_space_monitor(&config);
        let files = machine::share_out(&config, machine::files_allowed())?;
        log_connections_max(&files);
        let (listen, limits) = (config.listen.clone(), config.limits.clone());
        let socket = control::socket(&config.store.url);
        let seal = Arc::clone(&config.store.seal);
        let recorder: Arc<dyn Recorder> = Arc::<ExchangeLogWriter>::clone(&entries);
        let refused_callers = refused_callers(&seal);
        let beside = (recorder, Arc::clone(&refused_callers));
        let first = ActiveConfiguration::first((config, files), &store, &clock, &metrics, beside)
            .context("[outbound]")?;
        let in_force = Arc::new(ArcSwap::from_pointee(first));
        recover_orphaned_calls(&*store, &*clock).await?;
        let ready = Arc::new(watch::Sender::new(false));
        let identity = Arc::new(TlsIdentity::of(listen.identity));
        let operations = OperationsState {
            metrics: Arc::clone(&metrics),
            in_force: Arc::clone(&in_force),
            remembered,
            ledger: Arc::clone(&ledger),
            ready: ready.subscribe(),
        };
        let listeners = listeners([listen.public, listen.operations], &identity, operations);
        let bounds = settings::bounds(&limits, &files, listen.drain);
        let edge = Edge::bind(listeners, bounds, &responders::refuse(), &metrics)
            .context("[listen]: an address cannot be used; is another gateway running?")?;
        let served = Arc::clone(&in_force);
        let workers = Arc::new(Workers {
            in_force: Arc::new(move || served.load().tools()),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            worker_signals,
            refused_callers,
        });
        let reconciler = Reconciler::new(Arc::clone(&store), ledger, Arc::clone(&in_force));
        let reloading = Arc::new(ReloadScope {
            store: Arc::clone(&store),
            clock,
            metrics,
            seal,
            identity,
            bounds: edge.bounds(),
            reconciler: Arc::new(reconciler),
            in_force,
            standing: Mutex::new(loaded),
        });
        Ok(Self {
            edge,
            workers,
            store,
            ready,
            reloading,
            control: open_control(&socket),
            room,
            wall,
            exchange_log: (entries, exchange_log),
        })
    }

    /// Where it listens: public first, then operations.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.edge.addresses()
    }

    /// The way to stop it.
    pub fn stopper(&self) -> Stop {
        self.edge.stopper()
    }

    /// The way to have its configuration read again.
    pub fn reloader(&self) -> Reload {
        Reload(Arc::downgrade(&self.reloading))
    }

    /// Serves until stopped, then drains: requests first, then the workers, then the store.
    pub async fn serve(self) -> DrainOutcome {
        let (stop, stopped) = watch::channel(false);
        let looked = stopped.clone();
        let workers = tokio::spawn(Arc::clone(&self.workers).run(stopped.clone()));
        let control = self.control.map(|control| {
            let reloading = Arc::clone(&self.reloading);
            tokio::spawn(control.serve(reloading, stopped))
        });
        let disk = Arc::clone(&self.reloading.in_force.load().api.world.disk);
        let metrics = Arc::clone(&self.workers.metrics);
        let (store, counted) = (Arc::clone(&self.store), Arc::clone(&metrics));
        let wall = tokio::spawn(watch_clock(self.wall, store, counted, looked.clone()));
        let room = tokio::spawn(self.room.watch(disk, metrics, looked));
        let (over, until) = watch::channel(false);
        let (entries, log) = self.exchange_log;
        let clock = Arc::clone(&self.workers.clock);
        // On a thread that stands back: masking and compressing must not take the processor from who pays.
        let runtime = tokio::runtime::Handle::current();
        let writing = async move { entries.write(&*log, &*clock, until).await };
        let writing = tokio::task::spawn_blocking(move || {
            machine::lower_priority();
            runtime.block_on(writing);
        });
        self.ready.send_replace(true);
        let drained = self.edge.serve().await;
        self.ready.send_replace(false);
        stop.send_replace(true);
        if tokio::time::timeout(WORKERS_DRAIN, workers).await.is_err() {
            tracing::warn!(
                "workers were still busy; what they held is leased again at the next start"
            );
        }
        if let Some(control) = control {
            // A reload that has begun is ended, within what its caller waits.
            let _ = tokio::time::timeout(WORKERS_DRAIN, control).await;
        }
        self.reloading.reconciler.stop().await;
        let _ = room.await;
        // It may be in the middle of a reload, which reads files.
        if tokio::time::timeout(WORKERS_DRAIN, wall).await.is_err() {
            tracing::warn!("the clock was still being made good; the next start does it");
        }
        // Whoever appended entries has ended.
        over.send_replace(true);
        let _ = tokio::time::timeout(WORKERS_DRAIN, writing).await;
        let stop = ConfigurationChange {
            version: None,
            endpoints: Vec::new(),
            accounts: Vec::new(),
            audit_entry: reload::audit_entry("gateway", "gateway.stop", drained.word()),
        };
        let now = self.reloading.clock.now();
        if let Err(fault) = reload::recorded(&*self.store, stop, now).await {
            tracing::error!(%fault, "the stop could not be recorded");
        }
        // Dropping the last hold of the store writes what waits and joins its threads.
        drop(self.reloading);
        drop(self.workers);
        drop(self.store);
        drained
    }
}

/// The public address, then that of operations.
fn listeners(
    [public, operating]: [SocketAddr; 2],
    identity: &Arc<TlsIdentity>,
    operations: OperationsState,
) -> Vec<Listener> {
    let (in_force, metrics) = (&operations.in_force, &operations.metrics);
    let enrolled = responders::enrolled(Arc::clone(in_force));
    vec![
        Listener {
            address: public,
            identity: Some(Arc::clone(identity)),
            enrolled: Arc::clone(&enrolled),
            responder: responders::public(Arc::clone(in_force), Arc::clone(metrics)),
        },
        Listener {
            address: operating,
            identity: None,
            enrolled,
            responder: responders::operations(Arc::new(operations)),
        },
    ]
}

fn disk_space_monitor(config: &Config) -> DiskSpaceMonitor {
    let url = &config.store.url;
    let path = url.strip_prefix(SQLITE).unwrap_or(url);
    DiskSpaceMonitor::beside(Path::new(path), config.store.reserve_mb)
}

/// Puts the configuration into force for a start: refuses one that loses somebody (F2), gives it a
/// version above every earlier one, records that, and says what an operator should know.
async fn begin(
    config: &mut Config,
    store: &dyn Store,
    clock: &dyn Clock,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    let since = removal_guard::since(config.limits.removal_guard_days, clock.now());
    let dependents = store.dependents(since).await?;
    let faults = removal_guard::stored_needs(config, &dependents);
    if !faults.is_empty() {
        return Err(ConfigFaults(faults).into());
    }
    let version = reload::next_version(clock.now(), &dependents, 0);
    config.snapshot.routing.version = version;
    let result = format!("version={version} sha256={}", config.digest);
    let start = ConfigurationChange {
        version: Some(version),
        endpoints: removal_guard::endpoints(config),
        accounts: removal_guard::accounts::receivers(config),
        audit_entry: reload::audit_entry("gateway", "gateway.start", &result),
    };
    reload::recorded(store, start, clock.now()).await?;
    let now_s = clock.now().seconds();
    metrics
        .configuration
        .in_force(version, &config.digest, now_s);
    reload::record_expiries(metrics, &config.expiries);
    for UnusableCredential { party, note, .. } in &config.unusable {
        let party = party.word();
        tracing::error!(party, %note, "a key or certificate cannot be used; that party goes without");
    }
    for warning in &config.warnings {
        tracing::warn!(%warning, "the configuration has a warning");
    }
    Ok(())
}

/// Addresses are written as keyed digests (L4).
fn refused_callers(seal: &Arc<Seal>) -> Arc<RefusedCallers> {
    let seal = Arc::clone(seal);
    let digest = move |address: &[u8]| seal.digest("address", address);
    Arc::new(RefusedCallers::new(Box::new(digest)))
}

/// Says where the machine, not the configuration, decides how many connections there may be.
/// What stands in front of the store: spent nonces in memory, and signals to the workers.
fn in_front_of(
    store: Arc<dyn Store>,
    signals: &Arc<WorkerSignals>,
) -> (Arc<NonceCache>, Arc<dyn Store>) {
    let remembered = Arc::new(NonceCache::new(store));
    let notifying = NotifyingStore::new(remembered.clone(), Arc::clone(signals));
    (remembered, Arc::new(notifying))
}

fn log_connections_max(files: &machine::ConnectionBudget) {
    let connections = files.connections_max;
    if connections < CONNECTIONS_MAX {
        tracing::info!(
            connections,
            "as many public connections may be open at once"
        );
    }
}

/// S1: what a dead process left is in doubt from now on.
async fn recover_orphaned_calls(store: &dyn Store, clock: &dyn Clock) -> anyhow::Result<()> {
    let adopted = recover_orphaned(store, clock.now()).await?;
    if adopted > 0 {
        tracing::warn!(
            orders = adopted,
            "a stopped process left orders in doubt; asking about them"
        );
    }
    Ok(())
}

/// A convenience: without it the gateway still serves, and SIGHUP still reloads.
fn open_control(path: &Path) -> Option<ControlSocket> {
    match ControlSocket::bind(path) {
        Ok(control) => Some(control),
        Err(error) => {
            let path = path.display();
            tracing::error!(%error, %path, "no control socket: paymux reload will not work, SIGHUP will");
            None
        }
    }
}

/// Opens the data: lock, schema, seal, what is forgotten, epoch (S1).
fn open_store(
    config: &Config,
    metrics: &Arc<Metrics>,
    folder: Arc<dyn Send + Sync>,
) -> anyhow::Result<StoreViews> {
    let url = &config.store.url;
    let path = url.strip_prefix(SQLITE).with_context(|| {
        format!("[store] url: expected sqlite:PATH, found {url}; the shared store is not built yet")
    })?;
    if let Some(folder) = Path::new(path)
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("{}", folder.display()))?;
    }
    // After a failed synchronisation nobody knows what is stored; going on would be a guess (S3).
    let on_fatal: store::OnFatal = Box::new(|why: &str| {
        tracing::error!(why, "the store failed; stopping at once");
        crate::log::flush(crate::log::FLUSH_WITHIN);
        std::process::abort();
    });
    let metrics = Arc::clone(metrics);
    let on_commit: store::OnCommit = Box::new(move |changes, took| {
        let _kept = &folder;
        metrics.memory.commit(changes, took);
    });
    let seal = Arc::clone(&config.store.seal);
    let path = Path::new(path);
    let heard = (on_fatal, on_commit);
    Ok(store::open_for_all(path, seal, heard, store::BEGIN_EVERY)?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a request took, for the metrics alone"
)]
fn now() -> Instant {
    Instant::now()
}
