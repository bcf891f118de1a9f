//! Refunds in the gateway's books: one effect for each `out_request_no` of a trade, never more
//! than was paid, and at least three seconds between two refunds of one trade.

use crate::sandbox::alipay::books::{AlipayBooks, AlipayStatus, AlipayTrade, CANCEL_MS, TradeKey};

/// Between two refunds of one trade. Unit: milliseconds.
const GAP_MS: i64 = 3_000;
/// How long after its call a refund shows in a query. Unit: milliseconds.
const SHOWN_AFTER_MS: i64 = 10_000;

/// One refund.
#[derive(Debug, Clone)]
pub struct AlipayRefund {
    /// `out_request_no`.
    pub number: String,
    /// Unit: fen.
    pub fen: i64,
    /// `refund_reason`.
    pub reason: Option<String>,
    /// When it was asked for. Unit: Unix milliseconds.
    pub asked_ms: i64,
    /// When the money moved; `None` while it is pending. Unit: Unix milliseconds.
    pub moved_ms: Option<i64>,
}

impl AlipayTrade {
    /// Given back, in all. Unit: fen.
    pub fn refunded_fen(&self) -> i64 {
        self.refunds
            .iter()
            .filter(|refund| refund.moved_ms.is_some())
            .fold(0, |sum, refund| sum.saturating_add(refund.fen))
    }

    /// What can still be asked for. Unit: fen.
    fn left_fen(&self) -> i64 {
        self.refunds
            .iter()
            .fold(self.terms.total_fen, |left, refund| {
                left.saturating_sub(refund.fen)
            })
    }

    fn end_if_returned(&mut self, now_ms: i64) {
        if self.refunded_fen() == self.terms.total_fen {
            self.status = AlipayStatus::Closed;
            self.closed_ms = Some(now_ms);
        }
    }
}

/// What a refund call asks for.
pub(in crate::sandbox::alipay) struct RefundAsked {
    pub(in crate::sandbox::alipay) number: Option<String>,
    pub(in crate::sandbox::alipay) fen: i64,
    pub(in crate::sandbox::alipay) reason: Option<String>,
}

/// Whether a new refund moves money at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox::alipay) enum RefundPace {
    AtOnce,
    /// Booked, and completed when the control interface says so.
    Pending,
    /// Answered, and forgotten.
    Forgotten,
}

/// `fund_change`, and the trade after the call.
#[derive(Debug)]
pub(in crate::sandbox::alipay) struct Refunded {
    pub(in crate::sandbox::alipay) fund_change: &'static str,
    pub(in crate::sandbox::alipay) trade: AlipayTrade,
    pub(in crate::sandbox::alipay) number: String,
    /// When this refund's money moved. Unit: Unix milliseconds.
    pub(in crate::sandbox::alipay) moved_ms: Option<i64>,
}

/// What a cancel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox::alipay) enum CancelAction {
    Close,
    Refund,
    Nothing,
}

impl AlipayBooks {
    /// Refunds a trade, or repeats what was done under the same number.
    pub(in crate::sandbox::alipay) fn refund(
        &mut self,
        key: &TradeKey,
        asked: RefundAsked,
        pace: RefundPace,
        now_ms: i64,
    ) -> Result<Refunded, &'static str> {
        let trade = self.trade_mut(key, now_ms).ok_or("ACQ.TRADE_NOT_EXIST")?;
        let number = match asked.number {
            Some(number) => number,
            None if asked.fen == trade.terms.total_fen => trade.terms.out_trade_no.clone(),
            None => return Err("ACQ.REFUND_AMT_NOT_EQUAL_TOTAL"),
        };
        if let Some(earlier) = trade.refunds.iter().find(|refund| refund.number == number) {
            if earlier.fen != asked.fen {
                return Err("ACQ.DISCORDANT_REPEAT_REQUEST");
            }
            return Ok(Refunded {
                fund_change: "N",
                moved_ms: earlier.moved_ms,
                number,
                trade: trade.clone(),
            });
        }
        match trade.status {
            AlipayStatus::WaitBuyerPay => return Err("ACQ.TRADE_STATUS_ERROR"),
            AlipayStatus::Finished => return Err("ACQ.TRADE_HAS_FINISHED"),
            AlipayStatus::Closed if trade.paid_ms.is_none() => {
                return Err("ACQ.REASON_TRADE_STATUS_INVALID");
            }
            AlipayStatus::Closed | AlipayStatus::Success => (),
        }
        if asked.fen > trade.left_fen() {
            return Err("ACQ.REASON_TRADE_REFUND_FEE_ERR");
        }
        let last_ms = trade.refunds.iter().map(|refund| refund.asked_ms).max();
        if last_ms.is_some_and(|last_ms| now_ms < last_ms.saturating_add(GAP_MS)) {
            return Err("ACQ.TRADE_NOT_ALLOW_REFUND");
        }
        let moved_ms = (pace == RefundPace::AtOnce).then_some(now_ms);
        if pace != RefundPace::Forgotten {
            trade.refunds.push(AlipayRefund {
                number: number.clone(),
                fen: asked.fen,
                reason: asked.reason,
                asked_ms: now_ms,
                moved_ms,
            });
            trade.end_if_returned(now_ms);
        }
        Ok(Refunded {
            fund_change: if moved_ms.is_some() { "Y" } else { "N" },
            trade: trade.clone(),
            number,
            moved_ms,
        })
    }

    /// The refund of this number, if it shows in a query yet.
    pub(in crate::sandbox::alipay) fn refund_shown(
        trade: &AlipayTrade,
        number: &str,
        now_ms: i64,
    ) -> Option<AlipayRefund> {
        let found = trade.refunds.iter().find(|refund| refund.number == number);
        let shown = |refund: &&AlipayRefund| {
            refund.moved_ms.is_some() && now_ms >= refund.asked_ms.saturating_add(SHOWN_AFTER_MS)
        };
        found.filter(shown).cloned()
    }

    /// Completes a pending refund.
    pub(in crate::sandbox::alipay) fn complete_refund(
        &mut self,
        key: &TradeKey,
        number: &str,
        now_ms: i64,
    ) -> Option<AlipayTrade> {
        let trade = self.trade_mut(key, now_ms)?;
        let pending = trade
            .refunds
            .iter_mut()
            .find(|refund| refund.number == number && refund.moved_ms.is_none());
        pending?.moved_ms = Some(now_ms);
        trade.end_if_returned(now_ms);
        Some(trade.clone())
    }

    /// Closes an unpaid trade, gives a paid one back in full.
    pub(in crate::sandbox::alipay) fn cancel(
        &mut self,
        key: &TradeKey,
        now_ms: i64,
    ) -> Result<(CancelAction, AlipayTrade), &'static str> {
        let trade = self.trade_mut(key, now_ms).ok_or("ACQ.TRADE_NOT_EXIST")?;
        let is_late = now_ms >= trade.created_ms.saturating_add(CANCEL_MS);
        let action = match trade.status {
            AlipayStatus::Closed => CancelAction::Nothing,
            _ if is_late => return Err("ACQ.REASON_TRADE_STATUS_INVALID"),
            AlipayStatus::Finished => return Err("ACQ.TRADE_HAS_FINISHED"),
            AlipayStatus::WaitBuyerPay => {
                trade.status = AlipayStatus::Closed;
                trade.closed_ms = Some(now_ms);
                CancelAction::Close
            }
            AlipayStatus::Success => {
                let refund = AlipayRefund {
                    number: trade.trade_no.clone(),
                    fen: trade.left_fen(),
                    reason: None,
                    asked_ms: now_ms,
                    moved_ms: Some(now_ms),
                };
                trade.refunds.push(refund);
                trade.end_if_returned(now_ms);
                CancelAction::Refund
            }
        };
        Ok((action, trade.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::alipay::biz::BizContent;
    use crate::sandbox::alipay::books::{AlipayAct, AlipayActed, AlipayParty};
    use crate::sandbox::alipay::terms::{AlipayProduct, AlipayTerms};

    fn paid() -> (AlipayBooks, TradeKey) {
        let biz = r#"{"out_trade_no":"A1","total_amount":"10.01","subject":"x"}"#;
        let biz = BizContent::parse(biz, "ACQ.INVALID_PARAMETER").unwrap();
        let terms = AlipayTerms::read(AlipayProduct::Precreate, &biz, "2088", 0).unwrap();
        let party = AlipayParty {
            app_id: "1".to_owned(),
            auth_app_id: "1".to_owned(),
            seller_id: "2088".to_owned(),
        };
        let mut books = AlipayBooks::default();
        let trade = books.open(&party, terms, None, 0).unwrap();
        let key = trade.key();
        assert_eq!(
            books.act_on_trade(&key, AlipayAct::Pay, 1),
            AlipayActed::Paid
        );
        (books, key)
    }

    fn asked(number: &str, fen: i64) -> RefundAsked {
        RefundAsked {
            number: (!number.is_empty()).then(|| number.to_owned()),
            fen,
            reason: None,
        }
    }

    /// One number moves money once; another amount under it is a contradiction.
    #[test]
    fn a_refund_number_moves_money_once() {
        let (mut books, key) = paid();
        let mut refund = |number, fen, now_ms| {
            books.refund(&key, asked(number, fen), RefundPace::AtOnce, now_ms)
        };
        assert_eq!(
            refund("", 301, 10).unwrap_err(),
            "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL"
        );
        assert_eq!(refund("R1", 301, 10).unwrap().fund_change, "Y");
        assert_eq!(refund("R1", 301, 11).unwrap().fund_change, "N");
        assert_eq!(
            refund("R1", 302, 12).unwrap_err(),
            "ACQ.DISCORDANT_REPEAT_REQUEST"
        );
        assert_eq!(
            refund("R2", 1, 3_009).unwrap_err(),
            "ACQ.TRADE_NOT_ALLOW_REFUND"
        );
        assert_eq!(
            refund("R2", 701, 3_010).unwrap_err(),
            "ACQ.REASON_TRADE_REFUND_FEE_ERR"
        );
        let rest = refund("R2", 700, 3_010).unwrap();
        assert_eq!(rest.trade.refunded_fen(), 1_001);
        assert_eq!(rest.trade.status, AlipayStatus::Closed);
        assert_eq!(books.balance_fen(), 0);
    }

    /// A refund that was forgotten can be sent again, and moves money then.
    #[test]
    fn a_forgotten_refund_can_be_sent_again() {
        let (mut books, key) = paid();
        let mut refund = |pace, now_ms| books.refund(&key, asked("R1", 301), pace, now_ms);
        assert_eq!(refund(RefundPace::Forgotten, 10).unwrap().fund_change, "N");
        let trade = refund(RefundPace::Pending, 11).unwrap().trade;
        assert_eq!(trade.refunded_fen(), 0);
        assert!(AlipayBooks::refund_shown(&trade, "R1", 90_000).is_none());
        let trade = books.complete_refund(&key, "R1", 20).unwrap();
        assert_eq!(trade.refunded_fen(), 301);
        assert!(AlipayBooks::refund_shown(&trade, "R1", 10_010).is_none());
        assert!(AlipayBooks::refund_shown(&trade, "R1", 10_011).is_some());
    }

    /// A cancel gives a paid trade back, within a day.
    #[test]
    fn a_cancel_returns_what_was_paid() {
        let (mut books, key) = paid();
        assert!(books.cancel(&key, CANCEL_MS).is_err());
        let (action, trade) = books.cancel(&key, 9).unwrap();
        assert_eq!(
            (action, trade.refunded_fen()),
            (CancelAction::Refund, 1_001)
        );
        assert_eq!(books.cancel(&key, 10).unwrap().0, CancelAction::Nothing);
    }
}
