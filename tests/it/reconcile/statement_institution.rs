//! An institution of the `standard` dialect whose replies a test sets, correctly signed or not; and
//! the embedded store beside it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::identifiers::{InstitutionId, MerchantId};
use paymux::domain::institutions::RoutingTable;
use paymux::domain::statement::{AccountReceiver, SettlementDay};
use paymux::flow::FlowScope;
use paymux::flow::configuration_snapshot::{ConfigurationSnapshot, PlatformIdentity, SigningKeys};
use paymux::flow::reconcile_statement::{
    FromFile, FromInstitution, NotReconciled, ReconciliationResult, ReconciliationScope,
    StatementSource, reconcile_statement,
};
use paymux::institution::kind;
use paymux::seal::Seal;
use paymux::signature::{EnrolledKey, KeyRing, Question, SigningKey, VerifyingKey, sign_response};
use paymux::store::ledger::{Reconciliation, ReconciliationBreak, ReconciliationLedger};
use paymux::store::{OnCommit, OnFatal, Store, open_for_all};
use paymux::world::exchange_log::NoRecorder;
use paymux::world::{
    Clock, Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError, World,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::store::builders::at;
use crate::world::clock::{ManualClock, START_MS};
use crate::world::enrolment::standard;
use crate::world::random::SeededEntropy;
use crate::world::test_gateway::sends;

/// The day of every payment and refund here.
pub(super) const DAY: &str = "20270115";

/// The institution's replies.
#[derive(Default)]
pub(super) struct StatementAnswers {
    /// To a query, by our number; unknown otherwise.
    pub(super) known: HashMap<String, Value>,
    /// The lines of its statement, for one receiver.
    pub(super) lines: Vec<Value>,
    /// The stated totals of these lines.
    pub(super) payments: String,
    pub(super) refunds: String,
    /// Lines of a page.
    pub(super) page: usize,
    /// Changes a page before it is signed.
    pub(super) spoil: Option<fn(u64, &mut Value)>,
    /// Signs with an unknown key.
    pub(super) forges: bool,
    /// The requests so far: path, and our number or the first line.
    pub(super) requests: Vec<(String, String)>,
}

pub(super) struct StatementInstitution {
    clock: Arc<ManualClock>,
    key: SigningKey,
    unauthenticated: SigningKey,
    answers: Mutex<StatementAnswers>,
}

impl StatementInstitution {
    fn answer(&self, path: &str, body: &Value) -> (u16, Value) {
        let mut answers = self.answers.lock().unwrap();
        let number = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let subject = match path {
            "/v1/statements" => body["afterLine"].to_string(),
            "/v1/refunds/query" => number("merchantRefundNo"),
            _ => number("merchantOrderNo"),
        };
        answers.requests.push((path.to_owned(), subject.clone()));
        if path != "/v1/statements" {
            let unknown = match path {
                "/v1/orders/query" => "order_unknown",
                _ => "refund_unknown",
            };
            let known = answers.known.get(&subject).cloned();
            return known.map_or((404, json!({ "code": unknown })), |known| (200, known));
        }
        let after = body["afterLine"].as_u64().unwrap();
        let from = usize::try_from(after).unwrap().min(answers.lines.len());
        let until = (from + answers.page).min(answers.lines.len());
        let mut page = json!({
            "merchantId": body["merchantId"], "date": body["date"], "firstLine": after + 1,
            "lines": answers.lines[from..until], "totalLines": answers.lines.len(),
            "totalPayments": { "CNY": answers.payments }, "totalRefunds": { "CNY": answers.refunds },
        });
        if until < answers.lines.len() {
            page["nextLine"] = json!(until + 1);
        }
        if let Some(spoil) = answers.spoil {
            spoil(after, &mut page);
        }
        match page.get("code") {
            Some(_) => (409, page),
            None => (200, page),
        }
    }
}

#[async_trait]
impl Outbound for StatementInstitution {
    async fn send(
        &self,
        _: &OutboundParty,
        request: Request<Bytes>,
        options: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        let body = serde_json::from_slice(request.body()).unwrap();
        let (status, reply_body) = self.answer(request.uri().path(), &body);
        let mut reply = Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(Bytes::from(reply_body.to_string()))
            .unwrap();
        assert!(reply.body().len() <= options.timeouts.body_bytes_max);
        let question = Question::of(&request, &request.uri().to_string()).unwrap();
        let forges = self.answers.lock().unwrap().forges;
        let key = if forges {
            &self.unauthenticated
        } else {
            &self.key
        };
        sign_response(&mut reply, Some(&question), key, self.clock.now().seconds()).unwrap();
        Ok(reply)
    }

    async fn permit(&self, _: &InstitutionId, _: &MerchantId) -> Result<Permit, PermitUnavailable> {
        Ok(Permit::free())
    }
}

/// A gateway's store and its one institution.
pub(super) struct ReconciliationTestbed {
    folder: TempDir,
    pub(super) store: Arc<Store>,
    pub(super) ledger: Arc<dyn ReconciliationLedger>,
    clock: Arc<ManualClock>,
    desk: Arc<StatementInstitution>,
    world: World,
    snapshot: ConfigurationSnapshot,
}

fn key(id: &str) -> SigningKey {
    let (private, _) = SigningKey::generate_ed25519().unwrap();
    SigningKey::from_pkcs8_pem(id, &private).unwrap()
}

fn harbour() -> InstitutionId {
    InstitutionId::parse("harbour").unwrap()
}

fn snapshot(institution: &SigningKey) -> ConfigurationSnapshot {
    let enrolled = EnrolledKey {
        id: institution.id().to_owned(),
        owner: "ACC-1".to_owned(),
        key: VerifyingKey::from_spki_pem(&institution.public_pem()).unwrap(),
        not_before_s: 0,
        not_after_s: i64::MAX,
    };
    let account = standard::account(("ACC-1", "ACC-1"), key("paymux-1"), vec![enrolled]);
    let places = ["https://harbour.example", "https://pay.example"];
    let settings = standard::institution("harbour", places, vec![account]);
    let adapter = (kind("standard").unwrap().build)(settings).unwrap();
    let platform = PlatformIdentity {
        origin: "https://pay.example".to_owned(),
        signing: SigningKeys::always(key("platform")),
        jwks: Bytes::new(),
    };
    let adapters = HashMap::from([(harbour(), adapter)]);
    ConfigurationSnapshot::new(
        RoutingTable::default(),
        KeyRing::default(),
        adapters,
        platform,
    )
}

impl ReconciliationTestbed {
    /// The day after [`DAY`].
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let seal = Seal::new("1", [("1".to_owned(), [1; 32])].into(), [2; 32]).unwrap();
        let file = folder.path().join("paymux.db");
        let on_fatal: OnFatal = Box::new(|why| panic!("{why}"));
        let on_commit: OnCommit = Box::new(|_, _| ());
        let seal = Arc::new(seal);
        let opened = open_for_all(&file, seal, on_fatal, on_commit, Duration::ZERO).unwrap();
        let (store, ledger) = (Arc::new(opened.store), opened.ledger);
        let clock = Arc::new(ManualClock::new());
        clock.pass(at(100_000).ms() - START_MS);
        let desk = Arc::new(StatementInstitution {
            clock: Arc::clone(&clock),
            key: key("harbour-1"),
            unauthenticated: key("harbour-1"),
            answers: Mutex::new(StatementAnswers {
                page: 2,
                payments: "0.00".to_owned(),
                refunds: "0.00".to_owned(),
                ..StatementAnswers::default()
            }),
        });
        let world = World {
            clock: Arc::<ManualClock>::clone(&clock),
            entropy: Arc::new(SeededEntropy::new(7)),
            outbound: Arc::<StatementInstitution>::clone(&desk),
            health: Arc::default(),
            sends: sends(&clock),
            signals: Arc::default(),
            exchange_log: Arc::new(NoRecorder),
            disk: Arc::default(),
            signing: Arc::default(),
        };
        Self {
            snapshot: snapshot(&desk.key),
            folder,
            store,
            ledger,
            clock,
            desk,
            world,
        }
    }

    pub(super) fn answers(&self) -> MutexGuard<'_, StatementAnswers> {
        self.desk.answers.lock().unwrap()
    }

    /// Counts rows in the database directly, without the store.
    pub(super) fn count(&self, rows: &str) -> u32 {
        let file = Connection::open(self.folder.path().join("paymux.db")).unwrap();
        let sql = format!("SELECT COUNT(*) FROM {rows}");
        file.query_row(&sql, [], |row| row.get(0)).unwrap()
    }

    pub(super) fn books(&self) -> ReconciliationScope<'_> {
        ReconciliationScope {
            flow: FlowScope {
                store: &self.store,
                world: &self.world,
                snapshot: &self.snapshot,
            },
            ledger: &*self.ledger,
        }
    }

    /// Each reconciliation has its own time.
    pub(super) fn of(&self, day: &str) -> Reconciliation {
        self.clock.pass(1_000);
        Reconciliation {
            institution: harbour(),
            day: SettlementDay::parse(day).unwrap(),
            by: "local:uid=7".to_owned(),
            at: self.clock.now(),
        }
    }

    pub(super) async fn by_file(&self, text: &str) -> Result<ReconciliationResult, NotReconciled> {
        let of = self.of(DAY);
        let mut source = FromFile::new(text.as_bytes(), &of);
        self.with(&of, &mut source).await
    }

    pub(super) async fn by_call(&self) -> Result<ReconciliationResult, NotReconciled> {
        let (of, books) = (self.of(DAY), self.books());
        let mut source = FromInstitution::new(&books, &of).await?;
        self.with(&of, &mut source).await
    }

    pub(super) async fn with(
        &self,
        of: &Reconciliation,
        source: &mut dyn StatementSource,
    ) -> Result<ReconciliationResult, NotReconciled> {
        reconcile_statement(&self.books(), of, source, &|_| ()).await
    }

    pub(super) async fn breaks(&self) -> Vec<ReconciliationBreak> {
        let day = SettlementDay::parse(DAY).unwrap();
        self.ledger.breaks(&harbour(), &day).await.unwrap()
    }

    pub(super) async fn receivers(&self) -> Vec<AccountReceiver> {
        let day = SettlementDay::parse(DAY).unwrap();
        self.ledger.receivers(&harbour(), &day).await.unwrap()
    }
}
