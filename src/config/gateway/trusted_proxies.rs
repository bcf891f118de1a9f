//! `[listen] trusted_proxies`: whose word about a client's address is taken.
//!
//! Whoever is in one of these networks can pass for any client, so a network is refused where a typing
//! error would trust more than was meant.

use std::net::IpAddr;

use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::Section;
use crate::domain::identifiers::IpNetwork;

const NAME: &str = "trusted_proxies";
/// Each new connection is compared with all of them.
const NETWORKS_MAX: usize = 64;
/// The widest network of IPv4, as large as 10.0.0.0/8.
const PREFIX_V4_MIN: u8 = 8;
/// The widest network of IPv6, as large as `fc00::/7`.
const PREFIX_V6_MIN: u8 = 7;
/// The prefix of IPv4-mapped addresses; a wider network than that is an IPv6 one.
const PREFIX_MAPPED: u8 = 96;

/// The networks of trusted proxies, each fault on a line of its own.
pub(in crate::config) fn trusted_proxies(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
) -> Vec<IpNetwork> {
    const NETWORK: ExpectedValue = shape("a network, ADDRESS/BITS", "\"10.0.3.0/24\"");
    let found = s.list(r, NAME, NETWORK, |text| text.parse().ok());
    let subject = s.subject(NAME);
    if let Some(first) = found.get(NETWORKS_MAX) {
        let expected = format!("at most {NETWORKS_MAX} networks");
        let count = found.len().to_string();
        let advice = "name wider networks instead of single addresses";
        r.fault(first.line, &subject, &expected, &count, advice);
    }
    let mut networks: Vec<IpNetwork> = Vec::with_capacity(found.len());
    for Located { value, line } in found {
        let found = format!("\"{value}\"");
        if let Some((expected, advice)) = fault(value, &networks) {
            r.fault(line, &subject, expected, &found, &advice);
        }
        networks.push(value);
    }
    networks
}

/// What is wrong with a network, if anything: what was expected, and the advice.
fn fault(network: IpNetwork, before: &[IpNetwork]) -> Option<(&'static str, String)> {
    let (masked, alone) = (network.masked(), network.of_host());
    if let Some(v4) = mapped(network) {
        let advice = format!("write \"{v4}\": connections from there are compared as IPv4");
        return Some(("no IPv4-mapped network", advice));
    }
    let narrowest_max = match network.address() {
        IpAddr::V4(_) => PREFIX_V4_MIN,
        IpAddr::V6(_) => PREFIX_V6_MIN,
    };
    if network.prefix() < narrowest_max {
        let expected = "a network of /8 or narrower (IPv6: /7)";
        let advice = "name the balancers' own network: whoever connects from here is believed about \
                      the address of every client";
        return Some((expected, advice.to_owned()));
    }
    if masked != network {
        let advice = format!("write \"{masked}\" for the network, or \"{alone}\" for this address");
        return Some(("a network without host bits", advice));
    }
    if before.contains(&network) {
        return Some(("each network once", "remove one of the two".to_owned()));
    }
    None
}

/// The IPv4 network that an IPv4-mapped one means.
fn mapped(network: IpNetwork) -> Option<String> {
    let address = network.address();
    let prefix = network.prefix().checked_sub(PREFIX_MAPPED)?;
    let v4 = Some(address.to_canonical()).filter(|v4| address.is_ipv6() && v4.is_ipv4())?;
    Some(format!("{v4}/{prefix}"))
}
