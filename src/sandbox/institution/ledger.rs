//! A simulated institution's ledger, in memory: payments requested and taken, and callbacks sent.
//! All rules for payments are here; no waiting, I/O or HTTP.

use std::collections::{BTreeMap, BTreeSet};

use crate::sandbox::institution::refunds::SandboxRefund;
use crate::sandbox::institution::terms::PaymentTerms;

/// Used nonces remembered; a simulated institution gets fewer requests within five minutes.
const NONCES_MAX: usize = 1_000_000;

/// The merchant's account, and the merchant's number of the payment or refund (K2, K3).
pub type PaymentKey = (String, String);

/// State of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentState {
    /// Waits for the payer.
    Open,
    /// The payer has paid.
    Paid,
    /// Can no longer be paid.
    Closed,
}

impl PaymentState {
    /// The word in `orderStatus`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Paid => "PAID",
            Self::Closed => "CLOSED",
        }
    }
}

/// One payment.
#[derive(Debug, Clone)]
pub struct SandboxPayment {
    /// The terms, as requested.
    pub terms: PaymentTerms,
    /// The institution's own number (`payOrderNo`).
    pub institution_no: String,
    /// The token of its page and its SDK.
    pub token: String,
    /// Its state.
    pub state: PaymentState,
    /// When it was created. Unit: Unix seconds.
    pub created_s: i64,
    /// When it expires unpaid. Unit: Unix seconds.
    pub expires_s: i64,
    /// When the payer paid. Unit: Unix seconds.
    pub paid_s: Option<i64>,
    /// The same. Unit: Unix milliseconds.
    pub paid_ms: Option<i64>,
    /// When it was closed, by a call or by expiry. Unit: Unix seconds.
    pub closed_s: Option<i64>,
    /// Amount taken from the payer. Unit: cents.
    pub taken_cents: i64,
    /// Create calls of this number.
    pub creates: u32,
    /// Queries of this number.
    pub queries: u32,
    /// Close calls of this number.
    pub closes: u32,
    /// The payer's failed attempts.
    pub failures: u32,
    /// Callbacks sent.
    pub callbacks: u32,
    /// Callbacks that were acknowledged.
    pub acknowledged: u32,
}

impl SandboxPayment {
    /// The institution's fee, as notified: 0.38 per cent, not rounded. Unit: yuan.
    pub fn fee_text(&self) -> String {
        let millionths = self.taken_cents.saturating_mul(38);
        let (yuan, rest) = (millionths / 1_000_000, millionths % 1_000_000);
        let text = format!("{yuan}.{rest:06}");
        let (cents, places) = text.split_at(text.len().saturating_sub(4));
        format!("{cents}{}", places.trim_end_matches('0'))
    }

    fn expire(&mut self, now_s: i64) {
        if self.state == PaymentState::Open && now_s >= self.expires_s {
            self.state = PaymentState::Closed;
            self.closed_s = Some(self.expires_s);
        }
    }
}

/// The institution's own values of a new payment.
pub(super) struct NewPayment {
    pub(super) institution_no: String,
    pub(super) token: String,
    pub(super) now_s: i64,
}

/// Outcome of a create call.
#[derive(Debug)]
pub(super) enum CreateOutcome {
    /// Booked now, or booked before with the same content.
    Stands(Box<SandboxPayment>),
    /// The number is in use with other content.
    Conflict,
    /// The number was closed before it was first seen.
    ClosedBefore,
}

/// Outcome of a close call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CloseOutcome {
    Closed,
    Paid,
    Unknown,
}

/// Outcome of a payer's attempt to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayOutcome {
    /// The payment was taken now.
    Taken,
    /// Nothing was done: the payment is in this state.
    Not(PaymentState),
    Unknown,
}

/// The ledger.
#[derive(Debug, Clone, Default)]
pub struct InstitutionLedger {
    payments: BTreeMap<PaymentKey, SandboxPayment>,
    /// By account and the merchant's number of the refund; its rules are in `refunds/ledger.rs`.
    pub(super) refunds: BTreeMap<PaymentKey, SandboxRefund>,
    closed_unseen: BTreeSet<PaymentKey>,
    nonces: BTreeMap<String, i64>,
    /// Calls with a verified signature, regardless of their outcome.
    pub calls: u64,
}

impl InstitutionLedger {
    /// Every payment, by account and number.
    pub fn payments(&self) -> impl Iterator<Item = &SandboxPayment> {
        self.payments.values()
    }

    /// The payment of this number, in any account.
    pub fn payment(&self, number: &str) -> Option<&SandboxPayment> {
        self.payments()
            .find(|payment| payment.terms.merchant_order_no == number)
    }

    /// The total taken from payers. Unit: cents.
    pub fn taken_cents(&self) -> i64 {
        self.payments()
            .fold(0, |sum, payment| sum.saturating_add(payment.taken_cents))
    }

    pub(super) fn of_token(
        &mut self,
        token: &str,
        now_s: i64,
    ) -> Option<(PaymentKey, SandboxPayment)> {
        let (key, payment) = self
            .payments
            .iter_mut()
            .find(|(_, payment)| payment.token == token)?;
        payment.expire(now_s);
        Some((key.clone(), payment.clone()))
    }

    /// Whether this nonce is new; marks it as used (Q5).
    pub(super) fn spend_nonce(&mut self, nonce: &str, expires_s: i64, now_s: i64) -> bool {
        if self.nonces.len() >= NONCES_MAX {
            self.nonces.retain(|_, until_s| *until_s >= now_s);
        }
        self.calls = self.calls.saturating_add(1);
        self.nonces.insert(nonce.to_owned(), expires_s).is_none()
    }

    /// Whether a create call of this key would book something new.
    pub(super) fn is_new(&self, key: &PaymentKey) -> bool {
        !self.payments.contains_key(key)
    }

    /// One business effect per number (K2): repeating the same content returns the existing
    /// payment.
    pub(super) fn create(&mut self, terms: &PaymentTerms, fresh: NewPayment) -> CreateOutcome {
        let key = terms.key();
        if self.closed_unseen.contains(&key) {
            return CreateOutcome::ClosedBefore;
        }
        let NewPayment {
            institution_no,
            token,
            now_s,
        } = fresh;
        let payment = self.payments.entry(key).or_insert_with(|| SandboxPayment {
            terms: terms.clone(),
            institution_no,
            token,
            state: PaymentState::Open,
            created_s: now_s,
            expires_s: now_s.saturating_add(terms.lifetime_s()),
            paid_s: None,
            paid_ms: None,
            closed_s: None,
            taken_cents: 0,
            creates: 0,
            queries: 0,
            closes: 0,
            failures: 0,
            callbacks: 0,
            acknowledged: 0,
        });
        payment.creates = payment.creates.saturating_add(1);
        if payment.terms != *terms {
            return CreateOutcome::Conflict;
        }
        payment.expire(now_s);
        CreateOutcome::Stands(Box::new(payment.clone()))
    }

    pub(super) fn query(&mut self, key: &PaymentKey, now_s: i64) -> Option<SandboxPayment> {
        let payment = self.payments.get_mut(key)?;
        payment.queries = payment.queries.saturating_add(1);
        payment.expire(now_s);
        Some(payment.clone())
    }

    /// If `remembers`, a number not seen yet is remembered as closed (A5).
    pub(super) fn close(&mut self, key: &PaymentKey, now_s: i64, remembers: bool) -> CloseOutcome {
        let Some(payment) = self.payments.get_mut(key) else {
            if !remembers {
                return CloseOutcome::Unknown;
            }
            self.closed_unseen.insert(key.clone());
            return CloseOutcome::Closed;
        };
        payment.closes = payment.closes.saturating_add(1);
        payment.expire(now_s);
        match payment.state {
            PaymentState::Paid => CloseOutcome::Paid,
            PaymentState::Closed => CloseOutcome::Closed,
            PaymentState::Open => {
                payment.state = PaymentState::Closed;
                payment.closed_s = Some(now_s);
                CloseOutcome::Closed
            }
        }
    }

    /// Takes the payment once, and only while it is open.
    pub(super) fn pay(&mut self, key: &PaymentKey, now_ms: i64) -> PayOutcome {
        let Some(payment) = self.payments.get_mut(key) else {
            return PayOutcome::Unknown;
        };
        payment.expire(now_ms.div_euclid(1_000));
        match payment.state {
            PaymentState::Paid | PaymentState::Closed => PayOutcome::Not(payment.state),
            PaymentState::Open => {
                take(payment, now_ms);
                PayOutcome::Taken
            }
        }
    }

    /// Takes a payment although it is closed, once: for fault injection.
    pub(super) fn pay_after_close(&mut self, key: &PaymentKey, now_ms: i64) -> PayOutcome {
        match self.payments.get_mut(key) {
            None => PayOutcome::Unknown,
            Some(payment) if payment.state == PaymentState::Paid => {
                PayOutcome::Not(PaymentState::Paid)
            }
            Some(payment) => {
                take(payment, now_ms);
                PayOutcome::Taken
            }
        }
    }

    pub(super) fn fail(&mut self, key: &PaymentKey) {
        if let Some(payment) = self.payments.get_mut(key) {
            payment.failures = payment.failures.saturating_add(1);
        }
    }

    pub(super) fn count_payment_callback(&mut self, key: &PaymentKey, acknowledged: bool) {
        if let Some(payment) = self.payments.get_mut(key) {
            payment.callbacks = payment.callbacks.saturating_add(1);
            let more = u32::from(acknowledged);
            payment.acknowledged = payment.acknowledged.saturating_add(more);
        }
    }

    pub(super) fn look(&self, key: &PaymentKey) -> Option<&SandboxPayment> {
        self.payments.get(key)
    }
}

fn take(payment: &mut SandboxPayment, now_ms: i64) {
    payment.state = PaymentState::Paid;
    payment.paid_s = Some(now_ms.div_euclid(1_000));
    payment.paid_ms = Some(now_ms);
    payment.taken_cents = payment.taken_cents.saturating_add(payment.terms.sum_cents);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(number: &str, sum: &str) -> PaymentTerms {
        let body = serde_json::json!({
            "transactionType": "PASSWORD_PAY", "businessType": "WEBVIEW",
            "bankReturnUrl": "https://pay.example/v1/callbacks/harbour",
            "merchantOrderNo": number, "merchantName": "Tea House", "orderDate": "20260102",
            "orderAmount": sum, "merchantId": "acct", "mobileNo": "13800138000",
        });
        PaymentTerms::read(body.to_string().as_bytes()).unwrap()
    }

    fn fresh(now_s: i64) -> NewPayment {
        NewPayment {
            institution_no: format!("H{now_s}"),
            token: format!("token{now_s}"),
            now_s,
        }
    }

    fn booked(book: &mut InstitutionLedger) -> PaymentKey {
        let terms = terms("A1", "12.30");
        let key = terms.key();
        assert!(matches!(
            book.create(&terms, fresh(0)),
            CreateOutcome::Stands(_)
        ));
        key
    }

    /// K2
    #[test]
    fn an_equal_create_finds_the_same_payment() {
        let mut book = InstitutionLedger::default();
        booked(&mut book);
        let again = book.create(&terms("A1", "12.3"), fresh(9));
        let CreateOutcome::Stands(payment) = again else {
            panic!("{again:?}")
        };
        assert_eq!((payment.token.as_str(), payment.creates), ("token0", 2));
        let other = book.create(&terms("A1", "12.31"), fresh(9));
        assert!(matches!(other, CreateOutcome::Conflict));
    }

    /// A7
    #[test]
    fn money_is_taken_once() {
        let mut book = InstitutionLedger::default();
        let key = booked(&mut book);
        assert_eq!(book.pay(&key, 5), PayOutcome::Taken);
        assert_eq!(book.pay(&key, 6), PayOutcome::Not(PaymentState::Paid));
        assert_eq!(
            book.pay_after_close(&key, 7),
            PayOutcome::Not(PaymentState::Paid)
        );
        assert_eq!(book.taken_cents(), 1_230);
        assert_eq!(book.close(&key, 8, true), CloseOutcome::Paid);
    }

    /// E4
    #[test]
    fn a_closed_payment_is_not_paid() {
        let mut book = InstitutionLedger::default();
        let key = booked(&mut book);
        assert_eq!(book.close(&key, 1, true), CloseOutcome::Closed);
        assert_eq!(book.pay(&key, 2), PayOutcome::Not(PaymentState::Closed));
        assert_eq!(book.taken_cents(), 0);
    }

    /// V2
    #[test]
    fn an_unpaid_payment_expires() {
        let mut book = InstitutionLedger::default();
        let key = booked(&mut book);
        assert_eq!(book.query(&key, 899).unwrap().state, PaymentState::Open);
        assert_eq!(book.query(&key, 900).unwrap().state, PaymentState::Closed);
        assert_eq!(
            book.pay(&key, 901_000),
            PayOutcome::Not(PaymentState::Closed)
        );
    }

    /// A5
    #[test]
    fn a_close_before_the_create_is_remembered_where_declared() {
        let mut book = InstitutionLedger::default();
        let key = terms("A1", "1.00").key();
        assert_eq!(book.close(&key, 0, false), CloseOutcome::Unknown);
        assert_eq!(book.close(&key, 0, true), CloseOutcome::Closed);
        let late = book.create(&terms("A1", "1.00"), fresh(1));
        assert!(matches!(late, CreateOutcome::ClosedBefore));
    }

    /// Q5
    #[test]
    fn a_nonce_is_new_once() {
        let mut book = InstitutionLedger::default();
        assert!(book.spend_nonce("n", 10, 0));
        assert!(!book.spend_nonce("n", 10, 1));
    }
}
