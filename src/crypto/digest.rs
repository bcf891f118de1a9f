//! SHA-256 and SHA-512 (FIPS 180-4).

use aws_lc_rs::digest::{Algorithm, Context, SHA256, SHA512, digest};

/// SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    compute(&SHA256, bytes)
}

/// SHA-512 of bytes.
#[must_use]
pub fn sha512(bytes: &[u8]) -> [u8; 64] {
    compute(&SHA512, bytes)
}

/// `N` is the digest length of the algorithm.
fn compute<const N: usize>(algorithm: &'static Algorithm, bytes: &[u8]) -> [u8; N] {
    let mut computed = [0; N];
    computed.copy_from_slice(digest(algorithm, bytes).as_ref());
    computed
}

/// Incremental SHA-256.
pub struct Sha256(Context);

impl Sha256 {
    /// Before any input.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Appends input. How it is split does not affect the digest.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The digest of all input.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}
