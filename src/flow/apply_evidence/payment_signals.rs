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
            let health = &world.health;
            health.found(institution, attempt, receipt.paid_at, now);
        }
        (Finding::Accepted(_), EvidenceSource::Create)
            if world.health.callbacks(institution, now) == CallbackDelivery::Missing =>
        {
            let signals = &world.signals;
            signals.raise(&order.no, institution, Signal::Accepted, now);
        }
        _ => (),
    }
}

/// Records an authenticated callback; `is_first` says whether it changed the order.
pub(in crate::flow) fn signal_callback(
    world: &World,
    evidence: &Evidence,
    now: Timestamp,
    is_first: bool,
) {
    if let (EvidenceSubject::Attempt(attempt), Finding::Succeeded(receipt)) =
        (&evidence.about, &evidence.finding)
    {
        let (institution, paid_at) = (&evidence.institution, receipt.paid_at);
        let health = &world.health;
        health.reported(institution, attempt, paid_at, is_first, now);
    }
}

/// Raises a signal for an order that waits for its payer: somebody read it, or the payer came back.
pub fn signal_look(world: &World, order: &Order, signal: Signal) {
    if let Some(attempt) = order.waiting_attempt() {
        let now = world.clock.now();
        let institution = &attempt.institution;
        world.signals.raise(&order.no, institution, signal, now);
    }
}
