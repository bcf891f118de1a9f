//! Refunds in the platform's books: what is taken, what is refused, and how a refund goes on
//! (section 11).

use serde_json::Value;

use crate::sandbox::wechatpay::book::{TradeState, WechatBook, WechatKey, WechatOrder};

/// Refunds of one order.
const REFUNDS_MAX: usize = 50;
/// How long after the payment. Unit: seconds.
const REFUNDABLE_S: i64 = 365 * 86_400;

/// The word in `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WechatRefundState {
    /// Taken.
    Processing,
    /// The money is back.
    Success,
    /// Ended without moving money; its sum is free again.
    Closed,
    /// The money did not reach the payer.
    Abnormal,
}

impl WechatRefundState {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Processing => "PROCESSING",
            Self::Success => "SUCCESS",
            Self::Closed => "CLOSED",
            Self::Abnormal => "ABNORMAL",
        }
    }

    /// The state of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        let mut all = [
            Self::Processing,
            Self::Success,
            Self::Closed,
            Self::Abnormal,
        ]
        .into_iter();
        all.find(|state| state.word() == word)
    }

    /// Whether a refund can go on from here to there.
    fn leads_to(self, next: Self) -> bool {
        match self {
            Self::Processing => next != Self::Processing,
            Self::Abnormal => next == Self::Success || next == Self::Processing,
            Self::Success | Self::Closed => false,
        }
    }
}

/// One refund.
#[derive(Debug, Clone)]
pub struct WechatRefund {
    /// The merchant's number.
    pub out_refund_no: String,
    /// The platform's number.
    pub refund_id: String,
    /// The order.
    pub order: WechatKey,
    /// The sum. Unit: fen.
    pub refund_fen: i64,
    /// What it is now.
    pub state: WechatRefundState,
    /// When it was taken. Unit: Unix seconds.
    pub created_s: i64,
    /// When the money was back. Unit: Unix seconds.
    pub success_s: Option<i64>,
    /// Where its end is notified.
    pub notify_url: Option<String>,
    /// `AVAILABLE` or `UNSETTLED`.
    pub funds_account: Option<String>,
    /// Apply calls of this number.
    pub asks: u32,
    /// Notifications sent.
    pub notified: u32,
    /// Of these, acknowledged.
    pub acknowledged: u32,
    /// The whole request: a repeat must be equal.
    pub(in crate::sandbox::wechatpay) body: Value,
}

/// A checked refund request.
pub(in crate::sandbox::wechatpay) struct WechatRefundTerms {
    pub(in crate::sandbox::wechatpay) mchid: String,
    pub(in crate::sandbox::wechatpay) sub_mchid: Option<String>,
    pub(in crate::sandbox::wechatpay) out_trade_no: Option<String>,
    pub(in crate::sandbox::wechatpay) transaction_id: Option<String>,
    pub(in crate::sandbox::wechatpay) out_refund_no: String,
    pub(in crate::sandbox::wechatpay) refund_fen: i64,
    pub(in crate::sandbox::wechatpay) total_fen: i64,
    pub(in crate::sandbox::wechatpay) notify_url: Option<String>,
    pub(in crate::sandbox::wechatpay) funds_account: Option<String>,
    pub(in crate::sandbox::wechatpay) body: Value,
}

/// Why a refund was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox::wechatpay) enum WechatRefundRejection {
    OrderUnknown,
    OrderOfAnother,
    NotPaid,
    OtherContent,
    WrongTotal,
    OverRemaining {
        left_fen: i64,
    },
    TooMany,
    TooLate,
    /// Less than a minute after the refund before.
    TooSoon,
}

impl WechatBook {
    /// What of an order is not refunded, nor being refunded. Unit: fen.
    pub fn refundable_fen(&self, order: &WechatOrder) -> i64 {
        let key = order.terms.key();
        let refunds = self.refunds().filter(|refund| refund.order == key);
        let counted = refunds.filter(|refund| refund.state != WechatRefundState::Closed);
        counted.fold(order.terms.total_fen, |left, refund| {
            left.saturating_sub(refund.refund_fen)
        })
    }

    /// Takes a refund; an equal repeat finds the one before. `gap_s` is the time between two
    /// refunds of one order.
    pub(in crate::sandbox::wechatpay) fn take_refund(
        &mut self,
        asked: WechatRefundTerms,
        refund_id: String,
        (now_s, gap_s): (i64, i64),
    ) -> Result<WechatRefund, WechatRefundRejection> {
        let key = (asked.mchid.clone(), asked.out_refund_no.clone());
        if let Some(known) = self.refunds.get_mut(&key) {
            known.asks = known.asks.saturating_add(1);
            let is_equal = known.body == asked.body;
            return is_equal
                .then(|| known.clone())
                .ok_or(WechatRefundRejection::OtherContent);
        }
        let order = self.refundable_order(&asked, (now_s, gap_s))?;
        let refund = WechatRefund {
            out_refund_no: asked.out_refund_no,
            refund_id,
            order: order.clone(),
            refund_fen: asked.refund_fen,
            state: WechatRefundState::Processing,
            created_s: now_s,
            success_s: None,
            notify_url: asked.notify_url,
            funds_account: asked.funds_account,
            asks: 1,
            notified: 0,
            acknowledged: 0,
            body: asked.body,
        };
        if let Some(order) = self.orders.get_mut(&order) {
            order.state = TradeState::Refund;
            order.last_refund_s = Some(now_s);
        }
        self.refunds.insert(key, refund.clone());
        Ok(refund)
    }

    fn refundable_order(
        &self,
        asked: &WechatRefundTerms,
        (now_s, gap_s): (i64, i64),
    ) -> Result<WechatKey, WechatRefundRejection> {
        let order = match (&asked.transaction_id, &asked.out_trade_no) {
            (Some(id), _) => self.by_transaction(&asked.mchid, id),
            (None, Some(number)) => self.find(&(asked.mchid.clone(), number.clone())),
            (None, None) => None,
        };
        let order = order.ok_or(WechatRefundRejection::OrderUnknown)?;
        if order.terms.sub_mchid != asked.sub_mchid {
            return Err(WechatRefundRejection::OrderOfAnother);
        }
        let paid = order.transaction.as_ref();
        let paid = paid.ok_or(WechatRefundRejection::NotPaid)?;
        if order.terms.total_fen != asked.total_fen {
            return Err(WechatRefundRejection::WrongTotal);
        }
        if now_s > paid.success_s.saturating_add(REFUNDABLE_S) {
            return Err(WechatRefundRejection::TooLate);
        }
        let left_fen = self.refundable_fen(order);
        if asked.refund_fen > left_fen {
            return Err(WechatRefundRejection::OverRemaining { left_fen });
        }
        let key = order.terms.key();
        let refunds = self.refunds().filter(|refund| refund.order == key);
        let counted = refunds.filter(|refund| refund.state != WechatRefundState::Closed);
        if counted.count() >= REFUNDS_MAX {
            return Err(WechatRefundRejection::TooMany);
        }
        let next_s = order.last_refund_s.map(|last| last.saturating_add(gap_s));
        if next_s.is_some_and(|next| now_s < next) {
            return Err(WechatRefundRejection::TooSoon);
        }
        Ok(key)
    }

    pub(in crate::sandbox::wechatpay) fn find_refund(
        &self,
        key: &WechatKey,
    ) -> Option<&WechatRefund> {
        self.refunds.get(key)
    }

    /// A refund goes on; whether it did.
    pub(in crate::sandbox::wechatpay) fn move_refund(
        &mut self,
        key: &WechatKey,
        next: WechatRefundState,
        now_s: i64,
    ) -> bool {
        let Some(refund) = self.refunds.get_mut(key) else {
            return false;
        };
        if !refund.state.leads_to(next) {
            return false;
        }
        refund.state = next;
        refund.success_s = (next == WechatRefundState::Success).then_some(now_s);
        true
    }

    pub(in crate::sandbox::wechatpay) fn count_refund_notification(
        &mut self,
        key: &WechatKey,
        acknowledged: bool,
    ) {
        if let Some(refund) = self.refunds.get_mut(key) {
            refund.notified = refund.notified.saturating_add(1);
            refund.acknowledged = refund.acknowledged.saturating_add(u32::from(acknowledged));
        }
    }
}
