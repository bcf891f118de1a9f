//! The rules for what follows a payment: refunds, revokes on the same settlement day, and reversals
//! of payments by code.

use crate::sandbox::unionpay::answer::UnionPayRejection;
use crate::sandbox::unionpay::clock::settlement_day;
use crate::sandbox::unionpay::form::UnionPayFields;
use crate::sandbox::unionpay::ledger::{
    UnionPayBook, UnionPayKey, UnionPayState, UnionPayTransaction, key_of_request,
};
use crate::sandbox::unionpay::request::{UnionPayCall, provider_fields};

/// How long after a payment it can be refunded. Unit: seconds.
const REFUND_WINDOW_S: i64 = 330 * 24 * 3_600;

impl UnionPayBook {
    /// Books a refund or a revoke, if its payment admits it. The caller has checked that it is new.
    pub(super) fn book_return(
        &mut self,
        call: UnionPayCall,
        request: &UnionPayFields,
        now_s: i64,
    ) -> Result<UnionPayKey, UnionPayRejection> {
        let amount_fen: i64 = request.text("txnAmt").parse().unwrap_or_default();
        let payment = self.paid_by(request).ok_or(UnionPayRejection::of("35"))?;
        let of = payment.key();
        for name in ["bizType", "accessType"] {
            if payment.request.text(name) != request.text(name) {
                return Err(UnionPayRejection::at("36", name));
            }
        }
        for name in provider_fields() {
            let given = request.get(name);
            if given.is_some() && given != payment.request.get(name) {
                return Err(UnionPayRejection::at("36", name));
            }
        }
        let receipt = payment.receipt.as_ref();
        let receipt = receipt.ok_or(UnionPayRejection::of("35"))?;
        let rest_fen = self.refundable_fen(payment);
        let is_whole = amount_fen == payment.amount_fen && rest_fen == amount_fen;
        if call == UnionPayCall::Revoke {
            if receipt.day != settlement_day(now_s) {
                return Err(UnionPayRejection::of("35"));
            }
            if !is_whole {
                return Err(UnionPayRejection::at("36", "txnAmt"));
            }
        }
        if now_s.saturating_sub(receipt.at_s) > REFUND_WINDOW_S {
            return Err(UnionPayRejection::of("44"));
        }
        if amount_fen > rest_fen {
            return Err(UnionPayRejection::at("36", "txnAmt"));
        }
        let key = self.book(call, request, String::new(), now_s);
        if let Some(booked) = self.transactions.get_mut(&key) {
            booked.of = Some(of);
        }
        Ok(key)
    }

    /// The payment that a request names, if it was paid and is not cancelled.
    fn paid_by(&self, request: &UnionPayFields) -> Option<&UnionPayTransaction> {
        let named = |one: &&UnionPayTransaction| match request.get("origQryId") {
            Some(query_id) => {
                let receipt = one.receipt.as_ref();
                receipt.is_some_and(|receipt| receipt.query_id == query_id)
            }
            None => {
                one.order_id == request.text("origOrderId")
                    && one.txn_time == request.text("origTxnTime")
            }
        };
        self.transactions()
            .filter(|one| one.mer_id == request.text("merId") && one.call.is_payment())
            .filter(|one| one.state == UnionPayState::Succeeded && !one.is_cancelled)
            .find(named)
    }

    /// What refunds have left of a payment; one that is being carried out counts. Unit: fen.
    pub(super) fn refundable_fen(&self, payment: &UnionPayTransaction) -> i64 {
        let key = payment.key();
        self.transactions()
            .filter(|one| one.of.as_ref() == Some(&key) && one.state != UnionPayState::Failed)
            .fold(payment.amount_fen, |rest, one| {
                rest.saturating_sub(one.amount_fen)
            })
    }

    /// Carries out a refund or a revoke.
    pub(super) fn complete_return(&mut self, key: &UnionPayKey, now_s: i64) {
        let Some(found) = self.look(key).cloned() else {
            return;
        };
        if found.state != UnionPayState::Open {
            return;
        }
        self.succeed(key, now_s, 0);
        let payment = found.of.and_then(|of| self.transactions.get_mut(&of));
        if let (Some(payment), UnionPayCall::Revoke) = (payment, found.call) {
            payment.is_cancelled = true;
        }
    }

    /// Cancels a payment by code, whatever its state; what was taken goes back.
    pub(super) fn reverse(
        &mut self,
        request: &UnionPayFields,
        now_s: i64,
    ) -> Result<(), UnionPayRejection> {
        let original = self.transactions.get_mut(&key_of_request(request));
        let original = original
            .filter(|one| one.call == UnionPayCall::Barcode)
            .filter(|one| one.txn_time == request.text("txnTime"))
            .ok_or(UnionPayRejection::of("35"))?;
        if original.request.text("accessType") != request.text("accessType") {
            return Err(UnionPayRejection::at("36", "accessType"));
        }
        let day = original.receipt.as_ref().map(|receipt| &receipt.day);
        if day.is_some_and(|day| *day != settlement_day(now_s)) {
            return Err(UnionPayRejection::of("35"));
        }
        original.state = UnionPayState::Failed;
        original.code = "01";
        original.is_cancelled = true;
        Ok(())
    }
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

    fn paid(call: UnionPayCall) -> UnionPayBook {
        let mut book = UnionPayBook::default();
        let key = book.book(call, &request(&[]), String::new(), MORNING_S);
        book.pay(&key, MORNING_S, 0);
        book
    }

    fn refund(amount: &str, more: &[(&str, &str)]) -> UnionPayFields {
        let mut fields = request(&[
            ("orderId", "5GR20260101000001"),
            ("origQryId", "442601010800001234568"),
            ("txnAmt", amount),
        ]);
        for (name, value) in more {
            fields.set(name, *value);
        }
        fields
    }

    /// Refunds never exceed the payment, those that are being carried out included.
    #[test]
    fn refunds_never_exceed_the_payment() {
        let mut book = paid(UnionPayCall::Qr);
        let mut back = |amount, number| {
            let request = refund(amount, &[("orderId", number)]);
            book.book_return(UnionPayCall::Refund, &request, MORNING_S)
        };
        let first = back("1000", "5GR20260101000001").unwrap();
        let over = back("2", "5GR20260101000002");
        assert_eq!(over, Err(UnionPayRejection::at("36", "txnAmt")));
        book.fail(&first, "01");
        let request = refund("1001", &[("orderId", "5GR20260101000003")]);
        let whole = book.book_return(UnionPayCall::Refund, &request, MORNING_S);
        book.complete_return(&whole.unwrap(), MORNING_S);
        assert_eq!((book.taken_fen(), book.returned_fen()), (1_001, 1_001));
    }

    /// A refund names a payment that was made, of the same kind, in time.
    #[test]
    fn a_refund_fits_its_payment() {
        let mut book = paid(UnionPayCall::Qr);
        let mut code = |more: &[(&str, &str)], later_s: i64| {
            let request = refund("1", more);
            let booked = book.book_return(UnionPayCall::Refund, &request, MORNING_S + later_s);
            booked.map_or_else(|rejection| rejection.code, |_| "00")
        };
        assert_eq!(code(&[("origQryId", "442601010800001234569")], 0), "35");
        assert_eq!(code(&[("merId", "777290058110049")], 0), "35");
        assert_eq!(code(&[("bizType", "000201")], 0), "36");
        assert_eq!(code(&[("accessType", "2")], 0), "36");
        assert_eq!(code(&[], REFUND_WINDOW_S + 1), "44");
        let by_number = [
            ("origQryId", ""),
            ("origOrderId", "5GM20260101000001"),
            ("origTxnTime", "20260101080000"),
        ];
        assert_eq!(code(&by_number, 0), "00");
    }

    /// A revoke takes back all of it, on the same settlement day.
    #[test]
    fn a_revoke_is_whole_and_of_the_same_day() {
        let mut book = paid(UnionPayCall::Qr);
        let mut revoke =
            |amount, now_s| book.book_return(UnionPayCall::Revoke, &refund(amount, &[]), now_s);
        assert_eq!(
            revoke("1000", MORNING_S),
            Err(UnionPayRejection::at("36", "txnAmt"))
        );
        let evening_s = MORNING_S + 15 * 3_600;
        assert_eq!(revoke("1001", evening_s), Err(UnionPayRejection::of("35")));
        let key = revoke("1001", evening_s - 1).unwrap();
        book.complete_return(&key, evening_s - 1);
        let after = refund("1", &[("orderId", "5GR20260101000002")]);
        let after = book.book_return(UnionPayCall::Refund, &after, evening_s);
        assert_eq!(after, Err(UnionPayRejection::of("35")));
    }

    /// A reversal cancels a payment by code, before or after the money, and nothing else.
    #[test]
    fn a_reversal_cancels_a_payment_by_code() {
        let mut book = paid(UnionPayCall::Barcode);
        assert_eq!(book.reverse(&request(&[]), MORNING_S), Ok(()));
        assert_eq!((book.taken_fen(), book.returned_fen()), (1_001, 1_001));
        let mut book = UnionPayBook::default();
        let key = book.book(
            UnionPayCall::Barcode,
            &request(&[]),
            String::new(),
            MORNING_S,
        );
        assert_eq!(book.reverse(&request(&[]), MORNING_S), Ok(()));
        book.pay(&key, MORNING_S, 0);
        assert_eq!(book.taken_fen(), 0);
        let not_a_code = paid(UnionPayCall::Qr).reverse(&request(&[]), MORNING_S);
        assert_eq!(not_a_code, Err(UnionPayRejection::of("35")));
    }
}
