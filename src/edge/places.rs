//! Who holds a connection of one listener, and who makes room when there is none left.
//!
//! Connections are counted by network, from everybody down to one line: of IPv4 the address, of IPv6
//! its /48, /56 and /64. Where a network is full, whoever came first of those that have proven
//! nothing, and that nobody is answering, is ended: only proof holds a place. Whoever does not take
//! an answer is not being answered any more. The bounds are handed in each time, so that they can be
//! replaced while it counts.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Bounds, Proven};
use network::{ALL, Network, networks};
use tally::Tally;

mod network;
mod tally;

pub(super) use network::subscriber;

/// This part of all connections is left to enrolled certificates: neither other proof nor an answer in
/// the making holds a place in it.
const RESERVE_PART: u32 = 8;
/// So large a part of all connections payers may prove at most, all together: a page's address is
/// handed on freely.
const PAYERS_PART: u32 = 4;
/// Connections that one order's page proves at once: a browser opens six.
const ONE_PAGE_MAX: u32 = 8;
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
    /// A party, in a request.
    Party,
    /// A payer's page, by its number.
    Payer(u64),
    /// An enrolled certificate's key.
    Certificate,
}

/// Everybody there is.
#[derive(Default)]
struct Guests {
    next: u64,
    /// Those without a certificate that make no room at present.
    kept: u32,
    /// Those of them that have proven a payer's page, all together and by page.
    payers: u32,
    by_page: HashMap<u64, u32>,
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
        if let Proof::Payer(page) = guest.proof {
            self.payers = self.payers.saturating_sub(1);
            self.leave_page(page);
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

    fn leave_page(&mut self, page: u64) {
        if let Some(count) = self.by_page.get_mut(&page) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_page.remove(&page);
            }
        }
    }

    fn prove_in_request(&mut self, number: u64, proven: Proven, bounds: &Bounds) -> bool {
        if let Proven::Payer(page) = proven {
            let payers_max = bounds.connections_max.checked_div(PAYERS_PART);
            let of_page = self.by_page.get(&page).copied().unwrap_or(0);
            if self.payers >= payers_max.unwrap_or(0).max(1) || of_page >= ONE_PAGE_MAX {
                return false;
            }
        }
        if !self.keep(number, bounds) {
            return false;
        }
        let proof = match proven {
            Proven::Party => Proof::Party,
            Proven::Payer(page) => {
                self.payers = self.payers.saturating_add(1);
                let of_page = self.by_page.entry(page).or_default();
                *of_page = of_page.saturating_add(1);
                Proof::Payer(page)
            }
        };
        if let Some(guest) = self.by_number.get_mut(&number) {
            guest.proof = proof;
        }
        true
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

    /// A request proved who it is from, for the first time on this connection: the place is its own,
    /// within the shares of what is proven so. Returns whether it is.
    pub(super) fn has_proven(&self, proven: Proven, bounds: &Bounds) -> bool {
        let mut guests = self.places.guests();
        guests.prove_in_request(self.number, proven, bounds)
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
