//! HMAC with SHA-256 (RFC 2104): `hmac-sha256` of RFC 9421, section 3.3.3. Whoever can verify can
//! also sign, so it proves nothing to a third party: what else it takes is for the caller to demand
//! (R-6.3.1-1b).

use std::sync::Arc;

use aws_lc_rs::hmac;
use serde_json::Value;

use crate::signature::key::{Algorithm, Scheme, Sign, Verify};

/// This file's line in the list of algorithms. A secret is no key pair: it is read by [`read`].
pub(super) const SCHEME: Scheme = Scheme {
    algorithm: Algorithm("hmac-sha256"),
    read_private: |_| None,
    read_public: |_| None,
    read_jwk: |_| None,
    generate: || None,
    slow: false,
};

/// As long as the digest at least (RFC 2104, section 3); longer than two blocks adds nothing.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=256;

/// Both sides' secret. Cannot be printed.
pub(super) struct Secret(hmac::Key);

/// Takes a secret; nothing if it is short, or one byte repeated, as a forgotten one is (Q3).
pub(super) fn read(secret: &[u8]) -> Option<Arc<Secret>> {
    let (first, rest) = secret.split_first()?;
    let drawn = rest.iter().any(|byte| byte != first);
    let fits = drawn && SECRET_BYTES.contains(&secret.len());
    fits.then(|| Arc::new(Secret(hmac::Key::new(hmac::HMAC_SHA256, secret))))
}

impl Sign for Secret {
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>> {
        Some(hmac::sign(&self.0, base).as_ref().to_vec())
    }

    fn public_der(&self) -> Vec<u8> {
        Vec::new()
    }

    fn public_jwk(&self) -> Value {
        Value::Null
    }
}

impl Verify for Secret {
    /// Whole tags only, compared in constant time.
    fn verifies(&self, base: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.0, base, signature).is_ok()
    }
}
