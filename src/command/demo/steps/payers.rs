//! The act in which three payers want the same and are offered different institutions.

use serde_json::json;

use crate::command::demo::enrolment::{BLUE, GREEN, INSTITUTIONS, RED};
use crate::command::demo::printing::{StepError, same};
use crate::command::demo::steps::claims::{answered, choose, listed, masked, shows, with};
use crate::command::demo::steps::{ALICE, DemoRun};
use crate::sandbox::ClientResponse;

/// A payer whom Green Card's list leaves out.
const BOB: &str = "18600005678";

/// A payer whom Red Pay's list names as not served, too.
const CAROL: &str = "17000009012";

/// What an institution's list says of who it does not serve.
const NOT_SERVED: &str = "PAYER_NOT_SERVED";

impl DemoRun<'_> {
    /// R-A2.4.1-3a: who the payer is decides the list, at every door.
    pub async fn payers(&mut self) -> Result<(), StepError> {
        self.printer
            .head("PAYERS  the same order, and each payer sees a list of their own")?;
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
        let doing = async {
            let answer = stage
                .tea
                .ask("/v1/orders/query", "BOOK-1", json!({}))
                .await?;
            let found = (answer.status, answer.text("code"));
            same("a foreign order", &(404, "order_unknown"), &found)?;
            Ok(((), "404, like any order that is not there".to_owned()))
        };
        self.printer
            .step("Tea House asks for Book Shop's order", doing)
            .await
    }

    /// One payer's list is this one, and printed with its reasons.
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
        let doing = async {
            let answer = stage.books.place(&order).await?;
            answered(&answer, 200, "ACCEPTED")?;
            let reason = |id| if open.contains(&id) { "" } else { NOT_SERVED };
            let expected: Vec<_> = INSTITUTIONS
                .iter()
                .map(|cast| (cast.id, reason(cast.id)))
                .collect();
            same("institutions and reasons", &expected, &listed(&answer))?;
            let said = format!("{} of {} open", open.len(), INSTITUTIONS.len());
            Ok((answer, said))
        };
        let what = format!("Book Shop asks for ¥50.00 from {}", masked(mobile));
        let answer = self.printer.step(&what, doing).await?;
        self.print_list(&answer)
    }

    /// A line for each institution, in the list's order.
    fn print_list(&self, answer: &ClientResponse) -> Result<(), StepError> {
        for (place, (id, reason)) in (1..).zip(listed(answer)) {
            let name = INSTITUTIONS.iter().find(|cast| cast.id == id);
            let name = name.map_or(id, |cast| cast.name_en);
            let said = match reason {
                "" => "open".to_owned(),
                reason => format!("withheld: {reason}"),
            };
            self.printer
                .line(&format!("{:25}{place}. {name:11} {said}", ""))?;
        }
        Ok(())
    }

    /// What the list withholds neither a choice, nor a named order, nor the page gives.
    async fn refused_alike(&mut self) -> Result<(), StepError> {
        let stage = self.stage;
        let doing = async {
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
                .filter(|cast| page.contains(cast.name))
                .map(|cast| cast.id)
                .collect();
            same("institutions on the page", &vec![BLUE.id], &shown)?;
            let said = format!("422 {NOT_SERVED}, and the page does not show it");
            Ok(((), said))
        };
        self.placed = self.placed.saturating_add(1);
        let what = format!("{} wants Red Pay all the same", masked(CAROL));
        self.printer.step(&what, doing).await
    }
}
