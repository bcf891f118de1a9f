//! Institutions that the file does not name any more and that have unfinished payments: they stay
//! reachable for queries, refunds and callbacks, and are offered to nobody (F2).

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::in_force::InForce;
use crate::config::{Config, InstitutionLeg};
use crate::domain::identifiers::InstitutionId;
use crate::domain::institutions::Institution;
use crate::store::Bindings;

/// How each was reached when it was last in the file.
#[derive(Clone, Default)]
pub(super) struct TakenOut(HashMap<InstitutionId, Kept>);

#[derive(Clone)]
struct Kept {
    /// The last version in which something could be started there. A request that began under it
    /// may still write, so nobody is let go before the last of those has ended.
    open_in: Weak<InForce>,
}

impl TakenOut {
    /// How many.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds to the next configuration whoever it lost too early, and says whom and why, for people.
    pub(super) fn kept_by(
        &self,
        before: &Arc<InForce>,
        legs: &HashMap<InstitutionId, InstitutionLeg>,
        next: &mut Config,
        bindings: &Bindings,
    ) -> (Self, Vec<String>) {
        let (mut kept, mut words) = (Self::default(), Vec::new());
        let register = &before.api.register;
        for (id, adapter) in &register.adapters {
            if next.register.adapters.contains_key(id) {
                continue;
            }
            let unfinished = bindings.unfinished.get(id).copied().unwrap_or(0);
            let known = self.0.get(id);
            if known.is_some_and(|known| unfinished == 0 && known.open_in.strong_count() == 0) {
                words.push(format!("institution {id}: nothing is unfinished; let go"));
                continue;
            }
            let (Some(leg), Some(was)) = (legs.get(id), register.directory.institutions.get(id))
            else {
                continue;
            };
            let stopped = Institution {
                stopped: true,
                ..was.clone()
            };
            next.register
                .adapters
                .insert(id.clone(), Arc::clone(adapter));
            next.register
                .directory
                .institutions
                .insert(id.clone(), stopped);
            next.outbound.institutions.insert(id.clone(), leg.clone());
            let open_in = known.map_or_else(|| Arc::downgrade(before), |it| it.open_in.clone());
            kept.0.insert(id.clone(), Kept { open_in });
            words.push(format!(
                "institution {id}: taken out with {unfinished} unfinished; it stays reachable for \
                 queries, refunds and callbacks until a reload finds nothing unfinished. A restart \
                 would lose it: put it back with stopped = true before one"
            ));
        }
        (kept, words)
    }
}
