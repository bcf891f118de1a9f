//! What begins something is written here and nowhere else, whoever wants it: a merchant, or a payer on
//! our page. While the disk is nearly full nothing new is begun, so that the results of what was begun
//! can still be written (Q8, S3).

use crate::domain::change::Change;
use crate::domain::refusal::Refusal;
use crate::flow::answer::commit_once::{CommitOutcome, Refused, commit, refuse};
use crate::store::Store;
use crate::world::World;

/// Commits a new order, or a step towards paying one: a new attempt, the same once more, or the end
/// of another that was in its way.
///
/// # Errors
/// There is no room, and nothing was written; the nonce was spent before; the store did not answer.
pub(in crate::flow) async fn begin(
    store: &Store,
    world: &World,
    change: Change,
) -> Result<CommitOutcome, Refused> {
    if world.disk.is_short() {
        let refused = (Refusal::Unavailable, change.into_cause());
        return Err(refuse(store, refused, world.clock.now()).await);
    }
    commit(store, change).await
}
