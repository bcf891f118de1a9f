//! One gateway with its fake environment, for scenario tests: every call is answered at once.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use paymux::api::{AddressSource, Api, Peer};
use paymux::domain::identifiers::{InstitutionId, MerchantId, MerchantOrderNo};
use paymux::domain::order::Order;
use paymux::flow::admit_request::refused_callers::RefusedCallers;
use paymux::flow::admit_request::{AdmissionPolicy, ReadNonces, SignatureWindow};
use paymux::flow::configuration_snapshot::ConfigurationSnapshot;
use paymux::flow::notify_merchant::{Delivery, notify_merchant};
use paymux::flow::poll_unresolved::poll_order;
use paymux::limits::{CallerLimits, ExplanationLimits, LimitSettings, Rate};
use paymux::store::{LeaseKind, LeasedWork, OrderKey, Store};
use paymux::world::exchange_log::NoRecorder;
use paymux::world::sends::{SendLog, Sends};
use paymux::world::{Clock, World};
use serde_json::{Value, json};

use super::clock::ManualClock;
use super::enrolment::{MERCHANTS, order_fields, shown, sign, snapshot, unsigned};
use super::fake_institution::{FakeInstitution, FakeInstitutionAbility};
use super::fake_merchant::FakeMerchant;
use super::memory::{DurableState, MemoryStore};
use super::network::TestNetwork;
use super::random::SeededEntropy;
use crate::store::builders::lease;

/// Runs a future that waits only for immediate answers.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut task = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut task) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits for somebody who will not come"),
    }
}

/// A reply as a merchant reads it.
#[derive(Debug)]
pub(crate) struct TestReply {
    pub(crate) status: u16,
    pub(crate) json: Value,
    pub(crate) result: &'static str,
    pub(crate) response: Response<Bytes>,
}

impl TestReply {
    pub(crate) fn text(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or("")
    }
}

pub(crate) struct TestGateway {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) network: Arc<TestNetwork>,
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) api: Api,
    nonces: AtomicU64,
}

/// A connection without a client certificate.
pub(crate) const PEER: Peer = Peer {
    address: IpAddr::V4(Ipv4Addr::LOCALHOST),
    source: AddressSource::Connection,
    certificate: None,
};

/// A connection with the certificate of this merchant.
pub(crate) fn showing(merchant: &str) -> Peer {
    Peer {
        certificate: Some(shown(merchant, i64::MAX)),
        ..PEER
    }
}

impl TestGateway {
    /// Two merchants and two institutions that can do everything.
    pub(crate) fn new() -> Self {
        Self::with(&[
            ("bank", FakeInstitutionAbility::ALL),
            ("purse", FakeInstitutionAbility::ALL),
        ])
    }

    /// Two merchants and these institutions.
    pub(crate) fn with(institutions: &[(&str, FakeInstitutionAbility)]) -> Self {
        Self::enrolled(institutions, snapshot(institutions))
    }

    /// These institutions, under this enrolment.
    pub(crate) fn enrolled(
        institutions: &[(&str, FakeInstitutionAbility)],
        snapshot: ConfigurationSnapshot,
    ) -> Self {
        let clock = Arc::new(ManualClock::new());
        let network = Arc::new(TestNetwork::new(Arc::clone(&clock)));
        for (name, ability) in institutions {
            let books = FakeInstitution::new(name, *ability);
            let id = books.id.clone();
            network.parties().institutions.insert(id, books);
        }
        for name in MERCHANTS {
            let origin = format!("https://{}.shop.example", name.to_ascii_lowercase());
            let inbox = FakeMerchant::default();
            network.parties().merchants.insert(origin, inbox);
        }
        let memory = Arc::new(MemoryStore::new());
        let world = World {
            clock: Arc::<ManualClock>::clone(&clock),
            entropy: Arc::new(SeededEntropy::new(1)),
            outbound: Arc::<TestNetwork>::clone(&network),
            health: Arc::default(),
            sends: sends(&clock),
            signals: Arc::default(),
            exchange_log: Arc::new(NoRecorder),
            disk: Arc::default(),
            signing: Arc::default(),
        };
        let api = api(memory.handles(), world, snapshot);
        Self {
            clock,
            network,
            memory,
            api,
            nonces: AtomicU64::new(0),
        }
    }

    /// Restarts the gateway.
    pub(crate) fn restart(&mut self) {
        self.api.world.sends = sends(&self.clock);
        self.memory = Arc::new(self.memory.restarted());
        self.api.store = self.memory.handles();
        self.api.reads = Arc::new(ReadNonces::new(1_000));
    }

    pub(crate) fn snapshot(&self) -> Arc<ConfigurationSnapshot> {
        Arc::clone(&self.api.snapshot)
    }

    pub(crate) fn now_s(&self) -> i64 {
        self.clock.now().seconds()
    }

    /// Advances the time.
    pub(crate) fn advance_s(&self, seconds: i64) {
        self.clock.pass(seconds * 1_000);
    }

    /// An unused nonce.
    pub(crate) fn nonce(&self) -> String {
        format!("nonce-{:020}", self.nonces.fetch_add(1, Ordering::SeqCst))
    }

    /// A correctly signed request of a merchant.
    pub(crate) fn signed(&self, merchant: &str, path: &str, body: &Value) -> Request<Bytes> {
        let mut request = unsigned(path, serde_json::to_vec(body).unwrap());
        let key = format!("{merchant}-key");
        sign(&mut request, &key, self.now_s(), &self.nonce());
        request
    }

    /// Sends a request to the gateway.
    pub(crate) fn send(&self, request: Request<Bytes>) -> TestReply {
        self.send_from(request, PEER)
    }

    pub(crate) fn send_from(&self, request: Request<Bytes>, peer: Peer) -> TestReply {
        let answer = now(self.api.answer(request, peer));
        let json = serde_json::from_slice(answer.response.body()).unwrap_or(Value::Null);
        TestReply {
            status: answer.response.status().as_u16(),
            json,
            result: answer.result,
            response: answer.response,
        }
    }

    /// Sends a signed request.
    pub(crate) fn ask(&self, merchant: &str, path: &str, body: &Value) -> TestReply {
        self.send(self.signed(merchant, path, body))
    }

    /// Places an order of M1 with these fields changed or added; `null` removes one.
    pub(crate) fn place(&self, no: &str, changes: Value) -> TestReply {
        self.ask(
            "M1",
            "/v1/orders",
            &changed(order_fields("M1", no), changes),
        )
    }

    /// M1's payer selects an institution.
    pub(crate) fn select(&self, no: &str, institution: &str) -> TestReply {
        let mut body = naming(no);
        body["institutionId"] = institution.into();
        self.ask("M1", "/v1/orders/select", &body)
    }

    /// The address of the page of M1's order, from its path on.
    pub(crate) fn page(&self, no: &str) -> String {
        format!("/pay/{}", self.order(no).page_token().expose())
    }

    /// Where the payer of M1's order is led on to.
    pub(crate) fn onward(&self, no: &str) -> String {
        let request = Request::get(format!("{}/go", self.page(no)));
        let reply = self.send(request.body(Bytes::new()).unwrap());
        let to = &reply.response.headers()["location"];
        to.to_str().unwrap().to_owned()
    }

    pub(crate) fn query(&self, no: &str) -> TestReply {
        self.ask("M1", "/v1/orders/query", &naming(no))
    }

    pub(crate) fn close(&self, no: &str) -> TestReply {
        self.ask("M1", "/v1/orders/close", &naming(no))
    }

    /// M1's order as it is stored.
    pub(crate) fn order(&self, no: &str) -> Order {
        let merchant = MerchantId::parse("M1").unwrap();
        let key = OrderKey::MerchantOrderNo(merchant, MerchantOrderNo::parse(no).unwrap());
        now(self.memory.handles().orders.order(&key))
            .unwrap()
            .unwrap()
    }

    /// The durable state, for comparison.
    pub(crate) fn durable_state(&self) -> DurableState {
        self.memory.durable().clone()
    }

    /// Inspects or changes an institution.
    pub(crate) fn at<T>(
        &self,
        institution: &str,
        look: impl FnOnce(&mut FakeInstitution) -> T,
    ) -> T {
        let id = InstitutionId::parse(institution).unwrap();
        look(self.network.parties().institutions.get_mut(&id).unwrap())
    }

    /// Inspects M1's inbox.
    pub(crate) fn inbox<T>(&self, look: impl FnOnce(&mut FakeMerchant) -> T) -> T {
        let mut parties = self.network.parties();
        look(
            parties
                .merchants
                .get_mut("https://m1.shop.example")
                .unwrap(),
        )
    }

    /// The payer pays the pending payment for M1's order at an institution; no callback is sent
    /// yet.
    pub(crate) fn pay(&self, no: &str, institution: &str) -> String {
        let id = self.attempt(no, institution);
        let truth = self.clock.truth();
        self.at(institution, |books| books.pay(&id, truth));
        id
    }

    /// The latest attempt of M1's order through an institution.
    pub(crate) fn attempt(&self, no: &str, institution: &str) -> String {
        let order = self.order(no);
        let mut through = order
            .attempts
            .iter()
            .filter(|attempt| attempt.institution.as_str() == institution);
        through.next_back().unwrap().id.as_str().to_owned()
    }

    /// The institution sends a callback about a payment.
    pub(crate) fn call_back(&self, institution: &str, id: &str) -> TestReply {
        let truth = self.clock.truth();
        let callback = self.at(institution, |books| books.callback(id, truth));
        let reported = self.send(callback);
        self.at(institution, |books| {
            books.acknowledge(id, &reported.response);
        });
        reported
    }

    /// Does what the worker does for orders that are due now, one object after the other; returns
    /// how many orders there were.
    pub(crate) fn poll_unresolved(&self) -> usize {
        let (store, world) = (&self.api.store, &self.api.world);
        let mut polled = BTreeSet::new();
        loop {
            let leases = now(lease(store, LeaseKind::Orders, world.clock.now(), 100)).unwrap();
            if leases.is_empty() {
                return polled.len();
            }
            for lease in &leases {
                if let LeasedWork::Order(order) = &lease.of {
                    polled.insert(order.no.clone());
                }
                now(poll_order(self.api.scope(), lease)).unwrap();
            }
        }
    }

    /// Does what the worker does for events that are due.
    pub(crate) fn deliver(&self) -> Vec<Delivery> {
        let (store, world) = (&self.api.store, &self.api.world);
        let leases = now(lease(store, LeaseKind::Events, world.clock.now(), 100)).unwrap();
        let delivered = leases
            .iter()
            .map(|lease| now(notify_merchant(self.api.scope(), lease)).unwrap())
            .collect();
        for inbox in self.network.parties().merchants.values() {
            assert!(inbox.faults.is_empty(), "{:?}", inbox.faults);
        }
        delivered
    }
}

/// The send tracker of a new process.
pub(crate) fn sends(clock: &Arc<ManualClock>) -> Arc<dyn Sends> {
    Arc::new(SendLog::start(Arc::<ManualClock>::clone(clock)))
}

/// The parts needed to answer requests; no rate limit applies.
pub(crate) fn api(store: Arc<Store>, world: World, snapshot: ConfigurationSnapshot) -> Api {
    let often = Rate {
        per_second: NonZeroU32::MAX,
        burst: NonZeroU32::MAX,
    };
    let settings = LimitSettings {
        certificate: often,
        address: often,
        merchant: often,
    };
    let admission = AdmissionPolicy {
        limits: Arc::new(CallerLimits::new(&settings, Arc::clone(&world.clock))),
        window: SignatureWindow::default(),
        explained: ExplanationLimits::new(often, often, Arc::clone(&world.clock)),
    };
    Api {
        store,
        world,
        snapshot: Arc::new(snapshot),
        admission,
        reads: Arc::new(ReadNonces::new(1_000)),
        refused_callers: Arc::new(RefusedCallers::new(Box::new(|_| [7; 32]))),
    }
}

/// The fields with which M1 identifies its order.
pub(crate) fn naming(no: &str) -> Value {
    json!({ "merchantId": "M1", "merchantOrderNo": no })
}

/// Fields with some changed or added; `null` removes one.
pub(crate) fn changed(mut fields: Value, changes: Value) -> Value {
    let all = fields.as_object_mut().unwrap();
    let Value::Object(changes) = changes else {
        return fields;
    };
    for (name, value) in changes {
        if value.is_null() {
            all.remove(&name);
        } else {
            all.insert(name, value);
        }
    }
    fields
}
