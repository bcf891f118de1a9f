//! How often a refusal may show the signature base we computed: enough for a person who looks for a
//! mistake, too little for a program that wants answers longer than its questions.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::merchant::CertificateDigest;
use crate::limits::{Keyed, Rate, STRANGERS_MAX, Stranger, Ticks, check, keyed, renewed, stranger};
use crate::world::Clock;

/// Counts of what was explained, by caller and in all.
pub struct Explained {
    rates: (Rate, Rate),
    ticks: Ticks,
    callers: Arc<Keyed<Caller>>,
    all: Arc<Keyed<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Caller {
    Certificate(CertificateDigest),
    Stranger(Stranger),
}

impl Explained {
    /// Starts with whole allowances: one of each caller, by enrolled certificate or by address, and
    /// one of all strangers together, who must not use up what merchants are to be shown.
    pub fn new(caller: Rate, all: Rate, clock: Arc<dyn Clock>) -> Self {
        let ticks = Ticks::new(clock);
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
    pub fn once_more(&self, address: IpAddr, certificate: Option<&CertificateDigest>) -> bool {
        let caller = match certificate {
            Some(digest) => Caller::Certificate(*digest),
            None => Caller::Stranger(stranger(address)),
        };
        if self.callers.len() > STRANGERS_MAX {
            self.callers.retain_recent();
        }
        let shared = matches!(caller, Caller::Stranger(_));
        check(&self.callers, &caller).is_ok() && (!shared || check(&self.all, &()).is_ok())
    }
}
