//! An institution has news. The address decides whose word it is (C1); the answer follows
//! the commit (C4).

use bytes::Bytes;
use http::{Request, Response};

use crate::domain::amount::CNY;
use crate::domain::attempt::Stamp;
use crate::domain::evidence::{EvidenceSubject, Finding};
use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::{InstitutionId, Timestamp, hex};
use crate::flow::apply_evidence::payment_signals::signal_callback;
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence, order_key};
use crate::flow::call_institution::executor::with_slow_key;
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::exchange_log::mentioned;
use crate::institution::{Acknowledgement, Institution, SigningParty, Unverified};
use crate::store::{InboxMessage, InboxStatus, Store, StoreError};
use crate::world::World;
use crate::world::exchange_log::{ExchangeEntry, ReplyCopy, RequestCopy};

/// Bytes of a callback that are kept, head and body.
const ARCHIVED_BYTES_MAX: usize = 16 * 1024;

/// What became of a callback: the answer, and the verdict for the books of operations.
pub struct CallbackResponse {
    /// In the institution's own form.
    pub answer: Response<Bytes>,
    /// What we thought of the message.
    pub status: InboxStatus,
    /// Why nothing was believed of it; empty where something was.
    pub why: &'static str,
    /// What the log knows it by.
    pub request_id: String,
}

/// Lets the adapter prove the message genuine, weighs what it says, and only then answers.
/// `None` when there is no such institution, or nothing proves messages of its accounts at present.
///
/// A message that is forged, impossible, or about nothing we know changes nothing; it is counted
/// by its verdict, and kept sealed, the forged ones as a bounded sample.
pub async fn receive_callback(
    store: &Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    institution: &InstitutionId,
    callback: &Request<Bytes>,
) -> Option<CallbackResponse> {
    let now = world.clock.now();
    let adapter = snapshot.verifying_adapter(institution, now)?;
    let heard = hear(store, world, (institution, adapter.as_ref()), callback, now).await;
    let is_unproven = heard.received.status == InboxStatus::Forged;
    if is_unproven && !snapshot.proves_every_account(institution, now) {
        return None;
    }
    if world.exchange_log.is_on() {
        log_exchange(world, snapshot, (institution, callback), (now, &heard));
    }
    Some(heard.received)
}

/// What became of a callback, and what the exchange log says of it.
struct CallbackOutcome {
    received: CallbackResponse,
    about: Option<OrderKey>,
    status: String,
    has_paid: bool,
}

/// What a proven callback is told of its outcome, and how it is kept.
fn heard(
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
        // Kept and alarmed: a day of repeats cannot make it true (V3).
        Ok(EvidenceOutcome::Quarantined(_)) => {
            (Acknowledgement::Quarantined, InboxStatus::Quarantined)
        }
        Ok(EvidenceOutcome::Stranger) => {
            (Acknowledgement::UnknownReference, InboxStatus::Quarantined)
        }
    }
}

async fn hear(
    store: &Store,
    world: &World,
    (institution, adapter): (&InstitutionId, &dyn Institution),
    callback: &Request<Bytes>,
    now: Timestamp,
) -> CallbackOutcome {
    let request_id = hex(&world.entropy.draw::<8>());
    let nonce = world.entropy.draw();
    let known_by = (request_id.as_str(), Stamp { now, nonce });
    let told = match adapter.read_callback(callback, now) {
        Ok(told) => told,
        Err(why) => {
            return reject_callback(store, (institution, adapter), callback, why, known_by).await;
        }
    };
    let about = order_key(institution, &told.about);
    let known = store.orders.order(&about).await;
    let order = known.as_ref().ok().and_then(Option::as_ref);
    let currency = order.map_or(CNY, |order| order.terms.amount.currency());
    let evidence = told.evidence(currency);
    let class = evidence.finding.class();
    // Not read is not a repeat: for what has ended here, nobody would ask again (C3, C4).
    let unclear = matches!(evidence.finding, Finding::Ambiguous(_));
    let is_payment = matches!(
        (&evidence.about, &evidence.finding),
        (EvidenceSubject::Attempt(_), Finding::Succeeded(_))
    );
    let genuine = message(institution, callback, InboxStatus::Genuine, now);
    // Both are written in one group commit; the answer waits for both.
    let told = evidence.clone();
    let outcome = async {
        match known {
            Ok(known) => apply_evidence(store, world, adapter, evidence, known).await,
            Err(fault) => Err(fault),
        }
    };
    let (outcome, kept) = tokio::join!(outcome, store.archive.archive(&genuine));
    let has_paid = is_payment && matches!(outcome, Ok(EvidenceOutcome::Moved(_)));
    let is_known = matches!(
        outcome,
        Ok(EvidenceOutcome::Moved(_) | EvidenceOutcome::Known(_))
    );
    if is_known {
        signal_callback(world, &told, (now, has_paid));
    }
    if unclear && is_known {
        tracing::error!(institution.id = %institution, "a proven callback could not be read");
    }
    let (heard, status) = heard(&outcome, unclear);
    if status == InboxStatus::Quarantined {
        let message = message(institution, callback, status, now);
        let _ = store.archive.archive(&message).await;
    }
    let heard = if kept.is_err() && heard == Acknowledgement::Recorded {
        Acknowledgement::TryAgain
    } else {
        heard
    };
    if heard != Acknowledgement::Recorded {
        tracing::warn!(institution.id = %institution, request.id = request_id, ?heard,
            "a proven callback was not acknowledged");
    }
    let answer = acknowledgement(adapter, callback, heard, known_by).await;
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

/// What is evidence of nothing: kept as a bounded sample if nobody proved it, for people if it is the
/// institution's own.
async fn reject_callback(
    store: &Store,
    (institution, adapter): (&InstitutionId, &dyn Institution),
    callback: &Request<Bytes>,
    why: Unverified,
    known_by: (&str, Stamp),
) -> CallbackOutcome {
    let (request_id, stamp) = known_by;
    let now = stamp.now;
    let heard = why.heard();
    let status = match heard {
        Acknowledgement::Unverified => InboxStatus::Forged,
        Acknowledgement::Recorded
        | Acknowledgement::TryAgain
        | Acknowledgement::UnknownReference
        | Acknowledgement::Quarantined
        | Acknowledgement::Unreadable => InboxStatus::Quarantined,
    };
    // What anybody may have sent is logged by whoever counts such lines.
    if status != InboxStatus::Forged {
        tracing::warn!(institution.id = %institution, request.id = request_id, why = why.word(),
            "a proven callback is evidence of nothing");
    }
    let _ = store
        .archive
        .archive(&message(institution, callback, status, now))
        .await;
    let answer = match status {
        InboxStatus::Forged => adapter.acknowledge(callback, heard, request_id, &stamp),
        InboxStatus::Genuine | InboxStatus::Quarantined => {
            acknowledgement(adapter, callback, heard, known_by).await
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

fn log_exchange(
    world: &World,
    snapshot: &ConfigurationSnapshot,
    (institution, callback): (&InstitutionId, &Request<Bytes>),
    (at, heard): (Timestamp, &CallbackOutcome),
) {
    let Some(about) = heard.about.clone() else {
        return;
    };
    let path = callback.uri().path_and_query();
    let path = path.map_or("/", |target| target.as_str());
    world.exchange_log.append(ExchangeEntry {
        about,
        at,
        took: world.clock.now().since(at),
        with: format!("institution {institution}"),
        what: "callback".to_owned(),
        result: heard.status.clone(),
        is_unproven: heard.received.status == InboxStatus::Forged,
        is_paying: heard.has_paid,
        request: RequestCopy::of(callback, format!("{}{path}", snapshot.platform.origin)),
        reply: Some(ReplyCopy::of(&heard.received.answer)),
    });
}

/// The answer in the institution's own form; signed elsewhere if that takes long.
async fn acknowledgement(
    adapter: &dyn Institution,
    callback: &Request<Bytes>,
    heard: Acknowledgement,
    known_by: (&str, Stamp),
) -> Response<Bytes> {
    let (request_id, stamp) = known_by;
    if let Some(slow) = adapter.slow(SigningParty::Answer(callback)) {
        let (callback, request_id) = (callback.clone(), request_id.to_owned());
        let signed = with_slow_key(slow, move |adapter| {
            adapter.acknowledge(&callback, heard, &request_id, &stamp)
        });
        if let Some(signed) = signed.await {
            return signed;
        }
    }
    adapter.acknowledge(callback, heard, request_id, &stamp)
}

fn message(
    institution: &InstitutionId,
    callback: &Request<Bytes>,
    status: InboxStatus,
    at: Timestamp,
) -> InboxMessage {
    let mut raw = Vec::with_capacity(callback.body().len().saturating_add(1_024));
    for (name, value) in callback.headers() {
        raw.extend_from_slice(name.as_str().as_bytes());
        raw.extend_from_slice(b": ");
        raw.extend_from_slice(value.as_bytes());
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"\r\n");
    raw.extend_from_slice(callback.body());
    raw.truncate(ARCHIVED_BYTES_MAX);
    InboxMessage {
        institution: institution.clone(),
        status,
        raw,
        at,
    }
}
