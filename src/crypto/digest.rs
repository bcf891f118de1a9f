//! SHA-256 and SHA-512 (FIPS 180-4).

use aws_lc_rs::digest::{Algorithm, Context, SHA256, SHA512, digest};

/// SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    taken(&SHA256, bytes)
}

/// SHA-512 of bytes.
#[must_use]
pub fn sha512(bytes: &[u8]) -> [u8; 64] {
    taken(&SHA512, bytes)
}

/// `N` is the length of this algorithm's digests.
fn taken<const N: usize>(algorithm: &'static Algorithm, bytes: &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(digest(algorithm, bytes).as_ref());
    taken
}

/// SHA-256 of bytes that come in parts.
pub struct Sha256(Context);

impl Sha256 {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Takes the next part. Where one part ends and the next begins does not show in the digest.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The digest of all parts.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        let mut taken = [0; 32];
        taken.copy_from_slice(self.0.finish().as_ref());
        taken
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}
