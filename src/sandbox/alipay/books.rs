//! The gateway's own books, in memory: offers that nobody acted on, trades, and who paid. All
//! rules of payments are here; no waiting, I/O or HTTP. Refunds have a file of their own.

pub(super) mod offers;
pub(super) mod refunds;

use std::collections::{BTreeMap, BTreeSet};

use crate::sandbox::alipay::books::offers::AlipayOffer;
use crate::sandbox::alipay::books::refunds::AlipayRefund;
use crate::sandbox::alipay::clock::{DAY_MS, compact};
use crate::sandbox::alipay::terms::AlipayTerms;

/// The seller's PID and the merchant's number: unique for each merchant.
pub type TradeKey = (String, String);

/// `trade_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlipayStatus {
    /// Created, unpaid.
    WaitBuyerPay,
    /// Paid, can be refunded.
    Success,
    /// Paid, can no longer be refunded.
    Finished,
    /// Unpaid and ended, or refunded in full.
    Closed,
}

impl AlipayStatus {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::WaitBuyerPay => "WAIT_BUYER_PAY",
            Self::Success => "TRADE_SUCCESS",
            Self::Finished => "TRADE_FINISHED",
            Self::Closed => "TRADE_CLOSED",
        }
    }
}

/// For whom a call acts.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "the names on the wire")]
pub(super) struct AlipayParty {
    /// The application that signed.
    pub(super) app_id: String,
    /// The merchant's application: the same, or that of `app_auth_token`.
    pub(super) auth_app_id: String,
    /// The merchant's PID.
    pub(super) seller_id: String,
}

/// One trade.
#[derive(Debug, Clone)]
pub struct AlipayTrade {
    /// The application that created it.
    pub app_id: String,
    /// The merchant's application.
    pub auth_app_id: String,
    /// The merchant's PID.
    pub seller_id: String,
    /// The gateway's number.
    pub trade_no: String,
    /// Its terms.
    pub terms: AlipayTerms,
    /// Its state.
    pub status: AlipayStatus,
    /// When the payer acted first. Unit: Unix milliseconds.
    pub created_ms: i64,
    /// When it is closed unpaid. Unit: Unix milliseconds.
    pub deadline_ms: i64,
    /// When it was paid. Unit: Unix milliseconds.
    pub paid_ms: Option<i64>,
    /// When it was closed. Unit: Unix milliseconds.
    pub closed_ms: Option<i64>,
    /// Where its notifications go, also those of refunds.
    pub notify_url: Option<String>,
    /// Its refunds, in the order of their calls.
    pub refunds: Vec<AlipayRefund>,
    /// The payer's failed attempts.
    pub failures: u32,
    /// Notifications sent.
    pub notices: u32,
    /// Notifications acknowledged.
    pub acknowledged: u32,
    /// Whether somebody waits for its deadline already.
    is_watched: bool,
}

impl AlipayTrade {
    pub(super) fn key(&self) -> TradeKey {
        (self.seller_id.clone(), self.terms.out_trade_no.clone())
    }

    fn expire(&mut self, now_ms: i64) {
        if self.status == AlipayStatus::WaitBuyerPay && now_ms >= self.deadline_ms {
            self.status = AlipayStatus::Closed;
            self.closed_ms = Some(self.deadline_ms);
        }
    }
}

/// What a payer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlipayAct {
    /// Logs in and pays.
    Pay,
    /// Logs in and does not pay yet: the trade exists from now on.
    Open,
    /// Logs in, and the payment fails.
    Fail,
}

impl AlipayAct {
    /// Parses the word of a page or of the control interface.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "pay" => Some(Self::Pay),
            "open" => Some(Self::Open),
            "fail" => Some(Self::Fail),
            _ => None,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlipayActed {
    /// The payment was taken now.
    Paid,
    /// The trade exists and waits.
    Waiting,
    /// The payment failed; the trade waits.
    Failed,
    /// Nothing was done, for this `sub_code`.
    Refused(&'static str),
}

/// The books.
#[derive(Debug, Clone, Default)]
pub struct AlipayBooks {
    trades: BTreeMap<TradeKey, AlipayTrade>,
    offers: BTreeMap<String, AlipayOffer>,
    codes_used: BTreeSet<String>,
    numbers: u32,
    /// Calls with a good signature, by method.
    pub calls: BTreeMap<String, u64>,
    /// Refusals in their order: method and `sub_code`.
    pub refusals: Vec<(String, String)>,
}

impl AlipayBooks {
    /// Every trade, by merchant and number.
    pub fn trades(&self) -> impl Iterator<Item = &AlipayTrade> {
        self.trades.values()
    }

    /// The trade of this merchant's number, of any merchant.
    pub fn trade(&self, out_trade_no: &str) -> Option<&AlipayTrade> {
        self.trades()
            .find(|trade| trade.terms.out_trade_no == out_trade_no)
    }

    /// Taken from payers and not given back. Unit: fen.
    pub fn balance_fen(&self) -> i64 {
        self.trades().fold(0_i64, |sum, trade| {
            let paid = trade.paid_ms.map_or(0, |_| trade.terms.total_fen);
            sum.saturating_add(paid)
                .saturating_sub(trade.refunded_fen())
        })
    }

    pub(super) fn count_call(&mut self, method: &str) {
        let count = self.calls.entry(method.to_owned()).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn count_refusal(&mut self, method: &str, sub_code: &str) {
        self.refusals.push((method.to_owned(), sub_code.to_owned()));
    }

    /// A number as the gateway assigns them: date, place, running number.
    fn next_number(&mut self, now_ms: i64) -> String {
        self.numbers = self.numbers.saturating_add(1);
        let date = compact(now_ms);
        let date = date.get(..8).unwrap_or_default();
        format!("{date}22001{:015}", self.numbers)
    }

    /// `notify_id` of a new event.
    pub(super) fn next_notice_id(&mut self, now_ms: i64) -> String {
        self.numbers = self.numbers.saturating_add(1);
        let moment = compact(now_ms);
        let (date, time) = moment.split_at_checked(8).unwrap_or_default();
        format!("{date}00222{time}{:015}", self.numbers)
    }

    /// Creates a trade, or finds the one with the same terms while it waits for the payer.
    pub(super) fn open(
        &mut self,
        party: &AlipayParty,
        terms: AlipayTerms,
        notify_url: Option<String>,
        now_ms: i64,
    ) -> Result<AlipayTrade, &'static str> {
        let key = (party.seller_id.clone(), terms.out_trade_no.clone());
        if let Some(trade) = self.trade_mut(&key, now_ms) {
            may_be_paid(trade, &terms)?;
            return Ok(trade.clone());
        }
        let trade = AlipayTrade {
            app_id: party.app_id.clone(),
            auth_app_id: party.auth_app_id.clone(),
            seller_id: party.seller_id.clone(),
            trade_no: self.next_number(now_ms),
            deadline_ms: terms.trade_deadline_ms(now_ms),
            terms,
            status: AlipayStatus::WaitBuyerPay,
            created_ms: now_ms,
            paid_ms: None,
            closed_ms: None,
            notify_url,
            refunds: Vec::new(),
            failures: 0,
            notices: 0,
            acknowledged: 0,
            is_watched: false,
        };
        self.trades.insert(key, trade.clone());
        Ok(trade)
    }

    /// A payer acts on a trade that exists. Money is taken once, and only while the trade waits.
    pub(super) fn act_on_trade(
        &mut self,
        key: &TradeKey,
        act: AlipayAct,
        now_ms: i64,
    ) -> AlipayActed {
        let Some(trade) = self.trade_mut(key, now_ms) else {
            return AlipayActed::Refused("ACQ.TRADE_NOT_EXIST");
        };
        match (trade.status, act) {
            (AlipayStatus::Success | AlipayStatus::Finished, _) => {
                AlipayActed::Refused("ACQ.TRADE_HAS_SUCCESS")
            }
            (AlipayStatus::Closed, _) => AlipayActed::Refused("ACQ.TRADE_HAS_CLOSE"),
            (AlipayStatus::WaitBuyerPay, AlipayAct::Open) => AlipayActed::Waiting,
            (AlipayStatus::WaitBuyerPay, AlipayAct::Fail) => {
                trade.failures = trade.failures.saturating_add(1);
                AlipayActed::Failed
            }
            (AlipayStatus::WaitBuyerPay, AlipayAct::Pay) => {
                trade.status = AlipayStatus::Success;
                trade.paid_ms = Some(now_ms);
                AlipayActed::Paid
            }
        }
    }

    /// Whether a payer's bar code is used for the first time; marks it as used.
    pub(super) fn use_code(&mut self, auth_code: &str) -> bool {
        self.codes_used.insert(auth_code.to_owned())
    }

    /// Closes a trade that waits for the payer.
    pub(super) fn close(
        &mut self,
        key: &TradeKey,
        now_ms: i64,
    ) -> Result<AlipayTrade, &'static str> {
        let trade = self.trade_mut(key, now_ms).ok_or("ACQ.TRADE_NOT_EXIST")?;
        match trade.status {
            AlipayStatus::WaitBuyerPay => {
                trade.status = AlipayStatus::Closed;
                trade.closed_ms = Some(now_ms);
                Ok(trade.clone())
            }
            AlipayStatus::Success | AlipayStatus::Finished => Err("ACQ.TRADE_STATUS_ERROR"),
            AlipayStatus::Closed => Err("ACQ.REASON_TRADE_STATUS_INVALID"),
        }
    }

    /// Ends the time in which a trade can be refunded.
    pub(super) fn finish(&mut self, key: &TradeKey) -> bool {
        match self.trades.get_mut(key) {
            Some(trade) if trade.status == AlipayStatus::Success => {
                trade.status = AlipayStatus::Finished;
                true
            }
            _ => false,
        }
    }

    /// The trade that a call names: by `trade_no`, or else by the merchant's number.
    pub(super) fn find(
        &self,
        seller_id: &str,
        out_trade_no: Option<&str>,
        trade_no: Option<&str>,
    ) -> Option<TradeKey> {
        let of_seller = || self.trades().filter(|trade| trade.seller_id == seller_id);
        let found = match (trade_no, out_trade_no) {
            (Some(number), _) => of_seller().find(|trade| trade.trade_no == number),
            (None, Some(number)) => of_seller().find(|trade| trade.terms.out_trade_no == number),
            (None, None) => None,
        };
        found.map(AlipayTrade::key)
    }

    /// A trade as it is now.
    pub(super) fn look(&mut self, key: &TradeKey, now_ms: i64) -> Option<AlipayTrade> {
        self.trade_mut(key, now_ms).map(|trade| trade.clone())
    }

    pub(super) fn trade_mut(&mut self, key: &TradeKey, now_ms: i64) -> Option<&mut AlipayTrade> {
        let trade = self.trades.get_mut(key)?;
        trade.expire(now_ms);
        Some(trade)
    }

    /// The deadline of a trade that waits, the first time it is asked for.
    pub(super) fn watch_deadline(&mut self, key: &TradeKey) -> Option<i64> {
        let trade = self.trades.get_mut(key)?;
        if trade.is_watched || trade.status != AlipayStatus::WaitBuyerPay {
            return None;
        }
        trade.is_watched = true;
        Some(trade.deadline_ms)
    }

    pub(super) fn count_notice(&mut self, key: &TradeKey, acknowledged: u32) {
        if let Some(trade) = self.trades.get_mut(key) {
            trade.notices = trade.notices.saturating_add(1);
            trade.acknowledged = trade.acknowledged.saturating_add(acknowledged);
        }
    }
}

/// Whether a call with these terms may lead to this trade's payment.
fn may_be_paid(trade: &AlipayTrade, terms: &AlipayTerms) -> Result<(), &'static str> {
    match trade.status {
        _ if trade.terms != *terms => Err("ACQ.CONTEXT_INCONSISTENT"),
        AlipayStatus::Success | AlipayStatus::Finished => Err("ACQ.TRADE_HAS_SUCCESS"),
        AlipayStatus::Closed if trade.paid_ms.is_some() => Err("ACQ.TRADE_HAS_SUCCESS"),
        AlipayStatus::Closed => Err("ACQ.TRADE_HAS_CLOSE"),
        AlipayStatus::WaitBuyerPay => Ok(()),
    }
}

/// How long after its creation a trade can be cancelled. Unit: milliseconds.
pub(super) const CANCEL_MS: i64 = DAY_MS;
