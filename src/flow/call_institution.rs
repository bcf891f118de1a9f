//! One exchange with an institution; every way it can end is evidence.

use std::time::Duration;

use bytes::Bytes;
use http::Request;

use crate::domain::attempt::{Attempt, Stamp};
use crate::domain::evidence::{Ambiguity, Evidence, Finding};
use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::{InstitutionId, MerchantId, Timestamp};
use crate::domain::institutions::{CallEnd, Purpose};
use crate::domain::order::{INTENT_PATIENCE, Terms};
use crate::domain::refund::{Refund, Sending};
use crate::domain::refusal::Refusal;
use crate::flow::answer::aside;
use crate::institution::{Call, Institution, Outgoing, Slow};
use crate::world::trail::{Answered, Asked, Note};
use crate::world::{Errand, Party, Patience, SendError, TooMany, Turn, World};

/// How long a payer waits for the hand-over; after it the answer is "not known yet" (R-6.4-1a).
pub const CREATE_PATIENCE: Patience = patience(5_000, 6_000);

/// How long a query or a close may take when a worker asks.
pub const ASK_PATIENCE: Patience = patience(5_000, 8_000);

/// How long a merchant's query waits for the institution's word (R-A3.2-3).
pub const READ_PATIENCE: Patience = patience(800, 1_000);

/// Bytes of an institution's answer that are read; a longer one proves nothing.
const REPLY_BYTES_MAX: usize = 64 * 1024;

const fn patience(head_ms: u64, whole_ms: u64) -> Patience {
    Patience {
        head: Duration::from_millis(head_ms),
        whole: Duration::from_millis(whole_ms),
        body_bytes_max: REPLY_BYTES_MAX,
    }
}

/// Asks once and says what came of it. What it borrows was committed before (A1, R4).
pub async fn call_institution(
    world: &World,
    adapter: &dyn Institution,
    call: &Call<'_>,
    patience: Patience,
) -> Evidence {
    exchange(world, adapter, call, (patience, None)).await
}

/// Creates or refunds once, in the turn that was waited for before the intent was written, and says
/// what came of it.
pub async fn call_in_turn(
    world: &World,
    adapter: &dyn Institution,
    call: &Call<'_>,
    turn: Turn,
) -> Evidence {
    exchange(world, adapter, call, (CREATE_PATIENCE, Some(turn))).await
}

/// Asks once, in a turn that was waited for: for questions by the hundred, which would be kept back
/// otherwise.
pub async fn ask_in_turn(
    world: &World,
    adapter: &dyn Institution,
    call: &Call<'_>,
    turn: Turn,
) -> Evidence {
    exchange(world, adapter, call, (ASK_PATIENCE, Some(turn))).await
}

/// Waits for a turn at an institution, before anything is written.
///
/// # Errors
/// It did not come in time: nothing was recorded, no nonce spent (Q8).
pub async fn turn_at(
    world: &World,
    institution: &InstitutionId,
    merchant: &MerchantId,
) -> Result<Turn, Refusal> {
    let turn = world.outbound.turn(institution, merchant).await;
    turn.map_err(|TooMany { wait }| Refusal::TooOften { wait })
}

async fn exchange(
    world: &World,
    adapter: &dyn Institution,
    call: &Call<'_>,
    (patience, turn): (Patience, Option<Turn>),
) -> Evidence {
    let Some(stamp) = stamp(world, call) else {
        return evidence(adapter, call, Finding::NotSent);
    };
    let (mut request, asked) = match outgoing(adapter, call, stamp).await {
        Outgoing::Send(request, asked) => (*request, asked),
        Outgoing::Local(handover) => {
            return evidence(adapter, call, Finding::Accepted(Some(handover)));
        }
        Outgoing::Unmade => {
            tracing::error!(institution.id = %adapter.id(), call = call.word(), "cannot be signed");
            return evidence(adapter, call, Finding::NotSent);
        }
    };
    // As it is signed; what it becomes on the way to the wire is the connection's.
    let noted = world.trail.is_kept();
    let noted = noted.then(|| Noted::of(&request, world.clock.now()));
    request.extensions_mut().insert(Errand(call.word(), turn));
    let party = Party::Institution(adapter.id().clone());
    let begun = world.health.begin(adapter.id(), world.clock.now());
    let sent = world.outbound.send(&party, request, patience).await;
    let now = world.clock.now();
    let reply = noted.as_ref().and(sent.as_ref().ok()).map(Answered::of);
    let (found, end) = match sent {
        Ok(reply) => {
            let found = adapter.read(call, &asked, &reply, now);
            let end = answered(&found.finding);
            (found, Some(end))
        }
        Err(SendError::NotSent(why)) => {
            tracing::warn!(institution.id = %adapter.id(), call = call.word(), why, "not sent");
            let found = evidence(adapter, call, Finding::NotSent);
            (found, Some(CallEnd::Unreachable))
        }
        // H1: that no byte left is proven (E1), and it says nothing about the institution.
        Err(ours @ (SendError::KeptBack(_) | SendError::OurShortage(_))) => {
            tracing::warn!(institution.id = %adapter.id(), call = call.word(), why = %ours, "not sent, by ourselves");
            (evidence(adapter, call, Finding::NotSent), None)
        }
        Err(SendError::Unknown(why)) => {
            tracing::warn!(institution.id = %adapter.id(), call = call.word(), why, "in doubt");
            let found = evidence(adapter, call, Finding::Ambiguous(Ambiguity::NoAnswer));
            // Whoever waits a moment only, for a merchant's question, learns nothing from silence.
            let is_silence = patience.whole >= ASK_PATIENCE.whole || is_create(call);
            (found, is_silence.then_some(CallEnd::Failed))
        }
    };
    if let Some(noted) = noted {
        noted.take(world, call, (&found, reply));
    }
    if let Some(end) = end {
        let purpose = if is_create(call) {
            Purpose::Create
        } else {
            Purpose::Ask
        };
        world.health.end(adapter.id(), begun, (purpose, end), now);
    }
    found
}

/// How a call is dated and made one of a kind; nothing for one that must not leave any more.
fn stamp(world: &World, call: &Call<'_>) -> Option<Stamp> {
    let now = world.clock.now();
    match call {
        // Written down long ago by a process that stood still since: by now it counts as in doubt
        // and may have been ended, so it must not leave any more (A5, Q9).
        Call::Create(attempt, _) if now.since(attempt.sent_at) >= INTENT_PATIENCE => None,
        // A repeated create must be equal (A3): the stored stamp, dated by the last intent to send,
        // from which A5 counts as well.
        Call::Create(attempt, _) => Some(Stamp {
            now: attempt.sent_at,
            nonce: attempt.stamp.nonce,
        }),
        // The same holds for a refund (R4); its call is dated by the last intent to send.
        Call::Refund(refund, ..) => match refund.sending {
            Sending::Left(left) if now.since(left) < INTENT_PATIENCE => Some(Stamp {
                now: left,
                nonce: world.entropy.draw(),
            }),
            Sending::Left(_) | Sending::Waits(_) => None,
        },
        Call::Query(..) | Call::Close(..) | Call::RefundQuery(..) => Some(Stamp {
            now,
            nonce: world.entropy.draw(),
        }),
    }
}

/// A call as it leaves, until it is known what came of it.
struct Noted {
    asked: Asked,
    at: Timestamp,
}

impl Noted {
    fn of(request: &Request<Bytes>, at: Timestamp) -> Self {
        let asked = Asked::of(request, request.uri().to_string());
        Self { asked, at }
    }

    fn take(self, world: &World, call: &Call<'_>, came: (&Evidence, Option<Answered>)) {
        let (evidence, answered) = came;
        let institution = evidence.institution.clone();
        let with = format!("institution {institution}");
        world.trail.note(Note {
            about: OrderKey::OfAttempt(institution, call.attempt().id.clone()),
            at: self.at,
            took: world.clock.now().since(self.at),
            with,
            what: call.word().to_owned(),
            verdict: evidence.finding.class(),
            is_stranger: false,
            asked: self.asked,
            answered,
        });
    }
}

fn is_create(call: &Call<'_>) -> bool {
    match call {
        Call::Create(..) => true,
        Call::Query(..) | Call::Close(..) | Call::Refund(..) | Call::RefundQuery(..) => false,
    }
}

/// What an answer says about who gave it. A refusal is one, and so is a word that we do not know: a
/// merchant's odd order must not close an institution to others.
fn answered(finding: &Finding) -> CallEnd {
    match finding {
        Finding::Ambiguous(
            Ambiguity::ServerFault
            | Ambiguity::Unproven
            | Ambiguity::Unreadable
            | Ambiguity::Mismatch,
        ) => CallEnd::Failed,
        Finding::Ambiguous(Ambiguity::NoAnswer | Ambiguity::UnlistedWord)
        | Finding::NotSent
        | Finding::Refused(_)
        | Finding::Accepted(_)
        | Finding::Succeeded(_)
        | Finding::Closed
        | Finding::NotFound => CallEnd::Answered,
    }
}

/// What a call is about, for a thread of its own.
type Copies = (Attempt, Terms, Option<Refund>);

/// What the call becomes; signed elsewhere if that takes long.
async fn outgoing(adapter: &dyn Institution, call: &Call<'_>, stamp: Stamp) -> Outgoing {
    let Some(Slow { turns, adapter }) = adapter.slow() else {
        return adapter.request(call, &stamp);
    };
    let copies: Copies = (
        call.attempt().clone(),
        call.terms().clone(),
        call.refund().cloned(),
    );
    let of_copies: fn(&Copies) -> Option<Call<'_>> = match call {
        Call::Create(..) => |(attempt, terms, _)| Some(Call::Create(attempt, terms)),
        Call::Query(..) => |(attempt, terms, _)| Some(Call::Query(attempt, terms)),
        Call::Close(..) => |(attempt, terms, _)| Some(Call::Close(attempt, terms)),
        Call::Refund(..) => {
            |(attempt, terms, refund)| Some(Call::Refund(refund.as_ref()?, attempt, terms))
        }
        Call::RefundQuery(..) => {
            |(attempt, terms, refund)| Some(Call::RefundQuery(refund.as_ref()?, attempt, terms))
        }
    };
    let signed = aside(&turns, move || match of_copies(&copies) {
        Some(call) => adapter.request(&call, &stamp),
        None => Outgoing::Unmade,
    });
    signed.await.unwrap_or(Outgoing::Unmade)
}

fn evidence(adapter: &dyn Institution, call: &Call<'_>, finding: Finding) -> Evidence {
    Evidence {
        institution: adapter.id().clone(),
        account: Some(call.attempt().account.clone()),
        about: call.about(),
        by: call.means(),
        sum: None,
        finding,
    }
}
