//! UnionPay's online gateway (version 5.1.0) as a counterpart: a real HTTPS server with its own
//! books, keys, payment page, SDK, notifications, files and faults. Written from the interface's
//! description alone, and as strict as it; shares no code with the adapter.
//!
//! Steered by [`UnionPayControl`] or, from this machine, by HTTP: `POST /control/next
//! {"fault": "acts_03", "call": "refund", "times": 1}`, `POST /control/clock {"at":
//! "20260101080000"}` (`null` follows the real time), `POST /control/renew {}` (a new signing
//! certificate), `POST /control/enrol {"merId": …, "certificate": …}` and `/control/withdraw
//! {"merId": …, "certId": …}`; `GET /control/faults` and `/control/books` show.

mod answer;
mod calls;
mod clock;
pub(super) mod control;
mod crypto;
pub(super) mod faults;
mod file;
mod form;
pub(super) mod ledger;
mod notify;
mod page;
mod refunds;
pub(super) mod request;

pub use crypto::{UnionPayAuthority, UnionPayKeyFault};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, StatusCode};
use tokio::task::JoinSet;

use crate::sandbox::authority::{CertificateFault, PemIdentity};
use crate::sandbox::exchange::SandboxCaller;
use crate::sandbox::server::{
    BoundListener, RunningServer, SandboxParty, SandboxReply, StartFault,
};
use crate::sandbox::unionpay::answer::{UnionPayRejection, written};
use crate::sandbox::unionpay::clock::UnionPayClock;
use crate::sandbox::unionpay::control::UnionPayControl;
use crate::sandbox::unionpay::crypto::{UnionPayMerchantCertificate, UnionPaySigningSet};
use crate::sandbox::unionpay::faults::{OrderedUnionPayFaults, UnionPayDelays};
use crate::sandbox::unionpay::form::UnionPayFields;
use crate::sandbox::unionpay::ledger::UnionPayBook;
use crate::sandbox::watched::Watched;

/// A merchant as UnionPay knows it.
#[derive(Debug, Clone)]
pub struct UnionPayMerchant {
    /// 15 digits.
    pub mer_id: String,
    /// The name that payers see.
    pub name: String,
    /// Its signing certificates (PEM); the serial number of each is a `certId`.
    pub certificates_pem: Vec<String>,
    /// The values of `accessType` in its contract.
    pub access_types: Vec<String>,
    /// Whether it may fetch files; the vendor's test merchants may not.
    pub has_files: bool,
    /// Its fee. Unit: hundredths of a per cent.
    pub fee_basis_points: i64,
}

/// Settings of the counterpart.
#[derive(Clone)]
pub struct UnionPaySettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The host name of its addresses; its TLS certificate must be valid for it.
    pub host: String,
    /// Its TLS certificate.
    pub identity: PemIdentity,
    /// Issues the certificates of its messages.
    pub authority: Arc<UnionPayAuthority>,
    /// The merchants.
    pub merchants: Vec<UnionPayMerchant>,
    /// Trusted roots for notifications, in PEM.
    pub roots_pem: String,
    /// Its delays.
    pub delays: UnionPayDelays,
}

/// Why the counterpart did not start.
#[derive(Debug, thiserror::Error)]
pub enum UnionPayStartFault {
    /// It cannot listen, or its TLS certificate is unusable.
    #[error(transparent)]
    Start(#[from] StartFault),
    /// The roots are unusable.
    #[error(transparent)]
    Roots(#[from] CertificateFault),
    /// A signing key or a merchant's certificate is unusable.
    #[error(transparent)]
    Key(#[from] UnionPayKeyFault),
}

/// The running counterpart. Dropping it stops it at once, and discards its books.
pub struct SandboxUnionPay {
    shared: Arc<UnionPayParty>,
    address: SocketAddr,
    serving: Option<RunningServer>,
}

impl SandboxUnionPay {
    /// Starts it, with a new signing key.
    ///
    /// # Errors
    /// [`UnionPayStartFault`] if the address is in use, or a certificate or key is unusable.
    pub async fn start(settings: UnionPaySettings) -> Result<Self, UnionPayStartFault> {
        let listener = BoundListener::bind(settings.listen, &settings.identity).await?;
        let address = listener.address;
        let shared = Arc::new(UnionPayParty {
            authority: format!("{}:{}", settings.host, address.port()),
            caller: SandboxCaller::new(&settings.roots_pem, None)?,
            book: Watched::default(),
            faults: OrderedUnionPayFaults::default(),
            clock: UnionPayClock::default(),
            signing: Mutex::new((
                0,
                Arc::new(UnionPaySigningSet::draw(&settings.authority, 0)?),
            )),
            enrolled: Mutex::default(),
            background_tasks: Mutex::default(),
            settings,
        });
        for merchant in &shared.settings.merchants {
            for certificate in &merchant.certificates_pem {
                shared.enrol(&merchant.mer_id, certificate)?;
            }
        }
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

    /// Its origin, `https://host:port`; all paths of the interface are below it, files included.
    pub fn origin(&self) -> String {
        self.shared.origin()
    }

    /// A copy of its books.
    pub fn books(&self) -> UnionPayBook {
        self.shared.book.look(Clone::clone)
    }

    /// The address of a payment's page.
    pub fn page_url(&self, order_id: &str) -> Option<String> {
        let token = |book: &UnionPayBook| Some(book.transaction(order_id)?.token.clone());
        let token = self.shared.book.look(token)?;
        Some(self.shared.page_url(&token))
    }

    /// Waits until `look` finds something in the books, for at most `at_most`.
    pub async fn wait_for<R>(
        &self,
        look: impl Fn(&UnionPayBook) -> Option<R>,
        at_most: Duration,
    ) -> Option<R> {
        self.shared.book.wait_for(look, at_most).await
    }

    /// Steers it.
    pub fn control(&self) -> UnionPayControl {
        UnionPayControl(Arc::clone(&self.shared))
    }

    /// Stops it; its address is free afterwards.
    pub async fn stop(mut self) {
        if let Some(serving) = self.serving.take() {
            serving.stop().await;
        }
    }
}

impl Drop for SandboxUnionPay {
    fn drop(&mut self) {
        let mut background_tasks = locked(&self.shared.background_tasks);
        background_tasks.abort_all();
    }
}

/// State shared by the counterpart's parts.
struct UnionPayParty {
    settings: UnionPaySettings,
    authority: String,
    caller: SandboxCaller,
    book: Watched<UnionPayBook>,
    faults: OrderedUnionPayFaults,
    clock: UnionPayClock,
    /// The signing key in force, and how many there were before.
    signing: Mutex<(u64, Arc<UnionPaySigningSet>)>,
    /// The certificates of each merchant.
    enrolled: Mutex<BTreeMap<String, Vec<UnionPayMerchantCertificate>>>,
    background_tasks: Mutex<JoinSet<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UnionPayParty {
    fn origin(&self) -> String {
        format!("https://{}", self.authority)
    }

    fn page_url(&self, token: &str) -> String {
        format!("{}/page/{token}", self.origin())
    }

    fn signing(&self) -> Arc<UnionPaySigningSet> {
        Arc::clone(&locked(&self.signing).1)
    }

    fn merchant(&self, mer_id: &str) -> Option<&UnionPayMerchant> {
        let merchants = &self.settings.merchants;
        merchants.iter().find(|merchant| merchant.mer_id == mer_id)
    }

    fn enrol(&self, mer_id: &str, certificate_pem: &str) -> Result<String, UnionPayKeyFault> {
        let certificate = UnionPayMerchantCertificate::read(certificate_pem)?;
        let cert_id = certificate.cert_id.clone();
        let mut enrolled = locked(&self.enrolled);
        let known = enrolled.entry(mer_id.to_owned()).or_default();
        known.retain(|known| known.cert_id != cert_id);
        known.push(certificate);
        Ok(cert_id)
    }

    /// The signature must be by a valid certificate of this merchant.
    fn check_signature(&self, fields: &UnionPayFields) -> Result<(), UnionPayRejection> {
        let enrolled = locked(&self.enrolled);
        let known = enrolled.get(fields.text("merId"));
        let certificate = known.into_iter().flatten().find(|known| {
            known.cert_id == fields.text("certId") && known.is_valid(self.clock.now_s())
        });
        let certificate = certificate.ok_or(UnionPayRejection::at("11", "certId"))?;
        if certificate.verifies(fields) {
            return Ok(());
        }
        Err(UnionPayRejection::at("11", "signature"))
    }

    /// Spawns a background task, which is aborted when the counterpart stops.
    fn spawn_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut background_tasks = locked(&self.background_tasks);
        while background_tasks.try_join_next().is_some() {}
        background_tasks.spawn(task);
    }

    fn is_addressed_here(&self, request: &Request<Bytes>) -> bool {
        let host = request.headers().get(HOST);
        host.is_some_and(|host| host.as_bytes() == self.authority.as_bytes())
    }
}

#[async_trait]
impl SandboxParty for UnionPayParty {
    async fn reply(self: Arc<Self>, request: Request<Bytes>, from: SocketAddr) -> SandboxReply {
        let path = request.uri().path().to_owned();
        let is_post = request.method() == Method::POST;
        if !self.is_addressed_here(&request) {
            return plain(StatusCode::MISDIRECTED_REQUEST);
        }
        if request::is_for_browsers(&path) && is_post {
            return page::arrive(&self, &request);
        }
        if request::is_endpoint(&path) {
            return if is_post {
                calls::answer(&self, &request).await
            } else {
                plain(StatusCode::METHOD_NOT_ALLOWED)
            };
        }
        let mut parts = path.trim_start_matches('/').split('/');
        let answer = match (parts.next(), parts.next(), parts.next()) {
            (Some("control"), Some(what), None) => control::answer(&self, &request, what, from),
            (Some("page"), Some(token), None) => page::answer(&self, &request, token),
            (Some("sdk"), Some("pay"), None) => page::pay_by_sdk(&self, &request),
            (Some("style.css"), None, None) => page::style(),
            (Some("submit.js"), None, None) => page::script(),
            _ => return plain(StatusCode::NOT_FOUND),
        };
        SandboxReply::Answer(answer)
    }
}

/// An answer of the server rather than of the interface.
fn plain(status: StatusCode) -> SandboxReply {
    let text = format!("<!DOCTYPE html><title>{status}</title><h1>{status}</h1>");
    SandboxReply::Answer(written(status, "text/html;charset=UTF-8", text))
}
