//! Constant-time comparison of secrets.

use aws_lc_rs::constant_time::verify_slices_are_equal;

/// Whether two secrets are equal, in time that depends only on their lengths.
#[must_use]
pub fn constant_time_eq(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}
