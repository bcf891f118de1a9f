//! How the memory store handles a wrong clock: due times come forward, and the creation times of
//! deleted nonces are recorded.

use std::sync::Arc;
use std::time::Duration;

use paymux::domain::audit::AuditEntry;
use paymux::domain::identifiers::Timestamp;
use paymux::domain::refund::SendStatus;
use paymux::store::CLOCKS_APART;

use super::DurableState;

impl DurableState {
    /// Moves due times after now earlier by this much.
    pub(in crate::world) fn bring_forward(
        &mut self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Duration {
        let span = by.unwrap_or_else(|| self.recorded_ahead(now));
        if span <= CLOCKS_APART {
            return Duration::ZERO;
        }
        let by = i64::try_from(span.as_millis()).unwrap();
        let sooner = |at: &mut Timestamp| {
            if *at > now {
                *at = Timestamp::from_ms(at.ms() - by).max(now);
            }
        };
        let is_later = |at: Option<Timestamp>| at.is_some_and(|at| at > now);
        for row in self.orders.values_mut() {
            // Leased work waits for the end of its lease.
            let waits_until = row.due.and(row.lease.until.or(row.due));
            row.lease.fence += u64::from(is_later(waits_until));
            row.due.iter_mut().for_each(sooner);
            row.lease.until.iter_mut().for_each(sooner);
            for attempt in &mut row.order.attempts {
                if attempt.state.is_live() {
                    sooner(&mut attempt.schedule.next);
                }
            }
            let refunds = row.order.refunds.iter_mut();
            for refund in refunds.filter(|one| !one.state.is_over()) {
                sooner(&mut refund.schedule.next);
                if let SendStatus::Waits(until) = &mut refund.sending {
                    sooner(until);
                }
            }
        }
        for row in self.events.values_mut() {
            row.lease.fence += u64::from(is_later(row.lease.until.or(Some(row.due))));
            sooner(&mut row.due);
            row.lease.until.iter_mut().for_each(sooner);
        }
        self.audit_entries.push((AuditEntry::clock_set(-by), now));
        span
    }

    fn recorded_ahead(&self, now: Timestamp) -> Duration {
        let mut ahead = Duration::ZERO;
        for (audit_entry, at) in self.audit_entries.iter().rev() {
            ahead = ahead.max(at.since(now));
            if AuditEntry::is_clock_set_back(&audit_entry.action, &audit_entry.result) {
                break;
            }
        }
        ahead
    }

    /// Q6: deletes nonces and records their creation times.
    pub(in crate::world) fn forget(&mut self, until: Timestamp) {
        let gone = self.nonces.values().copied();
        let gone: Vec<_> = gone.filter(|created| *created <= until).collect();
        self.forgotten = Arc::new(self.forgotten.and(gone));
        self.nonces.retain(|_, created| *created > until);
    }
}
