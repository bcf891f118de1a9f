//! Everything a store holds, held against itself: for whoever doubts it, and for copies.

use crate::domain::verification::{BreachSink, Report};
use crate::store::OpenError;

/// A store that was opened by [`crate::store::open_to_verify`].
pub trait StoreVerifier {
    /// Reads all of it, at one moment, beside a running gateway or without one: takes no lock, opens
    /// no seal and writes nothing. Says each thing that does not hold as it is found.
    ///
    /// Has one order at a time in memory; sorts the journal and the log in temporary files.
    ///
    /// # Errors
    /// It is no store, or another release's. What is damaged is no error.
    fn verify(&self, hear: &mut BreachSink<'_>) -> Result<Report, OpenError>;
}
