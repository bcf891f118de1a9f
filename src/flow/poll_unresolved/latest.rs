//! Of the replies to a close and to the query after it, the one that counts.

use crate::domain::evidence::{Evidence, Finding, Reversal};

/// Chooses between the replies to a close and to the query after it: usually the later one (V5).
pub(in crate::flow) fn latest(closed: Evidence, asked: Evidence) -> Evidence {
    let proves_arrival = closed.proves_arrival || asked.proves_arrival;
    let is_kept = match (&closed.finding, &asked.finding) {
        // A weaker finding does not revoke that money moved.
        (Finding::Succeeded(_) | Finding::Reversed(Reversal::Returned(_)), _)
        // The institution does not close an open payment: the payer may continue.
        | (Finding::Accepted(_), Finding::Accepted(_))
        // Twice not found: that is the answer to a close (A5).
        | (Finding::NotFound, Finding::NotFound)
        // A query without an answer revokes nothing, except "not found", which needs confirmation.
        | (
            Finding::Accepted(_)
            | Finding::Refused(_)
            | Finding::Closed
            | Finding::Reversed(Reversal::Unpaid),
            Finding::NotSent | Finding::NotExecuted(_) | Finding::Hint | Finding::Ambiguous(_),
        ) => true,
        (
            Finding::NotSent
            | Finding::NotExecuted(_)
            | Finding::Refused(_)
            | Finding::Accepted(_)
            | Finding::Closed
            | Finding::Reversed(Reversal::Unpaid)
            | Finding::Hint
            | Finding::NotFound
            | Finding::Ambiguous(_),
            _,
        ) => false,
    };
    let counts = if is_kept { closed } else { asked };
    Evidence {
        proves_arrival,
        ..counts
    }
}
