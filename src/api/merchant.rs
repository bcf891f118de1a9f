//! Merchants' requests (A3.1, A3.2, A3.4, X-1 to) and their events: syntax, then identity, then
//! fields, then the flow; the response is signed once the caller is authenticated.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};

use crate::api::endpoint::Endpoint;
use crate::api::endpoint::MerchantFunction::{
    self, CloseOrder, ListEvents, ListInstitutions, PlaceOrder, QueryOrder, QueryRefund,
    RefundOrder, SelectInstitution,
};
use crate::api::exchange_log::AnsweredRequest;
use crate::api::order::reply::{self, ResponseExtras};
use crate::api::reading::{AuthenticatedFields, ORDER_KEY_FIELDS};
use crate::api::{AnsweredCaller, Api, ApiResponse, Peer, events, order, query, refund};
use crate::domain::fields::Fields;
use crate::domain::identifiers::RefundOrderNo;
use crate::domain::institutions::BusinessType;
use crate::domain::order::OrderState;
use crate::domain::personal::payer_context::PayerDetails;
use crate::domain::refusal::Refusal;
use crate::flow::admit_request::{
    AdmissionRequest, Admitted, NonceSpending, NotAdmitted, ProvenCaller, RequestPurpose,
    admit_request,
};
use crate::flow::answer::commit_once::{Refused, SpentNonce};
use crate::flow::answer::sign_answer;
use crate::flow::apply_evidence::payment_signals::signal_look;
use crate::flow::close_order::close_order;
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::list_institutions::list_institutions;
use crate::flow::place_order::place_order;
use crate::flow::read_order::{read_order, refresh};
use crate::flow::refunds::refund_order::{read_refund, refund_order};
use crate::flow::select_institution::select_institution;
use crate::flow::start_attempt::{OrderOutcome, OrderReply};
use crate::world::signals::Signal;

impl Api {
    /// Answers a merchant's request: syntax, then identity, then fields, then the flow; the response is
    /// signed once the caller is authenticated (Q1).
    pub(in crate::api) async fn merchant(
        &self,
        endpoint: &'static Endpoint,
        purpose: RequestPurpose,
        function: MerchantFunction,
        request: &Request<Bytes>,
        peer: Peer,
    ) -> ApiResponse {
        let (interface, snapshot) = (endpoint.interface, &*self.snapshot);
        let now = self.world.clock.now();
        if !is_json(request.headers()) {
            return self.refused(interface, &Refusal::MediaTypeWrong);
        }
        let fields = match Fields::parse(request.body()) {
            Ok(fields) => fields,
            Err(fault) => return self.refused(interface, &fault.into()),
        };
        let spending = NonceSpending {
            store: &self.store,
            reads: &self.reads,
        };
        let admission = AdmissionRequest {
            address: peer.address,
            certificate: peer.certificate,
            purpose,
        };
        let admitted = admit_request(
            &self.admission,
            snapshot,
            spending,
            request,
            &admission,
            now,
        )
        .await;
        let (mut answer, merchant, proven) = match admitted {
            Err(NotAdmitted { refusal, proven }) => {
                let answer = match proven {
                    Some(_) => self.refused_authenticated(interface, &refusal),
                    None => self.refused(interface, &refusal),
                };
                (answer, None, proven)
            }
            Ok(caller) => {
                let merchant = caller.merchant().clone();
                let proven = ProvenCaller {
                    label: caller.label().into(),
                    key: caller.key().as_str().into(),
                };
                let answer = match self.perform(snapshot, function, &fields, caller).await {
                    Ok((response, result, SpentNonce { .. })) => ApiResponse {
                        response,
                        interface,
                        result,
                        caller: AnsweredCaller::Merchant,
                    },
                    Err(refused) => self.refused_authenticated(interface, &refused.into_refusal()),
                };
                (answer, Some(merchant), Some(proven))
            }
        };
        if is_unauthorized_or_forbidden(&answer.response) {
            let key = proven.as_ref().map(|proven| &*proven.key);
            self.count_refused(peer, key, interface, answer.result);
        }
        if let Some(proven) = proven {
            answer.caller = AnsweredCaller::Merchant;
            let (pool, platform) = (&self.world.signing, &snapshot.platform);
            let response = &mut answer.response;
            sign_answer(pool, platform, request, &proven.label, response, now).await;
        }
        if self.world.exchange_log.is_on() {
            let answered = AnsweredRequest::new(endpoint, request, now, &answer);
            self.log_exchange(&answered, &fields, merchant.as_ref());
        }
        answer
    }

    /// Runs the flow of an admitted request.
    async fn perform(
        &self,
        snapshot: &ConfigurationSnapshot,
        function: MerchantFunction,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        match function {
            PlaceOrder => self.place_order(snapshot, fields, caller).await,
            ListInstitutions => self.list_institutions(snapshot, fields, caller).await,
            SelectInstitution => self.select_institution(snapshot, fields, caller).await,
            QueryOrder => self.query_order(fields, caller).await,
            CloseOrder => self.close_order(snapshot, fields, caller).await,
            RefundOrder => self.refund_order(snapshot, fields, caller).await,
            QueryRefund => self.query_refund(fields, caller).await,
            ListEvents => self.list_events(fields, caller).await,
        }
    }

    async fn place_order(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let read = order::placing(fields, caller.merchant(), &snapshot.routing);
        let (caller, (terms, payer, options)) = caller.with(&self.store, read).await?;
        let placed = place_order(self.scope(), caller, terms, &payer).await?;
        let (order_reply, spent) = placed;
        let listed = order_reply.order.terms.business_type == BusinessType::Aggregated
            && order_reply.order.state == OrderState::Open;
        let offers = if listed {
            Some(list_institutions(self.scope(), &order_reply.order, &payer).await)
        } else {
            None
        };
        Ok(listing(
            snapshot,
            &order_reply,
            &options.with(offers),
            spent,
        ))
    }

    /// Reads only: the nonce is spent in memory (Q5).
    async fn list_institutions(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let (named, options) = match order::listing(fields, &merchant) {
            Ok(read) => read,
            Err(refusal) => return Err(spent.refuse(refusal)),
        };
        let found = match read_order(&self.store, &named).await {
            Ok(found) => found,
            Err(refusal) => return Err(spent.refuse(refusal)),
        };
        let outcome = match found.state {
            OrderState::Open => OrderOutcome::Accepted,
            OrderState::Paid => OrderOutcome::AlreadyPaid,
            OrderState::Closed => OrderOutcome::Closed,
        };
        let order_reply = OrderReply::of(found, outcome);
        let payer = &PayerDetails::UNKNOWN;
        let offers = Some(list_institutions(self.scope(), &order_reply.order, payer).await);
        Ok(listing(
            snapshot,
            &order_reply,
            &options.with(offers),
            spent,
        ))
    }

    async fn select_institution(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let read = order::choosing(fields, caller.merchant());
        let (caller, (named, choice, payer, options)) = caller.with(&self.store, read).await?;
        let (scope, cause) = (self.scope(), caller.into_cause());
        let (institution, mode) = choice;
        let selected = select_institution(scope, &named, cause, institution, mode, &payer).await?;
        let (order_reply, spent) = selected;
        Ok(listing(snapshot, &order_reply, &options.with(None), spent))
    }

    /// Reads only: the nonce is spent in memory (Q5).
    async fn query_order(&self, fields: &Fields<'_>, caller: Admitted) -> MerchantResult {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let reply = async {
            let request = AuthenticatedFields::of(fields, &merchant, &ORDER_KEY_FIELDS)?;
            let found = read_order(&self.store, &request.order()?).await?;
            refresh(self.scope(), found).await
        };
        match reply.await {
            Ok(found) => {
                signal_look(&self.world, &found, Signal::Looked);
                Ok((query::answer(&found), "ACCEPTED", spent))
            }
            Err(refusal) => Err(spent.refuse(refusal)),
        }
    }

    async fn close_order(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let read = AuthenticatedFields::of(fields, caller.merchant(), &ORDER_KEY_FIELDS)
            .and_then(|request| request.order());
        let (caller, named) = caller.with(&self.store, read).await?;
        let closed = close_order(self.scope(), caller, &named).await?;
        let (found, spent) = closed;
        let outcome = match found.state {
            OrderState::Closed => OrderOutcome::Closed,
            OrderState::Paid => OrderOutcome::AlreadyPaid,
            OrderState::Open => OrderOutcome::Pending,
        };
        let order_reply = OrderReply::of(found, outcome);
        Ok(listing(
            snapshot,
            &order_reply,
            &ResponseExtras::default(),
            spent,
        ))
    }

    async fn refund_order(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let (store, now) = (&self.store, self.world.clock.now());
        let no = RefundOrderNo::mint(now, self.world.entropy.draw());
        let merchant = caller.merchant().clone();
        let enrolled = snapshot.routing.merchants.get(&merchant);
        let read = async {
            let request = AuthenticatedFields::of(fields, &merchant, &refund::FIELDS)?;
            refund::read_refund_request(&request, store, enrolled, no).await
        };
        let (caller, (paid, request)) = caller.with(store, read.await).await?;
        let refunded = refund_order(self.scope(), caller, &paid, request).await?;
        let (refunded, spent) = refunded;
        spent_result(refund::answer(&refunded), spent)
    }

    /// Reads only: the nonce is spent in memory (Q5).
    async fn query_refund(&self, fields: &Fields<'_>, caller: Admitted) -> MerchantResult {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let reply = async {
            let request = AuthenticatedFields::of(fields, &merchant, &refund::QUERY_FIELDS)?;
            let key = refund::key(&request)?;
            let refunded = read_refund(self.scope(), &key).await?;
            refund::answer(&refunded)
        };
        spent_result(reply.await, spent)
    }

    /// The events that a merchant missed while it was down. Reads only: the nonce is spent in memory (Q5).
    async fn list_events(&self, fields: &Fields<'_>, caller: Admitted) -> MerchantResult {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let reply = async {
            let request = AuthenticatedFields::of(fields, &merchant, &events::FIELDS)?;
            let (after, page) = events::read_fields(&request)?;
            let found = self
                .store
                .outbox
                .events_after(&merchant, after, page)
                .await?;
            Ok((events::answer(&found, after)?, "ACCEPTED"))
        };
        spent_result(reply.await, spent)
    }
}

/// A response with its word for the metrics, and the proof that its nonce is spent (Q5); or a refusal of
/// which the same is true.
type MerchantResult = Result<(Response<Bytes>, &'static str, SpentNonce), Refused>;

/// The result of a request whose nonce is spent.
fn spent_result(
    answer: Result<(Response<Bytes>, &'static str), Refusal>,
    spent: SpentNonce,
) -> MerchantResult {
    match answer {
        Ok((response, word)) => Ok((response, word, spent)),
        Err(refusal) => Err(spent.refuse(refusal)),
    }
}

fn listing(
    snapshot: &ConfigurationSnapshot,
    order_reply: &OrderReply,
    extras: &ResponseExtras<'_>,
    spent: SpentNonce,
) -> (Response<Bytes>, &'static str, SpentNonce) {
    let response = reply::answer(snapshot, order_reply, extras);
    (response, order_reply.outcome.word(), spent)
}

/// Whether the caller was not authenticated or not authorised.
fn is_unauthorized_or_forbidden(response: &Response<Bytes>) -> bool {
    matches!(
        response.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    )
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return false;
    };
    let Ok(text) = only.to_str() else {
        return false;
    };
    let mut parts = text.split(';').map(str::trim);
    let json = parts
        .next()
        .is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    json && parts.all(|parameter| parameter.eq_ignore_ascii_case("charset=utf-8"))
}
