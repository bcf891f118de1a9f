//! The library's generator of random bytes. Asked by what implements the door to randomness and by what
//! must have a number of its own; never by pure code.

/// The generator gave nothing. The library documents that it fails only where a process could not
/// have started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator does not work")]
pub struct NoRandomness;

/// Fills with random bytes that nobody can guess.
///
/// # Errors
/// [`NoRandomness`]; what the bytes are then is not said.
pub fn fill(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| NoRandomness)
}
