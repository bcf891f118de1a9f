//! Payment actions of products that send nothing: signed here, each time anew.

use crate::domain::attempt::Stamp;
use crate::domain::evidence::{Evidence, Finding, PaymentAction};
use crate::flow::call_institution::PaymentCall;
use crate::flow::call_institution::executor::Conversation as _;
use crate::institution::{Call, Institution, Step};
use crate::world::World;
use crate::world::signing::SigningPlace;

/// Makes the payment action of a create that sends nothing; `None` if it cannot be signed now, or if
/// the adapter would send something after all.
pub async fn make_action(
    world: &World,
    adapter: &dyn Institution,
    create: &Call<'_>,
    place: Option<SigningPlace>,
) -> Option<PaymentAction> {
    let stamp = Stamp {
        now: world.clock.now(),
        nonce: world.entropy.draw(),
    };
    let (id, made) = (
        adapter.id(),
        PaymentCall {
            adapter,
            call: create,
        },
    );
    match made.begin(stamp, &world.signing, place).await {
        Step::Done(Evidence {
            finding: Finding::Accepted(Some(action)),
            ..
        }) => Some(action),
        Step::Done(_) | Step::Send(_) => {
            tracing::error!(institution.id = %id, "a product that sends nothing made no payment action");
            None
        }
        Step::Unmade(why) => {
            tracing::error!(institution.id = %id, %why, "a payment action could not be signed");
            None
        }
    }
}
