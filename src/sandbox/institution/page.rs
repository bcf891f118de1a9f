//! A simulated institution's payment page, without scripts, and its SDK's backend. The password
//! field is masked; its value is neither read nor stored.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::sandbox::clock::{now_ms, now_s};
use crate::sandbox::html::{escaped, protected};
use crate::sandbox::institution::SandboxInstitutionState;
use crate::sandbox::institution::callback;
use crate::sandbox::institution::ledger::{PayOutcome, PaymentKey, PaymentState, SandboxPayment};
use crate::sandbox::institution::terms::yuan_text;
use crate::sandbox::refusal::{SandboxRefusal, answered, written};

const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

const STYLE: &str = "\
body{margin:0 auto;max-width:26rem;padding:1rem;font:1.05rem/1.5 system-ui,sans-serif;color:#1c2430;background:#f4f6f8}\
main{background:#fff;border-radius:.8rem;padding:1.2rem}h1{font-size:1.1rem;margin:0 0 .8rem}\
.sum{font-size:2.2rem;font-weight:600;margin:.4rem 0}dl{margin:0 0 1rem}dt{color:#667}dd{margin:0 0 .5rem}\
input{box-sizing:border-box;width:100%;padding:.7rem;font-size:1.1rem;border:1px solid #99a;border-radius:.5rem}\
button{display:block;width:100%;margin:.7rem 0 0;padding:.9rem;font:inherit;border:0;border-radius:.5rem;background:#dde2e8;color:inherit}\
button.pay{background:#0a7d4b;color:#fff;font-weight:600}small{color:#667}\
a{display:block;padding:.9rem;border:1px solid #dde2e8;border-radius:.5rem;color:#0a5bb5;text-align:center;text-decoration:none}";

/// The payer's choice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PayerAction {
    Pay,
    Fail,
    Nothing,
}

impl PayerAction {
    fn from_word(word: &str) -> Option<Self> {
        match word {
            "pay" => Some(Self::Pay),
            "fail" => Some(Self::Fail),
            "nothing" => Some(Self::Nothing),
            _ => None,
        }
    }
}

/// `GET` shows the page, `POST` submits the form.
pub(super) fn answer(
    shared: &Arc<SandboxInstitutionState>,
    request: &Request<Bytes>,
    token: &str,
) -> Response<Bytes> {
    let found = shared.book.change(|book| book.of_token(token, now_s()));
    let Some((key, payment)) = found else {
        let text = message("找不到这笔支付", "There is no such payment.", None);
        return html(StatusCode::NOT_FOUND, shared, &text);
    };
    match *request.method() {
        Method::GET => html(StatusCode::OK, shared, &payment_page(&payment)),
        Method::POST => {
            let form = std::str::from_utf8(request.body()).unwrap_or_default();
            let word = form
                .split('&')
                .find_map(|pair| pair.strip_prefix("outcome="));
            let Some(outcome) = word.and_then(PayerAction::from_word) else {
                let text = message("请选择一个操作", "Please choose a button.", Some(token));
                return html(StatusCode::BAD_REQUEST, shared, &text);
            };
            html(
                StatusCode::OK,
                shared,
                &result_page(act(shared, &key, outcome), outcome, token),
            )
        }
        _ => SandboxRefusal::of(405, "method_wrong", "GET, POST").into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SdkCall {
    token: String,
    outcome: String,
}

/// The call that the institution's SDK makes after the payer confirmed on the phone.
pub(super) fn pay_by_sdk(
    shared: &Arc<SandboxInstitutionState>,
    request: &Request<Bytes>,
) -> Response<Bytes> {
    let call: SdkCall = match serde_json::from_slice(request.body()) {
        Ok(call) => call,
        Err(fault) => return SandboxRefusal::unreadable(&fault).into_response(),
    };
    let Some(outcome) = PayerAction::from_word(&call.outcome) else {
        let refusal = SandboxRefusal::of(400, "field_malformed", "pay, fail or nothing");
        return refusal.at("outcome").into_response();
    };
    let found = shared
        .book
        .change(|book| book.of_token(&call.token, now_s()));
    let Some((key, _)) = found else {
        return SandboxRefusal::of(404, "order_unknown", "no such token").into_response();
    };
    act(shared, &key, outcome);
    let state = shared
        .book
        .look(|book| book.look(&key).map(|payment| payment.state));
    answered(&json!({ "orderStatus": state.map(PaymentState::word) }))
}

fn act(
    shared: &Arc<SandboxInstitutionState>,
    key: &PaymentKey,
    outcome: PayerAction,
) -> PayOutcome {
    match outcome {
        PayerAction::Nothing => PayOutcome::Not(PaymentState::Open),
        PayerAction::Fail => {
            shared.book.change(|book| book.fail(key));
            PayOutcome::Not(PaymentState::Open)
        }
        PayerAction::Pay => {
            let paying = shared.book.change(|book| book.pay(key, now_ms()));
            if paying == PayOutcome::Taken {
                callback::call_back_payment(shared, key);
            }
            paying
        }
    }
}

fn payment_page(payment: &SandboxPayment) -> String {
    match payment.state {
        PaymentState::Paid => return message("已支付", "This payment is complete.", None),
        PaymentState::Closed => return message("订单已关闭", "This payment is closed.", None),
        PaymentState::Open => (),
    }
    let terms = &payment.terms;
    let goods = terms.goods_name.as_deref().unwrap_or("—");
    format!(
        "<p class=\"sum\">¥ {sum}</p>\
         <dl><dt>商户 · Merchant</dt><dd>{merchant}</dd><dt>商品 · Goods</dt><dd>{goods}</dd>\
         <dt>支付单号 · Payment</dt><dd>{number}</dd></dl>\
         <form method=\"post\" action=\"/page/{token}\">\
         <label>支付密码 · Password <input type=\"password\" name=\"password\" inputmode=\"numeric\" \
         maxlength=\"6\" autocomplete=\"off\"></label>\
         <button class=\"pay\" name=\"outcome\" value=\"pay\">确认支付 · Pay</button>\
         <button name=\"outcome\" value=\"fail\">让支付失败 · Fail</button>\
         <button name=\"outcome\" value=\"nothing\">什么都不做 · Do nothing</button></form>\
         <p><small>模拟机构，不会扣款，请勿输入真实密码。<br>A simulated institution: no money moves; \
         do not enter a real password.</small></p>",
        sum = yuan_text(terms.sum_cents),
        merchant = escaped(&terms.merchant_name),
        goods = escaped(goods),
        number = payment.institution_no,
        token = payment.token,
    )
}

fn result_page(paying: PayOutcome, outcome: PayerAction, token: &str) -> String {
    let back = Some(token);
    match (paying, outcome) {
        (PayOutcome::Taken | PayOutcome::Not(PaymentState::Paid), _) => {
            message("支付成功", "Paid. You may go back to the merchant.", back)
        }
        (PayOutcome::Not(PaymentState::Closed), _) => {
            message("订单已关闭", "This payment is closed.", back)
        }
        (PayOutcome::Unknown, _) => message("找不到这笔支付", "There is no such payment.", None),
        (PayOutcome::Not(PaymentState::Open), PayerAction::Fail) => {
            message("支付失败", "The payment failed; you may try again.", back)
        }
        (PayOutcome::Not(PaymentState::Open), PayerAction::Pay | PayerAction::Nothing) => {
            message("未做任何操作", "Nothing was done.", back)
        }
    }
}

fn message(chinese: &str, english: &str, back: Option<&str>) -> String {
    let link = back.map_or_else(String::new, |token| {
        format!("<p><a href=\"/page/{token}\">查看这笔支付 · This payment</a></p>")
    });
    format!("<p class=\"sum\">{chinese}</p><p>{english}</p>{link}")
}

/// The style sheet.
pub(super) fn style() -> Response<Bytes> {
    written(StatusCode::OK, "text/css; charset=utf-8", STYLE.to_owned())
}

fn html(status: StatusCode, shared: &SandboxInstitutionState, main: &str) -> Response<Bytes> {
    let name = escaped(&shared.settings.name);
    let page = format!(
        "<!doctype html><html lang=\"zh-CN\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{name}</title><link rel=\"stylesheet\" href=\"/style.css\"></head>\
         <body><main><h1>{name}</h1>{main}</main></body></html>"
    );
    protected(written(status, "text/html; charset=utf-8", page), POLICY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-5.1.1-0a
    #[test]
    fn names_are_escaped_on_the_page() {
        assert_eq!(escaped("<b>\"&'"), "&lt;b&gt;&quot;&amp;&#39;");
    }
}
