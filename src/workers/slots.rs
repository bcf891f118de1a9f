//! How many questions each institution may have under way (N10): as many as it answers quickly, a few once
//! it does not, one while nothing new is sent there. So whoever is silent holds little that others need.
//!
//! Kept in memory: a restart forgets it, and learns it again from one answer of each institution.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::identifiers::InstitutionId;
use crate::domain::institutions::Health;

/// Orders of one institution looked after at once.
const SLOTS: u32 = 16;
/// The same once its answers take longer than [`super::PROMPT`].
const SLOTS_LATE: u32 = 4;
/// The same while its breaker is open.
const SLOTS_OPEN: u32 = 1;
/// Orders of all institutions that answer late, together: a half of all there are. Past it no institution
/// has more than a few, for until an answer is late nobody knows that it will be.
const LATE_TOTAL: u32 = 128;

/// What one institution holds.
#[derive(Debug, Clone, Copy, Default)]
struct SlotUsage {
    in_flight: u32,
    /// Its last answer took long, or one is taking long.
    is_late: bool,
}

/// The slots of all institutions.
#[derive(Debug, Default)]
pub(super) struct PollSlots {
    /// Grows with the institutions that are configured.
    held: Mutex<HashMap<InstitutionId, SlotUsage>>,
    /// Rung when one is free again.
    pub(super) freed: Notify,
}

impl PollSlots {
    fn held(&self) -> MutexGuard<'_, HashMap<InstitutionId, SlotUsage>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more of an institution's orders may be taken up.
    pub(super) fn free(&self, institution: &InstitutionId, standing: Health) -> u32 {
        let held = self.held();
        let its = held.get(institution).copied().unwrap_or_default();
        let most = match standing {
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

    /// Takes a slot that is free.
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

/// A place among those who wait for an institution; free again when it is dropped.
#[derive(Debug)]
pub(super) struct PollSlot {
    slots: Arc<PollSlots>,
    institution: InstitutionId,
    /// What its answer says; nothing where nobody was asked.
    is_late: Option<bool>,
}

impl PollSlot {
    /// Whose it is.
    pub(super) fn institution(&self) -> &InstitutionId {
        &self.institution
    }

    /// There was an answer, and it was not late.
    pub(super) fn answered(&mut self) {
        self.is_late.get_or_insert(false);
    }

    /// An answer is late; whatever it will say, no more than a few wait there from now on.
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

    /// One more question is asked and answered promptly.
    fn answered(slots: &Arc<PollSlots>, institution: &InstitutionId) {
        slots.take(institution).answered();
    }

    fn id(name: &str) -> InstitutionId {
        InstitutionId::parse(name).unwrap()
    }

    /// N10: an institution holds its slots and no more; late answers and an open breaker make them
    /// few, and a prompt answer gives all of them back.
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
        assert_eq!(free, SLOTS_LATE, "nobody was asked");
        answered(&slots, &bank);
        assert_eq!(slots.free(&bank, Health::HalfOpen), SLOTS);
    }

    /// N10: however many are silent, they hold half of all places and no more.
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

    /// N10: until an answer is late nobody knows that it will be; so those that fall silent together
    /// leave places as well.
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
