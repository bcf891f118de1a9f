//! What a create needs before its intent is written: a permit to call the institution, and a place in the
//! signing pool. Without them, no state has changed (Q8).

use crate::domain::identifiers::MerchantId;
use crate::domain::institutions::{CreateSend, Mode};
use crate::flow::FlowScope;
use crate::flow::answer::commit_once::Refused;
use crate::flow::call_institution::{SendOptions, acquire_permit, acquire_signing_place};
use crate::flow::judge::Choice;
use crate::world::Permit;
use crate::world::sends::InFlightSend;
use crate::world::signing::SigningPlace;

/// The permits of one create.
#[derive(Default)]
pub(in crate::flow) struct CreatePermits {
    /// To call the institution; none if nothing is sent.
    permit: Option<Permit>,
    /// To sign, if our key is slow.
    pub(in crate::flow) place: Option<SigningPlace>,
}

impl CreatePermits {
    /// Acquires them, within bounds.
    ///
    /// # Errors
    /// One was not available in time: nothing was recorded, no nonce spent.
    pub(in crate::flow) async fn acquire(
        scope: FlowScope<'_>,
        merchant: &MerchantId,
        choice: &Choice,
    ) -> Result<Self, Refused> {
        let FlowScope {
            world, snapshot, ..
        } = scope;
        let permit = match choice.product.create {
            CreateSend::Nothing => None,
            CreateSend::Repeatable | CreateSend::Once => {
                Some(acquire_permit(world, &choice.institution, merchant).await?)
            }
        };
        // Nothing is signed here for a payer who goes on from our page.
        let signs_later = !choice.sends() && choice.mode == Mode::Webview;
        let place = match snapshot.routing.contract(merchant, &choice.institution) {
            Some(contract) if !signs_later => {
                let adapter = snapshot.adapters.get(&choice.institution);
                let adapter = adapter.map(AsRef::as_ref);
                acquire_signing_place(world, adapter, &contract.account).await?
            }
            Some(_) | None => None,
        };
        Ok(Self { permit, place })
    }

    /// How the create is sent with them.
    pub(in crate::flow) fn sending(self, in_flight: InFlightSend) -> SendOptions {
        SendOptions::at_once(self.permit, in_flight).signed_in(self.place)
    }
}
