//! Faults that tests inject into the stored state.

use super::*;

impl DurableState {
    /// Accepts an old lease as the newest, which a fencing number exists to prevent.
    pub(crate) fn believe(&mut self, lease: &Lease) {
        let taken = match &lease.of {
            LeasedWork::Order(order) => self.orders.get_mut(&order.no).map(|row| &mut row.lease),
            LeasedWork::Event(event, _) => self.events.get_mut(&event.id).map(|row| {
                row.outcome = MemoryEventState::Pending;
                &mut row.lease
            }),
        };
        if let Some(taken) = taken {
            taken.fence = lease.fence;
            taken.until = taken.until.or(Some(Timestamp::from_ms(0)));
        }
    }

    /// The same for an order that is rescheduled.
    pub(crate) fn believe_order(&mut self, order: &Order, fence: u64) {
        if let Some(row) = self.orders.get_mut(&order.no) {
            row.lease.fence = fence;
        }
    }

    /// Creates the events of an order again under other ids.
    pub(crate) fn double_event(&mut self, order: &Order) {
        let theirs: Vec<MemoryEventRow> = self
            .events
            .values()
            .filter(|row| row.event.order == order.no)
            .cloned()
            .collect();
        for mut row in theirs {
            row.event.id = EventId::parse(&row.event.id.as_str().replace('E', "F")).unwrap();
            self.events.insert(row.event.id.clone(), row);
        }
    }
}
