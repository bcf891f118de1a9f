//! The response of A3.1, X-1, X-2 and X-3: an order, where to pay it, and the institutions to select from.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::cards::cards;
use crate::api::endpoint::PathPattern;
use crate::api::refusal::RETRY_AFTER_S;
use crate::api::response::json;
use crate::api::{PAGE, PAGE_STATUS};
use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::evidence::PaymentActionKind;
use crate::domain::institutions::{BusinessType, IneligibleReason, Mode, Offer};
use crate::domain::order::{Order, OrderState};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::start_attempt::{OrderOutcome, OrderReply};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderResponseBody<'a> {
    pay_order_no: &'a str,
    create_date: String,
    merchant_id: &'a str,
    merchant_order_no: &'a str,
    merchant_name: &'a str,
    order_amount: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pay_url: Option<String>,
    status_url: String,
    order_status: &'static str,
    expire_time: String,
    attempt_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    institution_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdk_parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    institutions: Option<Vec<ListedInstitution<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cards: Option<Vec<serde_json::Value>>,
}

/// One institution of the list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedInstitution<'a> {
    institution_id: &'a str,
    name: &'a str,
    name_en: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logo_url: Option<&'a str>,
    modes: Vec<&'static str>,
    password_free: PasswordFree,
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Password-free payment, which is not offered yet.
#[derive(Serialize)]
struct PasswordFree {
    available: bool,
    enabled: bool,
}

/// What the response has beside the order.
#[derive(Default)]
pub struct ResponseExtras<'a> {
    /// Institutions for this payer, where the response lists them.
    pub offers: Option<Vec<Offer<'a>>>,
    /// Ineligible ones are listed as well, with their reasons.
    pub explain: bool,
    /// The response has ready message cards.
    pub cards: bool,
}

/// The response of A3.1, X-1, X-2 and X-3 (R-A3.1-2).
pub fn answer(
    snapshot: &ConfigurationSnapshot,
    reply: &OrderReply,
    extras: &ResponseExtras<'_>,
) -> Response<Bytes> {
    let order = &reply.order;
    let terms = &order.terms;
    let attempt = order.reported_attempt();
    let native = attempt.filter(|attempt| attempt.mode == Mode::Native);
    let action = native.and_then(|_| reply.payment_action());
    let sdk_parameters = match action.map(|action| &action.way) {
        Some(PaymentActionKind::SdkParameters(json)) => serde_json::from_str(json).ok(),
        Some(
            PaymentActionKind::Redirect(_)
            | PaymentActionKind::QrCode(_)
            | PaymentActionKind::Form(_),
        )
        | None => None,
    };
    let (status, reason) = match &reply.outcome {
        OrderOutcome::Accepted | OrderOutcome::AlreadyPaid | OrderOutcome::Closed => {
            (StatusCode::OK, None)
        }
        OrderOutcome::Pending => (StatusCode::ACCEPTED, None),
        OrderOutcome::Refused(reason) => (StatusCode::OK, Some(reason.as_str())),
    };
    let cards =
        (extras.cards).then(|| cards(order, extras.offers.as_deref(), pay_url(snapshot, reply)));
    let body = OrderResponseBody {
        pay_order_no: order.no.as_str(),
        create_date: order.created.date(),
        merchant_id: terms.merchant.as_str(),
        merchant_order_no: terms.merchant_order_no.as_str(),
        merchant_name: &terms.merchant_name,
        order_amount: terms.amount.to_string(),
        result: reply.outcome.word(),
        pay_url: pay_url(snapshot, reply),
        status_url: status_url(snapshot, order),
        order_status: order.state.name(),
        expire_time: order.expires.rfc3339(),
        attempt_status: attempt.map_or("NONE", |attempt| attempt.state.public_name()),
        institution_id: attempt.map(|attempt| attempt.institution.as_str()),
        mode: attempt.map(|attempt| attempt.mode.name()),
        sdk_parameters,
        reason,
        attach: terms.attach.as_deref(),
        institutions: extras.offers.as_ref().map(|offers| {
            let shown = offers
                .iter()
                .filter(|offer| extras.explain || offer.ineligible.is_none());
            shown.map(|offer| listed(snapshot, order, offer)).collect()
        }),
        cards,
    };
    let mut answer = json(status, &body);
    if status == StatusCode::ACCEPTED {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
    }
    answer
}

fn listed<'a>(
    snapshot: &ConfigurationSnapshot,
    order: &Order,
    offer: &Offer<'a>,
) -> ListedInstitution<'a> {
    let modes = snapshot
        .routing
        .available_modes(&order.terms.merchant, offer.institution);
    ListedInstitution {
        institution_id: offer.institution.id.as_str(),
        name: &offer.institution.name,
        name_en: &offer.institution.name_en,
        logo_url: offer.institution.logo_url.as_deref(),
        modes: modes.into_iter().map(Mode::name).collect(),
        password_free: PasswordFree {
            available: false,
            enabled: false,
        },
        available: offer.ineligible.is_none(),
        reason: offer.ineligible.map(IneligibleReason::word),
    }
}

/// Where the payer pays (R-A3.1-3): always our page, which shows the order and leads on. In aggregated
/// mode there is one once an institution was chosen that is paid on a page.
pub fn pay_url(snapshot: &ConfigurationSnapshot, reply: &OrderReply) -> Option<String> {
    let order = &reply.order;
    let has_page = match order.terms.business_type {
        BusinessType::Single(mode) => mode == Mode::Webview,
        BusinessType::Aggregated => is_paid_on_page(order),
    };
    has_page.then(|| page_url(snapshot, order))
}

fn is_paid_on_page(order: &Order) -> bool {
    if order.state != OrderState::Open || order.ending.is_some() {
        return false;
    }
    let is_waiting = |attempt: &Attempt| {
        attempt.state == AttemptState::Accepted && attempt.mode == Mode::Webview
    };
    match order.live_attempt() {
        Some(live) => is_waiting(live),
        None => order.awaited_institution().is_some(),
    }
}

/// The address of the payer's page of an order.
pub fn page_url(snapshot: &ConfigurationSnapshot, order: &Order) -> String {
    address(PAGE, snapshot, order)
}

/// Where a payment SDK, or the merchant's application, reads the state of an order: a public address that
/// holds a random token and returns nothing personal (R-A2.3-5b, R-A2.4.3-7b, X-6).
fn status_url(snapshot: &ConfigurationSnapshot, order: &Order) -> String {
    address(PAGE_STATUS, snapshot, order)
}

fn address(path: &'static str, snapshot: &ConfigurationSnapshot, order: &Order) -> String {
    let origin = &snapshot.platform.origin;
    PathPattern::of(path).address(origin, &order.page_token().expose())
}
