//! the payer's page. Shows an order, takes the payer's selection, redirects the payer.
//!
//! Whoever has the address may see and select, and nothing else. The page requests no secret, stores
//! nothing on the phone and needs no script (R-6.1.1-3b, R-6.5-1a).

pub mod payer_address;
pub mod texts;
pub mod view;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use serde::Serialize;

use crate::api::endpoint::{Endpoint, PayerFunction};
use crate::api::exchange_log::AnsweredRequest;
use crate::api::response::{json, no_store, with_body};
use crate::api::{AnsweredCaller, Api, ApiResponse};
use crate::crypto::digest::sha256;
use crate::domain::change::ChangeCause;
use crate::domain::evidence::PaymentActionKind;
use crate::domain::identifiers::{InstitutionId, PageToken, PayOrderNo, Timestamp};
use crate::domain::institutions::{BusinessType, InstitutionProfile, Mode};
use crate::domain::order::{Order, OrderState};
use crate::domain::personal::payer_context::PayerDetails;
use crate::domain::refusal::Refusal;
use crate::flow::apply_evidence::payment_signals::signal_look;
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::list_institutions::list_institutions;
use crate::flow::read_order::{OrderReference, read_order};
use crate::flow::select_institution::select_institution;
use crate::flow::start_attempt::{OrderOutcome, OrderReply};
use crate::store::OrderKey;
use crate::world::signals::Signal;

/// The form has one short field.
const FORM_BYTES_MAX: usize = 256;

/// The media type of the page.
const HTML: &str = "text/html; charset=utf-8";

/// Nothing but our own style, and no framing (R-6.1.1-3a). A form may be redirected to any https page,
/// because the response to a selection redirects to the institution's page and browsers apply
/// `form-action` to redirects as well.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(sha256(view::STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self' https:; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    // Base64 and plain words: always a header value.
    HeaderValue::from_maybe_shared(policy)
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

type PageResult = Result<(Response<Bytes>, &'static str), Refusal>;

/// Answers the page, its form and the order's state.
pub(super) async fn answer(
    api: &Api,
    endpoint: &Endpoint,
    function: PayerFunction,
    request: &Request<Bytes>,
) -> ApiResponse {
    let (began, snapshot) = (api.now(), &*api.snapshot);
    // What cannot be a token is looked up like one, so that both are answered alike.
    let token = PageToken::parse(endpoint.path.parameter(request.uri().path()));
    let token = token.unwrap_or_else(|_| unknown_token());
    let named = OrderReference::by(OrderKey::Page(token.clone()));
    let done = match function {
        PayerFunction::ShowPage => show(api, snapshot, &named).await,
        PayerFunction::Select => choose(api, snapshot, &named, request).await,
        PayerFunction::ShowStatus => show_status(api, &named).await,
    };
    let mut answer = match done {
        Ok((response, result)) => ApiResponse {
            response,
            interface: endpoint.interface,
            result,
            caller: AnsweredCaller::Unknown,
        },
        Err(refusal) => {
            let mut answer = api.refused(endpoint.interface, &refusal);
            if function != PayerFunction::ShowStatus {
                as_page(&mut answer.response, &refusal);
            }
            answer
        }
    };
    if function != PayerFunction::ShowStatus {
        protect(answer.response.headers_mut());
    }
    // A caller who knows an order's number but not its secret must not add to that order's log.
    if answer.result != Refusal::OrderUnknown.code() {
        let answered = AnsweredRequest::new(endpoint, request, began, &answer);
        api.log_choice(&answered, &token);
    }
    answer.caller = AnsweredCaller::Payer(token.order().clone());
    answer
}

/// A token that opens no page: no order number has its timestamp, 1970-01-01T00:00Z.
fn unknown_token() -> PageToken {
    PageToken::new(PayOrderNo::mint(Timestamp::from_ms(0), [0; 10]), [0; 16])
}

async fn show(api: &Api, snapshot: &ConfigurationSnapshot, named: &OrderReference) -> PageResult {
    let order = read_order(&api.store, named).await?;
    // A payer who selected was redirected; the page is shown again when the payer is back.
    signal_look(&api.world, &order, Signal::Returned);
    Ok((page_of(api, snapshot, &order).await?, "SHOWN"))
}

async fn show_status(api: &Api, named: &OrderReference) -> PageResult {
    let order = read_order(&api.store, named).await?;
    signal_look(&api.world, &order, Signal::Looked);
    Ok((state(&order), "SHOWN"))
}

async fn page_of(
    api: &Api,
    snapshot: &ConfigurationSnapshot,
    order: &Order,
) -> Result<Response<Bytes>, Refusal> {
    let now = api.now();
    let open = institutions_with_page(api, snapshot, order).await;
    let text = view::page(order, &open, &snapshot.routing, now);
    Ok(with_body(StatusCode::OK, HTML, text))
}

/// The institutions whose own page this payer may be sent to (R-5.1.1-3).
async fn institutions_with_page<'a>(
    api: &'a Api,
    snapshot: &'a ConfigurationSnapshot,
    order: &Order,
) -> Vec<&'a InstitutionProfile> {
    match order.terms.business_type {
        _ if order.state != OrderState::Open => return Vec::new(),
        BusinessType::Single(Mode::Chatbot | Mode::Native) => return Vec::new(),
        BusinessType::Single(Mode::Webview) | BusinessType::Aggregated => (),
    }
    let offers = list_institutions(api.scope(), order, &PayerDetails::UNKNOWN).await;
    let has_page = |institution: &&InstitutionProfile| {
        let modes = snapshot
            .routing
            .available_modes(&order.terms.merchant, institution);
        modes.contains(&Mode::Webview)
    };
    offers
        .into_iter()
        .filter(|offer| offer.ineligible.is_none())
        .map(|offer| offer.institution)
        .filter(has_page)
        .collect()
}

/// Takes the payer's selection. Where it changes what the page shows, the browser is redirected to the page,
/// so that reloading it does not repeat the selection.
async fn choose(
    api: &Api,
    snapshot: &ConfigurationSnapshot,
    named: &OrderReference,
    request: &Request<Bytes>,
) -> PageResult {
    let institution = chosen(request)?;
    let (scope, mode) = (api.scope(), Some(Mode::Webview));
    let payer = &PayerDetails::UNKNOWN;
    let selected = select_institution(scope, named, ChangeCause::Page, institution, mode, payer);
    let selected = match selected.await {
        Ok((selected, _)) => selected,
        Err(refused) => {
            let refusal = refused.into_refusal();
            if refusal == Refusal::OrderClosed {
                return Ok((back(request), "CLOSED"));
            }
            return Err(refusal);
        }
    };
    let result = selected.outcome.word();
    let response = match &selected.outcome {
        OrderOutcome::Accepted => match link(&selected) {
            Some(link) => see_other(link),
            None => back(request),
        },
        OrderOutcome::Refused(_) => page_of(api, snapshot, &selected.order).await?,
        OrderOutcome::Pending | OrderOutcome::AlreadyPaid | OrderOutcome::Closed => back(request),
    };
    Ok((response, result))
}

/// The one field of the form. Ids are letters and digits, which forms do not encode.
fn chosen(request: &Request<Bytes>) -> Result<InstitutionId, Refusal> {
    let media = request.headers().get(header::CONTENT_TYPE);
    let media = media
        .and_then(|media| media.to_str().ok())
        .and_then(|media| media.split(';').next())
        .unwrap_or_default();
    if !media
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    {
        return Err(Refusal::MediaTypeWrong);
    }
    if request.body().len() > FORM_BYTES_MAX {
        return Err(Refusal::BodyTooLarge {
            bytes_max: FORM_BYTES_MAX,
        });
    }
    let field = "institutionId";
    let value = std::str::from_utf8(request.body())
        .ok()
        .and_then(|form| form.strip_prefix("institutionId="))
        .ok_or(Refusal::FieldMissing(field))?;
    InstitutionId::parse(value).map_err(Refusal::malformed(field))
}

/// The institution's page for the payer; https only (R-6.3.1-2e).
fn link(reply: &OrderReply) -> Option<HeaderValue> {
    match &reply.payment_action()?.way {
        PaymentActionKind::Redirect(link) if link.starts_with("https://") => {
            HeaderValue::from_str(link).ok()
        }
        PaymentActionKind::Redirect(_)
        | PaymentActionKind::SdkParameters(_)
        | PaymentActionKind::QrCode(_)
        | PaymentActionKind::Form(_) => None,
    }
}

fn back(request: &Request<Bytes>) -> Response<Bytes> {
    // It was the path of a request, so it is a valid header value.
    let path = HeaderValue::from_str(request.uri().path());
    see_other(path.unwrap_or_else(|_| HeaderValue::from_static("/")))
}

fn see_other(location: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    no_store(headers);
    response
}

/// `no-referrer` keeps the page's address from the institution the payer is sent to. There is no
/// cookie and nothing is allowed to other origins.
fn protect(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in [
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// A refusal in the payer's words, in place of the problem document.
fn as_page(response: &mut Response<Bytes>, refusal: &Refusal) {
    let (title, line) = texts::refused(response.status());
    let text = view::refusal(title, line, *refusal != Refusal::OrderUnknown);
    *response.body_mut() = Bytes::from(text);
    let html = HeaderValue::from_static(HTML);
    response.headers_mut().insert(header::CONTENT_TYPE, html);
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageStatusBody<'a> {
    order_status: &'static str,
    attempt_status: &'static str,
    pay_order_no: &'a str,
    order_amount: String,
    currency: &'static str,
    expire_time: String,
    payment_date: String,
    payment_time: String,
}

/// The order's state, for the page or a payment SDK (R-A2.3-5b); from committed state (O5). Empty strings
/// while unpaid (G-3).
fn state(order: &Order) -> Response<Bytes> {
    let attempt = order.reported_attempt();
    let paid_at = order.receipt().map(|receipt| receipt.paid_at);
    json(
        StatusCode::OK,
        &PageStatusBody {
            order_status: order.state.name(),
            attempt_status: attempt.map_or("NONE", |attempt| attempt.state.public_name()),
            pay_order_no: order.no.as_str(),
            order_amount: order.terms.amount.to_string(),
            currency: order.terms.amount.currency().code(),
            expire_time: order.expires.rfc3339(),
            payment_date: paid_at.map(Timestamp::date).unwrap_or_default(),
            payment_time: paid_at.map(Timestamp::time_of_day).unwrap_or_default(),
        },
    )
}
