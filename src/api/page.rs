//! the payer's page. Shows an order, takes the payer's selection, leads the payer on and back.
//!
//! Whoever has the address may see and select, and nothing else. Only the POST of the page has an effect:
//! messengers and mail scanners fetch every address they see. The page requests no secret, stores
//! nothing on the phone and needs no script (R-6.1.1-3b, R-6.5-1a).

mod headers;
mod leading_on;
pub mod markup;
mod order_details;
pub mod payer_address;
mod payer_details;
mod qr_code;
mod returning;
pub mod texts;
pub mod view;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use serde::Serialize;

use crate::api::endpoint::{Endpoint, PathPattern, PayerFunction};
use crate::api::exchange_log::AnsweredRequest;
use crate::api::page::headers::{protect, same_site, see_other};
use crate::api::page::payer_details::payer_details;
use crate::api::page::view::PageVisit;
use crate::api::response::{json, with_body};
use crate::api::{AnsweredCaller, Api, ApiResponse, PAGE, PAGE_GO, PAGE_RETURN, Peer};
use crate::domain::change::ChangeCause;
use crate::domain::evidence::PaymentActionKind;
use crate::domain::identifiers::{InstitutionId, PageToken, PayOrderNo, Timestamp};
use crate::domain::institutions::{BusinessType, InstitutionProfile, Mode};
use crate::domain::merchant::OrderPage;
use crate::domain::order::{Order, OrderState};
use crate::domain::personal::payer_context::PayerDetails;
use crate::domain::refusal::Refusal;
use crate::flow::apply_evidence::payment_signals::signal_look;
use crate::flow::list_institutions::list_on_page;
use crate::flow::read_order::{OrderReference, read_order};
use crate::flow::select_institution::select_institution;
use crate::flow::start_attempt::OrderOutcome;
use crate::store::OrderKey;
use crate::world::signals::Signal;

/// The form has one short field.
const FORM_BYTES_MAX: usize = 256;

/// The media type of the page.
const HTML: &str = "text/html; charset=utf-8";

/// In the query of the page: the payer is back, and has not paid as far as is known. It decides what is
/// said, and nothing else.
const UNPAID: &str = "returned";

type PageResult = Result<(Response<Bytes>, &'static str), Refusal>;

/// A request of a payer's browser.
struct PageRequest<'a> {
    api: &'a Api,
    request: &'a Request<Bytes>,
    token: &'a PageToken,
    named: OrderReference,
    payer: PayerDetails,
}

impl PageRequest<'_> {
    fn path(&self, path: &'static str) -> String {
        PathPattern::of(path).address("", &self.token.expose())
    }

    fn to(path: String) -> Response<Bytes> {
        // Letters, digits and a dot: always a header value.
        let path = HeaderValue::from_maybe_shared(path);
        see_other(path.unwrap_or_else(|_| HeaderValue::from_static("/")))
    }

    /// To the page of the order.
    fn back(&self) -> Response<Bytes> {
        Self::to(self.path(PAGE))
    }

    /// To the page of the order, which then says that no payment has arrived.
    fn unpaid(&self) -> Response<Bytes> {
        Self::to(format!("{}?{UNPAID}", self.path(PAGE)))
    }

    /// To where the payer is led on.
    fn onward(&self) -> Response<Bytes> {
        Self::to(self.path(PAGE_GO))
    }

    /// To where payers come back.
    fn returned(&self) -> Response<Bytes> {
        Self::to(self.path(PAGE_RETURN))
    }
}

/// Answers the page, its form, the way to the institution and back, and the order's state.
pub(super) async fn answer(
    api: &Api,
    endpoint: &Endpoint,
    function: PayerFunction,
    request: &Request<Bytes>,
    peer: Peer,
) -> ApiResponse {
    let began = api.now();
    // What cannot be a token is looked up like one, so that both are answered alike.
    let token = PageToken::parse(endpoint.path.parameter(request.uri().path()));
    let token = token.unwrap_or_else(|_| unknown_token());
    let trusted = &api.snapshot.trusted_proxies;
    let page = PageRequest {
        api,
        request,
        token: &token,
        named: OrderReference::by(OrderKey::Page(token.clone())),
        payer: payer_details(&peer, request.headers(), trusted),
    };
    let done = match function {
        PayerFunction::ShowPage => show(&page).await,
        PayerFunction::Select => choose(&page).await,
        PayerFunction::SendOn => leading_on::send_on(&page).await,
        PayerFunction::Return => returning::come_back(&page).await,
        PayerFunction::ShowStatus => show_status(&page).await,
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

async fn show(page: &PageRequest<'_>) -> PageResult {
    let api = page.api;
    let order = read_order(&api.store, &page.named).await?;
    // A payer who selected was led on; the page is shown again when the payer is back.
    signal_look(&api.world, &order, Signal::Returned);
    if page.request.uri().query() == Some(UNPAID) {
        return Ok((page_of(page, &order, PageVisit::Unpaid).await, "SHOWN"));
    }
    if is_led_straight_on(api, &order)
        && let Some(led) = leading_on::onward(page, &order).await?
    {
        return Ok((led, "SHOWN"));
    }
    Ok((page_of(page, &order, PageVisit::Opened).await, "SHOWN"))
}

/// Whether the merchant has shown the order itself, and the payer can be redirected without anything being
/// made for that.
fn is_led_straight_on(api: &Api, order: &Order) -> bool {
    let merchant = api.snapshot.routing.merchants.get(&order.terms.merchant);
    let is_direct = merchant.is_some_and(|merchant| merchant.order_page == OrderPage::Direct);
    let action = order
        .waiting_attempt()
        .and_then(|one| one.payment_action.as_ref());
    let is_redirect = action.is_some_and(|one| matches!(one.way, PaymentActionKind::Redirect(_)));
    is_direct && is_redirect && view::is_under_way(order, api.now())
}

async fn show_status(page: &PageRequest<'_>) -> PageResult {
    let order = read_order(&page.api.store, &page.named).await?;
    signal_look(&page.api.world, &order, Signal::Looked);
    Ok((state(&order), "SHOWN"))
}

async fn page_of(page: &PageRequest<'_>, order: &Order, visit: PageVisit) -> Response<Bytes> {
    let (now, routing) = (page.api.now(), &page.api.snapshot.routing);
    let open = institutions_with_page(page, order).await;
    let text = view::page(order, &open, routing, now, visit);
    with_body(StatusCode::OK, HTML, text)
}

/// The institutions whose own page this payer may be led to from this browser (R-5.1.1-3).
async fn institutions_with_page<'a>(
    page: &PageRequest<'a>,
    order: &Order,
) -> Vec<&'a InstitutionProfile> {
    match order.terms.business_type {
        _ if order.state != OrderState::Open => return Vec::new(),
        BusinessType::Single(Mode::Chatbot | Mode::Native) => return Vec::new(),
        BusinessType::Single(Mode::Webview) | BusinessType::Aggregated => (),
    }
    let offers = list_on_page(page.api.scope(), order, &page.payer).await;
    let open = offers
        .into_iter()
        .filter(|offer| offer.ineligible.is_none());
    open.map(|offer| offer.institution).collect()
}

/// Takes the payer's selection. The browser is redirected, so that reloading does not repeat it.
async fn choose(page: &PageRequest<'_>) -> PageResult {
    same_site(page.request.headers())?;
    let institution = chosen(page.request)?;
    let (scope, mode, cause) = (page.api.scope(), Some(Mode::Webview), ChangeCause::Page);
    let (named, payer) = (&page.named, &page.payer);
    let selected = select_institution(scope, named, cause, institution, mode, payer).await;
    let selected = match selected {
        Ok((selected, _)) => selected,
        Err(refused) => {
            let refusal = refused.into_refusal();
            if refusal == Refusal::OrderClosed {
                return Ok((page.back(), "CLOSED"));
            }
            return Err(refusal);
        }
    };
    let result = selected.outcome.word();
    let response = match &selected.outcome {
        OrderOutcome::Accepted => page.onward(),
        OrderOutcome::Refused(_) => page_of(page, &selected.order, PageVisit::Opened).await,
        OrderOutcome::Pending | OrderOutcome::AlreadyPaid | OrderOutcome::Closed => page.back(),
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

/// A refusal in the payer's words, in place of the problem document.
fn as_page(response: &mut Response<Bytes>, refusal: &Refusal) {
    let (title, line) = if *refusal == Refusal::CrossSite {
        texts::CROSS_SITE
    } else {
        texts::refused(response.status())
    };
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
