//! Replays against a real store: concurrent, after a restart, without the cache in front, under a
//! clock that jumps. One signed request has one effect, whatever happens around it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use paymux::api::Api;
use paymux::domain::identifiers::{MerchantId, MerchantOrderNo, Timestamp};
use paymux::domain::order::{Order, OrderState};
use paymux::flow::admit_request::ReadNonces;
use paymux::limits::{CallerLimits, LimitSettings, Rate};
use paymux::seal::Seal;
use paymux::store::nonce_cache::NonceCache;
use paymux::store::{OrderKey, Store, open};
use paymux::workers::forget_nonces;
use paymux::world::World;
use paymux::world::exchange_log::NoRecorder;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::world::clock::ManualClock;
use crate::world::enrolment::{sign, unsigned};
use crate::world::fake_institution::FakeInstitution;
use crate::world::fault_injector::{FaultInjector, InjectedFault};
use crate::world::network::TestNetwork;
use crate::world::random::SeededEntropy;
use crate::world::test_gateway::{api, sends};

const COPIES: usize = 64;

/// A gateway over a database file, and its world.
struct ReplayTestbed {
    folder: TempDir,
    clock: Arc<ManualClock>,
    network: Arc<TestNetwork>,
}

impl ReplayTestbed {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let network = Arc::new(TestNetwork::new(Arc::clone(&clock)));
        let books = FakeInstitution::new("bank", FakeInstitutionAbility::ALL);
        let id = books.id.clone();
        network.parties().institutions.insert(id, books);
        Self {
            folder: TempDir::new().unwrap(),
            clock,
            network,
        }
    }

    /// The database as a process opens it, without a cache in front.
    fn open(&self) -> Arc<Store> {
        let keys = BTreeMap::from([("2026".to_owned(), [3; 32])]);
        let seal = Seal::new("2026", keys, [4; 32]).unwrap();
        let file: &Path = &self.folder.path().join("paymux.db");
        open(
            file,
            Arc::new(seal),
            Box::new(|why| panic!("{why}")),
            Box::new(|_, _| ()),
        )
        .unwrap()
    }

    /// A gateway over this store, with empty memory.
    fn gateway(&self, store: Arc<Store>) -> Arc<Api> {
        let world = World {
            clock: Arc::<ManualClock>::clone(&self.clock),
            entropy: Arc::new(SeededEntropy::new(7)),
            outbound: Arc::<TestNetwork>::clone(&self.network),
            health: Arc::default(),
            sends: sends(&self.clock),
            signals: Arc::default(),
            exchange_log: Arc::new(NoRecorder),
            disk: Arc::default(),
            signing: Arc::default(),
        };
        Arc::new(api(store, world, snapshot(&ONE)))
    }

    /// The same with an empty nonce cache in front.
    fn gateway_with_nonce_cache(&self, store: &Arc<Store>) -> Arc<Api> {
        self.gateway(Arc::new(NonceCache::in_front_of(Store::clone(store))))
    }

    fn now_s(&self) -> i64 {
        paymux::world::Clock::now(&*self.clock).seconds()
    }

    fn signed(&self, path: &str, body: &Value, nonce: &str) -> Request<Bytes> {
        let mut request = unsigned(path, serde_json::to_vec(body).unwrap());
        sign(&mut request, "M1-key", self.now_s(), nonce);
        request
    }

    fn place(&self, no: &str, nonce: &str) -> Request<Bytes> {
        self.signed(PLACE, &order_fields("M1", no), nonce)
    }
}

fn named(no: &str) -> Value {
    json!({ "merchantId": "M1", "merchantOrderNo": no })
}

async fn order(store: &Store, no: &str) -> Option<Order> {
    let merchant = MerchantId::parse("M1").unwrap();
    let key = OrderKey::MerchantOrderNo(merchant, MerchantOrderNo::parse(no).unwrap());
    store.orders.order(&key).await.unwrap()
}

/// Sends copies of one request at once, round-robin to each gateway; the results other than replay
/// refusals.
async fn flood(gateways: &[&Arc<Api>], request: &Request<Bytes>) -> Vec<&'static str> {
    let mut copies = JoinSet::new();
    for gateway in gateways.iter().copied().cycle().take(COPIES) {
        let (gateway, request) = (Arc::clone(gateway), request.clone());
        copies.spawn(async move { gateway.answer(request, PEER).await });
    }
    let answers = copies.join_all().await;
    assert_eq!(answers.len(), COPIES);
    let spent = answers.iter().filter(|answer| {
        let refused = answer.result == "nonce_spent";
        assert_eq!(
            refused,
            answer.response.status() == 401,
            "{}",
            answer.result
        );
        refused
    });
    assert_eq!(spent.count(), COPIES - 1);
    let others = answers.iter().map(|answer| answer.result);
    others.filter(|result| *result != "nonce_spent").collect()
}

async fn replayed(gateway: &Api, request: &Request<Bytes>) -> &'static str {
    gateway.answer(request.clone(), PEER).await.result
}

/// Q5, R-6.3.2-2a: of 64 copies of one signed request, sent at once, exactly one has an effect:
/// placing, selecting (one call to the institution) and closing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_64_copies_has_an_effect() {
    let site = ReplayTestbed::new();
    let store = site.open();
    let gateway = site.gateway_with_nonce_cache(&store);

    let place = site.place("T1", "place-T1-00000001");
    assert_eq!(flood(&[&gateway], &place).await, ["ACCEPTED"]);
    let placed = order(&store, "T1").await.unwrap();
    assert_eq!((placed.version, placed.attempts.len()), (1, 0));

    let body = changed(named("T1"), json!({ "institutionId": "bank" }));
    let select = site.signed("/v1/orders/select", &body, "select-T1-0000001");
    assert_eq!(flood(&[&gateway], &select).await, ["ACCEPTED"]);
    let selected = order(&store, "T1").await.unwrap();
    assert_eq!(selected.attempts.len(), 1);
    assert_eq!(site.network.parties().sent.len(), 1, "one call");

    let other = site.place("T2", "place-T2-00000001");
    assert_eq!(replayed(&gateway, &other).await, "ACCEPTED");
    let close = site.signed("/v1/orders/close", &named("T2"), "close-T2-00000001");
    assert_eq!(flood(&[&gateway], &close).await, ["CLOSED"]);
    let closed = order(&store, "T2").await.unwrap();
    assert_eq!((closed.state, closed.version), (OrderState::Closed, 2));

    for request in [place, select, close] {
        assert_eq!(replayed(&gateway, &request).await, "nonce_spent");
    }
}

/// Q5: with the separate caches of two nodes over one database one copy counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_caches_let_one_copy_through() {
    let site = ReplayTestbed::new();
    let store = site.open();
    let (one, other) = (
        site.gateway_with_nonce_cache(&store),
        site.gateway_with_nonce_cache(&store),
    );
    for n in 0..8 {
        let no = format!("T{n}");
        let place = site.place(&no, &format!("place-{no}-00000000"));
        assert_eq!(flood(&[&one, &other], &place).await, ["ACCEPTED"]);
        assert_eq!(order(&store, &no).await.unwrap().version, 1);
        let close = site.signed(
            "/v1/orders/close",
            &named(&no),
            &format!("close-{no}-00000000"),
        );
        assert_eq!(flood(&[&one, &other], &close).await, ["CLOSED"]);
        assert_eq!(order(&store, &no).await.unwrap().version, 2);
    }
}

/// Q5: a cache that loses its content at any moment, or is missing, costs time and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_cache_accepts_no_replay() {
    let site = ReplayTestbed::new();
    let store = site.open();
    let (bare, full) = (
        site.gateway(Arc::clone(&store)),
        site.gateway_with_nonce_cache(&store),
    );
    let place = site.place("T1", "place-T1-00000001");
    // Some of the copies meet a cache, some none, some one that was just emptied.
    let empty = site.gateway_with_nonce_cache(&store);
    assert_eq!(flood(&[&full, &bare, &empty], &place).await, ["ACCEPTED"]);
    for gateway in [&full, &bare, &empty, &site.gateway_with_nonce_cache(&store)] {
        assert_eq!(replayed(gateway, &place).await, "nonce_spent");
        assert_eq!(replayed(gateway, &place).await, "nonce_spent");
    }
    assert_eq!(order(&store, "T1").await.unwrap().version, 1);
}

/// Q5, S1: a restart loses no spent nonce, whatever it was spent for: an effect, a repeat's reply,
/// or a refusal because of the order's state (409, 422).
#[tokio::test]
async fn a_spent_nonce_outlives_the_process() {
    let site = ReplayTestbed::new();
    let place = site.place("T1", "place-T1-00000001");
    let repeat = site.place("T1", "place-T1-00000002");
    let odd = |changes: Value, nonce: &str| {
        let body = changed(order_fields("M1", "T1"), changes);
        site.signed(PLACE, &body, nonce)
    };
    let conflict = odd(json!({ "orderAmount": "1" }), "conflict-00000001");
    let elsewhere = json!({ "bankReturnUrl": "https://evil.example/", "merchantOrderNo": "T2" });
    let elsewhere = odd(elsewhere, "elsewhere-0000001");
    let unknown = json!({ "institutionId": "nobody", "merchantOrderNo": "T3" });
    let unknown = odd(unknown, "nobody-0000000001");
    let close = site.signed("/v1/orders/close", &named("T1"), "close-T1-00000001");
    let again = site.signed("/v1/orders/close", &named("T1"), "close-T1-00000002");
    let body = changed(named("T1"), json!({ "institutionId": "bank" }));
    let late = site.signed("/v1/orders/select", &body, "select-T1-0000001");
    let requests = [
        (place, 200),
        (repeat, 200),
        (conflict, 409),
        (elsewhere, 422),
        (unknown, 422),
        (close, 200),
        (again, 200),
        (late, 409),
    ];
    let gateway = site.gateway_with_nonce_cache(&site.open());
    for (request, status) in &requests {
        let answer = gateway.answer(request.clone(), PEER).await;
        assert_eq!(answer.response.status(), *status, "{}", answer.result);
    }
    drop(gateway);
    let before = {
        let store = site.open();
        order(&store, "T1").await.unwrap()
    };
    for _ in 0..2 {
        let store = site.open();
        let gateway = site.gateway_with_nonce_cache(&store);
        for (request, _) in &requests {
            assert_eq!(replayed(&gateway, request).await, "nonce_spent");
        }
        assert_eq!(order(&store, "T1").await.unwrap(), before);
        assert!(order(&store, "T2").await.is_none());
        assert!(order(&store, "T3").await.is_none());
    }
}

/// Q8: 429 and 503 mean that nothing was recorded, not even the nonce: the same request succeeds
/// once the gateway can take it.
#[tokio::test]
async fn a_request_not_recorded_spends_no_nonce() {
    let site = ReplayTestbed::new();
    let store = site.open();
    let fault_injector = Arc::new(FaultInjector::new(Arc::clone(&store)));
    let gateway = site.gateway(fault_injector.handles());
    let place = site.place("T1", "place-T1-00000001");
    fault_injector.plan(1, InjectedFault::Unavailable);
    assert_eq!(replayed(&gateway, &place).await, "unavailable");
    assert!(order(&store, "T1").await.is_none());
    assert_eq!(replayed(&gateway, &place).await, "ACCEPTED");
    assert_eq!(replayed(&gateway, &place).await, "nonce_spent");

    let mut gateway = Arc::into_inner(site.gateway_with_nonce_cache(&store)).unwrap();
    let rate = |n| Rate {
        per_second: std::num::NonZeroU32::new(n).unwrap(),
        burst: std::num::NonZeroU32::new(n).unwrap(),
    };
    let settings = LimitSettings {
        certificate: rate(1_000),
        address: rate(1_000),
        merchant: rate(1),
    };
    gateway.admission.limits = Arc::new(CallerLimits::new(
        &settings,
        Arc::clone(&gateway.world.clock),
    ));
    let (first, second) = (
        site.place("T2", "place-T2-00000001"),
        site.place("T3", "place-T3-00000001"),
    );
    assert_eq!(replayed(&gateway, &first).await, "ACCEPTED");
    assert_eq!(replayed(&gateway, &second).await, "too_often");
    assert!(order(&store, "T3").await.is_none());
    site.clock.pass(1_000);
    assert_eq!(replayed(&gateway, &second).await, "ACCEPTED");
    site.clock.pass(1_000);
    assert_eq!(replayed(&gateway, &second).await, "nonce_spent");
    // A caller that only replays requests uses up no other's allowance.
    let third = site.place("T4", "place-T4-00000001");
    assert_eq!(replayed(&gateway, &third).await, "ACCEPTED");
}

/// Q6, T2: the clock jumps by hours, either way, across restarts and with nonces dropped in
/// between: a spent nonce is never accepted again, and a request of a time whose nonces were
/// dropped is refused whatever the clock reads. Under a corrected clock every new request is
/// accepted.
#[tokio::test]
async fn a_clock_that_jumps_accepts_no_replay() {
    const HOUR_MS: i64 = 3_600_000;
    /// How far behind the clock the workers drop nonces.
    const BEHIND_MS: i64 = 400_000;
    let site = ReplayTestbed::new();
    let mut spent: Vec<Request<Bytes>> = Vec::new();
    let mut accepted = 0;
    let mut count = 0;
    for off in [0, 1, 0, -1, -3, 0, 2, -2, 5, 0] {
        site.clock.set_off(off * HOUR_MS);
        let store = site.open();
        let gateway = site.gateway_with_nonce_cache(&store);
        for old in &spent {
            let result = replayed(&gateway, old).await;
            assert!(
                ["nonce_spent", "outside_window"].contains(&result),
                "{result}"
            );
        }
        count += 1;
        let fresh = site.place(&format!("T{count}"), &format!("place-{count:012}"));
        let forgotten = store.replay_floor.forgotten();
        let result = replayed(&gateway, &fresh).await;
        if forgotten.contains(Timestamp::from_s(site.now_s())) {
            // Refused because the nonces of its time were dropped, and this stays so.
            assert_eq!(result, "outside_window", "off {off}");
        } else {
            assert_eq!(result, "ACCEPTED", "off {off}");
            accepted += 1;
            spent.push(fresh.clone());
        }
        // What the worker does, at its latest and at its earliest.
        let now = paymux::world::Clock::now(&*site.clock).ms();
        store
            .nonces
            .forget_nonces(Timestamp::from_ms(now - BEHIND_MS))
            .await
            .unwrap();
        for old in &spent {
            let result = replayed(&gateway, old).await;
            assert!(
                ["nonce_spent", "outside_window"].contains(&result),
                "{result}"
            );
        }
        site.clock.pass(61_000);
    }
    assert_eq!(
        accepted, count,
        "only times whose nonces were spent are closed"
    );
    let store = site.open();
    for no in 1..=count {
        if let Some(order) = order(&store, &format!("T{no}")).await {
            assert_eq!(order.version, 1, "T{no}");
        }
    }
}

/// Q5, Q6, H2, T2: requests dated for each minute of the coming hours are refused; a jump of the
/// clock over those hours drops none of their nonces, so none is accepted in its time, and none of
/// those times is closed to other requests.
#[tokio::test]
async fn nonces_planted_ahead_survive_a_jump() {
    let site = ReplayTestbed::new();
    let store = site.open();
    let gateway = site.gateway_with_nonce_cache(&store);
    let mut planted = Vec::new();
    for minute in 1..20 {
        let mut request = unsigned(PLACE, serde_json::to_vec(&order_fields("M1", "P")).unwrap());
        let created = site.now_s() + minute * 61;
        sign(
            &mut request,
            "M1-key",
            created,
            &format!("planted-{minute:012}"),
        );
        assert_eq!(replayed(&gateway, &request).await, "outside_window");
        planted.push(request);
    }
    site.clock.set_off(7_200_000);
    site.clock.unresolved(true);
    forget_nonces(&*store.nonces, &*site.clock).await.unwrap();
    site.clock.set_off(0);
    forget_nonces(&*store.nonces, &*site.clock).await.unwrap();
    assert_eq!(store.replay_floor.forgotten().spans(), []);
    for (minute, request) in planted.iter().enumerate() {
        site.clock.pass(61_000);
        assert_eq!(replayed(&gateway, request).await, "nonce_spent");
        let fresh = site.place(&format!("T{minute}"), &format!("fresh-{minute:012}"));
        assert_eq!(replayed(&gateway, &fresh).await, "ACCEPTED");
    }
    // Stored by the time each says it was made: nothing is stored for ever.
    site.clock.pass(7_200_000);
    site.clock.unresolved(false);
    forget_nonces(&*store.nonces, &*site.clock).await.unwrap();
    assert!(!store.replay_floor.forgotten().spans().is_empty());
}

/// Q5: nonces of reads are in memory only: accepted once in a process, and again after a restart.
#[tokio::test]
async fn a_read_is_repeated_only_after_a_restart() {
    let site = ReplayTestbed::new();
    let store = site.open();
    let gateway = site.gateway_with_nonce_cache(&store);
    assert_eq!(
        replayed(&gateway, &site.place("T1", "place-T1-00000001")).await,
        "ACCEPTED"
    );
    let query = site.signed("/v1/orders/query", &named("T1"), "query-T1-00000001");
    let first = gateway.answer(query.clone(), PEER).await;
    assert_eq!(first.response.status(), 200);
    assert_eq!(replayed(&gateway, &query).await, "nonce_spent");
    let mut gateway = Arc::into_inner(gateway).unwrap();
    gateway.reads = Arc::new(ReadNonces::new(1_000));
    let second = gateway.answer(query, PEER).await;
    assert_eq!(second.response.status(), 200, "it changes nothing");
}
