//! The scenarios of the demonstration. Every result is checked against the institutions' ledgers
//! and the merchants' inboxes; steps wait for events, they never sleep.

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

/// A payer served by every institution.
const ALICE: &str = "13800001234";

/// One run of all scenarios.
pub struct DemoRun<'a> {
    /// Institutions, merchants, payer and gateway.
    pub stage: &'a DemoEnvironment,
    /// Prints the steps.
    pub printer: &'a mut StepPrinter,
    /// Orders placed so far.
    pub placed: u32,
}

impl DemoRun<'_> {
    /// A merchant places a new order; `describe` adds to the printed detail.
    async fn place(
        &mut self,
        order: Value,
        describe: fn(&ClientResponse) -> String,
    ) -> Result<ClientResponse, StepError> {
        self.placed = self.placed.saturating_add(1);
        let shop = &self.stage.tea;
        let sum = field(&order, "orderAmount");
        let what = format!("{} places an order for ¥{sum}", shop.role.name);
        let action = async {
            let answer = shop.place(&order).await?;
            answered(&answer, 200, "ACCEPTED")?;
            let detail = format!("order {}{}", answer.text("payOrderNo"), describe(&answer));
            Ok((answer, detail))
        };
        self.printer.step(&what, action).await
    }

    /// The payer pays on an institution's page.
    async fn pay(&mut self, pay_url: &str) -> Result<(), StepError> {
        let payer = &self.stage.payer;
        let action = async {
            let page = payer.pay(pay_url).await?;
            same("the institution's page", &200, &page.status)?;
            let is_paid = page.html.contains("支付成功");
            anyhow::ensure!(
                is_paid,
                "expected 支付成功 (payment succeeded) on the page, found {}",
                page.html
            );
            Ok(((), String::new()))
        };
        self.printer
            .step("the payer pays on the institution's page", action)
            .await
    }

    /// Checks that the callback arrived, the merchant was notified once, and the ledgers agree.
    async fn expect_paid_once(
        &mut self,
        number: &str,
        through: DemoInstitutionProfile,
    ) -> Result<(), StepError> {
        let stage = self.stage;
        let action = async {
            let delay = expect_notified_once(stage, number, through).await?;
            let name = through.name_en;
            let detail = format!(
                "{delay} after {name} booked the payment; paid exactly once in all three ledgers"
            );
            Ok(((), detail))
        };
        let what = "the callback arrives, the merchant is notified";
        self.printer.step(what, action).await
    }

    /// 5.1.4: the merchant lists the institutions, the payer chooses one.
    pub async fn aggregated(&mut self) -> Result<(), StepError> {
        self.printer
            .head("AGGREGATED  the merchant lists the institutions, the payer chooses one")?;
        let stage = self.stage;
        let order = with(
            stage.tea.order("TEA-1", "AGGREGATED", "2345.60", ALICE),
            json!({ "explainInstitutions": true }),
        );
        let placed = self
            .place(order, |answer| format!("; {}", offers(answer)))
            .await?;
        let action = async {
            let found = listed(&placed);
            let expected = [
                (BLUE.id, ""),
                (RED.id, "AMOUNT_ABOVE_LIMIT"),
                (GREEN.id, ""),
            ];
            same("institutions and reasons", &expected.to_vec(), &found)?;
            let limit = RED.most;
            Ok(((), format!("Red Pay's contract has a limit of ¥{limit}")))
        };
        self.printer
            .step("the list of institutions is correct", action)
            .await?;
        let chosen = self.select("TEA-1", GREEN, &stage.green).await?;
        self.pay(&chosen).await?;
        self.expect_paid_once("TEA-1", GREEN).await
    }

    /// The merchant sends the payer's choice to the gateway; returns the payment URL.
    async fn select(
        &mut self,
        number: &str,
        profile: DemoInstitutionProfile,
        institution: &SandboxInstitution,
    ) -> Result<String, StepError> {
        let (shop, payer) = (&self.stage.tea, &self.stage.payer);
        let action = async {
            let answer = choose(shop, number, profile).await?;
            answered(&answer, 200, "ACCEPTED")?;
            let link = answer.text("payUrl").to_owned();
            let page = payer.arrive(&link).await?;
            let is_its_page = page.url.starts_with(&institution.origin());
            anyhow::ensure!(is_its_page, "expected its page, found {:?}", page.url);
            let detail = "it has accepted the order, and the gateway's page leads to its own";
            Ok((link, detail.to_owned()))
        };
        let what = format!("the payer chooses {}", profile.name_en);
        self.printer.step(&what, action).await
    }

    /// 5.1.1: the payer chooses on the gateway's page.
    pub async fn webview(&mut self) -> Result<(), StepError> {
        self.printer
            .head("WEBVIEW  the payer chooses an institution on the gateway's page")?;
        let stage = self.stage;
        let order = stage.tea.order("TEA-2", "WEBVIEW", "12.30", ALICE);
        let placed = self.place(order, |_| String::new()).await?;
        let page_url = placed.text("payUrl");
        let action = async {
            let is_ours = page_url.starts_with(&format!("{}/pay/", stage.origin()));
            anyhow::ensure!(
                is_ours,
                "expected the gateway's page, found payUrl {page_url:?}"
            );
            let page = stage.payer.open(page_url).await?;
            shows(&page.html, "choose")?;
            let all = stage
                .institutions()
                .iter()
                .all(|(profile, _)| page.html.contains(profile.name));
            anyhow::ensure!(all, "expected three institutions on the page");
            Ok(((), "three institutions to choose from".to_owned()))
        };
        self.printer
            .step("the payer opens the gateway's page", action)
            .await?;
        let action = async {
            let to = stage.payer.choose(page_url, RED.id).await?;
            let is_its_page = to.starts_with(&stage.red.origin());
            anyhow::ensure!(is_its_page, "expected Red Pay's page, found {to}");
            Ok((to, "303 redirect to its page".to_owned()))
        };
        let to = self
            .printer
            .step("the payer chooses Red Pay", action)
            .await?;
        self.pay(&to).await?;
        self.expect_paid_once("TEA-2", RED).await?;
        let action = async {
            shows(&stage.payer.open(page_url).await?.html, "paid")?;
            Ok(((), "支付成功 (payment succeeded)".to_owned()))
        };
        self.printer
            .step("the gateway's page shows the payment", action)
            .await
    }

    /// 5.1.3: the payer pays with the institution's SDK in the merchant's app.
    pub async fn native(&mut self) -> Result<(), StepError> {
        self.printer
            .head("NATIVE  the payer pays in the institution's SDK on the phone")?;
        let stage = self.stage;
        let order = stage.tea.order("TEA-3", "NATIVE", "8.80", ALICE);
        let placed = self
            .place(order, |answer| {
                format!(" at {}, with SDK parameters", answer.text("institutionId"))
            })
            .await?;
        let action = async {
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
        let what = "the payer confirms the payment on the phone";
        self.printer.step(what, action).await?;
        self.expect_paid_once("TEA-3", BLUE).await
    }

    /// Compares the institutions' ledgers with the merchants' inboxes, and measures the delay of
    /// notifications.
    pub async fn summary(&mut self) -> Result<(), StepError> {
        self.printer.head("SUMMARY")?;
        let (stage, placed) = (self.stage, self.placed);
        let action = async {
            let mut delays = Vec::new();
            let (mut taken, mut notified) = (0_i64, 0_i64);
            for (_, institution) in stage.institutions() {
                let book = institution.books();
                let balance = book.taken_cents().saturating_sub(book.returned_cents());
                taken = taken.saturating_add(balance);
            }
            for shop in [&stage.tea, &stage.books] {
                for notice in shop.merchant.inbox().events {
                    if notice.event_type == "ORDER_PAID" {
                        notified =
                            notified.saturating_add(cents(field(&notice.fields, "orderAmount"))?);
                        delays.push(delay_ms(stage, &notice)?);
                    }
                    // An excess payment was never notified as paid.
                    let is_requested = field(&notice.fields, "refundCause").is_empty();
                    if notice.event_type == "REFUND_SUCCEEDED" && is_requested {
                        let refunded = cents(field(&notice.fields, "refundAmount"))?;
                        notified = notified.saturating_sub(refunded);
                    }
                }
            }
            same("amount notified to merchants, in cents", &taken, &notified)?;
            delays.sort_unstable();
            let paid = delays.len();
            let median = delays.get(paid / 2).copied().unwrap_or_default();
            let longest = delays.last().copied().unwrap_or_default();
            let detail = format!(
                "{placed} orders, {paid} paid; {} at the institutions = {} notified to the \
                 merchants; time from payment to notification: median {}, maximum {}",
                yuan(taken),
                yuan(notified),
                milliseconds(Duration::from_millis(median)),
                milliseconds(Duration::from_millis(longest)),
            );
            Ok(((), detail))
        };
        self.printer
            .step("ledgers and notifications agree", action)
            .await
    }
}
