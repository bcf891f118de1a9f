//! Watches the machine's clock: how it was set is measured, and when it was followed that is logged,
//! recorded, and what a clock that was ahead had put off is brought forward (T2).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::reload::{deed, recorded};
use crate::domain::change::Configured;
use crate::metrics::Metrics;
use crate::store::Store;
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
    while !*stop.borrow() {
        let look = clock.look();
        metrics.configuration.clock_offset(look.offset_ms);
        if look.followed_ms != 0 {
            tracing::error!(
                by_ms = look.followed_ms,
                "the machine's clock was set, and is followed; find out why it was wrong, and reload \
                 where authorities were passed over by it"
            );
            let behind_ms = u64::try_from(look.followed_ms.saturating_neg()).unwrap_or(0);
            if behind_ms > 0 {
                forward(&*store, &*clock, Duration::from_millis(behind_ms)).await;
            }
            note(&*store, &*clock, look.followed_ms).await;
        }
        let _ = timeout(LOOK_EVERY, stop.changed()).await;
    }
}

async fn forward(store: &dyn Store, clock: &dyn Clock, by: Duration) {
    if let Err(fault) = store.bring_forward(Some(by), clock.now()).await {
        tracing::error!(%fault, ?by, "what the clock had put off could not be brought forward");
    }
}

/// L5: in the audit log as well, where times no longer follow each other.
async fn note(store: &dyn Store, clock: &dyn Clock, by_ms: i64) {
    let set = Configured {
        version: None,
        endpoints: Vec::new(),
        deed: deed("clock", "clock.set", &format!("by_ms={by_ms}")),
    };
    if let Err(fault) = recorded(store, set, clock.now()).await {
        tracing::error!(%fault, "that the clock was set could not be recorded");
    }
}

/// At a start: the process before may have lived under a clock that was ahead.
pub(super) async fn at_start(store: &dyn Store, clock: &SystemClock) -> anyhow::Result<()> {
    let by = store.bring_forward(None, clock.now()).await?;
    if !by.is_zero() {
        clock.doubt();
        tracing::error!(
            ?by,
            "the last records lie in the future: the clock was ahead, or is behind; what it had put \
             off is brought forward"
        );
    }
    Ok(())
}
