//! How a name becomes a connection: all its addresses are tried within the time, and one that does
//! not respond delays none of the others (RFC 8305).
//!
//! Nothing of a request is written here, so parallel attempts send nothing twice (E1).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::party_client::TargetOrigin;
use super::{local_shortage, not_sent};
use crate::world::SendError;

/// The most addresses of one name that are tried. A longer list is treated as abuse.
pub(super) const ADDRESSES_MAX: usize = 16;
/// How long after an unanswered attempt the next address is tried in parallel (RFC 8305, 5). Less
/// if otherwise not all would be tried in time.
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// How long an address that accepted the connection has for the handshake: at a distance it takes
/// three round trips.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(1);

/// The addresses of a name, in the order in which they are tried.
///
/// # Errors
/// [`SendError::LocalShortage`] if the lookup could not be made, [`SendError::NotSent`] if the name
/// does not exist.
pub(super) async fn addresses(
    target: &TargetOrigin,
    by: Instant,
) -> Result<Vec<SocketAddr>, SendError> {
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    let too_late = |_| local_shortage("the name was not resolved in time");
    let place = timeout_at(by, LOOKUPS.acquire()).await.map_err(too_late)?;
    let place = place.map_err(local_shortage)?;
    let name = (target.host.clone(), target.port);
    let looking = tokio::task::spawn_blocking(move || {
        let found = name.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        drop(place);
        found
    });
    match timeout_at(by, looking).await.map_err(too_late)? {
        Ok(Ok(found)) => Ok(interleaved(found.into_iter())),
        Ok(Err(error)) => Err(unresolved(error)),
        Err(stopped) => Err(local_shortage(stopped)),
    }
}

/// Concurrent name lookups. The system keeps waiting for a silent name server long after the call
/// gave up; each lookup occupies a thread and a socket meanwhile, which others need.
static LOOKUPS: Semaphore = Semaphore::const_new(64);

/// A system without free sockets reports that a name does not exist or that it cannot be resolved
/// at present; the latter also if no name server responds. None of this is a sign of the party's
/// health.
fn unresolved(error: io::Error) -> SendError {
    let at_present = error.to_string().contains("Temporary failure");
    if at_present || is_shortage(&error) || !may_open_another() {
        local_shortage(error)
    } else {
        not_sent(error)
    }
}

fn may_open_another() -> bool {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).is_ok()
}

/// Whether this machine, not the other party, is why a socket was not opened or connected.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let ours = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::AGAIN,
    ];
    Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno))
}

/// Alternates the address families, beginning with the resolver's preferred one (RFC 8305, 4): one
/// family may be entirely unreachable.
fn interleaved(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (mut first, mut second) = (VecDeque::new(), VecDeque::new());
    let mut favourite = None;
    for address in found {
        let of_first = *favourite.get_or_insert(address.is_ipv4()) == address.is_ipv4();
        let family = if of_first { &mut first } else { &mut second };
        if !family.contains(&address) {
            family.push_back(address);
        }
    }
    let mut ordered = Vec::with_capacity(first.len().saturating_add(second.len()));
    while !(first.is_empty() && second.is_empty()) {
        ordered.extend(first.pop_front());
        ordered.extend(second.pop_front());
    }
    ordered
}

/// One TCP connection.
///
/// # Errors
/// [`SendError::LocalShortage`] or [`SendError::NotSent`].
pub(super) async fn tcp(address: SocketAddr) -> Result<TcpStream, SendError> {
    let connected = TcpStream::connect(address).await;
    connected
        .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
        .map_err(|error| {
            // No local port is free; for IPv6 it means that this machine has no IPv6 address.
            let no_port =
                address.is_ipv4() && Errno::from_io_error(&error) == Some(Errno::ADDRNOTAVAIL);
            if no_port || is_shortage(&error) {
                local_shortage(error)
            } else {
                not_sent(error)
            }
        })
}

/// The first attempt that succeeds. The next address is tried when all before it have failed or not
/// responded for a while; an attempt notifies when its address accepted the connection.
///
/// `company` limits the sockets besides the first of each call; if none is free, the next address
/// replaces the unresponsive one.
///
/// # Errors
/// A local shortage if there was one, else the last failure, or that none connected in time.
pub(super) async fn first_of<T, F>(
    addresses: Vec<SocketAddr>,
    by: Instant,
    company: &Arc<Semaphore>,
    attempt: impl Fn(SocketAddr, Arc<Notify>) -> F,
) -> Result<T, SendError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, SendError>> + Send + 'static,
{
    let left = by.saturating_duration_since(Instant::now());
    let shares = u32::try_from(addresses.len())
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    let step = NEXT_AFTER.min(left.checked_div(shares).unwrap_or_default());
    let mut untried = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let wake_up = Arc::new(Notify::new());
    let mut failed = not_sent("the name has no address that may be called");
    let mut next = untried.next();
    let mut next_at = by;
    loop {
        if let Some(address) = next.take() {
            let extra_socket = Arc::clone(company).try_acquire_owned();
            if extra_socket.is_err() {
                attempts.abort_all();
            }
            let trying = attempt(address, Arc::clone(&wake_up));
            attempts.spawn(async move {
                let _extra_socket = extra_socket;
                trying.await
            });
            next_at = Instant::now().checked_add(step).unwrap_or(by);
        }
        let until = if untried.len() > 0 {
            next_at.min(by)
        } else {
            by
        };
        tokio::select! {
            ended = timeout_at(until, attempts.join_next()) => match ended {
                Ok(Some(Ok(Ok(connected)))) => return Ok(connected),
                Ok(Some(Ok(Err(why)))) => {
                    failed = prefer_shortage(failed, why);
                    next = untried.next();
                }
                // Aborted in favour of the next one.
                Ok(Some(Err(_))) => (),
                Ok(None) => match untried.next() {
                    Some(address) => next = Some(address),
                    None => return Err(failed),
                },
                Err(_) if until < by => next = untried.next(),
                Err(_) => return Err(prefer_shortage(failed, not_sent("no connection in time"))),
            },
            () = wake_up.notified() => {
                // No longer than leaves the other addresses their time.
                let now = Instant::now();
                let left = by.saturating_duration_since(now);
                let shares = u32::try_from(untried.len()).unwrap_or(u32::MAX).saturating_add(1);
                let wait = HANDSHAKE_WITHIN.min(left.checked_div(shares).unwrap_or_default());
                next_at = now.checked_add(wait).unwrap_or(by);
            }
        }
    }
}

/// If a local shortage prevented an attempt, nothing is known about the party.
fn prefer_shortage(before: SendError, after: SendError) -> SendError {
    match before {
        SendError::LocalShortage(_) => before,
        SendError::NotSent(_) | SendError::Throttled(_) | SendError::Unknown(_) => after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 443))
    }

    async fn raced(
        addresses: &[u8],
        company: usize,
        within: Duration,
        attempt: impl Fn(u8) -> Option<Result<u8, SendError>>,
    ) -> Result<u8, SendError> {
        let company = Arc::new(Semaphore::new(company));
        let by = Instant::now().checked_add(within).unwrap();
        let addresses = addresses.iter().map(|last| at(*last)).collect();
        first_of(addresses, by, &company, |address, _| {
            let IpAddr::V4(v4) = address.ip() else {
                panic!("{address}");
            };
            let result = attempt(v4.octets()[3]);
            async move {
                match result {
                    Some(result) => result,
                    None => std::future::pending().await,
                }
            }
        })
        .await
    }

    const PLENTY: Duration = Duration::from_mins(1);

    /// Every address is tried within the time, however many do not respond, with or without spare
    /// sockets.
    #[tokio::test]
    async fn silent_addresses_delay_no_other_address() {
        for company in [0, 1, 64] {
            let third = |last| (last == 3).then_some(Ok(last));
            assert_eq!(raced(&[1, 2, 3], company, PLENTY, third).await, Ok(3));
            let briefly = Duration::from_millis(20);
            let nobody = raced(&[1, 2], company, briefly, |_| None).await;
            assert!(matches!(nobody, Err(SendError::NotSent(_))), "{nobody:?}");
        }
        let refused = |last| {
            Some(if last == 3 {
                Ok(last)
            } else {
                Err(not_sent("refused"))
            })
        };
        assert_eq!(raced(&[1, 2, 3], 64, PLENTY, refused).await, Ok(3));
    }

    /// Addresses that accept the connection and then stay silent delay none, however many there
    /// are.
    #[tokio::test]
    async fn addresses_that_only_accept_connections_delay_no_other_address() {
        let company = Arc::new(Semaphore::new(64));
        let by = Instant::now().checked_add(Duration::from_secs(1)).unwrap();
        let addresses = [1, 2, 3, 4].map(at).into();
        let found = first_of(addresses, by, &company, |address, wake_up| async move {
            wake_up.notify_one();
            if address == at(4) {
                return Ok(4);
            }
            std::future::pending().await
        });
        assert_eq!(found.await, Ok(4));
    }

    /// H1: a local shortage at one address says nothing about the party, whatever the others
    /// report.
    #[tokio::test]
    async fn one_local_shortage_makes_the_failure_local() {
        for order in [[1, 2], [2, 1]] {
            let short = |last| {
                let result = if last == 1 {
                    local_shortage("files")
                } else {
                    not_sent("refused")
                };
                Some(Err(result))
            };
            let sent = raced(&order, 1, PLENTY, short).await;
            assert!(matches!(sent, Err(SendError::LocalShortage(_))), "{sent:?}");
        }
    }

    /// H1: errors of this machine are distinguished from errors of the other party.
    #[test]
    fn a_local_shortage_is_distinguished() {
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::NOBUFS,
            Errno::AGAIN,
        ] {
            assert!(is_shortage(&errno.into()), "{errno}");
        }
        for errno in [
            Errno::CONNREFUSED,
            Errno::TIMEDOUT,
            Errno::HOSTUNREACH,
            Errno::CONNRESET,
        ] {
            assert!(!is_shortage(&errno.into()), "{errno}");
        }
        let failed = |text: &str| unresolved(io::Error::other(text));
        let passing = "failed to lookup address information: Temporary failure in name resolution";
        assert!(matches!(failed(passing), SendError::LocalShortage(_)));
        let none = "failed to lookup address information: Name or service not known";
        assert!(matches!(failed(none), SendError::NotSent(_)));
    }

    /// RFC 8305, 4: the families take turns.
    #[test]
    fn address_families_alternate() {
        let found = ["[::1]:1", "[::2]:1", "[::1]:1", "127.0.0.1:1", "[::3]:1"];
        let found = found.iter().map(|text| text.parse().unwrap());
        let ordered: Vec<_> = interleaved(found).iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]);
    }
}
