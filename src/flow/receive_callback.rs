//! An institution has news. The address decides whose word it is (C1); the answer follows
//! the commit (C4).

use bytes::Bytes;
use http::{Request, Response};

use crate::domain::amount::CNY;
use crate::domain::attempt::Stamp;
use crate::domain::evidence::{About, Finding};
use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::{InstitutionId, Timestamp, hex};
use crate::flow::call_institution::executor::with_slow_key;
use crate::flow::exchange_log::mentioned;
use crate::flow::register::Register;
use crate::flow::weigh_evidence::noticed::notice_callback;
use crate::flow::weigh_evidence::{Weight, weigh_evidence};
use crate::institution::{Heard, Institution, Unverified};
use crate::store::{Message, Store, StoreError, Verdict};
use crate::world::World;
use crate::world::exchange_log::{ExchangeEntry, ReplyCopy, RequestCopy};

/// Bytes of a callback that are kept, head and body.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// What became of a callback: the answer, and the verdict for the books of operations.
pub struct Received {
    /// In the institution's own form.
    pub answer: Response<Bytes>,
    /// What we thought of the message.
    pub verdict: Verdict,
    /// Why nothing was believed of it; empty where something was.
    pub why: &'static str,
    /// What the log knows it by.
    pub request_id: String,
}

/// Lets the adapter prove the message genuine, weighs what it says, and only then answers.
/// `None` when there is no such institution, or nothing proves its word at present.
///
/// A message that is forged, impossible, or about nothing we know changes nothing; it is counted
/// by its verdict, and kept sealed, the forged ones as a bounded sample.
pub async fn receive_callback(
    store: &dyn Store,
    world: &World,
    register: &Register,
    institution: &InstitutionId,
    callback: &Request<Bytes>,
) -> Option<Received> {
    let now = world.clock.now();
    let adapter = register.judging_adapter(institution, now)?;
    let heard = hear(store, world, (institution, adapter.as_ref()), callback, now).await;
    if world.exchange_log.is_on() {
        log_exchange(world, register, (institution, callback), (now, &heard));
    }
    Some(heard.received)
}

/// What became of a callback, and what the exchange log says of it.
struct Hearing {
    received: Received,
    about: Option<OrderKey>,
    verdict: String,
    has_paid: bool,
}

/// What a proven callback is told of its weight, and how it is kept.
fn heard(weight: &Result<Weight, StoreError>, unclear: bool) -> (Heard, Verdict) {
    match weight {
        Ok(Weight::Moved(_) | Weight::Known(_)) if !unclear => (Heard::Recorded, Verdict::Genuine),
        Ok(Weight::Moved(_) | Weight::Known(_) | Weight::Unconfirmed(_) | Weight::Contended)
        | Err(_) => (Heard::TryAgain, Verdict::Genuine),
        // Kept and alarmed: a day of repeats cannot make it true (V3).
        Ok(Weight::Quarantined(_)) => (Heard::Quarantined, Verdict::Quarantined),
        Ok(Weight::Stranger) => (Heard::UnknownReference, Verdict::Quarantined),
    }
}

async fn hear(
    store: &dyn Store,
    world: &World,
    (institution, adapter): (&InstitutionId, &dyn Institution),
    callback: &Request<Bytes>,
    now: Timestamp,
) -> Hearing {
    let request_id = hex(&world.entropy.draw::<8>());
    let stamp = Stamp {
        now,
        nonce: world.entropy.draw(),
    };
    let known_by = (request_id.as_str(), stamp);
    let told = match adapter.read_callback(callback, now) {
        Ok(told) => told,
        Err(why) => {
            return unbelieved(store, (institution, adapter), callback, why, known_by).await;
        }
    };
    let about = match &told.about {
        About::Attempt(id) => OrderKey::OfAttempt(institution.clone(), id.clone()),
        About::Refund(no) => OrderKey::OfRefund(institution.clone(), no.clone()),
    };
    let known = store.order(&about).await;
    let order = known.as_ref().ok().and_then(Option::as_ref);
    let currency = order.map_or(CNY, |order| order.terms.amount.currency());
    let evidence = told.evidence(currency);
    let class = evidence.finding.class();
    // Not read is not a repeat: for what has ended here, nobody would ask again (C3, C4).
    let unclear = matches!(evidence.finding, Finding::Ambiguous(_));
    let is_payment = matches!(
        (&evidence.about, &evidence.finding),
        (About::Attempt(_), Finding::Succeeded(_))
    );
    let genuine = message(institution, callback, Verdict::Genuine, now);
    // Both are written in one group commit; the answer waits for both.
    let told = evidence.clone();
    let weight = async {
        match known {
            Ok(known) => weigh_evidence(store, world, adapter, evidence, known).await,
            Err(fault) => Err(fault),
        }
    };
    let (weight, kept) = tokio::join!(weight, store.keep(&genuine));
    let has_paid = is_payment && matches!(weight, Ok(Weight::Moved(_)));
    if matches!(weight, Ok(Weight::Moved(_) | Weight::Known(_))) {
        notice_callback(world, &told, (now, has_paid));
    }
    if unclear && matches!(weight, Ok(Weight::Moved(_) | Weight::Known(_))) {
        tracing::error!(institution.id = %institution, "a proven callback could not be read");
    }
    let (heard, verdict) = heard(&weight, unclear);
    if verdict == Verdict::Quarantined {
        let message = message(institution, callback, verdict, now);
        let _ = store.keep(&message).await;
    }
    let heard = if kept.is_err() && heard == Heard::Recorded {
        Heard::TryAgain
    } else {
        heard
    };
    if heard != Heard::Recorded {
        tracing::warn!(institution.id = %institution, request.id = request_id, ?heard,
            "a proven callback was not acknowledged");
    }
    let answer = acknowledgement(adapter, callback, heard, known_by).await;
    Hearing {
        received: Received {
            answer,
            verdict,
            why: "",
            request_id,
        },
        about: Some(about),
        verdict: format!("{}: {class}", verdict.name()),
        has_paid,
    }
}

/// What is evidence of nothing: kept as a bounded sample if nobody proved it, for people if it is the
/// institution's own.
async fn unbelieved(
    store: &dyn Store,
    (institution, adapter): (&InstitutionId, &dyn Institution),
    callback: &Request<Bytes>,
    why: Unverified,
    known_by: (&str, Stamp),
) -> Hearing {
    let (request_id, stamp) = known_by;
    let now = stamp.now;
    let heard = why.heard();
    let verdict = match heard {
        Heard::Unverified => Verdict::Forged,
        Heard::Recorded
        | Heard::TryAgain
        | Heard::UnknownReference
        | Heard::Quarantined
        | Heard::Unreadable => Verdict::Quarantined,
    };
    // What anybody may have sent is logged by whoever counts such lines.
    if verdict != Verdict::Forged {
        tracing::warn!(institution.id = %institution, request.id = request_id, why = why.word(),
            "a proven callback is evidence of nothing");
    }
    let _ = store
        .keep(&message(institution, callback, verdict, now))
        .await;
    let answer = match verdict {
        Verdict::Forged => adapter.acknowledge(callback, heard, request_id, &stamp),
        Verdict::Genuine | Verdict::Quarantined => {
            acknowledgement(adapter, callback, heard, known_by).await
        }
    };
    Hearing {
        received: Received {
            answer,
            verdict,
            why: why.word(),
            request_id: request_id.to_owned(),
        },
        about: mentioned(institution, callback.body()),
        verdict: format!("{}: {}", verdict.name(), why.word()),
        has_paid: false,
    }
}

fn log_exchange(
    world: &World,
    register: &Register,
    (institution, callback): (&InstitutionId, &Request<Bytes>),
    (at, heard): (Timestamp, &Hearing),
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
        verdict: heard.verdict.clone(),
        is_unproven: heard.received.verdict == Verdict::Forged,
        is_paying: heard.has_paid,
        request: RequestCopy::of(callback, format!("{}{path}", register.platform.origin)),
        reply: Some(ReplyCopy::of(&heard.received.answer)),
    });
}

/// The answer in the institution's own form; signed elsewhere if that takes long.
async fn acknowledgement(
    adapter: &dyn Institution,
    callback: &Request<Bytes>,
    heard: Heard,
    known_by: (&str, Stamp),
) -> Response<Bytes> {
    let (request_id, stamp) = known_by;
    if let Some(slow) = adapter.slow() {
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
    verdict: Verdict,
    at: Timestamp,
) -> Message {
    let mut raw = Vec::with_capacity(callback.body().len().saturating_add(1_024));
    for (name, value) in callback.headers() {
        raw.extend_from_slice(name.as_str().as_bytes());
        raw.extend_from_slice(b": ");
        raw.extend_from_slice(value.as_bytes());
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"\r\n");
    raw.extend_from_slice(callback.body());
    raw.truncate(KEPT_BYTES_MAX);
    Message {
        institution: institution.clone(),
        verdict,
        raw,
        at,
    }
}
