//! The active configuration: one version of everything except sockets, built whole beside the
//! previous version and swapped in one step (F1).

use std::sync::Arc;

use super::machine::ConnectionBudget;
use super::rate_limited::RateLimited;
use super::settings;
use crate::api::Api;
use crate::config::{Config, UnusableCredentialCounts};
use crate::domain::institutions::HealthSettings;
use crate::edge::Bounds;
use crate::flow::admit_request::refused_callers::RefusedCallers;
use crate::flow::admit_request::{AdmissionPolicy, ReadNonces};
use crate::health::HealthTracker;
use crate::limits::LimitSettings;
use crate::limits::permits::{PermitSettings, Permits};
use crate::metrics::Metrics;
use crate::outbound::HyperOutbound;
use crate::store::Store;
use crate::workers::exchange_log::ExchangeLogWriter;
use crate::workers::{BudgetSettings, WorkerResources};
use crate::world::exchange_log::Recorder;
use crate::world::sends::SendLog;
use crate::world::{Clock, SystemEntropy, World};

/// Nonces of read-only requests remembered in each of two generations.
const READ_NONCES_MAX: usize = 200_000;

/// One version. Work that begins under it ends under it, whatever is activated meanwhile.
pub(super) struct ActiveConfiguration {
    /// Answers requests.
    pub(super) api: Api,
    /// Host names accepted by the operations listener.
    pub(super) operations_hosts: Vec<String>,
    /// Keys and certificates that cannot be used, over time.
    pub(super) unusable: UnusableCredentialCounts,
    door: Arc<RateLimited>,
    budget: BudgetSettings,
}

/// The limits and settings that a version changes in shared state.
pub(super) struct TunableSettings {
    limits: LimitSettings,
    permits: PermitSettings,
    health: HealthSettings,
    exchange_log_days: u32,
    exchange_log_bytes_max: u64,
    /// For the edge.
    pub(super) bounds: Bounds,
}

/// What every version shares.
pub(super) struct SharedParts {
    /// Durable state.
    store: Arc<Store>,
    /// The clock.
    clock: Arc<dyn Clock>,
    /// Metrics.
    metrics: Arc<Metrics>,
    /// Takes entries of the exchange log.
    exchange_log: Arc<dyn Recorder>,
    /// Counts of refused callers, for the audit log.
    refused_callers: Arc<RefusedCallers>,
}

impl SharedParts {
    /// These parts.
    pub(super) fn of(
        store: &Arc<Store>,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
        exchange_log: &Arc<ExchangeLogWriter>,
        refused_callers: &Arc<RefusedCallers>,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            clock: Arc::clone(clock),
            metrics: Arc::clone(metrics),
            exchange_log: Arc::<ExchangeLogWriter>::clone(exchange_log),
            refused_callers: Arc::clone(refused_callers),
        }
    }
}

impl ActiveConfiguration {
    /// The first version of a process.
    ///
    /// # Errors
    /// A certificate or key of a connection cannot be used.
    pub(super) fn first(
        config: Config,
        files: ConnectionBudget,
        shared: SharedParts,
    ) -> Result<Self, rustls::Error> {
        let SharedParts {
            store,
            clock,
            metrics,
            exchange_log,
            refused_callers,
        } = shared;
        let permits = Permits::new(&settings::permits(&config), Arc::clone(&metrics));
        let door = Arc::new(RateLimited {
            hyper: HyperOutbound::new(settings::outbound(&config, &files))?,
            permits: Arc::new(permits),
            metrics: Arc::clone(&metrics),
        });
        let admission = settings::admission(&config, Arc::clone(&clock), &metrics);
        let budget = settings::budget(&config.limits);
        let world = World {
            clock: Arc::clone(&clock),
            entropy: Arc::new(SystemEntropy),
            outbound: Arc::<RateLimited>::clone(&door),
            health: Arc::new(HealthTracker::new(config.health)),
            // This process holds the store by now: no other process sends (S1).
            sends: Arc::new(SendLog::start(clock)),
            signals: Arc::default(),
            exchange_log,
            disk: Arc::default(),
            signing: Arc::default(),
        };
        let api = Api {
            store,
            world,
            snapshot: Arc::new(config.snapshot),
            admission,
            reads: Arc::new(ReadNonces::new(READ_NONCES_MAX)),
            refused_callers,
        };
        Ok(Self {
            api,
            operations_hosts: config.listen.operations_hosts,
            unusable: config.unusable_counts,
            door,
            budget,
        })
    }

    /// The version after it: whatever did not change is reused, counters and connections too.
    ///
    /// # Errors
    /// As [`Self::first`]; this version is left unchanged.
    pub(super) fn next(
        &self,
        config: Config,
        files: ConnectionBudget,
    ) -> Result<(Self, TunableSettings), rustls::Error> {
        let (old, door) = (&self.api, &self.door);
        let numbers = TunableSettings {
            limits: settings::limits(&config),
            permits: settings::permits(&config),
            health: config.health,
            exchange_log_days: config.limits.exchange_log_days,
            exchange_log_bytes_max: config.limits.exchange_log_bytes_max,
            bounds: settings::bounds(&config.limits, &files, config.listen.drain),
        };
        let budget = settings::budget(&config.limits);
        let door = Arc::new(RateLimited {
            hyper: door.hyper.renewed(settings::outbound(&config, &files))?,
            permits: Arc::clone(&door.permits),
            metrics: Arc::clone(&door.metrics),
        });
        let (caller, all) = settings::explained(&config);
        let admission = AdmissionPolicy {
            limits: Arc::clone(&old.admission.limits),
            window: config.limits.window,
            explained: old.admission.explained.renewed(caller, all),
        };
        let world = World {
            outbound: Arc::<RateLimited>::clone(&door),
            ..old.world.clone()
        };
        let api = Api {
            store: Arc::clone(&old.store),
            world,
            snapshot: Arc::new(config.snapshot),
            admission,
            reads: Arc::clone(&old.reads),
            refused_callers: Arc::clone(&old.refused_callers),
        };
        let next = Self {
            api,
            operations_hosts: config.listen.operations_hosts,
            unusable: config.unusable_counts,
            door,
            budget,
        };
        Ok((next, numbers))
    }

    /// Applies other limits from now on. Counters and observations belong to no version: rate
    /// limits, permits and health are per caller and institution, whatever is in force.
    pub(super) fn apply_settings(&self, numbers: &TunableSettings) {
        self.api.admission.limits.replace(&numbers.limits);
        self.door.permits.replace(&numbers.permits);
        self.api.world.health.apply_settings(numbers.health);
        let (days, bytes_max) = (numbers.exchange_log_days, numbers.exchange_log_bytes_max);
        self.api.world.exchange_log.keep_within(days, bytes_max);
    }

    /// The resources a worker uses for one piece of work.
    pub(super) fn tools(&self) -> WorkerResources {
        WorkerResources {
            snapshot: Arc::clone(&self.api.snapshot),
            world: self.api.world.clone(),
            budget: self.budget,
        }
    }
}
