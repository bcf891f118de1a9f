//! Orders in every state a payer can meet, and a gateway whose store holds one of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use paymux::api::page::view::{self, PageVisit};
use paymux::api::{AddressSource, Api, Peer};
use paymux::domain::amount::{Amount, CNY};
use paymux::domain::attempt::{Epoch, Stamp};
use paymux::domain::change::{Change, ChangeCause};
use paymux::domain::evidence::{
    Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment, PaymentAction,
    PaymentActionKind, Receipt,
};
use paymux::domain::identifiers::{
    AccountId, AttemptId, CalendarDay, InstitutionId, MerchantId, MerchantOrderNo, PayOrderNo,
    ProductId, ReceiverId, Timestamp, Uptime,
};
use paymux::domain::institutions::{
    AmountRange, BusinessType, Contract, Credentials, Ending, Facts, Mode, Payers, Product,
    RefundKinds, RefundRules, Route, RoutingTable, TransactionType,
};
use paymux::domain::merchant::{Admission, ClientCertificate, Merchant, OrderPage};
use paymux::domain::order::{Applied, CloseReason, NewAttempt, NewOrder, Order, OrderTerms};
use paymux::domain::personal::MobileNo;
use paymux::domain::personal::payer_context::PayerDetails;
use paymux::flow::configuration_snapshot::{ConfigurationSnapshot, PlatformIdentity, SigningKeys};
use paymux::institution::{
    Acknowledgement, Call, CallState, Callback, Effect, Host, Institution, InstitutionKind,
    Operation, Outgoing, ProvenCallback, Step, Unverified, kind,
};
use paymux::signature::{KeyRing, SigningKey};
use paymux::store::{Changes, Committed, OrderKey, Orders, Store, StoreError};
use paymux::world::exchange_log::NoRecorder;
use paymux::world::sends::SendLog;
use paymux::world::{
    Clock, Entropy, Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError,
    World,
};

use crate::world::fake_institution::{facts_of, only_product};
use crate::world::memory::MemoryStore;

pub(super) const NOW: Timestamp = Timestamp::from_s(1_795_278_600);
pub(super) const LINK: &str = "https://harbour.example/cashier?order=1&sign=abc";
pub(super) const HOSTILE: &str = "<script>alert('1')</script>\"&\u{202e}";

pub(super) fn facts() -> Facts {
    let product = Product {
        ending: Ending::RememberedClose,
        ..only_product(Duration::from_mins(1))
    };
    facts_of(product, true)
}

pub(super) fn institution(
    id: &str,
    name: &str,
    name_en: &str,
) -> paymux::domain::institutions::InstitutionProfile {
    paymux::domain::institutions::InstitutionProfile {
        id: InstitutionId::parse(id).unwrap(),
        name: name.into(),
        name_en: name_en.into(),
        logo_url: None,
        admission: Admission::Admitted,
        stopped: false,
        modes: vec![Mode::Webview],
        currencies: vec![CNY],
        refunds: RefundRules {
            kinds: RefundKinds::ALL,
            window: std::time::Duration::from_hours(24 * 365),
        },
        waivers: vec![],
        facts: facts(),
        credentials: Credentials::default(),
    }
}

fn sums(minor_min: i64) -> AmountRange {
    AmountRange {
        currency: CNY,
        minor_min,
        minor_max: 100_000_000,
    }
}

/// Harbour and Lake are open, Meadow has an SDK only, Peak takes larger amounts only.
pub(super) fn routing() -> RoutingTable {
    let merchant = MerchantId::parse("M1").unwrap();
    let mut routing = RoutingTable::default();
    let enrolled = Merchant {
        id: merchant.clone(),
        name: "清风茶舍".into(),
        admission: Admission::Admitted,
        client_certificate: ClientCertificate::Off,
        certificates: vec![],
        notify_origins: vec![],
        notice_url: None,
        default_institutions: HashMap::new(),
        order_page: OrderPage::Shown,
    };
    routing.merchants.insert(merchant.clone(), enrolled);
    let mut meadow = institution("meadow", "草原支付", "Meadow Pay");
    meadow.modes = vec![Mode::Native];
    let all = [
        institution("harbour", "港湾银行", "Harbour Bank"),
        institution("lake", "湖畔支付", "Lake Pay"),
        meadow,
        institution("peak", "山峰银行", "Peak Bank"),
    ];
    for (place, institution) in (0u32..).zip(all) {
        let id = institution.id.clone();
        routing.routes.push(Route {
            institution: id.clone(),
            stopped: false,
            sums: vec![sums(if place == 3 { 1_000_000 } else { 1 })],
            payers: Payers::default(),
            order: place,
        });
        let contract = Contract {
            merchant: merchant.clone(),
            institution: id.clone(),
            account: AccountId::parse("acct").unwrap(),
            receiver: ReceiverId::parse("acct").unwrap(),
            modes: Mode::ALL.to_vec(),
            products: vec![ProductId::parse("STANDARD").unwrap()],
            fee: None,
            transaction_types: vec![TransactionType::PasswordPay],
            stopped: false,
            sums: vec![sums(1)],
            payers: Payers::default(),
            hours: None,
        };
        routing
            .contracts
            .insert((merchant.clone(), id.clone()), contract);
        routing.institutions.insert(id, institution);
    }
    routing
}

pub(super) fn terms(business_type: BusinessType) -> OrderTerms {
    OrderTerms {
        merchant: MerchantId::parse("M1").unwrap(),
        merchant_order_no: MerchantOrderNo::parse("T20261122000001").unwrap(),
        merchant_name: "清风茶舍".into(),
        order_date: CalendarDay::parse("20261122").unwrap(),
        amount: Amount::parse("128.50", CNY).unwrap(),
        business_type,
        transaction_type: TransactionType::PasswordPay,
        return_url: "https://tea.example/paid".into(),
        mobile: MobileNo::parse("13812345678").unwrap(),
        goods_no: None,
        goods_name: Some("明前龙井 · 礼盒装".into()),
        goods_description: Some("250 克 × 2".into()),
        attach: None,
        expire_minutes: 15,
        named: None,
    }
}

pub(super) fn open(terms: OrderTerms, first: Option<NewAttempt>) -> Order {
    let opening = NewOrder {
        no: PayOrderNo::mint(NOW, [3; 10]),
        page_secret: [0x5a; 16],
        terms,
        notice_url: None,
    };
    let change = Order::open(opening, first, ChangeCause::Clock, NOW);
    change.into_order().unwrap()
}

pub(super) fn webview() -> BusinessType {
    BusinessType::Single(Mode::Webview)
}

pub(super) fn start(institution: &str, mode: Mode) -> NewAttempt {
    NewAttempt {
        id: AttemptId::mint(NOW, [4; 10]),
        institution: InstitutionId::parse(institution).unwrap(),
        account: AccountId::parse("acct").unwrap(),
        receiver: ReceiverId::parse("acct").unwrap(),
        mode,
        product: facts().products[0],
        payer: PayerDetails::UNKNOWN,
        stamp: Stamp {
            now: NOW,
            nonce: [1; 10],
        },
        configuration: 1,
        epoch: Epoch(1),
    }
}

pub(super) fn link(address: &str) -> Finding {
    Finding::Accepted(Some(PaymentAction {
        way: PaymentActionKind::Redirect(address.into()),
        expires: None,
    }))
}

pub(super) fn after(order: &Order, finding: Finding) -> Order {
    let attempt = order.attempts.last().unwrap();
    let evidence = Evidence {
        institution: attempt.institution.clone(),
        accounts: None,
        receiver: None,
        about: EvidenceSubject::Attempt(attempt.id.clone()),
        by: EvidenceSource::Query,
        sum: None,
        along: OriginalPayment::default(),
        asked_at: None,
        proves_arrival: false,
        finding,
    };
    let Applied::Commit(change) = order.apply(&evidence, &facts(), NOW) else {
        panic!("it moved nothing");
    };
    change.into_order().unwrap()
}

pub(super) fn tried(finding: Finding) -> Order {
    after(
        &open(terms(webview()), Some(start("harbour", Mode::Webview))),
        finding,
    )
}

pub(super) fn paid() -> Order {
    let receipt = Receipt {
        amount: Amount::parse("128.50", CNY).unwrap(),
        institution_no: Some("H1".into()),
        paid_at: NOW.plus(Duration::from_secs(95)),
        fee: None,
    };
    after(&tried(link(LINK)), Finding::Succeeded(receipt))
}

pub(super) fn ended(why: CloseReason) -> Order {
    let order = open(terms(webview()), None);
    order
        .end(why, ChangeCause::Clock, NOW)
        .unwrap()
        .into_order()
        .unwrap()
}

pub(super) fn shown(order: &Order, now: Timestamp) -> String {
    let routing = routing();
    let open: Vec<_> = ["harbour", "lake"]
        .iter()
        .map(|id| &routing.institutions[&InstitutionId::parse(id).unwrap()])
        .collect();
    view::page(order, &open, &routing, now, PageVisit::Opened)
}

/// Every state a payer can meet, by the word in the page.
pub(super) fn every_state() -> Vec<(&'static str, String)> {
    let unresolved = Finding::Ambiguous(paymux::domain::evidence::Ambiguity::NoAnswer);
    let refused = Finding::Refused(paymux::domain::evidence::Reason::from_code("NO_ACCOUNT"));
    let accepted = tried(link(LINK));
    let native = BusinessType::Single(Mode::Native);
    let closing = accepted.begin_closing(ChangeCause::Page, NOW).unwrap();
    vec![
        ("choose", shown(&open(terms(webview()), None), NOW)),
        ("choose", shown(&tried(refused), NOW)),
        ("continue", shown(&accepted, NOW)),
        ("confirming", shown(&tried(unresolved), NOW)),
        ("confirming", shown(&closing.into_order().unwrap(), NOW)),
        ("confirming", shown(&accepted, accepted.expires)),
        ("elsewhere", shown(&open(terms(native), None), NOW)),
        ("paid", shown(&paid(), NOW)),
        ("expired", shown(&ended(CloseReason::Expired), NOW)),
        ("closed", shown(&ended(CloseReason::Merchant), NOW)),
    ]
}

/// Holds one order.
struct OneOrderStore(Mutex<Order>);

impl OneOrderStore {
    fn holds(&self, key: &OrderKey) -> Option<Order> {
        let order = self.0.lock().unwrap().clone();
        let named = match key {
            OrderKey::Refund(..) | OrderKey::RefundOrderNo(..) | OrderKey::MerchantRefundNo(..) => {
                false
            }
            OrderKey::Page(token) => *token.order() == order.no && token.opens(&order.page_secret),
            OrderKey::PayOrderNo(_, no) => *no == order.no,
            OrderKey::MerchantOrderNo(_, no) => *no == order.terms.merchant_order_no,
            OrderKey::Attempt(_, id) => order.attempts.iter().any(|known| known.id == *id),
        };
        named.then_some(order)
    }
}

#[async_trait]
impl Orders for OneOrderStore {
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        Ok(self.holds(key))
    }
    async fn last_institution(
        &self,
        _: &MerchantId,
        _: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError> {
        Ok(None)
    }
}

#[async_trait]
impl Changes for OneOrderStore {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        let mut held = self.0.lock().unwrap();
        let rows = change.rows().unwrap();
        if rows.before != Some(held.version) {
            return Ok(Committed::Stale);
        }
        *held = rows.order.clone();
        Ok(Committed::Done)
    }
}

/// An institution whose link is made here, or that must be called; then there is no reply.
struct LinkInstitution(InstitutionId, Facts);

impl Institution for LinkInstitution {
    fn id(&self) -> &InstitutionId {
        &self.0
    }
    fn kind(&self) -> &'static InstitutionKind {
        kind("standard").unwrap()
    }

    fn facts(&self) -> &Facts {
        &self.1
    }
    fn origin(&self, _: Host) -> Option<&str> {
        Some("https://teller.example")
    }
    fn begin(&self, call: &Call<'_>, _: &Stamp) -> Step<Evidence> {
        let attempt = call.attempt;
        match (call.operation, self.0.as_str()) {
            (Operation::Create, "harbour") => Step::Done(Evidence {
                institution: self.0.clone(),
                accounts: Some(vec![attempt.account.clone()]),
                receiver: Some(attempt.receiver.clone()),
                about: call.about(),
                by: call.means(),
                sum: None,
                along: OriginalPayment::default(),
                asked_at: None,
                proves_arrival: false,
                finding: Finding::Accepted(Some(PaymentAction {
                    way: PaymentActionKind::Redirect(LINK.into()),
                    expires: None,
                })),
            }),
            _ => Step::Send(Box::new(Outgoing {
                request: Request::post("https://teller.example/")
                    .body(Bytes::new())
                    .unwrap(),
                to: Host::Main,
                effect: Effect::MayMoveMoney,
                state: CallState::default(),
            })),
        }
    }
    fn next(&self, _: &Call<'_>, _: &CallState, _: &Response<Bytes>, _: &Stamp) -> Step<Evidence> {
        unreachable!("there is no reply")
    }
    fn read_callback<'c>(
        &'c self,
        _: Callback<'c>,
        _: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified> {
        Err(Unverified::Unverified("not signed"))
    }
    fn acknowledge(
        &self,
        _: Callback<'_>,
        _: Acknowledgement,
        _: &str,
        _: &Stamp,
    ) -> Response<Bytes> {
        Response::new(Bytes::new())
    }
}

struct FrozenClock;

impl Clock for FrozenClock {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_ms(0)
    }
}

impl Entropy for FrozenClock {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(9);
    }
}

/// The outcome of everything that is sent.
struct FailingWire(SendError);

#[async_trait]
impl Outbound for FailingWire {
    async fn send(
        &self,
        _: &OutboundParty,
        _: Request<Bytes>,
        _: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        Err(self.0.clone())
    }

    async fn permit(&self, _: &InstitutionId, _: &MerchantId) -> Result<Permit, PermitUnavailable> {
        Ok(Permit::free())
    }
}

pub(super) fn snapshot() -> ConfigurationSnapshot {
    let (private, _) = SigningKey::generate_ed25519().unwrap();
    let teller = |id: &str| {
        let id = InstitutionId::parse(id).unwrap();
        let adapter: Arc<dyn Institution> = Arc::new(LinkInstitution(id.clone(), facts()));
        (id, adapter)
    };
    ConfigurationSnapshot::new(
        routing(),
        KeyRing::default(),
        HashMap::from([teller("harbour"), teller("lake")]),
        PlatformIdentity {
            origin: "https://pay.example".into(),
            signing: SigningKeys::always(SigningKey::from_pkcs8_pem("p1", &private).unwrap()),
            jwks: Bytes::new(),
        },
    )
}

pub(super) fn api(order: &Order, wire: SendError) -> Api {
    let world = World {
        clock: Arc::new(FrozenClock),
        entropy: Arc::new(FrozenClock),
        outbound: Arc::new(FailingWire(wire)),
        health: Arc::default(),
        sends: Arc::new(SendLog::start(Arc::new(FrozenClock))),
        signals: Arc::default(),
        exchange_log: Arc::new(NoRecorder),
        disk: Arc::default(),
        signing: Arc::default(),
    };
    let held = Arc::new(OneOrderStore(Mutex::new(order.clone())));
    let store = Store {
        orders: held.clone(),
        changes: held,
        ..Store::clone(&Arc::new(MemoryStore::new()).handles())
    };
    crate::world::test_gateway::api(Arc::new(store), world, snapshot())
}

pub(super) fn lost() -> SendError {
    SendError::Unknown("there is no reply".into())
}

pub(super) fn path(order: &Order) -> String {
    format!("/pay/{}", order.page_token().expose())
}

pub(super) async fn responded(
    api: &Api,
    request: Request<Bytes>,
) -> (Response<Bytes>, &'static str) {
    let peer = Peer {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        source: AddressSource::Connection,
        certificate: None,
    };
    let answer = api.answer(request, peer).await;
    (answer.response, answer.result)
}

pub(super) async fn fetched(api: &Api, path: &str) -> Response<Bytes> {
    let request = Request::get(path).body(Bytes::new()).unwrap();
    responded(api, request).await.0
}

pub(super) async fn posted(api: &Api, path: &str, form: &str) -> (Response<Bytes>, &'static str) {
    let request = Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::copy_from_slice(form.as_bytes()))
        .unwrap();
    responded(api, request).await
}

pub(super) fn text(response: &Response<Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

pub(super) fn head<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}
