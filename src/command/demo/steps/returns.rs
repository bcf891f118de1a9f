//! Acts in which money goes back: because a merchant says so, or because it should never have come.

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

/// What of an order's payment is back, by an institution's book. Unit: cents.
fn back(book: &InstitutionLedger, number: &str) -> i64 {
    let Some(payment) = payment_of(book, number) else {
        return 0;
    };
    let theirs = book
        .refunds()
        .filter(|refund| refund.institution_no == payment.institution_no);
    let back = theirs.filter(|refund| refund.standing == SandboxRefundState::Succeeded);
    back.fold(0, |sum, refund| sum.saturating_add(refund.terms.sum_cents))
}

impl DemoRun<'_> {
    /// A3.4, R-6.1.5-2: whole, in parts, and never more than was paid.
    pub async fn refunded(&mut self) -> Result<(), StepError> {
        self.printer
            .head("REFUND  the merchant gives back, in two parts")?;
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
        let doing = async {
            let more = refund(&stage.tea, "TEA-8", "0.01", "BACK-3").await?;
            let found = (more.status, more.text("code"));
            same("one fen more", &(409, "refund_over_rest"), &found)?;
            let again = refund(&stage.tea, "TEA-8", "5.00", "BACK-1").await?;
            answered(&again, 200, "ACCEPTED")?;
            same(
                "back, by its book",
                &2_000,
                &back(&stage.blue.books(), "TEA-8"),
            )?;
            let said = "one fen more is refused (409); the same number again is the same refund";
            Ok(((), said.to_owned()))
        };
        self.printer.step("nothing goes back twice", doing).await
    }

    async fn part(&mut self, sum: &str, number: &str, view: &str) -> Result<(), StepError> {
        let stage = self.stage;
        let doing = async {
            let answer = refund(&stage.tea, "TEA-8", sum, number).await?;
            answered(&answer, 200, "ACCEPTED")?;
            same(
                "orderRefundStatus",
                &view,
                &answer.text("orderRefundStatus"),
            )?;
            let heard =
                |inbox: &NotificationInbox| inbox.refund_event("REFUND_SUCCEEDED", number).cloned();
            let notice = stage.tea.merchant.wait_for(heard, WAIT_MAX).await;
            let notice = notice.context("expected REFUND_SUCCEEDED, the inbox has none")?;
            same("its sum", &sum, &field(&notice.fields, "refundAmount"))?;
            Ok((
                (),
                format!("{view}; Blue Bank gave it back, the merchant is told"),
            ))
        };
        let what = format!("the merchant gives back ¥{sum}");
        self.printer.step(&what, doing).await
    }

    /// E5, R4: a refund whose answer is lost; the gateway finds out instead of sending it twice.
    pub async fn lost_refund(&mut self) -> Result<(), StepError> {
        self.printer
            .head("LOST REFUND  the institution gave it back, its answer never came")?;
        let stage = self.stage;
        let order = with(
            stage.tea.order("TEA-9", "AGGREGATED", "70.00", ALICE),
            json!({ "institutionId": GREEN.id, "mode": "WEBVIEW" }),
        );
        let placed = self.place(order, |_| " at greencard".to_owned()).await?;
        self.pay(placed.text("payUrl")).await?;
        self.expect_paid_once("TEA-9", GREEN).await?;
        // Its callback is lost as well: nobody but the gateway can find out.
        let control = stage.green.control();
        control.next_at(SandboxCall::Refund, InstitutionFault::LostCallback, 1);
        let doing = async {
            let answer = refund(&stage.tea, "TEA-9", "30.63", "BACK-9").await?;
            answered(&answer, 202, "PENDING")?;
            let heard = |inbox: &NotificationInbox| {
                inbox.refund_event("REFUND_SUCCEEDED", "BACK-9").cloned()
            };
            let notice = stage.tea.merchant.wait_for(heard, WAIT_MAX).await;
            notice.context("expected REFUND_SUCCEEDED, the inbox has none")?;
            same(
                "back, by its book",
                &3_063,
                &back(&stage.green.books(), "TEA-9"),
            )?;
            let said = "202 PENDING; then it asked, and it went back once";
            Ok(((), said.to_owned()))
        };
        let what = "the merchant gives back ¥30.63, its institution hangs up";
        self.printer.step(what, doing).await
    }

    /// V4, A4, A8: money that came after the close was confirmed.
    pub async fn payment_after_close(&mut self) -> Result<(), StepError> {
        self.printer
            .head("LATE MONEY  the institution took it after it had confirmed the close")?;
        let stage = self.stage;
        let order = stage.tea.order("TEA-10", "AGGREGATED", "33.72", ALICE);
        self.place(order, |_| String::new()).await?;
        let doing = async {
            let chosen = choose(&stage.tea, "TEA-10", RED).await?;
            answered(&chosen, 200, "ACCEPTED")?;
            let answer = stage
                .tea
                .ask("/v1/orders/close", "TEA-10", json!({}))
                .await?;
            answered(&answer, 200, "CLOSED")?;
            Ok(((), "closed in Red Pay's book first, then here".to_owned()))
        };
        self.printer.step("the merchant closes it", doing).await?;
        let doing = async {
            let taken = |book: &InstitutionLedger| {
                payment_of(book, "TEA-10")
                    .filter(|payment| payment.state == PaymentState::Paid)
                    .map(drop)
            };
            let taken = stage.red.wait_for(taken, WAIT_MAX).await;
            taken.context("expected the money in its book, found none")?;
            wait_for_return(&stage.red, "TEA-10", 3_372).await?;
            let notice = stage
                .tea
                .wait_for_notification("REFUND_SUCCEEDED", "TEA-10")
                .await?;
            let cause = field(&notice.fields, "refundCause");
            same("its cause", &"AFTER_CLOSE", &cause)?;
            let asked = stage
                .tea
                .ask("/v1/orders/query", "TEA-10", json!({}))
                .await?;
            same("orderStatus", &"CLOSED", &asked.text("orderStatus"))?;
            let said = "the surplus goes back on its own, with its cause; the order stays closed";
            Ok(((), said.to_owned()))
        };
        let what = "Red Pay takes ¥33.72 all the same";
        self.printer.step(what, doing).await
    }
}

impl DemoRun<'_> {
    /// What became of the order that was refunded, as an operator is told.
    pub async fn explained(&mut self) -> Result<(), StepError> {
        self.printer.head("EXPLAIN  paymux explain M1001/TEA-8")?;
        let args = ExplainArgs {
            order: format!("{}/TEA-8", self.stage.tea.role.id),
            config: self.stage.config.clone(),
            json: false,
        };
        let doing = async {
            let mut text = Vec::new();
            explain(&mut text, &args)?;
            let text = String::from_utf8(text)?;
            let refunds = text.matches("REFUND_SUCCEEDED").count();
            anyhow::ensure!(
                refunds >= 4,
                "expected both refunds posted and told, found {text}"
            );
            let lines = text.lines().count();
            Ok((
                text,
                format!("{lines} lines: the ledger, and what both sides said"),
            ))
        };
        let what = "read beside the running gateway";
        let text = self.printer.step(what, doing).await?;
        let mut said = 0_usize;
        for line in text.lines() {
            // What was said fills screens; the first exchange shows what there is.
            if line.starts_with(EXCHANGE_INDENT) {
                said = said.saturating_add(1);
                if said > EXCHANGE_LINES_SHOWN {
                    continue;
                }
            }
            let shown: String = line.chars().take(110).collect();
            self.printer.line(&format!("      {shown}"))?;
        }
        let more = said.saturating_sub(EXCHANGE_LINES_SHOWN);
        self.printer.line(&format!(
            "      and {more} lines of what was said and signed"
        ))?;
        Ok(())
    }

    /// M7: each institution's statement of the day against our books.
    pub async fn reconcile_day(&mut self) -> Result<(), StepError> {
        self.printer
            .head("RECONCILE  each institution's statement of the day against our books")?;
        let stage = self.stage;
        for (cast, _) in stage.institutions() {
            let doing = async {
                let socket = control::socket(&config::store_url(&stage.config)?);
                let question = ReconcileRequest {
                    institution: cast.id.to_owned(),
                    date: SystemClock::start().now().date(),
                    statement: None,
                };
                let asked = tokio::task::spawn_blocking(move || {
                    let mut told = Vec::new();
                    ask(&socket, &question, |line| told.push(line)).map(|()| told)
                });
                let told = asked.await??;
                let Some(ReconcileMessage::Reconciled {
                    lines,
                    ours,
                    repaired: 0,
                    remaining: 0,
                    ..
                }) = told.last()
                else {
                    anyhow::bail!("expected that nothing differs, found {told:?}");
                };
                let said = format!("{lines} lines, {ours} movements of ours; nothing differs");
                Ok(((), said))
            };
            self.printer.step(cast.name_en, doing).await?;
        }
        Ok(())
    }
}

/// How a line of what was said begins.
const EXCHANGE_INDENT: &str = "              ";
/// So many of them are shown: the request and the answer of one exchange.
const EXCHANGE_LINES_SHOWN: usize = 14;

async fn wait_for_return(at: &SandboxInstitution, number: &str, cents: i64) -> anyhow::Result<()> {
    let all = |book: &InstitutionLedger| (back(book, number) == cents).then_some(());
    let found = at.wait_for(all, WAIT_MAX).await;
    found.context("expected the money back in its book, found it missing")
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
