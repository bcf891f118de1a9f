//! The public surface: `http::Request<Bytes>` to `http::Response<Bytes>`, every endpoint on one
//! screen. Knows nothing of sockets; what it answers is always from committed state.

pub mod cards;
mod events;
mod exchange_log;
mod interface;
mod merchant;
pub mod order;
pub mod page;
pub mod priority;
pub mod query;
pub mod reading;
pub mod refund;
pub mod refusal;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};

use crate::api::refusal::no_store;
use crate::domain::identifiers::{InstitutionId, Timestamp, hex};
use crate::domain::merchant::ShownCertificate;
use crate::domain::refusal::Refusal;
use crate::flow::admit_request::refused_callers::{RefusedCaller, RefusedCallers};
use crate::flow::admit_request::{AdmissionPolicy, ReadNonces, check_rate};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::receive_callback::receive_callback;
use crate::store::{InboxStatus, Store};
use crate::world::World;

/// Who is at the other end of the connection, as far as TLS and TCP know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address of the connection.
    pub address: IpAddr,
    /// The client certificate, whose handshake proved its key; unchecked otherwise.
    pub certificate: Option<ShownCertificate>,
}

/// The parts that answering takes, under one version of the configuration; each flow is handed
/// what it uses. Another version is another one of these, so that no request sees half of a swap
/// (F1).
pub struct Api {
    /// What outlives the process.
    pub store: Arc<Store>,
    /// Time, chance, network.
    pub world: World,
    /// The enrolment in force.
    pub snapshot: Arc<ConfigurationSnapshot>,
    /// What every merchant's request passes.
    pub admission: AdmissionPolicy,
    /// Nonces of requests that read only.
    pub reads: Arc<ReadNonces>,
    /// Who was refused for want of proof or standing, on its way to the audit log.
    pub refused_callers: Arc<RefusedCallers>,
}

/// An answer, and what there is to count about it. Words only, each from a bounded set.
pub struct ApiResponse {
    /// What goes back.
    pub response: Response<Bytes>,
    /// Which interface: `A3.1`, `X-2`, `page` …
    pub interface: &'static str,
    /// `result` or the code of the refusal.
    pub result: &'static str,
}

/// Which endpoint a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ApiEndpoint<'a> {
    Place,
    Institutions,
    Select,
    Query,
    Close,
    Refund,
    RefundQuery,
    Events,
    Callback(&'a str),
    Keys,
    Interface,
    Page(&'a str),
    PageStatus(&'a str),
}

impl<'a> ApiEndpoint<'a> {
    /// Every endpoint, its methods, and the name it is counted under.
    fn find(path: &'a str) -> Option<(Self, &'static str, &'static str)> {
        Some(match path {
            "/v1/orders" => (Self::Place, "POST", "A3.1"),
            "/v1/orders/institutions" => (Self::Institutions, "POST", "X-1"),
            "/v1/orders/select" => (Self::Select, "POST", "X-2"),
            "/v1/orders/query" => (Self::Query, "POST", "A3.2"),
            "/v1/orders/close" => (Self::Close, "POST", "X-3"),
            "/v1/refunds" => (Self::Refund, "POST", "A3.4"),
            "/v1/refunds/query" => (Self::RefundQuery, "POST", "X-5"),
            "/v1/events" => (Self::Events, "POST", "events"),
            "/.well-known/jwks.json" => (Self::Keys, "GET, HEAD", "jwks"),
            "/openapi.yaml" => (Self::Interface, "GET, HEAD", "openapi"),
            _ => {
                if let Some(institution) = path.strip_prefix("/v1/callbacks/") {
                    return Some((Self::Callback(institution), "POST", "X-11"));
                }
                let token = path.strip_prefix("/pay/")?;
                match token.strip_suffix("/status") {
                    Some(token) => (Self::PageStatus(token), "GET, HEAD", "X-6"),
                    None => (Self::Page(token), "GET, HEAD, POST", "page"),
                }
            }
        })
    }
}

impl ApiEndpoint<'_> {
    /// Whether merchants or institutions are answered there: what they say of payers stays in bodies,
    /// which nobody on the way writes down.
    fn takes_no_query(self) -> bool {
        match self {
            Self::Place
            | Self::Institutions
            | Self::Select
            | Self::Query
            | Self::Close
            | Self::Refund
            | Self::RefundQuery
            | Self::Events
            | Self::Callback(_) => true,
            Self::Keys | Self::Interface | Self::Page(_) | Self::PageStatus(_) => false,
        }
    }
}

impl Api {
    /// Answers one request. Never fails: what cannot be done is a refusal. HEAD is answered like GET:
    /// the edge counts the body (RFC 9110, 8.6) and does not send it.
    pub async fn answer(&self, request: Request<Bytes>, peer: Peer) -> ApiResponse {
        let snapshot = &*self.snapshot;
        if let Err(refusal) = check_rate(&self.admission, snapshot, peer.address, peer.certificate)
        {
            return self.refused("unknown", &refusal);
        }
        let path = request.uri().path();
        let Some((endpoint, methods, interface)) = ApiEndpoint::find(path) else {
            return self.refused("unknown", &Refusal::PathUnknown);
        };
        if !methods
            .split(", ")
            .any(|method| request.method().as_str() == method)
        {
            return self.refused(interface, &Refusal::MethodWrong(methods));
        }
        if endpoint.takes_no_query() && request.uri().query().is_some() {
            return self.refused(interface, &Refusal::QueryUnexpected);
        }
        let mut answer = match endpoint {
            ApiEndpoint::Callback(institution) => {
                self.callback(snapshot, institution, &request, peer).await
            }
            ApiEndpoint::Keys => keys(snapshot),
            ApiEndpoint::Interface => interface::answer(),
            ApiEndpoint::Page(token) | ApiEndpoint::PageStatus(token) => {
                let status = matches!(endpoint, ApiEndpoint::PageStatus(_));
                page::answer(self, snapshot, token, status, &request).await
            }
            ApiEndpoint::Place
            | ApiEndpoint::Institutions
            | ApiEndpoint::Select
            | ApiEndpoint::Query
            | ApiEndpoint::Close
            | ApiEndpoint::Refund
            | ApiEndpoint::RefundQuery
            | ApiEndpoint::Events => {
                self.merchant(snapshot, endpoint, interface, &request, peer)
                    .await
            }
        };
        if !matches!(endpoint, ApiEndpoint::Interface | ApiEndpoint::Keys) {
            no_store(answer.response.headers_mut());
        }
        answer
    }

    /// untouched bytes to the right adapter; the path names the institution (C1).
    async fn callback(
        &self,
        snapshot: &ConfigurationSnapshot,
        institution: &str,
        request: &Request<Bytes>,
        peer: Peer,
    ) -> ApiResponse {
        let interface = "X-11";
        let Ok(institution) = InstitutionId::parse(institution) else {
            return self.refused(interface, &Refusal::PathUnknown);
        };
        let received =
            receive_callback(&self.store, &self.world, snapshot, &institution, request).await;
        match received {
            Some(received) => {
                let result = match received.status {
                    InboxStatus::Genuine => "GENUINE",
                    InboxStatus::Quarantined => "QUARANTINED",
                    InboxStatus::Forged => "FORGED",
                };
                if received.status == InboxStatus::Forged {
                    self.count_refused(peer, interface, result);
                    if self.refused_callers.may_log(self.now()) {
                        tracing::warn!(institution.id = %institution, why = received.why,
                            request.id = received.request_id, "callback not proven");
                    }
                }
                ApiResponse {
                    response: received.answer,
                    interface,
                    result,
                }
            }
            // Enrolled, and none of its keys is in force: it may say so again later.
            None if snapshot.routing.institutions.contains_key(&institution) => {
                self.refused(interface, &Refusal::Unavailable)
            }
            None => self.refused(interface, &Refusal::PathUnknown),
        }
    }

    /// A refusal of somebody unknown, with a number that the log knows it by if there was room for a line.
    pub fn refused(&self, interface: &'static str, refusal: &Refusal) -> ApiResponse {
        // A line costs its reader nothing to cause: only so many of them.
        let is_logged = !is_overload_refusal(refusal) && self.refused_callers.may_log(self.now());
        self.refuse(interface, refusal, is_logged)
    }

    /// A refusal of somebody who is known, and whose requests have their bound.
    fn refused_authenticated(&self, interface: &'static str, refusal: &Refusal) -> ApiResponse {
        self.refuse(interface, refusal, !is_overload_refusal(refusal))
    }

    fn refuse(&self, interface: &'static str, refusal: &Refusal, is_logged: bool) -> ApiResponse {
        let request_id = hex(&self.world.entropy.draw::<8>());
        let code = refusal.code();
        if is_logged {
            tracing::info!(interface, code, request.id = request_id, "refused");
        } else {
            tracing::debug!(interface, code, request.id = request_id, "refused");
        }
        let response = refusal::problem(refusal, &request_id);
        ApiResponse {
            response,
            interface,
            result: refusal.code(),
        }
    }

    /// L5: whoever was refused for want of proof, by what the connection shows.
    fn count_refused(&self, peer: Peer, interface: &'static str, code: &'static str) {
        let caller = RefusedCaller::Connection(peer.address, peer.certificate.as_ref());
        self.refused_callers.count(caller, interface, code);
    }

    /// The moment, for whoever holds the api and no world.
    pub fn now(&self) -> Timestamp {
        self.world.clock.now()
    }
}

/// Counted by what sheds load; a line for each would be a flood of its own.
fn is_overload_refusal(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::TooOften { .. } | Refusal::Unavailable)
}

/// How long the platform's keys may be kept: as long as merchants are told to believe them, so that
/// one that was withdrawn is soon believed no more.
const KEYS_CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=600");

/// The platform's keys (R-6.3.1-1c): public, so not signed.
fn keys(snapshot: &ConfigurationSnapshot) -> ApiResponse {
    let mut response = Response::new(snapshot.platform.jwks.clone());
    *response.status_mut() = StatusCode::OK;
    let json = HeaderValue::from_static("application/json");
    let nosniff = HeaderValue::from_static("nosniff");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::CACHE_CONTROL, KEYS_CACHE_CONTROL);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    ApiResponse {
        response,
        interface: "jwks",
        result: "ACCEPTED",
    }
}
