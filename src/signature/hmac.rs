//! `hmac-sha256`: RFC 9421, section 3.3.3. Whoever can verify can also sign, so it proves nothing
//! to a third party: the caller must require additional proof (R-6.3.1-1b).

use std::sync::Arc;

use serde_json::Value;

use crate::crypto::hmac::HmacKey;
use crate::signature::key::{Algorithm, Scheme, Sign, Verify};

/// Registered in `key::SCHEMES`. A secret is not a key pair: it is parsed by [`read`].
pub(super) const SCHEME: Scheme = Scheme {
    algorithm: Algorithm("hmac-sha256"),
    read_private: |_| None,
    read_public: |_| None,
    read_jwk: |_| None,
    generate: || None,
    slow: false,
};

/// At least as long as the digest (RFC 2104, section 3); more than two blocks adds nothing.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=256;

/// Parses a secret; `None` if it is too short, too long, or one repeated byte, like an unset one
/// (Q3).
pub(super) fn read(secret: &[u8]) -> Option<Arc<HmacKey>> {
    let (first, rest) = secret.split_first()?;
    let varied = rest.iter().any(|byte| byte != first);
    let fits = varied && SECRET_BYTES.contains(&secret.len());
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
