//! Ready 5G-message cards for merchants that ask for them (R-5.1.4-2, R-A2.1-4): GSMA botmessage
//! JSON, valid as it is. No phone number, no secret but the address to pay at (R-6.5-1c).

use serde_json::{Value, json};

use crate::api::page::markup::is_format_control;
use crate::api::page::view::{money, to_the_minute};
use crate::domain::institutions::{BusinessType, Offer};
use crate::domain::order::{Order, OrderState};

/// Cards of one carousel at most; with one, a single card takes its place (GSMA RCC.07).
const CAROUSEL_MAX: usize = 12;

/// Characters of a card's title at most (GSMA RCC.07).
const TITLE_CHARS_MAX: usize = 200;

/// Messages in the order in which they are to be sent: one payment card where there is an address to pay
/// at, else the institutions of an aggregated order to choose from; none for an order that can no longer
/// be paid.
///
/// Shape: each is the `contentText` of one part with content type
/// `application/vnd.gsma.botmessage.v1.0+json`. A tap comes back to the merchant as
/// `p1.sel.{payOrderNo}.{institutionId}` (chosen), `p1.open.{payOrderNo}` (page opened) or
/// `p1.cxl.{payOrderNo}` (given up): order and institution are the values that the select
/// and close calls take (G-31). Knowing them allows nobody to pay: those calls are signed.
pub fn cards(order: &Order, offers: Option<&[Offer<'_>]>, pay_url: Option<String>) -> Vec<Value> {
    if order.state != OrderState::Open {
        return Vec::new();
    }
    if let Some(url) = pay_url {
        return vec![single(&payment(order, &url))];
    }
    if order.terms.business_type != BusinessType::Aggregated {
        return Vec::new();
    }
    let open = offers.unwrap_or_default().iter();
    let choices: Vec<Value> = open
        .filter(|offer| offer.ineligible.is_none())
        .map(|offer| choice(order, offer))
        .collect();
    choices
        .chunks(CAROUSEL_MAX)
        .map(|cards| match cards {
            [only] => single(only),
            several => json!({"message": {"generalPurposeCardCarousel": {
                "layout": {"cardWidth": "MEDIUM_WIDTH", "titleFontStyle": ["bold"]},
                "content": several,
            }}}),
        })
        .collect()
}

fn single(content: &Value) -> Value {
    json!({"message": {"generalPurposeCard": {
        "layout": {"cardOrientation": "VERTICAL", "titleFontStyle": ["bold"]},
        "content": content,
    }}})
}

/// One institution. No logo: mobile operators show only media that they have approved, and a
/// payment must not fail because of one.
fn choice(order: &Order, offer: &Offer<'_>) -> Value {
    let institution = offer.institution;
    let (sign, sum) = money(order);
    let title = format!("{} {}", institution.name, institution.name_en);
    json!({
        "title": plain(&title),
        "description": format!("订单 {} · 应付 {sign}{sum}", order.terms.merchant_order_no),
        "suggestions": [reply(
            "选择支付 Select",
            &format!("p1.sel.{}.{}", order.no, institution.id),
        )],
    })
}

/// The order to be paid and the button that opens the page (R-5.1.1-2).
fn payment(order: &Order, url: &str) -> Value {
    let terms = &order.terms;
    let (sign, sum) = money(order);
    let merchant = plain(&terms.merchant_name);
    let goods = terms.goods_name.as_ref();
    let goods = goods.map(|goods| format!("\n商品：{}", plain(goods)));
    let description = format!(
        "商户：{merchant}{}\n订单号：{}\n请在 {} 前完成。请勿在对话中发送密码。\n\
         Never send a password in the chat.",
        goods.unwrap_or_default(),
        terms.merchant_order_no,
        to_the_minute(order.expires)
    );
    let open = json!({"action": {
        "urlAction": {"openUrl": {"url": url, "application": "webview", "viewMode": "tall"}},
        "displayText": "立即支付 Pay",
        "postback": {"data": format!("p1.open.{}", order.no)},
    }});
    json!({
        "title": format!("请确认支付 Please pay {sign}{sum}"),
        "description": description,
        "suggestions": [open, reply("取消支付 Cancel", &format!("p1.cxl.{}", order.no))],
    })
}

/// Button texts have at most 25 bytes: mobile operators count bytes where GSMA counts characters.
fn reply(text: &str, data: &str) -> Value {
    json!({"reply": {"displayText": text, "postback": {"data": data}}})
}

/// Text from outside, shortened to a card's limit, without characters that change how it reads.
fn plain(text: &str) -> String {
    let shown = text.chars().filter(|letter| !is_format_control(*letter));
    shown.take(TITLE_CHARS_MAX).collect()
}
