//! The outbound network within each institution's declared rate limit, with metrics.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use super::now;
use crate::domain::identifiers::{InstitutionId, MerchantId};
use crate::domain::order::Urgency;
use crate::limits::Wait;
use crate::limits::permits::Permits;
use crate::metrics::Metrics;
use crate::outbound::HyperOutbound;
use crate::world::{
    Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError,
};

/// The longest a query with no caller waiting may wait for its permit.
const SOON: Duration = Duration::from_secs(3);

/// The outbound network within each institution's declared rate limit, with metrics.
pub(super) struct RateLimited {
    pub(super) hyper: HyperOutbound,
    pub(super) permits: Arc<Permits>,
    pub(super) metrics: Arc<Metrics>,
}

#[async_trait]
impl Outbound for RateLimited {
    async fn send(
        &self,
        party: &OutboundParty,
        request: Request<Bytes>,
        mut options: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        let OutboundParty::Institution(institution) = party else {
            return self.hyper.send(party, request, options).await;
        };
        let label = options.label;
        // A create waited for its permit before its intent was written. A query is repeated later,
        // so it waits only as long as leaves its response head the full timeout. The permit is held
        // until the call has ended, and counted when the request leaves.
        if options.permit.is_none() {
            let timeouts = &mut options.timeouts;
            let (waited_from, spare) = (now(), timeouts.whole.saturating_sub(timeouts.head));
            let permit = self.permits.soon(institution, spare).await;
            let permit = permit
                .map_err(|Wait(_)| SendError::Throttled("no permit is free at present".into()))?;
            timeouts.whole = timeouts.whole.saturating_sub(waited_from.elapsed());
            options.permit = Some(permit);
        }
        let permit = options.permit.clone();
        let began = now();
        let reply = self.hyper.send(party, request, options).await;
        drop(permit);
        let outcome = match &reply {
            Ok(reply) if reply.status().is_server_error() => "server_fault",
            Ok(_) => "answered",
            Err(SendError::NotSent(_) | SendError::Throttled(_)) => "not_sent",
            Err(SendError::LocalShortage(_)) => "our_shortage",
            Err(SendError::Unknown(_)) => "unknown",
        };
        self.metrics
            .institutions
            .call(institution.as_str(), label, outcome, began.elapsed());
        reply
    }
    async fn permit(
        &self,
        institution: &InstitutionId,
        merchant: &MerchantId,
    ) -> Result<Permit, PermitUnavailable> {
        let permit = self.permits.wait(institution, merchant).await;
        permit.map_err(|Wait(wait)| PermitUnavailable { wait })
    }

    async fn acquire_question_permit(
        &self,
        institution: &InstitutionId,
        urgency: Urgency,
    ) -> Result<Permit, PermitUnavailable> {
        let permit = self.permits.behind(institution, urgency, SOON).await;
        permit.map_err(|Wait(wait)| PermitUnavailable { wait })
    }

    fn room(&self, institution: &InstitutionId, urgency: Urgency) -> u32 {
        self.permits.room(institution, urgency)
    }
}
