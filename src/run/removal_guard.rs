//! No institution is removed or moved while payments still need it (F2). A configuration without an
//! institution that has unfinished payments, or payments that ended so recently that money may
//! still move, is rejected whole, at start-up and at reload.

pub(super) mod accounts;

use std::sync::Weak;
use std::time::Duration;

use crate::config::{Config, ConfigFault};
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::{InstitutionEndpoint, InstitutionProfile};
use crate::domain::merchant::Admission;
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::store::{Dependents, ENDED_COUNTED_MAX, RemovalGuard};

/// Seconds in a day.
const DAY_S: u64 = 86_400;

/// The earliest end of a payment that still counts, under this configuration.
pub(super) fn since(days: u32, now: Timestamp) -> Timestamp {
    let span = Duration::from_secs(u64::from(days).saturating_mul(DAY_S));
    let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_ms(now.ms().saturating_sub(span))
}

/// Everything that a configuration takes away although what is stored needs it.
pub(super) fn stored_needs(config: &Config, dependents: &RemovalGuard) -> Vec<ConfigFault> {
    let mut faults = lost(config, dependents);
    faults.extend(moved(config, dependents));
    faults.extend(accounts::lost(config, dependents));
    faults.extend(accounts::changed(config, dependents));
    faults
}

/// Each institution that a configuration does not name and whose payments need it.
fn lost(config: &Config, dependents: &RemovalGuard) -> Vec<ConfigFault> {
    let enrolled = &config.snapshot.routing.institutions;
    let held = dependents.held.iter();
    let lost = held.filter(|(id, _)| !enrolled.contains_key(*id));
    let days = config.limits.removal_guard_days;
    lost.map(|(id, held)| ConfigFault {
        subject: format!("institution {id}"),
        expected: "its [[institution]], because payments need it".to_owned(),
        found: format!("none, with {}", counts_text(*held, days)),
        advice: "put it back with stopped = true: no new orders go there, and queries, \
                 callbacks and refunds continue"
            .to_owned(),
        ..of(config)
    })
    .collect()
}

/// The endpoint of each institution under a configuration.
pub(super) fn endpoints(config: &Config) -> Vec<(InstitutionId, InstitutionEndpoint)> {
    let all = config.outbound.institutions.iter();
    all.map(|(id, leg)| (id.clone(), leg.endpoint())).collect()
}

/// Institutions whose endpoint or kind changed while something is unfinished: a query at the wrong
/// endpoint would end it. `moved_from` declares that the new address is the same institution.
fn moved(config: &Config, dependents: &RemovalGuard) -> Vec<ConfigFault> {
    let held = |id: &InstitutionId| dependents.held.get(id).copied().unwrap_or_default();
    let moving = moving(config, dependents);
    let moved = moving.filter(|(id, ..)| held(id).unfinished > 0);
    moved
        .map(|(id, was, is)| ConfigFault {
            subject: format!("institution {id}"),
            expected: format!(
                "kind {:?} and url {:?}, where {} payments and refunds are unfinished",
                was.kind,
                was.url,
                held(id).unfinished
            ),
            found: format!("kind {:?} and url {:?}", is.kind, is.url),
            advice: format!(
                "change it back; set stopped = true and move it when nothing is unfinished; or, \
                 if the same institution answers there for existing payments, set \
                 moved_from = {:?}",
                was.url
            ),
            ..of(config)
        })
        .collect()
}

/// Institutions that a reload would move although a payment could have begun there a moment ago.
pub(super) fn moved_while_in_service<T>(
    before: &ConfigurationSnapshot,
    next: &Config,
    dependents: &RemovalGuard,
    earlier: &[Weak<T>],
) -> Vec<ConfigFault> {
    let is_in_use = earlier.iter().any(|version| version.strong_count() > 0);
    let is_stopped = |id: &InstitutionId| {
        let known = before.routing.institutions.get(id);
        !is_in_use && known.is_none_or(is_stopped)
    };
    let held = |id: &InstitutionId| dependents.held.get(id).copied().unwrap_or_default();
    let moving = moving(next, dependents);
    let moved = moving.filter(|(id, ..)| held(id).unfinished == 0 && !is_stopped(id));
    moved
        .map(|(id, was, is)| ConfigFault {
            subject: format!("institution {id}"),
            expected: format!(
                "kind {:?} and url {:?} while it is in service",
                was.kind, was.url
            ),
            found: format!("kind {:?} and url {:?}", is.kind, is.url),
            advice: format!(
                "set stopped = true, reload, and move it with a later reload; or, if the same \
                 institution answers there for existing payments, set moved_from = {:?}",
                was.url
            ),
            ..of(next)
        })
        .collect()
}

/// Each institution whose endpoint changes without a `moved_from` that declares it the same one,
/// with both endpoints.
fn moving<'a>(
    config: &'a Config,
    dependents: &'a RemovalGuard,
) -> impl Iterator<
    Item = (
        &'a InstitutionId,
        &'a InstitutionEndpoint,
        InstitutionEndpoint,
    ),
> {
    dependents.endpoints.iter().filter_map(|(id, was)| {
        let leg = config.outbound.institutions.get(id)?;
        let is = leg.endpoint();
        let is_declared = leg.moved_from.as_deref() == Some(&*was.url) && is.kind == was.kind;
        (*was != is && !is_declared).then_some((id, was, is))
    })
}

/// Institutions and accounts that a reload would remove although a payment could have begun there a moment
/// ago, which the store may not show yet. `earlier` are the versions before the one in force.
pub(super) fn removed_while_in_service<T>(
    before: &ConfigurationSnapshot,
    next: &Config,
    earlier: &[Weak<T>],
) -> Vec<ConfigFault> {
    let mut faults = institutions_removed(before, next, earlier);
    let removed = accounts::removed_while_in_service(&before.routing, next, earlier);
    faults.extend(removed);
    faults
}

fn institutions_removed<T>(
    before: &ConfigurationSnapshot,
    next: &Config,
    earlier: &[Weak<T>],
) -> Vec<ConfigFault> {
    let is_in_use = earlier.iter().any(|version| version.strong_count() > 0);
    let institutions = before.routing.institutions.iter();
    let gone = institutions.filter(|(id, _)| !next.snapshot.routing.institutions.contains_key(*id));
    gone.filter(|(_, was)| is_in_use || !is_stopped(was))
        .map(|(id, was)| {
            let (found, advice) = if is_stopped(was) {
                (
                    "requests from before the last reload that are still running",
                    "reload again in a minute",
                )
            } else {
                (
                    "an institution in service",
                    "put it back with stopped = true, reload, and remove it with a later reload",
                )
            };
            ConfigFault {
                subject: format!("institution {id}"),
                expected: "to remove only what was stopped before".to_owned(),
                found: found.to_owned(),
                advice: advice.to_owned(),
                ..of(next)
            }
        })
        .collect()
}

/// Whether no payment can begin there.
fn is_stopped(institution: &InstitutionProfile) -> bool {
    institution.stopped || institution.admission != Admission::Admitted
}

fn counts_text(held: Dependents, days: u32) -> String {
    let Dependents { unfinished, ended } = held;
    let more = if ended >= ENDED_COUNTED_MAX {
        " or more"
    } else {
        ""
    };
    format!(
        "{unfinished} unfinished payments and refunds, and {ended}{more} payments that ended within \
         the {days} days of [limits] removal_guard_days"
    )
}

fn of(config: &Config) -> ConfigFault {
    ConfigFault {
        file: config.file.display().to_string(),
        line: 0,
        subject: String::new(),
        expected: String::new(),
        found: String::new(),
        advice: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F2: days are counted back from now, and never past the earliest timestamp.
    #[test]
    fn the_guarded_days_are_counted_back_from_now() {
        let now = Timestamp::from_ms(3 * 86_400_000 + 5);
        assert_eq!(since(3, now), Timestamp::from_ms(5));
        assert_eq!(since(0, now), now);
        let first = Timestamp::from_ms(i64::MIN);
        assert_eq!(since(1, first), first);
    }
}
