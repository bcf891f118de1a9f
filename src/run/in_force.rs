//! What is in force: one version of everything that is no socket, built whole beside the one
//! before and put in its place in one step (F1).

use std::sync::Arc;

use super::machine::Files;
use super::paced::Paced;
use super::settings;
use crate::api::Api;
use crate::config::{Config, UnusableCounts};
use crate::domain::institutions::HealthSettings;
use crate::edge::Bounds;
use crate::flow::admit_request::refused_callers::RefusedCallers;
use crate::flow::admit_request::{Gate, ReadNonces};
use crate::health::Health;
use crate::limits::LimitSettings;
use crate::limits::permits::{PermitSettings, Permits};
use crate::metrics::Metrics;
use crate::outbound::Hyper;
use crate::store::Store;
use crate::workers::{BudgetSettings, Tools};
use crate::world::exchange_log::Recorder;
use crate::world::sends::SendLog;
use crate::world::{Clock, SystemEntropy, World};

/// Nonces of read-only requests remembered in each of two generations.
const READ_NONCES_MAX: usize = 200_000;

/// One version. Whoever begins under it ends under it, whatever comes into force meanwhile.
pub(super) struct InForce {
    /// Answers requests.
    pub(super) api: Api,
    /// Names under which operations are asked.
    pub(super) operations_hosts: Vec<String>,
    /// Keys and certificates that cannot be used, by the moment.
    pub(super) unusable: UnusableCounts,
    door: Arc<Paced>,
    budget: BudgetSettings,
}

/// What is counted and measured by, under a version.
pub(super) struct Numbers {
    limits: LimitSettings,
    permits: PermitSettings,
    health: HealthSettings,
    exchange_log: (u32, u64),
    /// Of the edge.
    pub(super) bounds: Bounds,
}

impl InForce {
    /// The first version of a process.
    ///
    /// # Errors
    /// A certificate or key of a connection cannot be used.
    pub(super) fn first(
        (config, files): (Config, Files),
        store: &Arc<dyn Store>,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
        (exchange_log, refused_callers): (Arc<dyn Recorder>, Arc<RefusedCallers>),
    ) -> Result<Self, rustls::Error> {
        let permits = Permits::new(&settings::permits(&config), Arc::clone(metrics));
        let door = Arc::new(Paced {
            hyper: Hyper::new(settings::outbound(&config, &files))?,
            permits: Arc::new(permits),
            metrics: Arc::clone(metrics),
        });
        let gate = settings::gate(&config, Arc::clone(clock), metrics);
        let budget = settings::budget(&config.limits);
        let world = World {
            clock: Arc::clone(clock),
            entropy: Arc::new(SystemEntropy),
            outbound: Arc::<Paced>::clone(&door),
            health: Arc::new(Health::new(config.health)),
            // The store is ours by now: no other process sends (S1).
            sends: Arc::new(SendLog::start(Arc::clone(clock))),
            signals: Arc::default(),
            exchange_log,
            disk: Arc::default(),
        };
        let api = Api {
            store: Arc::clone(store),
            world,
            register: Arc::new(config.register),
            gate,
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

    /// The version after it: what did not change goes on as it is, counts and connections too.
    ///
    /// # Errors
    /// As [`Self::first`]; nothing of this version changes.
    pub(super) fn next(
        &self,
        (config, files): (Config, Files),
    ) -> Result<(Self, Numbers), rustls::Error> {
        let (old, door) = (&self.api, &self.door);
        let numbers = Numbers {
            limits: settings::limits(&config),
            permits: settings::permits(&config),
            health: config.health,
            exchange_log: (
                config.limits.exchange_log_days,
                config.limits.exchange_log_bytes_max,
            ),
            bounds: settings::bounds(&config.limits, &files, config.listen.drain),
        };
        let budget = settings::budget(&config.limits);
        let door = Arc::new(Paced {
            hyper: door.hyper.renewed(settings::outbound(&config, &files))?,
            permits: Arc::clone(&door.permits),
            metrics: Arc::clone(&door.metrics),
        });
        let (caller, all) = settings::explained(&config);
        let gate = Gate {
            limits: Arc::clone(&old.gate.limits),
            window: config.limits.window,
            explained: old.gate.explained.renewed(caller, all),
        };
        let world = World {
            outbound: Arc::<Paced>::clone(&door),
            ..old.world.clone()
        };
        let api = Api {
            store: Arc::clone(&old.store),
            world,
            register: Arc::new(config.register),
            gate,
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

    /// Counts and measures by other numbers from now on. What was counted and seen belongs to no
    /// version: allowances, permits and health are of callers and institutions, whatever is in force.
    pub(super) fn count_by(&self, numbers: &Numbers) {
        self.api.gate.limits.replace(&numbers.limits);
        self.door.permits.replace(&numbers.permits);
        self.api.world.health.measure_by(numbers.health);
        let (days, bytes_max) = numbers.exchange_log;
        self.api.world.exchange_log.keep_within(days, bytes_max);
    }

    /// What a piece of work is done with.
    pub(super) fn tools(&self) -> Tools {
        Tools {
            register: Arc::clone(&self.api.register),
            world: self.api.world.clone(),
            budget: self.budget,
        }
    }
}
