//! What merchants ask (A3.1, A3.2, A3.4, X-1 to ), and
//! the events it is owed: syntax, then identity, then fields, then the
//! journey; what leaves is signed once the caller is known.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};

use crate::api::order::ResponseExtras;
use crate::api::reading::{AuthenticatedFields, ORDER_KEY_FIELDS};
use crate::api::{Api, ApiEndpoint, ApiResponse, Peer, events, order, query, refund};
use crate::domain::fields::Fields;
use crate::domain::identifiers::RefundOrderNo;
use crate::domain::institutions::{BusinessType, Offer};
use crate::domain::order::OrderState;
use crate::domain::refusal::Refusal;
use crate::flow::admit_request::refused_callers::RefusedCaller;
use crate::flow::admit_request::{
    AdmissionRequest, Admitted, NonceSpending, NotAdmitted, RequestPurpose, admit_request,
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
use crate::flow::select_institution::{OrderOutcome, OrderReply, select_institution};
use crate::world::signals::Signal;

/// What a merchant's request may have for its effect.
fn purpose(endpoint: ApiEndpoint<'_>) -> RequestPurpose {
    match endpoint {
        ApiEndpoint::Place | ApiEndpoint::Select => RequestPurpose::Start,
        ApiEndpoint::Close | ApiEndpoint::Refund => RequestPurpose::Continue,
        ApiEndpoint::Institutions
        | ApiEndpoint::Query
        | ApiEndpoint::RefundQuery
        | ApiEndpoint::Events
        | ApiEndpoint::Callback(_)
        | ApiEndpoint::Keys
        | ApiEndpoint::Interface
        | ApiEndpoint::Page(_)
        | ApiEndpoint::PageStatus(_) => RequestPurpose::Read,
    }
}

impl Api {
    /// A merchant's request: syntax, then identity, then fields, then the journey; what leaves is
    /// signed once the caller is known (`interface.md`, Order of judgement).
    pub(in crate::api) async fn merchant(
        &self,
        snapshot: &ConfigurationSnapshot,
        endpoint: ApiEndpoint<'_>,
        interface: &'static str,
        request: &Request<Bytes>,
        peer: Peer,
    ) -> ApiResponse {
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
        let check_rate = AdmissionRequest {
            address: peer.address,
            certificate: peer.certificate,
            purpose: purpose(endpoint),
        };
        let admitted = admit_request(
            &self.admission,
            snapshot,
            spending,
            request,
            &check_rate,
            now,
        )
        .await;
        let mut known = None;
        let (mut answer, proven) = match admitted {
            Err(refused) => (
                self.refuse_not_admitted((interface, peer), &refused),
                refused.proven.map(|proven| proven.label),
            ),
            Ok(caller) => {
                known = Some(caller.merchant().clone());
                let label: Box<str> = caller.label().into();
                let key = caller.key().clone();
                let key = key.as_str();
                let done = self.journey(snapshot, endpoint, &fields, caller).await;
                let answer = match done {
                    Ok((response, result, SpentNonce { .. })) => ApiResponse {
                        response,
                        interface,
                        result,
                    },
                    Err(refused) => self.refused_authenticated(interface, &refused.into_refusal()),
                };
                if is_unauthorized_or_forbidden(&answer.response) {
                    let caller = RefusedCaller::Key(key);
                    self.refused_callers.count(caller, interface, answer.result);
                }
                (answer, Some(label))
            }
        };
        if let Some(label) = proven {
            let question = (request, &*label);
            sign_answer(&snapshot.platform, question, &mut answer.response, now).await;
        }
        if self.world.exchange_log.is_on() {
            let asked = (request, &*snapshot.platform.origin);
            self.log_exchange(&fields, known.as_ref(), asked, (now, &answer));
        }
        answer
    }

    /// L5: whoever was refused is counted for the audit log, by key where one was proven.
    fn refuse_not_admitted(
        &self,
        (interface, peer): (&'static str, Peer),
        refused: &NotAdmitted,
    ) -> ApiResponse {
        let Some(proven) = &refused.proven else {
            let answer = self.refused(interface, &refused.refusal);
            if is_unauthorized_or_forbidden(&answer.response) {
                self.count_refused(peer, interface, answer.result);
            }
            return answer;
        };
        let answer = self.refused_authenticated(interface, &refused.refusal);
        if is_unauthorized_or_forbidden(&answer.response) {
            let caller = RefusedCaller::Key(&proven.key);
            self.refused_callers.count(caller, interface, answer.result);
        }
        answer
    }

    async fn journey(
        &self,
        snapshot: &ConfigurationSnapshot,
        endpoint: ApiEndpoint<'_>,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        match endpoint {
            ApiEndpoint::Place => self.place(snapshot, fields, caller).await,
            ApiEndpoint::Institutions => self.institutions(snapshot, fields, caller).await,
            ApiEndpoint::Select => self.select(snapshot, fields, caller).await,
            ApiEndpoint::Query => self.query(snapshot, fields, caller).await,
            ApiEndpoint::Close => self.close(snapshot, fields, caller).await,
            ApiEndpoint::Refund => self.refund(snapshot, fields, caller).await,
            ApiEndpoint::RefundQuery => self.refund_query(snapshot, fields, caller).await,
            ApiEndpoint::Events => self.events(fields, caller).await,
            ApiEndpoint::Callback(_)
            | ApiEndpoint::Keys
            | ApiEndpoint::Interface
            | ApiEndpoint::Page(_)
            | ApiEndpoint::PageStatus(_) => {
                let (_, spent) = caller.into_reader(&self.reads)?;
                Err(spent.refuse(Refusal::PathUnknown))
            }
        }
    }

    async fn place(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let read = order::placing(fields, caller.merchant(), &snapshot.routing);
        let (caller, (terms, wanted)) = caller.with(&self.store, read).await?;
        let placed = place_order(&self.store, &self.world, snapshot, caller, terms).await?;
        let (answered, spent) = placed;
        let listed = answered.order.terms.business_type == BusinessType::Aggregated
            && answered.order.state == OrderState::Open;
        let offers = if listed {
            Some(self.offers(snapshot, &answered).await?)
        } else {
            None
        };
        Ok(listing(snapshot, &answered, &wanted.with(offers), spent))
    }

    /// Reads only: the nonce is spent in memory (Q5).
    async fn institutions(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let (named, wanted) = match order::listing(fields, &merchant) {
            Ok(asked) => asked,
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
        let answered = OrderReply {
            order: found,
            outcome,
            fresh: false,
        };
        let offers = Some(self.offers(snapshot, &answered).await?);
        Ok(listing(snapshot, &answered, &wanted.with(offers), spent))
    }

    async fn offers<'a>(
        &self,
        snapshot: &'a ConfigurationSnapshot,
        answered: &OrderReply,
    ) -> Result<Vec<Offer<'a>>, Refused> {
        Ok(list_institutions(&self.store, &self.world, snapshot, &answered.order).await?)
    }

    async fn select(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let read = order::choosing(fields, caller.merchant());
        let (caller, (named, choice, wanted)) = caller.with(&self.store, read).await?;
        let by = (&named, caller.into_cause());
        let selected = select_institution(&self.store, &self.world, snapshot, by, choice).await?;
        let (answered, spent) = selected;
        Ok(listing(snapshot, &answered, &wanted.with(None), spent))
    }

    /// Reads only: the nonce is spent in memory (Q5).
    async fn query(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let asked = async {
            let asked = AuthenticatedFields::of(fields, &merchant, &ORDER_KEY_FIELDS)?;
            let found = read_order(&self.store, &asked.order()?).await?;
            refresh(&self.store, &self.world, snapshot, found).await
        };
        match asked.await {
            Ok(found) => {
                signal_look(&self.world, &found, Signal::Looked);
                Ok((query::answer(&found), "ACCEPTED", spent))
            }
            Err(refusal) => Err(spent.refuse(refusal)),
        }
    }

    async fn close(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let read = AuthenticatedFields::of(fields, caller.merchant(), &ORDER_KEY_FIELDS)
            .and_then(|asked| asked.order());
        let (caller, named) = caller.with(&self.store, read).await?;
        let closed = close_order(&self.store, &self.world, snapshot, caller, &named).await?;
        let (found, spent) = closed;
        let outcome = match found.state {
            OrderState::Closed => OrderOutcome::Closed,
            OrderState::Paid => OrderOutcome::AlreadyPaid,
            OrderState::Open => OrderOutcome::Pending,
        };
        let answered = OrderReply {
            order: found,
            outcome,
            fresh: false,
        };
        Ok(listing(
            snapshot,
            &answered,
            &ResponseExtras::default(),
            spent,
        ))
    }

    async fn refund(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let (store, now) = (&self.store, self.world.clock.now());
        let made = (
            RefundOrderNo::mint(now, self.world.entropy.draw()),
            store.epoch,
        );
        let merchant = caller.merchant().clone();
        let enrolled = snapshot.routing.merchants.get(&merchant);
        let read = async {
            let asked = AuthenticatedFields::of(fields, &merchant, &refund::FIELDS)?;
            refund::read_refund_request(&asked, store, enrolled, made).await
        };
        let (caller, (paid, asked)) = caller.with(store, read.await).await?;
        let refunded = refund_order(store, &self.world, snapshot, caller, (&paid, asked)).await?;
        let (refunded, spent) = refunded;
        spent_result(refund::answer(&refunded), spent)
    }

    /// Reads only: the nonce is spent in memory (Q5).
    async fn refund_query(
        &self,
        snapshot: &ConfigurationSnapshot,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> MerchantResult {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let asked = async {
            let asked = AuthenticatedFields::of(fields, &merchant, &refund::QUERY_FIELDS)?;
            let key = refund::key(&asked)?;
            let refunded = read_refund(&self.store, &self.world, snapshot, &key).await?;
            refund::answer(&refunded)
        };
        spent_result(asked.await, spent)
    }

    /// What a merchant that was down missed. Reads only: the nonce is spent in memory (Q5).
    async fn events(&self, fields: &Fields<'_>, caller: Admitted) -> MerchantResult {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let asked = async {
            let asked = AuthenticatedFields::of(fields, &merchant, &events::FIELDS)?;
            let (after, room) = events::read_fields(&asked)?;
            let found = self
                .store
                .outbox
                .events_after(&merchant, after, room)
                .await?;
            Ok((events::answer(&found, after)?, "ACCEPTED"))
        };
        spent_result(asked.await, spent)
    }
}

/// An answer with its word for the metrics, and the proof that nobody can ask for it again (Q5); or a
/// refusal of which the same is true.
type MerchantResult = Result<(Response<Bytes>, &'static str, SpentNonce), Refused>;

/// What was answered to a request whose nonce is spent.
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
    answered: &OrderReply,
    extras: &ResponseExtras<'_>,
    spent: SpentNonce,
) -> (Response<Bytes>, &'static str, SpentNonce) {
    let response = order::answer(snapshot, answered, extras);
    (response, answered.outcome.word(), spent)
}

/// Whether an answer says that its caller is not who it should be, or may not.
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
