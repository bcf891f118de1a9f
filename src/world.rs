//! Everything a program cannot compute: time, randomness and the network, behind three traits.
//!
//! The real ones are `SystemClock`, `SystemEntropy` and `outbound.rs`; tests replace all three.

mod clock;
pub mod disk_space;
pub mod exchange_log;
pub mod sends;
pub mod signals;
pub mod signing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use crate::crypto::random;
use crate::domain::identifiers::{InstitutionId, MerchantId, Timestamp, Uptime};
use crate::domain::order::Urgency;
use crate::health::HealthTracker;
use disk_space::DiskSpace;
use exchange_log::Recorder;
use sends::{InFlightSend, Sends};
use signals::PaymentSignals;
use signing::SigningPool;

pub use clock::{ClockCheck, SystemClock};

/// Clock, randomness and network, with the shared state that calls need: health, sends, payment
/// signals, the exchange log, the disk's state and the signing pool.
#[derive(Clone)]
pub struct World {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The network.
    pub outbound: Arc<dyn Outbound>,
    /// The health of recently called institutions.
    pub health: Arc<HealthTracker>,
    /// What this process sends, and which sends may still leave.
    pub sends: Arc<dyn Sends>,
    /// Signs that money may have moved.
    pub signals: Arc<PaymentSignals>,
    /// The exchange log.
    pub exchange_log: Arc<dyn Recorder>,
    /// Whether there is disk space for new orders.
    pub disk: Arc<DiskSpace>,
    /// Where slow keys sign.
    pub signing: Arc<SigningPool>,
}

/// The time.
pub trait Clock: Send + Sync {
    /// Wall-clock time. It may jump, either way; no money rule depends on it alone (T2).
    fn now(&self) -> Timestamp;

    /// How long the machine has been running: the only clock by which evidence and sends are dated
    /// (T1, V5). It is never set, and counts the time during which the process or the machine was
    /// suspended.
    fn uptime(&self) -> Uptime;

    /// Whether the clock can be trusted not to be ahead: only then is anything deleted by age,
    /// because deleted data does not come back when the clock is corrected.
    fn is_settled(&self) -> bool {
        true
    }
}

/// Cryptographic randomness.
pub trait Entropy: Send + Sync {
    /// Fills the bytes.
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Entropy {
    /// Draws a random array.
    pub fn draw<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

/// Sends one request to one party and returns its response.
#[async_trait]
pub trait Outbound: Send + Sync {
    /// One exchange. Never follows a redirect, never sends twice.
    ///
    /// # Errors
    /// [`SendError::NotSent`] only if no byte of the request can have left (E1).
    async fn send(
        &self,
        party: &OutboundParty,
        request: Request<Bytes>,
        options: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError>;

    /// Waits, within bounds, for a permit to send a create: an institution declares how many calls
    /// it accepts. Hold it until the call has ended. Without a permit nothing is written.
    ///
    /// # Errors
    /// No permit came free in time: nothing was sent, nothing was counted.
    async fn permit(
        &self,
        institution: &InstitutionId,
        merchant: &MerchantId,
    ) -> Result<Permit, PermitUnavailable>;

    /// A permit for a query with no caller waiting, now or very soon.
    ///
    /// # Errors
    /// [`PermitUnavailable`] if other calls come first: nothing was sent, nothing was counted.
    async fn acquire_question_permit(
        &self,
        _institution: &InstitutionId,
        _urgency: Urgency,
    ) -> Result<Permit, PermitUnavailable> {
        Ok(Permit::free())
    }

    /// How many such queries may begin at this moment; reading it uses nothing up.
    fn room(&self, _institution: &InstitutionId, _urgency: Urgency) -> u32 {
        u32::MAX
    }
}

/// Permission to make one call to an institution while it is held.
#[derive(Clone)]
pub struct Permit {
    place: Option<Arc<dyn HeldPermit>>,
    is_throttled: Arc<AtomicBool>,
}

/// One place among an institution's concurrent calls, returned on drop.
#[async_trait]
pub trait HeldPermit: Send + Sync {
    /// Counts a call as sent at this moment; if the rate limit of the last second is used up, waits
    /// for it, within bounds.
    ///
    /// [`PermitUnavailable`] if it may not be sent in time: nothing was counted.
    /// [`PermitUnavailable`] if it may not leave in time: nothing was counted.
    async fn mark_sent(&self) -> Result<(), PermitUnavailable>;

    /// Takes the count back: not a byte of the request has left.
    fn mark_unsent(&self);
}

impl Permit {
    /// A permit that nothing counts.
    pub fn free() -> Self {
        Self {
            place: None,
            is_throttled: Arc::default(),
        }
    }

    /// Returns its place when the last copy is dropped.
    pub fn held(place: Arc<dyn HeldPermit>) -> Self {
        Self {
            place: Some(place),
            ..Self::free()
        }
    }

    /// A flag of its call that outlives the permit.
    pub fn watch(&self) -> ThrottleFlag {
        ThrottleFlag(Arc::clone(&self.is_throttled))
    }

    /// Call it for each request, immediately before its bytes are sent.
    ///
    /// # Errors
    /// That of [`HeldPermit::mark_sent`].
    pub async fn mark_sent(&self) -> Result<(), PermitUnavailable> {
        match &self.place {
            Some(place) => place.mark_sent().await,
            None => Ok(()),
        }
    }

    /// The request came back unsent: no byte of it left.
    pub fn mark_unsent(&self) {
        if let Some(place) = &self.place {
            place.mark_unsent();
        }
    }
}

/// Whether this gateway throttled a call, so that nothing was sent.
#[derive(Debug, Clone)]
pub struct ThrottleFlag(Arc<AtomicBool>);

impl ThrottleFlag {
    /// Marks it as throttled.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was throttled.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// No permit is free. Nothing was sent, nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the institution takes no more calls for {wait:?}")]
pub struct PermitUnavailable {
    /// How long to wait before trying again.
    pub wait: Duration,
}

/// The party a request goes to; decides the client certificate, the trusted authorities and the
/// allowed addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboundParty {
    /// A configured institution, at its configured address.
    Institution(InstitutionId),
    /// A merchant's registered origin: public addresses only, unless the configuration allows named
    /// networks.
    Merchant,
}

/// How one request is sent.
pub struct OutboundOptions {
    /// How long and how much the exchange may take.
    pub timeouts: CallTimeouts,
    /// What the request is for, as a word for metrics.
    pub label: &'static str,
    /// The permit of a call to an institution; held until the exchange has ended.
    pub permit: Option<Permit>,
    /// Of a request that may move money; held until no byte of it can leave any more.
    pub in_flight: Option<InFlightSend>,
}

impl From<CallTimeouts> for OutboundOptions {
    /// No permit is held, and no money moves.
    fn from(timeouts: CallTimeouts) -> Self {
        Self {
            timeouts,
            label: "other",
            permit: None,
            in_flight: None,
        }
    }
}

/// Time and size limits of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallTimeouts {
    /// Until the response head.
    pub head: Duration,
    /// Until the end of the response.
    pub whole: Duration,
    /// Maximum bytes of the response body; a longer one counts as no response.
    pub body_bytes_max: usize,
}

/// Why there is no response. The difference is money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Failed before the first byte of the request: it was not sent (E1).
    #[error("not sent: {0}")]
    NotSent(String),
    /// Throttled by this gateway, because the party's rate limit is used up: not sent either (E1),
    /// and no sign of the party's health.
    #[error("throttled: {0}")]
    Throttled(String),
    /// This machine lacked what the call needs: files, memory, ports, a name lookup. Not sent
    /// either (E1), and no sign of the party's health (H1).
    #[error("this machine lacks what a call needs: {0}")]
    LocalShortage(String),
    /// Any other failure: it may have arrived (E5).
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// The crypto provider's generator.
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness no identifier is safe; the provider documents that its generator fails
        // only where the process could not have started.
        #[expect(
            clippy::expect_used,
            reason = "a guessable identifier would be worse than an abort"
        )]
        random::fill(bytes).expect("the system's random generator works");
    }
}
