//! Limits the connections of one listener, and closes some to make room when none is left.
//!
//! Connections are counted by network, from all down to one subscriber: of IPv4 the address, of IPv6 its
//! /48, /56 and /64. Where a network is full, the oldest connection is closed that has proven nothing
//! and has no request in progress: only proof keeps a connection open. One whose response is being
//! written has no request in progress any more. The bounds are passed each time, so that they can be
//! replaced.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Bounds, ConnectionProof};
use network::{ALL, Network, networks};

mod network;

pub(super) use network::subscriber;

/// This part of all connections is reserved for enrolled certificates: neither other proof nor a request
/// in progress keeps a connection in it.
const RESERVE_PART: u32 = 8;
/// The largest part of all connections that payers' pages may keep, all together: a page's address is
/// passed on freely.
const PAYERS_PART: u32 = 4;
/// Connections that one order's page may keep at once: a browser opens six.
const ONE_PAGE_MAX: u32 = 8;
/// The connections of one listener.
#[derive(Default)]
pub(super) struct Places {
    table: Mutex<ConnectionTable>,
}

/// Why there is no place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All belong to callers that have proven something.
    Whole,
    /// Its network has used its share.
    Address,
}

/// What a connection has proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Nothing,
    /// Its request is in progress, which keeps it meanwhile as if it had proven something.
    Answered,
    /// A party or a payer's page, in a request.
    Request(ConnectionProof),
    /// An enrolled certificate's key.
    Certificate,
}

impl Proof {
    /// Whether it counts against the connections that are not reserved for certificates.
    fn is_kept(self) -> bool {
        match self {
            Self::Nothing | Self::Certificate => false,
            Self::Answered | Self::Request(_) => true,
        }
    }
}

/// Every open connection.
#[derive(Default)]
struct ConnectionTable {
    next: u64,
    /// Those whose proof is kept outside the reserve.
    kept: u32,
    by_number: HashMap<u64, ConnectionEntry>,
    by_network: HashMap<Network, u32>,
    /// Those that have proven nothing, by network and age.
    evictable: BTreeSet<(Network, u64)>,
}

struct ConnectionEntry {
    networks: Vec<Network>,
    proof: Proof,
    leave: Arc<Notify>,
}

impl Places {
    /// Counts a new connection. Where its network, or the listener, is full, the oldest connection there
    /// that has proven nothing is closed for it.
    pub(super) fn connection(
        &self,
        address: IpAddr,
        bounds: &Bounds,
    ) -> Result<ConnectionPlace<'_>, Full> {
        let share = bounds.connections_per_address_max;
        let networks = networks(address, bounds.connections_max, share);
        let mut table = self.table();
        for (network, max) in &networks {
            let connections = table.by_network.get(network).copied().unwrap_or(0);
            if connections >= *max && !table.evict_oldest(*network) {
                let whole = *network == ALL;
                return Err(if whole { Full::Whole } else { Full::Address });
            }
        }
        let networks = networks.into_iter().map(|(network, _)| network);
        let (number, leave) = table.enter(networks.collect());
        Ok(ConnectionPlace {
            places: self,
            number,
            leave,
        })
    }

    fn table(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionTable {
    fn enter(&mut self, networks: Vec<Network>) -> (u64, Arc<Notify>) {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        for network in &networks {
            let connections = self.by_network.entry(*network).or_default();
            *connections = connections.saturating_add(1);
            self.evictable.insert((*network, number));
        }
        let leave = Arc::new(Notify::new());
        let entry = ConnectionEntry {
            networks,
            proof: Proof::Nothing,
            leave: Arc::clone(&leave),
        };
        self.by_number.insert(number, entry);
        (number, leave)
    }

    fn evict_oldest(&mut self, network: Network) -> bool {
        let mut there = self.evictable.range((network, 0)..=(network, u64::MAX));
        let oldest = there.next().map(|(_, number)| *number);
        let entry = oldest.and_then(|number| self.leave(number));
        entry.is_some_and(|entry| {
            entry.leave.notify_one();
            true
        })
    }

    /// Stops counting a connection, if it is still counted.
    fn leave(&mut self, number: u64) -> Option<ConnectionEntry> {
        self.prove(number, Proof::Nothing);
        let entry = self.by_number.remove(&number)?;
        for network in &entry.networks {
            self.evictable.remove(&(*network, number));
            if let Some(connections) = self.by_network.get_mut(network) {
                *connections = connections.saturating_sub(1);
                if *connections == 0 {
                    self.by_network.remove(network);
                }
            }
        }
        Some(entry)
    }

    fn proof(&self, number: u64) -> Proof {
        let entry = self.by_number.get(&number);
        entry.map_or(Proof::Nothing, |entry| entry.proof)
    }

    fn prove(&mut self, number: u64, proof: Proof) {
        let Some(entry) = self.by_number.get_mut(&number) else {
            return;
        };
        let before = std::mem::replace(&mut entry.proof, proof);
        for network in &entry.networks {
            if proof == Proof::Nothing {
                self.evictable.insert((*network, number));
            } else {
                self.evictable.remove(&(*network, number));
            }
        }
        let others = self.kept.saturating_sub(u32::from(before.is_kept()));
        self.kept = others.saturating_add(u32::from(proof.is_kept()));
    }

    /// Whether one more may be kept, or this one is already: some are reserved for certificates.
    fn may_keep(&self, number: u64, bounds: &Bounds) -> bool {
        let reserve = bounds.connections_max.checked_div(RESERVE_PART);
        let kept_max = bounds.connections_max.saturating_sub(reserve.unwrap_or(0));
        let is_there = self.by_number.contains_key(&number);
        is_there && (self.kept < kept_max || self.proof(number).is_kept())
    }

    /// Whether one more connection may be kept by this page: there is a limit for it and for all pages.
    fn may_prove(&self, page: u64, bounds: &Bounds) -> bool {
        let payers_max = bounds.connections_max.checked_div(PAYERS_PART);
        let (mut payers, mut of_page) = (0_u32, 0_u32);
        for entry in self.by_number.values() {
            if let Proof::Request(ConnectionProof::Payer(proven)) = entry.proof {
                payers = payers.saturating_add(1);
                of_page = of_page.saturating_add(u32::from(proven == page));
            }
        }
        payers < payers_max.unwrap_or(0).max(1) && of_page < ONE_PAGE_MAX
    }
}

/// A connection's place among all and among those of its networks, until another one needs it.
pub(super) struct ConnectionPlace<'a> {
    places: &'a Places,
    number: u64,
    leave: Arc<Notify>,
}

impl ConnectionPlace<'_> {
    /// Returns when the place was given to another connection.
    pub(super) async fn is_taken(&self) {
        self.leave.notified().await;
    }

    /// A request is in progress: the connection is not closed meanwhile, so that no response is lost.
    pub(super) fn is_answered(&self, bounds: &Bounds) {
        let mut table = self.places.table();
        let is_new = table.proof(self.number) == Proof::Nothing;
        if is_new && table.may_keep(self.number, bounds) {
            table.prove(self.number, Proof::Answered);
        }
    }

    /// The response is ready: from now on the connection waits for its client.
    pub(super) fn waits(&self) {
        let mut table = self.places.table();
        if table.proof(self.number) == Proof::Answered {
            table.prove(self.number, Proof::Nothing);
        }
    }

    /// The client has an enrolled certificate: the connection is kept.
    pub(super) fn has_certificate(&self) {
        self.places.table().prove(self.number, Proof::Certificate);
    }

    /// A request proved its caller, for the first time on this connection: the connection is kept, within
    /// the share of such proof. Returns whether it is.
    pub(super) fn has_proven(&self, proven: ConnectionProof, bounds: &Bounds) -> bool {
        let mut table = self.places.table();
        let may_prove = match proven {
            ConnectionProof::Party => true,
            ConnectionProof::Payer(page) => table.may_prove(page, bounds),
        };
        let is_kept = may_prove && table.may_keep(self.number, bounds);
        if is_kept {
            table.prove(self.number, Proof::Request(proven));
        }
        is_kept
    }
}

impl Drop for ConnectionPlace<'_> {
    fn drop(&mut self) {
        self.places.table().leave(self.number);
    }
}

#[cfg(test)]
mod tests;
