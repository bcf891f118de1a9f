//! The public surface: `http::Request<Bytes>` to `http::Response<Bytes>`, every endpoint on one
//! screen. Knows nothing of sockets; what it answers is always from committed state.

pub mod cards;
mod events;
mod interface;
mod merchant;
mod noted;
pub mod order;
pub mod page;
pub mod query;
pub mod rank;
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
use crate::flow::admit_request::{Gate, ReadNonces, knock};
use crate::flow::receive_callback::receive_callback;
use crate::flow::register::Register;
use crate::store::{Store, Verdict};
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
    pub store: Arc<dyn Store>,
    /// Time, chance, network.
    pub world: World,
    /// The enrolment in force.
    pub register: Arc<Register>,
    /// What every merchant's request passes.
    pub gate: Gate,
    /// Nonces of requests that read only.
    pub reads: Arc<ReadNonces>,
}

/// An answer, and what there is to count about it. Words only, each from a bounded set.
pub struct Answer {
    /// What goes back.
    pub response: Response<Bytes>,
    /// Which interface: `A3.1`, `X-2`, `page` …
    pub interface: &'static str,
    /// `result` or the code of the refusal.
    pub result: &'static str,
}

/// Which endpoint a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint<'a> {
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

impl<'a> Endpoint<'a> {
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

impl Endpoint<'_> {
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
    pub async fn answer(&self, request: Request<Bytes>, peer: Peer) -> Answer {
        let register = &*self.register;
        if let Err(refusal) = knock(&self.gate, register, peer.address, peer.certificate) {
            return self.refused("unknown", &refusal);
        }
        let path = request.uri().path();
        let Some((endpoint, methods, interface)) = Endpoint::find(path) else {
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
            Endpoint::Callback(institution) => self.callback(register, institution, &request).await,
            Endpoint::Keys => keys(register),
            Endpoint::Interface => interface::answer(),
            Endpoint::Page(token) | Endpoint::PageStatus(token) => {
                let status = matches!(endpoint, Endpoint::PageStatus(_));
                page::answer(self, register, token, status, &request).await
            }
            Endpoint::Place
            | Endpoint::Institutions
            | Endpoint::Select
            | Endpoint::Query
            | Endpoint::Close
            | Endpoint::Refund
            | Endpoint::RefundQuery
            | Endpoint::Events => {
                self.merchant(register, endpoint, interface, &request, peer)
                    .await
            }
        };
        if !matches!(endpoint, Endpoint::Interface | Endpoint::Keys) {
            no_store(answer.response.headers_mut());
        }
        answer
    }

    /// untouched bytes to the right adapter; the path names the institution (C1).
    async fn callback(
        &self,
        register: &Register,
        institution: &str,
        request: &Request<Bytes>,
    ) -> Answer {
        let interface = "X-11";
        let Ok(institution) = InstitutionId::parse(institution) else {
            return self.refused(interface, &Refusal::PathUnknown);
        };
        let received =
            receive_callback(&*self.store, &self.world, register, &institution, request).await;
        match received {
            Some(received) => {
                let result = match received.verdict {
                    Verdict::Genuine => "GENUINE",
                    Verdict::Quarantined => "QUARANTINED",
                    Verdict::Forged => "FORGED",
                };
                Answer {
                    response: received.answer,
                    interface,
                    result,
                }
            }
            None => self.refused(interface, &Refusal::PathUnknown),
        }
    }

    /// A refusal with a number that the log knows it by.
    pub fn refused(&self, interface: &'static str, refusal: &Refusal) -> Answer {
        let request_id = hex(&self.world.entropy.draw::<8>());
        let code = refusal.code();
        if matches!(refusal, Refusal::TooOften { .. } | Refusal::Unavailable) {
            // Counted; a line for each would be a flood of its own.
            tracing::debug!(interface, code, request.id = request_id, "refused");
        } else {
            tracing::info!(interface, code, request.id = request_id, "refused");
        }
        let response = refusal::problem(refusal, &request_id);
        Answer {
            response,
            interface,
            result: refusal.code(),
        }
    }

    /// The moment, for whoever holds the api and no world.
    pub fn now(&self) -> Timestamp {
        self.world.clock.now()
    }
}

/// How long the platform's keys may be kept: as long as merchants are told to believe them, so that
/// one that was withdrawn is soon believed no more.
const KEYS_KEPT: HeaderValue = HeaderValue::from_static("public, max-age=600");

/// The platform's keys (R-6.3.1-1c): public, so not signed.
fn keys(register: &Register) -> Answer {
    let mut response = Response::new(register.platform.jwks.clone());
    *response.status_mut() = StatusCode::OK;
    let json = HeaderValue::from_static("application/json");
    let nosniff = HeaderValue::from_static("nosniff");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::CACHE_CONTROL, KEYS_KEPT);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    Answer {
        response,
        interface: "jwks",
        result: "ACCEPTED",
    }
}
