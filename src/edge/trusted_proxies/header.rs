//! One PROXY protocol v2 header, read to its last byte and not further: what follows is the client's TLS.
//!
//! Judged with every byte that arrives, so that a peer without a header is not waited for.

use std::net::IpAddr;

use ppp::v2::{AddressFamily, Addresses, Command, Header, ParseError, Protocol};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of a header up to and including its length.
const FIXED_BYTES: usize = 16;
/// Bytes of a whole header, with the balancer's own fields (TLV) behind the addresses. Real ones have 28 to
/// a few hundred.
pub(super) const HEADER_BYTES_MAX: usize = 4_096;
/// What a header of version 1 begins with.
const VERSION_1: &[u8] = b"PROXY ";

/// Whom a header names as the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderSource {
    /// This address.
    Address(IpAddr),
    /// The proxy itself, for a health check of its own or a client whose address it does not know.
    Proxy,
}

/// Why a header is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// The connection does not begin with one.
    Missing,
    /// It is of version 1, which is text.
    VersionOne,
    /// The connection ended before it was whole.
    Cut,
    /// It was not whole in the time of a handshake.
    Slow,
    /// It is longer than [`HEADER_BYTES_MAX`].
    TooLong,
    /// It is valid and names no client of TCP: a UNIX socket or datagrams.
    Unsupported,
    /// It breaks the protocol.
    Invalid,
}

impl HeaderFault {
    /// The label of the metric.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::VersionOne => "v1",
            Self::Cut => "cut",
            Self::Slow => "slow",
            Self::TooLong => "too_long",
            Self::Unsupported => "unsupported",
            Self::Invalid => "invalid",
        }
    }
}

/// What the bytes so far say.
enum HeaderProgress {
    Whole(HeaderSource),
    /// It has so many bytes at least.
    Needs(usize),
}

/// Reads one header and nothing behind it.
pub(super) async fn read_header<S>(stream: &mut S) -> Result<HeaderSource, HeaderFault>
where
    S: AsyncRead + Unpin,
{
    let mut header = Vec::with_capacity(FIXED_BYTES);
    loop {
        let needs = match judge(&header)? {
            HeaderProgress::Whole(source) => return Ok(source),
            HeaderProgress::Needs(bytes) => bytes,
        };
        let rest = u64::try_from(needs.saturating_sub(header.len())).unwrap_or(0);
        let read = (&mut *stream).take(rest).read_buf(&mut header).await;
        if !matches!(read, Ok(1..)) {
            return Err(HeaderFault::Cut);
        }
    }
}

fn judge(bytes: &[u8]) -> Result<HeaderProgress, HeaderFault> {
    match Header::try_from(bytes) {
        Ok(header) => source(&header).map(HeaderProgress::Whole),
        Err(ParseError::Incomplete(_)) => Ok(HeaderProgress::Needs(FIXED_BYTES)),
        Err(ParseError::Partial(_, length)) => {
            let whole = FIXED_BYTES.saturating_add(length);
            if whole > HEADER_BYTES_MAX {
                return Err(HeaderFault::TooLong);
            }
            Ok(HeaderProgress::Needs(whole))
        }
        Err(ParseError::Prefix) if is_version_1(bytes) => Err(HeaderFault::VersionOne),
        Err(ParseError::Prefix) => Err(HeaderFault::Missing),
        Err(_) => Err(HeaderFault::Invalid),
    }
}

fn is_version_1(bytes: &[u8]) -> bool {
    bytes.starts_with(VERSION_1) || VERSION_1.starts_with(bytes)
}

/// The protocol's combinations and no others: a stream over IP, or neither family nor transport.
fn source(header: &Header<'_>) -> Result<HeaderSource, HeaderFault> {
    if header.command == Command::Local {
        return Ok(HeaderSource::Proxy);
    }
    match (&header.addresses, header.protocol) {
        (Addresses::IPv4(ends), Protocol::Stream) => {
            Ok(HeaderSource::Address(ends.source_address.into()))
        }
        // An IPv4-mapped address is the client's IPv4 address.
        (Addresses::IPv6(ends), Protocol::Stream) => {
            let address = IpAddr::from(ends.source_address);
            Ok(HeaderSource::Address(address.to_canonical()))
        }
        (Addresses::Unspecified, Protocol::Unspecified) => Ok(HeaderSource::Proxy),
        (addresses, Protocol::Stream | Protocol::Datagram)
            if addresses.address_family() != AddressFamily::Unspecified =>
        {
            Err(HeaderFault::Unsupported)
        }
        (_, Protocol::Unspecified | Protocol::Stream | Protocol::Datagram) => {
            Err(HeaderFault::Invalid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// A header with this command and family, and these bytes behind its length.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    fn v4(source: [u8; 4]) -> Vec<u8> {
        [source, [10, 0, 0, 1], [1, 2, 1, 187]].concat()
    }

    fn v6(source: &str) -> Vec<u8> {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        [source.octets().as_slice(), &[0; 16], &[1, 2, 1, 187]].concat()
    }

    async fn read(bytes: &[u8]) -> Result<HeaderSource, HeaderFault> {
        read_header(&mut &*bytes).await
    }

    /// Only a stream over IP has a client's address; the balancer's own connections keep its own.
    #[tokio::test]
    async fn each_family_and_command_has_one_meaning() {
        let address = |text: &str| Ok(HeaderSource::Address(text.parse().unwrap()));
        let (from, unix) = (v4([192, 0, 2, 7]), vec![b'/'; 216]);
        for (header, meaning) in [
            (header(0x21, 0x11, &from), address("192.0.2.7")),
            (
                header(0x21, 0x21, &v6("2001:db8::7")),
                address("2001:db8::7"),
            ),
            (
                header(0x21, 0x21, &v6("::ffff:192.0.2.7")),
                address("192.0.2.7"),
            ),
            // A field of the balancer's own behind the addresses.
            (
                header(0x21, 0x11, &[&from[..], &[4, 0, 1, 0]].concat()),
                address("192.0.2.7"),
            ),
            (header(0x20, 0x00, &[]), Ok(HeaderSource::Proxy)),
            (header(0x20, 0x11, &from), Ok(HeaderSource::Proxy)),
            (header(0x20, 0x31, &unix), Ok(HeaderSource::Proxy)),
            (header(0x21, 0x00, &[]), Ok(HeaderSource::Proxy)),
            (header(0x21, 0x00, &[9; 40]), Ok(HeaderSource::Proxy)),
            (header(0x21, 0x31, &unix), Err(HeaderFault::Unsupported)),
            (header(0x21, 0x32, &unix), Err(HeaderFault::Unsupported)),
            (header(0x21, 0x12, &from), Err(HeaderFault::Unsupported)),
            // Combinations that the protocol does not have.
            (header(0x21, 0x10, &from), Err(HeaderFault::Invalid)),
            (header(0x21, 0x01, &[]), Err(HeaderFault::Invalid)),
            (header(0x21, 0x41, &from), Err(HeaderFault::Invalid)),
            (header(0x21, 0x13, &from), Err(HeaderFault::Invalid)),
            (header(0x22, 0x11, &from), Err(HeaderFault::Invalid)),
            (header(0x11, 0x11, &from), Err(HeaderFault::Invalid)),
            // Fewer bytes than its addresses have.
            (header(0x21, 0x11, &from[..11]), Err(HeaderFault::Invalid)),
        ] {
            assert_eq!(read(&header).await, meaning, "{header:?}");
        }
    }

    /// A header is refused at the first byte that no header of version 2 has there, and at its length,
    /// before what it announces has come.
    #[tokio::test]
    async fn what_is_no_header_is_not_waited_for() {
        let whole = header(0x21, 0x11, &v4([192, 0, 2, 7]));
        let longest = HEADER_BYTES_MAX - FIXED_BYTES;
        let announced = |bytes: usize| {
            let mut announced = header(0x21, 0x11, &vec![0; bytes]);
            announced.truncate(FIXED_BYTES);
            announced
        };
        for (bytes, fault) in [
            (&b"\x16\x03\x01"[..], HeaderFault::Missing),
            (b"GET / HTTP/1.1\r\n", HeaderFault::Missing),
            (b"\r\n\r\n\0\r\nQUIT\r", HeaderFault::Missing),
            (
                b"PROXY TCP4 192.0.2.7 10.0.0.1 5 443\r\n",
                HeaderFault::VersionOne,
            ),
            (b"P", HeaderFault::VersionOne),
            (b"", HeaderFault::Cut),
            (&whole[..7], HeaderFault::Cut),
            (&whole[..FIXED_BYTES], HeaderFault::Cut),
            (&whole[..whole.len() - 1], HeaderFault::Cut),
            (&announced(longest), HeaderFault::Cut),
            (&announced(longest + 1), HeaderFault::TooLong),
        ] {
            assert_eq!(read(bytes).await, Err(fault), "{bytes:?}");
        }
    }

    /// What follows a header stays in the stream, also another header.
    #[tokio::test]
    async fn nothing_behind_a_header_is_read() {
        let header = header(0x21, 0x11, &v4([192, 0, 2, 7]));
        for next in [&b"\x16\x03\x01"[..], &header] {
            let all = [&header[..], next].concat();
            let mut stream = &all[..];
            assert!(read_header(&mut stream).await.is_ok());
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, next);
        }
    }
}
