//! Nobody is taken out while payments still need them (F2). A file without an institution that has
//! unfinished payments, or some that ended so lately that money may still come or go back, is
//! refused whole: at a start and at a reload alike.

use std::sync::Weak;
use std::time::Duration;

use crate::config::{Config, Fault};
use crate::domain::identifiers::Timestamp;
use crate::domain::institutions::Institution;
use crate::domain::merchant::Admission;
use crate::flow::register::Register;
use crate::store::{Bindings, ENDED_COUNTED_MAX, Held};

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// Since when what ended counts, under this configuration.
pub(super) fn since(days: u32, now: Timestamp) -> Timestamp {
    let span = Duration::from_secs(u64::from(days).saturating_mul(DAY_S));
    let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_ms(now.ms().saturating_sub(span))
}

/// Each institution that a configuration does not name and whose payments need it.
pub(super) fn lost(config: &Config, bindings: &Bindings) -> Vec<Fault> {
    let adapters = &config.register.adapters;
    let held = bindings.held.iter();
    let lost = held.filter(|(id, _)| !adapters.contains_key(*id));
    let days = config.limits.in_reach_days;
    lost.map(|(id, held)| Fault {
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

/// Each institution that a reload would take out although something could have begun there a moment
/// ago, which the store may not show yet. `earlier` are the versions before the one in force.
pub(super) fn too_soon<T>(before: &Register, next: &Config, earlier: &[Weak<T>]) -> Vec<Fault> {
    let goes_on = earlier.iter().any(|version| version.strong_count() > 0);
    let institutions = before.directory.institutions.iter();
    let gone = institutions.filter(|(id, _)| !next.register.adapters.contains_key(*id));
    gone.filter(|(_, was)| goes_on || !is_shut(was))
        .map(|(id, was)| {
            let (found, advice) = if is_shut(was) {
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
            Fault {
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
fn is_shut(institution: &Institution) -> bool {
    institution.stopped || institution.admission != Admission::Admitted
}

fn words(held: Held, days: u32) -> String {
    let Held { unfinished, ended } = held;
    let more = if ended >= ENDED_COUNTED_MAX {
        " or more"
    } else {
        ""
    };
    format!(
        "{unfinished} unfinished payments and refunds, and {ended}{more} payments that ended within \
         the {days} days of [limits] in_reach_days"
    )
}

fn of(config: &Config) -> Fault {
    Fault {
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
    fn days_are_counted_back() {
        let now = Timestamp::from_ms(3 * 86_400_000 + 5);
        assert_eq!(since(3, now), Timestamp::from_ms(5));
        assert_eq!(since(0, now), now);
        let first = Timestamp::from_ms(i64::MIN);
        assert_eq!(since(1, first), first);
    }
}
