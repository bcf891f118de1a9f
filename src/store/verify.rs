//! Everything a store's file holds, held against itself: for whoever doubts it, and for copies.

use std::path::Path;

use crate::domain::verification::{BreachSink, Report};
use crate::store::{OpenError, sqlite};

/// Reads the whole file, at one moment, beside a running gateway or without one: takes no lock, opens
/// no seal and writes nothing. Says each thing that does not hold as it is found.
///
/// Keeps one order at a time in memory; sorts the journal and the log in temporary files.
///
/// # Errors
/// There is no such file, it is no store, or another release's. What is damaged is no error.
pub fn verify(path: &Path, hear: &mut BreachSink<'_>) -> Result<Report, OpenError> {
    sqlite::verify(path, hear)
}
