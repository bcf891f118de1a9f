//! Free disk space: while it is low no new orders are taken, so that results, refunds and
//! notifications of existing orders can still be written (S3, Q8).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::files::reserve::free_bytes;
use crate::metrics::Metrics;
use crate::world::disk_space::DiskSpace;

/// The interval between two checks of free space.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The disk that holds the store, and the space reserved on it for results.
pub(super) struct DiskSpaceMonitor {
    folder: PathBuf,
    reserve_bytes: u64,
}

impl DiskSpaceMonitor {
    /// For the store at this path.
    pub(super) fn beside(path: &Path, reserve_mb: u64) -> Self {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        };
        Self {
            folder: folder.to_owned(),
            reserve_bytes: reserve_mb.saturating_mul(1_048_576),
        }
    }

    /// Checks free space once and publishes the result.
    pub(super) fn look(&self, disk: &DiskSpace, metrics: &Metrics) {
        let Ok(free_bytes) = free_bytes(&self.folder) else {
            // If the size cannot be read, assume there is space: a failed write is rejected anyway.
            return;
        };
        metrics.configuration.room(free_bytes);
        let is_short = free_bytes < self.reserve_bytes;
        if disk.set_short(is_short) {
            if is_short {
                tracing::error!(
                    free_bytes,
                    reserve_bytes = self.reserve_bytes,
                    "the disk is nearly full: new orders are rejected until there is space"
                );
            } else {
                tracing::warn!(
                    free_bytes,
                    "there is space on the disk again: orders are taken"
                );
            }
        }
    }

    /// Checks free space periodically until told to stop.
    #[expect(
        clippy::disallowed_methods,
        reason = "only the interval between checks; no decision depends on it"
    )]
    pub(super) async fn watch(
        self,
        disk: Arc<DiskSpace>,
        metrics: Arc<Metrics>,
        mut stop: watch::Receiver<bool>,
    ) {
        while !*stop.borrow() {
            self.look(&disk, &metrics);
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => (),
                _ = stop.changed() => (),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Q8: below the reserve no orders are taken; above it they are taken again.
    #[test]
    fn no_orders_are_taken_while_the_disk_is_nearly_full() {
        let folder = tempfile::TempDir::new().unwrap();
        let (disk, metrics) = (DiskSpace::default(), Metrics::new().unwrap());
        let store = folder.path().join("paymux.sqlite");
        for (reserve_mb, is_short) in [(u64::MAX, true), (0, false)] {
            DiskSpaceMonitor::beside(&store, reserve_mb).look(&disk, &metrics);
            assert_eq!(disk.is_short(), is_short);
        }
    }
}
