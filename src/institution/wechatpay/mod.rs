//! The `wechatpay` dialect: WeChat Pay's API v3 in its RSA scheme, of directly contracted merchants
//! and of service providers (服务商).
//!
//! Our attempt number is its `out_trade_no`, our refund number its `out_refund_no`. Signatures of
//! answers cover their text and not our request: what an answer is about, it has to say, or only
//! the connection does.

mod accounts;
mod errors;
mod notifications;
mod payments;
mod refunds;
mod requests;
mod settings;
mod signing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Request, Response, StatusCode};

use crate::domain::attempt::{AttemptState, Stamp};
use crate::domain::evidence::{Ambiguity, Evidence, Finding, OriginalPayment};
use crate::domain::fields::Fields;
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::Facts;
use crate::domain::refund::RefundState;
use crate::institution::wechatpay::accounts::{WechatAccount, WechatAccounts};
use crate::institution::wechatpay::errors::{Wanted, WechatFinding, of_error};
use crate::institution::wechatpay::notifications::Notification;
use crate::institution::wechatpay::requests::WechatRequest;
use crate::institution::wechatpay::signing::{SERIAL, SignedRequest, authorization, nonce, verify};
use crate::institution::{
    Acknowledgement, Call, CallState, Callback, Effect, Host, Institution, InstitutionKind,
    Operation, Outgoing, ProvenCallback, SigningParty, Step, Unmade, Unverified,
};

pub(super) use settings::KIND;

/// Our name; requests without one may be refused.
const AGENT: &str = "paymux";

#[derive(Clone)]
struct WechatAdapter(Arc<WechatInstitution>);

struct WechatInstitution {
    id: InstitutionId,
    facts: Facts,
    main: String,
    second: Option<String>,
    accounts: WechatAccounts,
}

/// What an answer is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WechatStep {
    /// To the only request of a call, or to a close.
    Act,
    /// To the query that follows a close; whether that was confirmed.
    AfterClose { is_confirmed: bool },
}

/// What an answer proves, and what it shows besides.
struct WechatReading {
    finding: WechatFinding,
    /// It is signed by the platform.
    is_proven: bool,
    /// It shows that the platform has the payment or refund (V5).
    proves_arrival: bool,
}

impl Institution for WechatAdapter {
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
            Host::Main => Some(&self.0.main),
            Host::Second => self.0.second.as_deref(),
            Host::Files => None,
        }
    }

    fn begin(&self, call: &Call<'_>, stamp: &Stamp) -> Step<Evidence> {
        let step = self.account_of(call).and_then(|account| {
            let attempt = call.attempt;
            let (request, effect) = match call.operation {
                Operation::Create => (requests::prepay(call, account)?, Effect::MayMoveMoney),
                Operation::Query => (requests::query(attempt, account), Effect::None),
                Operation::Close => (requests::close(attempt, account)?, Effect::None),
                Operation::Refund(refund) => {
                    let request = requests::refund(refund, attempt, account)?;
                    (request, Effect::MayMoveMoney)
                }
                Operation::RefundQuery(refund) => {
                    let request = requests::refund_query(refund, attempt, account);
                    (request, Effect::None)
                }
            };
            let request = self.signed(request, account, call.word(), stamp)?;
            Ok(sending(request, effect, WechatStep::Act))
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
        let Ok(account) = self.account_of(call) else {
            return self.done(call, WechatReading::nothing(Ambiguity::Unproven));
        };
        match (state.get::<WechatStep>(), call.operation) {
            (Some(WechatStep::Act), Operation::Close) => self.closed(call, account, reply, stamp),
            (Some(WechatStep::AfterClose { is_confirmed }), Operation::Close) => {
                let read = read(call, account, reply, stamp);
                self.done(call, read.after_close(*is_confirmed))
            }
            (
                Some(WechatStep::Act),
                Operation::Create
                | Operation::Query
                | Operation::Refund(_)
                | Operation::RefundQuery(_),
            ) => self.done(call, read(call, account, reply, stamp)),
            (Some(WechatStep::AfterClose { .. }) | None, _) => {
                self.done(call, WechatReading::nothing(Ambiguity::Unproven))
            }
        }
    }

    fn read_callback<'c>(
        &'c self,
        callback: Callback<'c>,
        now: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified> {
        let account = callback.account.and_then(|id| self.0.accounts.get(id));
        let account = account.ok_or(Unverified::Unverified("account"))?;
        let message = callback.message;
        verify(message.headers(), message.body(), account, now)
            .map_err(|why| Unverified::Unverified(why.word()))?;
        let notification = Notification::open(message.body(), account)?;
        let about = notification.about.clone();
        Ok(ProvenCallback::new(about, move |absent| {
            notification.evidence(&self.0.id, account, absent)
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

impl WechatAdapter {
    fn account_of(&self, call: &Call<'_>) -> Result<&WechatAccount, Unmade> {
        let account = self.0.accounts.get(&call.attempt.account);
        account.ok_or(Unmade::Unsigned)
    }

    /// After a close only the query that follows it counts: a confirmation proves nothing about an
    /// unknown number. A close that the platform did not look at is followed by none.
    fn closed(
        &self,
        call: &Call<'_>,
        account: &WechatAccount,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Evidence> {
        let (headers, body, status) = (reply.headers(), reply.body(), reply.status());
        let is_proven = verify(headers, body, account, stamp.now).is_ok();
        let fields = Fields::parse(body).ok();
        let code = fields.as_ref().and_then(code);
        if errors::stops_call(status, code) {
            let finding = of_error(Wanted::Payment, is_proven, status, code);
            return self.done(
                call,
                WechatReading {
                    finding,
                    is_proven,
                    proves_arrival: false,
                },
            );
        }
        let is_closed = status == StatusCode::NO_CONTENT
            || (status.is_client_error() && code.is_some_and(errors::says_closed_or_unknown));
        let is_confirmed = is_proven && is_closed;
        let query = requests::query(call.attempt, account);
        self.signed(query, account, "query", stamp)
            .map_or_else(Step::Unmade, |request| {
                let step = WechatStep::AfterClose { is_confirmed };
                sending(request, Effect::None, step)
            })
    }

    fn signed(
        &self,
        request: WechatRequest,
        account: &WechatAccount,
        label: &str,
        stamp: &Stamp,
    ) -> Result<Request<Bytes>, Unmade> {
        let WechatRequest {
            method,
            target,
            body,
        } = request;
        let key = account.signing(stamp.now).ok_or(Unmade::Unsigned)?;
        let signing = SignedRequest {
            method,
            target: &target,
            body: &body,
        };
        let (mchid, nonce) = (account.mchid.as_str(), nonce(label, stamp));
        let proof = authorization(&signing, mchid, key, &nonce, stamp.now);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.0.main))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, AGENT)
            .header(AUTHORIZATION, proof.ok_or(Unmade::Unsigned)?);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(id) = &account.ask_for_key {
            request = request.header(SERIAL, id.clone());
        }
        request
            .body(Bytes::from(body))
            .map_err(|_| Unmade::Malformed)
    }

    /// The end of a call. What no key proves is evidence of no account.
    fn done(&self, call: &Call<'_>, read: WechatReading) -> Step<Evidence> {
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

/// The step that sends a request to the main host.
fn sending(request: Request<Bytes>, effect: Effect, step: WechatStep) -> Step<Evidence> {
    Step::Send(Box::new(Outgoing {
        request,
        to: Host::Main,
        effect,
        state: CallState::new(step),
    }))
}

impl WechatReading {
    fn nothing(why: Ambiguity) -> Self {
        Self {
            finding: Err(why),
            is_proven: false,
            proves_arrival: false,
        }
    }

    /// What a query after a close proves: one that is still open was not refused but not closed yet;
    /// one that is not there counts only after a confirmed close (A5).
    fn after_close(self, is_confirmed: bool) -> Self {
        let finding = match self.finding {
            Ok(Finding::Accepted(_)) => Err(Ambiguity::NoAnswer),
            Ok(Finding::NotFound) if !is_confirmed => Err(Ambiguity::NoAnswer),
            other => other,
        };
        Self { finding, ..self }
    }
}

/// Reads an answer: first who sent it, then what it says.
fn read(
    call: &Call<'_>,
    account: &WechatAccount,
    reply: &Response<Bytes>,
    stamp: &Stamp,
) -> WechatReading {
    let (body, status) = (reply.body(), reply.status());
    let is_proven = verify(reply.headers(), body, account, stamp.now).is_ok();
    let parsed = Fields::parse(body);
    if status != StatusCode::OK {
        let code = parsed.as_ref().ok().and_then(code);
        return WechatReading {
            finding: of_error(wanted(call), is_proven, status, code),
            is_proven,
            proves_arrival: false,
        };
    }
    if !is_proven {
        return WechatReading::nothing(Ambiguity::Unproven);
    }
    let (finding, is_about_it) = match parsed {
        Ok(fields) => read_fields(call, account, &fields, stamp),
        Err(_) => (Err(Ambiguity::Unreadable), false),
    };
    WechatReading {
        proves_arrival: is_about_it,
        finding,
        is_proven,
    }
}

/// What a verified answer 200 says, and whether it is about this payment or refund.
fn read_fields(
    call: &Call<'_>,
    account: &WechatAccount,
    fields: &Fields<'_>,
    stamp: &Stamp,
) -> (WechatFinding, bool) {
    let attempt = call.attempt;
    let about = match call.operation {
        Operation::Create => {
            let found = payments::created(call, account, fields, stamp);
            let is_accepted = found.is_ok();
            return (found, is_accepted);
        }
        Operation::Query | Operation::Close => payments::is_about(call, account, fields),
        Operation::Refund(refund) | Operation::RefundQuery(refund) => {
            refunds::is_about(fields, refund, attempt, account)
        }
    };
    match (about, call.refund()) {
        (Err(why), _) => (Err(why), false),
        (Ok(()), None) => (payments::queried(fields, attempt), true),
        (Ok(()), Some(refund)) => (refunds::answered(fields, refund), true),
    }
}

/// What was asked for. A repeat may be refused although the first sending was not.
fn wanted(call: &Call<'_>) -> Wanted {
    match call.operation {
        Operation::Create => Wanted::Prepay {
            is_first: call.attempt.state == AttemptState::Intent,
        },
        Operation::Query | Operation::Close => Wanted::Payment,
        Operation::Refund(refund) => Wanted::Refund {
            is_first: refund.state == RefundState::Reserved,
        },
        Operation::RefundQuery(_) => Wanted::RefundState,
    }
}

/// The code of an error answer.
fn code<'f>(fields: &'f Fields<'_>) -> Option<&'f str> {
    fields.text("code")?.ok()
}
