//! Orders in every state a payer can meet, and a gateway whose store holds one of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use paymux::api::page::view;
use paymux::api::{Api, Peer};
use paymux::domain::amount::{Amount, CNY};
use paymux::domain::attempt::{Epoch, Stamp};
use paymux::domain::change::{Cause, Change};
use paymux::domain::evidence::{About, Along, Evidence, Finding, Handover, Means, Receipt, Way};
use paymux::domain::identifiers::forgotten::Forgotten;
use paymux::domain::identifiers::{
    AccountId, AttemptId, CalendarDay, InstitutionId, MerchantId, MerchantOrderNo, PayOrderNo,
    Timestamp, Uptime,
};
use paymux::domain::institutions::{
    BusinessType, Contract, Credentials, Directory, Facts, Mode, Payers, RefundKinds, RefundRules,
    Route, Sums, TransactionType,
};
use paymux::domain::merchant::{Admission, ClientCertificate, Merchant};
use paymux::domain::order::{Ending, Opening, Order, Start, Terms, Weighed};
use paymux::domain::personal::MobileNo;
use paymux::flow::register::{Platform, Register, Signing};
use paymux::institution::{
    Call, CallState, Effect, Heard, Host, Institution, Outgoing, Step, Told, Unverified,
};
use paymux::signature::{KeyRing, SigningKey};
use paymux::store::owed::{Dead, LaneShares, Numbered, Room, Shares, Which};
use paymux::store::{
    Bindings, Committed, Fate, Kept, Lease, Message, OrderKey, Settled, Store, StoreError, Work,
};
use paymux::world::exchange_log::NoRecorder;
use paymux::world::sends::SendLog;
use paymux::world::{Clock, Entropy, Outbound, Party, Patience, SendError, TooMany, Turn, World};

pub(super) const NOW: Timestamp = Timestamp::from_s(1_795_278_600);
pub(super) const LINK: &str = "https://harbour.example/cashier?order=1&sign=abc";
pub(super) const HOSTILE: &str = "<script>alert('1')</script>\"&\u{202e}";

pub(super) fn facts() -> Facts {
    Facts {
        visibility_ms: 60_000,
        can_close: true,
        remembers_close: true,
        repeatable_create: true,
        repeatable_refund: true,
        calls_per_second: 50,
    }
}

pub(super) fn institution(
    id: &str,
    name: &str,
    name_en: &str,
) -> paymux::domain::institutions::Institution {
    paymux::domain::institutions::Institution {
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
        departures: vec![],
        facts: facts(),
        credentials: Credentials::default(),
    }
}

fn sums(minor_min: i64) -> Sums {
    Sums {
        currency: CNY,
        minor_min,
        minor_max: 100_000_000,
    }
}

/// Harbour and Lake are open, Meadow has an SDK only, Peak takes larger sums only.
pub(super) fn directory() -> Directory {
    let merchant = MerchantId::parse("M1").unwrap();
    let mut directory = Directory::default();
    let enrolled = Merchant {
        id: merchant.clone(),
        name: "清风茶舍".into(),
        admission: Admission::Admitted,
        client_certificate: ClientCertificate::Off,
        certificates: vec![],
        notify_origins: vec![],
        notice_url: None,
        default_institutions: HashMap::new(),
    };
    directory.merchants.insert(merchant.clone(), enrolled);
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
        directory.routes.push(Route {
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
            modes: Mode::ALL.to_vec(),
            transaction_types: vec![TransactionType::PasswordPay],
            stopped: false,
            sums: vec![sums(1)],
            payers: Payers::default(),
            hours: None,
        };
        directory
            .contracts
            .insert((merchant.clone(), id.clone()), contract);
        directory.institutions.insert(id, institution);
    }
    directory
}

pub(super) fn terms(business_type: BusinessType) -> Terms {
    Terms {
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

pub(super) fn open(terms: Terms, first: Option<Start>) -> Order {
    let opening = Opening {
        no: PayOrderNo::mint(NOW, [3; 10]),
        page_secret: [0x5a; 16],
        terms,
        notice_url: None,
    };
    let change = Order::open(opening, first, Cause::Clock, NOW);
    change.into_order().unwrap()
}

pub(super) fn webview() -> BusinessType {
    BusinessType::Single(Mode::Webview)
}

pub(super) fn start(institution: &str, mode: Mode) -> Start {
    Start {
        id: AttemptId::mint(NOW, [4; 10]),
        institution: InstitutionId::parse(institution).unwrap(),
        account: AccountId::parse("acct").unwrap(),
        mode,
        stamp: Stamp {
            now: NOW,
            nonce: [1; 10],
        },
        configuration: 1,
        epoch: Epoch(1),
    }
}

pub(super) fn link(address: &str) -> Finding {
    Finding::Accepted(Some(Handover {
        way: Way::Link(address.into()),
        expires: None,
    }))
}

pub(super) fn after(order: &Order, finding: Finding) -> Order {
    let attempt = order.attempts.last().unwrap();
    let evidence = Evidence {
        institution: attempt.institution.clone(),
        account: None,
        about: About::Attempt(attempt.id.clone()),
        by: Means::Query,
        sum: None,
        along: Along::default(),
        asked_at: None,
        names_it: false,
        finding,
    };
    let Weighed::Commit(change) = order.weigh(&evidence, &facts(), NOW) else {
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

pub(super) fn ended(why: Ending) -> Order {
    let order = open(terms(webview()), None);
    order
        .end(why, Cause::Clock, NOW)
        .unwrap()
        .into_order()
        .unwrap()
}

pub(super) fn shown(order: &Order, now: Timestamp) -> String {
    let directory = directory();
    let open: Vec<_> = ["harbour", "lake"]
        .iter()
        .map(|id| &directory.institutions[&InstitutionId::parse(id).unwrap()])
        .collect();
    view::page(order, &open, &directory, now)
}

/// Every state a payer can meet, by the word the page carries.
pub(super) fn every_state() -> Vec<(&'static str, String)> {
    let doubt = Finding::Ambiguous(paymux::domain::evidence::Ambiguity::NoAnswer);
    let refused = Finding::Refused(paymux::domain::evidence::Reason::from_code("NO_ACCOUNT"));
    let accepted = tried(link(LINK));
    let native = BusinessType::Single(Mode::Native);
    let closing = accepted.release_attempt(Cause::Page, NOW).unwrap();
    vec![
        ("choose", shown(&open(terms(webview()), None), NOW)),
        ("choose", shown(&tried(refused), NOW)),
        ("continue", shown(&accepted, NOW)),
        ("confirming", shown(&tried(doubt), NOW)),
        ("confirming", shown(&closing.into_order().unwrap(), NOW)),
        ("confirming", shown(&accepted, accepted.expires)),
        ("elsewhere", shown(&open(terms(native), None), NOW)),
        ("paid", shown(&paid(), NOW)),
        ("expired", shown(&ended(Ending::Expired), NOW)),
        ("closed", shown(&ended(Ending::Merchant), NOW)),
    ]
}

/// Holds one order.
struct Shelf(Mutex<Order>);

impl Shelf {
    fn holds(&self, key: &OrderKey) -> Option<Order> {
        let order = self.0.lock().unwrap().clone();
        let named = match key {
            OrderKey::OfRefund(..) | OrderKey::RefundOurs(..) | OrderKey::RefundTheirs(..) => false,
            OrderKey::OfPage(token) => {
                *token.order() == order.no && token.opens(&order.page_secret)
            }
            OrderKey::Ours(_, no) => *no == order.no,
            OrderKey::Theirs(_, no) => *no == order.terms.merchant_order_no,
            OrderKey::OfAttempt(_, id) => order.attempts.iter().any(|known| known.id == *id),
        };
        named.then_some(order)
    }
}

#[async_trait]
impl Store for Shelf {
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        Ok(self.holds(key))
    }
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        let mut held = self.0.lock().unwrap();
        let rows = change.rows().unwrap();
        if rows.before != Some(held.version) {
            return Ok(Committed::Stale);
        }
        *held = rows.order.clone();
        Ok(Committed::Done)
    }
    async fn keep(&self, _: &Message) -> Result<Kept, StoreError> {
        Ok(Kept::New)
    }
    async fn last_used(
        &self,
        _: &MerchantId,
        _: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError> {
        Ok(None)
    }
    async fn lease(&self, _: Work, _: Timestamp, _: u32) -> Result<Vec<Lease>, StoreError> {
        Ok(Vec::new())
    }
    async fn settle(&self, _: &Lease, _: Fate) -> Result<Settled, StoreError> {
        Ok(Settled::LeaseLost)
    }
    async fn lease_orders(
        &self,
        _: &LaneShares<'_>,
        _: Timestamp,
        _: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        Ok(Vec::new())
    }
    async fn next_order(&self, _: &LaneShares<'_>) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
    async fn lease_named(&self, _: &[PayOrderNo], _: Timestamp) -> Result<Vec<Lease>, StoreError> {
        Ok(Vec::new())
    }
    async fn reschedule(&self, _: &Order, _: u64) -> Result<Settled, StoreError> {
        Ok(Settled::LeaseLost)
    }
    async fn lease_events(
        &self,
        _: &Shares,
        _: Timestamp,
        _: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        Ok(Vec::new())
    }
    async fn next_event(&self, _: &Shares) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
    async fn events_after(
        &self,
        _: &MerchantId,
        _: u64,
        _: Room,
    ) -> Result<Vec<Numbered>, StoreError> {
        Ok(Vec::new())
    }
    async fn dead(&self, _: &Which, _: u32) -> Result<Dead, StoreError> {
        Ok(Dead::default())
    }
    async fn resend(&self, _: &Which, _: &str, _: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }
    async fn forget_nonces(&self, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }
    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError> {
        let _ = (by, now);
        Ok(Duration::ZERO)
    }

    fn epoch(&self) -> Epoch {
        Epoch(1)
    }
    fn forgotten(&self) -> Arc<Forgotten> {
        Arc::default()
    }
    async fn next_due(&self, _: Work) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
    async fn bindings(&self, _: Timestamp) -> Result<Bindings, StoreError> {
        Ok(Bindings::default())
    }
}

/// An institution whose link is made here, or that has to be asked; then nobody answers.
struct Teller(InstitutionId, Facts);

impl Institution for Teller {
    fn id(&self) -> &InstitutionId {
        &self.0
    }
    fn facts(&self) -> &Facts {
        &self.1
    }
    fn origin(&self, _: Host) -> Option<&str> {
        Some("https://teller.example")
    }
    fn begin(&self, call: &Call<'_>, _: &Stamp) -> Step<Evidence> {
        match (call, self.0.as_str()) {
            (Call::Create(attempt, _), "harbour") => Step::Done(Evidence {
                institution: self.0.clone(),
                account: Some(attempt.account.clone()),
                about: call.about(),
                by: call.means(),
                sum: None,
                along: Along::default(),
                asked_at: None,
                names_it: false,
                finding: Finding::Accepted(Some(Handover {
                    way: Way::Link(LINK.into()),
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
        unreachable!("nobody answers")
    }
    fn read_callback<'c>(
        &'c self,
        _: &'c Request<Bytes>,
        _: Timestamp,
    ) -> Result<Told<'c>, Unverified> {
        Err(Unverified::Unverified("not signed"))
    }
    fn acknowledge(&self, _: &Request<Bytes>, _: Heard, _: &str, _: &Stamp) -> Response<Bytes> {
        Response::new(Bytes::new())
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_ms(0)
    }
}

impl Entropy for Still {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(9);
    }
}

/// What becomes of everything that is sent.
struct Wire(SendError);

#[async_trait]
impl Outbound for Wire {
    async fn send(
        &self,
        _: &Party,
        _: Request<Bytes>,
        _: Patience,
    ) -> Result<Response<Bytes>, SendError> {
        Err(self.0.clone())
    }

    async fn turn(&self, _: &InstitutionId, _: &MerchantId) -> Result<Turn, TooMany> {
        Ok(Turn::free())
    }
}

pub(super) fn register() -> Register {
    let (private, _) = SigningKey::generate_ed25519().unwrap();
    let teller = |id: &str| {
        let id = InstitutionId::parse(id).unwrap();
        let adapter: Arc<dyn Institution> = Arc::new(Teller(id.clone(), facts()));
        (id, adapter)
    };
    Register::new(
        directory(),
        KeyRing::default(),
        HashMap::from([teller("harbour"), teller("lake")]),
        Platform {
            origin: "https://pay.example".into(),
            signing: Signing::always(SigningKey::from_pkcs8_pem("p1", &private).unwrap()),
            jwks: Bytes::new(),
        },
    )
}

pub(super) fn api(order: &Order, wire: SendError) -> Api {
    let world = World {
        clock: Arc::new(Still),
        entropy: Arc::new(Still),
        outbound: Arc::new(Wire(wire)),
        health: Arc::default(),
        sends: Arc::new(SendLog::start(Arc::new(Still))),
        signals: Arc::default(),
        exchange_log: Arc::new(NoRecorder),
        disk: Arc::default(),
    };
    let shelf = Arc::new(Shelf(Mutex::new(order.clone())));
    crate::world::town::api(shelf, world, register())
}

pub(super) fn lost() -> SendError {
    SendError::Unknown("nobody answers".into())
}

pub(super) fn path(order: &Order) -> String {
    format!("/pay/{}", order.page_token().expose())
}

pub(super) async fn asked(api: &Api, request: Request<Bytes>) -> (Response<Bytes>, &'static str) {
    let peer = Peer {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        certificate: None,
    };
    let answer = api.answer(request, peer).await;
    (answer.response, answer.result)
}

pub(super) async fn fetched(api: &Api, path: &str) -> Response<Bytes> {
    let request = Request::get(path).body(Bytes::new()).unwrap();
    asked(api, request).await.0
}

pub(super) async fn posted(api: &Api, path: &str, form: &str) -> (Response<Bytes>, &'static str) {
    let request = Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::copy_from_slice(form.as_bytes()))
        .unwrap();
    asked(api, request).await
}

pub(super) fn text(response: &Response<Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

pub(super) fn head<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}
