//! No account is taken out, and none becomes another receiver, while payments still need it: money goes
//! back through the account that it came over (R5), and evidence must fit it (C2).

use std::sync::Weak;

use super::{counts_text, of};
use crate::config::{Config, ConfigFault};
use crate::domain::identifiers::ReceiverId;
use crate::domain::institutions::{AccountKey, AccountProfile, Contract, RoutingTable};
use crate::domain::merchant::Admission;
use crate::store::RemovalGuard;

/// What each account is at its institution under a configuration.
pub(in crate::run) fn receivers(config: &Config) -> Vec<(AccountKey, ReceiverId)> {
    let all = config.snapshot.routing.accounts.iter();
    all.map(|(key, account)| (key.clone(), account.receiver.clone()))
        .collect()
}

/// Each account that a configuration does not name, at an institution that it names, and whose payments
/// need it.
pub(super) fn lost(config: &Config, dependents: &RemovalGuard) -> Vec<ConfigFault> {
    let routing = &config.snapshot.routing;
    let held = dependents.accounts.iter();
    let lost = held.filter(|(key, _)| {
        routing.institutions.contains_key(&key.0) && !routing.accounts.contains_key(*key)
    });
    let days = config.limits.removal_guard_days;
    lost.map(|(key, held)| ConfigFault {
        subject: subject(key),
        expected: "its [[account]], because payments need it".to_owned(),
        found: format!("none, with {}", counts_text(*held, days)),
        advice:
            "put it back without contracts, or with stopped ones: then nothing new goes over it, \
                 and queries, callbacks and refunds go on"
                .to_owned(),
        ..of(config)
    })
    .collect()
}

/// Each account that payments need and that would have another number at its institution.
pub(super) fn changed(config: &Config, dependents: &RemovalGuard) -> Vec<ConfigFault> {
    let needed = dependents.accounts.iter();
    let changed = needed.filter_map(|(key, held)| {
        let was = dependents.receivers.get(key)?;
        let is = config.snapshot.routing.accounts.get(key)?;
        (is.receiver != *was).then_some((key, held, was, is))
    });
    let days = config.limits.removal_guard_days;
    changed
        .map(|(key, held, was, is)| ConfigFault {
            subject: subject(key),
            expected: format!("the number {was}, with {}", counts_text(*held, days)),
            found: format!("{}", is.receiver),
            advice: "change it back, and add an [[account]] with an id of its own".to_owned(),
            ..of(config)
        })
        .collect()
}

/// Each account that a reload would take out, or make another receiver, although something could have begun
/// there a moment ago, which the store may not show yet. `earlier` are the versions before the one in force.
pub(super) fn removed_while_in_service<T>(
    before: &RoutingTable,
    next: &Config,
    earlier: &[Weak<T>],
) -> Vec<ConfigFault> {
    let goes_on = earlier.iter().any(|version| version.strong_count() > 0);
    let routing = &next.snapshot.routing;
    let is_other = |(key, was): &(&AccountKey, &AccountProfile)| {
        let is = routing.accounts.get(*key);
        routing.institutions.contains_key(&key.0) && is.is_none_or(|is| is.receiver != was.receiver)
    };
    let gone = before.accounts.iter().filter(is_other);
    let faults = gone.filter_map(|(key, _)| {
        let is_stopped = is_stopped(before, key);
        if is_stopped && !goes_on {
            return None;
        }
        let (found, advice) = if is_stopped {
            let found = "requests that began before the last reload and go on";
            (found, "reload again in a minute")
        } else {
            let advice = "put it back, stop its contracts or take them out, reload, and take it out with \
                          a later reload";
            ("an account in service", advice)
        };
        Some(ConfigFault {
            subject: subject(key),
            expected: "to take out or change only what was out of service before".to_owned(),
            found: found.to_owned(),
            advice: advice.to_owned(),
            ..of(next)
        })
    });
    faults.collect()
}

/// Nothing new can begin over it.
fn is_stopped(routing: &RoutingTable, key: &AccountKey) -> bool {
    let institution = routing.institutions.get(&key.0);
    let is_out = institution.is_none_or(|one| one.stopped || one.admission != Admission::Admitted);
    let mut contracts = routing.contracts.values();
    let is_open = |it: &Contract| it.institution == key.0 && it.account == key.1 && !it.stopped;
    is_out || !contracts.any(is_open)
}

fn subject((institution, account): &AccountKey) -> String {
    format!("account {account} at {institution}")
}
