//! Money on its way back, decided on the whole order: what is sent, what a finding means for the
//! books, and what follows a failure (A4, R3, R9).

use crate::domain::amount::Amount;
use crate::domain::attempt::{Attempt, Contradiction, Epoch, Move};
use crate::domain::change::{Cause, Change};
use crate::domain::evidence::{About, Along, Ambiguity, Evidence, Finding, Means, Reason, Receipt};
use crate::domain::identifiers::{RefundOrderNo, Timestamp};
use crate::domain::institutions::Facts;
use crate::domain::order::{Order, Weighed, is_overdue};
use crate::domain::refund::{Refund, RefundState, Sending, SurplusCause, Undecided, Verdict, Why};
use crate::domain::schedule::{self, Schedule};

/// Definite failures after which people decide about surplus money (A4).
pub const SURPLUS_FAILURES_MAX: usize = 10;

impl Order {
    /// Notes that a refund call is about to leave: a first one of surplus money, or the same once
    /// more (R4). Surplus that went back meanwhile is not sent again but given up.
    pub fn send_refund(&self, no: &RefundOrderNo, epoch: Epoch, now: Timestamp) -> Option<Change> {
        let refund = self.refund(no)?;
        let is_back = refund.surplus().is_some() && self.surplus_is_back(refund);
        let sent = match (refund.state, refund.sending) {
            (RefundState::Reserved, Sending::Waits(_)) if is_back => Refund {
                state: RefundState::Failed,
                reason: Some(Reason::from_code("NOT_NEEDED")),
                ..refund.clone()
            },
            (RefundState::Reserved, Sending::Waits(until)) if now >= until => Refund {
                sending: Sending::Left(now),
                epoch,
                ..refund.clone()
            },
            (RefundState::Unknown, Sending::Left(_)) if !self.may_be_back(refund) => Refund {
                sending: Sending::Left(now),
                epoch,
                ..refund.clone()
            },
            _ => return None,
        };
        Some(self.with_refund(&sent, Cause::Clock, now))
    }

    /// Whether a refund that is not known there may be sent once more (R4): at its own first questions,
    /// however long after it was reserved its first call left. One that the institution once named did
    /// arrive (V5), and money that may be back already is not sent after.
    pub fn may_repeat(&self, refund: &Refund, facts: &Facts) -> bool {
        facts.repeatable_refund
            && !self.may_be_back(refund)
            && refund.state == RefundState::Unknown
            && !refund.named
            && refund.schedule.asked <= schedule::REPEATS_MAX
    }

    /// One step of a refund whose whole schedule brought no end: what was taken is in doubt first, and
    /// what is in doubt is left to people (section 5). It is still asked about; what was taken did arrive,
    /// so it is never sent again.
    pub fn leave_to_people(&self, no: &RefundOrderNo, now: Timestamp) -> Option<Change> {
        let refund = self.refund(no)?;
        let (state, named) = match refund.state {
            RefundState::Processing => (RefundState::Unknown, true),
            RefundState::Unknown => (RefundState::Manual, refund.named),
            RefundState::Reserved
            | RefundState::Manual
            | RefundState::Succeeded
            | RefundState::Failed => return None,
        };
        let left = Refund {
            state,
            named,
            ..refund.clone()
        };
        Some(self.with_refund(&left, Cause::Clock, now))
    }

    /// An operator's verdict on a refund that is left to people: kept, until another operator finds
    /// the same on the same statement; that ends the refund (section 5).
    ///
    /// # Errors
    /// [`Undecided`]; nothing moves.
    pub fn decide_refund(
        &self,
        no: &RefundOrderNo,
        verdict: Verdict,
        now: Timestamp,
    ) -> Result<Change, Undecided> {
        let refund = self.refund(no).ok_or(Undecided::Unknown)?;
        if refund.state != RefundState::Manual {
            return Err(Undecided::NotManual);
        }
        let before = refund.verdict.as_ref();
        let agrees = before.filter(|known| known.agrees_with(&verdict));
        let cause = Cause::Verdict(
            verdict.operator.clone(),
            agrees.map(|one| one.operator.clone()),
        );
        let decided = match agrees {
            Some(known) if known.operator == verdict.operator => {
                return Err(Undecided::SameOperator);
            }
            // Whatever ends as gone back has what its day's statement is compared with (M7): as they read
            // it there, and otherwise on the day of their decision.
            Some(_) if verdict.succeeded => Refund {
                state: RefundState::Succeeded,
                receipt: Some(Receipt {
                    amount: refund.amount,
                    institution_no: verdict.institution_no.clone(),
                    paid_at: verdict.moved_at.unwrap_or(now),
                    fee: None,
                }),
                verdict: Some(verdict),
                ..refund.clone()
            },
            Some(_) => Refund {
                state: RefundState::Failed,
                reason: Some(Reason::from_code("BY_OPERATORS")),
                verdict: Some(verdict),
                ..refund.clone()
            },
            None => Refund {
                verdict: Some(verdict),
                ..refund.clone()
            },
        };
        Ok(self.with_refund(&decided, cause, now))
    }

    /// A call nobody came back from in a living process is in doubt.
    pub fn doubt_refund(&self, refund: &Refund, facts: &Facts, now: Timestamp) -> Option<Change> {
        let (RefundState::Reserved, Sending::Left(left)) = (refund.state, refund.sending) else {
            return None;
        };
        let evidence = Evidence {
            institution: self.attempt_of(refund)?.institution.clone(),
            account: None,
            about: About::Refund(refund.no.clone()),
            by: Means::Refund,
            sum: None,
            along: Along::default(),
            asked_at: None,
            names_it: false,
            finding: Finding::Ambiguous(Ambiguity::NoAnswer),
        };
        if !is_overdue(left, now) {
            return None;
        }
        match self.weigh(&evidence, facts, now) {
            Weighed::Commit(change) => Some(*change),
            Weighed::Repeat | Weighed::ConfirmByQuery | Weighed::Quarantine(_) => None,
        }
    }

    /// What evidence about one of its refunds means.
    pub(in crate::domain::order) fn weigh_refund(
        &self,
        no: &RefundOrderNo,
        evidence: &Evidence,
        now: Timestamp,
    ) -> Weighed {
        let known = self.refund(no);
        let Some((refund, attempt)) = known.and_then(|one| Some((one, self.attempt_of(one)?)))
        else {
            return Weighed::Quarantine(Contradiction::Institution);
        };
        if let Err(why) = attempt.admits(evidence, refund.amount) {
            return Weighed::Quarantine(why);
        }
        let named = refund.newly_named(evidence);
        let refund = named.as_ref().unwrap_or(refund);
        let moved = match refund.weigh(&evidence.finding, evidence.by, now) {
            Move::Confirm => return Weighed::ConfirmByQuery,
            Move::Impossible(why) => return Weighed::Quarantine(why),
            Move::Stay => named,
            Move::To(moved) => Some(*moved),
        };
        moved.map_or(Weighed::Repeat, |moved| {
            let cause = Cause::Evidence(evidence.institution.clone(), evidence.by);
            Weighed::Commit(Box::new(self.with_refund(&moved, cause, now)))
        })
    }

    /// The order with one refund moved: a late success is counted as far as it fits, then and later (R9), and
    /// surplus that failed is followed by another (A4).
    pub(in crate::domain::order) fn with_refund(
        &self,
        moved: &Refund,
        cause: Cause,
        now: Timestamp,
    ) -> Change {
        let mut after = self.clone();
        let follows = (moved.state == RefundState::Failed && !self.surplus_is_back(moved))
            .then(|| moved.surplus())
            .flatten();
        let (attempt, amount) = (moved.attempt.clone(), moved.amount);
        let excess_minor = self.excess_minor(moved);
        for known in after
            .refunds
            .iter_mut()
            .filter(|known| known.no == moved.no)
        {
            *known = Refund {
                excess_minor,
                ..moved.clone()
            };
        }
        after.cover_excess();
        let from = after.attempts.iter().find(|one| one.id == attempt).cloned();
        if let Some((surplus, from)) = follows.zip(from) {
            after.reserve_surplus(&from, amount, surplus, now);
        }
        Change::between(Some(self), after, cause, now)
    }

    /// What is neither held nor back of what was paid. Unit: minor units.
    fn left_minor(&self) -> i64 {
        let paid = self.settling_attempt().map_or(0, |one| one.amount.minor());
        paid.saturating_sub(self.held_minor()).max(0)
    }

    /// What went back beyond what there was is no loss any more as far as a failure of another refund
    /// leaves room for it (R9).
    fn cover_excess(&mut self) {
        let mut left = self.left_minor();
        let asked = self.refunds.iter_mut().filter(|one| one.wish().is_some());
        for refund in asked {
            let covered = refund.excess_minor.min(left);
            refund.excess_minor = refund.excess_minor.saturating_sub(covered);
            left = left.saturating_sub(covered);
        }
    }

    /// What of a refund that has just succeeded goes beyond what there was to give back (R9).
    fn excess_minor(&self, moved: &Refund) -> i64 {
        let sum = moved.amount.minor();
        match (&moved.why, moved.state, moved.late_success) {
            (Why::Asked(_), RefundState::Succeeded, true) => {
                let rest = self.left_minor();
                sum.saturating_sub(rest).max(0)
            }
            (Why::Surplus(_), RefundState::Succeeded, _) if self.surplus_is_back(moved) => sum,
            _ => moved.excess_minor,
        }
    }

    /// Whether what a refund was to give back went back by another that had failed (R9): to send it once more
    /// would make the loss real that its own failure covers.
    fn may_be_back(&self, refund: &Refund) -> bool {
        match refund.why {
            Why::Surplus(_) => self.surplus_is_back(refund),
            Why::Asked(_) => {
                let mut asked = self.refunds.iter().filter(|one| one.wish().is_some());
                asked.any(|one| one.excess_minor > 0)
            }
        }
    }

    /// Whether another refund of the same surplus has succeeded.
    fn surplus_is_back(&self, refund: &Refund) -> bool {
        let mut others = self.refunds.iter().filter(|one| {
            one.attempt == refund.attempt && one.no != refund.no && one.surplus().is_some()
        });
        others.any(|one| one.state == RefundState::Succeeded)
    }

    /// Surplus money is to go back (A4): reserved in the transaction that knows of it.
    pub(in crate::domain::order) fn reserve_surplus(
        &mut self,
        attempt: &Attempt,
        amount: Amount,
        cause: SurplusCause,
        now: Timestamp,
    ) {
        let mut before = self.refunds.iter().filter(|one| one.attempt == attempt.id);
        let failed = before
            .by_ref()
            .filter(|one| one.surplus().is_some())
            .count();
        let wait = match failed {
            0 => now,
            failed => now.plus(schedule::surplus_wait(failed)),
        };
        let state = if failed < SURPLUS_FAILURES_MAX {
            RefundState::Reserved
        } else {
            RefundState::Manual
        };
        self.refunds.push(Refund {
            no: RefundOrderNo::of_surplus(&attempt.id, failed),
            attempt: attempt.id.clone(),
            amount,
            state,
            why: Why::Surplus(cause),
            created: now,
            sending: Sending::Waits(wait),
            schedule: Schedule::from(wait),
            epoch: attempt.epoch,
            named: false,
            receipt: None,
            reason: None,
            late_success: false,
            excess_minor: 0,
            verdict: None,
        });
    }
}
