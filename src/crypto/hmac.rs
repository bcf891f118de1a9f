//! HMAC with SHA-256 (RFC 2104). Takes any secret: whether one is long enough is for the caller to say.

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key, verify};

/// A secret of both sides. Cannot be printed; the library wipes it when it is dropped.
pub struct HmacKey(Key);

impl HmacKey {
    /// Takes a secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(Key::new(HMAC_SHA256, secret))
    }

    /// The tag of a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.sign_parts(&[message])
    }

    /// The tag of a message in parts, the same as of all of them joined: where two messages must
    /// not look alike, the caller puts lengths before its parts.
    #[must_use]
    pub fn sign_parts(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Whether a tag, whole, is that of a message; compared in constant time.
    #[must_use]
    pub fn verify(&self, message: &[u8], tag: &[u8]) -> bool {
        verify(&self.0, message, tag).is_ok()
    }
}
