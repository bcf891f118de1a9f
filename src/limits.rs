//! Rate limits per caller and address: governor, under our clock.
//!
//! They count; they never wait and never authenticate. A claimed name never uses up its owner's
//! allowance: before the signature is verified, only certificate and address count (Q1).
//! Permits of institutions, for which calls do wait, are in `limits/permits.rs`.

pub mod bound;
mod explanations;
mod made_actions;
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

use crate::domain::identifiers::{MerchantId, PayOrderNo};
use crate::domain::merchant::CertificateDigest;
pub use crate::limits::explanations::ExplanationLimits;
use crate::metrics::Metrics;
use crate::world::Clock;

/// Above this many remembered addresses, those whose allowance is full again are forgotten.
const ADDRESSES_MAX: usize = 65_536;
/// How many checks lie between two looks at that number.
const CHECKS_BETWEEN_SWEEPS: u64 = 4_096;

/// A rate and its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The sustained rate.
    pub per_second: NonZeroU32,
    /// The most at once, after a quiet time.
    pub burst: NonZeroU32,
}

impl Rate {
    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

/// The rate limits in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// Per certificate, before the signature is verified.
    pub certificate: Rate,
    /// Per address without a certificate. IPv6 counts by its /64, which one subscriber holds.
    pub address: Rate,
    /// Per merchant, after the signature is verified.
    pub merchant: Rate,
}

/// How long to wait before trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub Duration);

/// All rate limits of one gateway.
pub struct CallerLimits {
    live: ArcSwap<RateLimiters>,
    made_actions: Keyed<PayOrderNo>,
    ticks: GovernorClock,
    checks: AtomicU64,
    metrics: Option<Arc<Metrics>>,
}

/// The limiters in force, and the rates they were created with.
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
    /// Starts with full allowances.
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
            made_actions: made_actions::limiter_of_orders(&ticks),
            ticks,
            checks: AtomicU64::new(0),
            metrics: None,
        }
    }

    /// Counts rejections there.
    #[must_use]
    pub fn counted_by(self, metrics: Arc<Metrics>) -> Self {
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// Replaces the rates at once (F1). Counts under an unchanged rate continue; under a changed
    /// rate, allowances start full.
    pub fn replace(&self, settings: &LimitSettings) {
        let before = self.live.load();
        let (was, now) = (before.settings, *settings);
        let next = RateLimiters {
            settings: now,
            unauthenticated_callers: renewed(
                &before.unauthenticated_callers,
                was.address,
                now.address,
                &self.ticks,
            ),
            certificates: renewed(
                &before.certificates,
                was.certificate,
                now.certificate,
                &self.ticks,
            ),
            merchants: renewed(&before.merchants, was.merchant, now.merchant, &self.ticks),
        };
        self.live.store(Arc::new(next));
    }

    /// Counts a request before the caller has proven more than the key of a certificate.
    ///
    /// # Errors
    /// [`Wait`] if the rate is exceeded; nothing was counted then.
    pub fn check_rate(
        &self,
        address: IpAddr,
        certificate: Option<&CertificateDigest>,
    ) -> Result<(), Wait> {
        let counts = self.live.load();
        let checks = self.checks.fetch_add(1, Ordering::Relaxed);
        if checks.is_multiple_of(CHECKS_BETWEEN_SWEEPS) {
            counts.sweep();
        }
        match certificate {
            Some(digest) => self.counted("certificate", check(&counts.certificates, digest)),
            None => self.counted(
                "address",
                check(&counts.unauthenticated_callers, &unauthenticated(address)),
            ),
        }
    }

    /// Counts a request of a merchant whose signature was verified.
    ///
    /// # Errors
    /// [`Wait`] if the rate is exceeded; nothing was counted then.
    pub fn admit(&self, merchant: &MerchantId) -> Result<(), Wait> {
        let counts = self.live.load();
        self.counted("merchant", check(&counts.merchants, merchant))
    }

    fn counted(&self, kind: &'static str, outcome: Result<(), Wait>) -> Result<(), Wait> {
        if let (Err(_), Some(metrics)) = (&outcome, &self.metrics) {
            metrics.front.limited(kind);
        }
        outcome
    }
}

impl RateLimiters {
    /// Bounds memory by recent activity: an attacker can make certificates for free.
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
    was: Rate,
    now: Rate,
    ticks: &GovernorClock,
) -> Arc<Keyed<K>> {
    if was == now {
        Arc::clone(known)
    } else {
        keyed(now, ticks)
    }
}

fn keyed<K: Hash + Eq + Clone>(rate: Rate, ticks: &GovernorClock) -> Arc<Keyed<K>> {
    Arc::new(limiter(rate.quota(), ticks))
}

fn limiter<K: Hash + Eq + Clone>(quota: Quota, ticks: &GovernorClock) -> Keyed<K> {
    RateLimiter::new(quota, DashMapStateStore::default(), ticks.clone())
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

/// Our clock in governor's form, monotonic: after a jump backwards it stands still for one reading
/// and then advances; a jump forwards refills the allowances (T2).
#[derive(Clone)]
struct GovernorClock {
    clock: Arc<dyn Clock>,
    /// The last reading and the time counted until then, in milliseconds.
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

    /// Q1: each caller counts under what it has proven, and nobody uses up another's allowance.
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

    /// The addresses of one subscriber count as one.
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

    /// F1: changed rates apply at once, and counts under unchanged rates continue.
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

    /// T2: a wall clock that jumps back makes nobody wait longer.
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
