//! The acts of the demonstration. Every claim is held against the institutions' own books and what
//! the merchants received; whatever takes time is waited for itself, never slept for.

mod claims;
mod payers;
mod returns;
mod trouble;

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::command::demo::enrolment::{BLUE, DemoInstitutionProfile, GREEN, RED};
use crate::command::demo::environment::DemoEnvironment;
use crate::command::demo::printing::{StepError, StepPrinter, milliseconds, same};
use crate::command::demo::steps::claims::{
    answered, cents, choose, delay_ms, expect_notified_once, field, listed, offers, shows, with,
    yuan,
};
use crate::sandbox::{ClientResponse, SandboxInstitution};

/// A payer whom every institution serves.
const ALICE: &str = "13800001234";

/// The play: who takes part, who tells it, and how many orders there were.
pub struct DemoRun<'a> {
    /// Who takes part.
    pub stage: &'a DemoEnvironment,
    /// Who tells it.
    pub printer: &'a mut StepPrinter,
    /// Orders that were placed.
    pub placed: u32,
}

impl DemoRun<'_> {
    /// A merchant places an order that was not there before.
    async fn place(
        &mut self,
        order: Value,
        see: fn(&ClientResponse) -> String,
    ) -> Result<ClientResponse, StepError> {
        self.placed = self.placed.saturating_add(1);
        let shop = &self.stage.tea;
        let sum = field(&order, "orderAmount");
        let what = format!("{} asks for ¥{sum}", shop.role.name);
        let doing = async {
            let answer = shop.place(&order).await?;
            answered(&answer, 200, "ACCEPTED")?;
            let said = format!("order {}{}", answer.text("payOrderNo"), see(&answer));
            Ok((answer, said))
        };
        self.printer.step(&what, doing).await
    }

    /// The payer pays on an institution's page.
    async fn pay(&mut self, pay_url: &str) -> Result<(), StepError> {
        let payer = &self.stage.payer;
        let doing = async {
            let page = payer.pay(pay_url).await?;
            same("the institution's page", &200, &page.status)?;
            let held = page.html.contains("支付成功");
            anyhow::ensure!(held, "expected 支付成功 on the page, found {}", page.html);
            Ok(((), String::new()))
        };
        self.printer
            .step("the payer opens its page and pays", doing)
            .await
    }

    /// The callback came and the merchant was told; once, and the books agree.
    async fn expect_paid_once(
        &mut self,
        number: &str,
        through: DemoInstitutionProfile,
    ) -> Result<(), StepError> {
        let stage = self.stage;
        let doing = async {
            let delay = expect_notified_once(stage, number, through).await?;
            let name = through.name_en;
            let said = format!("{delay} after {name} booked it; paid once, by all three books");
            Ok(((), said))
        };
        let what = "the callback came, the merchant is told";
        self.printer.step(what, doing).await
    }

    /// 5.1.4: the merchant shows the institutions, the payer chooses one.
    pub async fn aggregated(&mut self) -> Result<(), StepError> {
        self.printer
            .head("AGGREGATED  the merchant shows the institutions, the payer chooses")?;
        let stage = self.stage;
        let order = with(
            stage.tea.order("TEA-1", "AGGREGATED", "2345.60", ALICE),
            json!({ "explainInstitutions": true }),
        );
        let placed = self
            .place(order, |answer| format!("; {}", offers(answer)))
            .await?;
        let doing = async {
            let found = listed(&placed);
            let expected = [
                (BLUE.id, ""),
                (RED.id, "AMOUNT_ABOVE_LIMIT"),
                (GREEN.id, ""),
            ];
            same("institutions and reasons", &expected.to_vec(), &found)?;
            let limit = RED.most;
            Ok(((), format!("Red Pay's contract ends at ¥{limit}")))
        };
        self.printer
            .step("the list is the right one", doing)
            .await?;
        let chosen = self.select("TEA-1", GREEN, &stage.green).await?;
        self.pay(&chosen).await?;
        self.expect_paid_once("TEA-1", GREEN).await
    }

    /// The merchant takes the payer's choice to the gateway; where the payer is sent.
    async fn select(
        &mut self,
        number: &str,
        cast: DemoInstitutionProfile,
        institution: &SandboxInstitution,
    ) -> Result<String, StepError> {
        let shop = &self.stage.tea;
        let doing = async {
            let answer = choose(shop, number, cast).await?;
            answered(&answer, 200, "ACCEPTED")?;
            let link = answer.text("payUrl").to_owned();
            let there = link.starts_with(&institution.origin());
            anyhow::ensure!(there, "expected its page, found payUrl {link:?}");
            Ok((link, "the order is there, its page is ready".to_owned()))
        };
        let what = format!("the payer chooses {}", cast.name_en);
        self.printer.step(&what, doing).await
    }

    /// 5.1.1: the payer chooses on the gateway's own page.
    pub async fn webview(&mut self) -> Result<(), StepError> {
        self.printer
            .head("WEBVIEW  the payer chooses on our own page")?;
        let stage = self.stage;
        let order = stage.tea.order("TEA-2", "WEBVIEW", "12.30", ALICE);
        let placed = self.place(order, |_| String::new()).await?;
        let page_url = placed.text("payUrl");
        let doing = async {
            let own = page_url.starts_with(&format!("{}/pay/", stage.origin()));
            anyhow::ensure!(own, "expected our own page, found payUrl {page_url:?}");
            let page = stage.payer.open(page_url).await?;
            shows(&page.html, "choose")?;
            let all = stage
                .institutions()
                .iter()
                .all(|(cast, _)| page.html.contains(cast.name));
            anyhow::ensure!(all, "expected three institutions on the page");
            Ok(((), "three to choose from".to_owned()))
        };
        self.printer.step("the payer opens our page", doing).await?;
        let doing = async {
            let to = stage.payer.choose(page_url, RED.id).await?;
            let there = to.starts_with(&stage.red.origin());
            anyhow::ensure!(there, "expected Red Pay's page, found {to}");
            Ok((to, "303 to its page".to_owned()))
        };
        let to = self
            .printer
            .step("the payer chooses Red Pay", doing)
            .await?;
        self.pay(&to).await?;
        self.expect_paid_once("TEA-2", RED).await?;
        let doing = async {
            shows(&stage.payer.open(page_url).await?.html, "paid")?;
            Ok(((), "支付成功".to_owned()))
        };
        self.printer.step("back on our page", doing).await
    }

    /// 5.1.3: the institution's SDK in the merchant's application.
    pub async fn native(&mut self) -> Result<(), StepError> {
        self.printer
            .head("NATIVE  the institution's SDK on the payer's phone")?;
        let stage = self.stage;
        let order = stage.tea.order("TEA-3", "NATIVE", "8.80", ALICE);
        let placed = self
            .place(order, |answer| {
                format!(" at {}, with SDK parameters", answer.text("institutionId"))
            })
            .await?;
        let doing = async {
            let parameters = placed
                .json
                .get("sdkParameters")
                .context("expected sdkParameters, found none")?;
            let origin = stage.blue.origin();
            let done = stage.payer.pay_by_sdk(&origin, parameters, "pay").await?;
            let paid = done.html.contains("PAID");
            anyhow::ensure!(paid, "expected PAID, found {}", done.html);
            Ok(((), String::new()))
        };
        let what = "the payer confirms on the phone";
        self.printer.step(what, doing).await?;
        self.expect_paid_once("TEA-3", BLUE).await
    }

    /// Money at the institutions against money in the merchants' inboxes, and how long news took.
    pub async fn summary(&mut self) -> Result<(), StepError> {
        self.printer.head("SUM")?;
        let (stage, placed) = (self.stage, self.placed);
        let doing = async {
            let mut delays = Vec::new();
            let (mut taken, mut told_of) = (0_i64, 0_i64);
            for (_, institution) in stage.institutions() {
                let book = institution.books();
                let kept = book.taken_cents().saturating_sub(book.returned_cents());
                taken = taken.saturating_add(kept);
            }
            for shop in [&stage.tea, &stage.books] {
                for notice in shop.merchant.inbox().events {
                    if notice.event_type == "ORDER_PAID" {
                        told_of =
                            told_of.saturating_add(cents(field(&notice.fields, "orderAmount"))?);
                        delays.push(delay_ms(stage, &notice)?);
                    }
                    // Surplus money was never told as paid.
                    let asked = field(&notice.fields, "refundCause").is_empty();
                    if notice.event_type == "REFUND_SUCCEEDED" && asked {
                        let back = cents(field(&notice.fields, "refundAmount"))?;
                        told_of = told_of.saturating_sub(back);
                    }
                }
            }
            same("money in the inboxes, in cents", &taken, &told_of)?;
            delays.sort_unstable();
            let paid = delays.len();
            let median = delays.get(paid / 2).copied().unwrap_or_default();
            let most = delays.last().copied().unwrap_or_default();
            let said = format!(
                "{placed} orders, {paid} paid; {} kept in the institutions' books = {} in the merchants' \
                 inboxes; from booking to merchant {} in the median, {} at most",
                yuan(taken),
                yuan(told_of),
                milliseconds(Duration::from_millis(median)),
                milliseconds(Duration::from_millis(most)),
            );
            Ok(((), said))
        };
        self.printer.step("the books agree", doing).await
    }
}
