//! Who holds a connection of one listener, and who makes room when there is none left.
//!
//! Connections are counted by network, from everybody down to one line: of IPv4 the address, of IPv6
//! its /48, /56 and /64. Where a network is full, whoever came first of those that have proven
//! nothing, and that nobody is answering, is ended: only proof holds a place. Whoever does not take
//! an answer is not being answered any more. The bounds are handed in each time, so that they can be
//! replaced while it counts.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Bounds;

/// This part of all connections is left to enrolled certificates: neither other proof nor an answer in
/// the making holds a place in it.
const RESERVE_PART: u32 = 8;
/// Prefixes of IPv6 that are counted, and how many times one line's share each may hold: a
/// subscriber is given a /64 to a /48.
const NETWORKS_V6: [(u8, u32); 3] = [(48, 4), (56, 2), (64, 1)];

/// What one listener counts.
#[derive(Default)]
pub(super) struct Places {
    open: Tally,
    in_flight: Tally,
    strangers: AtomicU32,
    guests: Mutex<Guests>,
}

/// Why there is no place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken by those that have proven something, or the gateway is stopping.
    Whole,
    /// Its network has its share.
    Address,
}

/// What a connection has proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Nothing,
    /// Once, in a request.
    InRequest,
    /// An enrolled certificate's key.
    Certificate,
}

/// Everybody there is.
#[derive(Default)]
struct Guests {
    next: u64,
    /// Those without a certificate that make no room at present.
    kept: u32,
    by_number: HashMap<u64, Guest>,
    by_network: HashMap<Network, Crowd>,
}

struct Guest {
    networks: Vec<Network>,
    proof: Proof,
    /// It has no certificate and makes no room at present.
    is_kept: bool,
    leave: Arc<Notify>,
}

/// The connections of one network.
#[derive(Default)]
struct Crowd {
    connections: u32,
    /// Those that would make room, by the order in which they came.
    evictable: BTreeSet<u64>,
}

/// An address with the bits behind its prefix cleared.
type Network = (IpAddr, u8);

/// Everybody.
const ALL: Network = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// An address's networks, each with the connections it may hold, the widest last.
fn networks(address: IpAddr, (all, share): (u32, u32)) -> Vec<(Network, u32)> {
    let mut found = vec![(ALL, all)];
    match address.to_canonical() {
        IpAddr::V4(v4) => found.push(((IpAddr::V4(v4), 32), share)),
        IpAddr::V6(v6) => found.extend(NETWORKS_V6.map(|(prefix, times)| {
            let network = (IpAddr::V6(masked(v6, prefix)), prefix);
            (network, share.saturating_mul(times))
        })),
    }
    found.reverse();
    found
}

fn masked(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let behind = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & !behind)
}

/// An address as one subscriber holds it: of IPv6 the /64, for else one line could hold every
/// place under addresses of its own.
pub(super) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(masked(v6, 64)),
    }
}

impl Places {
    /// A connection's place. Where its network, or everything, is full, the oldest connection there
    /// that has proven nothing makes room.
    pub(super) fn connection(&self, address: IpAddr, bounds: &Bounds) -> Result<Place<'_>, Full> {
        if !self.open.take(u32::MAX) {
            return Err(Full::Whole);
        }
        let share = bounds.connections_per_address_max;
        let networks = networks(address, (bounds.connections_max, share));
        let mut guests = self.guests();
        for (network, max) in &networks {
            if guests.connections(network) >= *max && !guests.evict_oldest(network) {
                drop(guests);
                self.open.give();
                let whole = *network == ALL;
                return Err(if whole { Full::Whole } else { Full::Address });
            }
        }
        let networks = networks.into_iter().map(|(network, _)| network);
        let (number, leave) = guests.enter(networks.collect());
        Ok(Place {
            places: self,
            number,
            leave,
        })
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's place among `places_max`; held by whoever answers it, whether its client waits
    /// or not.
    pub(super) fn request(self: &Arc<Self>, places_max: u32) -> Option<Seat> {
        let taken = self.in_flight.take(places_max);
        taken.then(|| Seat {
            places: Arc::clone(self),
            of_stranger: false,
        })
    }

    /// The same, of somebody who is not known.
    pub(super) fn request_of_stranger(self: &Arc<Self>, places_max: u32) -> Option<Seat> {
        let mut seat = self.request(places_max)?;
        self.strangers.fetch_add(1, Ordering::Relaxed);
        seat.of_stranger = true;
        Some(seat)
    }

    /// Returns when every place is free, and gives none out again: first the connections, then
    /// what was handed over by clients that have gone.
    pub(super) async fn drain(&self) {
        self.open.drain().await;
        self.in_flight.drain().await;
    }

    /// Requests handed over and not answered.
    pub(super) fn requests_open(&self) -> u32 {
        self.in_flight.count.load(Ordering::Acquire)
    }

    /// Of them, those of people who are not known.
    pub(super) fn strangers_open(&self) -> u32 {
        self.strangers.load(Ordering::Relaxed)
    }
}

impl Guests {
    fn connections(&self, network: &Network) -> u32 {
        self.by_network.get(network).map_or(0, |it| it.connections)
    }

    fn enter(&mut self, networks: Vec<Network>) -> (u64, Arc<Notify>) {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        for network in &networks {
            let crowd = self.by_network.entry(*network).or_default();
            crowd.connections = crowd.connections.saturating_add(1);
            crowd.evictable.insert(number);
        }
        let leave = Arc::new(Notify::new());
        let guest = Guest {
            networks,
            proof: Proof::Nothing,
            is_kept: false,
            leave: Arc::clone(&leave),
        };
        self.by_number.insert(number, guest);
        (number, leave)
    }

    fn evict_oldest(&mut self, network: &Network) -> bool {
        let crowd = self.by_network.get(network);
        let Some(oldest) = crowd.and_then(|crowd| crowd.evictable.first().copied()) else {
            return false;
        };
        if let Some(guest) = self.leave(oldest) {
            guest.leave.notify_one();
        }
        true
    }

    /// Counts a connection out, if it is still counted.
    fn leave(&mut self, number: u64) -> Option<Guest> {
        let guest = self.by_number.remove(&number)?;
        for network in &guest.networks {
            let Some(crowd) = self.by_network.get_mut(network) else {
                continue;
            };
            crowd.connections = crowd.connections.saturating_sub(1);
            crowd.evictable.remove(&number);
            if crowd.connections == 0 {
                self.by_network.remove(network);
            }
        }
        if guest.is_kept {
            self.kept = self.kept.saturating_sub(1);
        }
        Some(guest)
    }

    /// Keeps a place without a certificate; not one of those that are left to certificates. Returns
    /// whether it is kept.
    fn keep(&mut self, number: u64, bounds: &Bounds) -> bool {
        let reserve = bounds.connections_max.checked_div(RESERVE_PART);
        let kept_max = bounds.connections_max.saturating_sub(reserve.unwrap_or(0));
        let Some(guest) = self.by_number.get_mut(&number) else {
            return false;
        };
        if guest.is_kept {
            return true;
        }
        if self.kept >= kept_max {
            return false;
        }
        guest.is_kept = true;
        self.kept = self.kept.saturating_add(1);
        self.set_evictable(number, false);
        true
    }

    /// Keeps it no more, unless it has proven something.
    fn let_go(&mut self, number: u64) {
        let Some(guest) = self.by_number.get_mut(&number) else {
            return;
        };
        if guest.is_kept && guest.proof == Proof::Nothing {
            guest.is_kept = false;
            self.kept = self.kept.saturating_sub(1);
            self.set_evictable(number, true);
        }
    }

    fn set_evictable(&mut self, number: u64, evictable: bool) {
        let Some(guest) = self.by_number.get(&number) else {
            return;
        };
        for network in &guest.networks {
            let Some(crowd) = self.by_network.get_mut(network) else {
                continue;
            };
            if evictable {
                crowd.evictable.insert(number);
            } else {
                crowd.evictable.remove(&number);
            }
        }
    }

    fn prove_by_certificate(&mut self, number: u64) {
        let Some(guest) = self.by_number.get_mut(&number) else {
            return;
        };
        guest.proof = Proof::Certificate;
        if guest.is_kept {
            guest.is_kept = false;
            self.kept = self.kept.saturating_sub(1);
        }
        self.set_evictable(number, false);
    }

    fn prove_in_request(&mut self, number: u64, bounds: &Bounds) -> bool {
        let is_kept = self.keep(number, bounds);
        if let Some(guest) = self.by_number.get_mut(&number).filter(|_| is_kept) {
            guest.proof = Proof::InRequest;
        }
        is_kept
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

/// A connection's place among all and among those of its networks, until somebody else needs it.
pub(super) struct Place<'a> {
    places: &'a Places,
    number: u64,
    leave: Arc<Notify>,
}

impl Place<'_> {
    /// Returns when the place was given to somebody else.
    pub(super) async fn is_taken(&self) {
        self.leave.notified().await;
    }

    /// Somebody is answering: it makes no room meanwhile, so that no answer is lost.
    pub(super) fn is_answered(&self, bounds: &Bounds) {
        self.places.guests().keep(self.number, bounds);
    }

    /// Its answer is there: from now on it is its client that is waited for.
    pub(super) fn waits(&self) {
        self.places.guests().let_go(self.number);
    }

    /// An enrolled certificate was shown: the place is its own.
    pub(super) fn has_certificate(&self) {
        self.places.guests().prove_by_certificate(self.number);
    }

    /// A request proved who it is from: the place is its own, while there are enough of those that
    /// are left to certificates. Returns whether it is.
    pub(super) fn has_proven(&self, bounds: &Bounds) -> bool {
        self.places.guests().prove_in_request(self.number, bounds)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.guests().leave(self.number);
        self.places.open.give();
    }
}

/// A request's place.
pub(super) struct Seat {
    places: Arc<Places>,
    of_stranger: bool,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.of_stranger {
            self.places.strangers.fetch_sub(1, Ordering::Relaxed);
        }
        self.places.in_flight.give();
    }
}

#[cfg(test)]
mod tests;
