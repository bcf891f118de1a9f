//! The `alipay` dialect: Alipay's gateway of forms (its version 2), signed with RSA2 only.
//!
//! Our attempt number is its `out_trade_no`, our refund number its `out_request_no`, our receiver its
//! `seller_id`. Answers are signed, but not bound to a request: they count by what they name.

mod account;
mod answers;
mod callbacks;
mod calls;
mod codes;
mod form;
mod parameters;
mod payments;
mod products;
mod refunds;
mod settings;
mod values;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use serde::Serialize;

use crate::domain::amount::CNY;
use crate::domain::attempt::Stamp;
use crate::domain::evidence::{
    Ambiguity, Evidence, EvidenceSource, Finding, OriginalPayment, PaymentAction, PaymentActionKind,
};
use crate::domain::identifiers::{AccountId, InstitutionId, Timestamp};
use crate::domain::institutions::Facts;
use crate::institution::alipay::account::AlipayAccount;
use crate::institution::alipay::answers::AlipayAnswer;
use crate::institution::alipay::callbacks::AlipayNotification;
use crate::institution::alipay::calls::{AlipayQuestion, TradeFields, common, signed};
use crate::institution::alipay::parameters::{CHARSET, SignedForm, UTF_8};
use crate::institution::alipay::payments::{AlipayFinding, CloseAnswer};
use crate::institution::alipay::products::{Creation, CreationTerms, creation};
use crate::institution::alipay::values::FEN_MAX;
use crate::institution::{
    Acknowledgement, Call, CallState, Callback, Effect, Host, Institution, InstitutionKind,
    Operation, Outgoing, ProvenCallback, SigningParty, Step, Unmade, Unverified,
};

pub(super) use settings::KIND;

/// Where every call goes, and every page.
const GATEWAY: &str = "/gateway.do";

/// A thread of the signing pool may hold a copy of it.
#[derive(Clone)]
struct AlipayAdapter(Arc<AlipayInstitution>);

struct AlipayInstitution {
    id: InstitutionId,
    facts: Facts,
    origin: String,
    accounts: HashMap<AccountId, AlipayAccount>,
}

/// What one answer proves, before it becomes evidence.
struct AnswerReading {
    finding: AlipayFinding,
    proves_arrival: bool,
    is_proven: bool,
}

impl AnswerReading {
    fn nothing(why: Ambiguity) -> Self {
        Self {
            finding: Err(why),
            proves_arrival: false,
            is_proven: false,
        }
    }
}

impl Institution for AlipayAdapter {
    fn id(&self) -> &InstitutionId {
        &self.0.id
    }

    fn kind(&self) -> &'static InstitutionKind {
        &KIND
    }

    fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Every request is signed with RSA; no answer is.
    fn slow(&self, party: SigningParty<'_>) -> Option<Arc<dyn Institution>> {
        match party {
            SigningParty::Account(account) => {
                self.0.accounts.get(account)?.signing()?;
                Some(Arc::new(self.clone()))
            }
            SigningParty::Answer(_) => None,
        }
    }

    fn origin(&self, host: Host) -> Option<&str> {
        (host == Host::Main).then_some(self.0.origin.as_str())
    }

    fn begin(&self, call: &Call<'_>, stamp: &Stamp) -> Step<Evidence> {
        let attempt = call.attempt;
        let made = match call.operation {
            Operation::Create => return self.create(call, stamp).unwrap_or_else(Step::Unmade),
            Operation::Query => {
                let content = TradeFields::of(attempt);
                self.send(call, &content, AlipayQuestion::Querying(None), stamp)
            }
            Operation::Close => {
                let content = TradeFields::of(attempt);
                self.send(call, &content, AlipayQuestion::Closing, stamp)
            }
            Operation::Refund(refund) => {
                let content = refunds::asking(refund, attempt);
                self.send(call, &content, AlipayQuestion::Refunding, stamp)
            }
            Operation::RefundQuery(refund) => {
                let content = refunds::naming(refund, attempt);
                self.send(call, &content, AlipayQuestion::QueryingRefund, stamp)
            }
        };
        made.unwrap_or_else(Step::Unmade)
    }

    fn next(
        &self,
        call: &Call<'_>,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Evidence> {
        let state = state.get::<AlipayQuestion>().copied();
        let account = self.0.accounts.get(&call.attempt.account);
        let (Some(state), Some(account)) = (state, account) else {
            return Step::Done(self.evidence(call, AnswerReading::nothing(Ambiguity::Unproven)));
        };
        let answer = AlipayAnswer::read(account, state.method(), reply);
        if state == AlipayQuestion::Closing {
            // Whatever it says, only the query counts.
            let close = answer.map_or(CloseAnswer::Open, |answer| payments::close_answer(&answer));
            let content = TradeFields::of(call.attempt);
            let next = AlipayQuestion::Querying(Some(close));
            let query = self.send(call, &content, next, stamp);
            return query.unwrap_or_else(Step::Unmade);
        }
        let reading = match answer {
            Ok(answer) => read(call, state, &answer),
            Err(why) => AnswerReading::nothing(why),
        };
        Step::Done(self.evidence(call, reading))
    }

    fn read_callback<'c>(
        &'c self,
        callback: Callback<'c>,
        _: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified> {
        let account = callback.account.and_then(|id| self.0.accounts.get(id));
        let account = account.ok_or(Unverified::Unverified("account"))?;
        let notification = AlipayNotification::read(account, callback.message.body())?;
        Ok(ProvenCallback::new(notification.about.clone(), move |_| {
            // One that names another application is of no account of ours.
            let is_ours = notification.is_of(account);
            Evidence {
                institution: self.0.id.clone(),
                accounts: Some(is_ours.then(|| account.id.clone()).into_iter().collect()),
                receiver: notification.receiver(),
                about: notification.about.clone(),
                by: EvidenceSource::Callback,
                sum: notification.sum(),
                along: notification.along(),
                asked_at: None,
                proves_arrival: is_ours,
                finding: notification.finding().unwrap_or_else(Finding::Ambiguous),
            }
        }))
    }

    fn acknowledge(
        &self,
        _: Callback<'_>,
        acknowledged: Acknowledgement,
        _: &str,
        _: &Stamp,
    ) -> Response<Bytes> {
        callbacks::acknowledge(acknowledged)
    }
}

fn read(call: &Call<'_>, state: AlipayQuestion, answer: &AlipayAnswer<'_>) -> AnswerReading {
    let attempt = call.attempt;
    let finding = match (state, call.refund()) {
        (AlipayQuestion::Creating(_, how), None) => payments::created(attempt, answer, how),
        (AlipayQuestion::Querying(None), None) => payments::queried(attempt, answer),
        (AlipayQuestion::Querying(Some(close)), None) => {
            payments::closed(payments::queried(attempt, answer), close)
        }
        (AlipayQuestion::Refunding, Some(refund)) => refunds::refunded(attempt, refund, answer),
        (AlipayQuestion::QueryingRefund, Some(refund)) => refunds::queried(attempt, refund, answer),
        (
            AlipayQuestion::Creating(..)
            | AlipayQuestion::Closing
            | AlipayQuestion::Querying(_)
            | AlipayQuestion::Refunding
            | AlipayQuestion::QueryingRefund,
            Some(_) | None,
        ) => Err(Ambiguity::Unproven),
    };
    let proves_arrival = match state {
        AlipayQuestion::Querying(_) => payments::names(attempt, answer),
        AlipayQuestion::Creating(..)
        | AlipayQuestion::Closing
        | AlipayQuestion::Refunding
        | AlipayQuestion::QueryingRefund => {
            matches!(finding, Ok(Finding::Accepted(_) | Finding::Succeeded(_)))
        }
    };
    AnswerReading {
        finding,
        proves_arrival,
        is_proven: answer.is_proven,
    }
}

impl AlipayAdapter {
    /// A signed answer is to our own request, whose key and token name account and receiver; what it
    /// names itself was compared.
    fn evidence(&self, call: &Call<'_>, reading: AnswerReading) -> Evidence {
        let believed = reading.is_proven && reading.finding.is_ok();
        Evidence {
            institution: self.0.id.clone(),
            accounts: believed.then(|| vec![call.attempt.account.clone()]),
            receiver: believed.then(|| call.attempt.receiver.clone()),
            about: call.about(),
            by: call.means(),
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: reading.proves_arrival,
            finding: reading.finding.unwrap_or_else(Finding::Ambiguous),
        }
    }

    fn create(&self, call: &Call<'_>, stamp: &Stamp) -> Result<Step<Evidence>, Unmade> {
        let attempt = call.attempt;
        let account = self.account(call)?;
        let terms = creation(attempt.product.as_str(), account).ok_or(Unmade::Malformed)?;
        let amount = attempt.amount;
        if amount.currency() != CNY || amount.minor() > FEN_MAX {
            return Err(Unmade::Malformed);
        }
        let signed = Self::creating(call, account, &terms, stamp)?;
        let way = match terms.creation {
            Creation::Code | Creation::Number => {
                let state = AlipayQuestion::Creating(terms.method, terms.creation);
                return self.outgoing(&signed, call.effect(), state);
            }
            Creation::Page => {
                let address = format!("{}{GATEWAY}?{}", self.0.origin, signed.whole());
                PaymentActionKind::Redirect(address.into())
            }
            Creation::OrderString => {
                let text = serde_json::to_string(&signed.whole()).map_err(|_| Unmade::Malformed)?;
                PaymentActionKind::SdkParameters(text.into())
            }
        };
        let expires = Some(attempt.pay_by);
        Ok(Step::Done(self.evidence(
            call,
            AnswerReading {
                finding: Ok(Finding::Accepted(Some(PaymentAction { way, expires }))),
                proves_arrival: false,
                is_proven: true,
            },
        )))
    }

    fn creating(
        call: &Call<'_>,
        account: &AlipayAccount,
        terms: &CreationTerms<'_>,
        stamp: &Stamp,
    ) -> Result<SignedForm, Unmade> {
        let parameters = common(call, account, terms.method, stamp)?
            .with("notify_url", account.callback_url.as_str())
            .with("biz_content", products::content(call, account, terms)?);
        signed(parameters, account)
    }

    /// The step that sends a call other than a create.
    fn send(
        &self,
        call: &Call<'_>,
        content: &impl Serialize,
        state: AlipayQuestion,
        stamp: &Stamp,
    ) -> Result<Step<Evidence>, Unmade> {
        let account = self.account(call)?;
        let content = serde_json::to_string(content).map_err(|_| Unmade::Malformed)?;
        let parameters = common(call, account, state.method(), stamp)?.with("biz_content", content);
        self.outgoing(&signed(parameters, account)?, call.effect(), state)
    }

    fn outgoing(
        &self,
        signed: &SignedForm,
        effect: Effect,
        state: AlipayQuestion,
    ) -> Result<Step<Evidence>, Unmade> {
        let address = format!("{}{GATEWAY}?{CHARSET}={UTF_8}", self.0.origin);
        let request = Request::post(address)
            .header(
                CONTENT_TYPE,
                "application/x-www-form-urlencoded;charset=utf-8",
            )
            .body(Bytes::from(signed.body()))
            .map_err(|_| Unmade::Malformed)?;
        Ok(Step::Send(Box::new(Outgoing {
            request,
            to: Host::Main,
            effect,
            state: CallState::new(state),
        })))
    }

    fn account(&self, call: &Call<'_>) -> Result<&AlipayAccount, Unmade> {
        let account = self.0.accounts.get(&call.attempt.account);
        account.ok_or(Unmade::Unsigned)
    }
}

#[cfg(test)]
mod tests;
