//! The only place that names concrete parts: builds, starts, drains, stops.
//!
//! Start-up follows S1: lock the data, check schema and seal, load the floor, take over leftovers,
//! start the workers, accept traffic. Stopping is the reverse: refuse new connections, finish what
//! was handed over, let the workers end what is in their hands, close the store.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tokio::sync::watch;

use crate::api::refusal::problem;
use crate::api::{Answer, Api, Peer};
use crate::config::{self, Config};
use crate::domain::identifiers::{InstitutionId, hex};
use crate::domain::institutions::Directory;
use crate::edge::{Bounds, Drained, Edge, Listener, Refuse, Responding, Stop, TlsIdentity};
use crate::flow::admit_request::{Gate, ReadNonces};
use crate::flow::chase_doubts::adopt_leftovers;
use crate::limits::{LimitSettings, Limits, Rate, Wait};
use crate::metrics::{CallerClass, Metrics};
use crate::outbound::{Hyper, LineSettings, OutboundSettings};
use crate::store::remembered::Remembered;
use crate::store::ringing::{Bells, Ringing};
use crate::store::{self, Store};
use crate::workers::Workers;
use crate::world::{
    Entropy, Errand, Outbound, Party, Patience, SendError, SystemClock, SystemEntropy, World,
};

/// Nonces of read-only requests remembered in each of two generations.
const READ_NONCES_MAX: usize = 200_000;

/// How long the workers may take to end what is in their hands; a notification may last 10 s.
const WORKERS_DRAIN: Duration = Duration::from_secs(15);

/// How long a create waits for its turn at an institution whose rate is used up.
const TURN_WAIT_MAX: Duration = Duration::from_secs(2);

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
        let limits = limit_settings(&config);
        let door = Paced {
            hyper: Hyper::new(outbound(&config)).context("[outbound]")?,
            limits: Limits::new(&limits, clock.clone()),
            metrics: Arc::clone(&metrics),
        };
        let world = World {
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            outbound: Arc::new(door),
        };
        let gate = Gate {
            limits: Limits::new(&limits, clock),
            window: config.limits.window,
        };
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
                responder: public(api, Arc::clone(&metrics)),
            },
            Listener {
                address: config.listen.operations,
                identity: None,
                responder: operations(Arc::clone(&metrics), Arc::clone(&store), ready.subscribe()),
            },
        ];
        let bounds = bounds(&config.limits, config.listen.drain);
        let edge = Edge::bind(listeners, bounds, &refuse(), &metrics)
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

/// Institutions' lines and the rules for merchants' addresses.
fn outbound(config: &Config) -> OutboundSettings {
    let institutions = config.outbound.institutions.iter().map(|(id, leg)| {
        let roots = leg.roots.clone().unwrap_or_default();
        (
            id.clone(),
            LineSettings {
                roots,
                client_identity: leg.identity.clone(),
            },
        )
    });
    OutboundSettings {
        institutions: institutions.collect(),
        merchant_roots: config.outbound.merchant_roots.clone().unwrap_or_default(),
        allowed_networks: config.outbound.allowed_private_networks.clone(),
    }
}

fn limit_settings(config: &Config) -> LimitSettings {
    let rate = |per_second: u32| {
        let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        Rate {
            per_second,
            burst: per_second,
        }
    };
    LimitSettings {
        certificate: rate(config.limits.requests_per_second_per_caller),
        address: rate(config.limits.requests_per_second_per_caller),
        merchant: rate(config.limits.requests_per_second_per_merchant),
        institutions: institution_rates(&config.register.directory),
    }
}

fn institution_rates(
    directory: &Directory,
) -> std::collections::HashMap<InstitutionId, NonZeroU32> {
    let rates = directory
        .institutions
        .iter()
        .filter_map(|(id, institution)| {
            Some((
                id.clone(),
                NonZeroU32::new(institution.facts.calls_per_second)?,
            ))
        });
    rates.collect()
}

fn bounds(limits: &config::Limits, drain_within: Duration) -> Bounds {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Bounds {
        body_bytes_max: limits.body_bytes_max,
        header_lines_max: limits.header_lines_max,
        header_bytes_max: limits.header_bytes_max,
        head_within: limits.head,
        body_within: limits.body,
        in_flight_max: count(limits.in_flight_max),
        connections_max: count(limits.connections_max),
        connections_per_address_max: count(limits.connections_per_address_max),
        drain_within,
        ..Bounds::default()
    }
}

/// What answers on the public listener, counted.
fn public(api: Arc<Api>, metrics: Arc<Metrics>) -> crate::edge::Responder {
    Arc::new(move |request: Request<Bytes>, peer: Peer| -> Responding {
        let (api, metrics) = (Arc::clone(&api), Arc::clone(&metrics));
        Box::pin(async move {
            let began = now();
            let Answer {
                response,
                interface,
                result,
            } = api.answer(request, peer).await;
            let caller = match interface {
                "X-11" => CallerClass::Institution,
                "page" | "X-6" => CallerClass::Payer,
                "jwks" | "unknown" => CallerClass::Unknown,
                _ => CallerClass::Merchant,
            };
            metrics.request(interface, caller, result, began.elapsed());
            if response.status().is_client_error() || response.status().is_server_error() {
                metrics.refusal(result);
            }
            response
        })
    })
}

/// Metrics and health, for the operations listener only.
fn operations(
    metrics: Arc<Metrics>,
    store: Arc<dyn Store>,
    ready: watch::Receiver<bool>,
) -> crate::edge::Responder {
    Arc::new(move |request: Request<Bytes>, _peer: Peer| -> Responding {
        let (metrics, store, ready) = (Arc::clone(&metrics), Arc::clone(&store), *ready.borrow());
        Box::pin(async move {
            let (status, text) = match request.uri().path() {
                "/metrics" => (StatusCode::OK, metrics.render()),
                "/healthz" => (StatusCode::OK, "alive\n".to_owned()),
                "/readyz" => {
                    let answers = store.next_due(store::Work::Orders).await.is_ok();
                    if ready && answers {
                        (StatusCode::OK, "ready\n".to_owned())
                    } else {
                        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned())
                    }
                }
                _ => (
                    StatusCode::NOT_FOUND,
                    "/metrics /healthz /readyz\n".to_owned(),
                ),
            };
            let mut response = Response::new(Bytes::from(text));
            *response.status_mut() = status;
            let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, plain);
            response
        })
    })
}

/// How the edge refuses what never became a request.
fn refuse() -> Refuse {
    Arc::new(|refusal| {
        let entropy: &dyn Entropy = &SystemEntropy;
        problem(refusal, &hex(&entropy.draw::<8>()))
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a request took, for the metrics alone"
)]
fn now() -> Instant {
    Instant::now()
}

/// The network door, within each institution's declared rate, and counted.
struct Paced {
    hyper: Hyper,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl Paced {
    /// Holds to the institution's declared rate. A payer waits for a create, so it waits its turn
    /// for a while; what a worker asks is asked again later anyway.
    #[expect(
        clippy::disallowed_methods,
        reason = "a create waits its turn, and for nothing else"
    )]
    async fn paced(&self, institution: &InstitutionId, errand: &str) -> Result<(), SendError> {
        let mut left = if errand == "create" {
            TURN_WAIT_MAX
        } else {
            Duration::ZERO
        };
        while let Err(Wait(wait)) = self.limits.call(institution) {
            let Some(rest) = left.checked_sub(wait) else {
                return Err(SendError::NotSent(
                    "the institution's rate is used up".into(),
                ));
            };
            left = rest;
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Outbound for Paced {
    async fn send(
        &self,
        party: &Party,
        request: Request<Bytes>,
        patience: Patience,
    ) -> Result<Response<Bytes>, SendError> {
        let Party::Institution(institution) = party else {
            return self.hyper.send(party, request, patience).await;
        };
        let errand = request
            .extensions()
            .get::<Errand>()
            .map_or("other", |errand| errand.0);
        self.paced(institution, errand).await?;
        let began = now();
        let reply = self.hyper.send(party, request, patience).await;
        let outcome = match &reply {
            Ok(reply) if reply.status().is_server_error() => "server_fault",
            Ok(_) => "answered",
            Err(SendError::NotSent(_)) => "not_sent",
            Err(SendError::Unknown(_)) => "unknown",
        };
        self.metrics
            .institution_call(institution.as_str(), errand, outcome, began.elapsed());
        reply
    }
}
