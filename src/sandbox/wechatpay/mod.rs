//! A counterpart of WeChat Pay API v3: real HTTPS servers at two hosts with one set of books,
//! written from the protocol alone and as strict as it. Shares no code with the adapter. Judges
//! every header, signature and member; signs every answer; notifies, encrypts, writes bills, and
//! does wrong only what it is told to ([`ANSWER_FAULTS`], [`NOTIFICATION_FAULTS`]).

mod api;
mod authorization;
mod bills;
mod book;
mod control;
mod drawing;
mod faults;
mod merchants;
mod notify;
mod orders;
mod payer;
mod platform;
mod prepay;
mod refunds;
mod refusal;
mod time;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use tokio::task::JoinSet;

use crate::sandbox::authority::{CertificateFault, PemIdentity};
use crate::sandbox::exchange::SandboxCaller;
use crate::sandbox::server::{
    BoundListener, RunningServer, SandboxParty, SandboxReply, StartFault,
};
use crate::sandbox::watched::Watched;
use crate::sandbox::wechatpay::bills::WechatBillFiles;
use crate::sandbox::wechatpay::faults::OrderedWechatFaults;
use crate::sandbox::wechatpay::merchants::EnrolledMerchants;
use crate::sandbox::wechatpay::platform::PlatformKeys;
use crate::sandbox::wechatpay::time::PlatformClock;

pub use book::{
    IssuedPrepay, PayingOutcome, TradeState, WechatBook, WechatKey, WechatOrder, WechatRefund,
    WechatRefundState, WechatTransaction,
};
pub use control::WechatControl;
pub use faults::{
    ANSWER_FAULTS, AnswerFault, Carried, NOTIFICATION_FAULTS, NotificationFault, WechatCall,
};
pub use merchants::{MerchantApiCertificate, WechatMerchant, WechatSubMerchant};
pub use platform::{
    KeyPhase, NoCertificates, PlatformCertificate, PlatformPublicKey, WechatKeyFault,
};
pub use prepay::{WechatOrderTerms, WechatProduct};
pub use refusal::WechatErrorCode;

/// Settings of the platform.
#[derive(Clone)]
pub struct WechatPaySettings {
    /// Where the first host listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the second host (disaster recovery) listens.
    pub listen_second: SocketAddr,
    /// The host name of both; the certificate must be valid for it.
    pub host: String,
    /// The TLS certificate.
    pub identity: PemIdentity,
    /// Trusted roots for notifications, in PEM.
    pub roots_pem: String,
    /// The merchants.
    pub merchants: Vec<WechatMerchant>,
    /// The platform's certificates; the first signs.
    pub certificates: Vec<PlatformCertificate>,
    /// The platform's public key, for merchants that use it.
    pub public_key: Option<PlatformPublicKey>,
    /// Which of them a merchant uses, by its number; without: certificates if there are any.
    pub phases: BTreeMap<String, KeyPhase>,
    /// The moment at which its clock starts; now if none. Unit: Unix seconds.
    pub starts_s: Option<i64>,
    /// Its waits.
    pub waits: WechatPayWaits,
}

/// How long the platform waits.
#[derive(Debug, Clone)]
pub struct WechatPayWaits {
    /// How many times faster repeats of notifications, refunds and the gap between refunds pass.
    pub faster: NonZeroU32,
    /// From a refund's acceptance to its success; `None` leaves it to
    /// [`WechatControl::move_refund`]. Unit: seconds.
    pub refund_s: Option<u32>,
    /// How long an acknowledgement may take.
    pub acknowledge: Duration,
    /// How long a connection is held that gets no answer.
    pub hold: Duration,
}

impl Default for WechatPayWaits {
    fn default() -> Self {
        Self {
            faster: NonZeroU32::MIN,
            refund_s: Some(2),
            acknowledge: Duration::from_secs(5),
            hold: Duration::from_secs(30),
        }
    }
}

/// The running platform. Dropping it stops it at once, and discards its books.
pub struct SandboxWechatPay {
    shared: Arc<WechatPayState>,
    serving: Vec<RunningServer>,
}

impl SandboxWechatPay {
    /// Starts it.
    ///
    /// # Errors
    /// [`StartFault`] if an address is in use, or a certificate or key is unusable.
    pub async fn start(settings: WechatPaySettings) -> Result<Self, StartFault> {
        let unusable = |fault: WechatKeyFault| StartFault::Certificate(CertificateFault::of(fault));
        let main = BoundListener::bind(settings.listen, &settings.identity).await?;
        let second = BoundListener::bind(settings.listen_second, &settings.identity).await?;
        let authority = |listener: &BoundListener| {
            let port = listener.address.port();
            format!("{}:{port}", settings.host)
        };
        let authorities = [authority(&main), authority(&second)];
        let shared = Arc::new(WechatPayState {
            merchants: EnrolledMerchants::read(settings.merchants).map_err(unusable)?,
            keys: PlatformKeys::read(
                settings.certificates,
                settings.public_key.as_ref(),
                settings.phases,
            )
            .map_err(unusable)?,
            clock: PlatformClock::new(settings.starts_s, settings.waits.faster),
            caller: SandboxCaller::new(&settings.roots_pem, None)?,
            waits: settings.waits,
            book: Watched::default(),
            faults: OrderedWechatFaults::default(),
            files: WechatBillFiles::default(),
            first_host_lost: AtomicBool::new(false),
            background: Mutex::default(),
            authorities,
        });
        let host = |place: WechatHost| -> Arc<dyn SandboxParty> {
            Arc::new(WechatHostSite {
                shared: Arc::clone(&shared),
                place,
            })
        };
        let serving = vec![
            main.serve(host(WechatHost::First)),
            second.serve(host(WechatHost::Second)),
        ];
        Ok(Self { shared, serving })
    }

    /// The first host: `https://host:port`.
    pub fn origin(&self) -> String {
        self.shared.origin(WechatHost::First)
    }

    /// The second host, with the same books.
    pub fn second_origin(&self) -> String {
        self.shared.origin(WechatHost::Second)
    }

    /// A copy of the books.
    pub fn books(&self) -> WechatBook {
        self.shared.book.look(Clone::clone)
    }

    /// Waits until `look` finds something in the books, for at most `at_most`.
    pub async fn wait_for<R>(
        &self,
        look: impl Fn(&WechatBook) -> Option<R>,
        at_most: Duration,
    ) -> Option<R> {
        self.shared.book.wait_for(look, at_most).await
    }

    /// Steers it, and plays the payer.
    pub fn control(&self) -> WechatControl {
        WechatControl(Arc::clone(&self.shared))
    }

    /// Stops it; its addresses are free afterwards.
    pub async fn stop(mut self) {
        for serving in std::mem::take(&mut self.serving) {
            serving.stop().await;
        }
    }
}

impl Drop for SandboxWechatPay {
    fn drop(&mut self) {
        let mut background = self.shared.background();
        background.abort_all();
    }
}

/// Which of the two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WechatHost {
    First,
    Second,
}

/// What both hosts share.
struct WechatPayState {
    merchants: EnrolledMerchants,
    keys: PlatformKeys,
    clock: PlatformClock,
    caller: SandboxCaller,
    waits: WechatPayWaits,
    book: Watched<WechatBook>,
    faults: OrderedWechatFaults,
    files: WechatBillFiles,
    first_host_lost: AtomicBool,
    background: Mutex<JoinSet<()>>,
    authorities: [String; 2],
}

impl WechatPayState {
    fn authority(&self, host: WechatHost) -> &str {
        let [first, second] = &self.authorities;
        match host {
            WechatHost::First => first,
            WechatHost::Second => second,
        }
    }

    fn origin(&self, host: WechatHost) -> String {
        format!("https://{}", self.authority(host))
    }

    fn background(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.background
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Spawns a task that is aborted when the platform stops.
    fn spawn_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut background = self.background();
        while background.try_join_next().is_some() {}
        background.spawn(task);
    }

    fn is_lost(&self, host: WechatHost) -> bool {
        host == WechatHost::First && self.first_host_lost.load(Ordering::SeqCst)
    }
}

/// One host.
struct WechatHostSite {
    shared: Arc<WechatPayState>,
    place: WechatHost,
}

#[async_trait]
impl SandboxParty for WechatHostSite {
    async fn reply(self: Arc<Self>, request: Request<Bytes>, from: SocketAddr) -> SandboxReply {
        let path = request.uri().path().to_owned();
        if let Some(what) = path.strip_prefix("/control/") {
            return SandboxReply::Answer(control::answer(&self.shared, &request, what, from));
        }
        if self.shared.is_lost(self.place) {
            return SandboxReply::Silence(Duration::ZERO);
        }
        if let Some(what) = path.strip_prefix("/payer/") {
            return SandboxReply::Answer(payer::answer(&self.shared, &request, what));
        }
        if path == payer::PAGE_PATH {
            return SandboxReply::Answer(payer::page(&self.shared, &request));
        }
        api::answer(&self.shared, self.place, &request).await
    }
}
