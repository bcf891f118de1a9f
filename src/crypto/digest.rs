//! SHA-256 and SHA-512 (FIPS 180-4), SM3 (GB/T 32905); for values that institutions compute with
//! broken hashes, and for nothing that a signature or a secret depends on, SHA-1 and MD5.

use aws_lc_rs::digest::{
    Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest as compute_digest,
};
use md5::Md5;
use sm3::Sm3;
use sm3::digest::Digest as _;

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

/// SM3 of bytes.
#[must_use]
pub fn sm3(bytes: &[u8]) -> [u8; 32] {
    Sm3::digest(bytes).into()
}

/// MD5 of bytes. Only for the numbers that name a certificate: two texts with one MD5 are easily
/// made.
pub(super) fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// `N` is the digest length of the algorithm.
fn compute<const N: usize>(algorithm: &'static Algorithm, bytes: &[u8]) -> [u8; N] {
    let mut computed = [0; N];
    computed.copy_from_slice(compute_digest(algorithm, bytes).as_ref());
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

/// Incremental SHA-1, for the digest that an institution gives of a downloaded file: it shows that
/// the file is complete. Two files with one SHA-1 can be made, so it does not show who wrote it.
pub struct Sha1(Context);

impl Sha1 {
    /// Before any input.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA1_FOR_LEGACY_USE_ONLY))
    }

    /// Appends input. How it is split does not affect the digest.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The digest of all input.
    #[must_use]
    pub fn finish(self) -> [u8; 20] {
        let mut digest = [0; 20];
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

impl Default for Sha1 {
    fn default() -> Self {
        Self::new()
    }
}
