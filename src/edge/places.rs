//! How many connections and requests one listener has, and that all of them have left.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::Bounds;

/// What one listener counts.
pub(super) struct Places {
    connections: Semaphore,
    connections_max: u32,
    in_flight: Arc<Semaphore>,
    in_flight_max: u32,
    per_address: Mutex<HashMap<IpAddr, u32>>,
    per_address_max: u32,
}

impl Places {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            connections: Semaphore::new(permits(bounds.connections_max)),
            connections_max: bounds.connections_max,
            in_flight: Arc::new(Semaphore::new(permits(bounds.in_flight_max))),
            in_flight_max: bounds.in_flight_max,
            per_address: Mutex::default(),
            per_address_max: bounds.connections_per_address_max,
        }
    }

    /// A connection's place, or none left, here or for its address.
    pub(super) fn connection(&self, address: IpAddr) -> Option<Place<'_>> {
        let address = subscriber(address);
        let permit = self.connections.try_acquire().ok()?;
        let mut taken = self
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&address).copied().unwrap_or(0);
        if count >= self.per_address_max {
            return None;
        }
        taken.insert(address, count.saturating_add(1));
        Some(Place {
            places: self,
            address,
            _permit: permit,
        })
    }

    /// A request's place; held by whoever answers it, whether its client waits or not.
    pub(super) fn request(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.in_flight).try_acquire_owned().ok()
    }

    /// Returns when every place is free, and gives none out again: first the connections, then
    /// what was handed over by clients that have gone.
    pub(super) async fn drain(&self) {
        if let Ok(all) = self.connections.acquire_many(self.connections_max).await {
            all.forget();
        }
        if let Ok(all) = self.in_flight.acquire_many(self.in_flight_max).await {
            all.forget();
        }
    }

    /// Requests handed over and not answered.
    pub(super) fn requests_open(&self) -> usize {
        permits(self.in_flight_max).saturating_sub(self.in_flight.available_permits())
    }
}

/// A connection's place among all and among those of its address.
pub(super) struct Place<'a> {
    places: &'a Places,
    address: IpAddr,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self
            .places
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.address) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            Some(_) | None => {
                taken.remove(&self.address);
            }
        }
    }
}

/// An address as one subscriber holds it: of IPv6 the /64, for else one line could hold every
/// place under addresses of its own.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

fn permits(count: u32) -> usize {
    usize::try_from(count)
        .unwrap_or(Semaphore::MAX_PERMITS)
        .min(Semaphore::MAX_PERMITS)
}
