//! The calls between servers: judged, carried out, answered with raw signed text. The order of the
//! checks is fixed: form, fields, signature, form of each field, contract, time, books.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};

use crate::sandbox::clock::{draw_number, draw_token, wait};
use crate::sandbox::server::SandboxReply;
use crate::sandbox::unionpay::answer::{
    UnionPayRejection, answer_to, html_page, message_of, raw, sealed,
};
use crate::sandbox::unionpay::clock::{beijing, parse_beijing};
use crate::sandbox::unionpay::faults::{UnionPayFault, UnionPayTrigger};
use crate::sandbox::unionpay::form::UnionPayFields;
use crate::sandbox::unionpay::ledger::{UnionPayKey, UnionPayState, UnionPayTransaction};
use crate::sandbox::unionpay::notify;
use crate::sandbox::unionpay::request::{UnionPayCall, UnionPayCallShape, is_well_formed};
use crate::sandbox::unionpay::{UnionPayParty, file};

/// How old the time of a request may be: a browser may bring an order made earlier. Unit: seconds.
const AGE_S_MAX: i64 = 24 * 3_600;
/// How far a merchant's clock may be ahead. Unit: seconds.
const AHEAD_S_MAX: i64 = 600;
/// Only UnionPay's browsers post forms without saying which characters they mean.
const FORM: &str = "application/x-www-form-urlencoded";

/// A request that is verified and well-formed.
pub(super) struct JudgedUnionPayRequest {
    pub(super) call: UnionPayCall,
    pub(super) fields: UnionPayFields,
}

impl JudgedUnionPayRequest {
    pub(super) fn amount_fen(&self) -> Option<i64> {
        self.fields.text("txnAmt").parse().ok()
    }
}

/// Reads and verifies a request; a rejected one comes with the fields that could be read.
pub(super) fn judge(
    shared: &UnionPayParty,
    request: &Request<Bytes>,
    is_browser: bool,
) -> Result<JudgedUnionPayRequest, (UnionPayFields, UnionPayRejection)> {
    let unreadable = |rejection| (UnionPayFields::default(), rejection);
    if !has_form(request, is_browser) {
        return Err(unreadable(UnionPayRejection::of("10")));
    }
    let fields = UnionPayFields::parse(request.body()).map_err(|fault| {
        tracing::debug!(?fault, "a request is not a form");
        unreadable(UnionPayRejection::of("10"))
    })?;
    match verify(shared, request.uri().path(), &fields) {
        Ok(call) => Ok(JudgedUnionPayRequest { call, fields }),
        Err(rejection) => Err((fields, rejection)),
    }
}

/// Servers have to name the encoding; browsers do not.
fn has_form(request: &Request<Bytes>, is_browser: bool) -> bool {
    let Some(Ok(media_type)) = request
        .headers()
        .get(CONTENT_TYPE)
        .map(|text| text.to_str())
    else {
        return false;
    };
    let media_type = media_type.to_ascii_lowercase().replace(' ', "");
    media_type == format!("{FORM};charset=utf-8") || is_browser && media_type == FORM
}

fn verify(
    shared: &UnionPayParty,
    path: &str,
    fields: &UnionPayFields,
) -> Result<UnionPayCall, UnionPayRejection> {
    let shape = UnionPayCallShape::find(path, fields)?;
    for name in ["version", "encoding", "merId"] {
        if !is_well_formed(name, fields.text(name)) {
            return Err(UnionPayRejection::at("10", name));
        }
    }
    let merchant = shared
        .merchant(fields.text("merId"))
        .ok_or(UnionPayRejection::at("30", "merId"))?;
    shared.check_signature(fields)?;
    shared
        .book
        .change(|book| book.calls = book.calls.saturating_add(1));
    shape.check(fields)?;
    let access = fields.text("accessType");
    if !merchant.access_types.iter().any(|known| known == access) {
        return Err(UnionPayRejection::at("32", "accessType"));
    }
    if shape.call == UnionPayCall::File && !merchant.has_files {
        return Err(UnionPayRejection::of("32"));
    }
    check_times(shape.call, fields, shared.clock.now_s())?;
    Ok(shape.call)
}

/// Queries and reversals name the time of another request, so theirs may be any.
fn check_times(
    call: UnionPayCall,
    fields: &UnionPayFields,
    now_s: i64,
) -> Result<(), UnionPayRejection> {
    if matches!(call, UnionPayCall::Query | UnionPayCall::Reversal) {
        return Ok(());
    }
    let sent_s = parse_beijing(fields.text("txnTime")).unwrap_or_default();
    let oldest_s = now_s.saturating_sub(AGE_S_MAX);
    if !(oldest_s..=now_s.saturating_add(AHEAD_S_MAX)).contains(&sent_s) {
        return Err(UnionPayRejection::at("10", "txnTime"));
    }
    let Some(pay_until_s) = parse_beijing(fields.text("payTimeout")) else {
        return Ok(());
    };
    if pay_until_s <= sent_s {
        return Err(UnionPayRejection::at("10", "payTimeout"));
    }
    if pay_until_s < now_s {
        return Err(UnionPayRejection::at("44", "payTimeout"));
    }
    Ok(())
}

/// Answers a call of a server.
pub(super) async fn answer(shared: &Arc<UnionPayParty>, request: &Request<Bytes>) -> SandboxReply {
    let judged = match judge(shared, request, false) {
        Ok(judged) => judged,
        Err((fields, rejection)) => {
            return signed(shared, &fields, rejection, &UnionPayFields::default(), None);
        }
    };
    let trigger = UnionPayTrigger::Received(judged.call);
    let fault = shared.faults.take(trigger, judged.amount_fen());
    if let Some(refused) = refuse(fault) {
        return refused;
    }
    let nothing = UnionPayFields::default();
    if let Some(UnionPayFault::Refuses(code)) = fault {
        let rejection = UnionPayRejection::of(code);
        return signed(shared, &judged.fields, rejection, &nothing, None);
    }
    let (rejection, more) = match act(shared, &judged).await {
        Err(rejection) => (rejection, nothing),
        Ok(more) => match fault {
            Some(UnionPayFault::ActsThenAnswers(code)) => (UnionPayRejection::of(code), nothing),
            _ => (UnionPayRejection::of("00"), more),
        },
    };
    let delays = &shared.settings.delays;
    match fault {
        Some(UnionPayFault::AnswerLost) => return SandboxReply::Silence(Duration::ZERO),
        Some(UnionPayFault::NoAnswer) => return SandboxReply::Silence(delays.hold),
        Some(UnionPayFault::SlowAnswer) => wait(delays.slow).await,
        _ => (),
    }
    signed(shared, &judged.fields, rejection, &more, fault)
}

/// The answer of faults that carry out nothing and answer nothing of the interface.
pub(super) fn refuse(fault: Option<UnionPayFault>) -> Option<SandboxReply> {
    let status = match fault {
        Some(UnionPayFault::NotReceived) => return Some(SandboxReply::Silence(Duration::ZERO)),
        Some(UnionPayFault::HtmlPage) => StatusCode::OK,
        Some(UnionPayFault::ServerError) => StatusCode::SERVICE_UNAVAILABLE,
        _ => return None,
    };
    Some(SandboxReply::Answer(html_page(status)))
}

fn signed(
    shared: &UnionPayParty,
    request: &UnionPayFields,
    rejection: UnionPayRejection,
    more: &UnionPayFields,
    fault: Option<UnionPayFault>,
) -> SandboxReply {
    let signing = shared.signing();
    let fields = answer_to(request, rejection, more);
    let fields = sealed(fields, &signing, fault, signing.line_end());
    SandboxReply::Answer(raw(&fields, fault))
}

/// Carries out a call; what it returns is added to the answer.
async fn act(
    shared: &Arc<UnionPayParty>,
    judged: &JudgedUnionPayRequest,
) -> Result<UnionPayFields, UnionPayRejection> {
    let (call, request) = (judged.call, &judged.fields);
    let now_s = shared.clock.now_s();
    match call {
        UnionPayCall::Query => {
            let found = shared.book.change(|book| book.query(request, now_s))?;
            Ok(found_fields(&found))
        }
        UnionPayCall::File => file::answer(shared, request, now_s),
        UnionPayCall::Reversal => {
            shared.book.change(|book| book.reverse(request, now_s))?;
            Ok(UnionPayFields::default())
        }
        UnionPayCall::Refund | UnionPayCall::Revoke => {
            let key = shared.book.change(|book| {
                book.check_new(call, request)?;
                book.book_return(call, request, now_s)
            })?;
            accept(shared, judged, key);
            Ok(UnionPayFields::default())
        }
        UnionPayCall::App | UnionPayCall::Qr | UnionPayCall::Barcode => {
            ask_for_money(shared, judged, now_s).await
        }
        // The browser's request has its own answer, and nobody sends a notification here.
        UnionPayCall::Front | UnionPayCall::Notification => Err(UnionPayRejection::of("10")),
    }
}

async fn ask_for_money(
    shared: &Arc<UnionPayParty>,
    judged: &JudgedUnionPayRequest,
    now_s: i64,
) -> Result<UnionPayFields, UnionPayRejection> {
    let (call, request) = (judged.call, &judged.fields);
    let is_by_code = call == UnionPayCall::Barcode;
    let (field, token) = if call == UnionPayCall::App {
        ("tn", draw_number('6'))
    } else {
        ("qrCode", draw_token())
    };
    let token = if is_by_code { String::new() } else { token };
    let key = shared.book.change(|book| {
        book.check_new(call, request)?;
        Ok(book.book(call, request, token.clone(), now_s))
    })?;
    let trigger = UnionPayTrigger::Booked(call);
    let fault = shared.faults.take(trigger, judged.amount_fen());
    if fault == Some(UnionPayFault::EarlyNotification) {
        notify::pay(shared, &key);
        notify::deliver_now(shared, &key).await;
    } else if is_by_code {
        finish_later(shared, call, key, fault);
    }
    let mut more = UnionPayFields::default();
    if call == UnionPayCall::Qr {
        more.set(field, shared.page_url(&token));
    } else {
        more.set(field, token);
    }
    Ok(more)
}

/// A refund or a revoke was accepted: it is carried out later, and its end notified.
fn accept(shared: &Arc<UnionPayParty>, judged: &JudgedUnionPayRequest, key: UnionPayKey) {
    let trigger = UnionPayTrigger::Booked(judged.call);
    let fault = shared.faults.take(trigger, judged.amount_fen());
    finish_later(shared, judged.call, key, fault);
}

fn finish_later(
    shared: &Arc<UnionPayParty>,
    call: UnionPayCall,
    key: UnionPayKey,
    fault: Option<UnionPayFault>,
) {
    let background = Arc::clone(shared);
    shared.spawn_background(async move {
        let delays = &background.settings.delays;
        wait(match fault {
            Some(UnionPayFault::TakesTime) => delays.late,
            _ => delays.soon,
        })
        .await;
        let has_ended = if fault == Some(UnionPayFault::FailsLater) {
            background.book.change(|book| book.fail(&key, "01"));
            true
        } else if call == UnionPayCall::Barcode {
            notify::pay(&background, &key)
        } else {
            let now_s = background.clock.now_s();
            background
                .book
                .change(|book| book.complete_return(&key, now_s));
            true
        };
        if has_ended {
            notify::deliver(&background, &key);
        }
    });
}

/// What a query answers about a transaction.
fn found_fields(found: &UnionPayTransaction) -> UnionPayFields {
    let mut fields = UnionPayFields::default();
    fields.set("origRespCode", found.code);
    fields.set("origRespMsg", message_of(found.code));
    if let Some(receipt) = &found.receipt
        && found.state == UnionPayState::Succeeded
    {
        fields.set("queryId", &*receipt.query_id);
        fields.set("txnAmt", found.amount_fen.to_string());
        fields.set("currencyCode", "156");
        notify::settlement(&mut fields, receipt);
        if found.call.is_payment() {
            fields.set("payCardType", "01");
            fields.set("reserved", "{cardIssueName=Example&x=1}");
        }
    }
    fields.set("reqReserved", found.request.text("reqReserved"));
    fields
}

/// `traceTime`: `MMDDhhmmss`.
pub(super) fn trace_time(at_s: i64) -> String {
    beijing(at_s).get(4..).unwrap_or_default().to_owned()
}
