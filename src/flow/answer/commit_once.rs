//! An authenticated request is answered once: its nonce is spent whatever the reply, except for
//! replies that say that nothing was recorded (Q5). The types here leave a flow no other way to
//! end.
//!
//! A flow that holds a `ChangeCause` ends with [`SpentNonce`] beside a reply or with [`Refused`];
//! only this file creates them, when the nonce is spent (or, for reads, spent in memory).

use crate::domain::change::{Change, ChangeCause};
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;
use crate::domain::refusal::Refusal;
use crate::store::{Committed, Store, StoreError};
use crate::world::PermitUnavailable;
use crate::world::signing::SigningOverloaded;

/// Proof that the nonce of a request is spent, or that the request has none. Neither `Clone` nor
/// `Copy`, and created only here.
#[must_use = "an answer without it could be asked for again with the same signature"]
#[derive(Debug)]
pub struct SpentNonce(());

impl SpentNonce {
    /// For a read-only request whose nonce was fresh in memory (Q5).
    pub(in crate::flow) fn in_memory() -> Self {
        Self(())
    }

    /// A refusal whose nonce is already spent.
    pub fn refuse(self, refusal: Refusal) -> Refused {
        Refused(refusal)
    }
}

/// A refusal that may be sent: its nonce is spent, or it is one of those that spend none (429, 500,
/// 503). Only [`refuse`] and [`SpentNonce::refuse`] turn a bare [`Refusal`] into it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(Refusal);

impl Refused {
    /// The refusal to reply with.
    pub fn into_refusal(self) -> Refusal {
        self.0
    }
}

/// 500 or 503: the request may be repeated (Q8).
impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}

/// 429: nothing was recorded (Q8).
impl From<PermitUnavailable> for Refused {
    fn from(PermitUnavailable { wait }: PermitUnavailable) -> Self {
        Self(Refusal::TooOften { wait })
    }
}

/// 503: nothing was recorded (Q8).
impl From<SigningOverloaded> for Refused {
    fn from(SigningOverloaded: SigningOverloaded) -> Self {
        Self(Refusal::Unavailable)
    }
}

/// The outcome of committing a change.
pub(in crate::flow) enum CommitOutcome {
    /// Durable, together with its nonce.
    Done(Box<Order>, SpentNonce),
    /// A concurrent write won: decide again (K4).
    Stale(Change),
    /// The merchant's number is taken.
    KeyTaken(Change),
}

/// Commits a change and spends the nonce of its request, atomically.
///
/// # Errors
/// The nonce is already spent; the store is unavailable (503) or the outcome unknown (500).
pub(in crate::flow) async fn commit(
    store: &Store,
    change: Change,
) -> Result<CommitOutcome, Refused> {
    match store.changes.commit(&change).await? {
        Committed::Done => match change.into_order() {
            Some(order) => Ok(CommitOutcome::Done(Box::new(order), SpentNonce(()))),
            None => Err(Refused(Refusal::OutcomeUnknown)),
        },
        Committed::NonceSpent => Err(Refused(Refusal::NonceSpent)),
        Committed::Stale => Ok(CommitOutcome::Stale(change)),
        Committed::KeyTaken => Ok(CommitOutcome::KeyTaken(change)),
    }
}

/// Spends the nonce of a request that is refused (Q5), in a commit with nothing else, and returns
/// the refusal to send: the given one, unless the nonce turns out to be spent already.
pub async fn refuse(
    store: &Store,
    refusal: Refusal,
    cause: ChangeCause,
    now: Timestamp,
) -> Refused {
    if spends_none(&refusal) {
        return Refused(refusal);
    }
    match spend(store, cause, now).await {
        Ok(spent) => spent.refuse(refusal),
        Err(other) => other,
    }
}

/// Refusals that record nothing, and the one for a nonce that is already spent.
fn spends_none(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::TooOften { .. }
            | Refusal::Unavailable
            | Refusal::OutcomeUnknown
            | Refusal::NonceSpent
    )
}

/// Spends the nonce of a request that changed nothing else (Q5).
///
/// # Errors
/// It is already spent; the store is unavailable or the outcome unknown.
pub(in crate::flow) async fn spend(
    store: &Store,
    cause: ChangeCause,
    now: Timestamp,
) -> Result<SpentNonce, Refused> {
    let ChangeCause::Request(nonce) = cause else {
        return Ok(SpentNonce(()));
    };
    match store.changes.commit(&Change::spend(nonce, now)).await? {
        Committed::Done => Ok(SpentNonce(())),
        // The other two concern orders; this change has none.
        Committed::NonceSpent | Committed::Stale | Committed::KeyTaken => {
            Err(Refused(Refusal::NonceSpent))
        }
    }
}
