//! The refunds in a pretend institution's book: each number once, and never more than was paid.

use crate::sandbox::institution::book::{Book, Key, Payment, State};
use crate::sandbox::institution::faults::Fault;
use crate::sandbox::institution::refunds::terms::{OWN_NUMBERS, RefundReference, RefundTerms};

/// Why a refund failed, as `reason` has it: the merchant's account has not got the money.
const NO_FUNDS: &str = "NO_FUNDS";

/// Which refunds an institution offers beside a single one of the whole sum (R-6.1.5-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refunding {
    /// Of less than was paid.
    pub partial: bool,
    /// More than one of a payment.
    pub repeated: bool,
}

impl Default for Refunding {
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
pub enum RefundStanding {
    /// Taken, and not done yet.
    Processing,
    /// The money went back.
    Succeeded,
    /// It did not.
    Failed,
}

impl RefundStanding {
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
pub struct Refund {
    /// What was asked, as it was asked.
    pub terms: RefundTerms,
    /// The merchant's number of it, or the one that was made for it here.
    pub merchant_refund_no: String,
    /// The institution's own number of it (`refundOrderNo`).
    pub refund_no: String,
    /// The institution's own number of the payment (`payOrderNo`).
    pub institution_no: String,
    /// Where it stands.
    pub standing: RefundStanding,
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

impl Refund {
    pub(in crate::sandbox::institution) fn key(&self) -> Key {
        (
            self.terms.merchant_id.clone(),
            self.merchant_refund_no.clone(),
        )
    }

    fn is_of(&self, payment: &Key) -> bool {
        self.terms.merchant_id == payment.0 && self.terms.merchant_order_no == payment.1
    }

    fn end(&mut self, standing: RefundStanding, now_s: i64) {
        self.standing = standing;
        self.reason = (standing == RefundStanding::Failed).then_some(NO_FUNDS);
        self.ended_s = Some(now_s);
    }
}

/// What the institution adds to a new refund.
pub(super) struct FreshRefund {
    pub(super) refund_no: String,
    pub(super) now_s: i64,
}

/// A refund and its payment, as they stand.
#[derive(Debug, Clone)]
pub(in crate::sandbox::institution) struct Told {
    pub(in crate::sandbox::institution) refund: Refund,
    pub(in crate::sandbox::institution) payment: Payment,
    /// What went back of the payment so far. Unit: cents.
    pub(in crate::sandbox::institution) returned_cents: i64,
}

/// What became of a refund call that was taken.
#[derive(Debug)]
pub(super) enum Asked {
    /// Booked now, with what goes wrong with it.
    Begun(Box<Told>, Option<Fault>),
    /// Booked before with the same content.
    Known(Box<Told>),
}

/// Why a refund call was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRefund {
    /// The number is taken by other content.
    Conflict,
    /// No such payment of this account, date and payer.
    OrderUnknown,
    /// Nothing was paid.
    OrderUnpaid,
    /// More than is left. Unit: cents.
    OverRest(i64),
    /// A kind of refund that is not offered; the word for `reason`.
    NotOffered(&'static str),
}

/// How a refund ends that did not end at once, or did not end so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Succeeds,
    Fails,
}

impl Book {
    /// Every refund, by account and number.
    pub fn refunds(&self) -> impl Iterator<Item = &Refund> {
        self.refunds.values()
    }

    /// The refund of this number, the merchant's or the institution's, whatever its account.
    pub fn refund(&self, number: &str) -> Option<&Refund> {
        self.refunds()
            .find(|refund| refund.merchant_refund_no == number || refund.refund_no == number)
    }

    /// All that went back to payers. Unit: cents.
    pub fn returned_cents(&self) -> i64 {
        sum(self
            .refunds()
            .filter(|refund| refund.standing == RefundStanding::Succeeded))
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
        fresh: FreshRefund,
        offered: Refunding,
        draw: impl FnOnce() -> Option<Fault>,
    ) -> Result<Asked, NoRefund> {
        if let Some(key) = self.known_refund(terms) {
            let refund = self.refunds.get_mut(&key).ok_or(NoRefund::Conflict)?;
            refund.asks = refund.asks.saturating_add(1);
            if refund.terms != *terms {
                return Err(NoRefund::Conflict);
            }
            let told = self.told(&key).ok_or(NoRefund::OrderUnknown)?;
            return Ok(Asked::Known(Box::new(told)));
        }
        let institution_no = self.judge_refund(terms, offered)?;
        let fault = draw();
        let number = terms.merchant_refund_no.clone().unwrap_or_else(|| {
            let before = self.unnumbered(terms).count();
            format!("{OWN_NUMBERS}{institution_no}-{}-{before}", terms.sum_cents)
        });
        let mut refund = Refund {
            terms: terms.clone(),
            merchant_refund_no: number,
            refund_no: fresh.refund_no,
            institution_no,
            standing: RefundStanding::Processing,
            reason: None,
            asked_s: fresh.now_s,
            ended_s: None,
            asks: 1,
            queries: 0,
            callbacks: 0,
            acknowledged: 0,
        };
        match fault {
            Some(Fault::RefundTakesTime | Fault::RefundFailsLate) => (),
            Some(Fault::RefundRefused | Fault::RefundAfterFailure) => {
                refund.end(RefundStanding::Failed, fresh.now_s);
            }
            _ => refund.end(RefundStanding::Succeeded, fresh.now_s),
        }
        let key = refund.key();
        self.refunds.insert(key.clone(), refund);
        let told = self.told(&key).ok_or(NoRefund::OrderUnknown)?;
        Ok(Asked::Begun(Box::new(told), fault))
    }

    /// The payment's own number, if this may go back.
    fn judge_refund(&self, terms: &RefundTerms, offered: Refunding) -> Result<String, NoRefund> {
        let key = terms.payment_key();
        let payment = self
            .look(&key)
            .filter(|payment| payment.terms.order_date == terms.order_date)
            .filter(|payment| payment.terms.mobile_no == terms.mobile_no)
            .ok_or(NoRefund::OrderUnknown)?;
        if payment.state != State::Paid {
            return Err(NoRefund::OrderUnpaid);
        }
        let held = self.held_cents(&key);
        let rest = payment.taken_cents.saturating_sub(held);
        if terms.sum_cents > rest {
            return Err(NoRefund::OverRest(rest));
        }
        if !offered.partial && terms.sum_cents < payment.taken_cents {
            return Err(NoRefund::NotOffered("PARTIAL_REFUND"));
        }
        if !offered.repeated && held > 0 {
            return Err(NoRefund::NotOffered("REPEATED_REFUND"));
        }
        Ok(payment.institution_no.clone())
    }

    /// Whatever was given has to match (K3).
    pub(super) fn query_refund(&mut self, by: &RefundReference) -> Option<Told> {
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
    pub(super) fn end_refund(&mut self, key: &Key, ending: Ending, now_s: i64) -> bool {
        let Some(told) = self.told(key) else {
            return false;
        };
        let held = self.held_cents(&told.refund.terms.payment_key());
        let needed = held.saturating_add(told.refund.terms.sum_cents);
        let to = match (told.refund.standing, ending) {
            (RefundStanding::Processing, Ending::Succeeds) => RefundStanding::Succeeded,
            (RefundStanding::Processing, Ending::Fails) => RefundStanding::Failed,
            (RefundStanding::Failed, Ending::Succeeds) if needed <= told.payment.taken_cents => {
                RefundStanding::Succeeded
            }
            _ => return false,
        };
        if let Some(refund) = self.refunds.get_mut(key) {
            refund.end(to, now_s);
        }
        true
    }

    pub(in crate::sandbox::institution) fn refund_called_back(
        &mut self,
        key: &Key,
        acknowledged: bool,
    ) {
        if let Some(refund) = self.refunds.get_mut(key) {
            refund.callbacks = refund.callbacks.saturating_add(1);
            let more = u32::from(acknowledged);
            refund.acknowledged = refund.acknowledged.saturating_add(more);
        }
    }

    /// A refund and its payment, as they stand.
    pub(in crate::sandbox::institution) fn told(&self, key: &Key) -> Option<Told> {
        let refund = self.refunds.get(key)?.clone();
        let payment_key = refund.terms.payment_key();
        let payment = self.look(&payment_key)?.clone();
        let returned_cents = sum(self.refunds().filter(|other| {
            other.is_of(&payment_key) && other.standing == RefundStanding::Succeeded
        }));
        Some(Told {
            refund,
            payment,
            returned_cents,
        })
    }

    /// What went back of a payment or is on its way. Unit: cents.
    fn held_cents(&self, payment: &Key) -> i64 {
        sum(self
            .refunds()
            .filter(|refund| refund.is_of(payment) && refund.standing != RefundStanding::Failed))
    }

    /// By its number; without one by payment and sum, as long as that one has not failed (G-7).
    fn known_refund(&self, terms: &RefundTerms) -> Option<Key> {
        match &terms.merchant_refund_no {
            Some(number) => {
                let key = (terms.merchant_id.clone(), number.clone());
                self.refunds.contains_key(&key).then_some(key)
            }
            None => self
                .unnumbered(terms)
                .find(|refund| refund.standing != RefundStanding::Failed)
                .map(Refund::key),
        }
    }

    fn unnumbered(&self, terms: &RefundTerms) -> impl Iterator<Item = &Refund> {
        let (payment, sum_cents) = (terms.payment_key(), terms.sum_cents);
        self.refunds().filter(move |refund| {
            refund.terms.merchant_refund_no.is_none()
                && refund.is_of(&payment)
                && refund.terms.sum_cents == sum_cents
        })
    }
}

fn sum<'a>(refunds: impl Iterator<Item = &'a Refund>) -> i64 {
    refunds.fold(0, |sum, refund| sum.saturating_add(refund.terms.sum_cents))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::institution::book::Fresh;
    use crate::sandbox::institution::terms::Terms;

    fn paid(sum: &str) -> Book {
        let body = serde_json::json!({
            "transactionType": "PASSWORD_PAY", "businessType": "WEBVIEW",
            "bankReturnUrl": "https://pay.example/v1/callbacks/harbour",
            "merchantOrderNo": "A1", "merchantName": "Tea House", "orderDate": "20260102",
            "orderAmount": sum, "merchantId": "acct", "mobileNo": "13800138000",
        });
        let terms = Terms::read(body.to_string().as_bytes()).unwrap();
        let fresh = Fresh {
            institution_no: "P1".to_owned(),
            token: "token".to_owned(),
            now_s: 0,
        };
        let mut book = Book::default();
        book.create(&terms, fresh);
        book.pay(&terms.key(), 5_000);
        book
    }

    fn ask(
        book: &mut Book,
        number: Option<&str>,
        sum: &str,
        fault: Option<Fault>,
    ) -> Result<Asked, NoRefund> {
        let mut body = serde_json::json!({
            "merchantOrderNo": "A1", "orderDate": "20260102", "refundAmount": sum,
            "merchantId": "acct", "mobileNo": "13800138000",
        });
        if let Some(number) = number {
            body["merchantRefundNo"] = number.into();
        }
        let terms = RefundTerms::read(body.to_string().as_bytes()).unwrap();
        let fresh = FreshRefund {
            refund_no: format!("R{}", book.refunds().count()),
            now_s: 10,
        };
        book.ask_refund(&terms, fresh, Refunding::default(), || fault)
    }

    fn key(number: &str) -> Key {
        ("acct".to_owned(), number.to_owned())
    }

    /// R-6.1.5-2
    #[test]
    fn a_success_after_a_failure_needs_its_sum_to_be_there() {
        let mut book = paid("12.00");
        let after = Some(Fault::RefundAfterFailure);
        ask(&mut book, Some("F1"), "7.00", after).unwrap();
        ask(&mut book, Some("F2"), "5.01", None).unwrap();
        assert!(!book.end_refund(&key("F1"), Ending::Succeeds, 20));
        assert_eq!(book.returned_cents(), 501);
        ask(&mut book, Some("F3"), "6.99", after).unwrap();
        assert!(book.end_refund(&key("F3"), Ending::Succeeds, 20));
        assert_eq!(book.returned_cents(), 1_200);
        assert_eq!(book.refund("F3").unwrap().reason, None);
    }

    /// R-6.1.5-2
    #[test]
    fn a_refund_on_its_way_holds_its_sum_and_ends_once() {
        let mut book = paid("12.00");
        let slow = Some(Fault::RefundTakesTime);
        ask(&mut book, Some("F1"), "7.00", slow).unwrap();
        let over = ask(&mut book, Some("F2"), "5.01", None).unwrap_err();
        assert_eq!(over, NoRefund::OverRest(500));
        assert!(book.end_refund(&key("F1"), Ending::Fails, 20));
        assert!(!book.end_refund(&key("F1"), Ending::Fails, 21));
        ask(&mut book, Some("F2"), "5.01", None).unwrap();
        assert!(!book.end_refund(&key("F2"), Ending::Fails, 22));
        assert_eq!(book.returned_cents(), 501);
    }

    /// K2
    #[test]
    fn without_a_number_payment_and_sum_are_the_number_until_it_failed() {
        let mut book = paid("12.00");
        let refused = Some(Fault::RefundRefused);
        ask(&mut book, None, "3.00", refused).unwrap();
        ask(&mut book, None, "3.00", None).unwrap();
        let again = ask(&mut book, None, "3.0", None).unwrap();
        let Asked::Known(told) = again else {
            panic!("{again:?}")
        };
        assert_eq!(told.refund.merchant_refund_no, "AUTO-P1-300-1");
        ask(&mut book, None, "4.00", None).unwrap();
        assert_eq!((book.refunds().count(), book.returned_cents()), (3, 700));
    }
}
