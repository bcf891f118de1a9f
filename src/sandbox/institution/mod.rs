//! A simulated institution of the `standard` dialect: a real HTTPS server with its own ledger,
//! payment page, SDK, callbacks and faults. Written from the wire formats; shares no code with the
//! adapter.

mod callback;
mod control;
pub(super) mod faults;
pub(super) mod ledger;
mod orders;
mod page;
pub(super) mod refunds;
mod statements;
pub(super) mod terms;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request};
use tokio::task::JoinSet;

use crate::sandbox::authority::PemIdentity;
use crate::sandbox::exchange::SandboxCaller;
use crate::sandbox::institution::faults::{
    InstitutionDelays, InstitutionFault, OrderedFaults, SandboxCall,
};
use crate::sandbox::institution::ledger::InstitutionLedger;
use crate::sandbox::institution::refunds::RefundCapabilities;
use crate::sandbox::refusal::SandboxRefusal;
use crate::sandbox::server::{
    BoundListener, RunningServer, SandboxParty, SandboxReply, StartFault,
};
use crate::sandbox::watched::Watched;
use crate::signature::{KeyRing, SigningKey};

/// Settings of an institution.
#[derive(Clone)]
pub struct InstitutionSettings {
    /// Its id in the gateway, the last segment of the callback URL.
    pub id: String,
    /// The name that payers see.
    pub name: String,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The host name of its URLs; its certificate must be valid for it.
    pub host: String,
    /// Its TLS certificate.
    pub identity: PemIdentity,
    /// Its signing key.
    pub key: SigningKey,
    /// The keys accepted for calls, and for acknowledgements of callbacks.
    pub callers: KeyRing,
    /// The merchants' accounts (`merchantId`).
    pub accounts: Vec<String>,
    /// Trusted roots for callbacks, in PEM.
    pub roots_pem: String,
    /// Whether it supports close calls.
    pub can_close: bool,
    /// Whether a close of a number it has not seen makes it refuse that number later (A5).
    pub remembers_close: bool,
    /// The refunds it supports.
    pub refunding: RefundCapabilities,
    /// Its delays.
    pub waits: InstitutionDelays,
}

/// A running institution. Dropping it stops it at once, and discards its ledger.
pub struct SandboxInstitution {
    shared: Arc<SandboxInstitutionState>,
    address: SocketAddr,
    serving: Option<RunningServer>,
}

impl SandboxInstitution {
    /// Starts it.
    ///
    /// # Errors
    /// [`StartFault`] if the address is in use, or a certificate or key is unusable.
    pub async fn start(settings: InstitutionSettings) -> Result<Self, StartFault> {
        let listener = BoundListener::bind(settings.listen, &settings.identity).await?;
        let address = listener.address;
        // Forged signatures use the id of the institution's key with another private key.
        let (private, _) = SigningKey::generate_ed25519()?;
        let forging_key = SigningKey::from_pkcs8_pem(settings.key.id(), &private)?;
        let shared = Arc::new(SandboxInstitutionState {
            authority: format!("{}:{}", settings.host, address.port()),
            caller: SandboxCaller::new(&settings.roots_pem, None)?,
            book: Watched::default(),
            faults: OrderedFaults::default(),
            background_tasks: Mutex::default(),
            forging_key,
            settings,
        });
        let site: Arc<dyn SandboxParty> = shared.clone();
        let serving = listener.serve(site);
        Ok(Self {
            shared,
            address,
            serving: Some(serving),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its origin, which calls to it sign: `https://host:port`.
    pub fn origin(&self) -> String {
        self.shared.origin()
    }

    /// A copy of its ledger.
    pub fn books(&self) -> InstitutionLedger {
        self.shared.book.look(Clone::clone)
    }

    /// The URL of a payment's page, in any mode.
    pub fn page_url(&self, number: &str) -> Option<String> {
        let token = |book: &InstitutionLedger| Some(book.payment(number)?.token.clone());
        let token = self.shared.book.look(token)?;
        Some(self.shared.page_url(&token))
    }

    /// Waits until `look` finds something in the ledger, for at most `at_most`.
    pub async fn wait_for<R>(
        &self,
        look: impl Fn(&InstitutionLedger) -> Option<R>,
        at_most: Duration,
    ) -> Option<R> {
        self.shared.book.wait_for(look, at_most).await
    }

    /// Injects faults.
    pub fn control(&self) -> FaultControl {
        FaultControl(Arc::clone(&self.shared))
    }

    /// Stops it; its address is free afterwards.
    pub async fn stop(mut self) {
        if let Some(serving) = self.serving.take() {
            serving.stop().await;
        }
    }
}

/// The fault control of `POST /control/next`, without HTTP.
#[derive(Clone)]
pub struct FaultControl(Arc<SandboxInstitutionState>);

impl FaultControl {
    /// Injects the fault the next `times` times that it can occur.
    pub fn next(&self, fault: InstitutionFault, times: u32) {
        self.0.faults.order(fault, None, times);
    }

    /// The same, only at calls of one kind and their callbacks.
    pub fn next_at(&self, call: SandboxCall, fault: InstitutionFault, times: u32) {
        self.0.faults.order(fault, Some(call), times);
    }
}

/// State shared by the institution's parts.
struct SandboxInstitutionState {
    settings: InstitutionSettings,
    authority: String,
    forging_key: SigningKey,
    caller: SandboxCaller,
    book: Watched<InstitutionLedger>,
    faults: OrderedFaults,
    background_tasks: Mutex<JoinSet<()>>,
}

impl SandboxInstitutionState {
    fn origin(&self) -> String {
        format!("https://{}", self.authority)
    }

    fn page_url(&self, token: &str) -> String {
        format!("{}/page/{token}", self.origin())
    }

    /// Spawns a background task, which is aborted when the institution stops.
    fn spawn_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut background_tasks = self
            .background_tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while background_tasks.try_join_next().is_some() {}
        background_tasks.spawn(task);
    }

    fn abort_background(&self) {
        let mut background_tasks = self
            .background_tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        background_tasks.abort_all();
    }

    fn is_addressed_here(&self, request: &Request<Bytes>) -> bool {
        let host = request.headers().get(HOST);
        host.is_some_and(|host| host.as_bytes() == self.authority.as_bytes())
    }
}

impl Drop for SandboxInstitution {
    fn drop(&mut self) {
        self.shared.abort_background();
    }
}

#[async_trait]
impl SandboxParty for SandboxInstitutionState {
    async fn reply(self: Arc<Self>, request: Request<Bytes>, from: SocketAddr) -> SandboxReply {
        if !self.is_addressed_here(&request) {
            let origin = self.origin();
            return refused(SandboxRefusal::of(421, "authority_wrong", origin));
        }
        let path = request.uri().path().to_owned();
        let mut parts = path.trim_start_matches('/').split('/');
        let call = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("v1"), Some("orders"), None, None) => SandboxCall::Create,
            (Some("v1"), Some("orders"), Some("query"), None) => SandboxCall::Query,
            (Some("v1"), Some("orders"), Some("close"), None) => SandboxCall::Close,
            (Some("v1"), Some("refunds"), None, None) => SandboxCall::Refund,
            (Some("v1"), Some("refunds"), Some("query"), None) => SandboxCall::RefundQuery,
            (Some("v1"), Some("statements"), None, None) => SandboxCall::Statement,
            (Some("control"), Some(what), None, None) => {
                return SandboxReply::Answer(control::answer(&self, &request, what, from));
            }
            (Some("page"), Some(token), None, None) => {
                return SandboxReply::Answer(page::answer(&self, &request, token));
            }
            (Some("style.css"), None, None, None) => return SandboxReply::Answer(page::style()),
            (Some("sdk"), Some("pay"), None, None) => {
                return SandboxReply::Answer(page::pay_by_sdk(&self, &request));
            }
            _ => return refused(SandboxRefusal::of(404, "path_unknown", "no such path")),
        };
        if request.method() != Method::POST {
            return refused(SandboxRefusal::of(405, "method_wrong", "POST"));
        }
        orders::answer(&self, call, &request).await
    }
}

fn refused(refusal: SandboxRefusal) -> SandboxReply {
    SandboxReply::Answer(refusal.into_response())
}
