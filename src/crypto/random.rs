//! The library's random generator. Used by the implementation of the randomness port and where a
//! random value is intrinsic; never by pure code.

/// The generator failed. The library documents that this happens only where a process could not
/// have started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator does not work")]
pub struct NoRandomness;

/// Fills a buffer with unpredictable random bytes.
///
/// # Errors
/// [`NoRandomness`]; the content of the buffer is then unspecified.
pub fn fill(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| NoRandomness)
}
