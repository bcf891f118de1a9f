//! paymux, an aggregated-payment gateway.

pub mod api;
pub mod domain;
pub mod store;
pub mod world;
