//! The scenario in which three payers of equal orders are offered different institutions.

use serde_json::json;

use crate::command::demo::enrolment::{BLUE, GREEN, INSTITUTIONS, RED};
use crate::command::demo::printing::{StepError, same};
use crate::command::demo::steps::claims::{answered, choose, listed, masked, shows, with};
use crate::command::demo::steps::{ALICE, DemoRun};
use crate::sandbox::ClientResponse;

/// A payer not served by Green Card.
const BOB: &str = "18600005678";

/// A payer not served by Green Card or Red Pay.
const CAROL: &str = "17000009012";

/// The reason for an institution that does not serve the payer.
const NOT_SERVED: &str = "PAYER_NOT_SERVED";

impl DemoRun<'_> {
    /// R-A2.4.1-3a: the payer decides the list of institutions, on every endpoint.
    pub async fn payers(&mut self) -> Result<(), StepError> {
        self.printer
            .head("PAYERS  equal orders, but each payer has a different list of institutions")?;
        let lists = [
            ("BOOK-1", ALICE, [BLUE.id, RED.id, GREEN.id].as_slice()),
            ("BOOK-2", BOB, &[BLUE.id, RED.id]),
            ("BOOK-3", CAROL, &[BLUE.id]),
        ];
        for (number, mobile, open) in lists {
            self.offered(number, mobile, open).await?;
        }
        self.refused_alike().await?;
        let stage = self.stage;
        let action = async {
            let answer = stage
                .tea
                .ask("/v1/orders/query", "BOOK-1", json!({}))
                .await?;
            let found = (answer.status, answer.text("code"));
            same("another merchant's order", &(404, "order_unknown"), &found)?;
            Ok(((), "404, as for an order that does not exist".to_owned()))
        };
        self.printer
            .step("Tea House queries an order of Book Shop", action)
            .await
    }

    /// Checks one payer's list, and prints it with its reasons.
    async fn offered(
        &mut self,
        number: &str,
        mobile: &str,
        open: &[&str],
    ) -> Result<(), StepError> {
        let stage = self.stage;
        self.placed = self.placed.saturating_add(1);
        let order = with(
            stage.books.order(number, "AGGREGATED", "50.00", mobile),
            json!({ "explainInstitutions": true }),
        );
        let action = async {
            let answer = stage.books.place(&order).await?;
            answered(&answer, 200, "ACCEPTED")?;
            let reason = |id| if open.contains(&id) { "" } else { NOT_SERVED };
            let expected: Vec<_> = INSTITUTIONS
                .iter()
                .map(|profile| (profile.id, reason(profile.id)))
                .collect();
            same("institutions and reasons", &expected, &listed(&answer))?;
            let detail = format!(
                "{} of {} institutions available",
                open.len(),
                INSTITUTIONS.len()
            );
            Ok((answer, detail))
        };
        let what = format!(
            "Book Shop places an order for ¥50.00, payer {}",
            masked(mobile)
        );
        let answer = self.printer.step(&what, action).await?;
        self.print_list(&answer)
    }

    /// Prints a line for each institution, in the list's order.
    fn print_list(&self, answer: &ClientResponse) -> Result<(), StepError> {
        for (place, (id, reason)) in (1..).zip(listed(answer)) {
            let name = INSTITUTIONS.iter().find(|profile| profile.id == id);
            let name = name.map_or(id, |profile| profile.name_en);
            let status = match reason {
                "" => "available".to_owned(),
                reason => format!("not available: {reason}"),
            };
            self.printer
                .line(&format!("{:25}{place}. {name:11} {status}", ""))?;
        }
        Ok(())
    }

    /// An ineligible institution can be had neither by selection, nor in the order, nor on the
    /// page.
    async fn refused_alike(&mut self) -> Result<(), StepError> {
        let stage = self.stage;
        let action = async {
            let chosen = choose(&stage.books, "BOOK-3", RED).await?;
            let order = with(
                stage.books.order("BOOK-4", "AGGREGATED", "50.00", CAROL),
                json!({ "institutionId": RED.id }),
            );
            let named = stage.books.place(&order).await?;
            for answer in [chosen, named] {
                let found = (answer.status, answer.text("reason"));
                same("status and reason", &(422, NOT_SERVED), &found)?;
            }
            let order = stage.books.order("BOOK-5", "WEBVIEW", "50.00", CAROL);
            let placed = stage.books.place(&order).await?;
            answered(&placed, 200, "ACCEPTED")?;
            let page = stage.payer.open(placed.text("payUrl")).await?.html;
            shows(&page, "choose")?;
            let shown: Vec<_> = INSTITUTIONS
                .iter()
                .filter(|profile| page.contains(profile.name))
                .map(|profile| profile.id)
                .collect();
            same("institutions on the page", &vec![BLUE.id], &shown)?;
            let detail = format!("422 {NOT_SERVED}, and the page does not show it");
            Ok(((), detail))
        };
        self.placed = self.placed.saturating_add(1);
        let what = format!("{} requests Red Pay nevertheless", masked(CAROL));
        self.printer.step(&what, action).await
    }
}
