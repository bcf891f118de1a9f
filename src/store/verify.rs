//! Verifies the consistency of a whole store or a copy of one.

use crate::domain::verification::{BreachSink, Report};
use crate::store::OpenError;

/// A store opened by [`crate::store::open_to_verify`].
pub trait StoreVerifier {
    /// Reads all of it in one snapshot, with or without a running gateway: takes no lock, opens no
    /// seal and writes nothing. Reports each violation as it is found.
    ///
    /// Holds one order at a time in memory; sorts the journal and the log in temporary files.
    ///
    /// # Errors
    /// The file is not a store, or is of another release. Damage is reported, not an error.
    fn verify(&self, sink: &mut BreachSink<'_>) -> Result<Report, OpenError>;
}
