//! How many polls each institution may have in flight (N10): many while it replies promptly, a few
//! once it does not, one while its circuit breaker is open. So a silent institution cannot starve
//! others.
//!
//! In memory only: after a restart it is learned again from one reply of each institution.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::identifiers::InstitutionId;
use crate::domain::institutions::Health;

/// Orders polled concurrently at one institution.
const SLOTS: u32 = 16;
/// The same once its replies take longer than [`super::PROMPT`].
const SLOTS_LATE: u32 = 4;
/// The same while its circuit breaker is open.
const SLOTS_OPEN: u32 = 1;
/// Orders of all late institutions together: half of all slots. If that many polls are in flight at
/// all, every institution gets only [`SLOTS_LATE`], because a reply is not known to be late until
/// it is.
const LATE_TOTAL: u32 = 128;

/// The slots that one institution holds.
#[derive(Debug, Clone, Copy, Default)]
struct SlotUsage {
    in_flight: u32,
    /// Its last reply was late, or one is late now.
    is_late: bool,
}

/// The slots of all institutions.
#[derive(Debug, Default)]
pub(super) struct PollSlots {
    /// One entry per configured institution.
    held: Mutex<HashMap<InstitutionId, SlotUsage>>,
    /// Signals that a slot is free again.
    pub(super) freed: Notify,
}

impl PollSlots {
    fn held(&self) -> MutexGuard<'_, HashMap<InstitutionId, SlotUsage>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The institutions that have been polled.
    pub(super) fn institutions(&self) -> Vec<InstitutionId> {
        self.held().keys().cloned().collect()
    }

    /// How many more orders may be polled at an institution.
    pub(super) fn free(&self, institution: &InstitutionId, health: Health) -> u32 {
        let held = self.held();
        let its = held.get(institution).copied().unwrap_or_default();
        free(&held, its, health)
    }

    /// The same for one that has never been polled and of which nothing is known.
    pub(super) fn free_at_others(&self) -> u32 {
        free(&self.held(), SlotUsage::default(), Health::Healthy)
    }

    /// Takes a free slot.
    pub(super) fn take(self: &Arc<Self>, institution: &InstitutionId) -> PollSlot {
        let mut held = self.held();
        let its = held.entry(institution.clone()).or_default();
        its.in_flight = its.in_flight.saturating_add(1);
        PollSlot {
            slots: Arc::clone(self),
            institution: institution.clone(),
            is_late: None,
        }
    }
}

/// How many more orders may be polled at the institution that holds these slots.
fn free(held: &HashMap<InstitutionId, SlotUsage>, its: SlotUsage, health: Health) -> u32 {
    let most = match health {
        Health::Open => SLOTS_OPEN,
        Health::Healthy | Health::Slow | Health::HalfOpen if its.is_late => SLOTS_LATE,
        Health::Healthy | Health::Slow | Health::HalfOpen => SLOTS,
    };
    let all = held.values();
    let all = all.fold(0_u32, |all, one| all.saturating_add(one.in_flight));
    let most = if all < LATE_TOTAL {
        most
    } else {
        most.min(SLOTS_LATE)
    };
    let free = most.saturating_sub(its.in_flight);
    if its.is_late {
        let late = held.values().filter(|one| one.is_late);
        let late = late.fold(0_u32, |all, one| all.saturating_add(one.in_flight));
        free.min(LATE_TOTAL.saturating_sub(late))
    } else {
        free
    }
}

/// A slot at an institution; freed on drop.
#[derive(Debug)]
pub(super) struct PollSlot {
    slots: Arc<PollSlots>,
    institution: InstitutionId,
    /// Whether its reply was late; `None` if there was no call.
    is_late: Option<bool>,
}

impl PollSlot {
    /// Its institution.
    pub(super) fn institution(&self) -> &InstitutionId {
        &self.institution
    }

    /// Records a reply; it was prompt unless marked late before.
    pub(super) fn answered(&mut self) {
        self.is_late.get_or_insert(false);
    }

    /// Marks a reply as late: whatever its result, the institution has fewer slots from now on.
    pub(super) fn mark_late(&mut self) {
        self.is_late = Some(true);
        let mut held = self.slots.held();
        held.entry(self.institution.clone()).or_default().is_late = true;
    }
}

impl Drop for PollSlot {
    fn drop(&mut self) {
        let mut held = self.slots.held();
        let its = held.entry(self.institution.clone()).or_default();
        its.in_flight = its.in_flight.saturating_sub(1);
        its.is_late = self.is_late.unwrap_or(its.is_late);
        drop(held);
        self.slots.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One more prompt reply.
    fn answered(slots: &Arc<PollSlots>, institution: &InstitutionId) {
        slots.take(institution).answered();
    }

    fn id(name: &str) -> InstitutionId {
        InstitutionId::parse(name).unwrap()
    }

    /// N10: an institution holds at most its slots; late replies and an open breaker reduce them,
    /// and a prompt reply restores them.
    #[test]
    fn an_institution_holds_only_its_slots() {
        let slots = Arc::new(PollSlots::default());
        let (bank, other) = (id("bank"), id("other"));
        let mut taken: Vec<_> = (0..SLOTS).map(|_| slots.take(&bank)).collect();
        assert_eq!(slots.free(&bank, Health::Healthy), 0);
        assert_eq!(slots.free(&other, Health::Healthy), SLOTS);
        assert_eq!(slots.free(&other, Health::Open), SLOTS_OPEN);
        taken[0].mark_late();
        taken.truncate(1);
        assert_eq!(slots.free(&bank, Health::Healthy), SLOTS_LATE - 1);
        answered(&slots, &bank);
        let free = slots.free(&bank, Health::Healthy);
        assert_eq!(free, SLOTS - 1, "the last that ended was prompt");
        taken.clear();
        assert_eq!(
            slots.free(&bank, Health::Healthy),
            SLOTS_LATE,
            "the last was late"
        );
        assert_eq!(slots.free(&bank, Health::Open), SLOTS_OPEN);
        drop(slots.take(&bank));
        let free = slots.free(&bank, Health::HalfOpen);
        assert_eq!(free, SLOTS_LATE, "there was no call");
        answered(&slots, &bank);
        assert_eq!(slots.free(&bank, Health::HalfOpen), SLOTS);
    }

    /// N10: however many institutions are silent, they hold at most half of all slots.
    #[test]
    fn late_institutions_together_hold_half_of_the_slots() {
        let slots = Arc::new(PollSlots::default());
        let mut taken = Vec::new();
        for n in 0..100 {
            let bank = id(&format!("bank{n}"));
            let mut first = slots.take(&bank);
            first.mark_late();
            drop(first);
            for _ in 0..slots.free(&bank, Health::Healthy) {
                taken.push(slots.take(&bank));
                taken.last_mut().unwrap().mark_late();
            }
        }
        assert_eq!(taken.len(), usize::try_from(LATE_TOTAL).unwrap());
        assert!(slots.free(&id("prompt"), Health::Healthy) > 0);
    }

    /// N10: institutions that fall silent together, before any reply is late, leave slots as well.
    #[test]
    fn institutions_that_fall_silent_together_leave_slots() {
        let slots = Arc::new(PollSlots::default());
        let mut taken = Vec::new();
        for n in 0..16 {
            let bank = id(&format!("bank{n}"));
            let free = slots.free(&bank, Health::Healthy);
            taken.extend((0..free).map(|_| slots.take(&bank)));
        }
        let most = LATE_TOTAL + 8 * SLOTS_LATE;
        assert_eq!(taken.len(), usize::try_from(most).unwrap());
        assert!(slots.free(&id("prompt"), Health::Healthy) > 0);
    }
}
