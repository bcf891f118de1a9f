//! How often a caller, an address or an institution may knock: governor, under our clock.
//!
//! Counts; never waits and never judges who somebody is. A claimed name never uses up somebody's
//! allowance: before the signature only certificate and address count (Q1, interface.md). Permits
//! of institutions, where somebody does wait, are in `limits/permits.rs`.

pub mod bound;
mod explanations;
pub mod permits;

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::domain::identifiers::MerchantId;
use crate::domain::merchant::CertificateDigest;
pub use crate::limits::explanations::ExplanationLimits;
use crate::metrics::Metrics;
use crate::world::Clock;

/// Past this many strangers remembered, those whose allowance is whole again are forgotten.
const ADDRESSES_MAX: usize = 65_536;
/// How many knocks lie between two looks at that number.
const CHECKS_BETWEEN_SWEEPS: u64 = 4_096;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// One certificate, before its signature is checked.
    pub certificate: Rate,
    /// One address without a certificate. IPv6 counts by its /64, which one subscriber holds.
    pub address: Rate,
    /// One merchant, after its signature was checked.
    pub merchant: Rate,
}

/// How long until it is worth asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub Duration);

/// All counts of one gateway.
pub struct CallerLimits {
    live: ArcSwap<RateLimiters>,
    ticks: GovernorClock,
    knocks: AtomicU64,
    metrics: Option<Arc<Metrics>>,
}

/// The counts in force, and the rates they were started with.
struct RateLimiters {
    settings: LimitSettings,
    unauthenticated_callers: Arc<Keyed<UnauthenticatedAddress>>,
    certificates: Arc<Keyed<CertificateDigest>>,
    merchants: Arc<Keyed<MerchantId>>,
}

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, GovernorClock, NoOpMiddleware<Duration>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum UnauthenticatedAddress {
    V4([u8; 4]),
    V6Network(u128),
}

impl CallerLimits {
    /// Starts with whole allowances.
    pub fn new(settings: &LimitSettings, clock: Arc<dyn Clock>) -> Self {
        let ticks = GovernorClock::new(clock);
        let counts = RateLimiters {
            settings: *settings,
            unauthenticated_callers: keyed(settings.address, &ticks),
            certificates: keyed(settings.certificate, &ticks),
            merchants: keyed(settings.merchant, &ticks),
        };
        Self {
            live: ArcSwap::from_pointee(counts),
            ticks,
            knocks: AtomicU64::new(0),
            metrics: None,
        }
    }

    /// Counts refusals there.
    #[must_use]
    pub fn counted_by(self, metrics: Arc<Metrics>) -> Self {
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// Other rates, at once (F1). What is counted under a rate that stays the same stays counted;
    /// under one that changed, allowances are whole.
    pub fn replace(&self, settings: &LimitSettings) {
        let before = self.live.load();
        let (was, now) = (before.settings, *settings);
        let next = RateLimiters {
            settings: now,
            unauthenticated_callers: renewed(
                &before.unauthenticated_callers,
                (was.address, now.address),
                &self.ticks,
            ),
            certificates: renewed(
                &before.certificates,
                (was.certificate, now.certificate),
                &self.ticks,
            ),
            merchants: renewed(&before.merchants, (was.merchant, now.merchant), &self.ticks),
        };
        self.live.store(Arc::new(next));
    }

    /// Counts a request before anybody has proven anything but a certificate's key.
    ///
    /// # Errors
    /// [`Wait`] if it comes too soon; nothing was counted then.
    pub fn check_rate(
        &self,
        address: IpAddr,
        certificate: Option<&CertificateDigest>,
    ) -> Result<(), Wait> {
        let counts = self.live.load();
        let knocks = self.knocks.fetch_add(1, Ordering::Relaxed);
        if knocks.is_multiple_of(CHECKS_BETWEEN_SWEEPS) {
            counts.sweep();
        }
        match certificate {
            Some(digest) => self.judged("certificate", check(&counts.certificates, digest)),
            None => self.judged(
                "address",
                check(&counts.unauthenticated_callers, &unauthenticated(address)),
            ),
        }
    }

    /// Counts a request of a merchant whose signature was checked.
    ///
    /// # Errors
    /// [`Wait`] if it comes too soon; nothing was counted then.
    pub fn admit(&self, merchant: &MerchantId) -> Result<(), Wait> {
        let counts = self.live.load();
        self.judged("merchant", check(&counts.merchants, merchant))
    }

    fn judged(&self, kind: &'static str, judged: Result<(), Wait>) -> Result<(), Wait> {
        if let (Err(_), Some(metrics)) = (&judged, &self.metrics) {
            metrics.front.limited(kind);
        }
        judged
    }
}

impl RateLimiters {
    /// Keeps memory bounded by what was active lately: a certificate costs nothing to make.
    fn sweep(&self) {
        if self
            .unauthenticated_callers
            .len()
            .saturating_add(self.certificates.len())
            > ADDRESSES_MAX
        {
            self.unauthenticated_callers.retain_recent();
            self.certificates.retain_recent();
        }
    }
}

/// The same counts under the same rate, new ones under another.
fn renewed<K: Hash + Eq + Clone>(
    known: &Arc<Keyed<K>>,
    (was, now): (Rate, Rate),
    ticks: &GovernorClock,
) -> Arc<Keyed<K>> {
    if was == now {
        Arc::clone(known)
    } else {
        keyed(now, ticks)
    }
}

fn keyed<K: Hash + Eq + Clone>(rate: Rate, ticks: &GovernorClock) -> Arc<Keyed<K>> {
    let counts = RateLimiter::new(rate.quota(), DashMapStateStore::default(), ticks.clone());
    Arc::new(counts)
}

fn check<K: Hash + Eq + Clone>(limiter: &Keyed<K>, key: &K) -> Result<(), Wait> {
    limiter
        .check_key(key)
        .map_err(|until| Wait(until.wait_time_from(limiter.clock().now())))
}

fn unauthenticated(address: IpAddr) -> UnauthenticatedAddress {
    match address.to_canonical() {
        IpAddr::V4(v4) => UnauthenticatedAddress::V4(v4.octets()),
        IpAddr::V6(v6) => UnauthenticatedAddress::V6Network(u128::from(v6) >> 64),
    }
}

/// Our clock as governor wants it: it only ever goes on. A jump backwards stands still for one
/// reading and then counts on, a jump forwards makes allowances whole (T2).
#[derive(Clone)]
struct GovernorClock {
    clock: Arc<dyn Clock>,
    /// The last reading and what was counted until then, in milliseconds.
    counted: Arc<Mutex<(i64, u64)>>,
}

impl GovernorClock {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let counted = Arc::new(Mutex::new((clock.now().ms(), 0)));
        Self { clock, counted }
    }
}

impl governor::clock::Clock for GovernorClock {
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
    use crate::domain::identifiers::{Timestamp, Uptime};

    struct LimitsTestClock(AtomicI64);

    impl Clock for LimitsTestClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_ms(self.0.load(Ordering::SeqCst))
        }

        fn uptime(&self) -> Uptime {
            Uptime::from_ms(0)
        }
    }

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    fn limits() -> (CallerLimits, Arc<LimitsTestClock>) {
        let clock = Arc::new(LimitsTestClock(AtomicI64::new(1_000_000)));
        let settings = LimitSettings {
            certificate: rate(1, 2),
            address: rate(1, 1),
            merchant: rate(1, 1),
        };
        let shown: Arc<dyn Clock> = Arc::<LimitsTestClock>::clone(&clock);
        (CallerLimits::new(&settings, shown), clock)
    }

    /// Q1: each is counted under what it has proven, and nobody uses up another's allowance.
    #[test]
    fn each_caller_has_an_allowance_of_its_own() {
        let (limits, clock) = limits();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert_eq!(limits.check_rate(one, None), Ok(()));
        assert_eq!(
            limits.check_rate(one, None),
            Err(Wait(Duration::from_secs(1)))
        );
        assert_eq!(limits.check_rate(other, None), Ok(()));
        assert_eq!(limits.check_rate(one, Some(&[1; 32])), Ok(()));
        assert_eq!(limits.check_rate(other, Some(&[1; 32])), Ok(()));
        assert!(limits.check_rate(other, Some(&[1; 32])).is_err());
        let merchant = MerchantId::parse("M1").unwrap();
        assert_eq!(limits.admit(&merchant), Ok(()));
        assert!(limits.admit(&merchant).is_err());
        clock.0.fetch_add(1_000, Ordering::SeqCst);
        assert_eq!(limits.check_rate(one, None), Ok(()));
        assert_eq!(limits.admit(&merchant), Ok(()));
    }

    /// One subscriber's addresses count as one.
    #[test]
    fn addresses_of_one_network_share_an_allowance() {
        let (limits, _) = limits();
        assert_eq!(
            limits.check_rate("2001:db8::1".parse().unwrap(), None),
            Ok(())
        );
        assert!(
            limits
                .check_rate("2001:db8::2".parse().unwrap(), None)
                .is_err()
        );
        assert_eq!(
            limits.check_rate("2001:db8:0:1::1".parse().unwrap(), None),
            Ok(())
        );
        assert_eq!(
            limits.check_rate("192.0.2.1".parse().unwrap(), None),
            Ok(())
        );
        assert!(
            limits
                .check_rate("::ffff:192.0.2.1".parse().unwrap(), None)
                .is_err()
        );
    }

    /// F1: other rates count at once, and what did not change goes on counting.
    #[test]
    fn rates_are_replaced_and_counts_preserved() {
        let (limits, _) = limits();
        let (one, merchant) = (
            "192.0.2.1".parse().unwrap(),
            MerchantId::parse("M1").unwrap(),
        );
        assert_eq!(limits.check_rate(one, None), Ok(()));
        assert_eq!(limits.admit(&merchant), Ok(()));
        limits.replace(&LimitSettings {
            certificate: rate(1, 2),
            address: rate(1, 1),
            merchant: rate(5, 5),
        });
        assert!(limits.check_rate(one, None).is_err());
        assert_eq!(limits.admit(&merchant), Ok(()));
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
