//! Translates the configuration into each part's settings; decides nothing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::machine::ConnectionBudget;
use crate::config::{self, Config};
use crate::edge::Bounds;
use crate::flow::admit_request::AdmissionPolicy;
use crate::limits::permits::{CallLimits, PermitSettings, WaitLimits};
use crate::limits::{CallerLimits, ExplanationLimits, LimitSettings, Rate};
use crate::metrics::Metrics;
use crate::outbound::{HyperOutboundSettings, PartyClientSettings};
use crate::workers::BudgetSettings;
use crate::workers::exchange_log::ExchangeLogWriter;
use crate::world::Clock;

/// Institutions' connections and the rules for merchants' addresses.
pub(super) fn outbound(config: &Config, files: &ConnectionBudget) -> HyperOutboundSettings {
    let institutions = config.outbound.institutions.iter().map(|(id, leg)| {
        let roots = leg.roots.clone().unwrap_or_default();
        (
            id.clone(),
            PartyClientSettings {
                roots,
                client_identity: leg.identity.clone(),
                // Whoever has a permit finds a connection, if the machine has that many files.
                connections_max: usize::try_from(leg.calls_at_once)
                    .unwrap_or(usize::MAX)
                    .min(files.institution_connections_max),
            },
        )
    });
    HyperOutboundSettings {
        institutions: institutions.collect(),
        merchant_roots: config.outbound.merchant_roots.clone().unwrap_or_default(),
        allowed_networks: config.outbound.allowed_private_networks.clone(),
        merchant_connections_max: Some(files.merchant_connections_max),
    }
}

fn rate(per_second: u32) -> Rate {
    let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
    Rate {
        per_second,
        burst: per_second,
    }
}

/// Admission control for every merchant's request.
pub(super) fn admission(
    config: &Config,
    clock: Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> AdmissionPolicy {
    let limits = CallerLimits::new(&limits(config), Arc::clone(&clock));
    let (caller, all) = explained(config);
    AdmissionPolicy {
        limits: Arc::new(limits.counted_by(Arc::clone(metrics))),
        window: config.limits.window,
        explained: ExplanationLimits::new(caller, all, clock),
    }
}

/// Rate limits of signature bases shown in errors: per caller, and in total.
pub(super) fn explained(config: &Config) -> (Rate, Rate) {
    let caller = rate(config.limits.signature_bases_per_second_per_caller);
    (caller, rate(config.limits.signature_bases_per_second))
}

/// Rate limits per caller.
pub(super) fn limits(config: &Config) -> LimitSettings {
    LimitSettings {
        certificate: rate(config.limits.requests_per_second_per_caller),
        address: rate(config.limits.requests_per_second_per_caller),
        merchant: rate(config.limits.requests_per_second_per_merchant),
    }
}

/// Each institution's limits, and how long a create waits for its permit.
pub(super) fn permits(config: &Config) -> PermitSettings {
    let institutions = &config.snapshot.routing.institutions;
    let calls = institutions.iter().map(|(id, institution)| {
        let leg = config.outbound.institutions.get(id);
        let at_once = leg.map_or(1, |leg| leg.calls_at_once);
        let limits = CallLimits {
            calls_per_second: NonZeroU32::new(institution.facts.rates.calls_per_second),
            calls_at_once: NonZeroU32::new(at_once).unwrap_or(NonZeroU32::MIN),
        };
        (id.clone(), limits)
    });
    PermitSettings {
        calls: calls.collect(),
        waiting: WaitLimits {
            within: config.limits.permit_wait,
            waiting_in_all_max: config.limits.permits_waiting_in_all_max,
            waiting_max: config.limits.permits_waiting_max,
            waiting_per_merchant_max: config.limits.permits_waiting_per_merchant_max,
        },
        background_rate_percent: config.limits.background_rate_percent,
    }
}

/// The CPU share of background polling, and the delay at which it yields.
pub(super) fn budget(limits: &config::GatewayLimits) -> BudgetSettings {
    BudgetSettings {
        cpu_percent: limits.background_cpu_percent,
        delay_max: limits.delay,
    }
}

/// The limits of the edge.
pub(super) fn bounds(
    limits: &config::GatewayLimits,
    files: &ConnectionBudget,
    drain_within: Duration,
) -> Bounds {
    Bounds {
        body_bytes_max: limits.body_bytes_max,
        header_lines_max: limits.header_lines_max,
        header_bytes_max: limits.header_bytes_max,
        handshake_within: limits.handshake,
        head_within: limits.head,
        body_within: limits.body,
        body_rate_min: limits.body_bytes_per_second_min,
        write_within: limits.write,
        idle_within: limits.idle,
        requests_per_connection_max: limits.requests_per_connection_max,
        pipelined_max: limits.pipelined_max,
        in_flight_max: limits.in_flight_max,
        in_flight_orders_max: limits.in_flight_orders_max,
        in_flight_selections_max: limits.in_flight_selections_max,
        delay_max: limits.delay,
        rejection_pause: limits.rejection_pause,
        rejections_per_second_max: limits.rejections_per_second_max,
        start_within: limits.start,
        connections_max: files.connections_max,
        operations_connections_max: files.operations_connections_max,
        connections_per_address_max: limits.connections_per_address_max,
        handshakes_max: limits.handshakes_max,
        handshakes_per_address_max: limits.handshakes_per_address_max,
        handshakes_under_load_max: limits.handshakes_under_load_max,
        drain_within,
    }
}

/// The writer of the exchange log.
pub(super) fn entries(config: &Config, metrics: &Arc<Metrics>) -> Arc<ExchangeLogWriter> {
    let limits = &config.limits;
    let (days, bytes_max) = (limits.exchange_log_days, limits.exchange_log_bytes_max);
    let writer = ExchangeLogWriter::new(days, bytes_max, Arc::clone(metrics));
    Arc::new(writer)
}
