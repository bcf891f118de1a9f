//! A fake institution: records its own calls and payments, acts by the true time, and sends a
//! callback for every payment until it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use paymux::domain::identifiers::InstitutionId;
use paymux::domain::institutions::{
    CallbackPath, CreateSend, Ending, Facts, Product, Rates, Visibility,
};
use serde_json::{Value, json};

use super::dialect::{LINK_LIFE_MS, PROOF, proof, proven};
use super::fake_refunds::FakeRefunds;

/// The longest time a message is in flight; every institution's visibility limit is longer.
pub(crate) const FLIGHT_MS_MAX: i64 = 20_000;

/// After this, "not found" means "never arrived".
const VISIBLE_AFTER: Duration = Duration::from_millis(FLIGHT_MS_MAX.unsigned_abs() + 10_000);

/// A product that serves every payer in every mode, may be repeated and closed.
pub(crate) fn only_product(visible_after: Duration) -> Product {
    Product {
        create: CreateSend::Repeatable,
        ending: Ending::Close,
        ..Product::plain("STANDARD", Visibility::AfterSend(visible_after))
    }
}

/// What an institution with one product declares.
pub(crate) fn facts_of(product: Product, repeatable_refund: bool) -> Facts {
    Facts {
        refund_visibility: match product.visibility {
            Visibility::AfterSend(limit) | Visibility::AfterDeadline(limit) => limit,
            Visibility::AfterStatement => VISIBLE_AFTER,
        },
        products: vec![product],
        repeatable_refund,
        rates: Rates {
            calls_per_second: 100,
            refund_question_gap: Duration::ZERO,
        },
        callback_path: CallbackPath::OfInstitution,
    }
}

/// The optional abilities of an institution's dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is so or not by itself")]
pub(crate) struct FakeInstitutionAbility {
    pub(crate) can_close: bool,
    pub(crate) remembers_close: bool,
    pub(crate) repeatable_create: bool,
    pub(crate) repeatable_refund: bool,
}

impl FakeInstitutionAbility {
    /// Every ability.
    pub(crate) const ALL: Self = Self {
        can_close: true,
        remembers_close: true,
        repeatable_create: true,
        repeatable_refund: true,
    };

    /// No optional ability.
    pub(crate) const NONE: Self = Self {
        can_close: false,
        remembers_close: false,
        repeatable_create: false,
        repeatable_refund: false,
    };

    pub(crate) fn facts(self) -> Facts {
        let ending = match (self.can_close, self.remembers_close) {
            (true, true) => Ending::RememberedClose,
            (true, false) => Ending::Close,
            (false, _) => Ending::Never,
        };
        let product = Product {
            create: if self.repeatable_create {
                CreateSend::Repeatable
            } else {
                CreateSend::Once
            },
            ending,
            ..only_product(VISIBLE_AFTER)
        };
        facts_of(product, self.repeatable_refund)
    }
}

/// How an institution behaves, apart from its dialect. Tests and simulation runs change it as they
/// go.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is on or off by itself")]
pub(crate) struct FakeInstitutionBehaviour {
    /// Refuses new payments, with a final reply.
    pub(crate) refuses: bool,
    /// Refuses to create a pending payment once more, which can still be paid.
    pub(crate) refuses_repeats: bool,
    /// Accepts money although it confirmed a close or refused: the fault that A8 allows for.
    pub(crate) takes_after_end: bool,
    /// Refuses to close a pending payment, as if the payer were typing.
    pub(crate) keeps_open: bool,
    /// Lets payers pay less than the amount due.
    pub(crate) takes_less: bool,
    /// Refuses refunds, with a final reply.
    pub(crate) refuses_refunds: bool,
    /// Reports refunds as pending for a while.
    pub(crate) takes_its_time: bool,
    /// Uses a status word its adapter does not list.
    pub(crate) uses_unlisted_word: bool,
    /// Answers a close as if the payment were unknown.
    pub(crate) denies_closes: bool,
    /// Answers a query as if the payment were unknown.
    pub(crate) denies_queries: bool,
    /// Reports a wrong amount for a refund.
    pub(crate) misstates: bool,
    /// Reports amounts without their currency.
    pub(crate) names_no_currency: bool,
    /// Accepts calls and does not answer until the gateway times out.
    pub(crate) is_silent: bool,
}

/// The state of a payment in the institution's own books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FakePaymentState {
    Waiting,
    Paid,
    Closed,
    Refused,
}

/// One payment in the institution's own books.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is true or not by itself"
)]
pub(crate) struct FakePayment {
    pub(crate) receiver: String,
    pub(crate) minor: i64,
    pub(crate) currency: String,
    pub(crate) standing: FakePaymentState,
    /// It reported that this can no longer be paid.
    pub(crate) said_closed: bool,
    /// It reported that it refused this.
    pub(crate) said_refused: bool,
    /// The gateway acknowledged the callback.
    pub(crate) acknowledged: bool,
    pub(crate) creates: u32,
    /// The payer paid less than the amount due.
    pub(crate) is_short: bool,
    /// Queries do not see it at present.
    pub(crate) is_hidden: bool,
    paid_at: i64,
    until: i64,
    sdk: bool,
}

impl FakePayment {
    /// Whether it has expired.
    pub(crate) fn is_over(&self, truth: i64) -> bool {
        truth >= self.until
    }
}

pub(crate) struct FakeInstitution {
    pub(crate) id: InstitutionId,
    pub(crate) ability: FakeInstitutionAbility,
    pub(crate) behaviours: FakeInstitutionBehaviour,
    pub(crate) payments: BTreeMap<String, FakePayment>,
    pub(crate) returns: FakeRefunds,
    /// Every call that arrived: its kind and the attempt or refund it names.
    pub(crate) calls: Vec<(String, String)>,
    never: BTreeSet<String>,
}

impl FakeInstitution {
    pub(crate) fn new(id: &str, ability: FakeInstitutionAbility) -> Self {
        Self {
            id: InstitutionId::parse(id).unwrap(),
            ability,
            behaviours: FakeInstitutionBehaviour::default(),
            payments: BTreeMap::new(),
            returns: FakeRefunds::new(),
            calls: Vec::new(),
            never: BTreeSet::new(),
        }
    }

    /// Executes a call and answers it.
    pub(crate) fn answer(&mut self, call: &Request<Bytes>, truth: i64) -> Response<Bytes> {
        let asked: Value = serde_json::from_slice(call.body()).unwrap();
        let word = asked["call"].as_str().unwrap().to_owned();
        let id = asked["id"].as_str().unwrap().to_owned();
        let refund = asked["refund"].as_str().map(str::to_owned);
        let about = refund.clone().unwrap_or_else(|| id.clone());
        self.calls.push((word.clone(), about));
        self.expire(truth);
        let said = match word.as_str() {
            "refund" => self.give_back(&asked, truth),
            "refund_query" => self.refund_state_word(refund.as_deref().unwrap()),
            "create" => self.create(&id, &asked, truth),
            _ if self.payments.get(&id).is_some_and(|one| one.is_hidden) => "NOT_FOUND",
            "close" if self.behaviours.denies_closes => "NOT_FOUND",
            "query" if self.behaviours.denies_queries => "NOT_FOUND",
            "close" => self.close(&id),
            _ => self.word(&id),
        };
        let said = if self.behaviours.uses_unlisted_word {
            "PONDERING"
        } else {
            said
        };
        let body = match &refund {
            Some(no) => self.refund_body(no, said),
            None => self.body(&id, said, truth),
        };
        let (body, proof) = proven(self.id.as_str(), &body);
        Response::builder().header(PROOF, proof).body(body).unwrap()
    }

    fn create(&mut self, id: &str, asked: &Value, truth: i64) -> &'static str {
        if self.never.contains(id) {
            return "REFUSED";
        }
        let refuses = self.behaviours.refuses;
        let refuses_repeats = self.behaviours.refuses_repeats;
        let repeatable = self.ability.repeatable_create;
        if let Some(known) = self.payments.get_mut(id) {
            known.creates += 1;
            return match known.standing {
                _ if !repeatable => "DUPLICATE",
                FakePaymentState::Waiting if refuses_repeats => "REFUSED",
                FakePaymentState::Waiting => "WAITING",
                FakePaymentState::Paid => "PAID",
                // It can no longer be paid, and its page is no longer shown.
                FakePaymentState::Closed => "ENDED",
                FakePaymentState::Refused => "REFUSED",
            };
        }
        let minutes = asked["minutes"].as_i64().unwrap();
        let standing = if refuses {
            FakePaymentState::Refused
        } else {
            FakePaymentState::Waiting
        };
        let payment = FakePayment {
            receiver: asked["receiver"].as_str().unwrap().to_owned(),
            minor: asked["minor"].as_i64().unwrap(),
            currency: asked["currency"].as_str().unwrap().to_owned(),
            standing,
            said_closed: false,
            said_refused: refuses,
            acknowledged: false,
            creates: 1,
            is_short: false,
            is_hidden: false,
            paid_at: 0,
            until: truth + minutes * 60_000,
            sdk: asked["sdk"].as_bool().unwrap(),
        };
        self.payments.insert(id.to_owned(), payment);
        if refuses { "REFUSED" } else { "WAITING" }
    }

    fn close(&mut self, id: &str) -> &'static str {
        if !self.ability.can_close {
            return "NO_SUCH_CALL";
        }
        let keeps_open = self.behaviours.keeps_open;
        let Some(payment) = self.payments.get_mut(id) else {
            if self.ability.remembers_close {
                self.never.insert(id.to_owned());
                return "CLOSED";
            }
            return "NOT_FOUND";
        };
        if payment.standing == FakePaymentState::Waiting && !keeps_open {
            payment.standing = FakePaymentState::Closed;
        }
        self.word(id)
    }

    /// The status word of a payment; records what was reported.
    fn word(&mut self, id: &str) -> &'static str {
        let closed_unseen = self.never.contains(id);
        let Some(payment) = self.payments.get_mut(id) else {
            return if closed_unseen { "CLOSED" } else { "NOT_FOUND" };
        };
        match payment.standing {
            FakePaymentState::Waiting => "WAITING",
            FakePaymentState::Paid => "PAID",
            FakePaymentState::Closed => {
                payment.said_closed = true;
                "CLOSED"
            }
            FakePaymentState::Refused => {
                payment.said_refused = true;
                "REFUSED"
            }
        }
    }

    /// Closes payments that were not paid in time.
    fn expire(&mut self, truth: i64) {
        for payment in self.payments.values_mut() {
            if payment.standing == FakePaymentState::Waiting && payment.is_over(truth) {
                payment.standing = FakePaymentState::Closed;
            }
        }
    }

    fn body(&self, id: &str, word: &str, truth: i64) -> Value {
        let mut body = json!({ "id": id, "word": word });
        let known = self.payments.get(id);
        let Some(payment) = known.filter(|_| word != "NOT_FOUND") else {
            return body;
        };
        body["receiver"] = payment.receiver.as_str().into();
        body["minor"] = payment.minor.into();
        if !self.behaviours.names_no_currency {
            body["currency"] = payment.currency.as_str().into();
        }
        if word == "WAITING" {
            body["linkUntil"] = (truth + LINK_LIFE_MS).into();
            if payment.sdk {
                body["sdk"] = json!({ "prepay": id, "order": 1 });
            } else {
                body["link"] = format!("https://{}.example/pay/{id}", self.id).into();
            }
        }
        if word == "PAID" {
            body["paidAt"] = payment.paid_at.into();
            body["number"] = format!("{}-{id}", self.id).into();
            body["fee"] = "0.0125".into();
        }
        body
    }

    /// Makes queries see everything again.
    pub(crate) fn show_all(&mut self) {
        for payment in self.payments.values_mut() {
            payment.is_hidden = false;
        }
    }

    /// Whether a create of this attempt would be refused because it was closed before it arrived.
    pub(crate) fn will_refuse(&self, id: &str) -> bool {
        self.never.contains(id)
    }

    /// The payments that a payer can pay now.
    pub(crate) fn payable(&mut self, truth: i64) -> Vec<String> {
        self.expire(truth);
        let bad = self.behaviours.takes_after_end;
        self.payments
            .iter()
            .filter(|(_, payment)| match payment.standing {
                FakePaymentState::Waiting => true,
                FakePaymentState::Paid => false,
                FakePaymentState::Closed => bad && payment.said_closed,
                FakePaymentState::Refused => bad && payment.said_refused,
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// The payer pays.
    pub(crate) fn pay(&mut self, id: &str, truth: i64) {
        let payment = self.payments.get_mut(id).unwrap();
        payment.standing = FakePaymentState::Paid;
        payment.paid_at = truth;
        if self.behaviours.takes_less {
            payment.is_short = true;
            payment.minor -= 1;
        }
    }

    /// Payments whose callback is not acknowledged.
    pub(crate) fn undelivered(&self) -> Vec<String> {
        self.payments
            .iter()
            .filter(|(_, payment)| {
                payment.standing == FakePaymentState::Paid && !payment.acknowledged
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// The callback about a payment, as sent to the gateway.
    pub(crate) fn callback(&self, id: &str, truth: i64) -> Request<Bytes> {
        let word = match self.payments[id].standing {
            FakePaymentState::Waiting => "WAITING",
            FakePaymentState::Paid => "PAID",
            FakePaymentState::Closed => "CLOSED",
            FakePaymentState::Refused => "REFUSED",
        };
        self.message(&self.body(id, word, truth))
    }

    /// Any message of this institution, correctly authenticated.
    pub(crate) fn message(&self, body: &Value) -> Request<Bytes> {
        let (body, proof) = proven(self.id.as_str(), body);
        Request::post(format!("/v1/callbacks/{}", self.id))
            .header(PROOF, proof)
            .body(body)
            .unwrap()
    }

    /// A message that claims to be from this institution, and is not.
    pub(crate) fn forgery(&self, body: &Value) -> Request<Bytes> {
        let body = Bytes::from(serde_json::to_vec(body).unwrap());
        let proof = proof("somebody else", &body);
        Request::post(format!("/v1/callbacks/{}", self.id))
            .header(PROOF, proof)
            .body(body)
            .unwrap()
    }

    /// The body of a payment's success message.
    pub(crate) fn success(&self, id: &str, truth: i64) -> Value {
        let mut body = self.body(id, "PAID", truth);
        body["paidAt"] = truth.into();
        body
    }

    /// Processes the gateway's answer to a payment callback.
    pub(crate) fn acknowledge(&mut self, id: &str, answer: &Response<Bytes>) {
        if answer.status() == StatusCode::OK {
            self.payments.get_mut(id).unwrap().acknowledged = true;
        }
    }
}
