//! Thousands of lives, each drawn from a seed; after every step the invariants of section 14 are
//! held against the gateway's store and everybody else's books.

mod actors;
mod asking;
mod checks;
mod crash;
mod happenings;
mod life;
mod listing;
mod refunds;

use std::time::Instant;

use life::{Ground, Plant, live};

use crate::simulation::actors::Flaw;
use crate::world::frail::Lack;

/// Lives in every run of the tests.
const SEEDS: u64 = 2_000;

/// Lives in which a missing protection must show.
const SEEDS_TO_FIND: u64 = 2_000;

/// K1, K2, K3, K4, O1, O2, O3, O4, O5, A1, A2, A3, A4, A5, A6, A7, A8, V1, V2, V3, V4, M1, M2, M3, N1,
/// N2, N3, N4, N9, Q5, C2, C4, C5, C6, S1, T2, Z1, Z2, Z3: whatever crashes, repeats, delays or
/// lies.
#[test]
fn thousands_of_lives_keep_every_promise() {
    #[expect(
        clippy::disallowed_methods,
        reason = "says how fast it was, and decides nothing"
    )]
    let start = Instant::now();
    for seed in 0..SEEDS {
        if let Err(broken) = live(seed, Ground::Memory) {
            panic!("{broken}");
        }
    }
    let rate = SEEDS / start.elapsed().as_secs().max(1);
    eprintln!("{SEEDS} lives, about {rate} a second");
}

/// L1, K4, Q5, Q6, N6: one life in a hundred runs on the embedded store as well, which must answer
/// every question as the memory does that the checks look into.
#[test]
fn the_embedded_store_lives_the_same_lives() {
    for seed in (0..SEEDS).step_by(100) {
        if let Err(broken) = live(seed, Ground::Embedded) {
            panic!("{broken}");
        }
    }
}

/// A seed that found a fault once.
fn must_live(seed: u64) {
    live(seed, Ground::Memory).unwrap_or_else(|broken| panic!("{broken}"));
}

/// A5, T2: a clock that was set between two processes made a wait of nothing.
#[test]
fn seed_121() {
    must_live(121);
}

/// V4, C4: late money was acknowledged although nobody had confirmed it, and never heard of again.
#[test]
fn seed_399() {
    must_live(399);
}

/// A8: the check took the cause of a surplus for the institution's that was paid second, though
/// the first took its money after it had refused.
#[test]
fn seed_516() {
    must_live(516);
}

/// Z1: each answer to a query carried a newly dated link and started the schedule afresh.
#[test]
fn seed_1004() {
    must_live(1_004);
}

/// Lives until a check finds out; fails if none does.
fn must_be_found(plant: Plant) {
    for seed in 0..SEEDS_TO_FIND {
        if let Err(broken) = live(seed, Ground::Planted(plant)) {
            eprintln!("{}", broken.lines().next().unwrap_or_default());
            return;
        }
    }
    panic!("{plant:?} was not found in {SEEDS_TO_FIND} lives");
}

/// A1
#[test]
fn a_missing_intent_is_found() {
    must_be_found(Plant::Store(Lack::Intent));
}

/// Q5
#[test]
fn a_missing_nonce_is_found() {
    must_be_found(Plant::Store(Lack::Nonce));
}

/// Q6
#[test]
fn a_missing_floor_is_found() {
    must_be_found(Plant::Store(Lack::Floor));
}

/// N6
#[test]
fn a_missing_fence_is_found() {
    must_be_found(Plant::Store(Lack::Fence));
}

/// N1
#[test]
fn a_missing_event_is_found() {
    must_be_found(Plant::Store(Lack::Event));
}

/// N4
#[test]
fn a_second_event_is_found() {
    must_be_found(Plant::Store(Lack::SecondEvent));
}

/// A4
#[test]
fn a_missing_surplus_refund_is_found() {
    must_be_found(Plant::Store(Lack::Refund));
}

/// K4
#[test]
fn a_missing_version_guard_is_found() {
    must_be_found(Plant::Store(Lack::Version));
}

/// M1
#[test]
fn a_missing_posting_is_found() {
    must_be_found(Plant::Store(Lack::Entry));
}

/// O2
#[test]
fn a_missing_comparison_of_sums_is_found() {
    must_be_found(Plant::Adapter(Flaw::AskedAmount));
}

/// A5
#[test]
fn a_missing_wait_is_found() {
    must_be_found(Plant::Adapter(Flaw::NoWait));
}

/// A5
#[test]
fn not_found_taken_for_closed_is_found() {
    must_be_found(Plant::Adapter(Flaw::ClosedForNotFound));
}

/// A5
#[test]
fn a_close_that_is_not_remembered_is_found() {
    must_be_found(Plant::Adapter(Flaw::ForgetfulClose));
}

/// V1
#[test]
fn an_early_failure_is_found() {
    must_be_found(Plant::Adapter(Flaw::RefusedForAmbiguous));
}

/// C1
#[test]
fn a_missing_proof_of_callbacks_is_found() {
    must_be_found(Plant::Adapter(Flaw::Credulous));
}

/// E1
#[test]
fn silence_taken_for_not_sent_is_found() {
    must_be_found(Plant::HastyNetwork);
}
