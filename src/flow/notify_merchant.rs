//! The merchant is told, until it says it heard (A3.3, X-4): the same bytes under the same id,
//! signed anew for each delivery (N3).

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
use crate::domain::merchant::origin;
use crate::domain::schedule;
use crate::flow::answer::sign_on_blocking_thread;
use crate::flow::configuration_snapshot::PlatformIdentity;
use crate::signature::{self, Covering, SigningKey};
use crate::store::{DeliveryOutcome, Lease, LeaseCompletion, LeasedWork, Outbox, StoreError};
use crate::world::exchange_log::{ExchangeEntry, ReplyCopy, RequestCopy};
use crate::world::{CallTimeouts, OutboundParty, SendError, World};

use acknowledgement::{Unacknowledged, is_acknowledged};

/// Bytes of a merchant's answer that are read (`interface.md`, Notifications).
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// After a lack of our own, before the same delivery is tried again.
const SHORTAGE_WAIT: Duration = Duration::from_secs(5);

/// Life of a notification's signature. Unit: seconds.
const SIGNATURE_LIFE_S: i64 = 300;

/// What became of one delivery; a word for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The merchant said SUCCESS, so long after the event's birth.
    Delivered(Duration),
    /// It will be tried again.
    Again,
    /// Nothing left, by a lack of ours: it will be tried again and counts as no try (H1).
    Throttled,
    /// The schedule is used up (N2).
    Dead,
    /// Somebody else has the lease; a repeat is possible, a loss is not (N6).
    LeaseLost,
}

/// Delivers one leased event once, and completes its lease.
pub async fn notify_merchant(
    outbox: &dyn Outbox,
    world: &World,
    platform: &PlatformIdentity,
    lease: &Lease,
) -> Result<Delivery, StoreError> {
    let LeasedWork::Event(event, born) = &lease.of else {
        return Ok(Delivery::LeaseLost);
    };
    let attempt = lease.tries.saturating_add(1);
    let heard = match request(world, platform, event, attempt).await {
        Ok(request) => {
            let (at, is_logged) = (world.clock.now(), world.exchange_log.is_on());
            let copy = is_logged.then(|| RequestCopy::of(&request, shown(event)));
            let answer = world
                .outbound
                .send(&OutboundParty::Merchant, request, timeouts(attempt).into())
                .await;
            let heard = is_acknowledged(&answer);
            if let Some(copy) = copy {
                log_exchange(world, event, (at, attempt), copy, (&heard, &answer));
            }
            heard
        }
        Err(unmade) => Err(unmade),
    };
    if let Err(reason) = &heard {
        tracing::info!(event.id = event.id.as_str(), merchant.id = %event.merchant, attempt,
            %reason, "a notification was not acknowledged");
    }
    let now = world.clock.now();
    let age = now.since(*born);
    let wait = schedule::notice_wait(attempt);
    let (outcome, delivery) = match (heard, wait) {
        (Ok(()), _) => (DeliveryOutcome::Delivered(now), Delivery::Delivered(age)),
        (Err(reason), _) if reason.is_our_shortage() => {
            let again = DeliveryOutcome::NotAttempted(now.plus(SHORTAGE_WAIT));
            (again, Delivery::Throttled)
        }
        (Err(_), Some(wait)) => (DeliveryOutcome::Again(now.plus(wait)), Delivery::Again),
        (Err(_), None) => {
            tracing::error!(event.id = event.id.as_str(), merchant.id = %event.merchant,
                "a notification was never acknowledged and is given up; it can be sent again");
            (DeliveryOutcome::Dead, Delivery::Dead)
        }
    };
    Ok(match outbox.complete(lease, outcome).await? {
        LeaseCompletion::Done => delivery,
        LeaseCompletion::LeaseLost => Delivery::LeaseLost,
    })
}

/// Of a merchant's address the origin: what stands behind it is the merchant's own, and may be about
/// the payer (D1).
fn shown(event: &Event) -> String {
    let to = event.destination.as_deref().unwrap_or_default();
    format!("{}/***", origin(to).unwrap_or_default())
}

/// 2 s for the first byte and 4 s in all at first, so that a healthy merchant is told within 3 s
/// and a slow one holds up nobody; 10 s later on.
fn timeouts(attempt: u32) -> CallTimeouts {
    let (head, whole) = if attempt == 1 { (2, 4) } else { (10, 10) };
    CallTimeouts {
        head: Duration::from_secs(head),
        whole: Duration::from_secs(whole),
        body_bytes_max: ANSWER_BYTES_MAX,
    }
}

/// The request, or what it means that there is none: without a turn of a slow key there may be one
/// soon, with an address that is none there never will.
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
        tracing::error!("no platform key is in force: a notification waits for one");
        return Err(Unacknowledged::NotSent);
    };
    // As it goes over the wire, not as it was registered: there an empty path is `/`.
    let target = request.uri().to_string();
    let Some(permits) = key.permits() else {
        return sign(key, &target, request).ok_or(Unacknowledged::NotSent);
    };
    let key = Arc::clone(key);
    let signed = sign_on_blocking_thread(permits, move || sign(&key, &target, request)).await;
    signed
        .ok_or(Unacknowledged::NoKeyPermit)?
        .ok_or(Unacknowledged::NotSent)
}

fn log_exchange(
    world: &World,
    event: &Event,
    (at, attempt): (Timestamp, u32),
    request: RequestCopy,
    (heard, answer): (
        &Result<(), Unacknowledged>,
        &Result<Response<Bytes>, SendError>,
    ),
) {
    let result = match heard {
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
        request,
        reply: answer.as_ref().ok().map(ReplyCopy::of),
    });
}
