//! What each part is told, out of the configuration: translated, never decided.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Config};
use crate::domain::identifiers::InstitutionId;
use crate::domain::institutions::Directory;
use crate::edge::Bounds;
use crate::flow::admit_request::Gate;
use crate::limits::{Explained, LimitSettings, Limits, Rate};
use crate::outbound::{LineSettings, OutboundSettings};
use crate::world::Clock;

/// Institutions' lines and the rules for merchants' addresses.
pub(super) fn outbound(config: &Config) -> OutboundSettings {
    let institutions = config.outbound.institutions.iter().map(|(id, leg)| {
        let roots = leg.roots.clone().unwrap_or_default();
        (
            id.clone(),
            LineSettings {
                roots,
                client_identity: leg.identity.clone(),
            },
        )
    });
    OutboundSettings {
        institutions: institutions.collect(),
        merchant_roots: config.outbound.merchant_roots.clone().unwrap_or_default(),
        allowed_networks: config.outbound.allowed_private_networks.clone(),
    }
}

fn rate(per_second: u32) -> Rate {
    let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
    Rate {
        per_second,
        burst: per_second,
    }
}

/// What every merchant's request passes.
pub(super) fn gate(config: &Config, clock: Arc<dyn Clock>) -> Gate {
    let caller = rate(config.limits.signature_bases_per_second_per_caller);
    let all = rate(config.limits.signature_bases_per_second);
    Gate {
        limits: Limits::new(&limits(config), Arc::clone(&clock)),
        window: config.limits.window,
        explained: Explained::new(caller, all, clock),
    }
}

pub(super) fn limits(config: &Config) -> LimitSettings {
    LimitSettings {
        certificate: rate(config.limits.requests_per_second_per_caller),
        address: rate(config.limits.requests_per_second_per_caller),
        merchant: rate(config.limits.requests_per_second_per_merchant),
        institutions: institution_rates(&config.register.directory),
    }
}

fn institution_rates(directory: &Directory) -> HashMap<InstitutionId, NonZeroU32> {
    let rates = directory
        .institutions
        .iter()
        .filter_map(|(id, institution)| {
            Some((
                id.clone(),
                NonZeroU32::new(institution.facts.calls_per_second)?,
            ))
        });
    rates.collect()
}

pub(super) fn bounds(limits: &config::Limits, drain_within: Duration) -> Bounds {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Bounds {
        body_bytes_max: limits.body_bytes_max,
        header_lines_max: limits.header_lines_max,
        header_bytes_max: limits.header_bytes_max,
        head_within: limits.head,
        body_within: limits.body,
        in_flight_max: count(limits.in_flight_max),
        connections_max: count(limits.connections_max),
        connections_per_address_max: count(limits.connections_per_address_max),
        drain_within,
        ..Bounds::default()
    }
}
