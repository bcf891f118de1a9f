//! When the keys and certificates of each party expire (R-6.3.1-1c).

use std::collections::BTreeMap;

use rustls::pki_types::CertificateDer;

use crate::config::Config;
use crate::config::named::validity_s;

/// What kind of key or certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyClass {
    /// Signs our answers and notifications.
    Platform,
    /// Ours towards an institution; valid as long as agreed with the institution.
    OursAtInstitution,
    /// A merchant's signatures.
    Merchant,
    /// An institution's signatures.
    Institution,
    /// Decisions signed by staff.
    Staff,
    /// The certificate of the public listener.
    Server,
    /// Our client certificate towards an institution.
    Client,
    /// An authority that outgoing connections trust.
    Authority,
}

impl KeyClass {
    /// Every class.
    pub const ALL: [Self; 8] = [
        Self::Platform,
        Self::OursAtInstitution,
        Self::Merchant,
        Self::Institution,
        Self::Staff,
        Self::Server,
        Self::Client,
        Self::Authority,
    ];

    /// The label in metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::OursAtInstitution => "towards_institution",
            Self::Merchant => "merchant",
            Self::Institution => "institution",
            Self::Staff => "staff",
            Self::Server => "server_certificate",
            Self::Client => "client_certificate",
            Self::Authority => "authority",
        }
    }
}

/// The last second in which a party has a usable key: of several keys the latest end counts, so that a key
/// that was replaced in time raises no alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The class.
    pub class: KeyClass,
    /// The owner: `merchantId`, `ACCOUNT at INSTITUTION`, the institution's id, or the gateway.
    pub whose: String,
    /// Until when. Unit: Unix seconds.
    pub until_s: i64,
}

/// One for each owner and class.
pub(super) fn expiries(config: &Config) -> Vec<Expiry> {
    let mut latest: BTreeMap<(KeyClass, &str), i64> = BTreeMap::new();
    for key in &config.keys {
        if let Some((_, until)) = key.validity_s {
            let known = latest.entry((key.class, &key.owner)).or_insert(until);
            *known = until.max(*known);
        }
    }
    let mut certificate = |class, whose, ders: &[CertificateDer<'_>]| {
        let ends = ders.iter().filter_map(validity_s);
        if let Some(until) = ends.map(|(_, until)| until).min() {
            latest.insert((class, whose), until);
        }
    };
    certificate(
        KeyClass::Server,
        "this gateway",
        &config.listen.identity.cert,
    );
    let merchant_roots = config.outbound.merchant_roots.as_deref();
    let roots = merchant_roots.unwrap_or_default();
    certificate(KeyClass::Authority, "merchants", roots);
    for (id, leg) in &config.outbound.institutions {
        let roots = leg.roots.as_deref().unwrap_or_default();
        certificate(KeyClass::Authority, id.as_str(), roots);
        if let Some(identity) = &leg.identity {
            certificate(KeyClass::Client, id.as_str(), &identity.cert);
        }
    }
    let expiry = |((class, whose), until_s): ((KeyClass, &str), i64)| Expiry {
        class,
        whose: whose.to_owned(),
        until_s,
    };
    latest.into_iter().map(expiry).collect()
}
