//! A proven request is answered once: its nonce is spent whatever the answer, but for those that say
//! that nothing was recorded (Q5). The types here leave a journey no other way to end.
//!
//! Whoever holds a `Cause` ends with [`SpentNonce`] beside an answer or with [`Refused`]; both are made in
//! this file alone, from a commit that spent the nonce.

use crate::domain::change::{Change, ChangeCause};
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;
use crate::domain::refusal::Refusal;
use crate::store::{Committed, Store, StoreError};
use crate::world::PermitUnavailable;

/// Proof that the nonce of a request is spent, or that what is answered has none. Neither `Clone` nor
/// `Copy`, and made only here.
#[must_use = "an answer without it could be asked for again with the same signature"]
#[derive(Debug)]
pub struct SpentNonce(());

impl SpentNonce {
    /// Of a request that reads only and whose nonce was fresh in memory (Q5).
    pub(in crate::flow) fn in_memory() -> Self {
        Self(())
    }

    /// A refusal of what is spent already.
    pub fn refuse(self, refusal: Refusal) -> Refused {
        Refused(refusal)
    }
}

/// A refusal that may be answered: its nonce is spent, or it is one of those that spend none (429, 500,
/// 503). There is no way from a bare [`Refusal`] to it but [`refuse`] and [`SpentNonce::refuse`].
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(Refusal);

impl Refused {
    /// What is answered.
    pub fn into_refusal(self) -> Refusal {
        self.0
    }
}

/// 500 or 503: whatever was asked may be asked again (Q8).
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

/// What became of a change that was wanted.
pub(in crate::flow) enum CommitOutcome {
    /// Durable, its nonce with it.
    Done(Box<Order>, SpentNonce),
    /// Somebody wrote first: decide again (K4).
    Stale(Change),
    /// The merchant's number is taken.
    KeyTaken(Change),
}

/// Writes a change and spends the nonce that wanted it, both or none.
///
/// # Errors
/// The nonce was spent before; the store cannot be reached or does not know (429, 500, 503).
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

/// Spends the nonce of a request whose effect is a refusal only (Q5), with a commit that holds nothing
/// else, and gives back what is to be answered: the refusal, unless the nonce turns out to be spent.
pub async fn refuse(
    store: &Store,
    (refusal, cause): (Refusal, ChangeCause),
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

/// Those by which nothing was recorded, and the one that says that there is nothing left to spend.
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
/// It was spent before; the store cannot be reached or does not know.
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
        // The other two are of orders: this change has none.
        Committed::NonceSpent | Committed::Stale | Committed::KeyTaken => {
            Err(Refused(Refusal::NonceSpent))
        }
    }
}
