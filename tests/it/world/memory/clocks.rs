//! What the store in memory does when a clock was wrong: due times come forward, and of forgotten
//! nonces it is kept when they were made.

use std::sync::Arc;
use std::time::Duration;

use paymux::domain::identifiers::Timestamp;
use paymux::domain::refund::Sending;
use paymux::store::CLOCKS_APART;

use super::Durable;

impl Durable {
    /// What is due later than now is due so much earlier.
    pub(in crate::world) fn bring_forward(
        &mut self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Duration {
        let recorded = self.deeds.last().map(|(_, at)| at.since(now));
        let by = by.or(recorded).filter(|by| *by > CLOCKS_APART);
        let Some(by) = by else {
            return Duration::ZERO;
        };
        let span = by;
        let by = i64::try_from(by.as_millis()).unwrap();
        let sooner = |at: &mut Timestamp| {
            if *at > now {
                *at = Timestamp::from_ms(at.ms() - by).max(now);
            }
        };
        for row in self.orders.values_mut() {
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
                if let Sending::Waits(until) = &mut refund.sending {
                    sooner(until);
                }
            }
        }
        for row in self.events.values_mut() {
            sooner(&mut row.due);
            row.lease.until.iter_mut().for_each(sooner);
        }
        span
    }

    /// Q6
    pub(in crate::world) fn forget(&mut self, until: Timestamp) {
        let gone = self.nonces.values().copied();
        let gone: Vec<_> = gone.filter(|created| *created <= until).collect();
        self.forgotten = Arc::new(self.forgotten.and(gone));
        self.nonces.retain(|_, created| *created > until);
    }
}
