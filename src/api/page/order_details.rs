//! The part of the page with the order's numbers.

use crate::api::page::markup::{both, escape};
use crate::api::page::view::name;
use crate::domain::institutions::RoutingTable;
use crate::domain::order::Order;

/// The order by its numbers; the phone number masked (R-6.3.2-3b).
pub(super) fn order_details(order: &Order, routing: &RoutingTable) -> String {
    let terms = &order.terms;
    let paid_at = order.receipt().map(|receipt| {
        let local = receipt.paid_at.rfc3339().replace('T', " ");
        local.chars().take(19).collect::<String>()
    });
    let through = order.paying_attempt();
    let through = through.map(|attempt| name(routing, &attempt.institution));
    let details = terms.goods_description.as_deref().map(escape);
    let rows = [
        ("paid-at", ("支付时间", "Paid at"), paid_at),
        ("paid-through", ("支付机构", "Paid through"), through),
        ("description", ("商品描述", "Details"), details),
        (
            "merchant-order-no",
            ("订单号", "Order no."),
            Some(terms.merchant_order_no.to_string()),
        ),
        (
            "pay-order-no",
            ("支付单号", "Ref."),
            Some(order.no.to_string()),
        ),
        ("mobile", ("手机号", "Phone"), Some(terms.mobile.masked())),
    ];
    let rows = rows.map(|(id, title, text)| {
        let text = text?;
        let title = both(title);
        Some(format!("<dt>{title}</dt><dd id=\"{id}\">{text}</dd>"))
    });
    let rows: String = rows.into_iter().flatten().collect();
    format!("<dl class=\"card\">{rows}</dl>")
}
