//! Receives an institution's callback. The path names the institution (C1); the reply is
//! sent after the commit (C4).

mod acknowledging;
mod recording;
mod rejecting;

use bytes::Bytes;
use http::{Request, Response};

use crate::domain::amount::CNY;
use crate::domain::attempt::Stamp;
use crate::domain::evidence::{EvidenceSubject, Finding};
use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::{InstitutionId, Timestamp, hex};
use crate::flow::apply_evidence::payment_signals::signal_callback;
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence, order_key};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::institution::{Acknowledgement, Institution};
use crate::store::{InboxStatus, Store};
use crate::world::World;
use acknowledging::{acknowledgement, acknowledgement_of};
use recording::{log_exchange, message};
use rejecting::reject_callback;

/// The result of a callback: the reply, and its status for metrics and logs.
pub struct CallbackResponse {
    /// The reply in the institution's own format.
    pub answer: Response<Bytes>,
    /// How the message was classified.
    pub status: InboxStatus,
    /// Why the message was rejected; empty if it was verified.
    pub why: &'static str,
    /// Its id in the log.
    pub request_id: String,
}

/// Verifies the message with the adapter, applies its evidence, and only then replies.
/// `None` if there is no such institution, if no key can verify messages of its accounts now, or if
/// verification fails while messages of some accounts cannot be verified.
///
/// A message that is forged or about an unknown reference changes nothing; an impossible one
/// changes no state, but may be recorded as proof of arrival (V5). All are counted by status and
/// archived sealed, forged ones as a bounded sample.
pub async fn receive_callback(
    store: &Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    institution: &InstitutionId,
    callback: &Request<Bytes>,
) -> Option<CallbackResponse> {
    let now = world.clock.now();
    let adapter = snapshot.verifying_adapter(institution, now)?;
    let parties = (institution, adapter.as_ref());
    let outcome = apply_callback(store, world, parties, callback, now).await;
    let is_unproven = outcome.received.status == InboxStatus::Forged;
    if is_unproven && !snapshot.proves_every_account(institution, now) {
        return None;
    }
    if world.exchange_log.is_on() {
        let parties = (adapter.as_ref(), callback);
        log_exchange(world, snapshot, parties, (now, &outcome));
    }
    Some(outcome.received)
}

/// The result of a callback, with the fields of its exchange log entry.
struct CallbackOutcome {
    received: CallbackResponse,
    about: Option<OrderKey>,
    status: String,
    has_paid: bool,
}

async fn apply_callback(
    store: &Store,
    world: &World,
    (institution, adapter): (&InstitutionId, &dyn Institution),
    callback: &Request<Bytes>,
    now: Timestamp,
) -> CallbackOutcome {
    let request_id = hex(&world.entropy.draw::<8>());
    let nonce = world.entropy.draw();
    let known_by = (request_id.as_str(), Stamp { now, nonce });
    let read = match adapter.read_callback(callback, now) {
        Ok(read) => read,
        Err(why) => {
            let (pool, parties) = (&*world.signing, (institution, adapter));
            return reject_callback(store, pool, parties, callback, why, known_by).await;
        }
    };
    let about = order_key(institution, &read.about);
    let known = store.orders.order(&about).await;
    let order = known.as_ref().ok().and_then(Option::as_ref);
    let currency = order.map_or(CNY, |order| order.terms.amount.currency());
    let evidence = read.evidence(currency);
    let class = evidence.finding.class();
    // An unreadable finding must not be acknowledged as a repeat: an order in a final state is no
    // longer polled, so nothing would query it again (C3, C4).
    let unclear = matches!(evidence.finding, Finding::Ambiguous(_));
    let is_payment = matches!(
        (&evidence.about, &evidence.finding),
        (EvidenceSubject::Attempt(_), Finding::Succeeded(_))
    );
    let genuine = message(institution, callback, InboxStatus::Genuine, now);
    // Written concurrently; the reply waits for both.
    let received = evidence.clone();
    let outcome = async {
        match known {
            Ok(known) => apply_evidence(store, world, adapter, evidence, known).await,
            Err(fault) => Err(fault),
        }
    };
    let (outcome, archived) = tokio::join!(outcome, store.archive.archive(&genuine));
    let has_paid = is_payment && matches!(outcome, Ok(EvidenceOutcome::Moved(_)));
    let is_known = matches!(
        outcome,
        Ok(EvidenceOutcome::Moved(_) | EvidenceOutcome::Known(_))
    );
    if is_known {
        signal_callback(world, &received, (now, has_paid));
    }
    if unclear && is_known {
        tracing::error!(institution.id = %institution,
            "an authenticated callback could not be read");
    }
    let (acknowledged, status) = acknowledgement_of(&outcome, unclear);
    if status == InboxStatus::Quarantined {
        let message = message(institution, callback, status, now);
        let _ = store.archive.archive(&message).await;
    }
    let acknowledged = if archived.is_err() && acknowledged == Acknowledgement::Recorded {
        Acknowledgement::TryAgain
    } else {
        acknowledged
    };
    if acknowledged != Acknowledgement::Recorded {
        tracing::warn!(institution.id = %institution, request.id = request_id, ?acknowledged,
            "an authenticated callback was not acknowledged");
    }
    let answer = acknowledgement(&world.signing, adapter, callback, acknowledged, known_by).await;
    CallbackOutcome {
        received: CallbackResponse {
            answer,
            status,
            why: "",
            request_id,
        },
        about: Some(about),
        status: format!("{}: {class}", status.name()),
        has_paid,
    }
}
