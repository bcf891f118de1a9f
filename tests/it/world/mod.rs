//! The test environment: a manual clock, seeded randomness, a network as a list of exchanges, fake
//! institutions and merchants, and a store in memory.

pub(crate) mod clock;
pub(crate) mod dialect;
pub(crate) mod differential_store;
pub(crate) mod enrolment;
pub(crate) mod exchange_log;
pub(crate) mod fake_institution;
pub(crate) mod fake_merchant;
pub(crate) mod fake_refunds;
pub(crate) mod fault_injector;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod queues;
pub(crate) mod random;
pub(crate) mod test_gateway;
