//! Turns of questions that nobody waits for: those about what is in doubt as any question, all others
//! behind everything else, within their part of the declared rate (Z1).

use tokio::time::Instant;

use super::{Turns, WAIT_AGAIN};
use crate::domain::identifiers::InstitutionId;
use crate::domain::order::Urgency;
use crate::limits::Wait;
use crate::limits::line::{Joined, Kind, Share};
use crate::world::Turn;

/// What part of the background's turns questions of an urgency may fill; none where they are of no
/// background.
fn share(urgency: Urgency) -> Option<Share> {
    match urgency {
        Urgency::Doubt => None,
        Urgency::Signal => Some(Share::Whole),
        Urgency::Refund => Some(Share::Most),
        Urgency::Payer => Some(Share::Some),
    }
}

impl Turns {
    /// A turn for a question that nobody waits for: now or, where no turn can be kept for those about
    /// what is in doubt, soon.
    ///
    /// # Errors
    /// [`Wait`] if others come first; nothing was counted then.
    pub async fn behind(
        &self,
        institution: &InstitutionId,
        (urgency, within): (Urgency, std::time::Duration),
    ) -> Result<Turn, Wait> {
        let Some(share) = share(urgency) else {
            return self.soon(institution, within).await;
        };
        let (queue, background, leaves_within) = {
            let live = self.live.load();
            let queue = live.queues.get(institution).cloned();
            (queue, live.background, live.patience.within)
        };
        let Some(queue) = queue else {
            return Err(Wait(WAIT_AGAIN));
        };
        let joined = queue.line().ask_behind((share, background), Instant::now());
        match joined {
            Joined::Now => Ok(queue.turn(Kind::Background(share), leaves_within)),
            Joined::Full(wait) => Err(Wait(wait)),
            Joined::Waiting(..) => Err(Wait(WAIT_AGAIN)),
        }
    }

    /// How many such questions may begin at this moment; asking uses nothing up.
    pub fn room(&self, institution: &InstitutionId, urgency: Urgency) -> u32 {
        let live = self.live.load();
        // Whoever asks finds out that it is missing, and says so.
        let Some(queue) = live.queues.get(institution) else {
            return u32::MAX;
        };
        let (mut waiting, now) = (queue.line(), Instant::now());
        match share(urgency) {
            Some(share) => waiting.background_room((share, live.background), now),
            None => waiting.question_room(now),
        }
    }
}
