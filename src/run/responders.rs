//! The responders of both listeners: the public API with its metrics; metrics and health for
//! operations.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::sync::watch;

use super::in_force::ActiveConfiguration;
use super::now;
use crate::api::refusal::problem;
use crate::api::{AnsweredCaller, ApiResponse, EndpointMatch, Peer};
use crate::config::PartyKind;
use crate::domain::identifiers::{PayOrderNo, hex};
use crate::domain::order::{CallbackDelivery, Urgency};
use crate::edge::{ConnectionProof, EdgeResponse, EnrolmentCheck, Refuse, Responder, Responding};
use crate::metrics::{CallerClass, Metrics, RequestLabels};
use crate::store::ledger::ReconciliationLedger;
use crate::store::nonce_cache::NonceCacheStats;
use crate::store::outbox::{DESTINATION_SHARE, DeadEventFilter, DeliveryShares};
use crate::store::unresolved::{LaneShares, UrgencyShares};
use crate::store::{InboxStatus, LeaseKind};
use crate::world::{Entropy, SystemEntropy};

/// The responder of the public listener, with metrics.
pub(super) fn public(
    in_force: Arc<ArcSwap<ActiveConfiguration>>,
    metrics: Arc<Metrics>,
) -> Responder {
    Arc::new(
        move |request: Request<Bytes>, peer: Peer, matched: EndpointMatch| -> Responding {
            // One configuration version for the whole request.
            let (served, metrics) = (in_force.load_full(), Arc::clone(&metrics));
            Box::pin(async move {
                let began = now();
                let answer = served.api.answer_matched(matched, request, peer).await;
                count(&metrics, &answer, began.elapsed());
                let proof = proof(&answer.caller, answer.response.status());
                let response = answer.response;
                EdgeResponse { response, proof }
            })
        },
    )
}

fn count(metrics: &Metrics, answer: &ApiResponse, took: Duration) {
    let (status, result) = (answer.response.status(), answer.result);
    let labels = RequestLabels {
        interface: answer.interface,
        caller: caller_class(&answer.caller),
    };
    let refused = status.is_client_error() || status.is_server_error();
    metrics.request(labels, refused, result, took);
    if let AnsweredCaller::Institution(institution, _) = &answer.caller {
        metrics.institutions.callback(institution.as_str(), result);
    } else if refused {
        metrics.refusal(result);
    }
}

/// The kind of caller, as far as it authenticated.
fn caller_class(caller: &AnsweredCaller) -> CallerClass {
    match caller {
        AnsweredCaller::Merchant => CallerClass::Merchant,
        AnsweredCaller::Institution(_, InboxStatus::Genuine | InboxStatus::Quarantined) => {
            CallerClass::Institution
        }
        AnsweredCaller::Payer(_) => CallerClass::Payer,
        AnsweredCaller::Institution(_, InboxStatus::Forged) | AnsweredCaller::Unknown => {
            CallerClass::Unknown
        }
    }
}

/// Whether that is enough to keep a connection when no more can be opened.
fn proof(caller: &AnsweredCaller, status: StatusCode) -> Option<ConnectionProof> {
    match caller {
        AnsweredCaller::Merchant if may_be_a_replay(status) => None,
        AnsweredCaller::Merchant
        | AnsweredCaller::Institution(_, InboxStatus::Genuine | InboxStatus::Quarantined) => {
            Some(ConnectionProof::Party)
        }
        AnsweredCaller::Payer(order) if status.is_success() => {
            Some(ConnectionProof::Payer(page(order)))
        }
        AnsweredCaller::Institution(_, InboxStatus::Forged)
        | AnsweredCaller::Payer(_)
        | AnsweredCaller::Unknown => None,
    }
}

/// Whether a replay of a request that somebody else signed could get such a response: it is
/// rejected before its nonce is spent, or because the nonce is spent.
fn may_be_a_replay(status: StatusCode) -> bool {
    let refused = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    refused.contains(&status) || status.is_server_error()
}

/// A number for the page of an order, the same for the page and its status.
fn page(order: &PayOrderNo) -> u64 {
    let mut hasher = DefaultHasher::new();
    order.as_str().hash(&mut hasher);
    hasher.finish()
}

/// The state that the operations listener shows.
pub(super) struct OperationsState {
    pub(super) metrics: Arc<Metrics>,
    pub(super) in_force: Arc<ArcSwap<ActiveConfiguration>>,
    pub(super) ledger: Arc<dyn ReconciliationLedger>,
    pub(super) ready: watch::Receiver<bool>,
}

impl OperationsState {
    /// Reads values that are not counted as they change, then renders the page.
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
        // Work that waits for payers' requests is not late.
        let unresolved = LaneShares::only(Urgency::Unresolved, UrgencyShares::same(1));
        let orders = api.store.unresolved.next_order(&unresolved).await;
        let orders = orders.map(|next| next.due);
        let shares = DeliveryShares::same(DESTINATION_SHARE);
        let events = api.store.outbox.next_event(&shares).await;
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
        let review = self.ledger.awaiting_manual_review(0).await;
        if let (Ok((refunds, _)), Ok((breaks, _))) = (review, self.ledger.open_breaks(0).await) {
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
        let all = LaneShares::same(u32::MAX);
        *self.ready.borrow() && store.unresolved.next_order(&all).await.is_ok()
    }
}

/// Whose certificates are enrolled, checked against the configuration in force at that moment.
pub(super) fn enrolled(in_force: Arc<ArcSwap<ActiveConfiguration>>) -> EnrolmentCheck {
    Arc::new(move |shown| {
        let served = in_force.load();
        let snapshot = &served.api.snapshot;
        shown.is_in_force(served.api.now()) && snapshot.knows_certificate(&shown.digest)
    })
}

/// Why the operations listener rejects a request: it answers only reads, under one of its own
/// names. A page in a staff member's browser can send requests too, but only under its own host name,
/// which its owner points here (DNS rebinding). A request without a name, as old health checks
/// send, comes from no browser.
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
    Arc::new(move |request: Request<Bytes>, _, _| -> Responding {
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
            response.into()
        })
    })
}

/// The response of the edge to what never became a request.
pub(super) fn refuse() -> Refuse {
    Arc::new(|refusal| {
        let entropy: &dyn Entropy = &SystemEntropy;
        problem(refusal, &hex(&entropy.draw::<8>()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identifiers::{InstitutionId, Timestamp};

    /// R-6.3.1-3a: repeating what somebody else signed, and being rejected for it, keeps no
    /// connection.
    #[test]
    fn a_replayed_request_proves_no_caller() {
        let merchant = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            proof(&AnsweredCaller::Merchant, status).is_some()
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

    /// R-6.3.1-3a: whoever has opened an order's page keeps one place by it, another order's page is
    /// another; a page that was refused is none.
    #[test]
    fn one_order_is_one_page() {
        let caller = |draw| {
            let order = PayOrderNo::mint(Timestamp::from_ms(1), [draw; 10]);
            AnsweredCaller::Payer(order)
        };
        let first = proof(&caller(1), StatusCode::OK);
        assert!(matches!(first, Some(ConnectionProof::Payer(_))));
        assert_eq!(proof(&caller(1), StatusCode::OK), first);
        assert_ne!(proof(&caller(2), StatusCode::OK), first);
        assert_eq!(proof(&caller(1), StatusCode::NOT_FOUND), None);
    }

    /// R-6.3.1-3a: a forged callback proves nothing of its sender.
    #[test]
    fn a_forged_callback_proves_no_caller() {
        let proof = |status| {
            let institution = InstitutionId::parse("harbour").unwrap();
            let caller = AnsweredCaller::Institution(institution, status);
            super::proof(&caller, StatusCode::OK)
        };
        assert_eq!(proof(InboxStatus::Genuine), Some(ConnectionProof::Party));
        assert_eq!(proof(InboxStatus::Forged), None);
    }
}
