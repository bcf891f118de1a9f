//! Addresses from which a party lately authenticated: callers from there count as authenticated in
//! overload. A bounded set whose entries expire.

use std::collections::HashSet;
use std::mem;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::places::subscriber;

/// An address is kept at least so long after the last authentication, and at most twice as long.
const REMEMBERED_FOR: Duration = Duration::from_mins(10);
/// Addresses kept in each of the two generations; past it no more are added.
const ADDRESSES_MAX: usize = 8_192;

/// The addresses of one listener.
pub(super) struct KnownAddresses(Mutex<AddressGenerations>);

struct AddressGenerations {
    young: HashSet<IpAddr>,
    old: HashSet<IpAddr>,
    began: Instant,
}

impl Default for KnownAddresses {
    fn default() -> Self {
        Self(Mutex::new(AddressGenerations {
            young: HashSet::new(),
            old: HashSet::new(),
            began: Instant::now(),
        }))
    }
}

impl KnownAddresses {
    /// A party authenticated from this address.
    pub(super) fn remember(&self, address: IpAddr) {
        let mut generations = self.generations();
        if generations.young.len() < ADDRESSES_MAX {
            generations.young.insert(subscriber(address));
        }
    }

    /// Whether a party lately authenticated from this address.
    pub(super) fn knows(&self, address: IpAddr) -> bool {
        let address = subscriber(address);
        let generations = self.generations();
        generations.young.contains(&address) || generations.old.contains(&address)
    }

    fn generations(&self) -> MutexGuard<'_, AddressGenerations> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = generations.began.elapsed();
        if age >= REMEMBERED_FOR {
            generations.old = mem::take(&mut generations.young);
            if age >= REMEMBERED_FOR.saturating_mul(2) {
                generations.old.clear();
            }
            generations.began = Instant::now();
        }
        generations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address is known for a while, as its subscriber's, and then forgotten.
    #[test]
    fn a_proven_address_is_remembered_for_a_bounded_time() {
        let known = KnownAddresses::default();
        let age = |by: Duration| {
            let mut generations = known.0.lock().unwrap();
            generations.began = generations.began.checked_sub(by).unwrap();
        };
        let (one, sibling) = (
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
        );
        assert!(!known.knows(one));
        known.remember(one);
        assert!(known.knows(sibling) && !known.knows("2001:db8:0:1::1".parse().unwrap()));
        age(REMEMBERED_FOR);
        assert!(known.knows(one));
        age(REMEMBERED_FOR);
        assert!(!known.knows(one));
    }
}
