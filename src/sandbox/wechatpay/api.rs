//! A call of the API from its path to its signed answer: headers, Authorization, the call itself,
//! then the signature over exactly what is sent. Effects are in the books before the answer.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::Value;

use crate::sandbox::server::SandboxReply;
use crate::sandbox::wechatpay::authorization::{self, Expected};
use crate::sandbox::wechatpay::drawing::draw_hex;
use crate::sandbox::wechatpay::faults::{AnswerFault, Carried, WechatCall};
use crate::sandbox::wechatpay::merchants::EnrolledMerchant;
use crate::sandbox::wechatpay::platform::SignatureKind;
use crate::sandbox::wechatpay::prepay::{ContractRole, WechatProduct};
use crate::sandbox::wechatpay::refusal::{WechatErrorCode, WechatRefusal, reason};
use crate::sandbox::wechatpay::{WechatHost, WechatPayState, bills, orders, refunds};

/// What a call answers with.
pub(super) enum WechatAnswer {
    Json(Value),
    /// 204.
    Nothing,
    /// A bill's file, which is not signed.
    File {
        bytes: Bytes,
        gzip: bool,
    },
}

pub(super) type WechatOutcome = Result<WechatAnswer, WechatRefusal>;

/// What a path asks for.
enum WechatRoute {
    Prepay(WechatProduct, ContractRole),
    ByNumber(String, ContractRole),
    ByTransaction(String, ContractRole),
    Close(String, ContractRole),
    Refund,
    RefundQuery(String),
    AbnormalRefund(String),
    Certificates,
    TradeBill,
    Download,
}

impl WechatRoute {
    fn of(method: &Method, path: &str) -> Option<Self> {
        let raw: Vec<&str> = path.strip_prefix("/v3/")?.split('/').collect();
        let decoded: Option<Vec<String>> = raw.into_iter().map(percent_decoded).collect();
        let decoded = decoded?;
        let mut parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let role = if parts.get(..2) == Some(&["pay", "partner"]) {
            parts.remove(1);
            ContractRole::Partner
        } else {
            ContractRole::Direct
        };
        let owned = |text: &str| text.to_owned();
        let is_get = *method == Method::GET;
        let is_post = *method == Method::POST;
        Some(match parts.as_slice() {
            ["pay", "transactions", product] if is_post => {
                Self::Prepay(WechatProduct::from_path(product)?, role)
            }
            ["pay", "transactions", "out-trade-no", number] if is_get => {
                Self::ByNumber(owned(number), role)
            }
            ["pay", "transactions", "id", id] if is_get => Self::ByTransaction(owned(id), role),
            ["pay", "transactions", "out-trade-no", number, "close"] if is_post => {
                Self::Close(owned(number), role)
            }
            ["refund", "domestic", "refunds"] if is_post => Self::Refund,
            ["refund", "domestic", "refunds", number] if is_get => Self::RefundQuery(owned(number)),
            ["refund", "domestic", "refunds", id, "apply-abnormal-refund"] if is_post => {
                Self::AbnormalRefund(owned(id))
            }
            ["certificates"] if is_get => Self::Certificates,
            ["bill", "tradebill"] if is_get => Self::TradeBill,
            ["billdownload", "file"] if is_get => Self::Download,
            _ => return None,
        })
    }

    fn call(&self) -> WechatCall {
        match self {
            Self::Prepay(..) => WechatCall::Prepay,
            Self::ByNumber(..) | Self::ByTransaction(..) => WechatCall::Query,
            Self::Close(..) => WechatCall::Close,
            Self::Refund | Self::AbnormalRefund(_) => WechatCall::Refund,
            Self::RefundQuery(_) => WechatCall::RefundQuery,
            Self::Certificates => WechatCall::Certificates,
            Self::TradeBill => WechatCall::TradeBill,
            Self::Download => WechatCall::Download,
        }
    }
}

/// Undoes percent-encoding once; `None` if it is not encoded as it must be.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
            rest = after.get(2..)?;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes everything but letters, digits and `-_.~`.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The parameters of an address, decoded; refuses what is not in `known` and what comes twice.
pub(super) fn parameters<const N: usize>(
    request: &Request<Bytes>,
    known: [&str; N],
) -> Result<[Option<String>; N], WechatRefusal> {
    let mut found = [const { None }; N];
    let query = request.uri().query().unwrap_or_default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let at = known.iter().position(|it| *it == name);
        let place = at.and_then(|at| found.get_mut(at));
        let place = place.ok_or_else(|| WechatRefusal::query(name, "not a parameter"))?;
        let value = percent_decoded(value);
        let value = value.ok_or_else(|| WechatRefusal::query(name, "not percent-encoded"))?;
        if place.replace(value).is_some() {
            return Err(WechatRefusal::query(name, "comes twice"));
        }
    }
    Ok(found)
}

pub(super) async fn answer(
    shared: &Arc<WechatPayState>,
    host: WechatHost,
    request: &Request<Bytes>,
) -> SandboxReply {
    let route = match admit(shared, host, request) {
        Ok(route) => route,
        Err(refusal) => return signed(shared, ("", None), Err(refusal), None),
    };
    let merchant = match identify(shared, request, &route) {
        Ok(merchant) => merchant,
        Err(refusal) => return refused(shared, "", refusal),
    };
    let asked = match authorization::key_asked(request, &shared.keys) {
        Ok(asked) => asked,
        Err(refusal) => return refused(shared, merchant.mchid(), refusal),
    };
    shared
        .book
        .change(|book| book.calls = book.calls.saturating_add(1));
    let fault = shared.faults.take_answer(route.call());
    let outcome = match fault {
        Some((_, Carried::Not)) => Ok(WechatAnswer::Nothing),
        Some((_, Carried::Out)) | None => carry_out(shared, host, merchant, &route, request).await,
    };
    let fault = fault.map(|(fault, _)| fault);
    signed(shared, (merchant.mchid(), asked.as_deref()), outcome, fault)
}

fn admit(
    shared: &WechatPayState,
    host: WechatHost,
    request: &Request<Bytes>,
) -> Result<WechatRoute, WechatRefusal> {
    let named = request.headers().get(HOST);
    if named.is_none_or(|named| named.as_bytes() != shared.authority(host).as_bytes()) {
        return Err(WechatRefusal::header("Host", "another host"));
    }
    WechatRoute::of(request.method(), request.uri().path()).ok_or_else(|| {
        let code = WechatErrorCode::ResourceNotExists;
        WechatRefusal::of(code, reason::PARAMETER).saying("no such method and path")
    })
}

fn refused(shared: &WechatPayState, mchid: &str, refusal: WechatRefusal) -> SandboxReply {
    shared
        .book
        .change(|book| book.refused = book.refused.saturating_add(1));
    signed(shared, (mchid, None), Err(refusal), None)
}

/// Who calls.
fn identify<'a>(
    shared: &'a WechatPayState,
    request: &Request<Bytes>,
    route: &WechatRoute,
) -> Result<&'a EnrolledMerchant, WechatRefusal> {
    let expected = match route.call() {
        WechatCall::Download => Expected::File,
        WechatCall::Prepay
        | WechatCall::Query
        | WechatCall::Close
        | WechatCall::Refund
        | WechatCall::RefundQuery
        | WechatCall::Certificates
        | WechatCall::TradeBill => Expected::Json,
    };
    authorization::check_headers(request, expected)?;
    authorization::verify(&shared.merchants, request, shared.clock.now_s())
}

async fn carry_out(
    shared: &Arc<WechatPayState>,
    host: WechatHost,
    merchant: &EnrolledMerchant,
    route: &WechatRoute,
    request: &Request<Bytes>,
) -> WechatOutcome {
    match route {
        WechatRoute::Prepay(product, role) => {
            orders::prepay(shared, host, merchant, (*product, *role), request.body()).await
        }
        WechatRoute::ByNumber(number, role) => {
            orders::by_number(shared, merchant, (number, *role), request)
        }
        WechatRoute::ByTransaction(id, role) => {
            orders::by_transaction(shared, merchant, (id, *role), request)
        }
        WechatRoute::Close(number, role) => {
            orders::close(shared, merchant, (number, *role), request.body())
        }
        WechatRoute::Refund => refunds::apply(shared, merchant, request.body()),
        WechatRoute::RefundQuery(number) => refunds::query(shared, merchant, number, request),
        WechatRoute::AbnormalRefund(id) => {
            refunds::apply_abnormal(shared, merchant, id, request.body())
        }
        WechatRoute::Certificates => {
            parameters(request, [])?;
            let list = shared.keys.list(merchant.mchid(), &merchant.apiv3);
            list.map(WechatAnswer::Json)
        }
        WechatRoute::TradeBill => bills::trade_bill(shared, host, merchant, request),
        WechatRoute::Download => bills::download(shared, merchant, request),
    }
}

/// The answer to a call, or the silence that was ordered.
fn signed(
    shared: &WechatPayState,
    (mchid, asked): (&str, Option<&str>),
    outcome: WechatOutcome,
    fault: Option<AnswerFault>,
) -> SandboxReply {
    let mut outcome = outcome;
    let mut kind = Some(SignatureKind::Right);
    match fault {
        Some(AnswerFault::Silence) => return SandboxReply::Silence(shared.waits.hold),
        Some(AnswerFault::Lost) => return SandboxReply::Silence(Duration::ZERO),
        Some(AnswerFault::FirstHostLost) => {
            shared.first_host_lost.store(true, Ordering::SeqCst);
            return SandboxReply::Silence(Duration::ZERO);
        }
        Some(AnswerFault::Html) => return SandboxReply::Answer(html_page()),
        Some(AnswerFault::Code(code)) => {
            outcome = Err(WechatRefusal::of(code, reason::NONE));
        }
        Some(AnswerFault::UnlistedState) => unlist(&mut outcome),
        Some(AnswerFault::DamagedFile) => damage(&mut outcome),
        Some(AnswerFault::Unsigned) => kind = None,
        Some(AnswerFault::Probe) => kind = Some(SignatureKind::Probe),
        Some(AnswerFault::UnknownSerial) => kind = Some(SignatureKind::UnknownSerial),
        Some(AnswerFault::ForeignKey) => kind = Some(SignatureKind::ForeignKey),
        Some(AnswerFault::OldTimestamp) => kind = Some(SignatureKind::Old),
        None => (),
    }
    let is_file = matches!(outcome, Ok(WechatAnswer::File { .. }));
    let mut answer = written(outcome);
    if let Some(kind) = kind.filter(|_| !is_file) {
        let signer = shared.keys.for_answer(mchid, asked);
        let now_s = shared.clock.now_s();
        let body = answer.body().clone();
        let headers: &mut HeaderMap = answer.headers_mut();
        shared
            .keys
            .sign_headers(headers, &body, (signer, kind, now_s));
    }
    SandboxReply::Answer(answer)
}

fn unlist(outcome: &mut WechatOutcome) {
    let Ok(WechatAnswer::Json(body)) = outcome else {
        return;
    };
    for field in ["trade_state", "status"] {
        if let Some(state) = body.get_mut(field) {
            *state = Value::from("SETTLING");
        }
    }
}

fn damage(outcome: &mut WechatOutcome) {
    let Ok(WechatAnswer::File { bytes, gzip: false }) = outcome else {
        return;
    };
    let mut changed = bytes.to_vec();
    if let Some(byte) = changed.last_mut() {
        *byte ^= 1;
    }
    *bytes = Bytes::from(changed);
}

fn written(outcome: WechatOutcome) -> Response<Bytes> {
    let (status, media_type, body, reason) = match outcome {
        Ok(WechatAnswer::Json(body)) => (
            200,
            "application/json; charset=utf-8",
            body.to_string().into(),
            0,
        ),
        Ok(WechatAnswer::Nothing) => (204, "", Bytes::new(), 0),
        Ok(WechatAnswer::File { bytes, gzip: true }) => (200, "application/x-gzip", bytes, 0),
        Ok(WechatAnswer::File { bytes, gzip: false }) => {
            (200, "text/plain; charset=utf-8", bytes, 0)
        }
        Err(refusal) => {
            let body = refusal.body().to_string().into();
            let status = refusal.code.status();
            (
                status,
                "application/json; charset=utf-8",
                body,
                refusal.reason,
            )
        }
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let headers = answer.headers_mut();
    if !media_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, must-revalidate"),
    );
    let id = format!("08{}-{reason}", draw_hex(40).to_ascii_uppercase());
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("request-id", id);
    }
    answer
}

fn html_page() -> Response<Bytes> {
    let page = "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad \
                Gateway</h1></center></body></html>";
    let mut answer = Response::new(Bytes::from_static(page.as_bytes()));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    let html = HeaderValue::from_static("text/html");
    answer.headers_mut().insert(CONTENT_TYPE, html);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_paths_are_decoded_once() {
        assert_eq!(percent_decoded("a%7Cb%40c").as_deref(), Some("a|b@c"));
        assert_eq!(percent_decoded("a%257C").as_deref(), Some("a%7C"));
        assert_eq!(
            (percent_decoded("a%7"), percent_decoded("a%+7")),
            (None, None)
        );
        assert_eq!(percent_encoded("a|b 支"), "a%7Cb%20%E6%94%AF");
    }
}
