//! The `standard` dialect: an institution that implements A3.1 to A3.4, with this gateway as its
//! merchant.
//!
//! Our attempt number is its `merchantOrderNo`, our receiver its `merchantId`.

mod accounts;
mod callback_answers;
mod reading;
mod refunds;
mod settings;
mod statements;

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use serde::Serialize;

use crate::domain::amount::Amount;
use crate::domain::attempt::{Attempt, Stamp};
use crate::domain::evidence::{
    Ambiguity, Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment,
};
use crate::domain::fields::Fields;
use crate::domain::identifiers::{AccountId, AttemptId, InstitutionId, ReceiverId, Timestamp, hex};
use crate::domain::institutions::Facts;
use crate::domain::order::OrderTerms;
use crate::institution::standard::accounts::StandardAccounts;
use crate::institution::{
    Acknowledgement, Call, CallState, Callback, Effect, Host, Institution, InstitutionKind,
    Operation, Outgoing, ProvenCallback, SigningParty, Statements, Step, Unmade, Unverified,
};
use crate::signature::{Covering, Proven, Question, sign_request, sign_response, verify_response};

pub(super) use settings::KIND;

/// How long the signature of our requests is valid. Unit: seconds.
const SIGNED_FOR_S: i64 = 300;

/// How old and how far in the future a callback's signature may be. Unit: seconds.
///
/// Nonces are not stored: an institution signs each delivery anew, and a repeat changes nothing
/// (C5).
const CALLBACK_AGE_S_MAX: i64 = 300;
const CALLBACK_LEAD_S_MAX: i64 = 30;

/// The parties of a callback: the accounts whose key signed it, and the receiver that it names.
struct CallbackParties {
    accounts: Vec<AccountId>,
    receiver: Option<ReceiverId>,
}

/// A signed request, and the binding that its reply must have.
type Signed = (Request<Bytes>, Question);

/// The step that sends a request.
fn sending<O>((request, question): Signed, effect: Effect) -> Step<O> {
    let (to, state) = (Host::Main, CallState::new(question));
    Step::Send(Box::new(Outgoing {
        request,
        to,
        effect,
        state,
    }))
}

#[derive(Clone)]
struct StandardAdapter(Arc<StandardInstitution>);

struct StandardInstitution {
    id: InstitutionId,
    facts: Facts,
    origin: String,
    merchant_name: Option<String>,
    callback_url: String,
    accounts: StandardAccounts,
}

impl Institution for StandardAdapter {
    fn id(&self) -> &InstitutionId {
        &self.0.id
    }

    fn kind(&self) -> &'static InstitutionKind {
        &KIND
    }

    fn facts(&self) -> &Facts {
        &self.0.facts
    }

    fn slow(&self, party: SigningParty<'_>) -> Option<Arc<dyn Institution>> {
        let account = match party {
            SigningParty::Account(account) => self.0.accounts.get(account),
            SigningParty::Answer(callback) => self.0.accounts.answering(callback.message),
        };
        let is_slow = account?.own_key()?.is_slow();
        is_slow.then(|| -> Arc<dyn Institution> { Arc::new(self.clone()) })
    }

    fn statements(&self) -> Option<&dyn Statements> {
        Some(self)
    }

    fn origin(&self, host: Host) -> Option<&str> {
        (host == Host::Main).then_some(self.0.origin.as_str())
    }

    fn begin(&self, call: &Call<'_>, stamp: &Stamp) -> Step<Evidence> {
        self.signed(call, stamp)
            .map_or_else(Step::Unmade, |signed| sending(signed, call.effect()))
    }

    fn next(
        &self,
        call: &Call<'_>,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Evidence> {
        let (status, now) = (reply.status(), stamp.now);
        let account = &call.attempt.account;
        let (finding, proves_arrival) = match self.proven(account, state, reply, now) {
            Ok(fields) => {
                let finding = match call.refund() {
                    Some(refund) => refunds::reply(call, refund, status, &fields, now),
                    None => reading::reply(call, status, &fields),
                };
                let proves_arrival = reading::proves_arrival(call, status, &fields, &finding);
                (finding, proves_arrival)
            }
            Err(why) => (Err(why), false),
        };
        Step::Done(Evidence {
            institution: self.0.id.clone(),
            // An authenticated reply is bound to our request, which names the receiver and is
            // signed as the account.
            accounts: finding.is_ok().then(|| vec![account.clone()]),
            receiver: finding.is_ok().then(|| call.attempt.receiver.clone()),
            about: call.about(),
            by: call.means(),
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival,
            finding: finding.unwrap_or_else(Finding::Ambiguous),
        })
    }

    fn read_callback<'c>(
        &'c self,
        callback: Callback<'c>,
        now: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified> {
        let callback = callback.message;
        let verified = self.0.accounts.prove(callback, &self.0.callback_url, now);
        let (proven, accounts) = verified.ok_or(Unverified::Unverified("signature"))?;
        if !is_recent(&proven, now) {
            return Err(Unverified::Unverified("outside_window"));
        }
        // Authenticated; but without the number of an attempt or refund it is not evidence.
        let fields = Fields::parse(callback.body());
        let fields = fields.map_err(|_| Unverified::Unreadable("unreadable"))?;
        let receiver = reading::receiver(&fields);
        let parties = CallbackParties { accounts, receiver };
        if let Some(about) = refunds::refund_no(&fields).map(EvidenceSubject::Refund) {
            return Ok(ProvenCallback::new(about.clone(), move |absent| {
                let sum = reading::sum(&fields, refunds::SUM, absent);
                let (along, finding) = match refunds::along(&fields, absent) {
                    Ok(along) => (along, refunds::notice(&fields, absent, now)),
                    Err(why) => (OriginalPayment::default(), Err(why)),
                };
                Evidence {
                    along,
                    ..self.evidence(about, parties, sum, finding)
                }
            }));
        }
        let no = fields.text("merchantOrderNo");
        let no = no.and_then(|no| AttemptId::parse(no.ok()?).ok());
        let about =
            EvidenceSubject::Attempt(no.ok_or(Unverified::NamesNothing("names_no_attempt"))?);
        Ok(ProvenCallback::new(about.clone(), move |absent| {
            let sum = reading::sum(&fields, "orderAmount", absent);
            let finding = reading::notice(&fields, absent);
            self.evidence(about, parties, sum, finding)
        }))
    }

    fn acknowledge(
        &self,
        callback: Callback<'_>,
        acknowledged: Acknowledgement,
        request_id: &str,
        stamp: &Stamp,
    ) -> Response<Bytes> {
        let mut answer = callback_answers::answer(acknowledged, request_id);
        if acknowledged == Acknowledgement::Unverified {
            return answer;
        }
        let callback = callback.message;
        let account = self.0.accounts.answering(callback);
        // TLS authenticates us as well: an unsigned reply is better than none.
        let Some(key) = account.and_then(|account| account.signing(stamp.now)) else {
            return answer;
        };
        let question = Question::of(callback, &self.0.callback_url);
        let _ = sign_response(&mut answer, question.as_ref(), key, stamp.now.seconds());
        answer
    }
}

impl StandardAdapter {
    /// The evidence of an authenticated callback.
    fn evidence(
        &self,
        about: EvidenceSubject,
        parties: CallbackParties,
        sum: Result<Amount, Ambiguity>,
        read: reading::FindingResult,
    ) -> Evidence {
        let CallbackParties { accounts, receiver } = parties;
        // Without a readable amount it could be about anything.
        let finding = match (&receiver, sum) {
            (Some(_), Ok(_)) => read.unwrap_or_else(Finding::Ambiguous),
            (Some(_), Err(_)) | (None, _) => Finding::Ambiguous(Ambiguity::Unreadable),
        };
        Evidence {
            institution: self.0.id.clone(),
            accounts: Some(accounts),
            receiver,
            about,
            by: EvidenceSource::Callback,
            sum: sum.ok(),
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: true,
            finding,
        }
    }

    fn signed(&self, call: &Call<'_>, stamp: &Stamp) -> Result<Signed, Unmade> {
        let (attempt, terms) = (call.attempt, call.terms);
        let (path, body) = match call.operation {
            Operation::Create => (
                "/v1/orders",
                serde_json::to_vec(&self.placing(attempt, terms)),
            ),
            Operation::Query => ("/v1/orders/query", serde_json::to_vec(&naming(attempt))),
            Operation::Close => ("/v1/orders/close", serde_json::to_vec(&naming(attempt))),
            Operation::Refund(refund) => {
                let asking = refunds::asking(refund, attempt, terms, &self.0.callback_url);
                ("/v1/refunds", serde_json::to_vec(&asking))
            }
            Operation::RefundQuery(refund) => {
                let naming = refunds::naming(refund, attempt);
                ("/v1/refunds/query", serde_json::to_vec(&naming))
            }
        };
        let body = body.map_err(|_| Unmade::Malformed)?;
        let account = &call.attempt.account;
        self.post(path, body, account, call.word(), stamp)
    }

    fn post(
        &self,
        path: &str,
        body: Vec<u8>,
        account: &AccountId,
        word: &str,
        stamp: &Stamp,
    ) -> Result<Signed, Unmade> {
        let account = self.0.accounts.get(account);
        let key = account.and_then(|account| account.signing(stamp.now));
        let key = key.ok_or(Unmade::Unsigned)?;
        let mut request = Request::post(format!("{}{path}", self.0.origin))
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(body))
            .map_err(|_| Unmade::Malformed)?;
        // As sent on the wire.
        let target = request.uri().to_string();
        // The call's label and the time keep nonces distinct for calls that share random bytes: a
        // repeated create has the body of the first, and must not look like a replay (Q5).
        let nonce = format!("{word}-{}-{}", hex(&stamp.nonce), stamp.now.ms());
        let created_s = stamp.now.seconds();
        let covering = Covering {
            created_s,
            expires_s: Some(created_s.saturating_add(SIGNED_FOR_S)),
            nonce: Some(&nonce),
        };
        sign_request(&mut request, &target, key, &covering).map_err(|_| Unmade::Unsigned)?;
        let question = Question::of(&request, &target).ok_or(Unmade::Unsigned)?;
        Ok((request, question))
    }

    /// The thirteen fields of A3.1. Nothing of the stamp: equal creates have equal bodies (A3).
    fn placing<'a>(
        &'a self,
        attempt: &'a Attempt,
        terms: &'a OrderTerms,
    ) -> PaymentRequestFields<'a> {
        let own_name = self.0.merchant_name.as_deref();
        PaymentRequestFields {
            transaction_type: terms.transaction_type.name(),
            business_type: attempt.mode.name(),
            bank_return_url: &self.0.callback_url,
            naming: naming(attempt),
            merchant_name: own_name.unwrap_or(&terms.merchant_name),
            order_date: terms.order_date.as_str(),
            order_amount: attempt.amount.to_string(),
            currency: attempt.amount.currency().code(),
            mobile_no: terms.mobile.expose(),
            goods_no: terms.goods_no.as_deref(),
            goods_name: terms.goods_name.as_deref(),
            goods_description: terms.goods_description.as_deref(),
        }
    }

    fn proven<'r>(
        &self,
        account: &AccountId,
        state: &CallState,
        reply: &'r Response<Bytes>,
        now: Timestamp,
    ) -> Result<Fields<'r>, Ambiguity> {
        self.prove(account, state, reply, now)?;
        Fields::parse(reply.body()).map_err(|_| Ambiguity::Unreadable)
    }

    /// Verifies that a reply is the institution's reply to our request, which this account signed.
    fn prove(
        &self,
        account: &AccountId,
        state: &CallState,
        reply: &Response<Bytes>,
        now: Timestamp,
    ) -> Result<(), Ambiguity> {
        // Signed or not, a server error says nothing about what was done before it.
        if reply.status().is_server_error() {
            return Err(Ambiguity::ServerFault);
        }
        let question = state.get::<Question>().ok_or(Ambiguity::Unproven)?;
        let account = self.0.accounts.get(account).ok_or(Ambiguity::Unproven)?;
        match verify_response(reply, question, &account.keys, now.seconds()) {
            Ok(proven) if account.owns(&proven) => Ok(()),
            Ok(_) | Err(_) => Err(Ambiguity::Unproven),
        }
    }
}

fn is_recent(proven: &Proven, now: Timestamp) -> bool {
    let now_s = now.seconds();
    let earliest = now_s.saturating_sub(CALLBACK_AGE_S_MAX);
    let latest = now_s.saturating_add(CALLBACK_LEAD_S_MAX);
    let expired = proven.expires_s.is_some_and(|expires_s| expires_s < now_s);
    (earliest..=latest).contains(&proven.created_s) && !expired
}

/// How every call identifies a payment: by the attempt's number.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PaymentIdentification<'a> {
    merchant_id: &'a str,
    merchant_order_no: &'a str,
}

fn naming(attempt: &Attempt) -> PaymentIdentification<'_> {
    PaymentIdentification {
        merchant_id: attempt.receiver.as_str(),
        merchant_order_no: attempt.id.as_str(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PaymentRequestFields<'a> {
    transaction_type: &'a str,
    business_type: &'a str,
    bank_return_url: &'a str,
    #[serde(flatten)]
    naming: PaymentIdentification<'a>,
    merchant_name: &'a str,
    order_date: &'a str,
    order_amount: String,
    currency: &'a str,
    mobile_no: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    goods_no: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goods_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goods_description: Option<&'a str>,
}
