//! The networks that an address belongs to, as connections are counted by them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Prefixes of IPv6 that are counted, and how many times one subscriber's share each may hold: a
/// subscriber is assigned a /64 to a /48.
const NETWORKS_V6: [(u8, u32); 3] = [(48, 4), (56, 2), (64, 1)];

/// An address with the bits behind its prefix cleared.
pub(super) type Network = (IpAddr, u8);

/// All addresses.
pub(super) const ALL: Network = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// An address's networks, each with the connections it may hold, the widest last.
pub(super) fn networks(address: IpAddr, all: u32, share: u32) -> Vec<(Network, u32)> {
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

/// An address as its subscriber's: of IPv6 the /64, since otherwise one subscriber could hold every
/// connection under addresses of its own.
pub(in crate::edge) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(masked(v6, 64)),
    }
}
