//! What this process sets on the machine: as many open files as its limits add up to, and no memory
//! image from which its keys could be read.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setpriority_process,
    setrlimit,
};

use crate::config::{CONNECTIONS_MAX, Config, ConfigFault, ConfigFaults};
use crate::outbound::{MERCHANT_CONNECTIONS_TOTAL_MAX, PARALLEL_DIALS_MAX};

/// Open files besides connections: the store with its readers, the listeners, the runtime, the log,
/// configuration files being read, and connections that are just closing.
const OWN_FILES: u64 = 96;
/// Concurrent connections on the operations listener.
const OPERATIONS_CONNECTIONS: u64 = 64;
/// The fewest public connections with which serving makes sense.
const CONNECTIONS_MIN: u64 = 256;
/// With few files: the fewest connections to each institution, and to all merchants.
const OUTGOING_MIN: u64 = 4;

/// How many connections of each kind there may be. Together with the other open files they stay
/// within this process's limit, so that no inbound connection takes the file of an outbound call
/// (H1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionBudget {
    /// From callers on the public listener.
    pub connections_max: u32,
    /// From callers on the operations listener.
    pub operations_connections_max: u32,
    /// To one institution, if it allows that many concurrent calls.
    pub institution_connections_max: usize,
    /// To all merchants.
    pub merchant_connections_max: usize,
}

impl ConnectionBudget {
    /// For a process without listeners.
    pub(super) fn without_callers() -> Self {
        Self {
            connections_max: 0,
            operations_connections_max: 0,
            institution_connections_max: usize::MAX,
            merchant_connections_max: MERCHANT_CONNECTIONS_TOTAL_MAX,
        }
    }
}

/// Raises the limit of open files to the hard limit and returns it.
///
/// # Errors
/// The system refuses; nothing was changed.
pub fn raise_files() -> std::io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// The hard limit of open files of this process.
pub fn files_allowed() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// The nice value of a thread that does background work: about a quarter of a contended processor.
const BACKGROUND_NICE: i32 = 5;

/// Lowers the priority of this thread. If the system refuses, the gateway only serves more slowly
/// at times.
pub fn lower_priority() {
    if let Err(fault) = setpriority_process(None, BACKGROUND_NICE) {
        tracing::debug!(%fault, "this thread keeps the priority of the others");
    }
}

/// Prevents images of this process's memory, which holds its keys: no core dump, and no debugger of
/// the same user.
///
/// # Errors
/// The system refuses.
pub fn keep_memory_private() -> std::io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    // A core handler that reads from a pipe is not bound by that limit.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Divides the open files between the kinds of connection. Without `[limits] connections_max`,
/// callers get what outbound calls do not need; a configured value is used as it is or rejected.
///
/// # Errors
/// The limits add up to more than allowed, reported as a fault of the file.
pub fn share_out(config: &Config, allowed: u64) -> Result<ConnectionBudget, ConfigFaults> {
    let institutions = &config.outbound.institutions;
    let calls: u64 = institutions
        .values()
        .map(|leg| u64::from(leg.calls_at_once))
        .sum();
    let besides = [
        OWN_FILES,
        OPERATIONS_CONNECTIONS,
        wide(MERCHANT_CONNECTIONS_TOTAL_MAX),
        wide(PARALLEL_DIALS_MAX),
        calls,
    ];
    let besides = besides
        .iter()
        .fold(0_u64, |sum, one| sum.saturating_add(*one));
    let configured = config.limits.connections_max;
    let requested = u64::from(configured.unwrap_or(CONNECTIONS_MAX));
    let left = allowed.saturating_sub(besides);
    let files = ConnectionBudget {
        connections_max: narrow(requested.min(left)),
        operations_connections_max: narrow(OPERATIONS_CONNECTIONS),
        institution_connections_max: usize::MAX,
        merchant_connections_max: MERCHANT_CONNECTIONS_TOTAL_MAX,
    };
    if requested <= left || (configured.is_none() && left >= CONNECTIONS_MIN) {
        return Ok(files);
    }
    let needed = besides.saturating_add(requested);
    if configured.is_some() {
        return Err(too_few(config, needed, allowed));
    }
    few(wide(institutions.len()), allowed).ok_or_else(|| too_few(config, needed, allowed))
}

/// Fewer files than the limits add up to: half for callers, a quarter each for institutions and
/// merchants.
fn few(institutions: u64, allowed: u64) -> Option<ConnectionBudget> {
    let free = allowed.checked_sub(OWN_FILES)?;
    let part = |of: u64| free.checked_div(of).unwrap_or(0);
    let each = part(4).checked_div(institutions.max(1)).unwrap_or(0);
    let operations = part(8);
    let enough = each >= OUTGOING_MIN && operations >= 1;
    enough.then(|| ConnectionBudget {
        connections_max: narrow(part(2).saturating_sub(operations)),
        operations_connections_max: narrow(operations),
        institution_connections_max: usize::try_from(each).unwrap_or(usize::MAX),
        merchant_connections_max: usize::try_from(part(4)).unwrap_or(usize::MAX),
    })
}

fn too_few(config: &Config, needed: u64, allowed: u64) -> ConfigFaults {
    ConfigFaults(vec![ConfigFault {
        file: config.file.display().to_string(),
        line: 0,
        subject: "[limits] connections_max".to_owned(),
        expected: format!(
            "limits that add up to at most {allowed} open files, which is all that this process \
             may have"
        ),
        found: needed.to_string(),
        advice: format!(
            "allow {needed} files (ulimit -Hn, LimitNOFILE=, --ulimit nofile=), or lower \
             connections_max or calls_at_once"
        ),
    }])
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H1: the shares never add up to more than the files there are.
    #[test]
    fn few_files_are_shared_out_whole() {
        for institutions in [1, 3, 20] {
            for allowed in 0..3_000 {
                let Some(files) = few(institutions, allowed) else {
                    assert!(allowed < OWN_FILES + 16 * institutions + 8, "{allowed}");
                    continue;
                };
                let sum = OWN_FILES
                    + u64::from(files.connections_max)
                    + u64::from(files.operations_connections_max)
                    + institutions * wide(files.institution_connections_max)
                    + wide(files.merchant_connections_max);
                assert!(sum <= allowed, "{allowed}: {files:?}");
                assert!(files.connections_max >= 1);
            }
        }
    }
}
