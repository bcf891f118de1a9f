//! Watches the machine's clock: how it was set is measured, and when it was followed that is logged,
//! recorded, and what a clock that was ahead had put off is brought forward (T2).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::reload::recorded;
use crate::domain::audit::AuditEntry;
use crate::domain::change::ConfigurationChange;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use crate::world::{Clock, SystemClock};

/// Between two looks at the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks until told to stop.
pub(super) async fn watch_clock(
    clock: Arc<SystemClock>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let mut steps = VecDeque::new();
    while !*stop.borrow() {
        let look = clock.look();
        metrics.configuration.clock_offset(look.offset_ms);
        if look.followed_ms != 0 {
            tracing::error!(
                by_ms = look.followed_ms,
                "the machine's clock was set, and is followed; find out why it was wrong, and reload \
                 where authorities were passed over by it"
            );
            steps.push_back(look.followed_ms);
        }
        apply_steps(&mut steps, &*store, &*clock).await;
        let _ = timeout(LOOK_EVERY, stop.changed()).await;
    }
}

/// Makes good what each step of the clock did, the first one first; what fails is tried again.
async fn apply_steps(steps: &mut VecDeque<i64>, store: &dyn Store, clock: &dyn Clock) {
    while let Some(by_ms) = steps.front().copied() {
        if let Err(fault) = step(by_ms, store, clock).await {
            tracing::error!(%fault, by_ms, "that the clock was set is not made good; it is tried again");
            return;
        }
        steps.pop_front();
    }
}

/// L5: in the audit log, where times no longer follow each other; of a step back in the same
/// transaction as what the clock had put off comes forward.
async fn step(by_ms: i64, store: &dyn Store, clock: &dyn Clock) -> Result<(), StoreError> {
    if by_ms < 0 {
        let by = Duration::from_millis(by_ms.unsigned_abs());
        return store.bring_forward(Some(by), clock.now()).await.map(|_| ());
    }
    let set = ConfigurationChange {
        version: None,
        endpoints: Vec::new(),
        accounts: Vec::new(),
        audit_entry: AuditEntry::clock_set(by_ms),
    };
    recorded(store, set, clock.now()).await
}

/// Wherever a store is opened, before anything is recorded: the process before may have lived under a
/// clock that was ahead.
pub(super) async fn at_start(store: &dyn Store, clock: &SystemClock) -> anyhow::Result<()> {
    let by = store.bring_forward(None, clock.now()).await?;
    if !by.is_zero() {
        clock.unresolved();
        tracing::error!(
            ?by,
            "records lie in the future: the clock was ahead, or is behind; what it had put off is \
             brought forward"
        );
    }
    Ok(())
}
