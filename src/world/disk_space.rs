//! Whether there is room on the store's disk to begin something. Said by whoever looks at the disk,
//! asked in one place, by `begin` in `flow/start_attempt.rs`.

use std::sync::atomic::{AtomicBool, Ordering};

/// What the disk has to spare.
#[derive(Debug, Default)]
pub struct DiskSpace {
    is_short: AtomicBool,
}

impl DiskSpace {
    /// Whether there is so little room left to write that nothing new is begun.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Says whether there is; returns whether that is news.
    pub fn set_short(&self, is_short: bool) -> bool {
        self.is_short.swap(is_short, Ordering::Relaxed) != is_short
    }
}
