//! The environment of a simulated gateway: payers pay, institutions call back, messages are forged,
//! exchanges end, clocks are set, behaviour changes and machines fail.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use paymux::domain::attempt::{Attempt, AttemptState};
use paymux::domain::identifiers::InstitutionId;
use paymux::world::OutboundParty;
use serde_json::Value;

use super::checks::InvariantResult;
use super::run::{INSTITUTIONS, SimulationRun};
use crate::world::fake_merchant::FakeMerchantBehaviour;
use crate::world::fault_injector::InjectedFault;
use crate::world::network::ScriptedOutcome;

impl SimulationRun {
    pub(super) fn payer_pays(&mut self) {
        let truth = self.clock.truth();
        let network = Arc::clone(&self.network);
        let mut parties = network.parties();
        let mut payable = Vec::new();
        for (id, books) in &mut parties.institutions {
            payable.extend(
                books
                    .payable(truth)
                    .into_iter()
                    .map(|one| (id.clone(), one)),
            );
        }
        if payable.is_empty() {
            return;
        }
        let (id, payment) = self.dice.pick(&payable).clone();
        self.log(|| format!("the payer pays {payment} at {id}"));
        parties
            .institutions
            .get_mut(&id)
            .unwrap()
            .pay(&payment, truth);
    }

    /// An institution sends a callback: mostly one that is due, sometimes a repeat.
    pub(super) fn institution_calls_back(&mut self) {
        let again = self.dice.one_in(5);
        let network = Arc::clone(&self.network);
        let parties = network.parties();
        let mut messages = Vec::new();
        for (id, books) in &parties.institutions {
            let about = if again {
                books.payments.keys().cloned().collect()
            } else {
                books.undelivered()
            };
            messages.extend(about.into_iter().map(|one| (id.clone(), one)));
        }
        if messages.is_empty() {
            return;
        }
        let (id, payment) = self.dice.pick(&messages).clone();
        let books = &parties.institutions[&id];
        let callback = books.callback(&payment, self.clock.truth());
        let is_due = books.undelivered().contains(&payment);
        drop(parties);
        self.log(|| format!("{id} calls back about {payment}"));
        // Only a payment needs an acknowledgement.
        let payment = if is_due { payment } else { String::new() };
        self.call(id, payment, callback);
    }

    /// A forged success, or an authentic one about another institution's attempt.
    pub(super) fn forged_message_arrives(&mut self) {
        let network = Arc::clone(&self.network);
        let parties = network.parties();
        let all: Vec<_> = parties
            .institutions
            .iter()
            .flat_map(|(id, books)| books.payments.keys().map(|one| (id.clone(), one.clone())))
            .collect();
        if all.is_empty() {
            return;
        }
        let (id, payment) = self.dice.pick(&all).clone();
        let success = parties.institutions[&id].success(&payment, self.clock.truth());
        let speaker = InstitutionId::parse(INSTITUTIONS[self.dice.below(3)]).unwrap();
        let speaker_books = &parties.institutions[&speaker];
        let callback = if speaker == id {
            speaker_books.forgery(&success)
        } else {
            speaker_books.message(&success)
        };
        drop(parties);
        self.log(|| format!("a false message as {speaker} about {payment}"));
        self.call(speaker, String::new(), callback);
    }

    pub(super) fn network_ends_one(&mut self) {
        let many = self.network.parties().waiting.len();
        if many == 0 {
            return;
        }
        let at = self.dice.below(many);
        let (arrived, what) = {
            let parties = self.network.parties();
            let one = &parties.waiting[at];
            (one.has_arrived(), describe(&one.request))
        };
        if self.is_to_silent_institution(at) {
            // It ends at the gateway's timeout; whether it arrived is drawn then.
            self.log(|| format!("{what} gets no reply"));
            return;
        }
        if !arrived && self.dice.one_in(4) {
            self.log(|| format!("{what} arrives, its reply is in flight"));
            return self.network.arrive(at);
        }
        let ending = self.ending(arrived);
        self.log(|| format!("{what} ends {ending:?}"));
        self.network.release(at, ending);
    }

    fn is_to_silent_institution(&self, at: usize) -> bool {
        let parties = self.network.parties();
        match &parties.waiting[at].party {
            OutboundParty::Institution(id) => parties.institutions[id].behaviours.is_silent,
            OutboundParty::Merchant => false,
        }
    }

    fn ending(&mut self, arrived: bool) -> ScriptedOutcome {
        let bad: &[ScriptedOutcome] = if arrived {
            &[
                ScriptedOutcome::LostAfter,
                ScriptedOutcome::FaultAfter,
                ScriptedOutcome::Garbled,
            ]
        } else {
            &[
                ScriptedOutcome::NotSent,
                ScriptedOutcome::LostBefore,
                ScriptedOutcome::LostAfter,
                ScriptedOutcome::Late,
                ScriptedOutcome::Twice,
                ScriptedOutcome::FaultAfter,
                ScriptedOutcome::FaultBefore,
                ScriptedOutcome::Garbled,
            ]
        };
        if self.dice.one_in(3) {
            *self.dice.pick(bad)
        } else {
            ScriptedOutcome::Answered
        }
    }

    pub(super) fn something_late_arrives(&mut self) {
        let many = self.network.parties().late.len();
        if many > 0 {
            let at = self.dice.below(many);
            let what = describe(&self.network.parties().late[at].2);
            self.log(|| format!("{what} arrives late"));
            self.network.arrive_late(at);
        }
    }

    pub(super) fn time_passes(&mut self) -> InvariantResult {
        let ms = match self.dice.below(8) {
            0..=4 => self.dice.between(10, 3_000),
            5 | 6 => self.dice.between(3_000, 20_000),
            _ => self.dice.between(20_000, 90_000),
        };
        let bend = self.dice.between(-ms / 8, ms / 8);
        self.log(|| format!("{ms} ms pass, the clock shows {}", ms + bend));
        self.pass(ms)?;
        self.clock.bend(bend);
        Ok(())
    }

    /// The machine's clock is set while no process runs.
    pub(super) fn clock_jumps(&mut self) {
        let off = match self.dice.below(4) {
            0 => 0,
            1 => self.dice.between(-600_000, 0),
            2 => self.dice.between(0, 60_000),
            _ => self.dice.between(0, 7_200_000),
        };
        self.log(|| format!("the clock is set {off} ms off"));
        self.fault_injector().stop();
        self.clock.set_off(off);
    }

    /// The machine's clock is set while a process runs, without elapsed time.
    pub(super) fn clock_is_wrong(&mut self) {
        let off = match self.dice.below(3) {
            0 => 0,
            1 => self.dice.between(-7_200_000, 0),
            _ => self.dice.between(0, 7_200_000),
        };
        self.log(|| format!("the running clock is set {off} ms off"));
        self.clock.set_off(off);
    }

    /// The whole process is suspended, with calls in flight; everybody else continues. What it had
    /// written reaches the institution meanwhile, what it had not is sent afterwards.
    pub(super) fn process_stands_still(&mut self) {
        let ms = self.dice.between(5_000, 900_000);
        let until = self.clock.truth() + ms;
        self.log(|| format!("the process is suspended for {ms} ms"));
        let many = self.network.parties().waiting.len();
        for at in (0..many).rev() {
            let arrives = self.dice.one_in(2);
            if !self.network.parties().waiting[at].is_awaited() {
                // What a dead process sent is not suspended: it arrives in its time or never.
                let lost =
                    [ScriptedOutcome::LostBefore, ScriptedOutcome::LostAfter][usize::from(arrives)];
                self.network.release(at, lost);
            } else if arrives {
                self.network.arrive(at);
            }
        }
        while let Some(arrives) = self.network.next_late().filter(|one| *one <= until) {
            self.clock.pass((arrives - self.clock.truth()).max(0));
            self.network.arrive_late(0);
        }
        self.clock.pass(until - self.clock.truth());
        let many = self.network.parties().waiting.len();
        for at in (0..many).rev() {
            let has_arrived = self.network.parties().waiting[at].has_arrived();
            if !has_arrived {
                self.network.parties().waiting[at].sent = until;
            } else if self.dice.one_in(2) {
                // The reply came while nothing read it, and is read now.
                self.network.release(at, ScriptedOutcome::Answered);
            }
        }
    }

    /// Queries at an institution do not show a payment that it had accepted, as from a lagging
    /// replica; or show all again.
    pub(super) fn payment_is_hidden(&mut self) {
        let mut accepted = Vec::new();
        for step in &self.memory.durable().history {
            let taken = |one: &&Attempt| one.state == AttemptState::Accepted;
            let attempts = step.after.attempts.iter().filter(taken);
            accepted.extend(attempts.map(|one| (one.institution.clone(), one.id.to_string())));
        }
        let network = Arc::clone(&self.network);
        let mut parties = network.parties();
        if accepted.is_empty() || self.dice.one_in(3) {
            for books in parties.institutions.values_mut() {
                books.show_all();
            }
            return;
        }
        let (id, payment) = self.dice.pick(&accepted).clone();
        self.log(|| format!("{id} hides {payment} from queries"));
        let books = parties.institutions.get_mut(&id).unwrap();
        books.payments.get_mut(&payment).unwrap().is_hidden = true;
    }

    pub(super) fn behaviour_changes(&mut self) {
        let network = Arc::clone(&self.network);
        let mut parties = network.parties();
        if self.dice.one_in(3) {
            let moods = [
                FakeMerchantBehaviour::Acknowledges,
                FakeMerchantBehaviour::Acknowledges,
                FakeMerchantBehaviour::AnswersOtherWord,
                FakeMerchantBehaviour::ServerError,
            ];
            for inbox in parties.merchants.values_mut() {
                inbox.behaviour = *self.dice.pick(&moods);
            }
            return;
        }
        let id = InstitutionId::parse(INSTITUTIONS[self.dice.below(3)]).unwrap();
        let behaviours = &mut parties.institutions.get_mut(&id).unwrap().behaviours;
        let which = self.dice.below(8);
        let on = self.dice.one_in(2);
        match which {
            0 => behaviours.refuses = on,
            1 => behaviours.takes_after_end = on,
            2 => behaviours.keeps_open = on,
            3 => behaviours.takes_less = on && self.dice.one_in(4),
            4 => behaviours.uses_unlisted_word = on,
            5 => behaviours.refuses_refunds = on,
            6 => behaviours.is_silent = on && self.dice.one_in(2),
            _ => behaviours.takes_its_time = on,
        }
        let shown = format!("{behaviours:?}");
        self.log(|| format!("{id} is {shown}"));
    }

    pub(super) fn fault_is_planned(&mut self) {
        let at = u64::try_from(self.dice.between(1, 5)).unwrap();
        let trouble = *self.dice.pick(&[
            InjectedFault::Unavailable,
            InjectedFault::LostUnwritten,
            InjectedFault::LostWritten,
            InjectedFault::StopBefore,
            InjectedFault::StopBefore,
            InjectedFault::StopAfter,
            InjectedFault::StopAfter,
        ]);
        self.log(|| format!("{trouble:?} at write {at} from now"));
        self.fault_injector().plan(at, trouble);
    }
}

fn describe(request: &Request<Bytes>) -> String {
    let fields: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    match (fields["call"].as_str(), fields["id"].as_str()) {
        (Some(call), Some(id)) => format!("{call} {id}"),
        _ => format!("notice {}", fields["eventId"]),
    }
}
