//! the payer's page. Shows an order, takes the payer's choice, sends the payer on.
//!
//! Whoever holds the address may see and choose, and nothing else. The page asks for no secret,
//! keeps nothing on the phone and needs no script (R-6.1.1-3b, R-6.5-1a).

pub mod texts;
pub mod view;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;

use crate::api::order::json;
use crate::api::{Api, ApiResponse};
use crate::crypto::digest::sha256;
use crate::domain::attempt::AttemptState;
use crate::domain::change::ChangeCause;
use crate::domain::evidence::PaymentActionKind;
use crate::domain::identifiers::{InstitutionId, PageToken, PayOrderNo, Timestamp};
use crate::domain::institutions::{BusinessType, InstitutionProfile, Mode};
use crate::domain::order::{Order, OrderState};
use crate::domain::refusal::Refusal;
use crate::flow::apply_evidence::payment_signals::signal_look;
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::list_institutions::list_institutions;
use crate::flow::read_order::{OrderReference, read_order};
use crate::flow::select_institution::{OrderOutcome, select_institution};
use crate::store::OrderKey;
use crate::world::signals::Signal;

/// The form has one short field.
const FORM_BYTES_MAX: usize = 256;

/// Nothing but our own style, no frame around us (R-6.1.1-3a). A form may be sent on to any https
/// page, because the answer to a choice is the institution's page and browsers hold redirects to
/// the same rule.
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

/// Answers the page, its form and its status.
pub async fn answer(
    api: &Api,
    snapshot: &ConfigurationSnapshot,
    token: &str,
    asks_status: bool,
    request: &Request<Bytes>,
) -> ApiResponse {
    // What cannot be a token is looked for like one, so that both are answered alike.
    let token = PageToken::parse(token).unwrap_or_else(|_| nobodys());
    let named = OrderReference::by(OrderKey::Page(token.clone()));
    if asks_status {
        let interface = "X-6";
        return match read_order(&api.store, &named).await {
            Ok(order) => {
                signal_look(&api.world, &order, Signal::Looked);
                ApiResponse {
                    response: state(&order),
                    interface,
                    result: "SHOWN",
                }
            }
            Err(refusal) => api.refused(interface, &refusal),
        };
    }
    let interface = "page";
    let began = api.now();
    let is_choice = request.method() == Method::POST;
    let done = if is_choice {
        choose(api, snapshot, &named, request).await
    } else {
        show(api, snapshot, &named).await
    };
    let mut answer = match done {
        Ok((response, result)) => ApiResponse {
            response,
            interface,
            result,
        },
        Err(refusal) => {
            let mut answer = api.refused(interface, &refusal);
            let status = answer.response.status();
            html(&mut answer.response, refused(&refusal, status));
            answer
        }
    };
    protect(answer.response.headers_mut());
    // Whoever knows a number but not the secret beside it must not write about that order.
    if is_choice && answer.result != Refusal::OrderUnknown.code() {
        let origin = &snapshot.platform.origin;
        api.log_choice(token, request, origin, (began, &answer));
    }
    answer
}

/// A token that opens nothing: no order was minted at that moment.
fn nobodys() -> PageToken {
    PageToken::new(PayOrderNo::mint(Timestamp::from_ms(0), [0; 10]), [0; 16])
}

async fn show(api: &Api, snapshot: &ConfigurationSnapshot, named: &OrderReference) -> PageResult {
    let order = read_order(&api.store, named).await?;
    // Whoever chose was sent on: the page is shown again to who is back.
    signal_look(&api.world, &order, Signal::Returned);
    Ok((page_of(api, snapshot, &order).await?, "SHOWN"))
}

async fn page_of(
    api: &Api,
    snapshot: &ConfigurationSnapshot,
    order: &Order,
) -> Result<Response<Bytes>, Refusal> {
    let now = api.now();
    let open = institutions_with_page(api, snapshot, order).await?;
    let text = view::page(order, &open, &snapshot.routing, now);
    let mut response = Response::new(Bytes::new());
    html(&mut response, text);
    Ok(response)
}

/// The institutions whose own page this payer may be sent to (R-5.1.1-3).
async fn institutions_with_page<'a>(
    api: &Api,
    snapshot: &'a ConfigurationSnapshot,
    order: &Order,
) -> Result<Vec<&'a InstitutionProfile>, Refusal> {
    match order.terms.business_type {
        _ if order.state != OrderState::Open => return Ok(Vec::new()),
        BusinessType::Single(Mode::Chatbot | Mode::Native) => return Ok(Vec::new()),
        BusinessType::Single(Mode::Webview) | BusinessType::Aggregated => (),
    }
    let offers = list_institutions(&api.store, &api.world, snapshot, order).await?;
    let has_page = |institution: &&InstitutionProfile| {
        let modes = snapshot
            .routing
            .available_modes(&order.terms.merchant, institution);
        modes.contains(&Mode::Webview)
    };
    Ok(offers
        .into_iter()
        .filter(|offer| offer.ineligible.is_none())
        .map(|offer| offer.institution)
        .filter(has_page)
        .collect())
}

/// The payer chose. Where that changes what the page says, the browser fetches it again, so that
/// reloading it does not send the choice again.
async fn choose(
    api: &Api,
    snapshot: &ConfigurationSnapshot,
    named: &OrderReference,
    request: &Request<Bytes>,
) -> PageResult {
    let institution = chosen(request)?;
    let choice = (institution, Some(Mode::Webview));
    let by = (named, ChangeCause::Page);
    let answered = match select_institution(&api.store, &api.world, snapshot, by, choice).await {
        Ok((answered, _)) => answered,
        Err(refused) => {
            let refusal = refused.into_refusal();
            if refusal == Refusal::OrderClosed {
                return Ok((back(request), "CLOSED"));
            }
            return Err(refusal);
        }
    };
    let result = answered.outcome.word();
    let response = match answered.outcome {
        OrderOutcome::Accepted => match link(&answered.order) {
            Some(link) => see_other(link),
            None => back(request),
        },
        OrderOutcome::Refused(_) => page_of(api, snapshot, &answered.order).await?,
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

/// Where the institution waits for the payer; https only (R-6.3.1-2e).
fn link(order: &Order) -> Option<HeaderValue> {
    let attempt = order
        .live_attempt()
        .filter(|attempt| attempt.state == AttemptState::Accepted)?;
    match &attempt.payment_action.as_ref()?.way {
        PaymentActionKind::Redirect(link) if link.starts_with("https://") => {
            HeaderValue::from_str(link).ok()
        }
        PaymentActionKind::Redirect(_) | PaymentActionKind::SdkParameters(_) => None,
    }
}

fn back(request: &Request<Bytes>) -> Response<Bytes> {
    // It came as the path of a request, so it can be sent as one.
    let path = HeaderValue::from_str(request.uri().path());
    see_other(path.unwrap_or_else(|_| HeaderValue::from_static("/")))
}

fn see_other(location: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn html(response: &mut Response<Bytes>, text: String) {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    *response.body_mut() = Bytes::from(text);
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

/// A refusal in the payer's words.
fn refused(refusal: &Refusal, status: StatusCode) -> String {
    let (title, line) = texts::refused(status);
    view::refusal(title, line, *refusal != Refusal::OrderUnknown)
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

/// How it stands, for the page or a payment SDK (R-A2.3-5b); from committed state (O5). Empty
/// strings while unpaid (G-3).
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
