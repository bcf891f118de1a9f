//! The network door within what each institution declared, and counted.

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
use crate::outbound::Hyper;
use crate::world::{Errand, Outbound, Party, Patience, SendError, TooMany, Turn};

/// How long a question that nobody waits for may wait for its permit.
const SOON: Duration = Duration::from_secs(3);

/// The network door, within what each institution declared, and counted.
pub(super) struct Paced {
    pub(super) hyper: Hyper,
    pub(super) permits: Arc<Permits>,
    pub(super) metrics: Arc<Metrics>,
}

#[async_trait]
impl Outbound for Paced {
    async fn send(
        &self,
        party: &Party,
        mut request: Request<Bytes>,
        mut patience: Patience,
    ) -> Result<Response<Bytes>, SendError> {
        let Party::Institution(institution) = party else {
            return self.hyper.send(party, request, patience).await;
        };
        let errand = request.extensions().get::<Errand>();
        let (errand, given) = errand.map_or(("other", None), |errand| (errand.0, errand.1.clone()));
        // A create waited for its permit before its intent was written; what asks about something is
        // asked again later, so it waits so long only that its answer's head still has all its time.
        // Held until the call has ended, and counted when the request leaves.
        let turn = if let Some(turn) = given {
            turn
        } else {
            let (asked, spare) = (now(), patience.whole.saturating_sub(patience.head));
            let turn = self.permits.soon(institution, spare).await;
            let turn = turn.map_err(|Wait(_)| {
                SendError::KeptBack("it takes no more calls at present".into())
            })?;
            patience.whole = patience.whole.saturating_sub(asked.elapsed());
            turn
        };
        let travelling = Errand(errand, Some(turn.clone()));
        request.extensions_mut().insert(travelling);
        let began = now();
        let reply = self.hyper.send(party, request, patience).await;
        drop(turn);
        let outcome = match &reply {
            Ok(reply) if reply.status().is_server_error() => "server_fault",
            Ok(_) => "answered",
            Err(SendError::NotSent(_) | SendError::KeptBack(_)) => "not_sent",
            Err(SendError::OurShortage(_)) => "our_shortage",
            Err(SendError::Unknown(_)) => "unknown",
        };
        self.metrics
            .institutions
            .call(institution.as_str(), errand, outcome, began.elapsed());
        reply
    }
    async fn turn(
        &self,
        institution: &InstitutionId,
        merchant: &MerchantId,
    ) -> Result<Turn, TooMany> {
        let turn = self.permits.wait(institution, merchant).await;
        turn.map_err(|Wait(wait)| TooMany { wait })
    }

    async fn question_turn(
        &self,
        institution: &InstitutionId,
        urgency: Urgency,
    ) -> Result<Turn, TooMany> {
        let turn = self.permits.behind(institution, (urgency, SOON)).await;
        turn.map_err(|Wait(wait)| TooMany { wait })
    }

    fn room(&self, institution: &InstitutionId, urgency: Urgency) -> u32 {
        self.permits.room(institution, urgency)
    }
}
