//! What evidence says beside its order: whether the institution tells us of payments, and what is to be
//! asked about soon because it does not. Moves nothing.

use crate::domain::evidence::{Evidence, EvidenceSource, EvidenceSubject, Finding};
use crate::domain::identifiers::Timestamp;
use crate::domain::order::{CallbackDelivery, Order};
use crate::world::World;
use crate::world::signals::Signal;

/// Evidence was made durable.
pub(in crate::flow) fn signal_moved(world: &World, evidence: &Evidence, order: &Order) {
    let now = world.clock.now();
    if order.waiting_attempt().is_none() {
        world.signals.forget(&order.no);
    }
    let (EvidenceSubject::Attempt(attempt), institution) = (&evidence.about, &evidence.institution)
    else {
        return;
    };
    match (&evidence.finding, evidence.by) {
        (
            Finding::Succeeded(receipt),
            EvidenceSource::Query | EvidenceSource::Create | EvidenceSource::Close,
        ) => {
            let payment = (attempt, receipt.paid_at);
            world.health.found(institution, payment, now);
        }
        (Finding::Accepted(_), EvidenceSource::Create)
            if world.health.callbacks(institution, now) == CallbackDelivery::Missing =>
        {
            let signalled = (&order.no, institution);
            world.signals.raise(signalled, Signal::Accepted, now);
        }
        _ => (),
    }
}

/// A genuine callback came; whether it said anything new.
pub(in crate::flow) fn signal_callback(
    world: &World,
    evidence: &Evidence,
    (now, is_first): (Timestamp, bool),
) {
    if let (EvidenceSubject::Attempt(attempt), Finding::Succeeded(receipt)) =
        (&evidence.about, &evidence.finding)
    {
        let payment = (attempt, receipt.paid_at);
        world
            .health
            .told(&evidence.institution, payment, (now, is_first));
    }
}

/// Somebody looked at an order that waits for its payer, or the payer is back.
pub fn signal_look(world: &World, order: &Order, signal: Signal) {
    if let Some(attempt) = order.waiting_attempt() {
        let signalled = (&order.no, &attempt.institution);
        world.signals.raise(signalled, signal, world.clock.now());
    }
}
