//! One call as a small state machine: an adapter gets the last reply and returns the next step. It sends
//! nothing itself, keeps only a [`CallState`] between steps, and declares by each step's [`Effect`]
//! whether money may have moved.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;

/// Maximum number of steps of one call; a longer call is aborted and its outcome is unknown.
pub const STEPS_MAX: usize = 8;

/// What to do next.
#[derive(Debug)]
pub enum Step<O> {
    /// Send this, and come back with the reply.
    Send(Box<Outgoing>),
    /// The call has ended.
    Done(O),
    /// The next request could not be built or signed: nothing of this step is sent.
    Unmade(Unmade),
}

/// One request of a call.
#[derive(Debug)]
pub struct Outgoing {
    /// Signed, with its whole address.
    pub request: Request<Bytes>,
    /// Which of the institution's hosts it goes to.
    pub to: Host,
    /// What it may do there.
    pub effect: Effect,
    /// What reading the reply will need.
    pub state: CallState,
}

/// A host of an institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Where it is called.
    Main,
    /// Where it is called while the main one fails.
    Second,
    /// Where it keeps files, such as bills.
    Files,
}

/// What a request may do once it has left. After one that may move money, "not sent" of a later step
/// is never E1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It only queries or prepares.
    None,
    /// It may move money, now or when the payer continues.
    MayMoveMoney,
}

/// Why a request could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmade {
    /// No key of ours is in force, or signing failed.
    #[error("expected a key of ours that is in force and signs, found none")]
    Unsigned,
    /// The request is malformed.
    #[error("the request could not be put together")]
    Malformed,
}

/// What an adapter keeps from one step to the next: a nonce, the question that an answer must be bound
/// to, a page's token. Opaque to everybody else.
#[derive(Clone)]
pub struct CallState(Arc<dyn Any + Send + Sync>);

impl CallState {
    /// Keeps this.
    pub fn new<T: Send + Sync + 'static>(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// What was kept, if it was of this type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl Default for CallState {
    fn default() -> Self {
        Self::new(())
    }
}

/// What it holds is not printed: it may be a secret.
impl fmt::Debug for CallState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallState")
    }
}
