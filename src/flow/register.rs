//! Who may ask and through whom: one version of the enrolment, swapped whole (F1).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::identifiers::InstitutionId;
use crate::domain::institutions::Directory;
use crate::domain::merchant::CertificateDigest;
use crate::institution::Institution;
use crate::signature::{KeyRing, SigningKey};

/// Everything about merchants and institutions that a request is judged by.
pub struct Register {
    /// Merchants, institutions, routes, contracts.
    pub directory: Directory,
    /// The merchants' keys; the owner of a key is a `merchantId`.
    pub keys: KeyRing,
    /// The institutions' dialects.
    pub adapters: HashMap<InstitutionId, Arc<dyn Institution>>,
    /// The operators' keys; the owner of a key is an operator's id.
    pub operators: KeyRing,
    /// How this gateway is known.
    pub platform: Platform,
    /// Every client certificate that is enrolled, whosever: each request asks for one.
    certificates: HashSet<CertificateDigest>,
}

/// How this gateway is known to merchants.
pub struct Platform {
    /// `https://host[:port]` that merchants sign for and pages are served under.
    pub origin: String,
    /// Signs answers and notifications.
    pub signing: Arc<SigningKey>,
    /// `/.well-known/jwks.json`: current and next keys with validity.
    pub jwks: bytes::Bytes,
}

impl Register {
    /// Everybody enrolled, with the keys and dialects that go with them.
    pub fn new(
        directory: Directory,
        keys: KeyRing,
        adapters: HashMap<InstitutionId, Arc<dyn Institution>>,
        platform: Platform,
    ) -> Self {
        let merchants = directory.merchants.values();
        let certificates = merchants.flat_map(|merchant| merchant.certificates.iter().copied());
        Self {
            certificates: certificates.collect(),
            directory,
            keys,
            adapters,
            platform,
            operators: KeyRing::default(),
        }
    }

    /// The same, with these operators' keys.
    #[must_use]
    pub fn run_by(mut self, operators: KeyRing) -> Self {
        self.operators = operators;
        self
    }

    /// Whether a client certificate is enrolled for anybody.
    pub fn knows_certificate(&self, digest: &CertificateDigest) -> bool {
        self.certificates.contains(digest)
    }
}
