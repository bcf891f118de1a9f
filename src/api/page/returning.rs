//! `/pay/{token}/return`: the payer is back from the institution. Nothing that the browser brings along
//! is believed: it is a sign that money may have moved, so the institution is asked, and the page says
//! that this goes on.

use http::Method;

use crate::api::page::view::{PageVisit, is_under_way};
use crate::api::page::{PageRequest, PageResult, page_of};
use crate::domain::refusal::Refusal;
use crate::flow::apply_evidence::payment_signals::signal_look;
use crate::flow::read_order::read_order;
use crate::world::signals::Signal;

/// What an institution's page may post along, at most; none of it is read.
const POSTED_BYTES_MAX: usize = 16 * 1024;

/// How often the page looks for the answer, every three seconds: the institution is asked at once and 2, 5
/// and 10 seconds later.
const LOOKS_MAX: u8 = 4;

/// Says that the payment is being confirmed; once it is known, or nothing came of it, the browser goes to
/// the page of the order.
pub(super) async fn come_back(page: &PageRequest<'_>) -> PageResult {
    if page.request.body().len() > POSTED_BYTES_MAX {
        return Err(Refusal::BodyTooLarge {
            bytes_max: POSTED_BYTES_MAX,
        });
    }
    let api = page.api;
    let order = read_order(&api.store, &page.named).await?;
    let looked = looked(page.request.uri().query());
    let signal = if looked == 0 {
        Signal::Returned
    } else {
        Signal::Looked
    };
    signal_look(&api.world, &order, signal);
    // Reloading must not post again.
    if *page.request.method() == Method::POST {
        return Ok((page.returned(), "SHOWN"));
    }
    let response = if !is_under_way(&order, api.now()) {
        page.back()
    } else if looked < LOOKS_MAX {
        page_of(page, &order, PageVisit::Returned(looked)).await
    } else {
        page.unpaid()
    };
    Ok((response, "SHOWN"))
}

/// How often this page has looked since the payer came back: its own word to itself, and the institutions'
/// parameters beside it are passed over. At worst it shows the order sooner.
fn looked(query: Option<&str>) -> u8 {
    let looked = query.and_then(|query| query.strip_prefix("looked="));
    looked.and_then(|count| count.parse().ok()).unwrap_or(0)
}
