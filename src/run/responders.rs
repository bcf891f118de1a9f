//! What answers on each listener: the public surface, counted; metrics and health for operations.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tokio::sync::watch;

use super::in_force::InForce;
use super::now;
use crate::api::refusal::problem;
use crate::api::{Answer, Peer};
use crate::domain::identifiers::hex;
use crate::edge::{Refuse, Responder, Responding};
use crate::metrics::{CallerClass, Metrics};
use crate::store::{Store, Work};
use crate::world::{Entropy, SystemEntropy, World};

/// What answers on the public listener, counted.
pub(super) fn public(in_force: Arc<ArcSwap<InForce>>, metrics: Arc<Metrics>) -> Responder {
    Arc::new(move |request: Request<Bytes>, peer: Peer| -> Responding {
        // One version for all of this request.
        let (served, metrics) = (in_force.load_full(), Arc::clone(&metrics));
        Box::pin(async move {
            let began = now();
            let Answer {
                response,
                interface,
                result,
            } = served.api.answer(request, peer).await;
            let caller = match interface {
                "X-11" => CallerClass::Institution,
                "page" | "X-6" => CallerClass::Payer,
                "jwks" | "openapi" | "unknown" => CallerClass::Unknown,
                _ => CallerClass::Merchant,
            };
            metrics.request(interface, caller, result, began.elapsed());
            if response.status().is_client_error() || response.status().is_server_error() {
                metrics.refusal(result);
            }
            response
        })
    })
}

/// Metrics and health, for the operations listener only.
pub(super) fn operations(
    metrics: &Arc<Metrics>,
    world: &World,
    store: &Arc<dyn Store>,
    ready: watch::Receiver<bool>,
) -> Responder {
    let (metrics, world, store) = (Arc::clone(metrics), world.clone(), Arc::clone(store));
    Arc::new(move |request: Request<Bytes>, _peer: Peer| -> Responding {
        let (metrics, store, ready) = (Arc::clone(&metrics), Arc::clone(&store), *ready.borrow());
        let world = world.clone();
        Box::pin(async move {
            let (status, text) = match request.uri().path() {
                "/metrics" => {
                    let show = |id: &_, state, times| metrics.breaker(id, state, times);
                    world.health.show(world.clock.now(), show);
                    (StatusCode::OK, metrics.render())
                }
                "/healthz" => (StatusCode::OK, "alive\n".to_owned()),
                "/readyz" => {
                    let answers = store.next_due(Work::Orders).await.is_ok();
                    if ready && answers {
                        (StatusCode::OK, "ready\n".to_owned())
                    } else {
                        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned())
                    }
                }
                _ => (
                    StatusCode::NOT_FOUND,
                    "/metrics /healthz /readyz\n".to_owned(),
                ),
            };
            let mut response = Response::new(Bytes::from(text));
            *response.status_mut() = status;
            let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, plain);
            response
        })
    })
}

/// How the edge refuses what never became a request.
pub(super) fn refuse() -> Refuse {
    Arc::new(|refusal| {
        let entropy: &dyn Entropy = &SystemEntropy;
        problem(refusal, &hex(&entropy.draw::<8>()))
    })
}
