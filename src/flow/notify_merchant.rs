//! Notifies the merchant until it acknowledges (A3.3, X-4): the same bytes under the same id, with
//! a new signature for each delivery (N3).

mod acknowledgement;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response, header};

use crate::domain::event::Event;
use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::Timestamp;
use crate::domain::institutions::MessageFormat;
use crate::domain::merchant::origin;
use crate::domain::schedule;
use crate::flow::FlowScope;
use crate::flow::configuration_snapshot::PlatformIdentity;
use crate::signature::{self, Covering, SigningKey};
use crate::store::{DeliveryOutcome, Lease, LeaseCompletion, LeasedWork, StoreError};
use crate::world::exchange_log::{ExchangeEntry, ReplyCopy, RequestCopy};
use crate::world::{CallTimeouts, OutboundParty, SendError, World};

use acknowledgement::{Unacknowledged, is_acknowledged};

/// Bytes of a merchant's answer that are read (`docs/openapi.yaml`, A3.3).
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// How long to wait after a local shortage before the same delivery is retried.
const SHORTAGE_WAIT: Duration = Duration::from_secs(5);

/// Lifetime of a notification's signature. Unit: seconds.
const SIGNATURE_LIFE_S: i64 = 300;

/// The outcome of one delivery, also for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The merchant replied SUCCESS, this long after the event was created.
    Delivered(Duration),
    /// It will be retried.
    Again,
    /// Not sent because of a local shortage: retried, and not counted as a try (H1).
    Throttled,
    /// The schedule is exhausted; the event is dead-lettered (N2).
    Dead,
    /// Another worker has the lease; a repeat is possible, a loss is not (N6).
    LeaseLost,
}

/// Delivers one leased event once, and completes its lease.
pub async fn notify_merchant(scope: FlowScope<'_>, lease: &Lease) -> Result<Delivery, StoreError> {
    let LeasedWork::Event(event, born) = &lease.of else {
        return Ok(Delivery::LeaseLost);
    };
    let world = scope.world;
    let attempt = lease.tries.saturating_add(1);
    let acknowledged = match request(world, &scope.snapshot.platform, event, attempt).await {
        Ok(request) => {
            let logged = world.exchange_log.is_on().then(|| LoggedDelivery {
                at: world.clock.now(),
                attempt,
                request: RequestCopy::of(&request, shown(event)),
            });
            let answer = world
                .outbound
                .send(&OutboundParty::Merchant, request, timeouts(attempt).into())
                .await;
            let acknowledged = is_acknowledged(&answer);
            if let Some(logged) = logged {
                log_exchange(world, event, logged, &acknowledged, &answer);
            }
            acknowledged
        }
        Err(unmade) => Err(unmade),
    };
    if let Err(reason) = &acknowledged {
        tracing::info!(event.id = event.id.as_str(), merchant.id = %event.merchant, attempt,
            %reason, "a notification was not acknowledged");
    }
    let now = world.clock.now();
    let age = now.since(*born);
    let wait = schedule::notice_wait(attempt);
    let (outcome, delivery) = match (acknowledged, wait) {
        (Ok(()), _) => (DeliveryOutcome::Delivered(now), Delivery::Delivered(age)),
        (Err(reason), _) if reason.is_our_shortage() => {
            let again = DeliveryOutcome::NotAttempted(now.plus(SHORTAGE_WAIT));
            (again, Delivery::Throttled)
        }
        (Err(_), Some(wait)) => (DeliveryOutcome::Again(now.plus(wait)), Delivery::Again),
        (Err(_), None) => {
            tracing::error!(event.id = event.id.as_str(), merchant.id = %event.merchant,
                "a notification was never acknowledged and is dead-lettered; it can be resent");
            (DeliveryOutcome::Dead, Delivery::Dead)
        }
    };
    Ok(match scope.store.outbox.complete(lease, outcome).await? {
        LeaseCompletion::Done => delivery,
        LeaseCompletion::LeaseLost => Delivery::LeaseLost,
    })
}

/// The origin of a merchant's address; the rest is masked because it may identify the payer (D1).
fn shown(event: &Event) -> String {
    let to = event.destination.as_deref().unwrap_or_default();
    format!("{}/***", origin(to).unwrap_or_default())
}

/// First delivery: 2 s to the first byte and 4 s in total, so that a healthy merchant is notified
/// within 3 s and a slow one delays nobody; retries: 10 s.
fn timeouts(attempt: u32) -> CallTimeouts {
    let (head, whole) = if attempt == 1 { (2, 4) } else { (10, 10) };
    CallTimeouts {
        head: Duration::from_secs(head),
        whole: Duration::from_secs(whole),
        body_bytes_max: ANSWER_BYTES_MAX,
    }
}

/// Builds and signs the request. Without a permit of a slow key it can be retried soon; with an
/// invalid address it never succeeds.
async fn request(
    world: &World,
    platform: &PlatformIdentity,
    event: &Event,
    attempt: u32,
) -> Result<Request<Bytes>, Unacknowledged> {
    let destination = event
        .destination
        .as_deref()
        .ok_or(Unacknowledged::NotSent)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(destination)
        .header(header::CONTENT_TYPE, "application/json")
        .header("paymux-delivery", attempt)
        .body(Bytes::from(event.body.clone()))
        .map_err(|_| Unacknowledged::NotSent)?;
    let now: Timestamp = world.clock.now();
    let nonce = URL_SAFE_NO_PAD.encode(world.entropy.draw::<16>());
    let sign = move |key: &SigningKey, target: &str, mut request: Request<Bytes>| {
        let covering = Covering {
            created_s: now.seconds(),
            expires_s: Some(now.seconds().saturating_add(SIGNATURE_LIFE_S)),
            nonce: Some(&nonce),
        };
        signature::sign_request(&mut request, target, key, &covering).ok()?;
        Some(request)
    };
    let Some(key) = platform.signing.at(now.seconds()) else {
        tracing::error!("no platform key is in force; a notification cannot be signed");
        return Err(Unacknowledged::NotSent);
    };
    // The target as sent on the wire, not as registered: an empty path becomes `/`.
    let target = request.uri().to_string();
    if !key.is_slow() {
        return sign(key, &target, request).ok_or(Unacknowledged::NotSent);
    }
    let key = Arc::clone(key);
    let signed = world
        .signing
        .sign(move || sign(&key, &target, request))
        .await;
    signed
        .ok_or(Unacknowledged::NoKeyPermit)?
        .ok_or(Unacknowledged::NotSent)
}

/// A delivery that is written to the exchange log.
struct LoggedDelivery {
    at: Timestamp,
    attempt: u32,
    request: RequestCopy,
}

fn log_exchange(
    world: &World,
    event: &Event,
    logged: LoggedDelivery,
    acknowledged: &Result<(), Unacknowledged>,
    answer: &Result<Response<Bytes>, SendError>,
) {
    let LoggedDelivery {
        at,
        attempt,
        request,
    } = logged;
    let result = match acknowledged {
        Ok(()) => "acknowledged".to_owned(),
        Err(reason) => format!("not acknowledged: {reason}"),
    };
    world.exchange_log.append(ExchangeEntry {
        about: OrderKey::PayOrderNo(event.merchant.clone(), event.order.clone()),
        at,
        took: world.clock.now().since(at),
        with: format!("merchant {}", event.merchant),
        what: format!("notify {}, delivery {attempt}", event.kind.name()),
        result,
        is_unproven: false,
        is_paying: false,
        format: MessageFormat::INTERFACE,
        request,
        reply: answer.as_ref().ok().map(ReplyCopy::of),
    });
}
