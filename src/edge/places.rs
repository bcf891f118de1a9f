//! How many connections, handshakes and requests one listener has, and that all of them have left.
//!
//! Counts only. The bounds are handed in each time, so that they can be replaced while it counts.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Bounds;

/// What one listener counts.
#[derive(Default)]
pub(super) struct Places {
    connections: Tally,
    in_flight: Tally,
    per_address: Mutex<HashMap<IpAddr, u32>>,
}

/// Why there is no place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken, or the gateway is stopping.
    Whole,
    /// Its address has its share.
    Address,
}

impl Places {
    /// A connection's place, or none left, here or for its address.
    pub(super) fn connection(&self, address: IpAddr, bounds: &Bounds) -> Result<Place<'_>, Full> {
        if !self.connections.take(bounds.connections_max) {
            return Err(Full::Whole);
        }
        let address = subscriber(address);
        let mut taken = self
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&address).copied().unwrap_or(0);
        if count >= bounds.connections_per_address_max {
            drop(taken);
            self.connections.give();
            return Err(Full::Address);
        }
        taken.insert(address, count.saturating_add(1));
        Ok(Place {
            places: self,
            address,
        })
    }

    /// A request's place among `places_max`; held by whoever answers it, whether its client waits
    /// or not.
    pub(super) fn request(self: &Arc<Self>, places_max: u32) -> Option<Seat> {
        let taken = self.in_flight.take(places_max);
        taken.then(|| Seat(Arc::clone(self)))
    }

    /// Returns when every place is free, and gives none out again: first the connections, then
    /// what was handed over by clients that have gone.
    pub(super) async fn drain(&self) {
        self.connections.drain().await;
        self.in_flight.drain().await;
    }

    /// Requests handed over and not answered.
    pub(super) fn requests_open(&self) -> u32 {
        self.in_flight.count.load(Ordering::Acquire)
    }
}

/// A number of what is taken, and who waits until it is none.
#[derive(Default)]
struct Tally {
    count: AtomicU32,
    closed: AtomicBool,
    empty: Notify,
}

impl Tally {
    fn take(&self, places_max: u32) -> bool {
        let one_more = |count: u32| (count < places_max).then(|| count.saturating_add(1));
        let taken = self
            .count
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_more)
            .is_ok();
        if taken && self.closed.load(Ordering::SeqCst) {
            self.give();
            return false;
        }
        taken
    }

    fn give(&self) {
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 && self.closed.load(Ordering::SeqCst) {
            self.empty.notify_waiters();
        }
    }

    async fn drain(&self) {
        self.closed.store(true, Ordering::SeqCst);
        loop {
            let emptied = self.empty.notified();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// A connection's place among all and among those of its address.
pub(super) struct Place<'a> {
    places: &'a Places,
    address: IpAddr,
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
        drop(taken);
        self.places.connections.give();
    }
}

/// A request's place.
pub(super) struct Seat(Arc<Places>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.in_flight.give();
    }
}

/// An address as one subscriber holds it: of IPv6 the /64, for else one line could hold every
/// place under addresses of its own.
pub(super) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-6.3.1-3a: places are by subscriber, and a place that is given back is free again.
    #[test]
    fn one_subscriber_has_only_its_share() {
        let places = Places::default();
        let bounds = Bounds {
            connections_max: 3,
            connections_per_address_max: 1,
            ..Bounds::default()
        };
        let from = |address: &str| places.connection(address.parse().unwrap(), &bounds);
        let first = from("2001:db8::1").unwrap();
        assert_eq!(from("2001:db8::2").err(), Some(Full::Address));
        let _second = from("2001:db8:0:1::1").unwrap();
        let _third = from("192.0.2.1").unwrap();
        assert_eq!(from("192.0.2.2").err(), Some(Full::Whole));
        drop(first);
        assert!(from("2001:db8::2").is_ok());
    }

    /// Whoever drains waits for what is taken, and gives nothing out any more.
    #[tokio::test]
    async fn nothing_is_given_out_after_the_last_has_left() {
        let places = Arc::new(Places::default());
        let seat = places.request(1).unwrap();
        assert!(places.request(1).is_none());
        let draining = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.drain().await }
        });
        while !places.in_flight.closed.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        assert!(places.request(9).is_none() && !draining.is_finished());
        drop(seat);
        draining.await.unwrap();
    }
}
