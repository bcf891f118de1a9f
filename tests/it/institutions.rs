//! One contract for every kind of institution, checked against recorded exchanges. The recordings
//! hold unsigned messages and the evidence expected of them; keys are made here for each run.

mod by_account;
mod front;
mod front_evidence;
mod recorded;
mod rejected;
mod standard;
mod two_steps;
mod wechatpay;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use paymux::domain::amount::CNY;
use paymux::domain::attempt::{AttemptState, Contradiction, Stamp};
use paymux::domain::evidence::{Evidence, EvidenceSubject, Finding};
use paymux::domain::identifiers::{AccountId, ReceiverId, Timestamp};
use paymux::domain::institutions::{Mode, ReplyBinding};
use paymux::domain::order::Applied;
use paymux::institution::{
    Acknowledgement, Call, CallState, Callback, Institution, KINDS, Step, Unverified,
};
use serde_json::Value;

use recorded::{NOW_S, Recording, describe, order_with, order_with_refund, recordings};

/// The institution's side of a dialect, for tests.
trait DialectRig {
    fn adapter(&self) -> &dyn Institution;
    /// A callback of this body, unsigned.
    fn callback(&self, body: Bytes) -> Request<Bytes>;
    /// Signs as the institution does, or with a wrong key.
    fn sign_callback(&self, callback: &mut Request<Bytes>, as_whom: SignedBy, created_s: i64);
    fn sign_reply(&self, reply: &mut Response<Bytes>, to: &CallState, as_whom: SignedBy);
    /// Whether the institution would accept this reply as ours; `None` if the dialect does not sign
    /// replies to callbacks.
    fn is_ours(&self, answer: &Response<Bytes>, to: &Request<Bytes>) -> Option<bool>;

    /// The account whose address callbacks come to, of a kind with one address for each.
    fn account(&self) -> Option<&AccountId> {
        None
    }

    /// Words that are no status of the dialect.
    fn unlisted(&self) -> [&'static str; 4] {
        ["SUCCESS", "paid", "", "PAID "]
    }

    /// How long after its signature a callback arrives, negative before it, and whether it is still
    /// accepted then. Unit: seconds.
    fn callback_ages(&self) -> [(i64, bool); 4] {
        [(301, false), (299, true), (-30, true), (-31, false)]
    }

    /// The status of each reply to a callback.
    fn acknowledged(&self) -> [(Acknowledgement, u16); 6] {
        [
            (Acknowledgement::Recorded, 200),
            (Acknowledgement::TryAgain, 503),
            (Acknowledgement::UnknownReference, 404),
            (Acknowledgement::Quarantined, 422),
            (Acknowledgement::Unreadable, 400),
            (Acknowledgement::Unverified, 401),
        ]
    }

    /// Whether a reply to a callback has the form of a refusal, with this request id if the form has
    /// a place for it.
    fn is_refusal(&self, answer: &Response<Bytes>, request_id: &str) -> bool;

    /// Whether the dialect believes an unsigned refusal of a create: then nobody got a way to pay.
    fn believes_unsigned_refusals(&self) -> bool {
        false
    }
}

fn incoming<'a>(rig: &'a dyn DialectRig, message: &'a Request<Bytes>) -> Callback<'a> {
    Callback {
        message,
        account: rig.account(),
    }
}

#[derive(Clone, Copy)]
enum SignedBy {
    Institution,
    /// A key on the ring that belongs to another institution.
    Other,
    /// An unknown key under the institution's key id.
    UnknownKey,
}

fn rigs() -> Vec<(&'static str, Box<dyn DialectRig>)> {
    let rig = |name: &str| -> Box<dyn DialectRig> {
        match name {
            "standard" => Box::new(standard::rig()),
            "wechatpay" => Box::new(wechatpay::rig()),
            other => panic!("the kind {other} has no rig here, so no contract tests it"),
        }
    };
    KINDS
        .iter()
        .map(|kind| (kind.name, rig(kind.name)))
        .collect()
}

/// Runs a check on every recording of every kind.
fn on_all(check: impl Fn(&dyn DialectRig, &Recording)) {
    for (name, rig) in rigs() {
        let recordings = recordings(name);
        assert!(recordings.len() > 10, "{name} has too few recordings");
        for recording in recordings {
            check(rig.as_ref(), &recording);
        }
    }
}

fn stamp(at_s: i64) -> Stamp {
    Stamp {
        now: Timestamp::from_s(at_s),
        nonce: [7; 10],
    }
}

fn sent(rig: &dyn DialectRig, call: &Call<'_>, stamp: &Stamp) -> (Request<Bytes>, CallState) {
    match rig.adapter().begin(call, stamp) {
        Step::Send(outgoing) => (outgoing.request, outgoing.state),
        Step::Done(_) | Step::Unmade(_) => panic!("{} is not sent", call.word()),
    }
}

/// A reply with this status and body.
fn reply_with(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

/// The state in which the last reply of a recording is read: after those before it.
fn reached(rig: &dyn DialectRig, recording: &Recording, call: &Call<'_>) -> CallState {
    let (_, mut state) = sent(rig, call, &stamp(NOW_S));
    for earlier in &recording.earlier {
        let mut reply = reply_with(earlier.status, earlier.body().to_owned());
        rig.sign_reply(&mut reply, &state, SignedBy::Institution);
        state = match rig.adapter().next(call, &state, &reply, &stamp(NOW_S)) {
            Step::Send(outgoing) => outgoing.state,
            Step::Done(_) | Step::Unmade(_) => panic!("{} ends early", recording.file),
        };
    }
    state
}

/// What a reply proves, read at the time of the recordings.
fn read(
    rig: &dyn DialectRig,
    call: &Call<'_>,
    state: &CallState,
    reply: &Response<Bytes>,
) -> Evidence {
    match rig.adapter().next(call, state, reply, &stamp(NOW_S)) {
        Step::Done(evidence) => evidence,
        Step::Send(_) | Step::Unmade(_) => panic!("{} goes on", call.word()),
    }
}

/// What a recording proves with this body, signed by the institution.
fn reading(
    rig: &dyn DialectRig,
    recording: &Recording,
    body: &[u8],
) -> Result<Evidence, Unverified> {
    read_as(rig, recording, body, Some(SignedBy::Institution))
}

fn read_as(
    rig: &dyn DialectRig,
    recording: &Recording,
    body: &[u8],
    as_whom: Option<SignedBy>,
) -> Result<Evidence, Unverified> {
    let order = recording.order();
    let call = recording.call(&order);
    let call = call.map(|call| (call, reached(rig, recording, &call)));
    read_in(rig, recording, call.as_ref(), body, as_whom)
}

/// The same, after what went before it.
fn read_in(
    rig: &dyn DialectRig,
    recording: &Recording,
    call: Option<&(Call<'_>, CallState)>,
    body: &[u8],
    as_whom: Option<SignedBy>,
) -> Result<Evidence, Unverified> {
    let body = Bytes::copy_from_slice(body);
    let Some((call, state)) = call else {
        let mut callback = rig.callback(body);
        if let Some(signer) = as_whom {
            rig.sign_callback(&mut callback, signer, NOW_S);
        }
        return evidence_of(rig, &callback, Timestamp::from_s(NOW_S));
    };
    let mut reply = reply_with(recording.status, body);
    if let Some(signer) = as_whom {
        rig.sign_reply(&mut reply, state, signer);
    }
    Ok(read(rig, call, state, &reply))
}

/// What a callback proves about an order in yuan.
fn evidence_of(
    rig: &dyn DialectRig,
    callback: &Request<Bytes>,
    now: Timestamp,
) -> Result<Evidence, Unverified> {
    let message = rig.adapter().read_callback(incoming(rig, callback), now);
    message.map(|message| message.evidence(CNY))
}

fn proves_nothing(read: &Result<Evidence, Unverified>) -> bool {
    match read {
        Ok(evidence) => matches!(evidence.finding, Finding::Ambiguous(_)),
        Err(_) => true,
    }
}

/// Whether a message without a signature proves nothing, except that a create was refused if the
/// dialect believes that.
fn proves_nothing_unsigned(
    rig: &dyn DialectRig,
    recording: &Recording,
    read: &Result<Evidence, Unverified>,
) -> bool {
    let is_refused = |evidence: &Evidence| {
        matches!(
            evidence.finding,
            Finding::Refused(_) | Finding::NotExecuted(_)
        )
    };
    let is_believed = rig.believes_unsigned_refusals() && recording.call == "create";
    proves_nothing(read) || (is_believed && read.as_ref().is_ok_and(is_refused))
}

/// C3, E2, E3, E4: each recorded reply and callback yields the evidence recorded beside it.
#[test]
fn every_recorded_message_reads_to_its_evidence() {
    on_all(|rig, recording| {
        let read = reading(rig, recording, recording.body());
        assert_eq!(describe(&read), recording.evidence, "{}", recording.file);
        if let Ok(evidence) = &read {
            assert_eq!(&evidence.institution, rig.adapter().id());
            let believed = !proves_nothing(&read);
            assert!(
                !believed || evidence.receiver.is_some(),
                "{}",
                recording.file
            );
        }
    });
}

/// C3, V1: an unlisted status is ambiguous, in whichever field it appears.
#[test]
fn an_unlisted_word_proves_nothing() {
    on_all(|rig, recording| {
        for word in &recording.words {
            for unlisted in rig.unlisted() {
                let body = recording.body_with(word, &Value::from(unlisted));
                let read = reading(rig, recording, &body);
                assert!(
                    proves_nothing(&read),
                    "{} {word}={unlisted}",
                    recording.file
                );
            }
        }
    });
}

/// V3, C2, E3, R3: evidence for another amount, currency, receiver, attempt or refund moves nothing.
#[test]
fn evidence_for_another_object_moves_nothing() {
    on_all(|rig, recording| {
        for (name, other) in &recording.others {
            let body = recording.body_with(name, other);
            let Ok(evidence) = reading(rig, recording, &body) else {
                continue;
            };
            let mut order = recording.unresolved();
            // That it exists there is known already.
            order.attempts[0].named = true;
            order.refunds.iter_mut().for_each(|one| one.named = true);
            let applied = order.apply(&evidence, rig.adapter().facts(), Timestamp::from_s(NOW_S));
            assert!(
                matches!(applied, Applied::Repeat | Applied::Quarantine(_)),
                "{} {name}: {applied:?}",
                recording.file
            );
        }
    });
}

/// C2, E3: evidence of another account, or that names another receiver, is put aside with that reason.
#[test]
fn evidence_of_another_account_or_receiver_is_put_aside() {
    on_all(|rig, recording| {
        let Ok(evidence) = reading(rig, recording, recording.body()) else {
            return;
        };
        let facts = rig.adapter().facts();
        let becomes = |evidence: &Evidence| {
            let order = match evidence.about {
                EvidenceSubject::Refund(_) => order_with_refund("UNKNOWN", Mode::Webview),
                EvidenceSubject::Attempt(_) => order_with(AttemptState::Unknown, Mode::Webview),
            };
            order.apply(evidence, facts, Timestamp::from_s(NOW_S))
        };
        let of_another_account = Evidence {
            accounts: Some(vec![AccountId::parse("another").unwrap()]),
            ..evidence.clone()
        };
        let of_another_receiver = Evidence {
            receiver: Some(ReceiverId::parse("another").unwrap()),
            ..evidence
        };
        for (evidence, why) in [
            (of_another_account, Contradiction::Account),
            (of_another_receiver, Contradiction::Receiver),
        ] {
            assert_eq!(
                becomes(&evidence),
                Applied::Quarantine(why),
                "{}",
                recording.file
            );
        }
    });
}

/// V1, E5: half a message proves nothing, signed as it is or not; nor does an endless one.
#[test]
fn a_cut_off_or_oversized_body_proves_nothing() {
    on_all(|rig, recording| {
        let body = recording.body();
        let order = recording.order();
        let call = recording.call(&order);
        let call = call.map(|call| (call, reached(rig, recording, &call)));
        for end in 0..body.len() {
            for signer in [Some(SignedBy::Institution), None] {
                let read = read_in(rig, recording, call.as_ref(), &body[..end], signer);
                assert!(proves_nothing(&read), "{} up to {end}", recording.file);
            }
        }
        let mut endless = body.to_vec();
        endless.resize(1 << 20, b' ');
        assert!(proves_nothing(&reading(rig, recording, &endless)));
    });
}

/// E5, C1: a message not signed by a key of this institution proves nothing.
#[test]
fn a_message_by_another_key_proves_nothing() {
    on_all(|rig, recording| {
        for signer in [None, Some(SignedBy::Other), Some(SignedBy::UnknownKey)] {
            let read = read_as(rig, recording, recording.body(), signer);
            assert!(
                proves_nothing_unsigned(rig, recording, &read),
                "{}",
                recording.file
            );
        }
    });
}

/// C1, E5: one changed byte in the body of a callback or reply invalidates it.
#[test]
fn one_changed_byte_is_detected() {
    on_all(|rig, recording| {
        let order = recording.order();
        let now = Timestamp::from_s(NOW_S);
        let changed = |at: usize| {
            let mut body = recording.body().to_vec();
            body[at] ^= 1;
            Bytes::from(body)
        };
        let bytes = 0..recording.body().len();
        if let Some(call) = recording.call(&order) {
            let state = reached(rig, recording, &call);
            let body = Bytes::copy_from_slice(recording.body());
            let mut reply = reply_with(recording.status, body);
            rig.sign_reply(&mut reply, &state, SignedBy::Institution);
            for at in bytes {
                *reply.body_mut() = changed(at);
                let read = Ok(read(rig, &call, &state, &reply));
                let nothing = proves_nothing_unsigned(rig, recording, &read);
                assert!(nothing, "{} {at}", recording.file);
            }
        } else {
            let mut callback = rig.callback(Bytes::copy_from_slice(recording.body()));
            rig.sign_callback(&mut callback, SignedBy::Institution, NOW_S);
            for at in bytes {
                *callback.body_mut() = changed(at);
                let read = evidence_of(rig, &callback, now);
                assert_eq!(
                    describe(&read),
                    "forged signature",
                    "{} {at}",
                    recording.file
                );
            }
        }
    });
}

/// E5: an authentic reply to another request, or with another status, proves nothing about this
/// one.
#[test]
fn a_reply_to_another_request_proves_nothing() {
    on_all(|rig, recording| {
        let order = recording.order();
        let Some(call) = recording.call(&order) else {
            return;
        };
        let state = reached(rig, recording, &call);
        let facts = rig.adapter().facts();
        let binding = facts.product(&order.attempts[0].product).binding;
        let is_bound = binding == ReplyBinding::Signed;
        let (_, earlier) = sent(rig, &call, &stamp(NOW_S - 1));
        let mut reply = Response::new(Bytes::copy_from_slice(recording.body()));
        *reply.status_mut() = recording.status.try_into().unwrap();
        let json = HeaderValue::from_static("application/json");
        reply.headers_mut().insert("content-type", json);
        rig.sign_reply(&mut reply, &earlier, SignedBy::Institution);
        let read = |reply: &Response<Bytes>, state: &CallState| Ok(read(rig, &call, state, reply));
        // Otherwise the reply says what it is about, or only the connection does.
        if is_bound {
            assert!(proves_nothing(&read(&reply, &state)), "{}", recording.file);
        }
        assert!(proves_nothing(&read(&reply, &CallState::default())));
        *reply.status_mut() = http::StatusCode::ACCEPTED;
        if recording.status != 202 {
            let state = if is_bound { &earlier } else { &state };
            assert!(proves_nothing(&read(&reply, state)), "{}", recording.file);
        }
    });
}

/// C5: a callback is accepted only while its signature is recent, not before or after.
#[test]
fn an_old_callback_is_not_accepted() {
    on_all(|rig, recording| {
        if recording.call != "callback" {
            return;
        }
        for (age_s, recent) in rig.callback_ages() {
            let created_s = NOW_S - age_s;
            let mut callback = rig.callback(Bytes::copy_from_slice(recording.body()));
            rig.sign_callback(&mut callback, SignedBy::Institution, created_s);
            let read = evidence_of(rig, &callback, Timestamp::from_s(NOW_S));
            let refused = describe(&read) == "forged outside_window";
            assert_eq!(refused, !recent, "{} {created_s}", recording.file);
        }
    });
}

/// A3, K2: the request equals the recorded one, and an equal create has equal bytes.
#[test]
fn a_repeated_create_is_the_same_create() {
    on_all(|rig, recording| {
        let order = recording.order();
        let Some(call) = recording.call(&order) else {
            return;
        };
        let (first, _) = sent(rig, &call, &stamp(NOW_S));
        let (again, _) = sent(rig, &call, &stamp(NOW_S + 60));
        assert_eq!(first.body(), again.body());
        assert_eq!(first.uri(), again.uri());
        assert_ne!(
            first.headers(),
            again.headers(),
            "a repeat must not look replayed (Q5)"
        );
        if let Some(request) = &recording.request {
            assert_eq!(first.method().as_str(), request.method());
            assert_eq!(first.uri().to_string(), request.uri, "{}", recording.file);
            let body = std::str::from_utf8(first.body()).unwrap();
            assert_eq!(body, request.body(), "{}", recording.file);
        }
    });
}

/// C4, V3: the acknowledgement says whether to send again: only what may succeed later is answered
/// 503, and each carries the number under which it is logged.
#[test]
fn only_what_may_succeed_later_is_answered_503() {
    on_all(|rig, recording| {
        if recording.call != "callback" {
            return;
        }
        let callback = rig.callback(Bytes::copy_from_slice(recording.body()));
        for (acknowledgement, status) in rig.acknowledged() {
            let answer = rig.adapter().acknowledge(
                incoming(rig, &callback),
                acknowledgement,
                "ab12",
                &stamp(NOW_S),
            );
            assert_eq!(answer.status(), status, "{acknowledgement:?}");
            let is_refusal = rig.is_refusal(&answer, "ab12");
            assert_eq!(is_refusal, status != 200, "{acknowledgement:?}");
        }
    });
}

/// C4: only a recorded callback is acknowledged, by a signed reply bound to it.
#[test]
fn only_what_is_recorded_is_acknowledged() {
    on_all(|rig, recording| {
        if recording.call != "callback" {
            return;
        }
        let mut callback = rig.callback(Bytes::copy_from_slice(recording.body()));
        rig.sign_callback(&mut callback, SignedBy::Institution, NOW_S);
        let mut other = rig.callback(Bytes::copy_from_slice(recording.body()));
        rig.sign_callback(&mut other, SignedBy::Institution, NOW_S - 1);
        for (acknowledgement, status) in rig.acknowledged() {
            if acknowledgement == Acknowledgement::Unverified {
                continue;
            }
            let answer = rig.adapter().acknowledge(
                incoming(rig, &callback),
                acknowledgement,
                "1",
                &stamp(NOW_S),
            );
            assert_ne!(rig.is_ours(&answer, &callback), Some(false));
            assert_ne!(rig.is_ours(&answer, &other), Some(true));
            assert_eq!(answer.status().is_success(), status == 200);
            let is_final = matches!(
                acknowledgement,
                Acknowledgement::Recorded | Acknowledgement::Quarantined
            );
            assert!(is_final || status != 200, "{acknowledgement:?}");
        }
        let unsigned = rig.callback(Bytes::new());
        let answer = rig.adapter().acknowledge(
            incoming(rig, &unsigned),
            Acknowledgement::Unverified,
            "1",
            &stamp(NOW_S),
        );
        assert!(answer.status().is_client_error());
        // Q1: an unauthenticated caller gets no signature of ours, however slow a key makes it.
        for name in ["signature", "signature-input"] {
            assert!(!answer.headers().contains_key(name));
        }
        let answer = rig.adapter().acknowledge(
            incoming(rig, &callback),
            Acknowledgement::Unverified,
            "1",
            &stamp(NOW_S),
        );
        assert!(!answer.headers().contains_key("signature"));
    });
}
