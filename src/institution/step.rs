//! One call as a small state machine: an adapter gets the last reply and returns the next step. It
//! sends nothing itself, keeps only a [`CallState`] between steps, and declares by each step's
//! [`Effect`] whether money may have moved.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;

/// Maximum number of steps of one call; a longer call is aborted and its outcome is unknown.
pub const STEPS_MAX: usize = 8;

/// The next step of a call.
#[derive(Debug)]
pub enum Step<O> {
    /// Send this request and pass the reply to `next`.
    Send(Box<Outgoing>),
    /// The call has ended.
    Done(O),
    /// The next request could not be built or signed: nothing of this step is sent.
    Unmade(Unmade),
}

/// One request of a call.
#[derive(Debug)]
pub struct Outgoing {
    /// The signed request, with an absolute URI.
    pub request: Request<Bytes>,
    /// The institution's host that it goes to.
    pub to: Host,
    /// Its possible effect.
    pub effect: Effect,
    /// The state needed to read the reply.
    pub state: CallState,
}

/// A host of an institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The main host.
    Main,
    /// The fallback while the main host fails.
    Second,
    /// The host of files, such as bills.
    Files,
}

/// The possible effect of a request once sent. After one that may move money, "not sent" for a
/// later step is never E1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It only queries or prepares.
    None,
    /// It may move money, now or when the payer continues.
    MayMoveMoney,
}

/// Why a request could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmade {
    /// None of our keys is valid now, or signing failed.
    #[error("expected a valid signing key of ours, found none")]
    Unsigned,
    /// The request is malformed.
    #[error("the request is malformed")]
    Malformed,
}

/// What an adapter keeps from one step to the next: a nonce, the request that a reply must be bound
/// to, a page token. Opaque to all other code.
#[derive(Clone)]
pub struct CallState(Arc<dyn Any + Send + Sync>);

impl CallState {
    /// Wraps a value.
    pub fn new<T: Send + Sync + 'static>(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// The value, if it is of this type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl Default for CallState {
    fn default() -> Self {
        Self::new(())
    }
}

/// The value is not printed: it may be secret.
impl fmt::Debug for CallState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallState")
    }
}
