//! What the payer sees, as HTML: pure, Chinese first and English second, no script, nothing from
//! elsewhere. The address of the page, which opens it, is never part of it.

use crate::api::page::markup::{Refresh, both, document, english, escape, link_to, paragraph};
use crate::api::page::order_details::order_details;
use crate::api::page::texts::{
    BACK, BilingualText, CHOOSE_ANOTHER, CONTINUE, EXCESS_PAYMENT, I_HAVE_PAID, NONE_OPEN,
    NOT_ACCEPTED, NOT_HERE, PagePanel, REFRESH_NOW, STOP, panel,
};
use crate::domain::amount::CNY;
use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::{BusinessType, InstitutionProfile, Mode, RoutingTable};
use crate::domain::order::{CloseReason, Order, OrderState};

/// How often the page reloads by itself while the outcome is unknown. Unit: seconds.
const REFRESH_S: u8 = 3;

/// How the payer came to the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageVisit {
    /// By its address.
    Opened,
    /// Back from the institution, which is being asked; the page has looked so often since.
    Returned(u8),
    /// Back from the institution, which has been asked and says nothing of a payment.
    Unpaid,
}

/// What the page shows for the state of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageView<'a> {
    /// No attempt is live: the payer may choose. Holds the last attempt if it failed.
    Choose(Option<&'a Attempt>),
    /// The institution is known, and its attempt begins when the payer goes on.
    Start(&'a InstitutionId),
    /// The institution waits for the payer.
    Continue(&'a Attempt),
    /// The same, of a payer who is back and has not paid, as far as the institution knows.
    NotPaid(&'a Attempt),
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
                    if let Some(institution) = order.awaited_institution() {
                        return Self::Start(institution);
                    }
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

    /// What it is to a payer who came this way.
    fn to(self, visit: PageVisit) -> Self {
        match (self, visit) {
            (Self::Continue(live), PageVisit::Returned(_)) => Self::Confirming(live),
            (Self::Continue(live), PageVisit::Unpaid) => Self::NotPaid(live),
            (view, PageVisit::Opened | PageVisit::Returned(_) | PageVisit::Unpaid) => view,
        }
    }

    /// The institution that the payer may go on with, or may leave for another one.
    fn at(self) -> Option<&'a InstitutionId> {
        match self {
            Self::Start(institution) => Some(institution),
            Self::Continue(live) | Self::NotPaid(live) | Self::Confirming(live) => {
                Some(&live.institution)
            }
            Self::Choose(_) | Self::Elsewhere | Self::Paid | Self::Ended(_) => None,
        }
    }

    /// A stable word for programs that read the page.
    fn word(self) -> &'static str {
        match self {
            Self::Choose(_) => "choose",
            Self::Start(_) => "start",
            Self::Continue(_) => "continue",
            Self::NotPaid(_) => "not-paid",
            Self::Confirming(_) => "confirming",
            Self::Elsewhere => "elsewhere",
            Self::Paid => "paid",
            Self::Ended(CloseReason::Expired) => "expired",
            Self::Ended(CloseReason::Merchant) => "closed",
        }
    }
}

/// Whether the payer can be led on, or is at the institution already.
pub(super) fn is_under_way(order: &Order, now: Timestamp) -> bool {
    matches!(PageView::of(order, now), PageView::Continue(_))
}

/// The page of an order (R-A2.1-5): what is to be paid, to whom, its state, and the institutions that are
/// `open` to this payer on a page.
pub fn page(
    order: &Order,
    open: &[&InstitutionProfile],
    routing: &RoutingTable,
    now: Timestamp,
    visit: PageVisit,
) -> String {
    let view = PageView::of(order, now).to(visit);
    let (view, note) = with_note(view, open, routing);
    let PagePanel {
        class,
        sign,
        title,
        lines,
    } = panel(view);
    let refresh = match (view, visit) {
        (PageView::Confirming(live), PageVisit::Returned(looked))
            if live.state == AttemptState::Accepted =>
        {
            Refresh::Look(REFRESH_S, looked.saturating_add(1))
        }
        (PageView::Confirming(_), _) => Refresh::After(REFRESH_S),
        _ => Refresh::Never,
    };
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
        actions(view, routing),
        others(view, open),
        "</section>".to_owned(),
        order_details(order, routing),
    ]
    .concat();
    document(refresh, &body)
}

/// What has to be said before a choice: the last institution refused, or the chosen one does not work
/// where the payer is.
fn with_note<'a>(
    view: PageView<'a>,
    open: &[&InstitutionProfile],
    routing: &RoutingTable,
) -> (PageView<'a>, String) {
    let note = |id: &str, institution: &InstitutionId, text: BilingualText| {
        let (name, text) = (name(routing, institution), both(text));
        format!("<p class=\"note\" id=\"{id}\" role=\"alert\">{name}：{text}</p>")
    };
    match view {
        PageView::Start(chosen) if open.iter().all(|one| one.id != *chosen) => {
            let note = note("not-here", chosen, NOT_HERE);
            (PageView::Choose(None), note)
        }
        PageView::Choose(Some(last)) => {
            let note = note("refused", &last.institution, NOT_ACCEPTED);
            (view, note)
        }
        PageView::Choose(None)
        | PageView::Start(_)
        | PageView::Continue(_)
        | PageView::NotPaid(_)
        | PageView::Confirming(_)
        | PageView::Elsewhere
        | PageView::Paid
        | PageView::Ended(_) => (view, String::new()),
    }
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
    document(Refresh::Never, &body)
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
    let left = match view {
        PageView::Choose(_)
        | PageView::Start(_)
        | PageView::Continue(_)
        | PageView::NotPaid(_)
        | PageView::Elsewhere => time_left(order, now),
        PageView::Confirming(_) | PageView::Paid | PageView::Ended(_) => String::new(),
    };
    order_head(order, &left)
}

/// Merchant, amount and goods, and what else belongs there.
pub(super) fn order_head(order: &Order, more: &str) -> String {
    let (sign, sum) = money(order);
    // An amount is never broken into two lines: it would be misread.
    let width = if sum.len() > 9 { " wide" } else { "" };
    let merchant = escape(&order.terms.merchant_name);
    let goods = order.terms.goods_name.as_ref().map(|goods| {
        let goods = escape(goods);
        format!("<p class=\"goods\" id=\"goods\">{goods}</p>")
    });
    format!(
        "<header class=\"card bill\"><p class=\"merchant\" id=\"merchant\">{merchant}</p>\
         <p class=\"sum{width}\" id=\"sum\"><small>{sign}</small>{sum}</p>{}{more}</header>",
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
fn actions(view: PageView<'_>, routing: &RoutingTable) -> String {
    match view {
        PageView::Start(institution) => go_on(institution, routing),
        PageView::Continue(live) | PageView::NotPaid(live) => {
            let onward = go_on(&live.institution, routing);
            format!("{onward}{}", link_to("", I_HAVE_PAID))
        }
        PageView::Confirming(_) => link_to("", REFRESH_NOW),
        PageView::Choose(_) | PageView::Elsewhere | PageView::Paid | PageView::Ended(_) => {
            String::new()
        }
    }
}

/// By selecting, not by a stored link: one that has expired meanwhile is then created anew, and the page
/// holds nothing that lets others pay.
fn go_on(institution: &InstitutionId, routing: &RoutingTable) -> String {
    format!(
        "<form method=\"post\"><button class=\"go\" id=\"continue\" \
         name=\"institutionId\" value=\"{institution}\"><span>{} · {}{}</span></button></form>",
        CONTINUE.0,
        name(routing, institution),
        english(CONTINUE.1)
    )
}

/// The institutions to choose from, where there is a choice.
fn others(view: PageView<'_>, open: &[&InstitutionProfile]) -> String {
    let title = match view {
        PageView::Choose(_) => String::new(),
        PageView::Start(_) | PageView::Continue(_) | PageView::NotPaid(_) | PageView::Elsewhere => {
            institution_choices_title()
        }
        // Only an attempt that was never confirmed can be given up for another institution.
        PageView::Confirming(live) if live.state == AttemptState::Unknown => {
            institution_choices_title()
        }
        PageView::Confirming(_) | PageView::Paid | PageView::Ended(_) => return String::new(),
    };
    let choices: String = open
        .iter()
        .filter(|offered| view.at() != Some(&offered.id))
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

/// The Chinese name, escaped; the id where the institution has been withdrawn.
pub(super) fn name(routing: &RoutingTable, id: &InstitutionId) -> String {
    escape(
        routing
            .institutions
            .get(id)
            .map_or(id.as_str(), |institution| &institution.name),
    )
}
