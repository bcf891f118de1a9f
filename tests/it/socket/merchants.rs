//! Many merchants over real sockets, most of them dead, slow or failing: no other is notified late.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use paymux::domain::identifiers::{Timestamp, Uptime};
use paymux::domain::order::OrderTerms;
use paymux::flow::admit_request::refused_callers::RefusedCallers;
use paymux::flow::configuration_snapshot::ConfigurationSnapshot;
use paymux::metrics::Metrics;
use paymux::outbound::{HyperOutbound, HyperOutboundSettings};
use paymux::seal::Seal;
use paymux::store::notifying::{NotifyingChanges, WorkerSignals};
use paymux::store::{Store, open};
use paymux::workers::{BudgetSettings, WorkerResources, Workers};
use paymux::world::exchange_log::NoRecorder;
use paymux::world::sends::SendLog;
use paymux::world::{Clock, World};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval, timeout};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::store::builders::{at, paid, terms};
use crate::world::enrolment::snapshot;
use crate::world::random::SeededEntropy;

/// A healthy merchant is notified of its payment within this time (N8). Unit: seconds.
const NOTIFIED_WITHIN_S: u64 = 3;

/// Unhealthy merchants: more than there are worker slots for notifications.
const UNWELL: u8 = 200;

/// Runs on from the moment at which the orders of the test are paid.
struct DeliveryClock(Instant);

impl Clock for DeliveryClock {
    fn now(&self) -> Timestamp {
        at(20).plus(self.0.elapsed())
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_ms(0)
    }
}

/// What a merchant does with a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndpointReaction {
    Acknowledges,
    /// Accepts the connection and never sends a byte.
    Mute,
    /// Reads the request and does not answer.
    Silent,
    /// Sends a byte of its reply now and then.
    Drips,
    /// Sends an endless reply.
    Endless,
    /// 200, without `SUCCESS`.
    Lies,
}

/// By the called address: .0.1 is healthy, most others are mute.
fn reaction(address: IpAddr) -> EndpointReaction {
    let IpAddr::V4(address) = address else {
        panic!("{address} was called");
    };
    match address.octets() {
        [_, _, 0, 1] => EndpointReaction::Acknowledges,
        [_, _, _, n] => match n % 8 {
            0 => EndpointReaction::Silent,
            1 => EndpointReaction::Drips,
            2 => EndpointReaction::Endless,
            3 => EndpointReaction::Lies,
            _ => EndpointReaction::Mute,
        },
    }
}

/// Two networks of them, so that there are more than worker slots.
fn unresponsive() -> impl Iterator<Item = String> {
    (0..2).flat_map(|net| (2..=UNWELL).map(move |n| format!("127.0.{}.{n}", net + 1)))
}

/// All merchants, on one port of many addresses of this machine.
struct SocketMerchants {
    port: u16,
    identity: TestIdentity,
    notified: mpsc::UnboundedReceiver<String>,
    connected: mpsc::UnboundedReceiver<()>,
}

impl SocketMerchants {
    async fn start() -> Self {
        let mut names: Vec<String> = unresponsive().collect();
        names.push("127.0.0.1".to_owned());
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let identity = TestIdentity {
            certificate: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
        };
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.key())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        // All of 127.0.0.0/8 is this machine's.
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (notify, notified) = mpsc::unbounded_channel();
        let (check_rate, connected) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let reaction = reaction(tcp.local_addr().unwrap().ip());
                if reaction != EndpointReaction::Acknowledges {
                    let _ = check_rate.send(());
                }
                tokio::spawn(receive(tcp, reaction, acceptor.clone(), notify.clone()));
            }
        });
        Self {
            port,
            identity,
            notified,
            connected,
        }
    }

    fn url(&self, host: &str) -> Box<str> {
        format!("https://{host}:{}/paid", self.port).into()
    }
}

async fn receive(
    mut tcp: TcpStream,
    reaction: EndpointReaction,
    acceptor: TlsAcceptor,
    notify: mpsc::UnboundedSender<String>,
) {
    if reaction == EndpointReaction::Mute {
        let mut rest = Vec::new();
        let _ = tcp.read_to_end(&mut rest).await;
        return;
    }
    let Ok(mut tls) = acceptor.accept(tcp).await else {
        return;
    };
    while let Some(message) = read_message(&mut tls).await {
        let whole = |body: &str| {
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        match reaction {
            EndpointReaction::Acknowledges => {
                let event: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
                let number = event["merchantOrderNo"].as_str().unwrap().to_owned();
                let _ = notify.send(number);
                let answer = whole(r#"{"noticeResult":"SUCCESS"}"#);
                tls.write_all(answer.as_bytes()).await.unwrap();
            }
            EndpointReaction::Lies => {
                let answer = whole(r#"{"noticeResult":"RECEIVED"}"#);
                tls.write_all(answer.as_bytes()).await.unwrap();
            }
            EndpointReaction::Silent | EndpointReaction::Mute => (),
            EndpointReaction::Drips => {
                let begun = "HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n";
                let _ = tls.write_all(begun.as_bytes()).await;
                let mut drop_by_drop = interval(SHORT * 4);
                while tls.write_all(b" ").await.is_ok() && tls.flush().await.is_ok() {
                    drop_by_drop.tick().await;
                }
            }
            EndpointReaction::Endless => {
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while tls.write_all(&[b' '; 1_024]).await.is_ok() {}
            }
        }
    }
}

/// A gateway's workers on a store of their own.
struct DeliveryTestbed {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
    next: u32,
}

impl DeliveryTestbed {
    fn opened(file: &Path) -> (Arc<Store>, Arc<WorkerSignals>) {
        let keys = BTreeMap::from([("2027".to_owned(), [1; 32])]);
        let seal = Arc::new(Seal::new("2027", keys, [2; 32]).unwrap());
        let fatal = Box::new(|why: &str| panic!("{why}"));
        let worker_signals = Arc::new(WorkerSignals::default());
        let opened = open(file, seal, fatal, Box::new(|_, _| ())).unwrap();
        let signals = Arc::clone(&worker_signals);
        let store = NotifyingChanges::in_front_of(Store::clone(&opened), signals);
        (Arc::new(store), worker_signals)
    }

    fn start(
        merchants: &SocketMerchants,
        store: Arc<Store>,
        worker_signals: Arc<WorkerSignals>,
        next: u32,
    ) -> Self {
        let outbound = HyperOutbound::new(HyperOutboundSettings {
            merchant_roots: merchants.identity.chain(),
            allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
            ..HyperOutboundSettings::default()
        });
        let clock: Arc<dyn Clock> = Arc::new(DeliveryClock(Instant::now()));
        let world = World {
            clock: Arc::clone(&clock),
            entropy: Arc::new(SeededEntropy::new(1)),
            outbound: Arc::new(outbound.unwrap()),
            health: Arc::default(),
            sends: Arc::new(SendLog::start(Arc::clone(&clock))),
            signals: Arc::default(),
            exchange_log: Arc::new(NoRecorder),
            disk: Arc::default(),
            signing: Arc::default(),
        };
        let snapshot: Arc<ConfigurationSnapshot> = Arc::new(snapshot(&[]));
        let metrics = Arc::new(Metrics::new().unwrap());
        let workers = Arc::new(Workers {
            store: Arc::clone(&store),
            clock,
            in_force: Arc::new(move || WorkerResources {
                snapshot: Arc::clone(&snapshot),
                world: world.clone(),
                budget: BudgetSettings {
                    cpu_percent: 10,
                    delay_max: SHORT,
                },
            }),
            metrics: Arc::clone(&metrics),
            worker_signals,
            refused_callers: Arc::new(RefusedCallers::new(Box::new(|_| [0; 32]))),
        });
        let (stop, stopped) = watch::channel(false);
        Self {
            store,
            metrics,
            stop,
            running: tokio::spawn(workers.run(stopped)),
            next,
        }
    }

    /// Pays a further order of the healthy merchant; its number.
    async fn pay(&mut self, url: Box<str>) -> String {
        self.next += 1;
        let terms = OrderTerms {
            return_url: url,
            ..terms(self.next)
        };
        let order = paid(&self.store, self.next, "harbour", terms).await;
        order.terms.merchant_order_no.to_string()
    }

    async fn stop(self) -> Arc<Metrics> {
        self.stop.send_replace(true);
        timeout(TIMEOUT, self.running).await.unwrap().unwrap();
        self.metrics
    }
}

/// Orders from number 1 on, `each` paid at the merchant of every address.
async fn enqueue_notifications(store: &Arc<Store>, urls: Vec<Box<str>>, each: usize) -> u32 {
    let mut paying = JoinSet::new();
    let mut n = 0;
    for url in urls.into_iter().flat_map(|url| vec![url; each]) {
        n += 1;
        let store = Arc::clone(store);
        let terms = OrderTerms {
            return_url: url,
            ..terms(n)
        };
        paying.spawn(async move { paid(&store, n, "harbour", terms).await });
    }
    paying.join_all().await;
    n
}

/// N7, N8, R-6.4-1b: mute, silent, endless, dripping or failing destinations, more than there are
/// worker slots and each with several events, delay no other: a healthy merchant is notified of
/// each payment within three seconds, from the first on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_dead_merchants_delay_no_other() {
    let mut merchants = SocketMerchants::start().await;
    let folder = TempDir::new().unwrap();
    let (store, worker_signals) = DeliveryTestbed::opened(&folder.path().join("paymux.db"));
    let urls = unresponsive().map(|host| merchants.url(&host)).collect();
    let next = enqueue_notifications(&store, urls, 2).await;
    let mut testbed = DeliveryTestbed::start(&merchants, store, worker_signals, next);
    for round in 0..10 {
        for _ in 0..50 {
            let check_rate = timeout(TIMEOUT, merchants.connected.recv()).await;
            check_rate
                .expect("the unresponsive merchants are called")
                .unwrap();
        }
        let number = testbed.pay(merchants.url("127.0.0.1")).await;
        let within = Duration::from_secs(NOTIFIED_WITHIN_S);
        let notified = timeout(within, merchants.notified.recv()).await;
        let notified =
            notified.unwrap_or_else(|_| panic!("round {round}: notified later than in {within:?}"));
        assert_eq!(notified, Some(number));
    }
    let metrics = testbed.stop().await.render();
    assert!(
        metrics.contains(r#"paymux_notifications_total{result="delivered"} 10"#),
        "{metrics}"
    );
}

/// N1, N2, N7: a backlog to one destination that comes back is delivered whole, each event once
/// where every reply arrives, and its share grows as it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_delivered_whole() {
    let mut merchants = SocketMerchants::start().await;
    let folder = TempDir::new().unwrap();
    let (store, worker_signals) = DeliveryTestbed::opened(&folder.path().join("paymux.db"));
    let backlog = 2_000;
    let next = enqueue_notifications(&store, vec![merchants.url("127.0.0.1")], backlog).await;
    let began = Instant::now();
    let testbed = DeliveryTestbed::start(&merchants, store, worker_signals, next);
    let mut numbers = std::collections::BTreeSet::new();
    for _ in 0..backlog {
        let notified = timeout(TIMEOUT, merchants.notified.recv()).await;
        assert!(numbers.insert(notified.unwrap().unwrap()), "notified twice");
    }
    eprintln!(
        "{backlog} events to one destination in {:?}",
        began.elapsed()
    );
    testbed.stop().await;
    assert!(merchants.notified.try_recv().is_err(), "notified twice");
}
