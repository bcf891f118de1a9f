//! Flaws that tests plant in what is stored.

use super::*;

impl DurableState {
    /// Takes an old lease for the newest: what a fencing number is there to prevent.
    pub(crate) fn believe(&mut self, lease: &Lease) {
        let taken = match &lease.of {
            LeasedWork::Order(order) => self.orders.get_mut(&order.no).map(|row| &mut row.lease),
            LeasedWork::Event(event, _) => self.events.get_mut(&event.id).map(|row| {
                row.fate = MemoryEventState::Pending;
                &mut row.lease
            }),
        };
        if let Some(taken) = taken {
            taken.fence = lease.fence;
            taken.until = taken.until.or(Some(Timestamp::from_ms(0)));
        }
    }

    /// The same of an order that goes back.
    pub(crate) fn believe_order(&mut self, order: &Order, fence: u64) {
        if let Some(row) = self.orders.get_mut(&order.no) {
            row.lease.fence = fence;
        }
    }

    /// Gives the events of an order a second birth under other ids.
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
