//! A simulated gateway of the `Alipay OpenAPI`, version 2: a real HTTPS server with its own books,
//! cashier pages, notifications and bills. Written from the published wire format alone, and as
//! strict; shares only `crypto` with the gateway that calls it. No money moves.
//!
//! `POST /control/next {"fault": "html_page", "method": "alipay.trade.query"}` orders a fault
//! ([`ALIPAY_FAULTS`]); `GET /control/books` shows the books.

mod admission;
mod answer;
mod bills;
mod biz;
mod books;
mod calls;
mod cashier;
mod clock;
mod control;
mod form;
mod keys;
mod notices;
mod steering;
mod terms;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request};
use tokio::task::JoinSet;

use crate::crypto::rsa::RsaPrivateKey;
use crate::sandbox::alipay::answer::MemberOrder;
use crate::sandbox::alipay::bills::BillFiles;
pub use crate::sandbox::alipay::books::refunds::AlipayRefund;
pub use crate::sandbox::alipay::books::{
    AlipayAct, AlipayActed, AlipayBooks, AlipayStatus, AlipayTrade, TradeKey,
};
use crate::sandbox::alipay::clock::AlipayClock;
pub use crate::sandbox::alipay::clock::AlipayTime;
pub use crate::sandbox::alipay::control::AlipayControl;
use crate::sandbox::alipay::keys::{CurrentKey, EnrolledApp};
use crate::sandbox::alipay::steering::AlipaySteering;
pub use crate::sandbox::alipay::steering::{
    ALIPAY_CODES, ALIPAY_FAULTS, AlipayFault, AlipaySteered,
};
pub use crate::sandbox::alipay::terms::{AlipayProduct, AlipayTerms};
use crate::sandbox::authority::PemIdentity;
use crate::sandbox::exchange::SandboxCaller;
use crate::sandbox::refusal::SandboxRefusal;
use crate::sandbox::server::{
    BoundListener, RunningServer, SandboxParty, SandboxReply, StartFault,
};
use crate::sandbox::watched::Watched;

/// Path of every call.
const GATEWAY_PATH: &str = "/gateway.do";

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum AlipayStartFault {
    /// Its listener or a certificate is unusable.
    #[error(transparent)]
    Start(#[from] StartFault),
    /// A key is unusable; names the setting.
    #[error("no RSA key of 2048 to 4096 bits: {0}")]
    Key(String),
}

/// The gateway's signing key, with its certificate in certificate mode.
#[derive(Clone)]
pub struct AlipayKey {
    /// PKCS #8, in PEM or bare Base64.
    pub private_key: String,
    /// Number and PEM of the certificate; applications in certificate mode need it.
    pub certificate: Option<(String, String)>,
}

/// The numbers that requests carry in certificate mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlipayCertificateNumbers {
    /// `app_cert_sn`.
    pub app_cert_sn: String,
    /// `alipay_root_cert_sn`.
    pub root_cert_sn: String,
}

/// An application.
#[derive(Debug, Clone)]
pub struct AlipayApp {
    /// Its number.
    pub app_id: String,
    /// The PID of the merchant to whom it belongs.
    pub seller_id: String,
    /// Its public key, in PEM or bare Base64; `None` while none is configured (40003).
    pub public_key: Option<String>,
    /// Set in certificate mode.
    pub certificates: Option<AlipayCertificateNumbers>,
}

/// A merchant's authorisation of a provider.
#[derive(Debug, Clone)]
pub struct AlipayAuthorisation {
    /// The provider's application.
    pub app_id: String,
    /// `app_auth_code`, used once.
    pub code: String,
    /// `app_auth_token`.
    pub token: String,
    /// `app_refresh_token`.
    pub refresh_token: String,
    /// The merchant's application.
    pub auth_app_id: String,
    /// The merchant's PID.
    pub seller_id: String,
}

/// What a day without movements is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyDay {
    /// A file without rows.
    EmptyFile,
    /// `NO_BILL_DATA`.
    NoBillData,
}

/// The gateway's delays, in real time.
#[derive(Debug, Clone, Copy)]
pub struct AlipayDelays {
    /// Before a slow answer.
    pub slow: Duration,
    /// Before a connection without an answer is closed.
    pub hold: Duration,
}

impl Default for AlipayDelays {
    fn default() -> Self {
        Self {
            slow: Duration::from_secs(3),
            hold: Duration::from_secs(30),
        }
    }
}

/// Settings of the gateway.
#[derive(Clone)]
pub struct AlipaySettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The host name of its URLs; its certificate must be valid for it.
    pub host: String,
    /// Its TLS certificate.
    pub identity: PemIdentity,
    /// Trusted roots for notifications, in PEM.
    pub roots_pem: String,
    /// Its signing key.
    pub key: AlipayKey,
    /// The applications.
    pub apps: Vec<AlipayApp>,
    /// The authorisations of providers.
    pub authorisations: Vec<AlipayAuthorisation>,
    /// What a day without movements is answered with.
    pub empty_day: EmptyDay,
    /// Its clock.
    pub time: AlipayTime,
    /// Its delays.
    pub delays: AlipayDelays,
}

/// A running gateway. Dropping it stops it at once, and discards its books.
pub struct SandboxAlipay {
    state: Arc<AlipayState>,
    address: SocketAddr,
    serving: Option<RunningServer>,
}

impl SandboxAlipay {
    /// Starts it.
    ///
    /// # Errors
    /// [`AlipayStartFault`] if the address is in use, or a certificate or key is unusable.
    pub async fn start(settings: AlipaySettings) -> Result<Self, AlipayStartFault> {
        let mut apps = Vec::with_capacity(settings.apps.len());
        for app in settings.apps {
            apps.push(EnrolledApp::read(app)?);
        }
        let key = CurrentKey::read(&settings.key)?;
        let no_key = || AlipayStartFault::Key("forging key".to_owned());
        let caller = SandboxCaller::new(&settings.roots_pem, None).map_err(StartFault::from)?;
        let listener = BoundListener::bind(settings.listen, &settings.identity).await?;
        let address = listener.address;
        let state = Arc::new(AlipayState {
            authority: format!("{}:{}", settings.host, address.port()),
            apps,
            authorisations: Mutex::new(
                settings
                    .authorisations
                    .into_iter()
                    .map(EnrolledAuthorisation::new)
                    .collect(),
            ),
            keys: Mutex::new(vec![Arc::new(key)]),
            forging_key: keys::generate().ok_or_else(no_key)?,
            empty_day: settings.empty_day,
            delays: settings.delays,
            clock: AlipayClock::start(settings.time),
            caller,
            books: Watched::default(),
            steering: AlipaySteering::default(),
            bills: BillFiles::default(),
            answered: AtomicUsize::new(0),
            background_tasks: Mutex::default(),
        });
        let site: Arc<dyn SandboxParty> = state.clone();
        Ok(Self {
            state,
            address,
            serving: Some(listener.serve(site)),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of its calls: `https://host:port/gateway.do`.
    pub fn gateway_url(&self) -> String {
        format!("{}{GATEWAY_PATH}", self.state.origin())
    }

    /// A copy of its books.
    pub fn books(&self) -> AlipayBooks {
        self.state.books.look(Clone::clone)
    }

    /// Waits until `look` finds something in the books, for at most `at_most` of real time.
    pub async fn wait_for<R>(
        &self,
        look: impl Fn(&AlipayBooks) -> Option<R>,
        at_most: Duration,
    ) -> Option<R> {
        self.state.books.wait_for(look, at_most).await
    }

    /// Payers, faults, clock and keys.
    pub fn control(&self) -> AlipayControl {
        AlipayControl(Arc::clone(&self.state))
    }

    /// Stops it; its address is free afterwards.
    pub async fn stop(mut self) {
        if let Some(serving) = self.serving.take() {
            serving.stop().await;
        }
    }
}

impl Drop for SandboxAlipay {
    fn drop(&mut self) {
        lock(&self.state.background_tasks).abort_all();
    }
}

/// An authorisation, and what became of it.
struct EnrolledAuthorisation {
    authorisation: AlipayAuthorisation,
    code_used: bool,
    withdrawn: bool,
}

impl EnrolledAuthorisation {
    fn new(authorisation: AlipayAuthorisation) -> Self {
        Self {
            authorisation,
            code_used: false,
            withdrawn: false,
        }
    }
}

/// State shared by the gateway's parts.
struct AlipayState {
    authority: String,
    apps: Vec<EnrolledApp>,
    authorisations: Mutex<Vec<EnrolledAuthorisation>>,
    /// The newest last; the others' certificates can still be downloaded.
    keys: Mutex<Vec<Arc<CurrentKey>>>,
    forging_key: RsaPrivateKey,
    empty_day: EmptyDay,
    delays: AlipayDelays,
    clock: AlipayClock,
    caller: SandboxCaller,
    books: Watched<AlipayBooks>,
    steering: AlipaySteering,
    bills: BillFiles,
    answered: AtomicUsize,
    background_tasks: Mutex<JoinSet<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AlipayState {
    fn origin(&self) -> String {
        format!("https://{}", self.authority)
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The key in use.
    fn key(&self) -> Option<Arc<CurrentKey>> {
        lock(&self.keys).last().cloned()
    }

    /// Each answer orders its members differently from the one before.
    fn next_order(&self) -> MemberOrder {
        match self.answered.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => MemberOrder::NodeFirst,
            _ => MemberOrder::SignatureFirst,
        }
    }

    /// Spawns a background task, which is aborted when the gateway stops.
    fn spawn_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.background_tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn is_addressed_here(&self, request: &Request<Bytes>) -> bool {
        let host = request.headers().get(HOST);
        host.is_some_and(|host| host.as_bytes() == self.authority.as_bytes())
    }
}

#[async_trait]
impl SandboxParty for AlipayState {
    async fn reply(self: Arc<Self>, request: Request<Bytes>, from: SocketAddr) -> SandboxReply {
        if !self.is_addressed_here(&request) {
            let refusal = SandboxRefusal::of(421, "authority_wrong", self.origin());
            return SandboxReply::Answer(refusal.into_response());
        }
        let path = request.uri().path().to_owned();
        let mut parts = path.trim_start_matches('/').split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("gateway.do"), None, None) => calls::answer(&self, &request).await,
            (Some("cashier" | "qr"), Some(token), None) => {
                SandboxReply::Answer(cashier::answer(&self, &request, token))
            }
            (Some("style.css"), None, None) => SandboxReply::Answer(cashier::style()),
            (Some("downloadBillFile.resource"), None, None) if request.method() == Method::GET => {
                SandboxReply::Answer(bills::download(&self, &request))
            }
            (Some("control"), Some(what), None) => {
                SandboxReply::Answer(control::answer(&self, &request, what, from))
            }
            _ => {
                let refusal = SandboxRefusal::of(404, "path_unknown", "no such path");
                SandboxReply::Answer(refusal.into_response())
            }
        }
    }
}
