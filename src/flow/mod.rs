//! What the gateway does, a file for each thing; each is read from its first line to its last.
//!
//! Flows hold no state and never wait for time: workers tell them what time it is.

pub mod admit_request;
pub mod answer;
pub mod apply_evidence;
mod begin;
pub mod call_institution;
pub mod close_order;
pub mod configuration_snapshot;
pub mod exchange_log;
pub mod list_institutions;
pub mod notify_merchant;
pub mod place_order;
pub mod poll_unresolved;
pub mod read_order;
pub mod receive_callback;
pub mod reconcile_statement;
pub mod refunds;
pub mod select_institution;

use crate::domain::refusal::Refusal;
use crate::store::StoreError;

/// A question the store did not answer, as the merchant hears it (Q8).
impl From<StoreError> for Refusal {
    fn from(fault: StoreError) -> Self {
        match fault {
            StoreError::Unavailable(_) => Self::Unavailable,
            StoreError::OutcomeUnknown(_) => Self::OutcomeUnknown,
            StoreError::Corrupt(why) => {
                tracing::error!(why, "what is stored cannot be read; a person must look");
                Self::Unavailable
            }
        }
    }
}
