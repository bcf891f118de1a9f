//! Domain model: pure and synchronous, without clock, I/O or randomness.

pub mod amount;
pub mod attempt;
pub mod audit;
pub mod change;
pub mod event;
pub mod evidence;
pub mod fields;
pub mod identifiers;
pub mod institutions;
pub mod journal;
pub mod merchant;
pub mod order;
pub mod personal;
pub mod refund;
pub mod refusal;
pub mod schedule;
pub mod statement;
pub mod verification;
