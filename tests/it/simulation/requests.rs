//! Merchants' requests in a simulation run, the answers, and what those answers bind the gateway
//! to: one effect per request, and nothing taken back.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::amount::Amount;
use paymux::domain::identifiers::{MerchantId, MerchantOrderNo, RefundOrderNo};
use paymux::domain::order::{Order, OrderState};
use paymux::domain::refund::RefundState;
use paymux::world::Clock;
use serde_json::{Value, json};

use super::checks::{InvariantResult, hold};
use super::run::{INSTITUTIONS, SimulationRun};
use crate::world::enrolment::{MERCHANTS, order_fields, sign, unsigned};
use crate::world::memory::DurableState;

/// The most orders in one run.
const ORDERS_MAX: usize = 4;

/// One sending of a request, and whether its order was known to be paid by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimulatedRequest {
    request: usize,
    order: usize,
    path: &'static str,
    reported_paid: bool,
}

/// An order as its merchant knows it.
struct SimulatedOrder {
    merchant: &'static str,
    no: String,
    fields: Value,
    pay_order_no: Option<String>,
    reported_paid: bool,
}

/// A request that was sent at least once.
struct SimulatedSend {
    request: Request<Bytes>,
    order: usize,
    path: &'static str,
    /// Answers that report its effect.
    effects: u32,
}

#[derive(Default)]
pub(crate) struct SimulatedMerchants {
    orders: Vec<SimulatedOrder>,
    sent: Vec<SimulatedSend>,
    /// Our number of each refund, by merchant and the merchant's number.
    refunds: BTreeMap<(&'static str, String), String>,
}

impl SimulatedMerchants {
    /// The merchant of a request.
    pub(super) fn merchant(&self, sending: &SimulatedRequest) -> &'static str {
        self.orders[sending.order].merchant
    }

    /// The HTTP request of a sending.
    pub(crate) fn request(&self, sending: &SimulatedRequest) -> Request<Bytes> {
        self.sent[sending.request].request.clone()
    }

    /// Compares an answer with earlier ones.
    pub(crate) fn check_answer(
        &mut self,
        sending: &SimulatedRequest,
        answer: &Response<Bytes>,
        durable: &DurableState,
    ) -> InvariantResult {
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        let sent = &mut self.sent[sending.request];
        let reads = matches!(
            sending.path,
            "/v1/orders/query" | "/v1/orders/institutions" | "/v1/refunds/query"
        );
        if !reads && matches!(status, 200 | 202 | 403 | 404 | 409 | 422) {
            sent.effects += 1;
            hold!(
                sent.effects == 1,
                "Q5: {sending:?} was admitted {} times",
                sent.effects
            );
        }
        if !matches!(status, 200 | 202) {
            return Ok(());
        }
        if sending.path.starts_with("/v1/refunds") {
            return self.check_refund_answer(sending, &body, durable);
        }
        let known = &mut self.orders[sending.order];
        let no = body["payOrderNo"].as_str().unwrap().to_owned();
        let first = known.pay_order_no.get_or_insert_with(|| no.clone());
        hold!(*first == no, "K1: {} is {first} and {no}", known.no);
        let Some(order) = find(known, durable) else {
            return Err(format!("O5: {no} was answered and does not exist"));
        };
        hold!(
            order.no.as_str() == no,
            "O5: {no} was answered, {} is stored",
            order.no
        );
        let paid = body["orderStatus"] == "PAID";
        hold!(
            !paid || order.state == OrderState::Paid,
            "O5: {no} was answered as paid"
        );
        hold!(
            paid || !sending.reported_paid,
            "O5: {no} was paid and is answered as {}",
            body["orderStatus"]
        );
        known.reported_paid |= paid;
        Ok(())
    }

    /// R6, O5: one number, one refund; and what was answered is stored, at least as far.
    fn check_refund_answer(
        &mut self,
        sending: &SimulatedRequest,
        body: &Value,
        durable: &DurableState,
    ) -> InvariantResult {
        let merchant = self.orders[sending.order].merchant;
        let no = body["refundOrderNo"].as_str().unwrap().to_owned();
        let number = body["merchantRefundNo"].as_str().unwrap_or(&no).to_owned();
        let first = self.refunds.entry((merchant, number.clone()));
        let first = first.or_insert_with(|| no.clone());
        hold!(
            *first == no,
            "R6: {number} of {merchant} is {first} and {no}"
        );
        let parsed = RefundOrderNo::parse(&no).unwrap();
        let known = durable
            .orders
            .values()
            .find_map(|row| row.order.refund(&parsed));
        let Some(refund) = known else {
            return Err(format!("O5: {no} was answered and does not exist"));
        };
        let sum = refund.amount.to_string();
        hold!(
            body["refundAmount"] == sum,
            "R6: {no} was answered with another amount"
        );
        let request = &self.sent[sending.request].request;
        let expected: Value = serde_json::from_slice(request.body()).unwrap();
        let expected = expected["refundAmount"].as_str();
        let currency = refund.amount.currency();
        let expected = expected.and_then(|sum| Amount::parse(sum, currency).ok());
        hold!(
            expected.is_none_or(|expected| expected == refund.amount),
            "R6: {no} of {sum} is the answer to another amount"
        );
        let back = body["refundStatus"] == "SUCCEEDED";
        hold!(
            !back || refund.state == RefundState::Succeeded,
            "R2: {no} was answered as refunded and is {}",
            refund.state.name()
        );
        Ok(())
    }

    /// Earlier answers stay true.
    pub(crate) fn check(&self, durable: &DurableState) -> InvariantResult {
        for known in &self.orders {
            let order = find(known, durable);
            hold!(
                known.pay_order_no.is_none() || order.is_some(),
                "O5: {} was answered and is missing",
                known.no
            );
            let paid = order.is_some_and(|order| order.state == OrderState::Paid);
            hold!(
                paid || !known.reported_paid,
                "O5: {} was answered as paid",
                known.no
            );
        }
        Ok(())
    }

    /// Section 14: everything that was answered exists.
    pub(crate) fn end(&self, durable: &DurableState) -> InvariantResult {
        self.check(durable)
    }
}

fn find<'a>(known: &SimulatedOrder, durable: &'a DurableState) -> Option<&'a Order> {
    let merchant = MerchantId::parse(known.merchant).unwrap();
    let no = MerchantOrderNo::parse(&known.no).unwrap();
    let mut rows = durable.orders.values();
    let row = rows.find(|row| {
        row.order.terms.merchant == merchant && row.order.terms.merchant_order_no == no
    });
    row.map(|row| &row.order)
}

impl SimulationRun {
    /// Signs a new request about an order and sends it.
    pub(super) fn send_new(&mut self, order: usize, path: &'static str, body: &Value) {
        let merchant = self.outside.orders[order].merchant;
        let mut request = unsigned(path, serde_json::to_vec(body).unwrap());
        let nonce = format!("nonce-{:020}", self.outside.sent.len());
        let key = format!("{merchant}-secret");
        sign(&mut request, &key, self.clock.now().seconds(), &nonce);
        self.outside.sent.push(SimulatedSend {
            request,
            order,
            path,
            effects: 0,
        });
        self.send(self.outside.sent.len() - 1);
    }

    fn send(&mut self, request: usize) {
        let sent = &self.outside.sent[request];
        let sending = SimulatedRequest {
            request,
            order: sent.order,
            path: sent.path,
            reported_paid: self.outside.orders[sent.order].reported_paid,
        };
        self.ask(sending);
    }

    pub(super) fn place_order(&mut self) {
        if self.outside.orders.len() >= ORDERS_MAX {
            return self.select_institution();
        }
        let merchant = *self.dice.pick(&MERCHANTS);
        let no = format!("T{}", self.outside.orders.len());
        let mut fields = order_fields(merchant, &no);
        fields["orderAmount"] = (*self.dice.pick(&["0.02", "12.30", "999.99"])).into();
        fields["expireMinutes"] = self.dice.between(1, 4).into();
        fields["mobileNo"] = (*self.dice.pick(&["13812345678", "13987654321"])).into();
        if self.dice.one_in(2) {
            fields["institutionId"] = (*self.dice.pick(&INSTITUTIONS)).into();
            fields["businessType"] = (*self.dice.pick(&["WEBVIEW", "NATIVE", "AGGREGATED"])).into();
        }
        self.outside.orders.push(SimulatedOrder {
            merchant,
            no,
            fields: fields.clone(),
            pay_order_no: None,
            reported_paid: false,
        });
        self.send_new(self.outside.orders.len() - 1, "/v1/orders", &fields);
    }

    pub(super) fn some_order(&mut self) -> Option<usize> {
        let many = self.outside.orders.len();
        (many > 0).then(|| self.dice.below(many))
    }

    /// The same order again, or other content under its number.
    pub(super) fn repeat_order(&mut self) {
        let Some(order) = self.some_order() else {
            return;
        };
        let mut fields = self.outside.orders[order].fields.clone();
        if self.dice.one_in(4) {
            fields["orderAmount"] = "0.01".into();
        }
        self.send_new(order, "/v1/orders", &fields);
    }

    /// The fields that identify the order in a refund request (R-A3.4-1).
    pub(super) fn refunding(&self, order: usize) -> Value {
        let known = &self.outside.orders[order];
        let mut body = self.naming(order);
        body["orderDate"] = known.fields["orderDate"].clone();
        body["mobileNo"] = known.fields["mobileNo"].clone();
        body
    }

    pub(super) fn naming(&self, order: usize) -> Value {
        let known = &self.outside.orders[order];
        json!({ "merchantId": known.merchant, "merchantOrderNo": known.no })
    }

    pub(super) fn select_institution(&mut self) {
        let Some(order) = self.some_order() else {
            return;
        };
        let mut body = self.naming(order);
        body["institutionId"] = (*self.dice.pick(&INSTITUTIONS)).into();
        self.send_new(order, "/v1/orders/select", &body);
    }

    pub(super) fn query_order(&mut self) {
        if let Some(order) = self.some_order() {
            self.send_new(order, "/v1/orders/query", &self.naming(order));
        }
    }

    pub(super) fn close_order(&mut self) {
        if let Some(order) = self.some_order() {
            self.send_new(order, "/v1/orders/close", &self.naming(order));
        }
    }

    /// Somebody repeats an earlier request, byte for byte.
    pub(super) fn replay(&mut self) {
        let many = self.outside.sent.len();
        if many > 0 {
            let request = self.dice.below(many);
            self.send(request);
        }
    }
}
