//! Reloads the configuration while the gateway runs: read and checked whole, built whole, recorded,
//! and only then swapped (F1). A rejected configuration changes nothing.

mod recording;

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::control::ControlReply;
use super::in_force::{ActiveConfiguration, TunableSettings};
use super::machine;
use super::reconcile::Reconciler;
use super::removal_guard;
use super::signals::HangupSignal;
use crate::config::difference::{differences, needing_restart};
use crate::config::{self, Config, ConfigFault, ConfigFaults, ConfigurationOutline};
use crate::domain::identifiers::{InstitutionId, ReceiverId, Timestamp};
use crate::domain::institutions::{AccountKey, InstitutionEndpoint};
use crate::edge::{LiveBounds, TlsIdentity};
use crate::metrics::Metrics;
use crate::seal::Seal;
use crate::store::notifying::WorkerSignals;
use crate::store::{RemovalGuard, Store, StoreError};
use crate::world::Clock;

use recording::result;
pub(super) use recording::{audit_entry, recorded};

/// The most log lines about one reload; the reply to `paymux reload` has all.
const LINES_MAX: usize = 100;

/// What a reload changes, and what it needs for that.
pub(super) struct ReloadScope {
    pub(super) store: Arc<Store>,
    pub(super) worker_signals: Arc<WorkerSignals>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) seal: Arc<Seal>,
    pub(super) identity: Arc<TlsIdentity>,
    pub(super) bounds: LiveBounds,
    pub(super) in_force: Arc<ArcSwap<ActiveConfiguration>>,
    /// Reconciles on request over the same socket.
    pub(super) reconciler: Arc<Reconciler>,
    /// One reload at a time.
    pub(super) loaded: Mutex<LoadedConfiguration>,
}

/// What the version in force was loaded from.
pub(super) struct LoadedConfiguration {
    pub(super) file: std::path::PathBuf,
    pub(super) version: u64,
    pub(super) digest: String,
    pub(super) outline: ConfigurationOutline,
    pub(super) removal_guard_days: u32,
    /// Earlier versions under which work may still be running.
    pub(super) earlier: Vec<Weak<ActiveConfiguration>>,
}

impl LoadedConfiguration {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            file: config.file.clone(),
            version: config.snapshot.routing.version,
            digest: config.digest.clone(),
            outline: config.outline.clone(),
            removal_guard_days: config.limits.removal_guard_days,
            earlier: Vec::new(),
        }
    }
}

/// Reloads a running gateway's configuration; can be cloned, and keeps nothing alive.
#[derive(Clone)]
pub struct Reload(pub(super) Weak<ReloadScope>);

impl Reload {
    /// Reloads on somebody's request, with the result in the log.
    pub(super) async fn by(&self, whom: &str) {
        if let Some(reloading) = self.0.upgrade() {
            reloading.reload(whom).await;
        }
    }

    /// Reloads at each SIGHUP, with the result in the log.
    pub async fn on_hangups(self, mut hangups: HangupSignal) {
        while hangups.next().await.is_some() {
            self.by("local:signal").await;
        }
    }
}

/// A loaded file, ready to activate: everything that can fail has been done.
struct PreparedReload {
    next: Arc<ActiveConfiguration>,
    numbers: TunableSettings,
    seal: Arc<Seal>,
    identity: Arc<rustls::sign::CertifiedKey>,
    expiries: Vec<config::Expiry>,
    loaded: LoadedConfiguration,
    endpoints: Vec<(InstitutionId, InstitutionEndpoint)>,
    accounts: Vec<(AccountKey, ReceiverId)>,
    warnings: Vec<String>,
}

impl ReloadScope {
    /// Reads the file again and activates it, or returns why not. `by` is who requested it.
    pub(super) async fn reload(&self, by: &str) -> ControlReply {
        let mut loaded = self.loaded.lock().await;
        let file = loaded.file.display().to_string();
        let faults = match self.prepare(&loaded).await {
            Ok(ready) => match self.record(by, &ready).await {
                Ok(()) => {
                    let reply = self.swap(ready, &mut loaded, file);
                    self.record_outcome(by, &result("accepted", &loaded)).await;
                    self.record_changes(by, &reply).await;
                    return reply;
                }
                Err(fault) => vec![store_fault(&file, &fault)],
            },
            Err(ConfigFaults(faults)) => faults,
        };
        for fault in faults.iter().take(LINES_MAX) {
            tracing::error!(%fault, "reload refused; nothing was changed");
        }
        self.metrics.configuration.refused();
        self.record_outcome(by, &format!("refused faults={}", faults.len()))
            .await;
        let faults = faults.iter().map(ToString::to_string).collect();
        ControlReply::Refused { file, faults }
    }

    /// The configuration in force, without secrets.
    pub(super) async fn shown(&self) -> ControlReply {
        let loaded = self.loaded.lock().await;
        let since = removal_guard::since(loaded.removal_guard_days, self.clock.now());
        let dependents = self
            .store
            .configuration
            .dependents(since)
            .await
            .unwrap_or_default();
        ControlReply::Shown {
            file: loaded.file.display().to_string(),
            version: loaded.version,
            digest: loaded.digest.clone(),
            outline: loaded.outline.clone(),
            held: dependents
                .held
                .into_iter()
                .map(|(id, held)| (id.to_string(), held.into()))
                .collect(),
            held_accounts: dependents
                .accounts
                .into_iter()
                .map(|((at, id), held)| (format!("{id} at {at}"), held.into()))
                .collect(),
        }
    }

    /// Everything that can fail, before anything is changed.
    async fn prepare(&self, loaded: &LoadedConfiguration) -> Result<PreparedReload, ConfigFaults> {
        let (file, now) = (loaded.file.clone(), self.clock.now());
        let name = file.display().to_string();
        // Reads files and checks keys, so not on a thread that serves.
        let read = move || config::read(&file, now, &config::environment);
        let mut next = match tokio::task::spawn_blocking(read).await {
            Ok(read) => read?,
            Err(fault) => return Err(ConfigFaults(vec![broken(&name, &fault.to_string())])),
        };
        let faults = needing_restart(&loaded.outline, &next);
        if !faults.is_empty() {
            return Err(ConfigFaults(faults));
        }
        if !self.seal.is_kept_by(&next.store.seal) {
            return Err(ConfigFaults(vec![broken(
                &name,
                "a file without some of the seal keys in use",
            )]));
        }
        let files = machine::share_out(&next, machine::files_allowed())?;
        let before = self.in_force.load_full();
        // Before the store is queried: whatever ended in between has written its records.
        let mut faults =
            removal_guard::removed_while_in_service(&before.api.snapshot, &next, &loaded.earlier);
        let since = removal_guard::since(next.limits.removal_guard_days, now);
        let dependents = self.store.configuration.dependents(since).await;
        let dependents =
            dependents.map_err(|fault| ConfigFaults(vec![store_fault(&name, &fault)]))?;
        faults.extend(removal_guard::stored_needs(&next, &dependents));
        faults.extend(removal_guard::moved_while_in_service(
            &before.api.snapshot,
            &next,
            &dependents,
            &loaded.earlier,
        ));
        if !faults.is_empty() {
            return Err(ConfigFaults(faults));
        }
        let version = next_version(now, &dependents, loaded.version);
        let endpoints = removal_guard::endpoints(&next);
        let accounts = removal_guard::accounts::receivers(&next);
        next.snapshot.routing.version = version;
        let cannot = |it: &config::UnusableCredential| format!("cannot be used: {}", it.note);
        let warnings = next.warnings.iter().map(ToString::to_string);
        let warnings = warnings.chain(next.unusable.iter().map(cannot)).collect();
        let mut earlier = loaded.earlier.clone();
        earlier.retain(|version| version.strong_count() > 0);
        earlier.push(Arc::downgrade(&before));
        let loaded = LoadedConfiguration {
            earlier,
            ..LoadedConfiguration::of(&next)
        };
        let (seal, identity) = (
            Arc::clone(&next.store.seal),
            Arc::clone(&next.listen.identity),
        );
        let expiries = std::mem::take(&mut next.expiries);
        let (next, numbers) = before
            .next(next, files)
            .map_err(|fault| ConfigFaults(vec![broken(&name, &fault.to_string())]))?;
        Ok(PreparedReload {
            next: Arc::new(next),
            numbers,
            seal,
            identity,
            expiries,
            loaded,
            endpoints,
            accounts,
            warnings,
        })
    }

    /// Nothing here can fail, and no request sees half of it: each takes its version once, and the
    /// last step swaps it.
    ///
    /// What is replaced before that belongs to no version, and each part is consistent by itself.
    /// Seal keys are only added. The certificate and the limits of the edge apply before there is a
    /// request. Rate limits, permits and health are counted across versions: a request that takes
    /// the old version at this moment is counted by the new limits, as if it had come a moment
    /// later, and none is counted by the old limits under the new version.
    fn swap(
        &self,
        ready: PreparedReload,
        loaded: &mut LoadedConfiguration,
        file: String,
    ) -> ControlReply {
        if let Err(fault) = self.seal.renew(&ready.seal) {
            // Checked before, under the same lock.
            tracing::error!(%fault, "the seal keys were not renewed");
        }
        self.identity.show(ready.identity);
        self.bounds.replace(ready.numbers.bounds);
        ready.next.apply_settings(&ready.numbers);
        self.in_force.store(ready.next);
        let changes = differences(&loaded.outline, &ready.loaded.outline);
        let is_same_text = loaded.digest == ready.loaded.digest;
        *loaded = ready.loaded;
        let metrics = &self.metrics.configuration;
        let now_s = self.clock.now().seconds();
        metrics.in_force(loaded.version, &loaded.digest, now_s);
        metrics.accepted();
        record_expiries(&self.metrics, &ready.expiries);
        for warning in &ready.warnings {
            tracing::warn!(warning, "the configuration has a warning");
        }
        for change in changes.iter().take(LINES_MAX) {
            tracing::info!(%change, "reloaded");
        }
        tracing::info!(
            version = loaded.version,
            digest = loaded.digest,
            changes = changes.len(),
            "a new configuration is in force"
        );
        ControlReply::Accepted {
            file,
            version: loaded.version,
            digest: loaded.digest.clone(),
            is_same_text,
            changes,
            warnings: ready.warnings,
        }
    }
}

/// The time in milliseconds, or one above the highest version so far: within the same millisecond,
/// or after the clock was set back (F2).
pub(super) fn next_version(now: Timestamp, dependents: &RemovalGuard, in_force: u64) -> u64 {
    let above = dependents.version.max(in_force).saturating_add(1);
    u64::try_from(now.ms()).unwrap_or(0).max(above)
}

/// Exports when the first key of each class expires.
pub(super) fn record_expiries(metrics: &Metrics, expiries: &[config::Expiry]) {
    for class in config::KeyClass::ALL {
        let of_class = expiries.iter().filter(|expiry| expiry.class == class);
        let first = of_class.map(|expiry| expiry.until_s).min();
        metrics.configuration.key_expiry(class.word(), first);
    }
}

fn store_fault(file: &str, fault: &StoreError) -> ConfigFault {
    ConfigFault {
        file: file.to_owned(),
        line: 0,
        subject: "the store".to_owned(),
        expected: "a durable record of the reload".to_owned(),
        found: fault.to_string(),
        advice: "see the store's log lines, and reload again".to_owned(),
    }
}

fn broken(file: &str, found: &str) -> ConfigFault {
    ConfigFault {
        file: file.to_owned(),
        line: 0,
        subject: "the whole file".to_owned(),
        expected: "parts that can be built".to_owned(),
        found: found.to_owned(),
        advice: "correct it, and reload again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F2: a version grows within one millisecond, across a restart, and when the clock was set
    /// back.
    #[test]
    fn a_version_always_grows() {
        let stored = |version| RemovalGuard {
            version,
            ..RemovalGuard::default()
        };
        let now = Timestamp::from_ms(1_000);
        assert_eq!(next_version(now, &stored(0), 0), 1_000);
        assert_eq!(next_version(now, &stored(0), 1_000), 1_001);
        assert_eq!(next_version(now, &stored(5_000), 0), 5_001);
        assert_eq!(next_version(Timestamp::from_ms(-7), &stored(0), 0), 1);
    }
}
