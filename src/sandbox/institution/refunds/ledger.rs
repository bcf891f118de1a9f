//! Refunds in a simulated institution's ledger: each number once, and never more than was paid.

use crate::sandbox::institution::faults::InstitutionFault;
use crate::sandbox::institution::ledger::{
    InstitutionLedger, PaymentKey, PaymentState, SandboxPayment,
};
use crate::sandbox::institution::refunds::terms::{OWN_NUMBERS, RefundReference, RefundTerms};

/// The `reason` of a failed refund: the merchant's account lacks funds.
const NO_FUNDS: &str = "NO_FUNDS";

/// Refunds an institution supports besides a single full one (R-6.1.5-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundCapabilities {
    /// Partial refunds.
    pub partial: bool,
    /// Several refunds of one payment.
    pub repeated: bool,
}

impl Default for RefundCapabilities {
    /// Everything.
    fn default() -> Self {
        Self {
            partial: true,
            repeated: true,
        }
    }
}

/// State of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxRefundState {
    /// Accepted, not completed.
    Processing,
    /// Paid to the payer.
    Succeeded,
    /// Not paid.
    Failed,
}

impl SandboxRefundState {
    /// The word in `refundStatus`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Processing => "PROCESSING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
        }
    }
}

/// One refund.
#[derive(Debug, Clone)]
pub struct SandboxRefund {
    /// The terms, as requested.
    pub terms: RefundTerms,
    /// The merchant's number of the refund, or the one generated here.
    pub merchant_refund_no: String,
    /// The institution's own number of the refund (`refundOrderNo`).
    pub refund_no: String,
    /// The institution's own number of the payment (`payOrderNo`).
    pub institution_no: String,
    /// Its state.
    pub standing: SandboxRefundState,
    /// Why it failed.
    pub reason: Option<&'static str>,
    /// When it was requested. Unit: Unix seconds.
    pub asked_s: i64,
    /// When it reached its state, unless it is processing. Unit: Unix seconds.
    pub ended_s: Option<i64>,
    /// Refund calls of this number.
    pub asks: u32,
    /// Queries of this number.
    pub queries: u32,
    /// Callbacks sent.
    pub callbacks: u32,
    /// Callbacks that were acknowledged.
    pub acknowledged: u32,
}

impl SandboxRefund {
    pub(in crate::sandbox::institution) fn key(&self) -> PaymentKey {
        (
            self.terms.merchant_id.clone(),
            self.merchant_refund_no.clone(),
        )
    }

    fn is_of(&self, payment: &PaymentKey) -> bool {
        self.terms.merchant_id == payment.0 && self.terms.merchant_order_no == payment.1
    }

    fn end(&mut self, state: SandboxRefundState, now_s: i64) {
        self.standing = state;
        self.reason = (state == SandboxRefundState::Failed).then_some(NO_FUNDS);
        self.ended_s = Some(now_s);
    }
}

/// The institution's own values of a new refund.
pub(super) struct NewRefund {
    pub(super) refund_no: String,
    pub(super) now_s: i64,
}

/// A refund and its payment.
#[derive(Debug, Clone)]
pub(in crate::sandbox::institution) struct RefundWithPayment {
    pub(in crate::sandbox::institution) refund: SandboxRefund,
    pub(in crate::sandbox::institution) payment: SandboxPayment,
    /// The total refunded of the payment so far. Unit: cents.
    pub(in crate::sandbox::institution) returned_cents: i64,
}

/// Outcome of an accepted refund call.
#[derive(Debug)]
pub(super) enum RefundBooking {
    /// Booked now, with the fault to apply to it.
    Created(Box<RefundWithPayment>, Option<InstitutionFault>),
    /// Booked before with the same content.
    Known(Box<RefundWithPayment>),
}

/// Why a refund call was rejected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RefundRejection {
    /// The number is in use with other content.
    Conflict,
    /// No such payment of this account, date and payer.
    OrderUnknown,
    /// Nothing was paid.
    OrderUnpaid,
    /// More than the remaining amount, which is given. Unit: cents.
    OverRemaining(i64),
    /// A kind of refund that is not supported; the word for `reason`.
    NotOffered(&'static str),
}

/// The delayed outcome of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DelayedRefundOutcome {
    Succeeds,
    Fails,
}

impl InstitutionLedger {
    /// Every refund, by account and number.
    pub fn refunds(&self) -> impl Iterator<Item = &SandboxRefund> {
        self.refunds.values()
    }

    /// The refund of this number, the merchant's or the institution's, in any account.
    pub fn refund(&self, number: &str) -> Option<&SandboxRefund> {
        self.refunds()
            .find(|refund| refund.merchant_refund_no == number || refund.refund_no == number)
    }

    /// The total refunded to payers. Unit: cents.
    pub fn returned_cents(&self) -> i64 {
        sum(self
            .refunds()
            .filter(|refund| refund.standing == SandboxRefundState::Succeeded))
    }

    /// Whether a call with these terms would book something new.
    pub(super) fn is_new_refund(&self, terms: &RefundTerms) -> bool {
        self.known_refund(terms).is_none()
    }

    /// One effect per number (K2), looked up before the remaining amount is checked. `draw` takes
    /// the fault of a new refund only when it is certain to be booked.
    pub(super) fn create_refund(
        &mut self,
        terms: &RefundTerms,
        fresh: NewRefund,
        offered: RefundCapabilities,
        draw: impl FnOnce() -> Option<InstitutionFault>,
    ) -> Result<RefundBooking, RefundRejection> {
        if let Some(key) = self.known_refund(terms) {
            let refund = self
                .refunds
                .get_mut(&key)
                .ok_or(RefundRejection::Conflict)?;
            refund.asks = refund.asks.saturating_add(1);
            if refund.terms != *terms {
                return Err(RefundRejection::Conflict);
            }
            let found = self.refund_with_payment(&key);
            let found = found.ok_or(RefundRejection::OrderUnknown)?;
            return Ok(RefundBooking::Known(Box::new(found)));
        }
        let institution_no = self.check_refund(terms, offered)?;
        let fault = draw();
        let number = terms.merchant_refund_no.clone().unwrap_or_else(|| {
            let before = self.unnumbered(terms).count();
            format!("{OWN_NUMBERS}{institution_no}-{}-{before}", terms.sum_cents)
        });
        let mut refund = SandboxRefund {
            terms: terms.clone(),
            merchant_refund_no: number,
            refund_no: fresh.refund_no,
            institution_no,
            standing: SandboxRefundState::Processing,
            reason: None,
            asked_s: fresh.now_s,
            ended_s: None,
            asks: 1,
            queries: 0,
            callbacks: 0,
            acknowledged: 0,
        };
        match fault {
            Some(InstitutionFault::RefundTakesTime | InstitutionFault::RefundFailsLate) => (),
            Some(InstitutionFault::RefundRefused | InstitutionFault::RefundAfterFailure) => {
                refund.end(SandboxRefundState::Failed, fresh.now_s);
            }
            _ => refund.end(SandboxRefundState::Succeeded, fresh.now_s),
        }
        let key = refund.key();
        self.refunds.insert(key.clone(), refund);
        let found = self.refund_with_payment(&key);
        let found = found.ok_or(RefundRejection::OrderUnknown)?;
        Ok(RefundBooking::Created(Box::new(found), fault))
    }

    /// The institution's number of the payment, if the refund is allowed.
    fn check_refund(
        &self,
        terms: &RefundTerms,
        offered: RefundCapabilities,
    ) -> Result<String, RefundRejection> {
        let key = terms.payment_key();
        let payment = self
            .look(&key)
            .filter(|payment| payment.terms.order_date == terms.order_date)
            .filter(|payment| payment.terms.mobile_no == terms.mobile_no)
            .ok_or(RefundRejection::OrderUnknown)?;
        if payment.state != PaymentState::Paid {
            return Err(RefundRejection::OrderUnpaid);
        }
        let reserved = self.reserved_cents(&key);
        let remaining = payment.taken_cents.saturating_sub(reserved);
        if terms.sum_cents > remaining {
            return Err(RefundRejection::OverRemaining(remaining));
        }
        if !offered.partial && terms.sum_cents < payment.taken_cents {
            return Err(RefundRejection::NotOffered("PARTIAL_REFUND"));
        }
        if !offered.repeated && reserved > 0 {
            return Err(RefundRejection::NotOffered("REPEATED_REFUND"));
        }
        Ok(payment.institution_no.clone())
    }

    /// Every field that was given must match (K3).
    pub(super) fn query_refund(&mut self, by: &RefundReference) -> Option<RefundWithPayment> {
        let same =
            |given: &Option<String>, known: &str| given.as_deref().is_none_or(|it| it == known);
        let refund = self.refunds.values_mut().find(|refund| {
            refund.terms.merchant_id == by.merchant_id
                && same(&by.merchant_refund_no, &refund.merchant_refund_no)
                && same(&by.refund_order_no, &refund.refund_no)
        })?;
        refund.queries = refund.queries.saturating_add(1);
        let key = refund.key();
        self.refund_with_payment(&key)
    }

    /// Completes the refund; returns whether that changed it. A failed one succeeds only if enough
    /// of the payment is left.
    pub(super) fn end_refund(
        &mut self,
        key: &PaymentKey,
        ending: DelayedRefundOutcome,
        now_s: i64,
    ) -> bool {
        let Some(found) = self.refund_with_payment(key) else {
            return false;
        };
        let reserved = self.reserved_cents(&found.refund.terms.payment_key());
        let needed = reserved.saturating_add(found.refund.terms.sum_cents);
        let to = match (found.refund.standing, ending) {
            (SandboxRefundState::Processing, DelayedRefundOutcome::Succeeds) => {
                SandboxRefundState::Succeeded
            }
            (SandboxRefundState::Processing, DelayedRefundOutcome::Fails) => {
                SandboxRefundState::Failed
            }
            (SandboxRefundState::Failed, DelayedRefundOutcome::Succeeds)
                if needed <= found.payment.taken_cents =>
            {
                SandboxRefundState::Succeeded
            }
            _ => return false,
        };
        if let Some(refund) = self.refunds.get_mut(key) {
            refund.end(to, now_s);
        }
        true
    }

    pub(in crate::sandbox::institution) fn count_refund_callback(
        &mut self,
        key: &PaymentKey,
        acknowledged: bool,
    ) {
        if let Some(refund) = self.refunds.get_mut(key) {
            refund.callbacks = refund.callbacks.saturating_add(1);
            let more = u32::from(acknowledged);
            refund.acknowledged = refund.acknowledged.saturating_add(more);
        }
    }

    /// A refund and its payment.
    pub(in crate::sandbox::institution) fn refund_with_payment(
        &self,
        key: &PaymentKey,
    ) -> Option<RefundWithPayment> {
        let refund = self.refunds.get(key)?.clone();
        let payment_key = refund.terms.payment_key();
        let payment = self.look(&payment_key)?.clone();
        let returned_cents = sum(self.refunds().filter(|other| {
            other.is_of(&payment_key) && other.standing == SandboxRefundState::Succeeded
        }));
        Some(RefundWithPayment {
            refund,
            payment,
            returned_cents,
        })
    }

    /// The total of a payment's succeeded and processing refunds. Unit: cents.
    fn reserved_cents(&self, payment: &PaymentKey) -> i64 {
        sum(self.refunds().filter(|refund| {
            refund.is_of(payment) && refund.standing != SandboxRefundState::Failed
        }))
    }

    /// Finds a refund by its number; without one by payment and amount, unless that failed (G-7).
    fn known_refund(&self, terms: &RefundTerms) -> Option<PaymentKey> {
        match &terms.merchant_refund_no {
            Some(number) => {
                let key = (terms.merchant_id.clone(), number.clone());
                self.refunds.contains_key(&key).then_some(key)
            }
            None => self
                .unnumbered(terms)
                .find(|refund| refund.standing != SandboxRefundState::Failed)
                .map(SandboxRefund::key),
        }
    }

    fn unnumbered(&self, terms: &RefundTerms) -> impl Iterator<Item = &SandboxRefund> {
        let (payment, sum_cents) = (terms.payment_key(), terms.sum_cents);
        self.refunds().filter(move |refund| {
            refund.terms.merchant_refund_no.is_none()
                && refund.is_of(&payment)
                && refund.terms.sum_cents == sum_cents
        })
    }
}

fn sum<'a>(refunds: impl Iterator<Item = &'a SandboxRefund>) -> i64 {
    refunds.fold(0, |sum, refund| sum.saturating_add(refund.terms.sum_cents))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::institution::ledger::NewPayment;
    use crate::sandbox::institution::terms::PaymentTerms;

    fn paid(sum: &str) -> InstitutionLedger {
        let body = serde_json::json!({
            "transactionType": "PASSWORD_PAY", "businessType": "WEBVIEW",
            "bankReturnUrl": "https://pay.example/v1/callbacks/harbour",
            "merchantOrderNo": "A1", "merchantName": "Tea House", "orderDate": "20260102",
            "orderAmount": sum, "merchantId": "acct", "mobileNo": "13800138000",
        });
        let terms = PaymentTerms::read(body.to_string().as_bytes()).unwrap();
        let fresh = NewPayment {
            institution_no: "P1".to_owned(),
            token: "token".to_owned(),
            now_s: 0,
        };
        let mut book = InstitutionLedger::default();
        book.create(&terms, fresh);
        book.pay(&terms.key(), 5_000);
        book
    }

    fn ask(
        book: &mut InstitutionLedger,
        number: Option<&str>,
        sum: &str,
        fault: Option<InstitutionFault>,
    ) -> Result<RefundBooking, RefundRejection> {
        let mut body = serde_json::json!({
            "merchantOrderNo": "A1", "orderDate": "20260102", "refundAmount": sum,
            "merchantId": "acct", "mobileNo": "13800138000",
        });
        if let Some(number) = number {
            body["merchantRefundNo"] = number.into();
        }
        let terms = RefundTerms::read(body.to_string().as_bytes()).unwrap();
        let fresh = NewRefund {
            refund_no: format!("R{}", book.refunds().count()),
            now_s: 10,
        };
        book.create_refund(&terms, fresh, RefundCapabilities::default(), || fault)
    }

    fn key(number: &str) -> PaymentKey {
        ("acct".to_owned(), number.to_owned())
    }

    /// R-6.1.5-2
    #[test]
    fn a_success_after_a_failure_needs_enough_remaining() {
        let mut book = paid("12.00");
        let after = Some(InstitutionFault::RefundAfterFailure);
        ask(&mut book, Some("F1"), "7.00", after).unwrap();
        ask(&mut book, Some("F2"), "5.01", None).unwrap();
        assert!(!book.end_refund(&key("F1"), DelayedRefundOutcome::Succeeds, 20));
        assert_eq!(book.returned_cents(), 501);
        ask(&mut book, Some("F3"), "6.99", after).unwrap();
        assert!(book.end_refund(&key("F3"), DelayedRefundOutcome::Succeeds, 20));
        assert_eq!(book.returned_cents(), 1_200);
        assert_eq!(book.refund("F3").unwrap().reason, None);
    }

    /// R-6.1.5-2
    #[test]
    fn a_pending_refund_reserves_its_sum_and_ends_once() {
        let mut book = paid("12.00");
        let slow = Some(InstitutionFault::RefundTakesTime);
        ask(&mut book, Some("F1"), "7.00", slow).unwrap();
        let over = ask(&mut book, Some("F2"), "5.01", None).unwrap_err();
        assert_eq!(over, RefundRejection::OverRemaining(500));
        assert!(book.end_refund(&key("F1"), DelayedRefundOutcome::Fails, 20));
        assert!(!book.end_refund(&key("F1"), DelayedRefundOutcome::Fails, 21));
        ask(&mut book, Some("F2"), "5.01", None).unwrap();
        assert!(!book.end_refund(&key("F2"), DelayedRefundOutcome::Fails, 22));
        assert_eq!(book.returned_cents(), 501);
    }

    /// K2
    #[test]
    fn without_a_number_payment_and_amount_identify_a_refund_unless_it_failed() {
        let mut book = paid("12.00");
        let refused = Some(InstitutionFault::RefundRefused);
        ask(&mut book, None, "3.00", refused).unwrap();
        ask(&mut book, None, "3.00", None).unwrap();
        let again = ask(&mut book, None, "3.0", None).unwrap();
        let RefundBooking::Known(found) = again else {
            panic!("{again:?}")
        };
        assert_eq!(found.refund.merchant_refund_no, "AUTO-P1-300-1");
        ask(&mut book, None, "4.00", None).unwrap();
        assert_eq!((book.refunds().count(), book.returned_cents()), (3, 700));
    }
}
