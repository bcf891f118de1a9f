//! The end of a run: everything comes to rest, and is checked once more.

use super::*;
use crate::store::builders::next_due;

impl SimulationRun {
    /// Faults stop; everything must come to rest.
    pub(super) fn rest(&mut self) -> InvariantResult {
        self.log(|| "faults stop".to_owned());
        self.fault_injector().stop();
        self.clock.set_off(0);
        self.go_on()?;
        self.fault_injector()
            .plan(u64::MAX, InjectedFault::Unavailable);
        {
            let mut parties = self.network.parties();
            for books in parties.institutions.values_mut() {
                books.behaviours =
                    crate::world::fake_institution::FakeInstitutionBehaviour::default();
                books.show_all();
            }
            for inbox in parties.merchants.values_mut() {
                inbox.behaviour = FakeMerchantBehaviour::Acknowledges;
            }
        }
        for _ in 0..REST_ROUNDS_MAX {
            self.finish_pending()?;
            if self.is_at_rest() {
                break;
            }
            for work in [LeaseKind::Orders, LeaseKind::Events] {
                let admission = Arc::new(WorkerGate::default());
                admission.open();
                self.worker(work, 100, admission);
            }
            self.finish_pending()?;
            let (due, truth) = (self.next_due(), self.clock.truth());
            self.log(|| format!("next due {:?}", due.map(|due| due - truth)));
            let wait = due.map_or(60_000, |due| due - truth);
            self.pass(wait.clamp(30_000, 3_600_000) + 1)?;
        }
        for _ in MERCHANTS {
            self.list_events();
        }
        self.finish_pending()?;
        let durable = self.memory.durable();
        end(&durable, &self.network.parties())?;
        self.outside.end(&durable)
    }

    /// Everything in flight arrives and is answered; every institution sends its due callbacks.
    pub(super) fn finish_pending(&mut self) -> InvariantResult {
        self.go_on()?;
        loop {
            if !self.network.parties().waiting.is_empty() {
                self.network.release(0, ScriptedOutcome::Answered);
            } else if !self.network.parties().late.is_empty() {
                self.network.arrive_late(0);
            } else {
                break;
            }
            self.go_on()?;
        }
        hold!(
            self.tasks.is_empty(),
            "Z4: {} tasks wait for ever",
            self.tasks.len()
        );
        let mut messages = Vec::new();
        let truth = self.clock.truth();
        for (id, books) in &mut self.network.parties().institutions {
            for no in books.pending_refunds() {
                books.end_refund(&no, false, truth);
            }
            for no in books.unacknowledged_refunds() {
                let callback = books.refund_callback(&no);
                messages.push((id.clone(), no, callback));
            }
            for payment in books.undelivered() {
                let callback = books.callback(&payment, self.clock.truth());
                messages.push((id.clone(), payment, callback));
            }
        }
        for (id, payment, callback) in messages {
            self.call(id, payment, callback);
            self.go_on()?;
            while !self.network.parties().waiting.is_empty() {
                self.network.release(0, ScriptedOutcome::Answered);
                self.go_on()?;
            }
        }
        Ok(())
    }

    pub(super) fn is_at_rest(&self) -> bool {
        end(&self.memory.durable(), &self.network.parties()).is_ok()
    }

    pub(super) fn next_due(&self) -> Option<i64> {
        let due =
            |work| crate::world::test_gateway::now(next_due(&self.memory.handles(), work)).unwrap();
        let both = [due(LeaseKind::Orders), due(LeaseKind::Events)];
        both.into_iter().flatten().map(Timestamp::ms).min()
    }
}
