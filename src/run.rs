//! The composition root: builds, starts, drains and stops the concrete parts.
//!
//! Start-up follows S1: lock the store, check schema and seal, load the replay floor, recover
//! orphaned calls, start the workers, accept traffic. Shutdown is the reverse: refuse new
//! connections, finish requests in flight, let the workers finish, close the store.

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
use crate::store::notifying::{NotifyingChanges, WorkerSignals};
use crate::store::{self, OpenedStore, Store, StoreUrl};
use crate::workers::Workers;
use crate::workers::exchange_log::ExchangeLogWriter;

use crate::world::{Clock, SystemClock};

use control::ControlSocket;
use disk_space::DiskSpaceMonitor;
use in_force::{ActiveConfiguration, SharedParts};
use reconcile::Reconciler;
pub use reload::Reload;
use reload::{LoadedConfiguration, ReloadScope};
use responders::OperationsState;
use wall_clock::watch_clock;

/// How long the workers may take to finish after a stop; one notification may take 10 s.
const WORKERS_DRAIN: Duration = Duration::from_secs(15);

/// A gateway that is built and bound to its addresses but not yet serving.
pub struct Gateway {
    edge: Edge,
    workers: Arc<Workers>,
    store: Arc<Store>,
    ready: Arc<watch::Sender<bool>>,
    reloading: Arc<ReloadScope>,
    control: Option<ControlSocket>,
    room: DiskSpaceMonitor,
    wall: Arc<SystemClock>,
    entries: Arc<ExchangeLogWriter>,
    exchange_log: Arc<dyn ExchangeLog>,
}

impl Gateway {
    /// Builds every part and recovers orphaned calls of a dead process (S1). Call it on the runtime
    /// that will serve.
    ///
    /// # Errors
    /// The store cannot be opened, an address is in use, a certificate cannot be used, or the
    /// configuration lacks an institution that payments still need (F2).
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        Self::build_in(config, Arc::new(())).await
    }

    /// Like [`Self::build`], with a store in a folder that is deleted when `folder` is dropped. The
    /// store keeps `folder` alive until it is closed: a store whose files are deleted aborts the
    /// process.
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
        let opened = open_store(&config, &metrics, folder)?;
        let entries = settings::entries(&config, &metrics);
        let store = wrap_store(opened.store, &worker_signals);
        // Before anything is recorded: the last record shows whether the clock was ahead.
        wall_clock::at_start(&*store.nodes, &wall).await?;
        begin(&mut config, &store, &*clock, &metrics).await?;
        let loaded = LoadedConfiguration::of(&config);
        let disk_space = disk_space_monitor(&config)?;
        let files = connection_budget(&config)?;
        let (listen, limits) = (config.listen.clone(), config.limits.clone());
        let socket = control::socket(&config.store.url);
        let seal = Arc::clone(&config.store.seal);
        let refused_callers = refused_callers(&seal);
        let shared = SharedParts::of(&store, &clock, &metrics, &entries, &refused_callers);
        let first = ActiveConfiguration::first(config, files, shared).context("[outbound]")?;
        let in_force = Arc::new(ArcSwap::from_pointee(first));
        recover_orphaned_calls(&store, &*clock).await?;
        let ready = Arc::new(watch::Sender::new(false));
        let identity = Arc::new(TlsIdentity::of(listen.identity));
        let operations = OperationsState {
            metrics: Arc::clone(&metrics),
            in_force: Arc::clone(&in_force),
            ledger: Arc::clone(&opened.ledger),
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
            worker_signals: Arc::clone(&worker_signals),
            refused_callers,
        });
        let reconciler = Reconciler::new(opened.ledger, Arc::clone(&in_force));
        let reloading = Arc::new(ReloadScope {
            store: Arc::clone(&store),
            worker_signals,
            clock,
            metrics,
            seal,
            identity,
            bounds: edge.bounds(),
            reconciler: Arc::new(reconciler),
            in_force,
            loaded: Mutex::new(loaded),
        });
        Ok(Self {
            edge,
            workers,
            store,
            ready,
            reloading,
            control: open_control(&socket),
            room: disk_space,
            wall,
            entries,
            exchange_log: opened.exchange_log,
        })
    }

    /// Bound addresses: the public one first, then the operations one.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.edge.addresses()
    }

    /// A handle that stops the gateway.
    pub fn stopper(&self) -> Stop {
        self.edge.stopper()
    }

    /// A handle that reloads the configuration.
    pub fn reloader(&self) -> Reload {
        Reload(Arc::downgrade(&self.reloading))
    }

    /// Serves until stopped, then drains: requests first, then the workers, then the store.
    pub async fn serve(self) -> DrainOutcome {
        let (stop, stopped) = watch::channel(false);
        let watching = stopped.clone();
        let workers = tokio::spawn(Arc::clone(&self.workers).run(stopped.clone()));
        let control = self.control.map(|control| {
            let reloading = Arc::clone(&self.reloading);
            tokio::spawn(control.serve(reloading, stopped))
        });
        let disk = Arc::clone(&self.reloading.in_force.load().api.world.disk);
        let metrics = Arc::clone(&self.workers.metrics);
        let watched = Arc::clone(&self.workers);
        let wall = tokio::spawn(watch_clock(self.wall, watched, watching.clone()));
        let disk_space = tokio::spawn(self.room.watch(disk, metrics, watching));
        let (over, until) = watch::channel(false);
        let (entries, log) = (self.entries, self.exchange_log);
        let clock = Arc::clone(&self.workers.clock);
        // On a thread of lower priority: masking and compressing must not compete with payments.
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
            tracing::warn!("workers were still busy; the next start leases their work again");
        }
        if let Some(control) = control {
            // A reload that has begun is finished, within the time its caller waits.
            let _ = tokio::time::timeout(WORKERS_DRAIN, control).await;
        }
        self.reloading.reconciler.stop().await;
        let _ = disk_space.await;
        // It may be in the middle of a step that waits for the store.
        if tokio::time::timeout(WORKERS_DRAIN, wall).await.is_err() {
            tracing::warn!("a clock step was still being applied; the next start applies it");
        }
        // No task appends entries any more.
        over.send_replace(true);
        let _ = tokio::time::timeout(WORKERS_DRAIN, writing).await;
        let stop = ConfigurationChange {
            version: None,
            endpoints: Vec::new(),
            accounts: Vec::new(),
            audit_entry: reload::audit_entry("gateway", "gateway.stop", drained.word()),
        };
        let now = self.reloading.clock.now();
        if let Err(fault) = reload::recorded(&*self.store.changes, stop, now).await {
            tracing::error!(%fault, "the stop could not be recorded");
        }
        // Dropping the last reference to the store flushes pending writes and joins its threads.
        drop(self.reloading);
        drop(self.workers);
        drop(self.store);
        drained
    }
}

/// The public listener, then the operations listener.
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

fn disk_space_monitor(config: &Config) -> anyhow::Result<DiskSpaceMonitor> {
    let url = StoreUrl::parse(&config.store.url)?;
    Ok(DiskSpaceMonitor::beside(
        url.path(),
        config.store.reserve_mb,
    ))
}

/// Activates the configuration at start-up: rejects one that drops an institution still needed
/// (F2), gives it a version above every earlier one, records that, and logs its warnings.
async fn begin(
    config: &mut Config,
    store: &Store,
    clock: &dyn Clock,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    let since = removal_guard::since(config.limits.removal_guard_days, clock.now());
    let dependents = store.configuration.dependents(since).await?;
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
    reload::recorded(&*store.changes, start, clock.now()).await?;
    let now_s = clock.now().seconds();
    metrics
        .configuration
        .in_force(version, &config.digest, now_s);
    reload::record_expiries(metrics, &config.expiries);
    for UnusableCredential { party, note, .. } in &config.unusable {
        let party = party.word();
        tracing::error!(party, %note, "a key or certificate cannot be used; that party is served without it");
    }
    for warning in &config.warnings {
        tracing::warn!(%warning, "the configuration has a warning");
    }
    Ok(())
}

/// Addresses are stored as keyed digests (L4).
fn refused_callers(seal: &Arc<Seal>) -> Arc<RefusedCallers> {
    let seal = Arc::clone(seal);
    let digest = move |address: &[u8]| seal.digest("address", address);
    Arc::new(RefusedCallers::new(Box::new(digest)))
}

/// Wraps the store in the nonce cache and in the signals to the workers.
fn wrap_store(store: Store, signals: &Arc<WorkerSignals>) -> Arc<Store> {
    let cached = NonceCache::in_front_of(store);
    let notifying = NotifyingChanges::in_front_of(cached, Arc::clone(signals));
    Arc::new(notifying)
}

/// Shares the open files out, and logs the limit where the machine, not the configuration, sets it.
fn connection_budget(config: &Config) -> Result<machine::ConnectionBudget, ConfigFaults> {
    let files = machine::share_out(config, machine::files_allowed())?;
    let connections = files.connections_max;
    if connections < CONNECTIONS_MAX {
        tracing::info!(
            connections,
            "limit of public connections, set by the open files this process may have"
        );
    }
    Ok(files)
}

/// S1: the outcome of calls that a dead process left is unknown from now on.
async fn recover_orphaned_calls(store: &Store, clock: &dyn Clock) -> anyhow::Result<()> {
    let recovered = recover_orphaned(store, clock.now()).await?;
    if recovered > 0 {
        tracing::warn!(
            orders = recovered,
            "a stopped process left orders with unresolved calls; polling them"
        );
    }
    Ok(())
}

/// Optional: without it the gateway still serves, and SIGHUP still reloads.
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

/// Opens the store: lock, schema, seal, replay floor, epoch (S1).
fn open_store(
    config: &Config,
    metrics: &Arc<Metrics>,
    folder: Arc<dyn Send + Sync>,
) -> anyhow::Result<OpenedStore> {
    let url = StoreUrl::parse(&config.store.url)?;
    let path = url.path();
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("{}", folder.display()))?;
    }
    // After a failed fsync it is unknown what is durable, so the process stops (S3).
    let on_fatal: store::OnFatal = Box::new(|why: &str| {
        tracing::error!(why, "the store failed; stopping at once");
        crate::log::flush(crate::log::FLUSH_WITHIN);
        std::process::abort();
    });
    let metrics = Arc::clone(metrics);
    let on_commit: store::OnCommit = Box::new(move |changes, took| {
        let _folder = &folder;
        metrics.memory.commit(changes, took);
    });
    let seal = Arc::clone(&config.store.seal);
    let every = store::BEGIN_EVERY;
    Ok(store::open_for_all(path, seal, on_fatal, on_commit, every)?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a request took, for the metrics alone"
)]
fn now() -> Instant {
    Instant::now()
}
