#![doc = include_str!("../ARCHITECTURE.md")]

pub mod api;
pub mod domain;
pub mod edge;
pub mod flow;
pub mod institution;
pub mod limits;
pub mod metrics;
pub mod outbound;
pub mod seal;
pub mod signature;
pub mod store;
pub mod world;
