//! How a name becomes a connection: all its addresses are tried within the time, and one that is
//! silent holds up none of the others (RFC 8305).
//!
//! Nothing of a request is written here, so trying several at once sends nothing twice (E1).

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

/// Addresses of one name that are tried. More are the directory of somebody who wants us busy.
pub(super) const ADDRESSES_MAX: usize = 16;
/// An address that has not taken the connection so long after it was tried gets company (RFC 8305,
/// 5). Less where so many would not all be tried in time.
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// One that took the connection has so long for the handshake: far away it takes three round trips.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(1);

/// The addresses of a name, in the order in which they are tried.
///
/// # Errors
/// [`SendError::LocalShortage`] if nobody could be asked, [`SendError::NotSent`] if there is no such
/// name.
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

/// Names that are looked up at once. The system goes on asking a silent name server long after the call
/// that wanted it has given up; each holds a thread and a socket so long, of which others need some.
static LOOKUPS: Semaphore = Semaphore::const_new(64);

/// A system that is short of sockets says of a name that it does not exist, or that it cannot be
/// resolved at present; the latter it says as well if no name server answers. None of it is a sign
/// of how the party fares.
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

/// Whether this machine, not the other, is why a socket was not opened or connected.
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

/// The families take turns, the resolver's favourite first (RFC 8305, 4): where one family leads
/// nowhere, all its addresses may.
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
            // No port of ours is left; said of IPv6 it means that there is none on this machine.
            let no_port =
                address.is_ipv4() && Errno::from_io_error(&error) == Some(Errno::ADDRNOTAVAIL);
            if no_port || is_shortage(&error) {
                local_shortage(error)
            } else {
                not_sent(error)
            }
        })
}

/// The first attempt that succeeds. Each next address is begun when all before it have failed, or
/// have been silent for a while; an attempt says by its bell that its address took the connection.
///
/// `company` are the sockets that may be open beside the one each call counts on; without one left,
/// the next address takes the place of the silent one.
///
/// # Errors
/// Our own shortage if there was one, or else why the last one failed, or that none was in time.
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
            let beside = Arc::clone(company).try_acquire_owned();
            if beside.is_err() {
                attempts.abort_all();
            }
            let trying = attempt(address, Arc::clone(&wake_up));
            attempts.spawn(async move {
                let _beside = beside;
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
                // Given up for the next one.
                Ok(Some(Err(_))) => (),
                Ok(None) => match untried.next() {
                    Some(address) => next = Some(address),
                    None => return Err(failed),
                },
                Err(_) if until < by => next = untried.next(),
                Err(_) => return Err(prefer_shortage(failed, not_sent("no connection in time"))),
            },
            () = wake_up.notified() => {
                // No longer than leaves the others their time.
                let now = Instant::now();
                let left = by.saturating_duration_since(now);
                let shares = u32::try_from(untried.len()).unwrap_or(u32::MAX).saturating_add(1);
                let wait = HANDSHAKE_WITHIN.min(left.checked_div(shares).unwrap_or_default());
                next_at = now.checked_add(wait).unwrap_or(by);
            }
        }
    }
}

/// Where one address was not reached for a lack of ours, nothing is known of the party.
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
        (addresses, company, within): (&[u8], usize, Duration),
        attempt: impl Fn(u8) -> Option<Result<u8, SendError>>,
    ) -> Result<u8, SendError> {
        let company = Arc::new(Semaphore::new(company));
        let by = Instant::now().checked_add(within).unwrap();
        let addresses = addresses.iter().map(|last| at(*last)).collect();
        first_of(addresses, by, &company, |address, _| {
            let IpAddr::V4(v4) = address.ip() else {
                panic!("{address}");
            };
            let said = attempt(v4.octets()[3]);
            async move {
                match said {
                    Some(said) => said,
                    None => std::future::pending().await,
                }
            }
        })
        .await
    }

    const PLENTY: Duration = Duration::from_mins(1);

    /// Every address is tried within the time, however many of them are silent, and whether there
    /// are sockets to spare or not.
    #[tokio::test]
    async fn silent_addresses_delay_no_other_address() {
        for company in [0, 1, 64] {
            let third = |last| (last == 3).then_some(Ok(last));
            assert_eq!(raced((&[1, 2, 3], company, PLENTY), third).await, Ok(3));
            let briefly = Duration::from_millis(20);
            let nobody = raced((&[1, 2], company, briefly), |_| None).await;
            assert!(matches!(nobody, Err(SendError::NotSent(_))), "{nobody:?}");
        }
        let refused = |last| {
            Some(if last == 3 {
                Ok(last)
            } else {
                Err(not_sent("refused"))
            })
        };
        assert_eq!(raced((&[1, 2, 3], 64, PLENTY), refused).await, Ok(3));
    }

    /// Addresses that take the connection and say nothing more hold up none, however many they are.
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

    /// H1: a lack of ours on the way to one address is no news of the party, whatever the others say.
    #[tokio::test]
    async fn one_local_shortage_makes_the_failure_local() {
        for order in [[1, 2], [2, 1]] {
            let short = |last| {
                let said = if last == 1 {
                    local_shortage("files")
                } else {
                    not_sent("refused")
                };
                Some(Err(said))
            };
            let sent = raced((&order, 1, PLENTY), short).await;
            assert!(matches!(sent, Err(SendError::LocalShortage(_))), "{sent:?}");
        }
    }

    /// H1: what a system says when it is short of something is told apart from what it says of others.
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
