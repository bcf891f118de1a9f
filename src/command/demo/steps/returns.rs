//! Scenarios with refunds: requested by a merchant, or of excess payments. Also the timeline of an
//! order, and reconciliation.

use anyhow::Context;
use serde_json::{Value, json};

use crate::command::demo::enrolment::{BLUE, GREEN, RED};
use crate::command::demo::environment::{DemoMerchant, WAIT_MAX, payment_of};
use crate::command::demo::printing::{StepError, same};
use crate::command::demo::steps::claims::{answered, choose, field, with};
use crate::command::demo::steps::{ALICE, DemoRun};
use crate::command::explain::{ExplainArgs, explain};
use crate::config;
use crate::run::control;
use crate::run::reconcile::{ReconcileMessage, ReconcileRequest, ask};
use crate::sandbox::{
    ClientResponse, InstitutionFault, InstitutionLedger, NotificationInbox, PaymentState,
    SandboxCall, SandboxInstitution, SandboxRefundState,
};
use crate::world::{Clock, SystemClock};

/// What was refunded of an order's payment, from an institution's ledger. Unit: cents.
fn refunded_cents(book: &InstitutionLedger, number: &str) -> i64 {
    let Some(payment) = payment_of(book, number) else {
        return 0;
    };
    let refunds = book
        .refunds()
        .filter(|refund| refund.institution_no == payment.institution_no);
    let succeeded = refunds.filter(|refund| refund.standing == SandboxRefundState::Succeeded);
    succeeded.fold(0, |sum, refund| sum.saturating_add(refund.terms.sum_cents))
}

impl DemoRun<'_> {
    /// A3.4, R-6.1.5-2: partial refunds, and never more than was paid.
    pub async fn refunded(&mut self) -> Result<(), StepError> {
        self.printer
            .head("REFUND  the merchant refunds an order in two parts")?;
        let stage = self.stage;
        let order = with(
            stage.tea.order("TEA-8", "AGGREGATED", "20.00", ALICE),
            json!({ "institutionId": BLUE.id, "mode": "WEBVIEW" }),
        );
        let placed = self.place(order, |_| " at bluebank".to_owned()).await?;
        self.pay(placed.text("payUrl")).await?;
        self.expect_paid_once("TEA-8", BLUE).await?;
        self.part("5.00", "BACK-1", "PARTIAL").await?;
        self.part("15.00", "BACK-2", "FULL").await?;
        let action = async {
            let more = refund(&stage.tea, "TEA-8", "0.01", "BACK-3").await?;
            let found = (more.status, more.text("code"));
            same("a refund of ¥0.01 more", &(409, "refund_over_rest"), &found)?;
            let again = refund(&stage.tea, "TEA-8", "5.00", "BACK-1").await?;
            answered(&again, 200, "ACCEPTED")?;
            same(
                "refunded in its ledger",
                &2_000,
                &refunded_cents(&stage.blue.books(), "TEA-8"),
            )?;
            let detail = "¥0.01 more is refused (409); repeating a refund number has no effect";
            Ok(((), detail.to_owned()))
        };
        self.printer.step("nothing is refunded twice", action).await
    }

    async fn part(&mut self, sum: &str, number: &str, view: &str) -> Result<(), StepError> {
        let stage = self.stage;
        let action = async {
            let answer = refund(&stage.tea, "TEA-8", sum, number).await?;
            answered(&answer, 200, "ACCEPTED")?;
            same(
                "orderRefundStatus",
                &view,
                &answer.text("orderRefundStatus"),
            )?;
            let notified =
                |inbox: &NotificationInbox| inbox.refund_event("REFUND_SUCCEEDED", number).cloned();
            let notice = stage.tea.merchant.wait_for(notified, WAIT_MAX).await;
            let notice = notice.context("expected REFUND_SUCCEEDED, the inbox has none")?;
            same("its amount", &sum, &field(&notice.fields, "refundAmount"))?;
            Ok((
                (),
                format!("{view}; Blue Bank paid it back, the merchant is notified"),
            ))
        };
        let what = format!("the merchant refunds ¥{sum}");
        self.printer.step(&what, action).await
    }

    /// E5, R4: a refund's response is lost; the gateway queries the outcome instead of resending
    /// it.
    pub async fn lost_refund(&mut self) -> Result<(), StepError> {
        self.printer
            .head("LOST REFUND RESPONSE  the institution refunds, but its response is lost")?;
        let stage = self.stage;
        let order = with(
            stage.tea.order("TEA-9", "AGGREGATED", "70.00", ALICE),
            json!({ "institutionId": GREEN.id, "mode": "WEBVIEW" }),
        );
        let placed = self.place(order, |_| " at greencard".to_owned()).await?;
        self.pay(placed.text("payUrl")).await?;
        self.expect_paid_once("TEA-9", GREEN).await?;
        // The callback is lost as well, so the gateway must query the outcome.
        let control = stage.green.control();
        control.next_at(SandboxCall::Refund, InstitutionFault::LostCallback, 1);
        let action = async {
            let answer = refund(&stage.tea, "TEA-9", "30.63", "BACK-9").await?;
            answered(&answer, 202, "PENDING")?;
            let notified = |inbox: &NotificationInbox| {
                inbox.refund_event("REFUND_SUCCEEDED", "BACK-9").cloned()
            };
            let notice = stage.tea.merchant.wait_for(notified, WAIT_MAX).await;
            notice.context("expected REFUND_SUCCEEDED, the inbox has none")?;
            same(
                "refunded in its ledger",
                &3_063,
                &refunded_cents(&stage.green.books(), "TEA-9"),
            )?;
            let detail = "202 PENDING; the gateway queried the outcome: refunded exactly once";
            Ok(((), detail.to_owned()))
        };
        let what = "the merchant refunds ¥30.63; Green Card closes the connection";
        self.printer.step(what, action).await
    }

    /// V4, A4, A8: a payment taken after the close was confirmed.
    pub async fn payment_after_close(&mut self) -> Result<(), StepError> {
        self.printer
            .head("LATE PAYMENT  the institution takes a payment after it confirmed the close")?;
        let stage = self.stage;
        let order = stage.tea.order("TEA-10", "AGGREGATED", "33.72", ALICE);
        self.place(order, |_| String::new()).await?;
        let action = async {
            let chosen = choose(&stage.tea, "TEA-10", RED).await?;
            answered(&chosen, 200, "ACCEPTED")?;
            let answer = stage
                .tea
                .ask("/v1/orders/close", "TEA-10", json!({}))
                .await?;
            answered(&answer, 200, "CLOSED")?;
            let detail = "closed at Red Pay first, then in the gateway";
            Ok(((), detail.to_owned()))
        };
        self.printer
            .step("the merchant closes the order", action)
            .await?;
        let action = async {
            let taken = |book: &InstitutionLedger| {
                payment_of(book, "TEA-10")
                    .filter(|payment| payment.state == PaymentState::Paid)
                    .map(drop)
            };
            let taken = stage.red.wait_for(taken, WAIT_MAX).await;
            taken.context("expected the payment in its ledger, found none")?;
            wait_for_return(&stage.red, "TEA-10", 3_372).await?;
            let notice = stage
                .tea
                .wait_for_notification("REFUND_SUCCEEDED", "TEA-10")
                .await?;
            let cause = field(&notice.fields, "refundCause");
            same("its cause", &"AFTER_CLOSE", &cause)?;
            let order = stage
                .tea
                .ask("/v1/orders/query", "TEA-10", json!({}))
                .await?;
            same("orderStatus", &"CLOSED", &order.text("orderStatus"))?;
            let detail = "the gateway refunds it automatically, with the cause AFTER_CLOSE; the \
                          order stays closed";
            Ok(((), detail.to_owned()))
        };
        let what = "Red Pay takes ¥33.72 after the close";
        self.printer.step(what, action).await
    }
}

impl DemoRun<'_> {
    /// The timeline of the refunded order, as `paymux explain` prints it.
    pub async fn explained(&mut self) -> Result<(), StepError> {
        self.printer
            .head("EXPLAIN  the timeline of an order: paymux explain M1001/TEA-8")?;
        let args = ExplainArgs {
            order: format!("{}/TEA-8", self.stage.tea.role.id),
            config: self.stage.config.clone(),
            json: false,
        };
        let action = async {
            let mut text = Vec::new();
            explain(&mut text, &args)?;
            let text = String::from_utf8(text)?;
            let refunds = text.matches("REFUND_SUCCEEDED").count();
            anyhow::ensure!(
                refunds >= 4,
                "expected both refunds posted and notified, found {text}"
            );
            let lines = text.lines().count();
            Ok((
                text,
                format!("{lines} lines: the ledger, and all messages exchanged"),
            ))
        };
        let what = "read from the store while the gateway runs";
        let text = self.printer.step(what, action).await?;
        let mut exchange_lines = 0_usize;
        for line in text.lines() {
            // Messages fill several screens; only the first exchange is shown.
            if line.starts_with(EXCHANGE_INDENT) {
                exchange_lines = exchange_lines.saturating_add(1);
                if exchange_lines > EXCHANGE_LINES_SHOWN {
                    continue;
                }
            }
            let shown: String = line.chars().take(110).collect();
            self.printer.line(&format!("      {shown}"))?;
        }
        let more = exchange_lines.saturating_sub(EXCHANGE_LINES_SHOWN);
        self.printer.line(&format!(
            "      and {more} more lines of messages and signatures"
        ))?;
        Ok(())
    }

    /// M7: each institution's daily statement against the gateway's ledger.
    pub async fn reconcile_day(&mut self) -> Result<(), StepError> {
        self.printer
            .head("RECONCILE  each institution's daily statement against the gateway's ledger")?;
        let stage = self.stage;
        for (profile, _) in stage.institutions() {
            let action = async {
                let socket = control::socket(&config::store_url(&stage.config)?);
                let request = ReconcileRequest {
                    institution: profile.id.to_owned(),
                    date: SystemClock::start().now().date(),
                    statement: None,
                };
                let reconciling = tokio::task::spawn_blocking(move || {
                    let mut messages = Vec::new();
                    ask(&socket, &request, |message| messages.push(message)).map(|()| messages)
                });
                let messages = reconciling.await??;
                let Some(ReconcileMessage::Reconciled {
                    lines,
                    ours,
                    repaired: 0,
                    remaining: 0,
                    ..
                }) = messages.last()
                else {
                    anyhow::bail!("expected no differences, found {messages:?}");
                };
                let detail =
                    format!("{lines} lines, {ours} movements in our ledger; no differences");
                Ok(((), detail))
            };
            self.printer.step(profile.name_en, action).await?;
        }
        Ok(())
    }
}

/// Indentation of the lines of an exchange.
const EXCHANGE_INDENT: &str = "              ";
/// Lines shown: the request and the response of one exchange.
const EXCHANGE_LINES_SHOWN: usize = 14;

async fn wait_for_return(at: &SandboxInstitution, number: &str, cents: i64) -> anyhow::Result<()> {
    let is_refunded =
        |book: &InstitutionLedger| (refunded_cents(book, number) == cents).then_some(());
    let found = at.wait_for(is_refunded, WAIT_MAX).await;
    found.context("expected the refund in its ledger, found none")
}

/// The five fields of A3.4, and the merchant's number.
async fn refund(
    shop: &DemoMerchant,
    number: &str,
    sum: &str,
    refund_no: &str,
) -> anyhow::Result<ClientResponse> {
    let order = shop.order(number, "AGGREGATED", sum, ALICE);
    let body: Value = json!({
        "merchantOrderNo": number,
        "orderDate": field(&order, "orderDate"),
        "refundAmount": sum,
        "merchantId": shop.role.id,
        "mobileNo": ALICE,
        "merchantRefundNo": refund_no,
    });
    Ok(shop.client.post("/v1/refunds", &body).await?)
}
