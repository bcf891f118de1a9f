//! The institution's side of a dialect, and how a recorded message arrives: signed or not, as a reply
//! to a call or as a callback.

use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::amount::CNY;
use paymux::domain::attempt::Stamp;
use paymux::domain::evidence::Evidence;
use paymux::domain::identifiers::{AccountId, Timestamp};
use paymux::institution::{
    Acknowledgement, Call, CallState, Callback, Institution, Step, Unverified,
};

use super::recorded::{NOW_S, Recording};

/// The institution's side of a dialect, for tests.
pub(super) trait DialectRig {
    fn adapter(&self) -> &dyn Institution;
    /// A callback of this body, unsigned.
    fn callback(&self, body: Bytes) -> Request<Bytes>;
    /// Signs as the institution does, or with a wrong key.
    fn sign_callback(&self, callback: &mut Request<Bytes>, as_whom: SignedBy, created_s: i64);
    /// The body of a reply with this content to this request, unsigned.
    fn reply_body(&self, content: Bytes, _: &Request<Bytes>) -> Bytes {
        content
    }
    fn sign_reply(&self, reply: &mut Response<Bytes>, to: &CallState, as_whom: SignedBy);
    /// Whether the institution would accept this reply as ours; `None` if the dialect does not sign
    /// replies to callbacks.
    fn is_ours(&self, answer: &Response<Bytes>, to: &Request<Bytes>) -> Option<bool>;

    /// The account whose address callbacks come to, of a kind with one address for each.
    fn account(&self) -> Option<&AccountId> {
        None
    }

    /// What a repeat of this request has in common with it.
    fn lasting(&self, request: &Request<Bytes>) -> Bytes {
        request.body().clone()
    }

    /// What a repeat of this request must not have in common with it (Q5); `None` if the dialect takes
    /// an equal request for the same one.
    fn fresh(&self, request: &Request<Bytes>) -> Option<String> {
        Some(format!("{:?}", request.headers()))
    }

    /// Words that are no status of the dialect.
    fn unlisted(&self) -> &[&str] {
        &["SUCCESS", "paid", "", "PAID "]
    }

    /// How long after its signature a callback arrives, negative before it, and whether it is still
    /// accepted then; empty if the dialect has no such window. Unit: seconds.
    fn callback_ages(&self) -> &[(i64, bool)] {
        &[(301, false), (299, true), (-30, true), (-31, false)]
    }

    /// How a callback is read of which one byte was changed, in the words of [`describe`].
    fn altered(&self) -> &[&str] {
        &["forged signature"]
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

pub(super) fn incoming<'a>(rig: &'a dyn DialectRig, message: &'a Request<Bytes>) -> Callback<'a> {
    Callback {
        message,
        account: rig.account(),
    }
}

#[derive(Clone, Copy)]
pub(super) enum SignedBy {
    Institution,
    /// A key on the ring that belongs to another institution.
    Other,
    /// An unknown key under the institution's key id.
    UnknownKey,
}

pub(super) fn stamp(at_s: i64) -> Stamp {
    Stamp {
        now: Timestamp::from_s(at_s),
        nonce: [7; 10],
    }
}

pub(super) fn sent(
    rig: &dyn DialectRig,
    call: &Call<'_>,
    stamp: &Stamp,
) -> (Request<Bytes>, CallState) {
    match rig.adapter().begin(call, stamp) {
        Step::Send(outgoing) => (outgoing.request, outgoing.state),
        Step::Done(_) | Step::Unmade(_) => panic!("{} is not sent", call.word()),
    }
}

/// A reply with this status and body.
pub(super) fn reply_with(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

/// What the last reply of a recording answers, after those before it: the request, and the state in
/// which the reply is read.
pub(super) type AskedStep = (Request<Bytes>, CallState);

pub(super) fn reached(rig: &dyn DialectRig, recording: &Recording, call: &Call<'_>) -> AskedStep {
    let mut asked = sent(rig, call, &stamp(NOW_S));
    for earlier in &recording.earlier {
        let content = earlier.body().to_owned().into();
        let signer = Some(SignedBy::Institution);
        let reply = reply_to(rig, &asked, earlier.status, content, signer);
        asked = match rig.adapter().next(call, &asked.1, &reply, &stamp(NOW_S)) {
            Step::Send(outgoing) => (outgoing.request, outgoing.state),
            Step::Done(_) | Step::Unmade(_) => panic!("{} ends early", recording.file),
        };
    }
    asked
}

/// A reply with this status and content, signed or not.
pub(super) fn reply_to(
    rig: &dyn DialectRig,
    (request, state): &AskedStep,
    status: u16,
    content: Bytes,
    as_whom: Option<SignedBy>,
) -> Response<Bytes> {
    let mut reply = reply_with(status, rig.reply_body(content, request));
    if let Some(signer) = as_whom {
        rig.sign_reply(&mut reply, state, signer);
    }
    reply
}

/// What a reply proves, read at the time of the recordings.
pub(super) fn read(
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

/// The same, after what went before it.
pub(super) fn read_in(
    rig: &dyn DialectRig,
    recording: &Recording,
    call: Option<&(Call<'_>, AskedStep)>,
    body: &[u8],
    as_whom: Option<SignedBy>,
) -> Result<Evidence, Unverified> {
    let body = Bytes::copy_from_slice(body);
    let message = message_of(rig, recording, call, body, as_whom);
    read_message(rig, call, &message)
}

/// A reply or a callback as it arrives.
pub(super) enum ArrivingMessage {
    Reply(Response<Bytes>),
    Callback(Request<Bytes>),
}

impl ArrivingMessage {
    /// Its body as it arrives.
    pub(super) fn body(&mut self) -> &mut Bytes {
        match self {
            Self::Reply(reply) => reply.body_mut(),
            Self::Callback(callback) => callback.body_mut(),
        }
    }
}

/// The message of a recording with this content, signed or not.
pub(super) fn message_of(
    rig: &dyn DialectRig,
    recording: &Recording,
    call: Option<&(Call<'_>, AskedStep)>,
    content: Bytes,
    as_whom: Option<SignedBy>,
) -> ArrivingMessage {
    let Some((_, asked)) = call else {
        let mut callback = rig.callback(content);
        if let Some(signer) = as_whom {
            rig.sign_callback(&mut callback, signer, NOW_S);
        }
        return ArrivingMessage::Callback(callback);
    };
    ArrivingMessage::Reply(reply_to(rig, asked, recording.status, content, as_whom))
}

/// What a message proves when it arrives.
pub(super) fn read_message(
    rig: &dyn DialectRig,
    call: Option<&(Call<'_>, AskedStep)>,
    message: &ArrivingMessage,
) -> Result<Evidence, Unverified> {
    match (message, call) {
        (ArrivingMessage::Callback(callback), _) => {
            evidence_of(rig, callback, Timestamp::from_s(NOW_S))
        }
        (ArrivingMessage::Reply(reply), Some((call, (_, state)))) => {
            Ok(read(rig, call, state, reply))
        }
        (ArrivingMessage::Reply(_), None) => panic!("a reply to nothing"),
    }
}

/// What a callback proves about an order in yuan.
pub(super) fn evidence_of(
    rig: &dyn DialectRig,
    callback: &Request<Bytes>,
    now: Timestamp,
) -> Result<Evidence, Unverified> {
    let message = rig.adapter().read_callback(incoming(rig, callback), now);
    message.map(|message| message.evidence(CNY))
}
