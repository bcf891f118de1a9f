//! What answers on each listener: the public surface, counted; metrics and health for operations.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::sync::watch;

use super::in_force::ActiveConfiguration;
use super::now;
use crate::api::refusal::problem;
use crate::api::{ApiResponse, Peer};
use crate::config::PartyKind;
use crate::domain::identifiers::{PageToken, hex};
use crate::domain::order::{CallbackDelivery, PollLane, Urgency};
use crate::edge::{ConnectionProof, EnrolmentCheck, Refuse, Responder, Responding};
use crate::metrics::{CallerClass, Metrics, RequestLabels};
use crate::store::ledger::ReconciliationLedger;
use crate::store::nonce_cache::NonceCacheStats;
use crate::store::outbox::{DESTINATION_SHARE, DeadEventFilter};
use crate::store::{InboxStatus, LeaseKind};
use crate::world::{Entropy, SystemEntropy};

/// What answers on the public listener, counted.
pub(super) fn public(
    in_force: Arc<ArcSwap<ActiveConfiguration>>,
    metrics: Arc<Metrics>,
) -> Responder {
    Arc::new(move |request: Request<Bytes>, peer: Peer| -> Responding {
        // One version for all of this request.
        let (served, metrics) = (in_force.load_full(), Arc::clone(&metrics));
        Box::pin(async move {
            let began = now();
            let path = request.uri().path();
            let page = page(path);
            let called_back = path.strip_prefix("/v1/callbacks/").map(str::to_owned);
            let ApiResponse {
                mut response,
                interface,
                result,
            } = served.api.answer(request, peer).await;
            let caller = caller_class(interface, result, &response);
            if let Some(proven) = proven(caller, page, response.status()) {
                response.extensions_mut().insert(proven);
            }
            let (asked, took) = (RequestLabels { interface, caller }, began.elapsed());
            let refused =
                response.status().is_client_error() || response.status().is_server_error();
            metrics.request(asked, refused, result, took);
            if let Some(institution) = called_back.filter(|_| is_callback_result(result)) {
                metrics.institutions.callback(&institution, result);
            } else if refused {
                metrics.refusal(result);
            }
            response
        })
    })
}

/// Whether a result is what became of a callback: then its path named a configured institution.
fn is_callback_result(result: &str) -> bool {
    [
        InboxStatus::Genuine,
        InboxStatus::Quarantined,
        InboxStatus::Forged,
    ]
    .iter()
    .any(|decision| decision.name() == result)
}

/// What kind of caller was answered, as far as he proved it: merchants' answers are signed exactly
/// when they did.
fn caller_class(interface: &str, result: &str, response: &Response<Bytes>) -> CallerClass {
    match interface {
        "X-11" if is_callback_result(result) && result != InboxStatus::Forged.name() => {
            CallerClass::Institution
        }
        "page" | "X-6" => CallerClass::Payer,
        _ if interface != "X-11" && response.headers().contains_key("signature") => {
            CallerClass::Merchant
        }
        _ => CallerClass::Unknown,
    }
}

/// Whether that is enough to keep a connection when there are no more.
fn proven(caller: CallerClass, page: Option<u64>, status: StatusCode) -> Option<ConnectionProof> {
    match caller {
        CallerClass::Merchant if may_be_a_replay(status) => None,
        CallerClass::Merchant | CallerClass::Institution => Some(ConnectionProof::Party),
        CallerClass::Payer if status.is_success() => page.map(ConnectionProof::Payer),
        CallerClass::Payer | CallerClass::Unknown => None,
    }
}

/// Whether such an answer can be had with a request that somebody else signed, long ago: it is refused
/// before its nonce is spent, or because it was.
fn may_be_a_replay(status: StatusCode) -> bool {
    let refused = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    refused.contains(&status) || status.is_server_error()
}

/// The number of the order whose page has this path, the same for the page and its status.
fn page(path: &str) -> Option<u64> {
    let token = path.strip_prefix("/pay/")?;
    let token = token.strip_suffix("/status").unwrap_or(token);
    let token = PageToken::parse(token).ok()?;
    let mut hasher = DefaultHasher::new();
    token.order().as_str().hash(&mut hasher);
    Some(hasher.finish())
}

/// What the operations listener shows.
pub(super) struct OperationsState {
    pub(super) metrics: Arc<Metrics>,
    pub(super) in_force: Arc<ArcSwap<ActiveConfiguration>>,
    pub(super) ledger: Arc<dyn ReconciliationLedger>,
    pub(super) ready: watch::Receiver<bool>,
}

impl OperationsState {
    /// What nobody counts by the way is looked at when somebody asks.
    async fn page(&self) -> String {
        let memory = &self.metrics.memory;
        let served = self.in_force.load_full();
        let api = &served.api;
        let effects = api.store.nonce_cache.as_ref().map(|cache| cache.stats());
        let effects = effects.map(|stats| ("effects", stats));
        for (cache, stats) in effects.into_iter().chain([("reads", api.reads.stats())]) {
            let NonceCacheStats {
                hits,
                misses,
                entries,
            } = stats;
            memory.nonces(cache, hits, misses, entries);
        }
        // What waits for payers waits for requests as well: it is not late.
        let unresolved = |lane: PollLane<'_>| u32::from(lane.urgency == Urgency::Unresolved);
        let orders = api.store.unresolved.next_order(&unresolved).await;
        let events = api.store.outbox.next_event(&|_| DESTINATION_SHARE).await;
        for (work, due) in [(LeaseKind::Orders, orders), (LeaseKind::Events, events)] {
            if let Ok(due) = due {
                let lag = due.map(|due| api.now().since(due));
                memory.work_lag(work.word(), lag.unwrap_or_default());
            }
        }
        if let Ok(dead) = api
            .store
            .outbox
            .dead_lettered(&DeadEventFilter::default(), 0)
            .await
        {
            memory.dead(dead.count);
        }
        let people = self.ledger.awaiting_manual_review(0).await;
        if let (Ok((refunds, _)), Ok((breaks, _))) = (people, self.ledger.open_breaks(0).await) {
            memory.awaiting_manual_review(refunds, breaks);
        }
        let log = self.ledger.wal_size();
        memory.log(log.bytes, log.carried_bytes, log.restarts);
        for party in PartyKind::ALL {
            let count = served.unusable.at(party, api.now());
            self.metrics.configuration.unusable(party.word(), count);
        }
        let institutions = &self.metrics.institutions;
        for id in api.snapshot.routing.institutions.keys() {
            institutions.enrolled(id.as_str());
        }
        let show = |id: &str, state, times, callbacks| {
            institutions.breaker(id, state, times);
            institutions.callbacks_missing(id, i64::from(callbacks == CallbackDelivery::Missing));
        };
        let world = &api.world;
        world.health.show(world.clock.now(), show);
        self.metrics.render()
    }

    async fn is_ready(&self) -> bool {
        let store = Arc::clone(&self.in_force.load().api.store);
        *self.ready.borrow() && store.unresolved.next_order(&|_| u32::MAX).await.is_ok()
    }
}

/// Whose certificates are enrolled at the moment of the question.
pub(super) fn enrolled(in_force: Arc<ArcSwap<ActiveConfiguration>>) -> EnrolmentCheck {
    Arc::new(move |shown| {
        let served = in_force.load();
        let snapshot = &served.api.snapshot;
        shown.is_in_force(served.api.now()) && snapshot.knows_certificate(&shown.digest)
    })
}

/// Why the operations listener does not answer: it answers whoever asks to read, by a name it is
/// known by. A page in an operator's browser can ask too, but only under its own name, which its
/// owner points here (DNS rebinding); without a name, as health checks of old do, no browser asks.
fn misdirected(request: &Request<Bytes>, hosts: &[String]) -> Option<(StatusCode, &'static str)> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n"));
    }
    let host = request.headers().get(header::HOST)?;
    let name = host.to_str().ok().and_then(|host| {
        let authority: Authority = host.parse().ok()?;
        Some(authority.host().to_ascii_lowercase())
    });
    let is_ours = name.is_some_and(|name| {
        let bare = name.trim_matches(['[', ']']);
        name == "localhost" || bare.parse::<IpAddr>().is_ok() || hosts.contains(&name)
    });
    (!is_ours).then_some((
        StatusCode::MISDIRECTED_REQUEST,
        "expected localhost, an IP address or one of [listen] operations_hosts as Host\n",
    ))
}

/// Metrics and health, for the operations listener only.
pub(super) fn operations(operations: Arc<OperationsState>) -> Responder {
    Arc::new(move |request: Request<Bytes>, _peer: Peer| -> Responding {
        let operations = Arc::clone(&operations);
        Box::pin(async move {
            let served = operations.in_force.load_full();
            let refused = misdirected(&request, &served.operations_hosts);
            let (status, text) = match (refused, request.uri().path()) {
                (Some((status, why)), _) => (status, why.to_owned()),
                (None, "/metrics") => (StatusCode::OK, operations.page().await),
                (None, "/healthz") => (StatusCode::OK, "alive\n".to_owned()),
                (None, "/readyz") if operations.is_ready().await => {
                    (StatusCode::OK, "ready\n".to_owned())
                }
                (None, "/readyz") => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
                (None, _) => (
                    StatusCode::NOT_FOUND,
                    "/metrics /healthz /readyz\n".to_owned(),
                ),
            };
            let mut response = Response::new(Bytes::from(text));
            *response.status_mut() = status;
            let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, plain);
            if status == StatusCode::METHOD_NOT_ALLOWED {
                let allowed = HeaderValue::from_static("GET, HEAD");
                response.headers_mut().insert(header::ALLOW, allowed);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identifiers::{PayOrderNo, Timestamp};

    /// R-6.3.1-3a: who repeats what somebody else signed, and is refused for it, holds no place by it.
    #[test]
    fn a_replayed_request_proves_no_caller() {
        let merchant = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            proven(CallerClass::Merchant, None, status).is_some()
        };
        for (status, is_proven) in [
            (200, true),
            (202, true),
            (404, true),
            (409, true),
            (422, true),
            (401, false),
            (403, false),
            (429, false),
            (503, false),
        ] {
            assert_eq!(merchant(status), is_proven, "{status}");
        }
    }

    /// R-6.3.1-3a: an order's page and its status are one page, however the address is spelled; another
    /// order's is another, and what is no address of a page is none.
    #[test]
    fn one_order_is_one_page() {
        let token = |draw| {
            let order = PayOrderNo::mint(Timestamp::from_ms(1), [draw; 10]);
            PageToken::new(order, [0xab; 16]).expose()
        };
        let (first, second) = (token(1), token(2));
        let number = page(&format!("/pay/{first}"));
        assert!(number.is_some());
        assert_eq!(page(&format!("/pay/{first}/status")), number);
        let (order, secret) = first.split_once('.').unwrap();
        let shouted = format!("/pay/{order}.{}", secret.to_uppercase());
        assert!([None, number].contains(&page(&shouted)));
        assert_ne!(page(&format!("/pay/{second}")), number);
        assert_eq!(page("/pay/nobodys"), None);
    }
}
