//! Acts in which something goes wrong, or comes twice, or is given up.

use anyhow::Context;
use serde_json::{Value, json};

use crate::command::demo::enrolment::{BLUE, RED};
use crate::command::demo::environment::{WAIT_MAX, payment_of};
use crate::command::demo::printing::{StepError, same};
use crate::command::demo::steps::claims::{answered, choose, field, known, once, with};
use crate::command::demo::steps::{ALICE, DemoRun};
use crate::sandbox::{PaymentState, SandboxNotification, SandboxPayment};

impl DemoRun<'_> {
    /// E5, V1: an answer is lost; the gateway finds out instead of guessing.
    pub async fn lost_answer(&mut self) -> Result<(), StepError> {
        self.printer
            .head("LOST ANSWER  the institution acted, its answer never came")?;
        let stage = self.stage;
        let order = stage.tea.order("TEA-4", "AGGREGATED", "66.63", ALICE);
        self.place(order, |_| String::new()).await?;
        let doing = async {
            let answer = choose(&stage.tea, "TEA-4", RED).await?;
            answered(&answer, 202, "PENDING")?;
            let told = answer.headers.contains_key("retry-after");
            anyhow::ensure!(told, "expected Retry-After, found none");
            let there = payment_of(&stage.red.books(), "TEA-4").map(|payment| payment.state);
            same("its book", &Some(PaymentState::Open), &there)?;
            let said = "202 PENDING, nobody knows yet; the order is in its book";
            Ok(((), said.to_owned()))
        };
        let what = "the payer chooses Red Pay, which hangs up";
        self.printer.step(what, doing).await?;
        let doing = async {
            let asked = stage
                .red
                .wait_for(
                    |book| {
                        payment_of(book, "TEA-4")
                            .filter(|it| it.queries > 0)
                            .map(drop)
                    },
                    WAIT_MAX,
                )
                .await;
            asked.context("expected a query in its book, found none")?;
            let found = known(&stage.tea, "TEA-4").await?;
            same("attemptStatus", &"ACCEPTED", &found.as_str())?;
            Ok((
                (),
                "it asked, and sent nothing twice: the order is there".to_owned(),
            ))
        };
        self.printer.step("the gateway finds out", doing).await?;
        let link = self.select("TEA-4", RED, &stage.red).await?;
        self.pay(&link).await?;
        self.expect_paid_once("TEA-4", RED).await
    }

    /// C5: the same news twice.
    pub async fn duplicate_callback(&mut self) -> Result<(), StepError> {
        self.printer
            .head("TWICE  the institution calls back two times")?;
        let stage = self.stage;
        let order = with(
            stage.tea.order("TEA-5", "AGGREGATED", "18.81", ALICE),
            json!({ "institutionId": BLUE.id, "mode": "WEBVIEW" }),
        );
        let placed = self.place(order, |_| " at bluebank".to_owned()).await?;
        self.pay(placed.text("payUrl")).await?;
        self.expect_paid_once("TEA-5", BLUE).await?;
        let doing = async {
            let heard = |payment: &&SandboxPayment| payment.acknowledged >= 2;
            let twice = stage
                .blue
                .wait_for(
                    |book| payment_of(book, "TEA-5").filter(heard).map(drop),
                    WAIT_MAX,
                )
                .await;
            twice.context("expected two acknowledged callbacks in its book, found fewer")?;
            let inbox = stage.tea.merchant.inbox();
            let of_order =
                |it: &&SandboxNotification| field(&it.fields, "merchantOrderNo") == "TEA-5";
            let (events, deliveries) = (
                inbox.events.iter().filter(of_order).count(),
                inbox.deliveries.iter().filter(of_order).count(),
            );
            same("events and notifications", &(1, 1), &(events, deliveries))?;
            let event = inbox.event("ORDER_PAID", "TEA-5").context("no event")?;
            let now = stage
                .tea
                .ask("/v1/orders/query", "TEA-5", json!({}))
                .await?;
            let version = now.json.get("version").and_then(Value::as_i64);
            same("version of the order", &Some(event.version), &version)?;
            Ok((
                (),
                "both acknowledged; one event, one notification".to_owned(),
            ))
        };
        self.printer
            .step("the second one changes nothing", doing)
            .await
    }

    /// the merchant gives up.
    pub async fn closed(&mut self) -> Result<(), StepError> {
        self.printer.head("CLOSED  the merchant gives up")?;
        let stage = self.stage;
        let order = with(
            stage.tea.order("TEA-6", "WEBVIEW", "25.00", ALICE),
            json!({ "institutionId": RED.id }),
        );
        let placed = self.place(order, |_| " at redpay".to_owned()).await?;
        let doing = async {
            let answer = stage
                .tea
                .ask("/v1/orders/close", "TEA-6", json!({}))
                .await?;
            answered(&answer, 200, "CLOSED")?;
            let found = payment_of(&stage.red.books(), "TEA-6").map(|payment| payment.state);
            same("its book", &Some(PaymentState::Closed), &found)?;
            Ok(((), "closed in Red Pay's book first, then here".to_owned()))
        };
        self.printer.step("the merchant closes it", doing).await?;
        let doing = async {
            stage
                .tea
                .wait_for_notification("ORDER_CLOSED", "TEA-6")
                .await?;
            let tried = stage.payer.pay(placed.text("payUrl")).await;
            anyhow::ensure!(tried.is_err(), "expected no way to pay, found {tried:?}");
            let taken = payment_of(&stage.red.books(), "TEA-6").map(|payment| payment.taken_cents);
            same("money taken", &Some(0), &taken)?;
            Ok((
                (),
                "the page has nothing to press; no money moved".to_owned(),
            ))
        };
        let what = "the merchant is told, and the payer can pay no more";
        self.printer.step(what, doing).await
    }

    /// Q7, R-6.1.1-2: asking again.
    pub async fn repeats(&mut self) -> Result<(), StepError> {
        self.printer.head("AGAIN  a merchant that asks twice")?;
        let stage = self.stage;
        let order = with(
            stage.tea.order("TEA-7", "WEBVIEW", "9.90", ALICE),
            json!({ "institutionId": BLUE.id }),
        );
        let first = self.place(order.clone(), |_| String::new()).await?;
        let doing = async {
            let again = stage.tea.place(&order).await?;
            answered(&again, 200, "ACCEPTED")?;
            same(
                "payOrderNo",
                &first.text("payOrderNo"),
                &again.text("payOrderNo"),
            )?;
            same("payUrl", &first.text("payUrl"), &again.text("payUrl"))?;
            let other = with(order.clone(), json!({ "orderAmount": "9.91" }));
            let refused = stage.tea.place(&other).await?;
            let found = (refused.status, refused.text("code"));
            same(
                "another sum under the same number",
                &(409, "order_conflict"),
                &found,
            )?;
            Ok((
                (),
                "the same order; another sum is refused (409)".to_owned(),
            ))
        };
        self.printer.step("the same request again", doing).await?;
        self.pay(first.text("payUrl")).await?;
        self.expect_paid_once("TEA-7", BLUE).await?;
        let doing = async {
            let placed = stage.tea.place(&order).await?;
            answered(&placed, 200, "ALREADY_PAID")?;
            let chosen = choose(&stage.tea, "TEA-7", RED).await?;
            answered(&chosen, 200, "ALREADY_PAID")?;
            once(stage, "TEA-7", BLUE)?;
            Ok((
                (),
                "ALREADY_PAID, and nobody is asked to pay again".to_owned(),
            ))
        };
        self.printer
            .step("and again, now that it is paid", doing)
            .await
    }
}
