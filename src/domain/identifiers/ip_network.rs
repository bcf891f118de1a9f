//! A network of addresses, as the configuration names it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::Malformed;

/// Bits of an IPv4 address.
const BITS_V4: u8 = 32;
/// Bits of an IPv6 address.
const BITS_V6: u8 = 128;

/// A network: `127.0.0.0/8`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpNetwork {
    address: IpAddr,
    prefix: u8,
}

impl FromStr for IpNetwork {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || Malformed {
            expected: "a network such as 127.0.0.0/8",
        };
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
        let network = Self { address, prefix };
        (prefix <= network.bits())
            .then_some(network)
            .ok_or_else(malformed)
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl IpNetwork {
    /// Whether it contains an address; never one of the other address family.
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differ = u32::from(ours) ^ u32::from(theirs);
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differ = u128::from(ours) ^ u128::from(theirs);
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Any address in it, as it was written.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits its addresses have in common.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The network of this address alone.
    #[must_use]
    pub fn of_host(&self) -> Self {
        let prefix = self.bits();
        Self { prefix, ..*self }
    }

    /// The same network without host bits: `10.1.2.3/8` is `10.0.0.0/8`.
    #[must_use]
    pub fn masked(&self) -> Self {
        let prefix = u32::from(self.prefix);
        let address = match self.address {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(prefix).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !host))
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(prefix).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !host))
            }
        };
        Self { address, ..*self }
    }

    fn bits(&self) -> u8 {
        match self.address {
            IpAddr::V4(_) => BITS_V4,
            IpAddr::V6(_) => BITS_V6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network is read as `ADDRESS/BITS` and in no other form.
    #[test]
    fn only_a_whole_network_is_read() {
        for good in [
            "10.0.0.0/8",
            "192.0.2.7/32",
            "fd00::/8",
            "::1/128",
            "0.0.0.0/0",
        ] {
            assert_eq!(good.parse::<IpNetwork>().unwrap().to_string(), good);
        }
        for bad in [
            "127.0.0.1",
            "127.0.0.0/33",
            "x/8",
            "::/129",
            "10.0.0.0/",
            "fe80::%1/64",
        ] {
            assert!(bad.parse::<IpNetwork>().is_err(), "{bad}");
        }
    }

    /// Host bits are removed at any prefix, also at none and at all.
    #[test]
    fn a_masked_network_has_no_host_bits() {
        for (written, meant) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/32", "10.1.2.3/32"),
            ("10.1.2.3/0", "0.0.0.0/0"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("2001:db8::1/128", "2001:db8::1/128"),
            ("2001:db8::1/0", "::/0"),
        ] {
            let network: IpNetwork = written.parse().unwrap();
            assert_eq!(network.masked().to_string(), meant);
            assert!(network.contains(network.address()));
            assert!(network.of_host().contains(network.address()));
        }
    }
}
