//! Callbacks that are not evidence: forged, or authentic and unreadable.

use bytes::Bytes;
use http::Request;

use super::acknowledging::acknowledgement;
use super::recording::message;
use super::{CallbackOutcome, CallbackResponse};
use crate::domain::attempt::Stamp;
use crate::domain::identifiers::InstitutionId;
use crate::flow::exchange_log::mentioned;
use crate::institution::{Acknowledgement, Institution, Unverified};
use crate::store::{InboxStatus, Store};
use crate::world::signing::SigningPool;

/// Rejects a message that is not evidence: archived as a bounded sample if it is not authenticated,
/// for manual review if it is.
pub(super) async fn reject_callback(
    store: &Store,
    pool: &SigningPool,
    (institution, adapter): (&InstitutionId, &dyn Institution),
    callback: &Request<Bytes>,
    why: Unverified,
    known_by: (&str, Stamp),
) -> CallbackOutcome {
    let (request_id, stamp) = known_by;
    let now = stamp.now;
    let acknowledged = why.received();
    let status = match acknowledged {
        Acknowledgement::Unverified => InboxStatus::Forged,
        Acknowledgement::Recorded
        | Acknowledgement::TryAgain
        | Acknowledgement::UnknownReference
        | Acknowledgement::Quarantined
        | Acknowledgement::Unreadable => InboxStatus::Quarantined,
    };
    // Unauthenticated messages are logged by the caller, which limits such lines.
    if status != InboxStatus::Forged {
        tracing::warn!(institution.id = %institution, request.id = request_id, why = why.word(),
            "an authenticated callback is not evidence");
    }
    let _ = store
        .archive
        .archive(&message(institution, callback, status, now))
        .await;
    let answer = match status {
        InboxStatus::Forged => adapter.acknowledge(callback, acknowledged, request_id, &stamp),
        InboxStatus::Genuine | InboxStatus::Quarantined => {
            acknowledgement(pool, adapter, callback, acknowledged, known_by).await
        }
    };
    CallbackOutcome {
        received: CallbackResponse {
            answer,
            status,
            why: why.word(),
            request_id: request_id.to_owned(),
        },
        about: mentioned(institution, callback.body()),
        status: format!("{}: {}", status.name(), why.word()),
        has_paid: false,
    }
}
