//! AES-256-GCM (NIST SP 800-38D) and SM4-GCM (RFC 8998). Generates no nonces: the caller must never
//! use one twice under a key, and at most 2^32 random ones.

use aes_gcm::aead::consts::U12;
use aes_gcm::{AeadInOut as _, AesGcm, KeyInit as _};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sm4::Sm4;

/// Length of a key of AES-256. Unit: bytes.
pub const KEY_BYTES: usize = 32;
/// Length of a key of SM4. Unit: bytes.
pub const SM4_KEY_BYTES: usize = 16;
/// Length of a nonce. Unit: bytes.
pub const NONCE_BYTES: usize = NONCE_LEN;
/// Length of the tag that follows the ciphertext. Unit: bytes.
pub const TAG_BYTES: usize = 16;

/// A secret key. Cannot be printed; the library wipes it on drop.
pub struct Aes256GcmKey(LessSafeKey);

impl Aes256GcmKey {
    /// Creates a key; `None` only if the library fails.
    pub fn new(key: &[u8; KEY_BYTES]) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// Encrypts a text bound to associated data, returning ciphertext and tag; `None` only if the
    /// library fails.
    pub fn seal(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let mut content = Vec::with_capacity(plain.len().saturating_add(TAG_BYTES));
        content.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(nonce, Aad::from(aad), &mut content)
            .ok()?;
        Some(content)
    }

    /// Decrypts ciphertext and tag; `None` if anything differs from what was sealed.
    pub fn open(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut content = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain_length = self
            .0
            .open_in_place(nonce, Aad::from(aad), &mut content)
            .ok()?
            .len();
        content.truncate(plain_length);
        Some(content)
    }
}

/// A secret key. Cannot be printed; the library wipes it on drop.
///
/// The library's GCM works over any cipher of 128-bit blocks. It looks up SM4's substitutions in a
/// table, which other programs on the machine might observe through the processor's cache.
pub struct Sm4GcmKey(AesGcm<Sm4, U12>);

impl Sm4GcmKey {
    /// Creates a key.
    #[must_use]
    pub fn new(key: &[u8; SM4_KEY_BYTES]) -> Self {
        Self(AesGcm::new(&(*key).into()))
    }

    /// Encrypts a text bound to associated data, returning ciphertext and tag; `None` only if the
    /// library fails.
    pub fn seal(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let mut content = Vec::with_capacity(plain.len().saturating_add(TAG_BYTES));
        content.extend_from_slice(plain);
        self.0
            .encrypt_in_place(&nonce.into(), aad, &mut content)
            .ok()?;
        Some(content)
    }

    /// Decrypts ciphertext and tag; `None` if anything differs from what was sealed.
    pub fn open(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut content = sealed.to_vec();
        self.0
            .decrypt_in_place(&nonce.into(), aad, &mut content)
            .ok()?;
        Some(content)
    }
}
