//! paymux, an aggregated-payment gateway.

pub mod api;
pub mod domain;
pub mod flow;
pub mod institution;
pub mod sandbox;
pub mod seal;
pub mod signature;
pub mod store;
pub mod world;
