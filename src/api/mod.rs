//! The public HTTP interface, from `http::Request<Bytes>` to `http::Response<Bytes>`, with all
//! endpoints in one table. Independent of sockets; every response is built from committed state.

pub mod cards;
mod documents;
pub mod endpoint;
mod events;
mod exchange_log;
mod merchant;
pub mod order;
pub mod page;
pub mod priority;
pub mod query;
pub mod reading;
pub mod refund;
pub mod refusal;
mod response;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};

use crate::api::endpoint::EndpointFunction::{Anybody, Institution, Merchant, Payer};
use crate::api::endpoint::EndpointMethods::{GetOrHead, Post};
use crate::api::endpoint::ExchangeLogRule::{Every, Never, Refused};
use crate::api::endpoint::MerchantFunction::{
    CloseOrder, ListEvents, ListInstitutions, PlaceOrder, QueryOrder, QueryRefund, RefundOrder,
    SelectInstitution,
};
use crate::api::endpoint::PayerFunction::{Return, Select, SendOn, ShowPage, ShowStatus};
use crate::api::endpoint::PublicDocument::{Keys, OpenApi};
use crate::api::endpoint::QueryRule::{AnyQuery, NoQuery};
use crate::api::endpoint::{Endpoint, QueryRule, row};
use crate::api::priority::Priority::{NewOrder, Other, Selection, Unrouted};
use crate::api::response::no_store;
use crate::domain::identifiers::{AccountId, InstitutionId, PayOrderNo, Timestamp, hex};
use crate::domain::merchant::ShownCertificate;
use crate::domain::refusal::Refusal;
use crate::flow::FlowScope;
use crate::flow::admit_request::RequestPurpose::{Continue, Read, Start};
use crate::flow::admit_request::refused_callers::{RefusedCaller, RefusedCallers};
use crate::flow::admit_request::{AdmissionPolicy, ReadNonces, check_rate};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::receive_callback::receive_callback;
use crate::institution::Callback;
use crate::store::{InboxStatus, Store};
use crate::world::World;

pub use crate::api::endpoint::EndpointMatch;

/// The other end of the connection, as far as TLS and TCP know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The client's address, in canonical form.
    pub address: IpAddr,
    /// Who says so.
    pub source: AddressSource,
    /// The client certificate, whose key the handshake proved; nothing else of it is checked.
    pub certificate: Option<ShownCertificate>,
}

/// Who says a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressSource {
    /// It is the peer of the TCP connection.
    Connection,
    /// The PROXY protocol header of a trusted proxy, which is the peer.
    TrustedProxy,
}

/// What answering needs, under one version of the configuration; each flow is passed what it uses. There
/// is one `Api` for each version, so that no request sees half of a reload (F1).
pub struct Api {
    /// The store.
    pub store: Arc<Store>,
    /// Clock, randomness, network.
    pub world: World,
    /// The configuration in force.
    pub snapshot: Arc<ConfigurationSnapshot>,
    /// The checks that every merchant's request passes.
    pub admission: AdmissionPolicy,
    /// Nonces of read-only requests.
    pub reads: Arc<ReadNonces>,
    /// Callers refused for lack of authentication or authorisation, to be written to the audit log.
    pub refused_callers: Arc<RefusedCallers>,
}

/// A response, and what is counted of it: words of a bounded set.
pub struct ApiResponse {
    /// The response.
    pub response: Response<Bytes>,
    /// Which interface: `A3.1`, `X-2`, `page` …
    pub interface: &'static str,
    /// `result` or the code of the refusal.
    pub result: &'static str,
    /// Who was answered.
    pub caller: AnsweredCaller,
}

/// Who was answered, as far as the request proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnsweredCaller {
    /// Nobody we know.
    Unknown,
    /// A merchant that signed the request.
    Merchant,
    /// Whoever sent this configured institution's callback, and whether that was genuine.
    Institution(InstitutionId, InboxStatus),
    /// Whoever used the address of this order's page.
    Payer(PayOrderNo),
}

/// The payer's page of an order, the way to the institution and back, and the order's state for programs.
const PAGE: &str = "/pay/{token}";
const PAGE_GO: &str = "/pay/{token}/go";
const PAGE_RETURN: &str = "/pay/{token}/return";
const PAGE_STATUS: &str = "/pay/{token}/status";

/// Where callbacks of kinds come to that have an address for each account.
const CALLBACK_OF_ACCOUNT: &str = "/v1/callbacks/{institution}/{account}";

/// The whole public surface. No other place matches a path: edge, metrics, exchange log and the coverage
/// test of `docs/openapi.yaml` read this.
#[rustfmt::skip]
pub const ENDPOINTS: &[Endpoint] = &[
    //  methods    path                           interface  priority   query     log      caller and function
    row(Post,      "/v1/orders",                  "A3.1",    NewOrder,  NoQuery,  Every,   Merchant(Start, PlaceOrder)),
    row(Post,      "/v1/orders/institutions",     "X-1",     Other,     NoQuery,  Refused, Merchant(Read, ListInstitutions)),
    row(Post,      "/v1/orders/select",           "X-2",     Selection, NoQuery,  Every,   Merchant(Start, SelectInstitution)),
    row(Post,      "/v1/orders/query",            "A3.2",    Other,     NoQuery,  Refused, Merchant(Read, QueryOrder)),
    row(Post,      "/v1/orders/close",            "X-3",     Other,     NoQuery,  Every,   Merchant(Continue, CloseOrder)),
    row(Post,      "/v1/refunds",                 "A3.4",    Other,     NoQuery,  Every,   Merchant(Continue, RefundOrder)),
    row(Post,      "/v1/refunds/query",           "X-5",     Other,     NoQuery,  Refused, Merchant(Read, QueryRefund)),
    row(Post,      "/v1/events",                  "events",  Other,     NoQuery,  Refused, Merchant(Read, ListEvents)),
    row(Post,      "/v1/callbacks/{institution}", "X-11",    Other,     NoQuery,  Every,   Institution),
    row(Post,      CALLBACK_OF_ACCOUNT,           "X-11",    Other,     NoQuery,  Every,   Institution),
    row(GetOrHead, PAGE,                          "page",    Other,     AnyQuery, Never,   Payer(ShowPage)),
    row(Post,      PAGE,                          "page",    Selection, AnyQuery, Every,   Payer(Select)),
    row(GetOrHead, PAGE_GO,                       "page",    Other,     AnyQuery, Never,   Payer(SendOn)),
    row(GetOrHead, PAGE_RETURN,                   "page",    Other,     AnyQuery, Never,   Payer(Return)),
    row(Post,      PAGE_RETURN,                   "page",    Other,     AnyQuery, Never,   Payer(Return)),
    row(GetOrHead, PAGE_STATUS,                   "X-6",     Other,     AnyQuery, Never,   Payer(ShowStatus)),
    row(GetOrHead, "/.well-known/jwks.json",      "jwks",    Other,     AnyQuery, Never,   Anybody(Keys)),
    row(GetOrHead, "/openapi.yaml",               "openapi", Unrouted,  AnyQuery, Never,   Anybody(OpenApi)),
];

/// The interface of a request that matches no row.
const NO_INTERFACE: &str = "unknown";

impl Api {
    /// Matches a request with the table and answers it.
    pub async fn answer(&self, request: Request<Bytes>, peer: Peer) -> ApiResponse {
        let method = request.method().as_str().as_bytes();
        let matched = EndpointMatch::find(method, request.uri().path().as_bytes());
        self.answer_matched(matched, request, peer).await
    }

    /// Answers a request that was matched with the table before. Never fails: what cannot be done is a
    /// refusal. HEAD is answered like GET: the edge counts the body (RFC 9110, 8.6) and does not send it.
    pub async fn answer_matched(
        &self,
        matched: EndpointMatch,
        request: Request<Bytes>,
        peer: Peer,
    ) -> ApiResponse {
        let snapshot = &*self.snapshot;
        if let Err(refusal) = check_rate(&self.admission, snapshot, peer.address, peer.certificate)
        {
            return self.refused(NO_INTERFACE, &refusal);
        }
        let endpoint = match matched {
            EndpointMatch::Found(endpoint) => endpoint,
            EndpointMatch::MethodWrong(endpoint) => {
                let refusal = Refusal::MethodWrong(endpoint.allowed_methods());
                return self.refused(endpoint.interface, &refusal);
            }
            EndpointMatch::Unknown => return self.refused(NO_INTERFACE, &Refusal::PathUnknown),
        };
        if endpoint.query == QueryRule::NoQuery && request.uri().query().is_some() {
            return self.refused(endpoint.interface, &Refusal::QueryUnexpected);
        }
        match endpoint.function {
            Merchant(purpose, function) => {
                self.merchant(endpoint, purpose, function, &request, peer)
                    .await
            }
            Institution => self.callback(endpoint, &request, peer).await,
            Payer(function) => page::answer(self, endpoint, function, &request, peer).await,
            Anybody(document) => documents::answer(snapshot, endpoint, document),
        }
    }

    /// untouched bytes to the right adapter; the path names the institution, and the account where
    /// the kind has an address for each (C1).
    async fn callback(
        &self,
        endpoint: &'static Endpoint,
        request: &Request<Bytes>,
        peer: Peer,
    ) -> ApiResponse {
        let (interface, snapshot) = (endpoint.interface, &*self.snapshot);
        let mut parameters = endpoint.path.parameters(request.uri().path());
        let institution = InstitutionId::parse(parameters.next().unwrap_or_default());
        let account = parameters.next().map(AccountId::parse).transpose();
        let (Ok(institution), Ok(account)) = (institution, account) else {
            return self.refused(interface, &Refusal::PathUnknown);
        };
        if !snapshot.has_callback_address(&institution, account.as_ref()) {
            return self.refused(interface, &Refusal::PathUnknown);
        }
        let callback = Callback {
            message: request,
            account: account.as_ref(),
        };
        let received = receive_callback(self.scope(), &institution, callback).await;
        match received {
            Some(received) => {
                let (status, result) = (received.status, received.status.name());
                if status == InboxStatus::Forged {
                    self.count_refused(peer, None, interface, result);
                    if self.refused_callers.may_log(self.now()) {
                        tracing::warn!(institution.id = %institution, why = received.why,
                            request.id = received.request_id, "callback not proven");
                    }
                }
                let mut response = received.answer;
                no_store(response.headers_mut());
                ApiResponse {
                    response,
                    interface,
                    result,
                    caller: AnsweredCaller::Institution(institution, status),
                }
            }
            // Enrolled, and none of its keys is in force: the institution may repeat it later.
            None => self.refused(interface, &Refusal::Unavailable),
        }
    }

    /// A refusal to an unauthenticated caller; its request id is in the log if a line could be spared.
    pub fn refused(&self, interface: &'static str, refusal: &Refusal) -> ApiResponse {
        // A caller can cause any number of lines for free, so they are limited.
        let is_logged = !is_overload_refusal(refusal) && self.refused_callers.may_log(self.now());
        self.refuse(interface, refusal, is_logged)
    }

    /// A refusal to an authenticated caller, whose requests are rate-limited.
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
        ApiResponse {
            response: refusal::problem(refusal, &request_id),
            interface,
            result: code,
            caller: AnsweredCaller::Unknown,
        }
    }

    /// L5: counts a refused caller for the audit log: by the key that proved it, else by what its
    /// connection shows.
    fn count_refused(
        &self,
        peer: Peer,
        key: Option<&str>,
        interface: &'static str,
        code: &'static str,
    ) {
        let connection = RefusedCaller::Connection(peer.address, peer.certificate.as_ref());
        let caller = key.map_or(connection, RefusedCaller::Key);
        self.refused_callers.count(caller, interface, code);
    }

    /// What a flow works with, under one version of the configuration.
    pub fn scope(&self) -> FlowScope<'_> {
        FlowScope {
            store: &self.store,
            world: &self.world,
            snapshot: &self.snapshot,
        }
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        self.world.clock.now()
    }
}

/// Refusals that load shedding and rate limits count; logging each would add to the overload.
fn is_overload_refusal(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::TooOften { .. } | Refusal::Unavailable)
}
