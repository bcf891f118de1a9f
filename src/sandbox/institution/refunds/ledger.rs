//! The refunds in a pretend institution's book: each number once, and never more than was paid.

use crate::sandbox::institution::faults::InstitutionFault;
use crate::sandbox::institution::ledger::{
    InstitutionLedger, PaymentKey, PaymentState, SandboxPayment,
};
use crate::sandbox::institution::refunds::terms::{OWN_NUMBERS, RefundReference, RefundTerms};

/// Why a refund failed, as `reason` has it: the merchant's account has not got the money.
const NO_FUNDS: &str = "NO_FUNDS";

/// Which refunds an institution offers beside a single one of the whole sum (R-6.1.5-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundCapabilities {
    /// Of less than was paid.
    pub partial: bool,
    /// More than one of a payment.
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

/// Where a refund stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxRefundState {
    /// Taken, and not done yet.
    Processing,
    /// The money went back.
    Succeeded,
    /// It did not.
    Failed,
}

impl SandboxRefundState {
    /// As `refundStatus` has it.
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
    /// What was asked, as it was asked.
    pub terms: RefundTerms,
    /// The merchant's number of it, or the one that was made for it here.
    pub merchant_refund_no: String,
    /// The institution's own number of it (`refundOrderNo`).
    pub refund_no: String,
    /// The institution's own number of the payment (`payOrderNo`).
    pub institution_no: String,
    /// Where it stands.
    pub standing: SandboxRefundState,
    /// Why it failed.
    pub reason: Option<&'static str>,
    /// When it came. Unit: Unix seconds.
    pub asked_s: i64,
    /// When it reached where it stands, unless it is on its way. Unit: Unix seconds.
    pub ended_s: Option<i64>,
    /// Refund calls that named it.
    pub asks: u32,
    /// Queries that named it.
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

    fn end(&mut self, standing: SandboxRefundState, now_s: i64) {
        self.standing = standing;
        self.reason = (standing == SandboxRefundState::Failed).then_some(NO_FUNDS);
        self.ended_s = Some(now_s);
    }
}

/// What the institution adds to a new refund.
pub(super) struct NewRefund {
    pub(super) refund_no: String,
    pub(super) now_s: i64,
}

/// A refund and its payment, as they stand.
#[derive(Debug, Clone)]
pub(in crate::sandbox::institution) struct RefundWithPayment {
    pub(in crate::sandbox::institution) refund: SandboxRefund,
    pub(in crate::sandbox::institution) payment: SandboxPayment,
    /// What went back of the payment so far. Unit: cents.
    pub(in crate::sandbox::institution) returned_cents: i64,
}

/// What became of a refund call that was taken.
#[derive(Debug)]
pub(super) enum RefundBooking {
    /// Booked now, with what goes wrong with it.
    Created(Box<RefundWithPayment>, Option<InstitutionFault>),
    /// Booked before with the same content.
    Known(Box<RefundWithPayment>),
}

/// Why a refund call was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RefundRejection {
    /// The number is taken by other content.
    Conflict,
    /// No such payment of this account, date and payer.
    OrderUnknown,
    /// Nothing was paid.
    OrderUnpaid,
    /// More than is left. Unit: cents.
    OverRemaining(i64),
    /// A kind of refund that is not offered; the word for `reason`.
    NotOffered(&'static str),
}

/// How a refund ends that did not end at once, or did not end so.
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

    /// The refund of this number, the merchant's or the institution's, whatever its account.
    pub fn refund(&self, number: &str) -> Option<&SandboxRefund> {
        self.refunds()
            .find(|refund| refund.merchant_refund_no == number || refund.refund_no == number)
    }

    /// All that went back to payers. Unit: cents.
    pub fn returned_cents(&self) -> i64 {
        sum(self
            .refunds()
            .filter(|refund| refund.standing == SandboxRefundState::Succeeded))
    }

    /// Whether a call with these terms would book something new.
    pub(super) fn is_new_refund(&self, terms: &RefundTerms) -> bool {
        self.known_refund(terms).is_none()
    }

    /// One effect per number (K2), looked up before what is left is counted. What goes wrong with a
    /// new one is drawn only once it is certain to be booked.
    pub(super) fn ask_refund(
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
            let told = self.told(&key).ok_or(RefundRejection::OrderUnknown)?;
            return Ok(RefundBooking::Known(Box::new(told)));
        }
        let institution_no = self.judge_refund(terms, offered)?;
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
        let told = self.told(&key).ok_or(RefundRejection::OrderUnknown)?;
        Ok(RefundBooking::Created(Box::new(told), fault))
    }

    /// The payment's own number, if this may go back.
    fn judge_refund(
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
        let held = self.reserved_cents(&key);
        let rest = payment.taken_cents.saturating_sub(held);
        if terms.sum_cents > rest {
            return Err(RefundRejection::OverRemaining(rest));
        }
        if !offered.partial && terms.sum_cents < payment.taken_cents {
            return Err(RefundRejection::NotOffered("PARTIAL_REFUND"));
        }
        if !offered.repeated && held > 0 {
            return Err(RefundRejection::NotOffered("REPEATED_REFUND"));
        }
        Ok(payment.institution_no.clone())
    }

    /// Whatever was given has to match (K3).
    pub(super) fn query_refund(&mut self, by: &RefundReference) -> Option<RefundWithPayment> {
        let same =
            |given: &Option<String>, ours: &str| given.as_deref().is_none_or(|it| it == ours);
        let refund = self.refunds.values_mut().find(|refund| {
            refund.terms.merchant_id == by.merchant_id
                && same(&by.merchant_refund_no, &refund.merchant_refund_no)
                && same(&by.refund_order_no, &refund.refund_no)
        })?;
        refund.queries = refund.queries.saturating_add(1);
        let key = refund.key();
        self.told(&key)
    }

    /// Whether it ended so now. One that failed succeeds only if its sum is still there.
    pub(super) fn end_refund(
        &mut self,
        key: &PaymentKey,
        ending: DelayedRefundOutcome,
        now_s: i64,
    ) -> bool {
        let Some(told) = self.told(key) else {
            return false;
        };
        let held = self.reserved_cents(&told.refund.terms.payment_key());
        let needed = held.saturating_add(told.refund.terms.sum_cents);
        let to = match (told.refund.standing, ending) {
            (SandboxRefundState::Processing, DelayedRefundOutcome::Succeeds) => {
                SandboxRefundState::Succeeded
            }
            (SandboxRefundState::Processing, DelayedRefundOutcome::Fails) => {
                SandboxRefundState::Failed
            }
            (SandboxRefundState::Failed, DelayedRefundOutcome::Succeeds)
                if needed <= told.payment.taken_cents =>
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

    /// A refund and its payment, as they stand.
    pub(in crate::sandbox::institution) fn told(
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

    /// What went back of a payment or is on its way. Unit: cents.
    fn reserved_cents(&self, payment: &PaymentKey) -> i64 {
        sum(self.refunds().filter(|refund| {
            refund.is_of(payment) && refund.standing != SandboxRefundState::Failed
        }))
    }

    /// By its number; without one by payment and sum, as long as that one has not failed (G-7).
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
        book.ask_refund(&terms, fresh, RefundCapabilities::default(), || fault)
    }

    fn key(number: &str) -> PaymentKey {
        ("acct".to_owned(), number.to_owned())
    }

    /// R-6.1.5-2
    #[test]
    fn a_success_after_a_failure_needs_its_sum_to_be_there() {
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
    fn without_a_number_payment_and_sum_are_the_number_until_it_failed() {
        let mut book = paid("12.00");
        let refused = Some(InstitutionFault::RefundRefused);
        ask(&mut book, None, "3.00", refused).unwrap();
        ask(&mut book, None, "3.00", None).unwrap();
        let again = ask(&mut book, None, "3.0", None).unwrap();
        let RefundBooking::Known(told) = again else {
            panic!("{again:?}")
        };
        assert_eq!(told.refund.merchant_refund_no, "AUTO-P1-300-1");
        ask(&mut book, None, "4.00", None).unwrap();
        assert_eq!((book.refunds().count(), book.returned_cents()), (3, 700));
    }
}
