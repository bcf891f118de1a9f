//! What the payer sees: the payment page that the merchant's form leads to, the return to the
//! merchant as a signed form, and the backend of the app's SDK. No page asks for card data.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::sandbox::clock::draw_token;
use crate::sandbox::html::{escaped, protected};
use crate::sandbox::server::SandboxReply;
use crate::sandbox::unionpay::UnionPayParty;
use crate::sandbox::unionpay::answer::{UnionPayRejection, sealed, written};
use crate::sandbox::unionpay::calls::{self, JudgedUnionPayRequest};
use crate::sandbox::unionpay::faults::{UnionPayFault, UnionPayTrigger};
use crate::sandbox::unionpay::ledger::{
    UnionPayBooking, UnionPayState, UnionPayTransaction, key_of_request,
};
use crate::sandbox::unionpay::notify;

/// Forms lead to merchants, so their targets are not limited.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

const STYLE: &str = "\
body{margin:0 auto;max-width:26rem;padding:1rem;font:1.05rem/1.5 system-ui,sans-serif;color:#1c2430;background:#f4f6f8}\
main{background:#fff;border-radius:.8rem;padding:1.2rem}h1{font-size:1.1rem;margin:0 0 .8rem;color:#b3261e}\
.sum{font-size:2.2rem;font-weight:600;margin:.4rem 0}dl{margin:0 0 1rem}dt{color:#667}dd{margin:0 0 .5rem;overflow-wrap:anywhere}\
button{display:block;width:100%;min-height:3rem;margin:.7rem 0 0;padding:.9rem;font:inherit;border:0;border-radius:.5rem;background:#dde2e8;color:inherit}\
button.pay{background:#b3261e;color:#fff;font-weight:600}small{color:#667}";

/// Returns to the merchant by itself, after the result could be read.
const SCRIPT: &str = "setTimeout(function(){document.forms[0].submit()},2000);";

/// The payer's browser arrives with a merchant's form.
pub(super) fn arrive(shared: &Arc<UnionPayParty>, request: &Request<Bytes>) -> SandboxReply {
    let judged = match calls::judge(shared, request, true) {
        Ok(judged) => judged,
        Err((_, rejection)) => return SandboxReply::Answer(refused(rejection)),
    };
    let trigger = UnionPayTrigger::Received(judged.call);
    let fault = shared.faults.take(trigger, judged.amount_fen());
    if let Some(reply) = calls::refuse(fault) {
        return reply;
    }
    if let Some(UnionPayFault::Refuses(code)) = fault {
        return SandboxReply::Answer(refused(UnionPayRejection::of(code)));
    }
    let page = match book(shared, &judged) {
        Ok(token) => open(shared, &token, StatusCode::OK),
        Err(rejection) => refused(rejection),
    };
    match fault {
        Some(UnionPayFault::AnswerLost | UnionPayFault::NoAnswer) => {
            SandboxReply::Silence(std::time::Duration::ZERO)
        }
        _ => SandboxReply::Answer(page),
    }
}

/// Books the payment, unless this browser's form was here before.
fn book(
    shared: &UnionPayParty,
    judged: &JudgedUnionPayRequest,
) -> Result<String, UnionPayRejection> {
    let now_s = shared.clock.now_s();
    shared.book.change(|book| {
        let booking = book.check_new(judged.call, &judged.fields)?;
        let key = match booking {
            UnionPayBooking::Booked => book.book(judged.call, &judged.fields, draw_token(), now_s),
            UnionPayBooking::Again => key_of_request(&judged.fields),
        };
        let found = book.look(&key);
        Ok(found.map(|found| found.token.clone()).unwrap_or_default())
    })
}

/// The payer's choice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnionPayPayerChoice {
    Pay,
    Fail,
    Nothing,
}

impl UnionPayPayerChoice {
    fn from_word(word: &str) -> Option<Self> {
        match word {
            "pay" => Some(Self::Pay),
            "fail" => Some(Self::Fail),
            "nothing" => Some(Self::Nothing),
            _ => None,
        }
    }
}

/// `GET` shows the page, `POST` is the payer's choice.
pub(super) fn answer(
    shared: &Arc<UnionPayParty>,
    request: &Request<Bytes>,
    token: &str,
) -> Response<Bytes> {
    if request.method() != Method::POST {
        return open(shared, token, StatusCode::OK);
    }
    let form = std::str::from_utf8(request.body()).unwrap_or_default();
    let word = form
        .split('&')
        .find_map(|pair| pair.strip_prefix("outcome="));
    let Some(choice) = word.and_then(UnionPayPayerChoice::from_word) else {
        return open(shared, token, StatusCode::BAD_REQUEST);
    };
    act(shared, token, choice);
    open(shared, token, StatusCode::OK)
}

fn act(shared: &Arc<UnionPayParty>, token: &str, choice: UnionPayPayerChoice) {
    let now_s = shared.clock.now_s();
    let found = shared.book.change(|book| book.of_token(token, now_s));
    let Some(found) = found else {
        return;
    };
    let key = found.key();
    match choice {
        UnionPayPayerChoice::Nothing => (),
        UnionPayPayerChoice::Fail => {
            let code = if found.call.is_front() { "61" } else { "60" };
            shared.book.change(|book| book.fail_attempt(&key, code));
        }
        UnionPayPayerChoice::Pay => {
            if notify::pay(shared, &key) {
                notify::deliver(shared, &key);
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnionPaySdkCall {
    token: String,
    outcome: String,
}

/// The call that the app's SDK makes after the payer confirmed; `token` is the `tn`.
pub(super) fn pay_by_sdk(shared: &Arc<UnionPayParty>, request: &Request<Bytes>) -> Response<Bytes> {
    let call: Option<UnionPaySdkCall> = serde_json::from_slice(request.body()).ok();
    let choice = call
        .as_ref()
        .and_then(|call| UnionPayPayerChoice::from_word(&call.outcome));
    let (Some(call), Some(choice)) = (call, choice) else {
        return json_answer(StatusCode::BAD_REQUEST, "fail");
    };
    act(shared, &call.token, choice);
    let now_s = shared.clock.now_s();
    let found = shared.book.change(|book| book.of_token(&call.token, now_s));
    match found.map(|found| found.state) {
        Some(UnionPayState::Succeeded) => json_answer(StatusCode::OK, "success"),
        Some(UnionPayState::Open) if choice == UnionPayPayerChoice::Nothing => {
            json_answer(StatusCode::OK, "cancel")
        }
        Some(UnionPayState::Open | UnionPayState::Failed) => json_answer(StatusCode::OK, "fail"),
        None => json_answer(StatusCode::NOT_FOUND, "fail"),
    }
}

/// What the SDK hands to the app: a hint.
fn json_answer(status: StatusCode, result: &str) -> Response<Bytes> {
    let body = json!({ "pay_result": result });
    written(status, "application/json", body.to_string())
}

/// The page in the state of its payment.
fn open(shared: &UnionPayParty, token: &str, status: StatusCode) -> Response<Bytes> {
    let now_s = shared.clock.now_s();
    let found = shared.book.change(|book| book.of_token(token, now_s));
    let Some(found) = found else {
        let main = message("找不到这笔支付", "There is no such payment.");
        return html(StatusCode::NOT_FOUND, &main);
    };
    let main = match found.state {
        UnionPayState::Open => payment_page(shared, &found),
        UnionPayState::Succeeded => {
            let done = message("支付成功", "Paid. You may go back to the merchant.");
            done + &return_form(shared, &found)
        }
        UnionPayState::Failed => message("订单已关闭", "This payment is closed."),
    };
    html(status, &main)
}

fn payment_page(shared: &UnionPayParty, found: &UnionPayTransaction) -> String {
    let merchant = shared.merchant(&found.mer_id);
    let merchant = merchant.map_or("—", |merchant| &*merchant.name);
    let sub_merchant = found.request.text("subMerAbbr");
    let failed = if found.failures == 0 {
        ""
    } else {
        "<p>支付失败，可以换一张卡再试。The payment failed; you may try another card.</p>"
    };
    format!(
        "{failed}<p class=\"sum\">¥ {sum}</p>\
         <dl><dt>商户 · Merchant</dt><dd>{merchant} {sub_merchant}</dd>\
         <dt>说明 · Description</dt><dd>{goods}</dd>\
         <dt>订单号 · Order</dt><dd>{number}</dd></dl>\
         <form method=\"post\" action=\"/page/{token}\">\
         <button class=\"pay\" name=\"outcome\" value=\"pay\">确认付款 · Pay</button>\
         <button name=\"outcome\" value=\"fail\">让支付失败 · Fail</button>\
         <button name=\"outcome\" value=\"nothing\">什么都不做 · Do nothing</button></form>\
         <p><small>模拟的支付机构，不会扣款。A simulated institution: no money moves.</small></p>",
        sum = yuan(found.amount_fen),
        merchant = escaped(merchant),
        sub_merchant = escaped(sub_merchant),
        goods = escaped(found.request.text("orderDesc")),
        number = escaped(&found.order_id),
        token = found.token,
    )
}

/// The notification to `frontUrl`, posted by the browser. Browsers send every line end of a form as
/// CR LF, so the certificate has to have them before it is signed.
fn return_form(shared: &UnionPayParty, found: &UnionPayTransaction) -> String {
    let to = found.request.text("frontUrl");
    if to.is_empty() {
        return String::new();
    }
    let fields = notify::notification(found, found.amount_fen);
    let fields = sealed(fields, &shared.signing(), None, "\r\n");
    let mut form = format!("<form method=\"post\" action=\"{}\">", escaped(to));
    for (name, value) in fields.pairs() {
        // Writing to a string does not fail.
        let _ = write!(
            form,
            "<input type=\"hidden\" name=\"{name}\" value=\"{}\">",
            escaped(value)
        );
    }
    form + "<button class=\"pay\">返回商户 · Back to the merchant</button></form>\
            <script src=\"/submit.js\"></script>"
}

fn refused(rejection: UnionPayRejection) -> Response<Bytes> {
    let text = format!("{} · respCode={}", rejection.message(), rejection.code);
    html(
        StatusCode::OK,
        &message(&escaped(&text), "The request was refused."),
    )
}

fn message(chinese: &str, english: &str) -> String {
    format!("<p class=\"sum\">{chinese}</p><p>{english}</p>")
}

/// The style sheet.
pub(super) fn style() -> Response<Bytes> {
    written(StatusCode::OK, "text/css; charset=utf-8", STYLE.to_owned())
}

/// The script of the return.
pub(super) fn script() -> Response<Bytes> {
    written(
        StatusCode::OK,
        "text/javascript; charset=utf-8",
        SCRIPT.to_owned(),
    )
}

fn html(status: StatusCode, main: &str) -> Response<Bytes> {
    let page = format!(
        "<!doctype html><html lang=\"zh-CN\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>模拟银联</title><link rel=\"stylesheet\" href=\"/style.css\"></head>\
         <body><main><h1>模拟银联 · Sandbox UnionPay</h1>{main}</main></body></html>"
    );
    protected(written(status, "text/html; charset=utf-8", page), POLICY)
}

/// Fen as yuan with two places.
pub(super) fn yuan(fen: i64) -> String {
    format!("{}.{:02}", fen.div_euclid(100), fen.rem_euclid(100))
}
