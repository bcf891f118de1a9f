//! Progress of refunds, decided on the whole order: what is sent, the effect of findings on the
//! books, and what follows a failure (A4, R3, R9).

use crate::domain::amount::Amount;
use crate::domain::attempt::{Attempt, Contradiction, Epoch, Transition};
use crate::domain::change::{Change, ChangeCause};
use crate::domain::evidence::{
    Ambiguity, Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment, Reason, Receipt,
};
use crate::domain::identifiers::{RefundOrderNo, Timestamp};
use crate::domain::institutions::Facts;
use crate::domain::order::{Applied, Order, is_overdue};
use crate::domain::refund::{
    DecisionIneffective, ExcessCause, Refund, RefundDecision, RefundOrigin, RefundState, SendStatus,
};
use crate::domain::schedule::{self, Schedule};

/// Definite failures after which a refund of an excess payment goes to manual review (A4).
pub const EXCESS_FAILURES_MAX: usize = 10;

impl Order {
    /// Records that a refund call is about to be sent: the first one for an excess payment, or a
    /// repeat (R4). An excess payment that was refunded meanwhile is not sent again but marked
    /// failed.
    pub fn send_refund(&self, no: &RefundOrderNo, epoch: Epoch, now: Timestamp) -> Option<Change> {
        let refund = self.refund(no)?;
        let is_back = refund.excess().is_some() && self.is_excess_refunded(refund);
        let sent = match (refund.state, refund.sending) {
            (RefundState::Reserved, SendStatus::Waits(_)) if is_back => Refund {
                state: RefundState::Failed,
                reason: Some(Reason::from_code("NOT_NEEDED")),
                ..refund.clone()
            },
            (RefundState::Reserved, SendStatus::Waits(until)) if now >= until => Refund {
                sending: SendStatus::Left(now),
                epoch,
                ..refund.clone()
            },
            (RefundState::Unknown, SendStatus::Left(_))
                if !self.may_be_refunded_already(refund) =>
            {
                Refund {
                    sending: SendStatus::Left(now),
                    epoch,
                    ..refund.clone()
                }
            }
            _ => return None,
        };
        Some(self.with_refund(&sent, ChangeCause::Clock, now))
    }

    /// Whether a refund unknown to the institution may be sent again (R4): only during its first
    /// polls, however long after its reservation the first call was sent. One that the institution
    /// has confirmed did arrive (V5), and a refund that may have been paid out already is not
    /// repeated.
    pub fn may_repeat(&self, refund: &Refund, facts: &Facts) -> bool {
        facts.repeatable_refund
            && !self.may_be_refunded_already(refund)
            && refund.state == RefundState::Unknown
            && !refund.named
            && refund.schedule.asked <= schedule::REPEATS_MAX
    }

    /// Moves a refund that stayed unresolved over its whole schedule one step: PROCESSING becomes
    /// UNKNOWN, and UNKNOWN goes to manual review (Z1). It is still polled; one that was
    /// PROCESSING did arrive, so it is never sent again.
    pub fn move_to_manual_review(&self, no: &RefundOrderNo, now: Timestamp) -> Option<Change> {
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
        Some(self.with_refund(&left, ChangeCause::Clock, now))
    }

    /// Records a staff decision on a refund in manual review; the refund ends when a second person
    /// decides the same from the same statement (L5).
    ///
    /// # Errors
    /// [`DecisionIneffective`]; nothing changes.
    pub fn decide_refund(
        &self,
        no: &RefundOrderNo,
        decision: RefundDecision,
        now: Timestamp,
    ) -> Result<Change, DecisionIneffective> {
        let refund = self.refund(no).ok_or(DecisionIneffective::Unknown)?;
        if refund.state != RefundState::Manual {
            return Err(DecisionIneffective::NotManual);
        }
        let before = refund.decision.as_ref();
        let agrees = before.filter(|known| known.agrees_with(&decision));
        let cause =
            ChangeCause::Decision(decision.staff.clone(), agrees.map(|one| one.staff.clone()));
        let decided = match agrees {
            Some(known) if known.staff == decision.staff => {
                return Err(DecisionIneffective::SameStaff);
            }
            // A succeeded refund needs a receipt to compare with its day's statement (M7): as read
            // there, otherwise dated by the decision.
            Some(_) if decision.succeeded => Refund {
                state: RefundState::Succeeded,
                receipt: Some(Receipt {
                    amount: refund.amount,
                    institution_no: decision.institution_no.clone(),
                    paid_at: decision.moved_at.unwrap_or(now),
                    fee: None,
                }),
                decision: Some(decision),
                ..refund.clone()
            },
            Some(_) => Refund {
                state: RefundState::Failed,
                reason: Some(Reason::from_code("BY_OPERATORS")),
                decision: Some(decision),
                ..refund.clone()
            },
            None => Refund {
                decision: Some(decision),
                ..refund.clone()
            },
        };
        Ok(self.with_refund(&decided, cause, now))
    }

    /// A call of a live process that never returned is unresolved.
    pub fn mark_refund_unresolved(
        &self,
        refund: &Refund,
        facts: &Facts,
        now: Timestamp,
    ) -> Option<Change> {
        let (RefundState::Reserved, SendStatus::Left(sent_at)) = (refund.state, refund.sending)
        else {
            return None;
        };
        let evidence = Evidence {
            institution: self.attempt_of(refund)?.institution.clone(),
            accounts: None,
            receiver: None,
            about: EvidenceSubject::Refund(refund.no.clone()),
            by: EvidenceSource::Refund,
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: false,
            finding: Finding::Ambiguous(Ambiguity::NoAnswer),
        };
        if !is_overdue(sent_at, now) {
            return None;
        }
        match self.apply(&evidence, facts, now) {
            Applied::Commit(change) => Some(*change),
            Applied::Repeat | Applied::ConfirmByQuery | Applied::Quarantine(_) => None,
        }
    }

    /// Applies evidence about one of its refunds.
    pub(in crate::domain::order) fn apply_to_refund(
        &self,
        no: &RefundOrderNo,
        evidence: &Evidence,
        now: Timestamp,
    ) -> Applied {
        let known = self.refund(no);
        let Some((refund, attempt)) = known.and_then(|one| Some((one, self.attempt_of(one)?)))
        else {
            return Applied::Quarantine(Contradiction::Institution);
        };
        if let Err(why) = attempt.admits(evidence, refund.amount) {
            return Applied::Quarantine(why);
        }
        let named = refund.newly_seen(evidence);
        let refund = named.as_ref().unwrap_or(refund);
        if evidence.finding == Finding::Hint {
            // Nothing asks about what has failed, and the institution may have carried it out (R9).
            if refund.state == RefundState::Failed {
                return Applied::ConfirmByQuery;
            }
            let sooner = refund.asked_sooner(now).or(named);
            return self.refund_moved(sooner.as_ref(), evidence, now);
        }
        let moved = match refund.apply(&evidence.finding, evidence.by, now) {
            Transition::ConfirmByQuery => return Applied::ConfirmByQuery,
            Transition::Impossible(why) => return Applied::Quarantine(why),
            Transition::Unchanged => named,
            Transition::To(moved) => Some(*moved),
        };
        self.refund_moved(moved.as_ref(), evidence, now)
    }

    fn refund_moved(&self, moved: Option<&Refund>, evidence: &Evidence, now: Timestamp) -> Applied {
        moved.map_or(Applied::Repeat, |moved| {
            let cause = ChangeCause::Evidence(evidence.institution.clone(), evidence.by);
            Applied::Commit(Box::new(self.with_refund(moved, cause, now)))
        })
    }

    /// The order with one refund changed: a late success counts as far as the refundable amount
    /// allows, now and later (R9), and a failed refund of an excess payment is followed by another
    /// (A4).
    pub(in crate::domain::order) fn with_refund(
        &self,
        moved: &Refund,
        cause: ChangeCause,
        now: Timestamp,
    ) -> Change {
        let mut after = self.clone();
        let follows = (moved.state == RefundState::Failed && !self.is_excess_refunded(moved))
            .then(|| moved.excess())
            .flatten();
        let (attempt, amount) = (moved.attempt.clone(), moved.amount);
        let over_refunded_minor = self.over_refunded_minor(moved);
        for known in after
            .refunds
            .iter_mut()
            .filter(|known| known.no == moved.no)
        {
            *known = Refund {
                over_refunded_minor,
                ..moved.clone()
            };
        }
        after.cover_over_refunded();
        let from = after.attempts.iter().find(|one| one.id == attempt).cloned();
        if let Some((excess, from)) = follows.zip(from) {
            after.reserve_excess(&from, amount, excess, now);
        }
        Change::between(Some(self), after, cause, now)
    }

    /// Refundable amount: paid, less reserved and refunded. Unit: minor units.
    fn refundable_minor(&self) -> i64 {
        let paid = self.paying_attempt().map_or(0, |one| one.amount.minor());
        paid.saturating_sub(self.reserved_minor()).max(0)
    }

    /// Reduces over-refund losses by what the failure of another refund makes refundable again
    /// (R9).
    fn cover_over_refunded(&mut self) {
        let mut left = self.refundable_minor();
        let requested = self
            .refunds
            .iter_mut()
            .filter(|one| one.request().is_some());
        for refund in requested {
            let covered = refund.over_refunded_minor.min(left);
            refund.over_refunded_minor = refund.over_refunded_minor.saturating_sub(covered);
            left = left.saturating_sub(covered);
        }
    }

    /// The part of a newly succeeded refund beyond the refundable amount (R9).
    fn over_refunded_minor(&self, moved: &Refund) -> i64 {
        let sum = moved.amount.minor();
        match (&moved.why, moved.state, moved.late_success) {
            (RefundOrigin::Asked(_), RefundState::Succeeded, true) => {
                let refundable = self.refundable_minor();
                sum.saturating_sub(refundable).max(0)
            }
            (RefundOrigin::Excess(_), RefundState::Succeeded, _)
                if self.is_excess_refunded(moved) =>
            {
                sum
            }
            _ => moved.over_refunded_minor,
        }
    }

    /// Whether the amount may already have been returned by another refund that had been marked
    /// failed (R9): sending it again would make the loss permanent, while its own failure would
    /// cover the loss.
    fn may_be_refunded_already(&self, refund: &Refund) -> bool {
        match refund.why {
            RefundOrigin::Excess(_) => self.is_excess_refunded(refund),
            RefundOrigin::Asked(_) => {
                let mut requested = self.refunds.iter().filter(|one| one.request().is_some());
                requested.any(|one| one.over_refunded_minor > 0)
            }
        }
    }

    /// Whether another refund of the same excess payment has succeeded.
    fn is_excess_refunded(&self, refund: &Refund) -> bool {
        let mut others = self.refunds.iter().filter(|one| {
            one.attempt == refund.attempt && one.no != refund.no && one.excess().is_some()
        });
        others.any(|one| one.state == RefundState::Succeeded)
    }

    /// Reserves the refund of an excess payment (A4), in the transaction that finds it.
    pub(in crate::domain::order) fn reserve_excess(
        &mut self,
        attempt: &Attempt,
        amount: Amount,
        cause: ExcessCause,
        now: Timestamp,
    ) {
        let mut earlier = self.refunds.iter().filter(|one| one.attempt == attempt.id);
        let failed = earlier
            .by_ref()
            .filter(|one| one.excess().is_some())
            .count();
        let wait = match failed {
            0 => now,
            failed => now.plus(schedule::excess_wait(failed)),
        };
        let state = if failed < EXCESS_FAILURES_MAX {
            RefundState::Reserved
        } else {
            RefundState::Manual
        };
        self.refunds.push(Refund {
            no: RefundOrderNo::of_excess(&attempt.id, failed),
            attempt: attempt.id.clone(),
            amount,
            state,
            why: RefundOrigin::Excess(cause),
            created: now,
            sending: SendStatus::Waits(wait),
            schedule: Schedule::from(wait),
            epoch: attempt.epoch,
            named: false,
            receipt: None,
            reason: None,
            late_success: false,
            over_refunded_minor: 0,
            decision: None,
        });
    }
}
