//! Legal transitions of an order. Every decision is made on the whole order and returned as one
//! `Change`.

use std::sync::Arc;

use crate::domain::attempt::{Attempt, AttemptState, Contradiction, Epoch, Transition};
use crate::domain::change::{Change, ChangeCause};
use crate::domain::evidence::{
    Ambiguity, Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment,
};
use crate::domain::identifiers::{AttemptId, Timestamp};
use crate::domain::institutions::{CreateSend, Facts};
use crate::domain::order::{
    ATTEMPTS_MAX, Applied, CloseReason, NewAttempt, NewOrder, Order, OrderState, is_overdue,
};
use crate::domain::refund::{ExcessCause, RefundState, SendStatus};
use crate::domain::refusal::Refusal;
use crate::domain::schedule::Schedule;

impl Order {
    /// A new order, with its first attempt if the institution is known: one change.
    pub fn open(
        opening: NewOrder,
        first: Option<NewAttempt>,
        cause: ChangeCause,
        now: Timestamp,
    ) -> Change {
        let mut order = Self {
            no: opening.no,
            page_secret: opening.page_secret,
            notice_url: opening.notice_url,
            created: now,
            expires: opening.terms.expires(now),
            terms: Arc::new(opening.terms),
            state: OrderState::Open,
            ending: None,
            version: 0,
            paying_attempt_id: None,
            chosen: None,
            attempts: Vec::new(),
            refunds: Vec::new(),
        };
        order
            .attempts
            .extend(first.map(|start| order.intent(start)));
        Change::between(None, order, cause, now)
    }

    /// Starts an attempt at an institution: the intent is durable before any byte is sent (A1).
    ///
    /// # Errors
    /// The order is not open, is ending or has expired (O4); it has a live attempt (A2); it has
    /// [`ATTEMPTS_MAX`] attempts. The cause is returned with the refusal, so that its nonce can
    /// still be spent (Q5).
    pub fn start_attempt(
        &self,
        start: NewAttempt,
        cause: ChangeCause,
        now: Timestamp,
    ) -> Result<Change, (Refusal, ChangeCause)> {
        if !self.accepts_attempts(now) {
            return Err((Refusal::OrderClosed, cause));
        }
        if self.live_attempt().is_some() {
            return Err((Refusal::Contended, cause));
        }
        if self.attempts.len() >= ATTEMPTS_MAX {
            return Err((Refusal::AttemptsExhausted, cause));
        }
        let mut after = self.clone();
        after.chosen = None;
        after.attempts.push(self.intent(start));
        Ok(Change::between(Some(self), after, cause, now))
    }

    /// A product that sends nothing is ACCEPTED at once: nothing about it is in doubt.
    fn intent(&self, start: NewAttempt) -> Attempt {
        let product = start.product;
        Attempt {
            id: start.id,
            seq: u32::try_from(self.attempts.len())
                .unwrap_or(u32::MAX)
                .saturating_add(1),
            institution: start.institution,
            account: start.account,
            receiver: start.receiver,
            mode: start.mode,
            product: product.stored_id(),
            pay_by: product.pay_by(self.expires, start.stamp.now),
            payer: start.payer.only(product.wants),
            amount: self.terms.amount,
            state: match product.create {
                CreateSend::Nothing => AttemptState::Accepted,
                CreateSend::Repeatable | CreateSend::Once => AttemptState::Intent,
            },
            stamp: start.stamp,
            sent_at: start.stamp.now,
            schedule: Schedule::from(start.stamp.now),
            configuration: start.configuration,
            epoch: start.epoch,
            named: false,
            payment_action: None,
            receipt: None,
            reason: None,
            late_success: false,
        }
    }

    /// Records that the live attempt's create is about to be sent again, and dates it.
    pub fn repeat_create(&self, attempt: &AttemptId, cause: ChangeCause, now: Timestamp) -> Change {
        let mut after = self.clone();
        for known in after
            .attempts
            .iter_mut()
            .filter(|known| known.id == *attempt)
        {
            known.sent_at = now;
        }
        Change::between(Some(self), after, cause, now)
    }

    /// Moves live attempts (UNKNOWN, ACCEPTED) to CLOSING: the payer chose another institution, and
    /// at most one attempt may be live (A2).
    pub fn begin_closing(&self, cause: ChangeCause, now: Timestamp) -> Result<Change, ChangeCause> {
        let mut after = self.clone();
        if after.close_live_attempts() {
            Ok(Change::between(Some(self), after, cause, now))
        } else {
            Err(cause)
        }
    }

    /// Ends the order, at the merchant's request or on expiry: records a durable close request, and
    /// closes the order at once if nothing is live (O3, O4). Time alone never ends an attempt whose
    /// outcome is unknown (V2).
    pub fn end(
        &self,
        why: CloseReason,
        cause: ChangeCause,
        now: Timestamp,
    ) -> Result<Change, ChangeCause> {
        if self.state != OrderState::Open {
            return Err(cause);
        }
        let mut after = self.clone();
        after.ending = self.ending.or(Some(why));
        let moved = after.close_live_attempts();
        let ended = after.close_if_idle();
        if moved || ended || after.ending != self.ending {
            Ok(Change::between(Some(self), after, cause, now))
        } else {
            Err(cause)
        }
    }

    /// What is due by time: ending an expired order, or closing live attempts of a paid one.
    pub fn pursue(&self, now: Timestamp) -> Option<Change> {
        match self.state {
            OrderState::Open if self.ending.is_some() || now >= self.expires => self
                .end(
                    self.ending.unwrap_or(CloseReason::Expired),
                    ChangeCause::Clock,
                    now,
                )
                .ok(),
            OrderState::Paid => self.begin_closing(ChangeCause::Clock, now).ok(),
            OrderState::Open | OrderState::Closed => None,
        }
    }

    /// Recovers orphaned calls of a dead process: what it stored as an intent may have been sent
    /// (S1).
    pub fn recover_orphaned(&self, epoch: Epoch, now: Timestamp) -> Option<Change> {
        let mut after = self.clone();
        let mut recovered = false;
        for refund in &mut after.refunds {
            let sent = matches!(refund.sending, SendStatus::Left(_));
            if refund.state == RefundState::Reserved && sent && refund.epoch != epoch {
                refund.state = RefundState::Unknown;
                recovered = true;
            }
        }
        for attempt in &mut after.attempts {
            if attempt.state == AttemptState::Intent && attempt.epoch != epoch {
                attempt.state = AttemptState::Unknown;
                recovered = true;
            }
        }
        recovered.then(|| Change::between(Some(self), after, ChangeCause::Clock, now))
    }

    /// An intent of a live process whose call never returned is unresolved as well.
    pub fn mark_overdue_unresolved(
        &self,
        attempt: &Attempt,
        facts: &Facts,
        now: Timestamp,
    ) -> Option<Change> {
        let overdue = attempt.state == AttemptState::Intent && is_overdue(attempt.sent_at, now);
        let evidence = Evidence {
            institution: attempt.institution.clone(),
            accounts: None,
            receiver: None,
            about: EvidenceSubject::Attempt(attempt.id.clone()),
            by: EvidenceSource::Create,
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: false,
            finding: Finding::Ambiguous(Ambiguity::NoAnswer),
        };
        match overdue.then(|| self.apply(&evidence, facts, now))? {
            Applied::Commit(change) => Some(*change),
            Applied::Repeat | Applied::ConfirmByQuery | Applied::Quarantine(_) => None,
        }
    }

    /// Applies evidence to this order. The only way evidence changes the state of an attempt or
    /// refund (docs/requirements.md, Invariants, V1 to V5).
    pub fn apply(&self, evidence: &Evidence, facts: &Facts, now: Timestamp) -> Applied {
        let id = match &evidence.about {
            EvidenceSubject::Attempt(id) => id,
            EvidenceSubject::Refund(no) => return self.apply_to_refund(no, evidence, now),
        };
        let Some((at, attempt)) = self
            .attempts
            .iter()
            .enumerate()
            .find(|(_, known)| known.id == *id)
        else {
            return Applied::Quarantine(Contradiction::Institution);
        };
        if let Err(why) = attempt.admits(evidence, attempt.amount) {
            return Applied::Quarantine(why);
        }
        let named = attempt.newly_seen(evidence, facts);
        let attempt = named.as_ref().unwrap_or(attempt);
        // A refused repeat says nothing about the payment that the payer was given before (A3).
        let is_refused_repeat = attempt.state == AttemptState::Accepted
            && evidence.by == EvidenceSource::Create
            && matches!(evidence.finding, Finding::Refused(_));
        if evidence.finding == Finding::Hint || is_refused_repeat {
            // Nothing asks about what has ended, and what was given back is still to be booked (A9).
            let is_ended = matches!(attempt.state, AttemptState::Failed | AttemptState::Closed);
            if is_ended && attempt.receipt.is_none() {
                return Applied::ConfirmByQuery;
            }
            let sooner = attempt.asked_sooner(now).or(named);
            return self.moved(at, sooner, evidence, now);
        }
        let moved = match attempt.apply(&evidence.finding, evidence.by, facts) {
            Transition::ConfirmByQuery => return Applied::ConfirmByQuery,
            Transition::Impossible(why) => return Applied::Quarantine(why),
            Transition::Unchanged => named,
            // While the order is ending, an attempt stays CLOSING: the close is requested again.
            Transition::To(moved)
                if moved.state == AttemptState::Accepted
                    && attempt.state == AttemptState::Closing
                    && (self.ending.is_some() || self.state != OrderState::Open) =>
            {
                named
            }
            Transition::To(moved) => Some(*moved),
        };
        self.moved(at, moved, evidence, now)
    }

    fn moved(
        &self,
        at: usize,
        moved: Option<Attempt>,
        evidence: &Evidence,
        now: Timestamp,
    ) -> Applied {
        moved.map_or(Applied::Repeat, |moved| {
            let after = self.after_transition(at, moved, now);
            let cause = ChangeCause::Evidence(evidence.institution.clone(), evidence.by);
            Applied::Commit(Box::new(Change::between(Some(self), after, cause, now)))
        })
    }

    /// Records that evidence which cannot be applied still proves that its object arrived (V3, V5).
    /// It must come from the object's institution and account; only its content is contradictory.
    pub fn record_seen(
        &self,
        evidence: &Evidence,
        facts: &Facts,
        now: Timestamp,
    ) -> Option<Change> {
        let cause = ChangeCause::Evidence(evidence.institution.clone(), evidence.by);
        let is_theirs = |attempt: &Attempt| attempt.is_named_by(evidence);
        match &evidence.about {
            EvidenceSubject::Attempt(id) => {
                let at = self.attempts.iter().position(|known| known.id == *id)?;
                let known = self.attempts.get(at).filter(|known| is_theirs(known))?;
                let after = self.after_transition(at, known.newly_seen(evidence, facts)?, now);
                Some(Change::between(Some(self), after, cause, now))
            }
            EvidenceSubject::Refund(no) => {
                let known = self.refund(no)?;
                self.attempt_of(known).filter(|known| is_theirs(known))?;
                Some(self.with_refund(&known.newly_seen(evidence)?, cause, now))
            }
        }
    }

    fn after_transition(&self, at: usize, moved: Attempt, now: Timestamp) -> Self {
        let mut after = self.clone();
        let was = self.attempts.get(at).map(|attempt| attempt.state);
        let paid = moved.clone();
        if let Some(place) = after.attempts.get_mut(at) {
            *place = moved;
        }
        if paid.state == AttemptState::Paid {
            if after.state == OrderState::Open {
                // The choice of the paying attempt (O1): made in this transaction and never
                // changed.
                after.state = OrderState::Paid;
                after.paying_attempt_id = Some(paid.id);
                after.close_live_attempts();
            } else {
                let cause = match was {
                    Some(AttemptState::Closed) => ExcessCause::AfterClose,
                    Some(AttemptState::Failed) => ExcessCause::AfterRefusal,
                    // The paying attempt succeeded late, so it is the one that duplicated the
                    // payment (A8).
                    _ => match self.paying_attempt() {
                        Some(late) if late.late_success && late.reason.is_some() => {
                            ExcessCause::AfterRefusal
                        }
                        Some(late) if late.late_success => ExcessCause::AfterClose,
                        _ => ExcessCause::Overlap,
                    },
                };
                after.reserve_excess(&paid, paid.amount, cause, now);
            }
        }
        after.close_if_idle();
        after
    }

    fn close_live_attempts(&mut self) -> bool {
        let mut moved = false;
        for attempt in &mut self.attempts {
            if matches!(
                attempt.state,
                AttemptState::Unknown | AttemptState::Accepted
            ) {
                attempt.state = AttemptState::Closing;
                moved = true;
            }
        }
        moved
    }

    fn close_if_idle(&mut self) -> bool {
        let idle = self.live_attempt().is_none();
        let ends = self.state == OrderState::Open && self.ending.is_some() && idle;
        if ends {
            self.state = OrderState::Closed;
        }
        ends
    }
}
