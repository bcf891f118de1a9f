//! Calls by what they are for, how many turns are kept for questions, and how many of all those that
//! nobody waits for may take.

/// One in so many turns is kept for questions.
const KEPT_ONE_IN: u32 = 8;

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limits) enum Kind {
    /// A payer waits for it.
    Create,
    /// A query or a close; it can be asked later.
    Question,
    /// A question about what is in no doubt: everything else comes first.
    Background(Share),
}

/// What part of the turns for background questions one may still fill. Of two, the one that may fill
/// more of them is served when there are few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limits) enum Share {
    /// All: something moved.
    Whole,
    /// Seven eighths: refunds under way.
    Most,
    /// Three quarters: payments that wait.
    Some,
}

/// Of a hundred turns, those that background questions may take while creates come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limits) struct Background {
    /// Unit: percent.
    pub(in crate::limits) rate_percent: u32,
}

/// The same while none come. Unit: percent.
const ALONE_PERCENT: u32 = 90;

/// A number of each kind.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::limits) struct Count {
    creates: u32,
    questions: u32,
    background: u32,
}

impl Count {
    pub(in crate::limits) fn all(self) -> u32 {
        let asked = self.questions.saturating_add(self.background);
        self.creates.saturating_add(asked)
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            creates: self.creates.saturating_add(other.creates),
            questions: self.questions.saturating_add(other.questions),
            background: self.background.saturating_add(other.background),
        }
    }

    fn of(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Create => &mut self.creates,
            Kind::Question => &mut self.questions,
            Kind::Background(_) => &mut self.background,
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
        let others = self.creates.saturating_add(self.background);
        self.all() < max && others < max.saturating_sub(kept(max))
    }

    /// Whether one more question fits under `max`; while creates wait, only what is kept.
    pub(super) fn takes_question(self, max: u32, creates_wait: bool) -> bool {
        self.question_room(max, creates_wait) > 0
    }

    /// How many more questions fit under `max`; while creates wait, only what is kept.
    pub(super) fn question_room(self, max: u32, creates_wait: bool) -> u32 {
        let free = max.saturating_sub(self.all());
        if creates_wait {
            free.min(kept(max).max(1).saturating_sub(self.questions))
        } else {
            free
        }
    }

    /// How many more background questions fit under `max`: never into what is kept for those in doubt,
    /// and only so many while creates come.
    pub(super) fn background_room(
        self,
        max: u32,
        (share, background): (Share, Background),
        creates_wait: bool,
    ) -> u32 {
        let percent = if creates_wait || self.creates > 0 {
            background.rate_percent
        } else {
            ALONE_PERCENT
        };
        let part = |of: u32, percent: u32| of.saturating_mul(percent).div_ceil(100);
        let whole = part(max, percent);
        let allowed = match share {
            Share::Whole => whole,
            Share::Most => part(whole, 88),
            Share::Some => part(whole, 75),
        };
        let unkept = max.saturating_sub(kept(max)).saturating_sub(self.all());
        allowed.saturating_sub(self.background).min(unkept)
    }
}

/// Of so many turns, those that creates leave.
fn kept(max: u32) -> u32 {
    if max < 2 {
        return 0;
    }
    max.checked_div(KEPT_ONE_IN).unwrap_or(0).max(1)
}
