//! Buyers who order, pay, close and refund while the gateway is killed, and the answers they
//! received: an answer with 200 or 202 is a promise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{DemoEnvironment, DemoMerchant};
use paymux::sandbox::ClientResponse;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::pass;
use crate::world::random::SeededRandom;

const PAYER: &str = "13800001234";

/// The last two digits of amounts, which select the sandbox's faults for a payment and for a
/// refund.
const OF_PAYMENTS: [i64; 12] = [61, 63, 65, 66, 67, 68, 69, 72, 81, 82, 83, 85];
const OF_REFUNDS: [i64; 9] = [63, 65, 66, 67, 81, 85, 91, 92, 93];

/// How often a buyer repeats one request that is rejected temporarily.
const REPEATS_MAX: usize = 100;

/// What was promised about an order.
#[derive(Debug, Clone)]
pub(super) struct ReportedOrder {
    pub(super) is_tea: bool,
    pub(super) pay_order_no: String,
    pub(super) cents: i64,
    pub(super) state: String,
}

/// What was promised about a refund.
#[derive(Debug, Clone)]
pub(super) struct ReportedRefund {
    pub(super) refund_order_no: String,
    pub(super) cents: i64,
    pub(super) state: String,
}

/// All promises, by the merchants' numbers, and immediate violations.
#[derive(Debug, Clone, Default)]
pub(super) struct ReportedState {
    pub(super) orders: BTreeMap<String, ReportedOrder>,
    pub(super) refunds: BTreeMap<String, ReportedRefund>,
    /// Orders that were requested, answered or not: whether the tea shop's, and the amount in
    /// cents.
    tried: BTreeMap<String, (bool, i64)>,
    /// Events listed by `/v1/events`, by merchant.
    pub(super) listed: BTreeMap<&'static str, Vec<String>>,
    pub(super) broken: Vec<String>,
}

pub(super) struct BuyerLoad {
    stage: Arc<DemoEnvironment>,
    reported: Mutex<ReportedState>,
    answered: watch::Sender<u64>,
    is_up: watch::Receiver<bool>,
    is_done: watch::Receiver<bool>,
}

/// Formats cents.
pub(super) fn yuan(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Whether `state` may follow `before`: states never go back (O5).
fn may_follow(before: &str, state: &str) -> bool {
    match before {
        "PAID" | "CLOSED" | "SUCCEEDED" | "FAILED" => state == before,
        _ => true,
    }
}

impl BuyerLoad {
    pub(super) fn new(
        stage: Arc<DemoEnvironment>,
        is_up: watch::Receiver<bool>,
        is_done: watch::Receiver<bool>,
    ) -> Self {
        Self {
            stage,
            reported: Mutex::default(),
            answered: watch::Sender::new(0),
            is_up,
            is_done,
        }
    }

    pub(super) fn reported(&self) -> ReportedState {
        self.reported.lock().unwrap().clone()
    }

    /// Waits for this many more answers; returns whether they came in time.
    pub(super) async fn answers(&self, more: u64, at_most: Duration) -> bool {
        let mut answered = self.answered.subscribe();
        let goal = *answered.borrow() + more;
        let waiting = answered.wait_for(|count| *count >= goal);
        tokio::time::timeout(at_most, waiting).await.is_ok()
    }

    fn shop(&self, is_tea: bool) -> &DemoMerchant {
        if is_tea {
            &self.stage.tea
        } else {
            &self.stage.books
        }
    }

    /// Sends a request until it is accepted or finally rejected, across any number of kills.
    async fn post(&self, is_tea: bool, path: &str, body: &Value) -> Option<ClientResponse> {
        for _ in 0..REPEATS_MAX {
            let mut is_up = self.is_up.clone();
            is_up.wait_for(|up| *up).await.ok()?;
            match self.shop(is_tea).client.post(path, body).await {
                Ok(answer) if answer.status < 429 => {
                    self.answered.send_modify(|count| *count += 1);
                    return Some(answer);
                }
                // Killed, or overloaded.
                Ok(_) | Err(_) => pass(Duration::from_millis(30)).await,
            }
        }
        None
    }

    fn record_violation(&self, what: String) {
        self.reported.lock().unwrap().broken.push(what);
    }

    /// Records what an answer about an order promises.
    fn record(&self, is_tea: bool, number: &str, cents: i64, answer: &ClientResponse) {
        if !matches!(answer.status, 200 | 202) {
            return;
        }
        let now = ReportedOrder {
            is_tea,
            pay_order_no: answer.text("payOrderNo").to_owned(),
            cents,
            state: answer.text("orderStatus").to_owned(),
        };
        let mut reported = self.reported.lock().unwrap();
        let before = reported.orders.insert(number.to_owned(), now.clone());
        if let Some(before) = before {
            let same = before.pay_order_no == now.pay_order_no;
            if !same || !may_follow(&before.state, &now.state) {
                reported
                    .broken
                    .push(format!("O5, Q7: {number} was {before:?}, is {now:?}"));
            }
        }
    }

    /// Buys one thing after another until told to stop.
    pub(super) async fn buy(self: Arc<Self>, buyer: usize, mut dice: SeededRandom) {
        let mut bought = 0;
        while !*self.is_done.borrow() {
            bought += 1;
            let number = format!("K{buyer}-{bought}");
            self.order(&number, &mut dice).await;
        }
    }

    async fn order(&self, number: &str, dice: &mut SeededRandom) {
        let is_tea = !dice.one_in(3);
        let digits = if dice.one_in(2) {
            10
        } else {
            *dice.pick(&OF_PAYMENTS)
        };
        let cents = dice.between(10, 90) * 100 + digits;
        let body = order_of(self.shop(is_tea), number, cents);
        let tried = (is_tea, cents);
        self.reported
            .lock()
            .unwrap()
            .tried
            .insert(number.to_owned(), tried);
        let mut page = String::new();
        for _ in 0..8 {
            let Some(answer) = self.post(is_tea, "/v1/orders", &body).await else {
                return;
            };
            self.record(is_tea, number, cents, &answer);
            answer.text("payUrl").clone_into(&mut page);
            if !page.is_empty() || !matches!(answer.status, 200 | 202) {
                break;
            }
            pass(Duration::from_millis(200)).await;
        }
        if digits == 72 || dice.one_in(6) {
            self.close(is_tea, number, cents).await;
            return;
        }
        if dice.one_in(10) || (page.is_empty() && digits != 69) {
            return;
        }
        if !page.is_empty() {
            // The page shows it if the order was paid or closed meanwhile.
            let _ = self.stage.payer.pay(&page).await;
        }
        for _ in 0..20 {
            let state = self.ask(is_tea, number, cents).await;
            if state != "OPEN" {
                break;
            }
            pass(Duration::from_millis(100)).await;
        }
        match dice.below(4) {
            0 => self.refund(is_tea, number, "A", cents).await,
            1 => {
                let digits = *dice.pick(&OF_REFUNDS);
                let part = dice.between(1, 8) * 100 + digits;
                self.refund(is_tea, number, "A", part).await;
                self.refund(is_tea, number, "B", cents / 2).await;
                self.refund(is_tea, number, "C", cents).await;
            }
            _ => (),
        }
    }

    /// Queries an order's state.
    async fn ask(&self, is_tea: bool, number: &str, cents: i64) -> String {
        let body = json!({ "merchantId": self.shop(is_tea).role.id, "merchantOrderNo": number });
        let Some(answer) = self.post(is_tea, "/v1/orders/query", &body).await else {
            return String::new();
        };
        if answer.status == 404 && self.reported().orders.contains_key(number) {
            self.record_violation(format!("{number} was acknowledged and is unknown"));
        }
        self.record(is_tea, number, cents, &answer);
        answer.text("orderStatus").to_owned()
    }

    async fn close(&self, is_tea: bool, number: &str, cents: i64) {
        let body = json!({ "merchantId": self.shop(is_tea).role.id, "merchantOrderNo": number });
        if let Some(answer) = self.post(is_tea, "/v1/orders/close", &body).await
            && answer.status == 200
        {
            self.ask(is_tea, number, cents).await;
        }
    }

    async fn refund(&self, is_tea: bool, number: &str, part: &str, cents: i64) {
        let shop = self.shop(is_tea);
        let order = order_of(shop, number, cents);
        let refund_no = format!("{number}-{part}");
        let body = json!({
            "merchantOrderNo": number,
            "orderDate": order["orderDate"],
            "refundAmount": yuan(cents),
            "merchantId": shop.role.id,
            "mobileNo": PAYER,
            "merchantRefundNo": refund_no,
        });
        // The second is a repeat, which must find the first.
        for _ in 0..2 {
            let Some(answer) = self.post(is_tea, "/v1/refunds", &body).await else {
                return;
            };
            if !matches!(answer.status, 200 | 202) {
                return;
            }
            let now = ReportedRefund {
                refund_order_no: answer.text("refundOrderNo").to_owned(),
                cents,
                state: answer.text("refundStatus").to_owned(),
            };
            let mut reported = self.reported.lock().unwrap();
            if let Some(before) = reported.refunds.insert(refund_no.clone(), now.clone())
                && (before.refund_order_no != now.refund_order_no
                    || !may_follow(&before.state, &now.state))
            {
                reported
                    .broken
                    .push(format!("O5, R6: {refund_no} was {before:?}, is {now:?}"));
            }
        }
    }

    /// Closes unpaid orders, whether their placing was acknowledged or not: at rest every order is
    /// paid or closed.
    pub(super) async fn end_all(&self) {
        let reported = self.reported();
        for (number, (is_tea, cents)) in reported.tried {
            let known = reported.orders.get(&number);
            if known.is_none_or(|order| order.state == "OPEN") {
                self.close(is_tea, &number, cents).await;
            }
        }
    }

    /// O5: queries every order once more.
    pub(super) async fn ask_all(&self) -> Result<(), String> {
        for (number, order) in self.reported().orders {
            let state = self.ask(order.is_tea, &number, order.cents).await;
            if !matches!(state.as_str(), "PAID" | "CLOSED") {
                return Err(format!(
                    "{number} was acknowledged and is {state:?} at rest"
                ));
            }
        }
        Ok(())
    }

    /// Reads `/v1/events` of both merchants.
    pub(super) async fn list_events(&self) -> Result<(), String> {
        for is_tea in [true, false] {
            let id = self.shop(is_tea).role.id;
            let (mut listed, mut after) = (Vec::new(), json!(0));
            loop {
                let body = json!({ "merchantId": id, "afterSequence": after });
                let answer = self.post(is_tea, "/v1/events", &body).await;
                let answer = answer.ok_or("/v1/events did not answer")?;
                let events = answer.json["events"].as_array();
                let events = events.ok_or_else(|| format!("/v1/events: {}", answer.json))?;
                if events.is_empty() {
                    break;
                }
                let ids = events.iter().map(|one| &one["event"]["eventId"]);
                listed.extend(ids.map(|id| id.as_str().unwrap_or_default().to_owned()));
                after = answer.json["nextSequence"].clone();
            }
            self.reported.lock().unwrap().listed.insert(id, listed);
        }
        Ok(())
    }
}

fn order_of(shop: &DemoMerchant, number: &str, cents: i64) -> Value {
    let mut order = shop.order(number, "WEBVIEW", &yuan(cents), PAYER);
    order["institutionId"] = json!(BLUE.id);
    order
}
