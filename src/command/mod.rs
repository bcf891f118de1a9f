//! What a person or a script asks of the binary: one file for each subcommand.
//!
//! A command prints to standard output, answers with an exit status, and keeps nothing.

pub mod audit;
pub mod call;
pub mod check;
pub mod demo;
pub mod events;
pub mod explain;
pub mod incidents;
pub mod keys;
pub mod reconcile;
pub mod refunds;
pub mod reload;
pub mod sandbox;
pub mod serve;

pub use crate::run::machine::keep_memory_private;
