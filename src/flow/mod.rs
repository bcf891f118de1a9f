//! The gateway's use cases. Each starts in one file, meant to be read from top to bottom; its
//! helpers are in a folder of the same name. Related use cases share a folder (`refunds`).
//!
//! Called by the API, and by workers when something is due. Flows keep no order state and never
//! sleep.

pub mod admit_request;
pub mod answer;
pub mod apply_evidence;
pub mod call_institution;
pub mod close_order;
pub mod configuration_snapshot;
pub mod exchange_log;
pub mod judge;
pub mod list_institutions;
pub mod notify_merchant;
pub mod place_order;
pub mod poll_unresolved;
pub mod read_order;
pub mod receive_callback;
pub mod reconcile_statement;
pub mod refunds;
pub mod select_institution;
pub mod start_attempt;

use crate::domain::refusal::Refusal;
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::store::{Store, StoreError};
use crate::world::World;

/// The common dependencies of a flow. Anything else it needs is a separate parameter.
#[derive(Clone, Copy)]
pub struct FlowScope<'a> {
    /// Durable state.
    pub store: &'a Store,
    /// Time, randomness, network.
    pub world: &'a World,
    /// One version of the configuration.
    pub snapshot: &'a ConfigurationSnapshot,
}

/// The refusal a merchant gets when the store fails (Q8).
impl From<StoreError> for Refusal {
    fn from(fault: StoreError) -> Self {
        match fault {
            StoreError::Unavailable(_) => Self::Unavailable,
            StoreError::OutcomeUnknown(_) => Self::OutcomeUnknown,
            StoreError::Corrupt(why) => {
                tracing::error!(why, "stored data cannot be read; manual review needed");
                Self::Unavailable
            }
        }
    }
}
