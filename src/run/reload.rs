//! Another configuration while everything goes on: read and checked whole, built whole, recorded,
//! and only then swapped (F1). What is refused changes nothing.

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
use crate::store::{RemovalGuard, Store, StoreError};
use crate::world::Clock;

use recording::result;
pub(super) use recording::{audit_entry, recorded};

/// Lines about one reload in the log at most; the answer to `paymux reload` has all.
const LINES_MAX: usize = 100;

/// What a reload changes, and what it needs for that.
pub(super) struct ReloadScope {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) seal: Arc<Seal>,
    pub(super) identity: Arc<TlsIdentity>,
    pub(super) bounds: LiveBounds,
    pub(super) in_force: Arc<ArcSwap<ActiveConfiguration>>,
    /// Asked over the same socket.
    pub(super) reconciler: Arc<Reconciler>,
    /// One reload at a time.
    pub(super) standing: Mutex<LoadedConfiguration>,
}

/// What the version in force was made of.
pub(super) struct LoadedConfiguration {
    pub(super) file: std::path::PathBuf,
    pub(super) version: u64,
    pub(super) digest: String,
    pub(super) outline: ConfigurationOutline,
    pub(super) removal_guard_days: u32,
    /// The versions before it under which something may still go on.
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

/// Reads a running gateway's configuration again; can be cloned and kept, and holds nothing open.
#[derive(Clone)]
pub struct Reload(pub(super) Weak<ReloadScope>);

impl Reload {
    /// Reloads because somebody wants it, with the answer in the log.
    pub(super) async fn by(&self, whom: &str) {
        if let Some(reloading) = self.0.upgrade() {
            reloading.reload(whom).await;
        }
    }

    /// Reloads at each SIGHUP, with the answer in the log.
    pub async fn on_hangups(self, mut hangups: HangupSignal) {
        while hangups.next().await.is_some() {
            self.by("operator:signal").await;
        }
    }
}

/// What a file became: everything that can fail has been done.
struct PreparedReload {
    next: Arc<ActiveConfiguration>,
    numbers: TunableSettings,
    seal: Arc<Seal>,
    identity: Arc<rustls::sign::CertifiedKey>,
    expiries: Vec<config::Expiry>,
    standing: LoadedConfiguration,
    endpoints: Vec<(InstitutionId, InstitutionEndpoint)>,
    accounts: Vec<(AccountKey, ReceiverId)>,
    warnings: Vec<String>,
}

impl ReloadScope {
    /// Reads the file again and puts it in force, or says why not. `by` is who wanted it.
    pub(super) async fn reload(&self, by: &str) -> ControlReply {
        let mut standing = self.standing.lock().await;
        let file = standing.file.display().to_string();
        let faults = match self.prepare(&standing).await {
            Ok(ready) => match self.record(by, &ready).await {
                Ok(()) => {
                    let reply = self.swap(ready, &mut standing, file);
                    self.note(by, &result("accepted", &standing)).await;
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
        self.note(by, &format!("refused faults={}", faults.len()))
            .await;
        let faults = faults.iter().map(ToString::to_string).collect();
        ControlReply::Refused { file, faults }
    }

    /// What is in force, without a secret.
    pub(super) async fn shown(&self) -> ControlReply {
        let standing = self.standing.lock().await;
        let since = removal_guard::since(standing.removal_guard_days, self.clock.now());
        let dependents = self.store.dependents(since).await.unwrap_or_default();
        ControlReply::Shown {
            file: standing.file.display().to_string(),
            version: standing.version,
            digest: standing.digest.clone(),
            outline: standing.outline.clone(),
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
    async fn prepare(
        &self,
        standing: &LoadedConfiguration,
    ) -> Result<PreparedReload, ConfigFaults> {
        let (file, now) = (standing.file.clone(), self.clock.now());
        let name = file.display().to_string();
        // Reads files and checks keys: not on a thread that serves.
        let read = move || config::read(&file, now, &config::environment);
        let mut next = match tokio::task::spawn_blocking(read).await {
            Ok(read) => read?,
            Err(fault) => return Err(ConfigFaults(vec![broken(&name, &fault.to_string())])),
        };
        let faults = needing_restart(&standing.outline, &next);
        if !faults.is_empty() {
            return Err(ConfigFaults(faults));
        }
        if !self.seal.is_kept_by(&next.store.seal) {
            return Err(ConfigFaults(vec![broken(
                &name,
                "seal keys that are not kept",
            )]));
        }
        let files = machine::share_out(&next, machine::files_allowed())?;
        let before = self.in_force.load_full();
        // Before the store is asked: what ended in between has written what it had to.
        let mut faults =
            removal_guard::removed_while_in_service(&before.api.snapshot, &next, &standing.earlier);
        let since = removal_guard::since(next.limits.removal_guard_days, now);
        let dependents = self.store.dependents(since).await;
        let dependents =
            dependents.map_err(|fault| ConfigFaults(vec![store_fault(&name, &fault)]))?;
        faults.extend(removal_guard::stored_needs(&next, &dependents));
        faults.extend(removal_guard::moved_while_in_service(
            &before.api.snapshot,
            (&next, &dependents),
            &standing.earlier,
        ));
        if !faults.is_empty() {
            return Err(ConfigFaults(faults));
        }
        let version = next_version(now, &dependents, standing.version);
        let endpoints = removal_guard::endpoints(&next);
        let accounts = removal_guard::accounts::receivers(&next);
        next.snapshot.routing.version = version;
        let cannot = |it: &config::UnusableCredential| format!("cannot be used: {}", it.note);
        let warnings = next.warnings.iter().map(ToString::to_string);
        let warnings = warnings.chain(next.unusable.iter().map(cannot)).collect();
        let mut earlier = standing.earlier.clone();
        earlier.retain(|version| version.strong_count() > 0);
        earlier.push(Arc::downgrade(&before));
        let standing = LoadedConfiguration {
            earlier,
            ..LoadedConfiguration::of(&next)
        };
        let (seal, identity) = (
            Arc::clone(&next.store.seal),
            Arc::clone(&next.listen.identity),
        );
        let expiries = std::mem::take(&mut next.expiries);
        let (next, numbers) = before
            .next((next, files))
            .map_err(|fault| ConfigFaults(vec![broken(&name, &fault.to_string())]))?;
        Ok(PreparedReload {
            next: Arc::new(next),
            numbers,
            seal,
            identity,
            expiries,
            standing,
            endpoints,
            accounts,
            warnings,
        })
    }

    /// Nothing here can fail, and no request sees half of it: each takes its version once, with the
    /// last step.
    ///
    /// What is replaced before that belongs to no version, and each of it is whole by itself. Seal
    /// keys are only added. The certificate and the bounds of the edge belong to moments before there
    /// is a request. Allowances, permits and health are counted across versions; a request that takes
    /// the version before in this moment is counted by the next one's numbers, as if it had come a
    /// moment later, and none is counted by the old ones under the new version.
    fn swap(
        &self,
        ready: PreparedReload,
        standing: &mut LoadedConfiguration,
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
        let changes = differences(&standing.outline, &ready.standing.outline);
        let is_same_text = standing.digest == ready.standing.digest;
        *standing = ready.standing;
        let metrics = &self.metrics.configuration;
        let now_s = self.clock.now().seconds();
        metrics.in_force(standing.version, &standing.digest, now_s);
        metrics.accepted();
        record_expiries(&self.metrics, &ready.expiries);
        for warning in &ready.warnings {
            tracing::warn!(warning, "reloaded, with a warning");
        }
        for change in changes.iter().take(LINES_MAX) {
            tracing::info!(%change, "reloaded");
        }
        tracing::info!(
            version = standing.version,
            digest = standing.digest,
            changes = changes.len(),
            "another configuration is in force"
        );
        ControlReply::Accepted {
            file,
            version: standing.version,
            digest: standing.digest.clone(),
            is_same_text,
            changes,
            warnings: ready.warnings,
        }
    }
}

/// The time, unless a higher one was in force already: within one millisecond, or before the clock
/// was set back (F2).
pub(super) fn next_version(now: Timestamp, dependents: &RemovalGuard, in_force: u64) -> u64 {
    let above = dependents.version.max(in_force).saturating_add(1);
    u64::try_from(now.ms()).unwrap_or(0).max(above)
}

/// How soon the first of each class is left without a key.
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
        advice: "see the log about the store, and reload again".to_owned(),
    }
}

fn broken(file: &str, found: &str) -> ConfigFault {
    ConfigFault {
        file: file.to_owned(),
        line: 0,
        subject: "the whole file".to_owned(),
        expected: "parts that can be built".to_owned(),
        found: found.to_owned(),
        advice: "correct what is named, and reload again".to_owned(),
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
