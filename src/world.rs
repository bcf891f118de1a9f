//! Everything a program cannot compute: time, chance and the network, behind three doors.
//!
//! The real ones are `SystemClock`, `SystemEntropy` and `outbound.rs`; tests hold all three.

mod clock;
pub mod disk_space;
pub mod exchange_log;
pub mod sends;
pub mod signals;

use std::net::IpAddr;
use std::str::FromStr;
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

pub use clock::{ClockCheck, SystemClock};

/// The three doors, what the third has lately shown and sent, what was seen beside it, the exchange log,
/// and what the disk has to spare.
#[derive(Clone)]
pub struct World {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What cannot be guessed.
    pub entropy: Arc<dyn Entropy>,
    /// Who can be asked.
    pub outbound: Arc<dyn Outbound>,
    /// How the institutions that were called lately fared.
    pub health: Arc<HealthTracker>,
    /// What this process sends, and what of it may still be leaving.
    pub sends: Arc<dyn Sends>,
    /// Signs that money may have moved.
    pub signals: Arc<PaymentSignals>,
    /// Who takes what both sides said.
    pub exchange_log: Arc<dyn Recorder>,
    /// Whether there is room to begin something.
    pub disk: Arc<DiskSpace>,
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Wall time. It may jump, either way; no rule of money depends on it alone (T2).
    fn now(&self) -> Timestamp;

    /// How long the machine has been running: the only clock by which news and sends are dated (T1,
    /// V5). It is never set, and counts the time in which process or machine stood still.
    fn uptime(&self) -> Uptime;

    /// Whether it may be trusted not to be ahead: only then is anything destroyed because it is old, for
    /// what is destroyed does not come back when the clock is put right.
    fn is_settled(&self) -> bool {
        true
    }
}

/// Draws what nobody can guess.
pub trait Entropy: Send + Sync {
    /// Fills the bytes.
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Entropy {
    /// Draws an array.
    pub fn draw<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

/// Sends one request to one party and brings back its answer.
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

    /// Waits, within bounds, until an institution may be asked to take a payment: it declared how
    /// many calls it takes. To be held until the call has ended. Before it comes nothing is written.
    ///
    /// # Errors
    /// [`PermitUnavailable`] if it did not come in time: nothing was sent, nothing was counted.
    async fn permit(
        &self,
        institution: &InstitutionId,
        merchant: &MerchantId,
    ) -> Result<Permit, PermitUnavailable>;

    /// A turn for a question that nobody waits for, now or very soon.
    ///
    /// # Errors
    /// [`PermitUnavailable`] if others come first: nothing was sent, nothing was counted.
    async fn acquire_question_permit(
        &self,
        _institution: &InstitutionId,
        _urgency: Urgency,
    ) -> Result<Permit, PermitUnavailable> {
        Ok(Permit::free())
    }

    /// How many such questions may begin at this moment; asking uses nothing up.
    fn room(&self, _institution: &InstitutionId, _urgency: Urgency) -> u32 {
        u32::MAX
    }
}

/// Leave to make one call to an institution, for as long as it is held.
#[derive(Clone)]
pub struct Permit {
    place: Option<Arc<dyn HeldPermit>>,
    is_throttled: Arc<AtomicBool>,
}

/// A place among the calls of an institution, given back when it is dropped.
#[async_trait]
pub trait HeldPermit: Send + Sync {
    /// Counts a call as leaving at this moment; where as many left within a second as may, waits
    /// for that, within bounds.
    ///
    /// # Errors
    /// [`PermitUnavailable`] if it may not leave in time: nothing was counted.
    async fn mark_sent(&self) -> Result<(), PermitUnavailable>;

    /// What was counted as leaving is still here, to the last byte.
    fn mark_unsent(&self);
}

impl Permit {
    /// Where nobody counts.
    pub fn free() -> Self {
        Self {
            place: None,
            is_throttled: Arc::default(),
        }
    }

    /// Lets go of this place when its last copy is dropped.
    pub fn held(place: Arc<dyn HeldPermit>) -> Self {
        Self {
            place: Some(place),
            ..Self::free()
        }
    }

    /// Tells of its call when the turn itself is gone.
    pub fn watch(&self) -> ThrottleFlag {
        ThrottleFlag(Arc::clone(&self.is_throttled))
    }

    /// To be called for each request, when nothing but its bytes is left to be sent.
    ///
    /// # Errors
    /// That of [`HeldPermit::mark_sent`].
    pub async fn mark_sent(&self) -> Result<(), PermitUnavailable> {
        match &self.place {
            Some(place) => place.mark_sent().await,
            None => Ok(()),
        }
    }

    /// The request that departed came back whole: no byte of it left.
    pub fn mark_unsent(&self) {
        if let Some(place) = &self.place {
            place.mark_unsent();
        }
    }
}

/// Whether a call was kept back by ourselves: then nothing was asked.
#[derive(Debug, Clone)]
pub struct ThrottleFlag(Arc<AtomicBool>);

impl ThrottleFlag {
    /// It was.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// More want a turn than there are. Nothing was sent, nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the institution takes no more calls for {wait:?}")]
pub struct PermitUnavailable {
    /// How long until it is worth asking again.
    pub wait: Duration,
}

/// Whom a request goes to; decides which certificate is shown, which authorities are believed
/// and which addresses may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboundParty {
    /// A configured institution, at its configured address.
    Institution(InstitutionId),
    /// A merchant's registered origin: public addresses only, unless the operator allows named
    /// networks (`interface.md`, Enrolment).
    Merchant,
}

/// A network the operator allows although it is not public: `127.0.0.0/8`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedNetwork {
    address: IpAddr,
    prefix: u8,
}

impl FromStr for AllowedNetwork {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected a network such as 127.0.0.0/8";
        let (address, prefix) = text.split_once('/').ok_or(expected)?;
        let address: IpAddr = address.parse().map_err(|_| expected)?;
        let prefix: u8 = prefix.parse().map_err(|_| expected)?;
        if prefix > if address.is_ipv4() { 32 } else { 128 } {
            return Err(expected);
        }
        Ok(Self { address, prefix })
    }
}

impl AllowedNetwork {
    /// Whether an address lies in it. One of the other family never does.
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differ = u32::from(ours) ^ u32::from(theirs);
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differ = u128::from(ours) ^ u128::from(theirs);
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
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

/// How long and how much an exchange may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallTimeouts {
    /// Until the head of the answer.
    pub head: Duration,
    /// Until its end.
    pub whole: Duration,
    /// Bytes of the answer's body that are read; a longer one is no answer.
    pub body_bytes_max: usize,
}

/// Why there is no answer. The difference is money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Before the first byte of the request: it was not sent (E1).
    #[error("not sent: {0}")]
    NotSent(String),
    /// Kept back by ourselves, because the party's share is used up: not sent either (E1), and no
    /// sign of how the party fares.
    #[error("kept back: {0}")]
    Throttled(String),
    /// This machine lacked what the call needs: files, memory, ports, an answer about a name. Not
    /// sent either (E1), and no sign of how the party fares (H1).
    #[error("this machine is short of what a call needs: {0}")]
    LocalShortage(String),
    /// Any other failure: it may have arrived (E5).
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// The crypto provider's generator.
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness no number is safe to give out; the provider documents that its
        // generator fails only where the process could not have started.
        #[expect(
            clippy::expect_used,
            reason = "a guessable number would be worse than a stop"
        )]
        random::fill(bytes).expect("the system's random generator works");
    }
}
