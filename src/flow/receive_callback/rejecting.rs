//! Callbacks that are not evidence: forged, or authentic and unreadable.

use super::acknowledging::acknowledgement;
use super::{CallbackOutcome, CallbackResponse, IncomingCallback};
use crate::flow::FlowScope;
use crate::flow::exchange_log::mentioned;
use crate::institution::{Acknowledgement, Unverified};
use crate::store::InboxStatus;

/// Rejects a message that is not evidence: archived as a bounded sample if it is not authenticated,
/// for manual review if it is.
pub(super) async fn reject_callback(
    scope: FlowScope<'_>,
    incoming: &IncomingCallback<'_>,
    why: Unverified,
) -> CallbackOutcome {
    let IncomingCallback {
        institution,
        callback,
        request_id,
        ..
    } = incoming;
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
    let _ = scope
        .store
        .archive
        .archive(&incoming.archived_as(status))
        .await;
    let answer = match status {
        InboxStatus::Forged => {
            let (adapter, stamp) = (incoming.adapter, &incoming.stamp);
            adapter.acknowledge(*callback, acknowledged, request_id, stamp)
        }
        InboxStatus::Genuine | InboxStatus::Quarantined => {
            acknowledgement(scope.world, incoming, acknowledged).await
        }
    };
    CallbackOutcome {
        received: CallbackResponse {
            answer,
            status,
            why: why.word(),
            request_id: request_id.clone(),
        },
        about: mentioned(institution, callback.message.body()),
        status: format!("{}: {}", status.name(), why.word()),
        has_paid: false,
    }
}
