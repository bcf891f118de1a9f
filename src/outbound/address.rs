//! The addresses that a merchant's origin may have: public ones, and networks that the configuration allows.
//!
//! A merchant's address makes this gateway send requests; an address inside our own network would
//! allow server-side request forgery.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::world::AllowedNetwork;

/// Whether this exact address may be connected to.
pub(super) fn may_be_called(address: IpAddr, allowed: &[AllowedNetwork]) -> bool {
    // An IPv4-mapped IPv6 address reaches the IPv4 address.
    let address = address.to_canonical();
    allowed.iter().any(|network| network.contains(address)) || is_public(address)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// Everything that the registry of special-purpose IPv4 addresses (RFC 6890) does not reserve.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let set_aside = a == 0 // this network
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b)) // carriers' translation, RFC 6598
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 192 && b == 88 && c == 99) // relays of 6to4
        || (a == 198 && (b == 18 || b == 19)) // benchmarks
        || a >= 224; // multicast, reserved, broadcast
    !set_aside
}

/// Global unicast, except ranges that embed an IPv4 address or are for documentation (RFC 6890).
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let set_aside = a == 0x2002 // 6to4: an IPv4 address inside
        || (a == 0x2001 && b < 0x0200) // Teredo, benchmarks, ORCHID
        || (a == 0x2001 && b == 0x0db8) // documentation
        || (a == 0x3fff && b < 0x1000); // documentation
    // Outside 2000::/3 are loopback, mapped, translated (64:ff9b::/96), local and multicast
    // addresses.
    (a & 0xe000) == 0x2000 && !set_aside
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interface, Enrolment: on a merchant's behalf only public addresses are called.
    #[test]
    fn addresses_that_are_not_public_are_not_called() {
        for bad in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!may_be_called(bad.parse().unwrap(), &[]), "{bad}");
        }
        for good in [
            "1.1.1.1",
            "100.128.0.1",
            "192.0.1.1",
            "2606:4700::1",
            "2400:3200::1",
        ] {
            assert!(may_be_called(good.parse().unwrap(), &[]), "{good}");
        }
    }

    /// An allowed network permits itself and nothing else.
    #[test]
    fn an_allowed_network_opens_only_itself() {
        let allowed: Vec<AllowedNetwork> =
            vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for good in ["127.0.0.1", "127.255.0.1", "::ffff:127.0.0.1", "fd12::1"] {
            assert!(may_be_called(good.parse().unwrap(), &allowed), "{good}");
        }
        for bad in ["10.0.0.1", "169.254.0.1", "::1", "fc00::1"] {
            assert!(!may_be_called(bad.parse().unwrap(), &allowed), "{bad}");
        }
        for bad in ["127.0.0.1", "127.0.0.0/33", "x/8", "::/129"] {
            assert!(bad.parse::<AllowedNetwork>().is_err(), "{bad}");
        }
    }
}
