//! The payer's own address, for institutions that want it from our page.
//!
//! `X-Forwarded-For` is text that anybody can send, so it counts only from the right, and only behind
//! proxies that we trust: each trusted one has appended the address that it saw.

use std::net::IpAddr;

use http::HeaderMap;

use crate::api::{AddressSource, Peer};
use crate::domain::identifiers::IpNetwork;

const FORWARDED_FOR: &str = "x-forwarded-for";
/// Trusted proxies in a row, at most.
const PROXIES_MAX: usize = 16;

/// The address of the payer whose browser sent this request: the client's of the connection, or, where that
/// is itself a trusted proxy named by a PROXY protocol header, the rightmost one of `X-Forwarded-For` that is
/// not. Whatever cannot be read ends the search, and the connection's stays.
///
/// Shape: canonical, without port or zone. Personal.
pub fn payer_address(peer: &Peer, headers: &HeaderMap, trusted: &[IpNetwork]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    match peer.source {
        AddressSource::TrustedProxy if is_trusted(peer.address) => (),
        AddressSource::TrustedProxy | AddressSource::Connection => return peer.address,
    }
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut addresses = entries.map(address).take(PROXIES_MAX);
    let payer = addresses.find(|address| !address.is_some_and(is_trusted));
    payer.flatten().unwrap_or(peer.address)
}

fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry.trim_ascii()).ok()?;
    let address: IpAddr = text.parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const PAYER: &str = "203.0.113.9";
    const PROXY: &str = "10.0.3.7";

    /// The payer's address of a request with these lines of `X-Forwarded-For`.
    fn payer(address: &str, source: AddressSource, lines: &[&str]) -> String {
        let trusted = ["10.0.3.0/24", "fd00::/64"].map(|text| text.parse().unwrap());
        let peer = Peer {
            address: address.parse().unwrap(),
            source,
            certificate: None,
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        payer_address(&peer, &headers, &trusted).to_string()
    }

    /// The header says nothing where no trusted proxy spoke, or where that names an untrusted client: the
    /// client itself may have sent it.
    #[test]
    fn a_client_cannot_choose_its_address() {
        for (address, source) in [
            (PAYER, AddressSource::Connection),
            (PAYER, AddressSource::TrustedProxy),
            // Its connection began without a header, so nobody vouched for it.
            (PROXY, AddressSource::Connection),
        ] {
            assert_eq!(payer(address, source, &["198.51.100.1"]), address);
        }
    }

    /// Behind trusted proxies the payer is the rightmost address that is none of them, in whatever lines it
    /// came; what stands left of it is the payer's own text.
    #[test]
    fn the_rightmost_untrusted_address_is_the_payers() {
        let behind = |lines: &[&str]| payer(PROXY, AddressSource::TrustedProxy, lines);
        for lines in [
            &[PAYER][..],
            &["198.51.100.1, 203.0.113.9"],
            &["198.51.100.1", "203.0.113.9"],
            &["203.0.113.9,10.0.3.8 , fd00::1"],
            &["203.0.113.9", "10.0.3.8"],
            &["nonsense, ::ffff:203.0.113.9, ::ffff:10.0.3.8"],
        ] {
            assert_eq!(behind(lines), PAYER, "{lines:?}");
        }
        assert_eq!(behind(&["2001:db8::1"]), "2001:db8::1");
    }

    /// What cannot be read is not passed over: behind it anything may stand.
    #[test]
    fn an_unreadable_entry_ends_the_search() {
        let behind = |line: &str| payer(PROXY, AddressSource::TrustedProxy, &[line]);
        let many = format!("{PAYER}{}", ",10.0.3.8".repeat(PROXIES_MAX));
        for line in [
            "",
            "203.0.113.9, unknown",
            "203.0.113.9,",
            "203.0.113.9:80",
            "10.0.3.8",
            &many,
        ] {
            assert_eq!(behind(line), PROXY, "{line}");
        }
        assert_eq!(payer(PROXY, AddressSource::TrustedProxy, &[]), PROXY);
    }
}
