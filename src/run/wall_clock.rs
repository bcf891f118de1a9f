//! Watches the machine's clock: exports its offset, and when a step is followed, logs and records
//! it, and brings forward due times that a clock that was ahead had postponed (T2).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::reload::recorded;
use crate::domain::audit::AuditEntry;
use crate::domain::change::ConfigurationChange;
use crate::store::{Nodes, StoreError};
use crate::workers::Workers;
use crate::world::{Clock, SystemClock};

/// The interval between two checks of the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Checks the clock until told to stop.
pub(super) async fn watch_clock(
    clock: Arc<SystemClock>,
    workers: Arc<Workers>,
    mut stop: watch::Receiver<bool>,
) {
    let mut steps = VecDeque::new();
    while !*stop.borrow() {
        let look = clock.look();
        workers.metrics.configuration.clock_offset(look.offset_ms);
        if look.followed_ms != 0 {
            tracing::error!(
                by_ms = look.followed_ms,
                "the machine's clock was set, and is followed; find out why it was wrong, and \
                 reload if certificates of authorities were skipped because of it"
            );
            steps.push_back(look.followed_ms);
        }
        apply_steps(&mut steps, &workers, &*clock).await;
        let _ = timeout(LOOK_EVERY, stop.changed()).await;
    }
}

/// Applies each clock step in order; one that fails is tried again.
async fn apply_steps(steps: &mut VecDeque<i64>, workers: &Workers, clock: &dyn Clock) {
    while let Some(by_ms) = steps.front().copied() {
        if let Err(fault) = step(by_ms, workers, clock).await {
            tracing::error!(%fault, by_ms, "a clock step could not be applied; it is tried again");
            return;
        }
        steps.pop_front();
    }
}

/// L5: records the step in the audit log, where timestamps are then out of order. For a step back,
/// the postponed due times are brought forward in the same transaction.
async fn step(by_ms: i64, workers: &Workers, clock: &dyn Clock) -> Result<(), StoreError> {
    let store = &workers.store;
    if by_ms < 0 {
        let by = Duration::from_millis(by_ms.unsigned_abs());
        let by = store.nodes.bring_forward(Some(by), clock.now()).await?;
        if !by.is_zero() {
            // Workers that wait for a later time are woken.
            workers.worker_signals.notify_all();
        }
        return Ok(());
    }
    let set = ConfigurationChange {
        version: None,
        endpoints: Vec::new(),
        accounts: Vec::new(),
        audit_entry: AuditEntry::clock_set(by_ms),
    };
    recorded(&*store.changes, set, clock.now()).await
}

/// Runs wherever a store is opened, before anything is recorded: the previous process may have run
/// with a clock that was ahead.
pub(super) async fn at_start(nodes: &dyn Nodes, clock: &SystemClock) -> anyhow::Result<()> {
    let by = nodes.bring_forward(None, clock.now()).await?;
    if !by.is_zero() {
        clock.unresolved();
        tracing::error!(
            ?by,
            "records lie in the future: the clock was ahead, or is behind now; due times that it \
             had postponed are brought forward"
        );
    }
    Ok(())
}
