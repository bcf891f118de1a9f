//! A simple dialect for tests, and its adapter: JSON authenticated by a keyed digest in one header.
//! Cheap enough for thousands of runs; it has every reply an institution can give and some it must
//! not.

use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use paymux::domain::amount::{Amount, CNY, Currency, Fee};
use paymux::domain::attempt::Stamp;
use paymux::domain::evidence::{
    Ambiguity, Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment, PaymentAction,
    PaymentActionKind, Reason, Receipt,
};
use paymux::domain::identifiers::{AttemptId, InstitutionId, ReceiverId, RefundOrderNo, Timestamp};
use paymux::domain::institutions::{Facts, Mode};
use paymux::institution::{
    Acknowledgement, Call, CallState, Callback, Host, Institution, InstitutionKind, Outgoing,
    ProvenCallback, Step, Unverified, kind,
};

/// The header that authenticates the sender.
pub(crate) const PROOF: &str = "x-proof";

/// The lifetime of the payer's link. Unit: milliseconds.
pub(crate) const LINK_LIFE_MS: i64 = 120_000;

/// The digest of a body that only this institution can make.
pub(crate) fn proof(institution: &str, body: &[u8]) -> String {
    let mut digest = DefaultHasher::new();
    digest.write(b"secret of ");
    digest.write(institution.as_bytes());
    digest.write(body);
    format!("{:016x}", digest.finish())
}

/// An authenticated message of an institution: a reply or the body of a callback.
pub(crate) fn proven(institution: &str, body: &Value) -> (Bytes, String) {
    let body = Bytes::from(serde_json::to_vec(body).unwrap());
    let proof = proof(institution, &body);
    (body, proof)
}

/// The adapter of the plain dialect.
pub(crate) struct PlainAdapter {
    pub(crate) id: InstitutionId,
    pub(crate) facts: Facts,
    pub(crate) origin: String,
}

impl PlainAdapter {
    pub(crate) fn new(id: InstitutionId, facts: Facts) -> Self {
        let origin = format!("https://{id}.example");
        Self { id, facts, origin }
    }

    fn proven_body(&self, headers: &http::HeaderMap, body: &Bytes) -> Option<Value> {
        let shown = headers.get(PROOF)?.to_str().ok()?;
        (shown == proof(self.id.as_str(), body))
            .then(|| serde_json::from_slice(body).unwrap_or(Value::Null))
    }

    fn evidence(&self, body: &Value, by: EvidenceSource, absent: Currency) -> Option<Evidence> {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let about = match text("refund") {
            Some(no) => EvidenceSubject::Refund(RefundOrderNo::parse(no).ok()?),
            None => EvidenceSubject::Attempt(AttemptId::parse(text("id")?).ok()?),
        };
        let receiver = text("receiver");
        Some(Evidence {
            institution: self.id.clone(),
            accounts: None,
            receiver: receiver.and_then(|receiver| ReceiverId::parse(receiver).ok()),
            about,
            by,
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: proves_arrival(body, by),
            finding: finding(body, by, absent),
        })
    }
}

/// An institution names its receiver with everything it has accepted. A create or refund that was
/// not accepted may belong to another receiver.
fn proves_arrival(body: &Value, by: EvidenceSource) -> bool {
    match by {
        EvidenceSource::Create | EvidenceSource::Refund => matches!(
            body.get("word").and_then(Value::as_str),
            Some("WAITING" | "PAID" | "RETURNING" | "RETURNED")
        ),
        EvidenceSource::Query | EvidenceSource::Close | EvidenceSource::Callback => {
            body.get("receiver").is_some()
        }
    }
}

fn finding(body: &Value, by: EvidenceSource, absent: Currency) -> Finding {
    let number = |name: &str| body.get(name).and_then(Value::as_i64);
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let currency = text("currency").map_or(Some(absent), |code| Currency::parse(code).ok());
    let amount = currency
        .zip(number("minor"))
        .and_then(|(currency, minor)| Amount::from_minor(minor, currency).ok());
    match text("word") {
        Some("WAITING") => Finding::Accepted(payment_action(body)),
        Some("RETURNING") => Finding::Accepted(None),
        Some("PAID" | "RETURNED") => match amount.zip(number("paidAt")) {
            Some((amount, paid_at)) => Finding::Succeeded(Receipt {
                amount,
                institution_no: text("number").map(Into::into),
                paid_at: Timestamp::from_ms(paid_at),
                fee: text("fee").and_then(|fee| Fee::parse(fee, amount.currency()).ok()),
            }),
            None => Finding::Ambiguous(Ambiguity::Unreadable),
        },
        Some("REFUSED") => Finding::Refused(Reason::from_code("NO_FUNDS")),
        Some("CLOSED") if by != EvidenceSource::Create => Finding::Closed,
        Some("NOT_FOUND") => Finding::NotFound,
        Some(_) => Finding::Ambiguous(Ambiguity::UnlistedWord),
        None => Finding::Ambiguous(Ambiguity::Unreadable),
    }
}

fn payment_action(body: &Value) -> Option<PaymentAction> {
    let expires = body.get("linkUntil").and_then(Value::as_i64);
    let way = match (body.get("link"), body.get("sdk")) {
        (Some(Value::String(link)), _) => PaymentActionKind::Redirect(link.as_str().into()),
        (_, Some(sdk)) => PaymentActionKind::SdkParameters(sdk.to_string().into()),
        _ => return None,
    };
    Some(PaymentAction {
        way,
        expires: expires.map(Timestamp::from_ms),
    })
}

impl Institution for PlainAdapter {
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
        (host == Host::Main).then_some(self.origin.as_str())
    }

    fn begin(&self, call: &Call<'_>, _: &Stamp) -> Step<Evidence> {
        let attempt = call.attempt;
        let mut body = json!({
        "call": call.word(),
        "id": attempt.id.as_str(),
        "receiver": attempt.receiver.as_str(),
        "minor": attempt.amount.minor(),
        "currency": attempt.amount.currency().code(),
        "minutes": call.terms.expire_minutes,
        "sdk": attempt.mode == Mode::Native,
        });
        if let Some(refund) = call.refund() {
            body["refund"] = refund.no.as_str().into();
            body["minor"] = refund.amount.minor().into();
        }
        let request = Request::post(format!("{}/", self.origin))
            .body(Bytes::from(serde_json::to_vec(&body).unwrap()))
            .unwrap();
        Step::Send(Box::new(Outgoing {
            request,
            to: Host::Main,
            effect: call.effect(),
            state: CallState::default(),
        }))
    }

    fn next(
        &self,
        call: &Call<'_>,
        _: &CallState,
        reply: &Response<Bytes>,
        _: &Stamp,
    ) -> Step<Evidence> {
        let by = call.means();
        let ambiguous = |why| Evidence {
            institution: self.id.clone(),
            accounts: None,
            receiver: None,
            about: call.about(),
            by,
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: false,
            finding: Finding::Ambiguous(why),
        };
        if reply.status().is_server_error() {
            return Step::Done(ambiguous(Ambiguity::ServerFault));
        }
        let Some(body) = self.proven_body(reply.headers(), reply.body()) else {
            return Step::Done(ambiguous(Ambiguity::Unproven));
        };
        Step::Done(
            match self.evidence(&body, by, call.attempt.amount.currency()) {
                Some(evidence) if evidence.about == call.about() => evidence,
                Some(_) => ambiguous(Ambiguity::Mismatch),
                None => ambiguous(Ambiguity::Unreadable),
            },
        )
    }

    fn read_callback<'c>(
        &'c self,
        callback: Callback<'c>,
        _: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified> {
        let body = self
            .proven_body(callback.message.headers(), callback.message.body())
            .ok_or(Unverified::Unverified("the proof does not fit the body"))?;
        let read = move |absent| self.evidence(&body, EvidenceSource::Callback, absent);
        let reported = read(CNY).ok_or(Unverified::NamesNothing("it names no attempt"))?;
        Ok(ProvenCallback::new(reported.about.clone(), move |absent| {
            read(absent).unwrap()
        }))
    }

    fn acknowledge(
        &self,
        _: Callback<'_>,
        received: Acknowledgement,
        _: &str,
        _: &Stamp,
    ) -> Response<Bytes> {
        let (status, word) = match received {
            Acknowledgement::Recorded => (StatusCode::OK, "RECORDED"),
            Acknowledgement::TryAgain => (StatusCode::SERVICE_UNAVAILABLE, "LATER"),
            Acknowledgement::UnknownReference => (StatusCode::NOT_FOUND, "UNKNOWN"),
            Acknowledgement::Quarantined
            | Acknowledgement::Unreadable
            | Acknowledgement::Unverified => (StatusCode::BAD_REQUEST, "NO"),
        };
        let mut answer = Response::new(Bytes::from_static(word.as_bytes()));
        *answer.status_mut() = status;
        answer
    }
}
