//! The transitions of one attempt that each finding justifies. Their effect on the order is decided in
//! `order`.

use crate::domain::attempt::{Attempt, AttemptState, Contradiction, Transition, again};
use crate::domain::evidence::{EvidenceSource, Finding, PaymentAction, Reason, Receipt, Reversal};
use crate::domain::institutions::{Ending, Facts, Product, Visibility};

impl Attempt {
    /// The transition that a finding justifies (E1 to E5, V1 to V5). `NotFound` is passed
    /// only when the query was late enough ([`Attempt::is_not_found_conclusive`]).
    pub fn apply(&self, finding: &Finding, by: EvidenceSource, facts: &Facts) -> Transition<Self> {
        match finding {
            // An unsent query proves nothing about the earlier create.
            Finding::NotSent | Finding::NotExecuted(_) if by != EvidenceSource::Create => {
                Transition::Unchanged
            }
            Finding::NotSent => self.not_begun("NOT_REACHED"),
            Finding::NotExecuted(why) => self.not_begun(why.word()),
            Finding::Refused(reason) => self.refused(reason),
            Finding::Accepted(payment_action) => self.accepted(payment_action.as_ref(), by),
            Finding::Succeeded(receipt) => self.succeeded(receipt, by),
            Finding::Closed | Finding::Reversed(Reversal::Unpaid) => self.closed(),
            Finding::Reversed(Reversal::Returned(receipt)) => self.returned(receipt, by),
            // Only brings the next question forward, which the order does.
            Finding::Hint => Transition::Unchanged,
            Finding::NotFound => self.not_found(by, facts.product(&self.product)),
            Finding::Ambiguous(_) => match self.state {
                AttemptState::Intent => self.transition_to(AttemptState::Unknown),
                AttemptState::Unknown
                | AttemptState::Accepted
                | AttemptState::Closing
                | AttemptState::Paid
                | AttemptState::Failed
                | AttemptState::Closed => Transition::Unchanged,
            },
        }
    }

    fn transition_to(&self, state: AttemptState) -> Transition<Self> {
        Transition::To(Box::new(Self {
            state,
            ..self.clone()
        }))
    }

    /// E1 ends only an attempt that was never sent before: in any later state an earlier send may
    /// have arrived.
    fn not_begun(&self, why: &str) -> Transition<Self> {
        match self.state {
            AttemptState::Intent => {
                let reason = Some(Reason::from_code(why));
                Transition::To(Box::new(Self {
                    state: AttemptState::Failed,
                    reason,
                    ..self.clone()
                }))
            }
            AttemptState::Unknown
            | AttemptState::Accepted
            | AttemptState::Closing
            | AttemptState::Paid
            | AttemptState::Failed
            | AttemptState::Closed => Transition::Unchanged,
        }
    }

    fn refused(&self, reason: &Reason) -> Transition<Self> {
        match self.state {
            AttemptState::Intent
            | AttemptState::Unknown
            | AttemptState::Accepted
            | AttemptState::Closing => {
                let reason = Some(reason.clone());
                Transition::To(Box::new(Self {
                    state: AttemptState::Failed,
                    reason,
                    ..self.clone()
                }))
            }
            AttemptState::Paid => Transition::Impossible(Contradiction::PaidAlready),
            AttemptState::Failed | AttemptState::Closed => Transition::Unchanged,
        }
    }

    /// A closing attempt becomes ACCEPTED again only when the institution refuses the close; a late
    /// reply to the create, or a query, does not count as a refusal.
    fn accepted(
        &self,
        payment_action: Option<&PaymentAction>,
        by: EvidenceSource,
    ) -> Transition<Self> {
        let taken = || {
            let payment_action = payment_action
                .cloned()
                .or_else(|| self.payment_action.clone());
            Transition::To(Box::new(Self {
                state: AttemptState::Accepted,
                payment_action,
                ..self.clone()
            }))
        };
        match self.state {
            AttemptState::Intent | AttemptState::Unknown => taken(),
            AttemptState::Closing if by == EvidenceSource::Close => taken(),
            // Only a create replaces a payment action. A query may fill in a missing one; if it
            // could replace one, an institution that timestamps each reply would change the attempt
            // with every query.
            AttemptState::Accepted
                if payment_action.is_some()
                    && payment_action != self.payment_action.as_ref()
                    && (by == EvidenceSource::Create || self.payment_action.is_none()) =>
            {
                taken()
            }
            AttemptState::Accepted
            | AttemptState::Closing
            | AttemptState::Paid
            | AttemptState::Failed
            | AttemptState::Closed => Transition::Unchanged,
        }
    }

    fn succeeded(&self, receipt: &Receipt, by: EvidenceSource) -> Transition<Self> {
        if receipt.amount != self.amount {
            return Transition::Impossible(Contradiction::Amount);
        }
        let paid = |late_success| {
            Transition::To(Box::new(Self {
                state: AttemptState::Paid,
                receipt: Some(receipt.clone()),
                late_success,
                ..self.clone()
            }))
        };
        match self.state {
            AttemptState::Intent
            | AttemptState::Unknown
            | AttemptState::Accepted
            | AttemptState::Closing => paid(false),
            // Taken and given back (A9): the same movement, or a second one.
            AttemptState::Failed | AttemptState::Closed if self.receipt.is_some() => {
                again(self.receipt.as_ref(), receipt)
            }
            AttemptState::Failed | AttemptState::Closed => match by {
                EvidenceSource::Query => paid(true),
                EvidenceSource::Create
                | EvidenceSource::Close
                | EvidenceSource::Refund
                | EvidenceSource::Callback => Transition::ConfirmByQuery,
            },
            AttemptState::Paid => again(self.receipt.as_ref(), receipt),
        }
    }

    /// A9: taken and given back, so it pays nothing. Of a paid attempt it is nothing new: that is
    /// returned by refunds.
    fn returned(&self, receipt: &Receipt, by: EvidenceSource) -> Transition<Self> {
        if receipt.amount != self.amount {
            return Transition::Impossible(Contradiction::Amount);
        }
        let back = |state| {
            Transition::To(Box::new(Self {
                state,
                receipt: Some(receipt.clone()),
                ..self.clone()
            }))
        };
        match self.state {
            AttemptState::Intent
            | AttemptState::Unknown
            | AttemptState::Accepted
            | AttemptState::Closing => back(AttemptState::Closed),
            AttemptState::Failed | AttemptState::Closed if self.receipt.is_some() => {
                again(self.receipt.as_ref(), receipt)
            }
            AttemptState::Failed | AttemptState::Closed if by == EvidenceSource::Query => {
                back(self.state)
            }
            AttemptState::Failed | AttemptState::Closed => Transition::ConfirmByQuery,
            AttemptState::Paid => Transition::Unchanged,
        }
    }

    fn closed(&self) -> Transition<Self> {
        match self.state {
            AttemptState::Unknown | AttemptState::Accepted | AttemptState::Closing => {
                self.transition_to(AttemptState::Closed)
            }
            AttemptState::Paid => Transition::Impossible(Contradiction::PaidAlready),
            // Without proof that it was sent, it cannot have been closed: wait for the reply to the
            // create or for the next query.
            AttemptState::Intent | AttemptState::Failed | AttemptState::Closed => {
                Transition::Unchanged
            }
        }
    }

    /// A5: "not found" ends an attempt only when no sent request can still be in transit and, of a
    /// product that can be closed, only in reply to a close. An institution that remembers a close
    /// of an unseen number answers "closed" instead. After a deadline nobody can pay what the
    /// institution does not know: it is closed (E4).
    fn not_found(&self, by: EvidenceSource, product: &Product) -> Transition<Self> {
        // It was known before, so it did arrive: "not found" now proves nothing (V5).
        if self.named {
            return Transition::Unchanged;
        }
        match (product.visibility, by) {
            (Visibility::AfterSend(_), EvidenceSource::Close)
                if product.ending == Ending::Close =>
            {
                self.never_arrived()
            }
            (Visibility::AfterSend(_), EvidenceSource::Query)
                if product.ending == Ending::Never =>
            {
                self.never_arrived()
            }
            (Visibility::AfterDeadline(_), EvidenceSource::Close | EvidenceSource::Query) => {
                self.expired_unseen()
            }
            (
                Visibility::AfterSend(_)
                | Visibility::AfterDeadline(_)
                | Visibility::AfterStatement,
                EvidenceSource::Create
                | EvidenceSource::Query
                | EvidenceSource::Close
                | EvidenceSource::Refund
                | EvidenceSource::Callback,
            ) => Transition::Unchanged,
        }
    }

    fn never_arrived(&self) -> Transition<Self> {
        match self.state {
            AttemptState::Unknown | AttemptState::Closing => {
                let reason = Some(Reason::from_code("NEVER_ARRIVED"));
                Transition::To(Box::new(Self {
                    state: AttemptState::Failed,
                    reason,
                    ..self.clone()
                }))
            }
            AttemptState::Intent
            | AttemptState::Accepted
            | AttemptState::Paid
            | AttemptState::Failed
            | AttemptState::Closed => Transition::Unchanged,
        }
    }

    fn expired_unseen(&self) -> Transition<Self> {
        match self.state {
            AttemptState::Unknown | AttemptState::Accepted | AttemptState::Closing => {
                self.transition_to(AttemptState::Closed)
            }
            AttemptState::Intent
            | AttemptState::Paid
            | AttemptState::Failed
            | AttemptState::Closed => Transition::Unchanged,
        }
    }
}
