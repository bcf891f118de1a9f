//! The world of the tests: a clock with hands, chance from a seed, a network as a list of
//! exchanges, institutions and merchants with books of their own, and a store in memory.

pub(crate) mod books;
pub(crate) mod chance;
pub(crate) mod clock;
pub(crate) mod dialect;
pub(crate) mod enrolment;
pub(crate) mod exchange_log;
pub(crate) mod frail;
pub(crate) mod inbox;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod queues;
pub(crate) mod returns;
pub(crate) mod town;
pub(crate) mod twin;
