//! Everything a program cannot compute: time, chance and the network, behind three doors.
//!
//! The real ones are `SystemClock`, `SystemEntropy` and `outbound.rs`; tests hold all three.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use crate::domain::identifiers::{InstitutionId, Timestamp};

/// The three doors.
#[derive(Clone)]
pub struct World {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What cannot be guessed.
    pub entropy: Arc<dyn Entropy>,
    /// Who can be asked.
    pub outbound: Arc<dyn Outbound>,
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Wall time. It may jump; no rule of money depends on it alone (T2).
    fn now(&self) -> Timestamp;
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
        party: &Party,
        request: Request<Bytes>,
        patience: Patience,
    ) -> Result<Response<Bytes>, SendError>;
}

/// Whom a request goes to; decides which certificate is shown, which authorities are believed
/// and which addresses may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    /// A configured institution, at its configured address.
    Institution(InstitutionId),
    /// A merchant's registered origin: public addresses only, unless the operator allows named
    /// networks (`interface.md`, Enrolment).
    Merchant,
}

/// How long and how much an exchange may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
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
    /// Any other failure: it may have arrived (E5).
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
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
        aws_lc_rs::rand::fill(bytes).expect("the system's random generator works");
    }
}
