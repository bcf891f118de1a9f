//! The only place that names concrete parts: builds, starts, drains, stops.
//!
//! Start-up follows S1: lock the data, check schema and seal, load the floor, take over leftovers,
//! start the workers, accept traffic. Stopping is the reverse: refuse new connections, finish what
//! was handed over, let the workers end what is in their hands, close the store.

mod paced;
mod responders;
mod settings;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::api::Api;
use crate::config::Config;
use crate::edge::{Drained, Edge, Listener, Stop, TlsIdentity};
use crate::flow::admit_request::ReadNonces;
use crate::flow::chase_doubts::adopt_leftovers;
use crate::health::Health;
use crate::limits::turns::Turns;
use crate::metrics::Metrics;
use crate::outbound::Hyper;
use crate::store::remembered::Remembered;
use crate::store::ringing::{Bells, Ringing};
use crate::store::{self, Store};
use crate::workers::Workers;
use crate::world::{SystemClock, SystemEntropy, World};

use paced::Paced;

/// Nonces of read-only requests remembered in each of two generations.
const READ_NONCES_MAX: usize = 200_000;

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
}

impl Gateway {
    /// Builds every part and takes over what a dead process left (S1). To be called on the runtime
    /// that will serve.
    ///
    /// # Errors
    /// The data cannot be opened, an address is taken, a certificate cannot be used.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new()?);
        metrics.configuration_in_force(&config.digest);
        let clock = Arc::new(SystemClock::start());
        let bells = Arc::new(Bells::default());
        let store = open_store(&config, Arc::clone(&bells))?;
        let door = Paced {
            hyper: Hyper::new(settings::outbound(&config)).context("[outbound]")?,
            turns: Arc::new(Turns::new(&settings::turns(&config), Arc::clone(&metrics))),
            metrics: Arc::clone(&metrics),
        };
        let world = World {
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            outbound: Arc::new(door),
            health: Arc::new(Health::new(config.health)),
        };
        let gate = settings::gate(&config, clock, &metrics);
        let register = Arc::new(ArcSwap::from_pointee(config.register));
        let api = Arc::new(Api {
            store: Arc::clone(&store),
            world: world.clone(),
            register: Arc::clone(&register),
            gate,
            reads: ReadNonces::new(READ_NONCES_MAX),
        });
        let adopted = adopt_leftovers(&*store, world.clock.now()).await?;
        if adopted > 0 {
            tracing::warn!(
                orders = adopted,
                "a stopped process left orders in doubt; asking about them"
            );
        }
        let ready = Arc::new(watch::Sender::new(false));
        let listeners = vec![
            Listener {
                address: config.listen.public,
                identity: Some(Arc::new(TlsIdentity::of(config.listen.identity))),
                responder: responders::public(api, Arc::clone(&metrics)),
            },
            Listener {
                address: config.listen.operations,
                identity: None,
                responder: responders::operations(&metrics, &world, &store, ready.subscribe()),
            },
        ];
        let bounds = settings::bounds(&config.limits, config.listen.drain);
        let edge = Edge::bind(listeners, bounds, &responders::refuse(), &metrics)
            .context("[listen]: an address cannot be used; is another gateway running?")?;
        let workers = Arc::new(Workers {
            store: Arc::clone(&store),
            world,
            register,
            metrics,
            bells,
        });
        Ok(Self {
            edge,
            workers,
            store,
            ready,
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

    /// Serves until stopped, then drains: requests first, then the workers, then the store.
    pub async fn serve(self) -> Drained {
        let (stop, stopped) = watch::channel(false);
        let workers = tokio::spawn(Arc::clone(&self.workers).run(stopped));
        self.ready.send_replace(true);
        let drained = self.edge.serve().await;
        self.ready.send_replace(false);
        stop.send_replace(true);
        if tokio::time::timeout(WORKERS_DRAIN, workers).await.is_err() {
            tracing::warn!(
                "workers were still busy; what they held is leased again at the next start"
            );
        }
        // Dropping the last hold of the store writes what waits and joins its threads.
        drop(self.store);
        drained
    }
}

/// Opens the data: lock, schema, seal, floor, epoch (S1).
fn open_store(config: &Config, bells: Arc<Bells>) -> anyhow::Result<Arc<dyn Store>> {
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
    let on_fatal = Box::new(|why: &str| {
        tracing::error!(why, "the store failed; stopping at once");
        std::process::abort();
    });
    let store = store::open(Path::new(path), Arc::clone(&config.store.seal), on_fatal)?;
    let store: Arc<dyn Store> = Arc::new(Remembered::new(store));
    Ok(Arc::new(Ringing::new(store, bells)))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a request took, for the metrics alone"
)]
fn now() -> Instant {
    Instant::now()
}
