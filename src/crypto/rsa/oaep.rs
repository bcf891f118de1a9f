//! RSAES-OAEP (RFC 8017, section 7.1) with SHA-1 and MGF1 with SHA-1, for single fields that only
//! the owner of a key may read. OAEP does not depend on collisions, so SHA-1 does not weaken it.

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};

use super::{RSA, public_components, strength};

/// A public key for encryption.
pub struct RsaOaepPublicKey(OaepPublicEncryptingKey);

impl RsaOaepPublicKey {
    /// Parses a `SubjectPublicKeyInfo` (RFC 5280, section 4.1); `None` if it is of another kind,
    /// damaged or weak.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        strength(public_components(der, &[RSA])?)?;
        let key = PublicEncryptingKey::from_der(der).ok()?;
        Some(Self(OaepPublicEncryptingKey::new(key).ok()?))
    }

    /// Encrypts a text; differs each time. `None` if it is longer than the modulus allows (214
    /// bytes under 2048 bits), or if there is no randomness.
    pub fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = vec![0; self.0.ciphertext_size()];
        let length = self
            .0
            .encrypt(&OAEP_SHA1_MGF1SHA1, plain, &mut sealed, None)
            .ok()?
            .len();
        sealed.truncate(length);
        Some(sealed)
    }
}
