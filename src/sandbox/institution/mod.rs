//! A pretend institution of the `standard` dialect: a real HTTPS server with its own book, payment
//! page, SDK, callbacks and faults. Written from the wire formats; shares no code with the adapter.

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

/// What makes an institution this one.
#[derive(Clone)]
pub struct InstitutionSettings {
    /// As paymux calls it: the last part of the callback's address.
    pub id: String,
    /// What payers read.
    pub name: String,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The host of its public addresses; must stand in its certificate.
    pub host: String,
    /// Its TLS certificate.
    pub identity: PemIdentity,
    /// What it signs with.
    pub key: SigningKey,
    /// Whose calls it takes, and whose word on a callback counts.
    pub callers: KeyRing,
    /// The merchants' accounts it keeps (`merchantId`).
    pub accounts: Vec<String>,
    /// Whom it trusts when it calls back, in PEM.
    pub roots_pem: String,
    /// Whether it takes close calls at all.
    pub can_close: bool,
    /// Whether a close of a number it has not seen makes it refuse that number later (A5).
    pub remembers_close: bool,
    /// Which refunds it does.
    pub refunding: RefundCapabilities,
    /// How long its delays are.
    pub waits: InstitutionDelays,
}

/// A running institution. Dropping it ends it at once; its book is gone with it.
pub struct SandboxInstitution {
    desk: Arc<SandboxInstitutionState>,
    address: SocketAddr,
    serving: Option<RunningServer>,
}

impl SandboxInstitution {
    /// Starts it.
    ///
    /// # Errors
    /// [`StartFault`] for an address that is taken and for unusable certificates or keys.
    pub async fn start(settings: InstitutionSettings) -> Result<Self, StartFault> {
        let place = BoundListener::bind(settings.listen, &settings.identity).await?;
        let address = place.address;
        // The id of the institution's key, and not the key: what forgeries are made with.
        let (private, _) = SigningKey::generate_ed25519()?;
        let strangers_key = SigningKey::from_pkcs8_pem(settings.key.id(), &private)?;
        let desk = Arc::new(SandboxInstitutionState {
            authority: format!("{}:{}", settings.host, address.port()),
            caller: SandboxCaller::new(&settings.roots_pem, None)?,
            book: Watched::default(),
            faults: OrderedFaults::default(),
            background_tasks: Mutex::default(),
            strangers_key,
            settings,
        });
        let site: Arc<dyn SandboxParty> = desk.clone();
        let serving = place.serve(site);
        Ok(Self {
            desk,
            address,
            serving: Some(serving),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://host:port`: what calls to it are signed for.
    pub fn origin(&self) -> String {
        self.desk.origin()
    }

    /// A copy of its book.
    pub fn books(&self) -> InstitutionLedger {
        self.desk.book.look(Clone::clone)
    }

    /// The address of a payment's page, whatever its mode.
    pub fn page_url(&self, number: &str) -> Option<String> {
        let token = |book: &InstitutionLedger| Some(book.payment(number)?.token.clone());
        let token = self.desk.book.look(token)?;
        Some(self.desk.page_url(&token))
    }

    /// What `look` finds in the book, as soon as it finds something, or nothing in that time.
    pub async fn wait_for<R>(
        &self,
        look: impl Fn(&InstitutionLedger) -> Option<R>,
        at_most: Duration,
    ) -> Option<R> {
        self.desk.book.wait_for(look, at_most).await
    }

    /// Its faults, to be ordered.
    pub fn control(&self) -> FaultControl {
        FaultControl(Arc::clone(&self.desk))
    }

    /// Ends it; its address is free afterwards.
    pub async fn stop(mut self) {
        if let Some(serving) = self.serving.take() {
            serving.stop().await;
        }
    }
}

/// What `POST /control/next` does, without a socket.
#[derive(Clone)]
pub struct FaultControl(Arc<SandboxInstitutionState>);

impl FaultControl {
    /// The fault shows at the next occasions at which it can, so many times.
    pub fn next(&self, fault: InstitutionFault, times: u32) {
        self.0.faults.order(fault, None, times);
    }

    /// The same, at calls of one kind and what comes of them only.
    pub fn next_at(&self, call: SandboxCall, fault: InstitutionFault, times: u32) {
        self.0.faults.order(fault, Some(call), times);
    }
}

/// What the institution's parts share.
struct SandboxInstitutionState {
    settings: InstitutionSettings,
    authority: String,
    strangers_key: SigningKey,
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

    /// Does something beside answering; ends with the institution.
    fn spawn_background(&self, call_label: impl Future<Output = ()> + Send + 'static) {
        let mut background_tasks = self
            .background_tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while background_tasks.try_join_next().is_some() {}
        background_tasks.spawn(call_label);
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
        self.desk.abort_background();
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
            _ => return refused(SandboxRefusal::of(404, "path_unknown", "no such address")),
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
