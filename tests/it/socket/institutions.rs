//! A silent institution, over real sockets: the calls that wait for it delay no query to another
//! institution (N10).

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, Uri};
use paymux::domain::evidence::{Ambiguity, EvidenceSource, Finding};
use paymux::domain::identifiers::{InstitutionId, MerchantId, Timestamp, Uptime};
use paymux::domain::order::Order;
use paymux::flow::admit_request::refused_callers::RefusedCallers;
use paymux::metrics::Metrics;
use paymux::outbound::{HyperOutbound, HyperOutboundSettings, PartyClientSettings};
use paymux::seal::Seal;
use paymux::store::notifying::{NotifyingChanges, WorkerSignals};
use paymux::store::{Store, open};
use paymux::workers::{BudgetSettings, WorkerResources, Workers};
use paymux::world::exchange_log::NoRecorder;
use paymux::world::sends::SendLog;
use paymux::world::{
    Clock, Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError, World,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::store::builders::{apply, at, done, place, start};
use crate::world::enrolment::snapshot;
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::random::SeededEntropy;

/// Unresolved orders at the silent institution.
const UNFINISHED: u32 = 900;
/// Calls in flight that one institution may have.
const SLOTS: usize = 16;
/// The same once it has been silent for a while.
const SLOTS_LATE: usize = 4;

/// Runs on from the moment at which all orders of the test are unresolved.
struct PollingClock(Instant);

impl Clock for PollingClock {
    fn now(&self) -> Timestamp {
        at(20).plus(self.0.elapsed())
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_ms(0)
    }
}

/// Queries that the institutions receive.
#[derive(Debug, PartialEq, Eq)]
enum ObservedQuery {
    /// A query to the silent one, with the number of its queries in flight at that time.
    Silent(usize),
    /// A query to the other one about this attempt.
    Prompt(String),
}

/// Real connections, to the ports on which the institutions listen.
struct RedirectedNetwork {
    hyper: HyperOutbound,
    ports: HashMap<InstitutionId, u16>,
}

#[async_trait]
impl Outbound for RedirectedNetwork {
    async fn send(
        &self,
        party: &OutboundParty,
        mut request: Request<Bytes>,
        options: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        if let OutboundParty::Institution(id) = party {
            let there = format!("https://localhost:{}/", self.ports[id]);
            *request.uri_mut() = there.parse::<Uri>().unwrap();
        }
        self.hyper.send(party, request, options).await
    }

    async fn permit(&self, _: &InstitutionId, _: &MerchantId) -> Result<Permit, PermitUnavailable> {
        Ok(Permit::free())
    }
}

/// An institution on a port of its own, and the queries that it receives.
async fn institution(
    identity: &TestIdentity,
    is_silent: bool,
    see: mpsc::UnboundedSender<ObservedQuery>,
) -> u16 {
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain(), identity.key())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let waiting = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (acceptor, see) = (acceptor.clone(), see.clone());
            let waiting = Arc::clone(&waiting);
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else {
                    return;
                };
                while let Some(message) = read_message(&mut tls).await {
                    if is_silent {
                        let now = waiting.fetch_add(1, Ordering::SeqCst) + 1;
                        let _ = see.send(ObservedQuery::Silent(now));
                        let mut rest = Vec::new();
                        let _ = tls.read_to_end(&mut rest).await;
                        waiting.fetch_sub(1, Ordering::SeqCst);
                        return;
                    }
                    let attempt: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
                    let id = attempt["id"].as_str().unwrap().to_owned();
                    let _ = see.send(ObservedQuery::Prompt(id));
                    let answer = b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n";
                    tls.write_all(answer).await.unwrap();
                }
            });
        }
    });
    port
}

/// Order `n`, sent to an institution without a known outcome.
async fn unresolved_order(store: Arc<Store>, n: u32, through: &'static str, s: i64) -> Order {
    let first = Some(start(n, through, store.epoch));
    let order = done(&store, place(n, first)).await;
    let silence = Finding::Ambiguous(Ambiguity::NoAnswer);
    done(&store, apply(&order, 1, silence, EvidenceSource::Create, s)).await
}

fn opened(file: &std::path::Path) -> (Arc<Store>, Arc<WorkerSignals>) {
    let keys = BTreeMap::from([("2027".to_owned(), [1; 32])]);
    let seal = Arc::new(Seal::new("2027", keys, [2; 32]).unwrap());
    let fatal = Box::new(|why: &str| panic!("{why}"));
    let worker_signals = Arc::new(WorkerSignals::default());
    let opened = open(file, seal, fatal, Box::new(|_, _| ())).unwrap();
    let signals = Arc::clone(&worker_signals);
    let store = NotifyingChanges::in_front_of(Store::clone(&opened), signals);
    (Arc::new(store), worker_signals)
}

/// A gateway's workers, an institution that never answers and one that does.
struct PollingTestbed {
    store: Arc<Store>,
    seen: mpsc::UnboundedReceiver<ObservedQuery>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
    _folder: TempDir,
}

impl PollingTestbed {
    /// With this many unresolved orders at the silent one.
    async fn start(unfinished: u32) -> Self {
        let (see, seen) = mpsc::unbounded_channel();
        let folder = TempDir::new().unwrap();
        let (store, worker_signals) = opened(&folder.path().join("paymux.db"));
        let mut unresolved = JoinSet::new();
        for n in 1..=unfinished {
            unresolved.spawn(unresolved_order(Arc::clone(&store), n, "silent", 2));
        }
        unresolved.join_all().await;
        let clock: Arc<dyn Clock> = Arc::new(PollingClock(Instant::now()));
        let world = World {
            clock: Arc::clone(&clock),
            entropy: Arc::new(SeededEntropy::new(1)),
            outbound: Arc::new(redirected(see).await),
            health: Arc::default(),
            sends: Arc::new(SendLog::start(Arc::clone(&clock))),
            signals: Arc::default(),
            exchange_log: Arc::new(NoRecorder),
            disk: Arc::default(),
            signing: Arc::default(),
        };
        let both = [
            ("silent", FakeInstitutionAbility::ALL),
            ("harbour", FakeInstitutionAbility::ALL),
        ];
        let snapshot = Arc::new(snapshot(&both));
        let workers = Arc::new(Workers {
            store: Arc::clone(&store),
            clock,
            in_force: Arc::new(move || WorkerResources {
                snapshot: Arc::clone(&snapshot),
                world: world.clone(),
                budget: BudgetSettings {
                    cpu_percent: 10,
                    delay_max: TIMEOUT,
                },
            }),
            metrics: Arc::new(Metrics::new().unwrap()),
            worker_signals,
            refused_callers: Arc::new(RefusedCallers::new(Box::new(|_| [0; 32]))),
        });
        let (stop, stopped) = watch::channel(false);
        Self {
            store,
            seen,
            stop,
            running: tokio::spawn(workers.run(stopped)),
            _folder: folder,
        }
    }

    async fn next(&mut self) -> ObservedQuery {
        timeout(TIMEOUT, self.seen.recv()).await.unwrap().unwrap()
    }
}

/// Both institutions, each on a port of its own.
async fn redirected(see: mpsc::UnboundedSender<ObservedQuery>) -> RedirectedNetwork {
    let identity = TestIdentity::new();
    let ids = ["silent", "harbour"].map(|name| InstitutionId::parse(name).unwrap());
    let ports = [
        institution(&identity, true, see.clone()).await,
        institution(&identity, false, see).await,
    ];
    let line = || PartyClientSettings {
        roots: identity.chain(),
        client_identity: None,
        connections_max: 256,
    };
    let settings = HyperOutboundSettings {
        institutions: ids.clone().map(|id| (id, line())).into(),
        allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..HyperOutboundSettings::default()
    };
    RedirectedNetwork {
        hyper: HyperOutbound::new(settings).unwrap(),
        ports: ids.into_iter().zip(ports).collect(),
    }
}

/// N10, Z1: nine hundred unresolved orders at an institution that never answers hold only as many
/// workers as it has permits, and fewer once it has been silent for a while; an unresolved order at
/// another institution is queried before any further one of theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_institution_delays_no_other_queries() {
    let mut testbed = PollingTestbed::start(UNFINISHED).await;
    // As many as it may hold are in flight there before the other institution is queried.
    for _ in 0..SLOTS {
        assert!(matches!(testbed.next().await, ObservedQuery::Silent(_)));
    }
    for round in 1..=6 {
        let n = UNFINISHED + round;
        let order = unresolved_order(Arc::clone(&testbed.store), n, "harbour", 20).await;
        let id = order.attempts[0].id.as_str().to_owned();
        let mut between = 0;
        loop {
            match testbed.next().await {
                ObservedQuery::Prompt(attempt) if attempt == id => break,
                ObservedQuery::Prompt(_) => (),
                ObservedQuery::Silent(waiting) => {
                    assert!(waiting <= SLOTS, "{waiting} wait at the silent one");
                    between += 1;
                }
            }
        }
        assert!(
            between <= SLOTS,
            "round {round}: {between} queries went before it"
        );
    }
    // Once it has been silent for a while, only a few are in flight.
    let mut fewer = 0;
    while fewer < 2 * SLOTS_LATE {
        if let ObservedQuery::Silent(waiting) = testbed.next().await {
            fewer = if waiting <= SLOTS_LATE { fewer + 1 } else { 0 };
        }
    }
    testbed.stop.send_replace(true);
    timeout(TIMEOUT, testbed.running).await.unwrap().unwrap();
}
