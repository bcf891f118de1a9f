//! Whether the store's disk has space for new orders. Set by the disk monitor, read in one place,
//! `begin` in `flow/start_attempt.rs`.

use std::sync::atomic::{AtomicBool, Ordering};

/// The state of the store's disk.
#[derive(Debug, Default)]
pub struct DiskSpace {
    is_short: AtomicBool,
}

impl DiskSpace {
    /// Whether so little space is left that no new order is taken.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Sets it; returns whether it changed.
    pub fn set_short(&self, is_short: bool) -> bool {
        self.is_short.swap(is_short, Ordering::Relaxed) != is_short
    }
}
