//! Thousands of simulation runs, each drawn from a seed; after every step the invariants of section
//! 14 are checked against the gateway's store and all other ledgers.

mod actors;
mod checks;
mod crash;
mod environment;
mod listing;
mod refunds;
mod requests;
mod run;

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub(crate) use refunds::balances;
use run::{PlantedFlaw, StoreSetup, execute};

use crate::simulation::actors::{AdapterFlaw, MisdatingFlaw};
use crate::simulation::checks::InvariantResult;
use crate::world::fault_injector::MissingProtection;

/// Runs in every test run; `make simulate SEEDS=n` sets another number.
const SEEDS: u64 = 20_000;

/// The environment variable with the number of runs.
const SEEDS_NAME: &str = "PAYMUX_SEEDS";

/// The environment variable with the first seed, to continue after an earlier run.
const FIRST_NAME: &str = "PAYMUX_FIRST_SEED";

/// How often a long run reports its progress.
const REPORT_EVERY: u64 = 50_000;

/// Runs within which a missing protection must be found.
const SEEDS_TO_FIND: u64 = 10_000;

/// K1, K2, K3, K4, O1, O2, O3, O4, O5, A1, A2, A3, A4, A5, A6, A7, A8, V1, V2, V3, V4, V5, M1, M2,
/// M3, N1, N2, N3, N4, N9, Q5, C2, C4, C5, C6, S1, T2, Z1, Z2, Z3: under crashes, repeats, delays
/// and forgeries.
#[test]
fn thousands_of_runs_keep_every_promise() {
    #[expect(clippy::disallowed_methods, reason = "only reports the speed")]
    let start = Instant::now();
    let seeds = said(SEEDS_NAME).unwrap_or(SEEDS);
    let first = said(FIRST_NAME).unwrap_or(0);
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let one_after_another = || -> InvariantResult {
        loop {
            let finished = next.fetch_add(1, Ordering::SeqCst);
            if finished >= seeds {
                return Ok(());
            }
            if finished > 0 && finished.is_multiple_of(REPORT_EVERY) {
                eprintln!("{finished} runs, {} s", start.elapsed().as_secs());
            }
            if let Err(broken) = execute(first + finished, StoreSetup::Memory) {
                next.store(seeds, Ordering::SeqCst);
                return Err(broken);
            }
        }
    };
    let finished: Vec<InvariantResult> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..cores).map(|_| scope.spawn(one_after_another)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    if let Some(broken) = finished.into_iter().find_map(Result::err) {
        panic!("{broken}");
    }
    let rate = seeds / start.elapsed().as_secs().max(1);
    eprintln!("{seeds} runs from seed {first} on {cores} cores, about {rate} a second");
}

/// A number from an environment variable of the test run.
#[expect(clippy::disallowed_methods, reason = "only the length of a run")]
pub(crate) fn said(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}: expected a whole number")),
    )
}

/// L1, K4, Q5, Q6, N6: one run in a hundred also uses the embedded store, which must give the same
/// answers as the memory store that the checks inspect.
#[test]
fn the_embedded_store_behaves_the_same_in_every_run() {
    for seed in (0..SEEDS).step_by(100) {
        if let Err(broken) = execute(seed, StoreSetup::Embedded) {
            panic!("{broken}");
        }
    }
}

/// A seed that once found a fault.
fn must_pass(seed: u64) {
    execute(seed, StoreSetup::Memory).unwrap_or_else(|broken| panic!("{broken}"));
}

/// A5, T2: a clock set between two processes shortened a wait to nothing.
#[test]
fn seed_121() {
    must_pass(121);
}

/// V4, C4: late money was acknowledged without confirmation, and never recorded.
#[test]
fn seed_399() {
    must_pass(399);
}

/// A8: the check took the cause of an excess payment for that of the institution paid second,
/// though the first took its money after it had refused.
#[test]
fn seed_516() {
    must_pass(516);
}

/// Z1: each answer to a query contained a newly dated link and restarted the schedule.
#[test]
fn seed_1004() {
    must_pass(1_004);
}

/// E1, A4: the check counted a refund of an excess payment that was never sent as sent, and took
/// the one sent a minute later for a repeat.
#[test]
fn seed_101376() {
    must_pass(101_376);
}

/// E2, R3: the fake institution refused a repeat for lack of capacity without binding its number,
/// so that the first call, which was late, could still have succeeded.
#[test]
fn seed_235749() {
    must_pass(235_749);
}

/// R3: the simulation let a suspended process delay what a dead one had sent, so that a refund was
/// sent long after its sender's end.
#[test]
fn seed_3824() {
    must_pass(3_824);
}

/// Runs seeds until a check fails; fails if none does.
fn must_be_found(plant: PlantedFlaw) {
    for seed in 0..SEEDS_TO_FIND {
        if let Err(broken) = execute(seed, StoreSetup::Planted(plant)) {
            eprintln!("{}", broken.lines().next().unwrap_or_default());
            return;
        }
    }
    panic!("{plant:?} was not found in {SEEDS_TO_FIND} runs");
}

/// A1
#[test]
fn a_missing_intent_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::Intent));
}

/// Q5
#[test]
fn a_missing_nonce_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::Nonce));
}

/// Q6
#[test]
fn a_missing_floor_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::Floor));
}

/// N6
#[test]
fn a_missing_fence_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::Fence));
}

/// N1
#[test]
fn a_missing_event_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::Event));
}

/// N4
#[test]
fn a_second_event_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::SecondEvent));
}

/// A4
#[test]
fn a_missing_excess_refund_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::Refund));
}

/// K4
#[test]
fn a_missing_version_guard_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::Version));
}

/// M1
#[test]
fn a_missing_posting_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::Entry));
}

/// O2
#[test]
fn a_missing_comparison_of_sums_is_found() {
    must_be_found(PlantedFlaw::Adapter(AdapterFlaw::AskedAmount));
}

/// A5
#[test]
fn a_missing_wait_is_found() {
    must_be_found(PlantedFlaw::Adapter(AdapterFlaw::NoWait));
}

/// A5
#[test]
fn not_found_taken_for_closed_is_found() {
    must_be_found(PlantedFlaw::Adapter(AdapterFlaw::ClosedForNotFound));
}

/// A5
#[test]
fn a_close_that_is_not_remembered_is_found() {
    must_be_found(PlantedFlaw::Adapter(AdapterFlaw::ForgetfulClose));
}

/// V1
#[test]
fn an_early_failure_is_found() {
    must_be_found(PlantedFlaw::Adapter(AdapterFlaw::RefusedForAmbiguous));
}

/// C1
#[test]
fn a_missing_proof_of_callbacks_is_found() {
    must_be_found(PlantedFlaw::Adapter(AdapterFlaw::UnverifiedCallbacks));
}

/// E1
#[test]
fn silence_taken_for_not_sent_is_found() {
    must_be_found(PlantedFlaw::SilenceAsUnsent);
}

/// A5: only a process that is suspended between its decision and the first byte shows it.
#[test]
fn a_send_dated_by_its_beginning_is_found() {
    must_be_found(PlantedFlaw::Misdated(MisdatingFlaw::SendsByTheirBeginning));
}

/// V5, R3: only a reply that is read long after it was true shows it.
#[test]
fn stale_evidence_taken_for_new_is_found() {
    must_be_found(PlantedFlaw::Misdated(
        MisdatingFlaw::EvidenceByItsApplication,
    ));
}

/// T1, T2: only a clock that is set while the process runs, or between two, shows it.
#[test]
fn a_wall_clock_taken_for_time_that_passed_is_found() {
    must_be_found(PlantedFlaw::WallUptime);
}

/// V5
#[test]
fn a_forgotten_statement_of_the_institution_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::Named));
}

/// R4
#[test]
fn a_missing_reservation_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::Reservation));
}

/// R6
#[test]
fn a_number_of_two_refunds_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::RefundNumber));
}

/// A6
#[test]
fn a_missing_due_time_is_found() {
    must_be_found(PlantedFlaw::Store(MissingProtection::Due));
}

/// R3
#[test]
fn not_found_taken_for_a_failed_refund_is_found() {
    must_be_found(PlantedFlaw::Adapter(AdapterFlaw::RefundLost));
}

/// V1, R3
#[test]
fn an_unresolved_answer_taken_for_a_failed_refund_is_found() {
    must_be_found(PlantedFlaw::Adapter(AdapterFlaw::RefundRefusedForAmbiguous));
}

/// A3
#[test]
fn a_forbidden_second_create_is_found() {
    must_be_found(PlantedFlaw::Adapter(AdapterFlaw::RepeatsCreates));
}

/// R4
#[test]
fn a_forbidden_second_refund_is_found() {
    must_be_found(PlantedFlaw::Adapter(AdapterFlaw::RepeatsRefunds));
}

/// C4
#[test]
fn an_acknowledgement_before_the_commit_is_found() {
    must_be_found(PlantedFlaw::Adapter(AdapterFlaw::AcknowledgesAlways));
}
