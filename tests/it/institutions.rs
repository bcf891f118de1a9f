//! One contract for every kind of institution, checked against recorded exchanges. The recordings
//! hold unsigned messages and the evidence expected of them; keys are made here for each run.

mod alipay;
mod by_account;
pub(crate) mod front;
mod front_evidence;
mod recorded;
mod rejected;
mod rig;
mod standard;
mod two_steps;
mod unionpay;
mod unsigned;
mod wechatpay;

use bytes::Bytes;
use http::Response;
use paymux::domain::attempt::{AttemptState, Contradiction};
use paymux::domain::evidence::{Evidence, EvidenceSubject, Finding};
use paymux::domain::identifiers::{AccountId, ReceiverId, Timestamp};
use paymux::domain::institutions::{Mode, ReplyBinding};
use paymux::domain::order::Applied;
use paymux::institution::{Acknowledgement, CallState, KINDS, Unverified};
use serde_json::Value;

use recorded::{NOW_S, Recording, describe, order_with, order_with_refund, recordings};
use rig::{
    ArrivingMessage, DialectRig, SignedBy, evidence_of, incoming, message_of, reached, read,
    read_in, read_message, reply_to, reply_with, sent, stamp,
};

fn rigs() -> Vec<(&'static str, Box<dyn DialectRig>)> {
    let rig = |name: &str| -> Box<dyn DialectRig> {
        match name {
            "alipay" => Box::new(alipay::rig()),
            "standard" => Box::new(standard::rig()),
            "unionpay" => Box::new(unionpay::rig()),
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

fn proves_nothing(read: &Result<Evidence, Unverified>) -> bool {
    match read {
        Ok(evidence) => matches!(evidence.finding, Finding::Ambiguous(_)),
        Err(_) => true,
    }
}

/// Whether a message without a signature proves nothing, except that a create failed if the dialect
/// believes that: never of one whose message says that it was accepted.
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
    let is_failure = recording.call == "create" && !recording.evidence.starts_with("accepted");
    let is_believed = rig.believes_unsigned_refusals() && is_failure;
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
            let of_whom = (&evidence.accounts, &evidence.receiver);
            assert!(
                proves_nothing(&read) || matches!(of_whom, (Some(_), Some(_))),
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
            for &unlisted in rig.unlisted() {
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

/// V1, E5: half a message proves nothing, signed as it is, cut off after it was signed, or not signed;
/// nor does an endless one.
#[test]
fn a_cut_off_or_oversized_body_proves_nothing() {
    on_all(|rig, recording| {
        let body = Bytes::copy_from_slice(recording.body());
        let order = recording.order();
        let call = recording.call(&order);
        let call = call.map(|call| (call, reached(rig, recording, &call)));
        for end in 0..body.len() {
            for signer in [Some(SignedBy::Institution), None] {
                let read = read_in(rig, recording, call.as_ref(), &body[..end], signer);
                assert!(proves_nothing(&read), "{} up to {end}", recording.file);
            }
        }
        let signer = Some(SignedBy::Institution);
        let mut message = message_of(rig, recording, call.as_ref(), body.clone(), signer);
        let whole = message.body().clone();
        for end in 0..whole.len() {
            *message.body() = whole.slice(..end);
            let read = read_message(rig, call.as_ref(), &message);
            assert!(proves_nothing(&read), "{} up to {end}", recording.file);
        }
        let endless = |of: &Bytes| {
            let mut endless = of.to_vec();
            endless.resize(1 << 20, b' ');
            endless
        };
        *message.body() = endless(&whole).into();
        let read = read_message(rig, call.as_ref(), &message);
        assert!(proves_nothing(&read), "{}", recording.file);
        assert!(proves_nothing(&reading(rig, recording, &endless(&body))));
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
            if let Some(unsigned) = &recording.unsigned {
                assert_eq!(describe(&read), *unsigned, "{}", recording.file);
                assert_eq!(read.unwrap().accounts, None, "no key proves it");
            }
        }
    });
}

/// C1, E5: one changed byte in the body of a callback or reply invalidates it.
#[test]
fn one_changed_byte_is_detected() {
    on_all(|rig, recording| {
        let order = recording.order();
        let call = recording.call(&order);
        let call = call.map(|call| (call, reached(rig, recording, &call)));
        let content = Bytes::copy_from_slice(recording.body());
        let signer = Some(SignedBy::Institution);
        let mut message = message_of(rig, recording, call.as_ref(), content, signer);
        let whole = message.body().clone();
        for at in 0..whole.len() {
            let mut changed = whole.to_vec();
            changed[at] ^= 1;
            *message.body() = changed.into();
            let read = read_message(rig, call.as_ref(), &message);
            let (file, found) = (&recording.file, describe(&read));
            let is_detected = match message {
                ArrivingMessage::Reply(_) => proves_nothing_unsigned(rig, recording, &read),
                ArrivingMessage::Callback(_) => rig.altered().contains(&found.as_str()),
            };
            assert!(is_detected, "{file} {at}: {found}");
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
        let asked = reached(rig, recording, &call);
        let facts = rig.adapter().facts();
        let binding = facts.product(&order.attempts[0].product).binding;
        let is_bound = binding == ReplyBinding::Signed;
        // Otherwise the reply says what it is about, or only the connection does.
        let answered = if is_bound {
            sent(rig, &call, &stamp(NOW_S - 1))
        } else {
            asked.clone()
        };
        let (content, signer) = (
            Bytes::copy_from_slice(recording.body()),
            Some(SignedBy::Institution),
        );
        let mut reply = reply_to(rig, &answered, recording.status, content, signer);
        let read = |reply: &Response<Bytes>, state: &CallState| Ok(read(rig, &call, state, reply));
        if is_bound {
            assert!(
                proves_nothing(&read(&reply, &asked.1)),
                "{}",
                recording.file
            );
        }
        assert!(proves_nothing(&read(&reply, &CallState::default())));
        *reply.status_mut() = http::StatusCode::ACCEPTED;
        if recording.status != 202 {
            let read = read(&reply, &answered.1);
            assert!(proves_nothing(&read), "{}", recording.file);
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
        for &(age_s, recent) in rig.callback_ages() {
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
        assert_eq!(rig.lasting(&first), rig.lasting(&again));
        assert_eq!(first.uri(), again.uri());
        if let Some(fresh) = rig.fresh(&first) {
            let again = rig.fresh(&again);
            assert_ne!(Some(fresh), again, "a repeat must not look replayed (Q5)");
        }
        if let Some(request) = &recording.request {
            assert_eq!(first.method().as_str(), request.method());
            assert_eq!(first.uri().to_string(), request.uri, "{}", recording.file);
            let lasting = rig.lasting(&first);
            let body = std::str::from_utf8(&lasting).unwrap();
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
