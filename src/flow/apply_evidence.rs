//! Evidence meets order: read, decide, write. Every reply, callback and query ends here, and
//! nothing else moves an attempt or a refund. The page to read when money is in question.

pub mod payment_signals;

use crate::domain::attempt::Contradiction;
use crate::domain::evidence::{Evidence, EvidenceSource, EvidenceSubject, Finding};
use crate::domain::identifiers::InstitutionId;
use crate::domain::order::{Applied, Order};
use crate::flow::apply_evidence::payment_signals::signal_moved;
use crate::flow::call_institution::{QUERY_TIMEOUTS, call_institution};
use crate::institution::{Call, Institution};
use crate::store::{Committed, OrderKey, Store, StoreError};
use crate::world::World;

/// Others may write to the same order meanwhile, each refund of it for one; so often it is decided
/// again. What is given up after that is not lost: it is asked about (A6).
const ROUNDS_MAX: u32 = 64;

/// What became of a piece of evidence.
#[derive(Debug)]
pub enum EvidenceOutcome {
    /// It moved the order; durable.
    Moved(Order),
    /// It said nothing new (C5).
    Known(Order),
    /// It contradicts an end, and the institution did not confirm it when asked (V4).
    Unconfirmed(Order),
    /// It cannot be true; an alarm was raised (V3).
    Quarantined(Contradiction),
    /// It speaks of nothing we know.
    Stranger,
    /// The order kept changing under us; the evidence must be brought again.
    Contended,
}

/// Weighs evidence against its order and makes what follows durable.
///
/// `known` is the order as the caller last saw it, if it did: the decision is guarded by its
/// version, so an order that moved meanwhile (a callback may be faster than the reply) is read
/// again, not assumed.
pub async fn apply_evidence(
    store: &Store,
    world: &World,
    adapter: &dyn Institution,
    evidence: Evidence,
    known: Option<Order>,
) -> Result<EvidenceOutcome, StoreError> {
    let key = order_key(&evidence.institution, &evidence.about);
    let mut evidence = evidence;
    let mut given = known.is_some();
    let mut known = known;
    for _ in 0..ROUNDS_MAX {
        let order = match known.take() {
            Some(order) => order,
            None => match store.orders.order(&key).await? {
                Some(order) => order,
                None => return Ok(EvidenceOutcome::Stranger),
            },
        };
        let now = world.clock.now();
        // Each time anew: what was sent since the question left makes its answer too early.
        if evidence.finding == Finding::NotFound
            && !is_not_found_conclusive(world, adapter, &evidence)
        {
            // That a word before it named what it does not find is kept all the same: it did arrive (V5).
            return match order.record_seen(&evidence, now) {
                None => Ok(EvidenceOutcome::Known(order)),
                Some(change) if store.changes.commit(&change).await? == Committed::Done => {
                    Ok(EvidenceOutcome::Known(change.into_order().unwrap_or(order)))
                }
                Some(_) => continue,
            };
        }
        let dated = order.dated_as_received(&evidence, now);
        let heard = dated.as_ref().unwrap_or(&evidence);
        match order.apply(heard, adapter.facts(), now) {
            // As the caller last saw it, the order may be older than what others have seen (O5).
            Applied::Repeat if given => given = false,
            Applied::Repeat => return Ok(EvidenceOutcome::Known(order)),
            Applied::Quarantine(why) => {
                if let Some(change) = order.record_seen(&evidence, now)
                    && store.changes.commit(&change).await? != Committed::Done
                {
                    continue;
                }
                tracing::error!(order.no = %order.no, institution.id = %evidence.institution,
                    why = why.word(), "evidence put aside: it cannot be true of this attempt");
                return Ok(EvidenceOutcome::Quarantined(why));
            }
            Applied::ConfirmByQuery => {
                let confirmed = confirm(world, adapter, &order, &evidence).await;
                match confirmed.filter(|answer| matches!(answer.finding, Finding::Succeeded(_))) {
                    Some(confirmed) => evidence = confirmed,
                    // Anything else moves no ended attempt, and would read as heard already: then
                    // whoever brought the news would never bring it again (C4).
                    None => return Ok(EvidenceOutcome::Unconfirmed(order)),
                }
            }
            Applied::Commit(change) => match store.changes.commit(&change).await? {
                Committed::Done => {
                    let Some(order) = change.into_order() else {
                        return Ok(EvidenceOutcome::Contended);
                    };
                    if !order.may_end_as_not_found(&evidence.about) {
                        world.sends.forget(&evidence.about);
                    }
                    if dated.is_some() {
                        tracing::error!(order.no = %order.no, institution.id = %evidence.institution,
                            "the institution dates money that moved when it cannot have moved; it \
                             counts from when it was heard");
                    }
                    signal_moved(world, &evidence, &order);
                    return Ok(EvidenceOutcome::Moved(order));
                }
                Committed::Stale | Committed::KeyTaken | Committed::NonceSpent => (),
            },
        }
    }
    Ok(EvidenceOutcome::Contended)
}

/// The order that an institution's word is about.
pub(in crate::flow) fn order_key(institution: &InstitutionId, about: &EvidenceSubject) -> OrderKey {
    match about {
        EvidenceSubject::Attempt(id) => OrderKey::Attempt(institution.clone(), id.clone()),
        EvidenceSubject::Refund(no) => OrderKey::Refund(institution.clone(), no.clone()),
    }
}

/// Whether "not found" counts: nothing of what it is about can be on its way since before its
/// question left (A5, V5).
pub(in crate::flow) fn is_not_found_conclusive(
    world: &World,
    adapter: &dyn Institution,
    evidence: &Evidence,
) -> bool {
    let asked_at = evidence.asked_at;
    let quiet = asked_at.and_then(|asked_at| world.sends.quiet(&evidence.about, asked_at));
    Evidence::is_not_found_conclusive(quiet, adapter.facts())
}

/// Asks the institution whether what contradicts an end is so (V4). Only its answer to our own
/// question counts, so an answer that came by a query needs no second one.
async fn confirm(
    world: &World,
    adapter: &dyn Institution,
    order: &Order,
    evidence: &Evidence,
) -> Option<Evidence> {
    if evidence.by == EvidenceSource::Query {
        return None;
    }
    let call = match &evidence.about {
        EvidenceSubject::Attempt(id) => {
            let attempt = order.attempts.iter().find(|attempt| attempt.id == *id)?;
            Call::Query(attempt, &order.terms)
        }
        EvidenceSubject::Refund(no) => {
            let refund = order.refund(no)?;
            Call::RefundQuery(refund, order.attempt_of(refund)?, &order.terms)
        }
    };
    Some(call_institution(world, adapter, &call, QUERY_TIMEOUTS).await)
}
