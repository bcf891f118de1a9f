//! The platform's books, in memory: what it believes each order is, and every rule by which an
//! order changes. Refunds are beside it. No waiting, no HTTP.

mod refunds;

pub use refunds::{WechatRefund, WechatRefundState};
pub(super) use refunds::{WechatRefundRejection, WechatRefundTerms};

use std::collections::BTreeMap;

use crate::sandbox::wechatpay::prepay::{WechatOrderTerms, WechatProduct};

/// Life of a `prepay_id` and a `code_url`. Unit: seconds.
const PREPAY_LIFE_S: i64 = 7_200;
/// Life of an `h5_url`. Unit: seconds.
const H5_LIFE_S: i64 = 300;

/// Who signed, and the merchant's number of the order or refund.
pub type WechatKey = (String, String);

/// The word in `trade_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TradeState {
    /// Not paid yet; also after a failed attempt, and after the last moment for payment.
    NotPay,
    /// Paid.
    Success,
    /// Paid, and a refund was asked for.
    Refund,
    /// Closed unpaid.
    Closed,
}

impl TradeState {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotPay => "NOTPAY",
            Self::Success => "SUCCESS",
            Self::Refund => "REFUND",
            Self::Closed => "CLOSED",
        }
    }

    /// Its text for people.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::NotPay => "订单未支付",
            Self::Success => "支付成功",
            Self::Refund => "转入退款",
            Self::Closed => "订单已关闭",
        }
    }
}

/// What one prepay call handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedPrepay {
    /// `prepay_id`, or what the address or the code carries.
    pub value: String,
    /// When. Unit: Unix seconds.
    pub issued_s: i64,
}

/// How the payer paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WechatTransaction {
    /// The platform's number.
    pub transaction_id: String,
    /// When. Unit: Unix seconds.
    pub success_s: i64,
    /// What the payer paid after coupons. Unit: fen.
    pub payer_total_fen: i64,
    /// The payer under the order's app.
    pub openid: String,
}

/// One order.
#[derive(Clone)]
pub struct WechatOrder {
    /// The order as first asked for.
    pub terms: WechatOrderTerms,
    /// What it is now.
    pub state: TradeState,
    /// When it was first asked for. Unit: Unix seconds.
    pub created_s: i64,
    /// The last moment for payment. Unit: Unix seconds.
    pub payable_until_s: i64,
    /// What was handed out, the newest last.
    pub issued: Vec<IssuedPrepay>,
    /// The payment, once there is one.
    pub transaction: Option<WechatTransaction>,
    /// When the last refund was taken. Unit: Unix seconds.
    pub last_refund_s: Option<i64>,
    /// Queries of this order.
    pub queries: u32,
    /// Close calls of this order.
    pub closes: u32,
    /// The payer's failed attempts.
    pub failures: u32,
    /// Notifications sent for the payment.
    pub notified: u32,
    /// Of these, acknowledged.
    pub acknowledged: u32,
}

impl WechatOrder {
    /// Whether what was handed out under this value can still be used to pay.
    fn is_usable(&self, value: &str, now_s: i64) -> bool {
        let life_s = match self.terms.product {
            WechatProduct::H5 => H5_LIFE_S,
            WechatProduct::Jsapi | WechatProduct::App | WechatProduct::Native => PREPAY_LIFE_S,
        };
        let is_newest = self.issued.last().is_some_and(|it| it.value == value);
        let newest_only = self.terms.product == WechatProduct::Native;
        let mut issued = self.issued.iter().filter(|it| it.value == value);
        issued.any(|it| now_s < it.issued_s.saturating_add(life_s)) && (is_newest || !newest_only)
    }
}

/// Why an order was not placed, or not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderRejection {
    /// The number is in use with other content.
    OtherContent,
    Paid,
    Closed,
    /// After the last moment for payment.
    Expired,
    Unknown,
}

/// What came of a payer's attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayingOutcome {
    /// Paid now.
    Paid,
    /// The payer gave up or had no success; the order is as before.
    Failed,
    /// No order has this.
    Unknown,
    /// The address, code or `prepay_id` is too old.
    Expired,
    /// The order is in this state, or past its last moment.
    NotPayable(TradeState),
}

/// The books.
#[derive(Clone, Default)]
pub struct WechatBook {
    orders: BTreeMap<WechatKey, WechatOrder>,
    refunds: BTreeMap<WechatKey, WechatRefund>,
    /// Calls whose signature was right, whatever became of them.
    pub calls: u64,
    /// Calls refused for headers or signature.
    pub refused: u64,
}

impl WechatBook {
    /// Every order, by signer and number.
    pub fn orders(&self) -> impl Iterator<Item = &WechatOrder> {
        self.orders.values()
    }

    /// The order of this number, whoever signed it.
    pub fn order(&self, out_trade_no: &str) -> Option<&WechatOrder> {
        self.orders()
            .find(|order| order.terms.out_trade_no == out_trade_no)
    }

    /// Every refund, by signer and number.
    pub fn refunds(&self) -> impl Iterator<Item = &WechatRefund> {
        self.refunds.values()
    }

    /// The refund of this number, whoever signed it.
    pub fn refund(&self, out_refund_no: &str) -> Option<&WechatRefund> {
        self.refunds()
            .find(|refund| refund.out_refund_no == out_refund_no)
    }

    /// What was taken from payers. Unit: fen of the orders.
    pub fn taken_fen(&self) -> i64 {
        let paid = self.orders().filter(|order| order.transaction.is_some());
        paid.fold(0, |sum, order| sum.saturating_add(order.terms.total_fen))
    }

    pub(super) fn find(&self, key: &WechatKey) -> Option<&WechatOrder> {
        self.orders.get(key)
    }

    pub(super) fn by_transaction(&self, mchid: &str, id: &str) -> Option<&WechatOrder> {
        self.orders().find(|order| {
            let known = order.transaction.as_ref();
            order.terms.mchid == mchid && known.is_some_and(|it| it.transaction_id == id)
        })
    }

    /// The order that handed out this value.
    pub(super) fn by_issued(&self, value: &str) -> Option<&WechatOrder> {
        self.orders()
            .find(|order| order.issued.iter().any(|it| it.value == value))
    }

    /// Places an order, or repeats an equal one with a new value.
    pub(super) fn place(
        &mut self,
        terms: &WechatOrderTerms,
        value: &str,
        now_s: i64,
    ) -> Result<(), OrderRejection> {
        let issued = IssuedPrepay {
            value: value.to_owned(),
            issued_s: now_s,
        };
        let Some(order) = self.orders.get_mut(&terms.key()) else {
            let order = WechatOrder {
                terms: terms.clone(),
                state: TradeState::NotPay,
                created_s: now_s,
                payable_until_s: terms.payable_until_s(now_s),
                issued: vec![issued],
                transaction: None,
                last_refund_s: None,
                queries: 0,
                closes: 0,
                failures: 0,
                notified: 0,
                acknowledged: 0,
            };
            self.orders.insert(terms.key(), order);
            return Ok(());
        };
        let is_equal = order.terms.body == terms.body && order.terms.product == terms.product;
        match order.state {
            TradeState::Success | TradeState::Refund => Err(OrderRejection::Paid),
            TradeState::Closed => Err(OrderRejection::Closed),
            TradeState::NotPay if !is_equal => Err(OrderRejection::OtherContent),
            TradeState::NotPay if now_s >= order.payable_until_s => Err(OrderRejection::Expired),
            TradeState::NotPay => {
                order.issued.push(issued);
                Ok(())
            }
        }
    }

    pub(super) fn count_query(&mut self, key: &WechatKey) {
        if let Some(order) = self.orders.get_mut(key) {
            order.queries = order.queries.saturating_add(1);
        }
    }

    /// Closes an order; closing again changes nothing.
    pub(super) fn close(&mut self, key: &WechatKey) -> Result<(), OrderRejection> {
        let order = self.orders.get_mut(key).ok_or(OrderRejection::Unknown)?;
        order.closes = order.closes.saturating_add(1);
        match order.state {
            TradeState::Success | TradeState::Refund => Err(OrderRejection::Paid),
            TradeState::NotPay | TradeState::Closed => {
                order.state = TradeState::Closed;
                Ok(())
            }
        }
    }

    /// The payer pays with a value that was handed out.
    pub(super) fn pay(&mut self, value: &str, by: WechatTransaction) -> PayingOutcome {
        let now_s = by.success_s;
        let found = self.orders.values_mut();
        let mut found = found.filter(|order| order.issued.iter().any(|it| it.value == value));
        let Some(order) = found.next() else {
            return PayingOutcome::Unknown;
        };
        if order.state != TradeState::NotPay || now_s >= order.payable_until_s {
            return PayingOutcome::NotPayable(order.state);
        }
        if !order.is_usable(value, now_s) {
            return PayingOutcome::Expired;
        }
        order.state = TradeState::Success;
        order.transaction = Some(by);
        PayingOutcome::Paid
    }

    /// What a payer would meet who opens this value now.
    pub(super) fn opened(&self, value: &str, now_s: i64) -> Result<&WechatOrder, PayingOutcome> {
        let order = self.by_issued(value).ok_or(PayingOutcome::Unknown)?;
        if order.state != TradeState::NotPay || now_s >= order.payable_until_s {
            return Err(PayingOutcome::NotPayable(order.state));
        }
        if !order.is_usable(value, now_s) {
            return Err(PayingOutcome::Expired);
        }
        Ok(order)
    }

    pub(super) fn fail(&mut self, key: &WechatKey) {
        if let Some(order) = self.orders.get_mut(key) {
            order.failures = order.failures.saturating_add(1);
        }
    }

    pub(super) fn count_notification(&mut self, key: &WechatKey, acknowledged: bool) {
        if let Some(order) = self.orders.get_mut(key) {
            order.notified = order.notified.saturating_add(1);
            order.acknowledged = order.acknowledged.saturating_add(u32::from(acknowledged));
        }
    }
}
