//! Concurrent requests on the embedded store and several threads: refunds never exceed the payment,
//! selects never make two live attempts, equal orders are one, and whatever arrives together with a
//! payment does not lose it. `make races ROUNDS=n` runs longer.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use paymux::api::Api;
use paymux::domain::order::OrderState;
use paymux::flow::admit_request::ReadNonces;
use paymux::flow::poll_unresolved::poll_order;
use paymux::store::{LeaseKind, Store};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::store::Stores;
use crate::store::builders::lease;
use crate::store::embedded::EmbeddedStores;
use crate::world::enrolment::order_fields;
use crate::world::test_gateway::{PEER, TestGateway, naming};

/// Rounds of each race in every run of the tests.
const ROUNDS: usize = 6;

/// Environment variable for another number of rounds.
const ROUNDS_NAME: &str = "PAYMUX_ROUNDS";

/// Number of concurrent callers.
const AT_ONCE: usize = 64;

fn rounds() -> usize {
    let rounds = crate::simulation::said(ROUNDS_NAME);
    rounds.map_or(ROUNDS, |rounds| usize::try_from(rounds).unwrap())
}

/// A test gateway on the embedded store.
pub(crate) struct RaceTestbed {
    pub(crate) gateway: TestGateway,
    pub(crate) api: Arc<Api>,
    _stores: Option<EmbeddedStores>,
}

pub(crate) type StatusAndBody = (u16, Value);

impl RaceTestbed {
    fn new() -> Self {
        let stores = EmbeddedStores::new();
        let store = stores.open();
        Self {
            _stores: Some(stores),
            ..Self::on(store)
        }
    }

    /// The same on a given store.
    pub(crate) fn on(store: Arc<Store>) -> Self {
        let mut gateway = TestGateway::new();
        gateway.api.store = store;
        let api = Arc::new(Api {
            store: Arc::clone(&gateway.api.store),
            world: gateway.api.world.clone(),
            snapshot: Arc::clone(&gateway.api.snapshot),
            admission: crate::world::test_gateway::api(
                Arc::clone(&gateway.api.store),
                gateway.api.world.clone(),
                crate::world::enrolment::snapshot(&[]),
            )
            .admission,
            reads: Arc::new(ReadNonces::new(1_000_000)),
            refused_callers: Arc::clone(&gateway.api.refused_callers),
        });
        Self {
            gateway,
            api,
            _stores: None,
        }
    }

    pub(crate) fn request(&self, path: &str, body: &Value) -> Request<Bytes> {
        self.gateway.signed("M1", path, body)
    }

    async fn ask(&self, path: &str, body: &Value) -> StatusAndBody {
        answered(&self.api, self.request(path, body)).await
    }

    /// Sends all requests at once, and waits for every reply.
    pub(crate) async fn all(&self, requests: Vec<Request<Bytes>>) -> Vec<StatusAndBody> {
        let mut tasks = JoinSet::new();
        for request in requests {
            let api = Arc::clone(&self.api);
            tasks.spawn(async move { answered(&api, request).await });
        }
        tasks.join_all().await
    }

    /// The order's one payment at the bank.
    pub(crate) async fn attempt(&self, no: &str) -> String {
        let order = self.order(no).await;
        order.attempts.last().unwrap().id.to_string()
    }

    async fn order(&self, no: &str) -> paymux::domain::order::Order {
        let key = paymux::store::OrderKey::MerchantOrderNo(
            paymux::domain::identifiers::MerchantId::parse("M1").unwrap(),
            paymux::domain::identifiers::MerchantOrderNo::parse(no).unwrap(),
        );
        self.api.store.orders.order(&key).await.unwrap().unwrap()
    }

    /// Places, selects and pays; the gateway is not notified yet.
    async fn pay(&self, no: &str) -> String {
        self.ask("/v1/orders", &order_fields("M1", no)).await;
        self.ask("/v1/orders/select", &selecting(no, "bank")).await;
        let id = self.attempt(no).await;
        let truth = self.gateway.clock.truth();
        self.gateway.at("bank", |books| books.pay(&id, truth));
        id
    }

    pub(crate) fn callback(&self, id: &str) -> Request<Bytes> {
        let truth = self.gateway.clock.truth();
        self.gateway.at("bank", |books| books.callback(id, truth))
    }

    pub(crate) async fn poll_unresolved(&self) {
        let (store, world) = (&self.api.store, &self.api.world);
        let leases = lease(store, LeaseKind::Orders, world.clock.now(), 100)
            .await
            .unwrap();
        for lease in &leases {
            poll_order(self.api.scope(), lease).await.unwrap();
        }
    }
}

fn answered(api: &Arc<Api>, request: Request<Bytes>) -> impl Future<Output = StatusAndBody> + Send {
    let api = Arc::clone(api);
    async move {
        let answer = api.answer(request, PEER).await.response;
        let replies = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
        (answer.status().as_u16(), replies)
    }
}

pub(crate) fn selecting(no: &str, institution: &str) -> Value {
    let mut body = naming(no);
    body["institutionId"] = institution.into();
    body
}

/// R1, R6, M2: of sixty-four concurrent refunds only those that fit are accepted, whatever their
/// amounts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn refunds_at_once_never_exceed_what_was_paid() {
    let arena = RaceTestbed::new();
    for round in 0..rounds() {
        let no = format!("R{round}");
        let id = arena.pay(&no).await;
        assert_eq!(answered(&arena.api, arena.callback(&id)).await.0, 200);
        let sums = ["0.50", "1", "2.05", "12.30", "3"];
        let requests = (0..AT_ONCE).map(|n| {
            let body = json!({
                "merchantOrderNo": no, "orderDate": "20260925", "merchantId": "M1",
                "refundAmount": sums[(n + round) % sums.len()], "mobileNo": "13812345678",
                "merchantRefundNo": format!("{no}-{}", n / 2),
            });
            arena.request("/v1/refunds", &body)
        });
        let replies = arena.all(requests.collect()).await;
        // A refund whose commit gave up under contention is queried.
        for _ in 0..2 {
            arena.gateway.advance_s(20);
            arena.poll_unresolved().await;
        }
        let order = arena.order(&no).await;
        let back = arena.gateway.at("bank", |books| books.returned(&id));
        assert!(back <= 1_230, "{no}: {back} went back");
        assert_eq!(order.refunded_minor(), back, "{no}");
        assert!(order.reserved_minor() <= 1_230, "R1: {no}");
        let numbers: BTreeSet<_> = order
            .refunds
            .iter()
            .map(|one| one.request().cloned().map(|request| request.number))
            .collect();
        assert_eq!(numbers.len(), order.refunds.len(), "R6: {no}");
        for (status, body) in replies {
            assert!(matches!(status, 200 | 202 | 409), "{no}: {status} {body}");
        }
    }
}

/// A2, O4: payers who choose different institutions at once make at most one live attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn selects_at_once_make_one_live_attempt() {
    let arena = RaceTestbed::new();
    for round in 0..rounds() {
        let no = format!("S{round}");
        arena.ask("/v1/orders", &order_fields("M1", &no)).await;
        let choices = (0..16).map(|n| {
            let institution = if n % 2 == 0 { "bank" } else { "purse" };
            arena.request("/v1/orders/select", &selecting(&no, institution))
        });
        let replies = arena.all(choices.collect()).await;
        let order = arena.order(&no).await;
        let live = order
            .attempts
            .iter()
            .filter(|one| one.state.is_live())
            .count();
        assert!(live <= 1, "A2: {no} has {live}");
        let truth = arena.gateway.clock.truth();
        let waiting = ["bank", "purse"].map(|name| {
            arena.gateway.at(name, |books| {
                let open = |id: &str| order.attempts.iter().any(|one| one.id.as_str() == id);
                books.payable(truth).iter().filter(|id| open(id)).count()
            })
        });
        assert!(
            waiting.iter().sum::<usize>() <= 1,
            "A8: {no} can be paid {waiting:?} times"
        );
        for (status, body) in replies {
            assert!(matches!(status, 200 | 202 | 409), "{no}: {status} {body}");
        }
    }
}

/// K1, Q7: equal orders placed at once are one, and each reply has its number.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn equal_orders_at_once_are_one() {
    let arena = RaceTestbed::new();
    for round in 0..rounds() {
        let fields = order_fields("M1", &format!("E{round}"));
        let placing = (0..AT_ONCE).map(|_| arena.request("/v1/orders", &fields));
        let replies = arena.all(placing.collect()).await;
        let numbers: BTreeSet<_> = replies
            .iter()
            .map(|(_, body)| body["payOrderNo"].to_string())
            .collect();
        assert_eq!(numbers.len(), 1, "{numbers:?}");
        assert!(replies.iter().all(|(status, _)| *status == 200));
    }
}

/// O5, V1, A8: what a payer has paid is paid, although callback, query and close come at the same
/// moment; no close is notified.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_payment_survives_a_close_and_a_query_at_the_same_moment() {
    let arena = RaceTestbed::new();
    for round in 0..rounds() {
        let no = format!("C{round}");
        let id = arena.pay(&no).await;
        let at_once = vec![
            arena.request("/v1/orders/close", &naming(&no)),
            arena.callback(&id),
            arena.request("/v1/orders/query", &naming(&no)),
            arena.callback(&id),
        ];
        let replies = arena.all(at_once).await;
        arena.poll_unresolved().await;
        let order = arena.order(&no).await;
        assert_eq!(order.state, OrderState::Paid, "{no}: {replies:?}");
        assert!(order.refunds.is_empty(), "A8: {no}");
        let closed = replies
            .iter()
            .any(|(_, body)| body["orderStatus"] == "CLOSED");
        assert!(!closed, "O5: {no}: {replies:?}");
    }
}
