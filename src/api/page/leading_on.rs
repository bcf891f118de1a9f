//! `/pay/{token}/go`: leads the payer on by the attempt's payment action, and has no effect. Where the
//! payer cannot go on, it leads back to the page, which says why.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};

use crate::api::page::headers::{PageReferrer, protect_scripted, see_other};
use crate::api::page::markup::{Refresh, both, document, escape, link_to};
use crate::api::page::texts::{
    BY_ITSELF, BilingualText, CONTINUE, I_HAVE_PAID, IN_ITS_WINDOW, NEEDS_SCRIPTS, OPENING_WALLET,
    SCAN,
};
use crate::api::page::view::order_head;
use crate::api::page::{HTML, PageRequest, PageResult, qr_code};
use crate::api::response::with_body;
use crate::domain::evidence::{PaymentActionKind, PaymentForm};
use crate::domain::institutions::ActionOpening;
use crate::domain::order::Order;
use crate::domain::refusal::Refusal;
use crate::flow::apply_evidence::payment_signals::signal_look;
use crate::flow::read_order::read_order;
use crate::flow::start_attempt::{BrowserAction, browser_action};
use crate::world::signals::Signal;

/// Goes on at once: clicks the link or button, which is there without scripts as well.
pub(super) const ONWARD: &str = include_str!("onward.js");

/// Starts a payment in WeChat's own browser, and comes back when it ends.
pub(super) const WECHAT_BRIDGE: &str = include_str!("wechat_bridge.js");

/// How often the page of a code looks whether it was paid. Unit: seconds.
const SCANNED_REFRESH_S: u8 = 5;

/// Sends the payer on.
pub(super) async fn send_on(page: &PageRequest<'_>) -> PageResult {
    let order = read_order(&page.api.store, &page.named).await?;
    let led = onward(page, &order).await?;
    Ok((led.unwrap_or_else(|| page.back()), "SHOWN"))
}

/// The way on for the payer of this order; `None` where there is none.
pub(super) async fn onward(
    page: &PageRequest<'_>,
    order: &Order,
) -> Result<Option<Response<Bytes>>, Refusal> {
    let api = page.api;
    let found = browser_action(api.scope(), &api.admission.limits, order).await?;
    let opened = found.and_then(|found| open(order, &found));
    // A code is scanned on another device, so nobody comes back from there.
    if opened
        .as_ref()
        .is_some_and(|page| page.status() == StatusCode::OK)
    {
        signal_look(&api.world, order, Signal::Looked);
    }
    Ok(opened)
}

/// Opens an action in the payer's browser; `None` for one that a browser cannot open, and for an address
/// that is not https (R-6.3.1-2e).
fn open(order: &Order, found: &BrowserAction) -> Option<Response<Bytes>> {
    let is_secure = |url: &str| url.starts_with("https://");
    match (&found.action.way, found.opening) {
        (PaymentActionKind::Redirect(url), _) if !is_secure(url) => None,
        (PaymentActionKind::Redirect(url), ActionOpening::FromOurOrigin) => {
            let onward = format!(
                "<a class=\"link go\" id=\"onward\" href=\"{}\">{}</a>",
                escape(url),
                both(CONTINUE)
            );
            Some(leading(order, &onward, PageReferrer::Origin))
        }
        (PaymentActionKind::Redirect(url), _) => HeaderValue::from_str(url).ok().map(see_other),
        (PaymentActionKind::Form(form), _) if is_secure(&form.url) => {
            Some(leading(order, &posting(form), PageReferrer::Nothing))
        }
        (PaymentActionKind::Form(_), _) => None,
        (PaymentActionKind::QrCode(content), _) => scanning(order, content),
        (PaymentActionKind::SdkParameters(json), ActionOpening::WeChatBridge) => {
            Some(bridging(order, json))
        }
        (PaymentActionKind::SdkParameters(_), _) => {
            tracing::error!(order.no = %order.no, "a browser cannot open SDK parameters");
            None
        }
    }
}

/// A form that the browser posts to the institution. Its fields are the institution's own.
fn posting(form: &PaymentForm) -> String {
    let fields = form.fields.iter().map(|(name, value)| {
        let (name, value) = (attribute(name), attribute(value));
        format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
    });
    let fields: String = fields.collect();
    format!(
        "<form method=\"post\" accept-charset=\"utf-8\" action=\"{}\">{fields}\
         <button class=\"go\" id=\"onward\"><span>{}</span></button></form>",
        attribute(&form.url),
        both(CONTINUE)
    )
}

/// A value that must arrive unchanged: signatures cover it.
fn attribute(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// A page that goes on by itself.
fn leading(order: &Order, onward: &str, referrer: PageReferrer) -> Response<Bytes> {
    let body = said(order, "leading", (BY_ITSELF, ""), onward);
    scripted(&format!("{body}<script>{ONWARD}</script>"), referrer)
}

/// A page that passes parameters to WeChat's browser. There is no way on without scripts.
fn bridging(order: &Order, json: &str) -> Response<Bytes> {
    let lines = format!(
        "<p id=\"bridge\" data-parameters=\"{}\">{}</p><noscript><p role=\"alert\">{}</p></noscript>",
        attribute(json),
        both(IN_ITS_WINDOW),
        both(NEEDS_SCRIPTS)
    );
    let onward = format!(
        "<button class=\"go\" id=\"onward\" type=\"button\"><span>{}</span></button>{}",
        both(CONTINUE),
        link_to("return", I_HAVE_PAID)
    );
    let body = said(order, "leading", (OPENING_WALLET, &lines), &onward);
    let body = format!("{body}<script>{WECHAT_BRIDGE}</script>");
    scripted(&body, PageReferrer::Nothing)
}

/// A page with a code, which looks by itself whether it was paid.
fn scanning(order: &Order, content: &str) -> Option<Response<Bytes>> {
    let code = qr_code::svg(content)?;
    let onward = format!("{code}{}", link_to("return", I_HAVE_PAID));
    let body = said(order, "scan", (SCAN, ""), &onward);
    let text = document(Refresh::After(SCANNED_REFRESH_S), &body);
    Some(with_body(StatusCode::OK, HTML, text))
}

/// What is paid to whom, what is to be done, and the way on.
fn said(order: &Order, word: &str, (title, lines): (BilingualText, &str), onward: &str) -> String {
    format!(
        "{}<section class=\"card\"><div class=\"said\"><h1 id=\"state\" data-state=\"{word}\">{}</h1>\
         {lines}</div>{onward}</section>",
        order_head(order, ""),
        both(title)
    )
}

fn scripted(body: &str, referrer: PageReferrer) -> Response<Bytes> {
    let text = document(Refresh::Never, body);
    let mut response = with_body(StatusCode::OK, HTML, text);
    protect_scripted(response.headers_mut(), referrer);
    response
}
