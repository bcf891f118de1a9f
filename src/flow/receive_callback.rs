//! Receives an institution's callback. The path names the institution (C1); the reply is
//! sent after the commit (C4).

mod acknowledging;
mod recording;
mod rejecting;

use bytes::Bytes;
use http::Response;

use crate::domain::amount::CNY;
use crate::domain::attempt::Stamp;
use crate::domain::evidence::{EvidenceSubject, Finding};
use crate::domain::identifiers::{InstitutionId, OrderKey, hex};
use crate::flow::FlowScope;
use crate::flow::apply_evidence::payment_signals::signal_callback;
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence, order_key};
use crate::institution::{Acknowledgement, Callback, Institution};
use crate::store::InboxStatus;
use acknowledging::{acknowledgement, acknowledgement_of};
use recording::log_exchange;
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
    scope: FlowScope<'_>,
    institution: &InstitutionId,
    callback: Callback<'_>,
) -> Option<CallbackResponse> {
    let FlowScope {
        world, snapshot, ..
    } = scope;
    let now = world.clock.now();
    let adapter = snapshot.verifying_adapter(institution, callback.account, now)?;
    let incoming = IncomingCallback {
        institution,
        adapter: adapter.as_ref(),
        callback,
        request_id: hex(&world.entropy.draw::<8>()),
        stamp: Stamp {
            now,
            nonce: world.entropy.draw(),
        },
    };
    let outcome = apply_callback(scope, &incoming).await;
    let is_unproven = outcome.received.status == InboxStatus::Forged;
    if is_unproven && !snapshot.proves_every_account(institution, callback.account, now) {
        return None;
    }
    if world.exchange_log.is_on() {
        log_exchange(scope, &incoming, &outcome);
    }
    Some(outcome.received)
}

/// A callback as it arrived: from whom, and what its reply is made with.
struct IncomingCallback<'a> {
    institution: &'a InstitutionId,
    adapter: &'a dyn Institution,
    callback: Callback<'a>,
    /// Its id in the log.
    request_id: String,
    /// The time of its arrival, and the nonce of its reply.
    stamp: Stamp,
}

/// The result of a callback, with the fields of its exchange log entry.
struct CallbackOutcome {
    received: CallbackResponse,
    about: Option<OrderKey>,
    status: String,
    has_paid: bool,
}

async fn apply_callback(scope: FlowScope<'_>, incoming: &IncomingCallback<'_>) -> CallbackOutcome {
    let store = scope.store;
    let (institution, adapter) = (incoming.institution, incoming.adapter);
    let now = incoming.stamp.now;
    let read = match adapter.read_callback(incoming.callback, now) {
        Ok(read) => read,
        Err(why) => return reject_callback(scope, incoming, why).await,
    };
    let about = order_key(institution, &read.about);
    let known = store.orders.order(&about).await;
    let order = known.as_ref().ok().and_then(Option::as_ref);
    let currency = order.map_or(CNY, |order| order.terms.amount.currency());
    let mut evidence = read.evidence(currency);
    // C1, C2: whatever the message says, it is evidence of no account but that of its address.
    if let Some(own) = incoming.callback.account {
        let accounts = evidence.accounts.get_or_insert_with(|| vec![own.clone()]);
        accounts.retain(|account| account == own);
    }
    let class = evidence.finding.class();
    // An unreadable finding must not be acknowledged as a repeat: an order in a final state is no
    // longer polled, so nothing would query it again (C3, C4).
    let unclear = matches!(evidence.finding, Finding::Ambiguous(_));
    let is_payment = matches!(
        (&evidence.about, &evidence.finding),
        (EvidenceSubject::Attempt(_), Finding::Succeeded(_))
    );
    let genuine = incoming.archived_as(InboxStatus::Genuine);
    // Written concurrently; the reply waits for both.
    let received = evidence.clone();
    let outcome = async {
        match known {
            Ok(known) => apply_evidence(scope, adapter, evidence, known).await,
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
        signal_callback(scope.world, &received, now, has_paid);
    }
    if unclear && is_known {
        tracing::error!(institution.id = %institution,
            "an authenticated callback could not be read");
    }
    let (acknowledged, status) = acknowledgement_of(&outcome, unclear);
    if status == InboxStatus::Quarantined {
        let _ = store.archive.archive(&incoming.archived_as(status)).await;
    }
    let acknowledged = if archived.is_err() && acknowledged == Acknowledgement::Recorded {
        Acknowledgement::TryAgain
    } else {
        acknowledged
    };
    if acknowledged != Acknowledgement::Recorded {
        tracing::warn!(institution.id = %institution, request.id = incoming.request_id, ?acknowledged,
            "an authenticated callback was not acknowledged");
    }
    let answer = acknowledgement(scope.world, incoming, acknowledged).await;
    CallbackOutcome {
        received: CallbackResponse {
            answer,
            status,
            why: "",
            request_id: incoming.request_id.clone(),
        },
        about: Some(about),
        status: format!("{}: {class}", status.name()),
        has_paid,
    }
}
