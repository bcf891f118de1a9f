//! What a merchant asked about an order, or a payer chose, and what the reply was: entries of the exchange log.

use bytes::Bytes;
use http::Request;

use crate::api::endpoint::Endpoint;
use crate::api::{Api, ApiResponse};
use crate::domain::fields::Fields;
use crate::domain::identifiers::{MerchantId, OrderKey, PageToken, Timestamp};
use crate::domain::refusal::Refusal;
use crate::flow::exchange_log::named;
use crate::world::exchange_log::{ExchangeEntry, ReplyCopy, RequestCopy};

impl Api {
    /// Appends it. Who names another merchant's order counts as not proven, as does whoever was not
    /// known (`known`: who is) and whoever says again what was said before, which anybody could who
    /// heard it.
    pub(in crate::api) fn log_exchange(
        &self,
        endpoint: &Endpoint,
        fields: &Fields<'_>,
        known: Option<&MerchantId>,
        (request, origin): (&Request<Bytes>, &str),
        (at, answer): (Timestamp, &ApiResponse),
    ) {
        if !endpoint.exchange_log.includes(answer.response.status()) {
            return;
        }
        let Some(about) = named(fields) else {
            return;
        };
        let is_repeat = answer.result == Refusal::NonceSpent.code();
        let merchant = fields.text("merchantId").and_then(Result::ok);
        let path = request.uri().path_and_query();
        let path = path.map_or("/", |target| target.as_str());
        self.world.exchange_log.append(ExchangeEntry {
            about,
            at,
            took: self.world.clock.now().since(at),
            with: format!("merchant {}", merchant.unwrap_or_default()),
            what: answer.interface.to_owned(),
            result: answer.result.to_owned(),
            is_unproven: is_repeat || known.is_none_or(|known| merchant != Some(known.as_str())),
            is_paying: false,
            request: RequestCopy::of(request, format!("{origin}{path}")),
            reply: Some(ReplyCopy::of(&answer.response)),
        });
    }

    /// Appends what was chosen on a payer's page. Whoever holds its address may do so, and is proven by
    /// nothing else: that address is not written down.
    pub(in crate::api) fn log_choice(
        &self,
        endpoint: &Endpoint,
        token: &PageToken,
        (request, origin): (&Request<Bytes>, &str),
        (at, answer): (Timestamp, &ApiResponse),
    ) {
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
            request: RequestCopy::of(request, endpoint.path.address(origin, "***")),
            reply: Some(ReplyCopy::of(&answer.response)),
        });
    }
}
