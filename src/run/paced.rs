//! The network door within each institution's declared rate, and counted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use super::now;
use crate::domain::identifiers::InstitutionId;
use crate::limits::{Limits, Wait};
use crate::metrics::Metrics;
use crate::outbound::Hyper;
use crate::world::{Errand, Outbound, Party, Patience, SendError};

/// How long a create waits for its turn at an institution whose rate is used up.
const TURN_WAIT_MAX: Duration = Duration::from_secs(2);

/// The network door, within each institution's declared rate, and counted.
pub(super) struct Paced {
    pub(super) hyper: Hyper,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<Metrics>,
}

impl Paced {
    /// Holds to the institution's declared rate. A payer waits for a create, so it waits its turn
    /// for a while; what a worker asks is asked again later anyway.
    #[expect(
        clippy::disallowed_methods,
        reason = "a create waits its turn, and for nothing else"
    )]
    async fn paced(&self, institution: &InstitutionId, errand: &str) -> Result<(), SendError> {
        let mut left = if errand == "create" {
            TURN_WAIT_MAX
        } else {
            Duration::ZERO
        };
        while let Err(Wait(wait)) = self.limits.call(institution) {
            let Some(rest) = left.checked_sub(wait) else {
                return Err(SendError::KeptBack("its rate is used up".into()));
            };
            left = rest;
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Outbound for Paced {
    async fn send(
        &self,
        party: &Party,
        request: Request<Bytes>,
        patience: Patience,
    ) -> Result<Response<Bytes>, SendError> {
        let Party::Institution(institution) = party else {
            return self.hyper.send(party, request, patience).await;
        };
        let errand = request
            .extensions()
            .get::<Errand>()
            .map_or("other", |errand| errand.0);
        self.paced(institution, errand).await?;
        let began = now();
        let reply = self.hyper.send(party, request, patience).await;
        let outcome = match &reply {
            Ok(reply) if reply.status().is_server_error() => "server_fault",
            Ok(_) => "answered",
            Err(SendError::NotSent(_) | SendError::KeptBack(_)) => "not_sent",
            Err(SendError::Unknown(_)) => "unknown",
        };
        self.metrics
            .institution_call(institution.as_str(), errand, outcome, began.elapsed());
        reply
    }
}
