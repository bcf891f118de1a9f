//! How a callback is acknowledged: the classification, and the reply in the institution's format.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::IncomingCallback;
use crate::flow::apply_evidence::EvidenceOutcome;
use crate::institution::{Acknowledgement, Callback, SigningParty};
use crate::store::{InboxStatus, StoreError};
use crate::world::World;

/// How an authenticated callback is acknowledged, and the status it is archived with.
pub(super) fn acknowledgement_of(
    outcome: &Result<EvidenceOutcome, StoreError>,
    unclear: bool,
) -> (Acknowledgement, InboxStatus) {
    match outcome {
        Ok(EvidenceOutcome::Moved(_) | EvidenceOutcome::Known(_)) if !unclear => {
            (Acknowledgement::Recorded, InboxStatus::Genuine)
        }
        Ok(
            EvidenceOutcome::Moved(_)
            | EvidenceOutcome::Known(_)
            | EvidenceOutcome::Unconfirmed(_)
            | EvidenceOutcome::Contended,
        )
        | Err(_) => (Acknowledgement::TryAgain, InboxStatus::Genuine),
        // Archived, with an error in the log: repeating it cannot make it true (V3).
        Ok(EvidenceOutcome::Quarantined(_)) => {
            (Acknowledgement::Quarantined, InboxStatus::Quarantined)
        }
        Ok(EvidenceOutcome::UnknownReference) => {
            (Acknowledgement::UnknownReference, InboxStatus::Quarantined)
        }
    }
}

/// The reply in the institution's own format; signed in the signing pool if the key is slow.
pub(super) async fn acknowledgement(
    world: &World,
    incoming: &IncomingCallback<'_>,
    acknowledged: Acknowledgement,
) -> Response<Bytes> {
    let IncomingCallback {
        adapter,
        callback,
        request_id,
        stamp,
        ..
    } = incoming;
    if let Some(slow) = adapter.slow(SigningParty::Answer(*callback)) {
        let (message, account) = (callback.message.clone(), callback.account.cloned());
        let (request_id, stamp) = (request_id.clone(), *stamp);
        let signed = world.signing.sign(move || {
            let callback = Callback {
                message: &message,
                account: account.as_ref(),
            };
            slow.acknowledge(callback, acknowledged, &request_id, &stamp)
        });
        // Never signed here instead: the pool bounds what slow keys may take. The institution repeats
        // what is not acknowledged, which changes nothing (C5).
        return signed.await.unwrap_or_else(|| {
            let mut later = Response::new(Bytes::new());
            *later.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            later
        });
    }
    adapter.acknowledge(*callback, acknowledged, request_id, stamp)
}
