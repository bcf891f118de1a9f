//! UnionPay's books, in memory: payments asked for and taken, and what was notified. The rules for
//! payments are here, those for refunds in `refunds.rs`; no waiting, I/O or HTTP.

use std::collections::BTreeMap;

use crate::sandbox::unionpay::answer::UnionPayRejection;
use crate::sandbox::unionpay::clock::{beijing, parse_beijing, settlement_day};
use crate::sandbox::unionpay::form::UnionPayFields;
use crate::sandbox::unionpay::request::UnionPayCall;

/// How long a payer may pay if the request does not say. Unit: seconds.
const LIFETIME_S: i64 = 15 * 60;
/// The same for a code that the payer scans.
const QR_LIFETIME_S: i64 = 3 * 60;
/// Where the numbers of trace and query begin.
const FIRST_TRACE_NO: u32 = 123_456;
const FIRST_QUERY_NO: u32 = 1_234_568;

/// Merchant, order number and day: an order number is unique for a merchant and day.
pub type UnionPayKey = (String, String, String);

/// State of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnionPayState {
    /// Waits for the payer, or is being carried out.
    Open,
    /// Money has moved.
    Succeeded,
    /// No money will move.
    Failed,
}

/// What a transaction got when its money moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnionPayReceipt {
    /// UnionPay's number.
    pub query_id: String,
    /// Six digits.
    pub trace_no: String,
    /// Unit: Unix seconds.
    pub at_s: i64,
    /// The settlement day, `YYYYMMDD`.
    pub day: String,
    /// What is settled; below the amount if the payer had a discount. Unit: fen.
    pub settle_fen: i64,
}

/// A payment, refund or revoke.
#[derive(Debug, Clone)]
pub struct UnionPayTransaction {
    /// The call that made it.
    pub call: UnionPayCall,
    /// The merchant.
    pub mer_id: String,
    /// The merchant's number.
    pub order_id: String,
    /// The time in its request.
    pub txn_time: String,
    /// Unit: fen.
    pub amount_fen: i64,
    /// Its state.
    pub state: UnionPayState,
    /// What a query answers as `origRespCode`.
    pub code: &'static str,
    /// Opens the page, or is the `tn` of the SDK; empty for what no payer sees.
    pub token: String,
    /// Unit: Unix seconds.
    pub pay_until_s: i64,
    /// Once money has moved.
    pub receipt: Option<UnionPayReceipt>,
    /// Of a refund or revoke: the payment.
    pub of: Option<UnionPayKey>,
    /// Whether it was revoked or reversed.
    pub is_cancelled: bool,
    /// Queries answered.
    pub queries: u32,
    /// Attempts of the payer that failed.
    pub failures: u32,
    /// Notifications sent.
    pub notifications: u32,
    /// Notifications acknowledged.
    pub acknowledged: u32,
    /// The request without certificate and signature, in the order of the names.
    pub(super) request: UnionPayFields,
}

impl UnionPayTransaction {
    /// Its key.
    pub fn key(&self) -> UnionPayKey {
        key_of(&self.mer_id, &self.order_id, &self.txn_time)
    }

    fn expire(&mut self, now_s: i64) {
        let is_waiting = self.call.is_payment() && self.state == UnionPayState::Open;
        if is_waiting && now_s > self.pay_until_s {
            self.state = UnionPayState::Failed;
            if self.failures == 0 {
                self.code = "69";
            }
        }
    }
}

fn key_of(mer_id: &str, order_id: &str, txn_time: &str) -> UnionPayKey {
    let day = txn_time.get(..8).unwrap_or_default();
    (mer_id.to_owned(), order_id.to_owned(), day.to_owned())
}

/// Outcome of a payer's attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnionPayPayerAttempt {
    /// The money was taken.
    Taken,
    /// The transaction was already in this state.
    Not(UnionPayState),
    /// No such transaction.
    Unknown,
}

/// Outcome of a request that books something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnionPayBooking {
    /// New.
    Booked,
    /// The same browser's request as before, and the payer can still pay.
    Again,
}

/// The books.
#[derive(Debug, Clone, Default)]
pub struct UnionPayBook {
    pub(super) transactions: BTreeMap<UnionPayKey, UnionPayTransaction>,
    moved: u32,
    /// Calls with a verified signature, regardless of their outcome.
    pub calls: u64,
}

impl UnionPayBook {
    /// Every transaction.
    pub fn transactions(&self) -> impl Iterator<Item = &UnionPayTransaction> {
        self.transactions.values()
    }

    /// The transaction of this number, of any merchant and day.
    pub fn transaction(&self, order_id: &str) -> Option<&UnionPayTransaction> {
        self.transactions().find(|one| one.order_id == order_id)
    }

    /// The total taken from payers. Unit: fen.
    pub fn taken_fen(&self) -> i64 {
        self.sum(|one| one.call.is_payment())
    }

    /// The total returned by refunds, revokes and reversals. Unit: fen.
    pub fn returned_fen(&self) -> i64 {
        let back = self.sum(|one| !one.call.is_payment());
        let reversed = self.sum(|one| one.call == UnionPayCall::Barcode && one.code == "01");
        back.saturating_add(reversed)
    }

    fn sum(&self, of: impl Fn(&UnionPayTransaction) -> bool) -> i64 {
        let moved = |one: &&UnionPayTransaction| one.receipt.is_some() && of(one);
        self.transactions()
            .filter(moved)
            .fold(0, |sum, one| sum.saturating_add(one.amount_fen))
    }

    /// The transaction of this page token or `tn`.
    pub(super) fn of_token(&mut self, token: &str, now_s: i64) -> Option<UnionPayTransaction> {
        let mut all = self.transactions.values_mut();
        let found = all.find(|one| !token.is_empty() && one.token == token)?;
        found.expire(now_s);
        // The payer has scanned the code.
        if found.call == UnionPayCall::Qr && found.code == "34" {
            found.code = "05";
        }
        Some(found.clone())
    }

    pub(super) fn look(&self, key: &UnionPayKey) -> Option<&UnionPayTransaction> {
        self.transactions.get(key)
    }

    /// Whether a request of this number would be refused as a repeat. Only the browser's request may
    /// come again, unchanged.
    pub(super) fn check_new(
        &self,
        call: UnionPayCall,
        request: &UnionPayFields,
    ) -> Result<UnionPayBooking, UnionPayRejection> {
        let key = key_of_request(request);
        let Some(there) = self.transactions.get(&key) else {
            return Ok(UnionPayBooking::Booked);
        };
        let is_same = call == UnionPayCall::Front && there.request == content(request);
        if is_same && there.state == UnionPayState::Open {
            return Ok(UnionPayBooking::Again);
        }
        Err(UnionPayRejection::of("12"))
    }

    /// Books a transaction. The caller has checked that it is new.
    pub(super) fn book(
        &mut self,
        call: UnionPayCall,
        request: &UnionPayFields,
        token: String,
        now_s: i64,
    ) -> UnionPayKey {
        let is_qr = call == UnionPayCall::Qr;
        let lifetime_s = if is_qr { QR_LIFETIME_S } else { LIFETIME_S };
        let pay_until_s = parse_beijing(request.text("payTimeout"))
            .unwrap_or_else(|| now_s.saturating_add(lifetime_s));
        let key = key_of_request(request);
        let transaction = UnionPayTransaction {
            call,
            mer_id: request.text("merId").to_owned(),
            order_id: request.text("orderId").to_owned(),
            txn_time: request.text("txnTime").to_owned(),
            amount_fen: request.text("txnAmt").parse().unwrap_or_default(),
            state: UnionPayState::Open,
            code: if is_qr { "34" } else { "05" },
            token,
            pay_until_s,
            receipt: None,
            of: None,
            is_cancelled: false,
            queries: 0,
            failures: 0,
            notifications: 0,
            acknowledged: 0,
            request: content(request),
        };
        self.transactions.insert(key.clone(), transaction);
        key
    }

    /// A query names the time of the transaction that it asks about, and the same access.
    pub(super) fn query(
        &mut self,
        request: &UnionPayFields,
        now_s: i64,
    ) -> Result<UnionPayTransaction, UnionPayRejection> {
        let found = self.transactions.get_mut(&key_of_request(request));
        let found = found
            .filter(|one| one.txn_time == request.text("txnTime"))
            .ok_or(UnionPayRejection::of("34"))?;
        if found.request.text("accessType") != request.text("accessType") {
            return Err(UnionPayRejection::at("36", "accessType"));
        }
        found.queries = found.queries.saturating_add(1);
        found.expire(now_s);
        Ok(found.clone())
    }

    /// Takes a payment once, while it is open; `discount_fen` is paid by somebody else.
    pub(super) fn pay(
        &mut self,
        key: &UnionPayKey,
        now_s: i64,
        discount_fen: i64,
    ) -> UnionPayPayerAttempt {
        let Some(found) = self.transactions.get_mut(key) else {
            return UnionPayPayerAttempt::Unknown;
        };
        found.expire(now_s);
        if found.state != UnionPayState::Open {
            return UnionPayPayerAttempt::Not(found.state);
        }
        self.succeed(key, now_s, discount_fen);
        UnionPayPayerAttempt::Taken
    }

    /// The payer's attempt failed with this code; another one may follow.
    pub(super) fn fail_attempt(&mut self, key: &UnionPayKey, code: &'static str) {
        if let Some(found) = self.transactions.get_mut(key)
            && found.state == UnionPayState::Open
        {
            found.failures = found.failures.saturating_add(1);
            found.code = code;
        }
    }

    /// Money moves: the transaction gets its numbers.
    pub(super) fn succeed(&mut self, key: &UnionPayKey, now_s: i64, discount_fen: i64) {
        let (trace, query) = (
            FIRST_TRACE_NO.saturating_add(self.moved) % 1_000_000,
            FIRST_QUERY_NO.saturating_add(self.moved) % 10_000_000,
        );
        let Some(found) = self.transactions.get_mut(key) else {
            return;
        };
        self.moved = self.moved.saturating_add(1);
        let moment = beijing(now_s);
        let short = moment.get(2..).unwrap_or_default();
        found.state = UnionPayState::Succeeded;
        found.code = "00";
        found.receipt = Some(UnionPayReceipt {
            query_id: format!("44{short}{query:07}"),
            trace_no: format!("{trace:06}"),
            at_s: now_s,
            day: settlement_day(now_s),
            settle_fen: found.amount_fen.saturating_sub(discount_fen),
        });
    }

    /// A success has a defect.
    pub(super) fn mark_defect(&mut self, key: &UnionPayKey) {
        if let Some(found) = self.transactions.get_mut(key) {
            found.code = "A6";
        }
    }

    /// Ends it without money, if it is open.
    pub(super) fn fail(&mut self, key: &UnionPayKey, code: &'static str) {
        if let Some(found) = self.transactions.get_mut(key)
            && found.state == UnionPayState::Open
        {
            found.state = UnionPayState::Failed;
            found.code = code;
        }
    }

    pub(super) fn count_notification(&mut self, key: &UnionPayKey, acknowledged: bool) {
        if let Some(found) = self.transactions.get_mut(key) {
            found.notifications = found.notifications.saturating_add(1);
            let more = u32::from(acknowledged);
            found.acknowledged = found.acknowledged.saturating_add(more);
        }
    }
}

/// What two requests must agree in to be the same.
fn content(request: &UnionPayFields) -> UnionPayFields {
    request.without(&["certId", "signature"]).sorted()
}

pub(super) fn key_of_request(request: &UnionPayFields) -> UnionPayKey {
    let [mer_id, order_id, txn_time] =
        ["merId", "orderId", "txnTime"].map(|name| request.text(name));
    key_of(mer_id, order_id, txn_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MORNING_S: i64 = 1_767_225_600;

    fn request(more: &[(&str, &str)]) -> UnionPayFields {
        let mut fields = UnionPayFields::default();
        for (name, value) in [
            ("merId", "777290058110048"),
            ("orderId", "5GM20260101000001"),
            ("txnTime", "20260101080000"),
            ("txnAmt", "1001"),
            ("accessType", "0"),
            ("bizType", "000000"),
        ] {
            fields.set(name, value);
        }
        for (name, value) in more {
            fields.set(name, *value);
        }
        fields
    }

    fn booked(book: &mut UnionPayBook, call: UnionPayCall) -> UnionPayKey {
        let request = request(&[]);
        assert_eq!(book.check_new(call, &request), Ok(UnionPayBooking::Booked));
        book.book(call, &request, "token".to_owned(), MORNING_S)
    }

    /// Money is taken once, and the numbers are those of the document's example.
    #[test]
    fn money_is_taken_once() {
        let mut book = UnionPayBook::default();
        let key = booked(&mut book, UnionPayCall::Front);
        assert_eq!(book.pay(&key, MORNING_S, 0), UnionPayPayerAttempt::Taken);
        let again = book.pay(&key, MORNING_S, 0);
        assert_eq!(again, UnionPayPayerAttempt::Not(UnionPayState::Succeeded));
        assert_eq!(book.taken_fen(), 1_001);
        let receipt = book.look(&key).unwrap().receipt.clone().unwrap();
        assert_eq!(receipt.query_id, "442601010800001234568");
        assert_eq!((&*receipt.trace_no, &*receipt.day), ("123456", "20260101"));
    }

    /// Only the browser's request may come again, unchanged and while the payer can pay.
    #[test]
    fn a_repeat_is_a_duplicate_except_for_the_browser() {
        let mut book = UnionPayBook::default();
        let key = booked(&mut book, UnionPayCall::Front);
        let front = |book: &UnionPayBook, more: &[(&str, &str)]| {
            book.check_new(UnionPayCall::Front, &request(more))
        };
        let duplicate = Err(UnionPayRejection::of("12"));
        assert_eq!(
            front(&book, &[("signature", "x")]),
            Ok(UnionPayBooking::Again)
        );
        assert_eq!(front(&book, &[("txnAmt", "1002")]), duplicate);
        assert_eq!(front(&book, &[("txnTime", "20260101080001")]), duplicate);
        assert_eq!(book.check_new(UnionPayCall::App, &request(&[])), duplicate);
        book.pay(&key, MORNING_S, 0);
        assert_eq!(front(&book, &[]), duplicate);
    }

    /// A query names the time of the transaction itself.
    #[test]
    fn a_query_names_number_and_time() {
        let mut book = UnionPayBook::default();
        booked(&mut book, UnionPayCall::Qr);
        let code = |found: Result<UnionPayTransaction, UnionPayRejection>| {
            found.map_or_else(|r| r.code, |t| t.code)
        };
        assert_eq!(code(book.query(&request(&[]), MORNING_S)), "34");
        assert!(book.of_token("token", MORNING_S).is_some());
        assert_eq!(code(book.query(&request(&[]), MORNING_S)), "05");
        let other = request(&[("txnTime", "20260101080001")]);
        assert_eq!(code(book.query(&other, MORNING_S)), "34");
        let other = request(&[("accessType", "2")]);
        assert_eq!(code(book.query(&other, MORNING_S)), "36");
    }

    /// A failed attempt is not the end; the last moment to pay is.
    #[test]
    fn an_unpaid_payment_ends_at_its_last_moment() {
        let mut book = UnionPayBook::default();
        let key = booked(&mut book, UnionPayCall::Qr);
        book.fail_attempt(&key, "60");
        let last_s = MORNING_S + QR_LIFETIME_S;
        let at = |book: &mut UnionPayBook, now_s| {
            let found = book.query(&request(&[]), now_s).unwrap();
            (found.state, found.code)
        };
        assert_eq!(at(&mut book, last_s), (UnionPayState::Open, "60"));
        assert_eq!(at(&mut book, last_s + 1), (UnionPayState::Failed, "60"));
        let late = book.pay(&key, last_s + 1, 0);
        assert_eq!(late, UnionPayPayerAttempt::Not(UnionPayState::Failed));
    }
}
