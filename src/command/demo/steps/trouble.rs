//! Scenarios with lost responses, duplicates, closed orders and repeated requests.

use anyhow::Context;
use serde_json::{Value, json};

use crate::command::demo::enrolment::{BLUE, RED};
use crate::command::demo::environment::{WAIT_MAX, payment_of};
use crate::command::demo::printing::{StepError, same};
use crate::command::demo::steps::claims::{answered, choose, field, once, resolved_status, with};
use crate::command::demo::steps::{ALICE, DemoRun};
use crate::sandbox::{PaymentState, SandboxNotification, SandboxPayment};

impl DemoRun<'_> {
    /// E5, V1: a response is lost; the gateway queries the outcome instead of guessing.
    pub async fn lost_answer(&mut self) -> Result<(), StepError> {
        self.printer
            .head("LOST RESPONSE  the institution creates the payment, but its response is lost")?;
        let stage = self.stage;
        let order = stage.tea.order("TEA-4", "AGGREGATED", "66.63", ALICE);
        self.place(order, |_| String::new()).await?;
        let action = async {
            let answer = choose(&stage.tea, "TEA-4", RED).await?;
            answered(&answer, 202, "PENDING")?;
            let has_retry_after = answer.headers.contains_key("retry-after");
            anyhow::ensure!(has_retry_after, "expected Retry-After, found none");
            let state = payment_of(&stage.red.books(), "TEA-4").map(|payment| payment.state);
            same("its ledger", &Some(PaymentState::Open), &state)?;
            let detail = "202 PENDING: the outcome is unknown; the payment is in Red Pay's ledger";
            Ok(((), detail.to_owned()))
        };
        let what = "the payer chooses Red Pay, which closes the connection";
        self.printer.step(what, action).await?;
        let action = async {
            let queried = stage
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
            queried.context("expected a query in its ledger, found none")?;
            let found = resolved_status(&stage.tea, "TEA-4").await?;
            same("attemptStatus", &"ACCEPTED", &found.as_str())?;
            Ok((
                (),
                "it queried Red Pay, and did not send the payment twice".to_owned(),
            ))
        };
        self.printer
            .step("the gateway resolves the outcome", action)
            .await?;
        let link = self.select("TEA-4", RED, &stage.red).await?;
        self.pay(&link).await?;
        self.expect_paid_once("TEA-4", RED).await
    }

    /// C5: the same callback twice.
    pub async fn duplicate_callback(&mut self) -> Result<(), StepError> {
        self.printer
            .head("DUPLICATE CALLBACK  the institution sends its callback twice")?;
        let stage = self.stage;
        let order = with(
            stage.tea.order("TEA-5", "AGGREGATED", "18.81", ALICE),
            json!({ "institutionId": BLUE.id, "mode": "WEBVIEW" }),
        );
        let placed = self.place(order, |_| " at bluebank".to_owned()).await?;
        self.pay(placed.text("payUrl")).await?;
        self.expect_paid_once("TEA-5", BLUE).await?;
        let action = async {
            let acknowledged = |payment: &&SandboxPayment| payment.acknowledged >= 2;
            let twice = stage
                .blue
                .wait_for(
                    |book| payment_of(book, "TEA-5").filter(acknowledged).map(drop),
                    WAIT_MAX,
                )
                .await;
            twice.context("expected two acknowledged callbacks in its ledger, found fewer")?;
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
            .step("the second callback changes nothing", action)
            .await
    }

    /// the merchant closes an unpaid order.
    pub async fn closed(&mut self) -> Result<(), StepError> {
        self.printer
            .head("CLOSE  the merchant closes an unpaid order")?;
        let stage = self.stage;
        let order = with(
            stage.tea.order("TEA-6", "WEBVIEW", "25.00", ALICE),
            json!({ "institutionId": RED.id }),
        );
        let placed = self.place(order, |_| " at redpay".to_owned()).await?;
        let action = async {
            let answer = stage
                .tea
                .ask("/v1/orders/close", "TEA-6", json!({}))
                .await?;
            answered(&answer, 200, "CLOSED")?;
            let found = payment_of(&stage.red.books(), "TEA-6").map(|payment| payment.state);
            same("its ledger", &Some(PaymentState::Closed), &found)?;
            let detail = "closed at Red Pay first, then in the gateway";
            Ok(((), detail.to_owned()))
        };
        self.printer
            .step("the merchant closes the order", action)
            .await?;
        let action = async {
            stage
                .tea
                .wait_for_notification("ORDER_CLOSED", "TEA-6")
                .await?;
            let tried = stage.payer.pay(placed.text("payUrl")).await;
            anyhow::ensure!(
                tried.is_err(),
                "expected the payment to be refused, found {tried:?}"
            );
            let taken = payment_of(&stage.red.books(), "TEA-6").map(|payment| payment.taken_cents);
            same("money taken", &Some(0), &taken)?;
            Ok((
                (),
                "the page offers no payment; no money was taken".to_owned(),
            ))
        };
        let what = "the merchant is notified, and the payer can no longer pay";
        self.printer.step(what, action).await
    }

    /// Q7, R-6.1.1-2: repeated requests are idempotent.
    pub async fn repeats(&mut self) -> Result<(), StepError> {
        self.printer
            .head("IDEMPOTENCY  the merchant repeats a request")?;
        let stage = self.stage;
        let order = with(
            stage.tea.order("TEA-7", "WEBVIEW", "9.90", ALICE),
            json!({ "institutionId": BLUE.id }),
        );
        let first = self.place(order.clone(), |_| String::new()).await?;
        let action = async {
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
                "another amount under the same order number",
                &(409, "order_conflict"),
                &found,
            )?;
            Ok((
                (),
                "the same order is returned; another amount is refused (409)".to_owned(),
            ))
        };
        self.printer
            .step("the merchant repeats the same request", action)
            .await?;
        self.pay(first.text("payUrl")).await?;
        self.expect_paid_once("TEA-7", BLUE).await?;
        let action = async {
            let placed = stage.tea.place(&order).await?;
            answered(&placed, 200, "ALREADY_PAID")?;
            let chosen = choose(&stage.tea, "TEA-7", RED).await?;
            answered(&chosen, 200, "ALREADY_PAID")?;
            once(stage, "TEA-7", BLUE)?;
            Ok((
                (),
                "ALREADY_PAID; the payer cannot pay a second time".to_owned(),
            ))
        };
        self.printer
            .step("the merchant repeats it after the payment", action)
            .await
    }
}
