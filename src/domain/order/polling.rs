//! Polling of an order: each attempt and refund has its own schedule; the order is due when the
//! first of them is.

use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::identifiers::{AttemptId, InstitutionId, RefundOrderNo, Timestamp};
use crate::domain::order::{INTENT_TIMEOUT, Order, OrderState};
use crate::domain::refund::{Refund, RefundState, SendStatus};
use crate::domain::schedule::{PollFrequency, Schedule};

/// An object of an order that an institution can be queried about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollTarget {
    /// A payment attempt.
    Attempt(AttemptId),
    /// A refund.
    Refund(RefundOrderNo),
}

/// Polling priority when not everything can be polled at once: smaller goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// Its outcome is unknown.
    Unresolved,
    /// There is a sign that money may have moved. Never stored.
    Signal,
    /// A refund that the institution is processing.
    Refund,
    /// A payment waiting for its payer.
    Payer,
}

impl Urgency {
    /// All of them, most urgent first.
    pub const ALL: [Self; 4] = [Self::Unresolved, Self::Signal, Self::Refund, Self::Payer];

    /// The name in the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Signal => "signal",
            Self::Refund => "refund",
            Self::Payer => "payer",
        }
    }
}

/// The polling queue of a due order: an institution's, or, without one, our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PollLane<'a> {
    /// The only institution of its open objects; `None` if there are several, or if only its expiry
    /// is due.
    pub institution: Option<&'a InstitutionId>,
    /// The urgency of its most urgent object.
    pub urgency: Urgency,
}

/// One open object of an order.
struct PollCandidate<'a> {
    object: PollTarget,
    institution: &'a InstitutionId,
    next: Timestamp,
    urgency: Urgency,
}

impl Attempt {
    /// Urgency of a query about it.
    fn urgency(&self) -> Urgency {
        match self.state {
            AttemptState::Accepted => Urgency::Payer,
            AttemptState::Intent
            | AttemptState::Unknown
            | AttemptState::Closing
            | AttemptState::Paid
            | AttemptState::Failed
            | AttemptState::Closed => Urgency::Unresolved,
        }
    }

    /// The attempt with its next question due now, after a hint; `None` if it is due already, has
    /// ended, or its create is still under way.
    pub(in crate::domain::order) fn asked_sooner(&self, now: Timestamp) -> Option<Self> {
        let is_open = self.state.is_live() && self.state != AttemptState::Intent;
        (is_open && self.schedule.next > now).then(|| Self {
            schedule: self.schedule.brought_forward(now),
            ..self.clone()
        })
    }

    /// Polling frequency, which depends on whether the institution's callbacks arrive.
    fn pace(&self, callbacks: CallbackDelivery) -> PollFrequency {
        match (self.urgency(), callbacks) {
            (Urgency::Payer, CallbackDelivery::Arriving) => PollFrequency::Payer,
            (Urgency::Payer, CallbackDelivery::Missing) => PollFrequency::CallbacksMissing,
            (Urgency::Unresolved | Urgency::Signal | Urgency::Refund, _) => {
                PollFrequency::Unresolved
            }
        }
    }

    fn begin(&self, being_closed: BeingClosed, now: Timestamp) -> Schedule {
        match (self.state, being_closed) {
            (AttemptState::Intent, _) => Schedule::from(self.sent_at.plus(INTENT_TIMEOUT)),
            // A live attempt of an order that is ending is closed at once.
            (AttemptState::Closing, _)
            | (AttemptState::Unknown | AttemptState::Accepted, BeingClosed::Yes) => {
                Schedule::from(now)
            }
            (AttemptState::Unknown | AttemptState::Accepted, BeingClosed::No) => {
                Schedule::begin(self.pace(CallbackDelivery::Arriving), self.id.as_str(), now)
            }
            (AttemptState::Paid | AttemptState::Failed | AttemptState::Closed, _) => self.schedule,
        }
    }
}

/// Whether an order is ending and its live attempts are to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BeingClosed {
    Yes,
    No,
}

/// Whether an institution's callbacks arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallbackDelivery {
    /// They do, or it is not known yet.
    #[default]
    Arriving,
    /// Too many are missing.
    Missing,
}

impl Refund {
    /// The refund with its next question due now, after a hint; `None` if it is due already, has
    /// ended, or its call is still under way.
    pub(in crate::domain::order) fn asked_sooner(&self, now: Timestamp) -> Option<Self> {
        let is_open = !self.state.is_over() && self.state != RefundState::Reserved;
        (is_open && self.schedule.next > now).then(|| Self {
            schedule: self.schedule.brought_forward(now),
            ..self.clone()
        })
    }

    fn urgency(&self) -> Urgency {
        match self.state {
            RefundState::Processing | RefundState::Manual => Urgency::Refund,
            RefundState::Reserved
            | RefundState::Unknown
            | RefundState::Succeeded
            | RefundState::Failed => Urgency::Unresolved,
        }
    }

    fn pace(&self) -> PollFrequency {
        match self.state {
            RefundState::Manual => PollFrequency::ManualReview,
            RefundState::Reserved
            | RefundState::Processing
            | RefundState::Unknown
            | RefundState::Succeeded
            | RefundState::Failed => PollFrequency::Unresolved,
        }
    }

    fn begin(&self, now: Timestamp) -> Schedule {
        match (self.state, self.sending) {
            (RefundState::Reserved, SendStatus::Waits(until)) => Schedule::from(until),
            (RefundState::Reserved, SendStatus::Left(left)) => {
                Schedule::from(left.plus(INTENT_TIMEOUT))
            }
            (RefundState::Processing | RefundState::Unknown | RefundState::Manual, _) => {
                Schedule::begin(self.pace(), self.no.as_str(), now)
            }
            (RefundState::Succeeded | RefundState::Failed, _) => self.schedule,
        }
    }
}

impl Order {
    fn poll_candidates(&self) -> impl Iterator<Item = PollCandidate<'_>> {
        let attempts = self.attempts.iter().filter(|one| one.state.is_live());
        let attempts = attempts.map(|attempt| PollCandidate {
            object: PollTarget::Attempt(attempt.id.clone()),
            institution: &attempt.institution,
            next: attempt.schedule.next,
            urgency: attempt.urgency(),
        });
        let refunds = self.refunds.iter().filter(|one| !one.state.is_over());
        let refunds = refunds.filter_map(|refund| {
            Some(PollCandidate {
                object: PollTarget::Refund(refund.no.clone()),
                institution: &self.attempt_of(refund)?.institution,
                next: refund.schedule.next,
                urgency: refund.urgency(),
            })
        });
        attempts.chain(refunds)
    }

    /// When it next needs attention (A6): the earliest poll of an open object, or its expiry.
    pub fn due(&self) -> Option<Timestamp> {
        let polls = self.poll_candidates().map(|one| one.next);
        polls.chain(self.expiry_due()).min()
    }

    /// The queue it waits in until then (N10).
    pub fn lane(&self) -> PollLane<'_> {
        let first = self.poll_candidates().min_by_key(|one| one.next);
        let expires = self.expiry_due();
        let mut institution = first
            .filter(|one| expires.is_none_or(|expires| one.next <= expires))
            .map(|one| one.institution);
        // With several institutions it waits for none: a silent one would delay the others.
        if let Some(only) = institution
            && self.poll_candidates().any(|one| one.institution != only)
        {
            institution = None;
        }
        let urgency = match institution {
            Some(_) => self.poll_candidates().map(|one| one.urgency).min(),
            None => None,
        };
        PollLane {
            institution,
            urgency: urgency.unwrap_or(Urgency::Unresolved),
        }
    }

    /// The next object to poll now, longest overdue first, and its institution.
    pub fn next_poll_target(
        &self,
        now: Timestamp,
    ) -> Option<(PollTarget, &InstitutionId, Urgency)> {
        let due = self.poll_candidates().filter(|one| one.next <= now);
        let first = due.min_by_key(|one| one.next)?;
        Some((first.object, first.institution, first.urgency))
    }

    /// The attempt waiting for its payer, which a signal causes to be queried.
    pub fn waiting_attempt(&self) -> Option<&Attempt> {
        self.live_attempt()
            .filter(|attempt| attempt.state == AttemptState::Accepted)
    }

    /// The schedule of one of its objects.
    pub fn schedule_of(&self, object: &PollTarget) -> Option<Schedule> {
        match object {
            PollTarget::Attempt(id) => {
                let attempt = self.attempts.iter().find(|one| one.id == *id)?;
                Some(attempt.schedule)
            }
            PollTarget::Refund(no) => Some(self.refund(no)?.schedule),
        }
    }

    /// Sets the schedule of one of its objects. This is not a `Change`, as it moves no state: it is
    /// written when a lease ends, or with the object's next change.
    pub fn reschedule(&mut self, object: &PollTarget, to: Schedule) {
        match object {
            PollTarget::Attempt(id) => {
                for known in self.attempts.iter_mut().filter(|one| one.id == *id) {
                    known.schedule = to;
                }
            }
            PollTarget::Refund(no) => {
                for known in self.refunds.iter_mut().filter(|one| one.no == *no) {
                    known.schedule = to;
                }
            }
        }
    }

    /// Counts one poll of an object and schedules the next.
    pub fn count_poll(&mut self, object: &PollTarget, callbacks: CallbackDelivery, now: Timestamp) {
        let next = match object {
            PollTarget::Attempt(id) => {
                let attempt = self.attempts.iter().find(|one| one.id == *id);
                attempt.map(|one| one.schedule.asked(one.pace(callbacks), id.as_str(), now))
            }
            PollTarget::Refund(no) => {
                let refund = self.refund(no);
                refund.map(|one| one.schedule.asked(one.pace(), no.as_str(), now))
            }
        };
        if let Some(next) = next {
            self.reschedule(object, next);
        }
    }

    /// Starts the schedules of objects whose state changed and leaves all others as they are:
    /// nothing is polled faster because another object of the order changed.
    pub(in crate::domain) fn begin_schedules(&mut self, before: Option<&Self>, now: Timestamp) {
        let being_closed = match (self.state, self.ending) {
            (OrderState::Open, None) => BeingClosed::No,
            (OrderState::Open | OrderState::Paid | OrderState::Closed, _) => BeingClosed::Yes,
        };
        for (at, attempt) in self.attempts.iter_mut().enumerate() {
            let was = before.and_then(|order| order.attempts.get(at));
            let stays = was.is_some_and(|was| was.state == attempt.state);
            if !stays || attempt.state == AttemptState::Intent {
                attempt.schedule = attempt.begin(being_closed, now);
            }
        }
        for (at, refund) in self.refunds.iter_mut().enumerate() {
            let was = before.and_then(|order| order.refunds.get(at));
            let stays = was.is_some_and(|was| was.state == refund.state);
            if !stays || refund.state == RefundState::Reserved {
                refund.schedule = refund.begin(now);
            }
        }
    }
}
