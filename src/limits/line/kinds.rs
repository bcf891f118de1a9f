//! Calls by what they are for, and how many turns are kept for questions.

/// One in so many turns is kept for questions.
const KEPT_ONE_IN: u32 = 8;

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limits) enum Kind {
    /// A payer waits for it.
    Create,
    /// A query or a close; it can be asked later.
    Question,
}

/// A number of each kind.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::limits) struct Count {
    creates: u32,
    questions: u32,
}

impl Count {
    pub(in crate::limits) fn all(self) -> u32 {
        self.creates.saturating_add(self.questions)
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            creates: self.creates.saturating_add(other.creates),
            questions: self.questions.saturating_add(other.questions),
        }
    }

    fn of(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Create => &mut self.creates,
            Kind::Question => &mut self.questions,
        }
    }

    pub(super) fn up(&mut self, kind: Kind) {
        let count = self.of(kind);
        *count = count.saturating_add(1);
    }

    pub(super) fn down(&mut self, kind: Kind) {
        let count = self.of(kind);
        *count = count.saturating_sub(1);
    }

    /// Whether one more create fits under `max`, of which some are kept for questions.
    pub(super) fn takes_create(self, max: u32) -> bool {
        self.all() < max && self.creates < max.saturating_sub(kept(max))
    }

    /// Whether one more question fits under `max`; while creates wait, only what is kept.
    pub(super) fn takes_question(self, max: u32, creates_wait: bool) -> bool {
        self.all() < max && (!creates_wait || self.questions < kept(max).max(1))
    }
}

/// Of so many turns, those that creates leave.
fn kept(max: u32) -> u32 {
    if max < 2 {
        return 0;
    }
    max.checked_div(KEPT_ONE_IN).unwrap_or(0).max(1)
}
