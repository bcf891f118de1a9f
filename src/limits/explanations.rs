//! Limits how often an error response may include the signature base we computed: enough for a
//! person who debugs, too little for an amplification attack.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::merchant::CertificateDigest;
use crate::limits::{
    ADDRESSES_MAX, GovernorClock, Keyed, Rate, UnauthenticatedAddress, check, keyed, renewed,
    unauthenticated,
};
use crate::world::Clock;

/// Counts of explanations, per caller and in total.
pub struct ExplanationLimits {
    rate_of_caller: Rate,
    rate_of_all: Rate,
    ticks: GovernorClock,
    callers: Arc<Keyed<ExplainedCaller>>,
    all: Arc<Keyed<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ExplainedCaller {
    Certificate(CertificateDigest),
    Address(UnauthenticatedAddress),
}

impl ExplanationLimits {
    /// Starts with full allowances: one per caller, by enrolled certificate or by address, and one
    /// shared by all callers without a certificate, so that they cannot use up the merchants'.
    pub fn new(caller: Rate, all: Rate, clock: Arc<dyn Clock>) -> Self {
        let ticks = GovernorClock::new(clock);
        Self {
            rate_of_caller: caller,
            rate_of_all: all,
            callers: keyed(caller, &ticks),
            all: keyed(all, &ticks),
            ticks,
        }
    }

    /// The same counts under changed rates (F1): counts under an unchanged rate continue.
    #[must_use]
    pub fn renewed(&self, caller: Rate, all: Rate) -> Self {
        Self {
            rate_of_caller: caller,
            rate_of_all: all,
            callers: renewed(&self.callers, self.rate_of_caller, caller, &self.ticks),
            all: renewed(&self.all, self.rate_of_all, all, &self.ticks),
            ticks: self.ticks.clone(),
        }
    }

    /// Whether this caller may be shown another one; if so it is counted.
    pub fn allow(&self, address: IpAddr, certificate: Option<&CertificateDigest>) -> bool {
        let caller = match certificate {
            Some(digest) => ExplainedCaller::Certificate(*digest),
            None => ExplainedCaller::Address(unauthenticated(address)),
        };
        if self.callers.len() > ADDRESSES_MAX {
            self.callers.retain_recent();
        }
        let shared = matches!(caller, ExplainedCaller::Address(_));
        check(&self.callers, &caller).is_ok() && (!shared || check(&self.all, &()).is_ok())
    }
}
