//! What answers on each listener: the public surface, counted; metrics and health for operations.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::sync::watch;

use super::in_force::InForce;
use super::now;
use crate::api::refusal::problem;
use crate::api::{Answer, Peer};
use crate::config::PartyKind;
use crate::domain::identifiers::{PageToken, hex};
use crate::domain::order::{Callbacks, Lane, Urgency};
use crate::edge::{Enrolled, Proven, Refuse, Responder, Responding};
use crate::metrics::{Asked, CallerClass, Metrics};
use crate::store::ledger::Ledger;
use crate::store::owed::Which;
use crate::store::remembered::{Recall, Remembered};
use crate::store::{Verdict, Work};
use crate::world::{Entropy, SystemEntropy};

/// What answers on the public listener, counted.
pub(super) fn public(in_force: Arc<ArcSwap<InForce>>, metrics: Arc<Metrics>) -> Responder {
    Arc::new(move |request: Request<Bytes>, peer: Peer| -> Responding {
        // One version for all of this request.
        let (served, metrics) = (in_force.load_full(), Arc::clone(&metrics));
        Box::pin(async move {
            let began = now();
            let path = request.uri().path();
            let page = page(path);
            let called_back = path.strip_prefix("/v1/callbacks/").map(str::to_owned);
            let Answer {
                mut response,
                interface,
                result,
            } = served.api.answer(request, peer).await;
            let caller = caller_class(interface, result, &response);
            if let Some(proven) = proven(caller, page, response.status()) {
                response.extensions_mut().insert(proven);
            }
            let (asked, took) = (Asked { interface, caller }, began.elapsed());
            let refused =
                response.status().is_client_error() || response.status().is_server_error();
            metrics.request(asked, refused, result, took);
            if let Some(institution) = called_back.filter(|_| is_verdict(result)) {
                metrics.institutions.callback(&institution, result);
            } else if refused {
                metrics.refusal(result);
            }
            response
        })
    })
}

/// Whether a result is what became of a callback: then its path named a configured institution.
fn is_verdict(result: &str) -> bool {
    [Verdict::Genuine, Verdict::Quarantined, Verdict::Forged]
        .iter()
        .any(|verdict| verdict.name() == result)
}

/// What kind of caller was answered, as far as he proved it: merchants' answers are signed exactly
/// when they did.
fn caller_class(interface: &str, result: &str, response: &Response<Bytes>) -> CallerClass {
    match interface {
        "X-11" if is_verdict(result) && result != Verdict::Forged.name() => {
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
fn proven(caller: CallerClass, page: Option<u64>, status: StatusCode) -> Option<Proven> {
    match caller {
        CallerClass::Merchant if may_be_said_before(status) => None,
        CallerClass::Merchant | CallerClass::Institution => Some(Proven::Party),
        CallerClass::Payer if status.is_success() => page.map(Proven::Payer),
        CallerClass::Payer | CallerClass::Unknown => None,
    }
}

/// Whether such an answer can be had with a request that somebody else signed, long ago: it is refused
/// before its nonce is spent, or because it was.
fn may_be_said_before(status: StatusCode) -> bool {
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
pub(super) struct Operations {
    pub(super) metrics: Arc<Metrics>,
    pub(super) in_force: Arc<ArcSwap<InForce>>,
    pub(super) remembered: Arc<Remembered>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) ready: watch::Receiver<bool>,
}

impl Operations {
    /// What nobody counts by the way is looked at when somebody asks.
    async fn page(&self) -> String {
        let memory = &self.metrics.memory;
        let served = self.in_force.load_full();
        let api = &served.api;
        for (cache, recall) in [
            ("effects", self.remembered.recall()),
            ("reads", api.reads.recall()),
        ] {
            let Recall {
                hits,
                misses,
                entries,
            } = recall;
            memory.nonces(cache, hits, misses, entries);
        }
        // What waits for payers waits for requests as well: it is not late.
        let doubts = |lane: Lane<'_>| u32::from(lane.urgency == Urgency::Doubt);
        let orders = api.store.next_order(&doubts).await;
        let events = api.store.next_due(Work::Events).await;
        for (work, due) in [(Work::Orders, orders), (Work::Events, events)] {
            if let Ok(due) = due {
                let lag = due.map(|due| api.now().since(due));
                memory.work_lag(work.word(), lag.unwrap_or_default());
            }
        }
        if let Ok(dead) = api.store.dead(&Which::default(), 0).await {
            memory.dead(dead.count);
        }
        let people = self.ledger.left_to_people(0).await;
        if let (Ok((refunds, _)), Ok((incidents, _))) =
            (people, self.ledger.open_incidents(0).await)
        {
            memory.left_to_people(refunds, incidents);
        }
        let log = self.ledger.log_size();
        memory.log(log.bytes, log.carried_bytes, log.begun_anew);
        for party in PartyKind::ALL {
            let count = served.unusable.at(party, api.now());
            self.metrics.configuration.unusable(party.word(), count);
        }
        let institutions = &self.metrics.institutions;
        for id in api.register.directory.institutions.keys() {
            institutions.enrolled(id.as_str());
        }
        let show = |id: &str, state, times, callbacks| {
            institutions.breaker(id, state, times);
            institutions.callbacks_missing(id, i64::from(callbacks == Callbacks::Missing));
        };
        let world = &api.world;
        world.health.show(world.clock.now(), show);
        self.metrics.render()
    }

    async fn is_ready(&self) -> bool {
        let store = Arc::clone(&self.in_force.load().api.store);
        *self.ready.borrow() && store.next_due(Work::Orders).await.is_ok()
    }
}

/// Whose certificates are enrolled at the moment of the question.
pub(super) fn enrolled(in_force: Arc<ArcSwap<InForce>>) -> Enrolled {
    Arc::new(move |shown| {
        let served = in_force.load();
        let register = &served.api.register;
        shown.is_in_force(served.api.now()) && register.knows_certificate(&shown.digest)
    })
}

/// Why the operations listener does not answer: it answers whoever asks to read, by a name it is
/// known by. A page in an operator's browser can ask too, but only under its own name, which its
/// owner points here (DNS rebinding); without a name, as health checks of old do, no browser asks.
fn not_for(request: &Request<Bytes>, hosts: &[String]) -> Option<(StatusCode, &'static str)> {
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
pub(super) fn operations(operations: Arc<Operations>) -> Responder {
    Arc::new(move |request: Request<Bytes>, _peer: Peer| -> Responding {
        let operations = Arc::clone(&operations);
        Box::pin(async move {
            let served = operations.in_force.load_full();
            let refused = not_for(&request, &served.operations_hosts);
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
    fn a_request_that_was_said_before_proves_nobody() {
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
