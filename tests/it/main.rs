//! One test binary, one module for each concern. No test sleeps, reads the wall clock or depends on
//! another test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stderr,
    reason = "a test panics at the first failure and may print its seed; lints exempt only #[test] functions"
)]

/// The program's own allocator: thousands of simulation runs make and drop small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod admission;
mod browser;
mod callback;
mod clients;
mod close;
mod config;
mod conformance;
mod dialects;
mod evidence_timing;
mod identity;
mod institutions;
mod journey;
mod notice;
mod openapi;
mod order;
mod page;
mod payers;
mod polling;
mod power;
mod reconcile;
mod refund;
mod sandbox;
mod selection;
mod simulation;
mod socket;
mod store;
mod tidy;
mod torture;
mod world;
