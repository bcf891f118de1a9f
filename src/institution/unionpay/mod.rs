//! The `unionpay` dialect: UnionPay's online gateway (全渠道, version 5.1.0), of directly contracted
//! merchants and of providers.
//!
//! Our attempt and refund numbers are its `orderId`; with `txnTime` they identify a transaction. Every
//! message brings the certificate that proves it. Signatures of answers cover their text and not our
//! request: what an answer is about, it has to say.

mod accounts;
mod answers;
mod codes;
mod message;
mod notifications;
mod products;
mod requests;
mod settings;
mod signing;
#[cfg(test)]
mod tests;
mod trust;

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};

use crate::domain::attempt::Stamp;
use crate::domain::evidence::{
    Ambiguity, Evidence, Finding, OriginalPayment, PaymentAction, PaymentActionKind, PaymentForm,
};
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::Facts;
use crate::institution::unionpay::accounts::{UnionPayAccount, UnionPayAccounts};
use crate::institution::unionpay::answers::UnionPayReading;
use crate::institution::unionpay::message::UnionPayMessage;
use crate::institution::unionpay::notifications::UnionPayNotification;
use crate::institution::unionpay::products::UnionPayProduct;
use crate::institution::{
    Acknowledgement, Call, CallState, Callback, Host, Institution, InstitutionKind, Operation,
    Outgoing, ProvenCallback, SigningParty, Step, Unmade, Unverified,
};

pub(super) use settings::KIND;

/// The form of requests.
const FORM: &str = "application/x-www-form-urlencoded;charset=UTF-8";

/// A thread of the signing pool may hold a copy of it.
#[derive(Clone)]
struct UnionPayAdapter(Arc<UnionPayInstitution>);

struct UnionPayInstitution {
    id: InstitutionId,
    facts: Facts,
    origin: String,
    accounts: UnionPayAccounts,
}

/// What is kept between a request and its answer.
struct UnionPayQuestion {
    /// When it was asked: a failure counts only if it was asked about after the deadline.
    asked: Timestamp,
}

impl Institution for UnionPayAdapter {
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
            // Answers to notifications are not signed.
            SigningParty::Answer(_) => None,
        };
        let is_slow = account?.is_slow();
        is_slow.then(|| -> Arc<dyn Institution> { Arc::new(self.clone()) })
    }

    fn origin(&self, host: Host) -> Option<&str> {
        match host {
            Host::Main => Some(&self.0.origin),
            Host::Second | Host::Files => None,
        }
    }

    fn begin(&self, call: &Call<'_>, stamp: &Stamp) -> Step<Evidence> {
        let step = self.account_of(call).and_then(|account| {
            let product = UnionPayProduct::of(call.attempt).ok_or(Unmade::Malformed)?;
            let (path, message) = match call.operation {
                Operation::Create => (product.path(), requests::create(call, account, product)?),
                // Nothing can be closed; whether it still has to be, only a query tells.
                Operation::Query | Operation::Close | Operation::RefundQuery(_) => {
                    (requests::QUERY, requests::query(call, account, product)?)
                }
                Operation::Refund(refund) => {
                    let message = requests::refund(call, refund, account, product)?;
                    (requests::BACK, message)
                }
            };
            let signer = account.signing(stamp.now).ok_or(Unmade::Unsigned)?;
            let message = signer.signed(message).ok_or(Unmade::Unsigned)?;
            match call.operation {
                Operation::Create if product.is_page() => Ok(self.page(call, path, message)),
                Operation::Create
                | Operation::Query
                | Operation::Close
                | Operation::Refund(_)
                | Operation::RefundQuery(_) => self.sending(call, path, &message, stamp.now),
            }
        });
        step.unwrap_or_else(Step::Unmade)
    }

    fn next(
        &self,
        call: &Call<'_>,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Evidence> {
        let account = self.account_of(call).ok();
        let product = UnionPayProduct::of(call.attempt);
        let read = match (state.get::<UnionPayQuestion>(), account, product) {
            (Some(question), Some(account), Some(product)) => {
                answers::read(call, account, product, reply, question.asked, stamp.now)
            }
            (Some(_) | None, _, _) => UnionPayReading::nothing(Ambiguity::Unproven),
        };
        self.done(call, read)
    }

    fn read_callback<'c>(
        &'c self,
        callback: Callback<'c>,
        now: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified> {
        let account = callback.account.and_then(|id| self.0.accounts.get(id));
        let account = account.ok_or(Unverified::Unverified("account"))?;
        let notification = UnionPayNotification::read(callback.message.body(), account, now)?;
        let about = notification.about.clone();
        Ok(ProvenCallback::new(about, move |_| {
            notification.evidence(&self.0.id, account)
        }))
    }

    fn acknowledge(
        &self,
        _: Callback<'_>,
        acknowledged: Acknowledgement,
        _: &str,
        _: &Stamp,
    ) -> Response<Bytes> {
        notifications::answer(acknowledged)
    }
}

impl UnionPayAdapter {
    fn account_of(&self, call: &Call<'_>) -> Result<&UnionPayAccount, Unmade> {
        let account = self.0.accounts.get(&call.attempt.account);
        account.ok_or(Unmade::Unsigned)
    }

    /// A payment that the payer's browser brings: nothing is sent, and UnionPay knows nothing of it
    /// until then.
    fn page(&self, call: &Call<'_>, path: &str, message: UnionPayMessage) -> Step<Evidence> {
        let fields = message.into_fields().into_iter();
        let form = PaymentForm {
            url: [self.0.origin.as_str(), path].concat().into(),
            fields: fields
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        };
        let action = PaymentAction {
            way: PaymentActionKind::Form(form),
            expires: Some(call.attempt.pay_by),
        };
        self.done(
            call,
            UnionPayReading {
                finding: Ok(Finding::Accepted(Some(action))),
                is_proven: true,
                proves_arrival: false,
            },
        )
    }

    fn sending(
        &self,
        call: &Call<'_>,
        path: &str,
        message: &UnionPayMessage,
        asked: Timestamp,
    ) -> Result<Step<Evidence>, Unmade> {
        let request = Request::post([self.0.origin.as_str(), path].concat())
            .header(CONTENT_TYPE, FORM)
            .body(Bytes::from(message.form()))
            .map_err(|_| Unmade::Malformed)?;
        Ok(Step::Send(Box::new(Outgoing {
            request,
            to: Host::Main,
            effect: call.effect(),
            state: CallState::new(UnionPayQuestion { asked }),
        })))
    }

    /// The end of a call. What nobody proves is evidence of no account.
    fn done(&self, call: &Call<'_>, read: UnionPayReading) -> Step<Evidence> {
        let is_proven = read.is_proven;
        Step::Done(Evidence {
            institution: self.0.id.clone(),
            accounts: is_proven.then(|| vec![call.attempt.account.clone()]),
            // The receiver in our request, where the answer names none; else it was compared.
            receiver: is_proven.then(|| call.attempt.receiver.clone()),
            about: call.about(),
            by: call.means(),
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: read.proves_arrival,
            finding: read.finding.unwrap_or_else(Finding::Ambiguous),
        })
    }
}
