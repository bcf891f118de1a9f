//! A tiny test dialect that needs what the `standard` one does not: two steps, forms in GBK, a MAC
//! under a shared secret, parameters signed after the reply, callbacks by account, and a
//! sub-merchant with a number of its own. It shows that future dialects fit the trait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use encoding_rs::GBK;
use http::{Request, Response};
use paymux::crypto::hmac::HmacKey;
use paymux::domain::amount::Amount;
use paymux::domain::attempt::{AttemptState, Stamp};
use paymux::domain::evidence::{
    Ambiguity, Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment, PaymentAction,
    PaymentActionKind, Receipt, Rejection,
};
use paymux::domain::identifiers::{
    AccountId, AttemptId, InstitutionId, MerchantId, ReceiverId, Timestamp, hex,
};
use paymux::domain::institutions::{CallbackPath, Facts, Mode};
use paymux::flow::call_institution::{CREATE_TIMEOUTS, SendOptions, call_institution, send_once};
use paymux::institution::{
    Acknowledgement, Call, CallState, Callback, Effect, Host, Institution, InstitutionKind,
    Operation, Outgoing, ProvenCallback, STEPS_MAX, Step, Unverified, kind,
};
use paymux::world::{
    Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError, World,
};

use super::recorded::{order_with, order_with_refund};
use crate::world::test_gateway::TestGateway;

const ORIGIN: &str = "https://tiny.example";
pub(super) const TAG: &str = "x-tag";

/// The setting of a sub-merchant.
pub(super) const STORE: &str = "store_no";

/// Its misbehaviour.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TinyQuirk {
    No,
    /// Requests a further token after each one.
    Endless,
    /// Sends the payment to another host.
    Elsewhere,
}

pub(super) struct TinyDialect {
    pub(super) id: InstitutionId,
    pub(super) facts: Facts,
    secret: HmacKey,
    quirk: TinyQuirk,
}

/// The state of a call.
enum TinyState {
    Token,
    Act,
    Query,
}

/// The fields of a form, with text in GBK.
pub(super) fn form(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.encoding_override(Some(&|text| GBK.encode(text).0.into_owned().into()));
    for (name, value) in fields {
        form.append_pair(name, value);
    }
    form.finish().into_bytes()
}

/// The MAC of a callback, under the secret of one account.
pub(super) fn tag_of(account: &AccountId, body: &[u8]) -> String {
    let secret = format!("{:*>32}", account.as_str());
    hex(&HmacKey::new(secret.as_bytes()).sign(body))
}

/// A form's field, where all its bytes are GBK.
pub(super) fn field(body: &[u8], name: &str) -> Option<String> {
    body.split(|byte| *byte == b'&').find_map(|pair| {
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let bytes = unescaped(value);
        GBK.decode_without_bom_handling_and_without_replacement(&bytes)
            .map(Into::into)
    })
}

fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = value;
    while let [first, others @ ..] = rest {
        rest = others;
        match (first, others) {
            (b'%', [high, low, after @ ..]) => {
                let text = String::from_utf8_lossy(&[*high, *low]).into_owned();
                bytes.push(u8::from_str_radix(&text, 16).unwrap_or(b'?'));
                rest = after;
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    bytes
}

impl TinyDialect {
    pub(super) fn new(quirk: TinyQuirk) -> Self {
        Self {
            id: InstitutionId::parse("harbour").unwrap(),
            facts: Facts {
                callback_path: CallbackPath::OfAccount,
                ..kind("standard").unwrap().facts()
            },
            secret: HmacKey::new(b"a secret of thirty-two bytes ok."),
            quirk,
        }
    }

    fn send(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        effect: Effect,
        at: TinyState,
    ) -> Step<Evidence> {
        let body = form(fields);
        let elsewhere = self.quirk == TinyQuirk::Elsewhere && effect == Effect::MayMoveMoney;
        let origin = if elsewhere {
            "https://tiny.example.net"
        } else {
            ORIGIN
        };
        let request = Request::post(format!("{origin}{path}"))
            .header(TAG, hex(&self.secret.sign(&body)))
            .body(Bytes::from(body))
            .unwrap();
        Step::Send(Box::new(Outgoing {
            request,
            to: Host::Main,
            effect,
            state: CallState::new(at),
        }))
    }

    fn token(&self, call: &Call<'_>, stamp: &Stamp) -> Step<Evidence> {
        let (name, nonce) = (&*call.terms.merchant_name, hex(&stamp.nonce));
        let mut fields = vec![("name", name), ("nonce", nonce.as_str())];
        let store = call.sub_merchant.and_then(|sub| sub.text(STORE));
        fields.extend(store.map(|store| (STORE, store)));
        self.send("/token", &fields, Effect::None, TinyState::Token)
    }

    fn evidence(&self, call: &Call<'_>, finding: Finding) -> Step<Evidence> {
        Step::Done(Evidence {
            institution: self.id.clone(),
            accounts: Some(vec![call.attempt.account.clone()]),
            receiver: Some(call.attempt.receiver.clone()),
            about: call.about(),
            by: call.means(),
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: false,
            finding,
        })
    }

    /// A reply with a MAC that only this institution can make.
    pub(super) fn reply(&self, fields: &[(&str, &str)]) -> Response<Bytes> {
        let body = form(fields);
        Response::builder()
            .header(TAG, hex(&self.secret.sign(&body)))
            .body(Bytes::from(body))
            .unwrap()
    }
}

impl Institution for TinyDialect {
    fn id(&self) -> &InstitutionId {
        &self.id
    }

    fn kind(&self) -> &'static InstitutionKind {
        kind("standard").unwrap()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn origin(&self, host: Host) -> Option<&str> {
        (host == Host::Main).then_some(ORIGIN)
    }

    fn begin(&self, call: &Call<'_>, stamp: &Stamp) -> Step<Evidence> {
        match call.operation {
            Operation::Create | Operation::Query => self.token(call, stamp),
            Operation::Refund(refund) => {
                let fields = [("refund", refund.no.as_str())];
                self.send("/refund", &fields, Effect::MayMoveMoney, TinyState::Act)
            }
            Operation::Close => self.send("/close", &[], Effect::None, TinyState::Act),
            Operation::RefundQuery(_) => self.send("/query", &[], Effect::None, TinyState::Query),
        }
    }

    fn next(
        &self,
        call: &Call<'_>,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Evidence> {
        let tag = reply.headers().get(TAG).map(|tag| tag.as_bytes().to_vec());
        if tag != Some(hex(&self.secret.sign(reply.body())).into_bytes()) {
            return self.evidence(call, Finding::Ambiguous(Ambiguity::Unproven));
        }
        let form_field = |name: &str| field(reply.body(), name);
        if let Some(why) = form_field("rejected") {
            let why = match &*why {
                "rate" => Rejection::Rate,
                "signature" => Rejection::Signature,
                _ => Rejection::Format,
            };
            return self.evidence(call, Finding::NotExecuted(why));
        }
        match (state.get::<TinyState>(), form_field("token")) {
            (Some(TinyState::Token), Some(_)) if self.quirk == TinyQuirk::Endless => {
                self.token(call, stamp)
            }
            (Some(TinyState::Token), Some(token)) => {
                let fields = [("token", &*token), ("attempt", call.attempt.id.as_str())];
                self.send("/pay", &fields, Effect::MayMoveMoney, TinyState::Act)
            }
            (Some(TinyState::Act), _) if !matches!(call.operation, Operation::Create) => {
                self.send("/query", &[], Effect::None, TinyState::Query)
            }
            (Some(TinyState::Act), _) => match form_field("prepay") {
                Some(prepay) => {
                    let lines = format!(
                        "tiny\n{}\n{}\n{prepay}\n",
                        stamp.now.seconds(),
                        hex(&stamp.nonce)
                    );
                    let sign = hex(&self.secret.sign(lines.as_bytes()));
                    let way = PaymentActionKind::SdkParameters(
                        format!(r#"{{"lines":{lines:?},"sign":"{sign}"}}"#).into(),
                    );
                    let action = PaymentAction { way, expires: None };
                    self.evidence(call, Finding::Accepted(Some(action)))
                }
                None => self.evidence(call, Finding::Ambiguous(Ambiguity::Unreadable)),
            },
            (Some(TinyState::Query), _) if form_field("state").as_deref() == Some("已退款") => {
                self.evidence(
                    call,
                    Finding::Succeeded(Receipt {
                        amount: call.refund().unwrap().amount,
                        institution_no: Some("T-1".into()),
                        paid_at: stamp.now,
                        fee: None,
                    }),
                )
            }
            _ => self.evidence(call, Finding::Ambiguous(Ambiguity::UnlistedWord)),
        }
    }

    fn read_callback<'c>(
        &'c self,
        callback: Callback<'c>,
        now: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified> {
        let account = callback.account.ok_or(Unverified::Unverified("account"))?;
        let body = callback.message.body();
        let tag = callback.message.headers().get(TAG);
        if tag.map(http::HeaderValue::as_bytes) != Some(tag_of(account, body).as_bytes()) {
            return Err(Unverified::Unverified("tag"));
        }
        let no = field(body, "attempt").and_then(|no| AttemptId::parse(&no).ok());
        let no = no.ok_or(Unverified::NamesNothing("attempt"))?;
        let about = EvidenceSubject::Attempt(no);
        // Whatever account the message names: only that of the address counts.
        let named = field(body, "account").and_then(|named| AccountId::parse(&named).ok());
        Ok(ProvenCallback::new(about.clone(), move |currency| {
            let minor = field(body, "minor").and_then(|minor| minor.parse().ok());
            let amount = Amount::from_minor(minor.unwrap(), currency).unwrap();
            let receiver = field(body, "receiver").unwrap();
            Evidence {
                institution: self.id.clone(),
                accounts: named.map(|named| vec![named]),
                receiver: ReceiverId::parse(&receiver).ok(),
                about,
                by: EvidenceSource::Callback,
                sum: Some(amount),
                along: OriginalPayment::default(),
                asked_at: None,
                proves_arrival: true,
                finding: Finding::Succeeded(Receipt {
                    amount,
                    institution_no: Some("T-2".into()),
                    paid_at: now,
                    fee: None,
                }),
            }
        }))
    }

    fn acknowledge(
        &self,
        callback: Callback<'_>,
        acknowledged: Acknowledgement,
        _: &str,
        _: &Stamp,
    ) -> Response<Bytes> {
        let account = callback.account.map_or("nobody", AccountId::as_str);
        Response::new(format!("{acknowledged:?} by {account}").into())
    }
}

/// The outcomes of successive exchanges; each may take its time.
#[derive(Default)]
struct ScriptedOutbound {
    endings: Mutex<VecDeque<Result<Response<Bytes>, SendError>>>,
    sent: Mutex<Vec<Request<Bytes>>>,
    while_away: Option<Box<dyn Fn() + Send + Sync>>,
    while_waiting: Option<Box<dyn Fn() + Send + Sync>>,
}

#[async_trait]
impl Outbound for ScriptedOutbound {
    async fn send(
        &self,
        _: &OutboundParty,
        request: Request<Bytes>,
        _: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        self.sent.lock().unwrap().push(request);
        if let Some(pass) = &self.while_away {
            pass();
        }
        self.endings.lock().unwrap().pop_front().unwrap()
    }

    async fn permit(&self, _: &InstitutionId, _: &MerchantId) -> Result<Permit, PermitUnavailable> {
        if let Some(pass) = &self.while_waiting {
            pass();
        }
        Ok(Permit::free())
    }
}

fn not_sent() -> Result<Response<Bytes>, SendError> {
    Err(SendError::NotSent("refused".into()))
}

pub(super) fn lost() -> Result<Response<Bytes>, SendError> {
    Err(SendError::Unknown("silence".into()))
}

pub(super) struct StepsTestbed {
    pub(super) gateway: TestGateway,
    pub(super) tiny: TinyDialect,
}

impl StepsTestbed {
    pub(super) fn new(quirk: TinyQuirk) -> Self {
        Self {
            gateway: TestGateway::new(),
            tiny: TinyDialect::new(quirk),
        }
    }

    pub(super) fn token(&self) -> Response<Bytes> {
        self.tiny.reply(&[("token", "t-1"), ("name", "茶馆")])
    }

    /// The outcome of a call, and what was sent for it.
    pub(super) async fn call(
        &self,
        call: &Call<'_>,
        endings: impl IntoIterator<Item = Result<Response<Bytes>, SendError>>,
    ) -> (Finding, Vec<Request<Bytes>>) {
        self.call_over(
            call,
            ScriptedOutbound {
                endings: Mutex::new(endings.into_iter().collect()),
                ..ScriptedOutbound::default()
            },
        )
        .await
    }

    async fn call_over(
        &self,
        call: &Call<'_>,
        script: ScriptedOutbound,
    ) -> (Finding, Vec<Request<Bytes>>) {
        let script = Arc::new(script);
        let world = World {
            outbound: Arc::<ScriptedOutbound>::clone(&script),
            ..self.gateway.api.world.clone()
        };
        let found = if call.is_send() {
            let leave =
                SendOptions::at_once(Some(Permit::free()), world.sends.begin(&call.about()));
            send_once(&world, &self.tiny, call, leave).await
        } else {
            call_institution(&world, &self.tiny, call, CREATE_TIMEOUTS).await
        };
        let sent = std::mem::take(&mut *script.sent.lock().unwrap());
        (found.finding, sent)
    }
}

/// E3, A3: a token, then the payment; the payer's parameters are signed after the reply, with a
/// stamp of their own.
#[tokio::test]
async fn a_create_of_two_steps_ends_in_a_signed_payment_action() {
    let bed = StepsTestbed::new(TinyQuirk::No);
    let order = order_with(AttemptState::Intent, Mode::Native);
    let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
    let accepted = Ok(bed.tiny.reply(&[("prepay", "P-1")]));
    let (found, sent) = bed.call(&call, [Ok(bed.token()), accepted]).await;
    let paths: Vec<_> = sent.iter().map(|one| one.uri().path()).collect();
    assert_eq!(paths, ["/token", "/pay"]);
    assert_eq!(field(sent[0].body(), "name").as_deref(), Some("茶"));
    assert!(
        sent[0].body().starts_with(b"name=%B2%E8&"),
        "GBK, not UTF-8"
    );
    assert_eq!(field(sent[1].body(), "token").as_deref(), Some("t-1"));
    let Finding::Accepted(Some(PaymentAction {
        way: PaymentActionKind::SdkParameters(text),
        ..
    })) = found
    else {
        panic!("{found:?}");
    };
    let action: serde_json::Value = serde_json::from_str(&text).unwrap();
    let lines = action["lines"].as_str().unwrap();
    assert_eq!(action["sign"], hex(&bed.tiny.secret.sign(lines.as_bytes())));
    let first = field(sent[0].body(), "nonce").unwrap();
    assert!(!lines.contains(&first), "each step has a stamp of its own");
}

/// E1: before the step that may move money, a failure to send is proof of not sent.
#[tokio::test]
async fn not_sent_is_proof_before_money_may_move() {
    let bed = StepsTestbed::new(TinyQuirk::No);
    let order = order_with(AttemptState::Intent, Mode::Native);
    let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
    for endings in [
        vec![not_sent()],
        vec![Ok(bed.token()), not_sent()],
        vec![lost()],
    ] {
        let is_silence = matches!(endings[0], Err(SendError::Unknown(_)));
        let (found, _) = bed.call(&call, endings).await;
        let expected = if is_silence {
            Finding::Ambiguous(Ambiguity::NoAnswer)
        } else {
            Finding::NotSent
        };
        assert_eq!(found, expected);
    }
}

/// E1, E5: after a step that may have moved money nothing that follows makes the call unsent.
#[tokio::test]
async fn after_money_may_have_moved_nothing_is_called_unsent() {
    let bed = StepsTestbed::new(TinyQuirk::No);
    let order = order_with_refund("RESERVED", Mode::Native);
    let call = Call::new(
        Operation::Refund(&order.refunds[0]),
        &order.attempts[0],
        &order.terms,
    );
    let accepted = || Ok(bed.tiny.reply(&[]));
    let unclear = Finding::Ambiguous(Ambiguity::NoAnswer);
    assert_eq!(bed.call(&call, [accepted(), not_sent()]).await.0, unclear);
    let ours = Err(SendError::LocalShortage("files".into()));
    assert_eq!(bed.call(&call, [accepted(), ours]).await.0, unclear);
    assert_eq!(bed.call(&call, [lost()]).await.0, unclear);
    assert_eq!(bed.call(&call, [not_sent()]).await.0, Finding::NotSent);
    let back = Ok(bed.tiny.reply(&[("state", "已退款")]));
    let (found, _) = bed.call(&call, [accepted(), back]).await;
    assert!(matches!(found, Finding::Succeeded(_)), "{found:?}");
}

/// A dialect with endless steps is cut off.
#[tokio::test]
async fn a_call_of_endless_steps_is_cut_off() {
    let bed = StepsTestbed::new(TinyQuirk::Endless);
    let order = order_with(AttemptState::Unknown, Mode::Native);
    let call = Call::new(Operation::Query, &order.attempts[0], &order.terms);
    let endings = std::iter::repeat_with(|| Ok(bed.token())).take(STEPS_MAX * 2);
    let (found, sent) = bed.call(&call, endings).await;
    assert_eq!((found, sent.len()), (Finding::NotSent, STEPS_MAX));
}

/// A1: no request is sent to a host other than the institution's own.
#[tokio::test]
async fn a_request_to_another_host_is_not_sent() {
    let bed = StepsTestbed::new(TinyQuirk::Elsewhere);
    let order = order_with(AttemptState::Intent, Mode::Native);
    let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
    let (found, sent) = bed.call(&call, [Ok(bed.token())]).await;
    assert_eq!((found, sent.len()), (Finding::NotSent, 1));
}

/// Q9: an intent that grew too old while a token was fetched is not sent any more.
#[tokio::test]
async fn an_intent_that_grew_old_between_two_steps_is_not_sent() {
    let bed = StepsTestbed::new(TinyQuirk::No);
    let order = order_with(AttemptState::Intent, Mode::Native);
    let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
    let clock = Arc::clone(&bed.gateway.clock);
    let script = ScriptedOutbound {
        endings: Mutex::new([Ok(bed.token())].into()),
        while_away: Some(Box::new(move || clock.pass(16_000))),
        ..ScriptedOutbound::default()
    };
    let (found, sent) = bed.call_over(&call, script).await;
    assert_eq!((found, sent.len()), (Finding::NotSent, 1));
}

/// Q9: the same for one that grew too old while the further step waited for its permit.
#[tokio::test]
async fn an_intent_that_grew_old_before_a_permit_is_not_sent() {
    let bed = StepsTestbed::new(TinyQuirk::No);
    let order = order_with(AttemptState::Intent, Mode::Native);
    let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
    let clock = Arc::clone(&bed.gateway.clock);
    let script = ScriptedOutbound {
        endings: Mutex::new([Ok(bed.token())].into()),
        while_waiting: Some(Box::new(move || clock.pass(16_000))),
        ..ScriptedOutbound::default()
    };
    let (found, sent) = bed.call_over(&call, script).await;
    assert_eq!((found, sent.len()), (Finding::NotSent, 1));
}

/// E5, C3: a truncated reply, one changed byte or an unlisted status proves nothing, in bytes that
/// are not UTF-8.
#[tokio::test]
async fn a_damaged_reply_of_a_further_step_proves_nothing() {
    let bed = StepsTestbed::new(TinyQuirk::No);
    let order = order_with_refund("UNKNOWN", Mode::Native);
    let call = Call::new(
        Operation::RefundQuery(&order.refunds[0]),
        &order.attempts[0],
        &order.terms,
    );
    let good = bed.tiny.reply(&[("state", "已退款")]);
    let mut replies = vec![bed.tiny.reply(&[("state", "未知")])];
    for at in 0..good.body().len() {
        let mut changed = good.body().to_vec();
        changed[at] ^= 1;
        for body in [changed, good.body()[..at].to_vec()] {
            let mut reply = good.clone();
            *reply.body_mut() = Bytes::from(body);
            replies.push(reply);
        }
    }
    for reply in replies {
        let (found, _) = bed.call(&call, [Ok(reply)]).await;
        assert!(matches!(found, Finding::Ambiguous(_)), "{found:?}");
    }
}
