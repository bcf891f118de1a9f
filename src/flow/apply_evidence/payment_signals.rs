//! Side effects of evidence outside its order: whether the institution sends callbacks, and which
//! orders to query soon because it does not. Changes no order.

use crate::domain::evidence::{Evidence, EvidenceSource, EvidenceSubject, Finding};
use crate::domain::identifiers::Timestamp;
use crate::domain::order::{CallbackDelivery, Order};
use crate::world::World;
use crate::world::signals::Signal;

/// Records that evidence changed an order durably.
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

/// Records an authenticated callback; `is_first` says whether it changed the order.
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
            .reported(&evidence.institution, payment, (now, is_first));
    }
}

/// Raises a signal for an order that waits for its payer: somebody read it, or the payer came back.
pub fn signal_look(world: &World, order: &Order, signal: Signal) {
    if let Some(attempt) = order.waiting_attempt() {
        let signalled = (&order.no, &attempt.institution);
        world.signals.raise(signalled, signal, world.clock.now());
    }
}
