//! Applies evidence to an order: read, decide, write. Every reply, callback and query result is
//! applied here and nowhere else.

mod confirm;
pub mod payment_signals;

use crate::domain::attempt::Contradiction;
use crate::domain::evidence::{Evidence, EvidenceSubject, Finding};
use crate::domain::identifiers::InstitutionId;
use crate::domain::order::{Applied, Order};
use crate::flow::FlowScope;
use crate::flow::apply_evidence::confirm::{Confirmation, confirm};
use crate::flow::apply_evidence::payment_signals::signal_moved;
use crate::institution::Institution;
use crate::store::{Committed, OrderKey, StoreError};
use crate::world::World;

/// How often evidence is decided again after concurrent writes to the same order, for example by
/// each of its refunds. What is given up after that is not lost: polling queries it (A6).
const ROUNDS_MAX: u32 = 64;

/// The outcome of applying a piece of evidence.
#[derive(Debug)]
pub enum EvidenceOutcome {
    /// It changed the order, durably.
    Moved(Order),
    /// It contained nothing new (C5).
    Known(Order),
    /// It contradicts a final state, and a query to the institution did not confirm it (V4).
    Unconfirmed(Order),
    /// It cannot be true; an error was logged for manual review (V3).
    Quarantined(Contradiction),
    /// Unknown reference: no order matches it.
    UnknownReference,
    /// Too many concurrent writes to the order; the evidence must be applied again.
    Contended,
}

impl EvidenceOutcome {
    /// The order as it is now; `None` if the evidence could not be applied to it.
    pub(in crate::flow) fn into_order(self) -> Option<Order> {
        match self {
            Self::Moved(order) | Self::Known(order) | Self::Unconfirmed(order) => Some(order),
            Self::Quarantined(_) | Self::UnknownReference | Self::Contended => None,
        }
    }
}

/// Applies evidence to its order and commits the resulting change.
///
/// `known` is the order as the caller last read it, if any. The commit is guarded by its version,
/// so an order that changed since (a callback may be faster than the reply) is read again.
pub async fn apply_evidence(
    scope: FlowScope<'_>,
    adapter: &dyn Institution,
    evidence: Evidence,
    known: Option<Order>,
) -> Result<EvidenceOutcome, StoreError> {
    let FlowScope { store, world, .. } = scope;
    let key = order_key(&evidence.institution, &evidence.about);
    let mut evidence = evidence;
    let mut is_from_caller = known.is_some();
    let mut known = known;
    for _ in 0..ROUNDS_MAX {
        let order = match known.take() {
            Some(order) => order,
            None => match store.orders.order(&key).await? {
                Some(order) => order,
                None => return Ok(EvidenceOutcome::UnknownReference),
            },
        };
        let now = world.clock.now();
        // Checked each round: a send since the query left makes its answer inconclusive.
        if evidence.finding == Finding::NotFound
            && !is_not_found_conclusive(world, adapter, &order, &evidence)
        {
            match record_seen(scope, adapter, order, &evidence).await? {
                Some(order) => return Ok(EvidenceOutcome::Known(order)),
                None => continue,
            }
        }
        let dated = order.dated_as_received(&evidence, now);
        let to_apply = dated.as_ref().unwrap_or(&evidence);
        match order.apply(to_apply, adapter.facts(), now) {
            // The caller's copy of the order may be stale: read it again before answering (O5).
            Applied::Repeat if is_from_caller => is_from_caller = false,
            Applied::Repeat => return Ok(EvidenceOutcome::Known(order)),
            Applied::Quarantine(why) => {
                let Some(order) = record_seen(scope, adapter, order, &evidence).await? else {
                    continue;
                };
                tracing::error!(order.no = %order.no, institution.id = %evidence.institution,
                    why = why.word(), "evidence quarantined: it cannot be true of this attempt");
                return Ok(EvidenceOutcome::Quarantined(why));
            }
            Applied::ConfirmByQuery => {
                match confirm(scope, adapter, &order, &evidence).await {
                    Confirmation::MoneyMoved(confirmed) => evidence = *confirmed,
                    // It claimed nothing that the answer could contradict.
                    Confirmation::Denied if evidence.finding == Finding::Hint => {
                        return Ok(EvidenceOutcome::Known(order));
                    }
                    // Anything else changes nothing that has ended and would be reported as `Known`:
                    // the institution's callback would be acknowledged and never repeated (C4).
                    Confirmation::Denied | Confirmation::Unanswered => {
                        return Ok(EvidenceOutcome::Unconfirmed(order));
                    }
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
                            "the institution sent an impossible payment time; the time of receipt \
                             is used instead");
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

/// The key of the order that an institution's message is about.
pub(in crate::flow) fn order_key(institution: &InstitutionId, about: &EvidenceSubject) -> OrderKey {
    match about {
        EvidenceSubject::Attempt(id) => OrderKey::Attempt(institution.clone(), id.clone()),
        EvidenceSubject::Refund(no) => OrderKey::Refund(institution.clone(), no.clone()),
    }
}

/// Whether "not found" is conclusive: no send about the same subject can have been in flight since
/// before the query left (A5, V5).
pub(in crate::flow) fn is_not_found_conclusive(
    world: &World,
    adapter: &dyn Institution,
    order: &Order,
    evidence: &Evidence,
) -> bool {
    let Some(asked_at) = evidence.asked_at else {
        return false;
    };
    let quiet = world.sends.quiet(&evidence.about, asked_at);
    let ago = world.clock.uptime().since(asked_at);
    let asked = world.clock.now().minus(ago);
    order.is_not_found_conclusive(&evidence.about, quiet, asked, adapter.facts())
}

/// Records proof of arrival from a reply that changes nothing else (V5). Returns the order as it is
/// then; `None` if somebody else changed it meanwhile.
async fn record_seen(
    scope: FlowScope<'_>,
    adapter: &dyn Institution,
    order: Order,
    evidence: &Evidence,
) -> Result<Option<Order>, StoreError> {
    let now = scope.world.clock.now();
    let Some(change) = order.record_seen(evidence, adapter.facts(), now) else {
        return Ok(Some(order));
    };
    match scope.store.changes.commit(&change).await? {
        Committed::Done => Ok(Some(change.into_order().unwrap_or(order))),
        Committed::Stale | Committed::KeyTaken | Committed::NonceSpent => Ok(None),
    }
}
