//! How often a refusal may show the signature base we computed: enough for a person who looks for a
//! mistake, too little for a program that wants answers longer than its questions.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::merchant::CertificateDigest;
use crate::limits::{
    ADDRESSES_MAX, GovernorClock, Keyed, Rate, UnauthenticatedAddress, check, keyed, renewed,
    unauthenticated,
};
use crate::world::Clock;

/// Counts of what was explained, by caller and in all.
pub struct ExplanationLimits {
    rates: (Rate, Rate),
    ticks: GovernorClock,
    callers: Arc<Keyed<ExplainedCaller>>,
    all: Arc<Keyed<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ExplainedCaller {
    Certificate(CertificateDigest),
    Stranger(UnauthenticatedAddress),
}

impl ExplanationLimits {
    /// Starts with whole allowances: one of each caller, by enrolled certificate or by address, and
    /// one of all strangers together, who must not use up what merchants are to be shown.
    pub fn new(caller: Rate, all: Rate, clock: Arc<dyn Clock>) -> Self {
        let ticks = GovernorClock::new(clock);
        Self {
            rates: (caller, all),
            callers: keyed(caller, &ticks),
            all: keyed(all, &ticks),
            ticks,
        }
    }

    /// The same counts under other rates (F1): what is counted under a rate that stays the same
    /// stays counted.
    #[must_use]
    pub fn renewed(&self, caller: Rate, all: Rate) -> Self {
        let (callers, together) = self.rates;
        Self {
            rates: (caller, all),
            callers: renewed(&self.callers, (callers, caller), &self.ticks),
            all: renewed(&self.all, (together, all), &self.ticks),
            ticks: self.ticks.clone(),
        }
    }

    /// Whether this caller may be shown one more; if so it is counted.
    pub fn allow(&self, address: IpAddr, certificate: Option<&CertificateDigest>) -> bool {
        let caller = match certificate {
            Some(digest) => ExplainedCaller::Certificate(*digest),
            None => ExplainedCaller::Stranger(unauthenticated(address)),
        };
        if self.callers.len() > ADDRESSES_MAX {
            self.callers.retain_recent();
        }
        let shared = matches!(caller, ExplainedCaller::Stranger(_));
        check(&self.callers, &caller).is_ok() && (!shared || check(&self.all, &()).is_ok())
    }
}
