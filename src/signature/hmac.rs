//! `hmac-sha256`: RFC 9421, section 3.3.3. Whoever can verify can also sign, so it proves nothing to a
//! third party: what else it takes is for the caller to demand (R-6.3.1-1b).

use std::sync::Arc;

use serde_json::Value;

use crate::crypto::hmac::HmacKey;
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

/// Takes a secret; nothing if it is short, or one byte repeated, as a forgotten one is (Q3).
pub(super) fn read(secret: &[u8]) -> Option<Arc<HmacKey>> {
    let (first, rest) = secret.split_first()?;
    let drawn = rest.iter().any(|byte| byte != first);
    let fits = drawn && SECRET_BYTES.contains(&secret.len());
    fits.then(|| Arc::new(HmacKey::new(secret)))
}

impl Sign for HmacKey {
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>> {
        Some(Self::sign(self, base).to_vec())
    }

    fn public_der(&self) -> Vec<u8> {
        Vec::new()
    }

    fn public_jwk(&self) -> Value {
        Value::Null
    }
}

impl Verify for HmacKey {
    fn verifies(&self, base: &[u8], signature: &[u8]) -> bool {
        self.verify(base, signature)
    }
}
