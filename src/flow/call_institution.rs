//! One exchange with an institution; every way it can end is evidence.

use std::time::Duration;

use bytes::Bytes;
use http::Request;

use crate::domain::attempt::{Attempt, AttemptState, Stamp};
use crate::domain::change::Change;
use crate::domain::evidence::{About, Along, Ambiguity, Evidence, Finding};
use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::{InstitutionId, MerchantId, Timestamp, Uptime};
use crate::domain::institutions::{CallEnd, Purpose};
use crate::domain::order::{INTENT_PATIENCE, Order, Terms};
use crate::domain::refund::{Refund, Sending};
use crate::flow::answer::aside;
use crate::institution::{Call, Institution, Outgoing, Slow};
use crate::world::sends::InFlight;
use crate::world::trail::{Answered, Asked, Note};
use crate::world::{Errand, KeptBack, Party, Patience, SendError, TooMany, Turn, World};

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

/// Asks once and says what came of it. A create or refund does not leave this way.
pub async fn call_institution(
    world: &World,
    adapter: &dyn Institution,
    call: &Call<'_>,
    patience: Patience,
) -> Evidence {
    let how = How {
        patience,
        turn: None,
        in_flight: None,
    };
    exchange(world, adapter, call, how).await
}

/// What a create or refund leaves with.
pub struct Leave {
    /// How long it may take.
    pub patience: Patience,
    /// The turn that was waited for before the intent was written, if one was.
    pub turn: Option<Turn>,
    /// Begun before the intent was written.
    pub in_flight: InFlight,
}

impl Leave {
    /// For a caller who waits.
    pub fn at_once(turn: Option<Turn>, in_flight: InFlight) -> Self {
        Self {
            patience: CREATE_PATIENCE,
            turn,
            in_flight,
        }
    }
}

/// Begins the create that a change is about to write down, if it does: that of the live attempt,
/// unless that is to be closed.
pub fn begin_create(world: &World, change: &Change) -> Option<InFlight> {
    let live = change.order().and_then(Order::live_attempt);
    let created = live.filter(|attempt| attempt.state != AttemptState::Closing);
    created.map(|attempt| world.sends.begin(&About::Attempt(attempt.id.clone())))
}

/// Creates or refunds once, and says what came of it. What it borrows was committed before (A1, R4).
pub async fn send_once(
    world: &World,
    adapter: &dyn Institution,
    call: &Call<'_>,
    leave: Leave,
) -> Evidence {
    let how = How {
        patience: leave.patience,
        turn: leave.turn,
        in_flight: Some(leave.in_flight),
    };
    exchange(world, adapter, call, how).await
}

/// Asks once, in a turn that was waited for: for questions by the hundred, which would be kept back
/// otherwise.
pub async fn ask_in_turn(
    world: &World,
    adapter: &dyn Institution,
    call: &Call<'_>,
    turn: Turn,
) -> Evidence {
    let how = How {
        patience: ASK_PATIENCE,
        turn: Some(turn),
        in_flight: None,
    };
    exchange(world, adapter, call, how).await
}

/// Waits for a turn at an institution, before anything is written.
///
/// # Errors
/// It did not come in time: nothing was recorded, no nonce spent (Q8).
pub async fn turn_at(
    world: &World,
    institution: &InstitutionId,
    merchant: &MerchantId,
) -> Result<Turn, TooMany> {
    world.outbound.turn(institution, merchant).await
}

/// How an exchange is made.
struct How {
    patience: Patience,
    turn: Option<Turn>,
    in_flight: Option<InFlight>,
}

async fn exchange(world: &World, adapter: &dyn Institution, call: &Call<'_>, how: How) -> Evidence {
    let kept_back = how.turn.as_ref().map(Turn::watch);
    let Some(stamp) = stamp(world, call, how.in_flight.as_ref()) else {
        return evidence(adapter, call, Finding::NotSent);
    };
    let (mut request, asked) = match outgoing(adapter, call, stamp).await {
        Outgoing::Send(request, asked) => (*request, asked),
        Outgoing::Local(handover) => {
            return evidence(adapter, call, Finding::Accepted(Some(handover)));
        }
        Outgoing::Unmade => {
            tracing::error!(institution.id = %adapter.id(), call = call.word(), "cannot be signed");
            // H1: nothing was asked, and it is our own lack.
            kept_back.iter().for_each(KeptBack::set);
            return evidence(adapter, call, Finding::NotSent);
        }
    };
    // As it is signed; what it becomes on the way to the wire is the connection's.
    let noted = world.trail.is_kept();
    let noted = noted.then(|| Noted::of(&request, world.clock.now()));
    request
        .extensions_mut()
        .insert(Errand(call.word(), how.turn));
    // A send goes on for as long as the connection that carries it.
    if let Some(in_flight) = how.in_flight {
        in_flight.may_leave();
        request.extensions_mut().insert(in_flight);
    }
    let party = Party::Institution(adapter.id().clone());
    let begun = world.health.begin(adapter.id(), world.clock.now());
    // Before the first byte leaves: from here on nothing that passes is waiting (V5).
    let asked_at = world.clock.uptime();
    let sent = world.outbound.send(&party, request, how.patience).await;
    let now = world.clock.now();
    let reply = noted.as_ref().and(sent.as_ref().ok()).map(Answered::of);
    let (found, end) = match sent {
        Ok(reply) => {
            let found = heard(call, adapter.read(call, &asked, &reply, now), asked_at);
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
            kept_back.iter().for_each(KeptBack::set);
            (evidence(adapter, call, Finding::NotSent), None)
        }
        Err(SendError::Unknown(why)) => {
            tracing::warn!(institution.id = %adapter.id(), call = call.word(), why, "in doubt");
            let found = evidence(adapter, call, Finding::Ambiguous(Ambiguity::NoAnswer));
            // Whoever waits a moment only, for a merchant's question, learns nothing from silence.
            let is_silence = how.patience.whole >= ASK_PATIENCE.whole || is_create(call);
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

/// An answer as evidence: dated by its question, and held to what that asked.
fn heard(call: &Call<'_>, read: Evidence, asked_at: Uptime) -> Evidence {
    let asked = call
        .refund()
        .map_or(call.attempt().amount, |refund| refund.amount);
    let found = Evidence {
        asked_at: (!call.is_send()).then_some(asked_at),
        ..read.held_to(asked)
    };
    if found.finding == Finding::Ambiguous(Ambiguity::Mismatch) {
        tracing::error!(institution.id = %found.institution, call = call.word(),
            attempt.id = %call.attempt().id,
            "an answer put aside: it speaks of something else than was asked");
    }
    found
}

/// How a call is dated and made one of a kind; nothing for one that must not leave (any more).
fn stamp(world: &World, call: &Call<'_>, in_flight: Option<&InFlight>) -> Option<Stamp> {
    // Begun long ago by a process that stood still since: by now it counts as in doubt, and its
    // payer may have given up, so it must not leave any more (Q9). Nor what nobody keeps account of.
    let is_fresh =
        in_flight.is_some_and(|one| world.clock.uptime().since(one.begun()) < INTENT_PATIENCE);
    match call {
        Call::Create(..) | Call::Refund(..) if !is_fresh => None,
        // A repeated create must be equal (A3): the stored stamp, dated by the last intent to send.
        Call::Create(attempt, _) => Some(Stamp {
            now: attempt.sent_at,
            nonce: attempt.stamp.nonce,
        }),
        // The same holds for a refund (R4); its call is dated by the last intent to send.
        Call::Refund(refund, ..) => match refund.sending {
            Sending::Left(left) => Some(Stamp {
                now: left,
                nonce: world.entropy.draw(),
            }),
            Sending::Waits(_) => None,
        },
        Call::Query(..) | Call::Close(..) | Call::RefundQuery(..) => Some(Stamp {
            now: world.clock.now(),
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
            is_paying: false,
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
        along: Along::default(),
        asked_at: None,
        names_it: false,
        finding,
    }
}
