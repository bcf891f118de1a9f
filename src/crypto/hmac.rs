//! HMAC with SHA-256 (RFC 2104). Accepts any secret: its length is the caller's responsibility.

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key, verify};

use crate::crypto::compare::constant_time_eq;
use crate::crypto::hex;

/// A shared secret. Cannot be printed; the library wipes it on drop.
pub struct HmacKey(Key);

impl HmacKey {
    /// Creates a key.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(Key::new(HMAC_SHA256, secret))
    }

    /// The tag of a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.sign_parts(&[message])
    }

    /// The tag of a message in parts, equal to that of the joined message: if ambiguity matters,
    /// the caller prefixes parts with their lengths.
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

    /// Whether a complete tag is that of a message; compared in constant time.
    #[must_use]
    pub fn verify(&self, message: &[u8], tag: &[u8]) -> bool {
        verify(&self.0, message, tag).is_ok()
    }

    /// The tag of a message as upper-case hexadecimal text.
    #[must_use]
    pub fn sign_hex(&self, message: &[u8]) -> String {
        hex::upper(&self.sign(message))
    }

    /// Whether a text is [`sign_hex`](Self::sign_hex) of the message; compared in constant time.
    #[must_use]
    pub fn verify_hex(&self, message: &[u8], tag: &str) -> bool {
        constant_time_eq(self.sign_hex(message).as_bytes(), tag.as_bytes())
    }
}
