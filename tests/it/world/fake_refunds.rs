//! A fake institution's refunds, in its own books: each refund once, however often it is requested,
//! and never more than was paid.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::fake_institution::{FakeInstitution, FakePaymentState};

/// The state of a refund in the institution's own books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FakeRefundState {
    Working,
    Succeeded,
    Refused,
}

/// One refund in the institution's own books.
#[derive(Debug, Clone)]
pub(crate) struct FakeRefund {
    pub(crate) payment: String,
    pub(crate) receiver: String,
    pub(crate) minor: i64,
    pub(crate) standing: FakeRefundState,
    /// It reported that this failed.
    pub(crate) said_refused: bool,
    /// The gateway acknowledged the message about its end.
    pub(crate) acknowledged: bool,
    pub(crate) calls: u32,
    at: i64,
}

/// All refunds, by the number they were requested under.
pub(crate) type FakeRefunds = BTreeMap<String, FakeRefund>;

impl FakeInstitution {
    /// The amount of a payment that is refunded or being refunded.
    pub(crate) fn returned(&self, payment: &str) -> i64 {
        let theirs = self.returns.values().filter(|one| one.payment == payment);
        let counted = theirs.filter(|one| one.standing != FakeRefundState::Refused);
        counted.map(|one| one.minor).sum()
    }

    pub(super) fn give_back(&mut self, asked: &Value, truth: i64) -> &'static str {
        let no = asked["refund"].as_str().unwrap();
        let payment = asked["id"].as_str().unwrap();
        let minor = asked["minor"].as_i64().unwrap();
        let repeatable = self.ability.repeatable_refund;
        if let Some(known) = self.returns.get_mut(no) {
            known.calls += 1;
            assert!(known.minor == minor && known.payment == payment, "R4");
            return if repeatable {
                self.refund_state_word(no)
            } else {
                "DUPLICATE"
            };
        }
        let Some(paid) = self
            .payments
            .get(payment)
            .filter(|one| one.standing == FakePaymentState::Paid)
        else {
            return "REFUSED";
        };
        let is_too_much = self.returned(payment) + minor > paid.minor;
        let standing = match self.behaviours {
            // A refusal is final for its number: a first call that comes later is refused as well.
            _ if is_too_much => FakeRefundState::Refused,
            behaviours if behaviours.refuses_refunds => FakeRefundState::Refused,
            behaviours if behaviours.takes_its_time => FakeRefundState::Working,
            _ => FakeRefundState::Succeeded,
        };
        let made = FakeRefund {
            payment: payment.to_owned(),
            receiver: paid.receiver.clone(),
            minor,
            standing,
            said_refused: false,
            acknowledged: false,
            calls: 1,
            at: truth,
        };
        self.returns.insert(no.to_owned(), made);
        self.refund_state_word(no)
    }

    /// The status word of a refund; records what was reported.
    pub(super) fn refund_state_word(&mut self, no: &str) -> &'static str {
        let Some(known) = self.returns.get_mut(no) else {
            return "NOT_FOUND";
        };
        known.said_refused |= known.standing == FakeRefundState::Refused;
        spell(known.standing)
    }

    /// Refunds that are pending or, for a misbehaving institution, had failed.
    pub(crate) fn pending_refunds(&self) -> Vec<String> {
        let bad = self.behaviours.takes_after_end;
        let may = |one: &FakeRefund| match one.standing {
            FakeRefundState::Working => true,
            FakeRefundState::Succeeded => false,
            // Even beyond what was paid: the loss is then the institution's or the merchant's.
            FakeRefundState::Refused => bad && one.said_refused,
        };
        let open = self.returns.iter().filter(|(_, one)| may(one));
        open.map(|(no, _)| no.clone()).collect()
    }

    /// Ends a refund; one that had failed succeeds after all.
    pub(crate) fn end_refund(&mut self, no: &str, fails: bool, truth: i64) {
        let known = self.returns.get_mut(no).unwrap();
        let fails = fails && known.standing == FakeRefundState::Working;
        known.standing = if fails {
            FakeRefundState::Refused
        } else {
            FakeRefundState::Succeeded
        };
        known.at = truth;
        known.acknowledged = false;
    }

    /// Refunds whose end is not acknowledged.
    pub(crate) fn unacknowledged_refunds(&self) -> Vec<String> {
        let ended = self
            .returns
            .iter()
            .filter(|(_, one)| one.standing != FakeRefundState::Working);
        let undelivered = ended.filter(|(_, one)| !one.acknowledged);
        undelivered.map(|(no, _)| no.clone()).collect()
    }

    /// The callback about a refund, as sent to the gateway.
    pub(crate) fn refund_callback(&mut self, no: &str) -> Request<Bytes> {
        let known = self.returns.get_mut(no).unwrap();
        known.said_refused |= known.standing == FakeRefundState::Refused;
        let word = spell(self.returns[no].standing);
        self.message(&self.refund_body(no, word))
    }

    pub(super) fn refund_body(&self, no: &str, word: &str) -> Value {
        let mut body = json!({ "refund": no, "word": word });
        if let Some(known) = self.returns.get(no) {
            body["receiver"] = known.receiver.as_str().into();
            body["minor"] = (known.minor + i64::from(self.behaviours.misstates)).into();
            body["currency"] = self.payments[&known.payment].currency.as_str().into();
            if word == "RETURNED" {
                body["paidAt"] = known.at.into();
                body["number"] = format!("{}-{no}", self.id).into();
            }
        }
        body
    }

    /// Processes the gateway's answer to a refund callback.
    pub(crate) fn acknowledge_refund(&mut self, no: &str, answer: &Response<Bytes>) {
        if answer.status() == StatusCode::OK {
            self.returns.get_mut(no).unwrap().acknowledged = true;
        }
    }
}

fn spell(standing: FakeRefundState) -> &'static str {
    match standing {
        FakeRefundState::Working => "RETURNING",
        FakeRefundState::Succeeded => "RETURNED",
        FakeRefundState::Refused => "REFUSED",
    }
}
