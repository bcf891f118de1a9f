//! The page behind an h5 address: opens only from a registered domain, for five minutes; the payer
//! pays, fails or does nothing, and may go back to the merchant. No scripts; the password is
//! neither read nor stored.

use std::sync::Arc;

use bytes::Bytes;
use http::header::REFERER;
use http::{Method, Request, Response, StatusCode, Uri};

use crate::sandbox::html::{escaped, protected};
use crate::sandbox::refusal::{SandboxRefusal, written};
use crate::sandbox::wechatpay::WechatPayState;
use crate::sandbox::wechatpay::api::{parameters, percent_encoded};
use crate::sandbox::wechatpay::book::{PayingOutcome, TradeState, WechatOrder};
use crate::sandbox::wechatpay::payer::{PayerChoice, act};
use crate::sandbox::wechatpay::prepay::WechatProduct;

/// The path of an h5 address.
pub(in crate::sandbox::wechatpay) const PAGE_PATH: &str = "/cgi-bin/mmpayweb-bin/checkmweb";

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";
const STYLE: &str = "body{margin:0 auto;max-width:26rem;padding:1rem;font:1.05rem/1.5 system-ui,\
sans-serif;color:#1c2430;background:#f4f6f8}main{background:#fff;border-radius:.8rem;padding:1.2rem}\
.sum{font-size:2.2rem;font-weight:600;margin:.4rem 0}input,button,a{box-sizing:border-box;\
display:block;width:100%;margin:.7rem 0 0;padding:.9rem;font:inherit;border:1px solid #dde2e8;\
border-radius:.5rem;text-align:center;text-decoration:none;color:inherit;background:#fff}\
button.pay{background:#07c160;color:#fff;font-weight:600}small{color:#667}";

/// `GET` shows the page, `POST` submits its form.
pub(in crate::sandbox::wechatpay) fn page(
    shared: &Arc<WechatPayState>,
    request: &Request<Bytes>,
) -> Response<Bytes> {
    let known = ["prepay_id", "package", "redirect_url"];
    let Ok([value, _, back]) = parameters(request, known) else {
        return message(
            StatusCode::BAD_REQUEST,
            "商家参数格式有误，请联系商家解决",
            None,
        );
    };
    let value = value.unwrap_or_default();
    let back = back.filter(|url| is_page(url));
    match *request.method() {
        Method::GET => opened(shared, request, (&value, back.as_deref())),
        Method::POST => chosen(shared, request.body(), (&value, back.as_deref())),
        _ => SandboxRefusal::of(405, "method_wrong", "GET, POST").into_response(),
    }
}

fn is_page(url: &str) -> bool {
    let uri: Option<Uri> = url.parse().ok();
    uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some())
}

fn opened(
    shared: &WechatPayState,
    request: &Request<Bytes>,
    (value, back): (&str, Option<&str>),
) -> Response<Bytes> {
    let now_s = shared.clock.now_s();
    let found = shared
        .book
        .look(|book| book.opened(value, now_s).cloned())
        .and_then(|order| {
            let is_h5 = order.terms.product == WechatProduct::H5;
            is_h5.then_some(order).ok_or(PayingOutcome::Unknown)
        });
    match found {
        Err(outcome) => ended(outcome, back),
        Ok(order) if !came_from_merchant(shared, &order, request) => message(
            StatusCode::FORBIDDEN,
            "当前调起H5支付的域名与申请H5支付时提交的授权域名不一致",
            None,
        ),
        Ok(order) => html(StatusCode::OK, &form(&order, (value, back))),
    }
}

/// The page that opened it is of a registered domain.
fn came_from_merchant(
    shared: &WechatPayState,
    order: &WechatOrder,
    request: &Request<Bytes>,
) -> bool {
    let Some(merchant) = shared.merchants.find(&order.terms.mchid) else {
        return false;
    };
    let referer = request.headers().get(REFERER);
    let referer: Option<Uri> = referer
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    let host = referer.as_ref().and_then(|referer| referer.host());
    let registered = &merchant.settings.h5_hosts;
    host.is_some_and(|host| registered.iter().any(|known| known == host))
}

fn chosen(
    shared: &Arc<WechatPayState>,
    body: &[u8],
    (value, back): (&str, Option<&str>),
) -> Response<Bytes> {
    let form = std::str::from_utf8(body).unwrap_or_default();
    let word = form
        .split('&')
        .find_map(|pair| pair.strip_prefix("outcome="));
    let Some(choice) = word.and_then(PayerChoice::from_word) else {
        return message(
            StatusCode::BAD_REQUEST,
            "请选择一个操作 · Choose a button",
            back,
        );
    };
    ended(act(shared, value, (choice, None)), back)
}

fn ended(outcome: PayingOutcome, back: Option<&str>) -> Response<Bytes> {
    let (status, text) = match outcome {
        PayingOutcome::Paid
        | PayingOutcome::NotPayable(TradeState::Success | TradeState::Refund) => {
            (StatusCode::OK, "支付成功 · Paid")
        }
        PayingOutcome::Failed => (StatusCode::OK, "未支付 · Not paid"),
        PayingOutcome::Expired => (StatusCode::GONE, "支付已过期，请重新发起支付 · Too late"),
        PayingOutcome::NotPayable(TradeState::Closed | TradeState::NotPay) => {
            (StatusCode::OK, "订单已关闭 · The order is closed")
        }
        PayingOutcome::Unknown => (StatusCode::NOT_FOUND, "找不到订单 · No such order"),
    };
    message(status, text, back)
}

fn form(order: &WechatOrder, (value, back): (&str, Option<&str>)) -> String {
    let fen = order.terms.total_fen;
    let back = back.map_or_else(String::new, |url| {
        format!("&amp;redirect_url={}", percent_encoded(url))
    });
    format!(
        "<p class=\"sum\">¥ {yuan}.{cents:02}</p><p>{description}</p>\
         <form method=\"post\" action=\"{PAGE_PATH}?prepay_id={value}{back}\">\
         <input type=\"password\" name=\"password\" inputmode=\"numeric\" maxlength=\"6\" \
         autocomplete=\"off\" aria-label=\"支付密码 · Password\">\
         <button class=\"pay\" name=\"outcome\" value=\"pay\">立即支付 · Pay</button>\
         <button name=\"outcome\" value=\"fail\">让支付失败 · Fail</button>\
         <button name=\"outcome\" value=\"nothing\">什么都不做 · Do nothing</button></form>\
         <p><small>模拟微信支付，不会扣款，请勿输入真实密码。<br>A simulation: no money moves; do not \
         enter a real password.</small></p>",
        yuan = fen / 100,
        cents = fen % 100,
        description = escaped(&order.terms.description),
        value = escaped(value),
    )
}

fn message(status: StatusCode, text: &str, back: Option<&str>) -> Response<Bytes> {
    let back = back.map_or_else(String::new, |url| {
        format!(
            "<a href=\"{}\">返回商家 · Back to the merchant</a>",
            escaped(url)
        )
    });
    html(status, &format!("<p class=\"sum\">{text}</p>{back}"))
}

fn html(status: StatusCode, main: &str) -> Response<Bytes> {
    let page = format!(
        "<!doctype html><html lang=\"zh-CN\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>微信支付（模拟）</title><style>{STYLE}</style></head>\
         <body><main>{main}</main></body></html>"
    );
    protected(written(status, "text/html; charset=utf-8", page), POLICY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_pages_are_returned_to() {
        assert!(is_page("https://shop.example/done?x=1"));
        assert!(!is_page("javascript:alert(1)") && !is_page("http://shop.example/"));
    }
}
