//! What the payer sees, as HTML: pure, Chinese first and English second, no script, nothing from
//! elsewhere. Everything that came from outside passes [`escape`]; the address of the page, which
//! opens it, is never part of it.

use crate::api::page::texts::{
    BACK, BilingualText, CHOOSE_ANOTHER, CONTINUE, EXCESS_PAYMENT, I_HAVE_PAID, NONE_OPEN,
    NOT_ACCEPTED, PASSWORDS, PagePanel, REFRESH_NOW, STOP, panel,
};
use crate::domain::amount::CNY;
use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::{BusinessType, InstitutionProfile, Mode, RoutingTable};
use crate::domain::order::{CloseReason, Order, OrderState};

/// The only style there is; the policy of the page names its digest.
pub(super) const STYLE: &str = include_str!("style.css");

/// How often the page reloads by itself while the outcome is unknown. Unit: seconds.
const REFRESH_S: u8 = 3;

/// What the page shows for the state of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageView<'a> {
    /// No attempt is live: the payer may choose. Holds the last attempt if it failed.
    Choose(Option<&'a Attempt>),
    /// The institution waits for the payer.
    Continue(&'a Attempt),
    /// The outcome is unknown, or the attempt is being closed.
    Confirming(&'a Attempt),
    /// It is paid in the merchant's application, not on a page.
    Elsewhere,
    /// Paid.
    Paid,
    /// Ended without payment.
    Ended(CloseReason),
}

impl<'a> PageView<'a> {
    fn of(order: &'a Order, now: Timestamp) -> Self {
        match order.state {
            OrderState::Paid => return Self::Paid,
            OrderState::Closed => return Self::Ended(order.ending.unwrap_or(CloseReason::Expired)),
            OrderState::Open => (),
        }
        let takes = order.accepts_attempts(now);
        let Some(live) = order.live_attempt() else {
            return match order.terms.business_type {
                _ if !takes => Self::Ended(order.ending.unwrap_or(CloseReason::Expired)),
                BusinessType::Single(Mode::Chatbot | Mode::Native) => Self::Elsewhere,
                BusinessType::Single(Mode::Webview) | BusinessType::Aggregated => {
                    let last = order.attempts.last();
                    Self::Choose(last.filter(|attempt| attempt.state == AttemptState::Failed))
                }
            };
        };
        match live.state {
            AttemptState::Accepted if takes && live.mode == Mode::Webview => Self::Continue(live),
            AttemptState::Accepted if takes => Self::Elsewhere,
            // Time alone ends nothing (V2): what is live after the deadline may still be paid.
            AttemptState::Accepted
            | AttemptState::Intent
            | AttemptState::Unknown
            | AttemptState::Closing
            | AttemptState::Paid
            | AttemptState::Failed
            | AttemptState::Closed => Self::Confirming(live),
        }
    }

    /// A stable word for programs that read the page.
    fn word(self) -> &'static str {
        match self {
            Self::Choose(_) => "choose",
            Self::Continue(_) => "continue",
            Self::Confirming(_) => "confirming",
            Self::Elsewhere => "elsewhere",
            Self::Paid => "paid",
            Self::Ended(CloseReason::Expired) => "expired",
            Self::Ended(CloseReason::Merchant) => "closed",
        }
    }
}

/// The page of an order (R-A2.1-5): what is to be paid, to whom, its state, and the institutions that are
/// `open` to this payer on a page.
pub fn page(
    order: &Order,
    open: &[&InstitutionProfile],
    routing: &RoutingTable,
    now: Timestamp,
) -> String {
    let view = PageView::of(order, now);
    let PagePanel {
        class,
        sign,
        title,
        lines,
    } = panel(view);
    let (refresh, refused, instead) = match view {
        PageView::Choose(last) => (None, last, None),
        PageView::Continue(live) => (None, None, Some(live)),
        PageView::Confirming(live) => (Some(REFRESH_S), None, Some(live)),
        PageView::Elsewhere | PageView::Paid | PageView::Ended(_) => (None, None, None),
    };
    let note = refused.map_or_else(String::new, |attempt| {
        let name = name(routing, &attempt.institution);
        let text = both(NOT_ACCEPTED);
        format!("<p class=\"note\" id=\"refused\" role=\"alert\">{name}：{text}</p>")
    });
    let excess = if order.refunds.is_empty() {
        String::new()
    } else {
        format!("<p id=\"excess\">{}</p>", both(EXCESS_PAYMENT))
    };
    let lines: String = lines.iter().map(paragraph).collect();
    let body = [
        order_summary(order, view, now),
        format!("<section class=\"card {class}\">{note}"),
        format!(
            "<div class=\"{}\">{sign}<h1 id=\"state\" data-state=\"{}\">{}</h1>{lines}{excess}</div>",
            if sign.is_empty() { "" } else { "said" },
            view.word(),
            both(title)
        ),
        actions(view, routing, instead),
        others(view, open, instead),
        "</section>".to_owned(),
        order_details(order, routing),
    ]
    .concat();
    document(refresh, &body)
}

/// The page of a refusal. `again`: whether going back to the page of the order may help.
pub fn refusal(title: BilingualText, line: BilingualText, again: bool) -> String {
    let back = if again {
        format!("<a class=\"link\" id=\"back\" href=\"\">{}</a>", both(BACK))
    } else {
        String::new()
    };
    let body = format!(
        "<section class=\"card warn\"><div class=\"said\">{STOP}<h1 id=\"state\" \
         data-state=\"refused\">{}</h1><p>{}</p></div>{back}</section>",
        both(title),
        both(line)
    );
    document(None, &body)
}

/// Text from outside, for HTML content and quoted attributes. Characters that control direction or a
/// terminal are removed: with them one name can be made to read as another.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars().filter(|letter| !is_format_control(*letter)) {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Whether a character changes how others are shown instead of being shown.
pub fn is_format_control(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `¥12.30`; other currencies by their code, because several share the sign.
pub fn money(order: &Order) -> (&'static str, String) {
    let amount = order.terms.amount;
    let sign = if amount.currency() == CNY {
        "¥"
    } else {
        amount.currency().code()
    };
    (sign, amount.to_string())
}

/// `2026-11-22 14:30`, in Asia/Shanghai.
pub fn to_the_minute(moment: Timestamp) -> String {
    moment
        .rfc3339()
        .chars()
        .take(16)
        .map(|c| if c == 'T' { ' ' } else { c })
        .collect()
}

/// Merchant, amount, goods, deadline.
fn order_summary(order: &Order, view: PageView<'_>, now: Timestamp) -> String {
    let (sign, sum) = money(order);
    // An amount is never broken into two lines: it would be misread.
    let width = if sum.len() > 9 { " wide" } else { "" };
    let merchant = escape(&order.terms.merchant_name);
    let goods = order.terms.goods_name.as_ref().map(|goods| {
        let goods = escape(goods);
        format!("<p class=\"goods\" id=\"goods\">{goods}</p>")
    });
    let left = match view {
        PageView::Choose(_) | PageView::Continue(_) | PageView::Elsewhere => time_left(order, now),
        PageView::Confirming(_) | PageView::Paid | PageView::Ended(_) => String::new(),
    };
    format!(
        "<header class=\"card bill\"><p class=\"merchant\" id=\"merchant\">{merchant}</p>\
         <p class=\"sum{width}\" id=\"sum\"><small>{sign}</small>{sum}</p>{}{left}</header>",
        goods.unwrap_or_default()
    )
}

fn time_left(order: &Order, now: Timestamp) -> String {
    let until = to_the_minute(order.expires);
    let today = order.expires.date() == now.date();
    let until: String = until.chars().skip(if today { 11 } else { 5 }).collect();
    let minutes = order.expires.since(now).as_secs().div_ceil(60);
    let (zh, en) = if minutes < 120 {
        (format!("{minutes} 分钟"), format!("{minutes} min"))
    } else {
        let hours = minutes / 60;
        (format!("{hours} 小时"), format!("{hours} h"))
    };
    format!(
        "<p class=\"left\" id=\"left\">请在 {until} 前完成，约剩 {zh}{}</p>",
        english(&format!("Pay by {until}, about {en} left"))
    )
}

/// The links to continue at the institution, and to reload.
fn actions(view: PageView<'_>, routing: &RoutingTable, instead: Option<&Attempt>) -> String {
    let (onward, look) = match (view, instead) {
        // By selecting again, not by the stored link: a link that has expired meanwhile is then created
        // anew, and the page holds nothing that lets others pay.
        (PageView::Continue(_), Some(live)) => (
            format!(
                "<form method=\"post\"><button class=\"go\" id=\"continue\" \
                 name=\"institutionId\" value=\"{}\"><span>{} · {}{}</span></button></form>",
                live.institution,
                CONTINUE.0,
                name(routing, &live.institution),
                english(CONTINUE.1)
            ),
            I_HAVE_PAID,
        ),
        (PageView::Confirming(_), _) => (String::new(), REFRESH_NOW),
        _ => return String::new(),
    };
    let look = both(look);
    format!("{onward}<a class=\"link\" id=\"refresh\" href=\"\">{look}</a>")
}

/// The institutions to choose from, where there is a choice.
fn others(view: PageView<'_>, open: &[&InstitutionProfile], instead: Option<&Attempt>) -> String {
    let title = match view {
        PageView::Choose(_) => String::new(),
        PageView::Continue(_) | PageView::Elsewhere => institution_choices_title(),
        // Only an attempt that was never confirmed can be given up for another institution.
        PageView::Confirming(live) if live.state == AttemptState::Unknown => {
            institution_choices_title()
        }
        PageView::Confirming(_) | PageView::Paid | PageView::Ended(_) => return String::new(),
    };
    let choices: String = open
        .iter()
        .filter(|offered| instead.is_none_or(|live| live.institution != offered.id))
        .map(|offered| choice(offered))
        .collect();
    match (view, choices.is_empty()) {
        (_, false) => format!("{title}<form method=\"post\">{choices}</form>"),
        (PageView::Choose(_), true) => {
            let text = both(NONE_OPEN);
            format!("<p class=\"note\" id=\"none\">{text}</p>")
        }
        (_, true) => String::new(),
    }
}

fn institution_choices_title() -> String {
    format!("<h2>{}</h2>", both(CHOOSE_ANOTHER))
}

/// One institution, as a button. Its logo is not shown: fetching it would tell a third party who
/// is about to pay.
fn choice(institution: &InstitutionProfile) -> String {
    let id = escape(institution.id.as_str());
    let mark: String = institution.name.chars().take(1).collect();
    format!(
        "<button id=\"institution-{id}\" name=\"institutionId\" value=\"{id}\">\
         <span class=\"mark\" aria-hidden=\"true\">{}</span><span>{}{}</span></button>",
        escape(&mark),
        escape(&institution.name),
        english(&escape(&institution.name_en))
    )
}

/// The order by its numbers; the phone number masked (R-6.3.2-3b).
fn order_details(order: &Order, routing: &RoutingTable) -> String {
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

/// The Chinese name, escaped; the id where the institution has been withdrawn.
fn name(routing: &RoutingTable, id: &InstitutionId) -> String {
    escape(
        routing
            .institutions
            .get(id)
            .map_or(id.as_str(), |institution| &institution.name),
    )
}

fn paragraph(text: &BilingualText) -> String {
    format!("<p>{}</p>", both(*text))
}

fn both((zh, en): BilingualText) -> String {
    format!("{zh}{}", english(en))
}

fn english(text: &str) -> String {
    format!("<span class=\"en\" lang=\"en\">{text}</span>")
}

fn document(refresh: Option<u8>, body: &str) -> String {
    let refresh = refresh
        .map(|seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"))
        .unwrap_or_default();
    let footer = both(PASSWORDS);
    format!(
        "<!DOCTYPE html>\n<html lang=\"zh-CN\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <meta name=\"format-detection\" content=\"telephone=no\">\
         <meta name=\"robots\" content=\"noindex\">{refresh}\
         <title>支付 · Payment</title><style>{STYLE}</style></head>\n\
         <body><main>{body}<footer>{footer}</footer></main></body>\n</html>\n"
    )
}
