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
    CallLabel, CallTimeouts, Outbound, OutboundParty, Permit, PermitUnavailable, SendError,
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
        mut request: Request<Bytes>,
        mut timeouts: CallTimeouts,
    ) -> Result<Response<Bytes>, SendError> {
        let OutboundParty::Institution(institution) = party else {
            return self.hyper.send(party, request, timeouts).await;
        };
        let call_label = request.extensions().get::<CallLabel>();
        let (call_label, given) = call_label.map_or(("other", None), |call_label| {
            (call_label.0, call_label.1.clone())
        });
        // A create waited for its permit before its intent was written. A query is repeated later,
        // so it waits only as long as leaves its response head the full timeout. The permit is held
        // until the call has ended, and counted when the request leaves.
        let permit = if let Some(permit) = given {
            permit
        } else {
            let (waited_from, spare) = (now(), timeouts.whole.saturating_sub(timeouts.head));
            let permit = self.permits.soon(institution, spare).await;
            let permit = permit
                .map_err(|Wait(_)| SendError::Throttled("no permit is free at present".into()))?;
            timeouts.whole = timeouts.whole.saturating_sub(waited_from.elapsed());
            permit
        };
        let with_permit = CallLabel(call_label, Some(permit.clone()));
        request.extensions_mut().insert(with_permit);
        let began = now();
        let reply = self.hyper.send(party, request, timeouts).await;
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
            .call(institution.as_str(), call_label, outcome, began.elapsed());
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
        let permit = self.permits.behind(institution, (urgency, SOON)).await;
        permit.map_err(|Wait(wait)| PermitUnavailable { wait })
    }

    fn room(&self, institution: &InstitutionId, urgency: Urgency) -> u32 {
        self.permits.room(institution, urgency)
    }
}
