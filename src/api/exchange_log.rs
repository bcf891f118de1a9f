//! Exchange log entries of merchants' requests and payers' selections.

use bytes::Bytes;
use http::Request;

use crate::api::endpoint::Endpoint;
use crate::api::{Api, ApiResponse};
use crate::domain::fields::Fields;
use crate::domain::identifiers::{MerchantId, OrderKey, PageToken, Timestamp};
use crate::domain::institutions::MessageFormat;
use crate::domain::refusal::Refusal;
use crate::flow::exchange_log::named;
use crate::world::exchange_log::{ExchangeEntry, ReplyCopy, RequestCopy};

/// A request that was answered, as it is logged.
pub(in crate::api) struct AnsweredRequest<'a> {
    endpoint: &'a Endpoint,
    request: &'a Request<Bytes>,
    at: Timestamp,
    answer: &'a ApiResponse,
}

impl<'a> AnsweredRequest<'a> {
    /// A request that matched this row, arrived at this time, and was answered with this.
    pub(in crate::api) fn new(
        endpoint: &'a Endpoint,
        request: &'a Request<Bytes>,
        at: Timestamp,
        answer: &'a ApiResponse,
    ) -> Self {
        Self {
            endpoint,
            request,
            at,
            answer,
        }
    }
}

impl Api {
    /// Enters a merchant's exchange. It counts as unproven where the caller was not authenticated
    /// (`authenticated`), names another merchant, or replays a request, which anybody could who saw it.
    pub(in crate::api) fn log_exchange(
        &self,
        answered: &AnsweredRequest<'_>,
        fields: &Fields<'_>,
        authenticated: Option<&MerchantId>,
    ) {
        let AnsweredRequest {
            endpoint,
            request,
            at,
            answer,
        } = *answered;
        if !endpoint.exchange_log.includes(answer.response.status()) {
            return;
        }
        let Some(about) = named(fields) else {
            return;
        };
        let is_repeat = answer.result == Refusal::NonceSpent.code();
        let merchant = fields.text("merchantId").and_then(Result::ok);
        let origin = &self.snapshot.platform.origin;
        let path = request.uri().path_and_query();
        let path = path.map_or("/", |target| target.as_str());
        self.world.exchange_log.append(ExchangeEntry {
            about,
            at,
            took: self.world.clock.now().since(at),
            with: format!("merchant {}", merchant.unwrap_or_default()),
            what: answer.interface.to_owned(),
            result: answer.result.to_owned(),
            is_unproven: is_repeat
                || authenticated.is_none_or(|known| merchant != Some(known.as_str())),
            is_paying: false,
            format: MessageFormat::INTERFACE,
            request: RequestCopy::of(request, format!("{origin}{path}")),
            reply: Some(ReplyCopy::of(&answer.response)),
        });
    }

    /// Enters an exchange of a payer's page. Nothing but the page's address authenticates the payer, so
    /// that address is not logged.
    pub(in crate::api) fn log_choice(&self, answered: &AnsweredRequest<'_>, token: &PageToken) {
        let AnsweredRequest {
            endpoint,
            request,
            at,
            answer,
        } = *answered;
        if !endpoint.exchange_log.includes(answer.response.status()) {
            return;
        }
        self.world.exchange_log.append(ExchangeEntry {
            about: OrderKey::Page(token.clone()),
            at,
            took: self.world.clock.now().since(at),
            with: "payer".to_owned(),
            what: answer.interface.to_owned(),
            result: answer.result.to_owned(),
            is_unproven: true,
            is_paying: false,
            format: MessageFormat::INTERFACE,
            request: RequestCopy::of(
                request,
                endpoint.path.address(&self.snapshot.platform.origin, "***"),
            ),
            reply: Some(ReplyCopy::of(&answer.response)),
        });
    }
}
