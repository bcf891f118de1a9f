//! Comparing secrets, so that the time it takes tells nothing about them.

use aws_lc_rs::constant_time::verify_slices_are_equal;

/// Whether two secrets are equal, in time that depends on their lengths alone.
#[must_use]
pub fn constant_time_eq(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}
