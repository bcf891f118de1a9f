//! How often a caller, an address or an institution may knock: governor, under our clock.
//!
//! Counts; never waits and never judges who somebody is. A claimed name never uses up somebody's
//! allowance: before the signature only certificate and address count (Q1, interface.md).

mod explained;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::domain::identifiers::{InstitutionId, MerchantId};
use crate::domain::merchant::CertificateDigest;
pub use crate::limits::explained::Explained;
use crate::world::Clock;

/// Past this many strangers remembered, those whose allowance is whole again are forgotten.
const STRANGERS_MAX: usize = 65_536;
/// How many knocks lie between two looks at that number.
const KNOCKS_BETWEEN_SWEEPS: u64 = 4_096;

/// A rate, and how much of it may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Evenly, over time.
    pub per_second: NonZeroU32,
    /// At once, after a quiet time.
    pub burst: NonZeroU32,
}

impl Rate {
    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

/// The rates in force.
#[derive(Debug, Clone)]
pub struct LimitSettings {
    /// One certificate, before its signature is checked.
    pub certificate: Rate,
    /// One address without a certificate. IPv6 counts by its /64, which one subscriber holds.
    pub address: Rate,
    /// One merchant, after its signature was checked.
    pub merchant: Rate,
    /// Each institution's declared `calls_per_second`, burst of one second; none: not limited.
    pub institutions: HashMap<InstitutionId, NonZeroU32>,
}

/// How long until it is worth asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub Duration);

/// All counts of one gateway.
pub struct Limits {
    strangers: Keyed<Stranger>,
    certificates: Keyed<CertificateDigest>,
    merchants: Keyed<MerchantId>,
    institutions: HashMap<InstitutionId, Keyed<()>>,
    knocks: AtomicU64,
}

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, Ticks, NoOpMiddleware<Duration>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stranger {
    V4([u8; 4]),
    V6Network(u128),
}

impl Limits {
    /// Starts with whole allowances.
    pub fn new(settings: &LimitSettings, clock: Arc<dyn Clock>) -> Self {
        let ticks = Ticks::new(clock);
        let institutions = settings
            .institutions
            .iter()
            .map(|(id, per_second)| (id.clone(), keyed(Quota::per_second(*per_second), &ticks)));
        Self {
            strangers: keyed(settings.address.quota(), &ticks),
            certificates: keyed(settings.certificate.quota(), &ticks),
            merchants: keyed(settings.merchant.quota(), &ticks),
            institutions: institutions.collect(),
            knocks: AtomicU64::new(0),
        }
    }

    /// Counts a request before anybody has proven anything but a certificate's key.
    ///
    /// # Errors
    /// [`Wait`] if it comes too soon; nothing was counted then.
    pub fn knock(
        &self,
        address: IpAddr,
        certificate: Option<&CertificateDigest>,
    ) -> Result<(), Wait> {
        let knocks = self.knocks.fetch_add(1, Ordering::Relaxed);
        if knocks.is_multiple_of(KNOCKS_BETWEEN_SWEEPS) {
            self.sweep();
        }
        match certificate {
            Some(digest) => check(&self.certificates, digest),
            None => check(&self.strangers, &stranger(address)),
        }
    }

    /// Counts a request of a merchant whose signature was checked.
    ///
    /// # Errors
    /// [`Wait`] if it comes too soon; nothing was counted then.
    pub fn admit(&self, merchant: &MerchantId) -> Result<(), Wait> {
        check(&self.merchants, merchant)
    }

    /// Counts a call to an institution. Whoever has time waits as told and asks again; whoever
    /// has not lets the call be made later.
    ///
    /// # Errors
    /// [`Wait`] if the institution's rate is used up; nothing was counted then.
    pub fn call(&self, institution: &InstitutionId) -> Result<(), Wait> {
        match self.institutions.get(institution) {
            Some(limiter) => check(limiter, &()),
            None => Ok(()),
        }
    }

    /// Keeps memory bounded by what was active lately: a certificate costs nothing to make.
    fn sweep(&self) {
        if self.strangers.len().saturating_add(self.certificates.len()) > STRANGERS_MAX {
            self.strangers.retain_recent();
            self.certificates.retain_recent();
        }
    }
}

fn keyed<K: Hash + Eq + Clone>(quota: Quota, ticks: &Ticks) -> Keyed<K> {
    RateLimiter::new(quota, DashMapStateStore::default(), ticks.clone())
}

fn check<K: Hash + Eq + Clone>(limiter: &Keyed<K>, key: &K) -> Result<(), Wait> {
    limiter
        .check_key(key)
        .map_err(|until| Wait(until.wait_time_from(limiter.clock().now())))
}

fn stranger(address: IpAddr) -> Stranger {
    match address.to_canonical() {
        IpAddr::V4(v4) => Stranger::V4(v4.octets()),
        IpAddr::V6(v6) => Stranger::V6Network(u128::from(v6) >> 64),
    }
}

/// Our clock as governor wants it: it only ever goes on. A jump backwards stands still for one
/// reading and then counts on, a jump forwards makes allowances whole (T2).
#[derive(Clone)]
struct Ticks {
    clock: Arc<dyn Clock>,
    /// The last reading and what was counted until then, in milliseconds.
    counted: Arc<Mutex<(i64, u64)>>,
}

impl Ticks {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let counted = Arc::new(Mutex::new((clock.now().ms(), 0)));
        Self { clock, counted }
    }
}

impl governor::clock::Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        let reading = self.clock.now().ms();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = u64::try_from(reading.saturating_sub(counted.0)).unwrap_or_default();
        *counted = (reading, counted.1.saturating_add(passed));
        Duration::from_millis(counted.1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;
    use crate::domain::identifiers::Timestamp;

    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_ms(self.0.load(Ordering::SeqCst))
        }

        fn started(&self) -> Timestamp {
            Timestamp::from_ms(0)
        }
    }

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    fn limits() -> (Limits, Arc<Hand>) {
        let clock = Arc::new(Hand(AtomicI64::new(1_000_000)));
        let settings = LimitSettings {
            certificate: rate(1, 2),
            address: rate(1, 1),
            merchant: rate(1, 1),
            institutions: [(InstitutionId::parse("harbour").unwrap(), NonZeroU32::MIN)].into(),
        };
        let shown: Arc<dyn Clock> = Arc::<Hand>::clone(&clock);
        (Limits::new(&settings, shown), clock)
    }

    /// Q1: each is counted under what it has proven, and nobody uses up another's allowance.
    #[test]
    fn each_caller_has_an_allowance_of_its_own() {
        let (limits, clock) = limits();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert_eq!(limits.knock(one, None), Ok(()));
        assert_eq!(limits.knock(one, None), Err(Wait(Duration::from_secs(1))));
        assert_eq!(limits.knock(other, None), Ok(()));
        assert_eq!(limits.knock(one, Some(&[1; 32])), Ok(()));
        assert_eq!(limits.knock(other, Some(&[1; 32])), Ok(()));
        assert!(limits.knock(other, Some(&[1; 32])).is_err());
        let merchant = MerchantId::parse("M1").unwrap();
        assert_eq!(limits.admit(&merchant), Ok(()));
        assert!(limits.admit(&merchant).is_err());
        clock.0.fetch_add(1_000, Ordering::SeqCst);
        assert_eq!(limits.knock(one, None), Ok(()));
        assert_eq!(limits.admit(&merchant), Ok(()));
    }

    /// One subscriber's addresses count as one.
    #[test]
    fn addresses_of_one_network_share_an_allowance() {
        let (limits, _) = limits();
        assert_eq!(limits.knock("2001:db8::1".parse().unwrap(), None), Ok(()));
        assert!(limits.knock("2001:db8::2".parse().unwrap(), None).is_err());
        assert_eq!(
            limits.knock("2001:db8:0:1::1".parse().unwrap(), None),
            Ok(())
        );
        assert_eq!(limits.knock("192.0.2.1".parse().unwrap(), None), Ok(()));
        assert!(
            limits
                .knock("::ffff:192.0.2.1".parse().unwrap(), None)
                .is_err()
        );
    }

    /// The declared rate of an institution bounds our calls; an undeclared one is not limited.
    #[test]
    fn calls_keep_to_the_declared_rate() {
        let (limits, clock) = limits();
        let harbour = InstitutionId::parse("harbour").unwrap();
        assert_eq!(limits.call(&harbour), Ok(()));
        assert_eq!(limits.call(&harbour), Err(Wait(Duration::from_secs(1))));
        clock.0.fetch_add(400, Ordering::SeqCst);
        assert_eq!(limits.call(&harbour), Err(Wait(Duration::from_millis(600))));
        let free = InstitutionId::parse("free").unwrap();
        assert_eq!(limits.call(&free), Ok(()));
        assert_eq!(limits.call(&free), Ok(()));
    }

    /// T2: a wall clock that jumps back makes nobody wait longer than before it.
    #[test]
    fn a_clock_that_jumps_back_prolongs_no_wait() {
        let (limits, clock) = limits();
        let merchant = MerchantId::parse("M1").unwrap();
        assert_eq!(limits.admit(&merchant), Ok(()));
        clock.0.store(5, Ordering::SeqCst);
        assert_eq!(limits.admit(&merchant), Err(Wait(Duration::from_secs(1))));
        clock.0.fetch_add(1_000, Ordering::SeqCst);
        assert_eq!(limits.admit(&merchant), Ok(()));
    }
}
