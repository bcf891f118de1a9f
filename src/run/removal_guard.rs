//! Nobody is taken out, and nobody moves, while payments still need them (F2). A file without an institution that has
//! unfinished payments, or some that ended so lately that money may still come or go back, is
//! refused whole: at a start and at a reload alike.

pub(super) mod accounts;

use std::sync::Weak;
use std::time::Duration;

use crate::config::{Config, ConfigFault};
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::{InstitutionEndpoint, InstitutionProfile};
use crate::domain::merchant::Admission;
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::store::{Dependents, ENDED_COUNTED_MAX, RemovalGuard};

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// Since when what ended counts, under this configuration.
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
        found: format!("none, with {}", words(*held, days)),
        advice: "put it back with stopped = true: then nothing new goes there, and queries, \
                 callbacks and refunds go on"
            .to_owned(),
        ..of(config)
    })
    .collect()
}

/// Where each institution is asked under a configuration.
pub(super) fn endpoints(config: &Config) -> Vec<(InstitutionId, InstitutionEndpoint)> {
    let all = config.outbound.institutions.iter();
    all.map(|(id, leg)| (id.clone(), leg.endpoint())).collect()
}

/// Each institution that was asked elsewhere, or in another dialect, and has something unfinished: asked
/// at the wrong place, that would end it. Its new address may be said to be the same institution.
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
"change it back; say stopped = true and move it when nothing is unfinished; or, if the \
                 same institution answers there for what was begun here, say moved_from = {:?}",
was.url
),
..of(config)
})
.collect()
}

/// Each institution that a reload would move although something could have begun there a moment ago.
pub(super) fn moved_while_in_service<T>(
    before: &ConfigurationSnapshot,
    (next, dependents): (&Config, &RemovalGuard),
    earlier: &[Weak<T>],
) -> Vec<ConfigFault> {
    let goes_on = earlier.iter().any(|version| version.strong_count() > 0);
    let is_stopped = |id: &InstitutionId| {
        let known = before.routing.institutions.get(id);
        !goes_on && known.is_none_or(is_stopped)
    };
    let held = |id: &InstitutionId| dependents.held.get(id).copied().unwrap_or_default();
    let moving = moving(next, dependents);
    let moved = moving.filter(|(id, ..)| held(id).unfinished == 0 && !is_stopped(id));
    moved
.map(|(id, was, is)| ConfigFault {
subject: format!("institution {id}"),
expected: format!("kind {:?} and url {:?} while it is in service", was.kind, was.url),
found: format!("kind {:?} and url {:?}", is.kind, is.url),
advice: format!(
"say stopped = true, reload, and move it with a later reload; or, if the same institution \
                 answers there for what was begun here, say moved_from = {:?}",
was.url
),
..of(next)
})
.collect()
}

/// Each institution with where it was asked and where it would be, where that differs and nobody said
/// that it is the same one.
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
        let is_said = leg.moved_from.as_deref() == Some(&*was.url) && is.kind == was.kind;
        (*was != is && !is_said).then_some((id, was, is))
    })
}

/// Each institution and account that a reload would take out although something could have begun there a
/// moment ago, which the store may not show yet. `earlier` are the versions before the one in force.
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
    let goes_on = earlier.iter().any(|version| version.strong_count() > 0);
    let institutions = before.routing.institutions.iter();
    let gone = institutions.filter(|(id, _)| !next.snapshot.routing.institutions.contains_key(*id));
    gone.filter(|(_, was)| goes_on || !is_stopped(was))
        .map(|(id, was)| {
            let (found, advice) = if is_stopped(was) {
                (
                    "requests that began before the last reload and go on",
                    "reload again in a minute",
                )
            } else {
                (
                    "an institution in service",
                    "put it back with stopped = true, reload, and take it out with a later reload",
                )
            };
            ConfigFault {
                subject: format!("institution {id}"),
                expected: "to take out only what was stopped before".to_owned(),
                found: found.to_owned(),
                advice: advice.to_owned(),
                ..of(next)
            }
        })
        .collect()
}

/// Nothing new can begin there.
fn is_stopped(institution: &InstitutionProfile) -> bool {
    institution.stopped || institution.admission != Admission::Admitted
}

fn words(held: Dependents, days: u32) -> String {
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

    /// F2: days are counted back from now, and never past the first moment there is.
    #[test]
    fn the_guarded_days_are_counted_back_from_now() {
        let now = Timestamp::from_ms(3 * 86_400_000 + 5);
        assert_eq!(since(3, now), Timestamp::from_ms(5));
        assert_eq!(since(0, now), now);
        let first = Timestamp::from_ms(i64::MIN);
        assert_eq!(since(1, first), first);
    }
}
