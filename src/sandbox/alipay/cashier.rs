//! The payer's side: cashier pages that a phone can open and tap, without scripts, the scanned
//! code, and the wallet that is handed an order string. Nothing exists in the books before a
//! payer acts.

use std::sync::Arc;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::sandbox::alipay::AlipayState;
use crate::sandbox::alipay::admission::{AdmittedCall, Channel, admit};
use crate::sandbox::alipay::answer::AlipayRefusal;
use crate::sandbox::alipay::biz::yuan;
use crate::sandbox::alipay::books::offers::AlipayOffer;
use crate::sandbox::alipay::books::{AlipayAct, AlipayActed, TradeKey};
use crate::sandbox::alipay::calls::acq;
use crate::sandbox::alipay::clock::local;
use crate::sandbox::alipay::form::AlipayParameters;
use crate::sandbox::alipay::notices::{self, NoticeEvent};
use crate::sandbox::alipay::terms::{AlipayProduct, AlipayTerms};
use crate::sandbox::clock::draw_token;
use crate::sandbox::html::{escaped, protected};
use crate::sandbox::refusal::{SandboxRefusal, written};

/// The merchant's page is the target of a redirect after the form.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self' https:; \
                      frame-ancestors 'none'; base-uri 'none'";

const STYLE: &str = "\
body{margin:0 auto;max-width:26rem;padding:1rem;font:1.05rem/1.5 system-ui,sans-serif;color:#1c2430;background:#f0f4fa}\
main{background:#fff;border-radius:.8rem;padding:1.2rem}h1{font-size:1.1rem;margin:0 0 .8rem;color:#1677ff}\
.sum{font-size:2.2rem;font-weight:600;margin:.4rem 0}dl{margin:0 0 1rem}dt{color:#667}dd{margin:0 0 .5rem;overflow-wrap:anywhere}\
button{display:block;width:100%;margin:.7rem 0 0;padding:.9rem;font:inherit;border:0;border-radius:.5rem;background:#dde2e8;color:inherit}\
button.pay{background:#1677ff;color:#fff;font-weight:600}small{color:#667}";

/// A browser was sent to the gateway with a signed page payment.
pub(super) fn open(state: &Arc<AlipayState>, form: &AlipayParameters) -> Response<Bytes> {
    let method = form.get("method").unwrap_or_default().to_owned();
    let offered = admit(state, form, Channel::Browser)
        .map_err(|turned| *turned.refusal)
        .and_then(|admitted| offer(state, &admitted));
    match offered {
        Ok(token) => shown(state, &token),
        Err(refusal) => {
            let sub_code = refusal.sub_code.as_str();
            state
                .books
                .change(|books| books.count_refusal(&method, sub_code));
            html(StatusCode::OK, &error(&refusal))
        }
    }
}

/// Keeps the offer of an admitted page or order string; its token.
fn offer(state: &AlipayState, admitted: &AdmittedCall) -> Result<String, AlipayRefusal> {
    let products = [AlipayProduct::Page, AlipayProduct::Wap, AlipayProduct::App];
    let product = products
        .into_iter()
        .find(|product| product.method() == admitted.method)
        .ok_or_else(|| AlipayRefusal::invalid("isv.invalid-method", "不存在的方法名"))?;
    let now_ms = state.now_ms();
    let seller_id = &admitted.party.seller_id;
    let terms = AlipayTerms::read(product, &admitted.biz, seller_id, now_ms)?;
    let offer = AlipayOffer {
        dead_ms: terms.offer_deadline_ms(now_ms),
        party: admitted.party.clone(),
        terms,
        notify_url: admitted.notify_url.clone(),
        return_url: admitted.return_url.clone(),
    };
    let token = draw_token();
    let kept = state.books.change(|books| {
        books.count_call(&admitted.method);
        books.offer(&token, offer, now_ms)
    });
    kept.map_err(acq)?;
    Ok(token)
}

/// The wallet is handed an order string.
pub(super) fn pay_order_string(
    state: &Arc<AlipayState>,
    order_string: &str,
    act: AlipayAct,
) -> Result<AlipayActed, AlipayRefusal> {
    let invalid = |_| AlipayRefusal::invalid("isv.invalid-parameter", "参数编码错误");
    let form = AlipayParameters::merged(order_string, b"").map_err(invalid)?;
    let admitted = admit(state, &form, Channel::Wallet).map_err(|turned| *turned.refusal)?;
    let token = offer(state, &admitted)?;
    Ok(act_on_offer(state, &token, act))
}

/// A payer acts on an offer.
pub(super) fn act_on_offer(state: &Arc<AlipayState>, token: &str, act: AlipayAct) -> AlipayActed {
    let now_ms = state.now_ms();
    let (acted, key) = state.books.change(|books| {
        let key = books.offered(token).map(AlipayOffer::key);
        (books.act_on_offer(token, act, now_ms), key)
    });
    if let Some(key) = key {
        follow(state, &key, acted);
    }
    acted
}

/// A payer acts on a trade that exists.
pub(super) fn act_on_trade(
    state: &Arc<AlipayState>,
    key: &TradeKey,
    act: AlipayAct,
) -> AlipayActed {
    let now_ms = state.now_ms();
    let acted = state
        .books
        .change(|books| books.act_on_trade(key, act, now_ms));
    follow(state, key, acted);
    acted
}

/// What follows an act: a notification, or a deadline.
fn follow(state: &Arc<AlipayState>, key: &TradeKey, acted: AlipayActed) {
    match acted {
        AlipayActed::Paid => notices::tell(state, key, &NoticeEvent::Paid),
        AlipayActed::Waiting | AlipayActed::Failed => watch(state, key),
        AlipayActed::Refused(_) => (),
    }
}

/// Notifies when the deadline closes the trade, where closings are notified.
fn watch(state: &Arc<AlipayState>, key: &TradeKey) {
    let Some(deadline_ms) = state.books.change(|books| books.watch_deadline(key)) else {
        return;
    };
    let (background, key) = (Arc::clone(state), key.clone());
    state.spawn_background(async move {
        background.clock.wait_until(deadline_ms).await;
        let now_ms = background.now_ms();
        let trade = background.books.change(|books| books.look(&key, now_ms));
        let is_expired = trade
            .is_some_and(|trade| trade.paid_ms.is_none() && trade.closed_ms == Some(deadline_ms));
        if is_expired {
            notices::tell(&background, &key, &NoticeEvent::Ended);
        }
    });
}

/// `GET` shows the cashier of an offer, `POST` submits its form.
pub(super) fn answer(
    state: &Arc<AlipayState>,
    request: &Request<Bytes>,
    token: &str,
) -> Response<Bytes> {
    match *request.method() {
        Method::GET => shown(state, token),
        Method::POST => submitted(state, request, token),
        _ => SandboxRefusal::of(405, "method_wrong", "GET, POST").into_response(),
    }
}

fn shown(state: &AlipayState, token: &str) -> Response<Bytes> {
    let now_ms = state.now_ms();
    let offer = state.books.look(|books| books.offered(token).cloned());
    match offer {
        None => html(
            StatusCode::NOT_FOUND,
            &message("找不到订单", "There is no such order."),
        ),
        Some(offer) if now_ms >= offer.dead_ms => html(
            StatusCode::OK,
            &message("订单已过期", "This order has expired."),
        ),
        Some(offer) => html(StatusCode::OK, &page(&offer, token)),
    }
}

fn submitted(state: &Arc<AlipayState>, request: &Request<Bytes>, token: &str) -> Response<Bytes> {
    let Some(offer) = state.books.look(|books| books.offered(token).cloned()) else {
        return html(
            StatusCode::NOT_FOUND,
            &message("找不到订单", "There is no such order."),
        );
    };
    let form = AlipayParameters::merged("", request.body()).unwrap_or_default();
    let word = form.get("outcome").unwrap_or_default();
    if word == "quit" {
        let back = offer.terms.quit_url.as_deref();
        return to_merchant(back, &message("已放弃付款", "You gave up."));
    }
    let Some(act) = AlipayAct::from_word(word) else {
        let text = message("请选择一个操作", "Please choose a button.");
        return html(StatusCode::BAD_REQUEST, &text);
    };
    match act_on_offer(state, token, act) {
        AlipayActed::Paid => {
            let back = return_address(state, &offer);
            to_merchant(back.as_deref(), &message("支付成功", "Paid."))
        }
        AlipayActed::Waiting => html(
            StatusCode::OK,
            &message("已登录，未付款", "Logged in, not paid."),
        ),
        AlipayActed::Failed => html(
            StatusCode::OK,
            &message("支付失败", "The payment failed; you may try again."),
        ),
        AlipayActed::Refused(sub_code) => html(StatusCode::OK, &error(&acq(sub_code))),
    }
}

/// `return_url` with signed parameters, which say nothing of the outcome.
fn return_address(state: &AlipayState, offer: &AlipayOffer) -> Option<String> {
    let return_url = offer.return_url.as_deref()?;
    let key = offer.key();
    let now_ms = state.now_ms();
    let trade = state.books.change(|books| books.look(&key, now_ms))?;
    let current = state.key()?;
    let mut form = AlipayParameters::of([
        ("app_id", trade.app_id),
        ("auth_app_id", trade.auth_app_id),
        ("charset", "utf-8".to_owned()),
        ("method", format!("{}.return", offer.terms.product.method())),
        ("out_trade_no", trade.terms.out_trade_no),
        ("seller_id", trade.seller_id),
        ("timestamp", local(now_ms)),
        ("total_amount", yuan(trade.terms.total_fen)),
        ("trade_no", trade.trade_no),
        ("version", "1.0".to_owned()),
    ]);
    notices::sign(&mut form, &current.private);
    let mark = if return_url.contains('?') { '&' } else { '?' };
    Some(format!("{return_url}{mark}{}", form.encoded()))
}

/// Sends the browser on, or shows a page where there is no address.
fn to_merchant(address: Option<&str>, text: &str) -> Response<Bytes> {
    let location = address.and_then(|address| HeaderValue::from_str(address).ok());
    let Some(location) = location else {
        return html(StatusCode::OK, text);
    };
    let mut answer = html(StatusCode::SEE_OTHER, text);
    answer.headers_mut().insert(LOCATION, location);
    answer
}

fn page(offer: &AlipayOffer, token: &str) -> String {
    let terms = &offer.terms;
    format!(
        "<p class=\"sum\">¥ {sum}</p>\
         <dl><dt>商品 · Goods</dt><dd>{subject}</dd><dt>收款方 · Payee</dt><dd>{seller}</dd>\
         <dt>商户订单号 · Order</dt><dd>{number}</dd></dl>\
         <form method=\"post\" action=\"/cashier/{token}\">\
         <button class=\"pay\" name=\"outcome\" value=\"pay\">确认付款 · Pay</button>\
         <button name=\"outcome\" value=\"open\">登录，稍后付款 · Log in, pay later</button>\
         <button name=\"outcome\" value=\"fail\">让支付失败 · Fail</button>\
         <button name=\"outcome\" value=\"quit\">放弃 · Give up</button></form>\
         <p><small>模拟网关，不会扣款。<br>A simulated gateway: no money moves.</small></p>",
        sum = yuan(terms.total_fen),
        subject = escaped(&terms.subject),
        seller = escaped(&offer.party.seller_id),
        number = escaped(&terms.out_trade_no),
    )
}

fn message(chinese: &str, english: &str) -> String {
    format!("<p class=\"sum\">{chinese}</p><p>{english}</p>")
}

fn error(refusal: &AlipayRefusal) -> String {
    format!(
        "<p class=\"sum\">无法付款</p><p>{}</p><p><code>{}</code> <code>{}</code></p>",
        escaped(&refusal.detail),
        escaped(&refusal.code),
        escaped(&refusal.sub_code),
    )
}

/// The style sheet.
pub(super) fn style() -> Response<Bytes> {
    written(StatusCode::OK, "text/css; charset=utf-8", STYLE.to_owned())
}

fn html(status: StatusCode, main: &str) -> Response<Bytes> {
    let page = format!(
        "<!doctype html><html lang=\"zh-CN\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>收银台</title><link rel=\"stylesheet\" href=\"/style.css\"></head>\
         <body><main><h1>支付宝沙箱收银台 · Alipay sandbox</h1>{main}</main></body></html>"
    );
    protected(written(status, "text/html; charset=utf-8", page), POLICY)
}
